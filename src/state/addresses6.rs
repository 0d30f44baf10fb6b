//! Who has which IPv6 address: leases, and what is left to give.
//!
//! A machine has one address, whatever it calls itself: along one boot its
//! firmware, iPXE and its system ask with different DUIDs and IAIDs.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv6Addr,
};

use crate::model::{Holder, Lease6, LeaseState, Mac, Pool6, Subnet6, Timestamp};

/// The IPv6 addresses of the subnets, and whom they belong to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses6 {
    subnets: Vec<Shelf>,
    leases: HashMap<Ipv6Addr, Lease6>,
    last_of: HashMap<Holder, Ipv6Addr>,
}

/// What is left to give of one subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shelf {
    subnet: Subnet6,
    /// Addresses of the pool that were never leased.
    fresh: BTreeSet<Ipv6Addr>,
    /// Addresses of the pool that were leased once, by the time from which they
    /// may be given to somebody else.
    used: BTreeSet<(Timestamp, Ipv6Addr)>,
}

impl Addresses6 {
    pub(super) fn new(subnets: Vec<Subnet6>) -> Self {
        let shelf = |subnet: Subnet6| Shelf {
            fresh: subnet.pool.iter().flat_map(Pool6::addresses).collect(),
            used: BTreeSet::new(),
            subnet,
        };
        Self { subnets: subnets.into_iter().map(shelf).collect(), ..Self::default() }
    }

    /// What was last said about an address.
    #[must_use]
    pub fn lease(&self, address: Ipv6Addr) -> Option<&Lease6> {
        self.leases.get(&address)
    }

    /// Every lease, also expired ones, in no order.
    pub fn leases(&self) -> impl Iterator<Item = &Lease6> {
        self.leases.values()
    }

    /// The lease that this client was given last, if nobody else has the address
    /// since; it may have expired.
    #[must_use]
    pub fn last_of(&self, holder: &Holder) -> Option<&Lease6> {
        let lease = self.leases.get(self.last_of.get(holder)?)?;
        (lease.holder == *holder).then_some(lease)
    }

    /// Whether `holder` may be given this address: nobody else holds it at `now`.
    #[must_use]
    pub fn is_open_to(&self, holder: &Holder, address: Ipv6Addr, now: Timestamp) -> bool {
        self.lease(address).is_none_or(|lease| {
            // A declined address is nobody's, not even of the client that declined it.
            let is_own = lease.holder == *holder && lease.state != LeaseState::Declined;
            is_own || !lease.is_held(now)
        })
    }

    /// An address of the subnet's pool that nobody has: the wanted one if it is
    /// free; else the lowest that was never leased; else the one that expired
    /// first.
    #[must_use]
    pub fn free(
        &self,
        subnet: &Subnet6,
        wanted: Option<Ipv6Addr>,
        now: Timestamp,
    ) -> Option<Ipv6Addr> {
        let shelf = self.subnets.iter().find(|shelf| shelf.subnet.network == subnet.network)?;
        let is_free = |address: &Ipv6Addr| {
            let in_pool = shelf.subnet.pool.as_ref().is_some_and(|pool| pool.contains(*address));
            in_pool && !self.lease(*address).is_some_and(|lease| lease.is_held(now))
        };
        let expired =
            || shelf.used.first().filter(|(from, _)| *from <= now).map(|(_, address)| *address);
        wanted.filter(is_free).or_else(|| shelf.fresh.first().copied()).or_else(expired)
    }

    /// The machine at this address: who holds it; else, on a link that we serve,
    /// the card that an address of stateless configuration is made of (RFC 4862
    /// §5.5.3, RFC 4291 appendix A), since firmware has such ones beside.
    pub(super) fn machine_at(&self, address: Ipv6Addr, now: Timestamp) -> Option<Mac> {
        if let Some(lease) = self.lease(address).filter(|lease| lease.is_used(now)) {
            return lease.holder.machine();
        }
        let is_near = address.is_unicast_link_local()
            || self.subnets.iter().any(|shelf| shelf.subnet.network.contains(&address));
        Mac::of_interface_identifier(address).filter(|_| is_near)
    }

