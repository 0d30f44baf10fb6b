//! Machines that no instance claims: ignored, sent to their own disks, held or
//! booted by rule, through every door and with real firmware; and what is learned
//! when a machine does not come to its disk.

mod daemon;
mod lab;
mod machine;

use std::{fs, path::PathBuf, time::Duration};

use daemon::Home;
use lab::{Disk, Firmware, Lab};
use machine::{BIOS, IPXE, Lease, Machine, Ports, UEFI};
use serde_json::{Value, json};

const MAC: &str = "52:54:00:77:00:01";

/// iPXE on an arm64 machine, which says so.
const ARM64_IPXE: &[&[u8]] = &[b"\x5d\x02\x00\x0b", b"\x4d\x04iPXE", b"\xaf\x03\x13\x01\x01"];

/// A daemon on loopback with this configuration.
struct Stage {
    home: Home,
    ports: Ports,
    daemon: daemon::Daemon,
}

impl Stage {
    fn new(rules: impl FnOnce(PathBuf) -> String, more: &[&str]) -> Self {
        let (home, ports) = (Home::new(), Ports::free());
        let config = home.images().with_file_name("rules.toml");
        fs::write(&config, rules(home.images())).expect("written");
        let mut arguments = ports.arguments();
        arguments.extend(["--config".to_owned(), config.display().to_string()]);
        arguments.extend(more.iter().map(|word| (*word).to_owned()));
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let daemon = home.start(&words);
        Self { home, ports, daemon }
    }

    fn with_flag(flag: &str) -> Self {
        Self::new(|_| String::new(), &[flag])
    }

    fn machine(&self, number: u8) -> Machine {
        Machine::new(number, self.ports)
    }

    fn machines(&self) -> Vec<Value> {
        let list = self.daemon.call("Machine.List", json!({})).expect("a list");
        list["Machines"].as_array().expect("machines").clone()
    }

    fn provision(&self, properties: &Value) -> Result<Value, Value> {
        let spec = json!({"Properties": properties, "Tags": {}, "Init": "", "LogicalID": null, "Attachments": null});
        self.daemon.call("Instance.Provision", json!({"Type": "", "Spec": spec}))
    }
}

/// The script at the address that the machine was told, or would be.
fn script(machine: &Machine, lease: &Lease) -> String {
    let path = format!("/ipxe/{}.ipxe", machine.mac.hyphenated());
    let page = machine.http(lease.address, "GET", &path);
    assert_eq!(page.status, 200, "{}", page.text());
    page.text()
}

#[test]
fn machines_of_two_architectures_are_given_the_images_of_two_rules_and_others_wait() {
    let rules = |images: PathBuf| {
        fs::write(images.join("vmlinuz-arm64"), "kernel of arm64").expect("written");
        fs::write(images.join("initrd-2.img"), "second initrd").expect("written");
        let images = images.display();
        format!(
            "[[unclaimed]]\narchitecture = 'arm64-uefi'\nthen = 'image'\n\
             kernel = '{images}/vmlinuz-arm64'\ncmdline = 'a=arm mac={{{{ mac }}}}'\n\
             [[unclaimed]]\nsubnet = '127.0.0.0/8'\narchitecture = 'x64-uefi'\nthen = 'image'\n\
             kernel = '{images}/vmlinuz'\n\
             initrd = ['{images}/initrd.img', '{images}/initrd-2.img']\ncmdline = 'a=x64'\n"
        )
    };
    let stage = Stage::new(rules, &[]);
    for (number, client, kernel, initrds, said) in [
        (1, ARM64_IPXE, "kernel of arm64", &[][..], "a=arm mac=52:54:00:10:00:01"),
        (2, IPXE, "kernel", &["initrd", "second initrd"][..], "a=x64"),
    ] {
        let machine = stage.machine(number);
        let lease = machine.lease(client);
        let text = script(&machine, &lease);
        let (kernel_sent, initrds_sent, cmdline) = machine.load(lease.address, &text);
        assert_eq!(kernel_sent, kernel.as_bytes());
        let expected: Vec<Vec<u8>> = initrds.iter().map(|text| text.as_bytes().to_vec()).collect();
        assert_eq!(initrds_sent, expected);
        assert!(cmdline.ends_with(said), "{cmdline}");
    }
    let machine = stage.machine(3);
    let lease = machine.lease(BIOS);
    assert!(script(&machine, &lease).contains("waits to be provisioned"));
    let told: Vec<_> = stage.machines().iter().map(|row| row["unclaimed"].clone()).collect();
    assert_eq!(told, ["image", "image", "hold"]);
    let stages: Vec<_> = stage.machines().iter().map(|row| row["stage"].clone()).collect();
    assert_eq!(stages, ["kernel", "kernel", "holding"]);
}

