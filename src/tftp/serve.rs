//! The room's sockets and clock: a thread for the server's port and a port for each
//! transfer (`each`, `line`), or a task for all on one port (`single`).
//!
//! It must not know any policy: `answer`, `desk` and `transfer` decide.

mod each;
mod line;
mod send;
mod single;

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::dispatcher;

use super::answer::Answer;
use super::report::Tell;
use super::request::Request;
use super::transfer::Limits;
use each::EachPort;
use send::allow_fragments;
use single::SinglePort;

/// Room for any datagram: what is cut off cannot be judged.
const LARGEST_DATAGRAM: usize = 65536;

/// Room for requests that come at once, octets: when the power is back, a few
/// thousand machines ask in the same second.
const RECEIVE_BUFFER: usize = 4 << 20;

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
/// `answer` is called once for each transfer, and all others wait meanwhile: it has what
/// it gives in memory. `tell` is told what became of it.
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
    serve_each((socket, local), limits, (answer, tell), stop).await
}

/// Runs [`EachPort`] in a thread of its own until `stop`. The thread ends, too, when
/// this is dropped.
async fn serve_each<A>(
    socket: (UdpSocket, SocketAddr),
    limits: Limits,
    (answer, tell): (A, Tell),
    stop: CancellationToken,
) -> io::Result<()>
where
    A: Fn(&Request, SocketAddr) -> Answer + Send + 'static,
{
    let (socket, local) = socket;
    let server = EachPort::new((socket.into_std()?, local), limits, answer, tell)?;
    let (running, stopped) = UnixStream::pair()?;
    let (done, mut ended) = oneshot::channel();
    // Its lines go where those of the caller go.
    let log = dispatcher::get_default(Clone::clone);
    let serving = move || dispatcher::with_default(&log, || done.send(server.run(&stopped)));
    std::thread::Builder::new().name("tftp".to_owned()).spawn(serving)?;
    let ended = tokio::select! {
        () = stop.cancelled() => {
            drop(running);
            ended.await
        }
        ended = &mut ended => ended,
    };
    ended.unwrap_or_else(|_panicked| Err(io::Error::other("the thread for TFTP has ended")))
}
