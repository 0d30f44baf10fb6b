//! Several networks, and real relays (dnsmasq's, ISC's dhcrelay) between the
//! daemon and real clients, each in a network namespace of its own.

mod lab;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

use lab::{BEHIND, Daemon, Firmware, Host, Lab, Lease, Relay, dhcrelay, ip};
use serde_json::json;

/// A daemon with this file besides what the lab tells it.
fn daemon(lab: &Lab, file: &str) -> Daemon {
    let path = lab.folder().join("racks.toml");
    fs::write(&path, file).expect("written");
    lab.daemon(&["--log=4", "--config", &path.display().to_string()])
}

const RACK: &str = r#"
    [[subnet]]
    network = "10.78.0.0/24"
    ranges = ["10.78.0.100-10.78.0.110"]
    router = "10.78.0.1"
    dns = ["10.78.0.53"]
    lease-time = 600
"#;

fn of_rack(address: &str) -> Lease {
    Lease {
        address: address.to_owned(),
        mask: "255.255.255.0".to_owned(),
        router: "10.78.0.1".to_owned(),
        dns: "10.78.0.53".to_owned(),
        seconds: "600".to_owned(),
        server: "10.77.0.1".to_owned(),
    }
}

/// Two clients behind the relay and one beside the daemon get what is of their
/// network; one of the first renews without its relay.
fn check(lab: &Lab, relay: &Relay<'_>) {
    let daemon = daemon(lab, RACK);
    let behind = Host::new(lab, 1, "br1");
    assert_eq!(behind.lease(&[]), Some(of_rack("10.78.0.100")), "{}", daemon.log());
    assert_eq!(Host::new(lab, 2, "br1").lease(&["-B"]), Some(of_rack("10.78.0.101")));
    let beside = Host::new(lab, 3, "br0").lease(&[]).expect("a lease");
    assert_eq!((beside.address.as_str(), beside.router.as_str()), ("10.77.0.100", "10.77.0.1"));
    renews(&behind);
    assert!(relay.host.run("true", &[]).1, "and the relay lives");
}

