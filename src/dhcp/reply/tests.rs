use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    dhcp::{request::Kind, testing::*},
    model::{
        Architecture, Change, DhcpOptions, LeaseTimes, Machine, MachineKind, Overlay, Profile,
        Seconds, Subnets, Timestamp, testing,
    },
};

/// The OFFER that this client gets, as a packet.
fn offer_to(client: Options) -> Vec<u8> {
    let mut lab = Lab::new();
    let discover = request(card(1), 1, client);
    let offer = reply(lab.hear(&discover));
    Lab::packet_for(&discover, &offer)
}

fn field(packet: &[u8], from: usize) -> Ipv4Addr {
    let bytes: [u8; 4] = packet[from..from + 4].try_into().expect("four bytes");
    bytes.into()
}

/// The `file` field up to its first zero.
fn file(packet: &[u8]) -> &[u8] {
    let field = &packet[108..236];
    &field[..field.iter().position(|byte| *byte == 0).expect("an ending zero")]
}

#[test]
fn every_reply_names_its_server_and_the_next_one() {
    for client in [BIOS, UEFI, HTTP, IPXE] {
        let packet = offer_to(client);
        assert_eq!(option_of(&packet, 54), Some(SERVER.octets().to_vec()));
        assert_eq!(field(&packet, 20), SERVER, "siaddr");
    }
}

#[test]
fn the_boot_file_is_in_the_field_and_in_option_67() {
    for (client, name) in [
        (BIOS, "undionly.kpxe"),
        (UEFI, "snponly.efi"),
        (HTTP, "http://10.0.0.1/loader/snponly.efi"),
        (IPXE, "http://10.0.0.1/ipxe/52-54-00-aa-01-01.ipxe"),
    ] {
        let packet = offer_to(client);
        assert_eq!(file(&packet), name.as_bytes());
        assert_eq!(option_of(&packet, 67), Some(name.as_bytes().to_vec()));
    }
}

#[test]
fn pxe_firmware_is_told_not_to_look_for_a_boot_server() {
    for client in [BIOS, UEFI] {
        let packet = offer_to(client);
        assert_eq!(option_of(&packet, 60).as_deref(), Some(&b"PXEClient"[..]));
        assert_eq!(option_of(&packet, 43).as_deref(), Some(&[6, 1, 8, 255][..]));
    }
}

#[test]
fn the_vlan_of_a_machine_is_told_to_all_that_it_boots_with_and_to_no_host() {
    let vlan = [&[116, 2][..], b"20", &[255]].concat();
    let with_control = [&[6, 1, 8][..], &vlan].concat();
    for (client, expected) in [
        (BIOS, Some(&with_control)),
        (UEFI, Some(&with_control)),
        (IPXE, Some(&vlan)),
        (HTTP, Some(&vlan)),
        (HOST, None),
    ] {
        let mut lab = Lab::new();
        let machine = Machine { vlan: 20.try_into().ok(), ..testing::held(card(1), Timestamp(1)) };
        lab.state.apply(&Change::Machine(machine));
        let asked = request(card(1), 1, client);
        let offer = reply(lab.hear(&asked));
        assert_eq!(option_of(&Lab::packet_for(&asked, &offer), 43).as_ref(), expected);
    }
}

#[test]
fn http_boot_firmware_is_answered_in_its_own_class() {
    let packet = offer_to(HTTP);
    assert_eq!(option_of(&packet, 60).as_deref(), Some(&b"HTTPClient"[..]));
    assert_eq!(option_of(&packet, 43), None);
}

#[test]
fn ipxe_is_told_that_no_proxy_will_come() {
    let packet = offer_to(IPXE);
    assert_eq!(option_of(&packet, 175).as_deref(), Some(&[0xb0, 1, 1][..]));
    assert_eq!((option_of(&packet, 60), option_of(&packet, 43)), (None, None));
}

