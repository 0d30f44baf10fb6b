//! All that the daemon knows, in memory: questions, and the one way to change.
//!
//! Pure: no clock, no disk. What is derived (who waits, which address is free)
//! is kept in indexes that only `apply` touches, so that no question walks a
//! list of all machines.

mod addresses;
mod instances;
mod machines;

use std::net::Ipv4Addr;

pub use addresses::Addresses;
pub use instances::Instances;
pub use machines::Machines;

use crate::model::{Change, Mac, Pool, Timestamp};

/// All that the daemon knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Who has which address.
    pub addresses: Addresses,
    /// What was provisioned, and which IDs were destroyed.
    pub instances: Instances,
    /// The machines that asked to boot.
    pub machines: Machines,
}

impl State {
    /// An empty state that gives out the addresses of these pools, of which no
    /// two have overlapping networks.
    #[must_use]
    pub fn new(pools: impl IntoIterator<Item = Pool>) -> Self {
        Self {
            addresses: Addresses::new(pools),
            instances: Instances::default(),
            machines: Machines::default(),
        }
    }

    /// Carries out one change. Nothing else changes a state.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Lease(lease) => self.addresses.put(*lease),
            Change::Seen(machine) => {
                let held = self.instances.of_machine(machine.mac).is_some();
                self.machines.put(machine.clone(), held);
            }
            Change::Instance(instance) => {
                if let Some(before) = self.instances.find(instance.id) {
                    self.addresses.unreserve(before.mac);
                }
                if let Some(address) = instance.address {
                    self.addresses.reserve(instance.mac, address);
                }
                self.machines.hold(instance.mac);
                self.instances.put(instance.clone());
            }
            Change::Destroyed { id, at } => {
                if let Some(instance) = self.instances.destroy(*id) {
                    self.addresses.unreserve(instance.mac);
                    self.machines.let_go(instance.mac, *at);
                }
            }
        }
    }

    /// The machine that may use this address now, as far as we gave it out.
    #[must_use]
    pub fn machine_at(&self, address: Ipv4Addr, now: Timestamp) -> Option<Mac> {
        self.addresses.lease(address).filter(|lease| lease.is_bound(now)).map(|lease| lease.mac)
    }

    /// The address that this machine may use now, as far as we gave it one; of
    /// several the newest.
    #[must_use]
    pub fn address_of(&self, mac: Mac, now: Timestamp) -> Option<Ipv4Addr> {
        self.addresses.leases_of(mac).find(|lease| lease.is_bound(now)).map(|lease| lease.address)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        Asset, Image, Instance, InstanceId, Lease, LeaseState, Machine, Source, Stage, Token,
    };

    /// Changes over few machines and addresses, so that they collide.
    fn change() -> impl Strategy<Value = Change> {
        let mac = (1u8..5).prop_map(|last| Mac::new([2, 0, 0, 0, 0, last]));
        let address = (8u8..16).prop_map(|last| Ipv4Addr::new(10, 0, 0, last));
        let moment = (0u64..40).prop_map(Timestamp);
        let state = prop_oneof![
            Just(LeaseState::Probing),
            Just(LeaseState::Offered),
            Just(LeaseState::Bound),
            Just(LeaseState::Released),
            Just(LeaseState::Declined),
        ];
        let id = (0u64..6).prop_map(|number| InstanceId::next(None, Timestamp(number)));
        prop_oneof![
            (address.clone(), mac.clone(), state, moment.clone()).prop_map(
                |(address, mac, state, expires)| Change::Lease(Lease {
                    address,
                    mac,
                    state,
                    expires
                })
            ),
            (mac.clone(), moment.clone()).prop_map(|(mac, at)| Change::Seen(machine(mac, at))),
            (id.clone(), mac, proptest::option::of(address))
                .prop_map(|(id, mac, address)| Change::Instance(instance(id, mac, address))),
            (id, moment).prop_map(|(id, at)| Change::Destroyed { id, at }),
        ]
    }

    /// Whether a room would make this change: no ID lives twice, and no machine
    /// and no reserved address belongs to two instances.
    fn is_lawful(state: &State, change: &Change) -> bool {
        let Change::Instance(new) = change else { return true };
        let others = |id: &InstanceId| *id != new.id;
        let machine = state.instances.of_machine(new.mac).map(|instance| instance.id);
        let address = new.address.and_then(|address| state.addresses.reserved_for(address));
        !state.instances.was_destroyed(new.id)
            && state.instances.find(new.id).is_none_or(|before| before.mac == new.mac)
            && !machine.as_ref().is_some_and(others)
            && address.is_none_or(|owner| owner == new.mac)
    }

    /// The state after those of the changes that are lawful when they come.
    fn after(changes: &[Change], mut check: impl FnMut(&State)) -> State {
        let mut state = State::new(pools());
        for change in changes {
            if is_lawful(&state, change) {
                state.apply(change);
                check(&state);
            }
        }
        state
    }

    fn machine(mac: Mac, at: Timestamp) -> Machine {
        Machine {
            mac,
            architecture: None,
            uuid: None,
            first_seen: at,
            last_seen: at,
            waiting_since: at,
            stage: Stage::Firmware,
        }
    }

    fn instance(id: InstanceId, mac: Mac, address: Option<Ipv4Addr>) -> Instance {
        let kernel = Source::File("vmlinuz".parse().expect("a name"));
        Instance {
            id,
            logical_id: None,
            tags: [("infrakit.group".to_owned(), "g".to_owned())].into(),
            init: String::new(),
            mac,
            address,
            hostname: "host".parse().expect("a name"),
            image: Image {
                kernel: Asset { source: kernel, checksum: None },
                initrds: Vec::new(),
                cmdline: String::new(),
            },
            token: id.to_string()[3..]
                .bytes()
                .fold(Token(0), |token, digit| Token(token.0 * 16 + u128::from(digit))),
            provisioned_at: Timestamp(0),
        }
    }

    /// Two networks next to each other; no pool has all of its network.
    fn pools() -> [Pool; 2] {
        let pool = |network: &str, range: &str, except| Pool {
            network: network.parse().expect("a network"),
            ranges: vec![range.parse().expect("a range")],
            except,
        };
        [
            pool("10.0.0.12/30", "10.0.0.12-10.0.0.14", vec![]),
            pool("10.0.0.8/30", "10.0.0.9-10.0.0.11", vec![Ipv4Addr::new(10, 0, 0, 10)]),
        ]
    }

    #[test]
    fn an_expired_lease_is_reused_oldest_first_and_never_while_an_address_is_fresh() {
        let mut state = State::new(pools());
        let [near, _] = pools();
        let lease = |last: u8, expires: u64| {
            let mac = Mac::new([2, 0, 0, 0, 0, last]);
            let address = Ipv4Addr::new(10, 0, 0, last);
            let expires = Timestamp(expires);
            Change::Lease(Lease { address, mac, state: LeaseState::Bound, expires })
        };
        state.apply(&lease(12, 20));
        state.apply(&lease(14, 10));
        let free = |state: &State, now| {
            state.addresses.free(near.network, None, Timestamp(now)).map(|one| one.octets()[3])
        };
        assert_eq!(free(&state, 100), Some(13), "the fresh one");
        state.apply(&lease(13, 30));
        assert_eq!(free(&state, 100), Some(14), "the one that expired first");
        assert_eq!(free(&state, 10), Some(14));
        assert_eq!(free(&state, 9), None, "the other network's addresses are of no use");
    }

    #[test]
    fn a_machine_has_one_newest_lease_in_each_network_whatever_the_order_on_disk() {
        let mac = Mac::new([2, 0, 0, 0, 0, 1]);
        let lease = |last: u8, state| {
            let address = Ipv4Addr::new(10, 0, 0, last);
            Lease { address, mac, state, expires: Timestamp(100) }
        };
        let here = [lease(9, LeaseState::Bound), lease(11, LeaseState::Released)];
        let there = lease(13, LeaseState::Bound);
        for order in [[here[0], here[1], there], [there, here[1], here[0]]] {
            let mut state = State::new(pools());
            order.iter().for_each(|lease| state.apply(&Change::Lease(*lease)));
            let [near, far] = pools();
            assert_eq!(state.addresses.last_in(far.network, mac), Some(&here[0]));
            assert_eq!(state.addresses.last_in(near.network, mac), Some(&there));
            assert_eq!(state.addresses.leases_of(mac).count(), 2);
            state.addresses.assert_consistent();
        }
    }

    proptest! {
        /// The indexes say what the records say, whatever happened.
        #[test]
        fn the_indexes_agree_after_any_changes(changes in proptest::collection::vec(change(), 0..60)) {
            after(&changes, |state| {
                state.addresses.assert_consistent();
                state.instances.assert_consistent();
                state.machines.assert_consistent(|mac| state.instances.of_machine(mac).is_some());
            });
        }

        /// Whatever address is named free belongs to nobody else.
        #[test]
        fn a_free_address_is_nobodys(
            changes in proptest::collection::vec(change(), 0..60),
            now in (0u64..40).prop_map(Timestamp),
            wanted in proptest::option::of((8u8..16).prop_map(|last| Ipv4Addr::new(10, 0, 0, last))),
        ) {
            let state = after(&changes, |_| ());
            for pool in pools() {
                let Some(address) = state.addresses.free(pool.network, wanted, now) else { continue };
                prop_assert!(pool.contains(address));
                prop_assert!(state.addresses.reserved_for(address).is_none());
                prop_assert!(!state.addresses.lease(address).is_some_and(|lease| lease.is_held(now)));
            }
        }
    }
}
