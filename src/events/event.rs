//! An event: what it is about, its sentence and its facts. Pure.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Serialize, Serializer};

use crate::model::{InstanceId, Mac, Timestamp};

/// Something that happened, with the names of InfraKit's Go type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Event {
    /// What happened to what, as `machine/52:54:00:aa:01:01/state`.
    pub topic: String,
    /// The kind of thing: the first word of the topic.
    pub r#type: &'static str,
    /// The name of the thing: the second word; for a refusal, who was refused.
    #[serde(rename = "ID")]
    pub id: String,
    /// A sentence for people.
    pub message: String,
    /// When, in RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    pub timestamp: Timestamp,
    /// The facts for programs: an object.
    #[serde(serialize_with = "object")]
    pub data: Vec<(&'static str, Fact)>,
}

/// A fact of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Fact {
    /// Not known, or there is none.
    Nothing,
    /// Whether.
    Flag(bool),
    /// How many.
    Number(u64),
    /// A name or a text.
    Text(String),
    /// Names.
    Names(Vec<String>),
}

impl Fact {
    /// The text of the thing, as it is written everywhere.
    pub(super) fn text(thing: impl ToString) -> Self {
        Self::Text(thing.to_string())
    }

    /// The text of the thing, if there is one.
    pub(super) fn maybe(thing: Option<impl ToString>) -> Self {
        thing.map_or(Self::Nothing, Self::text)
    }
}

/// A door of the daemon, by which something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// DHCP.
    Dhcp,
    /// DHCP over IPv6.
    Dhcp6,
    /// TFTP.
    Tftp,
    /// HTTP, towards machines.
    Http,
    /// The plugin's sockets.
    Spi,
}

impl Door {
    /// Its word in topics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dhcp => "dhcp",
            Self::Dhcp6 => "dhcp6",
            Self::Tftp => "tftp",
            Self::Http => "http",
            Self::Spi => "spi",
        }
    }
}

/// Somebody was refused something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Where.
    pub door: Door,
    /// A MAC, an address, the name of a socket; `unknown` if nothing is known.
    pub who: String,
    /// What was asked for, without secrets.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// A file was sent, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Its name, without secrets.
    pub file: String,
    /// Where it was sent.
    pub address: IpAddr,
    /// The machine there, as far as it is known.
    pub mac: Option<Mac>,
    /// The instance whose file it is, or which the machine has.
    pub instance: Option<InstanceId>,
    /// How many bytes were sent.
    pub bytes: u64,
    /// Whether that is all that was asked for.
    pub complete: bool,
}

/// The longest text that a stranger may put into an event, in bytes.
const LONGEST: usize = 200;

impl Event {
    /// The topic is made of the three words.
    pub(super) fn new(
        (kind, id, what): (&'static str, &str, &str),
        message: String,
        data: Vec<(&'static str, Fact)>,
        timestamp: Timestamp,
    ) -> Self {
        let topic = format!("{kind}/{id}/{what}");
        Self { topic, r#type: kind, id: id.to_owned(), message, timestamp, data }
    }

    /// That somebody was refused something, after so many that were not told.
    pub(super) fn refused(refused: Refused, untold: u64, now: Timestamp) -> Self {
        let Refused { door, who, what, why } = refused;
        let (what, why) = (cut(what), cut(why));
        let mut message = format!("{who} was refused {what}: {why}");
        if untold > 0 {
            message.push_str(&format!(" (and {untold} others before)"));
        }
        let data = vec![
            ("door", Fact::text(door.name())),
            ("who", Fact::text(&who)),
            ("what", Fact::Text(what)),
            ("reason", Fact::Text(why)),
            ("untold", Fact::Number(untold)),
        ];
        Self {
            topic: format!("refusal/{}/{who}", door.name()),
            r#type: "refusal",
            id: who,
            message,
            timestamp: now,
            data,
        }
    }

    /// That a file was sent; nothing if nobody knows to which machine.
    pub(super) fn served(served: Served, now: Timestamp) -> Option<Self> {
        let Served { file, address, mac, instance, bytes, complete } = served;
        let file = cut(file);
        let (kind, id) = match (instance, mac) {
            (Some(id), _) => ("instance", id.to_string()),
            (None, Some(mac)) => ("machine", mac.to_string()),
            (None, None) => return None,
        };
        let whole = if complete { "" } else { ", and then no more" };
        let message = format!("{kind} {id} was sent {bytes} bytes of {file}{whole}");
        let data = vec![
            ("id", Fact::maybe(instance)),
            ("mac", Fact::maybe(mac)),
            ("ip", Fact::text(address)),
            ("file", Fact::Text(file)),
            ("bytes", Fact::Number(bytes)),
            ("complete", Fact::Flag(complete)),
        ];
        Some(Self::new((kind, &id, "file"), message, data, now))
    }

    /// That another DHCP server gives addresses where we do.
    pub(super) fn other_server(server: Ipv4Addr, now: Timestamp) -> Self {
        let message = format!("another DHCP server, {server}, gives addresses where we do");
        let data = vec![("ip", Fact::text(server))];
        Self::new(("dhcp", &server.to_string(), "other-server"), message, data, now)
    }

    /// To a listener who was too slow: so many events, of whatever topic, were
    /// thrown away meanwhile.
    pub(super) fn missed(count: u64, now: Timestamp) -> Self {
        let message = format!("{count} events were missed, since they were read too slowly");
        Self {
            topic: "missed".to_owned(),
            r#type: "missed",
            id: count.to_string(),
            message,
            timestamp: now,
            data: vec![("missed", Fact::Number(count))],
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        let is_end = |place: &usize| text.is_char_boundary(*place);
        text.truncate((0..=LONGEST).rev().find(is_end).unwrap_or_default());
        text.push_str("...");
    }
    text
}

fn rfc3339<S: Serializer>(timestamp: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp.rfc3339())
}

fn object<S: Serializer>(facts: &[(&'static str, Fact)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(facts.iter().map(|(name, fact)| (name, fact)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    #[test]
    fn what_a_stranger_says_is_cut() {
        let refused = Refused {
            door: Door::Tftp,
            who: "10.0.0.9".to_owned(),
            what: "ü".repeat(1000),
            why: "x".repeat(1000),
        };
        let event = Event::refused(refused, 7, Timestamp(0));
        assert_eq!(event.topic, "refusal/tftp/10.0.0.9");
        assert!(event.message.len() < 500 && event.message.contains("7 others"), "{event:?}");
    }

    #[test]
    fn a_file_is_told_of_its_instance_else_of_its_machine_else_not_at_all() {
        let served = Served {
            file: "vmlinuz".to_owned(),
            address: [10, 0, 0, 9].into(),
            mac: Some(MAC),
            instance: Some(InstanceId::next(None, Timestamp(1))),
            bytes: 5,
            complete: false,
        };
        let topic = |served: Served| Event::served(served, Timestamp(0)).map(|event| event.topic);
        assert_eq!(topic(served.clone()).as_deref(), Some("instance/rb-0000000000010000/file"));
        let unclaimed = Served { instance: None, ..served };
        assert_eq!(topic(unclaimed.clone()).as_deref(), Some("machine/02:00:00:00:00:01/file"));
        assert_eq!(topic(Served { mac: None, ..unclaimed }), None);
    }
}
