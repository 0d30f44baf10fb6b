//! Hands events to all who listen. Nobody waits for a listener: who is slow
//! misses events, and is told how many.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use tokio::sync::broadcast::{self, error::RecvError};
use tracing::warn;

use super::{Event, Refused, Served, Topics, measure::Measure, story, story::of_local_boot};
use crate::{
    model::{Change, LocalBoot, Timestamp},
    state::State,
};

/// Events that are kept for a listener that does not keep up: some seconds of
/// the largest crowd, and a few megabytes.
const KEPT: usize = 4096;

/// Hands events to all who listen; cheap to clone. While nobody listens no event
/// is made.
#[derive(Debug, Clone)]
pub struct Bus {
    sender: broadcast::Sender<Arc<Event>>,
    refusals: Arc<Mutex<Measure>>,
}

/// One listener's end.
#[derive(Debug)]
pub struct Subscription {
    receiver: broadcast::Receiver<Arc<Event>>,
    topics: Topics,
}

impl Default for Bus {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(KEPT), refusals: Arc::default() }
    }
}

impl Bus {
    /// Listens from now on.
    #[must_use]
    pub fn subscribe(&self, topics: Topics) -> Subscription {
        Subscription { receiver: self.sender.subscribe(), topics }
    }

    /// Tells what the change means in the state before it. The caller holds the
    /// lock on the state, so that events come in the order of the changes.
    pub fn changed(&self, before: &State, change: &Change) {
        if let Some(sent) = of_local_boot(before, change) {
            let (mac, way) = (sent.mac, sent.way.name());
            let failed = sent.failed.map(LocalBoot::name);
            tracing::warn!(%mac, failed, way, "it did not come to its own disk; the next way is tried");
        }
        // Nobody must listen for it: an operator should look.
        if let Change::Seen(machine) | Change::Machine(machine) = change {
            for conflict in before.conflicts_made_by(change, now()) {
                warn!(mac = %machine.mac, kind = conflict.kind(), %conflict, "conflict");
            }
        }
        if self.is_heard() {
            story(before, change, now()).into_iter().for_each(|event| self.send(event));
        }
    }

    /// Tells that a file was sent.
    pub fn served(&self, served: impl FnOnce() -> Served) {
        if self.is_heard()
            && let Some(event) = Event::served(served(), now())
        {
            self.send(event);
        }
    }

    /// Tells that something was refused; of very many at once only some, with the
    /// number of the others.
    pub fn refused(&self, refused: impl FnOnce() -> Refused) {
        if !self.is_heard() {
            return;
        }
        let now = now();
        let admitted = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
        if let Some(untold) = admitted {
            self.send(Event::refused(refused(), untold, now));
        }
    }

    /// Tells that another DHCP server gives addresses where we do.
    pub fn other_server(&self, server: Ipv4Addr) {
        if self.is_heard() {
            self.send(Event::other_server(server, now()));
        }
    }

    /// Whether anybody listens.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    fn send(&self, event: Event) {
        // The last listener may have gone meanwhile.
        let _ = self.sender.send(Arc::new(event));
    }
}

impl Subscription {
    /// The next event that is wanted, or that some were missed; nothing when no
    /// more will come. A caller that is dropped while it waits misses nothing.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            match self.receiver.recv().await {
                Ok(event) if self.topics.include(&event.topic) => return Some(event),
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => {
                    return Some(Arc::new(Event::missed(count, now())));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events::Door,
        model::{Mac, testing},
    };

    fn refused(number: u32) -> Refused {
        let text = number.to_string();
        Refused { door: Door::Dhcp, who: text.clone(), what: text.clone(), why: text }
    }

    #[test]
    fn what_nobody_hears_is_not_even_made() {
        let bus = Bus::default();
        bus.refused(|| panic!("nobody listens"));
        bus.served(|| panic!("nobody listens"));
        drop(bus.subscribe(Topics::All));
        bus.refused(|| panic!("nobody listens any more"));
    }

    #[tokio::test]
    async fn a_listener_gets_its_topics_and_in_order() {
        let bus = Bus::default();
        let mut all = bus.subscribe(Topics::All);
        let mut machines = bus.subscribe(Topics::read("machine/"));
        bus.refused(|| refused(1));
        let mut state = State::new(None);
        let change = Change::Machine(testing::held(Mac::new([2, 0, 0, 0, 0, 1]), Timestamp(5)));
        bus.changed(&state, &change);
        state.apply(&change);
        bus.changed(&state, &change);
        for expected in ["refusal/dhcp/1", "machine/02:00:00:00:00:01/found"] {
            assert_eq!(all.next().await.expect("one").topic, expected);
        }
        assert!(machines.next().await.expect("one").topic.ends_with("/found"));
        drop(bus);
        assert!(machines.next().await.expect("one").topic.ends_with("/stage"));
        assert_eq!(machines.next().await, None, "the same again is nothing new");
    }

    #[tokio::test]
    async fn who_does_not_keep_up_is_told_how_much_was_missed_and_goes_on() {
        let bus = Bus::default();
        let mut slow = bus.subscribe(Topics::read("machine/"));
        let extra = 10;
        let change = |number: usize| {
            let [.., high, low] = number.to_be_bytes();
            Change::Machine(crate::model::Machine {
                stage: None,
                ..testing::held(Mac::new([2, 0, 0, 0, high, low]), Timestamp(5))
            })
        };
        for number in 0..KEPT + extra {
            bus.changed(&State::new(None), &change(number));
        }
        let missed = slow.next().await.expect("the count");
        assert_eq!((missed.topic.as_str(), missed.id.as_str()), ("missed", "10"));
        for _ in 0..KEPT {
            assert!(slow.next().await.expect("kept").topic.ends_with("/found"));
        }
        drop(bus);
        assert_eq!(slow.next().await, None);
    }

    #[tokio::test]
    async fn of_a_flood_of_refusals_some_are_told() {
        let bus = Bus::default();
        let mut all = bus.subscribe(Topics::All);
        for number in 0..10_000 {
            bus.refused(|| refused(number));
        }
        drop(bus);
        let mut told = 0;
        while let Some(event) = all.next().await {
            assert_eq!(event.r#type, "refusal");
            told += 1;
        }
        // A hundred a second, and it may take more than one.
        assert!((100..2000).contains(&told), "{told}");
    }
}
