//! The ways to machines: a VLAN, and ports that pass nothing for a while. Real
//! firmware in QEMU boots over them.

mod lab;

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use lab::{Daemon, Firmware, Lab, Machine, ip};
use serde_json::json;

const MAC: &str = "52:54:00:77:00:01";

/// The lab's end of this machine's wire, which is a port of `br0`.
fn port(machine: &Machine) -> String {
    let mac = machine.mac().replace(':', "");
    format!("tap{}", &mac[mac.len() - 8..])
}

/// Has the port pass nothing for so long, and then everything again.
fn block(lab: &Lab, machine: &Machine, time: Duration) {
    let port = port(machine);
    // Disabled and forwarding: without a spanning tree the kernel ends blocking at once.
    for (state, time) in [("0", time), ("3", Duration::ZERO)] {
        let arguments = ["link", "set", "dev", &port, "state", state];
        let status = lab.command("bridge").args(arguments).status().expect("bridge starts");
        assert!(status.success(), "bridge {arguments:?}");
        sleep(time);
    }
}

fn provision(daemon: &Daemon, cmdline: &str) {
    daemon.provision(json!({
        "Kernel": "vmlinuz", "Initrd": "initrd", "CmdLine": format!("console=ttyS0 {cmdline}"),
        "MAC": MAC
    }));
}

/// Waits for a line of the daemon's log.
#[track_caller]
fn wait_for_log(daemon: &Daemon, pattern: &str, limit: Duration) {
    let found = lab::within(limit, || daemon.log().contains(pattern).then_some(()));
    assert!(found.is_some(), "no `{pattern}` in the log");
}

/// A file for the daemon, as the flag that names it.
fn file(lab: &Lab, flag: &str, text: &str) -> String {
    let path = lab.folder().join(format!("{flag}.toml"));
    fs::write(&path, text).expect("written");
    format!("--{flag}={}", path.display())
}

/// An inventory that has the machine on VLAN 20.
fn inventory(lab: &Lab) -> String {
    file(lab, "inventory", &format!("[[machine]]\nmac = '{MAC}'\nvlan = 20\npace = '20M'\n"))
}

/// A daemon on `br0` and on its VLAN 20, where this machine belongs.
fn on_vlan_20(lab: &Lab) -> Daemon {
    lab.vlan(20, "10.78.0.1/24");
    let config = file(
        lab,
        "config",
        "enable-dhcp = true\n\
         [[subnet]]\nnetwork = '10.77.0.0/24'\nadapter = 'br0'\nranges = ['10.77.0.100-10.77.0.149']\n\
         [[subnet]]\nnetwork = '10.78.0.0/24'\nadapter = 'vlan20'\nranges = ['10.78.0.100-10.78.0.149']\n",
    );
    lab.daemon_beside(&[&config, &inventory(lab)])
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_machine_with_a_vlan_comes_up_without_its_tag_and_loads_with_it() {
    check_vlan(Firmware::UefiPxe);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_bios_machine_with_a_vlan_comes_up_without_its_tag_and_loads_with_it() {
    check_vlan(Firmware::BiosChain);
}

#[track_caller]
fn check_vlan(firmware: Firmware) {
    let lab = Lab::new();
    let daemon = on_vlan_20(&lab);
    provision(&daemon, "vlan={{ vlan }} ip={{ ip }}");
    let mut machine = lab.machine(firmware, MAC);
    let report = machine.report();
    assert!(report.cmdline.contains("vlan=20 ip=10.78.0.1"), "{}", report.cmdline);
    let log = daemon.log();
    for line in log.lines().filter(|line| line.contains("/boot/")) {
        assert!(line.contains("client=10.78.0.1"), "{line}");
    }
    assert!(log.contains("/boot/"), "it fetched its files here:\n{log}");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn an_ipxe_that_makes_no_vlans_says_so_and_boots_without() {
    let lab = Lab::new();
    // Its iPXE is of 2019.
    let daemon = lab.daemon_with_loaders("bookworm", &[&inventory(&lab)]);
    provision(&daemon, "vlan={{ vlan }}");
    let mut machine = lab.machine(Firmware::BiosChain, MAC);
    machine.wait_for("this iPXE cannot make VLAN 20, going on without it", 240);
    assert!(machine.report().cmdline.contains("vlan=20"));
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_machine_that_hears_nobody_on_its_vlan_asks_long_and_then_boots_without() {
    let lab = Lab::new();
    let daemon = lab.daemon(&[&inventory(&lab)]);
    provision(&daemon, "");
    let mut machine = lab.machine(Firmware::UefiPxe, MAC);
    machine.wait_for("nobody answers on VLAN 20, asking again", 240);
    let begun = Instant::now();
    machine.wait_for("nobody answered on VLAN 20, going on without it", 300);
    // The first of the attempts was over when it was heard.
    assert!(begun.elapsed() > Duration::from_secs(75), "{:?}", begun.elapsed());
    machine.report();
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_spanning_tree_that_begins_anew_under_the_loader_is_waited_out() {
    let lab = Lab::new();
    let daemon = lab.daemon(&[]);
    provision(&daemon, "");
    let mut machine = lab.machine(Firmware::UefiPxe, MAC);
    machine.wait_for("iPXE 2", 240);
    // As when a loader takes the card and its link goes down for a moment: 15 seconds
    // of listening and 15 of learning.
    ip(&lab, &["link", "set", "br0", "type", "bridge", "forward_delay", "1500", "stp_state", "1"]);
    ip(&lab, &["link", "set", &port(&machine), "down"]);
    ip(&lab, &["link", "set", &port(&machine), "up"]);
    machine.report();
    assert_eq!(machine.console().matches("Start PXE over IPv4").count(), 1, "in one boot");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_port_that_passes_nothing_for_65_seconds_is_waited_out_by_a_script() {
    let lab = Lab::new();
    let daemon = lab.daemon(&[]);
    let mut machine = lab.machine(Firmware::BiosChain, MAC);
    machine.wait_for("waits to be provisioned", 240);
    provision(&daemon, "");
    block(&lab, &machine, Duration::from_secs(65));
    machine.wait_for("REMOTEBOOT end", 300);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_port_that_passes_nothing_for_65_seconds_in_the_middle_of_a_kernel_is_waited_out() {
    let lab = Lab::new();
    // The kernel has 14 MB.
    let daemon = lab.daemon(&["--pace=1M"]);
    provision(&daemon, "");
    let mut machine = lab.machine(Firmware::UefiPxe, MAC);
    wait_for_log(&daemon, "autoexec.ipxe", Duration::from_secs(240));
    machine.wait_for("Infrakit Remote Boot", 60);
    // Not on its console as a whole line before it is there.
    sleep(Duration::from_secs(3));
    let begun = Instant::now();
    block(&lab, &machine, Duration::from_secs(65));
    machine.wait_for("REMOTEBOOT end", 300);
    println!("booted {:.0} s after the port was blocked", begun.elapsed().as_secs_f32());
    let log = daemon.log();
    assert!(log.contains("/0/vmlinuz"), "{log}");
}
