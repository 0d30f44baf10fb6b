//! An answer as HTTP says it: status, headers, body (RFC 9110). Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::{
    Refusal,
    range::{Conditions, Facts, Selection},
};
use crate::boot::{init::Document, report::Words};

/// What goes out. The length of the body is always among the headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code (RFC 9110 §15).
    pub status: u16,
    /// The header fields, names in small letters.
    pub headers: Vec<(&'static str, String)>,
    /// What follows the head of a GET.
    pub body: Body,
}

/// What follows the head of a GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// These bytes, also none.
    Bytes(Bytes),
    /// `length` bytes of the file from `first` on.
    Part {
        /// The first byte, counted from zero.
        first: u64,
        /// How many.
        length: u64,
    },
}

const TEXT: &str = "text/plain; charset=utf-8";

/// Of a script.
#[must_use]
pub fn script(text: String) -> Reply {
    momentary(200, TEXT, text)
}

/// Of one of the forms of `Init`.
#[must_use]
pub fn document(document: Document, text: String) -> Reply {
    momentary(200, document.content_type(), text)
}

/// Of a poll, or of a report that was heard: what its machine is told.
#[must_use]
pub fn told(words: Words) -> Reply {
    momentary(200, TEXT, format!("{words}\n"))
}

/// Of a report that comes after the end of its instance (RFC 9110 §15.5.11).
#[must_use]
pub fn too_late(words: Words) -> Reply {
    momentary(410, TEXT, format!("{words}\n"))
}

/// What is true for this moment only: the machine may be provisioned next, or
/// its instance destroyed.
fn momentary(status: u16, kind: &str, text: String) -> Reply {
    let headers = vec![("cache-control", "no-store".to_owned())];
    with_bytes(status, (kind, headers), Bytes::from(text))
}

/// Of a boot program.
#[must_use]
pub fn loader(program: Bytes) -> Reply {
    // UEFI HTTP Boot takes this or a name that ends in `.efi` (UEFI 2.10
    // §24.7.2.3); BIOS programs look at neither.
    let kind = if program.starts_with(b"MZ") { "application/efi" } else { OCTETS };
    with_bytes(200, (kind, Vec::new()), program)
}

/// Of a refusal: its reason as a line of text.
#[must_use]
pub fn refusal(refusal: &Refusal) -> Reply {
    let headers = match refusal {
        Refusal::Method(allowed) => vec![("allow", (*allowed).to_owned())],
        // iPXE itself comes again after this time (RFC 9110 §10.2.3).
        Refusal::Checking | Refusal::Crowded | Refusal::Stopping => {
            vec![("retry-after", "1".to_owned())]
        }
        Refusal::Malformed(_)
        | Refusal::HeadTooLarge
        | Refusal::Body
        | Refusal::BodyTooLarge(_)
        | Refusal::NoLength
        | Refusal::Path
        | Refusal::StopUrl(_)
        | Refusal::NotFound
        | Refusal::Imposter(_)
        | Refusal::Checksum
        | Refusal::FileMissing
        | Refusal::FileUnreadable => Vec::new(),
    };
    let text = Bytes::from(format!("{refusal}\n"));
    with_bytes(refusal.status(), (TEXT, headers), text)
}

/// Of what the conditions select of a file.
#[must_use]
pub fn file(facts: &Facts, conditions: &Conditions) -> Reply {
    let total = facts.length;
    let mut headers = vec![
        ("accept-ranges", "bytes".to_owned()),
        ("etag", facts.entity_tag.clone()),
        ("last-modified", facts.last_modified.clone()),
    ];
    let (status, body) = match conditions.select(facts) {
        Selection::Whole => (200, Body::Part { first: 0, length: total }),
        Selection::Part { first, length } => {
            // RFC 9110 §14.4; a part is not empty, so there is a last byte.
            let range = format!("bytes {first}-{}/{total}", first + length - 1);
            headers.push(("content-range", range));
            (206, Body::Part { first, length })
        }
        Selection::NotModified => return finished(304, headers, Body::Bytes(Bytes::new())),
        Selection::Unsatisfiable => {
            headers.push(("content-range", format!("bytes */{total}")));
            (416, Body::Bytes(Bytes::new()))
        }
    };
    headers.push(("content-type", OCTETS.to_owned()));
    finished(status, headers, body)
}

const OCTETS: &str = "application/octet-stream";

