//! What real firmware sent is read as what it is, and answered so that the
//! firmware would go on.

use std::{collections::HashSet, fs, net::Ipv4Addr, path::Path, time::Duration};

use bytes::Bytes;
use remoteboot::{
    dhcp::{
        Role, Settings,
        answer::{self, Answer, BootFile, Probed, Question},
        reply,
        request::{self, Client, Kind, Request},
    },
    files::Catalogue,
    model::{
        Architecture, BootWay, DhcpOptions, Firmware, LeaseTimes, Pool, Seconds, Subnet, Subnets,
        Timestamp,
    },
    state::State,
};

/// The DHCP packets of clients in a capture, in order.
fn requests(name: &str) -> Vec<Vec<u8>> {
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
        let is_ipv4_udp = frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&17);
        if !is_ipv4_udp {
            continue;
        }
        let udp = &frame[14 + usize::from(frame[14] & 15) * 4..];
        if udp.get(2..4) == Some(&67u16.to_be_bytes()) {
            found.push(udp[8..].to_vec());
        }
    }
    assert!(!found.is_empty(), "{} has requests", path.display());
    found
}

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);

fn settings() -> Settings {
    let network = "192.168.77.0/24".parse().expect("a network");
    Settings {
        role: Role::Server,
        watch: None,
        profiles: vec![],
        subnets: Subnets::new([Subnet {
            network,
            adapter: Some("eth0".to_owned()),
            server: SERVER,
            gateway: SERVER,
            dns: vec![SERVER],
            pool: Pool {
                network,
                ranges: vec!["192.168.77.100-192.168.77.200".parse().expect("a range")],
                except: vec![],
            },
            times: LeaseTimes::of(Seconds(600)),
            options: DhcpOptions::default(),
            vlan: None,
            pace: None,
        }]),
        tftp: Some(SERVER),
        authority: Some(SERVER.to_string()),
        rules: Default::default(),
        probe: false,
        decline_hold: Duration::from_secs(600),
        spread: 0,
    }
}

fn catalogue() -> Catalogue {
    Catalogue::new([
        (Architecture::Bios, "undionly.kpxe".to_owned(), Bytes::from_static(b"b")),
        (Architecture::X64Uefi, "snponly.efi".to_owned(), Bytes::from_static(b"x")),
        (Architecture::Arm64Uefi, "ipxe-arm64.efi".to_owned(), Bytes::from_static(b"a")),
    ])
}

/// Every request of the capture as it is read, and what it is told to boot.
fn told(name: &str) -> Vec<(Request, Option<String>)> {
    let (settings, catalogue) = (settings(), catalogue());
    let mut state = State::new(settings.subnets.iter().map(|subnet| subnet.pool.clone()));
    let mut addresses = HashSet::new();
    let mut heard = Vec::new();
    for (step, packet) in requests(name).iter().enumerate() {
        let mut asked = request::parse(packet).expect("real firmware makes sense");
        // It chose the address that the other server offered: take ours for it.
        if let (Kind::Select { server, .. }, Some(ours)) =
            (asked.kind, state.addresses.last_of(asked.mac))
        {
            assert_eq!(server, SERVER);
            asked.kind = Kind::Select { server, address: ours.address };
        }
        let now = Timestamp(step as u64 * 1000);
        let question = Question {
            request: &asked,
            link: Some(SERVER),
            boot_port: None,
            probed: Probed::Nothing,
        };
        let decision = answer::answer(&state, (&settings, &catalogue), question, now);
        decision.changes.iter().for_each(|change| state.apply(change));
        let Answer::Reply(answered) = decision.answer else {
            heard.push((asked, None));
            continue;
        };
        addresses.insert(match answered.kind {
            answer::ReplyKind::Offer(address) | answer::ReplyKind::Acknowledge(address) => address,
            answer::ReplyKind::Inform
            | answer::ReplyKind::Refuse
            | answer::ReplyKind::ProxyOffer(_)
            | answer::ReplyKind::ProxyBeside
            | answer::ReplyKind::ProxyAcknowledge(_) => {
                panic!("{name}: {:?} is answered with {:?}", asked.kind, answered.kind)
            }
        });
        reply::encode(&asked, &answered).expect("it fits what firmware takes");
        let boot = answered.boot.ok().map(|boot| match boot {
            BootFile::Program { name, .. } => name,
            BootFile::ProgramUrl(url) | BootFile::Script(url) => url,
        });
        heard.push((asked, boot));
    }
    assert_eq!(addresses.len(), 1, "{name}: one address along the whole boot");
    heard
}

