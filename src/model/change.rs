//! How anything becomes different.

use std::net::Ipv4Addr;

use super::{
    Destroyed, Instance, InstanceId, Lease, Lease6, Mac, Machine, Progress, Slot, Timestamp,
};

/// One thing that becomes different. Only `State::apply` carries it out, and
/// only the store writes it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The address has this lease from now on.
    Lease(Lease),
    /// The lease of the address holds as it is: nothing becomes different, and the
    /// answer waits until that lease is on disk.
    Kept(Ipv4Addr),
    /// Of an address that an instance keeps, an ACK whose lease ends by then may leave
    /// before that lease is on disk ([`crate::state::State::is_kept_for`]).
    Ahead(Timestamp),
    /// The IPv6 address has this lease from now on.
    Lease6(Lease6),
    /// The machine was seen like this.
    Seen(Machine),
    /// The machine is this from now on, since somebody said so.
    Machine(Machine),
    /// The places that there are, by their ports. Of the inventory, and so not on disk.
    Slots(Vec<Slot>),
    /// Nothing is known of the machine any more.
    Forgotten(Mac),
    /// The instance is new, or has new tags.
    Instance(Instance),
    /// The instance has come so far.
    Progress(InstanceId, Progress),
    /// The instance is gone.
    Destroyed(Destroyed),
}

impl Change {
    /// Whether somebody was promised it, so that no answer may leave before it
    /// is on disk. An offer is no promise, and neither is what we saw.
    #[must_use]
    pub fn is_promise(&self) -> bool {
        match self {
            Self::Lease(lease) => !lease.is_passing(),
            Self::Lease6(lease) => !lease.is_passing(),
            Self::Seen(_) | Self::Slots(_) => false,
            Self::Progress(_, progress) => progress.is_promise(),
            Self::Kept(_)
            | Self::Ahead(_)
            | Self::Machine(_)
            | Self::Forgotten(_)
            | Self::Instance(_)
            | Self::Destroyed(_) => true,
        }
    }
}

/// What a pure decision returns: what to say, and what becomes different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<Answer> {
    /// What to say.
    pub answer: Answer,
    /// What becomes different, in this order.
    pub changes: Vec<Change>,
}

impl<Answer> Decision<Answer> {
    /// An answer that changes nothing.
    pub const fn only(answer: Answer) -> Self {
        Self { answer, changes: Vec::new() }
    }

    /// An answer with one change.
    pub fn with(answer: Answer, change: Change) -> Self {
        Self { answer, changes: vec![change] }
    }
}
