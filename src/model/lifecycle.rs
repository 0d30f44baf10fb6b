//! The states of a machine and of an instance, and every way from one to another.
//!
//! Written down here and nowhere else. A state changes by an event, an event is
//! something that was seen or said, and what is not in a table here cannot
//! happen: it is refused with the state and the event named.
//!
//! ```text
//! machine                                          instance
//!            asks                 waits                        script
//!  (unknown) ────> Seen <───────> Held              Provisioning ──> Booting <─┐
//!      │ listed      │ │   asks    │                     │             │ ready │ script
//!      └───> Free ───┤ └─────┬─────┘                     │ ready       ▼       │
//!        ^           │ provision                         └────────> Running ───┤
//!        │ freed     ▼       ▼                               failed / gave up  │
//!  SetAside <──── Releasing <── Assigned                             └─> Failed ┘
//!                            destroy
//! ```

use serde::{Deserialize, Serialize};

/// What a machine is to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineState {
    /// It asked to boot, and does not wait in the hold script now: it is on its
    /// way there, or runs what machines run that no instance claims.
    #[default]
    Seen,
    /// It waits in the hold script, and boots as soon as it is provisioned.
    Held,
    /// It may be given out, but was not seen to wait: listed in the inventory, or
    /// let go by the operator.
    Free,
    /// An instance has it.
    Assigned,
    /// An instance has it, and when that is destroyed it is set aside.
    Retiring,
    /// Its instance was destroyed, but it may still run what it ran. The pool has
    /// it back when it waits again or the operator says so; who names it may have
    /// it at once.
    Releasing,
    /// The operator has taken it out: nobody is given it.
    SetAside,
}

/// What changes the state of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MachineEvent {
    /// Its firmware or iPXE asked by DHCP.
    Asked,
    /// It was given the hold script.
    Waited,
    /// It was given the image of machines that no instance claims.
    BootedUnclaimed,
    /// The inventory lists it.
    Listed,
    /// A Provision that names no machine chose it.
    Chosen,
    /// A Provision names it, by MAC, by logical ID or by the address it has.
    Named,
    /// Its instance was destroyed.
    Destroyed,
    /// The operator gives it back to the pool.
    Freed,
    /// The operator takes it out of the pool.
    SetAside,
}

/// A step that must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a machine that is {} cannot be {}", state.name(), event.name())]
pub struct Forbidden {
    /// Where it is.
    pub state: MachineState,
    /// What must not happen there.
    pub event: MachineEvent,
}

