//! A machine as it was seen on the network, or as the inventory lists it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Architecture, Forbidden, Habits, Identity, LocalBoot, LogicalId, Mac, MachineEvent,
    MachineState, Overlay, Port, Rare, Rate, Tags, Timestamp, Treatment, Usual, VlanId,
};

/// A machine that asked to boot from the network, or that the inventory lists.
/// Hosts that only want an address are none: nobody may reinstall them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name: the card that it was seen with first, or that it is listed by.
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
    pub habits: Rare<Habits>,
    /// Whether somebody has spoken of it: it is listed, an instance had it, or the
    /// operator freed it or set it aside. See [`Machine::is_stranger`].
    #[serde(default)]
    pub enrolled: bool,
    /// What it was told when it asked last and no instance had it.
    #[serde(default)]
    pub treatment: Option<Treatment>,
    /// How the inventory says that it is sent to its own disk.
    #[serde(default)]
    pub local_boot: Option<LocalBoot>,
    /// The VLAN that it loads over, from the inventory.
    #[serde(default)]
    pub vlan: Option<VlanId>,
    /// How fast it is sent to, from the inventory.
    #[serde(default)]
    pub pace: Option<Rate>,
    /// Its further cards, and what else it is known by.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub identity: Rare<Identity>,
    /// The boot programs that the inventory says of it, the first choice first; none
    /// if it says nothing.
    #[serde(default)]
    pub loaders: Vec<String>,
    /// What the inventory says that it is told by DHCP.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub dhcp: Rare<Overlay>,
}

/// A machine that waits asks every few seconds, and that it was seen is kept
/// once a minute: one that was silent for longer than this does not wait.
const STILL_WAITING: Duration = Duration::from_millis(Machine::STILL_WAITING_MILLISECONDS);

impl Machine {
    /// One that was silent for longer than this does not wait any more.
    pub const STILL_WAITING_MILLISECONDS: u64 = 90_000;

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
            habits: Rare::default(),
            enrolled: event == MachineEvent::Listed,
            treatment: None,
            local_boot: None,
            vlan: None,
            pace: None,
            identity: Rare::default(),
            loaders: Vec::new(),
            dhcp: Rare::default(),
        })
    }

    /// All its cards, the one that names it first.
    pub fn cards(&self) -> impl Iterator<Item = Mac> {
        [self.mac].into_iter().chain(self.identity.cards.iter().copied())
    }

    /// The card that it asked with last.
    #[must_use]
    pub fn asked_by(&self) -> Mac {
        self.identity.asked_by.unwrap_or(self.mac)
    }

    /// The port that it was seen behind last, if a relay said so: of the card that it
    /// asked with, else of any.
    #[must_use]
    pub fn port(&self) -> Option<&Port> {
        let ports = &self.identity.ports;
        ports.get(&self.asked_by()).or_else(|| ports.values().next())
    }

    /// The machine after an event.
    ///
    /// # Errors
    ///
    /// [`Forbidden`] if the event must not happen to it.
    pub fn after(&self, event: MachineEvent, now: Timestamp) -> Result<Self, Forbidden> {
        let state = self.state.after(event)?;
        let enrolled = self.enrolled || is_enrolment(event);
        if state == self.state {
            return Ok(Self { enrolled, ..self.clone() });
        }
        let comes_free = state.is_available() && !self.state.is_available();
        let waiting_since = if comes_free { now } else { self.waiting_since };
        let is_aside = matches!(self.state, MachineState::SetAside | MachineState::Retiring);
        // Why it was set aside holds no longer.
        let is_freed = is_aside && event == MachineEvent::Freed;
        let note = self.note.clone().filter(|_| !is_freed);
        Ok(Self { state, since: now, waiting_since, note, enrolled, ..self.clone() })
    }

    /// Whether it only turned up by itself: nobody has listed it, labelled it, freed
    /// it or set it aside, and no instance had it. A stranger may be anybody's.
    #[must_use]
    pub fn is_stranger(&self) -> bool {
        // Also of machines that were written down before `enrolled` was.
        let is_of_the_pool = match self.state {
            MachineState::Seen | MachineState::Held => false,
            MachineState::Free
            | MachineState::Assigned
            | MachineState::Retiring
            | MachineState::Releasing
            | MachineState::SetAside => true,
        };
        let is_spoken_of = self.enrolled || self.former.is_some() || self.note.is_some();
        !(is_of_the_pool || is_spoken_of || !self.labels.is_empty())
    }

    /// Whether a Provision that names no machine may take it: a stranger that is
    /// left alone by rule, or boots from its own disk, has something to lose.
    #[must_use]
    pub fn may_be_chosen(&self) -> bool {
        let is_left_alone = match self.treatment {
            Some(Treatment::Ignore | Treatment::Local) => true,
            Some(Treatment::Hold | Treatment::Image) | None => false,
        };
        self.state.is_available() && !(is_left_alone && self.is_stranger())
    }

    /// Whether it sits in the hold script, as far as can be told: a machine that
    /// was switched off there is silent.
    #[must_use]
    pub fn waits(&self, now: Timestamp) -> bool {
        let asked = self.last_seen.is_some_and(|last| now.since(last) <= STILL_WAITING);
        self.state == MachineState::Held && asked
    }

    /// Whether it stands before its firmware and has ignored every form of a proxy's
    /// offer.
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        self.habits.proxied.is_deaf && self.stage == Some(Stage::Firmware)
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

