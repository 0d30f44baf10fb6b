//! How a file is sent to a machine that must not be sent to at full speed. Pure.
//!
//! Some network cards hang when a kernel comes at 25 Gbit/s, and bursts are what
//! hangs them: a second's worth at once and then a pause would be as bad. So pieces
//! are small, and each waits until the time of those before it has passed.

use std::time::{Duration, Instant};

use crate::model::Rate;

/// How much of a rate is one piece: its 200th, 5 milliseconds' worth.
const PIECES_PER_SECOND: u64 = 200;

/// The smallest piece, about three packets, and the largest.
const PIECES: (u64, u64) = (4 << 10, 1 << 20);

/// What passed unused may be made up for by so much: the clock of a busy computer is
/// late. It is how much more than the rate can come in any time.
const SLACK: Duration = Duration::from_millis(10);

/// The octets of one piece at this rate.
#[must_use]
pub fn piece(rate: Rate) -> u64 {
    (u64::from(rate.octets()) / PIECES_PER_SECOND).clamp(PIECES.0, PIECES.1)
}

/// What one machine is sent, by all its connections.
#[derive(Debug, Default)]
pub struct Pace {
    /// Until when what was sent is paid for.
    paid: Option<Instant>,
}

impl Pace {
    /// Sends so many octets, and says how long to wait before any more.
    pub fn send(&mut self, octets: u64, rate: Rate, now: Instant) -> Duration {
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        let from = self.paid.map_or(now, |paid| paid.max(earliest));
        let cost = u128::from(octets) * 1_000_000_000 / u128::from(rate.octets());
        let paid = from + Duration::from_nanos(u64::try_from(cost).unwrap_or(u64::MAX));
        self.paid = Some(paid);
        paid.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(octets: u32) -> Rate {
        octets.to_string().parse().expect("a rate")
    }

    #[test]
    fn a_piece_is_five_milliseconds_worth_but_some_packets_at_least() {
        for (octets, expected) in [(10_000, 4096), (5_000_000, 25_000), (4_000_000_000, 1 << 20)] {
            assert_eq!(piece(rate(octets)), expected, "{octets}");
        }
    }

    #[test]
    fn what_was_sent_is_waited_for() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let five = rate(5_000_000);
        assert_eq!(pace.send(50_000, five, now), Duration::from_millis(10));
        assert_eq!(pace.send(50_000, five, now), Duration::from_millis(20), "another connection");
        let late = now + Duration::from_millis(23);
        assert_eq!(pace.send(50_000, five, late), Duration::from_millis(7), "made up for");
        let much_later = now + Duration::from_secs(9);
        assert_eq!(pace.send(100_000, five, much_later), Duration::from_millis(10), "not for all");
    }

    proptest! {
        /// Whoever sends and waits, in whatever pieces and however late: in no time is
        /// more sent than the rate, one piece and the slack.
        #[test]
        fn no_time_has_more_than_the_rate(
            octets in 10_000u32..100_000_000,
            steps in proptest::collection::vec((1u64..200_000, 0u64..50), 1..100),
        ) {
            let rate = rate(octets);
            let (mut pace, start) = (Pace::default(), Instant::now());
            let mut now = start;
            let mut sent: Vec<(Duration, u64)> = Vec::new();
            for (piece, late) in steps {
                sent.push((now - start, piece));
                now += pace.send(piece, rate, now) + Duration::from_millis(late);
            }
            for (first, (from, _)) in sent.iter().enumerate() {
                let mut total = 0;
                for (at, piece) in &sent[first..] {
                    let time = (*at - *from + SLACK).as_secs_f64();
                    let most = time * f64::from(octets) + 2.0;
                    prop_assert!(f64::from(u32::try_from(total).expect("small")) <= most);
                    total += piece;
                }
            }
        }
    }
}
