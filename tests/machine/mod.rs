//! A pretend machine: it does over real sockets what firmware and iPXE do along
//! a whole boot, on loopback, where every address of 127.0.0.0/8 can be used.
//!
//! It speaks to the daemon through a relay of its own (`giaddr`), since nobody
//! without rights receives on port 68.
// Each test file uses its own part of it.
#![allow(dead_code)]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use remoteboot::model::Mac;
use socket2::{Domain, Socket, Type};

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

/// The relay that all pretend machines are behind.
pub(crate) const RELAY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Where the daemon listens.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) dhcp: u16,
    pub(crate) tftp: u16,
    pub(crate) http: u16,
}

impl Ports {
    /// Ports that nobody uses now, and that the system gives to nobody who asks
    /// for any: they are below its ephemeral ones.
    pub(crate) fn free() -> Self {
        Self { dhcp: free_port(), tftp: free_port(), http: free_port() }
    }

    /// The arguments that make a daemon listen there, on loopback.
    pub(crate) fn arguments(self) -> Vec<String> {
        let mut arguments: Vec<String> = "--adapter lo --addressDHCP 127.0.0.1 --startAddress \
            127.1.0.1 --leaseCount 200 --enableDHCP --enableTFTP --enableHTTP"
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        for (name, port) in [("dhcp", self.dhcp), ("tftp", self.tftp), ("http", self.http)] {
            arguments.extend([format!("--{name}-port"), port.to_string()]);
        }
        arguments
    }
}

/// A port that nobody uses now, by UDP or TCP, each time another one.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let turn = NEXT.fetch_add(2, Ordering::Relaxed);
        let start = u16::try_from(std::process::id() % 500).expect("small") * 20;
        // DHCP's clients are on the port after the server's.
        let port = 20_000 + (start + turn) % 10_000;
        // Looked up, not tried: a socket made for trying would live on for a
        // moment in the processes that other tests start just then.
        let local = format!(":{port:04X} ");
        let is_used = ["udp", "tcp", "udp6", "tcp6"].iter().any(|table| {
            let text = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
            let own = |line: &str| line.split_whitespace().nth(1).map(|local| format!("{local} "));
            text.lines().filter_map(own).any(|address| address.ends_with(&local))
        });
        if !is_used {
            return port;
        }
    }
}

/// The options by which each kind of client is known.
pub(crate) const BIOS: &[&[u8]] =
    &[b"\x3c\x20PXEClient:Arch:00000:UNDI:002001", b"\x5d\x02\x00\x00"];
pub(crate) const UEFI: &[&[u8]] =
    &[b"\x3c\x20PXEClient:Arch:00007:UNDI:003000", b"\x5d\x02\x00\x07"];
pub(crate) const HTTP: &[&[u8]] =
    &[b"\x3c\x21HTTPClient:Arch:00016:UNDI:003000", b"\x5d\x02\x00\x10"];
pub(crate) const IPXE: &[&[u8]] =
    &[b"\x5d\x02\x00\x07", b"\x4d\x04iPXE", b"\xaf\x06\x13\x01\x01\x24\x01\x01"];
pub(crate) const HOST: &[&[u8]] = &[b"\x3c\x05udhcp"];

/// An answer of the DHCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) kind: u8,
    pub(crate) address: Ipv4Addr,
    pub(crate) boot_file: String,
    pub(crate) hostname: String,
}

/// What came back by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Page {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What a machine booted in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Booted {
    pub(crate) loader: Vec<u8>,
    pub(crate) kernel: Vec<u8>,
    pub(crate) initrds: Vec<Vec<u8>>,
    pub(crate) cmdline: String,
}

/// A machine with this card.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) mac: Mac,
    pub(crate) ports: Ports,
}

impl Machine {
    pub(crate) fn new(number: u8, ports: Ports) -> Self {
        Self { mac: Mac::new([0x52, 0x54, 0, 0x10, 0, number]), ports }
    }

