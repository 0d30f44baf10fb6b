//! What was seen of a machine, and when that is worth a change: of the machine,
//! and of the instance that it boots.

use std::time::Duration;

use crate::{
    model::{
        Architecture, Change, Habits, Mac, Machine, MachineEvent, MachineState, Stage, Timestamp,
    },
    state::State,
};

/// A machine that only shows again that it is there is written down this often.
const REMEMBER_EVERY: Duration = Duration::from_secs(60);

/// A machine asked for something on its way to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The card that it asked with.
    pub mac: Mac,
    /// What its firmware says it is, where the request says so.
    pub architecture: Option<Architecture>,
    /// Its SMBIOS UUID, where the request has it.
    pub uuid: Option<String>,
    /// How far the boot has come with this request.
    pub stage: Stage,
    /// What is known of its firmware's habits with this request; nothing if it shows
    /// nothing new of them.
    pub learned: Option<Habits>,
}

impl Sighting {
    /// A machine that has come as far as this, and says nothing more.
    #[must_use]
    pub const fn new(mac: Mac, stage: Stage) -> Self {
        Self { mac, architecture: None, uuid: None, stage, learned: None }
    }
}

/// The changes that this sighting makes, if it says anything new.
#[must_use]
pub fn seen(state: &State, sighting: Sighting, now: Timestamp) -> Vec<Change> {
    let (mac, stage) = (sighting.mac, sighting.stage);
    let progress = progress(state, mac, stage, now);
    machine(state, sighting, now).map(Change::Seen).into_iter().chain(progress).collect()
}

/// The changes that it makes when this machine fetches a boot program: only the one
/// that its firmware was told of begins something. What that loads itself says
/// nothing new.
#[must_use]
pub fn fetches_loader(state: &State, mac: Mac, now: Timestamp) -> Vec<Change> {
    let stage = state.machines.find(mac).and_then(|machine| machine.stage);
    if stage == Some(Stage::Firmware) {
        return seen(state, Sighting::new(mac, Stage::Loader), now);
    }
    Vec::new()
}

/// What is to be said of a machine whose firmware asks now, if it fetched a boot
/// program before, and nothing was heard of that.
#[must_use]
pub fn silent_loader(state: &State, mac: Mac) -> Option<&'static str> {
    let stage = state.machines.find(mac).and_then(|machine| machine.stage);
    (stage == Some(Stage::Loader)).then_some(
        "its firmware asks again: the boot program that it fetched was never heard of; is \
         Secure Boot on, which refuses what is not signed? (docs/secure-boot.md)",
    )
}

fn machine(state: &State, sighting: Sighting, now: Timestamp) -> Option<Machine> {
    let Sighting { mac, architecture, uuid, stage, learned } = sighting;
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
        let (stage, habits, last_seen) = (Some(stage), learned.unwrap_or_default(), Some(now));
        return Some(Machine { architecture, uuid, state, stage, habits, last_seen, ..first });
    };
    // What a machine does is allowed in every state.
    let stepped = before.after(event, now).ok()?;
    let after = Machine {
        architecture: architecture.or(before.architecture),
        uuid: uuid.or_else(|| before.uuid.clone()),
        stage: Some(stage),
        habits: learned.unwrap_or(before.habits),
        ..stepped
    };
    let is_old = before.last_seen.is_none_or(|last| now.since(last) >= REMEMBER_EVERY);
    (after != *before || is_old).then_some(Machine { last_seen: Some(now), ..after })
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

    #[test]
    fn the_same_again_is_written_once_a_minute() {
        let mut state = State::new(None);
        assert_eq!(see(&mut state, sighting(Stage::Holding), 0), 1);
        assert_eq!(seen(&state, sighting(Stage::Holding), Timestamp(59_999)), []);
        assert_eq!(seen(&state, sighting(Stage::Holding), Timestamp(60_000)).len(), 1);
        assert_eq!(seen(&state, sighting(Stage::Script), Timestamp(1)).len(), 1);
    }

    #[test]
    fn what_a_request_does_not_say_is_not_forgotten() {
        let mut state = State::new(None);
        let firmware = Sighting {
            architecture: Some(Architecture::X64Uefi),
            uuid: Some("u".to_owned()),
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
