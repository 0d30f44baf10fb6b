//! What was learned of a machine's firmware by trying.

use serde::{Deserialize, Serialize};

use super::{LocalHabit, Proxied};

/// What its firmware was found to take and to refuse. It is kept with the machine, so
/// that nothing of it must be found out again after a restart.
///
/// Each field's default is what a machine is told of which nothing was learned, and
/// a row that was written before a field was there is read with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Habits {
    /// Which form of a proxy's offer it takes.
    pub proxied: Proxied,
    /// How it is sent to its own disk.
    pub local: LocalHabit,
}
