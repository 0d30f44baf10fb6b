//! What iPXE is told: boot this, wait and ask again, or say who you are.
//!
//! Every script ends in asking for itself again, so that a machine falls
//! neither into its firmware's menu nor into a prompt; but for one that leaves for
//! the machine's own disk. A failing command ends
//! an iPXE script; `||` behind it says that it may fail. Only commands that
//! iPXE 1.0.0 of 2019 has are used. Pure.

use std::{fmt::Write as _, net::IpAddr};

use super::{
    Next, Policy, Sighting, cmdline, local, next,
    plan::{Card, Plan, plan},
    share, vlan,
};
use crate::{
    model::{InstanceState, LocalBoot, Mac, MachineState, Stage, Timestamp},
    state::State,
};

/// What must come before the script can do anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prelude {
    /// Nothing: iPXE has an address.
    None,
    /// The network must be opened: `autoexec.ipxe`, which iPXE 2.x for UEFI
    /// runs before any DHCP of its own. It keeps the firmware's lease.
    KeepLease,
}

/// Who asks for a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// The card of the machine that asks, if it can be told.
    pub mac: Option<Mac>,
    /// The address that it asks from.
    pub address: IpAddr,
    /// How far its network is.
    pub prelude: Prelude,
    /// Whether it could not load what its last script named, and asks in the same
    /// boot again.
    pub is_again: bool,
}

/// A script, and what its machine does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The text, from `#!ipxe` to the last line's end.
    pub text: String,
    /// What handing it out shows of the machine, for [`super::seen`]; nothing
    /// if it is not known which one asks.
    pub sighting: Option<Sighting>,
}

/// The query by which a machine says that it asks again in the same boot.
pub const AGAIN: &str = "again";

/// The query by which a machine that waits says its serial number, percent-encoded;
/// nothing behind it if its firmware has none.
pub const SERIAL: &str = "serial=";

/// Seconds between two questions of a machine that waits, and its share of [`MORE`]: a
/// thousand of them do not ask in step.
const HOLD: u32 = 4;

/// By less than so many seconds machines differ.
const MORE: u32 = 4;

/// Seconds until a machine asks again whose script cannot be made.
const UNSCRIPTABLE: u32 = 10;

/// Octets that most scripts have room in, so that they are not moved while they grow.
const ROOM: usize = 2048;

/// The script for whoever asks.
#[must_use]
pub fn script_for(state: &State, policy: &Policy, asker: Asker, now: Timestamp) -> Script {
    let mut text = String::with_capacity(ROOM);
    text.push_str("#!ipxe\n");
    let machine = asker.mac.and_then(|mac| state.machines.with_card(mac));
    let vlan = policy.paths.vlan(machine, asker.address);
    if let Some(vlan) = vlan.filter(|_| asker.prelude == Prelude::KeepLease) {
        vlan::keep(&mut text, vlan);
    }
    open_network(&mut text, policy, asker.prelude);
    let Some(mac) = asker.mac else {
        say_who_you_are(&mut text, policy);
        return Script { text, sighting: None };
    };
    let next = next(state, policy, (mac, asker.address), now);
    // Who leaves loads nothing, and need not wait for its VLAN.
    let loads = !matches!(next, Next::Local(_) | Next::Ignore);
    if let Some(vlan) = vlan.filter(|_| policy.server.is_ipv4() && loads) {
        let again = format!("{}?{AGAIN}", own_url(policy, mac));
        vlan::enter(&mut text, vlan, &again);
    }
    let (next, is_same_boot) = within_boot(next, asker);
    let (mut learned, treatment) = (None, next.treatment());
    let stage = match next {
        Next::Ignore => {
            text.push_str("exit 1\n");
            return Script { text, sighting: None };
        }
        Next::Hold => {
            hold(&mut text, policy, (mac, asker.address), &waiting(state, mac));
            Stage::Holding
        }
        Next::GaveUp(instance) => {
            let boots = instance.progress.boots;
            let why = format!("{mac} was booted {boots} times and never reported in: it waits");
            hold(&mut text, policy, (mac, asker.address), &why);
            Stage::Holding
        }
        Next::Local(_) => {
            let (way, habits) = local::of_script(state, &policy.rules, (mac, asker.address), now);
            leave(&mut text, mac, way);
            learned = habits;
            Stage::Local
        }
        next @ (Next::Instance(..) | Next::Unclaimed(_)) => {
            let (machine, address) = (state.machines.of_card(mac), asker.address);
            match plan(policy, next, Card { mac, machine, address, vlan }, cmdline::complete) {
                Ok(plan) => {
                    boot(&mut text, &plan, &format!("{}?{AGAIN}", own_url(policy, mac)));
                    Stage::Script
                }
                Err(error) => {
                    show(&mut text, &format!("{mac} cannot boot: {error}"));
                    ask_again(
                        &mut text,
                        policy,
                        Some(mac),
                        (&own_url(policy, mac), &UNSCRIPTABLE.to_string()),
                    );
                    Stage::Holding
                }
            }
        }
    };
    // It shows nothing new: the kernel that it has fetched meanwhile is no boot.
    let is_new = !(is_same_boot && stage == Stage::Script);
    let sighting = Sighting { learned, treatment, ..Sighting::new(mac, stage) };
    Script { text, sighting: is_new.then_some(sighting) }
}