#[test]
fn an_ignored_stranger_has_an_address_and_is_no_machine_until_it_is_provisioned_by_name() {
    let stage = Stage::with_flag("--unclaimed=ignore");
    let machine = stage.machine(1);
    for client in [UEFI, BIOS, IPXE] {
        let lease = machine.lease(client);
        assert_eq!(lease.boot_file, "");
        assert_eq!(script(&machine, &lease), "#!ipxe\nexit 1\n");
        let autoexec = machine.tftp(lease.address, "autoexec.ipxe").expect("a script");
        assert!(String::from_utf8_lossy(&autoexec).ends_with("exit 1\n"));
    }
    assert_eq!(stage.machines(), Vec::<Value>::new());
    let refused = stage.provision(&json!({"Kernel": "vmlinuz"})).expect_err("there is none");
    assert!(refused["message"].as_str().expect("words").contains("no free machine"), "{refused}");
    stage.provision(&json!({"Kernel": "vmlinuz", "MAC": machine.mac})).expect("by its name");
    assert!(machine.script().contains("kernel --name vmlinuz"));
    assert_eq!(stage.machines().len(), 1);
    assert!(!stage.home.log().contains("nothing to boot"), "strangers are no warnings");
}

#[test]
fn a_stranger_that_boots_its_disk_is_taken_by_its_name_alone_and_waits_once_it_is_freed() {
    let stage = Stage::with_flag("--unclaimed=local");
    let machine = stage.machine(1);
    assert!(machine.script().ends_with("exit 1\n"));
    let row = &stage.machines()[0];
    assert_eq!((&row["unclaimed"], &row["local_boot"]), (&json!("local"), &json!("exit")));
    let refused =
        stage.provision(&json!({"Kernel": "vmlinuz"})).expect_err("it has its own system");
    assert!(refused["message"].as_str().expect("words").contains("no free machine"), "{refused}");
    stage.daemon.call("Machine.Free", json!({"MAC": machine.mac})).expect("freed");
    assert!(machine.script().contains("waits to be provisioned"));
    stage.provision(&json!({"Kernel": "vmlinuz"})).expect("it is of the pool now");
    assert!(machine.script().contains("kernel --name vmlinuz"));

    let other = stage.machine(2);
    assert!(other.script().ends_with("exit 1\n"));
    stage.provision(&json!({"Kernel": "vmlinuz", "MAC": other.mac})).expect("by its name");
    assert!(other.script().contains("kernel --name vmlinuz"), "at its next start");
}

