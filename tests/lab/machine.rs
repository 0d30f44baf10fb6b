//! A bare machine in QEMU: what it prints, what the booted system reports.
//!
//! How QEMU is told to be such a machine is in `tests/lab/machine`, the script
//! that this starts. It does not know who answers the machine.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use super::{Lab, last_lines, script, within};

/// The longest a machine may take from power-on to its report. Alone it takes
/// half a minute; several on a busy computer take longer.
const BOOT: Duration = Duration::from_secs(400);

/// The kind of firmware that a machine has, and the way by which it boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Firmware {
    /// SeaBIOS with the iPXE ROM that QEMU gives its cards.
    BiosIpxeRom,
    /// SeaBIOS with a PXE client that does not call itself iPXE, and runs
    /// `undionly.kpxe`.
    BiosChain,
    /// x86-64 UEFI, PXE.
    UefiPxe,
    /// x86-64 UEFI, HTTP Boot.
    UefiHttp,
    /// x86-64 UEFI with the iPXE ROM that QEMU gives its cards.
    UefiIpxeRom,
    /// arm64 UEFI, PXE.
    Arm64UefiPxe,
    /// arm64 UEFI, HTTP Boot.
    Arm64UefiHttp,
    /// riscv64 UEFI: PXE, and if that comes to nothing HTTP Boot.
    Riscv64Uefi,
    /// 32-bit UEFI, PXE.
    Ia32UefiPxe,
    /// x86-64 UEFI with Microsoft's keys and Secure Boot on, PXE.
    UefiSecurePxe,
    /// x86-64 UEFI with Microsoft's keys and Secure Boot on, HTTP Boot.
    UefiSecureHttp,
    /// x86-64 UEFI, PXE over IPv6.
    UefiPxe6,
    /// x86-64 UEFI, HTTP Boot over IPv6.
    UefiHttp6,
    /// arm64 UEFI, PXE over IPv6.
    Arm64UefiPxe6,
    /// arm64 UEFI, HTTP Boot over IPv6.
    Arm64UefiHttp6,
    /// 32-bit UEFI, HTTP Boot.
    Ia32UefiHttp,
    /// 32-bit UEFI, PXE over IPv6.
    Ia32UefiPxe6,
    /// 32-bit UEFI, HTTP Boot over IPv6.
    Ia32UefiHttp6,
    /// 32-bit ARM UEFI, PXE.
    Arm32UefiPxe,
    /// 32-bit ARM UEFI, HTTP Boot.
    Arm32UefiHttp,
    /// 32-bit ARM UEFI, PXE over IPv6.
    Arm32UefiPxe6,
    /// 32-bit ARM UEFI, HTTP Boot over IPv6.
    Arm32UefiHttp6,
}

/// What the booted system says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Its kernel's command line, `/proc/cmdline`.
    pub(crate) cmdline: String,
    /// The addresses of its network cards.
    pub(crate) macs: Vec<String>,
    /// Its architecture as `uname -m` has it: `x86_64`, `aarch64`.
    pub(crate) arch: String,
    /// The word that its initial RAM disk was made with.
    pub(crate) marker: String,
}

/// A machine that is powered on. Dropping it pulls the plug.
pub(crate) struct Machine {
    firmware: Firmware,
    mac: String,
    folder: PathBuf,
    qemu: Child,
    powered_on: Instant,
    // Where in the console's file the present boot begins.
    boot_begins: usize,
}

impl Machine {
    #[track_caller]
    pub(super) fn power_on(
        lab: &Lab,
        bridge: &str,
        machine: (Firmware, &str),
        disk: Option<&Path>,
    ) -> Self {
        Self::power_on_with(lab, bridge, machine, disk, &[])
    }

    /// The same with these variables for `tests/lab/machine`.
    #[track_caller]
    pub(super) fn power_on_with(
        lab: &Lab,
        bridge: &str,
        (firmware, mac): (Firmware, &str),
        disk: Option<&Path>,
        variables: &[(&str, &str)],
    ) -> Self {
        let folder = lab.folder().join(mac.replace(':', "-"));
        fs::create_dir(&folder).expect("each machine of a lab has a MAC address of its own");
        let complaints =
            File::create(folder.join("complaints")).expect("its folder can be written");
        let qemu = lab
            .command(script("machine"))
            .env("LAB_BRIDGE", bridge)
            .envs(variables.iter().copied())
            .args([name_of(firmware), mac])
            .arg(&folder)
            .args(disk)
            .stdout(complaints.try_clone().expect("a file can be opened twice"))
            .stderr(complaints)
            .spawn()
            .expect("nsenter starts");
        Self {
            firmware,
            mac: mac.to_owned(),
            folder,
            qemu,
            powered_on: Instant::now(),
            boot_begins: 0,
        }
    }

    /// Its network card's address, as it was given.
    pub(crate) fn mac(&self) -> &str {
        &self.mac
    }

    /// What it has printed since it was powered on or reset, without the
    /// sequences that move the cursor.
    pub(crate) fn console(&self) -> String {
        let bytes = fs::read(self.folder.join("console")).unwrap_or_default();
        let present = bytes.get(self.boot_begins..).unwrap_or_default();
        without_escapes(&String::from_utf8_lossy(present))
    }

