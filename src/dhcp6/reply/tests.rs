use dhcproto::{Decodable as _, Decoder};
use proptest::prelude::*;

use super::*;
use crate::dhcp6::{
    answer::NoBootFile,
    request::{To, parse},
    testing::*,
};

/// What the client hears: the packet behind the relays' headers.
fn told(client: Options, parameters: &[u8]) -> Vec<u8> {
    let mut lab = Lab::new();
    let asked = [client, vec![ia_na(1, &[]), (6, parameters.to_vec())]].concat();
    let solicit = request(card(1), 1, asked);
    let answered = reply(lab.hear(&solicit));
    lab.packet_for(&solicit, &answered)
}

#[test]
fn an_advertise_repeats_who_asked_and_says_who_answers() {
    let packet = told(vec![], &[]);
    assert_eq!(packet[..4], [2, 0xab, 0xcd, 0xef]);
    assert_eq!(option_of(&packet, 4, 1), Some(opaque(1)));
    assert_eq!(option_of(&packet, 4, 2), Some(settings().server_id.bytes().to_vec()));
    let association = option_of(&packet, 4, 3).expect("an IA_NA");
    assert_eq!(
        association[..12],
        [[0, 0, 0, 1], 3600u32.to_be_bytes(), 5760u32.to_be_bytes()].concat()
    );
    let address = option_of(&association, 12, 5).expect("an address");
    assert_eq!(address[..16], FIRST.octets());
    assert_eq!(address[16..], [7200u32.to_be_bytes(), 7200u32.to_be_bytes()].concat());
    assert_eq!(option_of(&packet, 4, 7), None, "a host may wait for other servers");
}

#[test]
fn the_network_s_servers_are_told_to_who_asks_for_them() {
    let all = told(vec![], &[]);
    assert_eq!(option_of(&all, 4, 23), Some(here(0x53).octets().to_vec()));
    let search = b"\x01a\x07example\0\x01b\x07example\0".to_vec();
    assert_eq!(option_of(&all, 4, 24), Some(search));
    let time = [&[0, 1, 0, 16][..], &here(0x123).octets()].concat();
    assert_eq!(option_of(&all, 4, 56), Some(time));
    let some = told(vec![], &[0, 23]);
    assert!(option_of(&some, 4, 23).is_some());
    assert_eq!((option_of(&some, 4, 24), option_of(&some, 4, 56)), (None, None));
}

#[test]
fn http_boot_over_ipv6_is_answered_in_its_class_and_pxe_is_not() {
    let url = |packet: &[u8]| String::from_utf8(option_of(packet, 4, 59).expect("a URL"));
    let packet = told(http(), &[]);
    assert_eq!(url(&packet).as_deref(), Ok("http://[fd00::1]/loader/snponly.efi"));
    assert_eq!(option_of(&packet, 4, 16), Some(http()[0].1.clone()));
    let packet = told(pxe(), &[]);
    assert_eq!(url(&packet).as_deref(), Ok("tftp://[fd00::1]/snponly.efi"));
    assert_eq!(option_of(&packet, 4, 16), None, "UEFI would look for a boot server");
    let packet = told(ipxe(), &[]);
    assert_eq!(url(&packet).as_deref(), Ok("http://[fd00::1]/ipxe/52-54-00-aa-01-01.ipxe"));
    assert_eq!(option_of(&packet, 4, 16), None);
    assert_eq!(option_of(&packet, 4, 7), Some(vec![255]), "who boots waits for no other server");
}

