//! The room's sockets and clock: one task for the server's port, and one with a
//! connected socket for each transfer.
//!
//! A transfer's socket is bound to the server's own address, so that what it
//! sends leaves from the address that the client asked. Being connected, it hears
//! the client's port only; for any other source the kernel says in RFC 1350 §4's
//! stead that nobody listens (ICMP port unreachable), and the transfer never
//! knows. It must not know any policy: `answer` and `transfer` decide.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::net::RecvFlags;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::answer::{Answer, Opening, admit, opening};
use super::reply::Reply;
use super::report::{Tell, Told, report};
use super::request::{Packet, Request, parse};
use super::transfer::{Limits, Outcome, Step, Transfer};

/// Room for any datagram: what is cut off cannot be judged.
const LARGEST_DATAGRAM: usize = 65536;

/// Room for what a client says within a transfer: ACK, ERROR and their padding.
const LARGEST_WORD: usize = 1024;

/// Requests from the port of a running transfer that may wait for it.
const WAITING_REQUESTS: usize = 4;

/// How long the server's port rests after an error of the socket, so that one
/// that stays does not take a whole processor.
const REST: Duration = Duration::from_millis(20);

/// Serves reads on `socket`, which is bound to one local IP address, until
/// `stop`; then drops the transfers that run.
///
/// `answer` is called once for each transfer, in the task of the server's port:
/// it has what it gives in memory. `tell` is told what became of it.
///
/// # Errors
///
/// The socket has no address of its own. Nothing later ends the server.
pub async fn serve<A>(
    socket: UdpSocket,
    limits: Limits,
    (answer, tell): (A, Tell),
    stop: CancellationToken,
) -> io::Result<()>
where
    A: Fn(&Request, SocketAddr) -> Answer + Send + Sync + 'static,
{
    let mut local = socket.local_addr()?;
    local.set_port(0);
    let server = Server {
        socket,
        local,
        limits,
        answer,
        tell,
        stop,
        running: HashMap::new(),
        transfers: JoinSet::new(),
    };
    server.run().await;
    Ok(())
}

struct Server<A> {
    socket: UdpSocket,
    /// The server's own address with port 0.
    local: SocketAddr,
    limits: Limits,
    answer: A,
    tell: Tell,
    stop: CancellationToken,
    running: HashMap<SocketAddr, Running>,
    transfers: JoinSet<Ended>,
}

/// The server's end of a transfer's task.
struct Running {
    task: Id,
    requests: mpsc::Sender<Request>,
}

/// What a transfer's task leaves behind.
struct Ended {
    client: SocketAddr,
    /// Requests that came from the client's port and are still to be answered.
    requests: Vec<Request>,
}