/// What the machine does next if it may ask again in a boot that was counted, and
/// whether it does: it goes on with that, however often it was booted.
pub(super) fn within_boot(next: Next<'_>, asker: Asker) -> (Next<'_>, bool) {
    match next {
        Next::GaveUp(instance) | Next::Instance(instance, _)
            if asker.is_again && instance.progress.state == InstanceState::Booting =>
        {
            (instance.image.as_ref().map_or(next, |image| Next::Instance(instance, image)), true)
        }
        other => (other, false),
    }
}

/// The URL at which this machine asks again.
fn own_url(policy: &Policy, mac: Mac) -> String {
    ["http://", &policy.authority, "/ipxe/", &mac.hyphenated(), ".ipxe"].concat()
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String has no errors");
}

/// Opens the card that the firmware's lease is for: iPXE 2.x has it before the
/// card is open. The last card opened is `netX`. Without a lease it asks.
fn open_network(text: &mut String, policy: &Policy, prelude: Prelude) {
    let (ip, dhcp) = (address_setting(policy), dhcp(policy));
    match prelude {
        Prelude::None => {}
        Prelude::KeepLease => {
            for card in 0..4 {
                line(text, format_args!("isset ${{net{card}/{ip}}} && ifopen net{card} ||\n"));
            }
            line(text, format_args!("isset ${{netX/{ip}}} || {dhcp} ||\n"));
        }
    }
}

/// What iPXE calls the address of a card, of the kind that is spoken here.
const fn address_setting(policy: &Policy) -> &'static str {
    if policy.server.is_ipv6() { "ip6" } else { "ip" }
}

/// Gets an address. Where IPv6 is spoken nothing else is waited for: an IPv4 server
/// that is not there costs 17 seconds.
const fn dhcp(policy: &Policy) -> &'static str {
    if policy.server.is_ipv6() { "ifconf -c ipv6" } else { "dhcp" }
}

fn say_who_you_are(text: &mut String, policy: &Policy) {
    let url = format!("http://{}/ipxe/${{netX/mac:hexhyp}}.ipxe", policy.authority);
    ask_again(text, policy, None, (&url, "0"));
}

/// What a machine says that waits.
pub(super) fn waiting(state: &State, mac: Mac) -> String {
    match state.machines.with_card(mac).map(|machine| machine.state) {
        Some(MachineState::SetAside) => format!("{mac} is set aside by its operator"),
        Some(_) | None => format!("{mac} waits to be provisioned"),
    }
}

/// Leaves iPXE for the machine's own disk. Which way firmware needs is
/// `boot::local`'s to say.
fn leave(text: &mut String, mac: Mac, way: LocalBoot) {
    text.push_str("clear waiting ||\n");
    show(text, &format!("{mac} boots from its own disk"));
    text.push_str(match way {
        LocalBoot::Exit | LocalBoot::NoOffer => "exit 1\n",
        LocalBoot::ExitZero => "exit 0\n",
        LocalBoot::Sanboot => "sanboot --no-describe --drive 0x80 ||\nexit 1\n",
    });
}

