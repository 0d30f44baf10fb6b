//! Who has which address, and until when.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{Mac, Timestamp};

/// An address and what was said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The machine that it was offered to, is leased to, or was last leased to.
    pub mac: Mac,
    /// What holds of it until it expires.
    pub state: LeaseState,
    /// When the state ends. An expired lease is remembered, so that a machine
    /// which comes back finds its address, until another needs it.
    pub expires: Timestamp,
}

/// What holds of an address (RFC 2131 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseState {
    /// Kept back while we ask whether somebody uses it; not on disk.
    Probing,
    /// Named in an OFFER, kept back for a moment; not on disk.
    Offered,
    /// Acknowledged.
    Bound,
    /// Given back, or never asked for again; free for anyone.
    Released,
    /// We or a machine found somebody else using it: nobody gets it.
    Declined,
}

impl Lease {
    /// Whether nobody else may be given the address at `now`.
    #[must_use]
    pub fn is_held(&self, now: Timestamp) -> bool {
        match self.state {
            LeaseState::Probing
            | LeaseState::Offered
            | LeaseState::Bound
            | LeaseState::Declined => now < self.expires,
            LeaseState::Released => false,
        }
    }

    /// Whether it is forgotten when the daemon ends: nobody was promised it.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self.state {
            LeaseState::Probing | LeaseState::Offered => true,
            LeaseState::Bound | LeaseState::Released | LeaseState::Declined => false,
        }
    }

    /// Whether the machine may use the address at `now`.
    #[must_use]
    pub fn is_bound(&self, now: Timestamp) -> bool {
        self.state == LeaseState::Bound && now < self.expires
    }
}
