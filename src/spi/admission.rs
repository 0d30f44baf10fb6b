//! Who may call over TCP. Pure.
//!
//! A browser on the same host can be made to send requests to a loopback
//! address by any page it shows: hence the looks at `Host` and `Origin`.
//! InfraKit's client can send no header of ours, so the token may also be the
//! first part of the path, which `NAME.listen` then names.

use std::net::IpAddr;

use super::exchange::Answer;

/// What a client must know on TCP; not shown by debug.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// The text cannot be a token.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a token has 16 to 256 letters, digits, hyphens and underscores")]
pub struct InvalidSecret;

impl std::str::FromStr for Secret {
    type Err = InvalidSecret;

    /// Only what is the same in a header and in a path.
    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if !(16..=256).contains(&text.len()) || !text.bytes().all(is_plain) {
            return Err(InvalidSecret);
        }
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

impl Secret {
    /// The path under which the server is found by who knows the token.
    pub(super) fn path(&self) -> String {
        format!("/{}", self.0)
    }

    /// Whether the text is the token; takes as long for any text of its length.
    fn is(&self, text: &str) -> bool {
        let differing = |(a, b): (u8, u8)| a ^ b;
        self.0.len() == text.len()
            && self.0.bytes().zip(text.bytes()).map(differing).fold(0, |all, one| all | one) == 0
    }
}

/// The headers that decide.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Headers<'a> {
    pub(super) host: Option<&'a str>,
    pub(super) origin: Option<&'a str>,
    pub(super) authorization: Option<&'a str>,
}

/// The path without the token, or why the client is turned away.
pub(super) fn admit<'a>(
    headers: Headers<'_>,
    path: &'a str,
    token: Option<&Secret>,
) -> Result<&'a str, Answer> {
    let host = headers.host.unwrap_or_default();
    if !is_literal(host) {
        let text = format!("the host `{}` is not served here\n", host.escape_debug());
        return Err(Answer::of(403, text));
    }
    if let Some(origin) = headers.origin
        && origin.strip_prefix("http://") != Some(host)
    {
        let text = format!("pages of {} may not call this\n", origin.escape_debug());
        return Err(Answer::of(403, text));
    }
    let Some(token) = token else { return Ok(path) };
    let (first, rest) = match path.strip_prefix('/').map(|path| path.split_once('/')) {
        Some(Some((first, _))) => (first, &path[1 + first.len()..]),
        Some(None) => (&path[1..], "/"),
        None => ("", path),
    };
    if token.is(first) {
        return Ok(rest);
    }
    let bearer = headers.authorization.and_then(|value| value.split_once(' '));
    match bearer {
        Some((scheme, text)) if scheme.eq_ignore_ascii_case("bearer") && token.is(text.trim()) => {
            Ok(path)
        }
        Some(_) | None => Err(Answer::of(401, "a token is required\n")),
    }
}

/// Whether the host is an address or `localhost`: a name may have been made to
/// mean this host by somebody else, an address can't be.
fn is_literal(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        Some(_) | None => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn status(headers: Headers<'_>, path: &str, token: bool) -> Result<String, u16> {
        let secret: Secret = TOKEN.parse().expect("a token");
        admit(headers, path, token.then_some(&secret))
            .map(str::to_owned)
            .map_err(|answer| answer.status)
    }

    fn host(host: &str) -> Headers<'_> {
        Headers { host: Some(host), ..Headers::default() }
    }

    #[test]
    fn only_addresses_and_localhost_are_hosts_here() {
        for name in ["127.0.0.1:80", "localhost:80", "LOCALHOST", "10.0.0.1", "[::1]:80", "[::1]"] {
            assert_eq!(status(host(name), "/", false), Ok("/".to_owned()), "{name}");
        }
        for name in ["", "evil.example", "evil.example:80", "127.0.0.1.evil.example", "h", "[::1"] {
            assert_eq!(status(host(name), "/", false), Err(403), "{name}");
        }
        assert_eq!(status(Headers::default(), "/", false), Err(403));
    }

    #[test]
    fn pages_of_other_servers_may_not_call() {
        let from = |origin| Headers { origin: Some(origin), ..host("127.0.0.1:80") };
        assert_eq!(status(from("http://127.0.0.1:80"), "/", false), Ok("/".to_owned()));
        for origin in
            ["http://evil.example", "null", "https://127.0.0.1:80", "http://127.0.0.1", ""]
        {
            assert_eq!(status(from(origin), "/", false), Err(403), "{origin}");
        }
    }

    #[test]
    fn the_token_is_a_header_or_the_first_part_of_the_path() {
        let path = |rest: &str| format!("/{TOKEN}{rest}");
        for (asked, expected) in [
            (path(""), "/"),
            (path("/"), "/"),
            (path("/info/api.json"), "/info/api.json"),
            (path("//"), "//"),
        ] {
            assert_eq!(status(host("10.0.0.1:80"), &asked, true), Ok(expected.to_owned()));
        }
        let bearer = |value| Headers { authorization: Some(value), ..host("10.0.0.1:80") };
        let right = format!("bearer {TOKEN}");
        assert_eq!(status(bearer(&right), "/", true), Ok("/".to_owned()));
        for wrong in ["", "Bearer", "Bearer x", "Basic 0123456789abcdef", "Bearer 0123456789abcdeF"]
        {
            assert_eq!(status(bearer(wrong), "/", true), Err(401), "{wrong}");
        }
        for asked in ["/", "", "*", "/x", "/0123456789abcde", "/0123456789abcdeff/"] {
            assert_eq!(status(host("10.0.0.1:80"), asked, true), Err(401), "{asked}");
        }
    }

    #[test]
    fn a_token_is_the_same_in_a_path_and_not_shown() {
        for text in ["short", "0123456789abcde/", "0123456789abcd f", "0123456789abcd%20"] {
            assert_eq!(text.parse::<Secret>(), Err(InvalidSecret), "{text}");
        }
        assert!(!format!("{:?}", TOKEN.parse::<Secret>()).contains(TOKEN));
    }
}
