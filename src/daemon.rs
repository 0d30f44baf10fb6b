//! The daemon. Not here yet.

use crate::config::Config;

/// Serves until it is told to stop.
///
/// # Errors
///
/// That there is no daemon.
pub fn run(config: Config) -> anyhow::Result<()> {
    drop(config);
    anyhow::bail!("this build has no daemon")
}
