//! Who has which address: leases, reservations, and what is left to give.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use crate::model::{Lease, LeaseState, Mac, Pool, Timestamp};

/// The addresses of all subnets, and whom they belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// By their networks, of which no two overlap.
    stocks: Vec<Stock>,
    leases: HashMap<Ipv4Addr, Lease>,
    /// The addresses whose leases are a machine's, newest first, one in each
    /// network: the same card may be in several, by VLANs or by moving.
    of_machine: HashMap<Mac, Held>,
    reserved: HashMap<Ipv4Addr, Mac>,
    reservation_of: HashMap<Mac, Ipv4Addr>,
    /// By when all leases end that may be acknowledged and not on disk.
    ahead: Timestamp,
    /// The same as it was left by those that ran before: of what they acknowledged
    /// something may be lost.
    lost_until: Timestamp,
}

/// What there is to give in one network.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stock {
    pool: Pool,
    /// Pool addresses that were never leased and are not reserved.
    fresh: BTreeSet<Ipv4Addr>,
    /// Pool addresses that were leased once and are not reserved, by the time
    /// from which they may be given to somebody else.
    used: BTreeSet<(Timestamp, Ipv4Addr)>,
}

/// The addresses of a card: most have one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    One(Ipv4Addr),
    /// None, or several.
    Many(Box<[Ipv4Addr]>),
}

impl Held {
    fn all(&self) -> &[Ipv4Addr] {
        match self {
            Self::One(address) => std::slice::from_ref(address),
            Self::Many(addresses) => addresses,
        }
    }

    fn of(addresses: Vec<Ipv4Addr>) -> Self {
        match addresses[..] {
            [address] => Self::One(address),
            _ => Self::Many(addresses.into()),
        }
    }
}

impl Stock {
    /// What may be given at `now`, in the order in which it is.
    fn next(&self, now: Timestamp) -> impl Iterator<Item = Ipv4Addr> {
        let expired = self.used.iter().take_while(move |(from, _)| *from <= now);
        self.fresh.iter().copied().chain(expired.map(|(_, address)| *address))
    }
}

