//! What is known of the way to a machine: its VLAN, and how fast it may be sent to.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The number of a VLAN (IEEE 802.1Q §9.6): 1 to 4094.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct VlanId(u16);

/// This is no VLAN's number.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0} is no VLAN, 1 to 4094")]
pub struct InvalidVlanId(u16);

impl TryFrom<u16> for VlanId {
    type Error = InvalidVlanId;

    fn try_from(number: u16) -> Result<Self, InvalidVlanId> {
        if (1..=4094).contains(&number) { Ok(Self(number)) } else { Err(InvalidVlanId(number)) }
    }
}

impl From<VlanId> for u16 {
    fn from(VlanId(number): VlanId) -> Self {
        number
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// How fast a machine is sent to, octets per second: [`Rate::LEAST`] to [`Rate::MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(u32);

/// This is no rate. It names what was written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidRate {
    /// It is not written as one.
    #[error("`{0}` is no rate: octets per second such as 10M, or bits such as 80Mbit")]
    Unreadable(String),
    /// Nobody boots so slowly, or so fast.
    #[error("`{0}` is not between 10K and 4G octets per second")]
    OutOfRange(String),
}

/// The units, larger ones first, with the octets of eight of each.
const UNITS: [(&str, u64); 7] = [
    ("Gbit", 1_000_000_000),
    ("Mbit", 1_000_000),
    ("Kbit", 1_000),
    ("G", 8_000_000_000),
    ("M", 8_000_000),
    ("K", 8_000),
    ("", 8),
];

impl Rate {
    /// An initrd of 100 MB would take three hours.
    pub const LEAST: Self = Self(10_000);
    /// What the kernel's own pacing can be told.
    pub const MOST: Self = Self(4_000_000_000);

    /// Octets per second.
    #[must_use]
    pub const fn octets(self) -> u32 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let unreadable = || InvalidRate::Unreadable(text.to_owned());
        let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        let unit = &text[digits.len()..];
        let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let (_, eighths) = known.ok_or_else(unreadable)?;
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(unreadable());
        }
        let out_of_range = || InvalidRate::OutOfRange(text.to_owned());
        let number: u64 = digits.parse().map_err(|_| out_of_range())?;
        let octets = number.checked_mul(*eighths).ok_or_else(out_of_range)? / 8;
        let octets = u32::try_from(octets).map_err(|_| out_of_range())?;
        if (Self::LEAST.0..=Self::MOST.0).contains(&octets) {
            Ok(Self(octets))
        } else {
            Err(out_of_range())
        }
    }
}

impl TryFrom<String> for Rate {
    type Error = InvalidRate;

    fn try_from(text: String) -> Result<Self, InvalidRate> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

/// In octets, with the largest unit that needs no fraction.
impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("G", 1_000_000_000), ("M", 1_000_000), ("K", 1_000)];
        match units.into_iter().find(|(_, octets)| self.0.is_multiple_of(*octets)) {
            Some((unit, octets)) => write!(formatter, "{}{unit}", self.0 / octets),
            None => self.0.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_vlan_is_one_that_a_tag_can_name() {
        for (number, is_one) in [(0, false), (1, true), (4094, true), (4095, false)] {
            assert_eq!(VlanId::try_from(number).is_ok(), is_one, "{number}");
        }
        let error = serde_json::from_str::<VlanId>("4095").expect_err("too large").to_string();
        assert!(error.contains("4095 is no VLAN, 1 to 4094"), "{error}");
        assert_eq!(serde_json::from_str::<VlanId>("20").ok(), VlanId::try_from(20).ok());
    }

    #[test]
    fn a_rate_is_octets_unless_it_says_bits() {
        for (text, octets, shown) in [
            ("10M", 10_000_000, "10M"),
            ("10m", 10_000_000, "10M"),
            ("80Mbit", 10_000_000, "10M"),
            ("100mbit", 12_500_000, "12500K"),
            ("1G", 1_000_000_000, "1G"),
            ("12345", 12_345, "12345"),
            ("10K", 10_000, "10K"),
        ] {
            let rate: Rate = text.parse().expect(text);
            assert_eq!((rate.octets(), rate.to_string().as_str()), (octets, shown), "{text}");
        }
        for text in ["", "M", "10 M", "10MB", "-1M", "1.5M", "10Mbits", "ten", "10M "] {
            let error = text.parse::<Rate>().expect_err(text);
            assert_eq!(error, InvalidRate::Unreadable(text.to_owned()));
        }
        for text in ["0", "9999", "5G", "40Gbit", "99999999999999999999999G"] {
            let error = text.parse::<Rate>().expect_err(text);
            assert_eq!(error, InvalidRate::OutOfRange(text.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_shown_is_read_again(text: String, octets in 10_000u32..4_000_000_000) {
            let _ = text.parse::<Rate>();
            let rate = Rate(octets);
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
        }
    }
}
