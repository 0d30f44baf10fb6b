//! A proxy beside another server, asked by clients as real firmware is.

use proptest::prelude::*;

use super::*;
use crate::{
    dhcp::{
        Role,
        answer::NoBootFile,
        reply::{Destination, destination},
        testing::*,
    },
    model::{BootMode, Change, Habits, Instance, Mac, Machine, Stage},
};

const UUID: (u8, &[u8]) = (97, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
const OFFERED_ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.settings.role = Role::Proxy;
    lab
}

fn offer(lab: &mut Lab, client: Options) -> Vec<u8> {
    let asked = request(card(1), 1, client);
    let said = reply(lab.hear(&asked));
    assert!(matches!(said.kind, ReplyKind::ProxyOffer(_)), "{said:?}");
    Lab::packet_for(&asked, &said)
}

/// The boot file as the fixed field has it.
fn file(packet: &[u8]) -> &str {
    let field = packet[108..236].split(|byte| *byte == 0).next().expect("one part at least");
    std::str::from_utf8(field).expect("a name")
}

#[test]
fn every_client_that_boots_is_told_its_file_in_its_own_class_and_no_address() {
    let control = Some(vec![6, 1, 8, 255]);
    let url = "http://10.0.0.1/loader/snponly.efi";
    let script = "http://10.0.0.1/ipxe/52-54-00-aa-01-01.ipxe";
    for (client, name, class, vendor) in [
        (BIOS, "undionly.kpxe", "PXEClient", control.clone()),
        (UEFI, "snponly.efi", "PXEClient", control.clone()),
        (HTTP, url, "HTTPClient", None),
        (IPXE, script, "PXEClient", control),
    ] {
        let known: Vec<_> = client.iter().filter(|(code, _)| *code != 97).copied().collect();
        let client = [&known[..], &[UUID]].concat();
        let packet = offer(&mut lab(), &client);
        assert_eq!(&packet[16..20], [0; 4], "no yiaddr");
        assert_eq!(packet[20..24], SERVER.octets(), "siaddr");
        assert_eq!(file(&packet), name);
        assert_eq!(option_of(&packet, 67).as_deref(), Some(name.as_bytes()));
        assert_eq!(option_of(&packet, 53), Some(vec![2]));
        assert_eq!(option_of(&packet, 54), Some(SERVER.octets().to_vec()));
        assert_eq!(option_of(&packet, 60).as_deref(), Some(class.as_bytes()));
        assert_eq!(option_of(&packet, 43), vendor, "{name}");
        assert_eq!(option_of(&packet, 97).as_deref(), Some(UUID.1), "{name}");
        for code in [1, 3, 6, 12, 15, 28, 51, 58, 59, 175] {
            assert_eq!(option_of(&packet, code), None, "option {code} for {name}");
        }
    }
}

#[test]
fn who_ignores_the_first_form_is_sent_to_the_port_of_boot_servers() {
    let mut lab = lab();
    brought_to(&mut lab, Rung::BootServer);
    let packet = offer(&mut lab, UEFI);
    assert_eq!(option_of(&packet, 60).as_deref(), Some(&b"PXEClient"[..]));
    assert_eq!(option_of(&packet, 43), None);
    let script = offer(&mut lab, IPXE);
    assert!(option_of(&script, 43).is_some(), "iPXE takes the first form");
}

/// Firmware that asks again in the form that it was brought to.
fn brought_to(lab: &mut Lab, rung: Rung) {
    offer(lab, UEFI);
    let machine = lab.state.machines.find(card(1)).expect("seen").clone();
    let proxied = Proxied { rung, vain: 1, is_deaf: false };
    let habits = Habits { proxied, ..Habits::default() };
    lab.state.apply(&Change::Seen(Machine { habits: habits.into(), ..machine }));
}

/// What firmware asks the other server when it has chosen an address of it.
fn selecting(client: Options, server: Ipv4Addr) -> Request {
    let (server, address) = (server.octets(), OFFERED_ELSEWHERE.octets());
    request(card(1), 3, &[client, &[(54, &server[..]), (50, &address[..])]].concat())
}

