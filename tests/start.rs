//! Starting is all or nothing, and ending is quick and clean.

mod daemon;
mod machine;

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    process::Command,
    time::{Duration, Instant},
};

use daemon::{Home, answer_of, connect, eventually};
use machine::{IPXE, Machine, Ports, connected, kernel_of};
use serde_json::{Value, json};

fn arguments(ports: Ports) -> Vec<String> {
    ports.arguments()
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn a_port_in_use_is_an_error_that_names_it_and_nothing_else_answers() {
    for taken in ["dhcp", "tftp", "http"] {
        let (home, ports) = (Home::new(), Ports::free());
        // Others hold one of the three, as a forgotten server would.
        let udp = |port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).expect("free until now");
        let (_udp, _tcp, port) = match taken {
            "dhcp" => (Some(udp(ports.dhcp)), None, ports.dhcp),
            "tftp" => (Some(udp(ports.tftp)), None, ports.tftp),
            _ => {
                let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.http)).expect("free");
                (None, Some(tcp), ports.http)
            }
        };
        let status = home.start_in_vain(&words(&arguments(ports)));
        assert_eq!(status.code(), Some(1), "{taken}: {}", home.log());
        let log = home.log();
        assert!(log.contains(&taken.to_uppercase()) && log.contains(&format!(":{port}")), "{log}");
        assert!(log.contains("in use"), "{log}");
        assert!(!home.socket().exists(), "{taken}: it left a socket");
    }
}

#[test]
fn another_server_that_would_share_the_port_is_noticed() {
    // DHCP servers set SO_REUSEADDR: two of them would each hear some machines.
    let (home, ports) = (Home::new(), Ports::free());
    let daemon = home.start(&words(&arguments(ports)));
    let (other, mut others) = (Home::new(), Ports::free());
    others.dhcp = ports.dhcp;
    let status = other.start_in_vain(&words(&arguments(others)));
    assert_eq!(status.code(), Some(1), "{}", other.log());
    assert!(other.log().contains("DHCP") && other.log().contains("in use"), "{}", other.log());
    assert!(!other.socket().exists());
    assert!(Machine::new(1, ports).lease(IPXE).boot_file.ends_with(".ipxe"));
    assert!(daemon.terminate().success());
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused_and_the_first_goes_on() {
    let (home, ports) = (Home::new(), Ports::free());
    let daemon = home.start(&words(&arguments(ports)));
    let others = Ports::free();
    let mut more = arguments(others);
    more.extend(["--name".to_owned(), "another".to_owned()]);
    let status = home.start_in_vain(&words(&more));
    assert_eq!(status.code(), Some(1));
    assert!(home.log().contains("in use by another remoteboot"), "{}", home.log());
    assert!(!home.plugins().join("another").exists());
    assert!(Machine::new(1, ports).lease(IPXE).boot_file.ends_with(".ipxe"));
    assert!(daemon.terminate().success());
}

#[test]
fn a_damaged_state_is_refused_and_left_as_it_is() {
    let home = Home::new();
    assert!(home.start(&[]).terminate().success());
    let file = home.state().join("state.redb");
    let mut bytes = fs::read(&file).expect("there");
    for place in (0..bytes.len()).step_by(97) {
        bytes[place] ^= 0x5a;
    }
    fs::write(&file, &bytes).expect("written");
    assert_eq!(home.start_in_vain(&[]).code(), Some(1));
    assert!(home.log().contains("damaged") && home.log().contains("state.redb"), "{}", home.log());
    assert_eq!(fs::read(&file).expect("there"), bytes);
    assert!(!home.socket().exists());
}

/// A call as it goes over a connection that is kept.
fn post(method: &str, params: Value) -> String {
    let body = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).to_string();
    format!(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The path at which the machine with this script reports in.
fn script_report(script: &str) -> String {
    let (_, cmdline) = kernel_of(script);
    let url = cmdline.split("report=http://").nth(1).expect("a URL");
    url[url.find('/').expect("a path")..].to_owned()
}

#[test]
fn it_ends_within_five_seconds_whatever_is_under_way_and_takes_its_files_along() {
    for signal in ["TERM", "INT"] {
        let (home, ports) = (Home::new(), Ports::free());
        let image = vec![b'k'; 64 << 20];
        fs::write(home.images().join("vmlinuz"), &image).expect("written");
        let loaders = home.images().with_file_name("loaders");
        fs::create_dir(&loaders).expect("made");
        fs::write(loaders.join("undionly.kpxe"), vec![b'b'; 100_000]).expect("written");
        let mut arguments = arguments(ports);
        arguments.extend(["--ipxe-dir".to_owned(), loaders.display().to_string()]);
        let daemon = home.start(&words(&arguments));
        let machine = Machine::new(1, ports);
        let properties = json!({
            "Kernel": "vmlinuz", "MAC": machine.mac.to_string(), "CmdLine": "report={{ report }}",
        });
        let spec = json!({"Spec": {"Properties": properties}});
        let result = daemon.call("Instance.Provision", spec).expect("provisioned");
        let id = result["ID"].as_str().expect("an ID");
        // A kernel that is being read too slowly, and a boot program that is
        // never acknowledged.
        let address = machine.lease(IPXE).address;
        let (url, _) = kernel_of(&machine.script());
        let mut transfer = connected(address, ports.http);
        let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", machine.path(&url));
        transfer.write_all(request.as_bytes()).expect("sent");
        transfer.read_exact(&mut [0; 1000]).expect("it has begun");
        let tftp = UdpSocket::bind((address, 0)).expect("the leased address");
        tftp.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        let server = (Ipv4Addr::LOCALHOST, ports.tftp);
        tftp.send_to(b"\0\x01undionly.kpxe\0octet\0", server).expect("sent");
        assert_eq!(tftp.recv(&mut [0; 600]).expect("the first block"), 516);
        // Two who listen to events, one of whom has heard none yet; a connection
        // that is kept for a next call; and a Drain that waits for its machine.
        let streams = ["", "?topic=lease%2F"].map(|query| {
            let mut stream = connect(&home.socket());
            let request = format!("GET /events{query} HTTP/1.1\r\nHost: e\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("sent");
            stream.read_exact(&mut [0; 12]).expect("the head comes at once");
            stream
        });
        let mut kept = connect(&home.socket());
        let hello = post("Handshake.Hello", json!({}));
        kept.write_all(hello.as_bytes()).expect("sent");
        assert_eq!(answer_of(&mut kept).status, 200);
        let token = script_report(&machine.script());
        assert_eq!(machine.http(address, "GET", &format!("{token}/ready")).status, 200);
        let mut drain = connect(&home.socket());
        let member = json!({"ID": id, "LogicalID": null, "Tags": null});
        let drained = post(
            "Flavor.Drain",
            json!({
                "Type": "", "Properties": {"DrainTimeout": "10s"}, "Instance": member,
            }),
        );
        drain.write_all(drained.as_bytes()).expect("sent");
        eventually("the machine is asked to stop", || {
            (machine.http(address, "GET", &token).text().trim() == "drain").then_some(())
        });
        let (pid, asked) = (daemon.pid().to_string(), Instant::now());
        let sent = Command::new("/bin/kill").args(["-s", signal, &pid]).status().expect("kill");
        assert!(sent.success());
        assert!(daemon.ended().success(), "{}", home.log());
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?} after SIG{signal}");
        let left: Vec<_> = fs::read_dir(home.plugins()).expect("there").flatten().collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!home.log().contains("did not end within"), "{}", home.log());
        drop((streams, kept, drain));
    }
}