/// A client that stays asks for more when it is told to (SIGUSR1), by unicast to
/// the server, and gets it.
fn renews(host: &Host<'_>) {
    let mut client = host
        .command("busybox", &["udhcpc", "-i", "eth0", "-f", "-s", &host.script()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("nsenter starts");
    let mut said = BufReader::new(client.stdout.take().expect("piped")).lines();
    let mut next = |start: &str| {
        let found = said.by_ref().map_while(Result::ok).find(|line| line.starts_with(start));
        assert!(found.is_some(), "no `{start}`");
    };
    next("bound 10.78.0.100|");
    let id = rustix::process::Pid::from_raw(client.id().try_into().expect("small")).expect("not 0");
    rustix::process::kill_process(id, rustix::process::Signal::USR1).expect("ours");
    next("renew 10.78.0.100|");
    client.kill().expect("ours");
    client.wait().expect("ours");
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn clients_behind_a_relay_of_dnsmasq_get_addresses_of_their_network() {
    let lab = Lab::new();
    check(&lab, &Relay::dnsmasq(&lab));
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn a_relay_may_stand_in_for_the_server_and_no_other_way_between_them_is_needed() {
    let lab = Lab::new();
    let help = lab.command("dnsmasq").arg("--help").output().expect("nsenter starts");
    if !String::from_utf8_lossy(&help.stdout).contains("--dhcp-split-relay") {
        println!("not tried: this system's dnsmasq is older than 2.92");
        return;
    }
    // Link selection and server identifier override (RFC 3527, RFC 5107).
    let arguments = "--no-daemon --conf-file=/dev/null --port=0 --log-dhcp --user=root --pid-file= \
        --dhcp-split-relay=10.78.0.1,10.77.0.1,eth0";
    let relay = Relay::new(&lab, "dnsmasq", &arguments.split_whitespace().collect::<Vec<_>>());
    relay.host.must("sh", &["-c", "echo 0 >/proc/sys/net/ipv4/ip_forward"]);
    ip(&lab, &["route", "del", "10.78.0.0/24"]);
    let daemon = daemon(&lab, RACK);
    let behind = Host::new(&lab, 1, "br1");
    let expected = Lease { server: "10.78.0.1".to_owned(), ..of_rack("10.78.0.100") };
    assert_eq!(behind.lease(&[]), Some(expected), "{}", daemon.log());
    renews(&behind);
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn clients_behind_a_relay_of_isc_get_addresses_of_their_network() {
    let lab = Lab::new();
    // With option 82, which it takes out again, or drops the answer.
    let arguments = ["-4", "-d", "--no-pid", "-a", "-i", "eth0", "-i", "eth1", "10.77.0.1"];
    check(&lab, &Relay::new(&lab, &dhcrelay(), &arguments));
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn the_port_that_a_relay_of_isc_names_is_the_slot_of_a_machine() {
    let lab = Lab::new();
    // Its circuit ID is the name of its adapter.
    let arguments = ["-4", "-d", "--no-pid", "-a", "-i", "eth0", "-i", "eth1", "10.77.0.1"];
    let _relay = Relay::new(&lab, &dhcrelay(), &arguments);
    let inventory = lab.folder().join("slots.toml");
    fs::write(&inventory, "[[slot]]\nname = 'rack1-7'\ncircuit-id = 'eth1'\n").expect("written");
    let rack = format!("inventory = '{}'\n{RACK}", inventory.display());
    let daemon = daemon(&lab, &rack);
    let firmware = ["-V", "PXEClient:Arch:00007:UNDI:003000", "-x", "0x5d:0007"];
    assert_eq!(Host::new(&lab, 1, "br1").lease(&firmware), Some(of_rack("10.78.0.100")));
    Host::new(&lab, 2, "br0").lease(&firmware).expect("a lease");
    let machines = daemon.call("Machine.List", json!({}))["Machines"].clone();
    let (behind, beside) = (&machines[0], &machines[1]);
    assert_eq!(behind["port"], json!({"remote_id": null, "circuit_id": "eth1"}), "{machines}");
    assert_eq!(behind["slot"], "rack1-7", "{machines}");
    // The relay passes on what it hears there, too, from another adapter.
    assert_eq!(beside["slot"], json!(null), "{machines}");
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn the_link_that_a_relay_selects_goes_before_its_own_address() {
    let lab = Lab::new();
    // It names itself by its address in the daemon's network (RFC 3527).
    let arguments = ["-4", "-d", "--no-pid", "-U", "eth0", "-id", "eth1", "10.77.0.1"];
    check(&lab, &Relay::new(&lab, &dhcrelay(), &arguments));
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn an_address_that_a_host_behind_a_relay_took_by_hand_is_never_offered() {
    let lab = Lab::new();
    let arguments = ["-4", "-d", "--no-pid", "-i", "eth0", "-i", "eth1", "10.77.0.1"];
    let _relay = Relay::new(&lab, &dhcrelay(), &arguments);
    let squatter = Host::new(&lab, 50, "br1");
    squatter.must("ip", &["addr", "add", "10.78.0.100/24", "dev", "eth0"]);
    squatter.must("ip", &["route", "add", "default", "via", "10.78.0.1"]);
    let daemon = daemon(&lab, RACK);
    assert_eq!(Host::new(&lab, 1, "br1").lease(&[]), Some(of_rack("10.78.0.101")));
    assert!(daemon.log().contains("set aside"), "{}", daemon.log());
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_behind_a_relay_boots_its_own_command_line() {
    let lab = Lab::new();
    let arguments = ["-4", "-d", "--no-pid", "-a", "-i", "eth0", "-i", "eth1", "10.77.0.1"];
    let _relay = Relay::new(&lab, &dhcrelay(), &arguments);
    let daemon = daemon(&lab, RACK);
    let mac = "52:54:00:77:00:01";
    daemon.provision(json!({
        "Kernel": "vmlinuz",
        "Initrd": "initrd",
        "CmdLine": "console=ttyS0 lab={{ mac }} at={{ ip }}",
        "MAC": mac,
        "Address": "10.78.0.200",
    }));
    let mut machine = lab.machine_on("br1", Firmware::UefiPxe, mac);
    let report = machine.report();
    assert_eq!((report.marker.as_str(), report.macs.as_slice()), ("a", &[mac.to_owned()][..]));
    for word in [&format!("lab={mac}"), "at=10.78.0.200"] {
        assert!(report.cmdline.split(' ').any(|one| one == word), "{}", report.cmdline);
    }
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn each_adapter_is_served_from_its_own_network() {
    let lab = Lab::new();
    ip(&lab, &["link", "add", "br1", "type", "bridge"]);
    ip(&lab, &["addr", "add", BEHIND, "dev", "br1"]);
    ip(&lab, &["link", "set", "br1", "up"]);
    let rack = RACK.replace("network =", "adapter = 'br1'\nnetwork =");
    let daemon = daemon(&lab, &rack);
    let (here, there) = (Host::new(&lab, 1, "br0"), Host::new(&lab, 2, "br1"));
    let expected = Lease { server: "10.78.0.1".to_owned(), ..of_rack("10.78.0.100") };
    assert_eq!(there.lease(&[]), Some(expected), "{}", daemon.log());
    assert_eq!(there.broadcasts(), 0, "OFFER and ACK came to its card");
    assert_eq!(here.lease(&["-B"]).expect("a lease").server, "10.77.0.1");
    // Scripts are served under one address, which it reaches by us as its router.
    let url = "http://10.77.0.1/ipxe/52-54-00-20-00-02.ipxe";
    let (script, _) = there.run("curl", &["--silent", "--max-time", "10", url]);
    assert!(script.starts_with("#!ipxe"), "{script}");
    // Another daemon on either adapter is an error at its start.
    let second = lab
        .command(env!("CARGO_BIN_EXE_remoteboot"))
        .args(["--config", &lab.folder().join("racks.toml").display().to_string(), "--enable-dhcp"])
        .arg("--state-dir")
        .arg(lab.folder().join("second"))
        .env("INFRAKIT_PLUGINS_DIR", lab.folder().join("second"))
        .output()
        .expect("nsenter starts");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("10.78.0.1:67 of adapter br1") && said.contains("in use"), "{said}");
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn a_daemon_behind_relays_only_needs_no_adapter() {
    let lab = Lab::new();
    let arguments = ["-4", "-d", "--no-pid", "-i", "eth0", "-i", "eth1", "10.77.0.1"];
    let _relay = Relay::new(&lab, &dhcrelay(), &arguments);
    let path = lab.folder().join("racks.toml");
    let rack = RACK.replace("network =", "server = '10.77.0.1'\nnetwork =");
    fs::write(&path, format!("enable-dhcp = true\n{rack}")).expect("written");
    let folder = lab.folder().join("alone");
    let mut daemon = lab
        .command(env!("CARGO_BIN_EXE_remoteboot"))
        .args(["--config", &path.display().to_string()])
        .arg("--state-dir")
        .arg(&folder)
        .env("INFRAKIT_PLUGINS_DIR", &folder)
        .stderr(Stdio::null())
        .spawn()
        .expect("nsenter starts");
    let until = Instant::now() + Duration::from_secs(10);
    while !folder.join("remoteboot").exists() {
        assert!(Instant::now() < until, "no socket");
        std::thread::sleep(Duration::from_millis(10));
    }
    let leased = Host::new(&lab, 1, "br1").lease(&[]);
    daemon.kill().expect("ours");
    daemon.wait().expect("ours");
    assert_eq!(leased, Some(of_rack("10.78.0.100")));
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn a_real_client_finds_every_option_also_what_had_no_room_but_in_other_fields() {
    let lab = Lab::new();
    ip(&lab, &["link", "add", "br1", "type", "bridge"]);
    ip(&lab, &["addr", "add", BEHIND, "dev", "br1"]);
    ip(&lab, &["link", "set", "br1", "up"]);
    let rack = format!(
        "{RACK}adapter = 'br1'\n\
        domain = 'rack.example'\nsearch = ['rack.example', 'example']\n\
        ntp = ['10.78.0.123', '10.78.0.124']\nmtu = 1400\n\
        routes = ['10.0.0.0/8 via 10.78.0.2']\n\
        options = {{ '17' = 'text:{}', '40' = 'text:nis', '66' = 'text:{}' }}",
        "r".repeat(200),
        "t".repeat(60),
    );
    let daemon = daemon(&lab, &rack);
    let host = Host::new(&lab, 1, "br1");
    let script = host.folder().join("tell.script");
    let told = "$domain|$search|$ntpsrv|$mtu|$staticroutes|$nisdomain|$rootpath|$tftp";
    let text = format!("#!/bin/sh\n[ $1 = bound ] && echo \"bound {told}\"\nexit 0\n");
    fs::write(&script, text).expect("written");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let asked = ["15", "119", "42", "26", "121", "40", "17", "66"];
    let mut arguments = vec!["udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "4", "-T", "1", "-o"];
    arguments.extend(["-O", "1", "-O", "3"]);
    arguments.extend(asked.iter().flat_map(|code| ["-O", code]));
    let script = script.display().to_string();
    arguments.extend(["-s", &script]);
    let (said, _) = host.run("busybox", &arguments);
    let line = said.lines().find_map(|line| line.strip_prefix("bound "));
    let expected = format!(
        "rack.example|rack.example example|10.78.0.123 10.78.0.124|1400|\
        10.0.0.0/8 10.78.0.2 0.0.0.0/0 10.78.0.1|nis|{}|{}",
        "r".repeat(200),
        "t".repeat(60),
    );
    assert_eq!(line, Some(expected.as_str()), "{said}\n{}", daemon.log());
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn a_real_client_is_told_what_its_profile_and_the_inventory_say_over_its_network() {
    let lab = Lab::new();
    ip(&lab, &["link", "add", "br1", "type", "bridge"]);
    ip(&lab, &["addr", "add", BEHIND, "dev", "br1"]);
    ip(&lab, &["link", "set", "br1", "up"]);
    let inventory = lab.folder().join("profiles.toml");
    let machines = "[[machine]]\nmac = '52:54:00:20:00:01'\nlabels = { role = 'db' }\n\
                    dhcp = { router = '10.78.0.9' }\n\
                    [[machine]]\nmac = '52:54:00:20:00:02'\nlabels = { role = 'db' }\n";
    fs::write(&inventory, machines).expect("written");
    let file = format!(
        "inventory = '{}'\n{RACK}adapter = 'br1'\n\
        [[profile]]\nlabels = {{ role = 'db' }}\n\
        dhcp = {{ router = '10.78.0.8', dns = ['10.78.0.54'], lease-time = 900 }}\n",
        inventory.display()
    );
    let daemon = daemon(&lab, &file);
    for (number, router, dns, seconds) in [
        (1, "10.78.0.9", "10.78.0.54", "900"),
        (2, "10.78.0.8", "10.78.0.54", "900"),
        (3, "10.78.0.1", "10.78.0.53", "600"),
    ] {
        let lease = Host::new(&lab, number, "br1").lease(&[]).expect("a lease");
        let told = (lease.router.as_str(), lease.dns.as_str(), lease.seconds.as_str());
        assert_eq!(told, (router, dns, seconds), "{number}: {}", daemon.log());
    }
}