#[test]
fn who_takes_an_ack_alone_is_told_beside_the_other_server_s_ack_and_nobody_else_is() {
    let none = Answer::Silence(Why::NoServer);
    for rung in [Rung::Offer, Rung::BootServer] {
        let mut lab = lab();
        brought_to(&mut lab, rung);
        assert_eq!(lab.hear(&selecting(UEFI, OTHER_SERVER)), none, "{rung:?}");
    }
    let mut lab = lab();
    brought_to(&mut lab, Rung::Acknowledge);
    assert!(option_of(&offer(&mut lab, UEFI), 43).is_some(), "as the first form");
    let asked = selecting(UEFI, OTHER_SERVER);
    let said = reply(lab.hear(&asked));
    assert_eq!(said.kind, ReplyKind::ProxyBeside);
    assert_eq!(destination(&asked, &said), Destination::Hardware(card(1), Ipv4Addr::BROADCAST));
    let packet = Lab::packet_for(&asked, &said);
    assert_eq!((option_of(&packet, 53), &packet[16..20]), (Some(vec![5]), &[0; 4][..]));
    assert_eq!(option_of(&packet, 54), Some(SERVER.octets().to_vec()), "it is no other's word");
    assert_eq!((&packet[20..24], file(&packet)), (&SERVER.octets()[..], "snponly.efi"));
    assert_eq!(option_of(&packet, 51), None);
    for (client, server) in
        [(HOST, OTHER_SERVER), (IPXE, OTHER_SERVER), (HTTP, OTHER_SERVER), (UEFI, SERVER)]
    {
        assert!(matches!(lab.hear(&selecting(client, server)), Answer::Silence(_)), "{client:?}");
    }
    let renewal = request_with_address(card(1), OFFERED_ELSEWHERE, (3, UEFI));
    assert_eq!(lab.hear(&renewal), none);
}

#[test]
fn firmware_climbs_by_what_is_known_of_its_machine_and_stays_where_it_came_further() {
    let mut lab = lab();
    let rung = |lab: &Lab| lab.state.machines.find(card(1)).expect("seen").habits.proxied.rung;
    for _ in 0..5 {
        offer(&mut lab, UEFI);
    }
    assert_eq!(rung(&lab), Rung::BootServer);
    offer(&mut lab, IPXE);
    for _ in 0..4 {
        offer(&mut lab, UEFI);
    }
    assert_eq!(rung(&lab), Rung::BootServer, "four times once more");
    for _ in 0..9 {
        offer(&mut lab, UEFI);
    }
    let machine = lab.state.machines.find(card(1)).expect("seen");
    assert!(machine.is_deaf(), "{:?}", machine.habits);
    offer(&mut lab, IPXE);
    let machine = lab.state.machines.find(card(1)).expect("seen");
    assert_eq!((machine.is_deaf(), machine.stage), (false, Some(Stage::Ipxe)));
}

#[test]
fn who_is_told_nothing_tries_nothing() {
    let mut lab = lab();
    for _ in 0..5 {
        lab.discover(card(1), IA32);
    }
    let machine = lab.state.machines.find(card(1)).expect("seen");
    assert_eq!(*machine.habits, Habits::default());
}

#[test]
fn who_does_not_boot_or_speaks_to_the_other_server_hears_nothing() {
    let mut lab = lab();
    assert_eq!(lab.discover(card(1), HOST), Answer::Silence(Why::NoBootClient));
    assert_eq!(lab.state.machines.find(card(1)), None, "a host is no machine");
    let chosen = [(54, &OTHER_SERVER.octets()[..]), (50, &OFFERED_ELSEWHERE.octets()[..])];
    for (kind, more) in [(3, &chosen[..]), (3, &chosen[1..]), (4, &chosen[..])] {
        let asked = request(card(1), kind, &[UEFI, more].concat());
        assert_eq!(lab.hear(&asked), Answer::Silence(Why::NoServer), "{:?}", asked.kind);
    }
}

#[test]
fn a_machine_is_seen_as_beside_no_other_server() {
    let mut lab = lab();
    offer(&mut lab, UEFI);
    let machine = lab.state.machines.find(card(1)).expect("seen");
    assert_eq!(machine.architecture, Some(crate::model::Architecture::X64Uefi));
    assert_eq!(machine.stage, Some(crate::model::Stage::Firmware));
    offer(&mut lab, IPXE);
    let machine = lab.state.machines.find(card(1)).expect("seen");
    assert_eq!(machine.stage, Some(crate::model::Stage::Ipxe));
}

