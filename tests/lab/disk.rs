//! A machine's own disk, with something on it that says that it was booted.

use std::fs;
use std::path::PathBuf;

use super::{Lab, cache};

/// What is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// A master boot record that prints [`Disk::says`] on the serial line.
    Bios,
    /// A file system with iPXE as `EFI/BOOT/BOOTX64.EFI`, the one program for this
    /// firmware that is always at hand; its banner says that it runs. Its script is
    /// a file beside it, so it asks no server.
    Uefi,
}

impl Disk {
    /// What the console shows when the disk was booted.
    pub(crate) fn says(self) -> &'static str {
        "REMOTEBOOT disk"
    }

    /// Makes the disk of the machine with this card, and says where it is.
    #[track_caller]
    pub(super) fn make(self, lab: &Lab, mac: &str) -> PathBuf {
        let path = lab.folder().join(format!("disk-{}", mac.replace(':', "-")));
        match self {
            Self::Bios => fs::write(&path, boot_record(self.says())).expect("written"),
            Self::Uefi => {
                let boot = path.join("EFI/BOOT");
                fs::create_dir_all(&boot).expect("made");
                let program = cache().join("loaders/best/ipxe.efi");
                fs::copy(program, boot.join("BOOTX64.EFI")).expect("tests/lab/install has run");
                let script = format!("#!ipxe\necho {}\nsleep 3600\n", self.says());
                for folder in [&path, &boot] {
                    fs::write(folder.join("autoexec.ipxe"), &script).expect("written");
                }
            }
        }
        path
    }
}

/// The first mebibyte of a disk whose boot record prints a line and halts.
fn boot_record(line: &str) -> Vec<u8> {
    // `si` walks over the text at 0x7c00 + its place; each letter is sent when the
    // line status register (0x3fd) says that the serial port (0x3f8) takes it.
    const CODE: [u8; 33] = [
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x40, 0x7c, // mov si, 0x7c40
        0xac, // next: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x12, // jz halt
        0x88, 0xc3, // mov bl, al
        0xba, 0xfd, 0x03, // mov dx, 0x3fd
        0xec, // busy: in al, dx
        0xa8, 0x20, // test al, 0x20
        0x74, 0xfb, // jz busy
        0x88, 0xd8, // mov al, bl
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xee, // out dx, al
        0xeb, 0xe9, // jmp next
        0xf4, // halt: hlt
        0xeb, 0xfd, // jmp halt
    ];
    let mut disk = vec![0; 1 << 20];
    disk[..CODE.len()].copy_from_slice(&CODE);
    let text = format!("\r\n{line}\r\n");
    disk[0x40..0x40 + text.len()].copy_from_slice(text.as_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}
