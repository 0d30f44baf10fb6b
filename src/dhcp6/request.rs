//! Bytes to a request that makes sense, or why not.
//!
//! Options are walked here and not by dhcproto: its reader ends silently at the
//! first bad option, and takes what a relay carries always for another relay's
//! message. Pure.

use std::{collections::HashMap, net::Ipv6Addr};

use super::client::{client, pairs};
pub use crate::model::Client;
use crate::model::{Duid, Holder, Mac};

/// What a client asks, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it wants.
    pub kind: Kind,
    /// The client's number for this exchange.
    pub transaction: [u8; 3],
    /// What it calls itself; an Information-request need not say it (RFC 8415
    /// §18.2.6).
    pub client_id: Option<Duid>,
    /// The server that it speaks to; none if to all.
    pub server_id: Option<Vec<u8>>,
    /// Who it is to us; none if nothing tells.
    pub holder: Option<Holder>,
    /// What it wants addresses for, in its order.
    pub associations: Vec<Association>,
    /// What it wants that is not given here.
    pub others: Vec<(Other, u32)>,
    /// What it is.
    pub client: Client,
    /// The codes that it asks for (option 6, RFC 8415 §21.7).
    pub parameters: Vec<u16>,
    /// Its vendor class as sent (option 16), which UEFI wants back.
    pub vendor_class: Option<Vec<u8>>,
    /// By which way it came.
    pub route: Route,
}

/// What a client wants (RFC 8415 §7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Who has an address for me?
    Solicit {
        /// And may I have it at once (option 14)?
        rapid: bool,
    },
    /// The address that this server advertised.
    Request,
    /// Am I still on the link where my addresses are good?
    Confirm,
    /// More time, from this server.
    Renew,
    /// More time, from any server.
    Rebind,
    /// It needs the addresses no more.
    Release,
    /// It found somebody else using the addresses.
    Decline,
    /// Everything but an address.
    Information,
}

/// An identity association for addresses (IA_NA, RFC 8415 §21.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Association {
    /// The client's number for it.
    pub id: u32,
    /// The addresses that the client names in it.
    pub addresses: Vec<Ipv6Addr>,
}

/// Associations that are refused by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// Temporary addresses (IA_TA, RFC 8415 §21.5).
    Temporary,
    /// Prefixes (IA_PD, RFC 8415 §21.21).
    Prefix,
}

/// Whom a packet was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// All servers.
    Group,
    /// Our own address.
    Us,
}

/// By which way a message came, and its answer goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Whom it was sent to, by the client or by the relay next to us.
    pub to: To,
    /// The relays, from us to the client.
    pub relays: Vec<Relay>,
}

/// What one relay says (RFC 8415 §9), and wants back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Relays passed before it.
    pub hops: u8,
    /// An address on the link of its client, or unspecified.
    pub link: Ipv6Addr,
    /// Who it had the message from.
    pub peer: Ipv6Addr,
    /// The interface that it had it by (option 18), to be repeated to the letter.
    pub interface_id: Option<Vec<u8>>,
}

impl Route {
    /// An address on the client's link, as the relay next to it that knows one
    /// says (RFC 8415 §13.1); none if no relay does.
    #[must_use]
    pub fn link(&self) -> Option<Ipv6Addr> {
        self.relays.iter().rev().map(|relay| relay.link).find(|link| !link.is_unspecified())
    }
}

/// Why a packet is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than its header.
    #[error("only {0} bytes")]
    Short(usize),
    /// A message type that clients and relays do not send.
    #[error("message type {0} is none of a client's or a relay's")]
    MessageType(u8),
    /// An option that is longer than what is left.
    #[error("option {0} goes beyond the end")]
    OptionLength(u16),
    /// More relays than a message may pass.
    #[error("it passed more than {MOST_RELAYS} relays")]
    TooManyRelays,
    /// A relay that carries nothing.
    #[error("the relay carries no message")]
    EmptyRelay,
    /// Without a client identifier that could be one (RFC 8415 §16).
    #[error("no client identifier")]
    NoClientId,
    /// Without the server's identifier, where it must be named.
    #[error("it names no server")]
    NoServerId,
    /// With a server's identifier in a message that is for all servers.
    #[error("it is for all servers, and names one")]
    ServerId,
    /// With a wish for an address in an Information-request (RFC 8415 §16.12).
    #[error("it asks for information, and for an address")]
    Association,
}

/// `HOP_COUNT_LIMIT` (RFC 8415 §7.6).
const MOST_RELAYS: usize = 8;

/// Reads a packet that this address has sent.
///
/// # Errors
///
/// [`Malformed`] if it is no request that anybody could answer.
pub fn parse(packet: &[u8], (from, to): (Ipv6Addr, To)) -> Result<Request, Malformed> {
    let mut relays = Vec::new();
    let mut card = None;
    let mut message = packet.to_vec();
    while message.first() == Some(&12) {
        if relays.len() == MOST_RELAYS {
            return Err(Malformed::TooManyRelays);
        }
        let (relay, options) = relay(&message)?;
        relays.push(relay);
        // The innermost relay is the one that hears the client.
        card = options.raw(79).and_then(ethernet);
        message = options.raw(9).ok_or(Malformed::EmptyRelay)?.to_vec();
    }
    let [code, a, b, c, rest @ ..] = message.as_slice() else {
        return Err(Malformed::Short(packet.len()));
    };
    let options = Options::read(rest)?;
    let client_id = options.raw(1).and_then(|bytes| Duid::new(bytes).ok());
    let kind = kind(*code, &options)?;
    let client_address = relays.last().map_or(from, |relay| relay.peer);
    let associations = associations(&options);
    let first = associations.first().map_or(0, |association| association.id);
    let holder = holder(card, client_address, client_id.as_ref().map(|id| (id, first)));
    let request = Request {
        kind,
        transaction: [*a, *b, *c],
        client_id,
        server_id: options.raw(2).map(<[u8]>::to_vec),
        holder,
        associations,
        others: others(&options),
        client: client(options.raw(15), options.raw(16), options.raw(61)),
        parameters: pairs(options.raw(6).unwrap_or_default()),
        vendor_class: options.raw(16).map(<[u8]>::to_vec),
        route: Route { to, relays },
    };
    check(&request).map(|()| request)
}

