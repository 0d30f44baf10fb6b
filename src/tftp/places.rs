//! Who may begin a transfer now, who waits for it, and who is left lying.
//!
//! Of a crowd that one processor has to serve, few are served at a time, and those quickly: all
//! at once would be there last, and what each of them needs would never stay in a
//! cache. Where nobody is kept waiting by that, such as for clients on a long
//! way, as many run as may.
//!
//! Pure: it must not know sockets, nor the clock.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::answer::Why;
use super::queue::Queue;
use super::request::Request;

/// So many run at a time while there is always something to do for them.
const AT_WORK: usize = 64;

/// For so long a read waits at most where a transfer may run: those that
/// run may be much longer than what it asks for. Before that no firmware gives up, and
/// most do not even ask again.
const LONGEST: Duration = Duration::from_millis(500);

/// The transfers that run and the reads that wait.
#[derive(Debug)]
pub struct Places {
    /// As `Limits::transfers`.
    transfers: usize,
    /// As `Limits::transfers_per_client`.
    per_client: usize,
    all: usize,
    running: HashMap<IpAddr, usize>,
    queue: Queue,
}

/// What becomes of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It may begin.
    Free,
    /// It waits for its turn, which comes soon.
    Soon,
    /// It waits, since as many run as may run in all.
    Full,
    /// There is no place for it, not even to wait.
    None(Why),
}

impl Places {
    /// For so many transfers at one time, and so many of one IP address.
    #[must_use]
    pub fn new((transfers, per_client): (usize, usize)) -> Self {
        let (all, running, queue) = (0, HashMap::new(), Queue::default());
        Self { transfers, per_client, all, running, queue }
    }

    /// What becomes of a read that comes now, or whose turn has come. `is_idle` says that
    /// nothing else is to be done.
    ///
    /// Who has no place is not answered. Firmware that gets an ERROR, whatever its code,
    /// gives up the boot entry at once, and a machine may then stand there until
    /// somebody comes. Firmware that gets nothing asks again by itself, when others
    /// have finished: EDK2 six times, every 4 seconds (PXEBC_MTFTP_TIMEOUT and
    /// _RETRIES), iPXE sooner. Silence is also all that a forged source address is worth.
    pub fn ask(&mut self, client: SocketAddr, read: &Request, terms: (bool, Instant)) -> Place {
        let (is_idle, now) = terms;
        let is_full = self.all >= self.transfers;
        let own = self.running.get(&client.ip()).copied().unwrap_or_default();
        if !is_full && own >= self.per_client {
            return Place::None(Why::ClientsTaken { limit: self.per_client });
        }
        let is_turn = is_idle || self.all < AT_WORK && self.queue.is_empty();
        if !is_full && is_turn {
            self.queue.leave(client);
            return Place::Free;
        }
        let joins = self.queue.join(client, read.clone(), (self.per_client, now));
        match (joins, is_full) {
            (true, true) => Place::Full,
            (true, false) => Place::Soon,
            (false, _) if self.queue.of(client.ip()) >= self.per_client => {
                Place::None(Why::ClientsTaken { limit: self.per_client })
            }
            (false, _) => Place::None(Why::AllTaken { limit: self.transfers }),
        }
    }

