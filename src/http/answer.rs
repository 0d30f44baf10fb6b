//! What a request is answered: a script, a boot program, a file, a refusal.
//!
//! Opens nothing: an answer names the file, and `serve` checks it before the
//! first byte. Pure.

use std::path::PathBuf;

use bytes::Bytes;

use super::{
    Refusal,
    request::{Method, Request, Wanted},
};
use crate::{
    boot::{
        self, Addressing, Asker, Claim, Next, Policy, Prelude, Sighting, Visitor, base_name,
        booting_card,
        grub::{self, ConfigName},
        identify,
        init::Document,
        report::{Report, Words, report},
        script_for,
    },
    files::Catalogue,
    model::{
        Asset, Change, Checksum, Decision, ImageFile, Instance, InstanceId, Mac, Machine, Source,
        Stage, Timestamp, Token,
    },
    state::State,
};

/// What is the same for all requests at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Premises<'a> {
    /// What machines boot.
    pub policy: &'a Policy,
    /// Who gives out addresses.
    pub addressing: Addressing,
    /// The boot programs that there are; only asked if one is wanted.
    pub catalogue: &'a Catalogue,
}

/// A request and who sent it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The request.
    pub request: &'a Request,
    /// Where it comes from.
    pub visitor: Visitor,
}

/// What a request is answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// This script.
    Script(String),
    /// This boot program.
    Loader(Bytes),
    /// What of this file the conditions select, if it is what it should be.
    File(ServedFile),
    /// This form of `Init`.
    Document(Document, String),
    /// These words, to a poll or to a report that was heard.
    Told(Words),
    /// These words, to a report of what was destroyed.
    TooLate(Words),
    /// Nothing.
    Refused(Refusal),
}

/// A file that may be given to who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedFile {
    /// Where it is.
    pub place: Place,
    /// What its bytes must hash to.
    pub checksum: Option<Checksum>,
    /// The instance whose it is.
    pub instance: Option<InstanceId>,
}

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the image directory.
    Images(ImageFile),
    /// Where the operator's command line says.
    Operator(PathBuf),
}

/// The answer to a request, and what it shows of its machine. HEAD changes
/// nothing: it is not known whether GET follows.
#[must_use]
pub fn answer(
    state: &State,
    premises: &Premises<'_>,
    asked: &Asked<'_>,
    now: Timestamp,
) -> Decision<Answer> {
    let visit = Visit { state, premises, visitor: asked.visitor, now };
    let (answer, changes) = match visit.answer(&asked.request.wanted) {
        Ok(answered) => answered,
        Err(refusal) => (Answer::Refused(refusal), Vec::new()),
    };
    let changes = match asked.request.method {
        Method::Get | Method::Post => changes,
        Method::Head => Vec::new(),
    };
    Decision { answer, changes }
}

/// All that the answers depend on but the thing wanted.
struct Visit<'a> {
    state: &'a State,
    premises: &'a Premises<'a>,
    visitor: Visitor,
    now: Timestamp,
}

type Answered = Result<(Answer, Vec<Change>), Refusal>;

