//! Bytes to a request that makes sense, or why not.
//!
//! The only reader of dhcproto: it walks the options, their meaning is read
//! here, since one bad option must not hide the others. Pure.

use std::{fmt::Write as _, net::Ipv4Addr, ops::Range};

use dhcproto::v4::{HType, Opcode, borrowed};

pub use crate::model::Client;
use crate::model::{BootWay, Firmware, IpxeFeatures, Mac, Port, is_genuine_uuid};

/// What a client asks, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it wants.
    pub kind: Kind,
    /// The card that it asks with.
    pub mac: Mac,
    /// What it is.
    pub client: Client,
    /// What it can do, if it is iPXE and says so (option 175).
    pub features: IpxeFeatures,
    /// What an answer repeats, and where it goes.
    pub route: Route,
    /// Its SMBIOS UUID (option 97, type 0, RFC 4578 §2.3), as text.
    pub uuid: Option<String>,
    /// Option 97 as sent; PXE wants it back.
    pub machine_identifier: Option<Vec<u8>>,
    /// The codes that it asks for (option 55, RFC 2132 §9.8).
    pub parameters: Vec<u8>,
}

/// What a client wants (RFC 2131 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any address, if possible this one.
    Discover {
        /// Option 50.
        wanted: Option<Ipv4Addr>,
    },
    /// The address that this server offered (SELECTING).
    Select {
        /// Option 54.
        server: Ipv4Addr,
        /// Option 50.
        address: Ipv4Addr,
    },
    /// The address that it had before it was restarted (INIT-REBOOT).
    Reboot {
        /// Option 50.
        address: Ipv4Addr,
    },
    /// More time for the address that it has (RENEWING, REBINDING).
    Extend {
        /// `ciaddr`.
        address: Ipv4Addr,
    },
    /// It found somebody else using the address.
    Decline {
        /// Option 54.
        server: Option<Ipv4Addr>,
        /// Option 50.
        address: Ipv4Addr,
    },
    /// It needs the address no more.
    Release {
        /// Option 54.
        server: Option<Ipv4Addr>,
        /// `ciaddr`.
        address: Ipv4Addr,
    },
    /// Everything but an address.
    Inform {
        /// `ciaddr`.
        address: Ipv4Addr,
    },
}

/// What an answer repeats from the request, and by which way it goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `xid`: the client's number for this exchange.
    pub transaction: u32,
    /// The broadcast flag: the client can't take unicasts yet (RFC 2131 §4.1).
    pub broadcast: bool,
    /// `secs` as sent.
    pub seconds: u16,
    /// The address that the client has; zero if none.
    pub ciaddr: Ipv4Addr,
    /// The relay's address on the client's network; zero without relay.
    pub giaddr: Ipv4Addr,
    /// Relays passed.
    pub hops: u8,
    /// Option 82 as the relay sent it (RFC 3046), to be repeated to the letter.
    pub relay_information: Option<Vec<u8>>,
    /// An address of the network that the client is on, where the relay's own
    /// address is on another one (option 82, suboption 5: RFC 3527).
    pub link_selection: Option<Ipv4Addr>,
    /// The address that the relay wants to be taken for the server's, so that
    /// renewals come by it, too (option 82, suboption 11: RFC 5107).
    pub server_override: Option<Ipv4Addr>,
    /// The network that the client asks for an address of (option 118: RFC
    /// 3011), to be repeated.
    pub subnet_selection: Option<Ipv4Addr>,
    /// How the client calls itself (option 61), to be repeated (RFC 6842).
    pub client_identifier: Option<Vec<u8>>,
    /// The largest packet that the client takes (option 57), 576 at least.
    pub largest: u16,
}

impl Request {
    /// The port that a relay or switch says it came in by. A switch that looks into
    /// packets puts it in without being a relay (RFC 3046 §2.1).
    #[must_use]
    pub fn port(&self) -> Option<Port> {
        Port::of_relay_information(self.route.relay_information.as_deref()?)
    }
}

