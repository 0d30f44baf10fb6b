//! Turns a datagram into a `Packet`, or says in one word why it is none.
//!
//! All that the sender claims is checked here and nowhere else: after `parse` a
//! file name cannot leave the tree and an option value is in its RFC's range.
//! It must not know who sent the datagram or what will be answered.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

/// Smallest `blksize`, octets (RFC 2348 §"Blocksize Option Specification").
pub const SMALLEST_BLOCK: u16 = 8;

/// Largest `blksize`, octets (RFC 2348 §"Blocksize Option Specification").
pub const LARGEST_BLOCK: u16 = 65464;

/// Longest text of an ERROR packet that is kept, in characters. It is only ever
/// shown to an operator.
pub const LONGEST_MESSAGE: usize = 200;

/// One TFTP packet of RFC 1350 §5 or RFC 2347.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// RRQ, opcode 1: the sender wants a file.
    Read(Request),
    /// WRQ, opcode 2: the sender wants to give a file.
    Write(Request),
    /// DATA, opcode 3.
    Data {
        /// The block's number on the wire; it rolls over from 65535 to 0.
        block: u16,
        /// The block's content, 0 to 65464 octets where the sender is sane.
        payload: Bytes,
    },
    /// ACK, opcode 4.
    Acknowledge {
        /// The last block that came in order; 0 accepts an OACK.
        block: u16,
    },
    /// ERROR, opcode 5: the sender has ended the transfer.
    Error {
        /// The code as sent; RFC 1350 §5 and RFC 2347 define 0 to 8.
        code: u16,
        /// The text, without control characters, at most [`LONGEST_MESSAGE`].
        message: String,
    },
    /// OACK, opcode 6 (RFC 2347). Only servers send it in answer to a read.
    OptionAcknowledge(Options),
}

/// What an RRQ or WRQ asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The file, normalised.
    pub file: FileName,
    /// How the octets are to be understood.
    pub mode: Mode,
    /// The options of RFC 2347 that are known here and had a usable value.
    pub options: Options,
}

/// A file's name relative to the tree that is served: never empty, parts joined
/// by `/`, no leading `/`, no `.` or `..` part, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName(String);

impl FileName {
    /// Normalises a name as firmware sends it: `\boot\x.efi` is `boot/x.efi`.
    ///
    /// # Errors
    ///
    /// The name is not UTF-8, is empty once normalised, climbs with `..`, or has
    /// control characters.
    pub fn normalise(name: &[u8]) -> Result<Self, Malformed> {
        let Ok(name) = std::str::from_utf8(name) else {
            return Err(Malformed::NameNotUtf8);
        };
        if name.chars().any(char::is_control) {
            return Err(Malformed::NameHasControl);
        }
        let mut normal = String::with_capacity(name.len());
        // Windows Deployment Services and the firmware that grew up with it
        // write backslashes.
        for part in name.split(['/', '\\']) {
            match part {
                "" | "." => {}
                ".." => return Err(Malformed::NameClimbs),
                part => {
                    if !normal.is_empty() {
                        normal.push('/');
                    }
                    normal.push_str(part);
                }
            }
        }
        if normal.is_empty() {
            return Err(Malformed::NameEmpty);
        }
        Ok(Self(normal))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The modes of RFC 1350 §1 that are not obsolete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Octets as they are.
    Octet,
    /// Text with line ends of the network virtual terminal (RFC 764).
    Netascii,
}

/// The options of RFC 2348, RFC 2349 and RFC 7440: as asked in a request, as
/// agreed in an OACK. `None` is "not asked", "not agreed", or a value that
/// [`parse`] could not use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `blksize`, octets of each DATA block but the last:
    /// [`SMALLEST_BLOCK`]`..=`[`LARGEST_BLOCK`].
    pub block_size: Option<u16>,
    /// `timeout`, seconds between retransmissions: 1 to 255.
    pub timeout: Option<u8>,
    /// `tsize`, octets of the whole file; 0 in a read asks for it.
    pub size: Option<u64>,
    /// `windowsize`, blocks sent for each ACK: 1 to 65535.
    pub window: Option<u16>,
}

