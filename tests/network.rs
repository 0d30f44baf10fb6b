//! DHCP with a real client (busybox's udhcpc) on real networks, each in network
//! namespaces of its own.

mod lab;

use std::{
    collections::HashSet,
    fs,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use lab::Lab;
use serde_json::json;

/// A host with one card, `eth0`, on a bridge of the lab.
struct Host<'a> {
    lab: &'a Lab,
    holder: Child,
}

impl<'a> Host<'a> {
    fn new(lab: &'a Lab, number: u8, bridge: &str) -> Self {
        let mut unshare = lab.command("unshare");
        let holder = unshare.args(["--net", "sleep", "600"]).spawn().expect("unshare starts");
        let host = Self { lab, holder };
        let own = format!("/proc/{}/ns/net", host.holder.id());
        let until = Instant::now() + Duration::from_secs(10);
        // It is in the lab's network until unshare has done its work.
        let lab_network =
            lab.command("readlink").arg("/proc/self/ns/net").output().expect("readlink");
        let lab_network = String::from_utf8_lossy(&lab_network.stdout).trim().to_owned();
        while fs::read_link(&own).is_ok_and(|now| {
            now.to_string_lossy() == lab_network
                || now == fs::read_link("/proc/self/ns/net").expect("ours")
        }) {
            assert!(Instant::now() < until, "no network of its own");
            std::thread::sleep(Duration::from_millis(5));
        }
        let (inner, outer) = (format!("in{number}"), format!("out{number}"));
        let id = host.holder.id().to_string();
        let card = format!("52:54:00:20:00:{number:02x}");
        ip(lab, &["link", "add", &inner, "address", &card, "type", "veth", "peer", "name", &outer]);
        ip(lab, &["link", "set", &outer, "master", bridge, "up"]);
        ip(lab, &["link", "set", &inner, "netns", &id, "name", "eth0"]);
        let up = host.run("ip", &["link", "set", "eth0", "up"]);
        assert!(up.1, "{}", up.0);
        host
    }

