//! The pure part of a write to the disk, for `benches/pure`. Nobody else's.

use super::{frame, rows};
use crate::model::Change;

/// Appends the batch of these changes to a log.
pub fn write(log: &mut Vec<u8>, changes: &[Change], number: u64) {
    let start = frame::begin(log);
    changes.iter().flat_map(rows::of_change).for_each(|row| frame::add(log, &row));
    frame::finish(log, start, number);
}