    /// Sends a DHCP packet with these options; the answer, or silence.
    pub(crate) fn ask(&self, options: &[&[u8]], limit: Duration) -> Option<Lease> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("a socket");
        socket.bind(&SocketAddrV4::new(RELAY, self.ports.dhcp).into()).expect("the relay");
        socket.set_read_timeout(Some(limit)).expect("a socket");
        let socket = UdpSocket::from(socket);
        let mut packet = vec![0; 240];
        packet[..4].copy_from_slice(&[1, 1, 6, 1]);
        packet[24..28].copy_from_slice(&RELAY.octets());
        packet[28..34].copy_from_slice(&self.mac.bytes());
        packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
        packet.extend(options.iter().flat_map(|option| option.iter()));
        packet.extend_from_slice(&[57, 2, 5, 192, 255]);
        socket.send_to(&packet, (Ipv4Addr::LOCALHOST, self.ports.dhcp)).expect("sent");
        let mut answer = [0; 2000];
        loop {
            let length = socket.recv(&mut answer).ok()?;
            if answer[28..34] == self.mac.bytes() {
                return Some(lease(&answer[..length]));
            }
        }
    }

    /// DISCOVER to ACK, as a client with these options.
    pub(crate) fn lease(&self, client: &[&[u8]]) -> Lease {
        let discover = [&[b"\x35\x01\x01".as_slice()], client].concat();
        let offer = self.ask(&discover, LIMIT).expect("an offer");
        assert_eq!(offer.kind, 2, "{offer:?}");
        let mut wanted = vec![53, 1, 3, 54, 4, 127, 0, 0, 1, 50, 4];
        wanted.extend_from_slice(&offer.address.octets());
        let granted = self.ask(&[&[wanted.as_slice()], client].concat(), LIMIT).expect("an answer");
        assert_eq!((granted.kind, granted.address), (5, offer.address), "{granted:?}");
        granted
    }

    /// Reads a file by TFTP as UEFI does: a size probe that it aborts, then in
    /// windows of four blocks.
    pub(crate) fn tftp(&self, from: Ipv4Addr, name: &str) -> Result<Vec<u8>, String> {
        let probe = self.tftp_socket(from);
        self.request(&probe, name, &["tsize", "0", "blksize", "1468", "windowsize", "4"]);
        let (answer, peer) = received(&probe)?;
        assert_eq!(answer[..2], [0, 6], "an OACK");
        let fields: Vec<String> = answer[2..]
            .split(|byte| *byte == 0)
            .map(|field| String::from_utf8_lossy(field).into_owned())
            .collect();
        let size = fields.windows(2).find(|pair| pair[0] == "tsize").expect("a size")[1].clone();
        probe.send_to(b"\x00\x05\x00\x08User aborted the transfer\x00", peer).expect("sent");
        let socket = self.tftp_socket(from);
        self.request(&socket, name, &["blksize", "1468", "windowsize", "4"]);
        let (answer, peer) = received(&socket)?;
        assert_eq!(answer[..2], [0, 6], "an OACK");
        socket.send_to(&[0, 4, 0, 0], peer).expect("sent");
        let mut content = Vec::new();
        for block in 1u16.. {
            let (data, _) = received(&socket)?;
            assert_eq!((&data[..2], &data[2..4]), (&[0, 3][..], &block.to_be_bytes()[..]));
            content.extend_from_slice(&data[4..]);
            let is_last = data.len() < 4 + 1468;
            if block % 4 == 0 || is_last {
                let [high, low] = block.to_be_bytes();
                socket.send_to(&[0, 4, high, low], peer).expect("sent");
            }
            if is_last {
                break;
            }
        }
        assert_eq!(content.len().to_string(), size, "as long as it said");
        Ok(content)
    }

    fn tftp_socket(&self, from: Ipv4Addr) -> UdpSocket {
        let socket = UdpSocket::bind((from, 0)).expect("the leased address");
        socket.set_read_timeout(Some(LIMIT)).expect("a socket");
        socket
    }

    fn request(&self, socket: &UdpSocket, name: &str, options: &[&str]) {
        let mut packet = vec![0, 1];
        for field in [name, "octet"].iter().chain(options) {
            packet.extend_from_slice(field.as_bytes());
            packet.push(0);
        }
        socket.send_to(&packet, (Ipv4Addr::LOCALHOST, self.ports.tftp)).expect("sent");
    }

    /// Asks by HTTP from this address.
    pub(crate) fn http(&self, from: Ipv4Addr, method: &str, path: &str) -> Page {
        let mut stream = connected(from, self.ports.http);
        let request = format!("{method} {path} HTTP/1.0\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        page(&mut stream)
    }

    /// The part of a URL behind our HTTP server's authority.
    pub(crate) fn path<'a>(&self, url: &'a str) -> &'a str {
        url.strip_prefix(&format!("http://127.0.0.1:{}", self.ports.http)).unwrap_or(url)
    }

    /// The script that this machine is given as iPXE.
    pub(crate) fn script(&self) -> String {
        let lease = self.lease(IPXE);
        let page = self.http(lease.address, "GET", self.path(&lease.boot_file));
        assert_eq!(page.status, 200, "{}", page.text());
        page.text()
    }

    /// The whole way: firmware, loader, script, files.
    pub(crate) fn boot(&self, firmware: &[&[u8]]) -> Booted {
        let lease = self.lease(firmware);
        let loader = match lease.boot_file.strip_prefix("http://") {
            None => self.tftp(lease.address, &lease.boot_file).expect("the loader"),
            Some(_) => {
                let path = self.path(&lease.boot_file);
                let head = self.http(lease.address, "HEAD", path);
                assert_eq!((head.status, head.body.len()), (200, 0), "{head:?}");
                self.http(lease.address, "GET", path).body
            }
        };
        let script = self.script();
        let (kernel, initrds, cmdline) = self.load(lease.address, &script);
        Booted { loader, kernel, initrds, cmdline }
    }

    /// Fetches what a script names.
    pub(crate) fn load(&self, from: Ipv4Addr, script: &str) -> (Vec<u8>, Vec<Vec<u8>>, String) {
        let fetch = |url: &str| {
            let page = self.http(from, "GET", self.path(url));
            assert_eq!(page.status, 200, "{url}: {}", page.text());
            page.body
        };
        let (url, cmdline) = kernel_of(script);
        let initrds = initrds_of(script).iter().map(|url| fetch(url)).collect();
        (fetch(&url), initrds, cmdline)
    }
}

