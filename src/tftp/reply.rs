//! Turns what we say into bytes: OACK, DATA and ERROR.
//!
//! It must not know why anything is said: `answer` and `transfer` decide that.

use bytes::{BufMut, Bytes};

use super::request::Options;

/// What a server says in answer to a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// OACK (RFC 2347): the options that were agreed, and no others.
    Options(Options),
    /// DATA (RFC 1350 §5).
    Data {
        /// The block's number on the wire; it rolls over from 65535 to 0.
        block: u16,
        /// The block's content; shorter than the block size in the last one.
        payload: Bytes,
    },
    /// ERROR (RFC 1350 §5): ends the transfer, and is never repeated.
    Error {
        /// What kind of error.
        code: ErrorCode,
        /// Words for a person at the machine's screen.
        message: String,
    },
}

/// The error codes of RFC 1350 §5 and RFC 2347.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// 0: see the message.
    NotDefined,
    /// 1: there is no such file.
    FileNotFound,
    /// 2: the file is not for this client, or not to be written.
    AccessViolation,
    /// 3: the disk is full, or the quota used up.
    DiskFull,
    /// 4: the packet is no TFTP, or not allowed here.
    IllegalOperation,
    /// 5: no transfer has this pair of ports.
    UnknownTransfer,
    /// 6: the file exists already.
    FileExists,
    /// 7: there is no such user.
    NoSuchUser,
    /// 8: the options cannot be agreed (RFC 2347).
    OptionsRefused,
}

impl ErrorCode {
    /// The code on the wire, 0 to 8.
    pub fn number(self) -> u16 {
        match self {
            Self::NotDefined => 0,
            Self::FileNotFound => 1,
            Self::AccessViolation => 2,
            Self::DiskFull => 3,
            Self::IllegalOperation => 4,
            Self::UnknownTransfer => 5,
            Self::FileExists => 6,
            Self::NoSuchUser => 7,
            Self::OptionsRefused => 8,
        }
    }
}

impl Reply {
    /// Appends the packet's octets to `datagram`.
    pub fn encode(&self, datagram: &mut Vec<u8>) {
        match self {
            Self::Options(agreed) => {
                datagram.put_u16(6);
                encode_options(agreed, datagram);
            }
            Self::Data { block, payload } => {
                datagram.put_slice(&data_header(*block));
                datagram.put_slice(payload);
            }
            Self::Error { code, message } => {
                datagram.put_u16(5);
                datagram.put_u16(code.number());
                // A NUL would end the text early.
                datagram.extend(message.bytes().filter(|octet| *octet != 0));
                datagram.put_u8(0);
            }
        }
    }
}

/// What a DATA packet begins with: opcode and block (RFC 1350 §5).
#[must_use]
pub const fn data_header(block: u16) -> [u8; 4] {
    let [high, low] = block.to_be_bytes();
    [0, 3, high, low]
}

/// Writes the options that are there as name and decimal value, each with a NUL
/// (RFC 2347).
pub fn encode_options(options: &Options, datagram: &mut Vec<u8>) {
    let values = [
        ("tsize", options.size),
        ("blksize", options.block_size.map(u64::from)),
        ("timeout", options.timeout.map(u64::from)),
        ("windowsize", options.window.map(u64::from)),
    ];
    for (name, value) in values {
        let Some(value) = value else { continue };
        datagram.put_slice(name.as_bytes());
        datagram.put_u8(0);
        datagram.put_slice(value.to_string().as_bytes());
        datagram.put_u8(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::request::{Packet, parse};
    use super::*;

    #[test]
    fn an_oack_has_what_was_agreed_and_nothing_else() {
        let agreed =
            Options { block_size: Some(1468), size: Some(81_920), window: Some(4), timeout: None };
        check(
            Reply::Options(agreed),
            b"\x00\x06tsize\x0081920\x00blksize\x001468\x00windowsize\x004\x00",
        );
        let only_timeout = Options { timeout: Some(3), ..Options::default() };
        check(Reply::Options(only_timeout), b"\x00\x06timeout\x003\x00");
    }

    #[test]
    fn blocks_and_errors_are_those_of_rfc_1350() {
        let data = Reply::Data { block: 258, payload: Bytes::from_static(b"ab") };
        check(data, b"\x00\x03\x01\x02ab");
        let error = Reply::Error { code: ErrorCode::FileNotFound, message: "no\0pe".to_owned() };
        check(error, b"\x00\x05\x00\x01nope\x00");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(reply in replies()) {
            let mut datagram = Vec::new();
            reply.encode(&mut datagram);
            let expected = match reply {
                Reply::Options(agreed) => Packet::OptionAcknowledge(agreed),
                Reply::Data { block, payload } => Packet::Data { block, payload },
                Reply::Error { code, message } => Packet::Error { code: code.number(), message },
            };
            prop_assert_eq!(parse(&datagram), Ok(expected));
        }
    }

    fn replies() -> impl Strategy<Value = Reply> {
        use proptest::option::of;
        let options = (of(8_u16..=65464), of(1_u8..), of(any::<u64>()), of(1_u16..));
        let options = options.prop_map(|(block_size, timeout, size, window)| {
            Reply::Options(Options { block_size, timeout, size, window })
        });
        let payload = proptest::collection::vec(any::<u8>(), 0..1500);
        let data = (any::<u16>(), payload)
            .prop_map(|(block, payload)| Reply::Data { block, payload: payload.into() });
        let error = (codes(), "[^\\p{Cc}]{0,150}");
        let error = error.prop_map(|(code, message)| Reply::Error { code, message });
        prop_oneof![options, data, error]
    }

    fn codes() -> impl Strategy<Value = ErrorCode> {
        prop_oneof![
            Just(ErrorCode::NotDefined),
            Just(ErrorCode::FileNotFound),
            Just(ErrorCode::AccessViolation),
            Just(ErrorCode::DiskFull),
            Just(ErrorCode::IllegalOperation),
            Just(ErrorCode::UnknownTransfer),
            Just(ErrorCode::FileExists),
            Just(ErrorCode::NoSuchUser),
            Just(ErrorCode::OptionsRefused),
        ]
    }

    fn check(reply: Reply, expected: &[u8]) {
        let mut datagram = Vec::new();
        reply.encode(&mut datagram);
        assert_eq!(datagram.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}
