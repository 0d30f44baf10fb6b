//! When a transfer sends again what it has sent, and when it gives up.
//!
//! Time comes in as an argument. It must not know what is sent, nor blocks.

use std::time::{Duration, Instant};

/// How long after a resend a repeated ACK waits for an answer, at least. Clients
/// that repeat the ACK for each block out of order do it within one window.
pub const QUIET: Duration = Duration::from_millis(100);

/// By how much the wait is longer than the measured way there and back, at least.
/// Firmware looks at its network card some ten times a second only.
pub const MARGIN: Duration = Duration::from_millis(100);

/// How long is waited for an answer, and for how long in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// The first wait, as long as nothing is measured.
    pub first: Duration,
    /// The longest wait from one resend to the next.
    pub longest: Duration,
    /// How long the client may make no progress before it is given up.
    pub patience: Duration,
}

impl Waits {
    /// With the `timeout` that a client asks for (RFC 2349): so long is waited
    /// from one resend to the next at most. Sooner does no harm, and curl asks for
    /// six seconds on any network. Who asks for long waits may be silent for three
    /// of them, but not for more than a minute.
    #[must_use]
    pub fn agreed(self, timeout: Duration) -> Self {
        const LONGEST_PATIENCE: Duration = Duration::from_secs(60);
        let patience = (timeout * 3).min(LONGEST_PATIENCE);
        let longest = timeout.min(LONGEST_PATIENCE / 3);
        Self { first: self.first.min(longest), longest, patience: patience.max(self.patience) }
    }
}

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
/// The wait for an answer follows the measured way there and back as TCP's does
/// (RFC 6298), and doubles from one resend to the next.
///
/// RFC 1123 §4.2.3.1 (the Sorcerer's Apprentice) wants that a repeated ACK never
/// makes the sender send, RFC 7440 §4 wants that in a window it does. Both are had by
/// asking when it came. Sooner than half of the shortest way there and back
/// after sending, it cannot be an answer to that. And when the answer to a
/// resend comes as soon as that, the first copy had arrived: the ACKs that
/// the second one causes are echoes. (This is the idea of RFC 3522, Eifel.)
#[derive(Clone, Debug)]
pub struct Pace {
    waits: Waits,
    wait: Duration,
    deadline: Instant,
    given_up: Instant,
    brought_forward: Option<Instant>,
    sent: Instant,
    sending: Sending,
    shortest: Option<Duration>,
    way: Option<Way>,
}

/// The way there and back, as RFC 6298 §2 keeps it.
#[derive(Clone, Copy, Debug)]
struct Way {
    smoothed: Duration,
    variation: Duration,
}

impl Way {
    fn measured(before: Option<Self>, elapsed: Duration) -> Self {
        match before {
            None => Self { smoothed: elapsed, variation: elapsed / 2 },
            Some(Self { smoothed, variation }) => Self {
                smoothed: (smoothed * 7 + elapsed) / 8,
                variation: (variation * 3 + smoothed.abs_diff(elapsed)) / 4,
            },
        }
    }

    fn wait(self) -> Duration {
        self.smoothed + MARGIN.max(self.variation * 4)
    }
}

impl Pace {
    /// Starts the clock: something was sent `now`.
    pub fn new(waits: Waits, now: Instant) -> Self {
        Self {
            waits,
            wait: waits.first,
            deadline: now + waits.first,
            given_up: now + waits.patience,
            brought_forward: None,
            sent: now,
            sending: Sending::Fresh,
            shortest: None,
            way: None,
        }
    }

    /// The next moment at which [`Pace::due`] has something to say.
    pub fn deadline(&self) -> Instant {
        let soonest = self.deadline.min(self.given_up);
        self.brought_forward.map_or(soonest, |sooner| sooner.min(soonest))
    }

