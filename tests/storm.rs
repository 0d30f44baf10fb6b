//! Three hundred machines at once, and a daemon that serves eight of them at a time:
//! each asks one time only, and each gets what is its own.
//!
//! What is asked of real firmware's patience, and of ten thousand machines, the
//! benchmark measures.

mod daemon;
mod machine;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use daemon::Home;
use machine::{IPXE, Ports, RELAY};
use remoteboot::{
    model::{
        Asset, BootMode, Change, Decision, Image, Instance, InstanceId, Mac, Progress, Secrets,
        Source, Tags, Timestamp, Token,
    },
    store::Store,
};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, UdpSocket},
    task::JoinSet,
    time::timeout,
};

const MACHINES: u16 = 300;

/// Longer than anything here takes on a busy computer; nothing is asked again.
const LIMIT: Duration = Duration::from_secs(60);

const LOADER: usize = 20_000;

fn mac(number: u16) -> Mac {
    let [high, low] = number.to_be_bytes();
    Mac::new([0x52, 0x54, 0, 0x77, high, low])
}

fn address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 2, high, low)
}

fn token(number: u16) -> Token {
    Token(u128::from(number) << 64 | 1)
}

async fn provisioned(home: &Home) {
    let store = Store::open(&home.state(), None).expect("a new store");
    let mut last = None;
    let changes = (0..MACHINES).map(|number| {
        let id = InstanceId::next(last, Timestamp(1));
        last = Some(id);
        let kernel = Source::File("vmlinuz".to_owned().try_into().expect("a name"));
        let kernel = Asset { source: kernel, checksum: None };
        let (init, report) = (Token(token(number).0 + 1), Token(token(number).0 + 2));
        Change::Instance(Instance {
            id,
            logical_id: None,
            tags: Tags::new(),
            init: String::new().into(),
            mac: mac(number),
            address: Some(address(number)),
            hostname: format!("node-{number}").parse().expect("a name"),
            index: None,
            boot: BootMode::Always,
            image: Some(Image { kernel, initrds: Vec::new(), cmdline: "quiet".to_owned() }.into()),
            secrets: Secrets { files: token(number), init, report },
            provisioned_at: Timestamp(1),
            progress: Progress::new(Timestamp(1)),
        })
    });
    let changes = changes.collect();
    store.decide(|_| Decision { answer: (), changes }).await.expect("written");
    store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_at_once_ask_one_time_and_each_gets_its_own() {
    let (home, ports) = (Home::new(), Ports::free());
    provisioned(&home).await;
    let mut loader: Vec<u8> = (0..LOADER).map(|place| (place / 7) as u8).collect();
    // The header of a UEFI program for x86-64.
    loader[..2].copy_from_slice(b"MZ");
    loader[0x3c..0x40].copy_from_slice(&[0x40, 0, 0, 0]);
    loader[0x40..0x46].copy_from_slice(b"PE\0\0\x64\x86");
    let loaders = home.images().with_file_name("loaders");
    std::fs::create_dir(&loaders).expect("made");
    std::fs::write(loaders.join("snponly.efi"), &loader).expect("written");
    let mut arguments = ports.arguments();
    arguments.extend(["--tftp-transfers".to_owned(), "8".to_owned(), "--ipxe-dir".to_owned()]);
    arguments.push(loaders.display().to_string());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _daemon = home.start(&arguments);

    let scripts = leased(ports).await;
    assert_eq!(scripts.len(), usize::from(MACHINES));

    let mut loading = JoinSet::new();
    for number in 0..MACHINES {
        loading.spawn(timeout(LIMIT, loaded(ports, number)));
    }
    while let Some(ended) = loading.join_next().await {
        let got = ended.expect("no panic").expect("in time, though it asked once");
        assert!(got == loader, "{} octets", got.len());
    }

    let mut booting = JoinSet::new();
    for (number, url) in scripts {
        booting.spawn(timeout(LIMIT, script(ports, number, url)));
    }
    while let Some(ended) = booting.join_next().await {
        let (number, script) = ended.expect("no panic").expect("in time");
        let own = token(number).digits();
        assert!(script.contains(&own), "machine {number}: {script}");
    }
}

/// All ask for an address in one burst, and the answers say where their scripts are.
async fn leased(ports: Ports) -> HashMap<u16, String> {
    let relay = Arc::new(relay(ports));
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.dhcp));
    let asking = Arc::clone(&relay);
    tokio::spawn(async move {
        for number in 0..MACHINES {
            asking.send_to(&packet(number, None), server).await.expect("sent");
        }
    });
    let (mut offered, mut scripts) = (0, HashMap::new());
    let mut answer = [0; 2000];
    while scripts.len() < usize::from(MACHINES) {
        let heard = timeout(LIMIT, relay.recv(&mut answer)).await;
        let length = heard.unwrap_or_else(|_late| panic!("{offered} offers, {scripts:?}"));
        let packet_of = &answer[..length.expect("received")];
        let number = u16::from_be_bytes([packet_of[6], packet_of[7]]);
        assert_eq!(packet_of[28..34], mac(number).bytes(), "its own card");
        assert_eq!(packet_of[16..20], address(number).octets(), "its own address");
        // Its type is the first option.
        match packet_of[242] {
            2 => {
                offered += 1;
                let request = packet(number, Some(address(number)));
                relay.send_to(&request, server).await.expect("sent");
            }
            5 => {
                let text = String::from_utf8_lossy(packet_of);
                let start = text.find("http://").expect("a URL");
                let end = text[start..].find(['\0', '\u{fffd}']).unwrap_or(60);
                scripts.insert(number, text[start..start + end].to_owned());
            }
            other => panic!("an answer of type {other}"),
        }
    }
    scripts
}

