//! The sockets of DHCP: receive, decide, send. Holds no opinion.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::SystemTime,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    events::{Door, Refused},
    files::Loaders,
    model::Timestamp,
    store::Store,
};

use super::{
    Settings,
    answer::{self, Answer, NoBootFile, Reply, ReplyKind, Why},
    link::Link,
    reply::{self, Destination},
    request::{self, Request},
};

/// Requests worked on at once; over it they are dropped, and clients ask again.
const AT_ONCE: usize = 2048;

/// Room for a crowd that is switched on at once: UEFI waits 8 s more when its
/// first DISCOVER is lost.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The sockets, bound.
#[derive(Debug)]
pub struct Sockets {
    /// Receives what is sent to our own address, and sends everything: what
    /// leaves from here has the right source address.
    own: UdpSocket,
    /// Receives broadcasts on the adapter.
    any: UdpSocket,
    /// Reaches cards without an address; without the right to that, by broadcast.
    link: Option<Link>,
    /// The port of the server; the client's is the next one (RFC 2131 §4.1: 67
    /// and 68).
    port: u16,
}

impl Sockets {
    /// Binds on one adapter. Port 0 chooses a free one.
    ///
    /// # Errors
    ///
    /// What the system says: the port is in use, the right to it is missing.
    pub fn bind(adapter: &str, server: Ipv4Addr, port: u16) -> io::Result<Self> {
        // The first one shares its port with nobody, so that two servers on it are an
        // error at the start. From then on it shares with the second one.
        let own = socket(adapter)?;
        own.bind(&SocketAddr::from((server, port)).into())?;
        own.set_reuse_address(true)?;
        let own = UdpSocket::from_std(own.into())?;
        let port = own.local_addr()?.port();
        let any = socket(adapter)?;
        any.set_reuse_address(true)?;
        any.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        let any = UdpSocket::from_std(any.into())?;
        let link = match Link::open(adapter) {
            Ok(link) => Some(link),
            Err(error) => {
                info!(%error, "no packet socket: machines without an address are answered by broadcast");
                None
            }
        };
        Ok(Self { own, any, link, port })
    }

    /// The port that was bound.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    fn send(&self, packet: &[u8], destination: Destination) -> io::Result<()> {
        let client_port = self.port.saturating_add(1);
        let to = |address, port| SocketAddr::from(SocketAddrV4::new(address, port));
        let broadcast = to(Ipv4Addr::BROADCAST, client_port);
        let target = match (destination, &self.link) {
            (Destination::Relay(relay), _) => to(relay, self.port),
            (Destination::Unicast(address), _) => to(address, client_port),
            (Destination::Broadcast, _) | (Destination::Hardware(..), None) => broadcast,
            (Destination::Hardware(card, address), Some(link)) => {
                let SocketAddr::V4(from) = self.own.local_addr()? else {
                    return Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
                };
                let ends = (from, SocketAddrV4::new(address, client_port));
                match link.send(packet, ends, card) {
                    Ok(()) => return Ok(()),
                    // Such as on the loopback adapter, which knows no cards.
                    Err(error) => {
                        debug!(%error, %card, "cannot address the card, sending to all");
                        broadcast
                    }
                }
            }
        };
        self.own.try_send_to(packet, target).map(|_| ())
    }
}

/// A socket that is not yet bound, but to its adapter.
fn socket(adapter: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(adapter.as_bytes()))?;
    // The system gives less if it allows no more.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    Ok(socket)
}

