//! What was provisioned, found by ID, machine, token, name or tag.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{marks::Marks, places::Places};
use crate::model::{
    Destroyed, Image, Instance, InstanceId, LogicalId, Mac, Pooled, Progress, TagPool, Tags, Token,
};

/// The living instances, and the IDs of those destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instances {
    living: BTreeMap<InstanceId, Box<Instance>>,
    destroyed: HashMap<InstanceId, Destroyed>,
    last_id: Option<InstanceId>,
    of_machine: HashMap<Mac, InstanceId>,
    /// Each secret of the living, and of those destroyed the report's.
    by_secret: Marks<InstanceId>,
    by_name: HashMap<(Option<String>, LogicalId), InstanceId>,
    by_tag: HashMap<(String, String), Ids>,
    /// The places in each group and who has them.
    places: HashMap<String, Places>,
    /// What the instances of a group have alike is in memory once.
    tags: TagPool,
    images: Pooled<Image>,
    inits: Pooled<String>,
}

/// Those that have a tag: most tags are of very many, and some of one alone.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ids {
    One(InstanceId),
    Many(BTreeSet<InstanceId>),
}

impl Ids {
    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(ids) => ids.len(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = InstanceId> {
        let (one, many) = match self {
            Self::One(id) => (Some(*id), None),
            Self::Many(ids) => (None, Some(ids)),
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }

    fn insert(&mut self, id: InstanceId) {
        match self {
            Self::One(one) if *one == id => {}
            Self::One(one) => *self = Self::Many([*one, id].into()),
            Self::Many(ids) => drop(ids.insert(id)),
        }
    }

    /// Whether none is left.
    fn remove(&mut self, id: InstanceId) -> bool {
        match self {
            Self::One(one) => *one == id,
            Self::Many(ids) => {
                ids.remove(&id);
                // Two were there, so one is left.
                if let (1, Some(last)) = (ids.len(), ids.first().copied()) {
                    *self = Self::One(last);
                }
                false
            }
        }
    }
}

impl Instances {
    /// The living instance of this ID.
    #[must_use]
    pub fn find(&self, id: InstanceId) -> Option<&Instance> {
        self.living.get(&id).map(Box::as_ref)
    }

    /// Every living instance, oldest first.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Instance> {
        self.living.values().map(Box::as_ref)
    }

    /// What is remembered of the instance of this ID, if it was destroyed.
    #[must_use]
    pub fn destroyed(&self, id: InstanceId) -> Option<&Destroyed> {
        self.destroyed.get(&id)
    }

    /// Whether this ID was issued once and its instance destroyed since.
    #[must_use]
    pub fn was_destroyed(&self, id: InstanceId) -> bool {
        self.destroyed.contains_key(&id)
    }

    /// The largest ID that was ever issued.
    #[must_use]
    pub const fn last_id(&self) -> Option<InstanceId> {
        self.last_id
    }

    /// The instance that holds this machine.
    #[must_use]
    pub fn of_machine(&self, mac: Mac) -> Option<&Instance> {
        self.find(*self.of_machine.get(&mac)?)
    }

    /// The instance whose files' URLs have this secret.
    #[must_use]
    pub fn of_files(&self, token: Token) -> Option<&Instance> {
        self.of_secret(token).find(|instance| instance.secrets.files == token)
    }

    /// The instance whose `Init` is at the URL with this secret.
    #[must_use]
    pub fn of_init(&self, token: Token) -> Option<&Instance> {
        self.of_secret(token).find(|instance| instance.secrets.init == token)
    }

    /// The instance whose machine reports in at the URL with this secret.
    #[must_use]
    pub fn of_report(&self, token: Token) -> Option<&Instance> {
        self.of_secret(token).find(|instance| instance.secrets.report == token)
    }

    /// The destroyed instance whose machine reported in at the URL with this
    /// secret.
    #[must_use]
    pub fn destroyed_of_report(&self, token: Token) -> Option<&Destroyed> {
        let marked = self.by_secret.of(&token, InstanceId::FIRST);
        marked.filter_map(|id| self.destroyed.get(&id)).find(|destroyed| destroyed.report == token)
    }

    fn of_secret(&self, token: Token) -> impl Iterator<Item = &Instance> + use<'_> {
        self.by_secret.of(&token, InstanceId::FIRST).filter_map(|id| self.find(id))
    }

