//! All that the daemon knows, in memory: questions, and the one way to change.
//!
//! Pure: no clock, no disk. What is derived (who waits, which address is free)
//! is kept in indexes that only `apply` touches, so that no question walks a
//! list of all machines.

mod addresses;
mod addresses6;
mod conflicts;
mod instances;
mod lost;
mod machines;
mod marks;
mod places;
mod slots;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

pub use addresses::Addresses;
pub use addresses6::Addresses6;
pub use conflicts::{Claim, Conflict};
pub use instances::Instances;
pub use machines::Machines;
pub use slots::Slots;

use crate::model::{Change, Holder, Instance, InstanceId, Mac, Pool, Subnet6, Timestamp};

/// All that the daemon knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Who has which address.
    pub addresses: Addresses,
    /// Who has which IPv6 address.
    pub addresses6: Addresses6,
    /// What was provisioned, and which IDs were destroyed.
    pub instances: Instances,
    /// The machines that asked to boot.
    pub machines: Machines,
    /// What the places behind ports are called.
    pub slots: Slots,
}

impl State {
    /// An empty state that gives out the addresses of these pools, of which no
    /// two have overlapping networks.
    #[must_use]
    pub fn new(pools: impl IntoIterator<Item = Pool>) -> Self {
        Self {
            addresses: Addresses::new(pools),
            addresses6: Addresses6::default(),
            instances: Instances::default(),
            machines: Machines::default(),
            slots: Slots::default(),
        }
    }

    /// The same state that gives out the addresses of these networks, too. Leases
    /// must come after it.
    #[must_use]
    pub fn with_subnets6(self, subnets: Vec<Subnet6>) -> Self {
        Self { addresses6: Addresses6::new(subnets), ..self }
    }

    /// The same state, ready for the changes of a whole store, of which so many are
    /// leases, machines and instances: they come as fast as they can, and
    /// [`Self::settled`] makes it one that is asked.
    #[must_use]
    pub fn gathering(mut self, leases: usize, machines: usize, instances: usize) -> Self {
        self.addresses.gather(leases, instances);
        self.machines.gather(machines);
        self.instances.gather(instances);
        self
    }

    /// The same state in less memory, for when very much was put into it at once: a tree
    /// that grew at its end is half empty, and one that is made of what is sorted is full.
    #[must_use]
    pub fn settled(mut self) -> Self {
        self.addresses.settle();
        self.instances.settle();
        self.machines.settle();
        self
    }

    /// The same state, of which nothing more will be read from disk.
    #[must_use]
    pub fn begun(mut self) -> Self {
        self.addresses.begin();
        self
    }

    /// Carries out one change. Nothing else changes a state.
    pub fn apply(&mut self, change: &Change) {
        self.apply_own(change.clone());
    }

    /// The same with a change that nobody else needs.
    pub fn apply_own(&mut self, change: Change) {
        match change {
            Change::Lease(lease) => self.addresses.put(lease),
            Change::Kept(_) => {}
            Change::Ahead(until) => self.addresses.put_ahead(until),
            Change::Lease6(lease) => self.addresses6.put(lease),
            Change::Seen(mut machine) | Change::Machine(mut machine) => {
                if !machine.identity.cards.is_empty() {
                    let is_open = |card: &Mac| self.instances.of_machine(*card).is_none();
                    machine.identity.cards.retain(is_open);
                }
                let mac = machine.mac;
                self.machines.put(machine);
                // Whatever is said of it, what an instance has is nobody else's.
                if let Some(instance) = self.instances.of_machine(mac) {
                    self.machines.assign(mac, instance.provisioned_at);
                }
            }
            Change::Slots(slots) => self.slots = Slots::new(&slots),
            Change::Forgotten(mac) => self.machines.remove(mac),
            Change::Instance(instance) => {
                if let Some(before) = self.instances.find(instance.id) {
                    self.addresses.unreserve(before.mac);
                }
                if let Some(address) = instance.address {
                    self.addresses.reserve(instance.mac, address);
                }
                // What an instance is on is a machine, and no other's card.
                self.machines.detach(instance.mac);
                self.machines.assign(instance.mac, instance.provisioned_at);
                self.instances.put(instance);
            }
            Change::Progress(id, progress) => self.instances.progress(id, progress),
            Change::Destroyed(destroyed) => {
                if let Some(instance) = self.instances.destroy(destroyed) {
                    self.addresses.unreserve(instance.mac);
                    self.machines.release(instance.mac, destroyed.at);
                }
            }
        }
    }

