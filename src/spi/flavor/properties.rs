//! The Properties of a flavor. Strict: a field that is not known is an error, and
//! every error names the field and what it says. Pure.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::spi::{
    addition::{self, Addition, InvalidAddition, Problem, at, known_fields, text},
    duration,
};

/// The fields that there are; none is required.
pub(in crate::spi) const FIELDS: [&str; 6] =
    ["Init", "Tags", "CmdLine", "Each", "BootTimeout", "DrainTimeout"];

/// How long a machine may take until it reports in: some firmware needs minutes
/// before it asks for anything, and an installation as long again.
const BOOT_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// How long Drain waits: InfraKit's client gives up after 15 seconds.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What a flavor gives the instances of a group, and how long it waits for them.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::spi) struct Properties {
    /// Added to each of them.
    pub(super) all: Addition,
    /// Added by index.
    pub(super) each: Vec<Addition>,
    /// `Each` as it was written, for Provision.
    pub(super) each_as_written: Value,
    /// How long a machine may take until it reports in.
    pub(in crate::spi) boot_timeout: Duration,
    /// How long Drain waits for a machine.
    pub(in crate::spi) drain_timeout: Duration,
}

impl Properties {
    /// Reads them; null is the same as none, as InfraKit's own flavors take it.
    pub(in crate::spi) fn read(properties: &Value) -> Result<Self, InvalidAddition> {
        let nothing = Map::new();
        let fields = match properties {
            Value::Null => &nothing,
            given => known_fields(given, "", &FIELDS)?,
        };
        let boot_timeout = span(fields, "BootTimeout", BOOT_TIMEOUT)?;
        if boot_timeout.is_zero() {
            let written = text(fields, "", "BootTimeout")?.unwrap_or_default().to_owned();
            return Err(at(".BootTimeout".to_owned(), Problem::NoTime(written)));
        }
        Ok(Self {
            all: Addition::read(fields, "")?,
            each: addition::each(fields)?,
            each_as_written: fields.get("Each").cloned().unwrap_or_default(),
            boot_timeout,
            drain_timeout: span(fields, "DrainTimeout", DRAIN_TIMEOUT)?,
        })
    }
}

fn span(
    fields: &Map<String, Value>,
    name: &str,
    default: Duration,
) -> Result<Duration, InvalidAddition> {
    let Some(written) = text(fields, "", name)? else { return Ok(default) };
    duration::parse(written).map_err(|error| at(format!(".{name}"), Problem::Duration(error)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(json: &Value) -> Result<Properties, String> {
        Properties::read(json).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_need_be_said() {
        let bare = read(&Value::Null).expect("enough");
        let nulls = json!({
            "Init": null, "Tags": null, "CmdLine": null, "Each": null, "BootTimeout": null,
            "DrainTimeout": null,
        });
        for properties in [json!({}), nulls] {
            assert_eq!(read(&properties).as_ref(), Ok(&bare));
        }
        assert_eq!((&bare.all, bare.each.len()), (&Addition::default(), 0));
        let spans = (bare.boot_timeout, bare.drain_timeout);
        assert_eq!(spans, (Duration::from_secs(600), Duration::from_secs(10)));
    }

    #[test]
    fn everything_that_can_be_said_is_understood() {
        let properties = read(&json!({
            "Init": ["#!/bin/sh", "echo a"], "Tags": {"tier": "web"}, "CmdLine": "quiet",
            "Each": [{"CmdLine": "a=1"}, {"Tags": {"disk": "nvme"}}],
            "BootTimeout": "1h30m", "DrainTimeout": "0s",
        }))
        .expect("all of it");
        assert_eq!(properties.all.init, "#!/bin/sh\necho a");
        assert_eq!((properties.each.len(), properties.each[0].cmdline.as_str()), (2, "a=1"));
        let spans = (properties.boot_timeout, properties.drain_timeout);
        assert_eq!(spans, (Duration::from_secs(5400), Duration::ZERO));
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_value() {
        let known = "known are Init, Tags, CmdLine, Each, BootTimeout, DrainTimeout";
        for (json, expected) in [
            (json!([]), "Properties: expected an object, found []".to_owned()),
            (
                json!({"Attachments": []}),
                format!("Properties.Attachments: there is no such field; {known}"),
            ),
            (
                json!({"init": "x"}),
                format!("Properties.init: there is no such field, did you mean `Init`?; {known}"),
            ),
            (
                json!({"Init": 5}),
                "Properties.Init: expected a string or a list of strings, found 5".to_owned(),
            ),
            (
                json!({"BootTimeout": 600}),
                "Properties.BootTimeout: expected a string, found 600".to_owned(),
            ),
            (
                json!({"DrainTimeout": "-1s"}),
                "Properties.DrainTimeout: `-1s` is not a duration such as 90s, 1h30m or 1.5h"
                    .to_owned(),
            ),
            (
                json!({"BootTimeout": "0m"}),
                "Properties.BootTimeout: `0m` is no time to boot in; it must be more than nothing"
                    .to_owned(),
            ),
        ] {
            assert_eq!(read(&json), Err(expected));
        }
    }

    #[test]
    fn the_schema_has_exactly_these_fields_and_its_examples_are_read() {
        let text = include_str!("../../../plugin-spec/flavor.schema.json");
        let schema: Value = serde_json::from_str(text).expect("JSON");
        let fields: Vec<&String> =
            schema["properties"].as_object().expect("an object").keys().collect();
        let mut known = FIELDS.to_vec();
        known.sort_unstable();
        assert_eq!(fields, known);
        assert_eq!(schema["additionalProperties"], false);
        let kept = &schema["properties"]["Tags"]["propertyNames"]["not"]["enum"];
        assert_eq!(*kept, json!(addition::KEPT));
        let examples = schema["examples"].as_array().expect("a list");
        assert!(examples[0].as_object().is_some_and(|all| all.len() == FIELDS.len()));
        for example in examples {
            read(example).expect("an example");
        }
    }

    proptest! {
        #[test]
        fn no_text_in_any_field_panics(field in proptest::sample::select(&FIELDS[..]), text: String) {
            let _ = Properties::read(&json!({field: text}));
            let _ = Properties::read(&json!({"Each": [{field: text}], "Tags": {text: "x"}}));
        }
    }
}
