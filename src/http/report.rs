//! What a machine reports, from the end of the path, the query and the body.
//!
//! Reports come from a line of shell in an image, often from a system that is in
//! trouble: whatever can be understood is. Pure.

use form_urlencoded::parse;

use super::Refusal;
use crate::boot::report::{Failure, Report};

/// What a request says behind its path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Behind the question mark; empty if there is none.
    pub query: String,
    /// The body of a POST.
    pub body: Vec<u8>,
    /// Whether the body is called a form (`application/x-www-form-urlencoded`).
    pub is_form: bool,
}

/// The last parts of the paths to which a report may be posted.
pub(super) const NAMES: [&str; 3] = ["ready", "failed", "drained"];

/// The report of this name; nothing if there is none.
pub(super) fn read(name: &str, message: &Message) -> Result<Option<Report>, Refusal> {
    Ok(Some(match name {
        "ready" => {
            let stop = field(message.query.as_bytes(), "drain").or_else(|| message.field("drain"));
            Report::Ready(stop.map(|stop| stop.parse()).transpose()?)
        }
        "failed" => {
            let said = field(message.query.as_bytes(), "reason");
            Report::Failed(Failure::new(&said.unwrap_or_else(|| message.reason())))
        }
        "drained" => Report::Drained,
        _ => return Ok(None),
    }))
}

/// The first value of this field in what was written as a form is; others are of
/// other programs, and passed over.
fn field(form: &[u8], name: &str) -> Option<String> {
    parse(form).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

impl Message {
    fn field(&self, name: &str) -> Option<String> {
        self.is_form.then(|| field(&self.body, name)).flatten()
    }

    /// The reason in the body. curl and wget call every body a form, also a plain
    /// sentence: it is read as one only if a form could have been written so.
    fn reason(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        if !self.is_form {
            return text.into_owned();
        }
        let of_form = |byte: u8| byte.is_ascii_alphanumeric() || b"*-._~%+=&".contains(&byte);
        if !self.body.iter().copied().all(of_form) {
            return text.strip_prefix("reason=").unwrap_or(&text).to_owned();
        }
        let mut fields = parse(&self.body);
        match (self.field("reason"), fields.next(), fields.next()) {
            (Some(reason), ..) => reason,
            // `curl --data-urlencode "no disk"`: a value without a name.
            (None, Some((only, value)), None) if value.is_empty() => only.into_owned(),
            (None, ..) => text.into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(query: &str, body: &str, is_form: bool) -> Message {
        Message { query: query.to_owned(), body: body.as_bytes().to_vec(), is_form }
    }

    #[test]
    fn a_reason_is_understood_however_it_is_sent() {
        for (query, body, is_form, expected) in [
            ("reason=no%20disk", "", false, "no disk"),
            ("a=b&reason=no+disk&c", "", false, "no disk"),
            ("reason=100%+full", "", false, "100% full"),
            ("reason=%ff", "", false, "\u{fffd}"),
            ("reason=query", "body", false, "query"),
            // curl -d, wget --post-data: called a form, and seldom one.
            ("", "no disk: 100% full", true, "no disk: 100% full"),
            ("", "reason=no disk & no net", true, "no disk & no net"),
            ("", "reason=no disk", true, "no disk"),
            ("", "no", true, "no"),
            // curl --data-urlencode, with and without a name.
            ("", "no+disk%3A+%C3%BC", true, "no disk: ü"),
            ("", "reason=no%20disk%26more", true, "no disk&more"),
            ("", "code=5&reason=no+disk", true, "no disk"),
            ("", "code=5", true, "code=5"),
            ("", "a&b", true, "a&b"),
            // Text is text.
            ("", "no+disk%20", false, "no+disk%20"),
            ("", "", true, ""),
        ] {
            let report = read("failed", &message(query, body, is_form)).expect("always read");
            assert_eq!(report, Some(Report::Failed(Failure::new(expected))), "{query} {body}");
        }
    }

    #[test]
    fn where_to_ask_a_machine_to_stop_is_in_the_query_or_in_a_form() {
        let stop = Some(Report::Ready(Some(":8080/stop?x=1".parse().expect("a place"))));
        for (query, body, is_form) in [
            ("drain=:8080/stop?x=1", "", false),
            ("drain=%3A8080%2Fstop%3Fx%3D1", "", false),
            ("", "instance_id=x&drain=%3A8080%2Fstop%3Fx%3D1", true),
        ] {
            assert_eq!(read("ready", &message(query, body, is_form)), Ok(stop.clone()), "{query}");
        }
        let anybody = read("ready", &message("hostname=x", "drain=:80/", false));
        assert_eq!(anybody, Ok(Some(Report::Ready(None))));
        let refused = read("ready", &message("drain=host", "", false)).expect_err("no place");
        assert_eq!(refused.status(), 400);
        assert_eq!(read("steady", &message("", "", false)), Ok(None));
        for name in NAMES {
            assert!(read(name, &Message::default()).expect("read").is_some(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_message_panics(query: String, body: Vec<u8>, is_form: bool) {
            for name in NAMES {
                let message = Message { query: query.clone(), body: body.clone(), is_form };
                let _ = read(name, &message);
            }
        }

        #[test]
        fn what_a_form_says_is_what_was_meant(reason in "[^\\p{C}\\s]([^\\p{C}]*[^\\p{C}\\s])?") {
            let form: String = form_urlencoded::Serializer::new(String::new())
                .append_pair("reason", &reason)
                .finish();
            let expected = Ok(Some(Report::Failed(Failure::new(&reason))));
            prop_assert_eq!(&read("failed", &message(&form, "", false)), &expected);
            prop_assert_eq!(&read("failed", &message("", &form, true)), &expected);
        }
    }
}
