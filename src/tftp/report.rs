//! What the room tells of its work: the one line of a transfer in the log, and the
//! same to whoever wants to know.

use std::{fmt::Display, net::SocketAddr, sync::Arc, time::Duration};

use tracing::{debug, info, warn};

use super::transfer::{Outcome, Transfer};

/// Something that became of a client's request.
pub enum Told<'a> {
    /// It was sent so much of this file.
    Read {
        /// The file's name.
        file: &'a str,
        /// Bytes that the client has acknowledged.
        bytes: u64,
        /// Whether it has all of them.
        complete: bool,
    },
    /// It was sent nothing of it.
    Refused {
        /// What it asked for.
        what: &'a dyn Display,
        /// Why not.
        why: &'a dyn Display,
    },
}

/// Who is told, in the task that found it out.
pub type Tell = Arc<dyn Fn(SocketAddr, Told<'_>) + Send + Sync>;

/// Writes the one line of a transfer, and tells of it what was sent.
pub(super) fn report(
    client: SocketAddr,
    (transfer, outcome): (&Transfer, &Outcome),
    took: Duration,
    tell: &Tell,
) {
    macro_rules! line {
        ($level:ident) => {
            $level!(
                %client,
                file = %transfer.request().file,
                bytes = transfer.delivered(),
                ?outcome,
                blksize = transfer.block_size(),
                windowsize = transfer.window(),
                seconds = took.as_secs_f64(),
                "tftp read"
            )
        };
    }
    match outcome {
        Outcome::SizeProbe | Outcome::Superseded | Outcome::Stopped => return line!(debug),
        Outcome::Finished | Outcome::Aborted { .. } | Outcome::Gone => line!(info),
        Outcome::TimedOut => line!(warn),
    }
    let (file, bytes) = (transfer.request().file.as_str(), transfer.delivered());
    tell(client, Told::Read { file, bytes, complete: *outcome == Outcome::Finished });
}