    fn command(&self, program: &str, arguments: &[&str]) -> std::process::Command {
        let mut command = self.lab.command("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net", "--", program]);
        command.args(arguments);
        command
    }

    /// What the program said, and whether it ended well.
    fn run(&self, program: &str, arguments: &[&str]) -> (String, bool) {
        let output = self.command(program, arguments).output().expect("nsenter starts");
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).into_owned(), output.status.success())
    }

    /// Asks for an address once; what udhcpc hands its script, or nothing.
    fn lease(&self, more: &[&str]) -> Option<Lease> {
        let script = self.lab.folder().join("udhcpc.script");
        let text = "#!/bin/sh\n\
            [ \"$1\" = bound ] || exit 0\n\
            ip addr flush dev $interface; ip addr add $ip/$mask dev $interface\n\
            echo \"bound $ip|$subnet|$router|$dns|$lease|$serverid\"\n";
        fs::write(&script, text).expect("written");
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("set");
        let script = script.display().to_string();
        let mut arguments =
            vec!["udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "4", "-T", "1", "-s", &script];
        arguments.extend(more);
        let (said, _) = self.run("busybox", &arguments);
        let line = said.lines().find_map(|line| line.strip_prefix("bound "))?;
        let words: Vec<String> = line.split('|').map(str::to_owned).collect();
        let [address, mask, router, dns, seconds, server] = words.try_into().expect("six fields");
        Some(Lease { address, mask, router, dns, seconds, server })
    }

    /// Fragments that this host's IP had to put together (`ReasmReqds`).
    fn fragments(&self) -> u64 {
        let (text, _) = self.run("cat", &["/proc/net/snmp"]);
        let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
        let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
        let place = names.split(' ').position(|name| name == "ReasmReqds").expect("counted");
        values.split(' ').nth(place).and_then(|value| value.parse().ok()).expect("a number")
    }

    /// Broadcast packets that this host's IP has taken so far (`InBcastPkts`).
    fn broadcasts(&self) -> u64 {
        let (text, _) = self.run("cat", &["/proc/net/netstat"]);
        let mut lines = text.lines().filter(|line| line.starts_with("IpExt:"));
        let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
        let place = names.split(' ').position(|name| name == "InBcastPkts").expect("counted");
        values.split(' ').nth(place).and_then(|value| value.parse().ok()).expect("a number")
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Lease {
    address: String,
    mask: String,
    router: String,
    dns: String,
    seconds: String,
    server: String,
}

fn ip(lab: &Lab, arguments: &[&str]) {
    let output = lab.command("ip").args(arguments).stderr(Stdio::piped()).output().expect("ip");
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn a_client_is_answered_as_it_can_hear_and_told_the_network() {
    let lab = Lab::new();
    let options = ["--gateway", "10.77.0.254", "--dns", "10.77.0.53,10.77.0.54"];
    let daemon = lab.daemon(&options);
    let expected = |address: &str| Lease {
        address: address.to_owned(),
        mask: "255.255.255.0".to_owned(),
        router: "10.77.0.254".to_owned(),
        dns: "10.77.0.53 10.77.0.54".to_owned(),
        seconds: "7200".to_owned(),
        server: "10.77.0.1".to_owned(),
    };
    let plain = Host::new(&lab, 1, "br0");
    let lease = plain.lease(&[]).map(|lease| lease.address);
    assert_eq!(lease.as_deref(), Some("10.77.0.100"));
    assert_eq!(plain.broadcasts(), 0, "OFFER and ACK came to its card");
    let flagged = Host::new(&lab, 2, "br0");
    let lease = flagged.lease(&["-B"]).map(|lease| lease.address);
    assert_eq!(lease.as_deref(), Some("10.77.0.101"));
    assert!(flagged.broadcasts() >= 2, "{} broadcasts", flagged.broadcasts());
    drop(daemon);
    let _daemon = lab.daemon(&options);
    assert_eq!(plain.lease(&[]), Some(expected("10.77.0.100")), "the same address after a restart");
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn only_the_adapter_that_was_named_is_served_and_from_the_address_that_was_named() {
    let lab = Lab::new();
    ip(&lab, &["addr", "add", "10.77.0.9/24", "dev", "br0"]);
    ip(&lab, &["link", "add", "br1", "type", "bridge"]);
    ip(&lab, &["addr", "add", "10.78.0.1/24", "dev", "br1"]);
    ip(&lab, &["link", "set", "br1", "up"]);
    let _daemon = lab.daemon(&["--addressDHCP", "10.77.0.9"]);
    let (here, elsewhere) = (Host::new(&lab, 1, "br0"), Host::new(&lab, 2, "br1"));
    assert_eq!(elsewhere.lease(&[]), None, "another adapter's segment");
    let lease = here.lease(&[]).expect("a lease");
    assert_eq!((lease.server.as_str(), lease.address.as_str()), ("10.77.0.9", "10.77.0.100"));
    let flagged = Host::new(&lab, 3, "br0").lease(&["-B"]).expect("a lease");
    assert_eq!(flagged.server, "10.77.0.9");
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn a_released_address_comes_back_and_a_reserved_one_is_its_machines() {
    let lab = Lab::new();
    let daemon = lab.daemon(&[]);
    let first = Host::new(&lab, 1, "br0");
    let lease = first.lease(&[]).expect("a lease");
    let reserve = || {
        let spec = json!({"Properties": {
            "Kernel": "vmlinuz", "MAC": "52:54:00:20:00:02", "Address": lease.address}});
        daemon.try_call("Instance.Provision", json!({"Type": "", "Spec": spec}))
    };
    let refusal = reserve().expect_err("the first host has it").to_string();
    assert!(refusal.contains(&lease.address) && refusal.contains("52:54:00:20:00:01"), "{refusal}");
    // udhcpc stays, and gives the address back when it is told to.
    let script = lab.folder().join("udhcpc.script").display().to_string();
    let mut client = first
        .command("busybox", &["udhcpc", "-i", "eth0", "-f", "-s", &script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("nsenter starts");
    let mut line = String::new();
    let mut said = std::io::BufReader::new(client.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut said, &mut line).expect("text");
    assert!(line.contains(&lease.address), "{line}");
    let id = rustix::process::Pid::from_raw(client.id().try_into().expect("small")).expect("not 0");
    rustix::process::kill_process(id, rustix::process::Signal::USR2).expect("ours");
    let until = Instant::now() + Duration::from_secs(10);
    while let Err(refusal) = reserve() {
        assert!(Instant::now() < until, "not released: {refusal}");
        std::thread::sleep(Duration::from_millis(50));
    }
    client.kill().expect("ours");
    client.wait().expect("ours");
    let owner = Host::new(&lab, 2, "br0").lease(&[]).expect("a lease");
    assert_eq!(owner.address, lease.address);
    let other = first.lease(&[]).expect("a lease");
    assert_ne!(other.address, lease.address);
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn many_hosts_at_once_get_an_address_each() {
    let lab = Lab::new();
    let _daemon = lab.daemon(&[]);
    let hosts: Vec<Host> = (1..=20).map(|number| Host::new(&lab, number, "br0")).collect();
    let addresses: Vec<String> = std::thread::scope(|scope| {
        let asked: Vec<_> = hosts.iter().map(|host| scope.spawn(|| host.lease(&[]))).collect();
        asked
            .into_iter()
            .map(|one| one.join().expect("no panic").expect("a lease").address)
            .collect()
    });
    let distinct: HashSet<&String> = addresses.iter().collect();
    assert_eq!(distinct.len(), 20, "{addresses:?}");
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn without_root_two_capabilities_are_enough() {
    let lab = Lab::new();
    let folder = lab.folder().join("plain");
    fs::create_dir(&folder).expect("made");
    std::os::unix::fs::chown(&folder, Some(65534), Some(65534)).expect("chown");
    // The way to it must be open to others.
    let parent: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(lab.folder(), parent).expect("set");
    let program = lab.folder().join("remoteboot");
    fs::copy(env!("CARGO_BIN_EXE_remoteboot"), &program).expect("copied");
    let capabilities = "-all,+net_bind_service,+net_raw";
    let start = |capabilities: &str| {
        let mut command = lab.command("setpriv");
        command
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .args(["--inh-caps", capabilities, "--ambient-caps", capabilities])
            .args(["--bounding-set", capabilities])
            .arg(&program)
            .args(
                "--adapter br0 --startAddress 10.77.0.100 --enableDHCP --enableTFTP --enableHTTP"
                    .split(' '),
            )
            .arg("--state-dir")
            .arg(folder.join("state"))
            .env("INFRAKIT_PLUGINS_DIR", folder.join("plugins"))
            .stderr(Stdio::piped());
        command.spawn().expect("setpriv starts")
    };
    let mut daemon = start(capabilities);
    let socket = folder.join("plugins/remoteboot");
    let until = Instant::now() + Duration::from_secs(10);
    while !socket.exists() {
        assert!(daemon.try_wait().expect("ours").is_none(), "it ended");
        assert!(Instant::now() < until, "no socket");
        std::thread::sleep(Duration::from_millis(10));
    }
    let host = Host::new(&lab, 1, "br0");
    assert_eq!(host.lease(&[]).expect("a lease").address, "10.77.0.100");
    assert_eq!(host.broadcasts(), 0, "the packet socket works");
    daemon.kill().expect("ours");
    daemon.wait().expect("ours");
    let mut powerless = start("-all");
    assert_eq!(powerless.wait().expect("ours").code(), Some(1), "no right to port 67");
    let mut said = String::new();
    std::io::Read::read_to_string(&mut powerless.stderr.take().expect("piped"), &mut said)
        .expect("text");
    assert!(said.contains("cannot serve") && said.contains("denied"), "{said}");
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn a_block_fits_into_one_packet_on_the_way_to_each_machine() {
    for more in [&[][..], &["--tftp-single-port"][..]] {
        let lab = Lab::new();
        let daemon = lab.daemon(more);
        let (wide, narrow) = (Host::new(&lab, 1, "br0"), Host::new(&lab, 2, "br0"));
        for (host, address) in [(&wide, "10.77.0.51/24"), (&narrow, "10.77.0.52/24")] {
            let added = host.run("ip", &["addr", "add", address, "dev", "eth0"]);
            assert!(added.1, "{}", added.0);
        }
        ip(&lab, &["route", "add", "10.77.0.52/32", "dev", "br0", "mtu", "1400"]);
        for (host, block_size) in [(&wide, "blksize=1468"), (&narrow, "blksize=1368")] {
            let out = lab.folder().join(block_size).display().to_string();
            let line =
                ["tftp", "-b", "65464", "-g", "-r", "undionly.kpxe", "-l", &out, "10.77.0.1"];
            let (said, is_fine) = host.run("busybox", &line);
            assert!(is_fine, "{said}\n{}", daemon.log());
            let (got, served) = (fs::read(&out), fs::read(lab.loader("undionly.kpxe")));
            assert!(got.expect("received") == served.expect("there"), "{block_size}");
            // The last ACK is on its way to the log yet.
            let until = Instant::now() + Duration::from_secs(10);
            while !daemon.log().contains(block_size) {
                assert!(Instant::now() < until, "{}", daemon.log());
                std::thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(host.fragments(), 0, "{block_size}");
        }
    }
}
