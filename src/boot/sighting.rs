//! What was seen of a machine, and when that is worth a change: of the machine,
//! and of the instance that it boots.

use std::time::Duration;

use crate::{
    model::{
        Architecture, Change, Habits, Identity, Mac, Machine, MachineEvent, MachineState, Port,
        Stage, Timestamp, Treatment, is_genuine_uuid,
    },
    state::State,
};

/// A machine that only shows again that it is there is written down this often.
const REMEMBER_EVERY: Duration = Duration::from_secs(60);

/// So many machines are known at most that only turned up: who invents addresses must
/// not fill the memory and the disk.
const MOST_MACHINES: usize = 100_000;

/// A machine asked for something on its way to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The card that it asked with.
    pub mac: Mac,
    /// What its firmware says it is, where the request says so.
    pub architecture: Option<Architecture>,
    /// Its SMBIOS UUID, where the request has it; junk is passed over.
    pub uuid: Option<String>,
    /// Its serial number, where it says one.
    pub serial: Option<String>,
    /// The port that it hangs on, where a relay says it.
    pub port: Option<Port>,
    /// How far the boot has come with this request.
    pub stage: Stage,
    /// What is known of its firmware's habits with this request; nothing if it shows
    /// nothing new of them.
    pub learned: Option<Habits>,
    /// What it is told as a machine that no instance claims; nothing if one does, or
    /// if this request does not show it.
    pub treatment: Option<Treatment>,
}

impl Sighting {
    /// A machine that has come as far as this, and says nothing more.
    #[must_use]
    pub const fn new(mac: Mac, stage: Stage) -> Self {
        let (architecture, uuid, serial, port) = (None, None, None, None);
        let (learned, treatment) = (None, None);
        Self { mac, architecture, uuid, serial, port, stage, learned, treatment }
    }
}

/// The changes that this sighting makes, if it says anything new.
#[must_use]
pub fn seen(state: &State, sighting: Sighting, now: Timestamp) -> Vec<Change> {
    let (mac, stage) = (state.machines.of_card(sighting.mac), sighting.stage);
    let progress = progress(state, mac, stage, now);
    let machine = machine(state, sighting, now);
    let is_new = state.machines.find(mac).is_none();
    let (machine, forgotten) = match machine {
        Some(machine) if is_new && machine.state != MachineState::Assigned => {
            with_room(state, machine, MOST_MACHINES)
        }
        other => (other, None),
    };
    let seen = forgotten.map(Change::Forgotten).into_iter().chain(machine.map(Change::Seen));
    seen.chain(progress).collect()
}

/// Where so many are known, the one that is new takes the place of a stranger that
/// only asked for an address, if there is one; else it is not remembered.
fn with_room(state: &State, machine: Machine, most: usize) -> (Option<Machine>, Option<Mac>) {
    if state.machines.count() < most {
        return (Some(machine), None);
    }
    let forgotten = state.machines.passer_by().map(|passer_by| passer_by.mac);
    (forgotten.map(|_| machine), forgotten)
}

/// What is to be said of a machine whose firmware asks now, if it fetched a boot
/// program before, and nothing was heard of that.
#[must_use]
pub fn silent_loader(state: &State, mac: Mac) -> Option<&'static str> {
    let stage = state.machines.with_card(mac).and_then(|machine| machine.stage);
    (stage == Some(Stage::Loader)).then_some(
        "its firmware asks again: the boot program that it fetched was never heard of; is \
         Secure Boot on, which refuses what is not signed? (docs/secure-boot.md)",
    )
}

fn machine(state: &State, sighting: Sighting, now: Timestamp) -> Option<Machine> {
    let Sighting { mac: card, architecture, uuid, serial, port, stage, learned, treatment } =
        sighting;
    let mac = state.machines.of_card(card);
    let uuid = uuid.filter(|uuid| is_genuine_uuid(uuid));
    let seen_as = |mut identity: Identity| {
        identity.asked_by = (card != mac).then_some(card);
        identity.serial = serial.or(identity.serial);
        identity.ports.extend(port.map(|port| (card, port)));
        identity
    };
    let has_instance = state.instances.of_machine(mac).is_some();
    let event = match stage {
        Stage::Firmware | Stage::Loader | Stage::Ipxe | Stage::Local => MachineEvent::Asked,
        Stage::Holding => MachineEvent::Waited,
        Stage::Script | Stage::Kernel => MachineEvent::BootedUnclaimed,
    };
    let Some(before) = state.machines.find(mac) else {
        let first = Machine::first(mac, event, now)?;
        // Provisioned by its address before it was seen.
        let state = if has_instance { MachineState::Assigned } else { first.state };
        let habits = learned.unwrap_or_default().into();
        let (stage, last_seen) = (Some(stage), Some(now));
        let identity = seen_as(Identity::default()).into();
        let first = Machine { architecture, uuid, identity, treatment, ..first };
        return Some(Machine { state, stage, habits, last_seen, ..first });
    };
    // What a machine does is allowed in every state.
    let stepped = before.after(event, now).ok()?;
    let mut identity = seen_as((*before.identity).clone());
    let shown = uuid.map(|uuid| identity.after_uuid(before.uuid.as_ref(), uuid));
    let after = Machine {
        architecture: architecture.or(before.architecture),
        uuid: shown.or_else(|| before.uuid.clone()),
        identity: identity.into(),
        stage: Some(stage),
        habits: came_to(learned.unwrap_or_else(|| (*before.habits).clone()), stage).into(),
        treatment: treatment.or(before.treatment),
        ..stepped
    };
    let is_old = before.last_seen.is_none_or(|last| now.since(last) >= REMEMBER_EVERY);
    (after != *before || is_old).then_some(Machine { last_seen: Some(now), ..after })
}