    /// Waits until it has printed a whole line with `pattern` in it since it was
    /// powered on or reset, and returns that line.
    ///
    /// # Panics
    ///
    /// When the line is not there after so many seconds, or QEMU has ended.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, pattern: &str, seconds: u64) -> String {
        let found = within(Duration::from_secs(seconds), || {
            let ended = self.qemu.try_wait().ok().flatten();
            let console = self.console();
            let line = console
                .split_inclusive('\n')
                .find(|line| line.ends_with('\n') && line.contains(pattern))
                .map(|line| line.trim().to_owned());
            line.map(Ok).or_else(|| ended.map(Err))
        });
        let why = match found {
            Some(Ok(line)) => return line,
            Some(Err(status)) => format!("QEMU ended ({status})"),
            None => format!("not there after {seconds} s"),
        };
        let complaints = fs::read_to_string(self.folder.join("complaints")).unwrap_or_default();
        panic!(
            "{:?} {}: waited for `{pattern}`: {why}\n{complaints}--- its console's last lines\n{}",
            self.firmware,
            self.mac,
            last_lines(&self.console(), 30)
        );
    }

    /// Whether QEMU has ended, and what it complained of.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.qemu.try_wait().ok().flatten()?;
        let complaints = fs::read_to_string(self.folder.join("complaints")).unwrap_or_default();
        Some(format!("QEMU ended ({status}) {complaints}"))
    }

    /// The seconds since it was powered on or reset.
    pub(crate) fn seconds(&self) -> f32 {
        self.powered_on.elapsed().as_secs_f32()
    }

    /// What it prints from here on is all that counts, as after a reset: it is
    /// about to start again by itself.
    ///
    /// # Panics
    ///
    /// When it has no console: it never was on.
    pub(crate) fn turn_the_page(&mut self) {
        let console = fs::metadata(self.folder.join("console")).expect("it has a console");
        self.boot_begins = usize::try_from(console.len()).expect("a console is small");
        self.powered_on = Instant::now();
    }

    /// Waits until it has booted, and returns what the booted system reports.
    ///
    /// # Panics
    ///
    /// When it has not booted in three minutes, or its report lacks something.
    #[track_caller]
    pub(crate) fn report(&mut self) -> Report {
        self.wait_for("REMOTEBOOT end", BOOT.as_secs());
        println!(
            "{:?} {}: reported {:.1} s after power-on or reset",
            self.firmware,
            self.mac,
            self.powered_on.elapsed().as_secs_f32()
        );
        let console = self.console();
        let all = |key: &str| -> Vec<String> {
            let start = format!("REMOTEBOOT {key}=");
            let lines = console.lines().map(str::trim);
            lines.filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
        };
        let one = |key: &str| -> String {
            let values = all(key);
            assert_eq!(values.len(), 1, "one `{key}` in the report:\n{}", last_lines(&console, 12));
            values[0].clone()
        };
        Report {
            cmdline: one("cmdline"),
            macs: all("mac"),
            arch: one("arch"),
            marker: one("marker"),
        }
    }

    /// Presses the reset button. What it printed before does not count from here.
    ///
    /// # Panics
    ///
    /// When it has no console or no buttons: it never was on.
    #[track_caller]
    pub(crate) fn reset(&mut self) {
        self.turn_the_page();
        // Opened for both, or this would wait for ever for a QEMU that has ended.
        let buttons = File::options().read(true).write(true).open(self.folder.join("buttons.in"));
        writeln!(buttons.expect("QEMU has a monitor"), "system_reset")
            .expect("QEMU's monitor listens");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.qemu.kill());
        drop(self.qemu.wait());
    }
}

/// The firmware's name in the script.
fn name_of(firmware: Firmware) -> &'static str {
    match firmware {
        Firmware::BiosIpxeRom => "bios-ipxe-rom",
        Firmware::BiosChain => "bios-chain",
        Firmware::UefiPxe => "uefi-pxe",
        Firmware::UefiHttp => "uefi-http",
        Firmware::UefiIpxeRom => "uefi-ipxe-rom",
        Firmware::Arm64UefiPxe => "arm64-uefi-pxe",
        Firmware::Arm64UefiHttp => "arm64-uefi-http",
        Firmware::Riscv64Uefi => "riscv64-uefi",
        Firmware::Ia32UefiPxe => "ia32-uefi-pxe",
        Firmware::UefiSecurePxe => "uefi-secure-pxe",
        Firmware::UefiSecureHttp => "uefi-secure-http",
        Firmware::UefiPxe6 => "uefi-pxe6",
        Firmware::UefiHttp6 => "uefi-http6",
        Firmware::Arm64UefiPxe6 => "arm64-uefi-pxe6",
        Firmware::Arm64UefiHttp6 => "arm64-uefi-http6",
        Firmware::Ia32UefiHttp => "ia32-uefi-http",
        Firmware::Ia32UefiPxe6 => "ia32-uefi-pxe6",
        Firmware::Ia32UefiHttp6 => "ia32-uefi-http6",
        Firmware::Arm32UefiPxe => "arm32-uefi-pxe",
        Firmware::Arm32UefiHttp => "arm32-uefi-http",
        Firmware::Arm32UefiPxe6 => "arm32-uefi-pxe6",
        Firmware::Arm32UefiHttp6 => "arm32-uefi-http6",
    }
}

/// The text without terminal sequences: ESC, `[`, anything, a letter.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\u{1b}' {
            plain.push(character);
            continue;
        }
        if characters.next() == Some('[') {
            characters.by_ref().find(char::is_ascii_alphabetic);
        }
    }
    plain.replace('\r', "\n")
}
