//! Machines that fetch what they are told, and come back or do not.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    boot::{Caller, Rules, offer},
    model::{Architecture, Decision, testing},
};

const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
const X64: Firmware = Firmware::Known(Architecture::X64Uefi);
const PXE: Client = Client::Firmware { way: BootWay::Pxe, firmware: X64 };
const IPXE: Client = Client::Ipxe { firmware: Some(X64) };

fn catalogue(names: &[&str]) -> Catalogue {
    let program = |name: &&str| {
        (Architecture::X64Uefi, (*name).to_owned(), Bytes::copy_from_slice(name.as_bytes()))
    };
    Catalogue::new(names.iter().map(program))
}

/// A machine before a server, with time that passes.
struct Bench {
    state: State,
    catalogue: Catalogue,
    now: Timestamp,
}

impl Bench {
    fn new(names: &[&str]) -> Self {
        Self { state: State::new(None), catalogue: catalogue(names), now: Timestamp(1_000_000) }
    }

    fn apply(&mut self, changes: Vec<Change>) {
        changes.iter().for_each(|change| self.state.apply(change));
        self.now = self.now.after(Duration::from_secs(2));
    }

    fn asks(&mut self, client: Client, features: &[u8], begins: bool) -> Choice {
        let features = IpxeFeatures::read(features);
        let applicant = Applicant { mac: MAC, client, features, network: None, begins };
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let caller = Caller { applicant, address, uuid: None, port: None, proxied: None };
        let hall = (&Rules::default(), &self.catalogue);
        let Decision { answer: choice, changes } = offer(&self.state, hall, caller, self.now);
        self.apply(changes);
        choice
    }

    /// A whole conversation: the choice of its beginning, which holds to its end.
    fn converses(&mut self, client: Client, features: &[u8]) -> Choice {
        let first = self.asks(client, features, true);
        let second = self.asks(client, features, false);
        assert_eq!(first.told, second.told);
        assert_eq!((second.remark, second.learned), (None, None));
        first
    }

    fn fetches(&mut self) {
        let changes = fetched(&self.state, MAC, self.now);
        self.apply(changes);
    }

    fn comes_to(&mut self, stage: Stage) {
        let changes = seen(&self.state, Sighting::new(MAC, stage), self.now);
        self.apply(changes);
    }

    /// The name that its firmware is told, and what is said of it.
    fn boots(&mut self) -> (String, Option<String>) {
        let choice = self.converses(PXE, &[]);
        (name(&choice), choice.remark.map(|remark| remark.to_string()))
    }
}

fn name(choice: &Choice) -> String {
    match &choice.told {
        Ok(Told::Program { name, .. }) => name.clone(),
        other => panic!("no program: {other:?}"),
    }
}

#[test]
fn what_was_fetched_twice_in_vain_gives_way_to_the_next_round_and_round() {
    let mut bench = Bench::new(&["a.efi", "b.efi"]);
    let mut told = Vec::new();
    for _ in 0..6 {
        told.push(bench.boots());
        bench.fetches();
    }
    let said = |before: &str, after: &str| {
        Some(format!("{before} was fetched twice and never came back as iPXE: trying {after}"))
    };
    let expected = [
        ("a.efi", None),
        ("a.efi", None),
        ("b.efi", said("a.efi", "b.efi")),
        ("b.efi", None),
        ("a.efi", said("b.efi", "a.efi")),
        ("a.efi", None),
    ];
    assert_eq!(told, expected.map(|(name, said)| (name.to_owned(), said)));
}

#[test]
fn what_came_back_is_kept_and_one_failure_alone_changes_nothing() {
    let mut bench = Bench::new(&["a.efi", "b.efi"]);
    for _ in 0..2 {
        bench.boots();
        bench.fetches();
    }
    for stage in [Stage::Ipxe, Stage::Script, Stage::Holding, Stage::Local] {
        assert_eq!(bench.boots().0, "b.efi", "{stage:?}");
        bench.fetches();
        bench.comes_to(stage);
        bench.comes_to(Stage::Kernel);
        // Switched off while it loads, once.
        assert_eq!(bench.boots().0, "b.efi", "{stage:?}");
        bench.fetches();
    }
}

#[test]
fn who_asks_again_without_having_fetched_anything_is_told_the_same() {
    let mut bench = Bench::new(&["a.efi", "b.efi"]);
    for _ in 0..8 {
        assert_eq!(bench.boots(), ("a.efi".to_owned(), None));
    }
}

#[test]
fn where_there_is_no_other_that_is_said_once() {
    let mut bench = Bench::new(&["a.efi"]);
    let said: Vec<bool> = (0..5)
        .map(|_| {
            let (name, said) = bench.boots();
            assert_eq!(name, "a.efi");
            bench.fetches();
            said.is_some_and(|said| said.contains("there is no other"))
        })
        .collect();
    assert_eq!(said, [false, false, true, false, false]);
}

#[test]
fn what_was_learned_is_of_a_program_that_is_told_still() {
    let mut bench = Bench::new(&["a.efi", "b.efi"]);
    for _ in 0..2 {
        bench.boots();
        bench.fetches();
    }
    assert_eq!(bench.boots().0, "b.efi");
    bench.catalogue = catalogue(&["c.efi", "a.efi"]);
    assert_eq!(bench.boots().0, "c.efi");
    bench.catalogue = catalogue(&["a.efi", "c.efi", "b.efi"]);
    assert_eq!(bench.boots().0, "b.efi");
}

