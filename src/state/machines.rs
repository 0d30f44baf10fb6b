//! The machines that asked to boot or are listed, and the queue of those that
//! may be given out.

use std::collections::{BTreeSet, HashMap};

use crate::model::{LogicalId, Mac, Machine, MachineEvent, MachineState, Timestamp};

/// The machines that are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machines {
    known: HashMap<Mac, Machine>,
    /// Those in the hold script, longest-waiting first.
    held: BTreeSet<(Timestamp, Mac)>,
    /// The others that may be given out, in the same order.
    others: BTreeSet<(Timestamp, Mac)>,
    /// The machine that had this name last.
    former: HashMap<(Option<String>, LogicalId), Mac>,
}

impl Machines {
    /// The machine with this card, if it is known.
    #[must_use]
    pub fn find(&self, mac: Mac) -> Option<&Machine> {
        self.known.get(&mac)
    }

    /// Every machine that is known, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Machine> {
        self.known.values()
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
        all.filter_map(|(_, mac)| self.known.get(mac)).filter(|machine| machine.may_be_chosen())
    }

    /// The machine to give out, of those that suit: the one that waits longest of
    /// those that wait now, and if none does, the first that may be on its way.
    #[must_use]
    pub fn choose(&self, now: Timestamp, suits: impl Fn(&Machine) -> bool) -> Option<&Machine> {
        let machine = |(_, mac): &(Timestamp, Mac)| self.known.get(mac);
        let suits = |machine: &&Machine| machine.may_be_chosen() && suits(machine);
        let mut waiting = self.held.iter().filter_map(machine).filter(|one| one.waits(now));
        let mut on_its_way = self.others.iter().filter_map(machine);
        let mut silent = self.held.iter().filter_map(machine);
        waiting.find(suits).or_else(|| on_its_way.find(suits)).or_else(|| silent.find(suits))
    }

    /// The machine that had an instance of this name last, and is none's now.
    #[must_use]
    pub fn former(&self, group: Option<&str>, logical_id: &LogicalId) -> Option<&Machine> {
        let name = (group.map(str::to_owned), logical_id.clone());
        self.known.get(self.former.get(&name)?)
    }

    pub(super) fn put(&mut self, machine: Machine) {
        self.remove(machine.mac);
        let place = (machine.waiting_since, machine.mac);
        match machine.state {
            MachineState::Held => drop(self.held.insert(place)),
            MachineState::Seen | MachineState::Free => drop(self.others.insert(place)),
            MachineState::Assigned
            | MachineState::Retiring
            | MachineState::Releasing
            | MachineState::SetAside => {}
        }
        if let Some(name) = &machine.former {
            self.former.insert(name.clone(), machine.mac);
        }
        self.known.insert(machine.mac, machine);
    }

    pub(super) fn remove(&mut self, mac: Mac) {
        let Some(machine) = self.known.remove(&mac) else { return };
        let place = (machine.waiting_since, mac);
        self.held.remove(&place);
        self.others.remove(&place);
        if let Some(name) = &machine.former
            && self.former.get(name) == Some(&mac)
        {
            self.former.remove(name);
        }
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
        assert_eq!(self.others, places(&[MachineState::Seen, MachineState::Free]));
        for machine in self.known.values() {
            let is_assigned =
                matches!(machine.state, MachineState::Assigned | MachineState::Retiring);
            assert_eq!(is_assigned, is_held(machine.mac), "{machine:?}");
        }
        for (name, mac) in &self.former {
            assert_eq!(self.known[mac].former.as_ref(), Some(name));
        }
    }
}
