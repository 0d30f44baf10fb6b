//! Hostile input to every door of the running daemon. After each family of it
//! the same process still boots a machine, has said nothing of a panic, has no
//! instance that nobody provisioned, and has not grown beyond reason.

mod daemon;
mod machine;

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    time::Duration,
};

use daemon::{Daemon, Home};
use machine::{Machine, Ports, UEFI};
use serde_json::json;

/// Cases of a family that are made by chance.
const CASES: u32 = 300;

/// What a daemon may grow by over a family, in kB: buffers, not leaks of what
/// was sent.
const GROWTH: u64 = 60_000;

struct Target {
    home: Home,
    ports: Ports,
    daemon: Daemon,
    memory: u64,
    random: Random,
}

impl Target {
    fn new() -> Self {
        let (home, ports) = (Home::new(), Ports::free());
        let loaders = home.images().with_file_name("loaders");
        fs::create_dir(&loaders).expect("made");
        let mut program = vec![0; 3000];
        program[..2].copy_from_slice(b"MZ");
        program[0x3c] = 0x40;
        program[0x40..0x46].copy_from_slice(b"PE\0\0\x64\x86");
        fs::write(loaders.join("snponly.efi"), program).expect("written");
        let mut arguments = ports.arguments();
        arguments.extend(["--ipxe-dir".to_owned(), loaders.display().to_string()]);
        let daemon = home.start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let spec = json!({"Properties": {
            "Kernel": "vmlinuz", "Initrd": "initrd.img", "CmdLine": "x",
            "MAC": Machine::new(1, ports).mac.to_string()}});
        daemon.call("Instance.Provision", json!({"Type": "", "Spec": spec})).expect("provisioned");
        let target = Self { home, ports, daemon, memory: 0, random: Random::new() };
        target.boots();
        Self { memory: target.memory_now(), ..target }
    }

    fn boots(&self) {
        let booted = Machine::new(1, self.ports).boot(UEFI);
        assert_eq!((booted.kernel.as_slice(), booted.loader.len()), (&b"kernel"[..], 3000));
    }

    fn memory_now(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.pid()));
        let status = status.expect("the same process lives");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
        line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("a number")
    }

    /// What must hold after every family.
    fn stands(&self) {
        self.boots();
        let log = self.home.log();
        assert!(!log.contains("panicked") && !log.contains("panic:"), "{log}");
        let all = json!({"Type": "", "Tags": null, "Properties": false});
        let described = self.daemon.call("Instance.DescribeInstances", all).expect("described");
        assert_eq!(described["Descriptions"].as_array().map(Vec::len), Some(1));
        let memory = self.memory_now();
        assert!(memory < self.memory + GROWTH, "from {} to {memory} kB", self.memory);
    }

    fn http(&self) -> TcpStream {
        let stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.http)).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a socket");
        stream
    }
}

/// A generator whose seed is printed: a failure can be repeated.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() as u64;
        let seed = seed.unwrap_or(clock);
        println!("HOSTILE_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    /// The packet with some bytes changed, cut, or drawn out.
    fn mutated(&mut self, packet: &[u8], longest: usize) -> Vec<u8> {
        let mut changed = packet.to_vec();
        for _ in 0..=self.below(8) {
            let place = self.below(changed.len());
            changed[place] = self.below(256) as u8;
        }
        match self.below(4) {
            0 => changed.truncate(self.below(packet.len())),
            1 => changed.resize(changed.len() + self.below(longest), self.below(256) as u8),
            _ => {}
        }
        changed
    }
}

fn discover(options: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 1]);
    packet[24..28].copy_from_slice(&machine::RELAY.octets());
    packet[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
    packet.extend_from_slice(&[53, 1, 1]);
    packet.extend_from_slice(options);
    packet.push(255);
    packet
}

#[test]
fn hostile_dhcp_stops_nothing() {
    let mut target = Target::new();
    let socket = UdpSocket::bind("127.0.0.3:0").expect("a socket");
    let server = (Ipv4Addr::LOCALHOST, target.ports.dhcp);
    let mut named: Vec<Vec<u8>> = vec![vec![], vec![0; 1], vec![0xff; 239], vec![1; 65_000]];
    for hlen in [0, 7, 16, 17, 255] {
        let mut packet = discover(&[]);
        packet[2] = hlen;
        named.push(packet);
    }
    // Options whose lengths are wrong for what they are, and that end nowhere.
    for code in [
        12, 43, 50, 52, 54, 55, 57, 60, 61, 77, 80, 81, 82, 93, 94, 97, 119, 121, 151, 152, 153,
        154, 155, 175,
    ] {
        for value in [&[][..], &[0], &[255; 3], &[7; 255]] {
            let mut option = vec![code, value.len() as u8];
            option.extend_from_slice(value);
            named.push(discover(&option));
            named.push(discover(&[code, 255]));
        }
    }
    // Overload that points into fields which overload again.
    let mut overload = discover(&[52, 1, 3]);
    for start in [44, 108] {
        overload[start..start + 4].copy_from_slice(&[52, 1, 3, 82]);
    }
    named.push(overload);
    for packet in &named {
        socket.send_to(packet, server).expect("sent");
    }
    let valid = discover(&[
        60, 9, b'P', b'X', b'E', b'C', b'l', b'i', b'e', b'n', b't', 93, 2, 0, 7, 82, 2, 1, 0, 77,
        4, b'i', b'P', b'X', b'E',
    ]);
    for _ in 0..CASES * 4 {
        let packet = target.random.mutated(&valid, 1400);
        socket.send_to(&packet, server).expect("sent");
    }
    target.stands();
}

