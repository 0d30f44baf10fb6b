//! Which addresses of a network are given to machines.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use ipnet::Ipv4Net;

/// Addresses one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    first: Ipv4Addr,
    last: Ipv4Addr,
}

/// Why a text or a pair of addresses is no range.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidRange {
    /// No address, or no two of them.
    #[error("`{0}` is neither an address nor two of them, such as 10.0.0.100-10.0.0.199")]
    NotARange(String),
    /// The last one is before the first one.
    #[error("the range {0}-{1} ends before it starts")]
    Backwards(Ipv4Addr, Ipv4Addr),
}

impl Range {
    /// From the first address to the last one, both included.
    ///
    /// # Errors
    ///
    /// [`InvalidRange::Backwards`].
    pub fn new(first: Ipv4Addr, last: Ipv4Addr) -> Result<Self, InvalidRange> {
        if last < first {
            return Err(InvalidRange::Backwards(first, last));
        }
        Ok(Self { first, last })
    }

    /// The lowest address.
    #[must_use]
    pub const fn first(self) -> Ipv4Addr {
        self.first
    }

    /// The highest address.
    #[must_use]
    pub const fn last(self) -> Ipv4Addr {
        self.last
    }

    /// Whether the address is one of them.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// Whether an address is in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// How many addresses.
    #[must_use]
    pub fn count(self) -> u64 {
        u64::from(u32::from(self.last)) - u64::from(u32::from(self.first)) + 1
    }

    fn addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        (u32::from(self.first)..=u32::from(self.last)).map(Ipv4Addr::from)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return self.first.fmt(formatter);
        }
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

impl FromStr for Range {
    type Err = InvalidRange;

    /// One address, or the first and the last one with a hyphen between them.
    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let wrong = |_| InvalidRange::NotARange(text.to_owned());
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Self::new(first.trim().parse().map_err(wrong)?, last.trim().parse().map_err(wrong)?)
    }
}

/// The addresses of one network that may be given to machines without a
/// reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The network that all of them are in.
    pub network: Ipv4Net,
    /// Which they are; no address is in two ranges.
    pub ranges: Vec<Range>,
    /// Those between that belong to somebody: the server, the router.
    pub except: Vec<Ipv4Addr>,
}

impl Pool {
    /// Whether the address may be given to a machine without a reservation.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.ranges.iter().any(|range| range.contains(address)) && !self.except.contains(&address)
    }

    /// All of them, each once.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let all = self.ranges.iter().flat_map(|range| range.addresses());
        all.filter(|address| !self.except.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_it_is_written() {
        for text in ["10.0.0.1-10.0.0.9", "10.0.0.7"] {
            assert_eq!(text.parse::<Range>().map(|range| range.to_string()), Ok(text.to_owned()));
        }
        let spaced: Range = "10.0.0.1 - 10.0.0.9".parse().expect("a range");
        assert_eq!((spaced.count(), spaced.last()), (9, [10, 0, 0, 9].into()));
        for text in ["", "-", "10.0.0.1-", "10.0.0.1-9", "10.0.0.9-10.0.0.1", "10.0.0.0/24"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
        let all: Range = "0.0.0.0-255.255.255.255".parse().expect("a range");
        assert_eq!(all.count(), 1 << 32);
    }

    #[test]
    fn ranges_that_share_an_address_overlap() {
        let overlap = |one: &str, other: &str| {
            let (one, other) = (one.parse::<Range>().expect("one"), other.parse().expect("other"));
            assert_eq!(one.overlaps(other), other.overlaps(one));
            one.overlaps(other)
        };
        assert!(overlap("10.0.0.1-10.0.0.5", "10.0.0.5-10.0.0.9"));
        assert!(overlap("10.0.0.1-10.0.0.9", "10.0.0.4"));
        assert!(!overlap("10.0.0.1-10.0.0.4", "10.0.0.5-10.0.0.9"));
    }
}
