//! The room's sockets and clock: one task for the server's port, and one with a
//! port of its own for each transfer (`line`), or all on one port (`single`).
//!
//! It must not know any policy: `answer`, `desk` and `transfer` decide.

mod line;
mod send;
mod single;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::net::sockopt;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::answer::{Answer, Opening, Why, admit, opening};
use super::queue::Queue;
use super::reply::Reply;
use super::report::{Refusals, Tell};
use super::request::{FileName, Request, parse};
use super::transfer::{Limits, Transfer};
use line::{Ended, Line};
use send::{Windows, allow_fragments, path_mtu, send};
use single::SinglePort;

/// Room for any datagram: what is cut off cannot be judged.
const LARGEST_DATAGRAM: usize = 65536;

/// Room for requests that come at once, octets: when the power is back, a few
/// thousand machines ask in the same second.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Requests from the port of a running transfer that may wait for it.
const WAITING_REQUESTS: usize = 4;

/// How long the server's port rests after an error of the socket, so that one
/// that stays does not take a whole processor.
const REST: Duration = Duration::from_millis(20);

/// The ports that transfers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Each its own, as RFC 1350 §4 wants.
    Each,
    /// All the server's port, and they are told apart by the client's address and
    /// port. This goes through NAT, containers and firewalls that know port 69 only.
    Single,
}

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
    (ports, limits): (Ports, Limits),
    (answer, tell): (A, Tell),
    stop: CancellationToken,
) -> io::Result<()>
where
    A: Fn(&Request, SocketAddr) -> Answer + Send + Sync + 'static,
{
    let mut local = socket.local_addr()?;
    local.set_port(0);
    allow_fragments(&socket);
    // Over what others may have it needs a capability; the usual size does, too.
    if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
        let _usual = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
    }
    if ports == Ports::Single {
        SinglePort::new((socket, local), limits, answer, tell).run(stop).await;
        return Ok(());
    }
    let server = Server {
        socket,
        local,
        limits,
        answer,
        refusals: Refusals::new(Arc::clone(&tell)),
        tell,
        stop,
        running: HashMap::new(),
        queue: Queue::default(),
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
    refusals: Refusals,
    tell: Tell,
    stop: CancellationToken,
    running: HashMap<SocketAddr, Running>,
    queue: Queue,
    transfers: JoinSet<Ended>,
}

/// The server's end of a transfer's task.
struct Running {
    task: Id,
    requests: mpsc::Sender<Request>,
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
            Opening::Refuse(reply) => self.refuse(&reply, client, None).await,
            Opening::Silence(why) => self.refusals.unanswered(client, &why),
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
            let now = Instant::now();
            if matches!(why, Why::AllTaken { .. }) {
                self.refusals.put_off(client, &request.file, now);
                let terms = (self.limits.transfers_per_client, now);
                if self.queue.join(client, request.clone(), terms) {
                    return;
                }
            }
            self.refusals.left_lying(client, (&request.file, &why), now);
            return;
        }
        self.queue.leave(client);
        match (self.answer)(&request, client) {
            Answer::Content(content) => {
                let file = request.file.clone();
                if let Err(error) = self.start(content, request, client).await {
                    self.refusals.has_no_socket(client, &file, &error);
                }
            }
            Answer::Refuse { code, message } => {
                let reply = Reply::Error { code, message };
                self.refuse(&reply, client, Some(&request.file)).await;
            }
        }
    }

    async fn refuse(&self, reply: &Reply, client: SocketAddr, file: Option<&FileName>) {
        self.refusals.refused(client, file, reply);
        let reply = std::slice::from_ref(reply);
        if let Err(error) = send(&self.socket, Some(client), reply, &mut Windows::Apart).await {
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
        allow_fragments(&socket);
        let (sender, requests) = mpsc::channel(WAITING_REQUESTS);
        let limits = self.limits.on_path(client.ip(), path_mtu(&socket));
        let (transfer, first) = Transfer::new(content, request, &limits, Instant::now());
        let line = Line::new((client, socket), transfer, requests, Arc::clone(&self.tell));
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
        let free = self.limits.transfers.saturating_sub(self.running.len());
        for (client, request) in self.queue.next_of(free, Instant::now()) {
            self.read(request, client).await;
        }
    }
}