    /// The instance that holds the machine with this card.
    #[must_use]
    pub fn instance_of_card(&self, card: Mac) -> Option<&Instance> {
        self.instances.of_machine(self.machines.of_card(card))
    }

    /// Whether the machine with the card `card` may have this address: it is reserved
    /// for no other machine, and no other machine's card holds it at `now`.
    #[must_use]
    pub fn is_open_to(&self, card: Mac, address: Ipv4Addr, now: Timestamp) -> bool {
        let machine = self.machines.of_card(card);
        // What another of its cards holds is the machine's.
        let holder = self.addresses.lease(address).map(|lease| lease.mac);
        let own = holder.filter(|holder| self.machines.of_card(*holder) == machine);
        self.addresses.is_open_to((machine, own.unwrap_or(card)), address, now)
    }

    /// The card that may use this address now, as far as we gave it out.
    #[must_use]
    pub fn machine_at(&self, address: impl Into<IpAddr>, now: Timestamp) -> Option<Mac> {
        let address = match address.into() {
            IpAddr::V4(address) => address,
            IpAddr::V6(address) => return self.addresses6.machine_at(address, now),
        };
        match self.addresses.lease(address).filter(|lease| lease.is_held(now)) {
            Some(lease) => lease.is_bound(now).then_some(lease.mac),
            None => self.may_have_lost(address, now),
        }
    }

    /// The IPv6 address that this machine may use now, as far as we gave one of its
    /// cards one.
    #[must_use]
    pub fn address6_of(&self, mac: Mac, now: Timestamp) -> Option<Ipv6Addr> {
        self.machines.cards_of(mac).find_map(|card| {
            let lease = self.addresses6.last_of(&Holder::Machine(card))?;
            lease.is_bound(now).then_some(lease.address)
        })
    }

    /// The address by which people know the machine, over IPv4 if there is one: what
    /// it has a lease of; else what is kept for it; else its IPv6 address.
    #[must_use]
    pub fn any_address_of(
        &self,
        mac: Mac,
        reserved: Option<Ipv4Addr>,
        now: Timestamp,
    ) -> Option<IpAddr> {
        let over_ipv4 = self.address_of(mac, now).or(reserved).map(IpAddr::from);
        over_ipv4.or_else(|| self.address6_of(mac, now).map(IpAddr::from))
    }

    /// The machine that may use this address now, and the instance that it is, as
    /// far as we gave the address out.
    #[must_use]
    pub fn visitor_at(&self, address: IpAddr, now: Timestamp) -> (Option<Mac>, Option<InstanceId>) {
        let mac = self.machine_at(address, now).map(|card| self.machines.of_card(card));
        let instance = mac.and_then(|mac| self.instances.of_machine(mac));
        (mac, instance.map(|instance| instance.id))
    }

    /// The address that this machine may use now, as far as we gave one of its cards
    /// one: of the card that asked last, if it has one; of several the newest.
    #[must_use]
    pub fn address_of(&self, mac: Mac, now: Timestamp) -> Option<Ipv4Addr> {
        let leases = self.machines.cards_of(mac).flat_map(|card| self.addresses.leases_of(card));
        let mut bound = leases.filter(|lease| lease.is_bound(now));
        bound.next().map(|lease| lease.address)
    }
}

fn settle_set<T: Ord>(set: &mut BTreeSet<T>) {
    *set = std::mem::take(set).into_iter().collect();
}