/// The capture starts with firmware of this kind, which is told `program`, and
/// goes on as iPXE, which is told its script.
fn check(name: &str, way: BootWay, architecture: Architecture, program: &str) {
    let heard = told(name);
    let firmware = Client::Firmware { way, firmware: Firmware::Known(architecture) };
    assert_eq!(heard[0].0.client, firmware, "{name}");
    let mut kinds = HashSet::new();
    for (asked, boot) in &heard {
        match asked.client {
            Client::Firmware { .. } => {
                assert_eq!(asked.client, firmware, "{name}");
                assert_eq!(boot.as_deref(), Some(program), "{name}");
                kinds.insert("firmware");
            }
            Client::Ipxe { firmware } => {
                assert!(matches!(firmware, Some(Firmware::Known(_))), "{name}");
                check_script(name, asked, boot.as_deref());
                kinds.insert("ipxe");
            }
            Client::Host => assert_eq!(*boot, None, "{name}"),
        }
    }
    assert_eq!(kinds.len(), 2, "{name} shows firmware and iPXE");
}

fn check_script(name: &str, asked: &Request, boot: Option<&str>) {
    let expected = format!("http://192.168.77.1/ipxe/{}.ipxe", asked.mac.hyphenated());
    assert_eq!(boot, Some(expected.as_str()), "{name}");
}

#[test]
fn bios_pxe_gets_undionly_and_then_its_script() {
    for name in ["bios-pxe-chain.pcap", "ipxe-2.0/bios-pxe-chain.pcap"] {
        check(name, BootWay::Pxe, Architecture::Bios, "undionly.kpxe");
    }
}

#[test]
fn uefi_pxe_gets_snponly_and_then_its_script() {
    for name in ["uefi-pxe.pcap", "ipxe-2.0/uefi-pxe.pcap"] {
        check(name, BootWay::Pxe, Architecture::X64Uefi, "snponly.efi");
    }
}

#[test]
fn uefi_http_boot_gets_a_url_with_an_address_in_it() {
    let url = "http://192.168.77.1/loader/snponly.efi";
    for name in ["uefi-http.pcap", "ipxe-2.0/uefi-http.pcap"] {
        check(name, BootWay::Http, Architecture::X64Uefi, url);
    }
}

#[test]
fn arm64_gets_the_program_of_arm64() {
    check("arm64-uefi-pxe.pcap", BootWay::Pxe, Architecture::Arm64Uefi, "ipxe-arm64.efi");
    let url = "http://192.168.77.1/loader/ipxe-arm64.efi";
    check("arm64-uefi-http.pcap", BootWay::Http, Architecture::Arm64Uefi, url);
}

#[test]
fn ipxe_in_rom_gets_its_script_at_once() {
    for name in ["bios-ipxe-rom.pcap", "uefi-ipxe-rom.pcap"] {
        for (asked, boot) in told(name) {
            match asked.client {
                Client::Ipxe { .. } => check_script(name, &asked, boot.as_deref()),
                Client::Host => assert_eq!(boot, None),
                Client::Firmware { .. } => panic!("{name}: iPXE is taken for firmware"),
            }
        }
    }
}

/// As old iPXE in ROMs is: the real packets, but with HTTP taken off the list of
/// features (option 175, suboption 19).
#[test]
fn ipxe_in_rom_that_lists_no_http_gets_a_program_by_tftp() {
    for (name, program) in
        [("bios-ipxe-rom.pcap", "undionly.kpxe"), ("uefi-ipxe-rom.pcap", "snponly.efi")]
    {
        let mut packet = requests(name).remove(0);
        let whole = request::parse(&packet).expect("real firmware makes sense");
        assert_eq!(whole.features.lacks(Some(Firmware::Unknown(0xffff))), None, "{name}");
        let http = packet.windows(3).rposition(|bytes| bytes == [19, 1, 1]).expect("HTTP");
        packet[http + 2] = 0;
        let asked = request::parse(&packet).expect("real firmware makes sense");
        let (settings, catalogue) = (settings(), catalogue());
        let state = State::new(settings.subnets.iter().map(|subnet| subnet.pool.clone()));
        let question = Question {
            request: &asked,
            link: Some(SERVER),
            boot_port: None,
            probed: Probed::Nothing,
        };
        let answer = answer::answer(&state, (&settings, &catalogue), question, Timestamp(0)).answer;
        let Answer::Reply(answered) = answer else { panic!("{name}: {answer:?}") };
        let told = BootFile::Program { name: program.to_owned(), server: SERVER };
        assert_eq!(answered.boot, Ok(told), "{name}");
        reply::encode(&asked, &answered).expect("it fits what firmware takes");
    }
}

#[test]
fn the_broadcast_flag_of_each_is_seen() {
    for (name, broadcast) in [
        ("uefi-pxe.pcap", true),
        ("uefi-http.pcap", true),
        ("bios-ipxe-rom.pcap", false),
        ("bios-pxe-chain.pcap", false),
    ] {
        let first = request::parse(&requests(name)[0]).expect("a DISCOVER");
        assert_eq!(first.route.broadcast, broadcast, "{name}");
    }
}