#[test]
fn a_plain_host_gets_no_boot_options() {
    let packet = offer_to(HOST);
    for code in [43, 60, 66, 67, 97, 175] {
        assert_eq!(option_of(&packet, code), None, "{code}");
    }
    assert_eq!((field(&packet, 20), file(&packet)), (Ipv4Addr::UNSPECIFIED, &b""[..]));
}

#[test]
fn overload_is_never_used_and_short_packets_are_padded() {
    for client in [BIOS, UEFI, HTTP, IPXE, HOST] {
        let packet = offer_to(client);
        assert_eq!(option_of(&packet, 52), None);
        assert!(packet.len() >= 300, "{}", packet.len());
    }
}

#[test]
fn the_network_is_told_as_it_is_configured() {
    let packet = offer_to(HOST);
    assert_eq!(option_of(&packet, 1), Some(vec![255, 255, 255, 0]));
    assert_eq!(option_of(&packet, 28), Some(vec![10, 0, 0, 255]));
    assert_eq!(option_of(&packet, 3), Some(SERVER.octets().to_vec()));
    assert_eq!(option_of(&packet, 6), Some(SERVER.octets().to_vec()));
    assert_eq!(option_of(&packet, 51), Some(7200u32.to_be_bytes().to_vec()));
    assert_eq!(option_of(&packet, 58), Some(3600u32.to_be_bytes().to_vec()));
    assert_eq!(option_of(&packet, 59), Some(6300u32.to_be_bytes().to_vec()));
}

#[test]
fn the_machine_identifier_comes_back_to_pxe_firmware() {
    let sent = UEFI.iter().find(|(code, _)| *code == 97).map(|(_, value)| value.to_vec());
    assert_eq!(option_of(&offer_to(UEFI), 97), sent);
}

#[test]
fn a_reply_goes_where_the_client_can_hear_it() {
    let mut lab = Lab::new();
    let mut discover = request(card(1), 1, UEFI);
    let offer = reply(lab.hear(&discover));
    assert_eq!(destination(&discover, &offer), Destination::Hardware(card(1), FIRST));
    discover.route.broadcast = true;
    assert_eq!(destination(&discover, &offer), Destination::Broadcast);
    discover.route.ciaddr = SECOND;
    assert_eq!(destination(&discover, &offer), Destination::Unicast(SECOND));
    discover.route.giaddr = [10, 0, 0, 5].into();
    assert_eq!(destination(&discover, &offer), Destination::Relay([10, 0, 0, 5].into()));
    let refusal = Reply { kind: ReplyKind::Refuse, ..offer };
    discover.route.giaddr = Ipv4Addr::UNSPECIFIED;
    assert_eq!(destination(&discover, &refusal), Destination::Broadcast);
}

#[test]
fn a_refusal_through_a_relay_asks_it_to_broadcast() {
    let lab = Lab::new();
    let mut asked = request(card(1), 1, UEFI);
    asked.route.giaddr = [10, 0, 0, 5].into();
    let boot = Err(crate::dhcp::answer::NoBootFile::Host);
    let subnet = Arc::clone(lab.settings.subnets.of(SERVER).expect("ours"));
    let times = subnet.times;
    let (kind, server, remark, vlan) = (ReplyKind::Refuse, SERVER, None, None);
    let own = DhcpOptions::default();
    let refusal = Reply { kind, boot, remark, hostname: None, server, times, subnet, vlan, own };
    let packet = Lab::packet_for(&asked, &refusal);
    assert_eq!(packet[10], 0x80, "the broadcast flag");
    assert_eq!(options_of(&packet).len(), 2, "a NAK says nothing but who refuses");
}