    /// The client has what it was sent, and is sent something new `now`.
    pub fn progress(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.sent);
        self.sending = match self.sending {
            Sending::Fresh | Sending::AmongEchoes => {
                let shortest = self.shortest.map_or(elapsed, |known| known.min(elapsed));
                self.shortest = Some(shortest);
                let way = Way::measured(self.way, elapsed);
                self.way = Some(way);
                self.wait = way.wait().min(self.waits.longest);
                Sending::Fresh
            }
            // What was sent twice measures nothing (Karn's algorithm, RFC 6298
            // §3), and the longer wait stays until something does.
            Sending::Again if self.too_soon(elapsed) => Sending::AmongEchoes,
            Sending::Again => Sending::Fresh,
        };
        self.deadline = now + self.wait;
        self.given_up = now + self.waits.patience;
        self.brought_forward = None;
        self.sent = now;
    }

    /// The client repeats its last ACK. On [`Repeated::Resend`] the caller sends.
    ///
    /// A client that only repeats itself is given up in the same time as a silent
    /// one.
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
        if now >= self.given_up {
            return Due::GiveUp;
        }
        self.brought_forward = None;
        self.sent = now;
        self.sending = Sending::Again;
        if now >= self.deadline {
            self.wait = self.wait.saturating_mul(2).min(self.waits.longest);
            self.deadline = now + self.wait;
        }
        Due::Resend
    }

    /// Whether what comes `now` cannot be an answer to what was sent last.
    pub fn is_too_soon(&self, now: Instant) -> bool {
        self.too_soon(now.saturating_duration_since(self.sent))
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
    const WAITS: Waits =
        Waits { first: SECOND, longest: Duration::from_secs(2), patience: Duration::from_secs(10) };

    #[test]
    fn the_wait_doubles_up_to_the_longest_until_the_client_is_given_up() {
        waits(WAITS, &[1, 2, 2, 2, 2, 1]);
    }

    #[test]
    fn an_agreed_timeout_is_the_longest_wait_and_its_triple_the_patience() {
        waits(WAITS.agreed(SECOND), &[1; 10]);
        waits(WAITS.agreed(5 * SECOND), &[1, 2, 4, 5, 3]);
        waits(WAITS.agreed(255 * SECOND), &[1, 2, 4, 8, 16, 20, 9]);
    }

    #[test]
    fn the_wait_follows_what_is_measured() {
        let start = Instant::now();
        for (way, least, most) in [(1, 101, 110), (50, 150, 160), (400, 500, 600)] {
            let way = Duration::from_millis(way);
            let (mut pace, mut now) = (Pace::new(WAITS, start), start);
            for _block in 0..40 {
                now += way;
                pace.progress(now);
            }
            let wait = (pace.deadline() - now).as_millis();
            assert!((least..=most).contains(&wait), "{way:?}: {wait} ms");
        }
    }

    #[test]
    fn a_longer_wait_stays_until_something_is_measured() {
        let (mut pace, now) = measured();
        let wait = pace.deadline() - now;
        let resent = pace.deadline();
        assert_eq!(pace.due(resent), Due::Resend);
        let late = resent + WAY;
        pace.progress(late);
        assert_eq!(pace.deadline() - late, wait * 2);
        pace.progress(late + WAY);
        assert!(pace.deadline() - (late + WAY) <= wait);
    }

    #[test]
    fn an_ack_repeated_after_one_way_there_and_back_is_answered_at_once() {
        let (mut pace, now) = measured();
        assert_eq!(pace.repeated(now + WAY), Repeated::Resend);
    }

    #[test]
    fn an_ack_doubled_on_the_way_is_not_answered() {
        let (mut pace, now) = measured();
        let wait = pace.deadline() - now;
        assert_eq!(pace.repeated(now + WAY / 4), Repeated::Later);
        pace.progress(now + WAY);
        assert_eq!(pace.due(now + WAY + QUIET), Due::Nothing);
        assert!(pace.deadline() <= now + WAY + wait);
    }

    #[test]
    fn a_second_repeated_ack_is_answered_after_a_while_only() {
        let (mut pace, now) = measured();
        assert_eq!(pace.repeated(now + WAY), Repeated::Resend);
        assert_eq!(pace.repeated(now + 2 * WAY), Repeated::Later);
        assert_eq!(pace.deadline(), now + WAY + QUIET);
        assert_eq!(pace.due(now + WAY + QUIET), Due::Resend);
        assert_eq!(pace.due(now + WAY + QUIET), Due::Nothing);
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
                assert!(now - start <= 10 * SECOND + WAY, "{:?}", now - start);
                return;
            }
        }
        panic!("never given up");
    }

    fn measured() -> (Pace, Instant) {
        let start = Instant::now();
        let mut pace = Pace::new(WAITS, start);
        pace.progress(start + WAY);
        (pace, start + WAY)
    }

    fn waits(waits: Waits, expected: &[u64]) {
        let mut now = Instant::now();
        let mut pace = Pace::new(waits, now);
        let mut waited = Vec::new();
        loop {
            waited.push((pace.deadline() - now).as_secs());
            assert_eq!(pace.due(pace.deadline() - Duration::from_nanos(1)), Due::Nothing);
            now = pace.deadline();
            match pace.due(now) {
                Due::Resend => {}
                Due::GiveUp => break,
                Due::Nothing => panic!("nothing due at the deadline"),
            }
        }
        assert_eq!(waited, expected);
    }
}
