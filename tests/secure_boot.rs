//! Secure Boot with real firmware that has Microsoft's keys: the shim and GRUB that
//! Debian signs boot what the daemon says, and nothing else runs.
//!
//! What is asserted on is what the machine prints. Needs what `tests/lab/install`
//! brings; where the release has no signed shim and GRUB, nothing is booted.

mod lab;

use std::{fs, process::Command};

use lab::{Daemon, Disk, Firmware, Lab, Machine};
use serde_json::json;

const MAC: &str = "52:54:00:77:00:01";

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_machine_with_secure_boot_boots_its_own_command_line_by_pxe() {
    check(Firmware::UefiSecurePxe, &[]);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_machine_with_secure_boot_boots_its_own_command_line_by_http() {
    check(Firmware::UefiSecureHttp, &[]);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn grub_loads_a_kernel_from_another_port_than_80() {
    check(Firmware::UefiSecurePxe, &["--http-port=8080"]);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_machine_is_held_in_grub_until_it_is_provisioned_and_outlives_its_server() {
    let Some(directory) = signed() else { return };
    let lab = lab();
    let daemon = lab.daemon(&["--secure-boot-dir", &directory]);
    let mut machine = lab.machine(Firmware::UefiSecurePxe, MAC);
    machine.wait_for("remoteboot: 52:54:00:77:00:01 waits to be provisioned", 240);
    let known = daemon.call("Machine.List", json!({})).to_string();
    assert!(known.contains("\"state\":\"held\""), "{known}");
    daemon.terminate();
    let daemon = lab.daemon(&["--secure-boot-dir", &directory]);
    provision(&daemon, "vmlinuz");
    assert_booted(&mut machine);
    let firmware_starts = machine.console().matches("Start PXE over IPv4").count();
    assert_eq!(firmware_starts, 1, "its firmware started once:\n{}", machine.console());
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn firmware_with_secure_boot_runs_nothing_of_an_unsigned_ipxe_and_the_log_says_so() {
    if signed().is_none() {
        return;
    }
    let lab = lab();
    let daemon = lab.daemon(&[]);
    provision(&daemon, "vmlinuz");
    let mut machine = lab.machine(Firmware::UefiSecurePxe, MAC);
    machine.wait_for("NBP file downloaded successfully", 240);
    machine.wait_for("Access Denied", 240);
    // It tries HTTP Boot by itself, and is refused there, too.
    let said = lab::within(std::time::Duration::from_secs(120), || {
        daemon.log().contains("is Secure Boot on, which refuses what is not signed?").then_some(())
    });
    assert!(said.is_some(), "the daemon's log:\n{}", daemon.log());
    machine.wait_for("No bootable option or device was found", 240);
    let console = machine.console();
    for word in ["iPXE", "remoteboot", "REMOTEBOOT"] {
        assert!(!console.contains(word), "{word} in\n{console}");
    }
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn an_unsigned_kernel_is_refused_by_grub_and_asked_for_again_in_the_same_boot() {
    let Some(directory) = signed() else { return };
    let lab = lab();
    let mut kernel = fs::read(lab.images().join("vmlinuz")).expect("tests/lab/install has run");
    without_signature(&mut kernel);
    fs::write(lab.images().join("unsigned"), kernel).expect("written");
    let daemon = lab.daemon(&["--secure-boot-dir", &directory]);
    let id = provision(&daemon, "unsigned");
    let mut machine = lab.machine(Firmware::UefiSecurePxe, MAC);
    machine.wait_for("bad shim signature", 300);
    for _ in 0..2 {
        machine.wait_for("could not boot; it asks again in 10 s", 240);
        machine.turn_the_page();
    }
    assert!(!machine.console().contains("REMOTEBOOT"), "{}", machine.console());
    let told = &daemon.describe(&id)["Properties"];
    assert_eq!((&told["state"], &told["boots"]), (&json!("booting"), &json!(1)), "{told}");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn the_same_chain_boots_without_secure_boot_and_leaves_grub_for_the_disk() {
    let Some(directory) = signed() else { return };
    let lab = lab();
    let daemon = lab.daemon(&["--secure-boot-dir", &directory]);
    let id = daemon.provision(json!({
        "Kernel": "vmlinuz",
        "Initrd": "initrd",
        "CmdLine": "console=ttyS0 report={{ report }}",
        "Boot": "once",
        "MAC": MAC,
    }));
    let mut machine = lab.machine_with_disk(Firmware::UefiPxe, MAC, Disk::Uefi);
    machine.wait_for("REMOTEBOOT end", 300);
    machine.wait_for("REMOTEBOOT told=/ready answer=keep", 60);
    machine.reset();
    machine.wait_for("52:54:00:77:00:01 boots from its own disk", 240);
    machine.wait_for(Disk::Uefi.says(), 240);
    assert!(!machine.console().contains("REMOTEBOOT begin"), "it was not installed again");
    let described = daemon.describe(&id);
    assert_eq!(described["Properties"]["state"], "running", "{described}");
}

#[test]
fn a_directory_without_a_shim_is_refused_and_a_shim_without_what_it_loads_is_warned_of() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_remoteboot"));
        command.args(["check", "--enable-tftp", "--address-tftp=127.0.0.1", "--secure-boot-dir"]);
        let output = command.arg(folder.path()).current_dir(folder.path()).output();
        let output = output.expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    // The header of a UEFI program for x86-64 (PE format), and one that is none.
    let mut program = vec![0; 0x40];
    program[..2].copy_from_slice(b"MZ");
    program[0x3c] = 0x40;
    program.extend_from_slice(b"PE\0\0\x64\x86");
    fs::write(folder.path().join("shimx64.efi"), "no program").expect("written");
    let (is_right, said) = check();
    assert!(!is_right && said.contains("it has no shim, such as shimx64.efi"), "{said}");
    fs::write(folder.path().join("shimx64.efi"), &program).expect("written");
    let (is_right, said) = check();
    assert!(is_right && said.contains("has none of what it could load: grubx64.efi"), "{said}");
    fs::write(folder.path().join("grubx64.efi"), &program).expect("written");
    let (is_right, said) = check();
    assert!(is_right && !said.contains("has none of"), "{said}");
}

/// A lab with boot files of its own: another lab that links to the same ones touches
/// them, and then the daemon ends what it sends of them.
#[track_caller]
fn lab() -> Lab {
    let lab = Lab::new();
    for name in ["vmlinuz", "initrd"] {
        let path = lab.images().join(name);
        let content = fs::read(&path).expect("tests/lab/install has run");
        fs::remove_file(&path).expect("it is the lab's");
        fs::write(&path, content).expect("written");
    }
    lab
}

/// The folder with shim and GRUB; says so if there is none.
fn signed() -> Option<String> {
    let folder = lab::secure_boot();
    if folder.is_none() {
        println!("not booted, this release has no signed shim and GRUB");
    }
    folder.map(|folder| folder.display().to_string())
}

/// A machine with Secure Boot on boots what it was provisioned with.
#[track_caller]
fn check(firmware: Firmware, arguments: &[&str]) {
    let Some(directory) = signed() else { return };
    let lab = lab();
    let daemon = lab.daemon(&[&["--secure-boot-dir", &directory], arguments].concat());
    let id = provision(&daemon, "vmlinuz");
    let mut machine = lab.machine(firmware, MAC);
    assert_booted(&mut machine);
    let told = &daemon.describe(&id)["Properties"];
    assert_eq!((&told["state"], &told["boots"]), (&json!("booting"), &json!(1)), "{told}");
}

fn provision(daemon: &Daemon, kernel: &str) -> String {
    daemon.provision(json!({
        "Kernel": kernel,
        "Initrd": "initrd",
        "CmdLine": "console=ttyS0 lab={{ mac }} note=\"two $words; echo\"",
        "MAC": MAC,
    }))
}

/// The machine's own kernel runs with its own command line, and knows that Secure
/// Boot is on.
#[track_caller]
fn assert_booted(machine: &mut Machine) {
    // A busy computer takes minutes for what a machine does in one: the firmware, GRUB's
    // transfers, and the kernel that is unpacked.
    machine.wait_for("Secure boot enabled", 300);
    machine.wait_for("REMOTEBOOT end", 300);
    let report = machine.report();
    assert_eq!((report.marker.as_str(), report.macs), ("a", vec![MAC.to_owned()]));
    let wanted = format!("lab={MAC} \"note=two $words; echo\"");
    assert!(report.cmdline.contains(&wanted), "`{wanted}` in `{}`", report.cmdline);
    assert!(!report.cmdline.contains("initrd="), "`{}`", report.cmdline);
    println!("booted with Secure Boot on, `{}`, {:.1} s", report.cmdline, machine.seconds());
}

/// Takes away what a UEFI program's header says of its signature (PE format, optional
/// header, data directory 4).
#[track_caller]
fn without_signature(program: &mut [u8]) {
    let number = |at: usize| u32::from_le_bytes(program[at..at + 4].try_into().expect("four"));
    let header = usize::try_from(number(0x3c)).expect("small");
    assert_eq!(number(header), u32::from_le_bytes(*b"PE\0\0"));
    let directory = header + 24 + 112 + 4 * 8;
    assert_ne!(number(directory + 4), 0, "the kernel is signed");
    program[directory..directory + 8].fill(0);
}
