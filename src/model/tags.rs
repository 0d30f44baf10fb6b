//! Texts by their names: the tags of an instance, the labels of a machine.

#[cfg(test)]
use std::ops::Index;
use std::{borrow::Borrow, collections::BTreeMap};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Shared;

/// Tags, stored and returned to the letter, in the order of their keys. A few of them
/// take less room in a list than in a tree, and those of a whole group are in memory
/// once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Tags(Option<Shared<List>>);

type List = Vec<(String, String)>;

impl Tags {
    /// No tags.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// The value of this key.
    #[must_use]
    pub fn get<Key: Ord + ?Sized>(&self, key: &Key) -> Option<&String>
    where
        String: Borrow<Key>,
    {
        let place = self.place(key).ok()?;
        self.list().get(place).map(|(_, value)| value)
    }

    /// Whether there is a tag of this key.
    #[must_use]
    pub fn contains_key<Key: Ord + ?Sized>(&self, key: &Key) -> bool
    where
        String: Borrow<Key>,
    {
        self.place(key).is_ok()
    }

    /// Sets the value of a key; the one that it had, if any.
    pub fn insert(&mut self, key: String, value: String) -> Option<String> {
        let place = self.place(&key);
        let list = self.0.get_or_insert_default();
        match place {
            Ok(place) if list[place].1 == value => Some(value),
            Ok(place) => Some(std::mem::replace(&mut list[place].1, value)),
            Err(place) => {
                list.insert(place, (key, value));
                None
            }
        }
    }

    /// Takes away a key; the value that it had, if any.
    pub fn remove<Key: Ord + ?Sized>(&mut self, key: &Key) -> Option<String>
    where
        String: Borrow<Key>,
    {
        let place = self.place(key).ok()?;
        let (_, value) = self.0.as_mut()?.remove(place);
        if self.list().is_empty() {
            self.0 = None;
        }
        Some(value)
    }

    /// Every key with its value, in the order of the keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&String, &String)> {
        self.list().iter().map(|(key, value)| (key, value))
    }

    /// Every key, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &String> {
        self.list().iter().map(|(key, _)| key)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    fn list(&self) -> &[(String, String)] {
        self.0.as_ref().map_or(&[], |list| list.as_slice())
    }

    fn place<Key: Ord + ?Sized>(&self, key: &Key) -> Result<usize, usize>
    where
        String: Borrow<Key>,
    {
        self.list().binary_search_by(|(own, _)| Borrow::<Key>::borrow(own).cmp(key))
    }

    /// The same, in one piece of memory with those of others.
    #[must_use]
    pub fn pooled(self, pool: &mut TagPool) -> Self {
        Self(self.0.map(|list| pool.0.share(&list)))
    }

    /// Gives back what [`Self::pooled`] has taken.
    pub fn give_back(&self, pool: &mut TagPool) {
        if let Some(list) = &self.0 {
            pool.0.give_back(list);
        }
    }
}

/// All tags of which many may have the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TagPool(super::Pooled<List>);

impl FromIterator<(String, String)> for Tags {
    /// Of a key that comes several times the last value counts.
    fn from_iter<Pairs: IntoIterator<Item = (String, String)>>(pairs: Pairs) -> Self {
        let sorted: BTreeMap<String, String> = pairs.into_iter().collect();
        let list: List = Vec::from_iter(sorted);
        Self((!list.is_empty()).then(|| list.into()))
    }
}

impl<const COUNT: usize> From<[(String, String); COUNT]> for Tags {
    fn from(pairs: [(String, String); COUNT]) -> Self {
        pairs.into_iter().collect()
    }
}

impl Extend<(String, String)> for Tags {
    fn extend<Pairs: IntoIterator<Item = (String, String)>>(&mut self, pairs: Pairs) {
        for (key, value) in pairs {
            self.insert(key, value);
        }
    }
}

impl IntoIterator for Tags {
    type Item = (String, String);
    type IntoIter = std::vec::IntoIter<(String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.list().to_vec().into_iter()
    }
}

impl<'a> IntoIterator for &'a Tags {
    type Item = (&'a String, &'a String);
    type IntoIter = std::iter::Map<
        std::slice::Iter<'a, (String, String)>,
        fn(&'a (String, String)) -> (&'a String, &'a String),
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.list().iter().map(|(key, value)| (key, value))
    }
}

#[cfg(test)]
impl Index<&str> for Tags {
    type Output = String;

    fn index(&self, key: &str) -> &String {
        self.get(key).unwrap_or_else(|| panic!("there is no tag `{key}`"))
    }
}

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let sorted = BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(sorted.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// They are what a tree of the same texts is.
        #[test]
        fn they_do_as_a_tree_does(
            steps in proptest::collection::vec(("[a-c]{0,2}", proptest::option::of("[a-c]?")), 0..20),
        ) {
            let (mut tags, mut tree) = (Tags::new(), BTreeMap::new());
            for (key, value) in steps {
                prop_assert_eq!(tags.get(&key), tree.get(&key));
                let (was, should) = match value {
                    Some(value) => {
                        (tags.insert(key.clone(), value.clone()), tree.insert(key, value))
                    }
                    None => (tags.remove(&key), tree.remove(&key)),
                };
                prop_assert_eq!(was, should);
                prop_assert!(tags.iter().eq(tree.iter()));
                prop_assert_eq!(&tags, &tree.clone().into_iter().collect::<Tags>());
                let text = serde_json::to_string(&tags).expect("JSON");
                prop_assert_eq!(&text, &serde_json::to_string(&tree).expect("JSON"));
                prop_assert_eq!(&serde_json::from_str::<Tags>(&text).expect("tags"), &tags);
            }
        }
    }
}