/// The habits of a machine that has come as far as this: behind its boot program,
/// that one was not in vain.
fn came_to(mut habits: Habits, stage: Stage) -> Habits {
    match (stage, &mut habits.loader) {
        (Stage::Firmware | Stage::Loader, _) | (_, None) => {}
        (_, Some(tried)) => tried.vain = 0,
    }
    habits
}

/// What it means for the instance that the machine has.
fn progress(state: &State, mac: Mac, stage: Stage, now: Timestamp) -> Option<Change> {
    let instance = state.instances.of_machine(mac)?;
    let before = &instance.progress;
    let after = match stage {
        Stage::Script => before.script(super::begins_anew(state, instance, now), now),
        Stage::Holding if before.is_exhausted(instance.boot) => before.gave_up(now),
        Stage::Holding
        | Stage::Firmware
        | Stage::Loader
        | Stage::Ipxe
        | Stage::Kernel
        | Stage::Local => return None,
    };
    (after != *before).then_some(Change::Progress(instance.id, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{InstanceState, testing};

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    fn sighting(stage: Stage) -> Sighting {
        Sighting::new(MAC, stage)
    }

    /// Applies what this sighting changes, and says how much that is.
    fn see(state: &mut State, sighting: Sighting, at: u64) -> usize {
        let changes = seen(state, sighting, Timestamp(at));
        changes.iter().for_each(|change| state.apply(change));
        changes.len()
    }

    fn known(state: &State) -> &Machine {
        state.machines.find(MAC).expect("seen")
    }

    fn known_as(state: &State, mac: Mac) -> Machine {
        state.machines.find(mac).expect("seen").clone()
    }

    #[test]
    fn the_same_again_is_written_once_a_minute() {
        let mut state = State::new(None);
        assert_eq!(see(&mut state, sighting(Stage::Holding), 0), 1);
        assert_eq!(seen(&state, sighting(Stage::Holding), Timestamp(59_999)), []);
        assert_eq!(seen(&state, sighting(Stage::Holding), Timestamp(60_000)).len(), 1);
        assert_eq!(seen(&state, sighting(Stage::Script), Timestamp(1)).len(), 1);
    }

    #[test]
    fn where_there_are_too_many_a_new_one_takes_the_place_of_who_only_passed_by() {
        let mut state = State::new(None);
        let named = |last| Mac::new([2, 0, 0, 0, 1, last]);
        let at = |mac, stage| Sighting::new(mac, stage);
        for (last, stage) in [(1, Stage::Holding), (2, Stage::Ipxe), (3, Stage::Firmware)] {
            see(&mut state, at(named(last), stage), last.into());
        }
        let mut owned = known_as(&state, named(3));
        owned.mac = named(4);
        owned.enrolled = true;
        state.apply(&Change::Machine(owned));
        for last in [5, 6] {
            see(&mut state, at(named(last), Stage::Firmware), last.into());
        }
        let newest = || machine(&state, sighting(Stage::Firmware), Timestamp(9)).expect("new");
        assert_eq!(with_room(&state, newest(), 7), (Some(newest()), None));
        assert_eq!(with_room(&state, newest(), 6), (Some(newest()), Some(named(3))));
        for last in [3, 5, 6] {
            see(&mut state, at(named(last), Stage::Ipxe), 9);
        }
        let newest = machine(&state, sighting(Stage::Firmware), Timestamp(9)).expect("new");
        assert_eq!(with_room(&state, newest, 6), (None, None), "nobody only passed by");
    }

    #[test]
    fn invented_cards_fill_no_memory_and_do_not_drive_out_who_waits() {
        let mut state = State::new(None);
        see(&mut state, sighting(Stage::Holding), 0);
        for number in 0..u32::try_from(MOST_MACHINES).expect("few") + 50 {
            let [a, b, c, d] = number.to_be_bytes();
            let invented = Sighting::new(Mac::new([6, 0, a, b, c, d]), Stage::Firmware);
            see(&mut state, invented, u64::from(number));
        }
        assert_eq!(state.machines.count(), MOST_MACHINES);
        assert_eq!(known(&state).state, MachineState::Held);
        let first = Mac::new([6, 0, 0, 0, 0, 0]);
        assert!(state.machines.find(first).is_none(), "the oldest went first");
        // What the operator says of machines is not limited by that.
        let other = Mac::new([2, 0, 0, 0, 0, 9]);
        state.apply(&Change::Instance(testing::instance(1, other)));
        see(&mut state, Sighting::new(other, Stage::Firmware), 1_000_000);
        assert!(state.machines.find(other).is_some());
    }

    #[test]
    fn what_a_request_does_not_say_is_not_forgotten() {
        let mut state = State::new(None);
        let firmware = Sighting {
            architecture: Some(Architecture::X64Uefi),
            uuid: Some("4c4c4544-0042-3510-8052-b3c04f4b4e32".to_owned()),
            ..sighting(Stage::Firmware)
        };
        see(&mut state, firmware, 5);
        see(&mut state, sighting(Stage::Holding), 9);
        let machine = known(&state);
        assert_eq!(machine.architecture, Some(Architecture::X64Uefi));
        assert_eq!((machine.first_seen, machine.waiting_since), (Timestamp(5), Timestamp(5)));
        assert_eq!(machine.last_seen, Some(Timestamp(9)));
        assert_eq!((machine.state, machine.since), (MachineState::Held, Timestamp(9)));
    }

    #[test]
    fn each_start_of_an_instance_s_machine_is_counted_once() {
        let mut state = State::new(None);
        state.apply(&Change::Instance(testing::instance(1, MAC)));
        let boots = |state: &State| {
            let instance = state.instances.of_machine(MAC).expect("provisioned");
            (instance.progress.boots, instance.progress.state)
        };
        see(&mut state, sighting(Stage::Firmware), 2);
        assert_eq!(known(&state).state, MachineState::Assigned);
        assert_eq!(boots(&state), (0, InstanceState::Provisioning));
        for (stage, count) in [
            (Stage::Script, 1),
            (Stage::Script, 1),
            (Stage::Kernel, 1),
            (Stage::Firmware, 1),
            (Stage::Ipxe, 1),
            (Stage::Script, 2),
        ] {
            see(&mut state, sighting(stage), 3);
            assert_eq!(boots(&state), (count, InstanceState::Booting), "{stage:?}");
        }
    }

    #[test]
    fn a_start_of_which_nothing_is_seen_but_its_script_is_counted_all_the_same() {
        let mut state = State::new(None);
        state.apply(&Change::Instance(testing::instance(1, MAC)));
        for (at, expected) in [(0, 1), (59_000, 1), (61_000, 2), (100_000, 2), (121_000, 3)] {
            see(&mut state, sighting(Stage::Script), at);
            let instance = state.instances.of_machine(MAC).expect("provisioned");
            assert_eq!(instance.progress.boots, expected, "{at}");
        }
    }

    #[test]
    fn whichever_card_asks_it_is_the_machine_and_that_card_is_known() {
        let card = Mac::new([2, 0, 0, 0, 0, 2]);
        let mut state = State::new(None);
        let mut machine = testing::held(MAC, Timestamp(1));
        machine.identity.cards.insert(card);
        state.apply(&Change::Machine(machine));
        state.apply(&Change::Instance(testing::instance(1, MAC)));
        see(
            &mut state,
            Sighting { serial: Some("7X".to_owned()), ..Sighting::new(card, Stage::Script) },
            2,
        );
        assert_eq!((state.machines.count(), known(&state).asked_by()), (1, card));
        assert_eq!(known(&state).identity.serial.as_deref(), Some("7X"));
        let instance = state.instances.of_machine(MAC).expect("provisioned");
        assert_eq!(instance.progress.boots, 1, "it is its instance's boot");
        see(&mut state, sighting(Stage::Firmware), 3);
        assert_eq!(known(&state).asked_by(), MAC);
    }

    #[test]
    fn a_uuid_that_many_boards_have_is_not_kept() {
        let mut state = State::new(None);
        let junk = Some("03000200-0400-0500-0006-000700080009".to_owned());
        see(&mut state, Sighting { uuid: junk.clone(), ..sighting(Stage::Firmware) }, 1);
        assert_eq!(known(&state).uuid, None);
        let again = Sighting { uuid: junk, ..sighting(Stage::Firmware) };
        assert_eq!(see(&mut state, again, 2), 0, "and is no news");
    }

    #[test]
    fn what_a_machine_does_takes_it_to_and_from_the_hold_script() {
        let mut state = State::new(None);
        for (stage, expected) in [
            (Stage::Firmware, MachineState::Seen),
            (Stage::Holding, MachineState::Held),
            (Stage::Firmware, MachineState::Seen),
            (Stage::Kernel, MachineState::Seen),
        ] {
            see(&mut state, sighting(stage), 1);
            assert_eq!(known(&state).state, expected, "{stage:?}");
        }
    }
}
