//! A group as its file says it.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// How many members there shall be, or which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Allocation {
    Size(u32),
    LogicalIds(Vec<String>),
}

impl Allocation {
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Size(size) => json!({"Size": size, "LogicalIDs": null}),
            Self::LogicalIds(ids) => json!({"Size": 0, "LogicalIDs": ids}),
        }
    }

    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Size(size) => usize::try_from(*size).expect("small"),
            Self::LogicalIds(ids) => ids.len(),
        }
    }
}

/// When a new member is well enough for the next one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Updating {
    pub(crate) duration: Duration,
    pub(crate) count: u32,
    pub(crate) skips_drain: bool,
}

/// A group that could be committed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    pub(crate) id: String,
    pub(crate) allocation: Allocation,
    /// The Properties of the instances.
    pub(crate) instance: Value,
    /// The Properties of the flavor.
    pub(crate) flavor: Value,
    pub(crate) updating: Updating,
}

impl Group {
    /// Reads a file as `infrakit ... commit-group` does: it is a template of Go's
    /// first, and then JSON.
    ///
    /// # Panics
    ///
    /// In InfraKit's words, where it would refuse the file.
    pub(crate) fn read(text: &str) -> Self {
        let file: Value = serde_json::from_str(&rendered(text)).expect("JSON");
        let properties = &file["Properties"];
        let section = |name: &str| {
            let section = &properties[name];
            assert!(section["Plugin"].is_string(), "{name} has no Plugin in {file}");
            // Without it the commit goes well, and nothing is ever provisioned.
            assert!(section.get("Properties").is_some(), "{name} has no Properties in {file}");
            section["Properties"].clone()
        };
        Self {
            id: file["ID"].as_str().expect("ID must not be blank").to_owned(),
            allocation: allocation(&properties["Allocation"]),
            instance: section("Instance"),
            flavor: section("Flavor"),
            updating: updating(&properties["Updating"]),
        }
    }

    /// The same of what a test has made.
    pub(crate) fn of(file: &Value) -> Self {
        Self::read(&file.to_string().replace("{{ ", "{{ `{{ ").replace(" }}", " }}` }}"))
    }

    /// What tells members of this from members of what it was before: 32 letters
    /// of the base32 alphabet.
    pub(crate) fn hash(&self) -> String {
        let sections = json!({"Instance": self.instance, "Flavor": self.flavor});
        let digest = Sha256::digest(sections.to_string());
        let letters = b"abcdefghijklmnopqrstuvwxyz234567";
        digest.iter().map(|byte| char::from(letters[usize::from(byte % 32)])).collect()
    }
}

/// A raw string in a template is itself: so `{{ mac }}` is written for us, and
/// all else in double braces is Go's own.
fn rendered(text: &str) -> String {
    let mut parts = text.split("{{ `");
    let mut result = parts.next().unwrap_or_default().to_owned();
    assert!(!result.contains("{{"), "function not defined: {result}");
    for part in parts {
        let (raw, rest) = part.split_once("` }}").expect("unterminated raw quoted string");
        assert!(!rest.contains("{{"), "function not defined: {rest}");
        result.push_str(raw);
        result.push_str(rest);
    }
    result
}

fn allocation(value: &Value) -> Allocation {
    let size = value["Size"].as_u64().unwrap_or(0);
    let ids: Vec<String> = serde_json::from_value(value["LogicalIDs"].clone()).unwrap_or_default();
    match (size, ids.is_empty()) {
        (0, true) => panic!("Allocation must not be blank"),
        (0, false) => Allocation::LogicalIds(ids),
        (size, true) => Allocation::Size(u32::try_from(size).expect("small")),
        (_, false) => panic!("Only one Allocation method may be used"),
    }
}

fn updating(value: &Value) -> Updating {
    let duration = value["Duration"].as_str().unwrap_or("0s");
    let seconds = duration.strip_suffix('s').and_then(|number| number.parse::<f64>().ok());
    let seconds = seconds.unwrap_or_else(|| panic!("no Go duration in seconds: {duration}"));
    let count = value["Count"].as_u64().unwrap_or(0);
    assert!(seconds == 0.0 || count == 0, "Only one Updating method may be used");
    Updating {
        duration: Duration::from_secs_f64(seconds),
        count: u32::try_from(count).expect("small"),
        skips_drain: value["SkipBeforeInstanceDestroy"] == "drain",
    }
}
