//! What was provisioned, found by ID, machine, token, name or tag.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::model::{Instance, InstanceId, LogicalId, Mac, Tags, Token};

/// The living instances, and the IDs of those destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instances {
    living: BTreeMap<InstanceId, Instance>,
    destroyed: HashSet<InstanceId>,
    last_id: Option<InstanceId>,
    of_machine: HashMap<Mac, InstanceId>,
    by_token: HashMap<Token, InstanceId>,
    by_name: HashMap<(Option<String>, LogicalId), InstanceId>,
    by_tag: HashMap<(String, String), BTreeSet<InstanceId>>,
}

impl Instances {
    /// The living instance of this ID.
    #[must_use]
    pub fn find(&self, id: InstanceId) -> Option<&Instance> {
        self.living.get(&id)
    }

    /// Whether this ID was issued once and its instance destroyed since.
    #[must_use]
    pub fn was_destroyed(&self, id: InstanceId) -> bool {
        self.destroyed.contains(&id)
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
    pub fn of_token(&self, token: Token) -> Option<&Instance> {
        self.living.get(self.by_token.get(&token)?)
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
        let matches = |instance: &&Instance| {
            wanted
                .iter()
                .all(|(key, value)| instance.tags.get(key).map_or("", String::as_str) == value)
        };
        // A tag that must be there narrows the search to those that have it.
        let narrowest = wanted
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| self.by_tag.get(&(key.clone(), value.clone())))
            .min_by_key(|ids| ids.map_or(0, BTreeSet::len));
        match narrowest {
            None => self.living.values().filter(matches).collect(),
            Some(None) => Vec::new(),
            Some(Some(ids)) => {
                ids.iter().filter_map(|id| self.living.get(id)).filter(matches).collect()
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
        self.by_token.insert(instance.token, instance.id);
        if let Some(name) = name(&instance) {
            self.by_name.insert(name, instance.id);
        }
        for (key, value) in &instance.tags {
            self.by_tag.entry((key.clone(), value.clone())).or_default().insert(instance.id);
        }
        self.living.insert(instance.id, instance);
    }

    /// Also for an ID that does not live, as when a store is read in any order.
    pub(super) fn destroy(&mut self, id: InstanceId) -> Option<Instance> {
        self.last_id = self.last_id.max(Some(id));
        self.destroyed.insert(id);
        self.remove(id)
    }

    fn remove(&mut self, id: InstanceId) -> Option<Instance> {
        let instance = self.living.remove(&id)?;
        remove_if_own(&mut self.of_machine, &instance.mac, id);
        remove_if_own(&mut self.by_token, &instance.token, id);
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
        for id in
            self.of_machine.values().chain(self.by_token.values()).chain(self.by_name.values())
        {
            assert!(self.living.contains_key(id), "{id} is only in an index");
        }
        for instance in self.living.values() {
            for (key, value) in &instance.tags {
                assert!(self.by_tag[&(key.clone(), value.clone())].contains(&instance.id));
            }
            assert!(self.tagged(&instance.tags).contains(&instance));
            assert!(self.of_machine.contains_key(&instance.mac), "{}", instance.mac);
        }
        let listed: usize = self.by_tag.values().map(BTreeSet::len).sum();
        assert_eq!(listed, self.living.values().map(|instance| instance.tags.len()).sum::<usize>());
        assert!(self.living.keys().chain(&self.destroyed).all(|id| Some(*id) <= self.last_id));
    }
}

fn name(instance: &Instance) -> Option<(Option<String>, LogicalId)> {
    let logical_id = instance.logical_id.clone()?;
    Some((instance.group().map(str::to_owned), logical_id))
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
