//! How many refusals are told. Pure.
//!
//! Who refuses can be made to do so by anyone who can send a packet: without a
//! measure, a hostile network would have every listener busy with it.

use crate::model::Timestamp;

/// Refusals that are told in one second; the others are only counted.
pub(super) const MOST_IN_A_SECOND: u32 = 100;

/// What was told in this second, and what was not since the last that was.
#[derive(Debug, Default)]
pub(super) struct Measure {
    second: u64,
    told: u32,
    untold: u64,
}

impl Measure {
    /// How many were not told since the last one, if this one may be told.
    pub(super) fn admit(&mut self, now: Timestamp) -> Option<u64> {
        let second = now.0 / 1000;
        // Also when the clock was set back.
        if second != self.second {
            (self.second, self.told) = (second, 0);
        }
        if self.told >= MOST_IN_A_SECOND {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted_and_the_count_told_with_the_next() {
        let mut measure = Measure::default();
        let told = (0..250).filter(|_| measure.admit(Timestamp(5000)).is_some()).count();
        assert_eq!(told, 100);
        assert_eq!(measure.admit(Timestamp(5999)), None);
        assert_eq!(measure.admit(Timestamp(6000)), Some(151));
        assert_eq!(measure.admit(Timestamp(6000)), Some(0));
        assert_eq!(measure.admit(Timestamp(100)), Some(0), "a clock set back");
    }
}
