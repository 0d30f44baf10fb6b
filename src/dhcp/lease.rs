//! Which address a machine gets, keeps, or must give up. Pure.
//!
//! One address for each MAC in each network: along one boot the same machine
//! asks as firmware without a client identifier, as iPXE with one, and as an
//! operating system with another, and must get the same address each time.

use std::{net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;

use crate::{
    model::{Change, Lease, LeaseState, Mac, Seconds, Timestamp},
    state::State,
};

/// A machine on a network, at a moment.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) state: &'a State,
    pub(super) network: Ipv4Net,
    pub(super) mac: Mac,
    pub(super) now: Timestamp,
    /// Whether it was started just now: its firmware asks, and nothing runs that has
    /// an address by another of its cards.
    pub(super) starts: bool,
}

/// What holds of an address that a machine asks to have or to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may have it.
    Good,
    /// It must not have it, and we know the machine or were asked by name.
    Bad,
    /// We know nothing of the machine: it may be another server's.
    Unknown,
}

impl Place<'_> {
    /// The address to offer: what the machine's instance reserves; else what it
    /// had; else what it wishes; else a free one. Nothing if the pool is full.
    pub(super) fn to_offer(self, wanted: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let addresses = &self.state.addresses;
        let reserved = self.reserved().filter(|address| self.is_open(*address));
        let had = || {
            let last = self.last().filter(|lease| lease.state != LeaseState::Declined)?;
            let is_free = addresses.in_pool(last.address) && self.is_open(last.address);
            is_free.then_some(last.address)
        };
        reserved.or_else(had).or_else(|| addresses.free(self.network, wanted, self.now))
    }

    /// Whether somebody may use the address whom we know nothing of: it was not
    /// this machine's until now. Where we could tell the machine from others
    /// (`by_card`), also if it was, but is no longer.
    pub(super) fn is_doubtful(self, address: Ipv4Addr, by_card: bool) -> bool {
        let lease = self.state.addresses.lease(address).filter(|lease| lease.mac == self.mac);
        lease.is_none_or(|lease| match lease.state {
            LeaseState::Probing | LeaseState::Declined => true,
            LeaseState::Offered | LeaseState::Bound | LeaseState::Released => {
                by_card && !lease.is_held(self.now)
            }
        })
    }

    /// The change that keeps an address back while we ask whether it is used.
    pub(super) fn probing(self, address: Ipv4Addr, hold: Duration) -> Change {
        let expires = self.now.after(hold);
        Change::Lease(Lease { address, mac: self.mac, state: LeaseState::Probing, expires })
    }

    /// The change that sets an address aside that somebody was found to use, if
    /// it was this machine for which it was looked at.
    pub(super) fn squatted(self, address: Ipv4Addr, hold: Duration) -> Option<Change> {
        let lease = self.state.addresses.lease(address).filter(|lease| lease.mac == self.mac)?;
        let expires = self.now.after(hold);
        let declined = Lease { state: LeaseState::Declined, expires, ..*lease };
        (lease.state == LeaseState::Probing).then_some(Change::Lease(declined))
    }

    /// The change that keeps an offered address back; none if it is bound to the
    /// machine already, since an offer must not shorten a lease.
    pub(super) fn offered(self, address: Ipv4Addr, hold: Duration) -> Option<Change> {
        let Self { state, mac, now, .. } = self;
        let bound = state.addresses.lease(address).is_some_and(|lease| lease.is_bound(now));
        let expires = now.after(hold);
        let offer = Lease { address, mac, state: LeaseState::Offered, expires };
        (!bound).then_some(Change::Lease(offer))
    }

    /// The changes that give the machine the address, and take from it what it
    /// had before in this network.
    pub(super) fn bound(self, address: Ipv4Addr, expires: Timestamp) -> Vec<Change> {
        let before = self.state.addresses.leases_of(self.mac).filter(|lease| {
            let is_here = self.network.contains(&lease.address);
            is_here && lease.address != address && lease.state == LeaseState::Bound
        });
        let given_up =
            before.map(|lease| Change::Lease(Lease { state: LeaseState::Released, ..*lease }));
        let lease = Lease { address, mac: self.mac, state: LeaseState::Bound, expires };
        given_up.chain([Change::Lease(lease)]).collect()
    }

    /// What is left of the machine's lease of the address, if that is more than three
    /// quarters of `full`: then it is told what is left, and nothing need be written.
    /// A machine that boots asks three times within a minute. (The same is known from
    /// ISC dhcpd as `dhcp-cache-threshold`.)
    pub(super) fn young(self, address: Ipv4Addr, full: Seconds) -> Option<Seconds> {
        let mut bound = self.state.addresses.leases_of(self.mac).filter(|lease| {
            self.network.contains(&lease.address) && lease.state == LeaseState::Bound
        });
        let (lease, other) = (bound.next()?, bound.next());
        let left = Duration::from(full).min(lease.expires.since(self.now)).as_secs();
        let is_young = left > u64::from(full.0) * 3 / 4;
        let is_it = lease.address == address && other.is_none();
        (is_it && is_young).then(|| u32::try_from(left).map(Seconds).ok()).flatten()
    }

    /// Of an address that the machine chose from our offers.
    ///
    /// An offer that lapsed, or was forgotten by a restart, still holds as long as
    /// nobody else has the address: UEFI gives up the boot at a NAK.
    pub(super) fn selected(self, address: Ipv4Addr) -> Standing {
        let addresses = &self.state.addresses;
        let is_ours = addresses.in_pool(address)
            || self.reserved() == Some(address)
            || addresses.lease(address).is_some_and(|lease| lease.mac == self.mac);
        let is_here = self.network.contains(&address);
        if is_here && is_ours && self.is_open(address) { Standing::Good } else { Standing::Bad }
    }

    /// Of an address that the machine says it has (RENEWING, REBINDING) or had
    /// (INIT-REBOOT).
    pub(super) fn kept(self, address: Ipv4Addr) -> Standing {
        let Self { state, mac, now, .. } = self;
        if !self.network.contains(&address) {
            // It moved here with an address that we gave it elsewhere (RFC 2131
            // §4.3.2): refused, it asks for one of this network.
            let lease = state.addresses.lease(address);
            let is_ours = lease.is_some_and(|lease| lease.mac == mac && lease.is_bound(now));
            return if is_ours { Standing::Bad } else { self.kept_here(address) };
        }
        self.kept_here(address)
    }

    fn kept_here(self, address: Ipv4Addr) -> Standing {
        // An offer that it did not take, a lease that has expired or an address that
        // it gave back says nothing of another one: it may be another server's (RFC
        // 2131 §4.3.2).
        let last = self.last().filter(|lease| match lease.state {
            LeaseState::Bound
            | LeaseState::Offered
            | LeaseState::Probing
            | LeaseState::Released => lease.address == address || lease.is_bound(self.now),
            LeaseState::Declined => false,
        });
        let reserved = self.reserved();
        if last.is_none() && reserved.is_none() {
            return Standing::Unknown;
        }
        // Whichever card asks first gets what is reserved for the machine; another keeps
        // the address that it has.
        let is_further = self.state.machines.of_card(self.mac) != self.mac;
        let is_its_own = match reserved {
            Some(reserved) if reserved == address || !is_further => reserved == address,
            Some(_) | None => last.is_some_and(|lease| lease.address == address),
        };
        if is_its_own && self.is_open(address) { Standing::Good } else { Standing::Bad }
    }

    /// The change of a machine that gives back or complains about an address;
    /// none if the address is not its own to speak of.
    pub(super) fn ended(
        self,
        address: Ipv4Addr,
        (new_state, expires): (LeaseState, Timestamp),
    ) -> Option<Change> {
        let lease = self.state.addresses.lease(address).filter(|lease| lease.mac == self.mac)?;
        let is_live = match lease.state {
            LeaseState::Probing | LeaseState::Offered | LeaseState::Bound => true,
            LeaseState::Released | LeaseState::Declined => false,
        };
        is_live.then_some(Change::Lease(Lease { state: new_state, expires, ..*lease }))
    }

    /// The address that the machine's instance reserves, if it is of this network and
    /// no other of the machine's cards has it.
    fn reserved(self) -> Option<Ipv4Addr> {
        let machine = self.state.machines.of_card(self.mac);
        let reserved = self.state.addresses.reservation_of(machine);
        reserved.filter(|address| self.network.contains(address) && !self.is_siblings(*address))
    }

    /// Whether another card of the same machine has the address: two cards must not
    /// have one at a time.
    fn is_siblings(self, address: Ipv4Addr) -> bool {
        let lease = self.state.addresses.lease(address);
        let held = lease.filter(|lease| lease.mac != self.mac && lease.is_held(self.now));
        !self.starts && held.is_some()
    }

    fn last(&self) -> Option<&Lease> {
        self.state.addresses.last_in(self.network, self.mac)
    }

    fn is_open(self, address: Ipv4Addr) -> bool {
        !self.is_siblings(address) && self.state.is_open_to(self.mac, address, self.now)
    }
}