fn is_usual<T: Usual>(rare: &Rare<T>) -> bool {
    **rare == *T::USUAL
}

/// Whether by this event the machine becomes one of the pool's for good.
const fn is_enrolment(event: MachineEvent) -> bool {
    match event {
        MachineEvent::Asked | MachineEvent::Waited | MachineEvent::BootedUnclaimed => false,
        MachineEvent::Listed
        | MachineEvent::Chosen
        | MachineEvent::Named
        | MachineEvent::Destroyed
        | MachineEvent::Freed
        | MachineEvent::SetAside => true,
    }
}

/// How far a boot has come, by what the machine asked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Its firmware asked by DHCP.
    Firmware,
    /// It fetched a boot program.
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
        for later in
            ["note", "habits", "enrolled", "treatment", "local_boot", "vlan", "pace", "loaders"]
        {
            row.as_object_mut().expect("an object").remove(later);
        }
        assert_eq!(serde_json::from_value::<Machine>(row).expect("a machine"), machine);
    }

    #[test]
    fn who_only_turned_up_is_a_stranger_until_somebody_speaks_of_it() {
        let seen = Machine::first(MAC, MachineEvent::Asked, Timestamp(5)).expect("known");
        assert!(seen.is_stranger());
        let held = seen.after(MachineEvent::Waited, Timestamp(6)).expect("it may");
        assert!(held.is_stranger());
        for event in [
            MachineEvent::Listed,
            MachineEvent::Freed,
            MachineEvent::SetAside,
            MachineEvent::Chosen,
            MachineEvent::Named,
        ] {
            assert!(!held.after(event, Timestamp(7)).expect("it may").is_stranger(), "{event:?}");
        }
        let named = held.after(MachineEvent::Named, Timestamp(7)).expect("it may");
        let released = named.after(MachineEvent::Destroyed, Timestamp(8)).expect("it may");
        let again = released.after(MachineEvent::Waited, Timestamp(9)).expect("it may");
        assert!(!again.is_stranger(), "an instance had it");
        let labels = [("rack".to_owned(), "1".to_owned())].into();
        assert!(!Machine { labels, ..held }.is_stranger());
    }

    #[test]
    fn a_stranger_that_is_left_alone_is_taken_only_by_its_name() {
        let seen = Machine::first(MAC, MachineEvent::Asked, Timestamp(5)).expect("known");
        for (treatment, expected) in [
            (None, true),
            (Some(Treatment::Hold), true),
            (Some(Treatment::Image), true),
            (Some(Treatment::Local), false),
            (Some(Treatment::Ignore), false),
        ] {
            let machine = Machine { treatment, ..seen.clone() };
            assert_eq!(machine.may_be_chosen(), expected, "{treatment:?}");
            let freed = machine.after(MachineEvent::Freed, Timestamp(6)).expect("it may");
            assert!(freed.may_be_chosen(), "{treatment:?}");
            assert!(seen.after(MachineEvent::Named, Timestamp(6)).is_ok());
        }
    }

    #[test]
    fn who_was_silent_for_long_is_not_shown_as_held() {
        let mut held = Machine::first(MAC, MachineEvent::Waited, Timestamp(0)).expect("known");
        held.last_seen = Some(Timestamp(0));
        assert!(held.waits(Timestamp(90_000)) && !held.waits(Timestamp(90_001)));
        assert_eq!(held.shown_state(Timestamp(90_001)), MachineState::Free);
    }
}