#[test]
fn relay_information_comes_back_last_and_to_the_letter() {
    let mut lab = Lab::new();
    let mut discover = request(card(1), 1, UEFI);
    discover.route.giaddr = [10, 0, 0, 5].into();
    let informations = [vec![2, 3, b'z', b'y', b'x', 1, 2, 0, 7, 99], vec![]];
    let kinds = [Kind::Discover { wanted: None }, Kind::Select { server: SERVER, address: FIRST }];
    for (kind, information) in kinds
        .into_iter()
        .flat_map(|kind| informations.clone().map(|information| (kind, information)))
    {
        discover.kind = kind;
        discover.route.relay_information = Some(information.clone());
        let answered = reply(lab.hear(&discover));
        let packet = Lab::packet_for(&discover, &answered);
        assert_eq!(options_of(&packet).last(), Some(&(82, information.clone())));
        let codes = options_of(&packet).into_iter().filter(|(code, _)| *code == 82).count();
        assert_eq!(codes, 1, "once");
    }
}

#[test]
fn a_reply_that_the_client_cannot_take_is_not_sent() {
    let mut lab = Lab::new();
    let mut discover = request(card(1), 1, UEFI);
    discover.route.relay_information = Some(vec![7; 255]);
    let offer = reply(lab.hear(&discover));
    discover.route.relay_information = Some(vec![7; 300]);
    discover.route.largest = 576;
    assert!(matches!(encode(&discover, &offer), Err(Unsendable::TooLarge { largest: 576, .. })));
    discover.route.largest = 1500;
    assert!(encode(&discover, &offer).is_ok());
}

/// An OFFER of a network with these options to a client that takes so much.
fn offer_with(client: Options, options: &[(u8, Vec<u8>)], largest: u16) -> Vec<u8> {
    let mut lab = Lab::new();
    let mut discover = request(card(1), 1, client);
    let mut offer = reply(lab.hear(&discover));
    let mut all = DhcpOptions::default();
    options.iter().for_each(|(code, value)| all.set(*code, value.clone()));
    Arc::make_mut(&mut offer.subnet).options = all;
    discover.route.largest = largest;
    let packet = Lab::packet_for(&discover, &offer);
    assert!(packet.len() + 28 <= usize::from(largest), "{} bytes", packet.len());
    packet
}

#[test]
fn a_network_tells_its_hosts_what_was_configured() {
    let told = [(15, b"rack.example".to_vec()), (43, vec![1, 1, 7]), (121, vec![0, 10, 0, 0, 1])];
    let packet = offer_with(HOST, &told, 576);
    for (code, value) in &told {
        assert_eq!(option_of(&packet, *code).as_ref(), Some(value), "{code}");
    }
}

#[test]
fn what_is_configured_never_sends_a_booting_machine_elsewhere() {
    let told = [43, 60, 66, 67, 150, 175].map(|code| (code, b"elsewhere".to_vec()));
    for client in [BIOS, UEFI, HTTP, IPXE] {
        let packet = offer_with(client, &told, 576);
        assert!(options_of(&packet).iter().all(|(_, value)| value != b"elsewhere"));
        let without = offer_with(client, &[], 576);
        assert_eq!(packet, without);
    }
    // Whom we have nothing to boot for may well be another server's.
    assert_eq!(option_of(&offer_with(IA32, &told, 576), 67).as_deref(), Some(&b"elsewhere"[..]));
}

#[test]
fn a_long_option_comes_in_pieces_that_are_read_as_one() {
    let long: Vec<u8> = (0..600u16).map(|number| number.to_le_bytes()[0]).collect();
    let packet = offer_with(HOST, &[(119, long.clone())], 1500);
    let pieces: Vec<Vec<u8>> = options_of(&packet)
        .into_iter()
        .filter_map(|(code, value)| (code == 119).then_some(value))
        .collect();
    assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [255, 255, 90]);
    assert_eq!(pieces.concat(), long);
}

#[test]
fn no_packet_is_larger_than_a_link_whatever_the_client_says_it_takes() {
    let packet = offer_with(UEFI, &[(224, vec![7; 1000]), (225, vec![7; 1000])], 65280);
    assert!(packet.len() + 28 <= 1500, "{}", packet.len());
    assert!(option_of(&packet, 67).is_some() && option_of(&packet, 224).is_some());
    assert_eq!(option_of(&packet, 225), None);
}

