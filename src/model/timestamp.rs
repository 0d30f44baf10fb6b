//! Moments and spans as the state keeps them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment: milliseconds since 1970-01-01T00:00:00 UTC, by the wall clock,
/// since leases must mean the same after a restart.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment `span` after this one; the end of time at most.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        let milliseconds = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(milliseconds))
    }

    /// As RFC 3339 writes it, in UTC, to the millisecond; the last moment that has
    /// four digits of a year if it is later.
    #[must_use]
    pub fn rfc3339(self) -> String {
        const LAST: u64 = 253_402_300_799_999;
        let moment = UNIX_EPOCH + Duration::from_millis(self.0.min(LAST));
        humantime::format_rfc3339_millis(moment).to_string()
    }

    /// The moment that RFC 3339 writes so, in UTC; nothing if it is none, or before
    /// 1970.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        humantime::parse_rfc3339(text).ok().map(Self::from)
    }

    /// How long ago `earlier` was; zero if it is still to come.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for Timestamp {
    /// A clock before 1970 counts as 1970.
    fn from(time: SystemTime) -> Self {
        Self::default().after(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

/// A span of whole seconds, as DHCP counts lease times (RFC 2132 §9.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seconds(pub u32);

impl From<Seconds> for Duration {
    fn from(seconds: Seconds) -> Self {
        Self::from_secs(u64::from(seconds.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_is_written_as_rfc_3339_has_it() {
        for (moment, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_380_487_123, "2026-11-22T20:48:07.123Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp(moment).rfc3339(), expected);
            let last = Timestamp(moment.min(253_402_300_799_999));
            assert_eq!(Timestamp::from_rfc3339(expected), Some(last));
        }
        for text in ["", "yesterday", "2026-11-22", "2026-11-22T20:48:07"] {
            assert_eq!(Timestamp::from_rfc3339(text), None, "{text}");
        }
    }
}
