//! Leases that a crash has lost: of an address that an instance keeps, the ACK may leave
//! before its lease is on disk.
//!
//! The reservation, which is on disk, says as well whose the address is; only until when
//! the machine may use it is known by the lease alone. So before such an ACK leaves it is
//! on disk by when all of them end ([`Change::Ahead`]). After a crash, until that moment,
//! an address that is kept counts as leased, and one that is no longer kept stays held.

use std::net::Ipv4Addr;

use super::State;
use crate::model::{Change, Lease, LeaseState, Mac, Timestamp};

impl State {
    /// Whether the reservation alone says that the address of this lease is its card's:
    /// it is kept for that machine, which has no other card.
    #[must_use]
    pub fn is_kept_for(&self, lease: &Lease) -> bool {
        lease.state == LeaseState::Bound
            && self.addresses.reserved_for(lease.address) == Some(lease.mac)
            && self.machines.cards_of(lease.mac).eq([lease.mac])
    }

    /// The machine that may use this address by a lease which was lost.
    pub(super) fn may_have_lost(&self, address: Ipv4Addr, now: Timestamp) -> Option<Mac> {
        let is_over = now >= self.addresses.lost_until();
        self.addresses.reserved_for(address).filter(|_| !is_over)
    }

    /// The lease that this change leaves behind in this state, and that nobody has
    /// written down: a machine that loses its reservation, which lives as long as its
    /// instance, may use its address until the end of a lease which was lost.
    #[must_use]
    pub fn left_behind(&self, change: &Change) -> Option<Change> {
        let Change::Destroyed(destroyed) = change else { return None };
        let (now, expires) = (destroyed.at, self.addresses.lost_until());
        let before = self.instances.find(destroyed.id)?;
        let address = before.address?;
        let known = self.addresses.lease(address).filter(|lease| lease.is_held(now));
        if now >= expires || known.is_some_and(|lease| lease.expires >= expires) {
            return None;
        }
        let (mac, state) = (before.mac, LeaseState::Bound);
        let lease = known.copied().unwrap_or(Lease { address, mac, state, expires });
        Some(Change::Lease(Lease { expires, ..lease }))
    }
}
