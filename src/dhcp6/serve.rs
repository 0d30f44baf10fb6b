//! The sockets of DHCPv6: receive, decide, send. Holds no opinion.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::Arc,
    time::SystemTime,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    boot,
    events::{self, Refused},
    files::Loaders,
    model::{Holder, Timestamp},
    store::Store,
};

use super::{
    Settings,
    answer::{self, Answer, NoBootFile, Reply, ReplyKind, Why},
    reply::{self, Hearer},
    request::{self, Client, Kind, Request, To},
};

/// Where clients and relays on the link look for servers (RFC 8415 §7.1).
const ALL_SERVERS_AND_RELAYS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// Where relays look for servers of their site.
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);

/// Requests worked on at once; over it they are dropped, and clients ask again.
const AT_ONCE: usize = 2048;

/// Room for a crowd that is switched on at once.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The sockets, bound.
#[derive(Debug)]
pub struct Sockets {
    /// Receives what is sent to our own address, by relays.
    own: UdpSocket,
    /// Receives what clients send to all servers. What leaves from here has the
    /// adapter's link-local address when it goes to one.
    link: UdpSocket,
    /// Receives what relays send to all servers.
    site: UdpSocket,
    /// The port of the server; the client's is the one before it (RFC 8415 §7.2:
    /// 547 and 546).
    port: u16,
}

impl Sockets {
    /// Binds on one adapter.
    ///
    /// # Errors
    ///
    /// What the system says: the port is in use, the right to it is missing, the
    /// address is not yet ours (duplicate address detection runs).
    pub fn bind(adapter: &str, server: Ipv6Addr, port: u16) -> io::Result<Self> {
        let own = socket(adapter)?;
        let index = rustix::net::netdevice::name_to_index(&own, adapter)?;
        let scope = if server.is_unicast_link_local() { index } else { 0 };
        own.bind(&SocketAddrV6::new(server, port, 0, scope).into())?;
        let own = UdpSocket::from_std(own.into())?;
        let port = own.local_addr()?.port();
        let group = |group: Ipv6Addr| {
            let socket = socket(adapter)?;
            // Bound to the group, so that what was sent to it is told from the rest.
            socket.bind(&SocketAddrV6::new(group, port, 0, index).into())?;
            socket.join_multicast_v6(&group, index)?;
            UdpSocket::from_std(socket.into())
        };
        Ok(Self { own, link: group(ALL_SERVERS_AND_RELAYS)?, site: group(ALL_SERVERS)?, port })
    }

    /// The port that was bound.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    fn send(&self, packet: &[u8], (peer, request): (SocketAddrV6, &Request)) -> io::Result<()> {
        let mut target = peer;
        target.set_port(match reply::hearer(request) {
            Hearer::Client => self.port.saturating_sub(1),
            Hearer::Relay => self.port,
        });
        let socket = match request.route.to {
            To::Us => &self.own,
            To::Group => &self.link,
        };
        socket.try_send_to(packet, target.into()).map(|_| ())
    }
}

