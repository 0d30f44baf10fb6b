//! No packet panics the reader; what is read is answered with a packet whose
//! options end with it.
#![no_main]

use std::net::Ipv6Addr;

use libfuzzer_sys::fuzz_target;
use remoteboot::{
    dhcp6::{
        Settings,
        answer::{self, Answer},
        reply,
        request::{self, To},
    },
    files::Catalogue,
    model::{Architecture, Duid, Pool6, Seconds, Subnet6, Timestamp},
    state::State,
};

const FROM: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe77, 1);

fuzz_target!(|packet: &[u8]| {
    let Ok(asked) = request::parse(packet, (FROM, To::Group)) else { return };
    let at = |last: u16| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
    let pool = Pool6 { first: at(9), last: at(12), except: vec![] };
    let network = "fd00::/16".parse().expect("a network");
    let settings = Settings {
        server_id: Duid::of_uuid([9; 16]),
        server: at(1),
        subnets: vec![Subnet6 { network, pool: Some(pool) }],
        dns: vec![at(1)],
        search: vec!["example.org".to_owned()],
        ntp: vec![at(1)],
        lease_time: Seconds(60),
        tftp: Some("[fd00::1]".to_owned()),
        authority: Some("[fd00::1]".to_owned()),
        rules: Default::default(),
    };
    let program = (Architecture::X64Uefi, "snponly.efi".to_owned(), bytes::Bytes::new());
    let catalogue = Catalogue::new([program]);
    let mut state = State::new(None).with_subnets6(settings.subnets.clone());
    for step in 0..2 {
        let decision =
            answer::answer(&state, (&settings, &catalogue), &asked, Timestamp(step * 1000));
        decision.changes.iter().for_each(|change| state.apply(change));
        if let Answer::Reply(answered) = decision.answer
            && let Ok(packet) = reply::encode(&settings, &asked, &answered)
        {
            let header = if asked.route.relays.is_empty() { 4 } else { 34 };
            let mut rest = &packet[header..];
            while let [_, _, a, b, tail @ ..] = rest {
                rest = &tail[usize::from(u16::from_be_bytes([*a, *b]))..];
            }
            assert!(rest.is_empty());
        }
    }
});
