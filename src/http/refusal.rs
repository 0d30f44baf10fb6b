//! Why a request gets nothing, and the status that says so.

use crate::boot::{Imposter, report::InvalidStopUrl};

/// Why a request gets nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// It is no request of HTTP/1.0 or HTTP/1.1.
    #[error("not a request of HTTP/1.0 or HTTP/1.1: {0}")]
    Malformed(String),
    /// The head does not end within [`super::head::LARGEST`] bytes.
    #[error("the head of the request is too large")]
    HeadTooLarge,
    /// It has a body, and nothing is taken here.
    #[error("the request has a body")]
    Body,
    /// It has a larger body than is taken here.
    #[error("the body is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// It does not say how large its body is.
    #[error("the body has no Content-Length")]
    NoLength,
    /// A method that there is not here; these there are.
    #[error("the method is none of {0}")]
    Method(&'static str),
    /// The path has a percent sign without two digits, or is no printable text.
    #[error("the path is not well encoded")]
    Path,
    /// It names no place where its machine can be asked to stop.
    #[error(transparent)]
    StopUrl(#[from] InvalidStopUrl),
    /// There is nothing of this name for anybody.
    #[error("there is nothing of this name")]
    NotFound,
    /// The visitor says to be a machine that it is not.
    #[error("refused: {0}")]
    Imposter(#[from] Imposter),
    /// The file is still being read for its checksum.
    #[error("the file is being checked, come again")]
    Checking,
    /// The file is not what its instance was provisioned with.
    #[error("the file does not have its checksum")]
    Checksum,
    /// The operator's file is not there.
    #[error("the file is missing on the server")]
    FileMissing,
    /// The operator's file cannot be read.
    #[error("the file cannot be read on the server")]
    FileUnreadable,
    /// Too many connections of one client.
    #[error("too many connections, come again")]
    Crowded,
    /// The state cannot be written down.
    #[error("the server is stopping")]
    Stopping,
}

impl Refusal {
    /// The status that says so (RFC 9110 §15.5 and §15.6, RFC 6585 §5).
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::Path | Self::StopUrl(_) => 400,
            Self::Imposter(_) => 403,
            Self::NotFound | Self::FileMissing => 404,
            Self::Method(_) => 405,
            Self::Checksum => 409,
            Self::NoLength => 411,
            Self::Body | Self::BodyTooLarge(_) => 413,
            Self::HeadTooLarge => 431,
            Self::FileUnreadable => 500,
            Self::Checking | Self::Crowded | Self::Stopping => 503,
        }
    }

    /// Whether the connection ends with it: what follows may be the rest of
    /// the request that we did not read.
    #[must_use]
    pub const fn ends_connection(&self) -> bool {
        match self {
            Self::Malformed(_)
            | Self::HeadTooLarge
            | Self::Body
            | Self::BodyTooLarge(_)
            | Self::NoLength
            | Self::Crowded
            | Self::Stopping => true,
            Self::Method(_)
            | Self::Path
            | Self::StopUrl(_)
            | Self::NotFound
            | Self::Imposter(_)
            | Self::Checking
            | Self::Checksum
            | Self::FileMissing
            | Self::FileUnreadable => false,
        }
    }
}
