//! One transfer with a port and a task of its own.
//!
//! Its socket is bound to the server's own address, so that what it sends leaves
//! from the address that the client asked. Being connected, it hears the client's
//! port only; for any other source the kernel says in RFC 1350 §4's stead that
//! nobody listens (ICMP port unreachable), and the transfer never knows.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use rustix::net::RecvFlags;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::super::reply::Reply;
use super::super::report::{Tell, report};
use super::super::request::{Packet, Request, parse};
use super::super::transfer::{Outcome, Step, Transfer};
use super::send::{Windows, send};

/// Room for what a client says within a transfer: ACK, ERROR and their padding.
const LARGEST_WORD: usize = 1024;

/// One transfer with its socket.
pub(super) struct Line {
    pub(super) client: SocketAddr,
    pub(super) socket: UdpSocket,
    pub(super) transfer: Transfer,
    pub(super) requests: mpsc::Receiver<Request>,
    tell: Tell,
    windows: Windows,
}

/// What a transfer's task leaves behind.
pub(super) struct Ended {
    pub(super) client: SocketAddr,
    /// Requests that came from the client's port and are still to be answered.
    pub(super) requests: Vec<Request>,
}

/// What a transfer's task wakes up for.
enum Event {
    /// The client said this.
    Heard(Packet),
    /// The client said something that is no TFTP.
    Noise,
    /// The kernel says that nobody listens on the client's port.
    Refused,
    /// A request came to the server's port, from the client's.
    Asked(Request),
    /// The transfer's deadline may have come.
    Deadline,
}

impl Line {
    pub(super) fn new(
        (client, socket): (SocketAddr, UdpSocket),
        transfer: Transfer,
        requests: mpsc::Receiver<Request>,
        tell: Tell,
    ) -> Self {
        Self { client, socket, transfer, requests, tell, windows: Windows::Together }
    }

    pub(super) async fn run(mut self, first: Vec<Reply>, stop: CancellationToken) -> Ended {
        let started = Instant::now();
        let (outcome, unanswered) = tokio::select! {
            ended = self.converse(first) => ended,
            () = stop.cancelled() => (Outcome::Stopped, None),
        };
        report(self.client, (&self.transfer, &outcome), started.elapsed(), &self.tell);
        // From here on the server starts a new transfer itself.
        self.requests.close();
        let mut requests = Vec::from_iter(unanswered);
        while let Ok(request) = self.requests.try_recv() {
            requests.push(request);
        }
        Ended { client: self.client, requests }
    }

    /// Carries the transfer to its end; says how that was, and which request was
    /// not answered by it.
    async fn converse(&mut self, first: Vec<Reply>) -> (Outcome, Option<Request>) {
        if let Some(outcome) = self.carry_out(Step::Send(first)).await {
            return (outcome, None);
        }
        loop {
            let (packet, asked) = match self.event().await {
                Event::Heard(packet) => (packet, None),
                Event::Noise => continue,
                Event::Refused => return (Outcome::Gone, None),
                Event::Asked(request) => {
                    if let Some(outcome) = self.catch_up().await {
                        return (outcome, Some(request));
                    }
                    (Packet::Read(request.clone()), Some(request))
                }
                Event::Deadline => {
                    let step = self.transfer.on_timeout(Instant::now());
                    if let Some(outcome) = self.carry_out(step).await {
                        return (outcome, None);
                    }
                    continue;
                }
            };
            let step = self.transfer.on(&packet, Instant::now());
            if let Some(outcome) = self.carry_out(step).await {
                return (outcome, asked);
            }
        }
    }

    /// Waits for whatever comes first.
    async fn event(&mut self) -> Event {
        let mut word = [0; LARGEST_WORD];
        let deadline = tokio::time::Instant::from_std(self.transfer.deadline());
        tokio::select! {
            received = self.socket.recv(&mut word) => {
                heard(received.map(|length| &word[..length]))
            }
            Some(request) = self.requests.recv() => Event::Asked(request),
            () = tokio::time::sleep_until(deadline) => Event::Deadline,
        }
    }

    /// Hears all that the client has sent already. A client that ends a transfer
    /// and asks anew from the same port does so in this order, but the
    /// two packets come to two sockets: the request must not overtake the ERROR.
    /// Tokio's own readiness may lag behind the kernel here, so it is asked itself.
    async fn catch_up(&mut self) -> Option<Outcome> {
        let mut word = [0; LARGEST_WORD];
        loop {
            let received = rustix::net::recv(&self.socket, &mut word[..], RecvFlags::DONTWAIT);
            let length = match received {
                Ok((length, _whole)) => length,
                Err(rustix::io::Errno::AGAIN) => return None,
                Err(rustix::io::Errno::CONNREFUSED) => return Some(Outcome::Gone),
                Err(_) => return None,
            };
            if let Ok(packet) = parse(&word[..length]) {
                let step = self.transfer.on(&packet, Instant::now());
                if let Some(outcome) = self.carry_out(step).await {
                    return Some(outcome);
                }
            }
        }
    }

    /// Sends what the step says; gives the outcome if there is one.
    async fn carry_out(&mut self, step: Step) -> Option<Outcome> {
        let replies = match step {
            Step::Send(replies) => replies,
            Step::Wait => return None,
            Step::End(outcome) => return Some(outcome),
        };
        match send(&self.socket, None, &replies, &mut self.windows).await {
            Ok(()) => None,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Some(Outcome::Gone),
            // As good as lost on the way: it is sent again in time.
            Err(error) => {
                debug!(client = %self.client, %error, "tftp block not sent");
                None
            }
        }
    }
}

fn heard(received: io::Result<&[u8]>) -> Event {
    match received {
        Ok(word) => parse(word).map_or(Event::Noise, Event::Heard),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Event::Refused,
        Err(_) => Event::Noise,
    }
}
