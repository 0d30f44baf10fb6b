//! A `[[subnet]]` table of the file as it is written. Knows what it may look
//! like, not whether it can be served.

use std::{collections::BTreeMap, fmt, marker::PhantomData, net::Ipv4Addr, str::FromStr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::overlay_table::OverlayTable;
use crate::model::{Domain, OptionValue, Range, Rate, Route, VlanId};

/// A network besides the one of the flags.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SubnetTable {
    /// The network, without a host's bits.
    pub network: Text<Ipv4Net>,
    /// Our adapter on it; none if it is reached through relays only.
    pub adapter: Option<String>,
    /// Our own address.
    pub server: Option<Ipv4Addr>,
    /// What machines without a reservation are given.
    #[serde(default)]
    pub ranges: Vec<Text<Range>>,
    /// The router.
    pub router: Option<Ipv4Addr>,
    /// The name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv4Addr>,
    /// Seconds.
    pub lease_time: Option<u32>,
    /// T1, seconds.
    pub renew_time: Option<u32>,
    /// T2, seconds.
    pub rebind_time: Option<u32>,
    /// The domain of the machines (option 15).
    pub domain: Option<Text<Domain>>,
    /// The domains that names are looked up in (option 119).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<Text<Domain>>,
    /// The time servers (option 42).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<Ipv4Addr>,
    /// The largest packet of the link (option 26).
    pub mtu: Option<u16>,
    /// The VLAN that its machines load over.
    pub vlan: Option<VlanId>,
    /// How fast each of its machines is sent to.
    pub pace: Option<Rate>,
    /// Static routes (option 121).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Text<Route>>,
    /// Any other option by its code.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<Text<Code>, OptionTable>,
}

impl SubnetTable {
    /// What its machines are told that may be told others, too. The router and the name
    /// servers are checked with the addresses that the network gives.
    pub(super) fn told(&self) -> OverlayTable {
        OverlayTable {
            router: None,
            dns: Vec::new(),
            hostname: None,
            lease_time: self.lease_time,
            renew_time: self.renew_time,
            rebind_time: self.rebind_time,
            domain: self.domain.clone(),
            search: self.search.clone(),
            ntp: self.ntp.clone(),
            mtu: self.mtu,
            routes: self.routes.clone(),
            options: self.options.clone(),
        }
    }
}

/// What is written as a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text<T>(pub T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|error| de::Error::custom(named(&text, &error)))
    }
}

/// The errors of other libraries do not say what they found.
fn named(text: &str, error: &impl fmt::Display) -> String {
    let error = error.to_string();
    if error.contains(text) { error } else { format!("`{text}`: {error}") }
}

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The code of an option (RFC 2132 §2): 0 and 255 are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code(pub u8);

impl FromStr for Code {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number| (1..=254).contains(number));
        number.map(Self).ok_or_else(|| format!("`{text}` is no option's number, 1 to 254"))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The value of an option, or the options inside of it (RFC 2132 §8.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum OptionTable {
    /// The value.
    Value(Text<OptionValue>),
    /// The values of the options inside.
    Inside(BTreeMap<Text<Code>, Text<OptionValue>>),
}

impl<'de> Deserialize<'de> for OptionTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader(PhantomData<OptionTable>);
        impl<'de> de::Visitor<'de> for Reader {
            type Value = OptionTable;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text such as \"hex:0104\", or a table of such texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OptionTable, E> {
                text.parse().map(|value| OptionTable::Value(Text(value))).map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<OptionTable, A::Error> {
                let inside = Deserialize::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(OptionTable::Inside(inside))
            }
        }
        deserializer.deserialize_any(Reader(PhantomData))
    }
}

impl OptionTable {
    /// What goes into the packet; nothing if an option inside is too long.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Value(Text(value)) => Some(value.bytes().to_vec()),
            Self::Inside(values) => {
                let mut bytes = Vec::new();
                for (Text(Code(code)), Text(value)) in values {
                    bytes.extend([*code, u8::try_from(value.bytes().len()).ok()?]);
                    bytes.extend_from_slice(value.bytes());
                }
                Some(bytes)
            }
        }
    }
}
