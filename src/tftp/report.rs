//! What the room tells of its work: one line in the log for each transfer and for
//! each refusal, and the same to whoever wants to know.

use std::{
    fmt::Display,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};

use super::{
    answer::Why,
    reply::Reply,
    request::FileName,
    transfer::{Outcome, Transfer},
};

/// Something that became of a client's request.
pub enum Told<'a> {
    /// It was sent so much of this file.
    Read {
        /// The file's name.
        file: &'a str,
        /// Bytes that the client has acknowledged.
        bytes: u64,
        /// Whether it has acknowledged all of them.
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
        Outcome::Superseded | Outcome::Stopped => return line!(debug, "tftp read"),
        Outcome::SizeProbe => return line!(info, "tftp size probe"),
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
    let (file, bytes) = (transfer.request().file.as_str(), transfer.delivered());
    tell(client, Told::Read { file, bytes, complete: *outcome == Outcome::Finished });
}

/// Tells of what is not served.
pub(super) struct Refusals {
    tell: Tell,
    /// When the log was last told that requests are left lying.
    warned: Option<Instant>,
    /// When it was last told that requests wait.
    queued: Option<Instant>,
}

impl Refusals {
    pub(super) fn new(tell: Tell) -> Self {
        Self { tell, warned: None, queued: None }
    }

    /// An ERROR is the answer: to a read of this file, or to a packet that is none.
    pub(super) fn refused(&self, client: SocketAddr, file: Option<&FileName>, reply: &Reply) {
        debug!(%client, file = file.map(FileName::as_str), ?reply, "tftp refusal");
        if let Reply::Error { message, .. } = reply {
            self.tell(client, file, message);
        }
    }

    /// A packet has no answer.
    pub(super) fn unanswered(&self, client: SocketAddr, why: &Why) {
        debug!(%client, %why, "tftp silence");
        match why {
            // It asks for nothing: the last words of a transfer, or between them.
            Why::Stray | Why::Noise(_) => {}
            Why::StrayError
            | Why::Empty { .. }
            | Why::AllTaken { .. }
            | Why::ClientsTaken { .. } => {
                self.tell(client, None, why);
            }
        }
    }

    /// A request is left lying `now`: worth a warning each minute.
    pub(super) fn left_lying(
        &mut self,
        client: SocketAddr,
        (file, why): (&FileName, &Why),
        now: Instant,
    ) {
        const QUIET: Duration = Duration::from_secs(60);
        self.tell(client, Some(file), why);
        if self.warned.is_some_and(|warned| now.saturating_duration_since(warned) < QUIET) {
            debug!(%client, %file, %why, "tftp silence");
            return;
        }
        warn!(%client, %file, %why, "tftp request left lying until a transfer ends");
        self.warned = Some(now);
    }

    /// A read waits `now` for its turn: worth a warning each minute.
    pub(super) fn put_off(&mut self, client: SocketAddr, file: &FileName, now: Instant) {
        const QUIET: Duration = Duration::from_secs(60);
        if self.queued.is_some_and(|queued| now.saturating_duration_since(queued) < QUIET) {
            debug!(%client, %file, "tftp request waits for its turn");
            return;
        }
        warn!(%client, %file, "all transfers are taken: tftp requests wait for their turn");
        self.queued = Some(now);
    }

    /// A read has no answer, since there is no socket for it.
    pub(super) fn has_no_socket(
        &self,
        client: SocketAddr,
        file: &FileName,
        error: &std::io::Error,
    ) {
        warn!(%client, %file, %error, "tftp transfer has no socket");
        self.tell(client, Some(file), error);
    }

    fn tell(&self, client: SocketAddr, file: Option<&FileName>, why: &dyn Display) {
        let what: &dyn Display = match file {
            Some(file) => file,
            None => &"a packet",
        };
        (self.tell)(client, Told::Refused { what, why });
    }
}
