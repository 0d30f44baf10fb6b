//! One transfer with a port of its own.
//!
//! Its socket is bound to the server's own address, so that what it sends leaves
//! from the address that the client asked. Being connected, it hears the client's
//! port only; for any other source the kernel says in RFC 1350 §4's stead that
//! nobody listens (ICMP port unreachable), and the transfer never knows.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use tracing::debug;

use super::super::reply::Reply;
use super::super::report::{Tell, report};
use super::super::request::{Packet, Request, parse};
use super::super::transfer::{Outcome, Step, Transfer};
use super::send::{Windows, send_now};

/// Room for what a client says within a transfer: ACK, ERROR and their padding.
const LARGEST_WORD: usize = 1024;

/// One transfer with its socket.
pub(super) struct Line {
    pub(super) client: SocketAddr,
    pub(super) socket: UdpSocket,
    pub(super) transfer: Transfer,
    /// When the transfer is looked at, whatever comes. Its own deadline may be later
    /// by then: each packet puts it off.
    pub(super) alarm: Instant,
    windows: Windows,
    began: Instant,
    /// What the socket has no room for yet.
    waiting: Vec<Reply>,
}

impl Line {
    pub(super) fn new(
        (client, socket): (SocketAddr, UdpSocket),
        transfer: Transfer,
        now: Instant,
    ) -> Self {
        let (windows, waiting) = (Windows::Together, Vec::new());
        let alarm = transfer.deadline();
        Self { client, socket, transfer, alarm, windows, began: now, waiting }
    }

    /// Takes one word of the client, if there is one; gives the outcome if the
    /// transfer ends by it.
    pub(super) fn hear(&mut self) -> Option<Outcome> {
        let mut word = [0; LARGEST_WORD];
        match self.socket.recv(&mut word) {
            Ok(length) => self.heard(&word[..length]),
            Err(error) => gone(&error),
        }
    }

    /// Hears all that the client has sent already, and then the request from its port.
    /// A client that ends a transfer and asks anew from the same port does so in this
    /// order, but the two packets come to two sockets: the request must not overtake
    /// the ERROR.
    pub(super) fn asked(&mut self, request: &Request) -> Option<Outcome> {
        if let Some(outcome) = self.catch_up() {
            return Some(outcome);
        }
        let step = self.transfer.on(&Packet::Read(request.clone()), Instant::now());
        self.carry_out(step)
    }

    /// Hears all that the client has sent already.
    fn catch_up(&mut self) -> Option<Outcome> {
        let mut word = [0; LARGEST_WORD];
        loop {
            let outcome = match self.socket.recv(&mut word) {
                Ok(length) => self.heard(&word[..length]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => gone(&error),
                Err(_none) => return None,
            };
            if outcome.is_some() {
                return outcome;
            }
        }
    }

    /// What is no TFTP is noise.
    fn heard(&mut self, word: &[u8]) -> Option<Outcome> {
        let packet = parse(word).ok()?;
        let step = self.transfer.on(&packet, Instant::now());
        self.carry_out(step)
    }

    /// Its alarm has come.
    pub(super) fn ring(&mut self, now: Instant) -> Option<Outcome> {
        // A server with too much to do is late, and what the client has said in time is
        // still to be read: it is neither sent anything twice for that, nor given up.
        if self.transfer.deadline() <= now
            && let Some(outcome) = self.catch_up()
        {
            return Some(outcome);
        }
        let step = self.transfer.on_timeout(now);
        self.carry_out(step)
    }

    /// Sends what the step says; gives the outcome if there is one.
    pub(super) fn carry_out(&mut self, step: Step) -> Option<Outcome> {
        let replies = match step {
            Step::Send(replies) => replies,
            Step::Wait => return None,
            Step::End(outcome) => return Some(outcome),
        };
        if self.waiting.is_empty() {
            return self.send(replies);
        }
        // In its order; what is too much is as good as lost.
        let most = 2 * usize::from(self.transfer.window());
        self.waiting.extend(replies);
        self.waiting.truncate(most);
        None
    }

    /// Whether something waits for room in the socket.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// There is room again.
    pub(super) fn go_on(&mut self) -> Option<Outcome> {
        let waiting = std::mem::take(&mut self.waiting);
        self.send(waiting)
    }

    fn send(&mut self, mut replies: Vec<Reply>) -> Option<Outcome> {
        let unsent = send_now(&self.socket, None, &replies, &mut self.windows).err()?;
        if unsent.error.kind() == io::ErrorKind::WouldBlock {
            self.waiting = replies.split_off(replies.len() - unsent.left);
            return None;
        }
        // As good as lost on the way: it is sent again in time.
        debug!(client = %self.client, error = %unsent.error, "tftp block not sent");
        gone(&unsent.error)
    }

    pub(super) fn report(&self, outcome: &Outcome, tell: &Tell) {
        report(self.client, (&self.transfer, outcome), self.began.elapsed(), tell);
    }
}

/// What an error of the socket says of the client: nothing, mostly. When nobody listens
/// on its port, the kernel knows.
fn gone(error: &io::Error) -> Option<Outcome> {
    (error.kind() == io::ErrorKind::ConnectionRefused).then_some(Outcome::Gone)
}
