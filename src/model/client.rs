//! What asks by DHCP: firmware, iPXE, or a host that boots nothing; and what an
//! iPXE says that it can do.

use super::{Architecture, BootWay, Firmware};

/// What a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// A host that wants an address and nothing to boot.
    Host,
    /// Firmware that wants a boot program.
    Firmware {
        /// How it fetches it.
        way: BootWay,
        /// What it says it is.
        firmware: Firmware,
    },
    /// iPXE: its user class says so (option 77, over IPv6 option 15), bare as iPXE
    /// sends it or with the lengths of RFC 3004 §4, or option 175 is there.
    Ipxe {
        /// What it says it is, if it does.
        firmware: Option<Firmware>,
    },
}

/// The features that an iPXE was built with, as it lists them in option 175
/// (`include/ipxe/features.h`: encapsulated options from 16 on).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IpxeFeatures(u128);

/// HTTP, by which scripts and kernels are fetched.
const HTTP: u8 = 19;
/// Kernels of Linux, in a BIOS.
const BZIMAGE: u8 = 24;
/// The same in UEFI, where they are programs of it.
const EFI: u8 = 36;

/// Those below are settings, those from 85 on what a server says.
const FEATURES: std::ops::Range<u8> = 16..80;

impl IpxeFeatures {
    /// The features in the value of option 175. What is cut off counts as not there.
    #[must_use]
    pub fn read(option: &[u8]) -> Self {
        let mut features = 0;
        let mut rest = option;
        while let [code, tail @ ..] = rest {
            // RFC 2132 §3.1 and §3.2: a pad has no length, and an end ends.
            match code {
                0 => {
                    rest = tail;
                    continue;
                }
                255 => break,
                _ => {}
            }
            let Some((length, tail)) = tail.split_first() else { break };
            let Some((value, after)) = tail.split_at_checked(usize::from(*length)) else { break };
            if FEATURES.contains(code) && value.iter().any(|byte| *byte != 0) {
                features |= 1 << code;
            }
            rest = after;
        }
        Self(features)
    }

    /// What this iPXE lacks of what it needs to boot from here, if it says so. One
    /// that lists nothing, as over IPv6, is taken to have all.
    #[must_use]
    pub const fn lacks(self, firmware: Option<Firmware>) -> Option<&'static str> {
        if self.0 == 0 {
            return None;
        }
        if !self.has(HTTP) {
            return Some("HTTP");
        }
        match firmware {
            None | Some(Firmware::Known(Architecture::Bios)) if !self.has(BZIMAGE) => {
                Some("Linux kernels (bzImage)")
            }
            Some(Firmware::Known(
                Architecture::Ia32Uefi
                | Architecture::X64Uefi
                | Architecture::Arm32Uefi
                | Architecture::Arm64Uefi
                | Architecture::Riscv64Uefi
                | Architecture::Loong64Uefi,
            )) if !self.has(EFI) => Some("UEFI programs"),
            Some(Firmware::Known(_) | Firmware::Unknown(_)) | None => None,
        }
    }

    const fn has(self, code: u8) -> bool {
        self.0 & (1 << code) != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BIOS: Option<Firmware> = Some(Firmware::Known(Architecture::Bios));
    const X64: Option<Firmware> = Some(Firmware::Known(Architecture::X64Uefi));

    /// As iPXE 1.0.0 sends it from a BIOS, without the features of these numbers.
    fn bios_without(missing: &[u8]) -> Vec<u8> {
        let mut option = b"\xb1\x05\x01\x1a\xf4\x10\x00\xeb\x03\x01\x00\x00".to_vec();
        for code in [23, 34, 19, 17, 39, 25, 41, 16, 33, 21, 24, 18] {
            if !missing.contains(&code) {
                option.extend([code, 1, 1 + u8::from(code == 16)]);
            }
        }
        option
    }

    #[test]
    fn what_is_not_listed_is_lacking_and_http_goes_before_all() {
        for (missing, lacks) in [
            (&[][..], None),
            (&[18, 41], None),
            (&[19], Some("HTTP")),
            (&[24], Some("Linux kernels (bzImage)")),
            (&[19, 24], Some("HTTP")),
        ] {
            let features = IpxeFeatures::read(&bios_without(missing));
            assert_eq!(features.lacks(BIOS), lacks, "{missing:?}");
            assert_eq!(features.lacks(None), lacks, "{missing:?}");
        }
        assert_eq!(IpxeFeatures::read(&[19, 1, 1, 36, 1, 1]).lacks(X64), None);
        assert_eq!(IpxeFeatures::read(&bios_without(&[])).lacks(X64), Some("UEFI programs"));
    }

    #[test]
    fn who_lists_no_feature_is_taken_to_have_all() {
        for option in
            [&b""[..], b"\xb1\x05\x01\x1a\xf4\x10\x00", b"\xeb\x03\x01\x00\x00", b"\x55\x01\x41"]
        {
            assert_eq!(IpxeFeatures::read(option).lacks(BIOS), None, "{option:?}");
        }
    }

    #[test]
    fn a_feature_of_the_value_zero_or_that_is_cut_off_is_not_there() {
        assert_eq!(IpxeFeatures::read(&[21, 1, 1, 19, 1, 0]).lacks(BIOS), Some("HTTP"));
        assert_eq!(IpxeFeatures::read(&[21, 1, 1, 19, 2, 1]).lacks(BIOS), Some("HTTP"));
        assert_eq!(IpxeFeatures::read(&[0, 0, 19, 1, 1, 24, 1, 1, 255, 9]).lacks(BIOS), None);
    }

    proptest! {
        #[test]
        fn no_option_panics_and_no_feature_comes_from_nowhere(option: Vec<u8>) {
            let features = IpxeFeatures::read(&option);
            if features.lacks(BIOS).is_none() && features != IpxeFeatures::default() {
                prop_assert!(option.contains(&HTTP) && option.contains(&BZIMAGE));
            }
        }
    }
}
