//! Topics: paths of words that say what an event is about, from the kind of
//! thing over its name to what happened to it. Pure.

/// The kinds of things that events are about.
pub const ROOTS: [&str; 5] = ["dhcp", "instance", "lease", "machine", "refusal"];

/// What happens to a machine: `machine/<mac>/...`.
pub const MACHINE_EVENTS: &[&str] = &[
    "cards",
    "conflict",
    "deaf",
    "file",
    "forgotten",
    "found",
    "local-boot",
    "slot",
    "stage",
    "state",
];

/// What happens to an instance: `instance/<id>/...`.
pub const INSTANCE_EVENTS: [&str; 6] =
    ["destroyed", "drain", "file", "labelled", "provisioned", "state"];

/// What happens to an address: `lease/<ip>/...`.
pub const LEASE_EVENTS: [&str; 3] = ["bound", "declined", "released"];

/// What happens to another DHCP server: `dhcp/<ip>/...`.
pub const DHCP_EVENTS: [&str; 1] = ["other-server"];

/// Where something is refused: `refusal/<door>/...`.
pub const DOORS: [&str; 5] = ["dhcp", "dhcp6", "http", "spi", "tftp"];

/// Which topics a listener wants: one, all below one, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topics {
    /// Every event.
    All,
    /// This topic and no other.
    Exactly(String),
    /// All topics that begin with this, which ends in a slash.
    Below(String),
}

impl Topics {
    /// As InfraKit writes it: with a slash at the end all below it, else this topic
    /// alone. Nothing, `.` and `/` are all; a slash at the beginning is passed over.
    /// A topic that there is not matches no event.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let words: Vec<&str> =
            text.split('/').filter(|word| !word.is_empty() && *word != ".").collect();
        match (words.as_slice(), text.ends_with('/')) {
            ([], _) => Self::All,
            (words, true) => Self::Below(format!("{}/", words.join("/"))),
            (words, false) => Self::Exactly(words.join("/")),
        }
    }

    /// Whether an event of this topic is wanted.
    #[must_use]
    pub fn include(&self, topic: &str) -> bool {
        match self {
            Self::All => true,
            Self::Exactly(wanted) => topic == wanted,
            Self::Below(start) => topic.starts_with(start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_matched_whole_or_by_its_beginning_up_to_a_slash() {
        let topic = "machine/52:54:00:aa:01:01/state";
        for wanted in [
            "",
            ".",
            "/",
            "//",
            "machine/",
            "/machine/",
            "./machine/",
            topic,
            "machine/52:54:00:aa:01:01/",
        ] {
            assert!(Topics::read(wanted).include(topic), "{wanted}");
        }
        for wanted in [
            "machine",
            "mach/",
            "machine/52:54:00:aa:01:01",
            "machine/52:54/",
            "machine/52:54:00:aa:01:01/state/",
            "instance/",
            "MACHINE/",
        ] {
            assert!(!Topics::read(wanted).include(topic), "{wanted}");
        }
    }
}
