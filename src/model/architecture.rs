//! What kind of machine asks, and over which way it wants to boot.

use serde::{Deserialize, Serialize};

use super::processors::{Fate, processor};

/// The processor and firmware that a boot program must be made for.
///
/// From option 93 of DHCP (RFC 4578 §2.1) with the numbers of IANA's registry
/// "Processor Architecture Types" (RFC 5970 §6 and its additions).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// PC with BIOS, 0x0000, and 0x0014 by HTTP; iPXE calls it `i386` whatever the processor is.
    Bios,
    /// 32-bit x86 with UEFI, 0x0006 and 0x000f.
    Ia32Uefi,
    /// 64-bit x86 with UEFI: 0x0007 is what machines send, 0x0009 is what the
    /// text of RFC 4578 has for it, 0x0010 and 0x0011 by HTTP.
    X64Uefi,
    /// 32-bit ARM with UEFI, 0x000a and 0x0012.
    Arm32Uefi,
    /// 64-bit ARM with UEFI, 0x000b and 0x0013.
    Arm64Uefi,
    /// 64-bit RISC-V with UEFI, 0x001b and 0x001c.
    Riscv64Uefi,
    /// 64-bit `LoongArch` with UEFI, 0x0027 and 0x0028.
    Loong64Uefi,
}

/// How the firmware fetches its boot program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BootWay {
    /// PXE: by TFTP (class `PXEClient`).
    Pxe,
    /// UEFI HTTP Boot: by a URL (class `HTTPClient`, UEFI 2.10 §24.7).
    Http,
}

/// What a machine's firmware says of itself in option 93.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Firmware {
    /// One that we know boot programs for.
    Known(Architecture),
    /// A number that has no boot program here: it is refused by name, never
    /// given another architecture's program.
    Unknown(u16),
}

impl Firmware {
    /// What the number of option 93 stands for.
    #[must_use]
    pub fn from_number(number: u16) -> Self {
        match processor(number).map(|processor| processor.fate) {
            Some(Fate::Boots(architecture)) => Self::Known(architecture),
            Some(Fate::Refused(_)) | None => Self::Unknown(number),
        }
    }
}

impl Architecture {
    /// Its name in Describe and in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Ia32Uefi => "ia32-uefi",
            Self::X64Uefi => "x64-uefi",
            Self::Arm32Uefi => "arm32-uefi",
            Self::Arm64Uefi => "arm64-uefi",
            Self::Riscv64Uefi => "riscv64-uefi",
            Self::Loong64Uefi => "loong64-uefi",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.name() == name)
    }

    /// The files that boot such a machine, best first, under the names that
    /// Debian's `ipxe` packages and boot.ipxe.org give them.
    ///
    /// `snponly.efi` comes before `ipxe.efi`: it speaks through the driver that
    /// the firmware has just proved to work.
    #[must_use]
    pub const fn loaders(self) -> &'static [&'static str] {
        match self {
            Self::Bios => &["undionly.kpxe", "ipxe.pxe"],
            Self::Ia32Uefi => &[
                "snponly-ia32.efi",
                "ipxe-ia32.efi",
                "snponly-i386.efi",
                "ipxe-i386.efi",
                "i386-efi/snponly.efi",
                "i386-efi/ipxe.efi",
            ],
            Self::X64Uefi => &[
                "snponly.efi",
                "snponly-amd64.efi",
                "ipxe-amd64.efi",
                "ipxe.efi",
                "x86_64-efi/snponly.efi",
                "x86_64-efi/ipxe.efi",
            ],
            Self::Arm32Uefi => &[
                "snponly-arm32.efi",
                "ipxe-arm32.efi",
                "ipxe-armhf.efi",
                "arm32-efi/snponly.efi",
                "arm32-efi/ipxe.efi",
            ],
            Self::Arm64Uefi => &[
                "snponly-arm64.efi",
                "ipxe-arm64.efi",
                "arm64-efi/snponly.efi",
                "arm64-efi/ipxe.efi",
            ],
            Self::Riscv64Uefi => &[
                "snponly-riscv64.efi",
                "ipxe-riscv64.efi",
                "riscv64-efi/snponly.efi",
                "riscv64-efi/ipxe.efi",
            ],
            Self::Loong64Uefi => &[
                "snponly-loong64.efi",
                "ipxe-loong64.efi",
                "loong64-efi/snponly.efi",
                "loong64-efi/ipxe.efi",
            ],
        }
    }

    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Bios,
        Self::Ia32Uefi,
        Self::X64Uefi,
        Self::Arm32Uefi,
        Self::Arm64Uefi,
        Self::Riscv64Uefi,
        Self::Loong64Uefi,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_numbers_of_x64_are_x64() {
        for number in [0x0007, 0x0009, 0x0010] {
            assert_eq!(Firmware::from_number(number), Firmware::Known(Architecture::X64Uefi));
        }
    }

    #[test]
    fn each_is_found_by_its_name_and_written_with_it() {
        for architecture in Architecture::ALL {
            assert_eq!(Architecture::named(architecture.name()), Some(architecture));
            let written = serde_json::to_value(architecture).expect("JSON");
            assert_eq!(written, architecture.name());
        }
        assert_eq!(Architecture::named("amd64"), None);
    }

    #[test]
    fn no_two_architectures_share_a_loader() {
        let mut seen = std::collections::HashSet::new();
        for architecture in Architecture::ALL {
            for loader in architecture.loaders() {
                assert!(seen.insert(*loader), "{loader} is for two");
            }
        }
    }

    #[test]
    fn itanium_and_powerpc_get_no_program_of_another() {
        for number in [0x0001, 0x0002, 0x0008, 0x000c, 0x000e, 0x00ff, 0xffff] {
            assert_eq!(Firmware::from_number(number), Firmware::Unknown(number));
        }
    }
}
