//! Bytes as hexadecimal digits, for what is written often.

/// The two digits of a byte, small letters, in ASCII.
pub(super) const fn digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]
}

/// The 32 digits of a number, in ASCII.
pub(super) fn digits_of(number: u128) -> [u8; 32] {
    let mut written = [0; 32];
    for (pair, byte) in written.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair.copy_from_slice(&digits(byte));
    }
    written
}

/// What such a digit stands for; none for any other character, a capital letter, too.
pub(super) const fn number(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The number that so many digits are, and nothing but such digits.
pub(super) fn number_of(digits: &str, length: usize) -> Option<u128> {
    if digits.len() != length || length > 32 {
        return None;
    }
    digits.bytes().try_fold(0, |sum, digit| Some(sum << 4 | u128::from(number(digit)?)))
}

/// What was put together of digits and other ASCII.
pub(super) fn text(ascii: &[u8]) -> &str {
    std::str::from_utf8(ascii).expect("ASCII is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_written_as_format_does() {
        for byte in 0..=255 {
            assert_eq!(text(&digits(byte)), format!("{byte:02x}"));
            assert_eq!(number_of(text(&digits(byte)), 2), Some(byte.into()));
        }
    }

    #[test]
    fn a_number_has_its_digits_and_no_others() {
        for number in [0, 0xab, u128::MAX, 0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978] {
            assert_eq!(text(&digits_of(number)), format!("{number:032x}"));
        }
        assert_eq!(number_of(&"f".repeat(32), 32), Some(u128::MAX));
        for (digits, length) in [("0F", 2), ("+1", 2), ("1", 2), ("001", 2), ("g0", 2)] {
            assert_eq!(number_of(digits, length), None, "{digits}");
        }
        assert_eq!(number_of(&"f".repeat(33), 33), None);
    }
}
