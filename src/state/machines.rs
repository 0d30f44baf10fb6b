//! The machines that asked to boot, and the queue of those that nobody holds.

use std::collections::{BTreeSet, HashMap};

use crate::model::{Mac, Machine, Timestamp};

/// The machines that asked to boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machines {
    seen: HashMap<Mac, Machine>,
    /// Those that no instance holds, longest-waiting first.
    waiting: BTreeSet<(Timestamp, Mac)>,
}

impl Machines {
    /// The machine with this card, if it was seen.
    #[must_use]
    pub fn find(&self, mac: Mac) -> Option<&Machine> {
        self.seen.get(&mac)
    }

    /// Every machine that was seen, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Machine> {
        self.seen.values()
    }

    /// The machines that no instance holds, longest-waiting first.
    pub fn waiting(&self) -> impl Iterator<Item = &Machine> {
        self.waiting.iter().filter_map(|(_, mac)| self.seen.get(mac))
    }

    pub(super) fn put(&mut self, machine: Machine, held: bool) {
        self.hold(machine.mac);
        if !held {
            self.waiting.insert((machine.waiting_since, machine.mac));
        }
        self.seen.insert(machine.mac, machine);
    }

    pub(super) fn hold(&mut self, mac: Mac) {
        if let Some(machine) = self.seen.get(&mac) {
            self.waiting.remove(&(machine.waiting_since, mac));
        }
    }

    pub(super) fn let_go(&mut self, mac: Mac, at: Timestamp) {
        self.hold(mac);
        if let Some(machine) = self.seen.get_mut(&mac) {
            machine.waiting_since = at;
            self.waiting.insert((at, mac));
        }
    }

    #[cfg(test)]
    pub(super) fn assert_consistent(&self, is_held: impl Fn(Mac) -> bool) {
        let expected: BTreeSet<_> = self
            .seen
            .values()
            .filter(|machine| !is_held(machine.mac))
            .map(|machine| (machine.waiting_since, machine.mac))
            .collect();
        assert_eq!(self.waiting, expected);
    }
}
