//! The directory of signed boot programs: what of it is a shim, and what each shim
//! asks for behind it. Pure but for the list of the directory's names.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::model::Architecture;

/// No directory of boot programs has more.
const MOST: usize = 64;

/// The names of shims for this architecture, as distributions and iPXE give them, the
/// first before the others.
#[must_use]
pub const fn shims(architecture: Architecture) -> &'static [&'static str] {
    match architecture {
        Architecture::X64Uefi => &[
            "shimx64.efi",
            "ipxe-shimx64.efi",
            "snponly-shimx64.efi",
            "ipxe-shim.efi",
            "bootx64.efi",
        ],
        Architecture::Arm64Uefi => {
            &["shimaa64.efi", "ipxe-shimaa64.efi", "snponly-shimaa64.efi", "bootaa64.efi"]
        }
        Architecture::Ia32Uefi => &["shimia32.efi", "bootia32.efi"],
        Architecture::Bios
        | Architecture::Arm32Uefi
        | Architecture::Riscv64Uefi
        | Architecture::Loong64Uefi => &[],
    }
}

/// What the shims of an architecture load: GRUB those of distributions, iPXE that of
/// iPXE.
#[must_use]
pub const fn second_stages(architecture: Architecture) -> &'static [&'static str] {
    match architecture {
        Architecture::X64Uefi => &["grubx64.efi", "ipxe.efi", "snponly.efi"],
        Architecture::Arm64Uefi => {
            &["grubaa64.efi", "ipxe.efi", "snponly.efi", "ipxeaa64.efi", "ipxe-arm64.efi"]
        }
        Architecture::Ia32Uefi => &["grubia32.efi"],
        Architecture::Bios
        | Architecture::Arm32Uefi
        | Architecture::Riscv64Uefi
        | Architecture::Loong64Uefi => &[],
    }
}

/// The files of this directory that are UEFI programs by their names, in the order of
/// these.
pub(super) fn programs(directory: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let programs = entries.filter_map(|entry| {
        let name = entry.file_name().to_str()?.to_ascii_lowercase();
        name.ends_with(".efi").then(|| (name, entry.path()))
    });
    let mut programs: Vec<_> = programs.take(MOST).collect();
    programs.sort();
    programs
}
