//! Who has which IPv6 address, and until when.

use std::{fmt, net::Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{Duid, LeaseState, Mac, Timestamp};

/// Who holds an IPv6 address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holder {
    /// A machine, by its card: along one boot it has several DUIDs.
    Machine(Mac),
    /// A client that nothing tells the card of, by its name and its number for what
    /// has the address (IAID, RFC 8415 §12), since it has one for each card. It is
    /// no machine that boots.
    Client(Duid, u32),
}

impl Holder {
    /// The machine, if it is one.
    #[must_use]
    pub const fn machine(&self) -> Option<Mac> {
        match self {
            Self::Machine(mac) => Some(*mac),
            Self::Client(..) => None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(mac) => fmt::Display::fmt(mac, formatter),
            Self::Client(duid, association) => write!(formatter, "{duid}/{association}"),
        }
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// An IPv6 address and what was said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease6 {
    /// The address.
    pub address: Ipv6Addr,
    /// Who it was offered to, is leased to, or was last leased to.
    pub holder: Holder,
    /// Its number for what has the address, as it asked last (IAID, RFC 8415 §12).
    /// Firmware asks with several for one address, and gives back the older one.
    pub association: u32,
    /// What holds of it until it expires.
    pub state: LeaseState,
    /// When the state ends. An expired lease is remembered, as over IPv4. Of an
    /// address that was given back: until when its holder may still use it.
    pub expires: Timestamp,
}

impl Lease6 {
    /// Whether it is forgotten when the daemon ends: nobody was promised it.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self.state {
            LeaseState::Probing | LeaseState::Offered => true,
            LeaseState::Bound | LeaseState::Released | LeaseState::Declined => false,
        }
    }

    /// Whether nobody else may be given the address at `now`.
    #[must_use]
    pub fn is_held(&self, now: Timestamp) -> bool {
        now < self.expires
    }

    /// Whether its holder may use the address at `now`.
    #[must_use]
    pub fn is_bound(&self, now: Timestamp) -> bool {
        self.state == LeaseState::Bound && now < self.expires
    }

    /// Whether who asks from the address at `now` is its holder.
    #[must_use]
    pub fn is_used(&self, now: Timestamp) -> bool {
        matches!(self.state, LeaseState::Bound | LeaseState::Released) && now < self.expires
    }
}
