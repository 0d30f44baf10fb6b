//! The port that a machine hangs on, as a relay or switch names it in option 82 (RFC
//! 3046), and what the operator calls the places behind ports.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A circuit ID or remote ID: up to 255 bytes of a relay's own making. Written as
/// its text if it is printable ASCII without blanks at its ends; else, and if that
/// begins with `0x`, as `0x` and hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelayId(Box<[u8]>);

/// The text is no circuit ID or remote ID.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidRelayId {
    /// It has no bytes.
    #[error("it is empty")]
    Empty,
    /// Option 82 has no room for it.
    #[error("it has {0} bytes; option 82 has room for 255")]
    TooLong(usize),
    /// It begins with `0x` and goes on with something else than pairs of digits.
    #[error("`{}` begins with 0x, and is not pairs of hexadecimal digits", .0.escape_debug())]
    Digits(String),
}

impl RelayId {
    /// These bytes; nothing if there are none, or more than option 82 can have.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        (1..=255).contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    fn text(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.0).ok()?;
        let is_plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        (is_plain && text.trim() == text && !text.starts_with("0x")).then_some(text)
    }
}

impl FromStr for RelayId {
    type Err = InvalidRelayId;

    fn from_str(text: &str) -> Result<Self, InvalidRelayId> {
        let bytes = match text.strip_prefix("0x") {
            None => text.as_bytes().to_vec(),
            Some(digits) => {
                let invalid = || InvalidRelayId::Digits(text.to_owned());
                let pair = |pair: &[u8]| {
                    let digit = |byte: u8| char::from(byte).to_digit(16);
                    let [high, low] = pair else { return None };
                    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
                };
                let bytes = digits.as_bytes().chunks(2).map(pair).collect::<Option<Vec<u8>>>();
                bytes.ok_or_else(invalid)?
            }
        };
        match bytes.len() {
            0 => Err(InvalidRelayId::Empty),
            length => Self::of_bytes(&bytes).ok_or(InvalidRelayId::TooLong(length)),
        }
    }
}

impl fmt::Display for RelayId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.text() {
            return formatter.write_str(text);
        }
        formatter.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl TryFrom<String> for RelayId {
    type Error = InvalidRelayId;

    fn try_from(text: String) -> Result<Self, InvalidRelayId> {
        text.parse()
    }
}

impl From<RelayId> for String {
    fn from(id: RelayId) -> Self {
        id.to_string()
    }
}

/// What option 82 says of where a packet came in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Port {
    /// Suboption 2: most often the switch.
    pub remote_id: Option<RelayId>,
    /// Suboption 1: most often the port of the switch.
    pub circuit_id: Option<RelayId>,
}

impl fmt::Display for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = [("remote-id", &self.remote_id), ("circuit-id", &self.circuit_id)];
        let said = ids.iter().filter_map(|(name, id)| id.as_ref().map(|id| format!("{name} {id}")));
        formatter.write_str(&said.collect::<Vec<_>>().join(", "))
    }
}

impl Port {
    /// The port that this option names, if it names one.
    #[must_use]
    pub fn of_relay_information(information: &[u8]) -> Option<Self> {
        let mut port = Self::default();
        let mut rest = information;
        while let [code, length, tail @ ..] = rest {
            let (value, after) = tail.split_at_checked(usize::from(*length))?;
            match code {
                1 => port.circuit_id = RelayId::of_bytes(value),
                2 => port.remote_id = RelayId::of_bytes(value),
                _ => {}
            }
            rest = after;
        }
        (port != Self::default()).then_some(port)
    }
}

/// A place for a machine, by one of the ports behind which it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// What the operator calls it.
    pub name: String,
    /// What must be the same of a port; what is not said may be anything.
    pub port: Port,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_text_where_that_is_safe_and_else_digits() {
        for (bytes, written) in [
            (&b"Gi1/0/7"[..], "Gi1/0/7"),
            (b"two words", "two words"),
            (b" x", "0x2078"),
            (b"0x1", "0x307831"),
            (b"\x00\x04\x00\x01", "0x00040001"),
            (b"a\nb", "0x610a62"),
        ] {
            assert_eq!(RelayId::of_bytes(bytes).expect("an ID").to_string(), written);
        }
        for (text, said) in [
            ("", "empty"),
            ("0x", "empty"),
            ("0x123", "`0x123`"),
            ("0xgg", "`0xgg`"),
            ("0x+1", "`0x+1`"),
            (&"x".repeat(256), "256 bytes"),
        ] {
            let error = text.parse::<RelayId>().expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn what_a_relay_says_of_the_port_is_read_and_all_else_passed_over() {
        let option = b"\x01\x04eth1\x0b\x04\x0a\x00\x00\x01\x02\x03sw9";
        let port = Port::of_relay_information(option).expect("it names one");
        assert_eq!(port.circuit_id, Some("eth1".parse().expect("an ID")));
        assert_eq!(port.remote_id, Some("sw9".parse().expect("an ID")));
        for odd in [&b""[..], b"\x05\x04\x0a\x00\x00\x01", b"\x01\x00", b"\x01\x09short", b"\x01"] {
            assert_eq!(Port::of_relay_information(odd), None, "{odd:?}");
        }
    }

    proptest! {
        #[test]
        fn any_id_is_read_as_it_is_written(bytes in proptest::collection::vec(any::<u8>(), 1..256)) {
            let id = RelayId::of_bytes(&bytes).expect("an ID");
            prop_assert_eq!(id.to_string().parse(), Ok(id.clone()));
            prop_assert!(id.to_string().chars().all(|letter| !letter.is_control()));
        }

        #[test]
        fn any_option_is_read(bytes: Vec<u8>) {
            let _ = Port::of_relay_information(&bytes);
        }
    }
}