/// A socket that is not yet bound, but to its adapter.
fn socket(adapter: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
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
    let mut buffers = [vec![0; 1 << 16], vec![0; 1 << 16], vec![0; 1 << 16]];
    loop {
        let [own, link, site] = &mut buffers;
        let (received, to, buffer) = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            received = room.sockets.link.recv_from(link) => (received, To::Group, &*link),
            received = room.sockets.own.recv_from(own) => (received, To::Us, &*own),
            received = room.sockets.site.recv_from(site) => (received, To::Group, &*site),
        };
        let (packet, peer) = match received {
            Ok((length, SocketAddr::V6(peer))) => (&buffer[..length], peer),
            Ok((_, SocketAddr::V4(_))) => continue,
            // An ICMP error for an earlier packet of ours arrives so.
            Err(error) => {
                debug!(%error, "receiving failed");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let request = match request::parse(packet, (*peer.ip(), to)) {
            Ok(request) => request,
            Err(reason) => {
                debug!(from = %peer.ip(), %reason, "dropped");
                room.refused(None, peer, ("a packet", reason));
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            debug!(from = %peer.ip(), "dropped: too many at once");
            let why = "there are too many requests at once";
            room.refused(Some(&request), peer, ("an answer", why));
            continue;
        };
        let room = Arc::clone(&room);
        tokio::spawn(async move {
            room.converse(&request, peer).await;
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
    async fn converse(&self, request: &Request, peer: SocketAddrV6) {
        let catalogue = self.loaders.catalogue();
        let now = Timestamp::from(SystemTime::now());
        let begins = matches!(
            (request.kind, request.client),
            (Kind::Solicit { .. }, Client::Firmware { .. })
        );
        if let Some(mac) =
            request.holder.as_ref().and_then(|holder| holder.machine()).filter(|_| begins)
        {
            let silent = self.store.look(|state| boot::silent_loader(state, mac));
            silent.into_iter().for_each(|what| warn!(%mac, "{what}"));
        }
        let decided = self
            .store
            .decide(|state| answer::answer(state, (&self.settings, &catalogue), request, now))
            .await;
        let (from, kind) = (peer.ip(), request.kind);
        let client = request.holder.as_ref().map(tracing::field::debug);
        match decided {
            Ok(Answer::Reply(reply)) => self.send(request, &reply, peer),
            Ok(Answer::Silence(why @ Why::NoRange)) if request.client != Client::Host => {
                warn!(client, %from, is = ?request.client, %why, "not answered");
                self.refused(Some(request), peer, ("an address", why));
            }
            Ok(Answer::Silence(why)) => {
                debug!(client, %from, ?kind, %why, "not answered");
                self.refused(Some(request), peer, ("an answer", why));
            }
            Err(error) => warn!(client, %from, %error, "not answered"),
        }
    }

    fn send(&self, request: &Request, reply: &Reply, peer: SocketAddrV6) {
        let (from, kind) = (peer.ip(), request.kind);
        let client = request.holder.as_ref().map(tracing::field::debug);
        let sent = match reply::encode(&self.settings, request, reply) {
            Ok(packet) => self.sockets.send(&packet, (peer, request)),
            Err(error) => return warn!(client, %from, %error, "not answered"),
        };
        let addresses: Vec<Ipv6Addr> =
            reply.associations.iter().filter_map(|granted| granted.address).collect();
        let wants_address = !request.associations.is_empty() && reply.kind != ReplyKind::Status;
        let status = reply.associations.iter().find_map(|granted| granted.status).or(reply.status);
        if let Some(remark) = &reply.remark {
            warn!(client, %from, "{remark}");
        }
        match (sent, &reply.boot) {
            (Err(error), _) => warn!(client, %from, %error, "the answer could not be sent"),
            (Ok(()), _) if wants_address && addresses.is_empty() => {
                warn!(client, %from, ?kind, ?status, "no address for it");
                let why =
                    status.map_or_else(|| "none is free".to_owned(), |status| status.to_string());
                self.refused(Some(request), peer, ("an address", why));
            }
            (Ok(()), Ok(boot)) => {
                info!(client, %from, ?kind, is = ?request.client, ?addresses, ?boot);
            }
            (Ok(()), Err(NoBootFile::Host | NoBootFile::OwnDisk)) => {
                info!(client, %from, ?kind, ?addresses, ?status);
            }
            (Ok(()), Err(why @ NoBootFile::Ignored)) => {
                debug!(client, %from, ?kind, ?addresses, %why);
            }
            (Ok(()), Err(why)) => {
                warn!(client, %from, ?kind, is = ?request.client, ?addresses, %why, "nothing to boot");
                self.refused(Some(request), peer, ("a boot program", why));
            }
        }
    }

    /// Tells that a client gets nothing, or not what it asked for: a machine by its
    /// MAC, another client by its DUID; else who sent the packet.
    fn refused(
        &self,
        request: Option<&Request>,
        peer: SocketAddrV6,
        (what, why): (&str, impl ToString),
    ) {
        self.store.events().refused(|| Refused {
            door: events::Door::Dhcp6,
            who: match request.and_then(|request| request.holder.as_ref()) {
                Some(Holder::Machine(mac)) => mac.to_string(),
                Some(Holder::Client(duid, _)) => duid.to_string(),
                None => peer.ip().to_string(),
            },
            what: what.to_owned(),
            why: why.to_string(),
        });
    }
}
