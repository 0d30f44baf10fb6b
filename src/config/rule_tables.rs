//! The `[[unclaimed]]` and `[[local-boot]]` tables of the file as they are written.
//! Knows what they may look like, not whether they make sense.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::subnet_table::Text;
use crate::model::{Architecture, LocalBoot, Treatment};

/// What becomes of machines that no instance claims.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UnclaimedTable {
    /// Only of those in this network.
    pub subnet: Option<Text<IpNet>>,
    /// Only of those that are this.
    pub architecture: Option<Architecture>,
    /// Of strangers alone, if nothing is said.
    pub machines: Option<Whom>,
    /// What becomes of them.
    pub then: Treatment,
    /// The file of the kernel, of an image.
    pub kernel: Option<String>,
    /// The files of its initrds.
    #[serde(default, deserialize_with = "one_or_more", skip_serializing_if = "Vec::is_empty")]
    pub initrd: Vec<String>,
    /// Its command line.
    pub cmdline: Option<String>,
}

/// Whom a table is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whom {
    /// Machines that only turned up.
    Strangers,
    /// Those of the pool, too.
    All,
}

/// How machines are sent to their own disks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LocalBootTable {
    /// Only those in this network.
    pub subnet: Option<Text<IpNet>>,
    /// Only those that are this.
    pub architecture: Option<Architecture>,
    /// The way that is tried first.
    pub way: LocalBoot,
}

/// The value of the key `unclaimed`: a word, as the flag's, or tables.
#[derive(Debug)]
pub(super) enum Unclaimed {
    Word(String),
    Tables(Vec<UnclaimedTable>),
}

impl<'de> Deserialize<'de> for Unclaimed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> de::Visitor<'de> for Reader {
            type Value = Unclaimed;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("hold, local or ignore, or [[unclaimed]] tables")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Unclaimed, E> {
                Ok(Unclaimed::Word(text.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Unclaimed, A::Error> {
                let tables = Deserialize::deserialize(de::value::SeqAccessDeserializer::new(seq))?;
                Ok(Unclaimed::Tables(tables))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a file, or a list of files")]
    enum Written {
        One(String),
        More(Vec<String>),
    }
    Ok(match Written::deserialize(from)? {
        Written::One(file) => vec![file],
        Written::More(files) => files,
    })
}