#[test]
fn what_came_through_relays_goes_back_through_them() {
    let mut lab = Lab::new();
    let solicit = packet_of(1, &vec![(1, opaque(1)), ia_na(1, &[])]);
    let inner =
        through_relay((0, there(1), link_local(card(1))), &solicit, vec![(18, b"port 7".to_vec())]);
    let outer = through_relay((1, Ipv6Addr::UNSPECIFIED, here(2)), &inner, vec![]);
    let asked = parse(&outer, (here(3), To::Us)).expect("a Solicit");
    assert_eq!(hearer(&asked), Hearer::Relay);
    let answered = reply(lab.hear(&asked));
    let packet = lab.packet_for(&asked, &answered);

    assert_eq!(packet[..2], [13, 1]);
    assert_eq!(packet[18..34], here(2).octets());
    assert_eq!(option_of(&packet, 34, 18), None);
    let packet = option_of(&packet, 34, 9).expect("a message");
    assert_eq!(packet[..2], [13, 0]);
    assert_eq!(packet[2..18], there(1).octets());
    assert_eq!(packet[18..34], link_local(card(1)).octets());
    assert_eq!(option_of(&packet, 34, 18), Some(b"port 7".to_vec()));
    let packet = option_of(&packet, 34, 9).expect("a message");
    assert_eq!(packet[0], 2);
    let association = option_of(&packet, 4, 3).expect("an IA_NA");
    let address = option_of(&association, 12, 5).expect("an address");
    assert_eq!(address[..16], there(0x100).octets(), "of the network of the relay's link");
}

#[test]
fn what_is_not_given_here_is_refused_by_name() {
    let mut lab = Lab::new();
    let options = vec![ia_na(1, &[]), (25, vec![0; 12]), (4, vec![0, 0, 0, 8])];
    let solicit = request(card(1), 1, options);
    let answered = reply(lab.hear(&solicit));
    let packet = lab.packet_for(&solicit, &answered);
    let prefix = option_of(&packet, 4, 25).expect("an IA_PD");
    assert_eq!(option_of(&prefix, 12, 13).expect("a status")[..2], [0, 6]);
    let temporary = option_of(&packet, 4, 4).expect("an IA_TA");
    assert_eq!(temporary[..4], [0, 0, 0, 8]);
    assert_eq!(option_of(&temporary, 4, 13).expect("a status")[..2], [0, 2]);
}

#[test]
fn a_reply_that_no_datagram_holds_is_not_sent() {
    let mut lab = Lab::new();
    let solicit = packet_of(1, &vec![(1, opaque(1)), ia_na(1, &[])]);
    let identity = vec![(18, vec![0; 60_000])];
    let relayed = through_relay((0, here(1), OPAQUE), &solicit, identity);
    let mut asked = parse(&relayed, (here(3), To::Us)).expect("a Solicit");
    let relay = asked.route.relays[0].clone();
    asked.route.relays.push(relay);
    let answered = reply(lab.hear(&asked));
    let outcome = encode(&lab.settings, &asked, &answered);
    assert!(matches!(outcome, Err(Unsendable::TooLarge(size)) if size > 65_000), "{outcome:?}");
}

proptest! {
    /// What we write, an independent reader reads to its end, and it is the same.
    #[test]
    fn what_is_written_is_read(
        kind in prop_oneof![Just(ReplyKind::Advertise), Just(ReplyKind::Rapid), Just(ReplyKind::Reply)],
        ids in proptest::collection::vec(any::<u32>(), 0..4),
        gone in 0u16..4,
        boots in any::<bool>(),
    ) {
        let boot = match boots {
            true => Ok(BootFile::Script("http://[fd00::1]/x".to_owned())),
            false => Err(NoBootFile::Host),
        };
        let granted = |id: &u32| Granted {
            id: *id,
            address: id.is_multiple_of(2).then_some(FIRST),
            gone: (0..gone).map(there).collect(),
            status: (!id.is_multiple_of(2)).then_some(Status::NoBinding),
        };
        let associations = ids.iter().map(granted).collect();
        let others = vec![(Other::Prefix, 7)];
        let answered = Reply { kind, status: None, associations, others, boot, remark: None };
        let asked = request(card(1), 1, vec![ia_na(1, &[])]);
        let packet = Lab::new().packet_for(&asked, &answered);
        let read = v6::Message::decode(&mut Decoder::new(&packet)).expect("readable");
        let found = read.opts().iter().filter(|option| matches!(option, DhcpOption::IANA(_))).count();
        prop_assert_eq!(found, ids.len());
        prop_assert_eq!(options_of(&packet, 4).len(), read.opts().iter().count());
    }
}
