//! The cards of a machine, and what contradicts each other: the operator's word and
//! what there is to see. Pure; `boot::cards` says what may be joined.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Join, Refusal, known};
use crate::{
    boot::cards::{joined, split, taking_over},
    model::{Change, Decision, Mac, Timestamp},
    state::State,
};

/// What is told of a conflict.
#[derive(Serialize)]
struct Row {
    kind: &'static str,
    value: String,
    machines: Vec<Mac>,
    unnamed: usize,
    message: String,
}

/// The result of Conflicts.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Rows {
    conflicts: Vec<Row>,
}

/// Makes the card one of the machine's.
pub(super) fn join(state: &State, request: &Join) -> Decision<Result<(), Refusal>> {
    let Join { mac, card } = *request;
    let machine = match known(state, mac) {
        Ok(machine) => machine,
        Err(refusal) => return Decision::only(Err(refusal)),
    };
    match joined(state, machine, card) {
        Err(problem) => Decision::only(Err(Refusal::Unjoinable { mac, card, problem })),
        Ok(after) if after == *machine => Decision::only(Ok(())),
        Ok(after) => Decision { answer: Ok(()), changes: taking_over(state, after) },
    }
}

/// Makes the card a machine of its own again: it is known when it is seen.
pub(super) fn split_off(state: &State, mac: Mac) -> Decision<Result<Mac, Refusal>> {
    match split(state, mac) {
        Err(problem) => Decision::only(Err(Refusal::Unsplittable { mac, problem })),
        Ok(after) => Decision::with(Ok(after.mac), Change::Machine(after)),
    }
}

/// All that contradicts.
pub(super) fn conflicts(state: &State, now: Timestamp) -> Result<Box<RawValue>, serde_json::Error> {
    let row = |conflict: crate::state::Conflict| Row {
        kind: conflict.kind(),
        value: conflict.value(),
        message: conflict.to_string(),
        machines: conflict.machines,
        unnamed: conflict.unnamed,
    };
    let conflicts = state.conflicts(now).into_iter().map(row).collect();
    serde_json::value::to_raw_value(&Rows { conflicts })
}
