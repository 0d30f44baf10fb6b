//! What goes out of a connection: octets in memory, and files by `sendfile`.

use std::io;

use tokio::{io::Interest, time::Instant as Deadline};

use super::{Connection, Paced, Part};

/// What one call of sendfile is asked for: enough that the call costs nothing,
/// not so much that one transfer keeps the thread.
const PIECE: u64 = 1 << 20;

/// After so much, others that the thread has are served: a client which takes it all as
/// fast as it is sent has nothing to wait for. Shorter turns take what is sent out of the
/// caches before it arrives.
const TURN: u64 = 16 << 20;

impl Connection {
    pub(super) async fn send_bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        // Nearly always there is room, and nothing to wait for.
        if let Ok(count) = self.stream.try_write(bytes) {
            bytes = &bytes[count..];
        }
        while !bytes.is_empty() {
            let writing = self.stream.async_io(Interest::WRITABLE, || self.stream.try_write(bytes));
            match self.alarm.limit(self.stalls_at(), writing).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => bytes = &bytes[count..],
            }
        }
        Ok(())
    }

    /// When what is not even begun to be sent now has taken too long.
    fn stalls_at(&self) -> Deadline {
        Deadline::now() + self.settings.stall_time
    }

    /// A file that changes meanwhile is not sent to its end: the client must
    /// see that what it has is not what was checked. Neither is one whose
    /// instance was destroyed meanwhile.
    pub(super) async fn send_part(&mut self, part: &Part, sent: &mut u64) -> io::Result<()> {
        let (mut place, end) = (part.first, part.first + part.length);
        let most = part.pace.as_ref().map_or(PIECE, Paced::piece);
        if let Some(Err(error)) = part.pace.as_ref().map(|pace| pace.begin(&self.stream)) {
            tracing::debug!(client = %self.client, %error, "no pacing by the kernel");
        }
        // What has a pace is not to gather.
        if part.pace.is_none() {
            self.cork(true);
        }
        let mut turn = 0;
        while place < end {
            let piece = usize::try_from(most.min(end - place)).unwrap_or(usize::MAX);
            if !part.file.is_unchanged() {
                tracing::error!(client = %self.client, "a boot file changed while it was sent");
                return Err(io::ErrorKind::InvalidData.into());
            }
            if !part.is_granted() {
                tracing::info!(client = %self.client, "its instance is gone: a transfer is cut");
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            let sending = self.stream.async_io(Interest::WRITABLE, || {
                let mut offset = place;
                rustix::fs::sendfile(&self.stream, &part.file.file, Some(&mut offset), piece)
                    .map_err(io::Error::from)
            });
            match self.alarm.limit(self.stalls_at(), sending).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => {
                    place += count as u64;
                    *sent += count as u64;
                    if let Some(pace) = &part.pace {
                        pace.sent(count as u64).await;
                    }
                    turn += count as u64;
                    if turn >= TURN {
                        turn = 0;
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
        // What is left goes out now.
        self.cork(false);
        Ok(())
    }

    /// Corked, the kernel sends full packets alone: the end of a piece waits for the
    /// beginning of the next, for 200 ms at most.
    fn cork(&self, is_corked: bool) {
        if let Err(error) = rustix::net::sockopt::set_tcp_cork(&self.stream, is_corked) {
            tracing::debug!(client = %self.client, %error, "no TCP_CORK");
        }
    }
}
