//! What machines are told by DHCP options (RFC 2132), as the bytes of their
//! values. One set can be laid over another: a machine's over its subnet's.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, str::FromStr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// Options by their codes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DhcpOptions(BTreeMap<u8, Vec<u8>>);

impl DhcpOptions {
    /// No option.
    pub(super) const NONE: Self = Self(BTreeMap::new());

    /// Sets an option, over what it was before.
    pub fn set(&mut self, code: u8, value: Vec<u8>) {
        self.0.insert(code, value);
    }

    /// The value of an option.
    #[must_use]
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    /// All of them, lowest code first.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.0.iter().map(|(code, value)| (*code, value.as_slice()))
    }
}

/// The value of an option that lists addresses (RFC 2132 §3.5 and others).
#[must_use]
pub fn addresses_value(addresses: &[Ipv4Addr]) -> Vec<u8> {
    addresses.iter().flat_map(Ipv4Addr::octets).collect()
}

/// A domain name of letters, digits, hyphens and underscores, without a dot at
/// its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain(String);

/// A text is no domain name (RFC 1035 §2.3.1, §2.3.4).
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is no domain name: labels of 1 to 63 letters, digits, hyphens and underscores with dots between them, 253 in all"
)]
pub struct InvalidDomain(String);

impl FromStr for Domain {
    type Err = InvalidDomain;

    fn from_str(text: &str) -> Result<Self, InvalidDomain> {
        let is_plain = |letter: u8| letter.is_ascii_alphanumeric() || b"-_".contains(&letter);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(is_plain)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() > 253 || !text.split('.').all(is_label) {
            return Err(InvalidDomain(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Domain {
    /// As option 119 has it: each label with its length, then a zero (RFC 3397,
    /// RFC 1035 §3.1). Compression may be left out.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(self.0.len() + 2);
        for label in self.0.split('.') {
            value.push(u8::try_from(label.len()).expect("a label has 63 letters at most"));
            value.extend_from_slice(label.as_bytes());
        }
        value.push(0);
        value
    }
}

/// A network and the router to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    to: Ipv4Net,
    via: Ipv4Addr,
}

/// A text is no route.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no route: a network, `via` and its router, such as 10.0.0.0/8 via 10.1.0.1")]
pub struct InvalidRoute(String);

impl FromStr for Route {
    type Err = InvalidRoute;

    fn from_str(text: &str) -> Result<Self, InvalidRoute> {
        let wrong = || InvalidRoute(text.to_owned());
        let (to, via) = text.split_once(" via ").ok_or_else(wrong)?;
        let to: Ipv4Net = to.trim().parse().map_err(|_| wrong())?;
        if to != to.trunc() {
            return Err(wrong());
        }
        Ok(Self { to, via: via.trim().parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} via {}", self.to, self.via)
    }
}

impl Route {
    /// The way to everywhere.
    #[must_use]
    pub fn default_via(via: Ipv4Addr) -> Self {
        Self { to: Ipv4Net::default(), via }
    }

    /// Whether the way to everywhere is one of those in a value of option 121.
    #[must_use]
    pub fn has_default(mut value: &[u8]) -> bool {
        while let Some((bits, rest)) = value.split_first() {
            if *bits == 0 {
                return true;
            }
            // The network as far as the mask covers it, and four bytes of the router.
            value = rest.get(usize::from(bits.div_ceil(8)) + 4..).unwrap_or_default();
        }
        false
    }

    /// As option 121 has it: the length of the mask, so many bytes of the network
    /// as it covers, the router (RFC 3442).
    #[must_use]
    pub fn value(self) -> Vec<u8> {
        let covered = usize::from(self.to.prefix_len().div_ceil(8));
        let mut value = vec![self.to.prefix_len()];
        value.extend_from_slice(&self.to.network().octets()[..covered]);
        value.extend_from_slice(&self.via.octets());
        value
    }
}

/// The value of an option as a person writes it: `text:…`, `hex:…`, `ip:…` with
/// commas between addresses, `u8:…`, `u16:…` or `u32:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionValue {
    written: String,
    bytes: Vec<u8>,
}

/// A text is no value of an option.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidOptionValue {
    /// It does not begin with a kind.
    #[error(
        "`{0}` does not say what it is: text:, hex:, ip:, u8:, u16: or u32: and then the value"
    )]
    NoKind(String),
    /// It is not what it says it is.
    #[error("`{0}` is no {1}")]
    Malformed(String, &'static str),
    /// Nothing comes after the kind, or more than a packet holds.
    #[error("a value has 1 to {LONGEST_VALUE} bytes, `{0}` has {1}")]
    Length(String, usize),
}

/// More would leave no room in a packet for what every machine needs.
const LONGEST_VALUE: usize = 1024;

impl FromStr for OptionValue {
    type Err = InvalidOptionValue;

