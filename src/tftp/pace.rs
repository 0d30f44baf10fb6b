//! When a transfer sends again what it has sent, and when it gives up.
//!
//! Time comes in as an argument. It must not know what is sent, nor blocks.

use std::time::{Duration, Instant};

/// How long after a resend a repeated ACK waits for an answer, at least. Clients
/// that repeat the ACK for each block out of order do it within one window.
pub const QUIET: Duration = Duration::from_millis(100);

/// What a repeated ACK calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// The client misses what was sent: send it again now.
    Resend,
    /// It may be an echo: the deadline was brought forward instead.
    Later,
}

/// What the clock calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Send again what has no answer.
    Resend,
    /// The client has been silent for too long.
    GiveUp,
}

/// How the wait grows from one resend to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    /// Twice as long each time: nothing was agreed.
    Doubles,
    /// The client said how long (RFC 2349 §"Timeout Interval Option").
    Stays,
}

/// What was last sent, with regard to losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// For the first time: its answer measures the way there and back.
    Fresh,
    /// For the first time, but the client may still be answering a needless
    /// copy of what was before it.
    AmongEchoes,
    /// Once more.
    Again,
}

/// The clock of one transfer.
///
/// RFC 1123 §4.2.3.1 (the Sorcerer's Apprentice) wants that a repeated ACK never
/// makes the sender send, RFC 7440 §4 wants that in a window it does. Both are had by
/// asking when it came. Sooner than half of the shortest way there and back
/// after sending, it cannot be an answer to that. And when the answer to a
/// resend comes as soon as that, the first copy had arrived: the ACKs that
/// the second one causes are echoes. (This is the idea of RFC 3522, Eifel.)
#[derive(Clone, Debug)]
pub struct Pace {
    first_wait: Duration,
    growth: Growth,
    retries: u32,
    resends: u32,
    wait: Duration,
    deadline: Instant,
    brought_forward: Option<Instant>,
    sent: Instant,
    sending: Sending,
    shortest: Option<Duration>,
}

impl Pace {
    /// Starts the clock: something was sent `now`. It is sent again after the
    /// agreed time, or after `first_wait`, then twice that and so on, `retries`
    /// times.
    pub fn new(first_wait: Duration, agreed: Option<Duration>, retries: u32, now: Instant) -> Self {
        let wait = agreed.unwrap_or(first_wait);
        Self {
            first_wait: wait,
            growth: agreed.map_or(Growth::Doubles, |_agreed| Growth::Stays),
            retries,
            resends: 0,
            wait,
            deadline: now + wait,
            brought_forward: None,
            sent: now,
            sending: Sending::Fresh,
            shortest: None,
        }
    }

    /// The next moment at which [`Pace::due`] has something to say.
    pub fn deadline(&self) -> Instant {
        match self.brought_forward {
            Some(sooner) => sooner.min(self.deadline),
            None => self.deadline,
        }
    }

