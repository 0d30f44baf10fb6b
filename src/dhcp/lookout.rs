//! Which addresses are looked at before somebody asks for one, and which have been.
//! Pure.
//!
//! A machine that is new to us need not wait for the look at its address then: iPXE in
//! ROM would wait for nothing else. Only on our own links, where a look is one ARP probe
//! and whoever takes an address afterwards is heard when it speaks.

use std::{collections::HashMap, net::Ipv4Addr, time::Duration};

use crate::{
    model::{Instance, Subnets, Timestamp},
    state::State,
};

/// How long a look holds. dnsmasq keeps the answer to its ping for 30 s, Kea asks
/// nobody for 60 s after a lease was used.
const HOLDS: Duration = Duration::from_secs(60);

/// When it is looked anew, so that a look that holds is always there.
const ANEW: Duration = Duration::from_secs(40);

/// So many addresses of each pool: machines without an instance come one by one. If
/// a hall of them comes at once, the others wait for their look.
const FREE: usize = 4;

/// So many instances, the youngest: who was provisioned is switched on soon.
const YOUNGEST: usize = 64;

/// What looks at addresses have shown.
#[derive(Debug, Default)]
pub(super) struct Sightings(HashMap<Ipv4Addr, Sighting>);

#[derive(Debug)]
struct Sighting {
    at: Timestamp,
    is_quiet: bool,
}

impl Sightings {
    /// Whether nobody used this address when it was looked at, and nobody has spoken
    /// from it since; not if that is too long ago.
    pub(super) fn vouch_for(&self, address: Ipv4Addr, now: Timestamp) -> bool {
        self.0.get(&address).is_some_and(|seen| seen.is_quiet && seen.is_within(HOLDS, now))
    }

    /// Keeps what a look at `now` has shown.
    pub(super) fn keep(&mut self, address: Ipv4Addr, is_quiet: bool, now: Timestamp) {
        self.0.insert(address, Sighting { at: now, is_quiet });
    }

    /// Somebody speaks from this address.
    pub(super) fn heard(&mut self, address: Ipv4Addr) {
        if let Some(seen) = self.0.get_mut(&address) {
            seen.is_quiet = false;
        }
    }

    /// Those of the addresses that are to be looked at now. What no longer holds is
    /// forgotten.
    pub(super) fn due<'a>(
        &mut self,
        addresses: Vec<(Ipv4Addr, &'a str)>,
        now: Timestamp,
    ) -> Vec<(Ipv4Addr, &'a str)> {
        self.0.retain(|_, seen| seen.is_within(HOLDS, now));
        let is_recent =
            |address: &Ipv4Addr| self.0.get(address).is_some_and(|seen| seen.is_within(ANEW, now));
        addresses.into_iter().filter(|(address, _)| !is_recent(address)).collect()
    }
}

impl Sighting {
    /// A clock that was set back makes it worthless.
    fn is_within(&self, span: Duration, now: Timestamp) -> bool {
        self.at <= now && now.since(self.at) < span
    }
}

