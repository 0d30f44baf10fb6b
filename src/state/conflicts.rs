//! Where two machines cannot both be what is said of them, or one is two things.
//!
//! Shown, and never acted on: which of them is right, somebody must say. All of it
//! follows from what is known, so that it is the same after a restart. Nothing here
//! walks all machines but [`State::conflicts`].

use std::{collections::BTreeSet, fmt, time::Duration};

use super::State;
use crate::model::{Change, Mac, Machine, Timestamp, canonical_uuid};

/// A machine in a slot that was not seen for longer than this, and is no instance, may
/// have been taken out: that another is there is no conflict.
const STILL_THERE: Duration = Duration::from_secs(3600);

/// So many machines are named of one conflict; more are counted.
const MOST_NAMED: usize = 4;

/// So many machines are looked at of one UUID, serial number or port: who invents
/// machines by the ten thousand must not have all of them looked at for each new one.
const MOST_LOOKED_AT: usize = 1000;

/// A conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Of what.
    pub about: Claim,
    /// The machines that it is between, or the one that contradicts itself; not all
    /// if they are very many.
    pub machines: Vec<Mac>,
    /// How many more there are; 1000 stands for any number from there on.
    pub unnamed: usize,
}

/// What cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Several show this UUID.
    Uuid(String),
    /// Several say this serial number.
    Serial(String),
    /// Several are in this slot.
    Slot(String),
    /// One shows these UUIDs, one after the other.
    Inconstant(Vec<String>),
    /// The inventory lists this card for the first, and it is the second's.
    Card(Mac),
}

impl Conflict {
    /// The word for its kind, for programs.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.about {
            Claim::Uuid(_) => "uuid",
            Claim::Serial(_) => "serial",
            Claim::Slot(_) => "slot",
            Claim::Inconstant(_) => "uuid-changes",
            Claim::Card(_) => "card",
        }
    }

    /// What it is about, as text: a UUID, a serial number, a slot, a card.
    #[must_use]
    pub fn value(&self) -> String {
        match &self.about {
            Claim::Uuid(text) | Claim::Serial(text) | Claim::Slot(text) => text.clone(),
            Claim::Inconstant(uuids) => uuids.join(" "),
            Claim::Card(card) => card.to_string(),
        }
    }

    fn between(about: Claim, first: Mac, others: impl Iterator<Item = Mac>) -> Option<Self> {
        let mut machines = vec![first];
        let mut unnamed = 0;
        for other in others.filter(|other| *other != first).take(MOST_LOOKED_AT + MOST_NAMED - 1) {
            if machines.len() < MOST_NAMED {
                machines.push(other);
            } else {
                unnamed += 1;
            }
        }
        (machines.len() > 1).then_some(Self { about, machines, unnamed })
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.machines.iter().map(Mac::to_string).collect();
        let more = match self.unnamed {
            0 => String::new(),
            MOST_LOOKED_AT.. => format!(" and {MOST_LOOKED_AT} or more others"),
            count => format!(" and {count} more"),
        };
        let machines = format!("{}{more}", names.join(", "));
        match &self.about {
            Claim::Uuid(uuid) => write!(
                formatter,
                "{machines} show the same UUID {uuid}: join them if they are cards of one machine"
            ),
            Claim::Serial(serial) => write!(
                formatter,
                "{machines} say the same serial number {serial}: join them if they are cards of \
                 one machine"
            ),
            Claim::Slot(slot) => write!(formatter, "{machines} are all in slot {slot}"),
            Claim::Inconstant(uuids) => {
                write!(formatter, "{machines} has shown several UUIDs: {}", uuids.join(", "))
            }
            Claim::Card(card) => write!(
                formatter,
                "the inventory lists the card {card} for {}, and it is {}'s",
                names.first().map_or("", String::as_str),
                names.last().map_or("", String::as_str)
            ),
        }
    }
}

impl State {
    /// Every conflict, each once, in the order of the machines' names.
    #[must_use]
    pub fn conflicts(&self, now: Timestamp) -> Vec<Conflict> {
        let mut machines: Vec<&Machine> = self.machines.all().collect();
        machines.sort_unstable_by_key(|machine| machine.mac);
        let all = machines.into_iter().flat_map(|machine| {
            let of_it = self.conflicts_of(machine, now).into_iter();
            // One between several is told of the first of them.
            of_it.filter(|one| match one.about {
                Claim::Uuid(_) | Claim::Serial(_) | Claim::Slot(_) => {
                    one.machines.iter().all(|other| *other >= machine.mac)
                }
                Claim::Inconstant(_) | Claim::Card(_) => true,
            })
        });
        all.collect()
    }

