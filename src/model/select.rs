//! Which machines an instance may be given: `Select` in Properties.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Architecture, Mac, Machine, Tags};

/// What a machine must be. What is not said is no condition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Select {
    /// One of these; any if there are none.
    pub architectures: Vec<Architecture>,
    /// It has all of these labels.
    pub labels: Tags,
    /// One of its addresses begins so.
    pub prefix: Option<MacPrefix>,
    /// It was seen in one of these slots last; in any if there are none.
    pub slots: Vec<String>,
}

impl Select {
    /// Whether the machine is all that, which was seen in this slot last.
    #[must_use]
    pub fn matches(&self, machine: &Machine, slot: Option<&str>) -> bool {
        let is_in_one = || slot.is_some_and(|slot| self.slots.iter().any(|one| one == slot));
        let is_one_of =
            || machine.architecture.is_some_and(|one| self.architectures.contains(&one));
        (self.architectures.is_empty() || is_one_of())
            && self.labels.iter().all(|(key, value)| machine.labels.get(key) == Some(value))
            && self.prefix.is_none_or(|prefix| machine.cards().any(|card| prefix.matches(card)))
            && (self.slots.is_empty() || is_in_one())
    }
}

impl fmt::Display for Select {
    /// As it is written in Properties.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.architectures.is_empty() {
            let names: Vec<&str> = self.architectures.iter().map(|one| one.name()).collect();
            parts.push(format!("Arch {}", names.join(" or ")));
        }
        parts.extend(self.labels.iter().map(|(key, value)| format!("label {key}={value}")));
        parts.extend(self.prefix.map(|prefix| format!("MAC {prefix}")));
        if !self.slots.is_empty() {
            parts.push(format!("slot {}", self.slots.join(" or ")));
        }
        if parts.is_empty() {
            return formatter.write_str("any machine");
        }
        formatter.write_str(&parts.join(", "))
    }
}

/// The first one to six bytes of a hardware address; written `52:54:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacPrefix {
    bytes: [u8; 6],
    length: usize,
}

/// The text is no beginning of a hardware address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not the beginning of a MAC address like 52:54:00")]
pub struct InvalidMacPrefix(String);

impl MacPrefix {
    /// Whether the address begins so.
    #[must_use]
    pub fn matches(self, mac: Mac) -> bool {
        mac.bytes()[..self.length] == self.bytes[..self.length]
    }
}

impl FromStr for MacPrefix {
    type Err = InvalidMacPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidMacPrefix> {
        let invalid = || InvalidMacPrefix(text.to_owned());
        let separator = if text.contains('-') { '-' } else { ':' };
        // Also with a separator at its end, as people cut it.
        let plain = text.strip_suffix(separator).unwrap_or(text);
        let mut prefix = Self { bytes: [0; 6], length: 0 };
        for pair in plain.split(separator) {
            let is_pair = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            if !is_pair || prefix.length == prefix.bytes.len() {
                return Err(invalid());
            }
            prefix.bytes[prefix.length] = u8::from_str_radix(pair, 16).map_err(|_| invalid())?;
            prefix.length += 1;
        }
        Ok(prefix)
    }
}

impl fmt::Display for MacPrefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.bytes[..self.length].iter().enumerate() {
            let separator = if place == 0 { "" } else { ":" };
            write!(formatter, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for MacPrefix {
    type Error = InvalidMacPrefix;

    fn try_from(text: String) -> Result<Self, InvalidMacPrefix> {
        text.parse()
    }
}

impl From<MacPrefix> for String {
    fn from(prefix: MacPrefix) -> Self {
        prefix.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MachineEvent, Timestamp};

    fn machine() -> Machine {
        let mac = Mac::new([0x52, 0x54, 0, 0xaa, 1, 1]);
        let mut machine =
            Machine::first(mac, MachineEvent::Asked, Timestamp(0)).expect("known by it");
        machine.architecture = Some(Architecture::X64Uefi);
        machine.labels = [("rack".to_owned(), "1".to_owned())].into();
        machine
    }

    #[test]
    fn a_machine_must_be_all_that_is_said() {
        let label = |value: &str| [("rack".to_owned(), value.to_owned())].into();
        let any = Select::default();
        let prefix = |text: &str| Some(text.parse::<MacPrefix>().expect(text));
        for (select, expected) in [
            (any.clone(), true),
            (Select { architectures: vec![Architecture::X64Uefi], ..any.clone() }, true),
            (Select { architectures: vec![Architecture::Bios], ..any.clone() }, false),
            (Select { labels: label("1"), ..any.clone() }, true),
            (Select { labels: label("2"), ..any.clone() }, false),
            (Select { prefix: prefix("52:54:00"), ..any.clone() }, true),
            (Select { prefix: prefix("52:54:01"), ..any.clone() }, false),
            (Select { labels: label("1"), prefix: prefix("53"), ..any.clone() }, false),
            (Select { prefix: prefix("06"), ..any.clone() }, true),
            (Select { slots: vec!["a-1".to_owned(), "a-2".to_owned()], ..any.clone() }, true),
            (Select { slots: vec!["a-1".to_owned()], ..any }, false),
        ] {
            let mut machine = machine();
            machine.identity.cards.insert(Mac::new([3 << 1, 0, 0, 0, 0, 1]));
            assert_eq!(select.matches(&machine, Some("a-2")), expected, "{select}");
            assert!(select.slots.is_empty() || !select.matches(&machine, None), "{select}");
        }
    }

    #[test]
    fn a_machine_of_unknown_architecture_is_of_none_that_is_asked_for() {
        let unknown = Machine { architecture: None, ..machine() };
        let select = Select { architectures: Architecture::ALL.to_vec(), ..Select::default() };
        assert!(!select.matches(&unknown, None));
    }

    #[test]
    fn a_prefix_is_whole_bytes() {
        for (text, written) in [
            ("52", "52"),
            ("52:54:00", "52:54:00"),
            ("52-54-", "52:54"),
            ("AA:BB:cc:dd:ee:ff", "aa:bb:cc:dd:ee:ff"),
        ] {
            assert_eq!(text.parse::<MacPrefix>().expect(text).to_string(), written);
        }
        for text in ["", ":", "5", "52:5", "525400", "52:54:00:aa:bb:cc:dd", "xx", "+1", "52::54"] {
            assert!(text.parse::<MacPrefix>().is_err(), "{text}");
        }
    }
}