#[test]
fn the_offer_goes_to_all_where_the_flag_says_so_and_else_to_the_card() {
    let mut lab = lab();
    let mut asked = request(card(1), 1, UEFI);
    let said = reply(lab.hear(&asked));
    let to = destination(&asked, &said);
    assert_eq!(to, Destination::Hardware(card(1), Ipv4Addr::BROADCAST));
    asked.route.broadcast = true;
    assert_eq!(destination(&asked, &said), Destination::Broadcast);
    asked.route.giaddr = REMOTE_RELAY;
    assert_eq!(destination(&asked, &said), Destination::Relay(REMOTE_RELAY));
}

#[test]
fn a_boot_server_answers_where_it_was_asked_from_and_to_the_address_that_the_machine_has() {
    let address = OFFERED_ELSEWHERE;
    // UEFI asks from 4011 without option 54, iPXE from 68 with it.
    let server = SERVER.octets();
    let of_ipxe = [UEFI, &[(54, &server[..])]].concat();
    for (client, kind, port) in
        [(UEFI, 3, 4011), (&of_ipxe, 3, 68), (UEFI, 1, 4011), (UEFI, 8, 4011)]
    {
        let mut lab = lab();
        lab.boot_port = Some(SocketAddrV4::new(address, port));
        let asked = request_with_address(card(1), address, (kind, client));
        let said = reply(lab.hear(&asked));
        let there = SocketAddrV4::new(address, port);
        assert_eq!(said.kind, ReplyKind::ProxyAcknowledge(there), "{kind}");
        assert_eq!(destination(&asked, &said), Destination::Port(there));
        let packet = Lab::packet_for(&asked, &said);
        assert_eq!(option_of(&packet, 53), Some(vec![5]));
        assert_eq!((&packet[12..16], &packet[16..20]), (&address.octets()[..], &[0; 4][..]));
        assert_eq!(
            (packet[20..24].to_vec(), file(&packet)),
            (SERVER.octets().to_vec(), "snponly.efi")
        );
    }
}

#[test]
fn who_has_no_address_is_not_answered_at_the_port_of_boot_servers() {
    let mut lab = lab();
    lab.boot_port = Some(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68));
    assert_eq!(lab.discover(card(1), UEFI), Answer::Silence(Why::NoNetwork));
}

#[test]
fn an_ignored_machine_hears_nothing_from_a_proxy_and_is_not_known() {
    let mut lab = lab();
    let (scope, machines) = (Default::default(), Default::default());
    let rule = crate::boot::rules::Rule { scope, machines, then: crate::boot::rules::Then::Ignore };
    lab.settings.rules = crate::boot::Rules::new(vec![rule], Vec::new());
    for client in [UEFI, HTTP, BIOS, IPXE] {
        let why = Why::NothingToBoot(NoBootFile::Ignored);
        assert_eq!(lab.discover(card(1), client), Answer::Silence(why));
    }
    assert_eq!(lab.state.machines.all().count(), 0);
}

#[test]
fn a_bios_that_goes_to_its_disk_is_told_nothing_and_seen() {
    let mut lab = lab();
    let never = Instance { boot: BootMode::Never, ..instance(card(1), None) };
    lab.state.apply(&Change::Instance(never));
    let why = Why::NothingToBoot(NoBootFile::OwnDisk);
    assert_eq!(lab.discover(card(1), BIOS), Answer::Silence(why));
    assert!(lab.state.machines.find(card(1)).is_some_and(|machine| machine.last_seen.is_some()));
    assert!(matches!(lab.discover(card(1), UEFI), Answer::Reply(_)), "iPXE leaves for the disk");
}

#[test]
fn what_there_is_no_program_for_is_told_nothing() {
    let mut lab = lab();
    let answer = lab.discover(card(1), IA32);
    assert!(matches!(answer, Answer::Silence(Why::NothingToBoot(NoBootFile::NoProgram(_)))));
}

#[test]
fn the_port_of_boot_servers_is_the_known_one_beside_the_known_one_of_dhcp() {
    assert_eq!(boot_server_port(67), 4011);
    assert_eq!(boot_server_port(6700), 6702);
}

fn request_with_address(mac: Mac, address: Ipv4Addr, (kind, client): (u8, Options)) -> Request {
    let kind = [kind];
    let all = [&[(53, &kind[..])], client].concat();
    let mut packet = crate::dhcp::request::tests::packet(mac, &all);
    packet[12..16].copy_from_slice(&address.octets());
    crate::dhcp::request::parse(&packet).expect("a request")
}

