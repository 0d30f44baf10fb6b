//! What is found by what it shows, without keeping that twice: an index by hashes.

use std::{
    collections::{BTreeSet, btree_set::Range},
    hash::{DefaultHasher, Hash, Hasher},
};

/// Who shows what. Two things may have the same hash, so whoever is found has to be
/// looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marks<Owner: Ord>(BTreeSet<(u64, Owner)>);

impl<Owner: Ord> Default for Marks<Owner> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<Owner: Ord + Copy> Marks<Owner> {
    pub(super) fn insert(&mut self, shown: &impl Hash, owner: Owner) {
        self.0.insert((hash(shown), owner));
    }

    pub(super) fn remove(&mut self, shown: &impl Hash, owner: Owner) {
        self.0.remove(&(hash(shown), owner));
    }

    /// Those that may show it, in their order, and all that do among them. `least` is
    /// an owner before all others.
    pub(super) fn of(&self, shown: &impl Hash, least: Owner) -> Found<'_, Owner> {
        let hash = hash(shown);
        Found { hash, all: self.0.range((hash, least)..) }
    }

    /// The same in less memory; see [`super::State::settled`].
    pub(super) fn settle(&mut self) {
        super::settle_set(&mut self.0);
    }
}

/// What may show what was asked for.
pub(super) struct Found<'a, Owner> {
    hash: u64,
    all: Range<'a, (u64, Owner)>,
}

impl<Owner: Ord + Copy> Iterator for Found<'_, Owner> {
    type Item = Owner;

    fn next(&mut self) -> Option<Owner> {
        let (hash, owner) = self.all.next()?;
        (*hash == self.hash).then_some(*owner)
    }
}

/// The same in every process, so that the same changes make the same state.
fn hash(shown: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    shown.hash(&mut hasher);
    hasher.finish()
}