#[test]
fn when_space_is_short_a_client_gets_what_it_asked_for() {
    let asks: Options = &[(60, b"udhcp"), (55, &[1, 3, 225])];
    let told = [(224, vec![7; 150]), (225, vec![8; 150])];
    let packet = offer_with(asks, &told, 576);
    assert_eq!(option_of(&packet, 225), Some(vec![8; 150]));
    assert_eq!((option_of(&packet, 224), option_of(&packet, 52)), (None, None));
}

#[test]
fn a_host_finds_in_the_other_fields_what_does_not_fit_and_firmware_never_does() {
    let told = [(224, vec![7; 240]), (225, vec![8; 100]), (226, vec![9; 40])];
    let asks: (u8, &[u8]) = (55, &[224, 225, 226]);
    let packet = offer_with(&[asks], &told, 576);
    assert_eq!(option_of(&packet, 52), Some(vec![3]));
    assert_eq!(option_of(&packet, 224), Some(vec![7; 240]));
    assert_eq!((packet[108..110].to_vec(), packet[108 + 102]), (vec![225, 100], 255));
    assert_eq!((packet[44..46].to_vec(), packet[44 + 42]), (vec![226, 40], 255));
    for client in [BIOS, UEFI, HTTP, IPXE] {
        let packet = offer_with(&[client, &[asks]].concat(), &told, 576);
        assert_eq!(option_of(&packet, 52), None);
        assert_eq!(option_of(&packet, 67).as_deref(), Some(file(&packet)));
    }
}

#[test]
fn what_a_client_calls_itself_and_where_it_wants_to_be_come_back() {
    let named: Options = &[(61, &[1, 2, 3, 4, 5, 6, 7]), (118, &[10, 0, 0, 0])];
    let packet = offer_to(named);
    for (code, value) in named {
        assert_eq!(option_of(&packet, *code).as_deref(), Some(*value), "{code}");
    }
}

#[test]
fn the_kind_and_the_server_come_first_and_the_mask_before_the_router() {
    let packet = offer_to(UEFI);
    let codes: Vec<u8> = options_of(&packet).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes[..5], [53, 54, 51, 1, 3]);
}

proptest! {
    /// No request that parses makes a reply that panics or is malformed.
    #[test]
    fn every_reply_can_be_read_again(
        options in proptest::collection::vec((1u8..255, proptest::collection::vec(any::<u8>(), 0..60)), 0..12),
        message_type in prop_oneof![Just(1u8), Just(3), Just(8)],
        ciaddr: [u8; 4],
        giaddr in prop_oneof![Just([0u8; 4]), Just([10, 0, 0, 5])],
    ) {
        let all: Vec<(u8, &[u8])> = options.iter().map(|(code, value)| (*code, value.as_slice())).collect();
        let kind = [message_type];
        let bytes = [&[(53, &kind[..])], all.as_slice()].concat();
        let mut packet = crate::dhcp::request::tests::packet(card(1), &bytes);
        packet[12..16].copy_from_slice(&ciaddr);
        packet[24..28].copy_from_slice(&giaddr);
        let Ok(asked) = crate::dhcp::request::parse(&packet) else { return Ok(()) };
        let mut lab = Lab::new();
        if let crate::dhcp::answer::Answer::Reply(answered) = lab.hear(&asked)
            && let Ok(packet) = encode(&asked, &answered)
        {
            let found = options_of(&packet);
            prop_assert_eq!(found.iter().filter(|(code, _)| *code == 53).count(), 1);
            prop_assert_eq!(&packet[4..8], &[1, 2, 3, 4]);
            prop_assert_eq!(asked.route.relay_information.is_some(), found.iter().any(|(code, _)| *code == 82));
            let _ = destination(&asked, &answered);
        }
    }
}

