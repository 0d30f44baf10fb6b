//! URLs that iPXE can be given as they are. Pure.
//!
//! A URL of an image becomes one word of an iPXE script, so what iPXE would
//! read as anything else than this URL is refused: it expands `${..}` before it
//! looks at the words, splits them at spaces, takes a line that ends with a
//! backslash for one that goes on, and never sends what is behind a `#`.

/// Longer than any URL that is meant; iPXE has less than 640 KiB in some places.
const LONGEST: usize = 2000;

/// Why a URL cannot be given to iPXE.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum InvalidUrl {
    /// iPXE's builds are only sure to know these two.
    #[error("`{0}` is neither an http:// nor an https:// URL (in small letters)")]
    Scheme(String),
    /// There is nobody to ask.
    #[error("`{0}` has no host, or a host or port that cannot be")]
    Host(String),
    /// iPXE would read something else.
    #[error("`{url}` has {what}, so iPXE would not fetch what it says")]
    Character {
        /// The URL.
        url: String,
        /// What is in it.
        what: &'static str,
    },
    /// More than a script should carry.
    #[error("a URL of {0} bytes is too long; {LONGEST} are the most")]
    TooLong(usize),
}

/// Whether iPXE fetches this URL as it is written.
pub(super) fn check(url: &str) -> Result<(), InvalidUrl> {
    if url.len() > LONGEST {
        return Err(InvalidUrl::TooLong(url.len()));
    }
    let shown = || url.escape_debug().to_string();
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
        return Err(InvalidUrl::Scheme(shown()));
    };
    let character = |what| Err(InvalidUrl::Character { url: shown(), what });
    if url.chars().any(|each| each.is_control() || each.is_whitespace()) {
        return character("a space or a control character");
    }
    if !url.is_ascii() {
        return character("a character that must be written with %");
    }
    if url.contains("${") {
        return character("a `${`");
    }
    if url.contains(['#', '\\', '"', '<', '>', '`', '|', '^']) {
        return character("a character that no URL has, or a part behind `#`");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if is_host(host) { Ok(()) } else { Err(InvalidUrl::Host(shown())) }
}

/// A name or address, and a port if there is a colon.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", port),
            Some(_) | None => return false,
        },
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_name = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let is_port = |digits: &str| {
        digits.bytes().all(|byte| byte.is_ascii_digit())
            && digits.parse::<u16>().is_ok_and(|port| port > 0)
    };
    is_name && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_of_files_pass() {
        for url in [
            "http://10.0.0.1/vmlinuz",
            "https://files.example:8443/a/b%20c?x=1&y=${x}".split("&y").next().expect("a part"),
            "http://[2001:db8::1]:80/k",
            "http://user:word@files/k",
            "http://host",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn what_ipxe_would_read_otherwise_is_refused() {
        for url in [
            "http://x/a b",
            "http://x/a\nshell",
            "http://x/${net0/mac}",
            "http://x/a\\",
            "http://x/a#b",
            "http://x/ü",
            "http://x/\"a\"",
        ] {
            assert!(matches!(check(url), Err(InvalidUrl::Character { .. })), "{url}");
        }
        for url in ["tftp://x/y", "HTTP://x/y", "://x", "nfs://a/b"] {
            assert!(matches!(check(url), Err(InvalidUrl::Scheme(_))), "{url}");
        }
    }

    #[test]
    fn a_url_without_a_host_is_refused() {
        for url in [
            "http://",
            "http:///k",
            "http://:80/k",
            "http://a:/k",
            "http://a:0/k",
            "http://a:x/k",
            "http://a:99999/k",
            "http://[::1/k",
            "http://[x]/k",
            "http://u@/k",
            "https://?x",
        ] {
            assert!(matches!(check(url), Err(InvalidUrl::Host(_))), "{url}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_url_is_one_word(rest in "[ -~\\n\\t]{0,40}") {
            let url = format!("http://h/{rest}");
            if check(&url).is_ok() {
                prop_assert_eq!(url.split_whitespace().collect::<Vec<_>>(), [url.as_str()]);
                let is_as_written = !url.ends_with('\\') && !url.contains("${");
                prop_assert!(is_as_written);
            }
        }
    }
}