    /// The conflicts that this machine is in.
    #[must_use]
    pub fn conflicts_of(&self, machine: &Machine, now: Timestamp) -> Vec<Conflict> {
        let contested = &machine.identity.contested;
        [self.same_uuid(machine), self.same_serial(machine), self.same_slot(machine, now)]
            .into_iter()
            .chain([inconstant(machine)])
            .flatten()
            .chain(contested.iter().filter_map(|card| self.contested(machine, *card)))
            .collect()
    }

    /// The conflicts that this change makes and that were not there before it.
    #[must_use]
    pub fn conflicts_made_by(&self, change: &Change, now: Timestamp) -> Vec<Conflict> {
        let (Change::Seen(after) | Change::Machine(after)) = change else { return Vec::new() };
        let before = self.machines.find(after.mac);
        let was = |same: &dyn Fn(&Machine) -> bool| before.is_some_and(same);
        let mut made = Vec::new();
        if after.uuid.is_some() && !was(&|before| before.uuid == after.uuid) {
            made.extend(self.same_uuid(after));
        }
        if after.identity.serial.is_some()
            && !was(&|before| before.identity.serial == after.identity.serial)
        {
            made.extend(self.same_serial(after));
        }
        if after.port().is_some()
            && !was(&|before| {
                self.slot_of(before) == self.slot_of(after)
                    && self.is_there(before, now) == self.is_there(after, now)
            })
        {
            made.extend(self.same_slot(after, now));
        }
        let is_old = |before: &Machine| {
            let known = &before.identity.other_uuids;
            let uuid = after.uuid.as_ref();
            before.uuid == after.uuid
                || uuid.is_some_and(|uuid| known.contains(uuid))
                || known.len() >= crate::model::MOST_UUIDS
        };
        if !was(&is_old) {
            made.extend(inconstant(after));
        }
        for card in &after.identity.contested {
            if !was(&|before| before.identity.contested.contains(card)) {
                made.extend(self.contested(after, *card));
            }
        }
        made
    }

    /// The slot that the machine was seen in last.
    #[must_use]
    pub fn slot_of(&self, machine: &Machine) -> Option<&str> {
        self.slots.behind(machine.port()?)
    }

    fn same_uuid(&self, machine: &Machine) -> Option<Conflict> {
        let uuid = machine.uuid.as_ref()?;
        let others = self.machines.with_uuid(canonical_uuid(uuid));
        Conflict::between(Claim::Uuid(uuid.clone()), machine.mac, others)
    }

    fn same_serial(&self, machine: &Machine) -> Option<Conflict> {
        let serial = machine.identity.serial.as_ref()?;
        let others = self.machines.with_serial(serial);
        Conflict::between(Claim::Serial(serial.clone()), machine.mac, others)
    }

    fn same_slot(&self, machine: &Machine, now: Timestamp) -> Option<Conflict> {
        let slot = self.slot_of(machine).filter(|_| self.is_there(machine, now))?;
        let inside: BTreeSet<Mac> = self
            .slots
            .ports(slot)
            .flat_map(|port| {
                let all = self.machines.behind(port);
                let is_inside = |other: &&Machine| {
                    self.slot_of(other) == Some(slot) && self.is_there(other, now)
                };
                // One of them may be this machine.
                all.filter(is_inside).take(MOST_LOOKED_AT + MOST_NAMED)
            })
            .map(|other| other.mac)
            .collect();
        Conflict::between(Claim::Slot(slot.to_owned()), machine.mac, inside.into_iter())
    }

    /// Whether it may still be where it was seen last.
    fn is_there(&self, machine: &Machine, now: Timestamp) -> bool {
        let is_seen = machine.last_seen.is_some_and(|last| now.since(last) <= STILL_THERE);
        is_seen || self.instances.of_machine(machine.mac).is_some()
    }

    fn contested(&self, machine: &Machine, card: Mac) -> Option<Conflict> {
        let owner = self.machines.of_card(card);
        let is_anothers = owner != machine.mac
            && (owner != card
                || self.machines.find(card).is_some()
                || self.instances.of_machine(card).is_some());
        Conflict::between(Claim::Card(card), machine.mac, is_anothers.then_some(owner).into_iter())
    }
}