fn hold(text: &mut String, policy: &Policy, (mac, address): (Mac, IpAddr), why: &str) {
    // A waiting machine asks every few seconds; the box is shown once.
    text.push_str("isset ${waiting} && goto waiting ||\n");
    show_box(text, "${hostname}", policy, (mac, address));
    text.push_str("set waiting 1\nclear trouble ||\n:waiting\n");
    show(text, why);
    let url = format!("{}?{SERIAL}${{serial:uristring}}", own_url(policy, mac));
    ask_again(text, policy, Some(mac), (&url, &pause(Some(mac)).to_string()));
}

fn boot(text: &mut String, plan: &Plan, own_url: &str) {
    let Plan { policy, mac, address, hostname, urls, cmdline } = plan;
    text.push_str("clear waiting ||\n");
    show_box(text, hostname, policy, (*mac, *address));
    text.push_str("imgfree ||\n");
    for (number, url) in urls.iter().enumerate() {
        let (own, following) = (number.to_string(), (number + 1).to_string());
        let image = match number.checked_sub(1) {
            None => ["kernel --name vmlinuz ", url, " ", cmdline].concat(),
            Some(initrd) => format!("initrd --name initrd.{initrd} {url}"),
        };
        // Five attempts with 1, 2, 4 and 8 seconds between them.
        let parts = [
            ":loaded",
            &own,
            "\nset trying ",
            url,
            "\nset wait:int32 1\n:load",
            &own,
            "\n",
            image.trim_end(),
            " && goto loaded",
            &following,
            " ||\niseq ${wait} 16 && goto trouble ||\n\
             echo remoteboot: cannot load ${trying}, again in ${wait} s\n\
             sleep ${wait} ||\ninc wait ${wait} ||\ngoto load",
            &own,
            "\n",
        ];
        parts.into_iter().for_each(|part| text.push_str(part));
    }
    line(text, format_args!(":loaded{}\n", urls.len()));
    text.push_str(
        "set trying boot\n\
         boot ||\n\
         :trouble\n\
         echo remoteboot: gave up on ${trying}\n\
         isset ${trouble} || set trouble:int32 0 ||\n\
         iseq ${trouble} 30 || inc trouble 5 ||\n\
         echo remoteboot: asking again in ${trouble} s\n",
    );
    ask_again(text, policy, Some(*mac), (own_url, "${trouble}"));
}

/// What the ancestor of this daemon showed, with values where we know them.
fn show_box(text: &mut String, hostname: &str, policy: &Policy, (mac, address): (Mac, IpAddr)) {
    let server = policy.server;
    line(
        text,
        format_args!(
            "echo +-----------  Infrakit Remote Boot  -------------------------\n\
             echo | hostname: {hostname}, next-server: {server}\n\
             echo | address.: {address}\n\
             echo | mac.....: {mac}\n\
             echo | gateway.: ${{gateway}}\n\
             echo +------------------------------------------------------------\n"
        ),
    );
}

/// A line on the console, of whatever text: nothing in it is expanded by iPXE,
/// joins two lines, or ends the command.
fn show(text: &mut String, shown: &str) {
    let plain = |c: char| if c.is_control() || "$\\|&;".contains(c) { '?' } else { c };
    line(text, format_args!("echo remoteboot: {}\n", shown.chars().map(plain).collect::<String>()));
}

/// Seconds between two questions of this machine.
fn pause(mac: Option<Mac>) -> u32 {
    HOLD + mac.map_or(1, |mac| share(mac, MORE))
}

