//! The parameters of the Flavor's methods as values, read as InfraKit's Go types
//! read them. Pure.

use serde_json::{Map, Value};

use crate::spi::request::{Params, Unreadable, default_object, member, text, wrong};

/// `Flavor.Validate`.
#[derive(Debug, PartialEq)]
pub(in crate::spi) struct Validate {
    pub(in crate::spi) properties: Value,
    pub(in crate::spi) allocation: Allocation,
}

/// `Flavor.Prepare`. What InfraKit calls `Index` is passed over: its `Sequence` is
/// the size of the group, the same for all.
#[derive(Debug, PartialEq)]
pub(in crate::spi) struct Prepare {
    pub(in crate::spi) properties: Value,
    pub(in crate::spi) spec: Spec,
    pub(in crate::spi) allocation: Allocation,
}

/// `Flavor.Healthy` and `Flavor.Drain`.
#[derive(Debug, PartialEq)]
pub(in crate::spi) struct Member {
    pub(in crate::spi) properties: Value,
    /// The ID of the instance; any text.
    pub(in crate::spi) instance: String,
}

/// How many instances a group has, or which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::spi) enum Allocation {
    /// So many that are alike.
    Size(u64),
    /// One of each of these names; at least one.
    LogicalIds(Vec<String>),
}

/// What would be provisioned. Each part is kept as it was given, since it goes
/// back: null stays null.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::spi) struct Spec {
    pub(in crate::spi) properties: Value,
    /// An object of strings, or null.
    pub(in crate::spi) tags: Option<Map<String, Value>>,
    pub(in crate::spi) init: String,
    pub(in crate::spi) logical_id: Option<String>,
    pub(in crate::spi) attachments: Value,
}

impl Validate {
    pub(in crate::spi) fn read(params: &Params) -> Result<Self, Unreadable> {
        let properties = member(params, "Properties").clone();
        let allocation = Allocation::read(params)?;
        default_object(params)?;
        Ok(Self { properties, allocation })
    }
}

impl Prepare {
    pub(in crate::spi) fn read(params: &Params) -> Result<Self, Unreadable> {
        let properties = member(params, "Properties").clone();
        let (spec, allocation) = (Spec::read(params)?, Allocation::read(params)?);
        default_object(params)?;
        Ok(Self { properties, spec, allocation })
    }
}

impl Member {
    pub(in crate::spi) fn read(params: &Params) -> Result<Self, Unreadable> {
        let properties = member(params, "Properties").clone();
        let instance = match member(params, "Instance") {
            Value::Null => String::new(),
            Value::Object(description) => text(description, "ID", "Instance.ID")?,
            other => return Err(wrong("Instance", "an object", other)),
        };
        default_object(params)?;
        Ok(Self { properties, instance })
    }
}

impl Allocation {
    fn read(params: &Params) -> Result<Self, Unreadable> {
        let nothing = Map::new();
        let allocation = object(member(params, "Allocation"), &nothing, "Allocation")?;
        let path = "Allocation.LogicalIDs";
        let names: Vec<String> = match member(allocation, "LogicalIDs") {
            Value::Null => Vec::new(),
            Value::Array(names) => names
                .iter()
                .map(|name| {
                    let text = name.as_str().map(str::to_owned);
                    text.ok_or_else(|| wrong(path, "a list of strings", name))
                })
                .collect::<Result<_, _>>()?,
            other => return Err(wrong(path, "a list", other)),
        };
        if !names.is_empty() {
            return Ok(Self::LogicalIds(names));
        }
        match member(allocation, "Size") {
            Value::Null => Ok(Self::Size(0)),
            size => size
                .as_u64()
                .map(Self::Size)
                .ok_or_else(|| wrong("Allocation.Size", "a whole number", size)),
        }
    }
}