    /// The lowest index that no living instance of the group has.
    #[must_use]
    pub fn free_index(&self, group: &str) -> u32 {
        self.places.get(group).map_or(0, Places::free)
    }

    /// The oldest living instance of the group that has this index.
    #[must_use]
    pub fn at_index(&self, group: &str, index: u32) -> Option<&Instance> {
        self.find(self.places.get(group)?.at(index)?)
    }

    /// The instance of this logical ID in this group (or in none).
    #[must_use]
    pub fn named(&self, group: Option<&str>, logical_id: &LogicalId) -> Option<&Instance> {
        let name = (group.map(str::to_owned), logical_id.clone());
        self.find(*self.by_name.get(&name)?)
    }

    /// The instances that have all of these tags, oldest first; all if none are
    /// asked for. A tag asked for with the empty value matches instances
    /// without it too, as InfraKit's own plugins do.
    #[must_use]
    pub fn tagged(&self, wanted: &Tags) -> Vec<&Instance> {
        let matches =
            |instance: &&Instance| wanted.iter().all(|(key, value)| tag(instance, key) == value);
        // A tag that must be there narrows the search to those that have it.
        let narrowest = wanted
            .iter()
            .filter(|(key, value)| !value.is_empty() && *key != Instance::STATE_TAG)
            .map(|(key, value)| self.by_tag.get(&(key.clone(), value.clone())))
            .min_by_key(|ids| ids.map_or(0, Ids::len));
        match narrowest {
            None => self.all().filter(matches).collect(),
            Some(None) => Vec::new(),
            // One tag alone is what the index is by.
            Some(Some(ids)) if wanted.len() == 1 && ids.len() == self.living.len() => {
                self.all().collect()
            }
            Some(Some(ids)) => {
                let found = ids.iter().filter_map(|id| self.find(id));
                found.filter(|instance| wanted.len() == 1 || matches(instance)).collect()
            }
        }
    }

    /// How many live.
    #[must_use]
    pub fn count(&self) -> usize {
        self.living.len()
    }

    pub(super) fn put(&mut self, mut instance: Instance) {
        self.remove(instance.id);
        instance.tags = instance.tags.pooled(&mut self.tags);
        instance.image = instance.image.map(|image| self.images.share(&image));
        instance.init = self.inits.share(&instance.init);
        self.last_id = self.last_id.max(Some(instance.id));
        self.of_machine.insert(instance.mac, instance.id);
        for secret in secrets(&instance) {
            self.by_secret.insert(&secret, instance.id);
        }
        if let (Some(group), Some(index)) = (instance.group(), instance.index) {
            // Looked for first: the name of the group is made once.
            match self.places.get_mut(group) {
                Some(places) => places.take(index, instance.id),
                None => {
                    self.places.entry(group.to_owned()).or_default().take(index, instance.id);
                }
            }
        }
        if let Some(name) = name(&instance) {
            self.by_name.insert(name, instance.id);
        }
        for (key, value) in &instance.tags {
            let ids = self.by_tag.entry((key.clone(), value.clone()));
            ids.and_modify(|ids| ids.insert(instance.id)).or_insert(Ids::One(instance.id));
        }
        self.living.insert(instance.id, Box::new(instance));
    }

    pub(super) fn progress(&mut self, id: InstanceId, progress: Progress) {
        if let Some(instance) = self.living.get_mut(&id) {
            instance.progress = progress;
        }
    }

    /// Also for an ID that does not live, as when a store is read in any order.
    pub(super) fn destroy(&mut self, destroyed: Destroyed) -> Option<Instance> {
        let id = destroyed.id;
        self.last_id = self.last_id.max(Some(id));
        let instance = self.remove(id);
        self.by_secret.insert(&destroyed.report, id);
        self.destroyed.insert(id, destroyed);
        instance
    }

