//! The machines that asked to boot or are listed, and the queue of those that
//! may be given out.

use std::collections::{BTreeSet, HashMap};

use super::{marks::Marks, slots};
use crate::model::{
    LogicalId, Mac, Machine, MachineEvent, MachineState, Port, Stage, TagPool, Timestamp,
    canonical_uuid, is_genuine_uuid,
};

/// Among so many is looked for one that may be forgotten, and for one that waits.
const LOOKED_AT: usize = 1024;

/// The machines that are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machines {
    known: HashMap<Mac, Box<Machine>>,
    /// Those in the hold script, longest-waiting first.
    held: BTreeSet<(Timestamp, Mac)>,
    /// The same by when they asked last.
    asked: BTreeSet<(Timestamp, Mac)>,
    /// The others that may be given out, in the same order.
    others: BTreeSet<(Timestamp, Mac)>,
    /// The machine that had this name last.
    former: HashMap<(Option<String>, LogicalId), Mac>,
    /// The machine of each further card.
    by_card: HashMap<Mac, Mac>,
    /// By the UUID, by the serial number, by the port, and by each of its IDs alone.
    marks: Marks<Mac>,
    labels: TagPool,
}

impl Machines {
    /// The machine of this name, if it is known.
    #[must_use]
    pub fn find(&self, mac: Mac) -> Option<&Machine> {
        self.known.get(&mac).map(Box::as_ref)
    }

    /// The name of the machine that has this card; the card itself, if it is none's
    /// further card.
    #[must_use]
    pub fn of_card(&self, card: Mac) -> Mac {
        self.by_card.get(&card).copied().unwrap_or(card)
    }

    /// The machine that has this card, if it is known.
    #[must_use]
    pub fn with_card(&self, card: Mac) -> Option<&Machine> {
        self.find(self.of_card(card))
    }

    /// The cards of the machine of this name, the one that asked last first; of one
    /// that is not known its name alone.
    pub fn cards_of(&self, mac: Mac) -> impl Iterator<Item = Mac> {
        let known = self.find(mac);
        let last = known.map_or(mac, Machine::asked_by);
        let others = known.into_iter().flat_map(Machine::cards).filter(move |card| *card != last);
        [last].into_iter().chain(others)
    }

    pub(super) fn with_uuid(&self, uuid: u128) -> impl Iterator<Item = Mac> {
        let shows = move |machine: &&Machine| {
            machine.uuid.as_deref().is_some_and(|own| canonical_uuid(own) == uuid)
        };
        self.marked(&Mark::Uuid(uuid)).filter(shows).map(|machine| machine.mac)
    }

    pub(super) fn with_serial<'a>(&'a self, serial: &'a str) -> impl Iterator<Item = Mac> + 'a {
        let shows = move |machine: &&Machine| machine.identity.serial.as_deref() == Some(serial);
        self.marked(&Mark::Serial(serial)).filter(shows).map(|machine| machine.mac)
    }

    /// The machines of whose port so much is said.
    pub(super) fn behind<'a>(&'a self, port: &'a Port) -> impl Iterator<Item = &'a Machine> {
        let is_behind = move |machine: &&Machine| {
            machine.port().is_some_and(|own| slots::keys(own).contains(port))
        };
        self.marked(&Mark::Port(port)).filter(is_behind)
    }