impl MachineState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Seen,
        Self::Held,
        Self::Free,
        Self::Assigned,
        Self::Retiring,
        Self::Releasing,
        Self::SetAside,
    ];

    /// Its name towards people and controllers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Held => "held",
            Self::Free => "free",
            Self::Assigned => "assigned",
            Self::Retiring => "retiring",
            Self::Releasing => "releasing",
            Self::SetAside => "set-aside",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether a Provision that names no machine may choose it.
    #[must_use]
    pub const fn is_available(self) -> bool {
        matches!(self, Self::Seen | Self::Held | Self::Free)
    }

    /// The state of a machine that was not known before the event; nothing if
    /// the event makes no machine known.
    #[must_use]
    pub const fn first(event: MachineEvent) -> Option<Self> {
        match event {
            MachineEvent::Asked | MachineEvent::BootedUnclaimed => Some(Self::Seen),
            MachineEvent::Waited => Some(Self::Held),
            MachineEvent::Listed => Some(Self::Free),
            MachineEvent::Chosen
            | MachineEvent::Named
            | MachineEvent::Destroyed
            | MachineEvent::Freed
            | MachineEvent::SetAside => None,
        }
    }

    /// The state after the event.
    ///
    /// # Errors
    ///
    /// [`Forbidden`] if the event must not happen in this state.
    pub const fn after(self, event: MachineEvent) -> Result<Self, Forbidden> {
        use MachineEvent as Event;
        Ok(match (self, event) {
            // What it does shows where it is, as long as the pool has it.
            (Self::Seen | Self::Held | Self::Free, Event::Asked | Event::BootedUnclaimed) => {
                Self::Seen
            }
            (Self::Seen | Self::Held | Self::Free | Self::Releasing, Event::Waited) => Self::Held,
            // Asking by DHCP does not show that the old system is gone for good;
            // the hold script and another image do.
            (Self::Releasing, Event::Asked) => Self::Releasing,
            (Self::Releasing, Event::BootedUnclaimed) => Self::Seen,
            (Self::Assigned, Event::Asked | Event::Waited | Event::BootedUnclaimed) => {
                Self::Assigned
            }
            (Self::Retiring, Event::Asked | Event::Waited | Event::BootedUnclaimed) => {
                Self::Retiring
            }
            (Self::SetAside, Event::Asked | Event::Waited | Event::BootedUnclaimed) => {
                Self::SetAside
            }
            // The inventory says that it is there, and nothing of what it does.
            (_, Event::Listed) => self,
            (Self::Seen | Self::Held | Self::Free, Event::Chosen | Event::Named)
            | (Self::Releasing, Event::Named) => Self::Assigned,
            (Self::Assigned, Event::Destroyed) => Self::Releasing,
            (Self::Retiring, Event::Destroyed) => Self::SetAside,
            (Self::Seen | Self::Held | Self::Free, Event::Freed) => self,
            (Self::Releasing | Self::SetAside, Event::Freed) => Self::Free,
            (Self::Retiring, Event::Freed) => Self::Assigned,
            (
                Self::Seen | Self::Held | Self::Free | Self::Releasing | Self::SetAside,
                Event::SetAside,
            ) => Self::SetAside,
            (Self::Assigned | Self::Retiring, Event::SetAside) => Self::Retiring,
            (Self::Releasing, Event::Chosen)
            | (Self::Assigned | Self::Retiring | Self::SetAside, Event::Chosen | Event::Named)
            | (Self::Assigned, Event::Freed)
            | (
                Self::Seen | Self::Held | Self::Free | Self::Releasing | Self::SetAside,
                Event::Destroyed,
            ) => return Err(Forbidden { state: self, event }),
        })
    }
}

impl MachineEvent {
    /// What has happened to a machine, as in "a machine cannot be ...".
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asked => "seen",
            Self::Waited => "held",
            Self::BootedUnclaimed => "booted unclaimed",
            Self::Listed => "listed",
            Self::Chosen => "given out",
            Self::Named => "provisioned",
            Self::Destroyed => "released",
            Self::Freed => "freed",
            Self::SetAside => "set aside",
        }
    }
}

/// How far an instance has come, each from evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// It is promised a machine, which has not asked for it yet.
    #[default]
    Provisioning,
    /// Its machine was given its script.
    Booting,
    /// Its machine has reported in, for this instance.
    Running,
    /// Its machine has reported a failure, or was booted too often in vain.
    Failed,
}

/// What changes the state of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstanceEvent {
    /// Its machine was given its script.
    Script,
    /// Its machine reports that it is ready.
    Ready,
    /// Its machine reports that it has failed.
    Failed,
    /// Its machine was booted too often without a report, and is not booted again.
    GaveUp,
}

