//! What a packet to the server's own port is worth: a read, a refusal or
//! silence.
//!
//! Pure. It must not know sockets, nor how a transfer goes on.

use bytes::Bytes;
use thiserror::Error;

use super::reply::{ErrorCode, Reply};
use super::request::{Malformed, Mode, Packet, Request};

/// What a client gets for its read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The whole file.
    Content(Bytes),
    /// An ERROR.
    Refuse {
        /// What kind of error.
        code: ErrorCode,
        /// Words for a person at the machine's screen.
        message: String,
    },
}

/// What is to be done with a packet that came to the server's own port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A read that can be served.
    Read(Request),
    /// This ERROR is to be sent.
    Refuse(Reply),
    /// Nothing is to be sent.
    Silence(Why),
}

/// Why a packet has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Why {
    /// It is an ERROR, and none of ours is running: an answer could go to and
    /// fro for ever.
    #[error("an ERROR outside of a transfer")]
    StrayError,
    /// It has not even an opcode.
    #[error("{length} octets hold no opcode")]
    Empty {
        /// Octets that came.
        length: usize,
    },
    /// It belongs to no transfer, and all transfers have this port: most likely one
    /// that has just ended. An ERROR would reach the client's next request.
    #[error("a word of a transfer that has ended")]
    Stray,
    /// It is no TFTP, and comes from the port of a transfer that runs.
    #[error("no word of a transfer: {0}")]
    Noise(Malformed),
    /// As many transfers run as may run in all.
    #[error("all {limit} transfers are taken")]
    AllTaken {
        /// `Limits::transfers`.
        limit: usize,
    },
    /// As many transfers run as one client may have.
    #[error("all {limit} transfers of this client are taken")]
    ClientsTaken {
        /// `Limits::transfers_per_client`.
        limit: usize,
    },
}

/// Sorts what came to the server's own port.
pub fn opening(parsed: Result<Packet, Malformed>) -> Opening {
    match parsed {
        Ok(Packet::Read(request)) => match request.mode {
            Mode::Octet => Opening::Read(request),
            // Turning line ends needs a copy of the file for each client, and no
            // firmware asks for it. Sending octets instead, as others do, damages
            // binary files silently.
            Mode::Netascii => {
                refuse(ErrorCode::NotDefined, "only mode octet (binary) is served here")
            }
        },
        Ok(Packet::Write(_)) => refuse(ErrorCode::AccessViolation, "nothing is written here"),
        // RFC 1350 §4: from a source that has no transfer with this port.
        Ok(Packet::Data { .. } | Packet::Acknowledge { .. } | Packet::OptionAcknowledge(_)) => {
            refuse(ErrorCode::UnknownTransfer, "no transfer has these ports")
        }
        Ok(Packet::Error { .. }) => Opening::Silence(Why::StrayError),
        Err(malformed) => malformed_opening(&malformed),
    }
}

fn malformed_opening(malformed: &Malformed) -> Opening {
    match malformed {
        Malformed::NoOpcode { length } => Opening::Silence(Why::Empty { length: *length }),
        Malformed::NoErrorCode => Opening::Silence(Why::StrayError),
        Malformed::NameClimbs => refuse(ErrorCode::AccessViolation, malformed),
        Malformed::UnknownOpcode { .. }
        | Malformed::NoBlock
        | Malformed::NameUnterminated
        | Malformed::ModeUnterminated
        | Malformed::NameEmpty
        | Malformed::NameNotUtf8
        | Malformed::NameHasControl
        | Malformed::Mail
        | Malformed::UnknownMode => refuse(ErrorCode::IllegalOperation, malformed),
    }
}

fn refuse(code: ErrorCode, message: impl ToString) -> Opening {
    Opening::Refuse(Reply::Error { code, message: message.to_string() })
}

#[cfg(test)]
mod tests {
    use super::super::request::parse;
    use super::*;

    #[test]
    fn a_read_in_octet_is_a_read() {
        let opening = opening(parse(b"\x00\x01/x\x00octet\x00"));
        assert!(matches!(opening, Opening::Read(request) if request.file.as_str() == "x"));
    }

    #[test]
    fn each_refusal_has_its_code() {
        refused(b"\x00\x01x\x00netascii\x00", 0);
        refused(b"\x00\x01x\x00mail\x00", 4);
        refused(b"\x00\x01x\x00binary\x00", 4);
        refused(b"\x00\x02x\x00octet\x00", 2);
        refused(b"\x00\x01../x\x00octet\x00", 2);
        refused(b"\x00\x01x", 4);
        refused(b"\x00\x01\xff\x00octet\x00", 4);
        refused(b"\x00\x09x", 4);
        refused(b"\x00\x03\x00", 4);
        refused(b"\x00\x03\x00\x01data", 5);
        refused(b"\x00\x04\x00\x01", 5);
        refused(b"\x00\x06tsize\x000\x00", 5);
    }

    #[test]
    fn an_error_is_never_answered() {
        silent(b"\x00\x05\x00\x00oh\x00", &Why::StrayError);
        silent(b"\x00\x05\x00", &Why::StrayError);
        silent(b"\x00\x05", &Why::StrayError);
        silent(b"", &Why::Empty { length: 0 });
        silent(b"\x00", &Why::Empty { length: 1 });
    }

    fn refused(datagram: &[u8], expected: u16) {
        match opening(parse(datagram)) {
            Opening::Refuse(Reply::Error { code, message }) => {
                assert_eq!(code.number(), expected, "{}", datagram.escape_ascii());
                assert!(!message.is_empty());
            }
            other => panic!("{}: {other:?}", datagram.escape_ascii()),
        }
    }

    fn silent(datagram: &[u8], expected: &Why) {
        let opening = opening(parse(datagram));
        assert_eq!(opening, Opening::Silence(expected.clone()), "{}", datagram.escape_ascii());
    }
}
