use proptest::prelude::*;

use super::*;
use crate::{
    dhcp6::testing::{
        OPAQUE, card, class, here, ia_na, link_local, opaque, packet_of, through_relay,
    },
    model::{Architecture, BootWay, Firmware},
};

const LL: &[u8] = &[0, 3, 0, 1, 0x52, 0x54, 0, 0xaa, 1, 7];

fn read(from: Ipv6Addr, packet: &[u8]) -> Result<Request, Malformed> {
    parse(packet, (from, To::Group))
}

fn solicit(options: Vec<(u16, Vec<u8>)>) -> Request {
    let all = [vec![(1, opaque(1))], options].concat();
    read(OPAQUE, &packet_of(1, &all)).expect("a Solicit")
}

#[test]
fn a_machine_is_the_card_that_asks_and_only_else_what_its_name_says() {
    let by_name = |duid: &[u8]| vec![(1, duid.to_vec()), ia_na(5, &[])];
    let holder = |from, packet: &[u8]| read(from, packet).expect("a Solicit").holder;
    let plain = packet_of(1, &by_name(LL));
    assert_eq!(holder(link_local(card(1)), &plain), Some(Holder::Machine(card(1))));
    assert_eq!(holder(OPAQUE, &plain), Some(Holder::Machine(card(7))));
    let unknown = packet_of(1, &by_name(&opaque(3)));
    let client = Holder::Client(
        Duid::of_uuid(*b"\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x55"),
        5,
    );
    assert_eq!(holder(OPAQUE, &unknown), Some(client.clone()));

    // Through a relay the client's address is its peer, and option 79 its card.
    let relay = link_local(card(9));
    let through = |more| through_relay((0, here(1), OPAQUE), &unknown, more);
    assert_eq!(holder(relay, &through(vec![])), Some(client));
    let told = vec![(79, [&[0, 1][..], &card(4).bytes()].concat())];
    assert_eq!(holder(relay, &through(told)), Some(Holder::Machine(card(4))));
    let peer = through_relay((0, here(1), link_local(card(2))), &unknown, vec![]);
    assert_eq!(holder(relay, &peer), Some(Holder::Machine(card(2))));
}

#[test]
fn a_client_is_what_its_classes_say() {
    let pxe = (16, class("PXEClient:Arch:00007:UNDI:003001"));
    let x64 = Firmware::Known(Architecture::X64Uefi);
    let firmware = |way| Client::Firmware { way, firmware: x64 };
    for (options, expected) in [
        (vec![pxe.clone(), (61, vec![0, 7])], firmware(BootWay::Pxe)),
        (vec![pxe.clone()], firmware(BootWay::Pxe)),
        (vec![(16, class("HTTPClient")), (61, vec![0, 16])], firmware(BootWay::Http)),
        (vec![pxe.clone(), (15, b"\0\x04iPXE".to_vec())], Client::Ipxe { firmware: Some(x64) }),
        (vec![(15, b"\0\x01a\0\x04iPXE".to_vec())], Client::Ipxe { firmware: None }),
        (vec![(15, b"iPXE".to_vec())], Client::Ipxe { firmware: None }),
        (vec![(16, class("PXEClient"))], Client::Host),
        (vec![(16, [&[0, 0, 0, 9][..], &class("PXEClient")[4..]].concat())], Client::Host),
        (vec![(15, b"\0\x05iPXE2".to_vec()), (61, vec![0, 7])], Client::Host),
        (vec![], Client::Host),
    ] {
        assert_eq!(solicit(options.clone()).client, expected, "{options:?}");
    }
    let several = solicit(vec![pxe, (61, vec![0, 0x77, 0, 11])]).client;
    let arm64 = Firmware::Known(Architecture::Arm64Uefi);
    assert_eq!(several, Client::Firmware { way: BootWay::Pxe, firmware: arm64 });
}

#[test]
fn each_message_names_whom_it_must_and_nobody_else() {
    let client = || (1, opaque(1));
    let server = || (2, opaque(2));
    let read = |kind, options: Vec<(u16, Vec<u8>)>| {
        read(OPAQUE, &packet_of(kind, &options)).map(|request| request.kind)
    };
    for kind in [1, 4, 6] {
        assert_eq!(read(kind, vec![client(), server()]), Err(Malformed::ServerId), "{kind}");
        assert_eq!(read(kind, vec![]), Err(Malformed::NoClientId), "{kind}");
    }
    for kind in [3, 5, 8, 9] {
        assert_eq!(read(kind, vec![client()]), Err(Malformed::NoServerId), "{kind}");
        assert_eq!(read(kind, vec![server()]), Err(Malformed::NoClientId), "{kind}");
        assert!(read(kind, vec![client(), server()]).is_ok(), "{kind}");
    }
    assert_eq!(read(11, vec![]), Ok(Kind::Information));
    assert_eq!(read(11, vec![ia_na(1, &[])]), Err(Malformed::Association));
    assert_eq!(read(1, vec![client(), (14, vec![])]), Ok(Kind::Solicit { rapid: true }));
    for kind in [0, 2, 7, 10, 13, 14, 255] {
        assert_eq!(read(kind, vec![client()]), Err(Malformed::MessageType(kind)));
    }
    assert_eq!(read(1, vec![(1, vec![0, 4])]), Err(Malformed::NoClientId), "too short for a DUID");
}