/// Why a datagram is no TFTP packet that we understand.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Fewer than the two octets of an opcode.
    #[error("{length} octets hold no opcode")]
    NoOpcode {
        /// Octets that came: 0 or 1.
        length: usize,
    },
    /// Not one of the opcodes 1 to 6.
    #[error("opcode {opcode} is unknown")]
    UnknownOpcode {
        /// The opcode as sent.
        opcode: u16,
    },
    /// A DATA or ACK that ends before its block number does.
    #[error("a DATA or ACK without a block number")]
    NoBlock,
    /// An ERROR that ends before its code does.
    #[error("an ERROR without a code")]
    NoErrorCode,
    /// A request whose file name has no closing NUL.
    #[error("the file name has no end")]
    NameUnterminated,
    /// A request whose mode is missing or has no closing NUL.
    #[error("the mode has no end")]
    ModeUnterminated,
    /// Nothing is left of the file name.
    #[error("the file name is empty")]
    NameEmpty,
    /// The file name is not UTF-8.
    #[error("the file name is not UTF-8")]
    NameNotUtf8,
    /// The file name has control characters.
    #[error("the file name has control characters")]
    NameHasControl,
    /// The file name has a `..` part.
    #[error("the file name climbs with `..`")]
    NameClimbs,
    /// Mode `mail`, which RFC 1350 §1 calls obsolete.
    #[error("mode mail is obsolete")]
    Mail,
    /// A mode that no RFC names.
    #[error("the mode is unknown")]
    UnknownMode,
}

/// Reads one datagram.
///
/// Tolerant where firmware is: option names and modes in any case, NULs as
/// padding before, between and after options, a last value without its NUL,
/// options that are unknown or have no usable value.
///
/// # Errors
///
/// The reason why this is no TFTP packet, or asks for what cannot be a file.
pub fn parse(datagram: &[u8]) -> Result<Packet, Malformed> {
    let Some((opcode, body)) = datagram.split_first_chunk::<2>() else {
        return Err(Malformed::NoOpcode { length: datagram.len() });
    };
    match u16::from_be_bytes(*opcode) {
        1 => Ok(Packet::Read(request(body)?)),
        2 => Ok(Packet::Write(request(body)?)),
        3 => {
            let (block, payload) = number_and_rest(body).ok_or(Malformed::NoBlock)?;
            let payload = Bytes::copy_from_slice(payload);
            Ok(Packet::Data { block, payload })
        }
        4 => {
            let (block, _padding) = number_and_rest(body).ok_or(Malformed::NoBlock)?;
            Ok(Packet::Acknowledge { block })
        }
        5 => {
            let (code, text) = number_and_rest(body).ok_or(Malformed::NoErrorCode)?;
            let message = message(text);
            Ok(Packet::Error { code, message })
        }
        6 => Ok(Packet::OptionAcknowledge(options(body))),
        opcode => Err(Malformed::UnknownOpcode { opcode }),
    }
}

fn request(body: &[u8]) -> Result<Request, Malformed> {
    let (name, body) = terminated(body).ok_or(Malformed::NameUnterminated)?;
    let (mode, body) = terminated(body).ok_or(Malformed::ModeUnterminated)?;
    Ok(Request {
        file: FileName::normalise(name)?,
        mode: mode_named(mode)?,
        options: options(body),
    })
}

fn mode_named(name: &[u8]) -> Result<Mode, Malformed> {
    // RFC 1350 §5: "in any combination of upper and lower case".
    match name.to_ascii_lowercase().as_slice() {
        b"octet" => Ok(Mode::Octet),
        b"netascii" => Ok(Mode::Netascii),
        b"mail" => Err(Malformed::Mail),
        _unnamed => Err(Malformed::UnknownMode),
    }
}

fn options(mut body: &[u8]) -> Options {
    let mut options = Options::default();
    while let Some((name, after_name)) = terminated(body) {
        if name.is_empty() {
            // Padding. One NUL at a time, so that what follows stays in step.
            body = after_name;
            continue;
        }
        let (value, after_value) = terminated(after_name).unwrap_or((after_name, &[]));
        options.hear(name, value);
        body = after_value;
    }
    options
}

impl Options {
    /// Takes one option, if it is known, new and in range.
    ///
    /// RFC 2347 leaves it to the option whether an invalid value is omitted from
    /// the OACK or answered by ERROR 8, and none of RFC 2348, 2349 and 7440 asks
    /// for the ERROR: so it is omitted, and the boot goes on with the default.
    /// A blksize or windowsize above the range is brought down to it, since both
    /// RFC 2348 and RFC 7440 let a server agree to less than was asked. A timeout
    /// must be agreed as asked (RFC 2349) or not at all.
    fn hear(&mut self, name: &[u8], value: &[u8]) {
        // RFC 2347: names are not case sensitive, and an option comes only once;
        // should it come twice, the first usable one counts.
        match name.to_ascii_lowercase().as_slice() {
            b"blksize" => {
                let asked = number(value).filter(|asked| *asked >= u64::from(SMALLEST_BLOCK));
                let block_size = asked.map(|asked| {
                    u16::try_from(asked).map_or(LARGEST_BLOCK, |asked| asked.min(LARGEST_BLOCK))
                });
                self.block_size = self.block_size.or(block_size);
            }
            b"timeout" => {
                let asked = number(value).filter(|asked| *asked >= 1);
                let timeout = asked.and_then(|asked| u8::try_from(asked).ok());
                self.timeout = self.timeout.or(timeout);
            }
            // The value in a read means nothing but "tell me" (RFC 2349 says 0),
            // and UEFI gives up without an answer: any value will do.
            b"tsize" => self.size = self.size.or(Some(number(value).unwrap_or(0))),
            b"windowsize" => {
                let asked = number(value).filter(|asked| *asked >= 1);
                let window = asked.map(|asked| u16::try_from(asked).unwrap_or(u16::MAX));
                self.window = self.window.or(window);
            }
            _unknown => {}
        }
    }
}

