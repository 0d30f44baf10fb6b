//! A machine with a disk of its own boots the installer once, reports in, and
//! boots its disk from then on, with real firmware that tries the network first.

mod lab;

use lab::{Disk, Firmware, Lab};
use serde_json::json;

const MAC: &str = "52:54:00:77:00:01";

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn an_installer_is_booted_once_and_then_the_disk_by_a_bios() {
    check(Firmware::BiosChain, Disk::Bios);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn an_installer_is_booted_once_and_then_the_disk_by_a_bios_with_an_ipxe_rom() {
    check(Firmware::BiosIpxeRom, Disk::Bios);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn an_installer_is_booted_once_and_then_the_disk_by_uefi_pxe() {
    check(Firmware::UefiPxe, Disk::Uefi);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn an_installer_is_booted_once_and_then_the_disk_by_uefi_http() {
    check(Firmware::UefiHttp, Disk::Uefi);
}

#[track_caller]
fn check(firmware: Firmware, disk: Disk) {
    let lab = Lab::new();
    let daemon = lab.daemon(&[]);
    let id = daemon.provision(json!({
        "Kernel": "vmlinuz",
        "Initrd": "initrd",
        "CmdLine": "console=ttyS0 report={{ report }}",
        "Boot": "once",
        "MAC": MAC,
    }));
    let mut machine = lab.machine_with_disk(firmware, MAC, disk);
    machine.report();
    machine.wait_for("REMOTEBOOT told=/ready answer=keep", 60);
    assert!(!machine.console().contains(disk.says()), "the installer came first");
    assert_eq!(daemon.describe(&id)["Properties"]["state"], "running");

    machine.reset();
    machine.wait_for(disk.says(), 120);
    println!("{firmware:?}: its disk, {:.1} s after the reset", machine.seconds());
    assert!(!machine.console().contains("REMOTEBOOT begin"), "it was not installed again");
    let described = daemon.describe(&id);
    assert_eq!(described["Properties"]["state"], "running", "{described}");
    assert_eq!(described["Properties"]["boots"], 1, "{described}");
}