impl Addresses {
    pub(super) fn new(pools: impl IntoIterator<Item = Pool>) -> Self {
        let stock =
            |pool: Pool| Stock { fresh: pool.addresses().collect(), used: BTreeSet::new(), pool };
        let mut stocks: Vec<Stock> = pools.into_iter().map(stock).collect();
        stocks.sort_by_key(|stock| stock.pool.network.network());
        Self {
            stocks,
            leases: HashMap::new(),
            of_machine: HashMap::new(),
            reserved: HashMap::new(),
            reservation_of: HashMap::new(),
            ahead: Timestamp::default(),
            lost_until: Timestamp::default(),
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

    /// The leases that this machine was given last, if nobody else has the
    /// address since, newest first: in each network one, and all that it is bound
    /// to; they may have expired.
    pub fn leases_of(&self, mac: Mac) -> impl Iterator<Item = &Lease> {
        let addresses = self.of_machine.get(&mac).into_iter().flat_map(Held::all);
        addresses.filter_map(|address| self.leases.get(address))
    }

    /// The newest lease of this machine, in whichever network.
    #[must_use]
    pub fn last_of(&self, mac: Mac) -> Option<&Lease> {
        self.leases_of(mac).next()
    }

    /// The newest lease of this machine in this network.
    #[must_use]
    pub fn last_in(&self, network: Ipv4Net, mac: Mac) -> Option<&Lease> {
        self.leases_of(mac).find(|lease| network.contains(&lease.address))
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

    /// Whether the address is one of a pool's.
    #[must_use]
    pub fn in_pool(&self, address: Ipv4Addr) -> bool {
        self.place(address).is_some_and(|place| self.stocks[place].pool.contains(address))
    }

    /// Whether this card of the machine may be given this address: it is not reserved
    /// for another machine, and no other card holds it at `now`.
    #[must_use]
    pub fn is_open_to(
        &self,
        (machine, card): (Mac, Mac),
        address: Ipv4Addr,
        now: Timestamp,
    ) -> bool {
        let reserved_elsewhere = self.reserved_for(address).is_some_and(|owner| owner != machine);
        let held_elsewhere = self.lease(address).is_some_and(|lease| {
            // A declined address is nobody's, not even of the machine that declined it.
            let is_own = lease.mac == card && lease.state != LeaseState::Declined;
            lease.is_held(now) && !is_own
        });
        !reserved_elsewhere && !held_elsewhere
    }

    /// An address of this network's pool that nobody has: the wanted one if it is
    /// free; else the lowest that was never leased; else the one that expired first.
    #[must_use]
    pub fn free(
        &self,
        network: Ipv4Net,
        wanted: Option<Ipv4Addr>,
        now: Timestamp,
    ) -> Option<Ipv4Addr> {
        let stock = &self.stocks[self.place(network.network())?];
        let is_free = |address: &Ipv4Addr| {
            let held = self.lease(*address).is_some_and(|lease| lease.is_held(now));
            stock.pool.contains(*address) && !held && self.reserved_for(*address).is_none()
        };
        wanted.filter(is_free).or_else(|| stock.next(now).next())
    }

    /// The addresses of this network's pool that [`Self::free`] gives next, in this order.
    pub fn next_free(&self, network: Ipv4Net, now: Timestamp) -> impl Iterator<Item = Ipv4Addr> {
        self.place(network.network())
            .into_iter()
            .flat_map(move |place| self.stocks[place].next(now))
    }

    /// By when all leases of addresses that instances keep end that may have been
    /// acknowledged before they are on disk.
    #[must_use]
    pub const fn ahead(&self) -> Timestamp {
        self.ahead
    }

    /// By when all such leases end that were acknowledged before the daemon began, and
    /// may have been lost with it.
    #[must_use]
    pub const fn lost_until(&self) -> Timestamp {
        self.lost_until
    }

    pub(super) const fn put_ahead(&mut self, until: Timestamp) {
        self.ahead = until;
    }

    /// All that was on disk is there; what is lost is lost.
    pub(super) const fn begin(&mut self) {
        self.lost_until = self.ahead;
    }

    pub(super) fn put(&mut self, lease: Lease) {
        self.forget_index(lease.address);
        let before = self.leases.insert(lease.address, lease);
        if let Some(before) = before.filter(|before| before.mac != lease.mac)
            && let Some(held) = self.of_machine.remove(&before.mac)
        {
            let mut addresses = held.all().to_vec();
            addresses.retain(|address| *address != lease.address);
            if !addresses.is_empty() {
                self.of_machine.insert(before.mac, Held::of(addresses));
            }
        }
        self.remember(lease);
        self.index(lease.address);
    }

    /// Keeps the address as the machine's newest of its network, and besides those
    /// that it is bound to there: an offer of another must not hide them. That it
    /// gave up one says nothing of the one that it has; they are read back from
    /// disk in no order of time.
    fn remember(&mut self, lease: Lease) {
        // Most have asked for the one that they have, again.
        let before = self.of_machine.get(&lease.mac);
        if before.is_none_or(|held| held.all() == [lease.address]) {
            self.of_machine.insert(lease.mac, Held::One(lease.address));
            return;
        }
        let place = self.place(lease.address);
        let before = self.of_machine.remove(&lease.mac);
        let mut addresses = before.map(|held| held.all().to_vec()).unwrap_or_default();
        addresses.retain(|address| *address != lease.address);
        let here = |address: &Ipv4Addr| self.place(*address) == place;
        let other_is_live = addresses.iter().any(|one| here(one) && is_live(&self.leases[one]));
        if is_live(&lease) || !other_is_live {
            let is_bound = |one: &Ipv4Addr| self.leases[one].state == LeaseState::Bound;
            addresses.retain(|address| !here(address) || is_bound(address));
            addresses.insert(0, lease.address);
        }
        self.of_machine.insert(lease.mac, Held::of(addresses));
    }

    /// Very many are about to come; see [`super::State::gathering`].
    pub(super) fn gather(&mut self, leases: usize, reservations: usize) {
        self.leases.reserve(leases);
        self.of_machine.reserve(leases);
        self.reserved.reserve(reservations);
        self.reservation_of.reserve(reservations);
    }

    /// The same in less memory; see [`super::State::settled`].
    pub(super) fn settle(&mut self) {
        for stock in &mut self.stocks {
            super::settle_set(&mut stock.fresh);
            super::settle_set(&mut stock.used);
        }
        self.leases.shrink_to_fit();
        self.of_machine.shrink_to_fit();
        self.reserved.shrink_to_fit();
        self.reservation_of.shrink_to_fit();
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

    /// Which network the address is in.
    fn place(&self, address: Ipv4Addr) -> Option<usize> {
        let behind = self.stocks.partition_point(|stock| stock.pool.network.network() <= address);
        let place = behind.checked_sub(1)?;
        self.stocks[place].pool.network.contains(&address).then_some(place)
    }

    fn forget_index(&mut self, address: Ipv4Addr) {
        let Some(place) = self.place(address) else { return };
        let stock = &mut self.stocks[place];
        stock.fresh.remove(&address);
        if let Some(lease) = self.leases.get(&address) {
            stock.used.remove(&(reusable_from(lease), address));
        }
    }

    fn index(&mut self, address: Ipv4Addr) {
        let Some(place) = self.place(address) else { return };
        let stock = &mut self.stocks[place];
        if !stock.pool.contains(address) || self.reserved.contains_key(&address) {
            return;
        }
        match self.leases.get(&address) {
            Some(lease) => stock.used.insert((reusable_from(lease), address)),
            None => stock.fresh.insert(address),
        };
    }

    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        for (stock, address) in
            self.stocks.iter().flat_map(|stock| stock.pool.addresses().map(move |one| (stock, one)))
        {
            let lease = self.leases.get(&address);
            let reserved = self.reserved.contains_key(&address);
            assert_eq!(stock.fresh.contains(&address), lease.is_none() && !reserved, "{address}");
            let listed: Vec<_> = stock.used.iter().filter(|(_, used)| *used == address).collect();
            match lease {
                Some(lease) if !reserved => assert_eq!(listed, [&(reusable_from(lease), address)]),
                Some(_) | None => assert!(listed.is_empty(), "{address}"),
            }
        }
        let pairs: HashMap<Ipv4Addr, Mac> =
            self.reservation_of.iter().map(|(mac, address)| (*address, *mac)).collect();
        assert_eq!(pairs, self.reserved);
        for (mac, addresses) in &self.of_machine {
            let addresses = addresses.all();
            assert!(addresses.iter().all(|address| self.leases[address].mac == *mac));
            assert!(!addresses.is_empty());
            let mut seen = std::collections::HashSet::new();
            for address in addresses {
                let is_newest = seen.insert(self.place(*address));
                let is_bound = self.leases[address].state == LeaseState::Bound;
                assert!(is_newest || is_bound, "of {mac} {address} is of no interest");
            }
        }
    }
}

/// Whether the machine may still believe in the address, apart from the time.
const fn is_live(lease: &Lease) -> bool {
    match lease.state {
        LeaseState::Probing | LeaseState::Offered | LeaseState::Bound => true,
        LeaseState::Released | LeaseState::Declined => false,
    }
}

/// From when somebody else may have the address of this lease.
fn reusable_from(lease: &Lease) -> Timestamp {
    match lease.state {
        LeaseState::Released => Timestamp(0),
        LeaseState::Probing | LeaseState::Offered | LeaseState::Bound | LeaseState::Declined => {
            lease.expires
        }
    }
}
