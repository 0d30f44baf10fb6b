//! What was provisioned, found by ID, machine, token, name or tag.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::{Destroyed, Instance, InstanceId, LogicalId, Mac, Progress, Tags, Token};

/// The living instances, and the IDs of those destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instances {
    living: BTreeMap<InstanceId, Instance>,
    destroyed: HashMap<InstanceId, Destroyed>,
    last_id: Option<InstanceId>,
    of_machine: HashMap<Mac, InstanceId>,
    /// Each secret of the living, and of those destroyed the report's.
    by_secret: HashMap<Token, InstanceId>,
    by_name: HashMap<(Option<String>, LogicalId), InstanceId>,
    by_tag: HashMap<(String, String), BTreeSet<InstanceId>>,
    /// The places in each group and who has them. A Label can put two instances
    /// at one place, so each is here.
    indexes: HashMap<String, BTreeSet<(u32, InstanceId)>>,
}

impl Instances {
    /// The living instance of this ID.
    #[must_use]
    pub fn find(&self, id: InstanceId) -> Option<&Instance> {
        self.living.get(&id)
    }

    /// Every living instance, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Instance> {
        self.living.values()
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
        self.living.get(self.of_machine.get(&mac)?)
    }

    /// The instance whose files' URLs have this secret.
    #[must_use]
    pub fn of_files(&self, token: Token) -> Option<&Instance> {
        self.of_secret(token).filter(|instance| instance.secrets.files == token)
    }

    /// The instance whose `Init` is at the URL with this secret.
    #[must_use]
    pub fn of_init(&self, token: Token) -> Option<&Instance> {
        self.of_secret(token).filter(|instance| instance.secrets.init == token)
    }

    /// The instance whose machine reports in at the URL with this secret.
    #[must_use]
    pub fn of_report(&self, token: Token) -> Option<&Instance> {
        self.of_secret(token).filter(|instance| instance.secrets.report == token)
    }

    /// The destroyed instance whose machine reported in at the URL with this
    /// secret.
    #[must_use]
    pub fn destroyed_of_report(&self, token: Token) -> Option<&Destroyed> {
        self.destroyed.get(self.by_secret.get(&token)?)
    }

    fn of_secret(&self, token: Token) -> Option<&Instance> {
        self.living.get(self.by_secret.get(&token)?)
    }

    /// The lowest index that no living instance of the group has.
    #[must_use]
    pub fn free_index(&self, group: &str) -> u32 {
        let taken = self.indexes.get(group).into_iter().flatten();
        taken.fold(0, |free, (index, _)| if *index == free { free.saturating_add(1) } else { free })
    }

    /// The oldest living instance of the group that has this index.
    #[must_use]
    pub fn at_index(&self, group: &str, index: u32) -> Option<&Instance> {
        let taken = self.indexes.get(group)?;
        let (_, id) = taken.iter().find(|(other, _)| *other == index)?;
        self.living.get(id)
    }

    /// The instance of this logical ID in this group (or in none).
    #[must_use]
    pub fn named(&self, group: Option<&str>, logical_id: &LogicalId) -> Option<&Instance> {
        let name = (group.map(str::to_owned), logical_id.clone());
        self.living.get(self.by_name.get(&name)?)
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
            .min_by_key(|ids| ids.map_or(0, BTreeSet::len));
        match narrowest {
            None => self.living.values().filter(matches).collect(),
            Some(None) => Vec::new(),
            // One tag alone is what the index is by.
            Some(Some(ids)) if wanted.len() == 1 && ids.len() == self.living.len() => {
                self.living.values().collect()
            }
            Some(Some(ids)) => {
                let found = ids.iter().filter_map(|id| self.living.get(id));
                found.filter(|instance| wanted.len() == 1 || matches(instance)).collect()
            }
        }
    }

    /// How many live.
    #[must_use]
    pub fn count(&self) -> usize {
        self.living.len()
    }

    pub(super) fn put(&mut self, instance: Instance) {
        self.remove(instance.id);
        self.last_id = self.last_id.max(Some(instance.id));
        self.of_machine.insert(instance.mac, instance.id);
        for secret in secrets(&instance) {
            self.by_secret.insert(secret, instance.id);
        }
        if let (Some(group), Some(index)) = (instance.group(), instance.index) {
            self.indexes.entry(group.to_owned()).or_default().insert((index, instance.id));
        }
        if let Some(name) = name(&instance) {
            self.by_name.insert(name, instance.id);
        }
        for (key, value) in &instance.tags {
            self.by_tag.entry((key.clone(), value.clone())).or_default().insert(instance.id);
        }
        self.living.insert(instance.id, instance);
    }

    pub(super) fn progress(&mut self, id: InstanceId, progress: &Progress) {
        if let Some(instance) = self.living.get_mut(&id) {
            instance.progress = progress.clone();
        }
    }

    /// Also for an ID that does not live, as when a store is read in any order.
    pub(super) fn destroy(&mut self, destroyed: Destroyed) -> Option<Instance> {
        let id = destroyed.id;
        self.last_id = self.last_id.max(Some(id));
        let instance = self.remove(id);
        self.by_secret.insert(destroyed.report, id);
        self.destroyed.insert(id, destroyed);
        instance
    }

    fn remove(&mut self, id: InstanceId) -> Option<Instance> {
        let instance = self.living.remove(&id)?;
        remove_if_own(&mut self.of_machine, &instance.mac, id);
        for secret in secrets(&instance) {
            remove_if_own(&mut self.by_secret, &secret, id);
        }
        if let (Some(group), Some(index)) = (instance.group(), instance.index)
            && let Some(taken) = self.indexes.get_mut(group)
        {
            taken.remove(&(index, id));
            if taken.is_empty() {
                self.indexes.remove(group);
            }
        }
        if let Some(name) = name(&instance) {
            remove_if_own(&mut self.by_name, &name, id);
        }
        for (key, value) in &instance.tags {
            let tag = (key.clone(), value.clone());
            if let Some(ids) = self.by_tag.get_mut(&tag) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_tag.remove(&tag);
                }
            }
        }
        Some(instance)
    }

    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        for id in self.of_machine.values().chain(self.by_name.values()) {
            assert!(self.living.contains_key(id), "{id} is only in an index");
        }
        let living =
            self.living.values().flat_map(|instance| secrets(instance).map(|s| (s, instance.id)));
        let destroyed = self.destroyed.values().map(|destroyed| (destroyed.report, destroyed.id));
        assert_eq!(self.by_secret, living.chain(destroyed).collect());
        for instance in self.living.values() {
            if let (Some(group), Some(index)) = (instance.group(), instance.index) {
                assert!(self.at_index(group, index).is_some() && self.free_index(group) != index);
            }
            for (key, value) in &instance.tags {
                assert!(self.by_tag[&(key.clone(), value.clone())].contains(&instance.id));
            }
            assert!(self.tagged(&instance.tags).contains(&instance));
            assert!(self.of_machine.contains_key(&instance.mac), "{}", instance.mac);
        }
        let listed: usize = self.by_tag.values().map(BTreeSet::len).sum();
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
