//! The name that a DHCPv6 client or server has for itself.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Mac;

/// A DHCP unique identifier (RFC 8415 §11): a type of two bytes, and what it
/// says. Written in hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duid(Vec<u8>);

/// Why something is no DUID.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidDuid {
    /// Not between 3 and 130 bytes: two of the type, and 128 at most behind them
    /// (RFC 8415 §11.1).
    #[error("a DUID has 3 to 130 bytes, not {0}")]
    Length(usize),
    /// Not an even number of hexadecimal digits.
    #[error("`{0}` is not a DUID in hexadecimal digits")]
    Spelling(String),
}

/// DUID-LLT, link-layer address and time (RFC 8415 §11.2).
const LINK_LAYER_AND_TIME: [u8; 2] = [0, 1];
/// DUID-LL, link-layer address (RFC 8415 §11.4).
const LINK_LAYER: [u8; 2] = [0, 3];
/// DUID-UUID (RFC 6355 §4).
const UUID: [u8; 2] = [0, 4];
/// Ethernet among IANA's hardware types.
const ETHERNET: [u8; 2] = [0, 1];

impl Duid {
    /// The identifier made of these bytes.
    ///
    /// # Errors
    ///
    /// [`InvalidDuid::Length`] if there are too few or too many.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidDuid> {
        if !(3..=130).contains(&bytes.len()) {
            return Err(InvalidDuid::Length(bytes.len()));
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The identifier that is a UUID, in the order of its text (RFC 6355 §4).
    #[must_use]
    pub fn of_uuid(uuid: [u8; 16]) -> Self {
        Self([&UUID[..], &uuid].concat())
    }

    /// Its bytes as they are on the wire.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The Ethernet card in it, for the two types that are made of one. It is a
    /// card of the machine, but not always the one that asks.
    #[must_use]
    pub fn card(&self) -> Option<Mac> {
        let bytes = self.bytes();
        let card = match [bytes[0], bytes[1]] {
            LINK_LAYER_AND_TIME => bytes.get(8..)?,
            LINK_LAYER => bytes.get(4..)?,
            _ => return None,
        };
        let mac = Mac::new(card.try_into().ok()?);
        (bytes[2..4] == ETHERNET && mac.is_unicast()).then_some(mac)
    }

    /// The UUID in it as a text, for the type that is one.
    #[must_use]
    pub fn uuid(&self) -> Option<String> {
        let value = self.bytes().strip_prefix(&UUID)?;
        let is_junk = value.iter().all(|byte| *byte == 0) || value.iter().all(|byte| *byte == 0xff);
        if value.len() != 16 || is_junk {
            return None;
        }
        let digits = hexadecimal(value);
        let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        Some(parts.join("-"))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl FromStr for Duid {
    type Err = InvalidDuid;

    fn from_str(text: &str) -> Result<Self, InvalidDuid> {
        let invalid = || InvalidDuid::Spelling(text.to_owned());
        if !text.len().is_multiple_of(2) || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        let pairs = (0..text.len() / 2).map(|pair| u8::from_str_radix(&text[pair * 2..][..2], 16));
        let bytes = pairs.collect::<Result<Vec<u8>, _>>().map_err(|_| invalid())?;
        Self::new(&bytes)
    }
}

impl fmt::Display for Duid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hexadecimal(self.bytes()))
    }
}

impl fmt::Debug for Duid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl TryFrom<String> for Duid {
    type Error = InvalidDuid;

    fn try_from(text: String) -> Result<Self, InvalidDuid> {
        text.parse()
    }
}

impl From<Duid> for String {
    fn from(duid: Duid) -> Self {
        duid.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: Mac = Mac::new([0x52, 0x54, 0, 0xaa, 1, 1]);

    #[test]
    fn the_card_is_read_from_the_two_types_that_are_made_of_one() {
        let card = |text: &str| text.parse::<Duid>().expect("a DUID").card();
        assert_eq!(card("00010001aabbccdd525400aa0101"), Some(MAC));
        assert_eq!(card("00030001525400aa0101"), Some(MAC));
        for none in [
            "0004525400aa0101525400aa0101525400aa",
            "00020000ab11525400aa0101",
            "00030006525400aa0101",
            "00030001525400aa01",
            "00030001525400aa010101",
            "00030001ffffffffffff",
            "0001000152",
            "000300",
        ] {
            assert_eq!(card(none), None, "{none}");
        }
    }

    #[test]
    fn a_uuid_is_written_as_a_text_and_junk_is_none() {
        let duid = Duid::of_uuid([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(duid.uuid().as_deref(), Some("00010203-0405-0607-0809-0a0b0c0d0e0f"));
        assert_eq!(Duid::of_uuid([0xff; 16]).uuid(), None);
        assert_eq!("00030001525400aa0101".parse::<Duid>().expect("a DUID").uuid(), None);
    }

    #[test]
    fn a_duid_is_neither_too_short_nor_too_long() {
        assert_eq!(Duid::new(&[0, 4]), Err(InvalidDuid::Length(2)));
        assert_eq!(Duid::new(&[0; 131]), Err(InvalidDuid::Length(131)));
        for text in ["000", "00é4", "+0+4+1", "0004 1"] {
            assert_eq!(text.parse::<Duid>(), Err(InvalidDuid::Spelling(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in proptest::collection::vec(any::<u8>(), 3..131)) {
            let duid = Duid::new(&bytes).expect("neither too short nor too long");
            let _ = (duid.card(), duid.uuid());
            prop_assert_eq!(duid.to_string().parse::<Duid>(), Ok(duid));
        }
    }
}
