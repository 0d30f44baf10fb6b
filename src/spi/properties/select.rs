//! `Select`: which machines an instance may be given. Pure.

use serde_json::{Map, Value};

use super::{Field, InvalidProperties, Problem, wrong};
use crate::model::{Architecture, MacPrefix, Select, Tags};

/// The conditions, if there are any; each error names the one.
pub(super) fn read(fields: &Map<String, Value>) -> Result<Option<Select>, InvalidProperties> {
    let conditions = match fields.get("Select") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(conditions)) => conditions,
        Some(other) => {
            return Err(at("").is(wrong("an object with Arch, Labels, MAC or Slot", other)));
        }
    };
    let mut select = Select::default();
    for (name, value) in conditions.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "Arch" => select.architectures = architectures(value)?,
            "Labels" => select.labels = labels(value)?,
            "MAC" => select.prefix = Some(prefix(value)?),
            "Slot" => select.slots = slots(value)?,
            _ => return Err(at(&format!(".{name}")).is(Problem::UnknownCondition)),
        }
    }
    if select == Select::default() {
        return Err(at("").is(Problem::EmptySelect));
    }
    Ok(Some(select))
}

fn at(path: &str) -> Field {
    Field::Select(path.to_owned())
}

/// A name or a list of names.
fn architectures(value: &Value) -> Result<Vec<Architecture>, InvalidProperties> {
    let place = || at(".Arch");
    let one = |value: &Value| {
        let Value::String(name) = value else {
            return Err(place().is(wrong("the name of an architecture, or a list of them", value)));
        };
        let known = Architecture::ALL.into_iter().find(|known| known.name() == name);
        known.ok_or_else(|| place().is(Problem::Architecture(name.clone())))
    };
    match value {
        Value::Array(several) if several.is_empty() => Err(place().is(Problem::EmptySelect)),
        Value::Array(several) => several.iter().map(one).collect(),
        _ => Ok(vec![one(value)?]),
    }
}

/// A name or a list of names; a slot may be named later than it is asked for.
fn slots(value: &Value) -> Result<Vec<String>, InvalidProperties> {
    let place = || at(".Slot");
    let one = |value: &Value| match value {
        Value::String(name) if name.is_empty() => Err(place().is(Problem::EmptySelect)),
        Value::String(name) => Ok(name.clone()),
        _ => Err(place().is(wrong("the name of a slot, or a list of them", value))),
    };
    match value {
        Value::Array(several) if several.is_empty() => Err(place().is(Problem::EmptySelect)),
        Value::Array(several) => several.iter().map(one).collect(),
        _ => Ok(vec![one(value)?]),
    }
}

fn labels(value: &Value) -> Result<Tags, InvalidProperties> {
    let Value::Object(labels) = value else {
        return Err(at(".Labels").is(wrong("an object of strings", value)));
    };
    let one = |(key, value): (&String, &Value)| match value {
        Value::String(text) => Ok((key.clone(), text.clone())),
        other => Err(at(&format!(".Labels.{key}")).is(wrong("a string", other))),
    };
    labels.iter().map(one).collect()
}

fn prefix(value: &Value) -> Result<MacPrefix, InvalidProperties> {
    let Value::String(text) = value else {
        return Err(at(".MAC").is(wrong("the beginning of a MAC address", value)));
    };
    text.parse().map_err(|error| at(".MAC").is(Problem::MacPrefix(error)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn select(json: Value) -> Result<Option<Select>, String> {
        let fields = json!({"Select": json});
        read(fields.as_object().expect("an object")).map_err(|error| error.to_string())
    }

    #[test]
    fn every_condition_is_understood() {
        let all = select(
            json!({"Arch": ["bios", "x64-uefi"], "Labels": {"rack": "1"}, "MAC": "52:54", "Slot": "rack1-7"}),
        );
        let expected = Select {
            architectures: vec![Architecture::Bios, Architecture::X64Uefi],
            labels: [("rack".to_owned(), "1".to_owned())].into(),
            prefix: Some("52:54".parse().expect("a prefix")),
            slots: vec!["rack1-7".to_owned()],
        };
        assert_eq!(all, Ok(Some(expected)));
        let one = select(json!({"Arch": "bios"})).expect("right").expect("given");
        assert_eq!(one.architectures, [Architecture::Bios]);
        assert_eq!(select(json!(null)), Ok(None));
    }

    #[test]
    fn a_condition_that_makes_no_sense_is_named() {
        for (json, named) in [
            (json!([]), "Properties.Select: expected an object"),
            (json!({}), "Properties.Select: it says nothing"),
            (json!({"Labels": {}}), "Properties.Select: it says nothing"),
            (json!({"Rack": "1"}), "Properties.Select.Rack: there is no such condition"),
            (json!({"Arch": "amd64"}), "Properties.Select.Arch: there is no architecture `amd64`"),
            (json!({"Arch": []}), "Properties.Select.Arch: it says nothing"),
            (json!({"Arch": 5}), "Properties.Select.Arch: expected the name"),
            (json!({"Labels": {"rack": 1}}), "Properties.Select.Labels.rack: expected a string"),
            (json!({"Labels": "rack"}), "Properties.Select.Labels: expected an object"),
            (json!({"Slot": []}), "Properties.Select.Slot: it says nothing"),
            (json!({"Slot": 7}), "Properties.Select.Slot: expected the name"),
            (json!({"MAC": "5254"}), "Properties.Select.MAC: `5254`"),
        ] {
            let error = select(json.clone()).expect_err(named);
            assert!(error.starts_with(named), "{json}: {error}");
        }
    }
}
