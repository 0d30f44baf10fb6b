//! An answer to a packet. The only writer of dhcproto's IPv6 messages. Pure.

use std::net::Ipv6Addr;

use dhcproto::{
    Encodable, Encoder,
    v6::{
        self, DhcpOption, IAAddr, IANA, IAPD, IATA, MessageType, NtpSuboption, OptionCode,
        StatusCode, UnknownOption,
    },
};

use crate::model::Seconds;

use super::{
    Settings,
    answer::{BootFile, Granted, Reply, ReplyKind, Status},
    client::INTEL,
    request::{Other, Relay, Request},
};

/// What a datagram can hold: 65535 bytes less the header of UDP.
const LARGEST: usize = 65_527;

/// A client that hears the highest preference waits for no other server
/// (RFC 8415 §18.2.1); firmware saves a second so.
const HIGHEST_PREFERENCE: u8 = 255;

/// A reply that cannot be written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unsendable {
    /// Larger than a datagram.
    #[error("the reply has {0} bytes, which no datagram holds")]
    TooLarge(usize),
    /// A part does not fit its field.
    #[error("the reply cannot be encoded: {0}")]
    Encoding(String),
}

/// Who hears the reply, at the address that the request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearer {
    /// The client, on port 546 (RFC 8415 §7.2).
    Client,
    /// A relay, on the port of servers.
    Relay,
}

/// Who hears the answer to this request.
#[must_use]
pub fn hearer(request: &Request) -> Hearer {
    if request.route.relays.is_empty() { Hearer::Client } else { Hearer::Relay }
}

/// The packet that says this.
///
/// # Errors
///
/// [`Unsendable`] if it does not fit.
pub fn encode(
    settings: &Settings,
    request: &Request,
    reply: &Reply,
) -> Result<Vec<u8>, Unsendable> {
    let mut packet = Vec::with_capacity(512);
    message(settings, request, reply)
        .encode(&mut Encoder::new(&mut packet))
        .map_err(|error| Unsendable::Encoding(error.to_string()))?;
    for relay in request.route.relays.iter().rev() {
        packet = relayed(relay, &packet)?;
    }
    if packet.len() > LARGEST {
        return Err(Unsendable::TooLarge(packet.len()));
    }
    Ok(packet)
}

/// The message in a Relay-reply (RFC 8415 §9.2 and §19.3). dhcproto has no way to
/// make one that holds a client's message.
fn relayed(relay: &Relay, message: &[u8]) -> Result<Vec<u8>, Unsendable> {
    let mut packet = vec![13, relay.hops];
    packet.extend_from_slice(&relay.link.octets());
    packet.extend_from_slice(&relay.peer.octets());
    let interface = relay.interface_id.as_deref().map(|id| (18u16, id));
    for (code, value) in interface.into_iter().chain([(9, message)]) {
        let length = u16::try_from(value.len()).map_err(|_| Unsendable::TooLarge(value.len()))?;
        packet.extend_from_slice(&code.to_be_bytes());
        packet.extend_from_slice(&length.to_be_bytes());
        packet.extend_from_slice(value);
    }
    Ok(packet)
}

fn message(settings: &Settings, request: &Request, reply: &Reply) -> v6::Message {
    let kind = match reply.kind {
        ReplyKind::Advertise => MessageType::Advertise,
        ReplyKind::Rapid | ReplyKind::Reply | ReplyKind::Status => MessageType::Reply,
    };
    let mut message = v6::Message::new_with_id(kind, request.transaction);
    let options = message.opts_mut();
    options.insert(DhcpOption::ServerId(settings.server_id.bytes().to_vec()));
    if let Some(client_id) = &request.client_id {
        options.insert(DhcpOption::ClientId(client_id.bytes().to_vec()));
    }
    if reply.kind == ReplyKind::Rapid {
        options.insert(DhcpOption::RapidCommit);
    }
    if let Some(status) = reply.status {
        options.insert(status_code(status));
    }
    for granted in &reply.associations {
        options.insert(DhcpOption::IANA(association(settings.lease_time, granted)));
    }
    for (other, id) in &reply.others {
        options.insert(refused(*other, *id));
    }
    if reply.kind != ReplyKind::Status {
        add_network(&mut message, settings, request);
        add_boot(&mut message, request, reply);
    }
    message
}

