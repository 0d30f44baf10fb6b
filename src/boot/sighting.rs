//! What was seen of a machine, and when that is worth a change.

use std::time::Duration;

use crate::{
    model::{Architecture, Change, Mac, Machine, Stage, Timestamp},
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
}

/// The change that this sighting makes, if it says anything new.
#[must_use]
pub fn seen(state: &State, sighting: Sighting, now: Timestamp) -> Option<Change> {
    let Sighting { mac, architecture, uuid, stage } = sighting;
    let Some(before) = state.machines.find(mac) else {
        return Some(Change::Seen(Machine {
            mac,
            architecture,
            uuid,
            first_seen: now,
            last_seen: now,
            waiting_since: now,
            stage,
        }));
    };
    let after = Machine {
        architecture: architecture.or(before.architecture),
        uuid: uuid.or_else(|| before.uuid.clone()),
        stage,
        last_seen: before.last_seen,
        ..before.clone()
    };
    let is_news = after != *before || now.since(before.last_seen) >= REMEMBER_EVERY;
    is_news.then_some(Change::Seen(Machine { last_seen: now, ..after }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(stage: Stage) -> Sighting {
        Sighting { mac: Mac::new([2, 0, 0, 0, 0, 1]), architecture: None, uuid: None, stage }
    }

    #[test]
    fn the_same_again_is_written_once_a_minute() {
        let mut state = State::new(None);
        let first = seen(&state, sighting(Stage::Holding), Timestamp(0)).expect("new");
        state.apply(&first);
        assert_eq!(seen(&state, sighting(Stage::Holding), Timestamp(59_999)), None);
        assert!(seen(&state, sighting(Stage::Holding), Timestamp(60_000)).is_some());
        assert!(seen(&state, sighting(Stage::Script), Timestamp(1)).is_some());
    }

    #[test]
    fn what_a_request_does_not_say_is_not_forgotten() {
        let mut state = State::new(None);
        let firmware = Sighting {
            architecture: Some(Architecture::X64Uefi),
            uuid: Some("u".to_owned()),
            ..sighting(Stage::Firmware)
        };
        state.apply(&seen(&state, firmware, Timestamp(5)).expect("new"));
        state.apply(&seen(&state, sighting(Stage::Script), Timestamp(9)).expect("a new stage"));
        let machine = state.machines.find(Mac::new([2, 0, 0, 0, 0, 1])).expect("seen");
        assert_eq!(machine.architecture, Some(Architecture::X64Uefi));
        assert_eq!((machine.first_seen, machine.waiting_since), (Timestamp(5), Timestamp(5)));
        assert_eq!(machine.last_seen, Timestamp(9));
    }
}
