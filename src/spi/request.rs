//! The parameters of a call as values, read as InfraKit's Go types read them:
//! names in any case, unknown names passed over, null for what is not there.
//!
//! Knows what InfraKit says, and not what this plugin makes of Properties.

use serde_json::{Map, Value};

use crate::model::{LogicalId, Reason, Tags};

/// The parameters of a call.
pub(super) type Params = Map<String, Value>;

/// Why parameters could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// A parameter has another type than InfraKit's.
    #[error("params.{name}: expected {expected}, found {found}")]
    WrongType { name: String, expected: &'static str, found: String },
    /// An object of another name than the default one was asked for; the words
    /// are InfraKit's.
    #[error("no-plugin:{0}")]
    NoSuchObject(String),
}

/// `Instance.Validate`.
#[derive(Debug, PartialEq)]
pub(super) struct Validate {
    pub(super) properties: Value,
}

/// `Instance.Provision`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Provision {
    pub(super) properties: Value,
    pub(super) tags: Tags,
    pub(super) init: String,
    /// An empty one counts as none: it names nothing.
    pub(super) logical_id: Option<LogicalId>,
    /// How many were asked for.
    pub(super) attachments: usize,
}

/// `Instance.Label`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) instance: String,
    pub(super) labels: Tags,
}

/// `Instance.Destroy`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Destroy {
    pub(super) instance: String,
    pub(super) reason: Reason,
}

/// `Instance.DescribeInstances`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Describe {
    pub(super) tags: Tags,
    pub(super) detail: Detail,
}

/// How much is told of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Its name and tags.
    Identity,
    /// What it boots and how far it has come, too.
    Properties,
}

impl Validate {
    pub(super) fn read(params: &Params) -> Result<Self, Unreadable> {
        let properties = member(params, "Properties").clone();
        default_object(params)?;
        Ok(Self { properties })
    }
}

impl Provision {
    pub(super) fn read(params: &Params) -> Result<Self, Unreadable> {
        let nothing = Map::new();
        let spec = match member(params, "Spec") {
            Value::Null => &nothing,
            Value::Object(spec) => spec,
            other => return Err(wrong("Spec", "an object", other)),
        };
        let attachments = match member(spec, "Attachments") {
            Value::Null => 0,
            Value::Array(attachments) => attachments.len(),
            other => return Err(wrong("Spec.Attachments", "a list", other)),
        };
        let logical_id = text(spec, "LogicalID", "Spec.LogicalID")?;
        let request = Self {
            properties: member(spec, "Properties").clone(),
            tags: tags(spec, "Tags", "Spec.Tags")?,
            init: text(spec, "Init", "Spec.Init")?,
            logical_id: (!logical_id.is_empty()).then_some(LogicalId(logical_id)),
            attachments,
        };
        default_object(params)?;
        Ok(request)
    }
}

impl Label {
    pub(super) fn read(params: &Params) -> Result<Self, Unreadable> {
        let instance = text(params, "Instance", "Instance")?;
        let labels = tags(params, "Labels", "Labels")?;
        default_object(params)?;
        Ok(Self { instance, labels })
    }
}

impl Destroy {
    pub(super) fn read(params: &Params) -> Result<Self, Unreadable> {
        let instance = text(params, "Instance", "Instance")?;
        let reason = match member(params, "Context") {
            // InfraKit 0.5 sends none.
            Value::Null => String::new(),
            Value::Object(context) => text(context, "Reason", "Context.Reason")?,
            other => return Err(wrong("Context", "an object", other)),
        };
        let is_update = reason == Reason::RollingUpdate.name();
        let reason = if is_update { Reason::RollingUpdate } else { Reason::Terminate };
        default_object(params)?;
        Ok(Self { instance, reason })
    }
}

impl Describe {
    pub(super) fn read(params: &Params) -> Result<Self, Unreadable> {
        let tags = tags(params, "Tags", "Tags")?;
        let detail = match member(params, "Properties") {
            Value::Null | Value::Bool(false) => Detail::Identity,
            Value::Bool(true) => Detail::Properties,
            other => return Err(wrong("Properties", "true or false", other)),
        };
        default_object(params)?;
        Ok(Self { tags, detail })
    }
}

