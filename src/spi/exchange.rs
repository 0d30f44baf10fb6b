//! What HTTP says around a call: which paths there are, which methods and
//! content types are taken, and how answers look. The same on both sockets.
//!
//! Pure, and as InfraKit's own server does it.

use std::borrow::Cow;

use super::info;
use crate::events::Topics;

/// The largest body that is read, in bytes.
pub(super) const LARGEST_BODY: usize = 5 << 20;

/// The type of every answer; InfraKit's servers say so of JSON, too.
pub(super) const CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// The head of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) method: &'a str,
    /// Without the query.
    pub(super) path: &'a str,
    /// What follows the question mark, if there is one.
    pub(super) query: Option<&'a str>,
    pub(super) content_type: Option<&'a str>,
    pub(super) socket: Socket,
}

/// By which of the plugin's sockets something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    Unix,
    Tcp,
}

impl Socket {
    /// Its name, as events call who came by it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Tcp => "tcp",
        }
    }
}

/// What is to be done with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Its body is a call.
    Call,
    /// Events of these topics are to be sent until somebody hangs up.
    Events(Topics),
    /// This is the answer, whatever the body is.
    Answer(Answer),
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// A header besides the type of the content.
    pub(super) header: Option<(&'static str, Cow<'static, str>)>,
    pub(super) body: Cow<'static, str>,
}

impl Answer {
    /// An answer to a call; errors have this status, too.
    pub(super) fn ok(body: String) -> Self {
        Self::of(200, body)
    }

    pub(super) fn of(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        Self { status, header: None, body: body.into() }
    }

    /// The body is larger than [`LARGEST_BODY`].
    pub(super) fn too_large() -> Self {
        Self::of(413, format!("the body is larger than {LARGEST_BODY} bytes\n"))
    }

    fn with(self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        Self { header: Some((name, value.into())), ..self }
    }
}

/// What is to be done with a request of this head.
pub(super) fn route(head: Head<'_>) -> Route {
    Route::Answer(match head.path {
        "/" => match refusal_at_root(head) {
            None => return Route::Call,
            Some(refusal) => refusal,
        },
        "/info/api.json" => Answer::of(200, info::api()),
        "/events" if head.method == "GET" => return Route::Events(topics(head.query)),
        "/events" => {
            let text = format!("GET is what reads events, and not {}\n", head.method);
            Answer::of(405, text).with("allow", "GET")
        }
        "/info/functions.json" => Answer::of(200, info::functions()),
        path if path.starts_with('/') && path.contains("//") => {
            Answer::of(301, "").with("location", single_slashes(path))
        }
        _ => Answer::of(404, "404 page not found\n").with("x-content-type-options", "nosniff"),
    })
}

/// The topics of `topic=` in the query; all if it is not there.
fn topics(query: Option<&str>) -> Topics {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let topic = pairs.into_iter().find(|(name, _)| name == "topic");
    Topics::read(&topic.map(|(_, topic)| topic).unwrap_or_default())
}

fn refusal_at_root(head: Head<'_>) -> Option<Answer> {
    if head.method != "POST" {
        let text = format!("rpc: POST method required, received {}", head.method);
        return Some(Answer::of(405, text));
    }
    let media_type = head.content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    let media_type = media_type.trim();
    let is_json = media_type.is_empty() || media_type.eq_ignore_ascii_case("application/json");
    let refusal = || Answer::of(415, format!("rpc: unrecognized Content-Type: {media_type}"));
    (!is_json).then(refusal)
}

fn single_slashes(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let end = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{end}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &str, path: &str, content_type: Option<&str>) -> u16 {
        match route(Head { method, path, query: None, content_type, socket: Socket::Unix }) {
            Route::Call => 0,
            Route::Events(_) => 1,
            Route::Answer(answer) => answer.status,
        }
    }

    #[test]
    fn a_call_is_a_post_of_json_or_of_nothing_in_particular() {
        for content_type in
            [None, Some(""), Some("application/json"), Some("Application/JSON; x=1")]
        {
            assert_eq!(status("POST", "/", content_type), 0, "{content_type:?}");
        }
        for content_type in ["text/plain", "application/json-rpc", "x"] {
            assert_eq!(status("POST", "/", Some(content_type)), 415, "{content_type}");
        }
        for method in ["GET", "PUT", "HEAD", "OPTIONS", "post"] {
            assert_eq!(status(method, "/", Some("application/json")), 405, "{method}");
        }
    }

    #[test]
    fn other_paths_are_not_there_and_two_slashes_are_one() {
        for path in ["", "*", "/rpc", "/info/", "/info", "/events/", "/Events"] {
            assert_eq!(status("POST", path, None), 404, "{path}");
        }
        for (path, location) in
            [("//", "/"), ("//info///api.json", "/info/api.json"), ("/a//", "/a/")]
        {
            let head =
                Head { method: "POST", path, query: None, content_type: None, socket: Socket::Tcp };
            let expected = Answer::of(301, "").with("location", location);
            assert_eq!(route(head), Route::Answer(expected));
        }
    }

    #[test]
    fn events_are_read_by_get_and_their_topic_is_in_the_query() {
        for (query, topics) in [
            (None, Topics::All),
            (Some(""), Topics::All),
            (Some("topic="), Topics::All),
            (Some("x=machine"), Topics::All),
            (Some("topic=machine%2F"), Topics::Below("machine/".to_owned())),
            (Some("x=1&topic=machine%2F02:00"), Topics::Exactly("machine/02:00".to_owned())),
            (Some("topic=%ff%zz"), Topics::Exactly("\u{fffd}%zz".to_owned())),
        ] {
            let head = Head {
                method: "GET",
                path: "/events",
                query,
                content_type: None,
                socket: Socket::Tcp,
            };
            assert_eq!(route(head), Route::Events(topics), "{query:?}");
        }
        for method in ["POST", "HEAD", "PUT"] {
            assert_eq!(status(method, "/events", Some("application/json")), 405, "{method}");
        }
    }

    #[test]
    fn the_documents_are_json() {
        for path in ["/info/api.json", "/info/functions.json"] {
            let Route::Answer(answer) = route(Head {
                method: "GET",
                path,
                query: None,
                content_type: None,
                socket: Socket::Tcp,
            }) else {
                panic!("{path} is no call");
            };
            assert!(serde_json::from_str::<serde_json::Value>(&answer.body).is_ok(), "{path}");
        }
    }
}
