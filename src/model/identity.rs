//! What a machine is known by besides the card that names it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Mac, Port, Usual, canonical_uuid};

/// The most cards that a machine may have, with the one that names it.
pub const MOST_CARDS: usize = 64;

/// So many UUIDs are kept of one machine besides the last: one that shows a new one at
/// every boot must not fill the memory.
pub const MOST_UUIDS: usize = 8;

/// The cards of a machine besides the one that names it, and what supports who it is.
///
/// Each field's default is what a machine has of which nothing is known, and a row
/// that was written before a field was there is read with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// Its further cards: what asks with one of them is this machine.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub cards: BTreeSet<Mac>,
    /// The further card that asked last; nothing if it was the one that names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<Mac>,
    /// Its serial number, as [`super::serial`] lets it pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// UUIDs that it showed before the last one, [`MOST_UUIDS`] at most.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub other_uuids: BTreeSet<String>,
    /// Those of its UUIDs that it had when its operator joined its cards: some
    /// firmware makes the UUID of the card that it boots with.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub settled_uuids: BTreeSet<String>,
    /// Where each of its cards was seen last, as far as a relay said it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<Mac, Port>,
    /// Cards that the inventory lists for it and that are another machine's.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub contested: BTreeSet<Mac>,
}

impl Usual for Identity {
    const USUAL: &'static Self = &Self {
        cards: BTreeSet::new(),
        asked_by: None,
        serial: None,
        other_uuids: BTreeSet::new(),
        settled_uuids: BTreeSet::new(),
        ports: BTreeMap::new(),
        contested: BTreeSet::new(),
    };
}

impl Identity {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The UUID that counts after the machine has shown `shown`, having had `before`;
    /// what it had is remembered beside it. The same in another order of bytes is none
    /// that is new.
    #[must_use]
    pub fn after_uuid(&mut self, before: Option<&String>, shown: String) -> String {
        let Some(before) = before else { return shown };
        if canonical_uuid(before) == canonical_uuid(&shown) {
            return before.clone();
        }
        self.other_uuids.remove(&shown);
        if self.other_uuids.len() < MOST_UUIDS {
            self.other_uuids.insert(before.clone());
        }
        shown
    }

    /// Whether it shows several UUIDs, and its operator has not said that they are of
    /// one machine.
    #[must_use]
    pub fn is_inconstant(&self, uuid: Option<&String>) -> bool {
        let mut all = self.other_uuids.iter().chain(uuid);
        !self.other_uuids.is_empty() && all.any(|one| !self.settled_uuids.contains(one))
    }

    /// All that both are known by: `other` is another machine of which its operator
    /// says that it is this one.
    #[must_use]
    pub fn joined(mut self, other: (Mac, Self), uuids: [Option<&String>; 2]) -> Self {
        let (mac, other) = other;
        self.cards.insert(mac);
        self.cards.extend(other.cards);
        self.serial = self.serial.or(other.serial);
        self.ports.extend(other.ports);
        let [own, others] = uuids;
        let more = other.other_uuids.into_iter().chain(others.cloned());
        let more: Vec<String> = more.filter(|one| Some(one) != own).collect();
        for uuid in more.into_iter().take(MOST_UUIDS - self.other_uuids.len().min(MOST_UUIDS)) {
            self.other_uuids.insert(uuid);
        }
        self.settled_uuids = self.other_uuids.iter().cloned().chain(own.cloned()).collect();
        self
    }

    /// Without one of its further cards, and what is known of that card alone.
    #[must_use]
    pub fn without(mut self, card: Mac) -> Self {
        self.cards.remove(&card);
        self.ports.remove(&card);
        self.asked_by = self.asked_by.filter(|asked| *asked != card);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uuid(number: u8) -> String {
        format!("4c4c4544-0042-3510-8052-b3c04f4b4e{number:02x}")
    }

    #[test]
    fn a_uuid_that_changes_is_remembered_and_one_in_another_order_of_bytes_is_the_same() {
        let mut identity = Identity::default();
        assert_eq!(identity.after_uuid(None, uuid(1)), uuid(1));
        let turned = "44454c4c-4200-1035-8052-b3c04f4b4e01".to_owned();
        assert_eq!(identity.after_uuid(Some(&uuid(1)), turned), uuid(1));
        assert!(!identity.is_inconstant(Some(&uuid(1))));
        assert_eq!(identity.after_uuid(Some(&uuid(1)), uuid(2)), uuid(2));
        assert!(identity.is_inconstant(Some(&uuid(2))));
        assert_eq!(identity.after_uuid(Some(&uuid(2)), uuid(1)), uuid(1));
        assert_eq!(identity.other_uuids, [uuid(2)].into());
        for number in 3..40 {
            let _ = identity.after_uuid(Some(&uuid(number - 1)), uuid(number));
        }
        assert_eq!(identity.other_uuids.len(), MOST_UUIDS);
    }

    #[test]
    fn the_uuids_of_two_that_were_joined_are_no_riddle_any_more_and_a_third_is() {
        let [first, second] = [uuid(1), uuid(2)];
        let other = (Mac::new([2, 0, 0, 0, 0, 2]), Identity::default());
        let mut joined = Identity::default().joined(other, [Some(&first), Some(&second)]);
        assert!(!joined.is_inconstant(Some(&first)));
        let shown = joined.after_uuid(Some(&first), second.clone());
        assert!(!joined.is_inconstant(Some(&shown)));
        let shown = joined.after_uuid(Some(&shown), uuid(3));
        assert!(joined.is_inconstant(Some(&shown)));
    }

    #[test]
    fn a_row_of_which_nothing_is_known_takes_no_room() {
        assert_eq!(serde_json::to_string(&Identity::default()).expect("JSON"), "{}");
    }
}