/// The addresses that machines get next which are new to us, and by which adapter each
/// is reached.
pub(super) fn next<'a>(
    state: &State,
    subnets: &'a Subnets,
    now: Timestamp,
) -> Vec<(Ipv4Addr, &'a str)> {
    let addresses = &state.addresses;
    // Every address of the loopback network is our own.
    let linked: Vec<_> = subnets
        .iter()
        .filter(|subnet| !subnet.network.network().is_loopback())
        .filter_map(|subnet| Some((subnet.network, subnet.adapter.as_deref()?)))
        .collect();
    let free = linked.iter().flat_map(|(network, adapter)| {
        addresses.next_free(*network, now).take(FREE).map(|address| (address, *adapter))
    });
    let is_held = |address| addresses.lease(address).is_some_and(|lease| lease.is_held(now));
    let kept = state.instances.all().rev().take(YOUNGEST);
    let kept = kept.filter_map(|Instance { address, .. }| {
        let address = address.filter(|address| !is_held(*address))?;
        let (_, adapter) = linked.iter().find(|(network, _)| network.contains(&address))?;
        Some((address, *adapter))
    });
    free.chain(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dhcp::testing::{HOST, Lab, card, instance},
        model::{Change, Pool, Subnet},
    };

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const AT: Timestamp = Timestamp(1_000_000);

    fn seconds(seconds: u64) -> Timestamp {
        AT.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_look_holds_for_a_while_and_until_somebody_speaks() {
        let mut sightings = Sightings::default();
        assert!(!sightings.vouch_for(ADDRESS, AT), "nobody looked");
        sightings.keep(ADDRESS, true, AT);
        assert!(sightings.vouch_for(ADDRESS, AT));
        assert!(sightings.vouch_for(ADDRESS, seconds(59)));
        assert!(!sightings.vouch_for(ADDRESS, seconds(60)));
        assert!(!sightings.vouch_for(ADDRESS, Timestamp(AT.0 - 1)), "the clock was set back");
        sightings.heard(ADDRESS);
        assert!(!sightings.vouch_for(ADDRESS, AT));
        sightings.keep(ADDRESS, false, AT);
        assert!(!sightings.vouch_for(ADDRESS, AT));
    }

    #[test]
    fn whatever_it_showed_a_look_is_done_anew_before_it_holds_no_longer() {
        let other = Ipv4Addr::new(10, 0, 0, 10);
        let both = || vec![(ADDRESS, "eth0"), (other, "eth0")];
        let mut sightings = Sightings::default();
        assert_eq!(sightings.due(both(), AT), both());
        for is_quiet in [true, false] {
            sightings.keep(ADDRESS, is_quiet, AT);
            assert_eq!(sightings.due(both(), seconds(39)), [(other, "eth0")]);
            assert_eq!(sightings.due(both(), seconds(40)), both());
        }
        assert_eq!(sightings.0.len(), 1, "still of use");
        assert_eq!(sightings.due(vec![], seconds(60)), []);
        assert!(sightings.0.is_empty());
    }

    #[test]
    fn free_addresses_of_our_links_come_next_and_those_of_instances_without_a_lease() {
        let mut lab = Lab::new();
        let larger = |subnet: &Subnet| {
            let ranges = vec!["10.0.0.100-10.0.0.120".parse().expect("a range")];
            let is_here = subnet.adapter.is_some();
            let pool = Pool { ranges, ..subnet.pool.clone() };
            Subnet { pool: if is_here { pool } else { subnet.pool.clone() }, ..subnet.clone() }
        };
        let subnets: Vec<Subnet> = lab.settings.subnets.iter().map(|one| larger(one)).collect();
        lab.state = State::new(subnets.iter().map(|subnet| subnet.pool.clone()));
        lab.settings.subnets = Subnets::new(subnets);
        let next = |lab: &Lab| -> Vec<u8> {
            let next = next(&lab.state, &lab.settings.subnets, lab.now).into_iter();
            next.map(|(address, adapter)| {
                assert_eq!((&address.octets()[..3], adapter), (&[10, 0, 0][..], "eth0"));
                address.octets()[3]
            })
            .collect()
        };
        assert_eq!(next(&lab), [100, 101, 102, 103], "none of the network behind the relay");
        assert_eq!(lab.lease(card(1), HOST).octets()[3], 100);
        assert_eq!(next(&lab), [101, 102, 103, 104]);

        let kept = Ipv4Addr::new(10, 0, 0, 50);
        lab.state.apply(&Change::Instance(instance(card(2), Some(kept))));
        assert_eq!(next(&lab), [101, 102, 103, 104, 50]);
        assert_eq!(lab.lease(card(2), HOST), kept);
        assert_eq!(next(&lab), [101, 102, 103, 104]);
        // It is switched off for longer than its lease.
        lab.now = lab.now.after(Duration::from_secs(7200));
        assert_eq!(next(&lab), [101, 102, 103, 104, 50]);
    }
}
