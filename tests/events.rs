//! Events from outside: what a listener at the running daemon's socket is told of
//! machines that boot over real sockets.

mod daemon;
mod machine;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use daemon::{Daemon, Home, LIMIT, NAME, connect, eventually};
use machine::{IPXE, Machine, Ports, UEFI, initrds_of, kernel_of};
use serde_json::{Value, json};

/// A daemon with all its doors open, and a boot program of its own.
fn start(home: &Home, ports: Ports, more: &[&str]) -> Daemon {
    let loaders = home.images().with_file_name("loaders");
    fs::create_dir(&loaders).expect("made");
    // The header of a UEFI program for x86-64, then whatever.
    let mut program = vec![0; 3000];
    program[..2].copy_from_slice(b"MZ");
    program[0x3c] = 0x40;
    program[0x40..0x46].copy_from_slice(b"PE\0\0\x64\x86");
    fs::write(loaders.join("snponly.efi"), program).expect("written");
    let mut arguments = ports.arguments();
    arguments.extend(["--ipxe-dir".to_owned(), loaders.display().to_string()]);
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    home.start(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A listener, whose subscription has begun.
struct Listener<Stream> {
    stream: BufReader<Stream>,
    headers: Vec<String>,
}

/// At the Unix socket.
fn listen(home: &Home, topic: &str) -> Listener<UnixStream> {
    Listener::begin(connect(&home.socket()), "h", &format!("/events?topic={topic}"))
}

impl<Stream: Read + Write> Listener<Stream> {
    fn begin(mut stream: Stream, host: &str, target: &str) -> Self {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut stream = BufReader::new(stream);
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).expect("the headers come at once");
            match line.trim_end() {
                "" => break,
                header => headers.push(header.to_lowercase()),
            }
        }
        Self { stream, headers }
    }

    /// The next line of data, with the chunks around it taken off; nothing at the
    /// end of the stream.
    fn next_text(&mut self) -> Option<String> {
        loop {
            let mut size = String::new();
            self.stream.read_line(&mut size).expect("a chunk in time");
            let size = usize::from_str_radix(size.trim_end(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            self.stream.read_exact(&mut chunk).expect("a whole chunk");
            let text = String::from_utf8(chunk).expect("text");
            match text.strip_prefix("data: ") {
                Some(data) => return Some(data.trim_end().to_owned()),
                None if size == 0 => return None,
                None => assert!(text.starts_with(':'), "{text}"),
            }
        }
    }

    fn next(&mut self) -> Option<Value> {
        self.next_text().map(|text| {
            let event: Value = serde_json::from_str(&text).expect("JSON in one line");
            for name in ["Topic", "Type", "ID", "Message", "Timestamp"] {
                assert!(event[name].is_string(), "{name} of {event}");
            }
            assert!(event["Data"].is_object() && event.get("Error").is_none(), "{event}");
            event
        })
    }

    /// All up to the first whose topic ends so, which is the last.
    fn until(&mut self, end: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.next().expect("more of them");
            let is_last = event["Topic"].as_str().expect("text").ends_with(end);
            events.push(event);
            if is_last {
                return events;
            }
        }
    }
}

fn provision(daemon: &Daemon, mac: &str) -> String {
    let properties = json!({"Kernel": "vmlinuz", "Initrd": "initrd.img", "MAC": mac});
    let spec = json!({
        "Properties": properties, "Tags": {"infrakit.group": "g"}, "Init": "echo password",
        "LogicalID": null,
    });
    let result = daemon.call("Instance.Provision", json!({"Type": "", "Spec": spec}));
    result.expect("provisioned")["ID"].as_str().expect("an ID").to_owned()
}

fn destroy(daemon: &Daemon, id: &str) {
    let context = json!({"Reason": "rolling_update"});
    let parameters = json!({"Type": "", "Instance": id, "Context": context});
    daemon.call("Instance.Destroy", parameters).expect("destroyed");
}

/// What happened, as `machine state held`: the kind, the last word, and the fact
/// that tells it from others of its kind.
fn summary(event: &Value) -> String {
    let topic = event["Topic"].as_str().expect("text");
    let what = topic.rsplit('/').next().expect("a word");
    let data = &event["Data"];
    let fact = ["stage", "state", "file", "reason"].iter().find_map(|name| data[*name].as_str());
    format!("{} {what} {}", event["Type"].as_str().expect("text"), fact.unwrap_or_default())
}

#[test]
fn a_listener_hears_the_whole_story_of_a_machine_in_its_order() {
    let (home, ports) = (Home::new(), Ports::free());
    let daemon = start(&home, ports, &[]);
    let mut all = listen(&home, "");
    assert!(all.headers[0].starts_with("http/1.1 200"), "{:?}", all.headers);
    for header in
        ["content-type: text/event-stream", "cache-control: no-cache", "transfer-encoding: chunked"]
    {
        assert!(all.headers.iter().any(|one| one == header), "{header}: {:?}", all.headers);
    }
    let machine = Machine::new(1, ports);
    let mac = machine.mac.to_string();
    let lease = machine.lease(UEFI);
    machine.tftp(lease.address, &lease.boot_file).expect("the loader");
    // That a file was sent is known a moment after the machine has it.
    let mut told = all.until("/file");
    assert!(machine.script().contains("waits to be provisioned"));
    let id = provision(&daemon, &mac);
    let script = machine.script();
    let (kernel, _) = kernel_of(&script);
    for url in [&initrds_of(&script)[0], &kernel] {
        assert_eq!(machine.http(lease.address, "GET", machine.path(url)).status, 200);
        told.extend(all.until("/file"));
    }
    destroy(&daemon, &id);
    machine.script();
    let thief = Machine::new(2, ports);
    let stranger = thief.lease(IPXE).address;
    assert_eq!(thief.http(stranger, "GET", machine.path(&kernel)).status, 404);

    told.extend(all.until(&format!("refusal/http/{stranger}")));
    let of_machine: Vec<String> =
        told.iter().filter(|event| event.to_string().contains(&mac)).map(summary).collect();
    // iPXE is told what is left of the lease, which is no news.
    let expected = [
        "machine found seen",
        "machine stage firmware",
        "lease bound ",
        "machine stage loader",
        "machine file snponly.efi",
        "machine stage ipxe",
        "machine stage holding",
        "machine state held",
        "instance provisioned provisioning",
        "machine state assigned",
        "machine stage ipxe",
        "machine stage script",
        "instance state booting",
        "instance file initrd.img",
        "machine stage kernel",
        "instance file vmlinuz",
        "instance destroyed rolling_update",
        "machine state releasing",
        "machine stage ipxe",
        "machine stage holding",
        "machine state held",
    ];
    assert_eq!(of_machine, expected);
    let fetched = told.iter().find(|event| summary(event) == "instance file vmlinuz");
    let data = &fetched.expect("it is there")["Data"];
    let facts = json!({
        "id": id, "mac": mac, "ip": lease.address.to_string(), "file": "vmlinuz", "bytes": 6,
        "complete": true,
    });
    assert_eq!(data, &facts);
    let whole = Value::Array(told).to_string();
    let token = machine.path(&kernel).split('/').nth(2).expect("a token");
    assert!(!whole.contains(token) && !whole.contains("password"), "{whole}");
}

#[test]
fn a_listener_gets_the_topics_that_it_asks_for_and_no_others() {
    let (home, ports) = (Home::new(), Ports::free());
    let daemon = start(&home, ports, &[]);
    let (one, two) = (Machine::new(1, ports), Machine::new(2, ports));
    let mac = one.mac.to_string();
    let mut below = listen(&home, &format!("machine%2F{}%2F", mac.replace(':', "%3A")));
    let mut exactly = listen(&home, &format!("machine/{mac}/state"));
    let mut instances = listen(&home, "/instance/");
    let mut nothing = listen(&home, "nosuch/");
    two.script();
    one.script();
    let id = provision(&daemon, &mac);
    destroy(&daemon, &id);
    let told = below.until("/state");
    assert!(told.iter().all(|event| event["ID"] == mac), "{told:?}");
    assert_eq!(summary(&told[0]), "machine found seen");
    for expected in ["held", "assigned", "releasing"] {
        assert_eq!(exactly.next().expect("more")["Data"]["state"], expected);
    }
    for expected in ["provisioned provisioning", "destroyed rolling_update"] {
        assert_eq!(summary(&instances.next().expect("more")), format!("instance {expected}"));
    }
    assert!(daemon.terminate().success());
    assert_eq!((nothing.next(), exactly.next()), (None, None));
}

#[test]
fn what_was_refused_at_any_door_is_told_with_its_reason() {
    let (home, ports) = (Home::new(), Ports::free());
    let daemon = start(&home, ports, &[]);
    let mut refusals = listen(&home, "refusal/");
    let machine = Machine::new(1, ports);
    let mut told = |door: &str, who: &str| -> Value {
        let event = refusals.next().expect("a refusal");
        assert_eq!(event["Topic"], format!("refusal/{door}/{who}"), "{event}");
        assert!(!event["Data"]["reason"].as_str().expect("text").is_empty(), "{event}");
        event
    };
    let foreign: &[u8] = &[53, 1, 3, 54, 4, 10, 9, 9, 9, 50, 4, 10, 9, 9, 8];
    assert_eq!(machine.ask(&[foreign], Duration::from_millis(100)), None);
    told("dhcp", &machine.mac.to_string());
    let address = machine.lease(UEFI).address;
    assert!(machine.tftp(address, "etc/passwd").is_err());
    assert_eq!(told("tftp", &address.to_string())["Data"]["what"], "etc/passwd");
    assert_eq!(machine.http(address, "GET", "/boot/x").status, 404);
    assert_eq!(told("http", &address.to_string())["Data"]["what"], "/boot/x");
    let spec = json!({"Properties": {"Kernel": "vmlinuz"}, "Init": ["echo password"]});
    daemon.call("Instance.Provision", json!({"Spec": spec})).expect_err("a list");
    let event = told("spi", "unix");
    assert_eq!(event["Data"]["what"], "Instance.Provision");
    assert_eq!(event["Data"]["reason"], "params.Spec.Init: expected a string");
    daemon.call("Instance.Nope", json!({})).expect_err("no method");
    let reason = &told("spi", "unix")["Data"]["reason"];
    assert_eq!(reason, "rpc: can't find method \"Instance.Nope\"");
    assert_eq!(daemon.exchange(b"GET /nosuch HTTP/1.1\r\nHost: h\r\n\r\n").status, 404);
    assert_eq!(told("spi", "unix")["Data"]["reason"], "404: 404 page not found");
}

/// Asks for a file by TFTP, in blocks of 512.
fn ask_for(file: &str, from: Ipv4Addr, ports: Ports) -> UdpSocket {
    let socket = UdpSocket::bind((from, 0)).expect("the leased address");
    socket.set_read_timeout(Some(LIMIT)).expect("a socket");
    let request = format!("\0\x01{file}\0octet\0");
    socket.send_to(request.as_bytes(), (Ipv4Addr::LOCALHOST, ports.tftp)).expect("sent");
    socket
}

#[test]
fn what_tftp_sends_and_refuses_is_told_once_from_ports_of_both_kinds() {
    for more in [
        &["--tftp-transfers-per-client=2"][..],
        &["--tftp-transfers-per-client=2", "--tftp-single-port"],
    ] {
        let (home, ports) = (Home::new(), Ports::free());
        let daemon = start(&home, ports, more);
        let (one, two) = (Machine::new(1, ports), Machine::new(2, ports));
        let mut refusals = listen(&home, "refusal/tftp/");
        let mut refused = |what: &str, reason: &str| {
            let data = refusals.next().expect("a refusal")["Data"].clone();
            assert_eq!(
                (&data["what"], &data["reason"]),
                (&json!(what), &json!(reason)),
                "{more:?}"
            );
        };
        let [mut of_one, mut of_two] =
            [one, two].map(|machine| listen(&home, &format!("machine/{}/file", machine.mac)));
        let sent = |event: Option<Value>| {
            let data = event.expect("a file")["Data"].clone();
            (data["file"].clone(), data["bytes"].clone(), data["complete"].clone())
        };

        let lease = one.lease(UEFI);
        one.tftp(lease.address, "etc/passwd").expect_err("a secret");
        refused("etc/passwd", "there is no file etc/passwd");
        one.tftp(lease.address, &lease.boot_file).expect("the loader");
        assert_eq!(
            sent(of_one.next()),
            (json!("snponly.efi"), json!(3000), json!(true)),
            "{more:?}"
        );

        let address = two.lease(UEFI).address;
        let [client, _other, third] = [0; 3].map(|_| ask_for("snponly.efi", address, ports));
        refused("snponly.efi", "all 2 transfers of this client are taken");
        third.set_nonblocking(true).expect("a socket");
        third.recv(&mut [0; 2000]).expect_err("it is left lying");
        let (_length, transfer) = client.recv_from(&mut [0; 2000]).expect("the first block");
        for word in [&b"\x00\x04\x00\x01"[..], b"\x00\x05\x00\x00enough\x00"] {
            client.send_to(word, transfer).expect("sent");
        }
        assert_eq!(
            sent(of_two.next()),
            (json!("snponly.efi"), json!(512), json!(false)),
            "{more:?}"
        );

        assert!(daemon.terminate().success());
        assert_eq!((refusals.next(), of_one.next(), of_two.next()), (None, None, None), "{more:?}");
    }
}

#[test]
fn a_hundred_listeners_hear_everything_and_one_that_never_reads_disturbs_nobody() {
    let home = Home::new();
    let daemon = home.start(&[]);
    let mut deaf = listen(&home, "");
    let mut all: Vec<Listener<UnixStream>> = (0..100).map(|_| listen(&home, "instance/")).collect();
    let before = memory(&daemon);
    let begun = Instant::now();
    let mut ids = Vec::new();
    for number in 0..30 {
        let id = provision(&daemon, &format!("02:00:00:00:01:{number:02x}"));
        destroy(&daemon, &id);
        ids.push(id);
    }
    for listener in &mut all {
        for id in &ids {
            for what in ["provisioned", "destroyed"] {
                let event = listener.next().expect("an event");
                assert_eq!(event["Topic"], format!("instance/{id}/{what}"));
            }
        }
    }
    // More than the daemon keeps for the one that does not read, and its socket.
    let id = provision(&daemon, "02:00:00:00:02:01");
    let label = &|caller: u32| {
        for number in 0..110 {
            let labels =
                json!({"Instance": id, "Labels": {format!("of{caller}"): number.to_string()}});
            daemon.call("Instance.Label", labels).expect("alive");
        }
    };
    std::thread::scope(|scope| {
        (0..48).for_each(|caller| drop(scope.spawn(move || label(caller))));
    });
    let (seconds, grown) = (begun.elapsed().as_secs_f64(), memory(&daemon) - before);
    assert!(grown < 64 << 10, "{grown} KiB more in {seconds} s");
    let missed = deaf.until("missed").pop().expect("it is told");
    assert!(missed["Data"]["missed"].as_u64().is_some_and(|count| count > 0), "{missed}");
    let next = deaf.next().expect("it goes on");
    assert_eq!(next["Topic"], format!("instance/{id}/labelled"));
    // And at the end nobody waits for those that do not read.
    let begun = Instant::now();
    assert!(daemon.terminate().success());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// The memory of the daemon in KiB.
fn memory(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

#[test]
fn tcp_streams_the_same_and_ends_with_the_daemon() {
    let home = Home::new();
    let secret = home.images().with_file_name("secret");
    fs::write(&secret, "0123456789abcdef").expect("written");
    let file = secret.display().to_string();
    let daemon = home.start(&["--listen", "127.0.0.1:0", "--listen-token-file", &file]);
    let url = eventually("the file for TCP", || {
        fs::read_to_string(home.plugins().join(format!("{NAME}.listen"))).ok()
    });
    let (authority, token) =
        url.strip_prefix("http://").and_then(|url| url.split_once('/')).expect("a URL");
    let connected = || {
        let stream = TcpStream::connect(authority).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        stream
    };
    let refused = Listener::begin(connected(), authority, "/events");
    assert!(refused.headers[0].starts_with("http/1.1 401"), "{:?}", refused.headers);
    let mut listener =
        Listener::begin(connected(), authority, &format!("/{token}/events?topic=instance%2F"));
    assert!(listener.headers.iter().any(|one| one == "content-type: text/event-stream"));
    let id = provision(&daemon, "02:00:00:00:01:01");
    assert_eq!(listener.next().expect("an event")["ID"], id);
    assert!(daemon.terminate().success());
    assert_eq!(listener.next(), None);
}

#[test]
fn curl_shows_events_as_they_come() {
    let home = Home::new();
    let daemon = home.start(&[]);
    let mut curl = Command::new("curl")
        .args(["-sN", "--unix-socket", home.socket().to_str().expect("text")])
        .arg("http://h/events?topic=instance/")
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl is installed");
    let mut lines = BufReader::new(curl.stdout.take().expect("piped")).lines();
    // Whether it listens yet only the daemon knows; so until it hears.
    std::thread::scope(|scope| {
        let (heard, is_heard) = std::sync::mpsc::channel();
        let daemon = &daemon;
        scope.spawn(move || {
            for number in 0..=u8::MAX {
                let id = provision(daemon, &format!("02:00:00:00:01:{number:02x}"));
                destroy(daemon, &id);
                if is_heard.recv_timeout(Duration::from_millis(50)).is_ok() {
                    return;
                }
            }
        });
        let line = lines.next().expect("a line").expect("text");
        heard.send(()).expect("it waits for that");
        let event: Value =
            serde_json::from_str(line.strip_prefix("data: ").expect("data")).expect("JSON");
        assert_eq!(event["Type"], "instance");
    });
    assert!(daemon.terminate().success());
    assert!(curl.wait().expect("a child of ours").success());
}
