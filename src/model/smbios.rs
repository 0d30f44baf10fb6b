//! What firmware says of the board: its UUID and serial number. They support who a
//! machine is and never decide it, and what many boards share is thrown away.

/// Whether this UUID can be of one board alone: not all zero or all F, which SMBIOS
/// has for "none" and "not set" (DSP0134 §7.2.1), none whose bytes are all the same,
/// and none that makers leave in whole series. Any text that is no UUID is none.
#[must_use]
pub fn is_genuine_uuid(text: &str) -> bool {
    let Some(bytes) = bytes_of(text) else { return false };
    let is_one_byte = bytes.iter().all(|byte| *byte == bytes[0]);
    // Some firmware turns the first three fields round, some does not.
    let is_shared = |one: [u8; 16]| SHARED_UUIDS.contains(&u128::from_be_bytes(one));
    !is_one_byte && !is_shared(bytes) && !is_shared(turned(bytes))
}

/// UUIDs that are on many boards, as they are written.
const SHARED_UUIDS: [u128; 8] = [
    // AMI's reference firmware, on boards of many makers.
    0x0300_0200_0400_0500_0006_0007_0008_0009,
    0x1234_5678_1234_5678_90ab_cdde_efaa_bbcc,
    0x1234_5678_1234_1234_1234_1234_5678_90ab,
    0x1122_3344_5566_7788_99aa_bbcc_ddee_ff00,
    0x0011_2233_4455_6677_8899_aabb_ccdd_eeff,
    0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f,
    0xdead_beef_dead_beef_dead_beef_dead_beef,
    // Drawn once at random, and left in by several makers.
    0x6ab5_b300_538d_1014_9fb5_b068_4d00_7b53,
];

/// The one spelling of a UUID and of the same with its first three fields turned
/// round: both are of one board, since not all programs turn them alike.
#[must_use]
pub fn canonical_uuid(text: &str) -> u128 {
    let bytes = bytes_of(text).unwrap_or_default();
    u128::from_be_bytes(bytes).min(u128::from_be_bytes(turned(bytes)))
}

const fn turned(bytes: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

/// The bytes in the order in which they are written.
fn bytes_of(text: &str) -> Option<[u8; 16]> {
    let widths = text.split('-').map(str::len);
    if !widths.eq([8, 4, 4, 4, 12]) {
        return None;
    }
    let digits = text.replace('-', "");
    let is_plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = u128::from_str_radix(&digits, 16).ok().filter(|_| is_plain)?;
    Some(number.to_be_bytes())
}

/// The longest serial number that is kept, in characters.
pub const LONGEST_SERIAL: usize = 64;

/// The serial number of one board, without the blanks round it; nothing if the text
/// is none: empty, longer than [`LONGEST_SERIAL`], with other than printable ASCII,
/// of one character alone, or what makers leave in where one should be.
#[must_use]
pub fn serial(text: &str) -> Option<String> {
    let plain = text.trim();
    let is_printable = plain.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if plain.len() > LONGEST_SERIAL || !is_printable {
        return None;
    }
    let word: String =
        plain.bytes().filter(u8::is_ascii_alphanumeric).map(lower).collect::<String>();
    let first = word.chars().next()?;
    let is_one_letter = word.chars().all(|letter| letter == first);
    let counts =
        "01234567890123456789".contains(&word) || "abcdefghijklmnopqrstuvwxyz".contains(&word);
    let is_shared = is_one_letter || counts || SHARED_SERIALS.contains(&word.as_str());
    (!is_shared).then(|| plain.to_owned())
}

fn lower(byte: u8) -> char {
    char::from(byte.to_ascii_lowercase())
}

/// What stands where a serial number should: in small letters, without all else.
const SHARED_SERIALS: [&str; 20] = [
    "none",
    "null",
    "na",
    "notspecified",
    "notapplicable",
    "notavailable",
    "notset",
    "unknown",
    "invalid",
    "empty",
    "default",
    "defaultstring",
    "tobefilledbyoem",
    "tobefilled",
    "oem",
    "serialnumber",
    "serial",
    "systemserialnumber",
    "systemserial",
    "chassisserialnumber",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_uuid_that_many_boards_have_is_of_none() {
        for junk in [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "fefefefe-fefe-fefe-fefe-fefefefefefe",
            "03000200-0400-0500-0006-000700080009",
            "00020003-0004-0005-0006-000700080009",
            "12345678-1234-5678-90ab-cddeefaabbcc",
            "DEADBEEF-DEAD-BEEF-DEAD-BEEFDEADBEEF",
            "",
            "4c4c4544-0042-3510-8052",
            "4c4c45440042-3510-8052-b3c0-4f4b4e32",
            "+c4c4544-0042-3510-8052-b3c04f4b4e32",
        ] {
            assert!(!is_genuine_uuid(junk), "{junk}");
        }
        for genuine in
            ["4c4c4544-0042-3510-8052-b3c04f4b4e32", "00000000-0000-0000-0000-ac1f6b000001"]
        {
            assert!(is_genuine_uuid(genuine), "{genuine}");
        }
    }

    #[test]
    fn a_serial_number_that_makers_leave_in_is_none() {
        for junk in [
            "",
            "  ",
            "0",
            "0000000000",
            "............",
            "XXXXXXXX",
            "0123456789",
            "123456789",
            "1234567890",
            "To be filled by O.E.M.",
            "TobefilledbyO.E.M.",
            "Default string",
            "Default_string",
            "System Serial Number",
            "None",
            "Not Specified",
            "N/A",
            "7\u{e9}8",
            "7\n8",
            &"7a".repeat(33),
        ] {
            assert_eq!(serial(junk), None, "{junk:?}");
        }
        for genuine in ["5CG1234XYZ", "0123456788", "S/N 12", &"7a".repeat(32)] {
            assert_eq!(serial(genuine).as_deref(), Some(genuine));
        }
        assert_eq!(serial("  7X \t").as_deref(), Some("7X"));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_printable_and_short_and_stays_itself(text: String) {
            let _ = is_genuine_uuid(&text);
            if let Some(kept) = serial(&text) {
                prop_assert!(kept.len() <= LONGEST_SERIAL && kept.chars().all(|c| !c.is_control()));
                prop_assert_eq!(serial(&kept), Some(kept));
            }
        }
    }
}
