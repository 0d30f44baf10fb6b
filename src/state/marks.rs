//! What is found by what it shows, without keeping that twice: an index by hashes.

use std::{
    collections::{BTreeSet, btree_set::Range},
    hash::{DefaultHasher, Hash, Hasher},
};

/// Who shows what. Two things may have the same hash, so whoever is found has to be
/// looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marks<Owner: Ord> {
    sorted: BTreeSet<(u64, Owner)>,
    /// What came since [`Self::gather`], in no order; nothing at any other time.
    gathered: Option<Vec<(u64, Owner)>>,
}

impl<Owner: Ord> Default for Marks<Owner> {
    fn default() -> Self {
        Self { sorted: BTreeSet::new(), gathered: None }
    }
}

impl<Owner: Ord + Copy> Marks<Owner> {
    pub(super) fn insert(&mut self, shown: &impl Hash, owner: Owner) {
        let mark = (hash(shown), owner);
        match &mut self.gathered {
            Some(gathered) => gathered.push(mark),
            None => drop(self.sorted.insert(mark)),
        }
    }

    pub(super) fn remove(&mut self, shown: &impl Hash, owner: Owner) {
        self.settle();
        self.sorted.remove(&(hash(shown), owner));
    }

    /// Those that may show it, in their order, and all that do among them. `least` is
    /// an owner before all others.
    pub(super) fn of(&self, shown: &impl Hash, least: Owner) -> Found<'_, Owner> {
        let hash = hash(shown);
        let gathered = self.gathered.as_deref().unwrap_or_default().iter();
        Found { hash, all: self.sorted.range((hash, least)..), gathered }
    }

    /// Very many are about to come: they are put in order when all are there, which
    /// [`Self::settle`] says, or when one is to go. Until then they are found slowly.
    pub(super) fn gather(&mut self) {
        self.gathered.get_or_insert_default();
    }

    /// Puts in order what was gathered, in the least memory; see
    /// [`super::State::settled`].
    pub(super) fn settle(&mut self) {
        if let Some(gathered) = self.gathered.take() {
            let sorted = std::mem::take(&mut self.sorted);
            self.sorted = sorted.into_iter().chain(gathered).collect();
        }
    }
}

/// What may show what was asked for.
pub(super) struct Found<'a, Owner> {
    hash: u64,
    all: Range<'a, (u64, Owner)>,
    gathered: std::slice::Iter<'a, (u64, Owner)>,
}

impl<Owner: Ord + Copy> Iterator for Found<'_, Owner> {
    type Item = Owner;

    fn next(&mut self) -> Option<Owner> {
        let sorted = self.all.next().filter(|(hash, _)| *hash == self.hash);
        let found = sorted.or_else(|| self.gathered.find(|(hash, _)| *hash == self.hash));
        found.map(|(_, owner)| *owner)
    }
}

/// The same in every process, so that the same changes make the same state.
fn hash(shown: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    shown.hash(&mut hasher);
    hasher.finish()
}
