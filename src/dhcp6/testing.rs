//! What the tests of this room share: networks, programs, and clients as real
//! firmware is.

use std::net::Ipv6Addr;

use bytes::Bytes;

use super::{
    Settings,
    answer::{Answer, Reply, answer},
    reply::encode,
    request::{Request, To, parse},
};
use crate::{
    files::Catalogue,
    model::{Architecture, Duid, Mac, Pool6, Seconds, Subnet6, Timestamp},
    state::State,
};

/// An address of the network that we are on.
pub(super) const fn here(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
}

/// An address of the network behind a relay.
pub(super) const fn there(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, last)
}

pub(super) const SERVER: Ipv6Addr = here(1);
pub(super) const FIRST: Ipv6Addr = here(0x100);
pub(super) const SECOND: Ipv6Addr = here(0x101);

/// The card of the machine with this number.
pub(super) const fn card(number: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0xaa, 1, number])
}

/// Its address on the link, made of the card.
pub(super) fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.bytes();
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// An address on the link that tells nothing.
pub(super) const OPAQUE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 1, 2, 3, 4);

/// The name of a client that tells nothing.
pub(super) fn opaque(number: u8) -> Vec<u8> {
    // One whose bytes are all the same would be nobody's.
    let mut uuid = [number; 16];
    uuid[15] = 0x55;
    Duid::of_uuid(uuid).bytes().to_vec()
}

/// Two networks with room for two clients each, and one without addresses.
pub(super) fn settings() -> Settings {
    let subnet = |network: &str, ends: Option<(Ipv6Addr, Ipv6Addr)>| Subnet6 {
        network: network.parse().expect("a network"),
        pool: ends.map(|(first, last)| Pool6 { first, last, except: vec![] }),
    };
    Settings {
        server_id: Duid::of_uuid([9; 16]),
        server: SERVER,
        subnets: vec![
            subnet("fd00::/64", Some((FIRST, SECOND))),
            subnet("fd00:1::/64", Some((there(0x100), there(0x101)))),
            subnet("fd00:2::/64", None),
        ],
        dns: vec![here(0x53)],
        search: vec!["a.example".to_owned(), "b.example".to_owned()],
        ntp: vec![here(0x123)],
        lease_time: Seconds(7200),
        tftp: Some("[fd00::1]".to_owned()),
        authority: Some("[fd00::1]".to_owned()),
        rules: Default::default(),
    }
}

/// Programs for x64 and arm64; nothing for IA32.
pub(super) fn catalogue() -> Catalogue {
    Catalogue::new([
        (Architecture::X64Uefi, "snponly.efi".to_owned(), Bytes::from_static(b"x")),
        (Architecture::Arm64Uefi, "ipxe-arm64.efi".to_owned(), Bytes::from_static(b"a")),
    ])
}

/// The options by which each kind of client is known.
pub(super) type Options = Vec<(u16, Vec<u8>)>;

pub(super) fn class(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("short").to_be_bytes();
    [&343u32.to_be_bytes()[..], &length, text.as_bytes()].concat()
}

pub(super) fn pxe() -> Options {
    vec![
        (16, class("PXEClient:Arch:00007:UNDI:003001")),
        (61, vec![0, 7]),
        (6, vec![0, 59, 0, 60, 0, 23]),
    ]
}

pub(super) fn http() -> Options {
    vec![(16, class("HTTPClient:Arch:00016:UNDI:003001")), (61, vec![0, 16])]
}

pub(super) fn ipxe() -> Options {
    vec![
        (15, b"\x00\x04iPXE".to_vec()),
        (16, class("PXEClient:Arch:00007:UNDI:003010")),
        (61, vec![0, 7]),
    ]
}

/// An IA_NA with these addresses.
pub(super) fn ia_na(id: u32, addresses: &[Ipv6Addr]) -> (u16, Vec<u8>) {
    let mut value = [id.to_be_bytes(), [0; 4], [0; 4]].concat();
    for address in addresses {
        value.extend_from_slice(&[0, 5, 0, 24]);
        value.extend_from_slice(&address.octets());
        value.extend_from_slice(&[0; 8]);
    }
    (3, value)
}

/// A message with these options.
pub(super) fn packet_of(kind: u8, options: &Options) -> Vec<u8> {
    let mut packet = vec![kind, 0xab, 0xcd, 0xef];
    for (code, value) in options {
        packet.extend_from_slice(&code.to_be_bytes());
        packet.extend_from_slice(&u16::try_from(value.len()).expect("short").to_be_bytes());
        packet.extend_from_slice(value);
    }
    packet
}

