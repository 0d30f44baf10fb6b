//! The sockets of DHCP: receive, decide, send. Holds no opinion.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::SystemTime,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    events::{self, Refused},
    files::Loaders,
    model::{Subnets, Timestamp},
    state::State,
    store::{Store, Unwritable},
};

use super::{
    Settings,
    answer::{self, Answer, NoBootFile, Probed, Question, Reply, ReplyKind, Why},
    link::Link,
    probe::Prober,
    reply::{self, Destination},
    request::{self, Request},
};

/// Requests worked on at once; over it they are dropped, and clients ask again.
const AT_ONCE: usize = 2048;

/// So many turns a request gets, two for each address that somebody uses. What was
/// set aside stays so, and a client that asks again comes further.
const TURNS: usize = 32;

/// Room for a crowd that is switched on at once: UEFI waits 8 s more when its
/// first DISCOVER is lost.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The sockets of all networks, bound.
#[derive(Debug)]
pub struct Sockets {
    doors: Vec<Door>,
    prober: Prober,
}

/// Where requests come in, and their answers leave.
#[derive(Debug)]
struct Door {
    /// Receives what is sent to our own address, and sends everything: what
    /// leaves from here has the right source address.
    own: UdpSocket,
    /// Receives broadcasts on the adapter; none where only relays are heard.
    any: Option<UdpSocket>,
    /// Reaches cards without an address; without the right to that, by broadcast.
    link: Option<Link>,
    address: Ipv4Addr,
    /// The port of the server; the client's is the next one (RFC 2131 §4.1: 67
    /// and 68).
    port: u16,
}

/// A door could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve DHCP on {address}:{port}{}", of(adapter.as_deref()))]
pub struct Unbindable {
    address: Ipv4Addr,
    port: u16,
    adapter: Option<String>,
    #[source]
    source: io::Error,
}

fn of(adapter: Option<&str>) -> String {
    adapter.map(|adapter| format!(" of adapter {adapter}")).unwrap_or_default()
}

impl Sockets {
    /// Binds on the adapter of each network, and for networks behind relays on
    /// our address towards them, by whichever adapter they come.
    ///
    /// # Errors
    ///
    /// What the system says, with where: the port is in use, the right to it is
    /// missing.
    pub fn bind(subnets: &Subnets, port: u16) -> Result<Self, Unbindable> {
        let mut doors: Vec<Door> = Vec::new();
        // Those without an adapter first: each shares its port with nobody, so that
        // two servers on it are an error at the start.
        let all = subnets.iter().filter(|subnet| subnet.adapter.is_none());
        for subnet in all.chain(subnets.iter().filter(|subnet| subnet.adapter.is_some())) {
            let (address, adapter) = (subnet.server, subnet.adapter.as_deref());
            let is_bound = doors.iter().any(|door| door.address == address);
            if is_bound && adapter.is_none() {
                continue;
            }
            let door = Door::bind(adapter, address, (port, is_bound)).map_err(|source| {
                Unbindable { address, port, adapter: adapter.map(str::to_owned), source }
            })?;
            info!(address = %SocketAddr::from((address, port)), adapter = adapter.unwrap_or("any, by relays"), "DHCP");
            doors.push(door);
        }
        Ok(Self { doors, prober: Prober::open(subnets) })
    }
}

impl Door {
    /// `is_shared` says that another door of ours has this address and port.
    fn bind(
        adapter: Option<&str>,
        address: Ipv4Addr,
        (port, is_shared): (u16, bool),
    ) -> io::Result<Self> {
        // Once it is bound, it shares its port with the others.
        let own = socket(adapter)?;
        own.set_reuse_address(is_shared)?;
        own.bind(&SocketAddr::from((address, port)).into())?;
        own.set_reuse_address(true)?;
        let own = UdpSocket::from_std(own.into())?;
        let Some(adapter) = adapter else {
            return Ok(Self { own, any: None, link: None, address, port });
        };
        let any = socket(Some(adapter))?;
        any.set_reuse_address(true)?;
        any.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        let any = Some(UdpSocket::from_std(any.into())?);
        let link = match Link::open(adapter) {
            Ok(link) => Some(link),
            Err(error) => {
                info!(%error, "no packet socket: machines without an address are answered by broadcast");
                None
            }
        };
        Ok(Self { own, any, link, address, port })
    }