    /// The client has what it was sent, and is sent something new `now`.
    pub fn progress(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.sent);
        self.sending = match self.sending {
            Sending::Fresh | Sending::AmongEchoes => {
                let shortest = self.shortest.map_or(elapsed, |known| known.min(elapsed));
                self.shortest = Some(shortest);
                Sending::Fresh
            }
            Sending::Again if self.too_soon(elapsed) => Sending::AmongEchoes,
            Sending::Again => Sending::Fresh,
        };
        self.resends = 0;
        self.wait = self.first_wait;
        self.deadline = now + self.wait;
        self.brought_forward = None;
        self.sent = now;
    }

    /// The client repeats its last ACK. On [`Repeated::Resend`] the caller sends.
    ///
    /// The deadline stays: a client that only repeats itself is given up in the
    /// same time as a silent one.
    pub fn repeated(&mut self, now: Instant) -> Repeated {
        let elapsed = now.saturating_duration_since(self.sent);
        match self.sending {
            Sending::Fresh if !self.too_soon(elapsed) => {
                self.sent = now;
                self.sending = Sending::Again;
                Repeated::Resend
            }
            Sending::Fresh | Sending::AmongEchoes | Sending::Again => {
                let way = self.shortest.unwrap_or_default();
                self.brought_forward = Some(self.sent + QUIET.max(way * 2));
                Repeated::Later
            }
        }
    }

    /// What is due `now`. On [`Due::Resend`] the caller sends.
    pub fn due(&mut self, now: Instant) -> Due {
        if now < self.deadline() {
            return Due::Nothing;
        }
        self.brought_forward = None;
        if now < self.deadline {
            self.sent = now;
            self.sending = Sending::Again;
            return Due::Resend;
        }
        if self.resends >= self.retries {
            return Due::GiveUp;
        }
        self.resends += 1;
        self.wait = match self.growth {
            Growth::Doubles => self.wait.saturating_mul(2),
            Growth::Stays => self.wait,
        };
        self.deadline = now + self.wait;
        self.sent = now;
        self.sending = Sending::Again;
        Due::Resend
    }

    fn too_soon(&self, elapsed: Duration) -> bool {
        self.shortest.is_some_and(|shortest| elapsed < shortest / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const WAY: Duration = Duration::from_millis(10);

    #[test]
    fn the_wait_doubles_until_the_client_is_given_up() {
        waits(None, &[1, 2, 4, 8]);
    }

    #[test]
    fn an_agreed_timeout_stays_as_it_is() {
        waits(Some(3 * SECOND), &[3, 3, 3, 3]);
    }

    #[test]
    fn progress_makes_the_wait_short_again() {
        let start = Instant::now();
        let mut pace = Pace::new(SECOND, None, 3, start);
        assert_eq!(pace.due(start + SECOND), Due::Resend);
        assert_eq!(pace.deadline(), start + 3 * SECOND);
        pace.progress(start + 2 * SECOND);
        assert_eq!(pace.deadline(), start + 3 * SECOND);
        assert_eq!(pace.due(start + 3 * SECOND), Due::Resend);
        assert_eq!(pace.deadline(), start + 5 * SECOND);
    }

    #[test]
    fn an_ack_repeated_after_one_way_there_and_back_is_answered_at_once() {
        let (mut pace, now) = measured();
        assert_eq!(pace.repeated(now + WAY), Repeated::Resend);
    }

    #[test]
    fn an_ack_doubled_on_the_way_is_not_answered() {
        let (mut pace, now) = measured();
        assert_eq!(pace.repeated(now + WAY / 4), Repeated::Later);
        pace.progress(now + WAY);
        assert_eq!(pace.deadline(), now + WAY + SECOND);
    }

    #[test]
    fn a_second_repeated_ack_is_answered_after_a_while_only() {
        let (mut pace, now) = measured();
        assert_eq!(pace.repeated(now + WAY), Repeated::Resend);
        assert_eq!(pace.repeated(now + 2 * WAY), Repeated::Later);
        assert_eq!(pace.deadline(), now + WAY + QUIET);
        assert_eq!(pace.due(now + WAY + QUIET), Due::Resend);
        assert_eq!(pace.deadline(), now + SECOND);
    }

    #[test]
    fn the_echoes_of_a_needless_copy_are_not_answered() {
        let (mut pace, now) = measured();
        // The ACK was doubled and its copy late: 8 of 10 ms. So what we send
        // again had arrived, and 2 ms later comes the proof.
        assert_eq!(pace.repeated(now + WAY * 8 / 10), Repeated::Resend);
        pace.progress(now + WAY);
        assert_eq!(pace.repeated(now + WAY * 18 / 10), Repeated::Later);
        pace.progress(now + 2 * WAY);
        assert_eq!(pace.repeated(now + 3 * WAY), Repeated::Resend);
    }

    #[test]
    fn a_client_that_only_repeats_itself_is_given_up() {
        let (mut pace, start) = measured();
        let mut now = start;
        for _each in 0..1_000_000 {
            now += WAY;
            pace.repeated(now);
            if pace.due(now) == Due::GiveUp {
                assert!(now - start <= 15 * SECOND + WAY, "{:?}", now - start);
                return;
            }
        }
        panic!("never given up");
    }

    fn measured() -> (Pace, Instant) {
        let start = Instant::now();
        let mut pace = Pace::new(SECOND, None, 3, start);
        pace.progress(start + WAY);
        (pace, start + WAY)
    }

    fn waits(agreed: Option<Duration>, expected: &[u64]) {
        let mut now = Instant::now();
        let mut pace = Pace::new(SECOND, agreed, 3, now);
        let mut waits = Vec::new();
        loop {
            waits.push((pace.deadline() - now).as_secs());
            assert_eq!(pace.due(pace.deadline() - Duration::from_nanos(1)), Due::Nothing);
            now = pace.deadline();
            match pace.due(now) {
                Due::Resend => {}
                Due::GiveUp => break,
                Due::Nothing => panic!("nothing due at the deadline"),
            }
        }
        assert_eq!(waits, expected);
    }
}
