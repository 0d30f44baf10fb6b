//! An answer to a packet and a destination. The only writer of dhcproto. Pure.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::{
    Encodable, Encoder,
    v4::{self, Opcode},
};

use crate::model::Mac;

use super::{
    answer::{BootFile, Reply, ReplyKind},
    layout::{self, FILE, Layout, SNAME, Space},
    options,
    request::{Client, Request},
};

/// BOOTP's shortest packet; some clients drop what is shorter (RFC 1542 §2.1).
const SHORTEST: usize = 300;

/// IP and UDP headers, which option 57 counts (RFC 2132 §9.10).
const HEADERS: usize = 28;

/// UEFI says that it takes 65280 bytes, but firmware seldom puts fragments together.
const LARGEST: u16 = 1500;

/// Where the fields of a packet begin (RFC 2131 §2); options after their cookie.
const SNAME_FIELD: usize = 44;
const FILE_FIELD: usize = 108;
const OPTIONS_FIELD: usize = 240;

/// Where a packet goes (RFC 2131 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To the relay, on the server's port.
    Relay(Ipv4Addr),
    /// To an address that answers ARP.
    Unicast(Ipv4Addr),
    /// To all on the link.
    Broadcast,
    /// To the port that was asked from, from the port of boot servers.
    Port(SocketAddrV4),
    /// To a card that has not yet the address that it is told: no ARP finds it.
    Hardware(Mac, Ipv4Addr),
}

/// A reply does not fit into a packet that the client takes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unsendable {
    /// Larger than the client's option 57 allows.
    #[error("the reply has {size} bytes, the client takes {largest}")]
    TooLarge {
        /// With IP and UDP headers.
        size: usize,
        /// Option 57.
        largest: u16,
    },
    /// A part does not fit its field.
    #[error("the reply cannot be encoded: {0}")]
    Encoding(String),
}

/// The packet that says this.
///
/// # Errors
///
/// [`Unsendable`] if it does not fit.
pub fn encode(request: &Request, reply: &Reply) -> Result<Vec<u8>, Unsendable> {
    let mut packet = Vec::with_capacity(512);
    header(request, reply)
        .encode(&mut Encoder::new(&mut packet))
        .map_err(|error| Unsendable::Encoding(error.to_string()))?;
    packet.truncate(OPTIONS_FIELD);
    // Option 82 goes last and to the letter (RFC 3046 §2.2).
    let mut last = Vec::new();
    if let Some(information) = &request.route.relay_information {
        layout::append(&mut last, 82, information);
    }
    last.push(255);
    let largest = request.route.largest.min(LARGEST);
    let taken = HEADERS + OPTIONS_FIELD + last.len();
    let space = Space {
        options: usize::from(largest).saturating_sub(taken),
        overload: request.client == Client::Host,
    };
    let Layout { options, file, sname } = layout::fit(options::of(request, reply), space)
        .map_err(|size| Unsendable::TooLarge { size: size + taken, largest })?;
    overload(&mut packet[FILE_FIELD..][..FILE], &file);
    overload(&mut packet[SNAME_FIELD..][..SNAME], &sname);
    packet.extend(options);
    packet.extend(last);
    packet.resize(packet.len().max(SHORTEST), 0);
    Ok(packet)
}

/// Writes options to a field that is for something else (RFC 2132 §9.3).
fn overload(field: &mut [u8], options: &[u8]) {
    if options.is_empty() {
        return;
    }
    // The layout has left room for the end mark.
    let (held, rest) = field.split_at_mut(options.len());
    held.copy_from_slice(options);
    rest.fill(0);
    if let Some(end) = rest.first_mut() {
        *end = 255;
    }
}

/// Where the packet goes.
#[must_use]
pub fn destination(request: &Request, reply: &Reply) -> Destination {
    let route = &request.route;
    if let ReplyKind::ProxyAcknowledge(asker) = reply.kind {
        return Destination::Port(asker);
    }
    if !route.giaddr.is_unspecified() {
        return Destination::Relay(route.giaddr);
    }
    let yiaddr = match reply.kind {
        ReplyKind::Refuse => return Destination::Broadcast,
        ReplyKind::Inform => return Destination::Unicast(route.ciaddr),
        ReplyKind::Offer(address) | ReplyKind::Acknowledge(address) => address,
        // Whatever address it gets, it takes what comes for all, and the frame comes
        // to its card alone.
        ReplyKind::ProxyOffer(_) | ReplyKind::ProxyBeside | ReplyKind::ProxyAcknowledge(_) => {
            Ipv4Addr::BROADCAST
        }
    };
    if !route.ciaddr.is_unspecified() {
        return Destination::Unicast(route.ciaddr);
    }
    if route.broadcast {
        return Destination::Broadcast;
    }
    Destination::Hardware(request.mac, yiaddr)
}

/// All but the options.
fn header(request: &Request, reply: &Reply) -> v4::Message {
    let route = &request.route;
    let yiaddr = reply.kind.yiaddr().unwrap_or(Ipv4Addr::UNSPECIFIED);
    let is_refusal = reply.kind == ReplyKind::Refuse;
    // RFC 2131 table 3: an ACK repeats ciaddr, an OFFER and a NAK do not.
    let ciaddr = match reply.kind {
        ReplyKind::Acknowledge(_) | ReplyKind::Inform | ReplyKind::ProxyAcknowledge(_) => {
            route.ciaddr
        }
        ReplyKind::Offer(_)
        | ReplyKind::Refuse
        | ReplyKind::ProxyOffer(_)
        | ReplyKind::ProxyBeside => Ipv4Addr::UNSPECIFIED,
    };
    let boot = reply.boot.as_ref().ok().filter(|_| !is_refusal);
    let siaddr = match boot {
        Some(BootFile::Program { server, .. }) => *server,
        Some(BootFile::ProgramUrl(_) | BootFile::Script(_)) => reply.subnet.server,
        None => Ipv4Addr::UNSPECIFIED,
    };
    let mut message = v4::Message::default();
    // RFC 2131 §4.1: a relay must broadcast a NAK, since the client may believe
    // in another address.
    let broadcast = route.broadcast || (is_refusal && !route.giaddr.is_unspecified());
    let flags = if broadcast { v4::Flags::default().set_broadcast() } else { v4::Flags::default() };
    message
        .set_opcode(Opcode::BootReply)
        .set_xid(route.transaction)
        .set_flags(flags)
        .set_ciaddr(ciaddr)
        .set_yiaddr(yiaddr)
        .set_siaddr(siaddr)
        .set_giaddr(route.giaddr)
        .set_chaddr(&request.mac.bytes());
    // Both forms work everywhere, and each is the only one for somebody. The
    // field must keep its ending zero.
    if let Some(name) = boot.map(BootFile::name).filter(|name| name.len() < FILE) {
        message.set_fname(name.as_bytes());
    }
    message
}

#[cfg(test)]
mod tests;
