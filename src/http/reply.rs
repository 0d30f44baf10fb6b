//! An answer as HTTP says it: status, headers, body (RFC 9110). Pure.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::{
    Refusal,
    range::{Conditions, Facts, Selection},
};

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

/// Of a script.
#[must_use]
pub fn script(text: String) -> Reply {
    // A script is true for this moment only: the machine may be provisioned next.
    let headers = vec![("cache-control", "no-store".to_owned())];
    with_bytes(200, ("text/plain; charset=utf-8", headers), Bytes::from(text))
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
        Refusal::Method => vec![("allow", "GET, HEAD".to_owned())],
        // iPXE itself comes again after this time (RFC 9110 §10.2.3).
        Refusal::Checking | Refusal::Crowded | Refusal::Stopping => {
            vec![("retry-after", "1".to_owned())]
        }
        Refusal::Malformed(_)
        | Refusal::HeadTooLarge
        | Refusal::Body
        | Refusal::Path
        | Refusal::NotFound
        | Refusal::Imposter(_)
        | Refusal::Checksum
        | Refusal::FileMissing
        | Refusal::FileUnreadable => Vec::new(),
    };
    let text = Bytes::from(format!("{refusal}\n"));
    with_bytes(refusal.status(), ("text/plain; charset=utf-8", headers), text)
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
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // Later than the year 9999 there is no HTTP date.
    let seconds = seconds.min(253_402_300_799);
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let weekday = WEEKDAYS[usize::try_from(days % 7).unwrap_or_default()];
    let (year, month, day) = civil(days);
    let month = MONTHS[usize::try_from(month).unwrap_or_default()];
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// The year, the month (January is 0) and the day of this day since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years that begin in March have their leap day last, and 400 of them have
    // 146,097 days, beginning 719,468 days before 1970.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    (era * 400 + year_of_era + u64::from(month < 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        let reply = refusal(&Refusal::Method);
        assert_eq!((reply.status, header(&reply, "allow").as_deref()), (405, Some("GET, HEAD")));
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
    }
}