impl InstanceState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Provisioning, Self::Booting, Self::Running, Self::Failed];

    /// Its name towards people and controllers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Booting => "booting",
            Self::Running => "running",
            Self::Failed => "failed",
        }
    }

    /// The state after the event; nothing if the event must not happen in this
    /// state, and changes nothing then.
    #[must_use]
    pub const fn after(self, event: InstanceEvent) -> Option<Self> {
        Some(match (self, event) {
            // Also of what runs: its machine was started again.
            (_, InstanceEvent::Script) => Self::Booting,
            // Also without a script: that it was given may have been forgotten in a
            // crash, and the report's URL is known from nothing else.
            (_, InstanceEvent::Ready) => Self::Running,
            (_, InstanceEvent::Failed) => Self::Failed,
            (Self::Booting | Self::Failed, InstanceEvent::GaveUp) => Self::Failed,
            // What was never booted, or has reported in, is not given up.
            (Self::Provisioning | Self::Running, InstanceEvent::GaveUp) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use InstanceState::{Booting, Failed, Provisioning, Running};
    use MachineEvent as Event;
    use MachineState::{Assigned, Free, Held, Releasing, Retiring, Seen, SetAside};

    /// For each event, what it makes of each state, in the order of `ALL`;
    /// nothing where it must not happen.
    const MACHINE: [(Event, [Option<MachineState>; 7]); 9] = [
        (
            Event::Asked,
            [
                Some(Seen),
                Some(Seen),
                Some(Seen),
                Some(Assigned),
                Some(Retiring),
                Some(Releasing),
                Some(SetAside),
            ],
        ),
        (
            Event::Waited,
            [
                Some(Held),
                Some(Held),
                Some(Held),
                Some(Assigned),
                Some(Retiring),
                Some(Held),
                Some(SetAside),
            ],
        ),
        (
            Event::BootedUnclaimed,
            [
                Some(Seen),
                Some(Seen),
                Some(Seen),
                Some(Assigned),
                Some(Retiring),
                Some(Seen),
                Some(SetAside),
            ],
        ),
        (
            Event::Listed,
            [
                Some(Seen),
                Some(Held),
                Some(Free),
                Some(Assigned),
                Some(Retiring),
                Some(Releasing),
                Some(SetAside),
            ],
        ),
        (Event::Chosen, [Some(Assigned), Some(Assigned), Some(Assigned), None, None, None, None]),
        (
            Event::Named,
            [Some(Assigned), Some(Assigned), Some(Assigned), None, None, Some(Assigned), None],
        ),
        (Event::Destroyed, [None, None, None, Some(Releasing), Some(SetAside), None, None]),
        (
            Event::Freed,
            [Some(Seen), Some(Held), Some(Free), None, Some(Assigned), Some(Free), Some(Free)],
        ),
        (
            Event::SetAside,
            [
                Some(SetAside),
                Some(SetAside),
                Some(SetAside),
                Some(Retiring),
                Some(Retiring),
                Some(SetAside),
                Some(SetAside),
            ],
        ),
    ];

    #[test]
    fn every_step_of_a_machine_is_the_one_that_is_written_down() {
        for (event, states) in MACHINE {
            for (before, after) in MachineState::ALL.into_iter().zip(states) {
                assert_eq!(before.after(event).ok(), after, "{before:?} {event:?}");
            }
        }
    }

    #[test]
    fn a_machine_becomes_known_by_what_it_does_or_by_the_inventory_alone() {
        for (event, _) in MACHINE {
            let expected = match event {
                Event::Asked | Event::BootedUnclaimed => Some(Seen),
                Event::Waited => Some(Held),
                Event::Listed => Some(Free),
                _ => None,
            };
            assert_eq!(MachineState::first(event), expected, "{event:?}");
        }
    }

    #[test]
    fn a_step_that_must_not_be_is_named() {
        let error = SetAside.after(Event::Chosen).expect_err("it must not");
        assert_eq!(error.to_string(), "a machine that is set-aside cannot be given out");
    }

    #[test]
    fn only_what_is_available_is_chosen() {
        for state in MachineState::ALL {
            assert_eq!(state.is_available(), state.after(Event::Chosen).is_ok(), "{state:?}");
        }
    }

    #[test]
    fn every_step_of_an_instance_is_the_one_that_is_written_down() {
        for (event, states) in [
            (InstanceEvent::Script, [Some(Booting); 4]),
            (InstanceEvent::Ready, [Some(Running); 4]),
            (InstanceEvent::Failed, [Some(Failed); 4]),
            (InstanceEvent::GaveUp, [None, Some(Failed), None, Some(Failed)]),
        ] {
            for (before, after) in InstanceState::ALL.into_iter().zip(states) {
                assert_eq!(before.after(event), after, "{before:?} {event:?}");
            }
        }
        assert_eq!(InstanceState::ALL, [Provisioning, Booting, Running, Failed]);
    }
}
