use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::dhcp::{request::Kind, testing::*};

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
    let refusal = Reply { kind: ReplyKind::Refuse, boot, hostname: None, server: SERVER, subnet };
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
    discover.route.largest = 576;
    assert!(matches!(encode(&discover, &offer), Err(Unsendable::TooLarge { largest: 576, .. })));
    discover.route.largest = 1500;
    assert!(encode(&discover, &offer).is_ok());
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
