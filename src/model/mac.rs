//! A hardware address: strict in, one spelling out.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use mac_address::MacAddress;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    hexadecimal::{digits, number, text},
    spelled,
};

/// The hardware address of a network card: 48 bits, as Ethernet has them.
///
/// Read from `52:54:00:aa:01:01`, `52-54-00-aa-01-01`, `525400aa0101`,
/// `5254.00aa.0101` and pxelinux's `01-52-54-00-aa-01-01`, in either case;
/// always written `52:54:00:aa:01:01`, as iPXE's `${net0/mac}` is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

/// Why a text is no hardware address of a machine.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidMac {
    /// Not six bytes in hexadecimal in one of the usual spellings.
    #[error("`{0}` is not a MAC address like 52:54:00:aa:01:01")]
    Spelling(String),
    /// All zero, or a group address (the lowest bit of the first byte is set,
    /// IEEE 802-2014 §8.2), which no network card may have.
    #[error("`{0}` is not the MAC address of one machine")]
    NotOneMachine(String),
}

impl Mac {
    /// The address made of these six bytes, whatever they are.
    #[must_use]
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The six bytes, first transmitted first.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// The card in the interface identifier of an address, where it is made of one
    /// (modified EUI-64, RFC 4291 appendix A).
    #[must_use]
    pub fn of_interface_identifier(address: Ipv6Addr) -> Option<Self> {
        let [.., a, b, c, 0xff, 0xfe, d, e, f] = address.octets() else { return None };
        Some(Self([a ^ 2, b, c, d, e, f])).filter(|mac| mac.is_unicast())
    }

    /// Whether one machine can have this address: not zero, not a group's.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        let bytes = self.bytes();
        bytes != [0; 6] && bytes[0] & 1 == 0
    }

    /// Six pairs with this between them, in ASCII.
    fn spelled(self, separator: u8) -> [u8; 17] {
        let mut spelled = [separator; 17];
        for (place, byte) in self.0.into_iter().enumerate() {
            spelled[3 * place..3 * place + 2].copy_from_slice(&digits(byte));
        }
        spelled
    }

    /// Six pairs with hyphens, as iPXE writes `${net0/mac:hexhyp}`; fit for a
    /// path or a file name.
    #[must_use]
    pub fn hyphenated(self) -> String {
        text(&self.spelled(b'-')).to_owned()
    }
}

impl FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let mac = match as_we_write(text) {
            Some(mac) => mac,
            None => as_others_write(text)?,
        };
        if !mac.is_unicast() {
            return Err(InvalidMac::NotOneMachine(text.to_owned()));
        }
        Ok(mac)
    }
}

/// Read from the spelling that all our records have, and that our URLs have.
fn as_we_write(text: &str) -> Option<Mac> {
    let spelled: &[u8; 17] = text.as_bytes().try_into().ok()?;
    let separator = spelled[2];
    if !matches!(separator, b':' | b'-') {
        return None;
    }
    let mut bytes = [0; 6];
    for (byte, pair) in bytes.iter_mut().zip(spelled.chunks(3)) {
        let [high, low, behind @ ..] = pair else { return None };
        if !behind.is_empty() && behind != [separator] {
            return None;
        }
        *byte = number(*high)? << 4 | number(*low)?;
    }
    Some(Mac(bytes))
}

fn as_others_write(text: &str) -> Result<Mac, InvalidMac> {
    let invalid = || InvalidMac::Spelling(text.to_owned());
    // mac_address takes `+1:+2:+3:+4:+5:+6`, seventeen digits and more for
    // an address: the spelling is checked before it is asked.
    let pairs = plain_pairs(text).ok_or_else(invalid)?;
    let parsed: MacAddress = pairs.parse().map_err(|_| invalid())?;
    Ok(Mac(parsed.bytes()))
}

/// The twelve digits as pairs with colons, or nothing if the text has another
/// form than those that [`Mac`] names.
fn plain_pairs(text: &str) -> Option<String> {
    let groups: Vec<&str> = match text {
        _ if text.contains(':') => text.split(':').collect(),
        _ if text.contains('-') => text.split('-').collect(),
        _ if text.contains('.') => text.split('.').collect(),
        _ => vec![text],
    };
    let widths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let separated_by_dots = text.contains('.') && !text.contains([':', '-']);
    let digits: String = match (widths.as_slice(), separated_by_dots) {
        ([2, 2, 2, 2, 2, 2], false) | ([12], false) | ([4, 4, 4], true) => groups.concat(),
        ([2, 2, 2, 2, 2, 2, 2], false) if groups[0] == "01" && text.contains('-') => {
            groups[1..].concat()
        }
        _ => return None,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pairs: Vec<&str> = (0..6).map(|pair| &digits[pair * 2..pair * 2 + 2]).collect();
    Some(pairs.join(":"))
}

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(text(&self.spelled(b':')))
    }
}

impl Serialize for Mac {
    /// As it is written, without a `String` between: Describe writes many.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text(&self.spelled(b':')))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        spelled::read(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_usual_spelling_is_one_address() {
        for text in [
            "52:54:00:aa:01:0f",
            "52:54:00:AA:01:0F",
            "52-54-00-aa-01-0f",
            "525400aa010f",
            "5254.00aa.010f",
            "01-52-54-00-aa-01-0f",
        ] {
            let mac: Mac = text.parse().expect(text);
            assert_eq!(mac.to_string(), "52:54:00:aa:01:0f");
        }
    }

    #[test]
    fn what_mac_address_alone_would_take_is_refused() {
        for text in [
            "+1:+2:+3:+4:+5:+6",
            "1:2:3:4:5:6:7:8:9",
            "00000000000000:11",
            "000:11:22:33:44:5",
            "52:54:00:aa:01",
            "52:54:00:aa:01:0g",
            "52:54-00:aa-01:0f",
            " 52:54:00:aa:01:0f",
            "5254:00aa:010f",
            "é2:54:00:aa:01:0f",
            "",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(InvalidMac::Spelling(text.to_owned())));
        }
    }

    #[test]
    fn a_card_is_found_in_an_address_that_is_made_of_it() {
        let card = |text: &str| {
            let address = text.parse().expect("an address");
            Mac::of_interface_identifier(address).map(|mac| mac.to_string())
        };
        assert_eq!(card("fe80::5054:ff:fe77:1").as_deref(), Some("52:54:00:77:00:01"));
        assert_eq!(card("fd00::2e0:4cff:fe12:3456").as_deref(), Some("00:e0:4c:12:34:56"));
        for none in ["fd00::1", "fe80::300:ff:fe77:1", "fe80::5054:ff:ff77:1", "::"] {
            assert_eq!(card(none), None, "{none}");
        }
    }

    #[test]
    fn group_addresses_and_zero_are_no_machines() {
        for text in ["ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "01:00:5e:00:00:01"] {
            assert_eq!(text.parse::<Mac>(), Err(InvalidMac::NotOneMachine(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(mut bytes: [u8; 6]) {
            bytes[0] &= !1;
            let mac = Mac::new(bytes);
            prop_assume!(mac.is_unicast());
            prop_assert_eq!(mac.to_string().parse::<Mac>(), Ok(mac));
            prop_assert_eq!(mac.hyphenated().parse::<Mac>(), Ok(mac));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Mac>();
        }
    }
}
