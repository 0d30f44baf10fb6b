//! Which file a machine may have: boot programs, its own `autoexec.ipxe` and its own
//! `grub.cfg`.
//!
//! Pure. It must not know packets.

use bytes::Bytes;

use super::{answer::Answer, reply::ErrorCode, request::FileName};
use crate::{
    boot::{
        self, Addressing, Asker, Claim, Policy, Prelude, Visitor, booting_card, grub, identify,
        script_for,
    },
    files::Catalogue,
    model::{Decision, Timestamp},
    state::State,
};

/// What iPXE 2.x for UEFI asks for before any DHCP of its own, in the directory
/// that it was loaded from.
const AUTOEXEC: &str = "autoexec.ipxe";

/// What the room is told by the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What machines boot, if scripts are served at all: they need HTTP.
    pub policy: Option<Policy>,
    /// Whether a source address tells the machine.
    pub addressing: Addressing,
}

/// What this visitor gets for this name.
pub fn look_up(
    state: &State,
    (settings, catalogue): (&Settings, &Catalogue),
    (file, visitor): (&FileName, Visitor),
    now: Timestamp,
) -> Decision<Answer> {
    let name = file.as_str();
    let machine = |claim| booting_card(state, settings.addressing, visitor, (claim, now));
    if let Some(content) = catalogue.content(name) {
        return Decision::only(Answer::Content(content.clone()));
    }
    let base_name = name.rsplit('/').next().unwrap_or_default();
    let is_autoexec = base_name.eq_ignore_ascii_case(AUTOEXEC);
    let config = grub::config_name(base_name);
    let (Some(policy), true) = (&settings.policy, is_autoexec || config.is_some()) else {
        let message = format!("there is no file {name}");
        return Decision::only(Answer::Refuse { code: ErrorCode::FileNotFound, message });
    };
    // Without a claim nobody can be an imposter; who is not known is asked.
    let mac = match machine(config.map_or(Claim::None, |config| config.claim)) {
        Ok(mac) => mac,
        Err(imposter) => {
            let (code, message) = (ErrorCode::AccessViolation, imposter.to_string());
            return Decision::only(Answer::Refuse { code, message });
        }
    };
    let is_again = config.is_some_and(|config| config.is_again);
    let (address, prelude) = (visitor.address, Prelude::KeepLease);
    let asker = Asker { mac, address, prelude, is_again };
    let script = match config {
        Some(_) => grub::config_for(state, policy, asker, now),
        None => script_for(state, policy, asker, now),
    };
    let seen = script.sighting.map(|sighting| boot::seen(state, sighting, now));
    Decision {
        answer: Answer::Content(Bytes::from(script.text)),
        changes: seen.unwrap_or_default(),
    }
}

