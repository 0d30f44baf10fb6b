//! What InfraKit calls an instance: a machine that was given something to be.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hexadecimal::{digits, number_of, text};
use super::spelled;
use super::{Hostname, Image, Mac, Progress, Secrets, Shared, Tags, Timestamp, Token};

/// One Provision's result: this machine boots this, under this ID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its name towards InfraKit.
    pub id: InstanceId,
    /// The name that its controller gave it, if any.
    pub logical_id: Option<LogicalId>,
    /// As handed to Provision, with what Label has added since.
    pub tags: Tags,
    /// What the machine shall run at its first start; empty if nothing.
    pub init: Shared<String>,
    /// The machine that it claimed.
    pub mac: Mac,
    /// The address that is kept for the machine as long as this lives.
    pub address: Option<Ipv4Addr>,
    /// The name that the machine is given.
    pub hostname: Hostname,
    /// Its place among the living instances of its group, from 0: the one that it
    /// was given, else the lowest that was free; none if it was given none and is
    /// in no group.
    pub index: Option<u32>,
    /// When it boots from the network.
    pub boot: BootMode,
    /// What it boots; nothing only if it never boots from the network.
    pub image: Option<Shared<Image>>,
    /// The secret parts of its URLs.
    pub secrets: Secrets,
    /// When it was provisioned.
    pub provisioned_at: Timestamp,
    /// How far it has come.
    pub progress: Progress,
}

/// When an instance's machine boots from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BootMode {
    /// At every start: a diskless machine.
    #[default]
    Always,
    /// Until it has reported in; then it is sent to its own disk.
    Once,
    /// Never: it is sent to its own disk from the beginning.
    Never,
}

impl BootMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Always, Self::Once, Self::Never];

    /// Its name in Properties.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Once => "once",
            Self::Never => "never",
        }
    }
}

/// Why an instance is destroyed, as InfraKit's `Context.Reason` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// For good; also when nothing or something unknown is said.
    Terminate,
    /// Another will take its place.
    RollingUpdate,
}

impl Reason {
    /// Its name on InfraKit's wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "terminate",
            Self::RollingUpdate => "rolling_update",
        }
    }
}

/// What is remembered of an instance that was destroyed: its ID is never issued
/// again, and its machine is told so when it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destroyed {
    /// Its ID.
    pub id: InstanceId,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
    /// The machine that it had.
    pub mac: Mac,
    /// The secret of the URL at which that machine reports in.
    pub report: Token,
}

impl Instance {
    /// The tag by which InfraKit's group controller knows its own.
    pub const GROUP_TAG: &str = "infrakit.group";

    /// The tag that says how far the instance has come. It is made when somebody
    /// asks, and never stored.
    pub const STATE_TAG: &str = "infrakit.state";

    /// The group that it belongs to, if any.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.tags.get(Self::GROUP_TAG).map(String::as_str)
    }

    /// The text without the secrets of its URLs: a machine that reports a failure
    /// may well quote the URL that failed.
    #[must_use]
    pub fn without_secrets(&self, text: &str) -> String {
        let Secrets { files, init, report } = self.secrets;
        [files, init, report]
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(&secret.digits(), "..."))
    }
}

/// The name of an instance: `rb-` and 16 hexadecimal digits.
///
/// The digits are a number that only grows: the milliseconds since 1970 at
/// Provision times 65,536, and the next one if that is taken. So IDs sort by
/// time as text, and a group that shrinks, which destroys the smallest ID
/// first, retires its oldest instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(u64);

impl InstanceId {
    /// No ID is before it.
    pub const FIRST: Self = Self(0);

    /// The first ID for an instance that is provisioned `now`, larger than
    /// `last`, the largest that was ever issued.
    #[must_use]
    pub fn next(last: Option<Self>, now: Timestamp) -> Self {
        let by_clock = now.0.saturating_mul(1 << 16);
        Self(last.map_or(by_clock, |last| by_clock.max(last.0.saturating_add(1))))
    }

    /// `rb-` and the digits, in ASCII.
    fn spelled(self) -> [u8; 19] {
        let mut spelled = *b"rb-0000000000000000";
        for (place, byte) in self.0.to_be_bytes().into_iter().enumerate() {
            spelled[3 + 2 * place..5 + 2 * place].copy_from_slice(&digits(byte));
        }
        spelled
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(text(&self.spelled()))
    }
}

impl Serialize for InstanceId {
    /// As it is written, without a `String` between: Describe writes many.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text(&self.spelled()))
    }
}

/// The text has not the form of an ID of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not an instance ID of ours")]
pub struct InvalidInstanceId(String);

impl FromStr for InstanceId {
    type Err = InvalidInstanceId;

    fn from_str(text: &str) -> Result<Self, InvalidInstanceId> {
        let number = text.strip_prefix("rb-").and_then(|digits| number_of(digits, 16));
        let id = number.and_then(|number| u64::try_from(number).ok()).map(Self);
        id.ok_or_else(|| InvalidInstanceId(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for InstanceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        spelled::read(deserializer)
    }
}

/// The name that a controller gives an instance, any text; a MAC address or an
/// address of ours in it chooses the machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogicalId(pub String);

impl fmt::Display for LogicalId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_sort_by_time_as_text(clock in 0u64..1 << 47, times in proptest::collection::vec(0u64..3, 1..50)) {
            let mut last = None;
            let mut texts = Vec::new();
            let mut now = clock;
            for step in times {
                now += step;
                let id = InstanceId::next(last, Timestamp(now));
                texts.push(id.to_string());
                last = Some(id);
            }
            prop_assert!(texts.windows(2).all(|pair| pair[0] < pair[1]), "{texts:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_issues_no_id_twice() {
        let first = InstanceId::next(None, Timestamp(5000));
        assert!(InstanceId::next(Some(first), Timestamp(10)) > first);
    }

    #[test]
    fn only_the_one_spelling_is_an_id() {
        let id = InstanceId::next(None, Timestamp(1_795_380_487_000));
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "rb-", "rb-1", "instance-1", "rb-+123456789abcdef", "rb-0123456789ABCDEF"]
        {
            assert!(text.parse::<InstanceId>().is_err(), "{text}");
        }
    }
}
