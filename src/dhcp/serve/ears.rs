//! One thread hears all sockets of DHCP. It asks the kernel for more only when there is
//! nothing more to take; a socket of the common runtime would have a second
//! processor woken for each packet, to be told what the first one knows.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, UdpSocket},
    os::{fd::AsFd, unix::net::UnixStream},
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::{runtime::Handle, sync::Semaphore, task::spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::room::{Asked, Room};
use crate::dhcp::{
    door::{Door, Ear},
    request,
};

/// So many packets are taken from one socket before others have their turn.
const AT_ONCE: usize = 64;

/// How long a socket rests after an error, so that one that stays does not take a whole
/// processor.
const REST: Duration = Duration::from_millis(20);

/// Hears all doors until `stop`.
///
/// # Errors
///
/// The system has no pair of sockets to give, or the thread has ended by a panic.
pub(super) async fn listen(
    room: Arc<Room>,
    doors: Vec<Arc<Door>>,
    places: Arc<Semaphore>,
    stop: CancellationToken,
) -> io::Result<()> {
    // The thread ends when this end is closed, also when this future is dropped.
    let (running, stopped) = UnixStream::pair()?;
    let ears = Ears { room, doors, places, stop: stop.clone(), runtime: Handle::current() };
    let mut hearing = spawn_blocking(move || ears.run(&stopped));
    let ended = tokio::select! {
        () = stop.cancelled() => {
            drop(running);
            hearing.await
        }
        ended = &mut hearing => ended,
    };
    ended.map_err(io::Error::other)?
}

struct Ears {
    room: Arc<Room>,
    doors: Vec<Arc<Door>>,
    places: Arc<Semaphore>,
    stop: CancellationToken,
    runtime: Handle,
}

impl Ears {
    fn run(&self, stopped: &UnixStream) -> io::Result<()> {
        let ears: Vec<(&Arc<Door>, Ear, &UdpSocket)> = self
            .doors
            .iter()
            .flat_map(|door| [Ear::Own, Ear::Any, Ear::Boot].map(|ear| (door, ear)))
            .filter_map(|(door, ear)| Some((door, ear, door.ear(ear)?)))
            .collect();
        let sockets = ears.iter().map(|(_, _, socket)| socket.as_fd());
        let mut looked: Vec<PollFd<'_>> = std::iter::once(stopped.as_fd())
            .chain(sockets)
            .map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN))
            .collect();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match poll(&mut looked, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let Some((first, others)) = looked.split_first() else { return Ok(()) };
            if !first.revents().is_empty() {
                return Ok(());
            }
            let heard = ears.iter().zip(others).filter(|(_, one)| !one.revents().is_empty());
            for ((door, ear, socket), _) in heard {
                self.take((door, *ear, socket), &mut buffer);
            }
        }
    }

    /// Takes what has come to one socket.
    fn take(&self, (door, ear, socket): (&Arc<Door>, Ear, &UdpSocket), buffer: &mut [u8]) {
        for _ in 0..AT_ONCE {
            match socket.recv_from(buffer) {
                Ok((length, from)) => self.hear((door, ear), &buffer[..length], from),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // An ICMP error for an earlier packet of ours arrives so.
                Err(error) => {
                    debug!(%error, "receiving failed");
                    thread::sleep(REST);
                    return;
                }
            }
        }
    }

    fn hear(&self, (door, ear): (&Arc<Door>, Ear), packet: &[u8], from: SocketAddr) {
        let request = match request::parse(packet) {
            Ok(request) => request,
            Err(reason) => {
                debug!(%reason, "dropped");
                return self.room.refused(None, "a packet", reason);
            }
        };
        let Some(place) = self.place() else { return };
        let boot_port = match (ear, from) {
            (Ear::Boot, SocketAddr::V4(from)) => Some(from),
            (Ear::Own | Ear::Any, _) | (Ear::Boot, SocketAddr::V6(_)) => None,
        };
        let door = Arc::clone(door);
        self.room.hear(Asked { door, request, boot_port, place });
    }

    /// A place to work on a request, when there is one; none when all is to end.
    fn place(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        let waiting = Arc::clone(&self.places).acquire_owned();
        self.runtime.block_on(async {
            tokio::select! {
                () = self.stop.cancelled() => None,
                place = waiting => place.ok(),
            }
        })
    }
}
