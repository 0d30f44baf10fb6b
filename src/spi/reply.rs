//! Results and refusals as InfraKit reads them. Pure.

use jsonrpc_core::{Error, ErrorCode};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    addition::InvalidAddition,
    answer::Refusal,
    assets::BadAsset,
    envelope::{INTERNAL_ERROR, INVALID_REQUEST, SERVER_ERROR},
    flavor, machines,
    request::{Params, Unreadable},
};
use crate::{boot::Health, model::InstanceId, store::Unwritable};

/// The versions of the Instance interface that this plugin speaks: that of
/// InfraKit's last state, of June 2017, and of release 0.5.
pub(super) const VERSIONS: [&str; 3] = ["0.6.1", "0.6.0", "0.5.0"];

/// The versions of the Flavor interface: that of InfraKit's last state, and of
/// release 0.5.
pub(super) const FLAVOR_VERSIONS: [&str; 2] = ["0.1.1", "0.1.0"];

/// Every interface with each of its versions.
pub(super) fn interfaces() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = |name, versions: &'static [&str]| versions.iter().map(move |version| (name, *version));
    of("Instance", &VERSIONS).chain(of("Flavor", &FLAVOR_VERSIONS))
}

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

/// The result of Handshake.Hello: one object, the default one, of every version.
pub(super) fn hello() -> Outcome {
    let objects: Value = by_version(&json!([{"Name": ".", "ProxyFor": ""}]));
    raw(&json!({"Objects": objects}))
}

/// The result of Handshake.Implements, which InfraKit asked until 0.5.
pub(super) fn implements() -> Outcome {
    let interfaces: Vec<Value> =
        interfaces().map(|(name, version)| json!({"Name": name, "Version": version})).collect();
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
    let named = |(name, version)| (format!("{name}/{version}"), value.clone());
    Value::Object(interfaces().map(named).collect())
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
        assert_eq!(interfaces().count(), VERSIONS.len() + FLAVOR_VERSIONS.len());
        for (name, version) in interfaces() {
            assert!(hello.get().contains(&format!(r#""{name}/{version}":[{{"Name":".""#)));
            assert!(types.get().contains(&format!(r#""{name}/{version}":["."]"#)));
        }
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
