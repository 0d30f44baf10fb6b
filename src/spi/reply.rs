//! Results and refusals as InfraKit reads them. Pure.

use jsonrpc_core::{Error, ErrorCode};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    addition::InvalidAddition,
    answer::Refusal,
    assets::BadAsset,
    envelope::{INTERNAL_ERROR, INVALID_REQUEST, SERVER_ERROR},
    flavor,
    interfaces::{Interface, versions},
    machines,
    request::{Params, Unreadable},
};
use crate::{boot::Health, model::InstanceId, store::Unwritable};

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The parameters are none.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// What was asked for is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What a flavor should do is refused.
    #[error(transparent)]
    Flavor(#[from] flavor::Refusal),
    /// The Properties of a flavor cannot be used.
    #[error(transparent)]
    Addition(#[from] InvalidAddition),
    /// What the operator wants of a machine is refused.
    #[error(transparent)]
    Machine(#[from] machines::Refusal),
    /// A file is not there, or is another one.
    #[error(transparent)]
    Asset(#[from] BadAsset),
    /// The state could not be written down.
    #[error(transparent)]
    Store(#[from] Unwritable),
    /// A result could not be made into JSON.
    #[error("the result cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// What a method returns.
pub(super) type Outcome = Result<Box<RawValue>, Failure>;

/// The failure as JSON-RPC says it; clients of InfraKit show the message alone.
pub(super) fn error(failure: &Failure, params: &Params) -> Error {
    let (code, data) = match failure {
        Failure::Unreadable(Unreadable::WrongType { .. }) => {
            (INVALID_REQUEST, Some(Value::Object(params.clone())))
        }
        Failure::Machine(machines::Refusal::Params(invalid)) if invalid.is_type() => {
            (INVALID_REQUEST, Some(Value::Object(params.clone())))
        }
        Failure::Unreadable(Unreadable::NoSuchObject(_))
        | Failure::Machine(_)
        | Failure::Refused(_)
        | Failure::Flavor(_)
        | Failure::Addition(_)
        | Failure::Asset(_)
        | Failure::Store(_) => (SERVER_ERROR, None),
        Failure::Json(_) => (INTERNAL_ERROR, None),
    };
    Error { code: ErrorCode::from(code), message: failure.to_string(), data }
}

/// The failure as an event and the log say it: without any `Init`, which is for its machine
/// alone, wherever the caller wrote it.
pub(super) fn shown(failure: &Failure, params: &Params) -> String {
    // It has the whole value.
    if let Failure::Unreadable(Unreadable::WrongType { name, expected, .. }) = failure {
        return format!("params.{name}: expected {expected}");
    }
    let mut inits = Vec::new();
    params.iter().for_each(|(name, value)| texts_of_init(name, value, false, &mut inits));
    let mut text = failure.to_string();
    // As it was given, or as JSON that is quoted in the reason has it.
    let places = |init: &&str| {
        let quoted = Value::from(*init).to_string();
        [text.find(*init), text.find(quoted.trim_matches('"'))]
    };
    // What follows may be a part of it that is cut off, and looks like none.
    if let Some(first) = inits.iter().flat_map(places).flatten().min() {
        text.truncate(first);
        text.push_str("[Init, and what follows it, is told to the caller alone]");
    }
    text
}

/// The lines of all that is called Init, at any depth.
fn texts_of_init<'a>(name: &str, value: &'a Value, within: bool, inits: &mut Vec<&'a str>) {
    let within = within || name.eq_ignore_ascii_case("Init");
    match value {
        Value::String(text) if within => {
            inits.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()));
        }
        Value::Array(list) => {
            list.iter().for_each(|value| texts_of_init(name, value, within, inits));
        }
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| texts_of_init(name, value, within, inits))
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The result of Handshake.Hello: one object, the default one, of every version.
pub(super) fn hello() -> Outcome {
    raw(&json!({"Objects": by_version(&json!([{"Name": ".", "ProxyFor": ""}]))}))
}

/// The result of Handshake.Implements, which InfraKit asked until 0.5.
pub(super) fn implements() -> Outcome {
    let interfaces: Vec<Value> = versions()
        .map(|(interface, version)| json!({"Name": interface.name, "Version": version}))
        .collect();
    raw(&json!({"APIs": interfaces}))
}

/// The result of Handshake.Types, which InfraKit asked until 0.5.
pub(super) fn types() -> Outcome {
    raw(&json!({"Types": by_version(&json!(["."]))}))
}

/// The result of Validate, Label, Destroy and Drain. Clients look at the error alone.
pub(super) fn ok() -> Outcome {
    raw(&json!({"Type": "", "OK": true}))
}

/// The result of Provision.
pub(super) fn id(id: InstanceId) -> Outcome {
    raw(&json!({"Type": "", "ID": id}))
}

/// The result of Flavor.Prepare.
pub(super) fn spec(spec: &Value) -> Outcome {
    raw(&json!({"Type": "", "Spec": spec}))
}

/// The result of Flavor.Healthy.
pub(super) fn health(health: Health) -> Outcome {
    raw(&json!({"Type": "", "Health": health.number()}))
}

fn by_version(value: &Value) -> Value {
    let named = |(interface, version): (&Interface, &str)| {
        (format!("{}/{version}", interface.name), value.clone())
    };
    Value::Object(versions().map(named).collect())
}

fn raw(value: &impl Serialize) -> Outcome {
    Ok(serde_json::value::to_raw_value(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_handshake_names_the_default_object_of_every_version() {
        let hello = hello().expect("JSON");
        let types = types().expect("JSON");
        let implements = implements().expect("JSON");
        for (Interface { name, .. }, version) in versions() {
            assert!(hello.get().contains(&format!(r#""{name}/{version}":[{{"Name":".""#)));
            assert!(types.get().contains(&format!(r#""{name}/{version}":["."]"#)));
            let api = format!(r#"{{"Name":"{name}","Version":"{version}"}}"#);
            assert!(implements.get().contains(&api));
        }
    }

    #[test]
    fn an_event_of_a_refusal_says_why_and_nothing_of_init() {
        let init = json!({"Init": ["echo password"], "MAC": "x"});
        let params = json!({"Spec": {"Properties": init, "init": "one\n two"}});
        let params = params.as_object().expect("an object").clone();
        let refused = |text: &str| Failure::from(Refusal::UnknownInstance(text.to_owned()));
        assert_eq!(shown(&refused("x"), &params), "there is no instance `x`");
        let cut =
            "there is no instance `x [Init, and what follows it, is told to the caller alone]";
        assert_eq!(shown(&refused("x echo password two ech"), &params), cut);
        for secret in ["a echo password b", "two"] {
            let shown = shown(&refused(secret), &params);
            assert!(!shown.contains(secret), "{shown}");
            assert!(shown.starts_with("there is no instance `"), "{shown}");
        }
        let flavor = json!({"Init": {"a": "say \"password\""}});
        let wrong = flavor::Properties::read(&flavor).expect_err("no text");
        let params = json!({"Properties": flavor}).as_object().expect("an object").clone();
        let told = shown(&wrong.into(), &params);
        assert!(!told.contains("password"), "{told}");
        let wrong = Unreadable::WrongType {
            name: "Spec.Init".to_owned(),
            expected: "a string",
            found: "[\"echo password\"]".to_owned(),
        };
        assert_eq!(shown(&wrong.into(), &params), "params.Spec.Init: expected a string");
    }

    #[test]
    fn a_parameter_of_a_wrong_type_is_shown_with_all_of_them() {
        let params = json!({"Tags": 5}).as_object().expect("an object").clone();
        let wrong = Unreadable::WrongType {
            name: "Tags".to_owned(),
            expected: "an object",
            found: "5".to_owned(),
        };
        let error = error(&wrong.into(), &params);
        assert_eq!((error.code.code(), error.data), (INVALID_REQUEST, Some(json!({"Tags": 5}))));
    }
}