impl Spec {
    fn read(params: &Params) -> Result<Self, Unreadable> {
        let nothing = Map::new();
        let spec = object(member(params, "Spec"), &nothing, "Spec")?;
        let tags = match member(spec, "Tags") {
            Value::Null => None,
            Value::Object(tags) => Some(tags.clone()),
            other => return Err(wrong("Spec.Tags", "an object", other)),
        };
        for (key, value) in tags.iter().flatten().filter(|(_, value)| !value.is_null()) {
            if !value.is_string() {
                return Err(wrong(&format!("Spec.Tags.{key}"), "a string", value));
            }
        }
        let logical_id = match member(spec, "LogicalID") {
            Value::Null => None,
            Value::String(name) => Some(name.clone()),
            other => return Err(wrong("Spec.LogicalID", "a string", other)),
        };
        Ok(Self {
            properties: member(spec, "Properties").clone(),
            tags,
            init: text(spec, "Init", "Spec.Init")?,
            logical_id,
            attachments: member(spec, "Attachments").clone(),
        })
    }
}

/// The members of an object; null has none.
fn object<'a>(
    value: &'a Value,
    nothing: &'a Map<String, Value>,
    path: &str,
) -> Result<&'a Map<String, Value>, Unreadable> {
    match value {
        Value::Null => Ok(nothing),
        Value::Object(members) => Ok(members),
        other => Err(wrong(path, "an object", other)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn params(json: &Value) -> &Params {
        json.as_object().expect("an object")
    }

    #[test]
    fn null_and_nothing_are_the_same_everywhere() {
        let nulls = json!({
            "Type": null, "Properties": null, "Allocation": {"Size": null, "LogicalIDs": null},
            "Spec": {"Properties": null, "Tags": null, "Init": null, "LogicalID": null, "Attachments": null},
            "Instance": null,
        });
        for json in [nulls, json!({"Allocation": null, "Spec": null}), json!({})] {
            let prepare = Prepare::read(params(&json)).expect("readable");
            assert_eq!(prepare.allocation, Allocation::Size(0));
            assert_eq!((&prepare.spec.tags, &prepare.spec.logical_id), (&None, &None));
            assert!(prepare.spec.properties.is_null() && prepare.spec.attachments.is_null());
            assert_eq!(Member::read(params(&json)).expect("readable").instance, "");
            assert!(Validate::read(params(&json)).expect("readable").properties.is_null());
        }
    }

    #[test]
    fn an_allocation_is_a_list_of_names_or_a_size() {
        for (json, expected) in [
            (json!({"Size": 2, "LogicalIDs": null}), Allocation::Size(2)),
            (json!({"size": 2, "LogicalIDs": []}), Allocation::Size(2)),
            (json!({"Size": 0, "logicalids": ["a"]}), Allocation::LogicalIds(vec!["a".to_owned()])),
        ] {
            let params = json!({"Allocation": json});
            let read = Validate::read(params.as_object().expect("an object"));
            assert_eq!(read.expect("readable").allocation, expected);
        }
    }

    #[test]
    fn a_parameter_of_another_type_is_named() {
        for (json, expected) in [
            (json!({"Allocation": 5}), "params.Allocation: expected an object, found 5"),
            (
                json!({"Allocation": {"Size": -1}}),
                "params.Allocation.Size: expected a whole number, found -1",
            ),
            (
                json!({"Allocation": {"LogicalIDs": ["a", 5]}}),
                "params.Allocation.LogicalIDs: expected a list of strings, found 5",
            ),
            (json!({"Spec": []}), "params.Spec: expected an object, found []"),
            (json!({"Spec": {"Tags": []}}), "params.Spec.Tags: expected an object, found []"),
            (json!({"Spec": {"Tags": {"a": 1}}}), "params.Spec.Tags.a: expected a string, found 1"),
            (
                json!({"Spec": {"LogicalID": 1}}),
                "params.Spec.LogicalID: expected a string, found 1",
            ),
            (json!({"Type": "rack1"}), "no-plugin:rack1"),
        ] {
            let error = Prepare::read(params(&json)).expect_err(expected);
            assert_eq!(error.to_string(), expected);
        }
        let error = Member::read(params(&json!({"Instance": "rb-1"}))).expect_err("no object");
        assert_eq!(error.to_string(), "params.Instance: expected an object, found \"rb-1\"");
    }
}
