//! Real firmware in QEMU boots from the daemon, and the booted system says so.
//!
//! What is asserted on is what the booted system itself reports on its console,
//! never what the daemon logs. Needs what `tests/lab/install` brings.

mod lab;

use lab::{Daemon, Firmware, Lab, Machine, has_arm64};
use serde_json::json;

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_bios_machine_with_an_ipxe_rom_boots_its_own_command_line() {
    check(Firmware::BiosIpxeRom);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_bios_machine_boots_through_undionly() {
    check(Firmware::BiosChain);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_pxe() {
    check(Firmware::UefiPxe);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_pxe_from_a_single_port() {
    let lab = Lab::new();
    let daemon = lab.daemon(&["--tftp-single-port"]);
    let mut machine = lab.machine(Firmware::UefiPxe, "52:54:00:77:00:01");
    provision(&daemon, &machine, "initrd");
    assert_reports(&mut machine, "a");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_http() {
    check(Firmware::UefiHttp);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_with_an_ipxe_rom_boots_its_own_command_line() {
    check(Firmware::UefiIpxeRom);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn an_arm64_machine_boots_by_pxe() {
    check(Firmware::Arm64UefiPxe);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn an_arm64_machine_boots_by_http() {
    check(Firmware::Arm64UefiHttp);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_machine_is_held_until_it_is_provisioned_and_boots_without_a_power_cycle() {
    let lab = Lab::new();
    let daemon = lab.daemon(&[]);
    let mut machine = lab.machine(Firmware::UefiPxe, "52:54:00:77:00:01");

    // The loader runs and has fetched something: the daemon has it in its hands.
    machine.wait_for("iPXE 2", 120);
    machine.wait_for(&format!("http://{}", lab::SERVER), 120);
    assert!(!machine.console().contains("REMOTEBOOT"), "nothing is provisioned yet");

    provision(&daemon, &machine, "initrd");
    assert_reports(&mut machine, "a");
    assert_eq!(
        machine.console().matches("Start PXE over IPv4").count(),
        1,
        "its firmware started once:\n{}",
        machine.console()
    );
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn an_initrd_that_cannot_be_had_is_asked_for_in_one_boot() {
    let lab = Lab::new();
    let daemon = lab.daemon(&[]);
    let mut machine = lab.machine(Firmware::BiosChain, "52:54:00:77:00:01");
    let mut properties = properties(machine.mac(), "initrd");
    properties["Boot"] = json!("once");
    // Nobody listens there.
    properties["Initrd"] = json!(format!("http://{}:9/initrd", lab::SERVER));
    daemon.provision(properties);
    // The third script in vain: it has asked as often as an installer may boot.
    machine.wait_for("asking again in 10 s", 240);
    machine.wait_for("asking again in 15 s", 240);
    let all = json!({"Type": "", "Tags": {}, "Properties": true});
    let result = daemon.call("Instance.DescribeInstances", all);
    let told = &result["Descriptions"][0]["Properties"];
    assert_eq!((&told["state"], &told["boots"]), (&json!("booting"), &json!(1)), "{told}");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn after_destroy_a_second_provision_boots_the_new_image() {
    let lab = Lab::new();
    let daemon = lab.daemon(&[]);
    let mut machine = lab.machine(Firmware::UefiPxe, "52:54:00:77:00:01");
    let first = provision(&daemon, &machine, "initrd");
    assert_reports(&mut machine, "a");

    daemon.destroy(&first);
    assert_eq!(daemon.instances(), Vec::<String>::new());
    let second = provision(&daemon, &machine, "initrd-b");
    assert_ne!(first, second, "an ID is never used again");
    machine.reset();
    assert_reports(&mut machine, "b");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn three_machines_at_once_each_boot_their_own_command_line() {
    let lab = Lab::new();
    let daemon = lab.daemon(&[]);
    let mut machines = [
        lab.machine(Firmware::BiosIpxeRom, "52:54:00:77:00:01"),
        lab.machine(Firmware::UefiPxe, "52:54:00:77:00:02"),
        lab.machine(Firmware::UefiHttp, "52:54:00:77:00:03"),
    ];
    for machine in &machines {
        provision(&daemon, machine, "initrd");
    }
    for machine in &mut machines {
        assert_reports(machine, "a");
    }
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn the_loaders_of_every_release_boot_a_uefi_machine() {
    let releases = lab::releases();
    assert!(!releases.is_empty(), "tests/lab/install finds loaders");
    for release in releases {
        let lab = Lab::new();
        let daemon = lab.daemon_with_loaders(&release, &[]);
        let mut machine = lab.machine(Firmware::UefiPxe, "52:54:00:77:00:01");
        provision(&daemon, &machine, "initrd");
        println!("loaders of {release}");
        assert_reports(&mut machine, "a");
    }
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_pxe_over_ipv6() {
    check_ipv6(Firmware::UefiPxe6);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_http_over_ipv6() {
    check_ipv6(Firmware::UefiHttp6);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_over_ipv6_behind_a_relay() {
    let lab = Lab::ipv6_behind_a_relay();
    let daemon = lab.daemon6("srv0", &[]);
    let mut machine = lab.machine(Firmware::UefiHttp6, "52:54:00:77:00:01");
    daemon.provision(properties6(machine.mac()));
    assert_booted_over_ipv6(&mut machine, "fd00:99::1");
}

/// A machine with this firmware on a network that speaks IPv6 alone, provisioned
/// and powered on, boots.
#[track_caller]
fn check_ipv6(firmware: Firmware) {
    let lab = Lab::ipv6();
    let daemon = lab.daemon6("br0", &[]);
    let mac = "52:54:00:77:00:01";
    daemon.provision(properties6(mac));
    let mut machine = lab.machine(firmware, mac);
    assert_booted_over_ipv6(&mut machine, lab::SERVER6);
}

fn properties6(mac: &str) -> serde_json::Value {
    json!({
        "Kernel": "vmlinuz",
        "Initrd": "initrd",
        "CmdLine": "console=ttyS0 lab={{ mac }} from={{ ip }} server={{ server }}",
        "MAC": mac,
    })
}

/// The machine has booted its own command line, from an address that it was given
/// or made of its card.
#[track_caller]
fn assert_booted_over_ipv6(machine: &mut Machine, server: &str) {
    assert_reports(machine, "a");
    let cmdline = machine.report().cmdline;
    assert_has_word(&cmdline, &format!("server={server}"));
    let addresses = ["from=fd00:77::100", "from=fd00:77::5054:ff:fe77:1"];
    let has_one = cmdline.split_whitespace().any(|word| addresses.contains(&word));
    assert!(has_one, "one of {addresses:?} in `{cmdline}`");
}

/// A machine with this firmware, provisioned and powered on, boots.
#[track_caller]
fn check(firmware: Firmware) {
    let arm64 = matches!(firmware, Firmware::Arm64UefiPxe | Firmware::Arm64UefiHttp);
    if arm64 && !has_arm64() {
        println!("{firmware:?}: not booted, this system's mirrors have no arm64 packages");
        return;
    }
    let lab = Lab::new();
    let daemon = lab.daemon(&[]);
    let mac = "52:54:00:77:00:01";
    if arm64 {
        daemon.provision(json!({
            "Kernel": "vmlinuz-arm64",
            "Initrd": "initrd-arm64",
            "CmdLine": "console=ttyAMA0 lab={{ mac }}",
            "MAC": mac,
        }));
    } else {
        daemon.provision(properties(mac, "initrd"));
    }
    let mut machine = lab.machine(firmware, mac);
    let report = machine.report();
    assert_eq!(report.arch, if arm64 { "aarch64" } else { "x86_64" });
    assert_eq!(report.macs, [mac]);
    assert_eq!(report.marker, "a");
    assert_has_word(&report.cmdline, &format!("lab={mac}"));
}

fn properties(mac: &str, initrd: &str) -> serde_json::Value {
    json!({
        "Kernel": "vmlinuz",
        "Initrd": initrd,
        "CmdLine": "console=ttyS0 lab={{ mac }}",
        "MAC": mac,
    })
}

fn provision(daemon: &Daemon, machine: &Machine, initrd: &str) -> String {
    daemon.provision(properties(machine.mac(), initrd))
}

/// The system that has booted is the one with this marker, on an x86-64 machine
/// that was given its own command line.
#[track_caller]
fn assert_reports(machine: &mut Machine, marker: &str) {
    let report = machine.report();
    assert_eq!(report.marker, marker);
    assert_eq!(report.arch, "x86_64");
    assert_eq!(report.macs, [machine.mac()]);
    assert_has_word(&report.cmdline, &format!("lab={}", machine.mac()));
}

#[track_caller]
fn assert_has_word(cmdline: &str, word: &str) {
    assert!(cmdline.split_whitespace().any(|one| one == word), "`{word}` in `{cmdline}`");
}