fn inconstant(machine: &Machine) -> Option<Conflict> {
    let Machine { mac, uuid, identity, .. } = machine;
    let uuids = identity.other_uuids.iter().chain(uuid).cloned().collect();
    identity.is_inconstant(uuid.as_ref()).then(|| Conflict {
        about: Claim::Inconstant(uuids),
        machines: vec![*mac],
        unnamed: 0,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{Port, Slot, testing},
        state::tests::{changes, happening},
    };

    const NOW: Timestamp = Timestamp(10_000_000);
    const BOARD: &str = "4c4c4544-0042-3510-8052-b3c04f4b4e32";

    fn mac(last: u8) -> Mac {
        Mac::new([2, 0, 0, 0, 0, last])
    }

    fn machine(last: u8) -> Machine {
        Machine { last_seen: Some(NOW), ..testing::held(mac(last), Timestamp(last.into())) }
    }

    fn behind(mut machine: Machine, circuit: &str) -> Machine {
        let port = Port { remote_id: None, circuit_id: Some(circuit.parse().expect("an ID")) };
        machine.identity.ports.insert(machine.mac, port);
        machine
    }

    /// Applies it; the kinds of the conflicts that it makes.
    fn made(state: &mut State, change: Change) -> Vec<&'static str> {
        let made = state.conflicts_made_by(&change, NOW);
        state.apply(&change);
        made.iter().map(Conflict::kind).collect()
    }

    #[test]
    fn two_boards_of_one_uuid_or_serial_are_a_conflict_once_and_junk_is_none() {
        let mut state = State::new(None);
        let shown = |last: u8, uuid: &str, serial: Option<&str>| {
            let mut machine = Machine { uuid: Some(uuid.to_owned()), ..machine(last) };
            machine.identity.serial = serial.map(str::to_owned);
            Change::Seen(machine)
        };
        assert_eq!(made(&mut state, shown(1, BOARD, Some("7X"))), [""; 0]);
        assert_eq!(made(&mut state, shown(2, BOARD, None)), ["uuid"]);
        assert_eq!(made(&mut state, shown(2, BOARD, None)), [""; 0], "again is no news");
        assert_eq!(made(&mut state, shown(2, BOARD, Some("7X"))), ["serial"]);
        // The same in the other order of bytes.
        let turned = "44454c4c-4200-1035-8052-b3c04f4b4e32";
        assert_eq!(made(&mut state, shown(3, turned, None)), ["uuid"]);
        for (last, junk) in [(4, "00000000-0000-0000-0000-000000000000"), (5, "x")] {
            for last in [last, last + 10] {
                assert_eq!(made(&mut state, shown(last, junk, None)), [""; 0], "{junk}");
            }
        }
        let all = state.conflicts(NOW);
        let kinds: Vec<_> = all.iter().map(|one| (one.kind(), one.machines.len())).collect();
        assert_eq!(kinds, [("uuid", 3), ("serial", 2)], "{all:?}");
        assert!(all[0].to_string().contains("02:00:00:00:00:01, 02:00:00:00:00:02"), "{}", all[0]);
        state.apply(&Change::Forgotten(mac(1)));
        assert_eq!(state.conflicts(NOW).len(), 1, "two have it yet");
    }

    #[test]
    fn very_many_of_one_uuid_are_counted_and_not_all_named() {
        let mut state = State::new(None);
        for last in 1..=100 {
            let uuid = Some(BOARD.to_owned());
            state.apply(&Change::Seen(Machine { uuid, ..machine(last) }));
        }
        let [one] = &state.conflicts(NOW)[..] else { panic!("one conflict") };
        assert_eq!((one.machines.len(), one.unnamed), (MOST_NAMED, 100 - MOST_NAMED));
        assert!(one.to_string().len() < 300, "{one}");
    }

    #[test]
    fn of_a_flood_with_one_uuid_or_behind_one_port_no_more_are_looked_at_than_a_thousand() {
        let flood = |how: &dyn Fn(Machine) -> Machine| {
            let mut state = State::new(None);
            let port = Port { remote_id: None, circuit_id: Some("p7".parse().expect("an ID")) };
            state.apply(&Change::Slots(vec![Slot { name: "r1-7".to_owned(), port }]));
            for number in 0..1500u16 {
                let [high, low] = number.to_be_bytes();
                let mac = Mac::new([6, 0, 0, 0, high, low]);
                state.apply(&Change::Seen(how(Machine { mac, ..machine(1) })));
            }
            let all = state.conflicts(NOW);
            let [one] = &all[..] else { panic!("one conflict and not {}", all.len()) };
            assert_eq!((one.machines.len(), one.unnamed), (MOST_NAMED, MOST_LOOKED_AT));
            assert!(one.to_string().contains("1000 or more others"), "{one}");
        };
        flood(&|machine| Machine { uuid: Some(BOARD.to_owned()), ..machine });
        flood(&|machine| behind(machine, "p7"));
    }

    #[test]
    fn a_uuid_that_changes_is_told_once_for_each() {
        let mut state = State::new(None);
        for (number, expected) in [(1, 0), (1, 0), (2, 1), (1, 0), (2, 0), (3, 1)] {
            let uuid = format!("4c4c4544-0042-3510-8052-b3c04f4b4e{number:02x}");
            let mut seen = state.machines.find(mac(1)).cloned().unwrap_or_else(|| machine(1));
            seen.uuid = Some(seen.identity.after_uuid(seen.uuid.as_ref(), uuid));
            assert_eq!(made(&mut state, Change::Seen(seen)).len(), expected, "{number}");
        }
        let [one] = &state.conflicts(NOW)[..] else { panic!("one conflict") };
        assert_eq!(one.kind(), "uuid-changes");
    }

    #[test]
    fn two_in_one_slot_are_a_conflict_while_both_may_be_there() {
        let port = |circuit: &str| Port {
            remote_id: None,
            circuit_id: Some(circuit.parse().expect("an ID")),
        };
        let slot = |circuit: &str| Slot { name: "r1-7".to_owned(), port: port(circuit) };
        let mut state = State::new(None);
        state.apply(&Change::Slots(vec![slot("p7"), slot("p8")]));
        let gone = Machine { last_seen: Some(Timestamp(1)), ..machine(1) };
        assert_eq!(made(&mut state, Change::Seen(behind(gone, "p7"))), [""; 0]);
        assert_eq!(made(&mut state, Change::Seen(behind(machine(2), "p8"))), [""; 0], "a swap");
        assert_eq!(
            made(&mut state, Change::Seen(behind(machine(1), "p7"))),
            ["slot"],
            "it is back"
        );
        assert_eq!(made(&mut state, Change::Seen(behind(machine(1), "p7"))), [""; 0]);
        assert_eq!(made(&mut state, Change::Seen(behind(machine(3), "p9"))), [""; 0], "unnamed");
        assert_eq!(made(&mut state, Change::Seen(behind(machine(4), "p9"))), [""; 0], "unnamed");
        assert_eq!(state.conflicts(NOW).len(), 1);
        assert_eq!(made(&mut state, Change::Seen(behind(machine(2), "p9"))), [""; 0], "moved away");
        assert_eq!(state.conflicts(NOW), []);
    }

    #[test]
    fn of_names_that_a_port_could_have_the_most_exact_counts() {
        let id = |text: &str| Some(text.parse().expect("an ID"));
        let mut slots = Vec::new();
        for (name, remote, circuit) in
            [("switch", id("s"), None), ("port", None, id("p")), ("both", id("s"), id("p"))]
        {
            let port = Port { remote_id: remote, circuit_id: circuit };
            slots.push(Slot { name: name.to_owned(), port });
        }
        let mut state = State::new(None);
        state.apply(&Change::Slots(slots));
        for (remote, circuit, expected) in [
            (id("s"), id("p"), Some("both")),
            (id("s"), id("q"), Some("switch")),
            (id("t"), id("p"), Some("port")),
            (id("t"), None, None),
        ] {
            let port = Port { remote_id: remote, circuit_id: circuit };
            assert_eq!(state.slots.behind(&port), expected, "{port}");
        }
    }

    proptest! {
        /// What is told as new was not there, and is there after it.
        #[test]
        fn a_conflict_is_told_when_it_comes_and_only_then(
            happenings in proptest::collection::vec(happening(), 0..60),
        ) {
            let mut state = State::new(None);
            let now = Timestamp(60);
            for happening in happenings {
                for change in changes(&state, &happening) {
                    let before = state.conflicts(now);
                    let made = state.conflicts_made_by(&change, now);
                    state.apply(&change);
                    let after = state.conflicts(now);
                    prop_assert!(after.len() <= before.len() || !made.is_empty(), "{change:?}");
                    for one in &made {
                        prop_assert!(!before.contains(one), "{one} was there");
                        let is_there = |other: &Conflict| {
                            other.kind() == one.kind() && other.value() == one.value()
                        };
                        prop_assert!(after.iter().any(is_there), "{one} is not there");
                    }
                }
            }
        }
    }
}