/// What it shows that a client has fetched the whole of this file.
pub fn fetched(
    state: &State,
    (addressing, catalogue): (Addressing, &Catalogue),
    (file, visitor): (&str, Visitor),
    now: Timestamp,
) -> Decision<()> {
    let mac = identify(state, addressing, visitor, (Claim::None, now)).ok().flatten();
    let loader = catalogue.architecture(file).and(mac);
    let changes = loader.map(|mac| boot::loader::fetched(state, mac, now)).unwrap_or_default();
    Decision { answer: (), changes }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::{Architecture, Change, Lease, LeaseState, Mac};

    const MACHINE: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
    const LEASED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const NOW: Timestamp = Timestamp(1000);

    fn asked(name: &str, client: Ipv4Addr) -> Decision<Answer> {
        let visitor = Visitor { address: client.into(), neighbour: None };
        visited(State::new(None), name, (Addressing::Ours, visitor))
    }

    fn visited(
        mut state: State,
        name: &str,
        (addressing, visitor): (Addressing, Visitor),
    ) -> Decision<Answer> {
        state.apply(&Change::Lease(Lease {
            address: LEASED,
            mac: MACHINE,
            state: LeaseState::Bound,
            expires: Timestamp(5000),
        }));
        let policy = Policy {
            rules: boot::Rules::default(),
            authority: "10.0.0.1".to_owned(),
            server: [10, 0, 0, 1].into(),
            paths: boot::Paths::default(),
        };
        let settings = Settings { policy: Some(policy), addressing };
        let program = (Architecture::Bios, "undionly.kpxe".to_owned(), Bytes::from_static(b"b"));
        let catalogue = Catalogue::new([program]);
        let file = FileName::normalise(name.as_bytes()).expect("a name");
        look_up(&state, (&settings, &catalogue), (&file, visitor), NOW)
    }

    fn text(answer: &Answer) -> String {
        match answer {
            Answer::Content(content) => String::from_utf8_lossy(content).into_owned(),
            Answer::Refuse { message, .. } => panic!("refused: {message}"),
        }
    }

    #[test]
    fn a_boot_program_is_given_under_its_own_name_only() {
        assert_eq!(text(&asked("undionly.kpxe", LEASED).answer), "b");
        for name in ["etc/passwd", "x/undionly.kpxe", "UNDIONLY.KPXE", "state.redb"] {
            let refused = asked(name, LEASED).answer;
            assert!(
                matches!(refused, Answer::Refuse { code: ErrorCode::FileNotFound, .. }),
                "{name}"
            );
        }
    }

    #[test]
    fn who_has_fetched_a_boot_program_has_come_so_far_and_no_other_file_counts() {
        let mut state = State::new(None);
        let sighting = boot::Sighting::new(MACHINE, crate::model::Stage::Firmware);
        boot::seen(&state, sighting, NOW).iter().for_each(|change| state.apply(change));
        let program = (Architecture::Bios, "undionly.kpxe".to_owned(), Bytes::from_static(b"b"));
        let catalogue = Catalogue::new([program]);
        let fetched = |name: &str, neighbour: Option<Mac>| {
            let visitor = Visitor { address: LEASED.into(), neighbour };
            let hall = (Addressing::Foreign, &catalogue);
            super::fetched(&state, hall, (name, visitor), NOW).changes
        };
        let changes = fetched("undionly.kpxe", Some(MACHINE));
        let [Change::Seen(machine)] = changes.as_slice() else { panic!("{changes:?}") };
        assert_eq!(machine.stage, Some(crate::model::Stage::Loader));
        assert_eq!(fetched("autoexec.ipxe", Some(MACHINE)), []);
        assert_eq!(fetched("undionly.kpxe", None), []);
        assert_eq!(fetched("undionly.kpxe", Some(Mac::new([2, 0, 0, 0, 0, 2]))), []);
    }

    #[test]
    fn autoexec_is_the_script_of_the_machine_that_asks_in_any_directory() {
        for name in [
            "autoexec.ipxe",
            "/autoexec.ipxe",
            "loader/autoexec.ipxe",
            "/x86_64-efi/autoexec.ipxe",
            "EFI/BOOT/autoexec.ipxe",
            "\\EFI\\BOOT\\AUTOEXEC.IPXE",
            "//loader//autoexec.ipxe",
            "./autoexec.ipxe",
            "a/b/c/d/autoexec.ipxe",
        ] {
            let decision = asked(name, LEASED);
            assert!(text(&decision.answer).contains("/ipxe/02-00-00-00-00-01.ipxe"), "{name}");
            assert!(
                matches!(decision.changes.as_slice(), [Change::Seen(machine)] if machine.mac == MACHINE)
            );
        }
    }

    #[test]
    fn grub_is_given_its_machine_s_configuration_under_every_name_that_it_tries() {
        for name in [
            "grub.cfg",
            "/grub/grub.cfg",
            "/grub/x86_64-efi/grub.cfg",
            "EFI\\debian\\grub.cfg",
            "/grub/grub.cfg-01-02-00-00-00-00-01",
            "/grub/grub.cfg-0A000009",
        ] {
            let decision = asked(name, LEASED);
            let text = text(&decision.answer);
            assert!(text.contains("remoteboot_next=grub.cfg-01-02-00-00-00-00-01"), "{name}");
            assert!(
                matches!(decision.changes.as_slice(), [Change::Seen(machine)] if machine.mac == MACHINE)
            );
        }
        for name in ["/grub/x86_64-efi/command.lst", "/grub/grub.cfg-x", "grub.cfg/x"] {
            let refused = asked(name, LEASED);
            assert!(matches!(refused.answer, Answer::Refuse { .. }), "{name}");
            assert_eq!(refused.changes, vec![]);
        }
        let imposter = asked("/grub/grub.cfg-01-02-00-00-00-00-02", LEASED);
        assert!(matches!(imposter.answer, Answer::Refuse { code: ErrorCode::AccessViolation, .. }));
        assert_eq!(imposter.changes, vec![]);
    }

    #[test]
    fn beside_another_server_a_script_is_for_the_card_that_answers() {
        let asked = |name: &str, neighbour: Option<Mac>| {
            let visitor = Visitor { address: [10, 0, 0, 77].into(), neighbour };
            visited(State::new(None), name, (Addressing::Foreign, visitor)).answer
        };
        let other = Mac::new([2, 0, 0, 0, 0, 2]);
        assert!(text(&asked("autoexec.ipxe", Some(MACHINE))).contains("/02-00-00-00-00-01.ipxe"));
        let own = "grub/grub.cfg-01-02-00-00-00-00-01";
        for neighbour in [Some(MACHINE), None] {
            assert!(text(&asked(own, neighbour)).contains("cfg-01-02-00-00-00-00-01"));
        }
        let refused = asked(own, Some(other));
        assert!(matches!(refused, Answer::Refuse { code: ErrorCode::AccessViolation, .. }));
    }

    #[test]
    fn of_several_cards_the_one_that_grub_was_loaded_by_is_told() {
        let mut state = State::new(None);
        let card = Mac::new([2, 0, 0, 0, 0, 2]);
        let mut machine = crate::model::testing::held(MACHINE, NOW);
        machine.identity.cards.insert(card);
        state.apply(&Change::Machine(machine));
        let visitor = Visitor { address: LEASED.into(), neighbour: None };
        let name = "grub/grub.cfg-01-02-00-00-00-00-02";
        let answer = visited(state, name, (Addressing::Ours, visitor)).answer;
        assert!(text(&answer).contains("next=grub.cfg-01-02-00-00-00-00-02"), "{answer:?}");
    }

    #[test]
    fn who_is_not_known_is_asked_who_it_is_and_told_nothing() {
        let decision = asked("autoexec.ipxe", [10, 0, 0, 10].into());
        assert!(text(&decision.answer).contains("${netX/mac:hexhyp}"));
        assert_eq!(decision.changes, vec![]);
    }
}
