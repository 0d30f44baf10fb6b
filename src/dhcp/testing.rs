//! What the tests of this room share: a network, its programs, and clients as
//! real firmware is.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use bytes::Bytes;
use ipnet::Ipv4Net;

use super::{
    Role, Settings,
    answer::{Answer, Probed, Question, Reply, answer},
    reply::encode,
    request::{Request, parse, tests::packet},
};
use crate::{
    files::Catalogue,
    model::{
        Architecture, DhcpOptions, Instance, LeaseTimes, Mac, Pool, Seconds, Subnet, Subnets,
        Timestamp, testing,
    },
    state::State,
};

pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(super) const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
pub(super) const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 101);
pub(super) const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// The card of the machine with this number.
pub(super) const fn card(number: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0xaa, 1, number])
}

/// Our address towards the relays of the other network.
pub(super) const REMOTE_SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
pub(super) const REMOTE_RELAY: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
pub(super) const REMOTE_FIRST: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 100);

/// One network of ours and one behind relays, each with room for two machines.
pub(super) fn subnets() -> [Subnet; 2] {
    let subnet = |network: &str, range: &str, server| {
        let network: Ipv4Net = network.parse().expect("a network");
        Subnet {
            network,
            adapter: None,
            server,
            gateway: server,
            dns: vec![server],
            pool: Pool { network, ranges: vec![range.parse().expect("a range")], except: vec![] },
            times: LeaseTimes::of(Seconds(7200)),
            options: DhcpOptions::default(),
            vlan: None,
            pace: None,
        }
    };
    let here = subnet("10.0.0.0/24", "10.0.0.100-10.0.0.101", SERVER);
    let there = subnet("10.7.0.0/24", "10.7.0.100-10.7.0.101", REMOTE_SERVER);
    [Subnet { adapter: Some("eth0".to_owned()), ..here }, Subnet { gateway: REMOTE_RELAY, ..there }]
}

pub(super) fn settings() -> Settings {
    Settings {
        role: Role::Server,
        watch: None,
        subnets: Subnets::new(subnets()),
        profiles: vec![],
        tftp: Some(SERVER),
        authority: Some("10.0.0.1".to_owned()),
        rules: Default::default(),
        probe: false,
        decline_hold: Duration::from_secs(24 * 3600),
        spread: 0,
    }
}

/// Debian's names for BIOS, x64 and arm64; nothing for IA32.
pub(super) fn catalogue() -> Catalogue {
    Catalogue::new([
        (Architecture::Bios, "undionly.kpxe".to_owned(), Bytes::from_static(b"b")),
        (Architecture::X64Uefi, "snponly.efi".to_owned(), Bytes::from_static(b"x")),
        (Architecture::Arm64Uefi, "ipxe-arm64.efi".to_owned(), Bytes::from_static(b"a")),
    ])
}

/// An instance that holds a machine, and maybe an address.
pub(super) fn instance(mac: Mac, address: Option<Ipv4Addr>) -> Instance {
    Instance {
        address,
        hostname: "worker-1".parse().expect("a name"),
        ..testing::instance(u64::from(mac.bytes()[5]), mac)
    }
}

pub(super) type Options<'a> = &'a [(u8, &'a [u8])];

/// The options by which each kind of client is known; `shared` ones come beside.
pub(super) const BIOS: Options =
    &[(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0]), (57, &[5, 192])];
pub(super) const UEFI: Options = &[
    (60, b"PXEClient:Arch:00007:UNDI:003000"),
    (93, &[0, 7]),
    (97, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
];
pub(super) const IA32: Options = &[(60, b"PXEClient:Arch:00006:UNDI:003000"), (93, &[0, 6])];
pub(super) const HTTP: Options = &[(60, b"HTTPClient:Arch:00016:UNDI:003000"), (93, &[0, 16])];
pub(super) const IPXE: Options = &[
    (60, b"PXEClient:Arch:00007:UNDI:003010"),
    (93, &[0, 7]),
    (77, b"iPXE"),
    (175, &[19, 1, 1, 36, 1, 1]),
];
pub(super) const HOST: Options = &[(60, b"udhcp 1.35.0")];

/// The conversation of machines with a server, one state for all.
pub(super) struct Lab {
    pub(super) settings: Settings,
    pub(super) catalogue: Catalogue,
    pub(super) state: State,
    pub(super) now: Timestamp,
    /// Where requests come from that are sent to the port of boot servers.
    pub(super) boot_port: Option<SocketAddrV4>,
}

impl Lab {
    pub(super) fn new() -> Self {
        let settings = settings();
        let state = State::new(settings.subnets.iter().map(|subnet| subnet.pool.clone()));
        Self { settings, catalogue: catalogue(), state, now: Timestamp(1_000_000), boot_port: None }
    }

    /// Answers a request and carries out what was decided.
    pub(super) fn hear(&mut self, request: &Request) -> Answer {
        self.hear_knowing(request, Probed::Nothing)
    }

    /// The same when this was found out.
    pub(super) fn hear_knowing(&mut self, request: &Request, probed: Probed) -> Answer {
        // Who comes by a relay was heard on no link.
        let link = Some(SERVER).filter(|_| request.route.giaddr.is_unspecified());
        let question = Question { request, link, boot_port: self.boot_port, probed };
        let decision = answer(&self.state, (&self.settings, &self.catalogue), question, self.now);
        decision.changes.iter().for_each(|change| self.state.apply(change));
        decision.answer
    }

    pub(super) fn discover(&mut self, mac: Mac, client: Options) -> Answer {
        self.hear(&request(mac, 1, client))
    }

    pub(super) fn select(&mut self, mac: Mac, address: Ipv4Addr, client: Options) -> Answer {
        let named = [(54, &SERVER.octets()[..]), (50, &address.octets()[..])];
        self.hear(&request(mac, 3, &[client, &named].concat()))
    }

    /// Both steps; the address that was acknowledged.
    pub(super) fn lease(&mut self, mac: Mac, client: Options) -> Ipv4Addr {
        let offered = reply(self.discover(mac, client)).kind.yiaddr().expect("an offer");
        let granted = reply(self.select(mac, offered, client)).kind.yiaddr().expect("granted");
        assert_eq!(granted, offered);
        granted
    }

    pub(super) fn packet_for(request: &Request, reply: &Reply) -> Vec<u8> {
        encode(request, reply).expect("it fits")
    }
}

pub(super) fn request(mac: Mac, message_type: u8, options: Options) -> Request {
    let kind = [message_type];
    let all = [&[(53, &kind[..])], options].concat();
    parse(&packet(mac, &all)).expect("a request")
}

/// The reply, or a failed test.
pub(super) fn reply(answer: Answer) -> Reply {
    match answer {
        Answer::Reply(reply) => reply,
        Answer::Silence(why) => panic!("silent: {why}"),
        other @ (Answer::Probe { .. } | Answer::InUse(_)) => panic!("not yet: {other:?}"),
    }
}

/// The options of a packet, in order.
pub(super) fn options_of(packet: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut options = Vec::new();
    let mut rest = &packet[240..];
    while let [code, length, tail @ ..] = rest {
        if *code == 255 {
            break;
        }
        options.push((*code, tail[..usize::from(*length)].to_vec()));
        rest = &tail[usize::from(*length)..];
    }
    options
}

pub(super) fn option_of(packet: &[u8], code: u8) -> Option<Vec<u8>> {
    options_of(packet).into_iter().find(|(found, _)| *found == code).map(|(_, value)| value)
}
