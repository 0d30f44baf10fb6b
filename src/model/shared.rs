//! What many have alike, and what few have: two ways to keep a record small.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::Hash,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that may be in memory once and belong to many: the image of a whole group.
/// Who changes it has one of its own from then on. On disk and in answers it is the
/// value itself.
#[derive(PartialEq, Eq, Hash)]
pub struct Shared<T>(Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T: Default> Default for Shared<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

/// The values of which many may have the same, and how many have each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pooled<T: Eq + Hash>(HashMap<Shared<T>, usize>);

impl<T: Eq + Hash> Default for Pooled<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash> Pooled<T> {
    /// The same value for one more, as it is here already if somebody has it.
    pub fn share(&mut self, value: &Shared<T>) -> Shared<T> {
        match self.0.entry(value.clone()) {
            Entry::Occupied(mut known) => {
                *known.get_mut() += 1;
                known.key().clone()
            }
            Entry::Vacant(new) => {
                new.insert(1);
                value.clone()
            }
        }
    }

    /// One that had it by [`Self::share`] has it no longer; with the last it goes.
    pub fn give_back(&mut self, value: &Shared<T>) {
        if let Some(count) = self.0.get_mut(value) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(value);
            }
        }
    }

    /// How many different values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody has any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What most have not: its default takes one word.
pub struct Rare<T>(Option<Box<T>>);

/// A value of which a default can be lent for ever.
pub trait Usual: Default + PartialEq + 'static {
    /// The default.
    const USUAL: &'static Self;
}

impl<T: Usual> Rare<T> {
    /// The same, with no room taken for what is the default after all.
    #[must_use]
    pub fn settled(self) -> Self {
        Self(self.0.filter(|value| **value != *T::USUAL))
    }
}

impl<T: Clone> Clone for Rare<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Usual> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::USUAL)
    }
}

impl<T: Usual> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: Usual> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Self((value != *T::USUAL).then(|| Box::new(value)))
    }
}

impl<T: Usual> PartialEq for Rare<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Usual + Eq> Eq for Rare<T> {}

impl<T: Usual + fmt::Debug> fmt::Debug for Rare<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

impl<T: Usual + Serialize> Serialize for Rare<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Usual + Deserialize<'de>> Deserialize<'de> for Rare<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Drain;

    #[test]
    fn what_is_shared_is_kept_once_and_as_long_as_somebody_has_it() {
        let mut pooled = Pooled::<String>::default();
        let [one, other]: [Shared<String>; 2] = ["a".to_owned(), "a".to_owned()].map(Into::into);
        let [first, second] = [pooled.share(&one), pooled.share(&other)];
        drop((one, other));
        assert!(Arc::ptr_eq(&first.0, &second.0));
        pooled.give_back(&first);
        assert_eq!(pooled.len(), 1);
        pooled.give_back(&second);
        assert!(pooled.is_empty());
    }

    #[test]
    fn who_changes_what_is_shared_changes_nobody_elses() {
        let one = Shared::from("a".to_owned());
        let mut other = one.clone();
        other.push('b');
        assert_eq!((one.as_str(), other.as_str()), ("a", "ab"));
    }

    #[test]
    fn what_is_usual_takes_one_word_and_is_written_as_itself() {
        assert_eq!(size_of::<Rare<Drain>>(), size_of::<usize>());
        let mut rare = Rare::<Drain>::default();
        assert_eq!(serde_json::to_value(&rare).ok(), serde_json::to_value(Drain::default()).ok());
        rare.callback = None;
        assert!(rare.0.is_some() && rare == Rare::default(), "touched, and the same");
        assert!(rare.settled().0.is_none());
    }
}
