//! How many connections there are, in all and for each client; and how one that
//! does nothing makes room.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

/// How long a connection may be silent between two requests while others wait for
/// its place.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// Counts of connections, with their limits.
#[derive(Debug, Clone)]
pub(super) struct Places {
    in_all: usize,
    per_client: usize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    taken: Mutex<Taken>,
    /// Told when a place is given back.
    freed: Notify,
    /// Told while somebody waits for one.
    wanted: Notify,
}

impl Shared {
    /// Nothing in it is left half done by a panic.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    shared: Arc<Shared>,
}

impl Places {
    pub(super) fn new(in_all: usize, per_client: usize) -> Self {
        Self { in_all, per_client, shared: Arc::default() }
    }

    /// A place for one more connection of this client, if there is one.
    pub(super) fn take(&self, client: IpAddr) -> Option<Place> {
        let mut taken = self.shared.taken();
        let own = taken.by_client.get(&client).copied().unwrap_or_default();
        if taken.in_all >= self.in_all || own >= self.per_client {
            return None;
        }
        taken.in_all += 1;
        taken.by_client.insert(client, own + 1);
        Some(Place { client, shared: Arc::clone(&self.shared) })
    }

    /// Comes when there is a place for somebody. Meanwhile those who are connected and
    /// ask for nothing are told that they are in the way.
    pub(super) async fn some_is_free(&self) {
        loop {
            let freed = self.shared.freed.notified();
            if self.shared.taken().in_all < self.in_all {
                return;
            }
            if timeout(GRACE, freed).await.is_err() {
                self.shared.wanted.notify_waiters();
            }
        }
    }
}

impl Place {
    /// Comes when somebody else waits for a place. To be asked about one that was kept
    /// for nothing for [`GRACE`].
    pub(super) async fn is_wanted(&self) {
        self.shared.wanted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.shared.taken();
        taken.in_all = taken.in_all.saturating_sub(1);
        if let Some(own) = taken.by_client.get_mut(&self.client) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.by_client.remove(&self.client);
            }
        }
        drop(taken);
        self.shared.freed.notify_one();
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
        assert!(places.shared.taken().by_client.is_empty());
    }

    #[tokio::test]
    async fn who_waits_has_the_place_that_is_given_back() {
        let places = Places::new(1, 1);
        places.some_is_free().await;
        let place = places.take([10, 0, 0, 1].into()).expect("free");
        assert!(timeout(GRACE / 20, places.some_is_free()).await.is_err(), "it is taken");
        let waiting = tokio::spawn({
            let places = places.clone();
            async move { places.some_is_free().await }
        });
        tokio::task::yield_now().await;
        drop(place);
        timeout(GRACE / 2, waiting).await.expect("at once").expect("no panic");
    }

    #[tokio::test]
    async fn a_place_is_wanted_back_only_while_somebody_waits() {
        let places = Places::new(1, 1);
        let place = places.take([10, 0, 0, 1].into()).expect("free");
        assert!(timeout(GRACE * 3 / 2, place.is_wanted()).await.is_err(), "nobody waits");
        tokio::select! {
            () = places.some_is_free() => panic!("nothing was given back"),
            wanted = timeout(GRACE * 4, place.is_wanted()) => wanted.expect("it is in the way"),
        }
    }
}