proptest! {
    /// Whatever is asked, by whom and by which way: no address, no refusal, nothing
    /// to a host, and no word of addresses in the state.
    #[test]
    fn a_proxy_never_gives_an_address_and_never_refuses_one(
        client in 0usize..6,
        kind in prop::sample::select(vec![1u8, 3, 4, 7, 8]),
        (wanted, server) in (any::<Option<u32>>(), any::<Option<u32>>()),
        (ciaddr, giaddr, flag) in (any::<u32>(), any::<Option<u32>>(), any::<bool>()),
        from in any::<Option<(u32, u16)>>(),
        rung in prop::sample::select(vec![Rung::Offer, Rung::BootServer, Rung::Acknowledge]),
    ) {
        let client = [BIOS, UEFI, IA32, HTTP, IPXE, HOST][client];
        let wanted = wanted.unwrap_or(0x0a00_0064).to_be_bytes();
        let mut options = [client, &[(50, &wanted[..])]].concat();
        let server = server.map(u32::to_be_bytes);
        options.extend(server.as_ref().map(|server| (54, &server[..])));
        let kind = [kind];
        let all = [&[(53, &kind[..])], options.as_slice()].concat();
        let mut packet = crate::dhcp::request::tests::packet(card(1), &all);
        packet[12..16].copy_from_slice(&ciaddr.to_be_bytes());
        packet[24..28].copy_from_slice(&giaddr.unwrap_or_default().to_be_bytes());
        packet[10] = if flag { 0x80 } else { 0 };
        let Ok(asked) = crate::dhcp::request::parse(&packet) else { return Ok(()) };
        let mut lab = lab();
        brought_to(&mut lab, rung);
        lab.boot_port = from.map(|(address, port)| SocketAddrV4::new(address.into(), port));
        let answer = lab.hear(&asked);
        prop_assert_eq!(lab.state.addresses.leases().count(), 0);
        match answer {
            Answer::Silence(_) => {}
            Answer::Reply(said) => {
                prop_assert!(asked.client != Client::Host);
                let packet = Lab::packet_for(&asked, &said);
                prop_assert_eq!(&packet[16..20], [0; 4]);
                prop_assert!(matches!(option_of(&packet, 53).as_deref(), Some([2 | 5])));
                prop_assert_eq!(option_of(&packet, 51), None);
                prop_assert_eq!(option_of(&packet, 1), None);
            }
            other @ (Answer::Probe { .. } | Answer::InUse(_)) => panic!("{other:?}"),
        }
    }
}

#[test]
fn who_is_on_a_network_that_is_not_served_gets_nothing_that_is_said_of_ours() {
    let mut lab = lab();
    let mut subnets = subnets();
    subnets[0].vlan = crate::model::VlanId::try_from(20).ok();
    lab.settings.subnets = Subnets::new(subnets);
    let profile = |network: &str, file: &str| crate::model::LoaderProfile {
        kind: crate::model::MachineKind {
            network: Some(network.parse().expect("a network")),
            ..Default::default()
        },
        files: vec![file.to_owned()],
    };
    let program = |name: &'static str| {
        (crate::model::Architecture::X64Uefi, name.to_owned(), bytes::Bytes::from(name))
    };
    let programs = ["usual.efi", "ours.efi", "theirs.efi"].map(program);
    let profiles = vec![profile("10.0.0.0/24", "ours.efi"), profile("10.99.0.0/16", "theirs.efi")];
    lab.catalogue = Catalogue::new(programs).by(profiles);
    let told = |giaddr: Ipv4Addr| {
        let mut asked = request(card(1), 1, UEFI);
        asked.route.giaddr = giaddr;
        let (link, boot_port, probed) = (Some(SERVER), None, crate::dhcp::answer::Probed::Nothing);
        let question = Question { request: &asked, link, boot_port, probed };
        let hall = (&lab.settings, &lab.catalogue);
        let said = reply(crate::dhcp::answer::answer(&lab.state, hall, question, lab.now).answer);
        (file(&Lab::packet_for(&asked, &said)).to_owned(), said.vlan.map(u16::from))
    };
    assert_eq!(told(Ipv4Addr::UNSPECIFIED), ("ours.efi".to_owned(), Some(20)));
    assert_eq!(told([10, 99, 0, 1].into()), ("theirs.efi".to_owned(), None));
    assert_eq!(told([10, 98, 0, 1].into()), ("usual.efi".to_owned(), None));
}
