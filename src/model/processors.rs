//! IANA's "Processor Architecture Types" (RFC 5970 §6 and what was added to it),
//! and what becomes of who sends each: it boots, or is refused with a reason.

use super::Architecture;

/// What becomes of a machine that sends a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// There are boot programs for it.
    Boots(Architecture),
    /// There are none, for this reason.
    Refused(&'static str),
}

/// A number of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processor {
    /// As option 93 of DHCP and option 61 of `DHCPv6` have it.
    pub number: u16,
    /// Its registered name.
    pub name: &'static str,
    /// What becomes of it here.
    pub fate: Fate,
}

const NO_IPXE: &str = "no iPXE is made for it";
const NOT_PUBLISHED: &str = "nobody publishes an iPXE for it";
const OF_THE_PAST: &str = "no such machine is made any more, and no iPXE for it";
const U_BOOT: &str = "U-Boot looks for a script or a pxelinux.cfg of its own by this number; for \
                      its UEFI loader, which runs iPXE, it asks once more, as UEFI";

/// The whole registry, in the order of its numbers, without gaps.
pub const PROCESSORS: [Processor; 42] = [
    boots(0x00, "x86 BIOS", Architecture::Bios),
    refused(0x01, "NEC/PC98 (DEPRECATED)", OF_THE_PAST),
    refused(0x02, "Itanium", OF_THE_PAST),
    refused(0x03, "DEC Alpha (DEPRECATED)", OF_THE_PAST),
    refused(0x04, "Arc x86 (DEPRECATED)", OF_THE_PAST),
    refused(0x05, "Intel Lean Client (DEPRECATED)", OF_THE_PAST),
    boots(0x06, "x86 UEFI", Architecture::Ia32Uefi),
    boots(0x07, "x64 UEFI", Architecture::X64Uefi),
    refused(0x08, "EFI Xscale (DEPRECATED)", OF_THE_PAST),
    // By the text of RFC 4578 this is x86-64, and firmware was made by it.
    boots(0x09, "EBC", Architecture::X64Uefi),
    boots(0x0a, "ARM 32-bit UEFI", Architecture::Arm32Uefi),
    boots(0x0b, "ARM 64-bit UEFI", Architecture::Arm64Uefi),
    refused(
        0x0c,
        "PowerPC Open Firmware",
        "it boots by GRUB or yaboot, and no iPXE is made for it",
    ),
    refused(0x0d, "PowerPC ePAPR", "it boots by U-Boot, and no iPXE is made for it"),
    refused(0x0e, "POWER OPAL v3", "it boots by petitboot, and no iPXE is made for it"),
    boots(0x0f, "x86 uefi boot from http", Architecture::Ia32Uefi),
    boots(0x10, "x64 uefi boot from http", Architecture::X64Uefi),
    boots(0x11, "ebc boot from http", Architecture::X64Uefi),
    boots(0x12, "arm uefi 32 boot from http", Architecture::Arm32Uefi),
    boots(0x13, "arm uefi 64 boot from http", Architecture::Arm64Uefi),
    // The same program as by TFTP, under a URL: there is no other that a BIOS runs.
    boots(0x14, "pc/at bios boot from http", Architecture::Bios),
    refused(0x15, "arm 32 uboot", U_BOOT),
    refused(0x16, "arm 64 uboot", U_BOOT),
    refused(0x17, "arm uboot 32 boot from http", U_BOOT),
    refused(0x18, "arm uboot 64 boot from http", U_BOOT),
    refused(0x19, "RISC-V 32-bit UEFI", NOT_PUBLISHED),
    refused(0x1a, "RISC-V 32-bit UEFI boot from http", NOT_PUBLISHED),
    boots(0x1b, "RISC-V 64-bit UEFI", Architecture::Riscv64Uefi),
    boots(0x1c, "RISC-V 64-bit UEFI boot from http", Architecture::Riscv64Uefi),
    refused(0x1d, "RISC-V 128-bit UEFI", NO_IPXE),
    refused(0x1e, "RISC-V 128-bit UEFI boot from http", NO_IPXE),
    refused(0x1f, "s390 Basic", "it boots by its own loader, and no iPXE is made for it"),
    refused(0x20, "s390 Extended", "it boots by its own loader, and no iPXE is made for it"),
    refused(0x21, "MIPS 32-bit UEFI", NO_IPXE),
    refused(0x22, "MIPS 64-bit UEFI", NO_IPXE),
    refused(0x23, "Sunway 32-bit UEFI", NO_IPXE),
    refused(0x24, "Sunway 64-bit UEFI", NO_IPXE),
    refused(0x25, "LoongArch 32-bit UEFI", NO_IPXE),
    refused(0x26, "LoongArch 32-bit UEFI boot from http", NO_IPXE),
    boots(0x27, "LoongArch 64-bit UEFI", Architecture::Loong64Uefi),
    boots(0x28, "LoongArch 64-bit UEFI boot from http", Architecture::Loong64Uefi),
    refused(
        0x29,
        "arm rpiboot",
        "a Raspberry Pi's own loader takes its firmware's files and no boot program; with UEFI on \
         it, it asks as ARM 64-bit UEFI",
    ),
];

