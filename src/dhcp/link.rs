//! Packets to a card that has no address yet: no ARP would find it, so the
//! frame is addressed by hand (RFC 2131 §4.1).
//!
//! The only unsafe code of the crate: a `sockaddr_ll` has no safe constructor
//! in the libraries at hand.
#![allow(unsafe_code)]

use std::{io, net::SocketAddrV4};

use etherparse::PacketBuilder;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::model::Mac;

/// Routers passed at most; the card is on this link.
const TIME_TO_LIVE: u8 = 64;

/// The hardware address of all cards on a link.
pub(super) const ALL_CARDS: [u8; 6] = [0xff; 6];

/// The EtherTypes of IPv4 and ARP (IANA "ETHER TYPES").
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;

/// A packet socket that hears and speaks ARP on one adapter, its card, and the
/// address of all cards there.
///
/// # Errors
///
/// What the system says; without `CAP_NET_RAW` that it is not permitted.
pub(super) fn arp_socket(adapter: &str) -> io::Result<(Socket, [u8; 6], SockAddr)> {
    // Nothing is received before it is bound, or it would be of all adapters.
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
    socket.set_nonblocking(true)?;
    let all_cards = hardware_address(index_of(&socket, adapter)?, ARP, ALL_CARDS)?;
    socket.bind(&all_cards)?;
    let card = card_of(&socket)?;
    Ok((socket, card, all_cards))
}

/// The card of the adapter that a packet socket is bound to. (/sys has the adapters
/// of the network namespace that it was mounted in.)
fn card_of(socket: &Socket) -> io::Result<[u8; 6]> {
    let mut storage = socket.local_addr()?.as_storage();
    // SAFETY: the local address of a packet socket is a `sockaddr_ll` (packet(7)),
    // and every pattern of bits is one.
    let address: &mut libc::sockaddr_ll = unsafe { storage.view_as() };
    let [a, b, c, d, e, f, ..] = address.sll_addr;
    Ok([a, b, c, d, e, f])
}

fn index_of(socket: &Socket, adapter: &str) -> io::Result<i32> {
    let index = rustix::net::netdevice::name_to_index(socket, adapter)?;
    i32::try_from(index)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "adapter index too large"))
}

/// A packet socket that sends on one adapter and receives nothing.
#[derive(Debug)]
pub(super) struct Link {
    socket: Socket,
    adapter_index: i32,
}

impl Link {
    /// A way to send on this adapter.
    ///
    /// # Errors
    ///
    /// What the system says; without `CAP_NET_RAW` that it is not permitted.
    pub(super) fn open(adapter: &str) -> io::Result<Self> {
        // Protocol zero: nothing is received.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        let adapter_index = index_of(&socket, adapter)?;
        Ok(Self { socket, adapter_index })
    }

    /// Sends a UDP packet to the card.
    ///
    /// # Errors
    ///
    /// What the system says, such as that the adapter is down.
    pub(super) fn send(
        &self,
        payload: &[u8],
        (from, to): (SocketAddrV4, SocketAddrV4),
        card: Mac,
    ) -> io::Result<()> {
        let builder = PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), TIME_TO_LIVE)
            .udp(from.port(), to.port());
        let mut packet = Vec::with_capacity(builder.size(payload.len()));
        builder.write(&mut packet, payload).map_err(io::Error::other)?;
        let card = hardware_address(self.adapter_index, IPV4, card.bytes())?;
        self.socket.send_to(&packet, &card)?;
        Ok(())
    }
}

/// A card on the link of an adapter, for packets of one EtherType (packet(7)).
fn hardware_address(adapter_index: i32, kind: u16, card: [u8; 6]) -> io::Result<SockAddr> {
    let mut hardware = [0; 8];
    hardware[..6].copy_from_slice(&card);
    let link_address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: kind.to_be(),
        sll_ifindex: adapter_index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: hardware,
    };
    // SAFETY: `storage` is a writable `sockaddr_storage`, which is at least as
    // large and as strictly aligned as every socket address, `sockaddr_ll`
    // among them, by its definition (POSIX <sys/socket.h>). The length that
    // is reported is that of what was written, and its family says so.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            storage.cast::<libc::sockaddr_ll>().write(link_address);
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    Ok(address)
}
