//! A machine as it was seen on the network, or as the inventory lists it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Architecture, Forbidden, Habits, LogicalId, Mac, MachineEvent, MachineState, Tags, Timestamp,
};

/// A machine that asked to boot from the network, or that the inventory lists.
/// Hosts that only want an address are none: nobody may reinstall them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The card that it asked with.
    pub mac: Mac,
    /// What its firmware says it is, once it has said so; else what the
    /// inventory says.
    pub architecture: Option<Architecture>,
    /// The SMBIOS UUID of option 97, lower case with hyphens, if it sent one.
    pub uuid: Option<String>,
    /// What the operator and the inventory say of it, for `Select`.
    pub labels: Tags,
    /// When it became known.
    pub first_seen: Timestamp,
    /// When it was last seen; written to disk once a minute at most. Nothing if
    /// it is only listed.
    pub last_seen: Option<Timestamp>,
    /// Since when it could be given out: the longest-waiting machine goes first.
    pub waiting_since: Timestamp,
    /// How far its present boot has come; nothing if it is only listed.
    pub stage: Option<Stage>,
    /// What it is to the pool.
    pub state: MachineState,
    /// Since when it is that.
    pub since: Timestamp,
    /// The group and the logical ID of its last instance, so that a pet finds the
    /// machine that it had.
    pub former: Option<(Option<String>, LogicalId)>,
    /// A word for people: why it is set aside, else what the inventory says. At
    /// most [`super::LONGEST_NOTE`] characters.
    pub note: Option<String>,
    /// What was learned of its firmware.
    #[serde(default)]
    pub habits: Habits,
}

/// A machine that waits asks every few seconds, and that it was seen is kept
/// once a minute: one that was silent for longer than this does not wait.
const STILL_WAITING: Duration = Duration::from_secs(90);

impl Machine {
    /// A machine that became known by this event; nothing if the event makes no
    /// machine known.
    #[must_use]
    pub fn first(mac: Mac, event: MachineEvent, now: Timestamp) -> Option<Self> {
        Some(Self {
            mac,
            architecture: None,
            uuid: None,
            labels: Tags::new(),
            first_seen: now,
            last_seen: None,
            waiting_since: now,
            stage: None,
            state: MachineState::first(event)?,
            since: now,
            former: None,
            note: None,
            habits: Habits::default(),
        })
    }

    /// The machine after an event.
    ///
    /// # Errors
    ///
    /// [`Forbidden`] if the event must not happen to it.
    pub fn after(&self, event: MachineEvent, now: Timestamp) -> Result<Self, Forbidden> {
        let state = self.state.after(event)?;
        if state == self.state {
            return Ok(self.clone());
        }
        let comes_free = state.is_available() && !self.state.is_available();
        let waiting_since = if comes_free { now } else { self.waiting_since };
        let is_aside = matches!(self.state, MachineState::SetAside | MachineState::Retiring);
        // Why it was set aside holds no longer.
        let is_freed = is_aside && event == MachineEvent::Freed;
        let note = self.note.clone().filter(|_| !is_freed);
        Ok(Self { state, since: now, waiting_since, note, ..self.clone() })
    }

    /// Whether it sits in the hold script, as far as can be told: a machine that
    /// was switched off there is silent.
    #[must_use]
    pub fn waits(&self, now: Timestamp) -> bool {
        let asked = self.last_seen.is_some_and(|last| now.since(last) <= STILL_WAITING);
        self.state == MachineState::Held && asked
    }

    /// Its state for people: one that does not wait any more is not shown as held.
    #[must_use]
    pub fn shown_state(&self, now: Timestamp) -> MachineState {
        match self.state {
            MachineState::Held if !self.waits(now) => MachineState::Free,
            state => state,
        }
    }
}

/// How far a boot has come, by what the machine asked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Its firmware asked by DHCP.
    Firmware,
    /// Its firmware fetched a boot program, of which nothing was heard yet.
    Loader,
    /// iPXE asked by DHCP.
    Ipxe,
    /// It was told to wait and ask again.
    Holding,
    /// It was given the script of its instance.
    Script,
    /// It fetched the kernel.
    Kernel,
    /// It was told to boot from its own disk.
    Local,
}

impl Stage {
    /// Its name in Describe and in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Loader => "loader",
            Self::Ipxe => "ipxe",
            Self::Holding => "holding",
            Self::Script => "script",
            Self::Kernel => "kernel",
            Self::Local => "local",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    #[test]
    fn a_machine_that_comes_free_waits_behind_all_others_and_else_keeps_its_place() {
        let held = Machine::first(MAC, MachineEvent::Waited, Timestamp(5)).expect("known");
        let seen = held.after(MachineEvent::Asked, Timestamp(7)).expect("it may");
        assert_eq!((seen.since, seen.waiting_since), (Timestamp(7), Timestamp(5)));
        let taken = seen.after(MachineEvent::Chosen, Timestamp(8)).expect("it may");
        let released = taken.after(MachineEvent::Destroyed, Timestamp(9)).expect("it may");
        let held = released.after(MachineEvent::Waited, Timestamp(11)).expect("it may");
        assert_eq!((held.since, held.waiting_since), (Timestamp(11), Timestamp(11)));
    }

    #[test]
    fn the_reason_of_a_set_aside_machine_goes_when_it_is_freed() {
        let free = Machine::first(MAC, MachineEvent::Listed, Timestamp(5)).expect("known");
        let noted = Machine { note: Some("by the door".to_owned()), ..free };
        let same = noted.after(MachineEvent::Freed, Timestamp(6)).expect("it may");
        assert_eq!(same, noted);
        let aside = noted.after(MachineEvent::SetAside, Timestamp(7)).expect("it may");
        assert_eq!(aside.note, noted.note);
        let freed = aside.after(MachineEvent::Freed, Timestamp(8)).expect("it may");
        assert_eq!((freed.state, freed.note), (MachineState::Free, None));
    }

    #[test]
    fn a_machine_that_was_written_down_before_there_were_notes_or_habits_is_read() {
        let machine = Machine::first(MAC, MachineEvent::Asked, Timestamp(5)).expect("known");
        let mut row = serde_json::to_value(&machine).expect("JSON");
        for later in ["note", "habits"] {
            row.as_object_mut().expect("an object").remove(later);
        }
        assert_eq!(serde_json::from_value::<Machine>(row).expect("a machine"), machine);
    }

    #[test]
    fn who_was_silent_for_long_is_not_shown_as_held() {
        let mut held = Machine::first(MAC, MachineEvent::Waited, Timestamp(0)).expect("known");
        held.last_seen = Some(Timestamp(0));
        assert!(held.waits(Timestamp(90_000)) && !held.waits(Timestamp(90_001)));
        assert_eq!(held.shown_state(Timestamp(90_001)), MachineState::Free);
    }
}