impl<A> Server<A>
where
    A: Fn(&Request, SocketAddr) -> Answer,
{
    async fn run(mut self) {
        let stop = self.stop.clone();
        let mut datagram = vec![0; LARGEST_DATAGRAM];
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = self.transfers.join_next_with_id() => self.ended(ended).await,
                received = self.socket.recv_from(&mut datagram) => match received {
                    Ok((length, client)) => self.heard(&datagram[..length], client).await,
                    Err(error) => {
                        debug!(%error, "tftp port");
                        tokio::time::sleep(REST).await;
                    }
                },
            }
        }
        // Their sockets close when they see `stop`, too.
        while self.transfers.join_next().await.is_some() {}
    }

    async fn heard(&mut self, datagram: &[u8], client: SocketAddr) {
        match opening(parse(datagram)) {
            Opening::Read(request) => self.read(request, client).await,
            Opening::Refuse(reply) => {
                debug!(%client, ?reply, "tftp refusal");
                if let Reply::Error { message, .. } = &reply {
                    (self.tell)(client, Told::Refused { what: &"a packet", why: message });
                }
                self.refuse(&reply, client).await;
            }
            Opening::Silence(why) => {
                debug!(%client, %why, "tftp silence");
                (self.tell)(client, Told::Refused { what: &"a packet", why: &why });
            }
        }
    }

    async fn read(&mut self, request: Request, client: SocketAddr) {
        let request = match self.running.get(&client) {
            None => request,
            Some(running) => match running.requests.try_send(request) {
                Ok(()) => return,
                Err(TrySendError::Full(request)) => {
                    debug!(%client, file = %request.file, "tftp request repeated too often");
                    return;
                }
                // The transfer has ended, its task is not yet reaped.
                Err(TrySendError::Closed(request)) => request,
            },
        };
        let others = self.running.keys().filter(|other| **other != client);
        if let Err(why) = admit(&self.limits, others.map(SocketAddr::ip), client.ip()) {
            debug!(%client, file = %request.file, %why, "tftp silence");
            (self.tell)(client, Told::Refused { what: &request.file, why: &why });
            return;
        }
        match (self.answer)(&request, client) {
            Answer::Content(content) => {
                if let Err(error) = self.start(content, request, client).await {
                    warn!(%client, %error, "tftp transfer has no socket");
                }
            }
            Answer::Refuse { code, message } => {
                debug!(%client, file = %request.file, ?code, %message, "tftp refusal");
                (self.tell)(client, Told::Refused { what: &request.file, why: &message });
                self.refuse(&Reply::Error { code, message }, client).await;
            }
        }
    }

    async fn refuse(&self, reply: &Reply, client: SocketAddr) {
        let mut datagram = Vec::new();
        reply.encode(&mut datagram);
        if let Err(error) = self.socket.send_to(&datagram, client).await {
            debug!(%client, %error, "tftp refusal not sent");
        }
    }

    async fn start(
        &mut self,
        content: Bytes,
        request: Request,
        client: SocketAddr,
    ) -> io::Result<()> {
        let socket = UdpSocket::bind(self.local).await?;
        socket.connect(client).await?;
        let (sender, requests) = mpsc::channel(WAITING_REQUESTS);
        let (transfer, first) = Transfer::new(content, request, &self.limits, Instant::now());
        let tell = Arc::clone(&self.tell);
        let line = Line { client, socket, transfer, requests, tell, datagram: Vec::new() };
        let task = self.transfers.spawn(line.run(first, self.stop.clone()));
        let running = Running { task: task.id(), requests: sender };
        self.running.insert(client, running);
        Ok(())
    }

    async fn ended(&mut self, ended: Result<(Id, Ended), JoinError>) {
        let (task, ended) = match ended {
            Ok((task, ended)) => (task, Some(ended)),
            Err(error) => (error.id(), None),
        };
        match ended {
            Some(Ended { client, requests }) => {
                // Another transfer may have the client's port by now.
                if self.running.get(&client).is_some_and(|running| running.task == task) {
                    self.running.remove(&client);
                }
                for request in requests {
                    self.read(request, client).await;
                }
            }
            None => self.running.retain(|_client, running| running.task != task),
        }
    }
}

/// One transfer with its socket.
struct Line {
    client: SocketAddr,
    socket: UdpSocket,
    transfer: Transfer,
    requests: mpsc::Receiver<Request>,
    tell: Tell,
    datagram: Vec<u8>,
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
    async fn run(mut self, first: Vec<Reply>, stop: CancellationToken) -> Ended {
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
        for reply in replies {
            self.datagram.clear();
            reply.encode(&mut self.datagram);
            match self.socket.send(&self.datagram).await {
                Ok(_length) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Some(Outcome::Gone);
                }
                // As good as lost on the way: it is sent again in time.
                Err(error) => {
                    debug!(client = %self.client, %error, "tftp block not sent");
                    return None;
                }
            }
        }
        None
    }
}

fn heard(received: io::Result<&[u8]>) -> Event {
    match received {
        Ok(word) => parse(word).map_or(Event::Noise, Event::Heard),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Event::Refused,
        Err(_) => Event::Noise,
    }
}