fn with_bytes(
    status: u16,
    (kind, mut headers): (&str, Vec<(&'static str, String)>),
    bytes: Bytes,
) -> Reply {
    headers.push(("content-type", kind.to_owned()));
    finished(status, headers, Body::Bytes(bytes))
}

/// A header's name as it goes out: `Content-Length`. The case means nothing (RFC 9110
/// §5.1), but GRUB knows a file's size by this spelling alone, and under Secure Boot
/// loads none without.
pub fn as_written(name: &str) -> impl Iterator<Item = u8> {
    let mut is_first = true;
    name.bytes().map(move |letter| {
        let written = if is_first { letter.to_ascii_uppercase() } else { letter };
        is_first = letter == b'-';
        written
    })
}

fn finished(status: u16, mut headers: Vec<(&'static str, String)>, body: Body) -> Reply {
    headers.push(("server", "remoteboot".to_owned()));
    // A 304 has no length but that of the file it stands for (RFC 9110 §8.6).
    if status != 304 {
        let length = match &body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Part { length, .. } => *length,
        };
        headers.push(("content-length", length.to_string()));
    }
    Reply { status, headers, body }
}

/// The moment as an HTTP date (RFC 9110 §5.6.7); 1970 if it was before.
#[must_use]
pub fn http_date(moment: SystemTime) -> String {
    // Of other moments there is no HTTP date, and the library panics on them.
    let latest = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    httpdate::fmt_http_date(moment.clamp(UNIX_EPOCH, latest))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_of_headers_go_out_as_grub_knows_them() {
        for (name, written) in [
            ("content-length", "Content-Length"),
            ("etag", "Etag"),
            ("accept-ranges", "Accept-Ranges"),
        ] {
            assert!(super::as_written(name).eq(written.bytes()), "{name}");
        }
    }

    use super::*;

    fn facts() -> Facts {
        Facts { length: 10, entity_tag: "\"a\"".to_owned(), last_modified: "then".to_owned() }
    }

    fn header(reply: &Reply, name: &str) -> Option<String> {
        reply.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    fn asked(range: &str) -> Reply {
        file(&facts(), &Conditions { range: Some(range.to_owned()), ..Conditions::default() })
    }

    #[test]
    fn a_part_names_its_place_in_the_whole() {
        let reply = asked("bytes=5-100");
        assert_eq!((reply.status, reply.body.clone()), (206, Body::Part { first: 5, length: 5 }));
        assert_eq!(header(&reply, "content-range").as_deref(), Some("bytes 5-9/10"));
        assert_eq!(header(&reply, "content-length").as_deref(), Some("5"));
    }

    #[test]
    fn a_range_behind_the_end_is_told_the_length() {
        let reply = asked("bytes=10-");
        assert_eq!((reply.status, reply.body.clone()), (416, Body::Bytes(Bytes::new())));
        assert_eq!(header(&reply, "content-range").as_deref(), Some("bytes */10"));
        assert_eq!(header(&reply, "content-length").as_deref(), Some("0"));
    }

    #[test]
    fn what_was_not_modified_has_its_tag_and_no_body() {
        let conditions =
            Conditions { if_none_match: Some("\"a\"".to_owned()), ..Conditions::default() };
        let reply = file(&facts(), &conditions);
        assert_eq!((reply.status, reply.body.clone()), (304, Body::Bytes(Bytes::new())));
        assert_eq!(header(&reply, "etag").as_deref(), Some("\"a\""));
        assert_eq!(header(&reply, "content-length"), None);
    }

    #[test]
    fn a_refusal_says_what_the_client_can_do() {
        let reply = refusal(&Refusal::Method("GET"));
        assert_eq!((reply.status, header(&reply, "allow").as_deref()), (405, Some("GET")));
        let reply = refusal(&Refusal::Checking);
        assert_eq!((reply.status, header(&reply, "retry-after").as_deref()), (503, Some("1")));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // The second is RFC 9110's own example; the others are `date -u -d @N`.
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (1_767_225_599, "Wed, 31 Dec 2025 23:59:59 GMT"),
        ] {
            let moment = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(http_date(moment), expected);
        }
        for (moment, expected) in [
            (UNIX_EPOCH - Duration::from_secs(1), "Thu, 01 Jan 1970 00:00:00 GMT"),
            (UNIX_EPOCH + Duration::from_secs(1 << 40), "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(http_date(moment), expected);
        }
    }
}
