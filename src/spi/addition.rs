//! What is added to an instance: by a flavor for all of a group, and by `Each`
//! for one of them. Strict, as Properties are.
//!
//! Pure.

use serde_json::{Map, Value};

use super::{duration::InvalidDuration, properties::did_you_mean};
use crate::{
    boot::cmdline::{self, InvalidCmdLine},
    model::{Instance, Tags},
};

/// The fields of an entry of `Each`.
const FIELDS: [&str; 3] = ["Init", "Tags", "CmdLine"];

/// The tags by which groups are kept, of this InfraKit and of release 0.5, and the
/// one that is made here: none of them is anybody's to add.
pub(super) const KEPT: [&str; 5] = [
    Instance::GROUP_TAG,
    "infrakit.config.hash",
    "infrakit.config_sha",
    "infrakit.logical_id",
    Instance::STATE_TAG,
];

/// What is added to an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Addition {
    /// Behind the `Init` that is there, on a line of its own.
    pub(super) init: String,
    /// To the tags, over those of the same name.
    pub(super) tags: Tags,
    /// Behind the command line that is there, after a blank; a template that was
    /// checked.
    pub(super) cmdline: String,
}

/// Something in an addition, or in the Properties of a flavor round it, that
/// cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("Properties{path}: {problem}")]
pub(super) struct InvalidAddition {
    /// Where, as `.Each[2].CmdLine`; empty for all of the Properties.
    pub(super) path: String,
    pub(super) problem: Problem,
}

/// What is wrong with it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Problem {
    #[error("expected {expected}, found {found}")]
    WrongType { expected: &'static str, found: String },
    #[error("there is no such field{}; known are {}", did_you_mean(.name, .known), .known.join(", "))]
    Unknown { name: String, known: &'static [&'static str] },
    #[error("a group is kept by this tag, so it cannot be given here (`{0}`)")]
    KeptTag(String),
    #[error("{problem} (in `{template}`)")]
    CmdLine { template: String, problem: InvalidCmdLine },
    #[error(transparent)]
    Duration(InvalidDuration),
    #[error("{0} are given; {MOST_ENTRIES} are the most")]
    TooMany(usize),
    #[error("`{0}` is no time to boot in; it must be more than nothing")]
    NoTime(String),
}

impl Addition {
    /// Reads the three fields; whatever else there is is somebody else's.
    pub(super) fn read(fields: &Map<String, Value>, path: &str) -> Result<Self, InvalidAddition> {
        Ok(Self {
            init: lines(fields, path)?,
            tags: tags(fields, path)?,
            cmdline: cmdline(fields, path)?,
        })
    }

    /// This, and then that.
    pub(super) fn and(&self, next: &Self) -> Self {
        let mut tags = self.tags.clone();
        tags.extend(next.tags.clone());
        let init = next.behind_init(&self.init);
        Self { init, tags, cmdline: next.behind_cmdline(&self.cmdline) }
    }

    /// Its `Init` behind this one.
    pub(super) fn behind_init(&self, init: &str) -> String {
        joined(init, "\n", &self.init)
    }

    /// Its command line behind this one.
    pub(super) fn behind_cmdline(&self, cmdline: &str) -> String {
        joined(cmdline, " ", &self.cmdline)
    }
}

/// The largest group that each member of which can have something of its own.
const MOST_ENTRIES: usize = 10_000;

/// `Each`: what is added by index. Nothing if it is not given.
pub(super) fn each(fields: &Map<String, Value>) -> Result<Vec<Addition>, InvalidAddition> {
    let entries = match fields.get("Each") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(entries)) if entries.len() > MOST_ENTRIES => {
            return Err(at(".Each".to_owned(), Problem::TooMany(entries.len())));
        }
        Some(Value::Array(entries)) => entries,
        Some(other) => return Err(wrong(".Each", "a list of objects", other)),
    };
    let read = |(index, entry)| {
        let path = format!(".Each[{index}]");
        Addition::read(known_fields(entry, &path, &FIELDS)?, &path)
    };
    entries.iter().enumerate().map(read).collect()
}

/// The fields of an object that has no others than these.
pub(super) fn known_fields<'a>(
    value: &'a Value,
    path: &str,
    known: &'static [&'static str],
) -> Result<&'a Map<String, Value>, InvalidAddition> {
    let Value::Object(fields) = value else {
        return Err(wrong(path, "an object", value));
    };
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(fields),
        Some(name) => {
            let problem = Problem::Unknown { name: name.clone(), known };
            Err(at(format!("{path}.{}", name.escape_debug()), problem))
        }
    }
}

/// The text of this field; null is the same as nothing.
pub(super) fn text<'a>(
    fields: &'a Map<String, Value>,
    path: &str,
    name: &str,
) -> Result<Option<&'a str>, InvalidAddition> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(&format!("{path}.{name}"), "a string", other)),
    }
}

pub(super) const fn at(path: String, problem: Problem) -> InvalidAddition {
    InvalidAddition { path, problem }
}

fn wrong(path: &str, expected: &'static str, found: &Value) -> InvalidAddition {
    at(path.to_owned(), Problem::WrongType { expected, found: found.to_string() })
}

