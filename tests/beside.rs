//! `docs/beside-dhcp.md`: each server there, with the lines as they stand there, sends
//! real firmware to us, while we say nothing by DHCP.

mod lab;

use lab::{Firmware, Lab, Other, SERVER};
use serde_json::{Value, json};

/// The one block of the document in this language, for our address.
fn lines(language: &str) -> String {
    let document = include_str!("../docs/beside-dhcp.md");
    let start = format!("```{language}\n");
    let blocks: Vec<&str> = document.split(&start).skip(1).collect();
    let [block] = blocks.as_slice() else { panic!("{} blocks of {language}", blocks.len()) };
    let block = block.split("```").next().expect("its end");
    assert!(block.contains("192.168.10.1"), "{block}");
    block.replace("192.168.10.1", SERVER)
}

fn dnsmasq(lab: &Lab) -> Other<'_> {
    Other::dnsmasq_with(lab, &lines("dnsmasq"))
}

fn isc(lab: &Lab) -> Other<'_> {
    Other::isc_with(lab, &lines("dhcpd"))
}

fn kea(lab: &Lab) -> Other<'_> {
    let members = format!("{{{}}}", lines("kea").trim().trim_end_matches(','));
    let members: Value = serde_json::from_str(&members).expect("JSON");
    Other::kea_with(lab, members)
}

/// A machine with this firmware boots its own command line, with an address of the
/// other server, and no packet of DHCP is ours.
#[track_caller]
fn check(firmware: Firmware, other: impl for<'a> Fn(&'a Lab) -> Other<'a>) {
    let lab = Lab::new();
    let other = other(&lab);
    let daemon = lab.daemon_beside(&["--dhcp=off"]);
    let mac = "52:54:00:77:00:01";
    daemon.provision(json!({
        "Kernel": "vmlinuz", "Initrd": "initrd",
        "CmdLine": "console=ttyS0 lab={{ mac }}", "MAC": mac}));
    let mut machine = lab.machine(firmware, mac);
    let report = machine.report();
    assert_eq!(report.macs, [mac]);
    let word = format!("lab={mac}");
    assert!(report.cmdline.split_whitespace().any(|one| one == word), "{}", report.cmdline);
    assert!(other.leases().contains(mac), "{}", other.leases());
    assert!(!daemon.log().contains("DHCP address"), "{}", daemon.log());
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_pxe_with_the_lines_for_dnsmasq() {
    check(Firmware::UefiPxe, dnsmasq);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_http_with_the_lines_for_dnsmasq() {
    check(Firmware::UefiHttp, dnsmasq);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_bios_machine_boots_through_undionly_with_the_lines_for_dnsmasq() {
    check(Firmware::BiosChain, dnsmasq);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_pxe_with_the_lines_for_isc_dhcpd() {
    check(Firmware::UefiPxe, isc);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_bios_machine_boots_through_undionly_with_the_lines_for_isc_dhcpd() {
    check(Firmware::BiosChain, isc);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_http_with_the_lines_for_kea() {
    check(Firmware::UefiHttp, kea);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_bios_machine_boots_through_undionly_with_the_lines_for_kea() {
    check(Firmware::BiosChain, kea);
}

/// The lines that the log has for a machine that ignores a proxy, or a router with
/// one file for all.
#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn one_file_for_all_is_enough_for_uefi() {
    let line = format!("dhcp-boot=snponly.efi,,{SERVER}");
    check(Firmware::UefiPxe, |lab| Other::dnsmasq_with(lab, &line));
}
