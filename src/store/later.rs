//! What a crash has left in the log, behind what is in the tables.

use std::path::PathBuf;

use super::{
    frame::Damage,
    log::{self, ReadError},
    problem::OpenError,
    rows::{self, Row},
};
use crate::model::Change;

/// What the log has and the tables have not.
pub(super) struct Later {
    pub(super) rows: Vec<Row>,
    /// What the rows say.
    pub(super) changes: Vec<Change>,
    /// The number of the last batch.
    pub(super) last: u64,
}

/// Reads the log behind tables which have all batches up to `folded`.
pub(super) fn read(files: &[(u64, PathBuf)], folded: u64) -> Result<Later, OpenError> {
    let mut later = Later { rows: Vec::new(), changes: Vec::new(), last: folded };
    for (_, path) in files {
        let damaged = |what: String| OpenError::Damaged { path: path.clone(), what };
        let batches = log::read(path).map_err(|error| match error {
            ReadError::File(source) => OpenError::Unusable { path: path.clone(), source },
            ReadError::Damage(damage) => damaged(damage.to_string()),
        })?;
        match batches.numbers {
            // Folded already; the crash came before the file was removed.
            Some((_, end)) if end <= later.last => {}
            Some((found, end)) if found == later.last + 1 => {
                for row in &batches.rows {
                    let change = rows::of_row(row).map_err(|error| damaged(error.to_string()))?;
                    later.changes.extend(change);
                }
                later.rows.extend(batches.rows);
                later.last = end;
            }
            Some((found, _)) => {
                return Err(damaged(Damage::Gap { expected: later.last + 1, found }.to_string()));
            }
            None => {}
        }
    }
    Ok(later)
}