    /// Those that may show it, and all that do among them.
    fn marked<'a>(&'a self, mark: &Mark<'_>) -> impl Iterator<Item = &'a Machine> + use<'a> {
        self.marks.of(mark, Mac::new([0; 6])).filter_map(|mac| self.find(mac))
    }

    /// Every machine that is known, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Machine> {
        self.known.values().map(Box::as_ref)
    }

    /// How many are known.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// The machines that may be given out: those in the hold script first, each
    /// part longest-waiting first.
    pub fn available(&self) -> impl Iterator<Item = &Machine> {
        let all = self.held.iter().chain(&self.others);
        all.filter_map(|(_, mac)| self.find(*mac)).filter(|machine| machine.may_be_chosen())
    }

    /// The machine to give out, of those that suit: the one that waits longest of
    /// those that wait now, and if none does, the first that may be on its way.
    #[must_use]
    pub fn choose(&self, now: Timestamp, suits: impl Fn(&Machine) -> bool) -> Option<&Machine> {
        let machine = |(_, mac): &(Timestamp, Mac)| self.find(*mac);
        let suits = |machine: &&Machine| machine.may_be_chosen() && suits(machine);
        let mut on_its_way = self.others.iter().filter_map(machine);
        let mut silent = self.held.iter().filter_map(machine);
        let waiting = self.waiting(now, suits);
        waiting.or_else(|| on_its_way.find(suits)).or_else(|| silent.find(suits))
    }

    /// Of those that wait now and suit, the one that waits longest.
    fn waiting(&self, now: Timestamp, suits: impl Fn(&&Machine) -> bool) -> Option<&Machine> {
        let since = Timestamp(now.0.saturating_sub(Machine::STILL_WAITING_MILLISECONDS));
        let asked = || self.asked.range((since, Mac::new([0; 6]))..);
        if asked().nth(LOOKED_AT).is_some() {
            let mut held = self.held.iter().filter_map(|(_, mac)| self.find(*mac));
            return held.find(|machine| machine.waits(now) && suits(machine));
        }
        // Of very many that are switched off, only those that ask are looked at.
        let suitable = asked().filter_map(|(_, mac)| self.find(*mac)).filter(suits);
        suitable.min_by_key(|machine| (machine.waiting_since, machine.mac))
    }

    /// The stranger that was known first of those that never came further than to ask
    /// for an address; nothing if there is none among the first [`LOOKED_AT`] of those
    /// that do not wait.
    #[must_use]
    pub fn passer_by(&self) -> Option<&Machine> {
        let first = self.others.iter().take(LOOKED_AT);
        first
            .filter_map(|(_, mac)| self.find(*mac))
            .find(|machine| machine.is_stranger() && matches!(machine.stage, Some(Stage::Firmware)))
    }

    /// The machine that had an instance of this name last, and is none's now.
    #[must_use]
    pub fn former(&self, group: Option<&str>, logical_id: &LogicalId) -> Option<&Machine> {
        let name = (group.map(str::to_owned), logical_id.clone());
        self.find(*self.former.get(&name)?)
    }

    /// What is known of the machine from now on. Whatever is said, a card is one
    /// machine's: one that is known as a machine, or is another's, stays that, and one
    /// that is spoken of as a machine is no other's any more.
    pub(super) fn put(&mut self, mut machine: Machine) {
        self.remove(machine.mac);
        self.detach(machine.mac);
        let name = machine.mac;
        let is_open = |card: &Mac| {
            *card != name && !self.known.contains_key(card) && self.of_card(*card) == *card
        };
        if !machine.identity.is_empty() {
            let identity = &mut *machine.identity;
            identity.cards.retain(is_open);
            identity.asked_by = identity.asked_by.filter(|card| identity.cards.contains(card));
            identity.ports.retain(|card, _| *card == name || identity.cards.contains(card));
        }
        machine.identity = machine.identity.settled();
        machine.habits = machine.habits.settled();
        machine.dhcp = machine.dhcp.settled();
        machine.labels = machine.labels.pooled(&mut self.labels);
        machine.uuid = machine.uuid.filter(|uuid| is_genuine_uuid(uuid));
        self.index(&machine);
        let place = (machine.waiting_since, machine.mac);
        match machine.state {
            MachineState::Held => {
                self.held.insert(place);
                self.asked.extend(machine.last_seen.map(|last| (last, machine.mac)));
            }
            MachineState::Seen | MachineState::Free => drop(self.others.insert(place)),
            MachineState::Assigned
            | MachineState::Retiring
            | MachineState::Releasing
            | MachineState::SetAside => {}
        }
        if let Some(name) = &machine.former {
            self.former.insert(name.clone(), machine.mac);
        }
        self.known.insert(machine.mac, Box::new(machine));
    }

    pub(super) fn remove(&mut self, mac: Mac) {
        let Some(machine) = self.known.remove(&mac) else { return };
        self.forget_index(&machine);
        machine.labels.give_back(&mut self.labels);
        let place = (machine.waiting_since, mac);
        self.held.remove(&place);
        if let Some(last) = machine.last_seen {
            self.asked.remove(&(last, mac));
        }
        self.others.remove(&place);
        if let Some(name) = &machine.former
            && self.former.get(name) == Some(&mac)
        {
            self.former.remove(name);
        }
    }

    /// The card is a machine of its own from now on.
    pub(super) fn detach(&mut self, card: Mac) {
        let owner = self.by_card.get(&card).and_then(|owner| self.known.get(owner)).cloned();
        if let Some(owner) = owner {
            let identity = (*owner.identity).clone().without(card).into();
            self.put(Machine { identity, ..*owner });
        }
    }

    fn index(&mut self, machine: &Machine) {
        let mac = machine.mac;
        self.by_card.extend(machine.identity.cards.iter().map(|card| (*card, mac)));
        marks_of(machine, |mark| self.marks.insert(mark, mac));
    }

    fn forget_index(&mut self, machine: &Machine) {
        let mac = machine.mac;
        for card in &machine.identity.cards {
            self.by_card.remove(card);
        }
        marks_of(machine, |mark| self.marks.remove(mark, mac));
    }

    /// Very many are about to come; see [`super::State::gathering`].
    pub(super) fn gather(&mut self, count: usize) {
        self.marks.gather();
        self.known.reserve(count);
    }

    /// The same in less memory; see [`super::State::settled`].
    pub(super) fn settle(&mut self) {
        super::settle_set(&mut self.held);
        super::settle_set(&mut self.asked);
        super::settle_set(&mut self.others);
        self.marks.settle();
        self.known.shrink_to_fit();
        self.by_card.shrink_to_fit();
        self.former.shrink_to_fit();
    }

    /// An instance has it from now on. Also where the step must not be, as when a
    /// store is read whose last word on the machine is older than the instance.
    pub(super) fn assign(&mut self, mac: Mac, at: Timestamp) {
        let Some(machine) = self.find(mac) else { return };
        let is_assigned = matches!(machine.state, MachineState::Assigned | MachineState::Retiring);
        if !is_assigned {
            let state = MachineState::Assigned;
            let machine = Machine { state, since: at, enrolled: true, ..machine.clone() };
            self.put(machine);
        }
    }

    /// Its instance is gone.
    pub(super) fn release(&mut self, mac: Mac, at: Timestamp) {
        let after =
            self.find(mac).and_then(|machine| machine.after(MachineEvent::Destroyed, at).ok());
        if let Some(machine) = after {
            self.put(machine);
        }
    }

    #[cfg(test)]
    pub(super) fn assert_consistent(&self, is_held: impl Fn(Mac) -> bool) {
        let places = |wanted: &[MachineState]| -> BTreeSet<_> {
            let machines = self.known.values().filter(|machine| wanted.contains(&machine.state));
            machines.map(|machine| (machine.waiting_since, machine.mac)).collect()
        };
        assert_eq!(self.held, places(&[MachineState::Held]));
        let held = self.known.values().filter(|machine| machine.state == MachineState::Held);
        let asked = held.filter_map(|machine| Some((machine.last_seen?, machine.mac)));
        assert_eq!(self.asked, asked.collect());
        assert_eq!(self.others, places(&[MachineState::Seen, MachineState::Free]));
        for machine in self.known.values() {
            let is_assigned =
                matches!(machine.state, MachineState::Assigned | MachineState::Retiring);
            assert_eq!(is_assigned, is_held(machine.mac), "{machine:?}");
        }
        for (name, mac) in &self.former {
            assert_eq!(self.known[mac].former.as_ref(), Some(name));
        }
        self.assert_cards_consistent(is_held);
    }

    /// A card is one machine's, and the indexes say what the machines say.
    #[cfg(test)]
    fn assert_cards_consistent(&self, is_held: impl Fn(Mac) -> bool) {
        let mut again = Self::default();
        for machine in self.known.values() {
            again.index(machine);
            for card in &machine.identity.cards {
                assert_eq!(self.of_card(*card), machine.mac, "{machine:?}");
                assert!(!self.known.contains_key(card), "{card} is known by itself, too");
                assert!(!is_held(*card), "{card} is an instance's, and {machine:?} has it");
            }
        }
        assert_eq!(self.by_card, again.by_card);
        assert_eq!(self.marks, again.marks);
    }
}

/// What a machine may be found by besides its cards.
#[derive(Hash)]
enum Mark<'a> {
    Uuid(u128),
    Serial(&'a str),
    Port(&'a Port),
}

fn marks_of(machine: &Machine, mut with: impl FnMut(&Mark<'_>)) {
    if let Some(uuid) = &machine.uuid {
        with(&Mark::Uuid(canonical_uuid(uuid)));
    }
    if let Some(serial) = &machine.identity.serial {
        with(&Mark::Serial(serial));
    }
    for key in machine.port().map(slots::keys).iter().flatten() {
        with(&Mark::Port(key));
    }
}
