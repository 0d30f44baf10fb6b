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
        let index = rustix::net::netdevice::name_to_index(&socket, adapter)?;
        let adapter_index = i32::try_from(index)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "adapter index too large"))?;
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
        self.socket.send_to(&packet, &self.address(card)?)?;
        Ok(())
    }

    fn address(&self, card: Mac) -> io::Result<SockAddr> {
        let mut hardware = [0; 8];
        hardware[..6].copy_from_slice(&card.bytes());
        let link_address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_IP as u16).to_be(),
            sll_ifindex: self.adapter_index,
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
}