#[test]
fn a_way_to_the_disk_that_a_report_came_from_is_not_given_up_for_two_resets() {
    let stage = Stage::with_flag("--unclaimed=hold");
    let start = |machine: &Machine| {
        let lease = machine.lease(UEFI);
        (machine.script(), lease.address)
    };
    let ways = |reports: bool, number: u8| {
        let machine = stage.machine(number);
        let properties = json!({"Kernel": "vmlinuz", "CmdLine": "report={{ report }}",
            "Boot": "once", "MAC": machine.mac});
        stage.provision(&properties).expect("it is free");
        let (text, address) = start(&machine);
        let report = text.split_once("report=").expect("a URL").1;
        let report = report.split_whitespace().next().expect("a word").to_owned();
        let ready = || {
            let path = format!("{}/ready", machine.path(&report));
            assert_eq!(machine.http(address, "GET", &path).status, 200);
        };
        ready();
        let mut ways = Vec::new();
        for number in 0..4 {
            ways.push(start(&machine).0.lines().last().expect("lines").to_owned());
            if number == 0 && reports {
                ready();
            }
        }
        ways
    };
    assert_eq!(ways(false, 1), ["exit 1", "exit 1", "exit 0", "exit 0"]);
    assert_eq!(ways(true, 2), ["exit 1", "exit 1", "exit 1", "exit 1"]);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn an_unknown_bios_machine_boots_its_own_disk_without_any_instance() {
    check_local(Firmware::BiosChain, Disk::Bios);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn an_unknown_uefi_machine_boots_its_own_disk_without_any_instance() {
    check_local(Firmware::UefiPxe, Disk::Uefi);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn an_unknown_uefi_machine_boots_its_own_disk_over_ipv6() {
    let lab = Lab::ipv6();
    let daemon = lab.daemon6("br0", &["--unclaimed=local"]);
    check_disk(&lab, &daemon, (Firmware::UefiHttp6, Disk::Uefi));
    assert!(daemon.log().contains("loader/snponly.efi"), "{}", daemon.log());
}

#[track_caller]
fn check_local(firmware: Firmware, disk: Disk) {
    let lab = Lab::new();
    let daemon = lab.daemon(&["--unclaimed=local"]);
    check_disk(&lab, &daemon, (firmware, disk));
}

#[track_caller]
fn check_disk(lab: &Lab, daemon: &lab::Daemon, (firmware, disk): (Firmware, Disk)) {
    let mut machine = lab.machine_with_disk(firmware, MAC, disk);
    machine.wait_for(disk.says(), 180);
    println!("{firmware:?}: its disk, {:.1} s after power-on", machine.seconds());
    assert_eq!(daemon.instances(), Vec::<String>::new());
    let row = known(daemon).expect("it is known");
    assert_eq!((&row["unclaimed"], &row["state"]), (&json!("local"), &json!("seen")), "{row}");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn an_ignored_uefi_machine_is_told_of_no_boot_file_and_is_in_no_list() {
    let lab = Lab::new();
    let daemon = lab.daemon(&["--unclaimed=ignore", "--log=4"]);
    let _machine = lab.machine(Firmware::UefiPxe, MAC);
    let told = lab::within(Duration::from_secs(180), || {
        daemon.log().lines().filter(|line| line.contains(MAC)).nth(1).map(str::to_owned)
    });
    let told = told.expect("its firmware asks twice");
    assert!(told.contains("it is left alone by rule"), "{told}");
    assert!(!daemon.log().contains("snponly.efi"), "{}", daemon.log());
    assert_eq!(known(&daemon), None);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn an_unknown_uefi_machine_boots_the_image_of_the_rule_for_its_architecture() {
    let lab = Lab::new();
    let (images, config) = (lab.images().display().to_string(), lab.folder().join("rules.toml"));
    let rule = |architecture: &str, cmdline: &str| {
        format!(
            "[[unclaimed]]\nsubnet = '10.77.0.0/24'\narchitecture = '{architecture}'\n\
             then = 'image'\nkernel = '{images}/vmlinuz'\ninitrd = '{images}/initrd'\n\
             cmdline = 'console=ttyS0 rule={cmdline} mac={{{{ mac }}}}'\n"
        )
    };
    let rules = rule("arm64-uefi", "arm") + &rule("x64-uefi", "x64");
    fs::write(&config, rules).expect("written");
    let _daemon = lab.daemon(&["--config", config.to_str().expect("text")]);
    let report = lab.machine(Firmware::UefiPxe, MAC).report();
    assert!(report.cmdline.contains("rule=x64"), "{report:?}");
    assert!(report.cmdline.contains(&format!("mac={MAC}")), "{report:?}");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_machine_that_comes_back_at_once_is_sent_to_its_disk_in_the_next_way_and_that_is_kept() {
    const SENT: &str = "boots from its own disk";
    let lab = Lab::new();
    let daemon = lab.daemon(&["--unclaimed=local"]);
    let way = |daemon: &lab::Daemon| known(daemon).map(|row| row["local_boot"].clone());
    let mut machine = lab.machine(Firmware::UefiHttp, MAC);
    for start in 1..=2 {
        machine.wait_for(SENT, 150);
        assert_eq!(way(&daemon), Some(json!("exit")), "start {start}");
        machine.reset();
    }
    machine.wait_for(SENT, 150);
    assert_eq!(way(&daemon), Some(json!("exit-0")));
    let said = "it did not come to its own disk; the next way is tried";
    assert_eq!(daemon.log().matches(said).count(), 1, "{}", daemon.log());
    daemon.terminate();

    let daemon = lab.daemon(&["--unclaimed=local"]);
    assert_eq!(way(&daemon), Some(json!("exit-0")));
    machine.reset();
    machine.wait_for(SENT, 150);
    assert_eq!(way(&daemon), Some(json!("exit-0")));
}

/// What the daemon knows of the lab's machine.
fn known(daemon: &lab::Daemon) -> Option<Value> {
    let list = daemon.call("Machine.List", json!({}));
    let rows = list["Machines"].as_array().expect("machines");
    rows.iter().find(|row| row["mac"] == MAC).cloned()
}