/// A decimal number of ASCII digits; one too large for `u64` is its maximum.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = std::str::from_utf8(text).ok()?;
    Some(digits.parse().unwrap_or(u64::MAX))
}

fn message(text: &[u8]) -> String {
    let text = terminated(text).map_or(text, |(text, _padding)| text);
    let text = String::from_utf8_lossy(text);
    let shown = text.chars().filter(|character| !character.is_control());
    shown.take(LONGEST_MESSAGE).collect()
}

fn number_and_rest(body: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = body.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*number), rest))
}

/// What stands before the first NUL, and what after it.
fn terminated(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = body.iter().position(|octet| *octet == 0)?;
    Some((&body[..end], &body[end + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_three_octets_of_a_cut_error_do_not_crash() {
        assert_eq!(parse(b"\x00\x05\x00"), Err(Malformed::NoErrorCode));
    }

    #[test]
    fn the_three_octets_of_a_cut_data_do_not_crash() {
        assert_eq!(parse(b"\x00\x03\x00"), Err(Malformed::NoBlock));
    }

    #[test]
    fn cut_packets_are_malformed() {
        check(b"", Err(Malformed::NoOpcode { length: 0 }));
        check(b"\x00", Err(Malformed::NoOpcode { length: 1 }));
        check(b"\x00\x01", Err(Malformed::NameUnterminated));
        check(b"\x00\x01file", Err(Malformed::NameUnterminated));
        check(b"\x00\x01file\x00octet", Err(Malformed::ModeUnterminated));
        check(b"\x00\x04\x00", Err(Malformed::NoBlock));
        check(b"\x00\x05", Err(Malformed::NoErrorCode));
        check(b"\x00\x00", Err(Malformed::UnknownOpcode { opcode: 0 }));
        check(b"\x00\x07", Err(Malformed::UnknownOpcode { opcode: 7 }));
        check(b"\x01\x01", Err(Malformed::UnknownOpcode { opcode: 257 }));
    }

    #[test]
    fn names_are_normalised_or_refused() {
        name(b"\\boot\\x.efi", Ok("boot/x.efi"));
        name(b"//boot///./x.efi", Ok("boot/x.efi"));
        name(b"boot/Fedora 40..iso", Ok("boot/Fedora 40..iso"));
        name("größe".as_bytes(), Ok("größe"));
        name(b"", Err(Malformed::NameEmpty));
        name(b"/./\\", Err(Malformed::NameEmpty));
        name(b"../etc/passwd", Err(Malformed::NameClimbs));
        name(b"boot\\..\\x", Err(Malformed::NameClimbs));
        name(b"boot/..", Err(Malformed::NameClimbs));
        name(b"boot\xff", Err(Malformed::NameNotUtf8));
        name(b"boot\nx", Err(Malformed::NameHasControl));
        name(b"boot\x7fx", Err(Malformed::NameHasControl));
        assert_eq!(FileName::normalise(b"a\0b"), Err(Malformed::NameHasControl));
    }

    #[test]
    fn modes_are_known_in_any_case() {
        mode(b"octet", Ok(Mode::Octet));
        mode(b"OcTeT", Ok(Mode::Octet));
        mode(b"NETASCII", Ok(Mode::Netascii));
        mode(b"mail", Err(Malformed::Mail));
        mode(b"binary", Err(Malformed::UnknownMode));
        mode(b"", Err(Malformed::UnknownMode));
    }

    /// `octet tsize=0 blksize=1468 windowsize=4` is what EDK2 2022.11 sends.
    #[test]
    fn options_are_read_as_firmware_writes_them() {
        let edk2 =
            Options { block_size: Some(1468), size: Some(0), window: Some(4), timeout: None };
        asked(b"tsize\x000\x00blksize\x001468\x00windowsize\x004\x00", edk2);
        asked(b"TSIZE\x000\x00BlkSize\x001468\x00WindowSize\x004\x00", edk2);
        asked(b"tsize\x000\x00blksize\x001468\x00windowsize\x004\x00\x00", edk2);
        asked(b"\x00tsize\x000\x00blksize\x001468\x00windowsize\x004", edk2);
        asked(
            b"tsize\x000\x00\x00\x00blksize\x001468\x00utimeout\x009\x00windowsize\x004\x00\x00\x00\x00",
            edk2,
        );
        asked(b"tsize\x00\x00blksize\x001468\x00blksize\x00512\x00windowsize\x004\x00rest", edk2);
        asked(b"", Options::default());
        asked(b"\x00", Options::default());
        asked(b"blksize\x00", Options::default());
    }

    #[test]
    fn values_out_of_range_are_left_out_or_brought_down() {
        let block_size = |block_size| Options { block_size, ..Options::default() };
        asked(b"blksize\x007\x00", block_size(None));
        asked(b"blksize\x008\x00", block_size(Some(8)));
        asked(b"blksize\x0065465\x00", block_size(Some(65464)));
        asked(b"blksize\x0070000\x00", block_size(Some(65464)));
        asked(b"blksize\x00+512\x00", block_size(None));
        asked(b"blksize\x0099999999999999999999999\x00", block_size(Some(65464)));
        let window = |window| Options { window, ..Options::default() };
        asked(b"windowsize\x000\x00", window(None));
        asked(b"windowsize\x0065536\x00", window(Some(65535)));
        let timeout = |timeout| Options { timeout, ..Options::default() };
        asked(b"timeout\x000\x00", timeout(None));
        asked(b"timeout\x00255\x00", timeout(Some(255)));
        asked(b"timeout\x00256\x00", timeout(None));
    }

    #[test]
    fn an_errors_text_is_fit_to_be_shown() {
        let error = |message: &str| Ok(Packet::Error { code: 8, message: message.to_owned() });
        check(b"\x00\x05\x00\x08User aborted the transfer\x00", error("User aborted the transfer"));
        check(b"\x00\x05\x00\x08", error(""));
        check(b"\x00\x05\x00\x08a\x1b[2Jb\r\n", error("a[2Jb"));
        let mut long = b"\x00\x05\x00\x08".to_vec();
        long.resize(60_000, b'x');
        check(&long, error(&"x".repeat(LONGEST_MESSAGE)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(datagram in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _packet = parse(&datagram);
        }

        #[test]
        fn arbitrary_bodies_of_known_opcodes_never_panic(
            opcode in 0_u8..8,
            body in proptest::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..200),
        ) {
            let mut datagram = vec![0, opcode];
            datagram.extend(body);
            let _packet = parse(&datagram);
        }

        #[test]
        fn mutated_requests_never_panic_and_never_climb(
            at in 0_usize..80, octet in any::<u8>(), cut in 0_usize..80,
        ) {
            let mut datagram =
                b"\x00\x01/boot/..x/y.efi\x00octet\x00tsize\x000\x00blksize\x001468\x00windowsize\x004\x00"
                    .to_vec();
            let at = at % datagram.len();
            datagram[at] = octet;
            datagram.truncate(cut.max(2));
            if let Ok(Packet::Read(request)) = parse(&datagram) {
                prop_assert!(!request.file.as_str().starts_with('/'));
                prop_assert!(request.file.as_str().split('/').all(|part| part != ".." && !part.is_empty()));
            }
        }
    }

    fn check(datagram: &[u8], expected: Result<Packet, Malformed>) {
        assert_eq!(parse(datagram), expected, "{}", datagram.escape_ascii());
    }

    fn name(sent: &[u8], expected: Result<&str, Malformed>) {
        let datagram = [b"\x00\x01", sent, b"\x00octet\x00"].concat();
        let file = parse(&datagram).map(|packet| read(packet).file.as_str().to_owned());
        assert_eq!(file, expected.map(str::to_owned), "{}", sent.escape_ascii());
    }

    fn mode(sent: &[u8], expected: Result<Mode, Malformed>) {
        let datagram = [b"\x00\x01file\x00", sent, b"\x00"].concat();
        let mode = parse(&datagram).map(|packet| read(packet).mode);
        assert_eq!(mode, expected, "{}", sent.escape_ascii());
    }

    fn asked(sent: &[u8], expected: Options) {
        let datagram = [b"\x00\x01file\x00octet\x00", sent].concat();
        let options = parse(&datagram).map(|packet| read(packet).options);
        assert_eq!(options, Ok(expected), "{}", sent.escape_ascii());
    }

    fn read(packet: Packet) -> Request {
        match packet {
            Packet::Read(request) => request,
            other => panic!("not a read: {other:?}"),
        }
    }
}