fn settle_map<Key: Ord, T>(map: &mut BTreeMap<Key, T>) {
    *map = std::mem::take(map).into_iter().collect();
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        Destroyed, Lease, LeaseState, LogicalId, Machine, MachineEvent, MachineState, Port,
        Progress, Reason, testing,
    };

    /// Something that happens: the change that it makes depends on the state.
    #[derive(Debug, Clone)]
    pub(crate) enum Happening {
        Lease(Lease),
        Machine(Mac, MachineEvent, Timestamp),
        Forgotten(Mac),
        /// Whatever they are: what must not be is not to come of it.
        Cards(Mac, Vec<Mac>),
        /// What was seen of the board, and where.
        Shown(Mac, u8),
        Instance(u64, Mac, Option<Ipv4Addr>),
        Label(u64),
        Script(u64),
        Destroyed(u64, Timestamp),
    }

    /// Over few machines and addresses, so that they collide.
    pub(crate) fn happening() -> impl Strategy<Value = Happening> {
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
        let event = prop_oneof![
            Just(MachineEvent::Asked),
            Just(MachineEvent::Waited),
            Just(MachineEvent::BootedUnclaimed),
            Just(MachineEvent::Listed),
            Just(MachineEvent::Freed),
            Just(MachineEvent::SetAside),
        ];
        let id = 0u64..6;
        prop_oneof![
            (address.clone(), mac.clone(), state, moment.clone()).prop_map(
                |(address, mac, state, expires)| Happening::Lease(Lease {
                    address,
                    mac,
                    state,
                    expires
                })
            ),
            (mac.clone(), event, moment.clone())
                .prop_map(|(mac, event, at)| Happening::Machine(mac, event, at)),
            mac.clone().prop_map(Happening::Forgotten),
            (mac.clone(), proptest::collection::vec(mac.clone(), 0..3))
                .prop_map(|(mac, cards)| Happening::Cards(mac, cards)),
            (mac.clone(), 0u8..4).prop_map(|(mac, board)| Happening::Shown(mac, board)),
            (id.clone(), mac, proptest::option::of(address))
                .prop_map(|(id, mac, address)| Happening::Instance(id, mac, address)),
            id.clone().prop_map(Happening::Label),
            id.clone().prop_map(Happening::Script),
            (id, moment).prop_map(|(id, at)| Happening::Destroyed(id, at)),
        ]
    }

    fn id(number: u64) -> InstanceId {
        InstanceId::next(None, Timestamp(number))
    }

    /// The changes that a room would make of it: no ID lives twice, no machine and
    /// no reserved address belongs to two instances, no machine makes a step that
    /// must not be.
    pub(crate) fn changes(state: &State, happening: &Happening) -> Vec<Change> {
        match happening {
            Happening::Lease(lease) => vec![Change::Lease(*lease)],
            Happening::Machine(mac, event, at) => {
                let after = match state.machines.find(*mac) {
                    Some(machine) => machine.after(*event, *at).ok(),
                    None => Machine::first(*mac, *event, *at).map(|machine| {
                        match state.instances.of_machine(*mac) {
                            Some(_) => Machine { state: MachineState::Assigned, ..machine },
                            None => machine,
                        }
                    }),
                };
                after.map(Change::Machine).into_iter().collect()
            }
            Happening::Forgotten(mac) if state.instances.of_machine(*mac).is_none() => {
                vec![Change::Forgotten(*mac)]
            }
            Happening::Forgotten(_) => Vec::new(),
            Happening::Cards(mac, cards) => {
                let known = state.machines.find(*mac);
                let with = |machine: &Machine| {
                    let mut machine = machine.clone();
                    machine.identity.cards = cards.iter().copied().collect();
                    machine.identity.asked_by = cards.first().copied();
                    Change::Machine(machine)
                };
                known.map(with).into_iter().collect()
            }
            Happening::Shown(mac, board) => {
                let shown = |machine: &Machine| {
                    let mut machine = machine.clone();
                    let uuid = format!("4c4c4544-0042-3510-8052-b3c04f4b4e{board:02x}");
                    machine.uuid = Some(machine.identity.after_uuid(machine.uuid.as_ref(), uuid));
                    machine.identity.serial = Some(format!("serial {board}"));
                    let port = format!("port {board}").parse().ok();
                    let port = Port { remote_id: port.clone(), circuit_id: port };
                    let card = machine.asked_by();
                    machine.identity.ports.insert(card, port);
                    Change::Seen(machine)
                };
                state.machines.with_card(*mac).map(shown).into_iter().collect()
            }
            Happening::Instance(number, mac, address) => {
                new_instance(state, *number, *mac, *address).into_iter().collect()
            }
            Happening::Label(number) => {
                let mut labelled = state.instances.find(id(*number)).cloned();
                if let Some(instance) = &mut labelled {
                    instance.tags.insert("label".to_owned(), number.to_string());
                }
                labelled.map(Change::Instance).into_iter().collect()
            }
            Happening::Script(number) => {
                let instance = state.instances.find(id(*number));
                let booted = |instance: &Instance| {
                    let progress = instance.progress.script(true, Timestamp(50));
                    Change::Progress(instance.id, progress.ready(None, Timestamp(51)))
                };
                instance.map(booted).into_iter().collect()
            }
            Happening::Destroyed(number, at) => {
                let Some(instance) = state.instances.find(id(*number)) else { return Vec::new() };
                let destroyed = Destroyed {
                    id: instance.id,
                    at: *at,
                    reason: Reason::Terminate,
                    mac: instance.mac,
                    report: instance.secrets.report,
                };
                let name = (None, LogicalId("pet".to_owned()));
                let machine = state.machines.find(instance.mac).map(|machine| {
                    let after =
                        machine.after(MachineEvent::Destroyed, *at).expect("it was assigned");
                    Change::Machine(Machine { former: Some(name), ..after })
                });
                [Change::Destroyed(destroyed)].into_iter().chain(machine).collect()
            }
        }
    }

    fn new_instance(
        state: &State,
        number: u64,
        mac: Mac,
        address: Option<Ipv4Addr>,
    ) -> Option<Change> {
        let machine_is_free = state.instances.of_machine(mac).is_none()
            && state
                .machines
                .find(mac)
                .is_none_or(|machine| machine.state.after(MachineEvent::Named).is_ok());
        let address_is_free =
            address.is_none_or(|address| state.addresses.reserved_for(address).is_none());
        let id_is_new = state.instances.find(id(number)).is_none()
            && !state.instances.was_destroyed(id(number));
        if !(machine_is_free && address_is_free && id_is_new) {
            return None;
        }
        let group = [("infrakit.group", "g")];
        Some(Change::Instance(Instance {
            address,
            tags: testing::tags(&group),
            index: Some(state.instances.free_index("g")),
            progress: Progress::new(Timestamp(number)),
            ..testing::instance(number, mac)
        }))
    }

    /// The state after all that, and the changes that made it.
    fn after(happenings: &[Happening], mut check: impl FnMut(&State)) -> (State, Vec<Change>) {
        let mut state = State::new(pools());
        let mut made = Vec::new();
        for happening in happenings {
            for change in changes(&state, happening) {
                state.apply(&change);
                made.push(change);
            }
            check(&state);
        }
        (state, made)
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
        #[test]
        fn what_is_gathered_is_the_same_state(
            happenings in proptest::collection::vec(happening(), 0..40),
        ) {
            let mut state = State::new(None);
            let mut gathered = State::new(None).gathering(9, 9, 9);
            for change in happenings.iter().flat_map(|happening| {
                let changes = changes(&state, happening);
                changes.iter().for_each(|change| state.apply(change));
                changes
            }) {
                gathered.apply_own(change);
            }
            prop_assert_eq!(gathered.settled(), state.settled());
        }

        /// The indexes say what the records say, whatever happened.
        #[test]
        fn the_indexes_agree_after_anything(happenings in proptest::collection::vec(happening(), 0..60)) {
            after(&happenings, |state| {
                state.addresses.assert_consistent();
                state.instances.assert_consistent();
                state.machines.assert_consistent(|mac| state.instances.of_machine(mac).is_some());
                for instance in state.instances.all() {
                    assert_eq!(state.machines.of_card(instance.mac), instance.mac);
                }
            });
        }

        /// The same changes make the same state, from the beginning.
        #[test]
        fn a_replay_gives_the_same_state(happenings in proptest::collection::vec(happening(), 0..60)) {
            let (state, made) = after(&happenings, |_| ());
            let mut again = State::new(pools());
            made.iter().for_each(|change| again.apply(change));
            prop_assert_eq!(again, state);
        }

        /// Nobody is given a machine that an instance has, or that is set aside.
        #[test]
        fn a_chosen_machine_is_nobodys(
            happenings in proptest::collection::vec(happening(), 0..60),
            now in (0u64..40).prop_map(Timestamp),
        ) {
            let (state, _) = after(&happenings, |_| ());
            // As a walk over all of them finds it.
            let rank = |machine: &&Machine| {
                let kind = match machine.state {
                    MachineState::Held if machine.waits(now) => 0,
                    MachineState::Held => 2,
                    _ => 1,
                };
                (kind, machine.waiting_since, machine.mac)
            };
            let open = state.machines.all().filter(|machine| machine.may_be_chosen());
            prop_assert_eq!(open.min_by_key(rank), state.machines.choose(now, |_| true));
            if let Some(machine) = state.machines.choose(now, |_| true) {
                prop_assert!(machine.state.is_available());
                prop_assert!(state.instances.of_machine(machine.mac).is_none());
            }
        }

        /// Whatever address is named free belongs to nobody else.
        #[test]
        fn a_free_address_is_nobodys(
            happenings in proptest::collection::vec(happening(), 0..60),
            now in (0u64..40).prop_map(Timestamp),
            wanted in proptest::option::of((8u8..16).prop_map(|last| Ipv4Addr::new(10, 0, 0, last))),
        ) {
            let (state, _) = after(&happenings, |_| ());
            for pool in pools() {
                let Some(address) = state.addresses.free(pool.network, wanted, now) else { continue };
                prop_assert!(pool.contains(address));
                prop_assert!(state.addresses.reserved_for(address).is_none());
                prop_assert!(!state.addresses.lease(address).is_some_and(|lease| lease.is_held(now)));
            }
        }
    }

    #[test]
    fn the_lowest_index_of_a_group_that_is_free_is_given_next() {
        let mut state = State::new(None);
        for number in 1..4u8 {
            let mac = Mac::new([2, 0, 0, 0, 0, number]);
            state.apply(&new_instance(&state, number.into(), mac, None).expect("free"));
        }
        assert_eq!((state.instances.free_index("g"), state.instances.free_index("other")), (3, 0));
        for change in changes(&state, &Happening::Destroyed(2, Timestamp(9))) {
            state.apply(&change);
        }
        assert_eq!(state.instances.free_index("g"), 1);
    }
    #[test]
    fn a_place_that_two_have_is_free_when_both_have_gone() {
        let mut state = State::new(None);
        for number in 1..3u8 {
            let instance = Instance {
                tags: testing::tags(&[("infrakit.group", "g")]),
                index: Some(0),
                ..testing::instance(number.into(), Mac::new([2, 0, 0, 0, 0, number]))
            };
            state.apply(&Change::Instance(instance));
        }
        for (number, oldest) in [(1, Some(2)), (2, None)] {
            for change in changes(&state, &Happening::Destroyed(number, Timestamp(9))) {
                state.apply(&change);
            }
            assert_eq!(state.instances.at_index("g", 0).map(|one| one.id), oldest.map(id));
            assert_eq!(state.instances.free_index("g"), u32::from(oldest.is_some()));
        }
    }
}