/// Why a packet is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than the fixed fields.
    #[error("only {0} bytes")]
    Short(usize),
    /// Sent by a server.
    #[error("no request")]
    NotARequest,
    /// Another network than Ethernet (hardware type 1, six bytes).
    #[error("hardware type {kind} with {length} bytes is not Ethernet")]
    NotEthernet {
        /// `htype`.
        kind: u8,
        /// `hlen`.
        length: u8,
    },
    /// No machine's hardware address.
    #[error("{0} is no machine's address")]
    NoMachine(Mac),
    /// Without the magic cookie (RFC 2131 §3) or option 53: BOOTP, or noise.
    #[error("no message type: BOOTP, or noise")]
    NoMessageType,
    /// A message type that clients do not send.
    #[error("message type {0} is none of a client's")]
    MessageType(u8),
    /// A REQUEST, DECLINE or RELEASE that does not say which address.
    #[error("no address in it")]
    NoAddress,
}

/// Reads a packet.
///
/// # Errors
///
/// [`Malformed`] if it is no request that anybody could answer.
pub fn parse(packet: &[u8]) -> Result<Request, Malformed> {
    let message = borrowed::Message::new(packet).map_err(|_| Malformed::Short(packet.len()))?;
    if message.opcode() != Opcode::BootRequest {
        return Err(Malformed::NotARequest);
    }
    // `chaddr()` slices by `hlen`, and `hlen` is the sender's word: check it first.
    if message.htype() != HType::Eth || message.hlen() != 6 {
        return Err(Malformed::NotEthernet { kind: packet[1], length: message.hlen() });
    }
    let bytes: [u8; 6] = packet[28..34].try_into().expect("240 bytes are there, and 34 is less");
    let mac = Mac::new(bytes);
    if !mac.is_unicast() {
        return Err(Malformed::NoMachine(mac));
    }
    let options = Options::read(packet, &message);
    let giaddr = message.giaddr();
    // Without a relay they would be the word of a client.
    let relayed = options.raw(82).filter(|_| !giaddr.is_unspecified()).unwrap_or_default();
    let route = Route {
        transaction: message.xid(),
        broadcast: message.flags().broadcast(),
        seconds: message.secs(),
        ciaddr: message.ciaddr(),
        giaddr,
        hops: message.hops(),
        relay_information: options.raw(82).map(<[u8]>::to_vec),
        link_selection: suboption(relayed, 5),
        server_override: suboption(relayed, 11),
        subnet_selection: options.address(118),
        client_identifier: options.raw(61).map(<[u8]>::to_vec),
        largest: options.number(57).unwrap_or(576).max(576),
    };
    Ok(Request {
        kind: kind(&options, route.ciaddr)?,
        mac,
        client: client(&options),
        features: options.raw(175).map(IpxeFeatures::read).unwrap_or_default(),
        uuid: options.raw(97).and_then(uuid),
        machine_identifier: options.raw(97).map(<[u8]>::to_vec),
        parameters: options.raw(55).unwrap_or_default().to_vec(),
        route,
    })
}

/// The options of a packet by code, those in several pieces joined (RFC 3396).
struct Options {
    /// Pieces, one behind the other.
    pieces: Vec<u8>,
    values: Vec<Value>,
    /// For each code, the place of its value, from 1; 0 without one.
    places: [u8; 256],
}

/// The value of an option. Nearly all come in one piece.
enum Value {
    /// Where it is among the pieces.
    Whole(Range<usize>),
    Joined(Vec<u8>),
}

impl Options {
    fn read(packet: &[u8], message: &borrowed::Message) -> Self {
        const USUAL: usize = 24;
        let (pieces, values) = (Vec::with_capacity(packet.len()), Vec::with_capacity(USUAL));
        let mut options = Self { pieces, values, places: [0; 256] };
        options.add(message.opts());
        // RFC 2132 §9.3: `file` (1) and `sname` (2) may hold more options; RFC
        // 3396 §5 has their order.
        let overload = options.raw(52).and_then(|value| value.first().copied()).unwrap_or(0);
        if overload & 1 != 0 {
            options.add(borrowed::DhcpOptionIterator::new(&packet[108..236]));
        }
        if overload & 2 != 0 {
            options.add(borrowed::DhcpOptionIterator::new(&packet[44..108]));
        }
        options
    }

