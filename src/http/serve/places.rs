//! How many connections there are, in all and for each client.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts of connections, with their limits.
#[derive(Debug, Clone)]
pub(super) struct Places {
    in_all: usize,
    per_client: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// The right to one connection; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    client: IpAddr,
    taken: Arc<Mutex<Taken>>,
}

impl Places {
    pub(super) fn new(in_all: usize, per_client: usize) -> Self {
        Self { in_all, per_client, taken: Arc::default() }
    }

    /// A place for one more connection of this client, if there is one.
    pub(super) fn take(&self, client: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_client.get(&client).copied().unwrap_or_default();
        if taken.in_all >= self.in_all || own >= self.per_client {
            return None;
        }
        taken.in_all += 1;
        taken.by_client.insert(client, own + 1);
        Some(Place { client, taken: Arc::clone(&self.taken) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.in_all = taken.in_all.saturating_sub(1);
        if let Some(own) = taken.by_client.get_mut(&self.client) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_takes_the_places_of_others() {
        let places = Places::new(3, 2);
        let [greedy, other, late] = [1, 2, 3].map(|last| IpAddr::from([10, 0, 0, last]));
        let first = places.take(greedy).expect("free");
        let _second = places.take(greedy).expect("free");
        assert!(places.take(greedy).is_none());
        let _third = places.take(other).expect("free for others");
        assert!(places.take(late).is_none());
        drop(first);
        assert!(places.take(late).is_some());
        assert!(places.take(greedy).is_some());
    }

    #[test]
    fn nothing_is_kept_of_a_client_that_is_gone() {
        let places = Places::new(3, 2);
        drop(places.take([10, 0, 0, 1].into()));
        assert!(places.taken.lock().expect("unpoisoned").by_client.is_empty());
    }
}