#[test]
fn what_is_not_whole_is_refused_with_its_reason() {
    assert_eq!(read(OPAQUE, &[1, 2, 3]), Err(Malformed::Short(3)));
    assert_eq!(read(OPAQUE, &[12, 0, 1]), Err(Malformed::Short(3)));
    assert_eq!(read(OPAQUE, &[1, 0, 0, 0, 0, 1, 0, 9, 1]), Err(Malformed::OptionLength(1)));
    let mut packet = packet_of(1, &vec![(1, opaque(1))]);
    assert_eq!(
        read(OPAQUE, &through_relay((0, here(1), OPAQUE), &[], vec![])),
        Err(Malformed::Short(38)),
        "the message in it is empty"
    );
    let empty = [&[12, 0][..], &[0; 32]].concat();
    assert_eq!(read(OPAQUE, &empty), Err(Malformed::EmptyRelay));
    for hops in 0..9 {
        let outcome = read(OPAQUE, &packet).map(|request| request.route.relays.len());
        assert_eq!(outcome, Ok(usize::from(hops)));
        packet = through_relay((hops, here(1), OPAQUE), &packet, vec![]);
    }
    assert_eq!(read(OPAQUE, &packet), Err(Malformed::TooManyRelays));
}

#[test]
fn the_link_is_that_of_the_relay_next_to_the_client_that_knows_it() {
    let inner = packet_of(1, &vec![(1, opaque(1))]);
    let unknown = Ipv6Addr::UNSPECIFIED;
    let link = |first: Ipv6Addr, second: Ipv6Addr| {
        let packet = through_relay((0, first, OPAQUE), &inner, vec![]);
        let packet = through_relay((1, second, OPAQUE), &packet, vec![(18, vec![7])]);
        read(OPAQUE, &packet).expect("a Solicit").route
    };
    assert_eq!(link(here(1), here(2)).link(), Some(here(1)));
    assert_eq!(link(unknown, here(2)).link(), Some(here(2)));
    assert_eq!(link(unknown, unknown).link(), None);
    let route = link(here(1), here(2));
    assert_eq!(route.relays[0].interface_id, Some(vec![7]));
    assert_eq!((route.relays[0].hops, route.relays[1].hops), (1, 0), "from us to the client");
}

#[test]
fn one_bad_option_hides_no_other() {
    let request = solicit(vec![
        (3, vec![1, 2]),
        ia_na(4, &[here(9), Ipv6Addr::UNSPECIFIED]),
        (25, vec![0, 0, 0, 6]),
        (4, vec![0, 0]),
        (79, vec![0]),
        (16, vec![1]),
        (61, vec![0]),
        (13, vec![]),
    ]);
    assert_eq!(request.associations, [Association { id: 4, addresses: vec![here(9)] }]);
    assert_eq!(request.others, [(Other::Prefix, 6)]);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(OPAQUE, &bytes);
    }

    #[test]
    fn no_mutated_message_panics(
        changes in proptest::collection::vec((0usize..300, any::<u8>()), 0..12),
        length in 4usize..300,
        relays in 0u8..3,
    ) {
        let options = vec![
            (1, LL.to_vec()), ia_na(1, &[here(9)]), (15, b"\0\x04iPXE".to_vec()),
            (16, class("PXEClient:Arch:00007")), (61, vec![0, 7]), (6, vec![0, 59]),
            (25, vec![0; 12]), (4, vec![0; 4]),
        ];
        let mut bytes = packet_of(1, &options);
        for hops in 0..relays {
            bytes = through_relay((hops, here(1), OPAQUE), &bytes, vec![(79, vec![0; 8])]);
        }
        bytes.truncate(length);
        for (place, byte) in changes {
            if let Some(old) = bytes.get_mut(place) {
                *old = byte;
            }
        }
        let _ = read(OPAQUE, &bytes);
    }
}