/// There is one object only, the default one with the empty name.
pub(super) fn default_object(params: &Params) -> Result<(), Unreadable> {
    let name = text(params, "Type", "Type")?;
    if name.is_empty() { Ok(()) } else { Err(Unreadable::NoSuchObject(name)) }
}

/// The member of this name, else one of the same name in another case, as Go's
/// decoder takes them; null if there is none.
pub(super) fn member<'a>(object: &'a Params, name: &str) -> &'a Value {
    let in_other_case =
        || object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    object.get(name).or_else(in_other_case).unwrap_or(&Value::Null)
}

pub(super) fn text(object: &Params, name: &str, path: &str) -> Result<String, Unreadable> {
    match member(object, name) {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        other => Err(wrong(path, "a string", other)),
    }
}

fn tags(object: &Params, name: &str, path: &str) -> Result<Tags, Unreadable> {
    let read = |(key, value): (&String, &Value)| match value {
        Value::String(text) => Ok((key.clone(), text.clone())),
        Value::Null => Ok((key.clone(), String::new())),
        other => Err(wrong(&format!("{path}.{key}"), "a string", other)),
    };
    match member(object, name) {
        Value::Null => Ok(Tags::new()),
        Value::Object(tags) => tags.iter().map(read).collect(),
        other => Err(wrong(path, "an object", other)),
    }
}

pub(super) fn wrong(name: &str, expected: &'static str, found: &Value) -> Unreadable {
    Unreadable::WrongType { name: name.to_owned(), expected, found: found.to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn params(json: Value) -> Params {
        match json {
            Value::Object(params) => params,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn null_and_nothing_are_the_same_everywhere() {
        let nulls = json!({"Properties": null, "Tags": null, "Init": null, "LogicalID": null, "Attachments": null});
        let expected = Provision {
            properties: Value::Null,
            tags: Tags::new(),
            init: String::new(),
            logical_id: None,
            attachments: 0,
        };
        for spec in [nulls, json!({}), json!(null)] {
            let read = Provision::read(&params(json!({"Type": "", "Spec": spec})));
            assert_eq!(read.as_ref(), Ok(&expected));
        }
        assert_eq!(Provision::read(&Params::new()), Ok(expected));
    }

    #[test]
    fn names_are_taken_in_any_case_and_unknown_ones_passed_over() {
        let read = Describe::read(&params(
            json!({"type": "", "TAGS": {"a": "b"}, "properties": true, "x": 1}),
        ));
        let tags = [("a".to_owned(), "b".to_owned())].into();
        assert_eq!(read, Ok(Describe { tags, detail: Detail::Properties }));
    }

    #[test]
    fn an_object_of_another_name_is_refused_in_infrakit_s_words() {
        let refused =
            Validate::read(&params(json!({"Type": "rack1"}))).expect_err("no such object");
        assert_eq!(refused.to_string(), "no-plugin:rack1");
    }

    #[test]
    fn a_wrong_type_is_named() {
        for (json, text) in [
            (json!({"Tags": {"a": 1}}), "params.Tags.a: expected a string, found 1"),
            (json!({"Tags": ["a"]}), "params.Tags: expected an object, found [\"a\"]"),
            (
                json!({"Properties": "yes"}),
                "params.Properties: expected true or false, found \"yes\"",
            ),
        ] {
            assert_eq!(Describe::read(&params(json)).expect_err(text).to_string(), text);
        }
        let json = json!({"Spec": {"LogicalID": 5}});
        let text = "params.Spec.LogicalID: expected a string, found 5";
        assert_eq!(Provision::read(&params(json)).expect_err(text).to_string(), text);
    }

    #[test]
    fn any_reason_but_one_means_for_good() {
        for (context, reason) in [
            (json!({"Reason": "rolling_update"}), Reason::RollingUpdate),
            (json!({"Reason": "terminate"}), Reason::Terminate),
            (json!({"Reason": "boredom"}), Reason::Terminate),
            (json!(null), Reason::Terminate),
        ] {
            let read = Destroy::read(&params(json!({"Instance": "i", "Context": context})));
            assert_eq!(read, Ok(Destroy { instance: "i".to_owned(), reason }));
        }
    }
}
