//! Who has which address: leases, reservations, and what is left to give.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
};

use crate::model::{Lease, LeaseState, Mac, Pool, Timestamp};

/// The addresses of the subnet, and whom they belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    pool: Option<Pool>,
    leases: HashMap<Ipv4Addr, Lease>,
    last_of: HashMap<Mac, Ipv4Addr>,
    /// The address that the machine was given last and has not given back. An offer
    /// of another one, which it may never take, changes nothing of that.
    bound_to: HashMap<Mac, Ipv4Addr>,
    reserved: HashMap<Ipv4Addr, Mac>,
    reservation_of: HashMap<Mac, Ipv4Addr>,
    /// Pool addresses that were never leased and are not reserved.
    fresh: BTreeSet<Ipv4Addr>,
    /// Pool addresses that were leased once and are not reserved, by the time
    /// from which they may be given to somebody else.
    used: BTreeSet<(Timestamp, Ipv4Addr)>,
}

impl Addresses {
    pub(super) fn new(pool: Option<Pool>) -> Self {
        let fresh = pool.iter().flat_map(Pool::addresses).collect();
        Self {
            pool,
            leases: HashMap::new(),
            last_of: HashMap::new(),
            bound_to: HashMap::new(),
            reserved: HashMap::new(),
            reservation_of: HashMap::new(),
            fresh,
            used: BTreeSet::new(),
        }
    }

    /// What was last said about an address.
    #[must_use]
    pub fn lease(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.leases.get(&address)
    }

    /// Every lease, also expired ones, in no order.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// The lease that this machine was given last, if nobody else has the
    /// address since; it may have expired.
    #[must_use]
    pub fn last_of(&self, mac: Mac) -> Option<&Lease> {
        let lease = self.leases.get(self.last_of.get(&mac)?)?;
        (lease.mac == mac).then_some(lease)
    }

    /// The lease by which this machine has its address, also while it is offered
    /// another one; it may have expired.
    #[must_use]
    pub fn bound_to(&self, mac: Mac) -> Option<&Lease> {
        self.leases.get(self.bound_to.get(&mac)?)
    }

    /// The machine that the address is reserved for by an instance.
    #[must_use]
    pub fn reserved_for(&self, address: Ipv4Addr) -> Option<Mac> {
        self.reserved.get(&address).copied()
    }

    /// The address that is reserved for this machine by its instance.
    #[must_use]
    pub fn reservation_of(&self, mac: Mac) -> Option<Ipv4Addr> {
        self.reservation_of.get(&mac).copied()
    }

    /// Whether the address is one of the pool's.
    #[must_use]
    pub fn in_pool(&self, address: Ipv4Addr) -> bool {
        self.pool.as_ref().is_some_and(|pool| pool.contains(address))
    }

    /// Whether `mac` may be given this address: it is not reserved for another
    /// machine, and nobody else holds it at `now`.
    #[must_use]
    pub fn is_open_to(&self, mac: Mac, address: Ipv4Addr, now: Timestamp) -> bool {
        let reserved_elsewhere = self.reserved_for(address).is_some_and(|owner| owner != mac);
        let held_elsewhere = self.lease(address).is_some_and(|lease| {
            // A declined address is nobody's, not even of the machine that declined it.
            let is_own = lease.mac == mac && lease.state != LeaseState::Declined;
            lease.is_held(now) && !is_own
        });
        !reserved_elsewhere && !held_elsewhere
    }

    /// An address of the pool that nobody has: the wanted one if it is free;
    /// else the lowest that was never leased; else the one that expired first.
    #[must_use]
    pub fn free(&self, wanted: Option<Ipv4Addr>, now: Timestamp) -> Option<Ipv4Addr> {
        let is_free = |address: &Ipv4Addr| {
            let held = self.lease(*address).is_some_and(|lease| lease.is_held(now));
            self.in_pool(*address) && !held && self.reserved_for(*address).is_none()
        };
        let expired =
            || self.used.first().filter(|(from, _)| *from <= now).map(|(_, address)| *address);
        wanted.filter(is_free).or_else(|| self.fresh.first().copied()).or_else(expired)
    }

    pub(super) fn put(&mut self, lease: Lease) {
        self.forget_index(lease.address);
        if let Some(before) = self.leases.insert(lease.address, lease)
            && self.bound_to.get(&before.mac) == Some(&lease.address)
        {
            self.bound_to.remove(&before.mac);
        }
        if lease.state == LeaseState::Bound {
            self.bound_to.insert(lease.mac, lease.address);
        }
        self.last_of.insert(lease.mac, lease.address);
        self.index(lease.address);
    }

    pub(super) fn reserve(&mut self, mac: Mac, address: Ipv4Addr) {
        self.unreserve(mac);
        if let Some(owner) = self.reserved.insert(address, mac) {
            self.reservation_of.remove(&owner);
        }
        self.reservation_of.insert(mac, address);
        self.forget_index(address);
    }

    pub(super) fn unreserve(&mut self, mac: Mac) {
        if let Some(address) = self.reservation_of.remove(&mac) {
            self.reserved.remove(&address);
            self.index(address);
        }
    }

    fn forget_index(&mut self, address: Ipv4Addr) {
        self.fresh.remove(&address);
        if let Some(lease) = self.leases.get(&address) {
            self.used.remove(&(reusable_from(lease), address));
        }
    }

    fn index(&mut self, address: Ipv4Addr) {
        if !self.in_pool(address) || self.reserved.contains_key(&address) {
            return;
        }
        match self.leases.get(&address) {
            Some(lease) => self.used.insert((reusable_from(lease), address)),
            None => self.fresh.insert(address),
        };
    }

    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        for address in self.pool.iter().flat_map(Pool::addresses) {
            let lease = self.leases.get(&address);
            let reserved = self.reserved.contains_key(&address);
            assert_eq!(self.fresh.contains(&address), lease.is_none() && !reserved, "{address}");
            let listed: Vec<_> = self.used.iter().filter(|(_, used)| *used == address).collect();
            match lease {
                Some(lease) if !reserved => assert_eq!(listed, [&(reusable_from(lease), address)]),
                Some(_) | None => assert!(listed.is_empty(), "{address}"),
            }
        }
        for (mac, address) in &self.bound_to {
            let lease = self.leases[address];
            assert_eq!((lease.mac, lease.state), (*mac, LeaseState::Bound), "{address}");
        }
        let pairs: HashMap<Ipv4Addr, Mac> =
            self.reservation_of.iter().map(|(mac, address)| (*address, *mac)).collect();
        assert_eq!(pairs, self.reserved);
    }
}

/// From when somebody else may have the address of this lease.
fn reusable_from(lease: &Lease) -> Timestamp {
    match lease.state {
        LeaseState::Released => Timestamp(0),
        LeaseState::Offered | LeaseState::Bound | LeaseState::Declined => lease.expires,
    }
}