/// A text, or a list of its lines.
fn lines(fields: &Map<String, Value>, path: &str) -> Result<String, InvalidAddition> {
    let expected = "a string or a list of strings";
    let path = format!("{path}.Init");
    match fields.get("Init") {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(lines)) => {
            let line = |line: &Value| {
                line.as_str().map(str::to_owned).ok_or_else(|| wrong(&path, expected, line))
            };
            Ok(lines.iter().map(line).collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        Some(other) => Err(wrong(&path, expected, other)),
    }
}

fn tags(fields: &Map<String, Value>, path: &str) -> Result<Tags, InvalidAddition> {
    let path = format!("{path}.Tags");
    let tags = match fields.get("Tags") {
        None | Some(Value::Null) => return Ok(Tags::new()),
        Some(Value::Object(tags)) => tags,
        Some(other) => return Err(wrong(&path, "an object of strings", other)),
    };
    let read = |(key, value): (&String, &Value)| {
        let path = format!("{path}.{}", key.escape_debug());
        match value {
            Value::String(text) if KEPT.contains(&key.as_str()) => {
                Err(at(path, Problem::KeptTag(text.clone())))
            }
            Value::String(text) => Ok((key.clone(), text.clone())),
            other => Err(wrong(&path, "a string", other)),
        }
    };
    tags.iter().map(read).collect()
}

fn cmdline(fields: &Map<String, Value>, path: &str) -> Result<String, InvalidAddition> {
    let template = text(fields, path, "CmdLine")?.unwrap_or_default();
    cmdline::check(template).map_err(|problem| {
        let template = template.to_owned();
        at(format!("{path}.CmdLine"), Problem::CmdLine { template, problem })
    })?;
    Ok(template.to_owned())
}

/// The two with this between, or the one that is not empty.
fn joined(first: &str, between: &str, second: &str) -> String {
    match (first, second) {
        ("", only) | (only, "") => only.to_owned(),
        (first, second) => format!("{first}{between}{second}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::testing;

    fn read(each: Value) -> Result<Vec<Addition>, String> {
        let fields = json!({"Each": each});
        super::each(fields.as_object().expect("an object")).map_err(|error| error.to_string())
    }

    #[test]
    fn every_entry_is_understood_and_null_is_the_same_as_nothing() {
        let entries = read(json!([
            {"Init": ["a", "b"], "Tags": {"rack": "1"}, "CmdLine": "x={{ index }}"},
            {"Init": null, "Tags": null, "CmdLine": null},
            {"Init": "a\nb"},
        ]));
        let first = Addition {
            init: "a\nb".to_owned(),
            tags: testing::tags(&[("rack", "1")]),
            cmdline: "x={{ index }}".to_owned(),
        };
        let last = Addition { init: "a\nb".to_owned(), ..Addition::default() };
        assert_eq!(entries, Ok(vec![first, Addition::default(), last]));
        assert_eq!(read(json!(null)), Ok(Vec::new()));
        assert_eq!(each(&Map::new()), Ok(Vec::new()));
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_place_and_its_value() {
        for (each, expected) in [
            (json!({}), "Properties.Each: expected a list of objects, found {}"),
            (json!([{}, 5]), "Properties.Each[1]: expected an object, found 5"),
            (
                json!([{"Cmdline": "x"}]),
                "Properties.Each[0].Cmdline: there is no such field, did you mean `CmdLine`?; known are Init, Tags, CmdLine",
            ),
            (
                json!([{"Init": ["a", 7]}]),
                "Properties.Each[0].Init: expected a string or a list of strings, found 7",
            ),
            (json!([{"Tags": {"a": 1}}]), "Properties.Each[0].Tags.a: expected a string, found 1"),
            (
                json!([{"Tags": []}]),
                "Properties.Each[0].Tags: expected an object of strings, found []",
            ),
            (json!([{"CmdLine": {}}]), "Properties.Each[0].CmdLine: expected a string, found {}"),
        ] {
            assert_eq!(read(each), Err(expected.to_owned()));
        }
        let error = read(json!([{"CmdLine": "x={{ nope }}"}])).expect_err("no such name");
        assert!(
            error.starts_with("Properties.Each[0].CmdLine: `{{ nope }}` is unknown"),
            "{error}"
        );
        assert!(error.ends_with("(in `x={{ nope }}`)"), "{error}");
    }

    #[test]
    fn the_tags_of_the_group_are_nobody_s_to_add() {
        for tag in KEPT {
            let error = read(json!([{"Tags": {tag: "mine"}}])).expect_err(tag);
            let named = format!("Properties.Each[0].Tags.{tag}: ");
            assert!(error.starts_with(&named) && error.contains("`mine`"), "{error}");
        }
    }

    #[test]
    fn one_is_put_behind_the_other_and_nothing_leaves_no_gap() {
        let of = |init: &str, tag: &str, cmdline: &str| Addition {
            init: init.to_owned(),
            tags: testing::tags(&[("tag", tag), (tag, "")]),
            cmdline: cmdline.to_owned(),
        };
        let both = of("a", "1", "x").and(&of("b", "2", "y"));
        let tags = testing::tags(&[("tag", "2"), ("1", ""), ("2", "")]);
        assert_eq!(both, Addition { init: "a\nb".to_owned(), tags, cmdline: "x y".to_owned() });
        let nothing = Addition::default();
        assert_eq!((nothing.and(&both), both.and(&nothing)), (both.clone(), both));
    }
}