/// The message as a relay sends it on.
pub(super) fn through_relay(
    (hops, link, peer): (u8, Ipv6Addr, Ipv6Addr),
    message: &[u8],
    more: Options,
) -> Vec<u8> {
    let mut packet = [&[12, hops][..], &link.octets(), &peer.octets()].concat();
    for (code, value) in [more, vec![(9, message.to_vec())]].concat() {
        packet.extend_from_slice(&code.to_be_bytes());
        packet.extend_from_slice(&u16::try_from(value.len()).expect("short").to_be_bytes());
        packet.extend_from_slice(&value);
    }
    packet
}

/// A message of the machine with this card, by what it says of itself.
pub(super) fn request(mac: Mac, kind: u8, options: Options) -> Request {
    let named = vec![(1, opaque(mac.bytes()[5]))];
    let packet = packet_of(kind, &[named, options].concat());
    parse(&packet, (link_local(mac), To::Group)).expect("a request")
}

/// The option that names us.
pub(super) fn to_us() -> (u16, Vec<u8>) {
    (2, settings().server_id.bytes().to_vec())
}

/// The conversation of machines with a server, one state for all.
pub(super) struct Lab {
    pub(super) settings: Settings,
    pub(super) catalogue: Catalogue,
    pub(super) state: State,
    pub(super) now: Timestamp,
}

impl Lab {
    pub(super) fn new() -> Self {
        let settings = settings();
        let state = State::new(None).with_subnets6(settings.subnets.clone());
        Self { settings, catalogue: catalogue(), state, now: Timestamp(1_000_000) }
    }

    /// Answers a request and carries out what was decided.
    pub(super) fn hear(&mut self, request: &Request) -> Answer {
        let decision = answer(&self.state, (&self.settings, &self.catalogue), request, self.now);
        decision.changes.iter().for_each(|change| self.state.apply(change));
        decision.answer
    }

    /// A Solicit for one address, this one if it is named.
    pub(super) fn solicit(&mut self, mac: Mac, wanted: &[Ipv6Addr], client: Options) -> Reply {
        let options = [client, vec![ia_na(1, wanted)]].concat();
        reply(self.hear(&request(mac, 1, options)))
    }

    /// Anything that names us, and one address.
    pub(super) fn tell(&mut self, mac: Mac, kind: u8, named: Ipv6Addr, client: Options) -> Reply {
        let options = [client, vec![to_us(), ia_na(1, &[named])]].concat();
        reply(self.hear(&request(mac, kind, options)))
    }

    /// Solicit and Request; the address that was granted.
    pub(super) fn lease(&mut self, mac: Mac, client: Options) -> Ipv6Addr {
        let offered = address(&self.solicit(mac, &[], client.clone()));
        assert_eq!(address(&self.tell(mac, 3, offered, client)), offered);
        offered
    }

    pub(super) fn packet_for(&self, request: &Request, reply: &Reply) -> Vec<u8> {
        encode(&self.settings, request, reply).expect("it fits")
    }

    pub(super) fn after(&mut self, seconds: u64) {
        self.now = Timestamp(self.now.0 + seconds * 1000);
    }
}

/// The reply, or a failed test.
pub(super) fn reply(answer: Answer) -> Reply {
    match answer {
        Answer::Reply(reply) => reply,
        Answer::Silence(why) => panic!("silent: {why}"),
    }
}

/// The one address of a reply.
pub(super) fn address(reply: &Reply) -> Ipv6Addr {
    let [granted] = reply.associations.as_slice() else { panic!("one association: {reply:?}") };
    granted.address.unwrap_or_else(|| panic!("no address: {reply:?}"))
}

/// The options behind a header of this length, in order.
pub(super) fn options_of(packet: &[u8], header: usize) -> Options {
    let mut options = Vec::new();
    let mut rest = &packet[header..];
    while let [a, b, c, d, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        options.push((u16::from_be_bytes([*a, *b]), tail[..length].to_vec()));
        rest = &tail[length..];
    }
    assert!(rest.is_empty(), "the options end with the packet");
    options
}

pub(super) fn option_of(packet: &[u8], header: usize, code: u16) -> Option<Vec<u8>> {
    let options = options_of(packet, header);
    options.into_iter().find(|(found, _)| *found == code).map(|(_, value)| value)
}
