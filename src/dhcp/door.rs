//! The sockets of one network of ours: what is heard there, and by which way an
//! answer leaves. Holds no opinion.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
};

use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::{debug, info};

use super::{link::Link, reply::Destination};

/// Room for a crowd that is switched on at once: UEFI waits 8 s more when its
/// first DISCOVER is lost.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Where requests come in, and their answers leave.
#[derive(Debug)]
pub(super) struct Door {
    /// Receives what is sent to our own address, and sends everything: what
    /// leaves from here has the right source address.
    own: UdpSocket,
    /// Receives broadcasts on the adapter; none where only relays are heard.
    pub(super) any: Option<UdpSocket>,
    /// A proxy's, on the port of boot servers.
    pub(super) boot: Option<UdpSocket>,
    /// Reaches cards without an address; without the right to that, by broadcast.
    link: Option<Link>,
    pub(super) address: Ipv4Addr,
    /// The port of the server; the client's is the next one (RFC 2131 §4.1: 67
    /// and 68).
    port: u16,
}

impl Door {
    /// `is_shared` says that another door of ours has this address and port.
    pub(super) fn bind(
        adapter: Option<&str>,
        address: Ipv4Addr,
        (port, is_shared): (u16, bool),
    ) -> io::Result<Self> {
        // Once it is bound, it shares its port with the others.
        let own = socket(adapter)?;
        own.set_reuse_address(is_shared)?;
        own.bind(&SocketAddr::from((address, port)).into())?;
        own.set_reuse_address(true)?;
        let own = UdpSocket::from(own);
        let Some(adapter) = adapter else {
            return Ok(Self { own, any: None, boot: None, link: None, address, port });
        };
        let any = socket(Some(adapter))?;
        any.set_reuse_address(true)?;
        any.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        let any = Some(UdpSocket::from(any));
        let link = match Link::open(adapter) {
            Ok(link) => Some(link),
            Err(error) => {
                info!(%error, "no packet socket: machines without an address are answered by broadcast");
                None
            }
        };
        Ok(Self { own, any, boot: None, link, address, port })
    }

    pub(super) fn ear(&self, ear: Ear) -> Option<&UdpSocket> {
        match ear {
            Ear::Own => Some(&self.own),
            Ear::Any => self.any.as_ref(),
            Ear::Boot => self.boot.as_ref(),
        }
    }

    /// Our own address, if the door is on a link.
    pub(super) fn on_link(&self) -> Option<Ipv4Addr> {
        self.any.as_ref().map(|_| self.address)
    }

    pub(super) fn send(&self, packet: &[u8], destination: Destination) -> io::Result<()> {
        let client_port = self.port.saturating_add(1);
        let to = |address, port| SocketAddr::from(SocketAddrV4::new(address, port));
        let broadcast = to(Ipv4Addr::BROADCAST, client_port);
        let target = match (destination, &self.link) {
            (Destination::Port(asker), _) => {
                let boot = self.boot.as_ref().unwrap_or(&self.own);
                return boot.send_to(packet, asker).map(|_| ());
            }
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
        self.own.send_to(packet, target).map(|_| ())
    }
}

/// By which of its sockets a door hears.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ear {
    Own,
    Any,
    Boot,
}

pub(super) fn boot_server(
    adapter: Option<&str>,
    address: Ipv4Addr,
    port: u16,
) -> io::Result<UdpSocket> {
    let boot = socket(adapter)?;
    boot.bind(&SocketAddr::from((address, port)).into())?;
    Ok(boot.into())
}

/// A socket that is not yet bound, but to its adapter.
pub(super) fn socket(adapter: Option<&str>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    socket.bind_device(adapter.map(str::as_bytes))?;
    // Over what others may have it needs a capability; else the system gives less.
    if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
        let _less = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
    Ok(socket)
}