    /// Whether somebody waits for no more than a server that is idle.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.all < self.transfers && !self.queue.is_empty()
    }

    /// The read whose turn has come: to be asked for as if it came now, to an idle server.
    pub fn next(&mut self, (is_idle, now): (bool, Instant)) -> Option<(SocketAddr, Request)> {
        let has_waited = self.queue.waited(now)? >= LONGEST;
        let is_turn = is_idle || has_waited || self.all < AT_WORK;
        (is_turn && self.all < self.transfers).then(|| self.queue.next(now))?
    }

    /// A transfer of this address has begun.
    pub fn begun(&mut self, client: IpAddr) {
        self.all += 1;
        *self.running.entry(client).or_default() += 1;
    }

    /// One that had begun is over.
    pub fn ended(&mut self, client: IpAddr) {
        let Some(own) = self.running.get_mut(&client) else { return };
        *own -= 1;
        self.all -= 1;
        if *own == 0 {
            self.running.remove(&client);
        }
    }

    /// How many transfers run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{Packet, parse};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn both_limits_hold() {
        let now = Instant::now();
        let ask = |running: &[u8], client: u8| {
            let mut places = Places::new((3, 2));
            running.iter().for_each(|last| places.begun(address(*last, 1).ip()));
            places.ask(address(client, 9), &read(), (true, now))
        };
        assert_eq!(ask(&[], 1), Place::Free);
        assert_eq!(ask(&[1, 2], 1), Place::Free);
        assert_eq!(ask(&[1, 1], 2), Place::Free);
        assert_eq!(ask(&[1, 1], 1), Place::None(Why::ClientsTaken { limit: 2 }));
        assert_eq!(ask(&[1, 2, 3], 4), Place::Full);
    }

    #[test]
    fn of_a_crowd_few_are_served_at_a_time_in_the_order_in_which_they_came() {
        let (mut places, now) = (Places::new((1024, 128)), Instant::now());
        let crowd: Vec<_> = (0..100).map(|last| address(last, 1)).collect();
        let mut told = Vec::new();
        for client in &crowd {
            let place = places.ask(*client, &read(), (false, now));
            if place == Place::Free {
                places.begun(client.ip());
            }
            told.push(place);
        }
        assert!(told[..AT_WORK].iter().all(|place| *place == Place::Free));
        assert!(told[AT_WORK..].iter().all(|place| *place == Place::Soon), "{told:?}");
        assert!(places.next((false, now)).is_none(), "enough are at work");
        places.ended(crowd[0].ip());
        let late = places.ask(address(200, 1), &read(), (false, now));
        assert_eq!(late, Place::Soon, "others wait longer");
        let next = places.next((false, now)).map(|(client, _read)| client);
        assert_eq!(next, Some(crowd[AT_WORK]));
    }

    #[test]
    fn nobody_waits_for_others_who_leave_the_server_idle() {
        let (mut places, now) = (filled(AT_WORK as u32), Instant::now());
        assert_eq!(places.ask(address(1, 1), &read(), (true, now)), Place::Free);
        assert_eq!(places.ask(address(1, 1), &read(), (false, now)), Place::Soon);
        assert!(places.has_work());
        assert!(places.next((true, now)).is_some());
        assert!(!places.has_work());
    }

    #[test]
    fn nobody_waits_for_long_where_a_transfer_may_run() {
        let (mut places, now) = (filled(AT_WORK as u32), Instant::now());
        places.ask(address(1, 1), &read(), (false, now));
        // It asks again, and has waited all the same.
        places.ask(address(1, 1), &read(), (false, now + LONGEST / 2));
        assert!(places.next((false, now + LONGEST / 2)).is_none());
        assert!(places.next((false, now + LONGEST)).is_some());
    }

    #[test]
    fn at_the_limit_even_an_idle_server_begins_nothing() {
        let (mut places, now) = (filled(1024), Instant::now());
        assert_eq!(places.ask(address(1, 1), &read(), (true, now)), Place::Full);
        assert!(!places.has_work());
        assert!(places.next((true, now + SECOND)).is_none());
        places.ended(address(0, 1).ip());
        assert!(places.next((true, now + SECOND)).is_some());
    }

    #[test]
    fn an_end_of_what_never_began_is_none() {
        let mut places = filled(2);
        places.ended(address(99, 1).ip());
        assert_eq!(places.running(), 2);
        places.ended(address(0, 1).ip());
        places.ended(address(1, 1).ip());
        assert!(places.running() == 0 && places.running.is_empty());
    }

    /// With so many running, each of an address of its own: 203.0.113.0 and up.
    fn filled(count: u32) -> Places {
        let mut places = Places::new((1024, 128));
        let first = u32::from_be_bytes([203, 0, 113, 0]);
        (first..first + count).for_each(|number| places.begun(IpAddr::from(number.to_be_bytes())));
        places
    }

    fn address(last: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, last], port))
    }

    fn read() -> Request {
        match parse(b"\0\x01x\0octet\0") {
            Ok(Packet::Read(request)) => request,
            other => panic!("{other:?}"),
        }
    }
}
