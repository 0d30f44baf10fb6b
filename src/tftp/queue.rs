//! Reads for which there is no transfer yet: who has waited longest is next.
//!
//! Without it a place that becomes free is for whoever happens to ask next, and of a
//! crowd some would ask in vain until they give up. Pure: it must not know sockets, nor
//! the clock.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::request::Request;

/// How long a client that has asked listens for the answer: EDK2 asks every 4 seconds,
/// iPXE waits 8 at most.
const LISTENS: Duration = Duration::from_secs(9);

/// How many may wait, in all: a hall of machines, each a few hundred octets.
const MOST: usize = 16_384;

/// Those who wait.
#[derive(Debug, Default)]
pub struct Queue {
    /// In the order in which they came; some are here no more in `reads`.
    line: VecDeque<(SocketAddr, u64)>,
    reads: HashMap<SocketAddr, Waiting>,
    by_client: HashMap<IpAddr, usize>,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    request: Request,
    /// When it was asked for first, and last.
    since: Instant,
    asked: Instant,
    /// Its number in the line.
    number: u64,
}

impl Queue {
    /// Keeps this read, in the place that its client has if it repeats itself. Says
    /// no if there is no room, or when so many of `per_client` wait of its address.
    pub fn join(
        &mut self,
        client: SocketAddr,
        request: Request,
        (per_client, now): (usize, Instant),
    ) -> bool {
        if let Some(waiting) = self.reads.get_mut(&client) {
            (waiting.request, waiting.asked) = (request, now);
            return true;
        }
        let own = self.of(client.ip());
        if self.reads.len() >= MOST || own >= per_client {
            return false;
        }
        let number = self.next;
        self.next += 1;
        self.line.push_back((client, number));
        self.reads.insert(client, Waiting { request, since: now, asked: now, number });
        self.by_client.insert(client.ip(), own + 1);
        true
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }

    /// How many reads of this address wait.
    #[must_use]
    pub fn of(&self, client: IpAddr) -> usize {
        self.by_client.get(&client).copied().unwrap_or_default()
    }

    /// How long the one has waited who waits longest.
    pub fn waited(&mut self, now: Instant) -> Option<Duration> {
        while let Some((client, number)) = self.line.front() {
            match self.reads.get(client) {
                Some(first) if first.number == *number => {
                    return Some(now.saturating_duration_since(first.since));
                }
                _left => self.line.pop_front(),
            };
        }
        None
    }

    /// Takes out who is next, and still listens.
    pub fn next(&mut self, now: Instant) -> Option<(SocketAddr, Request)> {
        while let Some((client, number)) = self.line.pop_front() {
            if self.reads.get(&client).is_none_or(|waiting| waiting.number != number) {
                continue;
            }
            if let Some(waiting) = self.take(client)
                && now.saturating_duration_since(waiting.asked) < LISTENS
            {
                return Some((client, waiting.request));
            }
        }
        None
    }

    /// Forgets a client that waits no more.
    pub fn leave(&mut self, client: SocketAddr) {
        self.take(client);
        if self.reads.is_empty() {
            self.line.clear();
        }
    }

    fn take(&mut self, client: SocketAddr) -> Option<Waiting> {
        let waiting = self.reads.remove(&client)?;
        if let Some(own) = self.by_client.get_mut(&client.ip()) {
            *own -= 1;
            if *own == 0 {
                self.by_client.remove(&client.ip());
            }
        }
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{Packet, parse};
    use super::*;

    fn client(last: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], port))
    }

    fn read(name: &str) -> Request {
        let datagram = format!("\0\x01{name}\0octet\0");
        match parse(datagram.as_bytes()) {
            Ok(Packet::Read(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_came_first_is_first_and_repeating_does_not_cost_its_place() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for last in 1..=3 {
            assert!(queue.join(client(last, 1), read("a"), (9, now)));
        }
        assert!(queue.join(client(1, 1), read("b"), (9, now)));
        let (first, request) = queue.next(now).expect("three wait");
        assert_eq!((first, request.file.as_str()), (client(1, 1), "b"));
        queue.leave(client(2, 1));
        assert_eq!(queue.next(now).map(|(client, _)| client), Some(client(3, 1)));
        assert!(queue.next(now).is_none());
        assert!(queue.by_client.is_empty() && queue.line.is_empty());
    }

    #[test]
    fn who_left_and_came_again_is_last() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        assert!(queue.join(client(1, 1), read("a"), (9, now)));
        assert!(queue.join(client(2, 1), read("a"), (9, now)));
        queue.leave(client(1, 1));
        assert!(queue.join(client(1, 1), read("a"), (9, now)));
        let order: Vec<_> = std::iter::from_fn(|| queue.next(now)).map(|next| next.0).collect();
        assert_eq!(order, [client(2, 1), client(1, 1)]);
    }

    #[test]
    fn who_listens_no_more_is_passed_over() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        assert!(queue.join(client(1, 1), read("a"), (9, now)));
        assert!(queue.join(client(2, 1), read("a"), (9, now)));
        let later = now + LISTENS;
        assert!(queue.join(client(2, 1), read("a"), (9, later)));
        assert_eq!(queue.next(later).map(|(client, _)| client), Some(client(2, 1)));
        assert!(queue.next(later).is_none());
    }

    #[test]
    fn nobody_takes_the_room_of_others_and_there_is_an_end_of_it() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        assert!(queue.join(client(1, 1), read("a"), (2, now)));
        assert!(queue.join(client(1, 2), read("a"), (2, now)));
        assert!(!queue.join(client(1, 3), read("a"), (2, now)));
        assert!(queue.join(client(2, 1), read("a"), (2, now)));
        let filling = (0..).map(|number: u32| SocketAddr::from((number.to_be_bytes(), 9)));
        let joined = filling.take_while(|client| queue.join(*client, read("a"), (2, now)));
        assert_eq!(joined.count(), MOST - 3);
        assert!(queue.join(client(2, 1), read("a"), (2, now)), "who waits may repeat itself");
    }
}
