//! The head of a request: bytes to method, target and headers, by `httparse`.
//!
//! Checks what HTTP/1.x itself asks (RFC 9112); knows no path of ours. Pure.

use super::Refusal;

/// The largest head that is read, in bytes.
pub const LARGEST: usize = 16 << 10;

/// The most headers that a request may have.
const MOST_HEADERS: usize = 64;

/// The head of a well-formed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The method, in any spelling that is a token.
    pub method: String,
    /// The target as sent, in origin or absolute form (RFC 9112 §3.2).
    pub target: String,
    /// The version of HTTP/1.
    pub version: Version,
    /// Whether the client wants to send more requests (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// How much follows.
    pub body: Length,
    /// The header fields in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// How long the body of a request is (RFC 9112 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many bytes, also none; more than fit count as the largest number.
    Bytes(u64),
    /// It is sent in pieces, to an end that is not known.
    Unknown,
}

/// The version of HTTP/1 that the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0, as some firmware does.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Head {
    /// The head at the start of `bytes` and its length; nothing if its end has
    /// not come yet.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if this cannot become a request that is answered; the
    /// connection is of no more use then.
    pub fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, Refusal> {
        let mut fields = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Request::new(&mut fields);
        let length = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() < LARGEST => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(Refusal::HeadTooLarge);
            }
            Err(error) => return Err(Refusal::Malformed(error.to_string())),
        };
        if length > LARGEST {
            return Err(Refusal::HeadTooLarge);
        }
        let version = match parsed.version {
            Some(0) => Version::Http10,
            Some(_) | None => Version::Http11,
        };
        let mut head = Self {
            method: parsed.method.unwrap_or_default().to_owned(),
            target: parsed.path.unwrap_or_default().to_owned(),
            version,
            keep_alive: false,
            body: Length::Bytes(0),
            headers: parsed
                .headers
                .iter()
                .map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()))
                .collect(),
        };
        head.body = head.length_of_body()?;
        // RFC 9112 §3.2: several are an error; firmware that sends none is not.
        if head.values("host").count() > 1 {
            return Err(Refusal::Malformed("several Host headers".to_owned()));
        }
        head.keep_alive = head.wants_more();
        Ok(Some((head, length)))
    }

    /// The values of this header (name in small letters), in order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| &value[..])
    }

    /// Whether the client waits for a word before it sends its body (RFC 9110
    /// §10.1.1). Of HTTP/1.0 the header means nothing.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        let is_said = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
        self.version == Version::Http11 && self.values("expect").any(is_said)
    }

    /// Whether the body is called what a browser makes of a form (URL standard,
    /// §5): curl, wget and cloud-init call it so.
    #[must_use]
    pub fn has_form(&self) -> bool {
        let is_it = |value: &[u8]| {
            let kind = value.split(|byte| *byte == b';').next().unwrap_or_default();
            kind.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
        };
        self.values("content-type").any(is_it)
    }

    /// RFC 9112 §6: a body is announced by either of two headers.
    fn length_of_body(&self) -> Result<Length, Refusal> {
        if self.values("transfer-encoding").next().is_some() {
            return Ok(Length::Unknown);
        }
        let mut lengths = self.values("content-length");
        match (lengths.next(), lengths.next()) {
            (None, None) => Ok(Length::Bytes(0)),
            (Some(length), None) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
                let digits = std::str::from_utf8(length).unwrap_or_default();
                Ok(Length::Bytes(digits.parse().unwrap_or(u64::MAX)))
            }
            (Some(_), Some(_) | None) | (None, Some(_)) => {
                Err(Refusal::Malformed("unreadable Content-Length".to_owned()))
            }
        }
    }

    fn wants_more(&self) -> bool {
        let says = |wanted: &str| {
            self.values("connection")
                .filter_map(|value| std::str::from_utf8(value).ok())
                .flat_map(|value| value.split(','))
                .any(|option| option.trim().eq_ignore_ascii_case(wanted))
        };
        match self.version {
            Version::Http10 => says("keep-alive") && !says("close"),
            Version::Http11 => !says("close"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str = "GET /infrakit.ipxe HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: keep-alive\r\n\
                         User-Agent: iPXE/1.0.0\r\nRange: bytes=0-9\r\n\r\n";

    fn read(text: &str) -> Result<Option<(Head, usize)>, Refusal> {
        Head::read(text.as_bytes())
    }

    fn whole(text: &str) -> Head {
        read(text).expect(text).expect("the whole head").0
    }

    #[test]
    fn a_head_is_whole_only_with_its_last_byte() {
        for length in 0..PLAIN.len() {
            assert_eq!(read(&PLAIN[..length]), Ok(None), "{length}");
        }
        let twice = format!("{PLAIN}{PLAIN}");
        let (head, length) = read(&twice).expect("well-formed").expect("whole");
        assert_eq!((length, head.target.as_str()), (PLAIN.len(), "/infrakit.ipxe"));
    }

    #[test]
    fn connections_stay_open_by_default_in_http11_and_on_request_in_http10() {
        for (request, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nConnection: TE, Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
            ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false),
        ] {
            assert_eq!(whole(request).keep_alive, expected, "{request}");
        }
    }

    #[test]
    fn how_long_the_body_is_is_known_before_it_is_read_or_the_request_is_malformed() {
        let unreadable = || Err(Refusal::Malformed("unreadable Content-Length".to_owned()));
        for (header, expected) in [
            ("Host: x", Ok(Length::Bytes(0))),
            ("Content-Length: 0", Ok(Length::Bytes(0))),
            ("Content-Length: 0012", Ok(Length::Bytes(12))),
            ("Content-Length: 99999999999999999999999", Ok(Length::Bytes(u64::MAX))),
            ("Transfer-Encoding: chunked", Ok(Length::Unknown)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 3", Ok(Length::Unknown)),
            ("Content-Length: x", unreadable()),
            ("Content-Length: -1", unreadable()),
            ("Content-Length: ", unreadable()),
            ("Content-Length: 0\r\nContent-Length: 7", unreadable()),
            ("Content-Length: 7\r\nContent-Length: 7", unreadable()),
        ] {
            let found = read(&format!("POST / HTTP/1.1\r\n{header}\r\n\r\n"));
            let found = found.map(|read| read.expect("the whole head").0.body);
            assert_eq!(found, expected, "{header}");
        }
    }

    #[test]
    fn a_client_that_waits_for_a_word_is_known() {
        for (request, expected) in [
            ("POST / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nExpect: 100-Continue\r\n\r\n", true),
            ("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nExpect: tea\r\n\r\n", false),
            ("POST / HTTP/1.1\r\n\r\n", false),
        ] {
            assert_eq!(whole(request).expects_continue(), expected, "{request}");
        }
    }

    #[test]
    fn a_form_is_known_by_its_type_whatever_its_parameters() {
        for (value, expected) in [
            ("application/x-www-form-urlencoded", true),
            ("Application/X-WWW-Form-URLEncoded ; charset=utf-8", true),
            ("text/plain", false),
            ("application/x-www-form-urlencodedx", false),
        ] {
            let request = format!("POST / HTTP/1.1\r\nContent-Type: {value}\r\n\r\n");
            assert_eq!(whole(&request).has_form(), expected, "{value}");
        }
    }

    #[test]
    fn other_versions_and_garbage_are_malformed() {
        for text in [
            "GET /\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET / HTTP/3.0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\n folded: x\r\n\r\n",
            "\x16\x03\x01\x02\x00\x01",
        ] {
            assert!(matches!(read(text), Err(Refusal::Malformed(_))), "{text:?}");
        }
    }

    #[test]
    fn a_head_that_does_not_end_is_too_large() {
        let endless = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(LARGEST));
        assert_eq!(read(&endless), Err(Refusal::HeadTooLarge));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MOST_HEADERS + 1));
        assert_eq!(read(&many), Err(Refusal::HeadTooLarge));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Head::read(&bytes);
        }

        #[test]
        fn no_mutated_request_panics(place in 0..PLAIN.len(), byte: u8, cut in 0..PLAIN.len()) {
            let mut bytes = PLAIN.as_bytes().to_vec();
            bytes[place] = byte;
            let _ = Head::read(&bytes);
            bytes.truncate(cut);
            if let Ok(Some((_, length))) = Head::read(&bytes) {
                prop_assert!(length <= cut);
            }
        }
    }
}