    fn from_str(text: &str) -> Result<Self, InvalidOptionValue> {
        let malformed = |kind| InvalidOptionValue::Malformed(text.to_owned(), kind);
        let no_kind = || InvalidOptionValue::NoKind(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(no_kind)?;
        let bytes = match kind {
            "text" => rest.as_bytes().to_vec(),
            "hex" => hexadecimal(rest).ok_or_else(|| malformed("pairs of hexadecimal digits"))?,
            "ip" => {
                let addresses: Result<Vec<Ipv4Addr>, _> =
                    rest.split(',').map(|address| address.trim().parse()).collect();
                addresses_value(&addresses.map_err(|_| malformed("IPv4 addresses"))?)
            }
            "u8" => vec![rest.parse().map_err(|_| malformed("number from 0 to 255"))?],
            "u16" => {
                let number: u16 = rest.parse().map_err(|_| malformed("number from 0 to 65535"))?;
                number.to_be_bytes().to_vec()
            }
            "u32" => {
                let number: u32 =
                    rest.parse().map_err(|_| malformed("number from 0 to 4294967295"))?;
                number.to_be_bytes().to_vec()
            }
            _ => return Err(no_kind()),
        };
        if !(1..=LONGEST_VALUE).contains(&bytes.len()) {
            return Err(InvalidOptionValue::Length(text.to_owned(), bytes.len()));
        }
        Ok(Self { written: text.to_owned(), bytes })
    }
}

impl OptionValue {
    /// What goes into the packet.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for OptionValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.written)
    }
}

/// Pairs of digits, with colons or spaces between them or without.
fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.chars().filter(|letter| !matches!(letter, ':' | ' ')).collect();
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = digits.as_bytes().chunks_exact(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_only_as_many_bytes_as_its_mask_covers() {
        // The table of RFC 3442.
        for (text, value) in [
            ("0.0.0.0/0 via 10.1.0.1", &[0, 10, 1, 0, 1][..]),
            ("10.0.0.0/8 via 10.1.0.1", &[8, 10, 10, 1, 0, 1]),
            ("10.17.0.0/16 via 10.1.0.1", &[16, 10, 17, 10, 1, 0, 1]),
            ("10.229.0.128/25 via 10.1.0.1", &[25, 10, 229, 0, 128, 10, 1, 0, 1]),
            ("10.198.122.47/32 via 10.1.0.1", &[32, 10, 198, 122, 47, 10, 1, 0, 1]),
        ] {
            let route: Route = text.parse().expect(text);
            assert_eq!((route.value().as_slice(), route.to_string()), (value, text.to_owned()));
            assert_eq!(Route::has_default(value), value[0] == 0);
            let behind = [&[25, 10, 229, 0, 128, 10, 1, 0, 1], value].concat();
            assert_eq!(Route::has_default(&behind), value[0] == 0, "{behind:?}");
        }
        for torn in [&[][..], &[24], &[24, 10, 0, 0, 10, 0], &[200, 1]] {
            assert!(!Route::has_default(torn), "{torn:?}");
        }
        for text in ["10.0.0.0/8", "10.0.0.1/8 via 10.1.0.1", "10.0.0.0/33 via 10.1.0.1", ""] {
            assert!(text.parse::<Route>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_domain_is_written_label_by_label() {
        let domain: Domain = "rack1.example".parse().expect("a domain");
        assert_eq!(domain.value(), b"\x05rack1\x07example\x00");
        let long = "a".repeat(64);
        for text in ["", ".", "a..b", "a.", "-a.b", "a b", "ä.b", long.as_str()] {
            assert!(text.parse::<Domain>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_value_is_what_its_kind_makes_of_it() {
        for (text, bytes) in [
            ("text:boot", &b"boot"[..]),
            ("text:a:b", b"a:b"),
            ("hex:0104", &[1, 4]),
            ("hex:01:04 ff", &[1, 4, 255]),
            ("ip:10.0.0.1, 10.0.0.2", &[10, 0, 0, 1, 10, 0, 0, 2]),
            ("u8:255", &[255]),
            ("u16:1500", &[5, 220]),
            ("u32:1", &[0, 0, 0, 1]),
        ] {
            let value: OptionValue = text.parse().expect(text);
            assert_eq!((value.bytes(), value.to_string()), (bytes, text.to_owned()));
        }
        for text in ["boot", "hex:1", "hex:xy", "ip:", "u8:256", "u16:-1", "text:", "b64:AA=="] {
            assert!(text.parse::<OptionValue>().is_err(), "{text}");
        }
        assert!(format!("text:{}", "x".repeat(1025)).parse::<OptionValue>().is_err());
    }
}
