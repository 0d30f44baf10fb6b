//! Real firmware and the boot programs that it is told: a second one when the first
//! is in vain, and those of one's own choice.
//!
//! Needs what `tests/lab/install` brings.

mod lab;

use std::{fs, path::PathBuf};

use lab::{Daemon, Firmware, Lab, Machine, SERVER};
use serde_json::{Value, json};

const MAC: &str = "52:54:00:77:00:01";

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_its_second_loader_and_that_is_remembered() {
    let lab = Lab::new();
    let loaders = folder(&lab, &[("snponly.efi", "snponly.efi")]);
    fs::write(loaders.join("returns.efi"), program_that_returns()).expect("written");
    let config = written(
        &lab,
        "remoteboot.toml",
        "[[loader]]\narch = 'x64-uefi'\nfiles = ['returns.efi', 'snponly.efi']\n",
    );
    let arguments = ["--config", &config];
    let start = || lab.daemon_with_loaders(loaders.to_str().expect("text"), &arguments);
    let daemon = start();
    provision(&daemon);
    let mut machine = lab.machine(Firmware::UefiPxe, MAC);

    // By PXE, then by HTTP; then its firmware knows nothing else.
    machine.wait_for("UEFI Interactive Shell", 240);
    let habits = |daemon: &Daemon| machine_of(daemon)["loader"].clone();
    assert_eq!(habits(&daemon), json!("returns.efi"));
    machine.reset();
    assert_boots(&mut machine);
    assert_eq!(habits(&daemon), json!("snponly.efi"));
    let said = "returns.efi was fetched twice and never came back as iPXE: trying snponly.efi";
    assert_eq!(daemon.log().matches(said).count(), 1, "{}", daemon.log());
    let before = daemon.log().len();
    daemon.terminate();

    let daemon = start();
    assert_eq!(habits(&daemon), json!("snponly.efi"));
    machine.reset();
    assert_boots(&mut machine);
    let since = daemon.log()[before..].to_owned();
    assert!(since.contains("snponly.efi") && !since.contains("name: \"returns.efi\""), "{since}");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_machine_boots_by_the_loader_that_the_inventory_says_over_pxe_and_http() {
    for firmware in [Firmware::UefiPxe, Firmware::UefiHttp] {
        let lab = Lab::new();
        let loaders = folder(&lab, &[("snponly.efi", "snponly.efi"), ("ipxe.efi", "own/mine.efi")]);
        let inventory = format!("[[machine]]\nmac = '{MAC}'\nloader = 'own/mine.efi'\n");
        let inventory = written(&lab, "inventory.toml", &inventory);
        let arguments = ["--inventory", &inventory];
        let daemon = lab.daemon_with_loaders(loaders.to_str().expect("text"), &arguments);
        provision(&daemon);
        let mut machine = lab.machine(firmware, MAC);
        assert_boots(&mut machine);
        let log = daemon.log();
        assert!(log.contains("own/mine.efi") && !log.contains("/snponly.efi"), "{log}");
    }
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_riscv64_machine_comes_through_ipxe_to_its_script_by_pxe() {
    check_riscv64(&[], "way: Pxe");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_riscv64_machine_comes_through_ipxe_to_its_script_by_http() {
    // Its firmware tries PXE in vain first.
    check_riscv64(&["--enableTFTP=false"], "way: Http");
}

/// No kernel for riscv64 is there, so that the machine runs its script is the end.
#[track_caller]
fn check_riscv64(arguments: &[&str], way: &str) {
    if !lab::has_riscv64() {
        println!("not booted, this system has no QEMU or no UEFI for riscv64");
        return;
    }
    let lab = Lab::new();
    let daemon = lab.daemon(arguments);
    let mut machine = lab.machine(Firmware::Riscv64Uefi, MAC);
    machine.wait_for("iPXE 2", 480);
    machine.wait_for(&format!("http://{SERVER}"), 240);
    machine.wait_for("waits to be provisioned", 240);
    let known = machine_of(&daemon);
    assert_eq!((&known["arch"], &known["stage"]), (&json!("riscv64-uefi"), &json!("holding")));
    let log = daemon.log();
    let is_told = |line: &str| line.contains("ipxe-riscv64.efi") && line.contains(way);
    assert!(log.lines().any(is_told), "{log}");
}

fn folder(lab: &Lab, files: &[(&str, &str)]) -> PathBuf {
    let folder = lab.folder().join("loaders");
    fs::create_dir_all(folder.join("own")).expect("the lab's folder can be written");
    for (source, name) in files {
        fs::copy(lab.loader(source), folder.join(name)).expect("tests/lab/install has run");
    }
    folder
}

fn written(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.folder().join(name);
    fs::write(&path, text).expect("the lab's folder can be written");
    path.to_str().expect("text").to_owned()
}

fn provision(daemon: &Daemon) {
    daemon.provision(json!({
        "Kernel": "vmlinuz",
        "Initrd": "initrd",
        "CmdLine": "console=ttyS0 lab={{ mac }}",
        "MAC": MAC,
    }));
}

#[track_caller]
fn assert_boots(machine: &mut Machine) {
    let report = machine.report();
    assert_eq!((report.marker.as_str(), report.macs.as_slice()), ("a", &[MAC.to_owned()][..]));
}

/// What the daemon tells of the one machine that it knows.
#[track_caller]
fn machine_of(daemon: &Daemon) -> Value {
    let listed = daemon.call("Machine.List", json!({}));
    let machines = listed["Machines"].as_array().expect("a list");
    assert_eq!(machines.len(), 1, "{listed}");
    machines[0].clone()
}

/// The least x86-64 UEFI application (PE32+, UEFI 2.10 §2.1.1): it returns
/// `EFI_ABORTED` at once.
fn program_that_returns() -> Vec<u8> {
    const HEADERS: usize = 0x200;
    // mov rax, 0x8000000000000015; ret
    const CODE: [u8; 11] = [0x48, 0xb8, 0x15, 0, 0, 0, 0, 0, 0, 0x80, 0xc3];
    let mut program = vec![0; 2 * HEADERS];
    let mut put = |place: usize, bytes: &[u8]| {
        program[place..place + bytes.len()].copy_from_slice(bytes);
    };
    put(0, b"MZ");
    put(0x3c, &0x40u32.to_le_bytes());
    put(0x40, b"PE\0\0\x64\x86\x01\0");
    // The size of the optional header; an executable image, of large addresses.
    put(0x54, &0xf0u16.to_le_bytes());
    put(0x56, &0x0022u16.to_le_bytes());
    let optional = 0x58;
    put(optional, &0x020bu16.to_le_bytes());
    for (place, value) in [
        (4, 0x200u32), // code
        (16, 0x1000),  // entry
        (20, 0x1000),  // base of the code
        (32, 0x1000),  // alignment in memory
        (36, 0x200),   // and in the file
        (56, 0x2000),  // the image
        (60, 0x200),   // the headers
        (68, 10),      // an application
        (108, 16),     // data directories, all empty
    ] {
        put(optional + place, &value.to_le_bytes());
    }
    let section = optional + 0xf0;
    put(section, b".text\0\0\0");
    for (place, value) in
        [(8, 0x1000u32), (12, 0x1000), (16, 0x200), (20, 0x200), (36, 0x6000_0020)]
    {
        put(section + place, &value.to_le_bytes());
    }
    put(HEADERS, &CODE);
    program
}
