//! How an answer is spoken: its head as bytes, for this client and this connection.

use warp::http::StatusCode;

use crate::http::{
    head::{Head, Version},
    reply,
};

/// Room for a head and a script behind it, so that nothing is moved.
const ROOM: usize = 3 << 10;

/// How an answer is spoken to this client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speech {
    version: Version,
    pub(super) keep_alive: bool,
    pub(super) with_body: bool,
}

impl Speech {
    /// To whom we say nothing more.
    pub(super) const LAST: Self =
        Self { version: Version::Http11, keep_alive: false, with_body: true };

    pub(super) fn of(head: &Head) -> Self {
        let Head { version, keep_alive, .. } = *head;
        Self { version, keep_alive, with_body: head.method != "HEAD" }
    }

    /// The head of the response as bytes.
    pub(super) fn head<'a>(
        self,
        status: StatusCode,
        headers: impl Iterator<Item = (&'a str, &'a [u8])>,
        ending: bool,
    ) -> Vec<u8> {
        let connection = if ending { "close" } else { "keep-alive" };
        let reason = status.canonical_reason().unwrap_or("");
        let mut head = Vec::with_capacity(ROOM);
        head.extend_from_slice(match self.version {
            Version::Http10 => b"HTTP/1.0 ",
            Version::Http11 => b"HTTP/1.1 ",
        });
        for text in [status.as_str(), " ", reason, "\r\n"] {
            head.extend_from_slice(text.as_bytes());
        }
        for (name, value) in headers {
            head.extend(reply::as_written(name));
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        for text in ["Connection: ", connection, "\r\n\r\n"] {
            head.extend_from_slice(text.as_bytes());
        }
        head
    }
}