    pub(super) fn put(&mut self, lease: Lease6) {
        let address = lease.address;
        let before = self.leases.get(&address).map(|lease| lease.expires);
        for shelf in &mut self.subnets {
            if !shelf.subnet.pool.as_ref().is_some_and(|pool| pool.contains(address)) {
                continue;
            }
            shelf.fresh.remove(&address);
            if let Some(from) = before {
                shelf.used.remove(&(from, address));
            }
            shelf.used.insert((lease.expires, address));
        }
        self.last_of.insert(lease.holder.clone(), address);
        self.leases.insert(address, lease);
    }

    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        for shelf in &self.subnets {
            for address in shelf.subnet.pool.iter().flat_map(Pool6::addresses) {
                let listed: Vec<_> =
                    shelf.used.iter().filter(|(_, used)| *used == address).copied().collect();
                let lease = self.lease(address);
                assert_eq!(shelf.fresh.contains(&address), lease.is_none(), "{address}");
                let expected = lease.map(|lease| (lease.expires, address));
                assert_eq!(listed, Vec::from_iter(expected));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subnet() -> Subnet6 {
        let at = |last: u16| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
        let pool = Pool6 { first: at(9), last: at(14), except: vec![at(10)] };
        Subnet6 { network: "fd00::/64".parse().expect("a network"), pool: Some(pool) }
    }

    fn lease() -> impl Strategy<Value = Lease6> {
        let state = prop_oneof![
            Just(LeaseState::Offered),
            Just(LeaseState::Bound),
            Just(LeaseState::Released),
            Just(LeaseState::Declined),
        ];
        (8u16..16, 1u8..5, state, 0u64..40).prop_map(|(address, holder, state, expires)| Lease6 {
            address: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, address),
            holder: Holder::Machine(Mac::new([2, 0, 0, 0, 0, holder])),
            association: 1,
            state,
            expires: Timestamp(expires),
        })
    }

    proptest! {
        /// The indexes say what the leases say, and what is named free is nobody's.
        #[test]
        fn a_free_address_is_nobodys_whatever_was_leased(
            leases in proptest::collection::vec(lease(), 0..40),
            now in (0u64..40).prop_map(Timestamp),
        ) {
            let mut addresses = Addresses6::new(vec![subnet()]);
            for lease in leases {
                addresses.put(lease);
                addresses.assert_consistent();
            }
            let free = addresses.free(&subnet(), None, now);
            let held = |address| addresses.lease(address).is_some_and(|lease| lease.is_held(now));
            let pool = subnet().pool.expect("it has one");
            prop_assert_eq!(free.is_none(), pool.addresses().all(held));
            if let Some(address) = free {
                prop_assert!(pool.contains(address) && !held(address));
            }
        }
    }

    #[test]
    fn a_machine_is_known_by_its_lease_or_by_the_card_in_its_address() {
        let mac = Mac::new([0x52, 0x54, 0, 0x77, 0, 1]);
        let other = Mac::new([2, 0, 0, 0, 0, 9]);
        let mut addresses = Addresses6::new(vec![subnet()]);
        let own: Ipv6Addr = "fd00::5054:ff:fe77:1".parse().expect("an address");
        for (address, expected) in [
            ("fd00::5054:ff:fe77:1", Some(mac)),
            ("fe80::5054:ff:fe77:1", Some(mac)),
            ("fd99::5054:ff:fe77:1", None),
            ("fd00::9", None),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(addresses.machine_at(address, Timestamp(1)), expected, "{address}");
        }
        addresses.put(Lease6 {
            address: own,
            holder: Holder::Machine(other),
            association: 1,
            state: LeaseState::Bound,
            expires: Timestamp(5),
        });
        assert_eq!(addresses.machine_at(own, Timestamp(1)), Some(other), "what we gave counts");
        assert_eq!(addresses.machine_at(own, Timestamp(5)), Some(mac));
    }
}
