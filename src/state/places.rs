//! Which places of a group are taken, so that the lowest that is free is found without
//! walking over those that are not.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::InstanceId;

/// The places of one group and who has them. A Label can put two instances at one
/// place, so each is here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Places {
    taken: BTreeSet<(u32, InstanceId)>,
    /// The taken places without gaps: the first of each row of them, and the last.
    rows: BTreeMap<u32, u32>,
}

impl Places {
    /// The lowest place that nobody has.
    pub(super) fn free(&self) -> u32 {
        match self.rows.first_key_value() {
            Some((0, last)) => last.saturating_add(1),
            Some(_) | None => 0,
        }
    }

    /// The oldest that has this place.
    pub(super) fn at(&self, index: u32) -> Option<InstanceId> {
        let (found, id) = self.taken.range((index, InstanceId::FIRST)..).next()?;
        (*found == index).then_some(*id)
    }

    pub(super) fn take(&mut self, index: u32, id: InstanceId) {
        let is_new = self.at(index).is_none();
        self.taken.insert((index, id));
        if !is_new {
            return;
        }
        let before = self.rows.range(..index).next_back().map(|(first, last)| (*first, *last));
        let first = match before {
            Some((first, last)) if last.checked_add(1) == Some(index) => first,
            Some(_) | None => index,
        };
        let behind = index.checked_add(1).and_then(|next| self.rows.remove(&next));
        self.rows.insert(first, behind.unwrap_or(index));
    }

    pub(super) fn leave(&mut self, index: u32, id: InstanceId) {
        if !self.taken.remove(&(index, id)) || self.at(index).is_some() {
            return;
        }
        let row = self.rows.range(..=index).next_back().map(|(first, last)| (*first, *last));
        let Some((first, last)) = row else { return };
        if first == index {
            self.rows.remove(&first);
        } else {
            self.rows.insert(first, index - 1);
        }
        if index < last {
            self.rows.insert(index + 1, last);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// The same in less memory; see [`super::State::settled`].
    pub(super) fn settle(&mut self) {
        super::settle_set(&mut self.taken);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Timestamp;

    proptest! {
        #[test]
        fn the_lowest_free_place_is_what_a_walk_finds(
            steps in proptest::collection::vec((any::<bool>(), 0u32..8, 0u64..3), 0..60),
            end in any::<bool>(),
        ) {
            let mut places = Places::default();
            for (takes, index, id) in steps {
                // At the end of all numbers nothing must overflow.
                let index = if end { u32::MAX - index } else { index };
                let id = InstanceId::next(None, Timestamp(id));
                if takes { places.take(index, id) } else { places.leave(index, id) }
                let walk = (0..10).find(|one| !places.taken.iter().any(|(index, _)| index == one));
                prop_assert_eq!(Some(places.free()), walk);
                let rows: Vec<u32> =
                    places.rows.iter().flat_map(|(first, last)| *first..=*last).collect();
                let mut taken: Vec<u32> = places.taken.iter().map(|(index, _)| *index).collect();
                taken.dedup();
                prop_assert_eq!(rows, taken);
                let owner = places.taken.iter().find(|(one, _)| *one == index).map(|(_, id)| *id);
                prop_assert_eq!(places.at(index), owner);
            }
        }
    }
}