/// The URL and the arguments of a script's kernel line.
pub(crate) fn kernel_of(script: &str) -> (String, String) {
    let line = script.lines().find_map(|line| line.strip_prefix("kernel --name vmlinuz "));
    let line = line.unwrap_or_else(|| panic!("no kernel in\n{script}"));
    let command = line.split(" && ").next().expect("a first part");
    let (url, cmdline) = command.split_once(' ').unwrap_or((command, ""));
    (url.to_owned(), cmdline.to_owned())
}

/// The URLs of a script's initrds.
pub(crate) fn initrds_of(script: &str) -> Vec<String> {
    let lines = script.lines().filter(|line| line.starts_with("initrd --name "));
    lines.map(|line| line.split(' ').nth(3).expect("a URL").to_owned()).collect()
}

pub(crate) fn connected(from: Ipv4Addr, port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddrV4::new(from, 0).into()).expect("the leased address");
    socket.connect(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into()).expect("it listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT)).expect("a socket");
    stream
}

pub(crate) fn page(stream: &mut TcpStream) -> Page {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer in time");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(&answer)));
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Page { status: status.expect("a status"), head, body: answer[end + 4..].to_vec() }
}

fn received(socket: &UdpSocket) -> Result<(Vec<u8>, SocketAddr), String> {
    let mut datagram = [0; 2000];
    let (length, peer) = socket.recv_from(&mut datagram).map_err(|error| error.to_string())?;
    match &datagram[..length] {
        [0, 5, _, code, message @ ..] => {
            Err(format!("error {code}: {}", String::from_utf8_lossy(message)))
        }
        other => Ok((other.to_vec(), peer)),
    }
}

fn lease(packet: &[u8]) -> Lease {
    let mut found = Lease {
        kind: 0,
        address: <[u8; 4]>::try_from(&packet[16..20]).expect("four bytes").into(),
        boot_file: String::new(),
        hostname: String::new(),
    };
    let mut rest = &packet[240..];
    while let [code, length, tail @ ..] = rest {
        let Some((value, after)) = tail.split_at_checked(usize::from(*length)) else { break };
        let text = || String::from_utf8_lossy(value).into_owned();
        match code {
            255 => break,
            53 => found.kind = value[0],
            67 => found.boot_file = text(),
            12 => found.hostname = text(),
            _ => {}
        }
        rest = after;
    }
    found
}
