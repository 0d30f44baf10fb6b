//! Beside a DHCP server that somebody else runs: real firmware boots from us with
//! an address of the other server, and hosts hear nothing from us.

mod lab;

use std::{fs, time::Duration};

use lab::{Capture, Daemon, Firmware, GIVEN, Host, Lab, OTHER, Other};
use serde_json::{Value, json};

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn a_host_is_given_its_address_by_the_other_server_and_hears_nothing_from_us() {
    let lab = Lab::new();
    let daemon = lab.daemon_beside(&["--dhcp=proxy"]);
    let ours = Capture::start(&lab, "udp and src host 10.77.0.1 and udp[8] == 2");
    let alone = Host::new(&lab, 9, "br0");
    assert_eq!(alone.lease(&[]), None, "there is no server yet");
    let other = Other::dnsmasq(&lab);
    let lease = Host::new(&lab, 10, "br0").lease(&["-B"]).expect("a lease");
    assert!(lease.address.starts_with(GIVEN) && lease.server == OTHER, "{lease:?}");
    assert_eq!(ours.packets(&other), Vec::<Vec<u8>>::new());
    let known = daemon.call("Machine.List", json!({}));
    assert_eq!(known["Machines"], json!([]), "hosts are no machines");
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn auto_is_a_proxy_where_somebody_gives_addresses() {
    let lab = Lab::new();
    let other = Other::dnsmasq(&lab);
    let daemon = lab.daemon_beside(&["--dhcp=auto", "--startAddress=10.77.0.100"]);
    let log = daemon.log();
    assert!(log.lines().any(|line| line.contains("proxy") && line.contains(OTHER)), "{log}");
    let ours = Capture::start(&lab, "udp and src host 10.77.0.1 and udp[8] == 2");
    let lease = Host::new(&lab, 10, "br0").lease(&[]).expect("a lease");
    assert_eq!(lease.server, OTHER);
    assert_eq!(ours.packets(&other), Vec::<Vec<u8>>::new());
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn auto_is_a_server_where_nobody_else_is() {
    let lab = Lab::new();
    let daemon = lab.daemon_beside(&["--dhcp=auto", "--startAddress=10.77.0.100"]);
    let lease = Host::new(&lab, 10, "br0").lease(&[]).expect("a lease");
    assert_eq!((lease.address.as_str(), lease.server.as_str()), ("10.77.0.100", "10.77.0.1"));
    assert!(daemon.log().contains("we give the addresses"), "{}", daemon.log());
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn auto_that_could_only_be_a_server_and_has_no_addresses_says_so_and_ends() {
    let lab = Lab::new();
    let output = lab
        .command(env!("CARGO_BIN_EXE_remoteboot"))
        .args(["--adapter=br0", "--dhcp=auto", "--enableHTTP", "--state-dir"])
        .arg(lab.folder().join("state"))
        .env("INFRAKIT_PLUGINS_DIR", lab.folder().join("plugins"))
        .output()
        .expect("nsenter starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--start-address is needed"), "{said}");
    assert!(!lab.folder().join("plugins/remoteboot").exists(), "nothing was answered");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn not_one_packet_of_ours_reaches_a_stranger_that_is_ignored() {
    let lab = Lab::new();
    let daemon = lab.daemon_beside(&["--dhcp=proxy", "--unclaimed=ignore", "--log=5"]);
    let ours = Capture::start(&lab, "udp and src host 10.77.0.1");
    let other = Other::dnsmasq(&lab);
    let _machine = lab.machine(Firmware::UefiPxe, "52:54:00:77:00:2a");
    // Its firmware asks four times, the last time 28 seconds behind the first.
    let asked = lab::within(Duration::from_secs(240), || {
        let log = daemon.log();
        let ignored = log.lines().filter(|line| line.contains("left alone by rule"));
        (ignored.count() >= 3).then_some(())
    });
    assert!(asked.is_some(), "{}", daemon.log());
    assert_eq!(ours.packets(&other), Vec::<Vec<u8>>::new());
    assert_eq!(daemon.call("Machine.List", json!({}))["Machines"], json!([]));
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_pxe_beside_dnsmasq() {
    check(Firmware::UefiPxe);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_http_beside_dnsmasq() {
    check(Firmware::UefiHttp);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_bios_machine_boots_through_undionly_beside_dnsmasq() {
    check(Firmware::BiosChain);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_bios_machine_with_an_ipxe_rom_boots_beside_dnsmasq() {
    check(Firmware::BiosIpxeRom);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_pxe_beside_isc_dhcpd() {
    let lab = Lab::new();
    check_beside(&lab, &Other::isc(&lab), Firmware::UefiPxe);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_that_ignored_a_round_of_offers_boots_by_the_port_of_boot_servers() {
    let lab = Lab::new();
    let daemon = lab.daemon_beside(&["--dhcp=proxy"]);
    let mac = "52:54:00:20:00:07";
    ignore_rounds(&lab, 1);
    let other = Other::dnsmasq(&lab);
    let boot_server = Capture::start(&lab, "udp src port 4011 and src host 10.77.0.1");
    provision(&daemon, mac);
    let mut machine = lab.machine(Firmware::UefiPxe, mac);
    assert_eq!(machine.report().macs, [mac]);
    let packets = boot_server.packets(&other);
    assert!(!packets.is_empty(), "it asked there");
    for packet in packets {
        assert_eq!(packet[36..38], [0x0f, 0xab], "UEFI hears on its own port 4011");
        assert_eq!(packet[42..][16..20], [0; 4], "no address is given");
    }
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_that_hears_a_proxy_s_ack_beside_the_other_server_s() {
    let lab = Lab::new();
    let daemon = lab.daemon_beside(&["--dhcp=proxy"]);
    let mac = "52:54:00:20:00:07";
    ignore_rounds(&lab, 2);
    let other = Other::dnsmasq(&lab);
    let acks = Capture::start(&lab, "udp src port 67 and src host 10.77.0.1 and udp[250] == 5");
    provision(&daemon, mac);
    let mut machine = lab.machine(Firmware::UefiPxe, mac);
    assert_eq!(machine.report().macs, [mac]);
    assert!(other.leases().contains(mac), "{}", other.leases());
    let packets = acks.packets(&other);
    assert!(!packets.is_empty(), "an ACK of ours beside the other server's");
    for packet in packets {
        assert_eq!(packet[42..][16..20], [0; 4], "no address is given");
    }
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn what_firmware_ignores_is_remembered_over_a_restart_and_then_said_with_the_lines_to_write() {
    let lab = Lab::new();
    let daemon = lab.daemon_beside(&["--dhcp=proxy"]);
    let before = ignore_rounds(&lab, 2);
    let note = |daemon: &Daemon| {
        let known = daemon.call("Machine.List", json!({}));
        known["Machines"][0]["note"].clone()
    };
    assert_eq!(note(&daemon), Value::Null);
    daemon.terminate();
    let daemon = lab.daemon_beside(&["--dhcp=proxy"]);
    // Two rounds were before the restart, and one is behind it.
    (0..4).for_each(|_| ignore(&before));
    assert_eq!(note(&daemon), Value::Null);
    ignore(&before);
    assert_eq!(note(&daemon), json!("ignores proxy offers: docs/beside-dhcp.md"));
    let log = daemon.log();
    let said: Vec<&str> =
        log.lines().filter(|line| line.contains("ignores proxy offers")).collect();
    assert_eq!(said.len(), 1, "{log}");
    for expected in [
        "52:54:00:20:00:07",
        "dhcp-boot=snponly.efi,,10.77.0.1",
        "next-server 10.77.0.1; filename",
        "boot-file-name",
    ] {
        assert!(said[0].contains(expected), "{expected} is not in {}", said[0]);
    }
}

/// The words of a script that name URLs, by their keys.
fn word(script: &str, key: &str) -> String {
    let mut words = script.split_whitespace();
    let found = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {key} in {script}")).to_owned()
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn init_reports_and_drain_work_where_the_address_is_another_server_s_and_for_that_machine_alone() {
    let lab = Lab::new();
    let daemon = lab.daemon_beside(&["--dhcp=proxy"]);
    let _other = Other::dnsmasq(&lab);
    let (machine, thief) = (Host::new(&lab, 11, "br0"), Host::new(&lab, 12, "br0"));
    let address = machine.lease(&[]).expect("a lease").address;
    thief.lease(&[]).expect("a lease");
    let id = daemon.provision_with(
        "#!/bin/sh\necho mine\n",
        json!({"Kernel": "vmlinuz", "CmdLine": "i={{ init }} r={{ report }} a={{ ip }}",
               "MAC": "52:54:00:20:00:0b"}),
    );
    let (status, script) = machine.fetch("http://10.77.0.1/infrakit.ipxe", &[]);
    assert_eq!(status, 200, "its card says who it is: {script}");
    let (init, report) = (word(&script, "i"), word(&script, "r"));
    assert_eq!(word(&script, "a"), address);
    assert_eq!(machine.fetch(&init, &[]), (200, "#!/bin/sh\necho mine\n".to_owned()));
    let stop = "drain=:8080/stop";
    let ready = format!("{report}/ready?{stop}");
    for url in [&init, &report, &ready, "http://10.77.0.1/ipxe/52-54-00-20-00-0b.ipxe"] {
        let (status, text) = thief.fetch(url, &[]);
        assert_eq!(status, 403, "{url}: {text}");
        assert!(!text.contains("mine"), "{text}");
    }
    assert_eq!(daemon.describe(&id)["Properties"]["state"], "booting");
    let keep = (200, "keep\n".to_owned());
    assert_eq!(machine.fetch(&ready, &[]), keep);
    assert_eq!(daemon.describe(&id)["Properties"]["state"], "running");
    let listener = machine.hears_a_request();
    daemon.drain(&id);
    let asked = fs::read_to_string(lab.folder().join("asked")).expect("it was asked");
    assert!(asked.starts_with("POST /stop HTTP/1.1"), "{asked}");
    drop(listener);
    daemon.destroy(&id);
    assert_eq!(machine.fetch(&report, &[]), (200, "gone terminate\n".to_owned()));
    assert_eq!(thief.fetch(&report, &[]).0, 403);
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn a_server_tells_of_another_one_that_comes_later_and_of_its_return_and_serves_on() {
    let lab = Lab::new();
    let arguments = ["--startAddress=10.77.0.100", "--dhcp=server", "--dhcp-watch=10"];
    let daemon = lab.daemon_beside(&arguments);
    let mut events = lab
        .command("curl")
        .args(["-sN", "--unix-socket"])
        .arg(daemon.socket())
        .arg("http://h/events?topic=dhcp/")
        .stdout(fs::File::create(lab.folder().join("events")).expect("made"))
        .spawn()
        .expect("nsenter starts");
    let lines = |what: &str| daemon.log().lines().filter(|line| line.contains(what)).count();
    let (found, gone) = ("another DHCP server gives addresses", "answers no more");
    for round in 1..=2 {
        assert_eq!((lines(found), lines(gone)), (round - 1, round - 1));
        let other = Other::dnsmasq(&lab);
        let limit = Duration::from_secs(60);
        assert!(lab::within(limit, || (lines(found) == round).then_some(())).is_some(), "found");
        drop(other);
        assert!(lab::within(limit, || (lines(gone) == round).then_some(())).is_some(), "gone");
    }
    let lease = Host::new(&lab, 10, "br0").lease(&[]).expect("a lease");
    assert_eq!(lease.server, "10.77.0.1");
    events.kill().expect("ours");
    events.wait().expect("ours");
    let told = fs::read_to_string(lab.folder().join("events")).expect("written");
    assert_eq!(told.matches("dhcp/10.77.0.3/other-server").count(), 2, "{told}");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_with_an_ipxe_rom_boots_beside_dnsmasq() {
    check(Firmware::UefiIpxeRom);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_http_beside_kea() {
    let lab = Lab::new();
    check_beside(&lab, &Other::kea(&lab), Firmware::UefiHttp);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_machine_is_held_beside_another_server_and_boots_when_it_is_provisioned() {
    let lab = Lab::new();
    let _other = Other::dnsmasq(&lab);
    let daemon = lab.daemon_beside(&["--dhcp=proxy"]);
    let mac = "52:54:00:77:00:01";
    let mut machine = lab.machine(Firmware::UefiPxe, mac);
    let held = lab::within(Duration::from_secs(120), || {
        let known = daemon.call("Machine.List", json!({}));
        let one = &known["Machines"][0];
        (one["state"] == "held").then(|| one.clone())
    });
    let held = held.expect("it waits in the hold script");
    assert_eq!((&held["mac"], &held["arch"]), (&json!(mac), &json!("x64-uefi")));
    // Any machine of the pool: it is found.
    daemon.provision(json!({
        "Kernel": "vmlinuz", "Initrd": "initrd", "CmdLine": "console=ttyS0 lab={{ mac }}"}));
    assert_eq!(machine.report().macs, [mac]);
}

/// A machine with this firmware boots its own command line from us, with an address
/// that is not ours, and nothing that we sent ever had an address to give.
#[track_caller]
fn check(firmware: Firmware) {
    let lab = Lab::new();
    check_beside(&lab, &Other::dnsmasq(&lab), firmware);
}

#[track_caller]
fn check_beside(lab: &Lab, other: &Other<'_>, firmware: Firmware) {
    let daemon = lab.daemon_beside(&["--dhcp=proxy"]);
    let ours = Capture::start(lab, "udp and src host 10.77.0.1 and (udp src port 67 or 4011)");
    let mac = "52:54:00:77:00:01";
    provision(&daemon, mac);
    let mut machine = lab.machine(firmware, mac);
    let report = machine.report();
    assert_eq!((report.marker.as_str(), report.macs), ("a", vec![mac.to_owned()]));
    let word = format!("lab={mac}");
    assert!(report.cmdline.split_whitespace().any(|one| one == word), "{}", report.cmdline);
    let leases = other.leases();
    assert!(leases.contains(mac) && leases.contains(GIVEN), "{leases}");
    let packets = ours.packets(other);
    assert!(!packets.is_empty(), "we said what it boots");
    for packet in &packets {
        // Behind the headers of Ethernet, IP and UDP.
        let bootp = &packet[42..];
        assert_eq!(bootp[16..20], [0; 4], "no address is given: {bootp:?}");
    }
    println!("{firmware:?}: {} packets of ours", packets.len());
}

/// A client with the card 52:54:00:20:00:07 that makes nothing of so many rounds of
/// offers.
fn ignore_rounds(lab: &Lab, rounds: usize) -> Host<'_> {
    let host = Host::new(lab, 7, "br0");
    (0..rounds * 4).for_each(|_| ignore(&host));
    host
}

/// One DISCOVER, as UEFI's, that comes to nothing.
#[track_caller]
fn ignore(host: &Host<'_>) {
    assert_eq!(host.lease(&["-t", "1", "-V", "PXEClient:Arch:00007:UNDI:003000"]), None);
}

fn provision(daemon: &Daemon, mac: &str) -> String {
    daemon.provision(json!({
        "Kernel": "vmlinuz", "Initrd": "initrd",
        "CmdLine": "console=ttyS0 lab={{ mac }}", "MAC": mac}))
}
