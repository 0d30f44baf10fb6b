//! Beside a DHCP server that somebody else runs: real firmware boots from us with
//! an address of the other server, and hosts hear nothing from us.

mod lab;

use std::{fs, process::Child, time::Duration};

use lab::{Daemon, Firmware, GIVEN, Host, Lab, OTHER, Other};
use serde_json::json;

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
    // A client with the machine's card that makes nothing of the first form.
    let mac = "52:54:00:20:00:07";
    let before = Host::new(&lab, 7, "br0");
    for _ in 0..4 {
        let class = ["-t", "1", "-V", "PXEClient:Arch:00007:UNDI:003000"];
        assert_eq!(before.lease(&class), None);
    }
    drop(before);
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

fn provision(daemon: &Daemon, mac: &str) -> String {
    daemon.provision(json!({
        "Kernel": "vmlinuz", "Initrd": "initrd",
        "CmdLine": "console=ttyS0 lab={{ mac }}", "MAC": mac}))
}

/// What passes on the bridge.
struct Capture<'a> {
    lab: &'a Lab,
    process: Child,
    file: std::path::PathBuf,
}

impl<'a> Capture<'a> {
    fn start(lab: &'a Lab, filter: &str) -> Self {
        let file = lab.folder().join("ours.pcap");
        let said = lab.folder().join("tcpdump.log");
        let log = fs::File::create(&said).expect("made");
        let process = lab
            .command("tcpdump")
            .args(["-i", "br0", "-U", "-Z", "root", "-w", &file.display().to_string(), filter])
            .stderr(log)
            .spawn()
            .expect("nsenter starts");
        let listens = lab::within(Duration::from_secs(10), || {
            fs::read_to_string(&said).ok()?.contains("listening on").then_some(())
        });
        assert!(listens.is_some(), "tcpdump does not listen");
        Self { lab, process, file }
    }

    /// The packets that it has seen, each from its Ethernet header on.
    fn packets(mut self, _alive: &Other<'_>) -> Vec<Vec<u8>> {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, rustix::process::Signal::INT).expect("ours");
        self.process.wait().expect("ours");
        let bytes = fs::read(&self.file).expect("it has written");
        let mut packets = Vec::new();
        let mut rest = &bytes[24..];
        while rest.len() >= 16 {
            let length = u32::from_le_bytes(rest[8..12].try_into().expect("four")) as usize;
            packets.push(rest[16..16 + length].to_vec());
            rest = &rest[16 + length..];
        }
        packets
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = self.lab;
    }
}
