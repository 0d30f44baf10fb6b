//! What real firmware sent over IPv6 is read as what it is, and answered so that
//! the firmware would go on.

use std::{fs, net::Ipv6Addr, path::Path};

use bytes::Bytes;
use remoteboot::{
    dhcp6::{
        Settings,
        answer::{self, Answer},
        reply,
        request::{self, Client, Kind, Request, To},
    },
    files::Catalogue,
    model::{Architecture, BootWay, Duid, Firmware, Holder, Pool6, Seconds, Subnet6, Timestamp},
    state::State,
};

/// The DHCPv6 packets of clients in a capture, with who sent them, in order.
fn requests(name: &str) -> Vec<(Ipv6Addr, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name);
    let bytes = fs::read(&path).expect("a capture");
    let number = |place: usize| {
        u32::from_le_bytes(bytes[place..place + 4].try_into().expect("four bytes")) as usize
    };
    assert_eq!(number(0), 0xa1b2_c3d4, "{} is a pcap file of this byte order", path.display());
    let mut place = 24;
    let mut found = Vec::new();
    while place + 16 <= bytes.len() {
        let length = number(place + 8);
        let frame = &bytes[place + 16..place + 16 + length];
        place += 16 + length;
        let is_ipv6_udp = frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(20) == Some(&17);
        if is_ipv6_udp && frame.get(56..58) == Some(&547u16.to_be_bytes()) {
            let from: [u8; 16] = frame[22..38].try_into().expect("sixteen bytes");
            found.push((from.into(), frame[62..].to_vec()));
        }
    }
    assert!(!found.is_empty(), "{} has requests", path.display());
    found
}

fn settings() -> Settings {
    let at = |last: u16| Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, last);
    let pool = Pool6 { first: at(0x100), last: at(0x1ff), except: vec![] };
    Settings {
        server_id: Duid::of_uuid([9; 16]),
        server: at(1),
        subnets: vec![Subnet6 {
            network: "fd00:77::/64".parse().expect("a network"),
            pool: Some(pool),
        }],
        dns: vec![],
        search: vec![],
        ntp: vec![],
        lease_time: Seconds(600),
        tftp: Some("[fd00:77::1]".to_owned()),
        authority: Some("[fd00:77::1]".to_owned()),
        rules: Default::default(),
    }
}

/// Every request of the capture as it is read, and what it is told to boot.
fn told(name: &str) -> Vec<(Request, Option<String>)> {
    let settings = settings();
    let program = (Architecture::X64Uefi, "snponly.efi".to_owned(), Bytes::from_static(b"x"));
    let catalogue = Catalogue::new([program]);
    let mut state = State::new(None).with_subnets6(settings.subnets.clone());
    let mut heard = Vec::new();
    for (step, (from, packet)) in requests(name).into_iter().enumerate() {
        let mut asked =
            request::parse(&packet, (from, To::Group)).expect("real firmware makes sense");
        // It spoke to a server with another name.
        asked.server_id = asked.server_id.is_some().then(|| settings.server_id.bytes().to_vec());
        let now = Timestamp(step as u64 * 1000);
        let decision = answer::answer(&state, (&settings, &catalogue), &asked, now);
        decision.changes.iter().for_each(|change| state.apply(change));
        let Answer::Reply(answered) = decision.answer else {
            panic!("{name}: {:?} is not answered", asked.kind);
        };
        reply::encode(&settings, &asked, &answered).expect("it fits");
        heard.push((asked, answered.boot.ok().map(|boot| boot.url().to_owned())));
    }
    assert_eq!(state.addresses6.leases().count(), 1, "{name}: one address along the whole boot");
    heard
}

const X64: Firmware = Firmware::Known(Architecture::X64Uefi);

#[test]
fn real_firmware_over_ipv6_is_one_machine_under_all_its_names_and_told_what_it_boots() {
    let script = "http://[fd00:77::1]/ipxe/52-54-00-77-00-01.ipxe";
    for (name, way, url, has_ipxe) in [
        ("uefi-pxe6.pcap", BootWay::Pxe, "tftp://[fd00:77::1]/snponly.efi", true),
        ("uefi-http6.pcap", BootWay::Http, "http://[fd00:77::1]/loader/snponly.efi", false),
    ] {
        let heard = told(name);
        let machine = Some(Holder::Machine("52:54:00:77:00:01".parse().expect("a MAC")));
        assert!(heard.iter().all(|(asked, _)| asked.holder == machine), "{name}");
        let firmware = Client::Firmware { way, firmware: X64 };
        let ipxe = Client::Ipxe { firmware: Some(X64) };
        let kinds = [Kind::Solicit { rapid: false }, Kind::Request];
        for (client, expected, is_there) in [
            (firmware, Some(url), true),
            (ipxe, Some(script), has_ipxe),
            (Client::Host, None, true),
        ] {
            let of_client = heard.iter().filter(|(asked, _)| asked.client == client);
            let told: Vec<_> = of_client
                .filter(|(asked, _)| kinds.contains(&asked.kind))
                .map(|(asked, boot)| (asked.kind, boot.as_deref()))
                .collect();
            let all = kinds.map(|kind| (kind, expected));
            assert_eq!(told, if is_there { all.to_vec() } else { vec![] }, "{name}: {client:?}");
        }
    }
}