/// RFC 8415 §16: who must and who must not be named.
fn check(request: &Request) -> Result<(), Malformed> {
    let names_server = request.server_id.is_some();
    match request.kind {
        Kind::Solicit { .. } | Kind::Confirm | Kind::Rebind if names_server => {
            Err(Malformed::ServerId)
        }
        Kind::Request | Kind::Renew | Kind::Release | Kind::Decline if !names_server => {
            Err(Malformed::NoServerId)
        }
        Kind::Information if !request.associations.is_empty() || !request.others.is_empty() => {
            Err(Malformed::Association)
        }
        Kind::Information => Ok(()),
        _ if request.client_id.is_none() => Err(Malformed::NoClientId),
        _ => Ok(()),
    }
}

fn kind(code: u8, options: &Options) -> Result<Kind, Malformed> {
    Ok(match code {
        1 => Kind::Solicit { rapid: options.raw(14).is_some() },
        3 => Kind::Request,
        4 => Kind::Confirm,
        5 => Kind::Renew,
        6 => Kind::Rebind,
        8 => Kind::Release,
        9 => Kind::Decline,
        11 => Kind::Information,
        other => return Err(Malformed::MessageType(other)),
    })
}

/// Type, hops, two addresses, options (RFC 8415 §9).
fn relay(message: &[u8]) -> Result<(Relay, Options), Malformed> {
    let Some((header, rest)) = message.split_at_checked(34) else {
        return Err(Malformed::Short(message.len()));
    };
    let options = Options::read(rest)?;
    let relay = Relay {
        hops: header[1],
        link: address(&header[2..18]).ok_or(Malformed::Short(message.len()))?,
        peer: address(&header[18..34]).ok_or(Malformed::Short(message.len()))?,
        interface_id: options.raw(18).map(<[u8]>::to_vec),
    };
    Ok((relay, options))
}

/// Who a client is. A relay that saw the frame knows its card (RFC 6939); so
/// does the address that firmware, iPXE and Linux make of it. What the DUID says
/// comes last: it is one for the whole machine, and of a machine with two cards
/// may name the other one.
fn holder(card: Option<Mac>, address: Ipv6Addr, client: Option<(&Duid, u32)>) -> Option<Holder> {
    let by_address =
        || Mac::of_interface_identifier(address).filter(|_| address.is_unicast_link_local());
    let mac = card.or_else(by_address).or_else(|| client?.0.card());
    let by_name = || client.map(|(duid, association)| Holder::Client(duid.clone(), association));
    mac.map(Holder::Machine).or_else(by_name)
}

/// Option 79: a hardware type, 1 for Ethernet, and the address (RFC 6939 §4).
fn ethernet(value: &[u8]) -> Option<Mac> {
    let (kind, card) = value.split_at_checked(2)?;
    let mac = Mac::new(card.try_into().ok()?);
    (kind == [0, 1] && mac.is_unicast()).then_some(mac)
}

/// The options of a message by code. Of those that may come several times all
/// are kept, in their order.
struct Options(HashMap<u16, Vec<Vec<u8>>>);

impl Options {
    fn read(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let mut options: HashMap<u16, Vec<Vec<u8>>> = HashMap::new();
        while let [a, b, c, d, rest @ ..] = bytes {
            let code = u16::from_be_bytes([*a, *b]);
            let length = usize::from(u16::from_be_bytes([*c, *d]));
            let (value, rest) =
                rest.split_at_checked(length).ok_or(Malformed::OptionLength(code))?;
            options.entry(code).or_default().push(value.to_vec());
            bytes = rest;
        }
        Ok(Self(options))
    }

    fn all(&self, code: u16) -> impl Iterator<Item = &[u8]> {
        self.0.get(&code).into_iter().flatten().map(Vec::as_slice)
    }

    /// The first one.
    fn raw(&self, code: u16) -> Option<&[u8]> {
        self.all(code).next()
    }
}

fn address(bytes: &[u8]) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = bytes.try_into().ok()?;
    Some(Ipv6Addr::from(octets))
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// Those whose options can be read; addresses that no client has are left out.
fn associations(options: &Options) -> Vec<Association> {
    let association = |value: &[u8]| {
        let inner = Options::read(value.get(12..)?).ok()?;
        let named = inner.all(5).filter_map(|value| address(value.get(..16)?));
        let addresses = named.filter(|named| !named.is_unspecified() && !named.is_multicast());
        Some(Association { id: number(value)?, addresses: addresses.collect() })
    };
    options.all(3).filter_map(association).collect()
}

fn others(options: &Options) -> Vec<(Other, u32)> {
    let of = |code, other| options.all(code).filter_map(move |value| Some((other, number(value)?)));
    of(4, Other::Temporary).chain(of(25, Other::Prefix)).collect()
}

#[cfg(test)]
mod tests;