    fn add(&mut self, pieces: borrowed::DhcpOptionIterator) {
        for piece in pieces {
            self.join(piece.code().into(), piece.data());
        }
    }

    fn join(&mut self, code: u8, piece: &[u8]) {
        match self.value_mut(code) {
            Some(Value::Joined(value)) => value.extend_from_slice(piece),
            Some(Value::Whole(_)) => {
                let joined = [self.raw(code).unwrap_or_default(), piece].concat();
                if let Some(value) = self.value_mut(code) {
                    *value = Value::Joined(joined);
                }
            }
            None => {
                let begun = self.pieces.len();
                self.pieces.extend_from_slice(piece);
                self.values.push(Value::Whole(begun..self.pieces.len()));
                // There are fewer codes than numbers in an octet.
                self.places[usize::from(code)] = u8::try_from(self.values.len()).unwrap_or(0);
            }
        }
    }

    fn value_mut(&mut self, code: u8) -> Option<&mut Value> {
        let place = usize::from(self.places[usize::from(code)]).checked_sub(1)?;
        self.values.get_mut(place)
    }

    fn raw(&self, code: u8) -> Option<&[u8]> {
        let place = usize::from(self.places[usize::from(code)]).checked_sub(1)?;
        match self.values.get(place)? {
            Value::Whole(place) => self.pieces.get(place.clone()),
            Value::Joined(value) => Some(value),
        }
    }

    /// An option of exactly four bytes; zero counts as absent.
    fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = self.raw(code)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes)).filter(|address| !address.is_unspecified())
    }

    /// An option of exactly two bytes.
    fn number(&self, code: u8) -> Option<u16> {
        Some(u16::from_be_bytes(self.raw(code)?.try_into().ok()?))
    }
}

/// The address in a part of option 82 (RFC 3046 §2.0); zero counts as absent.
fn suboption(information: &[u8], code: u8) -> Option<Ipv4Addr> {
    let mut rest = information;
    while let [found, length, tail @ ..] = rest {
        let (value, after) = tail.split_at_checked(usize::from(*length))?;
        if *found == code {
            let bytes: [u8; 4] = value.try_into().ok()?;
            return Some(Ipv4Addr::from(bytes)).filter(|address| !address.is_unspecified());
        }
        rest = after;
    }
    None
}

fn kind(options: &Options, ciaddr: Ipv4Addr) -> Result<Kind, Malformed> {
    let own = Some(ciaddr).filter(|address| !address.is_unspecified()).ok_or(Malformed::NoAddress);
    let named = options.address(50).ok_or(Malformed::NoAddress);
    let server = options.address(54);
    let message_type = options.raw(53).and_then(|value| value.first().copied());
    Ok(match message_type.ok_or(Malformed::NoMessageType)? {
        1 => Kind::Discover { wanted: options.address(50) },
        3 => match (server, own) {
            (Some(server), Ok(address)) if named.is_err() => Kind::Select { server, address },
            (Some(server), Ok(_) | Err(_)) => Kind::Select { server, address: named? },
            (None, Ok(address)) => Kind::Extend { address },
            (None, Err(_)) => Kind::Reboot { address: named? },
        },
        4 => Kind::Decline { server, address: named? },
        7 => Kind::Release { server, address: own? },
        8 => Kind::Inform { address: own? },
        other => return Err(Malformed::MessageType(other)),
    })
}