    /// The sockets that requests come in by.
    fn ears(&self) -> impl Iterator<Item = &UdpSocket> {
        std::iter::once(&self.own).chain(&self.any)
    }

    /// Our own address, if the door is on a link.
    fn on_link(&self) -> Option<Ipv4Addr> {
        self.any.as_ref().map(|_| self.address)
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
fn socket(adapter: Option<&str>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    socket.bind_device(adapter.map(str::as_bytes))?;
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
    let mut ears = JoinSet::new();
    let prober = Arc::new(sockets.prober);
    prober.listen(&mut ears);
    let room = Arc::new(Room { settings, loaders, store, prober });
    let places = Arc::new(Semaphore::new(AT_ONCE));
    for door in sockets.doors.into_iter().map(Arc::new) {
        for ear in 0..door.ears().count() {
            let (room, door) = (Arc::clone(&room), Arc::clone(&door));
            ears.spawn(listen(room, door, ear, Arc::clone(&places)));
        }
    }
    // Those that listen never end by themselves, and end when they are dropped.
    stop.cancelled().await;
    Ok(())
}

/// Hears one socket of a door, for ever.
async fn listen(room: Arc<Room>, door: Arc<Door>, ear: usize, places: Arc<Semaphore>) {
    let mut buffer = vec![0; 1 << 16];
    let Some(socket) = door.ears().nth(ear) else { return };
    loop {
        let packet = match socket.recv_from(&mut buffer).await {
            Ok((length, _)) => &buffer[..length],
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
        let (room, door) = (Arc::clone(&room), Arc::clone(&door));
        tokio::spawn(async move {
            room.converse(&door, &request).await;
            drop(place);
        });
    }
}

struct Room {
    settings: Settings,
    loaders: Arc<Loaders>,
    store: Store,
    prober: Arc<Prober>,
}

impl Room {
    async fn converse(&self, door: &Door, request: &Request) {
        let mac = request.mac;
        match self.decide(door, request).await {
            Ok(Ok(reply)) => self.send(door, request, &reply),
            Ok(Err(why @ Why::Declined)) => {
                warn!(%mac, kind = ?request.kind, %why, "not answered");
            }
            Ok(Err(why @ Why::Released)) => {
                debug!(%mac, kind = ?request.kind, %why, "not answered");
            }
            Ok(Err(why @ (Why::PoolIsFull(_) | Why::AllInUse))) => {
                warn!(%mac, kind = ?request.kind, %why, "not answered");
                self.refused(Some(request), "an address", why);
            }
            Ok(Err(why)) => {
                debug!(%mac, kind = ?request.kind, %why, "not answered");
                self.refused(Some(request), "an answer", why);
            }
            Err(error) => warn!(%mac, %error, "not answered"),
        }
    }

    /// Decides, and looks at addresses as often as the decision wants it and a
    /// client waits.
    async fn decide(
        &self,
        door: &Door,
        request: &Request,
    ) -> Result<Result<Reply, Why>, Unwritable> {
        let mut probed = Probed::Nothing;
        for _ in 0..TURNS {
            let catalogue = self.loaders.catalogue();
            let now = Timestamp::from(SystemTime::now());
            let question = Question { request, link: door.on_link(), probed };
            let hall = (&self.settings, &*catalogue);
            let decision = |state: &State| answer::answer(state, hall, question, now);
            match self.store.decide(decision).await? {
                Answer::Probe { address, adapter } => {
                    probed = self.prober.probe(address, adapter.as_deref()).await;
                }
                Answer::InUse(address) => {
                    warn!(%address, ?probed, "somebody uses it without a lease; set aside");
                    probed = Probed::Nothing;
                }
                Answer::Reply(reply) => return Ok(Ok(reply)),
                Answer::Silence(why) => return Ok(Err(why)),
            }
        }
        Ok(Err(Why::AllInUse))
    }

    fn send(&self, door: &Door, request: &Request, reply: &Reply) {
        let mac = request.mac;
        let destination = reply::destination(request, reply);
        let sent = match reply::encode(request, reply) {
            Ok(packet) => door.send(&packet, destination),
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
            door: events::Door::Dhcp,
            who: request.map_or_else(|| "unknown".to_owned(), |request| request.mac.to_string()),
            what: what.to_owned(),
            why: why.to_string(),
        });
    }
}
