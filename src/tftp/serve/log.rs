//! What the room writes into the log: one line for each transfer.

use std::net::SocketAddr;
use std::time::Duration;

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

/// Whether the log has it that requests are left lying, and that it has ended.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    is_told: bool,
}

impl Crowd {
    /// A request was left lying: worth a warning for the first one.
    pub(super) fn left_lying(&mut self, client: SocketAddr, file: &FileName, why: &Why) {
        if self.is_told {
            debug!(%client, %file, %why, "tftp silence");
        } else {
            warn!(%client, %file, %why, "tftp request left lying until a transfer ends");
        }
        self.is_told = true;
    }

    /// There is room again.
    pub(super) fn has_room(&mut self) {
        self.is_told = false;
    }
}