fn client(options: &Options) -> Client {
    let class = options.raw(60).unwrap_or_default();
    let firmware = firmware(options.raw(93), class);
    if options.raw(77).is_some_and(is_ipxe) || options.raw(175).is_some() {
        return Client::Ipxe { firmware };
    }
    let way = if class.starts_with(b"PXEClient") {
        BootWay::Pxe
    } else if class.starts_with(b"HTTPClient") {
        BootWay::Http
    } else {
        return Client::Host;
    };
    // A PXE ROM that says nothing of itself is of the time when there was BIOS only.
    Client::Firmware { way, firmware: firmware.unwrap_or(Firmware::from_number(0)) }
}

/// Whether a user class names iPXE: bare, or as one of the counted classes of
/// RFC 3004.
fn is_ipxe(class: &[u8]) -> bool {
    let mut rest = class;
    while let Some((length, tail)) = rest.split_first() {
        let Some((one, after)) = tail.split_at_checked(usize::from(*length)) else { break };
        if one == b"iPXE" {
            return true;
        }
        rest = after;
    }
    class == b"iPXE"
}

/// The first architecture of option 93 that is known, else the first; else the
/// number in the vendor class `PXEClient:Arch:00007:...`.
fn firmware(architectures: Option<&[u8]>, class: &[u8]) -> Option<Firmware> {
    let listed = architectures.unwrap_or_default().chunks_exact(2);
    let listed: Vec<Firmware> =
        listed.map(|pair| Firmware::from_number(u16::from_be_bytes([pair[0], pair[1]]))).collect();
    let known = listed.iter().find(|firmware| matches!(firmware, Firmware::Known(_)));
    let by_class = || {
        let text = std::str::from_utf8(class).ok()?;
        let number = text.split(':').skip_while(|part| *part != "Arch").nth(1)?;
        number.parse().ok().map(Firmware::from_number)
    };
    known.or(listed.first()).copied().or_else(by_class)
}