#[test]
fn hostile_tftp_stops_nothing() {
    let mut target = Target::new();
    let socket = UdpSocket::bind("127.0.0.3:0").expect("a socket");
    let server = (Ipv4Addr::LOCALHOST, target.ports.tftp);
    // The first two ended the ancestor's whole process.
    let named: [&[u8]; 16] = [
        b"\0\x05\0",
        b"\0\x03\0",
        b"",
        b"\0",
        b"\0\x01",
        b"\0\x02x\0octet\0",
        b"\0\x01\0\0",
        b"\0\x01../../etc/passwd\0octet\0",
        b"\0\x01/etc/passwd\0octet\0",
        b"\0\x01snponly.efi",
        b"\0\x01snponly.efi\0octet\0blksize\0",
        b"\0\x01snponly.efi\0octet\0blksize\0-1\0",
        b"\0\x01snponly.efi\0octet\0blksize\x0099999999999999999999\0windowsize\x0065535\0",
        b"\0\x01\xff\xfe\0octet\0",
        b"\0\x06blksize\x001\0",
        b"\xff\xff\xff\xff",
    ];
    for packet in named {
        socket.send_to(packet, server).expect("sent");
    }
    socket.send_to(&[b"\0\x01".as_slice(), &vec![b'a'; 60_000]].concat(), server).expect("sent");
    let valid = b"\0\x01snponly.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0";
    for _ in 0..CASES {
        // From ever new ports, as a forger would.
        let forger = UdpSocket::bind("127.0.0.4:0").expect("a socket");
        let packet = target.random.mutated(valid, 600);
        forger.send_to(&packet, server).expect("sent");
    }
    for block in 0..2000u16 {
        let [high, low] = block.to_be_bytes();
        socket.send_to(&[0, 4, high, low], server).expect("sent");
    }
    target.stands();
}

#[test]
fn hostile_http_stops_nothing() {
    let mut target = Target::new();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(5000));
    let named = [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET /\r\n\r\n",
        "get / HTTP/1.1\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "CONNECT x:1 HTTP/1.1\r\n\r\n",
        "GET /%00 HTTP/1.1\r\n\r\n",
        "GET /%zz HTTP/1.1\r\n\r\n",
        "GET /%ff%fe HTTP/1.1\r\n\r\n",
        "GET /../../etc/passwd HTTP/1.1\r\n\r\n",
        "GET http:// HTTP/1.1\r\n\r\n",
        "POST /infrakit.ipxe HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "GET /infrakit.ipxe HTTP/1.1\r\nRange: bytes=99999999999999999999-\r\n\r\n",
        "GET /loader/snponly.efi HTTP/1.1\r\nRange: bytes=5-1,0-0,-0\r\nConnection: close\r\n\r\n",
        long.as_str(),
        many.as_str(),
    ];
    for request in named {
        let mut stream = target.http();
        // It may hang up before all is sent.
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains("root:"), "{request:?}: {text}");
        assert!(answer.is_empty() || text.starts_with("HTTP/1."), "{request:?}: {text}");
    }
    let valid = b"GET /loader/snponly.efi HTTP/1.1\r\nHost: x\r\nRange: bytes=0-9\r\nConnection: close\r\n\r\n";
    for _ in 0..CASES {
        let mut stream = target.http();
        let request = target.random.mutated(valid, 300);
        let _ = stream.write_all(&request);
    }
    // Opened, and nothing said: more than one address may have.
    let silent: Vec<TcpStream> = (0..200).map(|_| target.http()).collect();
    drop(silent);
    for _ in 0..2000 {
        drop(target.http());
    }
    target.stands();
}

#[test]
fn hostile_json_stops_nothing() {
    let mut target = Target::new();
    let socket = target.home.socket();
    let post = |body: &[u8]| {
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a socket");
        let head = format!(
            "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let deep = format!(
        "{{\"jsonrpc\":\"2.0\",\"method\":\"Instance.Validate\",\"params\":{{\"Properties\":{}1{}}},\"id\":1}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let large = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{}\",\"id\":1}}", "x".repeat(6 << 20));
    assert!(post(large.as_bytes()).contains(" 413 "), "too large is said");
    for body in
        [deep.as_bytes(), b"\xff\xfe", b"{", b"[[[[", b"{\"id\":1}", b"null", b"\"\\ud800\""]
    {
        let answer = post(body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    for method in [
        "Instance.Validate",
        "Instance.Provision",
        "Instance.Label",
        "Instance.Destroy",
        "Instance.DescribeInstances",
    ] {
        for field in ["Type", "Properties", "Spec", "Instance", "Labels", "Tags", "Context"] {
            for value in [
                "null",
                "1",
                "-1.5e300",
                "\"x\"",
                "[]",
                "{}",
                "[{}]",
                "true",
                "{\"a\":{\"b\":[1]}}",
            ] {
                let body = format!(
                    "{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{{\"{field}\":{value}}},\"id\":1}}"
                );
                let answer = post(body.as_bytes());
                let is_read = method.ends_with("DescribeInstances");
                assert!(is_read || answer.contains("\"error\""), "{body}: {answer}");
            }
        }
    }
    let valid = br#"{"jsonrpc":"2.0","method":"Instance.Destroy","params":{"Type":"","Instance":"rb-0000000000000001","Context":{"Reason":"terminate"}},"id":1401353795205022203}"#;
    for _ in 0..CASES {
        let body = target.random.mutated(valid, 300);
        post(&body);
    }
    target.stands();
}
