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
    /// Named in an OFFER, kept back for a moment; not on disk.
    Offered,
    /// Acknowledged.
    Bound,
    /// Given back, or never asked for again; free for anyone.
    Released,
    /// A machine found somebody else using it: nobody gets it.
    Declined,
}

impl Lease {
    /// Whether nobody else may be given the address at `now`.
    #[must_use]
    pub fn is_held(&self, now: Timestamp) -> bool {
        match self.state {
            LeaseState::Offered | LeaseState::Bound | LeaseState::Declined => now < self.expires,
            LeaseState::Released => false,
        }
    }

    /// Whether the machine may use the address at `now`.
    #[must_use]
    pub fn is_bound(&self, now: Timestamp) -> bool {
        self.state == LeaseState::Bound && now < self.expires
    }
}

/// The addresses that may be given to machines without a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The lowest of them.
    pub first: Ipv4Addr,
    /// The highest of them.
    pub last: Ipv4Addr,
    /// Those between that belong to somebody: the server, the router.
    pub except: Vec<Ipv4Addr>,
}

impl Pool {
    /// Whether the address may be given to a machine without a reservation.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address) && !self.except.contains(&address)
    }

    /// All of them, lowest first.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        (u32::from(self.first)..=u32::from(self.last))
            .map(Ipv4Addr::from)
            .filter(|address| !self.except.contains(address))
    }
}
