//! The pure parts of this room, for `benches/pure`, which measures them without a
//! socket. Nobody else's.

use serde_json::value::RawValue;

use super::{
    describe::describe,
    envelope::{Envelope, open},
    interfaces,
    properties::Properties,
    request::{Describe, Detail, Params, Provision},
};
use crate::{
    model::{Tags, Timestamp},
    state::State,
};

/// Whether this body is a call of Provision that can be understood.
#[must_use]
pub fn is_provision(body: &[u8]) -> bool {
    let Envelope::Call(call) = open(body, &interfaces::methods()) else { return false };
    let core: serde_json::Value = serde_json::from_str(&call.canonical()).unwrap_or_default();
    let params: Params = core["params"].as_object().cloned().unwrap_or_default();
    let provision = Provision::read(&params);
    provision.is_ok_and(|read| Properties::read(&read.properties).is_ok())
}

/// What DescribeInstances tells, with Properties, of the instances with these tags.
#[must_use]
pub fn described(state: &State, tags: &Tags, now: Timestamp) -> Option<Box<RawValue>> {
    let request = Describe { tags: tags.clone(), detail: Detail::Properties };
    describe(state, &request, now).ok()
}