/// What a machine is told by an OFFER, or by a packet of its system, of these codes.
fn told(lab: &mut Lab, client: Options, codes: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut discover = request(card(1), 1, client);
    discover.route.largest = 1500;
    let offer = reply(lab.hear(&discover));
    let packet = Lab::packet_for(&discover, &offer);
    codes.iter().map(|code| option_of(&packet, *code)).collect()
}

#[test]
fn a_machine_is_told_its_own_over_its_profile_s_and_that_over_its_network_s() {
    let options = |said: &[(u8, &[u8])]| {
        let mut options = DhcpOptions::default();
        said.iter().for_each(|(code, value)| options.set(*code, value.to_vec()));
        options
    };
    let mut lab = Lab::new();
    let mut subnets = subnets();
    subnets[0].options = options(&[(15, b"net"), (40, b"net"), (121, &[8, 10, 10, 0, 0, 7])]);
    lab.settings.subnets = Subnets::new(subnets);
    let times = Some(LeaseTimes::of(Seconds(600)));
    let overlay = |options, times| Overlay { options, times };
    let databases = Profile {
        kind: MachineKind { labels: testing::tags(&[("role", "db")]), ..MachineKind::default() },
        overlay: overlay(options(&[(6, &[10, 0, 0, 53]), (15, b"db"), (12, b"db")]), times),
    };
    let of_bios = Profile {
        kind: MachineKind { architecture: Some(Architecture::Bios), ..MachineKind::default() },
        overlay: overlay(options(&[(15, b"bios")]), None),
    };
    lab.settings.profiles = vec![databases, of_bios];
    let codes = [3, 6, 12, 15, 40, 51, 121];
    let net = |text: &str| Some(text.as_bytes().to_vec());
    let (router, dns) = (Some(SERVER.octets().to_vec()), Some(SERVER.octets().to_vec()));
    let routes = |last| Some(vec![8, 10, 10, 0, 0, 7, 0, 10, 0, 0, last]);
    let lease = |seconds: u32| Some(seconds.to_be_bytes().to_vec());

    // Nothing is known of it, so no profile is its own.
    let expected = [router, dns, None, net("net"), net("net"), lease(7200), routes(1)];
    assert_eq!(told(&mut lab, HOST, &codes), expected);
    // By what it says of itself, and when it is known, its system the same.
    assert_eq!(told(&mut lab, BIOS, &[15, 40]), [net("bios"), net("net")]);
    assert_eq!(told(&mut lab, HOST, &[15, 40]), [net("bios"), net("net")]);

    let mut machine = lab.state.machines.find(card(1)).expect("seen").clone();
    machine.labels = testing::tags(&[("role", "db")]);
    machine.dhcp = overlay(options(&[(3, &[10, 0, 0, 9]), (15, b"own")]), None).into();
    lab.state.apply(&Change::Machine(machine.clone()));
    let (router, dns) = (Some(vec![10, 0, 0, 9]), Some(vec![10, 0, 0, 53]));
    let expected = [router, dns, net("db"), net("own"), net("net"), lease(600), routes(9)];
    assert_eq!(told(&mut lab, HOST, &codes), expected);

    // What an instance says of its name goes before all.
    lab.state.apply(&Change::Instance(instance(card(1), None)));
    assert_eq!(told(&mut lab, HOST, &[12, 15]), [net("worker-1"), net("own")]);

    // By each of its cards; and the times are those of what is kept, too.
    machine.identity.cards.insert(card(2));
    lab.state.apply(&Change::Machine(machine));
    let address = lab.lease(card(2), HOST);
    let times = reply(lab.select(card(2), address, HOST)).times;
    assert_eq!(times.lease, Seconds(600));
    let lease = lab.state.addresses.lease(address).expect("leased");
    assert_eq!(lease.expires, lab.now.after(std::time::Duration::from_secs(600)));
}
