//! Host names.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The name of a host: labels of letters, digits and inner hyphens, 63 bytes
/// each at most and 253 in all (RFC 1123 §2.1, RFC 1035 §2.3.4); small letters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Hostname(String);

/// The text is no host name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a host name (letters, digits and hyphens, 63 at most between dots)")]
pub struct InvalidHostname(String);

impl Hostname {
    /// The name as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hostname {
    type Err = InvalidHostname;

    fn from_str(text: &str) -> Result<Self, InvalidHostname> {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if text.len() > 253 || !text.split('.').all(is_label) {
            return Err(InvalidHostname(text.to_owned()));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for Hostname {
    type Error = InvalidHostname;

    fn try_from(text: String) -> Result<Self, InvalidHostname> {
        text.parse()
    }
}

impl From<Hostname> for String {
    fn from(name: Hostname) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts_are_taken_in_small_letters() {
        for (text, expected) in
            [("Web-1", "web-1"), ("a", "a"), ("n1.rack2.example", "n1.rack2.example")]
        {
            assert_eq!(text.parse::<Hostname>().expect(text).as_str(), expected);
        }
    }

    #[test]
    fn what_dns_has_no_room_for_is_refused() {
        let long = "x".repeat(64);
        for text in ["", "-a", "a-", "a..b", "a b", "a_b", "ü", "a\n", long.as_str()] {
            assert!(text.parse::<Hostname>().is_err(), "{text:?}");
        }
    }
}