fn association(Seconds(lease): Seconds, granted: &Granted) -> IANA {
    let mut opts = v6::DhcpOptions::new();
    let addresses = granted.gone.iter().map(|address| (*address, 0));
    for (address, life) in addresses.chain(granted.address.map(|address| (address, lease))) {
        opts.insert(DhcpOption::IAAddr(IAAddr {
            addr: address,
            preferred_life: life,
            valid_life: life,
            opts: v6::DhcpOptions::new(),
        }));
    }
    if let Some(status) = granted.status {
        opts.insert(status_code(status));
    }
    // RFC 8415 §21.4 recommends a half, and four fifths.
    let (t1, t2) = match granted.address {
        Some(_) => (lease / 2, lease - lease / 5),
        None => (0, 0),
    };
    IANA { id: granted.id, t1, t2, opts }
}

fn refused(other: Other, id: u32) -> DhcpOption {
    let with = |option| {
        let mut opts = v6::DhcpOptions::new();
        opts.insert(option);
        opts
    };
    match other {
        Other::Temporary => {
            DhcpOption::IATA(IATA { id, opts: with(status_code(Status::NoAddressAvailable)) })
        }
        Other::Prefix => {
            let status = v6::Status::NoPrefixAvail;
            let msg = "no prefixes are given here".to_owned();
            let opts = with(DhcpOption::StatusCode(StatusCode { status, msg }));
            DhcpOption::IAPD(IAPD { id, t1: 0, t2: 0, opts })
        }
    }
}

fn status_code(status: Status) -> DhcpOption {
    let (status, words) = match status {
        Status::Success => (v6::Status::Success, ""),
        Status::NoAddressAvailable => (v6::Status::NoAddrsAvail, "no address is free"),
        Status::NoBinding => (v6::Status::NoBinding, "no such address is known"),
        Status::NotOnLink => (v6::Status::NotOnLink, "the address is none of this link"),
        Status::UseMulticast => (v6::Status::UseMulticast, "ask all servers"),
    };
    DhcpOption::StatusCode(StatusCode { status, msg: words.to_owned() })
}

/// What is asked for, or all to who does not say what it wants.
fn add_network(message: &mut v6::Message, settings: &Settings, request: &Request) {
    let is_wanted = |code: u16| request.parameters.is_empty() || request.parameters.contains(&code);
    let options = message.opts_mut();
    if is_wanted(23) && !settings.dns.is_empty() {
        options.insert(DhcpOption::DomainNameServers(settings.dns.clone()));
    }
    if is_wanted(24) && !settings.search.is_empty() {
        options.insert(raw(24, settings.search.iter().flat_map(|name| labels(name)).collect()));
    }
    if is_wanted(56) && !settings.ntp.is_empty() {
        let server = |address: &Ipv6Addr| NtpSuboption::ServerAddress(*address);
        options.insert(DhcpOption::NtpServer(settings.ntp.iter().map(server).collect()));
    }
}

/// A name as DNS writes it, never compressed (RFC 8415 §10): labels with their
/// lengths, the root at the end.
fn labels(name: &str) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        encoded.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        encoded.extend_from_slice(label.as_bytes());
    }
    encoded.push(0);
    encoded
}

fn add_boot(message: &mut v6::Message, request: &Request, reply: &Reply) {
    let Ok(boot) = &reply.boot else { return };
    let options = message.opts_mut();
    options.insert(raw(59, boot.url().as_bytes().to_vec()));
    if reply.kind == ReplyKind::Advertise {
        options.insert(DhcpOption::Preference(HIGHEST_PREFERENCE));
    }
    match boot {
        // UEFI HTTP Boot takes only what answers in its class (UEFI 2.10 §24.7.2).
        BootFile::ProgramUrl(_) => options.insert(raw(16, http_class(request))),
        // An answer in the class of PXE is taken for that of a boot server, which is
        // then looked for on port 4011: "PXE-E16: No valid offer received".
        BootFile::Program(_) | BootFile::Script(_) => {}
    }
}

/// The client's own class, or the bare name of it.
fn http_class(request: &Request) -> Vec<u8> {
    const NAME: &[u8] = b"HTTPClient";
    match &request.vendor_class {
        Some(class) if class.starts_with(&INTEL) => class.clone(),
        Some(_) | None => [&INTEL[..], &[0, NAME.len() as u8], NAME].concat(),
    }
}

fn raw(code: u16, value: Vec<u8>) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), value))
}

#[cfg(test)]
mod tests;