impl Visit<'_> {
    fn answer(&self, wanted: &Wanted) -> Answered {
        match wanted {
            Wanted::OwnScript(prelude) => self.script(Claim::None, *prelude, (false, None)),
            Wanted::ScriptOf { mac, serial } => {
                self.script(Claim::Mac(*mac), Prelude::None, (false, serial.as_ref()))
            }
            Wanted::ScriptAgain(mac) => self.script(Claim::Mac(*mac), Prelude::None, (true, None)),
            Wanted::GrubConfig(config) => self.config(*config),
            Wanted::Loader(name) => {
                let program = self.premises.catalogue.content(name).ok_or(Refusal::NotFound)?;
                let mac = self.machine(Claim::None)?;
                let fetched = |mac| boot::loader::fetched(self.state, mac, self.now);
                Ok((Answer::Loader(program.clone()), mac.map(fetched).unwrap_or_default()))
            }
            Wanted::InstanceFile { token, number, name } => {
                self.instance_file(*token, *number, name)
            }
            Wanted::Init { token, document } => self.init(*token, *document),
            Wanted::Report { token, report } => self.report(*token, report),
            Wanted::UnclaimedFile { number, name } => self.unclaimed_file(*number, name),
        }
    }

    fn machine(&self, claim: Claim) -> Result<Option<Mac>, Refusal> {
        let Self { state, premises, visitor, now } = self;
        Ok(identify(state, premises.addressing, *visitor, (claim, *now))?)
    }

    fn card(&self, claim: Claim) -> Result<Option<Mac>, Refusal> {
        let Self { state, premises, visitor, now } = self;
        Ok(booting_card(state, premises.addressing, *visitor, (claim, *now))?)
    }

    fn script(
        &self,
        claim: Claim,
        prelude: Prelude,
        (is_again, serial): (bool, Option<&String>),
    ) -> Answered {
        let mac = self.card(claim)?;
        let asker = Asker { mac, address: self.visitor.address, prelude, is_again };
        let script = script_for(self.state, self.premises.policy, asker, self.now);
        let sighted = |sighting| {
            let sighting = Sighting { serial: serial.cloned(), ..sighting };
            boot::seen(self.state, sighting, self.now)
        };
        Ok((Answer::Script(script.text), script.sighting.map(sighted).unwrap_or_default()))
    }

    fn config(&self, ConfigName { claim, is_again }: ConfigName) -> Answered {
        let mac = self.card(claim)?;
        let asker = Asker { mac, address: self.visitor.address, prelude: Prelude::None, is_again };
        let script = grub::config_for(self.state, self.premises.policy, asker, self.now);
        let sighted = |sighting| boot::seen(self.state, sighting, self.now);
        Ok((Answer::Script(script.text), script.sighting.map(sighted).unwrap_or_default()))
    }

    fn instance_file(&self, token: Token, number: usize, name: &str) -> Answered {
        let instance: &Instance = self.state.instances.of_files(token).ok_or(Refusal::NotFound)?;
        // By any of its cards, and where that cannot be told it is the last one.
        let machine = self.state.machines.find(instance.mac);
        let last = machine.map_or(instance.mac, Machine::asked_by);
        let card = self.machine(Claim::Mac(last))?.unwrap_or(last);
        let image = instance.image.as_ref().ok_or(Refusal::NotFound)?;
        let Asset { source, checksum } = image.assets().nth(number).ok_or(Refusal::NotFound)?;
        match source {
            Source::File(file) if file.base_name() == name => {
                let served = ServedFile {
                    place: Place::Images(file.clone()),
                    checksum: *checksum,
                    instance: Some(instance.id),
                };
                Ok((Answer::File(served), self.kernel_seen(card, number)))
            }
            // The script names a URL itself; nothing is fetched for a machine.
            Source::File(_) | Source::Url(_) => Err(Refusal::NotFound),
        }
    }

    fn init(&self, token: Token, document: Document) -> Answered {
        let instance = self.state.instances.of_init(token).ok_or(Refusal::NotFound)?;
        self.machine(Claim::Mac(instance.mac))?;
        let text = document.of(instance).ok_or(Refusal::NotFound)?;
        Ok((Answer::Document(document, text), Vec::new()))
    }

    fn report(&self, token: Token, said: &Report) -> Answered {
        let instances = &self.state.instances;
        if let Some(destroyed) = instances.destroyed_of_report(token) {
            self.machine(Claim::Mac(destroyed.mac))?;
            let gone = Words::Gone(destroyed.reason);
            let answer = match said {
                Report::Poll => Answer::Told(gone),
                Report::Ready(_) | Report::Failed(_) | Report::Drained => Answer::TooLate(gone),
            };
            return Ok((answer, Vec::new()));
        }
        let instance = instances.of_report(token).ok_or(Refusal::NotFound)?;
        self.machine(Claim::Mac(instance.mac))?;
        let decision = report(instance, said, (self.visitor.address, self.now))?;
        let came_to_its_disk = match said {
            Report::Ready(_) => boot::local::reported(self.state, instance.mac),
            Report::Poll | Report::Failed(_) | Report::Drained => None,
        };
        let changes = decision.changes.into_iter().chain(came_to_its_disk).collect();
        Ok((Answer::Told(decision.answer), changes))
    }

    /// What machines boot that no instance claims is no secret of anybody's.
    fn unclaimed_file(&self, number: usize, name: &str) -> Answered {
        let policy = self.premises.policy;
        let path = policy.rules.files().nth(number).ok_or(Refusal::NotFound)?;
        if base_name(path) != name {
            return Err(Refusal::NotFound);
        }
        let served =
            ServedFile { place: Place::Operator(path.clone()), checksum: None, instance: None };
        let unclaimed = self.machine(Claim::None)?.filter(|mac| {
            let from = (*mac, self.visitor.address);
            matches!(
                boot::next(self.state, policy, from, self.now),
                Next::Unclaimed(image) if policy.rules.first_file(image) == number
            )
        });
        let changes = unclaimed.map(|mac| self.kernel_seen(mac, 0)).unwrap_or_default();
        Ok((Answer::File(served), changes))
    }

    fn kernel_seen(&self, mac: Mac, number: usize) -> Vec<Change> {
        if number != 0 {
            return Vec::new();
        }
        let sighting = Sighting::new(mac, Stage::Kernel);
        boot::seen(self.state, sighting, self.now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        boot::{Imposter, Rules, UnclaimedImage},
        http::{range::Conditions, report::Message},
        model::{
            Architecture, BootMode, Destroyed, Image, InstanceState, Lease, LeaseState, Reason,
            Secrets, testing,
        },
    };

    const NOW: Timestamp = Timestamp(1000);
    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac::new([2, 0, 0, 0, 0, 2]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const OTHER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
    const TOKEN: Token = Token(0xab);
    const OTHER_TOKEN: Token = Token(0xcd);

    fn policy() -> Policy {
        let (authority, server) = ("10.0.0.1".to_owned(), [10, 0, 0, 1].into());
        Policy { rules: Rules::default(), authority, server, paths: boot::Paths::default() }
    }

    fn with_unclaimed() -> Policy {
        let unclaimed = UnclaimedImage {
            kernel: "/srv/kernel".into(),
            initrds: vec!["/srv/in itrd".into()],
            cmdline: "quiet".to_owned(),
        };
        Policy { rules: Rules::image(unclaimed), ..policy() }
    }

    fn instance(mac: Mac, token: Token) -> Instance {
        let file = |name: &str| Asset { checksum: Some(Checksum([7; 32])), ..testing::file(name) };
        let url = Asset { source: Source::Url("http://x/y".to_owned()), checksum: None };
        let number = u64::try_from(token.0).expect("small");
        Instance {
            hostname: "web-1".parse().expect("a name"),
            image: Some(
                Image {
                    kernel: file("a/vm linuz"),
                    initrds: vec![file("b/ünit.img"), url],
                    cmdline: "quiet".to_owned(),
                }
                .into(),
            ),
            secrets: Secrets { files: token, ..testing::secrets(token.0 << 8) },
            ..testing::instance(number, mac)
        }
    }

    /// Two machines with leases, and an instance on each.
    fn state() -> State {
        let mut state = leases();
        state.apply(&Change::Instance(instance(MAC, TOKEN)));
        state.apply(&Change::Instance(instance(OTHER, OTHER_TOKEN)));
        state
    }

    fn leases() -> State {
        let mut state = State::new(None);
        for (mac, address) in [(MAC, ADDRESS), (OTHER, OTHER_ADDRESS)] {
            let (state_of, expires) = (LeaseState::Bound, Timestamp(5000));
            state.apply(&Change::Lease(Lease { address, mac, state: state_of, expires }));
        }
        state
    }

    fn asked(
        (state, policy): (&State, &Policy),
        method: &str,
        path: &str,
        address: Ipv4Addr,
    ) -> Decision<Answer> {
        let visitor = Visitor { address: address.into(), neighbour: None };
        visited((state, policy), (method, path), Addressing::Ours, visitor)
    }

    fn visited(
        (state, policy): (&State, &Policy),
        (method, path): (&str, &str),
        addressing: Addressing,
        visitor: Visitor,
    ) -> Decision<Answer> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let message = Message { query: query.to_owned(), ..Message::default() };
        let request = Request::read(method, path, &message, Conditions::default()).expect(path);
        let program = (Architecture::Bios, "undionly.kpxe".to_owned(), Bytes::from("program"));
        let catalogue = Catalogue::new([program]);
        let premises = Premises { policy, addressing, catalogue: &catalogue };
        answer(state, &premises, &Asked { request: &request, visitor }, NOW)
    }

    fn stage(decision: &Decision<Answer>) -> Option<Stage> {
        match decision.changes.as_slice() {
            [] => None,
            [Change::Seen(machine)] | [Change::Seen(machine), Change::Progress(..)] => {
                machine.stage
            }
            changes => panic!("more than one sighting: {changes:?}"),
        }
    }

    #[test]
    fn every_file_that_a_script_names_here_is_given_to_its_machine() {
        for (state, policy, count) in [(state(), policy(), 2), (leases(), with_unclaimed(), 2)] {
            let script = asked((&state, &policy), "GET", "/infrakit.ipxe", ADDRESS);
            assert_eq!(stage(&script), Some(Stage::Script));
            let Answer::Script(text) = script.answer else { panic!("no script") };
            let paths: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("set trying http://10.0.0.1/"))
                .collect();
            assert_eq!(paths.len(), count, "{text}");
            for (number, path) in paths.iter().enumerate() {
                let path = format!("/{path}");
                let answered = asked((&state, &policy), "GET", &path, ADDRESS);
                assert!(matches!(answered.answer, Answer::File(_)), "{path}: {answered:?}");
                assert_eq!(stage(&answered), (number == 0).then_some(Stage::Kernel), "{path}");
            }
        }
    }

    #[test]
    fn both_names_of_a_script_give_the_same() {
        let (state, policy) = (state(), policy());
        let mine = asked((&state, &policy), "GET", "/infrakit.ipxe", ADDRESS);
        let named = asked((&state, &policy), "GET", "/ipxe/02-00-00-00-00-01.ipxe", ADDRESS);
        assert_eq!(mine, named);
    }

    #[test]
    fn a_machine_that_waits_is_seen_waiting() {
        let (state, policy) = (leases(), policy());
        let answered = asked((&state, &policy), "GET", "/infrakit.ipxe", ADDRESS);
        assert_eq!(stage(&answered), Some(Stage::Holding));
    }

    #[test]
    fn a_boot_that_cannot_load_an_initrd_is_one_boot_however_often_it_asks_again() {
        let (mut state, policy) = (leases(), policy());
        let once = Instance { boot: BootMode::Once, ..instance(MAC, TOKEN) };
        state.apply(&Change::Instance(once.clone()));
        let ask = |state: &mut State, path: &str| {
            let decision = asked((state, &policy), "GET", path, ADDRESS);
            decision.changes.iter().for_each(|change| state.apply(change));
            decision.answer
        };
        let Answer::Script(mut text) = ask(&mut state, "/infrakit.ipxe") else { panic!("none") };
        let kernel = format!("/boot/{}/0/vm%20linuz", TOKEN.digits());
        for _ in 0..10 {
            assert!(matches!(ask(&mut state, &kernel), Answer::File(_)));
            let asks_at = text.lines().find_map(|line| {
                line.strip_prefix("chain --replace --autofree http://10.0.0.1")?.split(' ').next()
            });
            let Answer::Script(next) = ask(&mut state, asks_at.expect("asks")) else {
                panic!("none")
            };
            assert!(next.contains("\nkernel "), "{next}");
            text = next;
        }
        let progress = &state.instances.find(once.id).expect("alive").progress;
        assert_eq!((progress.boots, progress.state), (1, InstanceState::Booting));
        // Switched on anew it is another one, and after three it is held.
        for boots in 2..=3 {
            ask(&mut state, "/infrakit.ipxe");
            assert_eq!(state.instances.find(once.id).expect("alive").progress.boots, boots);
            ask(&mut state, &kernel);
        }
        let Answer::Script(text) = ask(&mut state, "/infrakit.ipxe") else { panic!("none") };
        assert!(!text.contains("\nkernel "), "{text}");
    }

    #[test]
    fn head_changes_nothing() {
        let (state, policy) = (state(), policy());
        let kernel = format!("/boot/{}/0/vm%20linuz", TOKEN.digits());
        for path in ["/infrakit.ipxe", &kernel] {
            let (get, head) = (
                asked((&state, &policy), "GET", path, ADDRESS),
                asked((&state, &policy), "HEAD", path, ADDRESS),
            );
            assert_eq!(get.answer, head.answer);
            assert!(!get.changes.is_empty(), "{path}");
            assert!(head.changes.is_empty());
        }
    }

    #[test]
    fn nobody_gets_what_is_anothers() {
        let (state, policy) = (state(), policy());
        for (path, address) in [
            ("/ipxe/02-00-00-00-00-02.ipxe".to_owned(), ADDRESS),
            (format!("/boot/{}/0/vm%20linuz", OTHER_TOKEN.digits()), ADDRESS),
            (format!("/boot/{}/1/%C3%BCnit.img", TOKEN.digits()), OTHER_ADDRESS),
        ] {
            let answered = asked((&state, &policy), "GET", &path, address);
            assert!(
                matches!(
                    answered.answer,
                    Answer::Refused(Refusal::Imposter(Imposter::AnothersAddress { .. }))
                ),
                "{path}: {answered:?}"
            );
            assert!(answered.changes.is_empty());
        }
        // From an address that is leased to nobody.
        let path = format!("/boot/{}/0/vm%20linuz", TOKEN.digits());
        let answered = asked((&state, &policy), "GET", &path, [10, 0, 0, 77].into());
        assert!(matches!(
            answered.answer,
            Answer::Refused(Refusal::Imposter(Imposter::NoLease { .. }))
        ));
    }

    #[test]
    fn beside_another_dhcp_server_the_card_that_answers_decides_who_gets_a_file() {
        let (mut state, policy) = (State::new(None), policy());
        state.apply(&Change::Instance(instance(MAC, TOKEN)));
        let path = format!("/boot/{}/0/vm%20linuz", TOKEN.digits());
        for (neighbour, is_given) in [(Some(MAC), true), (None, true), (Some(OTHER), false)] {
            let visitor = Visitor { address: ADDRESS.into(), neighbour };
            let answered = visited((&state, &policy), ("GET", &path), Addressing::Foreign, visitor);
            assert_eq!(matches!(answered.answer, Answer::File(_)), is_given, "{neighbour:?}");
            assert_eq!(stage(&answered), is_given.then_some(Stage::Kernel));
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let (state, policy) = (state(), policy());
        let (ours, nobodys) = (TOKEN.digits(), Token(0xef).digits());
        for path in [
            format!("/boot/{nobodys}/0/vm%20linuz"),
            format!("/boot/{ours}/0/another"),
            format!("/boot/{ours}/2/y"),
            format!("/boot/{ours}/3/x"),
            "/loader/nope".to_owned(),
            "/unclaimed/0/kernel".to_owned(),
        ] {
            let answered = asked((&state, &policy), "GET", &path, ADDRESS);
            assert_eq!(answered, Decision::only(Answer::Refused(Refusal::NotFound)), "{path}");
        }
        let beyond = asked((&state, &with_unclaimed()), "GET", "/unclaimed/2/x", ADDRESS);
        assert_eq!(beyond.answer, Answer::Refused(Refusal::NotFound));
    }

    #[test]
    fn a_destroyed_instance_has_no_files() {
        let (mut state, policy) = (state(), policy());
        destroy(&mut state, TOKEN, Reason::Terminate);
        let path = format!("/boot/{}/0/vm%20linuz", TOKEN.digits());
        let answered = asked((&state, &policy), "GET", &path, ADDRESS);
        assert_eq!(answered.answer, Answer::Refused(Refusal::NotFound));
    }

    fn destroy(state: &mut State, token: Token, reason: Reason) {
        let gone = state.instances.of_files(token).expect("provisioned");
        let (id, mac, report) = (gone.id, gone.mac, gone.secrets.report);
        state.apply(&Change::Destroyed(Destroyed { id, at: NOW, reason, mac, report }));
    }

    /// All paths of this instance's Init and reports.
    fn own_paths(state: &State, token: Token) -> Vec<String> {
        let secrets = state.instances.of_files(token).expect("provisioned").secrets;
        let (init, report) = (secrets.init.digits(), secrets.report.digits());
        let documents = Document::ALL.map(|document| format!("/init/{init}/{}", document.name()));
        let reports = ["", "/ready", "/failed?reason=x", "/drained"]
            .map(|name| format!("/report/{report}{name}"));
        documents.into_iter().chain(reports).collect()
    }

    #[test]
    fn init_and_reports_are_for_the_machine_of_the_instance_alone() {
        let (mut state, policy) = (leases(), policy());
        let init = r#"{"ignition": {"version": "3.4.0"}}"#.to_owned();
        state.apply(&Change::Instance(Instance { init: init.into(), ..instance(MAC, TOKEN) }));
        for path in own_paths(&state, TOKEN) {
            let own = asked((&state, &policy), "GET", &path, ADDRESS);
            assert!(
                matches!(own.answer, Answer::Document(..) | Answer::Told(Words::Keep)),
                "{path}: {own:?}"
            );
            let other = asked((&state, &policy), "GET", &path, OTHER_ADDRESS);
            assert!(
                matches!(
                    other.answer,
                    Answer::Refused(Refusal::Imposter(Imposter::AnothersAddress { .. }))
                ),
                "{path}: {other:?}"
            );
            assert!(other.changes.is_empty());
        }
    }

    #[test]
    fn each_secret_opens_its_own_door_only() {
        let (state, policy) = (state(), policy());
        let Secrets { files, init, report } =
            state.instances.of_files(TOKEN).expect("provisioned").secrets;
        for (door, token, tail) in [
            ("init", files, "/user-data"),
            ("init", report, "/user-data"),
            ("report", files, ""),
            ("report", init, "/ready"),
            ("boot", init, "/0/vm%20linuz"),
            ("boot", report, "/0/vm%20linuz"),
            ("report", Token(0xef), ""),
            ("init", Token(0xef), "/init"),
            // Its Init is no Ignition.
            ("init", init, "/ignition"),
        ] {
            let path = format!("/{door}/{}{tail}", token.digits());
            let answered = asked((&state, &policy), "GET", &path, ADDRESS);
            assert_eq!(answered, Decision::only(Answer::Refused(Refusal::NotFound)), "{path}");
        }
    }

    #[test]
    fn a_report_is_a_step_of_the_instance_by_get_and_post_and_none_by_head() {
        let (state, policy) = (state(), policy());
        let instance = state.instances.of_files(TOKEN).expect("provisioned");
        let path = format!("/report/{}/ready?drain=:80/x", instance.secrets.report.digits());
        for method in ["GET", "POST", "HEAD"] {
            let answered = asked((&state, &policy), method, &path, ADDRESS);
            assert_eq!(answered.answer, Answer::Told(Words::Keep), "{method}");
            match answered.changes.as_slice() {
                [] => assert_eq!(method, "HEAD"),
                [Change::Progress(id, progress)] => {
                    assert_eq!((*id, progress.ready_at), (instance.id, Some(NOW)), "{method}");
                }
                changes => panic!("{method}: {changes:?}"),
            }
        }
        let path = path.replace(":80", "http://10.0.0.10:80");
        let answered = asked((&state, &policy), "GET", &path, ADDRESS);
        assert!(matches!(answered.answer, Answer::Refused(Refusal::StopUrl(_))), "{answered:?}");
    }

    #[test]
    fn init_and_reports_are_for_the_ipv6_address_of_the_machine_too() {
        let (mut state, policy) = (state(), policy());
        let address = "fd00::9".parse().expect("an address");
        let lease = crate::model::Lease6 {
            address,
            holder: crate::model::Holder::Machine(MAC),
            association: 1,
            state: LeaseState::Bound,
            expires: Timestamp(NOW.0 + 1),
        };
        state.apply(&Change::Lease6(lease));
        let asked = |path: &str, address: std::net::Ipv6Addr| {
            let visitor = Visitor { address: address.into(), neighbour: None };
            visited((&state, &policy), ("GET", path), Addressing::Ours, visitor).answer
        };
        // This `Init` is no Ignition.
        for path in own_paths(&state, TOKEN).into_iter().filter(|path| !path.ends_with("ignition"))
        {
            let own = asked(&path, address);
            assert!(!matches!(own, Answer::Refused(_)), "{path}: {own:?}");
            let other = asked(&path, "fd00::a".parse().expect("an address"));
            assert!(matches!(other, Answer::Refused(Refusal::Imposter(_))), "{path}: {other:?}");
        }
    }

    #[test]
    fn the_machine_of_what_was_destroyed_is_told_so_and_nobody_else() {
        for reason in [Reason::Terminate, Reason::RollingUpdate] {
            let (mut state, policy) = (state(), policy());
            let paths = own_paths(&state, TOKEN);
            destroy(&mut state, TOKEN, reason);
            for path in paths {
                let own = asked((&state, &policy), "GET", &path, ADDRESS);
                let expected = match path.split('/').nth(1) {
                    Some("init") => Answer::Refused(Refusal::NotFound),
                    _ if path.matches('/').count() == 2 => Answer::Told(Words::Gone(reason)),
                    _ => Answer::TooLate(Words::Gone(reason)),
                };
                assert_eq!(own, Decision::only(expected), "{path}");
                let other = asked((&state, &policy), "GET", &path, OTHER_ADDRESS);
                assert!(
                    matches!(
                        other.answer,
                        Answer::Refused(Refusal::Imposter(_) | Refusal::NotFound)
                    ),
                    "{path}: {other:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn no_path_with_a_secret_of_another_is_ever_answered(
            door in "boot|init|report",
            secret in 0usize..3,
            (tail, query) in ("[/a-z0-9%.-]{0,12}", "(reason|drain)?=?[:/a-z0-9]{0,9}"),
            known in "(/(user-data|meta-data|vendor-data|ignition|init|ready|failed|drained|0/vm%20linuz))?",
            (is_post, is_destroyed) in any::<(bool, bool)>(),
        ) {
            let (mut state, policy) = (state(), policy());
            let Secrets { files, init, report } =
                state.instances.of_files(OTHER_TOKEN).expect("provisioned").secrets;
            let digits = [files, init, report][secret].digits();
            if is_destroyed {
                destroy(&mut state, OTHER_TOKEN, Reason::Terminate);
            }
            let method = if is_post { "POST" } else { "GET" };
            let catalogue = Catalogue::new([]);
            let premises =
                Premises { policy: &policy, addressing: Addressing::Ours, catalogue: &catalogue };
            for path in [format!("/{door}/{digits}{tail}"), format!("/{door}/{digits}{known}")] {
                let message = Message { query: query.clone(), ..Message::default() };
                let Ok(request) = Request::read(method, &path, &message, Conditions::default())
                else {
                    continue;
                };
                let visitor = Visitor { address: ADDRESS.into(), neighbour: None };
                let asked = Asked { request: &request, visitor };
                let decision = answer(&state, &premises, &asked, NOW);
                prop_assert!(matches!(decision.answer, Answer::Refused(_)), "{}: {:?}", path, decision);
                prop_assert!(decision.changes.is_empty());
            }
        }
    }

    #[test]
    fn a_visitor_that_no_lease_tells_is_asked_who_it_is() {
        let (state, policy) = (state(), policy());
        let answered = asked((&state, &policy), "GET", "/infrakit.ipxe", [10, 0, 0, 77].into());
        assert!(answered.changes.is_empty());
        let Answer::Script(text) = answered.answer else { panic!("no script") };
        assert!(text.contains("http://10.0.0.1/ipxe/${netX/mac:hexhyp}.ipxe"), "{text}");
    }

    #[test]
    fn grub_loads_what_its_own_configuration_names_and_is_seen_as_ipxe_is() {
        let (mut state, policy) = (leases(), policy());
        let first = asked((&state, &policy), "GET", "/grub/grub.cfg", ADDRESS);
        assert_eq!(stage(&first), Some(Stage::Holding));
        let own = instance(MAC, TOKEN);
        let kernel = own.image.as_ref().expect("an image").kernel.clone();
        let image = Image { kernel, initrds: Vec::new(), cmdline: String::new() };
        state.apply(&Change::Instance(Instance { image: Some(image.into()), ..own }));
        let head = asked((&state, &policy), "HEAD", "/grub/grub.cfg", ADDRESS);
        assert!(head.changes.is_empty());
        let config = asked((&state, &policy), "GET", "/grub/grub.cfg", ADDRESS);
        assert_eq!((stage(&config), &config.answer), (Some(Stage::Script), &head.answer));
        let Answer::Script(text) = config.answer else { panic!("no configuration") };
        let path = text.split("(http,10.0.0.1)").nth(1).and_then(|rest| rest.split('\'').next());
        let kernel = asked((&state, &policy), "GET", path.expect(&text), ADDRESS);
        assert!(matches!(kernel.answer, Answer::File(_)), "{kernel:?}");
        assert_eq!(stage(&kernel), Some(Stage::Kernel));
        let other = "/grub/grub.cfg-01-02-00-00-00-00-02";
        let imposter = asked((&state, &policy), "GET", other, ADDRESS);
        assert!(matches!(imposter.answer, Answer::Refused(Refusal::Imposter(_))));
    }

    #[test]
    fn a_boot_program_is_for_everybody() {
        let (state, policy) = (state(), policy());
        let path = "/loader/undionly.kpxe";
        let answered = asked((&state, &policy), "GET", path, [10, 0, 0, 77].into());
        assert_eq!(answered, Decision::only(Answer::Loader(Bytes::from("program"))));
    }

    #[test]
    fn a_machine_whose_firmware_fetches_its_boot_program_has_come_so_far() {
        let mut state = state();
        let sighting = Sighting::new(MAC, Stage::Firmware);
        boot::seen(&state, sighting, NOW).iter().for_each(|change| state.apply(change));
        let (policy, path) = (policy(), "/loader/undionly.kpxe");
        assert_eq!(stage(&asked((&state, &policy), "HEAD", path, ADDRESS)), None);
        let fetched = asked((&state, &policy), "GET", path, ADDRESS);
        assert_eq!(stage(&fetched), Some(Stage::Loader));
        assert_eq!(stage(&asked((&state, &policy), "GET", path, OTHER_ADDRESS)), None);
    }
}
