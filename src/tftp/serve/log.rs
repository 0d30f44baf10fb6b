//! What the room writes into the log: one line for each transfer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::super::answer::Why;
use super::super::request::FileName;
use super::super::transfer::{Outcome, Transfer};

/// Writes the one line of a transfer.
pub(super) fn ended(client: SocketAddr, transfer: &Transfer, outcome: &Outcome, took: Duration) {
    macro_rules! line {
        ($level:ident, $what:literal) => {
            $level!(
                %client,
                file = %transfer.request().file,
                bytes = transfer.delivered(),
                ?outcome,
                blksize = transfer.block_size(),
                windowsize = transfer.window(),
                seconds = took.as_secs_f64(),
                $what
            )
        };
    }
    match outcome {
        Outcome::Superseded | Outcome::Stopped => line!(debug, "tftp read"),
        Outcome::SizeProbe => line!(info, "tftp size probe"),
        Outcome::Finished | Outcome::Unconfirmed | Outcome::Aborted { .. } | Outcome::Gone => {
            line!(info, "tftp read");
        }
        Outcome::TimedOut => line!(warn, "tftp read"),
        Outcome::NeverAnswered => line!(
            warn,
            "tftp read: what we send does not reach the client, or it does not listen any more; \
             behind NAT or a firewall --tftp-single-port helps"
        ),
    }
}

/// When the log was last told that requests are left lying.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    told: Option<Instant>,
}

impl Crowd {
    /// A request is left lying `now`: worth a warning each minute.
    pub(super) fn left_lying(
        &mut self,
        client: SocketAddr,
        (file, why): (&FileName, &Why),
        now: Instant,
    ) {
        const QUIET: Duration = Duration::from_secs(60);
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < QUIET) {
            debug!(%client, %file, %why, "tftp silence");
            return;
        }
        warn!(%client, %file, %why, "tftp request left lying until a transfer ends");
        self.told = Some(now);
    }
}
