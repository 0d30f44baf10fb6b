//! The place of an instance in its group, and what `Each` adds at that place.
//! Pure.

use super::{addition::Addition, answer::Refusal, properties::Properties};
use crate::state::State;

/// The index that a new instance gets, and what is added to it for that.
pub(super) fn of(
    state: &State,
    properties: &Properties,
    group: Option<&str>,
) -> Result<(Option<u32>, Addition), Refusal> {
    let index = match (properties.index, group) {
        (Some(index), Some(group)) => match state.instances.at_index(group, index) {
            Some(owner) => return Err(Refusal::IndexHeld { index, owner: owner.id }),
            None => Some(index),
        },
        (Some(index), None) => Some(index),
        (None, Some(group)) => Some(state.instances.free_index(group)),
        (None, None) => None,
    };
    Ok((index, addition(&properties.each, index)?))
}

fn addition(each: &[Addition], index: Option<u32>) -> Result<Addition, Refusal> {
    if each.is_empty() {
        return Ok(Addition::default());
    }
    let index = index.ok_or(Refusal::NoIndex)?;
    let entry = usize::try_from(index).ok().and_then(|index| each.get(index));
    entry.cloned().ok_or(Refusal::NoEntry { index, entries: each.len() })
}
