//! DHCP with a real client (busybox's udhcpc) on real networks, each in network
//! namespaces of its own.

mod lab;

use std::{
    collections::HashSet,
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use lab::{Daemon, Host, Lab, Lease, ip};
use serde_json::json;

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
    let again = plain.lease(&[]).expect("a lease");
    // RFC 2131 §4.3.1: who has an address is told what is left of it.
    let left: u32 = again.seconds.parse().expect("a number");
    assert!((7000..=7200).contains(&left), "{left}");
    let expected = Lease { seconds: again.seconds.clone(), ..expected("10.77.0.100") };
    assert_eq!(again, expected, "the same address after a restart");
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
    let mut client = first
        .command("busybox", &["udhcpc", "-i", "eth0", "-f", "-s", &first.script()])
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
    // Its script leaves the address on the card, and who uses one keeps it.
    first.must("ip", &["addr", "flush", "dev", "eth0"]);
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

/// A host that took an address by hand.
fn squatter<'a>(lab: &'a Lab, number: u8, bridge: &str, address: &str) -> Host<'a> {
    let host = Host::new(lab, number, bridge);
    host.must("ip", &["addr", "add", &format!("{address}/24"), "dev", "eth0"]);
    host
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn an_address_that_a_host_took_by_hand_is_never_offered() {
    let lab = Lab::new();
    let _squatters =
        [squatter(&lab, 50, "br0", "10.77.0.100"), squatter(&lab, 51, "br0", "10.77.0.102")];
    let daemon = lab.daemon(&[]);
    let hosts: Vec<Host> = (1..=8).map(|number| Host::new(&lab, number, "br0")).collect();
    let mut addresses: Vec<String> = std::thread::scope(|scope| {
        let asked: Vec<_> = hosts.iter().map(|host| scope.spawn(|| host.lease(&[]))).collect();
        asked
            .into_iter()
            .map(|one| one.join().expect("no panic").expect("a lease").address)
            .collect()
    });
    addresses.sort();
    let free = [101, 103, 104, 105, 106, 107, 108, 109].map(|last| format!("10.77.0.{last}"));
    assert_eq!(addresses, free);
    // Not even to who asks for it.
    let wanted = Host::new(&lab, 9, "br0").lease(&["-r", "10.77.0.100"]).expect("a lease");
    assert_eq!(wanted.address, "10.77.0.110");
    let log = daemon.log();
    for address in ["10.77.0.100", "10.77.0.102"] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("set aside")).collect();
        let named = lines.iter().filter(|line| line.contains(&format!("address={address} ")));
        assert_eq!(named.count(), 1, "each is said once: {lines:?}");
    }
}

/// How often the daemon has looked at the address.
fn looks(daemon: &Daemon, address: &str) -> usize {
    let named = format!("address={address} ");
    daemon.log().lines().filter(|line| line.contains("looked at") && line.contains(&named)).count()
}

/// Waits until the daemon has looked at the address.
fn wait_for_a_look(daemon: &Daemon, address: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while looks(daemon, address) == 0 {
        assert!(Instant::now() < until, "not looked at: {}", daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn who_comes_first_need_not_wait_for_a_look_at_its_address() {
    let lab = Lab::new();
    let daemon = lab.daemon(&["--log=5"]);
    let host = Host::new(&lab, 1, "br0");
    wait_for_a_look(&daemon, "10.77.0.100");
    let lease = host.lease(&[]).expect("a lease");
    assert_eq!(lease.address, "10.77.0.100");
    assert_eq!(looks(&daemon, "10.77.0.100"), 1, "not again for it: {}", daemon.log());
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn who_takes_an_address_by_hand_after_it_was_looked_at_is_heard_when_it_speaks() {
    let lab = Lab::new();
    let daemon = lab.daemon(&["--log=5"]);
    let host = Host::new(&lab, 1, "br0");
    wait_for_a_look(&daemon, "10.77.0.100");
    let late = squatter(&lab, 50, "br0", "10.77.0.100");
    late.must("busybox", &["ping", "-c", "1", "-w", "5", "10.77.0.1"]);
    let lease = host.lease(&[]).expect("a lease");
    assert_eq!(lease.address, "10.77.0.101");
    assert!(daemon.log().contains("somebody uses it without a lease"), "{}", daemon.log());
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn a_machine_that_answers_for_its_own_address_keeps_it_even_if_we_forgot() {
    let lab = Lab::new();
    let daemon = lab.daemon(&[]);
    // It keeps the address on its card, as a system does that asks anew.
    let host = Host::new(&lab, 1, "br0");
    let address = host.lease(&[]).expect("a lease").address;
    drop(daemon);
    fs::remove_dir_all(lab.folder().join("daemon/state")).expect("forgotten");
    let daemon = lab.daemon(&[]);
    assert_eq!(host.lease(&[]).expect("a lease").address, address);
    assert!(!daemon.log().contains("set aside"), "{}", daemon.log());
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn without_probing_a_client_declines_and_the_address_is_set_aside_for_as_long_as_it_is_set() {
    let lab = Lab::new();
    let _squatter = squatter(&lab, 50, "br0", "10.77.0.100");
    let daemon = lab.daemon(&["--probe=false", "--decline-hold=3600"]);
    let trusting = Host::new(&lab, 1, "br0").lease(&[]).expect("a lease");
    assert_eq!(trusting.address, "10.77.0.100", "nobody looked");
    drop(daemon);
    fs::remove_dir_all(lab.folder().join("daemon/state")).expect("forgotten");
    let _daemon = lab.daemon(&["--probe=false", "--decline-hold=3600"]);
    // With -a the client looks itself.
    let careful = Host::new(&lab, 2, "br0");
    let lease = careful.lease(&["-a", "-A", "1"]).expect("a lease");
    assert_eq!(lease.address, "10.77.0.101");
    assert_eq!(Host::new(&lab, 3, "br0").lease(&[]).expect("a lease").address, "10.77.0.102");
}
