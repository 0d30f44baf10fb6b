//! Bytes as hexadecimal digits, for what is written often.

/// The two digits of a byte, small letters, in ASCII.
pub(super) const fn digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]
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
        }
    }
}