    fn remove(&mut self, id: InstanceId) -> Option<Instance> {
        let instance = *self.living.remove(&id)?;
        remove_if_own(&mut self.of_machine, &instance.mac, id);
        for secret in secrets(&instance) {
            self.by_secret.remove(&secret, id);
        }
        if let (Some(group), Some(index)) = (instance.group(), instance.index)
            && let Some(places) = self.places.get_mut(group)
        {
            places.leave(index, id);
            if places.is_empty() {
                self.places.remove(group);
            }
        }
        if let Some(name) = name(&instance) {
            remove_if_own(&mut self.by_name, &name, id);
        }
        for (key, value) in &instance.tags {
            let tag = (key.clone(), value.clone());
            if self.by_tag.get_mut(&tag).is_some_and(|ids| ids.remove(id)) {
                self.by_tag.remove(&tag);
            }
        }
        self.give_back(&instance);
        Some(instance)
    }

    fn give_back(&mut self, instance: &Instance) {
        instance.tags.give_back(&mut self.tags);
        if let Some(image) = &instance.image {
            self.images.give_back(image);
        }
        self.inits.give_back(&instance.init);
    }

    /// Very many are about to come; see [`super::State::gathering`].
    pub(super) fn gather(&mut self, count: usize) {
        self.by_secret.gather();
        self.of_machine.reserve(count);
    }

    /// The same in less memory; see [`super::State::settled`].
    pub(super) fn settle(&mut self) {
        super::settle_map(&mut self.living);
        self.by_secret.settle();
        for ids in self.by_tag.values_mut() {
            if let Ids::Many(ids) = ids {
                super::settle_set(ids);
            }
        }
        self.places.values_mut().for_each(Places::settle);
        self.of_machine.shrink_to_fit();
        self.by_tag.shrink_to_fit();
        self.destroyed.shrink_to_fit();
    }

    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        for id in self.of_machine.values().chain(self.by_name.values()) {
            assert!(self.living.contains_key(id), "{id} is only in an index");
        }
        let living =
            self.living.values().flat_map(|instance| secrets(instance).map(|s| (s, instance.id)));
        let destroyed = self.destroyed.values().map(|destroyed| (destroyed.report, destroyed.id));
        let mut marks = Marks::default();
        living.chain(destroyed).for_each(|(secret, id)| marks.insert(&secret, id));
        assert_eq!(self.by_secret, marks);
        for instance in self.living.values() {
            if let (Some(group), Some(index)) = (instance.group(), instance.index) {
                assert!(self.at_index(group, index).is_some() && self.free_index(group) != index);
            }
            for (key, value) in &instance.tags {
                let ids = &self.by_tag[&(key.clone(), value.clone())];
                assert!(ids.iter().any(|id| id == instance.id));
            }
            assert!(self.tagged(&instance.tags).contains(&instance.as_ref()));
            assert!(self.of_machine.contains_key(&instance.mac), "{}", instance.mac);
        }
        let listed: usize = self.by_tag.values().map(Ids::len).sum();
        assert_eq!(listed, self.living.values().map(|instance| instance.tags.len()).sum::<usize>());
        assert!(
            self.living.keys().chain(self.destroyed.keys()).all(|id| Some(*id) <= self.last_id)
        );
    }
}

fn name(instance: &Instance) -> Option<(Option<String>, LogicalId)> {
    let logical_id = instance.logical_id.clone()?;
    Some((instance.group().map(str::to_owned), logical_id))
}

fn secrets(instance: &Instance) -> [Token; 3] {
    [instance.secrets.files, instance.secrets.init, instance.secrets.report]
}

/// The value of a tag, empty if the instance has it not; that of its state is
/// made here.
fn tag<'a>(instance: &'a Instance, key: &str) -> &'a str {
    if key == Instance::STATE_TAG {
        return instance.progress.state.name();
    }
    instance.tags.get(key).map_or("", String::as_str)
}

fn remove_if_own<Key: std::hash::Hash + Eq>(
    index: &mut HashMap<Key, InstanceId>,
    key: &Key,
    id: InstanceId,
) {
    if index.get(key) == Some(&id) {
        index.remove(key);
    }
}
