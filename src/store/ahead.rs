//! Which answers may leave before the lease in them is on disk: those of addresses that
//! instances keep (`state/lost` says why that is safe). Pure.

use std::time::Duration;

use crate::{
    model::{Change, Lease},
    state::State,
};

/// How far beyond the lease that needs it [`Change::Ahead`] goes: that many seconds of
/// leases wait for one.
const STEP: Duration = Duration::from_secs(15 * 60);

/// The lease that is all that these changes promise, if its address is kept for its
/// machine anyway.
pub(super) fn kept_lease(state: &State, changes: &[Change]) -> Option<Lease> {
    let mut promises = changes.iter().filter(|change| change.is_promise());
    match (promises.next(), promises.next()) {
        (Some(Change::Lease(lease)), None) if state.is_kept_for(lease) => Some(*lease),
        _ => None,
    }
}

/// The change after which an answer with this lease may be ahead of it; none if it may.
pub(super) fn step_ahead(state: &State, lease: &Lease) -> Option<Change> {
    let is_covered = lease.expires <= state.addresses.ahead();
    (!is_covered).then(|| Change::Ahead(lease.expires.after(STEP)))
}

#[cfg(test)]
mod tests;
