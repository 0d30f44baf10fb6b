//! An answer to a packet and a destination. The only writer of dhcproto. Pure.

use std::net::Ipv4Addr;

use dhcproto::{
    Encodable, Encoder,
    v4::{self, DhcpOption, MessageType, Opcode, OptionCode, UnknownOption},
};

use crate::model::{LeaseTimes, Mac};

use super::{
    answer::{BootFile, Reply, ReplyKind},
    request::Request,
};

/// BOOTP's shortest packet; some clients drop what is shorter (RFC 1542 §2.1).
const SHORTEST: usize = 300;

/// The `file` field with its ending zero (RFC 2131 §2).
const FILE_FIELD: usize = 128;

/// IP and UDP headers, which option 57 counts (RFC 2132 §9.10).
const HEADERS: usize = 28;

/// "Use the boot file named here, ask no boot server" (PXE 2.1 §2.2.4: option
/// 43, suboption 6 `PXE_DISCOVERY_CONTROL` with bit 3). Without it UEFI takes
/// option 60 `PXEClient` for "ask port 4011", and fails where nothing answers;
/// with it the plain ROM does not wait four seconds for a proxyDHCP server.
const DISCOVERY_CONTROL: [u8; 4] = [6, 1, 8, 255];

/// iPXE's suboption 176 of option 175, "no proxyDHCP will come": it saves the
/// three seconds that iPXE waits for one.
const NO_PROXY_DHCP: [u8; 3] = [176, 1, 1];

/// Where a packet goes (RFC 2131 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To the relay, on the server's port.
    Relay(Ipv4Addr),
    /// To an address that answers ARP.
    Unicast(Ipv4Addr),
    /// To all on the link.
    Broadcast,
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
    message(request, reply)
        .encode(&mut Encoder::new(&mut packet))
        .map_err(|error| Unsendable::Encoding(error.to_string()))?;
    if let Some(information) = &request.route.relay_information {
        append_relay_information(&mut packet, information);
    }
    let size = packet.len() + HEADERS;
    if size > usize::from(request.route.largest) {
        return Err(Unsendable::TooLarge { size, largest: request.route.largest });
    }
    packet.resize(packet.len().max(SHORTEST), 0);
    Ok(packet)
}

/// Where the packet goes.
#[must_use]
pub fn destination(request: &Request, reply: &Reply) -> Destination {
    let route = &request.route;
    if !route.giaddr.is_unspecified() {
        return Destination::Relay(route.giaddr);
    }
    let yiaddr = match reply.kind {
        ReplyKind::Refuse => return Destination::Broadcast,
        ReplyKind::Inform => return Destination::Unicast(route.ciaddr),
        ReplyKind::Offer(address) | ReplyKind::Acknowledge(address) => address,
    };
    if !route.ciaddr.is_unspecified() {
        return Destination::Unicast(route.ciaddr);
    }
    if route.broadcast {
        return Destination::Broadcast;
    }
    Destination::Hardware(request.mac, yiaddr)
}

fn message(request: &Request, reply: &Reply) -> v4::Message {
    let route = &request.route;
    let (kind, yiaddr) = match reply.kind {
        ReplyKind::Offer(address) => (MessageType::Offer, address),
        ReplyKind::Acknowledge(address) => (MessageType::Ack, address),
        ReplyKind::Inform => (MessageType::Ack, Ipv4Addr::UNSPECIFIED),
        ReplyKind::Refuse => (MessageType::Nak, Ipv4Addr::UNSPECIFIED),
    };
    let is_refusal = reply.kind == ReplyKind::Refuse;
    // RFC 2131 table 3: an ACK repeats ciaddr, an OFFER and a NAK do not.
    let ciaddr = match reply.kind {
        ReplyKind::Acknowledge(_) | ReplyKind::Inform => route.ciaddr,
        ReplyKind::Offer(_) | ReplyKind::Refuse => Ipv4Addr::UNSPECIFIED,
    };
    let siaddr = match &reply.boot {
        Ok(_) if is_refusal => Ipv4Addr::UNSPECIFIED,
        Ok(BootFile::Program { server, .. }) => *server,
        Ok(BootFile::ProgramUrl(_) | BootFile::Script(_)) => reply.subnet.server,
        Err(_) => Ipv4Addr::UNSPECIFIED,
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
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(reply.server));
    if is_refusal {
        return message;
    }
    add_network(&mut message, reply);
    add_boot(&mut message, request, reply);
    message
}

fn add_network(message: &mut v4::Message, reply: &Reply) {
    let subnet = &reply.subnet;
    let options = message.opts_mut();
    options.insert(DhcpOption::SubnetMask(subnet.network.netmask()));
    options.insert(DhcpOption::BroadcastAddr(subnet.network.broadcast()));
    options.insert(DhcpOption::Router(vec![subnet.gateway]));
    if !subnet.dns.is_empty() {
        options.insert(DhcpOption::DomainNameServer(subnet.dns.clone()));
    }
    if let Some(hostname) = &reply.hostname {
        options.insert(DhcpOption::Hostname(hostname.as_str().to_owned()));
    }
    if matches!(reply.kind, ReplyKind::Offer(_) | ReplyKind::Acknowledge(_)) {
        let LeaseTimes { renew, rebind, lease } = subnet.times;
        options.insert(DhcpOption::AddressLeaseTime(lease.0));
        options.insert(DhcpOption::Renewal(renew.0));
        options.insert(DhcpOption::Rebinding(rebind.0));
    }
}

fn add_boot(message: &mut v4::Message, request: &Request, reply: &Reply) {
    let Ok(boot) = &reply.boot else { return };
    let name = match boot {
        BootFile::Program { name, .. } => name,
        BootFile::ProgramUrl(url) | BootFile::Script(url) => url,
    };
    // Both forms work everywhere, and each is the only one for somebody. The
    // field must keep its ending zero.
    if name.len() < FILE_FIELD {
        message.set_fname(name.as_bytes());
    }
    let options = message.opts_mut();
    let mut raw = |code: u8, value: &[u8]| {
        let option =
            DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), value.to_vec()));
        options.insert(option);
    };
    raw(67, name.as_bytes());
    match boot {
        BootFile::Program { .. } => {
            raw(60, b"PXEClient");
            raw(43, &DISCOVERY_CONTROL);
        }
        // UEFI HTTP Boot takes only what calls itself so (UEFI 2.10 §24.7.2).
        BootFile::ProgramUrl(_) => raw(60, b"HTTPClient"),
        BootFile::Script(_) => raw(175, &NO_PROXY_DHCP),
    }
    // RFC 4578 §2.3: a PXE client's identifier comes back.
    if let (BootFile::Program { .. }, Some(identifier)) = (boot, &request.machine_identifier) {
        raw(97, identifier);
    }
}

/// Option 82 goes last and to the letter (RFC 3046 §2.2); dhcproto would sort
/// its parts.
fn append_relay_information(packet: &mut Vec<u8>, information: &[u8]) {
    if packet.last() == Some(&255) {
        packet.pop();
    }
    // RFC 3396: what is longer than 255 bytes came in pieces, and goes so. What is
    // empty came as one piece, and is repeated, too.
    let whole = std::iter::once(information).filter(|information| information.is_empty());
    for piece in whole.chain(information.chunks(255)) {
        let length = u8::try_from(piece.len()).expect("a piece has 255 bytes at most");
        packet.extend_from_slice(&[82, length]);
        packet.extend_from_slice(piece);
    }
    packet.push(255);
}

#[cfg(test)]
mod tests;
