//! Real firmware with two cards boots from the one that does not name its machine,
//! and says its serial number while it waits.

mod lab;

use std::{fs, time::Duration};

use lab::{Daemon, Firmware, Lab, within};
use serde_json::{Value, json};

/// The card that the inventory lists, and the one that the machine boots from.
const NAME: &str = "52:54:00:77:00:01";
const BOOTS: &str = "52:54:00:77:00:02";

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_uefi_machine_is_one_by_the_card_that_it_boots_from_and_by_the_one_that_is_listed() {
    check(Firmware::UefiPxe, "best");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_bios_machine_says_its_serial_number_and_is_one_by_the_card_that_it_boots_from() {
    // The oldest iPXE that is served.
    check(Firmware::BiosChain, "bookworm");
}

fn check(firmware: Firmware, release: &str) {
    let lab = Lab::new();
    let inventory = lab.folder().join("inventory.toml");
    fs::write(&inventory, format!("[[machine]]\nmac = '{NAME}'\nmacs = ['{BOOTS}']\n"))
        .expect("written");
    let arguments = ["--inventory", &inventory.display().to_string()];
    let daemon = lab.daemon_with_loaders(release, &arguments);
    let mut machine = lab.machine_with_two_cards(firmware, (BOOTS, NAME), "LAB 7/2");
    let said = within(Duration::from_secs(180), || {
        let row = only(&daemon);
        (row["serial"] == "LAB 7/2").then_some(row)
    });
    let row = said.unwrap_or_else(|| panic!("{}\n{}", only(&daemon), machine.console()));
    assert_eq!((&row["mac"], &row["macs"]), (&json!(NAME), &json!([NAME, BOOTS])));
    assert_eq!(row["state"], "held", "it waits, by whichever card");

    daemon.provision(json!({
        "Kernel": "vmlinuz",
        "Initrd": "initrd",
        "CmdLine": "console=ttyS0 lab={{ mac }} machine={{ machine }}",
        "MAC": NAME,
    }));
    let report = machine.report();
    let mut macs = report.macs.clone();
    macs.sort_unstable();
    assert_eq!(macs, [NAME, BOOTS]);
    for word in [format!("lab={BOOTS}"), format!("machine={NAME}")] {
        assert!(report.cmdline.split(' ').any(|one| one == word), "{}", report.cmdline);
    }
    assert_eq!(only(&daemon)["state"], "assigned");
    assert_eq!(daemon.instances().len(), 1);
}

/// The one machine that is known.
fn only(daemon: &Daemon) -> Value {
    let result = daemon.call("Machine.List", json!({}));
    let [row] = result["Machines"].as_array().expect("a list").as_slice() else {
        panic!("one machine: {result}");
    };
    row.clone()
}