/// Features as iPXE lists them: all that is needed, and all but HTTP.
const WHOLE: &[u8] = &[19, 1, 1, 21, 1, 1, 36, 1, 1];
const LACKING: &[u8] = &[21, 1, 1, 36, 1, 1];

#[test]
fn ipxe_is_told_its_script_and_never_its_own_program() {
    let mut bench = Bench::new(&["a.efi"]);
    for features in [WHOLE, &[]] {
        for _ in 0..5 {
            assert_eq!(bench.converses(IPXE, features).told, Ok(Told::Script));
            bench.fetches();
        }
    }
}

#[test]
fn ipxe_that_lacks_a_feature_is_given_a_program_once_in_a_boot() {
    let mut bench = Bench::new(&["a.efi"]);
    let choice = bench.converses(IPXE, LACKING);
    assert_eq!(choice.told, Ok(Told::Program { way: BootWay::Pxe, name: "a.efi".to_owned() }));
    let said = choice.remark.expect("said").to_string();
    assert_eq!(said, "its iPXE has no HTTP: it is given a.efi, once (depth 1)");
    bench.fetches();
    // The program that it fetched is whole.
    assert_eq!(bench.converses(IPXE, WHOLE).told, Ok(Told::Script));
    bench.comes_to(Stage::Script);
    // And at its next start all again.
    assert_eq!(name(&bench.converses(IPXE, LACKING)), "a.efi");
    bench.fetches();
    // Now it is not, and it could go on so for ever.
    for _ in 0..5 {
        let told = bench.converses(IPXE, LACKING).told;
        assert_eq!(told, Err(NoBootFile::LacksAgain("HTTP")));
        bench.fetches();
    }
}

#[test]
fn a_program_of_ours_that_lacks_a_feature_is_in_vain_too() {
    let mut bench = Bench::new(&["a.efi", "b.efi"]);
    for _ in 0..2 {
        assert_eq!(bench.boots().0, "a.efi");
        bench.fetches();
        let told = bench.converses(IPXE, LACKING).told;
        assert_eq!(told, Err(NoBootFile::LacksAgain("HTTP")));
    }
    assert_eq!(bench.boots().0, "b.efi");
}

#[test]
fn who_cannot_boot_is_told_why_by_name() {
    let bench = Bench::new(&["a.efi"]);
    let told = |client| {
        let features = IpxeFeatures::default();
        let applicant = Applicant { mac: MAC, client, features, network: None, begins: true };
        choose(&bench.state, &bench.catalogue, &applicant, bench.now).told
    };
    let firmware =
        |number| Client::Firmware { way: BootWay::Pxe, firmware: Firmware::from_number(number) };
    let why = told(firmware(0x0e)).expect_err("OPAL").to_string();
    assert_eq!(
        why,
        "architecture number 0x000e, POWER OPAL v3: it boots by petitboot, and no iPXE is made for it"
    );
    assert_eq!(told(firmware(0x0b)), Err(NoBootFile::NoProgram("arm64-uefi")));
    assert_eq!(told(Client::Host), Err(NoBootFile::Host));
}

#[test]
fn what_runs_already_may_fetch_programs_and_is_where_it_was() {
    for stage in [Stage::Ipxe, Stage::Script, Stage::Holding, Stage::Kernel, Stage::Local] {
        let mut state = State::new(None);
        let machine = Machine { stage: Some(stage), ..testing::held(MAC, Timestamp(1)) };
        state.apply(&Change::Machine(machine));
        assert_eq!(fetched(&state, MAC, Timestamp(2)), [], "{stage:?}");
    }
    assert_eq!(fetched(&State::new(None), MAC, Timestamp(2)), []);
}

proptest! {
    /// Whatever a machine does and however long it takes: between two programs that
    /// its iPXE is given, a minute has passed, or one that is whole has come up.
    #[test]
    fn no_ipxe_is_given_two_programs_in_one_boot(steps: Vec<(u8, u8)>) {
        let mut bench = Bench::new(&["a.efi", "b.efi"]);
        let mut fetched_at: Option<Timestamp> = None;
        for (step, seconds) in steps {
            bench.now = bench.now.after(Duration::from_secs(u64::from(seconds)));
            match step % 4 {
                0 => {
                    let told = bench.asks(IPXE, LACKING, step % 8 == 0).told;
                    if told.is_ok() && let Some(at) = fetched_at {
                        prop_assert!(bench.now.since(at) >= SAME_BOOT, "{told:?}");
                    }
                }
                1 => {
                    let stage = bench.state.machines.find(MAC).and_then(|one| one.stage);
                    if stage == Some(Stage::Firmware) {
                        fetched_at = Some(bench.now);
                    }
                    bench.fetches();
                }
                2 => {
                    bench.asks(IPXE, WHOLE, true);
                    fetched_at = None;
                }
                _ => {
                    bench.asks(PXE, &[], true);
                    fetched_at = None;
                }
            }
        }
    }
}
