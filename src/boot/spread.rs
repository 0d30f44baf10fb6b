//! Machines that were switched on together do not ask, load and wait together: by
//! how much each is put off. Pure.

use std::time::{Duration, Instant};

use crate::model::Mac;

/// A part of a second that passed without a boot may be made up for.
const BURST: Duration = Duration::from_millis(250);

/// A number below `below`, always the same for a machine, and another one for most
/// others. Zero if `below` is.
#[must_use]
pub fn share(mac: Mac, below: u32) -> u32 {
    // FNV-1a: cards of one delivery differ in their last digits alone.
    let hash = mac.bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = u32::try_from((hash ^ (hash >> 32)) & 0xffff_ffff).unwrap_or_default();
    mixed.checked_rem(below).unwrap_or_default()
}

/// The machines that begin to load, one after the other when they are many.
#[derive(Debug, Default)]
pub struct Crowd {
    /// From when on another one may begin.
    next: Option<Instant>,
}

impl Crowd {
    /// How long this machine is put off, where so many may begin in a second; zero is
    /// any number. Never for longer than it has `patience`: when the line is as long
    /// as that, it is spread over that time.
    pub fn join(
        &mut self,
        mac: Mac,
        (per_second, patience): (u32, Duration),
        now: Instant,
    ) -> Duration {
        if per_second == 0 {
            return Duration::ZERO;
        }
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let next = self.next.map_or(earliest, |next| next.max(earliest));
        let wait = next.saturating_duration_since(now);
        if wait > patience {
            return patience * share(mac, 1000) / 1000;
        }
        self.next = Some(next + Duration::from_secs(1) / per_second);
        wait
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(2500);

    fn card(number: u32) -> Mac {
        let [_, a, b, c] = number.to_be_bytes();
        Mac::new([0x52, 0x54, 0, a, b, c])
    }

    #[test]
    fn cards_of_one_delivery_have_shares_of_their_own_and_keep_them() {
        let shares: Vec<u32> = (0..1000).map(|number| share(card(number), 10)).collect();
        for share in 0..10 {
            let count = shares.iter().filter(|other| **other == share).count();
            assert!((60..140).contains(&count), "{share}: {count} of 1000");
        }
        assert_eq!(share(card(7), 10), shares[7]);
        assert_eq!(share(card(7), 0), 0);
    }

    #[test]
    fn a_few_machines_wait_for_nothing_and_many_are_spread_evenly() {
        let (mut crowd, now) = (Crowd::default(), Instant::now());
        let waits: Vec<Duration> =
            (0..250).map(|number| crowd.join(card(number), (100, PATIENCE), now)).collect();
        assert!(waits[..25].iter().all(Duration::is_zero), "a quarter of a second's worth");
        for second in 0..2 {
            let (from, to) = (Duration::from_secs(second), Duration::from_secs(second + 1));
            let count = waits.iter().filter(|wait| **wait > from && **wait <= to).count();
            assert!((95..=105).contains(&count), "second {second}: {count}");
        }
        let later = now + Duration::from_secs(10);
        assert_eq!(crowd.join(card(1), (100, PATIENCE), later), Duration::ZERO);
    }

    #[test]
    fn who_would_wait_too_long_is_spread_over_the_time_that_there_is() {
        let (mut crowd, now) = (Crowd::default(), Instant::now());
        let waits: Vec<Duration> =
            (0..5000).map(|number| crowd.join(card(number), (100, PATIENCE), now)).collect();
        assert!(waits.iter().all(|wait| *wait <= PATIENCE));
        let late: HashSet<Duration> = waits[1000..].iter().copied().collect();
        assert!(late.len() > 500, "{} different waits", late.len());
        assert!((0..100).all(|number| crowd.join(card(number), (0, PATIENCE), now).is_zero()));
    }

    proptest! {
        #[test]
        fn nobody_waits_longer_than_it_has_patience(
            arrivals in proptest::collection::vec((0u64..200, 0u32..9), 1..200),
            per_second in 0u32..1000,
            patience in 0u64..5000,
        ) {
            let (mut crowd, mut now) = (Crowd::default(), Instant::now());
            let patience = Duration::from_millis(patience);
            for (step, number) in arrivals {
                now += Duration::from_millis(step);
                prop_assert!(crowd.join(card(number), (per_second, patience), now) <= patience);
            }
        }
    }
}