/// Answers until told to stop.
///
/// # Errors
///
/// None that a packet could cause; the `Result` is for the daemon's list of
/// services.
pub async fn serve(
    sockets: Sockets,
    (settings, loaders, store): (Settings, Arc<Loaders>, Store),
    stop: CancellationToken,
) -> io::Result<()> {
    let room = Arc::new(Room { sockets, settings, loaders, store });
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut own = vec![0; 1 << 16];
    let mut any = vec![0; 1 << 16];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            received = room.sockets.own.recv_from(&mut own) => received.map(|(length, _)| &own[..length]),
            received = room.sockets.any.recv_from(&mut any) => received.map(|(length, _)| &any[..length]),
        };
        let packet = match received {
            Ok(packet) => packet,
            // An ICMP error for an earlier packet of ours arrives so.
            Err(error) => {
                debug!(%error, "receiving failed");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let request = match request::parse(packet) {
            Ok(request) => request,
            Err(reason) => {
                debug!(%reason, "dropped");
                room.refused(None, "a packet", reason);
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            debug!(mac = %request.mac, "dropped: too many at once");
            room.refused(Some(&request), "an answer", "there are too many requests at once");
            continue;
        };
        let room = Arc::clone(&room);
        tokio::spawn(async move {
            room.converse(&request).await;
            drop(place);
        });
    }
}

struct Room {
    sockets: Sockets,
    settings: Settings,
    loaders: Arc<Loaders>,
    store: Store,
}

impl Room {
    async fn converse(&self, request: &Request) {
        let catalogue = self.loaders.catalogue();
        let now = Timestamp::from(SystemTime::now());
        let decided = self
            .store
            .decide(|state| answer::answer(state, (&self.settings, &catalogue), request, now))
            .await;
        let mac = request.mac;
        match decided {
            Ok(Answer::Reply(reply)) => self.send(request, &reply),
            Ok(Answer::Silence(why @ Why::Declined)) => {
                warn!(%mac, kind = ?request.kind, %why, "not answered");
            }
            Ok(Answer::Silence(why @ Why::Released)) => {
                debug!(%mac, kind = ?request.kind, %why, "not answered");
            }
            Ok(Answer::Silence(why @ Why::PoolIsFull)) => {
                warn!(%mac, kind = ?request.kind, %why, "not answered");
                self.refused(Some(request), "an address", why);
            }
            Ok(Answer::Silence(why)) => {
                debug!(%mac, kind = ?request.kind, %why, "not answered");
                self.refused(Some(request), "an answer", why);
            }
            Err(error) => warn!(%mac, %error, "not answered"),
        }
    }

    fn send(&self, request: &Request, reply: &Reply) {
        let mac = request.mac;
        let destination = reply::destination(request, reply);
        let sent = match reply::encode(&self.settings, request, reply) {
            Ok(packet) => self.sockets.send(&packet, destination),
            Err(error) => return warn!(%mac, %error, "not answered"),
        };
        match (sent, &reply.boot) {
            (Err(error), _) => warn!(%mac, ?destination, %error, "the answer could not be sent"),
            (Ok(()), Ok(boot)) => {
                info!(%mac, client = ?request.client, answer = ?reply.kind, ?boot)
            }
            (Ok(()), Err(NoBootFile::Host)) => {
                info!(%mac, client = ?request.client, answer = ?reply.kind);
            }
            (Ok(()), Err(why @ answer::NoBootFile::OwnDisk)) => {
                info!(%mac, client = ?request.client, answer = ?reply.kind, %why);
            }
            (Ok(()), Err(why)) => {
                warn!(%mac, client = ?request.client, answer = ?reply.kind, %why, "nothing to boot");
            }
        }
        match (reply.kind, &reply.boot) {
            (ReplyKind::Refuse, _) => self.refused(Some(request), "its address", "ask anew"),
            (_, Ok(_) | Err(NoBootFile::Host | NoBootFile::OwnDisk)) => {}
            (_, Err(why)) => self.refused(Some(request), "a boot program", why),
        }
    }

    /// Tells that a client gets nothing, or not what it asked for.
    fn refused(&self, request: Option<&Request>, what: &str, why: impl ToString) {
        self.store.events().refused(|| Refused {
            door: Door::Dhcp,
            who: request.map_or_else(|| "unknown".to_owned(), |request| request.mac.to_string()),
            what: what.to_owned(),
            why: why.to_string(),
        });
    }
}
