//! A part of the firmware matrix: cells of kinds that no other test boots, and that
//! the document says what the table of cells and the results say. All cells are
//! booted by `make matrix`.

mod cells;
mod lab;

use std::{collections::BTreeSet, fs, path::Path};

use cells::{
    Cell, ROADS, ROWS, TESTED, WAYS, all, boot, document, real,
    results::{Attempt, Results, path},
};

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_bios_boots_through_undionly_of_another_generation_beside_dhcpd() {
    check("a_bios_boots_through_undionly_of_another_generation_beside_dhcpd");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_pxe_beside_kea_with_drivers_of_ipxe() {
    check("a_uefi_machine_boots_by_pxe_beside_kea_with_drivers_of_ipxe");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_http_beside_dhcpd_with_the_oldest_ipxe() {
    check("a_uefi_machine_boots_by_http_beside_dhcpd_with_the_oldest_ipxe");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_bios_with_an_ipxe_rom_boots_behind_a_relay() {
    check("a_bios_with_an_ipxe_rom_boots_behind_a_relay");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn an_arm64_machine_boots_by_http_beside_dnsmasq() {
    check("an_arm64_machine_boots_by_http_beside_dnsmasq");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_what_dnsmasq_names_without_our_dhcp() {
    check("a_uefi_machine_boots_what_dnsmasq_names_without_our_dhcp");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_boots_by_pxe_over_ipv6_behind_a_relay() {
    check("a_uefi_machine_boots_by_pxe_over_ipv6_behind_a_relay");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_32_bit_uefi_machine_is_refused_and_the_log_says_why() {
    check("a_32_bit_uefi_machine_is_refused_and_the_log_says_why");
}

#[test]
fn the_document_has_the_cells_of_the_table_and_says_what_was_seen() {
    let results = Results::read();
    let known: BTreeSet<String> = results.cells.keys().cloned().collect();
    let cells: BTreeSet<String> = real().iter().map(Cell::to_string).collect();
    let strange: Vec<&String> = known.difference(&cells).collect();
    assert!(strange.is_empty(), "results of no cell: {strange:?}");
    let text = fs::read_to_string(path("firmware-matrix.md")).expect("docs/firmware-matrix.md");
    assert!(
        text == document::of(&results),
        "docs/firmware-matrix.md is not made of its results: \
         cargo test --test make_matrix -- --document"
    );
}

#[test]
#[ignore = "wants a whole `make matrix` once a cell is new: run `make test`"]
fn every_cell_was_run() {
    let missing: Vec<String> = Results::read().unknown().iter().map(Cell::to_string).collect();
    assert!(missing.is_empty(), "no result of these, run `make matrix`: {missing:?}");
}

#[test]
fn every_cell_that_fails_is_known_and_says_what_was_seen() {
    for (name, seen) in Results::read().cells {
        let cell = all().into_iter().find(|cell| cell.to_string() == name).expect("a cell");
        assert!(seen.is_well() || cell.known().is_some(), "{name} fails, and it is not known why");
        let said = seen.attempts.iter().all(|attempt| match attempt {
            Attempt::Failed { why, .. } | Attempt::Refused { why, .. } => !why.is_empty(),
            Attempt::Booted { ipxe, .. } => !ipxe.is_empty(),
        });
        assert!(said && !seen.attempts.is_empty(), "{name}");
    }
}

#[test]
fn every_cell_has_a_name_of_its_own() {
    let names: BTreeSet<String> = all().iter().map(Cell::to_string).collect();
    assert_eq!(names.len(), ROWS.len() * ROADS.len() * WAYS.len());
}

#[test]
fn every_test_that_is_said_to_boot_a_cell_is_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    let code: String = files.filter_map(|path| fs::read_to_string(path).ok()).collect();
    for (cell, test) in TESTED {
        assert!(real().contains(&cell), "{cell} is not to be booted");
        assert!(code.contains(&format!("fn {test}(")), "{cell}: there is no {test}");
    }
}

/// The cell of this test does what it should.
#[track_caller]
fn check(test: &str) {
    let (cell, _) = TESTED.iter().find(|(_, name)| *name == test).expect("the table has it");
    if let Some(why) = boot::lacks(*cell) {
        // The lab has everything on Debian 12; what is not tried there is a failure.
        let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
        assert!(!system.contains("VERSION_CODENAME=bookworm"), "{why}: run tests/lab/install");
        println!("{cell}: not tried: {why}");
        return;
    }
    let attempt = boot::attempt(*cell);
    assert!(attempt.is_well(), "{cell}: {attempt:#?}");
    println!("{cell}: {attempt:?}");
}