/// The daemon listens on this port of all addresses.
fn relay(ports: Ports) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("a socket");
    let _less = socket.set_recv_buffer_size(4 << 20);
    socket.bind(&SocketAddr::from((RELAY, ports.dhcp)).into()).expect("the relay");
    socket.set_nonblocking(true).expect("a socket");
    UdpSocket::from_std(socket.into()).expect("a socket")
}

fn packet(number: u16, requested: Option<Ipv4Addr>) -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 1]);
    packet[6..8].copy_from_slice(&number.to_be_bytes());
    packet[24..28].copy_from_slice(&RELAY.octets());
    packet[28..34].copy_from_slice(&mac(number).bytes());
    packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
    packet.extend_from_slice(&[53, 1, if requested.is_some() { 3 } else { 1 }]);
    if let Some(address) = requested {
        packet.extend_from_slice(&[54, 4, 127, 0, 0, 1, 50, 4]);
        packet.extend_from_slice(&address.octets());
    }
    packet.extend(IPXE.iter().flat_map(|option| option.iter()));
    packet.extend_from_slice(&[57, 2, 5, 192, 255]);
    packet
}

/// The loader, for one request.
async fn loaded(ports: Ports, number: u16) -> Vec<u8> {
    let socket = UdpSocket::bind((address(number), 0)).await.expect("its address");
    let request = b"\0\x01snponly.efi\0octet\0blksize\x001468\0";
    socket.send_to(request, (Ipv4Addr::LOCALHOST, ports.tftp)).await.expect("sent");
    let (mut packet, mut content) = ([0; 2000], Vec::new());
    loop {
        let (length, from) = socket.recv_from(&mut packet).await.expect("received");
        let block = match &packet[..length] {
            [0, 6, ..] => [0, 0],
            [0, 3, high, low, payload @ ..] => {
                let block = u16::from_be_bytes([*high, *low]);
                if usize::from(block) == content.len() / 1468 + 1 {
                    content.extend_from_slice(payload);
                }
                [*high, *low]
            }
            other => panic!("{other:?}"),
        };
        socket.send_to(&[0, 4, block[0], block[1]], from).await.expect("sent");
        if content.len() == LOADER {
            return content;
        }
    }
}

async fn script(ports: Ports, number: u16, url: String) -> (u16, String) {
    let path = url.splitn(4, '/').nth(3).expect("a path").to_owned();
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((address(number), 0).into()).expect("its address");
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.http));
    let mut stream = socket.connect(server).await.expect("connected");
    let request = format!("GET /{path} HTTP/1.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "machine {number}: {answer}");
    (number, answer)
}