/// Waits, then asks for the script at `url` for ever: every few seconds, and with
/// a new address after each 6 questions in vain.
fn ask_again(text: &mut String, policy: &Policy, mac: Option<Mac>, (url, wait): (&str, &str)) {
    let (dhcp, pause) = (dhcp(policy), pause(mac));
    line(
        text,
        format_args!(
            "set vain:int32 0\n\
             sleep {wait} ||\n\
             :ask\n\
             chain --replace --autofree {url} ||\n\
             inc vain ||\n\
             iseq ${{vain}} 6 && {dhcp} ||\n\
             iseq ${{vain}} 6 && set vain:int32 0 ||\n\
             sleep {pause} ||\n\
             goto ask\n"
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::{
        Paths, Rules, UnclaimedImage,
        rules::{Rule, Scope, Then, Whose},
    };
    use crate::model::{
        Architecture, Asset, BootMode, Change, Image, Instance, Machine, Secrets, Source, Token,
        VlanId,
        testing::{self, file},
    };

    const NOW: Timestamp = Timestamp(1000);
    const MAC: Mac = Mac::new([0x52, 0x54, 0, 0xaa, 1, 1]);

    fn policy(unclaimed: Option<UnclaimedImage>) -> Policy {
        let rules = unclaimed.map(Rules::image).unwrap_or_default();
        let (authority, server) = ("10.0.0.1:8080".to_owned(), [10, 0, 0, 1].into());
        Policy { rules, authority, server, paths: Paths::default() }
    }

    fn instance(image: Image) -> Instance {
        let secrets = Secrets { files: Token(0xab), ..testing::secrets(1) };
        Instance {
            tags: testing::tags(&[("evil", "x\nshell")]),
            hostname: "web-1".parse().expect("a name"),
            image: Some(image.into()),
            secrets,
            ..testing::instance(1, MAC)
        }
    }

    fn script_of(image: Option<Image>, unclaimed: Option<UnclaimedImage>) -> Script {
        let mut state = State::new(None);
        if let Some(image) = image {
            state.apply(&Change::Instance(instance(image)));
        }
        let asker = Asker {
            mac: Some(MAC),
            address: [10, 0, 0, 9].into(),
            prelude: Prelude::None,
            is_again: false,
        };
        script_for(&state, &policy(unclaimed), asker, NOW)
    }

    fn stage(script: &Script) -> Option<Stage> {
        script.sighting.as_ref().map(|sighting| sighting.stage)
    }

    fn check_golden(script: &Script, expected: &str) {
        assert_eq!(script.text, expected, "got:\n{}", script.text);
    }

    #[test]
    fn an_instance_gets_its_files_one_after_the_other_and_boots() {
        let image = Image {
            kernel: file("a/vm linuz"),
            initrds: vec![
                file("initrd.img"),
                Asset {
                    source: Source::Url("https://x.example/${buildarch}/i?a=b".to_owned()),
                    checksum: None,
                },
            ],
            cmdline: "host={{ hostname }} ip={{ ip }} x=${net0/mac} -- --flag".to_owned(),
        };
        let script = script_of(Some(image), None);
        assert_eq!(stage(&script), Some(Stage::Script));
        check_golden(&script, include_str!("../../tests/golden/instance.ipxe"));
    }

    #[test]
    fn the_address_in_a_command_line_is_the_one_that_is_kept_for_the_instance() {
        let image = Image {
            kernel: file("k"),
            initrds: Vec::new(),
            cmdline: "ip={{ ip }}::10.0.0.1".to_owned(),
        };
        for (kept, expected) in [(None, "10.0.0.9"), (Some([10, 0, 0, 50].into()), "10.0.0.50")] {
            let mut state = State::new(None);
            let instance = Instance { address: kept, ..instance(image.clone()) };
            state.apply(&Change::Instance(instance));
            let address = [10, 0, 0, 9].into();
            let asker = Asker { mac: Some(MAC), address, prelude: Prelude::None, is_again: false };
            let script = script_for(&state, &policy(None), asker, NOW).text;
            assert!(script.contains(&format!(" ip={expected}::10.0.0.1")), "{script}");
        }
    }

    #[test]
    fn an_unclaimed_machine_gets_the_image_of_the_command_line() {
        let unclaimed = UnclaimedImage {
            kernel: "/srv/kernel".into(),
            initrds: vec!["initrd.img".into()],
            cmdline: "console=ttyS0 quiet".to_owned(),
        };
        let script = script_of(None, Some(unclaimed));
        assert_eq!(stage(&script), Some(Stage::Script));
        check_golden(&script, include_str!("../../tests/golden/unclaimed.ipxe"));
    }

    #[test]
    fn a_machine_without_an_image_waits_and_asks_again() {
        let script = script_of(None, None);
        assert_eq!(stage(&script), Some(Stage::Holding));
        check_golden(&script, include_str!("../../tests/golden/hold.ipxe"));
    }

    #[test]
    fn a_machine_that_cannot_be_told_says_who_it_is() {
        let asker = Asker {
            mac: None,
            address: [10, 0, 0, 9].into(),
            prelude: Prelude::KeepLease,
            is_again: false,
        };
        let script = script_for(&State::new(None), &policy(None), asker, NOW);
        assert_eq!(script.sighting, None);
        check_golden(&script, include_str!("../../tests/golden/autoexec_unknown.ipxe"));
    }

    #[test]
    fn a_script_that_cannot_be_made_says_why_and_is_asked_for_again() {
        let mut image =
            Image { kernel: file("k"), initrds: Vec::new(), cmdline: "{{ tags.evil }}".to_owned() };
        let script = script_of(Some(image.clone()), None);
        assert_eq!(stage(&script), Some(Stage::Holding));
        check_golden(&script, include_str!("../../tests/golden/unscriptable.ipxe"));
        for url in ["http://x/a b", "http://x/a\nshell", "http://x/a\\", ""] {
            image.kernel.source = Source::Url(url.to_owned());
            let script = script_of(Some(image.clone()), None);
            assert!(!script.text.contains("\nkernel"), "{url:?}");
            assert!(script.text.contains("has a blank or a control character"), "{url:?}");
        }
    }

    #[test]
    fn a_machine_leaves_for_its_disk_in_the_way_of_its_firmware() {
        for (architecture, has_sanboot) in
            [(Architecture::Bios, true), (Architecture::X64Uefi, false)]
        {
            let mut state = State::new(None);
            let machine =
                Machine { architecture: Some(architecture), ..testing::held(MAC, Timestamp(1)) };
            state.apply(&Change::Machine(machine));
            state.apply(&Change::Instance(Instance {
                boot: BootMode::Never,
                image: None,
                ..testing::instance(1, MAC)
            }));
            let asker = Asker {
                mac: Some(MAC),
                address: [10, 0, 0, 9].into(),
                prelude: Prelude::None,
                is_again: false,
            };
            let script = script_for(&state, &policy(None), asker, NOW);
            assert_eq!(stage(&script), Some(Stage::Local));
            assert_eq!(script.text.contains("sanboot"), has_sanboot, "{}", script.text);
            assert!(script.text.ends_with("exit 1\n"), "{}", script.text);
        }
    }

    /// The script of this machine under this rule, with an instance or without.
    fn script_under(then: Then, machine: Machine, instance: Option<Instance>) -> Script {
        let (scope, machines) = (Scope::default(), Whose::All);
        let rules = Rules::new(vec![Rule { scope, machines, then }], Vec::new());
        let mut state = State::new(None);
        state.apply(&Change::Machine(machine));
        instance.iter().for_each(|one| state.apply(&Change::Instance(one.clone())));
        let address = [10, 0, 0, 9].into();
        let asker = Asker { mac: Some(MAC), address, prelude: Prelude::None, is_again: false };
        script_for(&state, &Policy { rules, ..policy(None) }, asker, NOW)
    }

    #[test]
    fn whatever_a_machine_and_its_instance_are_there_is_a_script_that_runs_to_an_end() {
        let image = UnclaimedImage {
            kernel: "/srv/kernel".into(),
            initrds: Vec::new(),
            cmdline: String::new(),
        };
        let progress = |state, boots| crate::model::Progress {
            state,
            boots,
            ..crate::model::Progress::new(NOW)
        };
        let modes = [BootMode::Always, BootMode::Once, BootMode::Never];
        let mut instances = vec![None];
        for boot in modes {
            for state in InstanceState::ALL {
                let with = |boots, ready_at| {
                    let progress = progress(state, boots);
                    let progress = crate::model::Progress { ready_at, ..progress };
                    Some(Instance { boot, progress, ..testing::instance(1, MAC) })
                };
                instances.extend([with(0, None), with(9, None), with(1, Some(NOW))]);
            }
        }
        for then in [Then::Ignore, Then::Hold, Then::Local, Then::Image(image)] {
            for state in MachineState::ALL {
                for instance in &instances {
                    let machine = Machine { state, ..testing::held(MAC, Timestamp(1)) };
                    let text = script_under(then.clone(), machine, instance.clone()).text;
                    let ends = text.lines().last().expect("it has lines");
                    assert!(text.starts_with("#!ipxe\n"), "{text}");
                    assert!(
                        ["goto ask", "exit 1", "exit 0"].contains(&ends),
                        "{then:?} {state:?} {instance:?}: {text}"
                    );
                    let commands = text.lines().filter(|line| line.starts_with("exit"));
                    assert_eq!(commands.count(), usize::from(ends != "goto ask"), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_stranger_that_is_ignored_goes_on_and_is_not_known_by_its_question() {
        let held = testing::held(MAC, Timestamp(1));
        let script = script_under(Then::Ignore, held, None);
        assert_eq!((script.text.as_str(), script.sighting), ("#!ipxe\nexit 1\n", None));
    }

    #[test]
    fn each_way_to_the_disk_has_its_command() {
        for (way, architecture, commands) in [
            (LocalBoot::Exit, Architecture::Bios, "exit 1"),
            (LocalBoot::ExitZero, Architecture::X64Uefi, "exit 0"),
            (
                LocalBoot::Sanboot,
                Architecture::X64Uefi,
                "sanboot --no-describe --drive 0x80 ||\nexit 1",
            ),
            (LocalBoot::NoOffer, Architecture::X64Uefi, "exit 1"),
            (
                LocalBoot::NoOffer,
                Architecture::Bios,
                "sanboot --no-describe --drive 0x80 ||\nexit 1",
            ),
        ] {
            let machine = Machine {
                architecture: Some(architecture),
                local_boot: Some(way),
                ..testing::held(MAC, Timestamp(1))
            };
            let script = script_under(Then::Local, machine, None);
            let shown = format!("echo remoteboot: {MAC} boots from its own disk\n");
            let expected = format!("#!ipxe\nclear waiting ||\n{shown}{commands}\n");
            assert_eq!(script.text, expected, "{way:?} {architecture:?}");
            let sighting = script.sighting.expect("it is seen");
            assert_eq!(sighting.treatment, Some(crate::model::Treatment::Local));
        }
    }

    #[test]
    fn a_machine_that_asks_over_ipv6_is_told_ipv6_and_waits_for_no_ipv4() {
        let server = "fd00::1".parse().expect("an address");
        let (authority, paths) = ("[fd00::1]:8080".to_owned(), Paths::default());
        let policy = Policy { rules: Rules::default(), authority, server, paths };
        let image = Image {
            kernel: file("vmlinuz"),
            initrds: Vec::new(),
            cmdline: "ip={{ ip }} server={{ server }} report={{ report }}".to_owned(),
        };
        let mut state = State::new(None);
        state.apply(&Change::Instance(instance(image)));
        let address = "fd00::100".parse().expect("an address");
        let asker = Asker { mac: Some(MAC), address, prelude: Prelude::KeepLease, is_again: false };
        let text = script_for(&state, &policy, asker, NOW).text;
        for told in [
            "isset ${net0/ip6} && ifopen net0 ||\n",
            "isset ${netX/ip6} || ifconf -c ipv6 ||\n",
            "iseq ${vain} 6 && ifconf -c ipv6 ||\n",
            "kernel --name vmlinuz http://[fd00::1]:8080/boot/",
            " ip=fd00::100 server=fd00::1 report=http://[fd00::1]:8080/report/",
            "chain --replace --autofree http://[fd00::1]:8080/ipxe/52-54-00-aa-01-01.ipxe?again ||\n",
        ] {
            assert!(text.contains(told), "{told} in {text}");
        }
        assert!(!text.contains("dhcp"), "{text}");
    }

    #[test]
    fn an_error_is_shown_without_anything_that_ipxe_would_act_on() {
        let mut text = String::new();
        show(&mut text, "a ${b} || c && d ; e \\ f\ng");
        assert_eq!(text, "echo remoteboot: a ?{b} ?? c ?? d ? e ? f?g\n");
    }

    #[test]
    fn the_names_of_initrds_count_for_the_length_of_the_command_line() {
        let mut image = Image {
            kernel: file("k"),
            initrds: vec![file("i")],
            cmdline: "x".repeat(cmdline::MAX_LENGTH - "initrd=initrd.0 ".len()),
        };
        assert!(script_of(Some(image.clone()), None).text.contains("\nkernel"));
        image.cmdline.push('x');
        assert!(!script_of(Some(image), None).text.contains("\nkernel"));
    }

    /// A script of a machine that loads over VLAN 20, as its own script, or as `autoexec`.
    fn on_a_vlan(prelude: Prelude) -> String {
        let mut state = State::new(None);
        let vlan = VlanId::try_from(20).ok();
        state.apply(&Change::Machine(Machine { vlan, ..testing::held(MAC, Timestamp(1)) }));
        let asker =
            Asker { mac: Some(MAC), address: [10, 0, 0, 9].into(), prelude, is_again: false };
        script_for(&state, &policy(None), asker, NOW).text
    }

    #[test]
    fn who_leaves_for_its_disk_waits_for_no_vlan() {
        let mut state = State::new(None);
        let vlan = VlanId::try_from(20).ok();
        state.apply(&Change::Machine(Machine { vlan, ..testing::held(MAC, Timestamp(1)) }));
        let boot = BootMode::Never;
        state.apply(&Change::Instance(Instance { boot, ..testing::instance(1, MAC) }));
        let (address, prelude) = ([10, 0, 0, 9].into(), Prelude::None);
        let asker = Asker { mac: Some(MAC), address, prelude, is_again: false };
        let script = script_for(&state, &policy(None), asker, NOW);
        assert_eq!(script.sighting.map(|sighting| sighting.stage), Some(Stage::Local));
        assert!(!script.text.contains("vcreate"), "{}", script.text);
    }

    #[test]
    fn a_machine_with_a_vlan_goes_there_before_anything_else_and_only_once() {
        let text = on_a_vlan(Prelude::KeepLease);
        check_golden(
            &Script { text: text.clone(), sighting: None },
            include_str!("../../tests/golden/autoexec_vlan.ipxe"),
        );
        let own = on_a_vlan(Prelude::None);
        assert!(own.starts_with("#!ipxe\nisset ${tagged} && goto on_vlan ||\n"), "{own}");
    }

    #[test]
    fn machines_that_wait_do_not_ask_in_step() {
        let pauses: std::collections::HashSet<u32> =
            (0..50).map(|last| pause(Some(Mac::new([2, 0, 0, 0, 0, last])))).collect();
        assert_eq!(pauses, (HOLD..HOLD + MORE).collect());
    }

    #[test]
    fn every_command_that_may_fail_is_allowed_to() {
        let image =
            Image { kernel: file("k"), initrds: vec![file("i")], cmdline: "quiet".to_owned() };
        let texts = [script_of(Some(image), None), script_of(None, None)].map(|script| script.text);
        for text in texts.into_iter().chain([on_a_vlan(Prelude::KeepLease)]) {
            for line in text.lines() {
                let cannot_fail = ["#!ipxe", "echo ", "goto ", "set ", ":"]
                    .iter()
                    .any(|command| line.starts_with(command));
                let else_does = line == "iseq ${trouble} 30 || inc trouble 5 ||";
                assert!(cannot_fail || else_does || line.ends_with("||"), "{line}");
            }
            assert!(text.ends_with("goto ask\n"));
        }
    }

    #[test]
    fn every_label_that_is_gone_to_is_there_once() {
        let image = Image {
            kernel: file("k"),
            initrds: (0..12).map(|_| file("i")).collect(),
            cmdline: String::new(),
        };
        let texts = [script_of(Some(image), None), script_of(None, None)].map(|script| script.text);
        for text in texts.into_iter().chain([on_a_vlan(Prelude::KeepLease)]) {
            let words: Vec<&str> = text.split_whitespace().collect();
            for pair in words.windows(2).filter(|pair| pair[0] == "goto") {
                let label = format!(":{}", pair[1]);
                let count = text.lines().filter(|line| **line == label).count();
                assert_eq!(count, 1, "{label}");
            }
        }
    }
}