const fn boots(number: u16, name: &'static str, architecture: Architecture) -> Processor {
    Processor { number, name, fate: Fate::Boots(architecture) }
}

const fn refused(number: u16, name: &'static str, reason: &'static str) -> Processor {
    Processor { number, name, fate: Fate::Refused(reason) }
}

/// The entry of this number, if it is registered.
#[must_use]
pub fn processor(number: u16) -> Option<&'static Processor> {
    PROCESSORS.get(usize::from(number))
}

/// Why a machine of this number is given no boot program, in words that name it.
#[must_use]
pub fn refusal(number: u16) -> String {
    match processor(number) {
        None => format!(
            "architecture number {number:#06x} is not registered: no boot program is known for it"
        ),
        Some(Processor { name, fate: Fate::Refused(reason), .. }) => {
            format!("architecture number {number:#06x}, {name}: {reason}")
        }
        Some(Processor { name, fate: Fate::Boots(architecture), .. }) => {
            format!("architecture number {number:#06x}, {name}, is {}", architecture.name())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Firmware;

    #[test]
    fn every_number_stands_in_its_place_and_is_mapped_or_refused_by_name() {
        for (place, processor) in PROCESSORS.iter().enumerate() {
            assert_eq!(usize::from(processor.number), place, "{}", processor.name);
            let said = refusal(processor.number);
            assert!(said.contains(processor.name), "{said}");
            match processor.fate {
                Fate::Boots(architecture) => {
                    assert_eq!(
                        Firmware::from_number(processor.number),
                        Firmware::Known(architecture)
                    );
                }
                Fate::Refused(reason) => {
                    assert!(said.ends_with(reason), "{said}");
                    let number = processor.number;
                    assert_eq!(Firmware::from_number(number), Firmware::Unknown(number));
                }
            }
        }
        for number in [0x2a, 0x77, 0xffff] {
            assert_eq!(Firmware::from_number(number), Firmware::Unknown(number));
            assert!(refusal(number).contains("not registered"));
        }
    }

    #[test]
    fn what_boots_by_http_boots_the_same_program_as_by_pxe() {
        let by_http = PROCESSORS.iter().filter(|one| one.name.ends_with("boot from http"));
        for processor in by_http {
            let plain = processor.name.trim_end_matches(" boot from http").to_lowercase();
            let same = |one: &&Processor| {
                let name = one.name.to_lowercase();
                name == plain
                    || (plain == "arm uefi 32" && name == "arm 32-bit uefi")
                    || (plain == "arm uefi 64" && name == "arm 64-bit uefi")
                    || (plain == "pc/at bios" && name == "x86 bios")
                    || (plain == "arm uboot 32" && name == "arm 32 uboot")
                    || (plain == "arm uboot 64" && name == "arm 64 uboot")
            };
            let other = PROCESSORS.iter().find(same).expect(processor.name);
            assert_eq!(other.fate, processor.fate, "{}", processor.name);
        }
    }

    /// The table of the documentation has each number once, under its fate.
    #[test]
    fn the_documentation_has_every_number_with_its_name() {
        let document = include_str!("../../docs/firmware.md");
        for processor in PROCESSORS {
            let row = document.lines().find(|line| {
                line.starts_with(&format!("| {:#06x} | {} |", processor.number, processor.name))
            });
            let row = row.unwrap_or_else(|| panic!("{:#06x} {}", processor.number, processor.name));
            match processor.fate {
                Fate::Boots(architecture) => assert!(row.contains(architecture.name()), "{row}"),
                Fate::Refused(reason) => assert!(row.contains(reason), "{row}"),
            }
        }
    }
}