/// Type 0 and 16 bytes; the first three fields are little-endian in SMBIOS.
fn uuid(identifier: &[u8]) -> Option<String> {
    let (kind, value) = identifier.split_first()?;
    let value: [u8; 16] = value.try_into().ok()?;
    if *kind != 0 {
        return None;
    }
    // Bytes of the field, and whether the last one is written first.
    const FIELDS: [(Range<usize>, bool); 5] =
        [(0..4, true), (4..6, true), (6..8, true), (8..10, false), (10..16, false)];
    let mut uuid = String::with_capacity(36);
    for (field, is_reversed) in FIELDS {
        if field.start > 0 {
            uuid.push('-');
        }
        for place in field.clone() {
            let place = if is_reversed { field.start + field.end - 1 - place } else { place };
            write!(uuid, "{:02x}", value[place]).ok()?;
        }
    }
    is_genuine_uuid(&uuid).then_some(uuid)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Architecture;

    /// A packet of this card with these options.
    pub(in crate::dhcp) fn packet(mac: Mac, options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut packet = vec![0; 240];
        packet[..4].copy_from_slice(&[1, 1, 6, 0]);
        packet[4..8].copy_from_slice(&[1, 2, 3, 4]);
        packet[28..34].copy_from_slice(&mac.bytes());
        packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
        for (code, value) in options {
            packet.extend_from_slice(&[*code, u8::try_from(value.len()).expect("short")]);
            packet.extend_from_slice(value);
        }
        packet.push(255);
        packet
    }

    const MAC: Mac = Mac::new([0x52, 0x54, 0, 0xaa, 1, 1]);
    const UEFI: (u8, &[u8]) = (60, b"PXEClient:Arch:00007:UNDI:003000");

    fn client_of(options: &[(u8, &[u8])]) -> Client {
        let mut all = vec![(53, &[1u8][..])];
        all.extend_from_slice(options);
        parse(&packet(MAC, &all)).expect("a DISCOVER").client
    }

    #[test]
    fn ipxe_is_told_by_user_class_in_both_encodings_and_by_option_175() {
        let expected = Client::Ipxe { firmware: Some(Firmware::Known(Architecture::X64Uefi)) };
        let arch: (u8, &[u8]) = (93, &[0, 7]);
        for mark in [
            (77, &b"iPXE"[..]),
            (77, b"\x04iPXE"),
            (77, b"\x03abc\x04iPXE"),
            (175, b"\xb1\x05\x01\x1a\xf4\x10\x00"),
        ] {
            assert_eq!(client_of(&[UEFI, arch, mark]), expected, "{mark:?}");
        }
        for other in [(77, &b"iPXE2"[..]), (77, b"\x05iPXE"), (77, b"")] {
            assert_ne!(client_of(&[UEFI, arch, other]), expected, "{other:?}");
        }
    }

    #[test]
    fn the_firmware_is_what_option_93_says_and_never_guessed_over_it() {
        let firmware = |number: u16| client_of(&[UEFI, (93, &number.to_be_bytes())]);
        let pxe = |firmware| Client::Firmware { way: BootWay::Pxe, firmware };
        assert_eq!(firmware(0), pxe(Firmware::Known(Architecture::Bios)));
        assert_eq!(firmware(6), pxe(Firmware::Known(Architecture::Ia32Uefi)));
        assert_eq!(firmware(11), pxe(Firmware::Known(Architecture::Arm64Uefi)));
        assert_eq!(firmware(0x77), pxe(Firmware::Unknown(0x77)));
        // Without it the vendor class is asked, and of several the first known.
        assert_eq!(client_of(&[UEFI]), pxe(Firmware::Known(Architecture::X64Uefi)));
        assert_eq!(client_of(&[(60, b"PXEClient")]), pxe(Firmware::Known(Architecture::Bios)));
        let several: (u8, &[u8]) = (93, &[0, 0x77, 0, 11]);
        assert_eq!(client_of(&[UEFI, several]), pxe(Firmware::Known(Architecture::Arm64Uefi)));
    }

    #[test]
    fn http_boot_and_plain_hosts_are_told_apart() {
        let http: (u8, &[u8]) = (60, b"HTTPClient:Arch:00016:UNDI:003000");
        assert_eq!(
            client_of(&[http, (93, &[0, 16])]),
            Client::Firmware {
                way: BootWay::Http,
                firmware: Firmware::Known(Architecture::X64Uefi)
            }
        );
        assert_eq!(client_of(&[(60, b"udhcp 1.35.0")]), Client::Host);
        assert_eq!(client_of(&[]), Client::Host);
    }

    #[test]
    fn the_four_kinds_of_request_are_told_apart() {
        let kind = |ciaddr: [u8; 4], options: &[(u8, &[u8])]| {
            let mut all = vec![(53, &[3u8][..])];
            all.extend_from_slice(options);
            let mut packet = packet(MAC, &all);
            packet[12..16].copy_from_slice(&ciaddr);
            parse(&packet).map(|request| request.kind)
        };
        let (server, address) = ([10, 0, 0, 1], [10, 0, 0, 9]);
        assert_eq!(
            kind([0; 4], &[(54, &server), (50, &address)]),
            Ok(Kind::Select { server: server.into(), address: address.into() })
        );
        assert_eq!(kind([0; 4], &[(50, &address)]), Ok(Kind::Reboot { address: address.into() }));
        assert_eq!(kind(address, &[]), Ok(Kind::Extend { address: address.into() }));
        assert_eq!(kind([0; 4], &[]), Err(Malformed::NoAddress));
        assert_eq!(kind([0; 4], &[(54, &server), (50, &[1, 2])]), Err(Malformed::NoAddress));
    }

    #[test]
    fn options_in_pieces_and_in_the_other_fields_are_found() {
        let mut packet =
            packet(MAC, &[(53, &[1]), (60, b"PXE"), (12, b"h"), (60, b"Client"), (52, &[3])]);
        packet[108..113].copy_from_slice(&[93, 2, 0, 11, 255]);
        packet[44..50].copy_from_slice(&[57, 2, 5, 220, 255, 0]);
        let request = parse(&packet).expect("a DISCOVER");
        assert_eq!(
            request.client,
            Client::Firmware {
                way: BootWay::Pxe,
                firmware: Firmware::Known(Architecture::Arm64Uefi)
            }
        );
        assert_eq!(request.route.largest, 1500);
    }

    #[test]
    fn what_a_relay_says_of_the_network_is_read_and_of_a_client_alone_it_is_not() {
        let information = [1, 2, b'a', b'b', 5, 4, 10, 1, 0, 0, 11, 4, 10, 9, 0, 1];
        let read = |information: &[u8], giaddr: [u8; 4]| {
            let mut packet = packet(MAC, &[(53, &[1]), (82, information), (118, &[10, 2, 0, 0])]);
            packet[24..28].copy_from_slice(&giaddr);
            let route = parse(&packet).expect("a DISCOVER").route;
            assert_eq!(route.relay_information.as_deref(), Some(information));
            assert_eq!(route.subnet_selection, Some([10, 2, 0, 0].into()));
            (route.link_selection, route.server_override)
        };
        let relay = [10, 9, 0, 1];
        let both = (Some([10, 1, 0, 0].into()), Some(relay.into()));
        assert_eq!(read(&information, relay), both);
        assert_eq!(read(&information, [0; 4]), (None, None));
        // Cut off, too short and too long.
        assert_eq!(read(&information[..9], relay), (None, None));
        assert_eq!(read(&[5, 3, 10, 1, 0], relay), (None, None));
        assert_eq!(read(&[5, 5, 10, 1, 0, 0, 0], relay), (None, None));
    }

    #[test]
    fn the_uuid_is_read_as_smbios_writes_it() {
        let sent = [0x00, 0xc1, 0x02, 0xd0, 0x97, 0x89, 0x8e, 0x5c, 0x42, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(uuid(&sent).as_deref(), Some("97d002c1-8e89-425c-0102-030405060708"));
        assert_eq!(uuid(&[0; 17]), None);
        assert_eq!(uuid(&[[0].as_slice(), &[0xff; 16]].concat()), None);
    }

    #[test]
    fn what_is_no_request_is_refused_by_name() {
        let discover = packet(MAC, &[(53, &[1])]);
        assert_eq!(parse(&discover[..239]), Err(Malformed::Short(239)));
        let with = |place: usize, byte: u8| {
            let mut changed = discover.clone();
            changed[place] = byte;
            parse(&changed)
        };
        assert_eq!(with(0, 2), Err(Malformed::NotARequest));
        assert_eq!(with(2, 17), Err(Malformed::NotEthernet { kind: 1, length: 17 }));
        assert_eq!(with(2, 255), Err(Malformed::NotEthernet { kind: 1, length: 255 }));
        assert_eq!(
            with(28, 0x53),
            Err(Malformed::NoMachine(
                "53:54:00:aa:01:01".parse().unwrap_or(Mac::new([0x53, 0x54, 0, 0xaa, 1, 1]))
            ))
        );
        assert_eq!(with(236, 0), Err(Malformed::NoMessageType));
        assert_eq!(with(242, 13), Err(Malformed::MessageType(13)));
        assert_eq!(parse(&packet(MAC, &[])), Err(Malformed::NoMessageType));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_mutated_discover_panics(
            changes in proptest::collection::vec((0usize..400, any::<u8>()), 0..20),
            length in 200usize..400,
        ) {
            let mut bytes = packet(MAC, &[
                (53, &[1]), UEFI, (93, &[0, 7]), (97, &[0; 17]), (77, b"iPXE"), (82, &[1, 2, 3, 4]),
                (175, &[21, 1, 1, 19, 1, 1]),
                (52, &[3]), (57, &[5, 192]), (55, &[1, 3, 6]),
            ]);
            bytes.resize(length, 0);
            for (place, byte) in changes {
                if let Some(old) = bytes.get_mut(place) {
                    *old = byte;
                }
            }
            let _ = parse(&bytes);
        }
    }
}
