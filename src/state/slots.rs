//! What the operator calls the places behind ports.

use std::collections::HashMap;

use crate::model::{Port, Slot};

/// The places of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slots {
    by_port: HashMap<Port, String>,
    ports: HashMap<String, Vec<Port>>,
}

impl Slots {
    pub(super) fn new(slots: &[Slot]) -> Self {
        let mut all = Self::default();
        for Slot { name, port } in slots {
            all.by_port.insert(port.clone(), name.clone());
            all.ports.entry(name.clone()).or_default().push(port.clone());
        }
        all
    }

    /// The place behind this port: that of which both IDs are said goes before that
    /// with the circuit ID alone, and that before that with the remote ID alone.
    #[must_use]
    pub fn behind(&self, port: &Port) -> Option<&str> {
        if self.by_port.is_empty() {
            return None;
        }
        keys(port).into_iter().find_map(|key| self.by_port.get(&key)).map(String::as_str)
    }

    /// What is said of the ports of this place.
    pub(super) fn ports(&self, name: &str) -> impl Iterator<Item = &Port> {
        self.ports.get(name).into_iter().flatten()
    }

    /// Whether these are all.
    #[must_use]
    pub fn are(&self, slots: &[Slot]) -> bool {
        *self == Self::new(slots)
    }

    /// How many are named.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ports.len()
    }
}

/// All that can be said of a port, most first.
pub(super) fn keys(port: &Port) -> [Port; 3] {
    let Port { remote_id, circuit_id } = port.clone();
    [port.clone(), Port { remote_id: None, circuit_id }, Port { remote_id, circuit_id: None }]
}
