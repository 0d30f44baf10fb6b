//! A request: which of the things that we have is wanted, by path.
//!
//! Paths are decoded once and strictly; what is not listed in [`Wanted`] is
//! not there. Knows no state and no file. Pure.

use std::fmt;

use super::{Refusal, range::Conditions};
use crate::{
    boot::Prelude,
    model::{Mac, Token},
};

/// A request that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// GET or HEAD.
    pub method: Method,
    /// The thing.
    pub wanted: Wanted,
    /// What of the thing, if it is a file.
    pub conditions: Conditions,
}

/// The methods that are answered (RFC 9110 §9.3.1 and §9.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Sends it.
    Get,
    /// Says what GET would send; UEFI asks so first.
    Head,
}

/// The things that there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// `/infrakit.ipxe` and any `.../autoexec.ipxe`: the script of who asks.
    OwnScript(Prelude),
    /// `/ipxe/<mac>.ipxe`: the script of this machine.
    ScriptOf(Mac),
    /// `/loader/<name>`: a boot program.
    Loader(String),
    /// `/boot/<token>/<number>/<base name>`: a file of an instance.
    InstanceFile {
        /// The secret of the instance.
        token: Token,
        /// 0 for the kernel, 1 and on for the initrds.
        number: usize,
        /// Its name, for people.
        name: String,
    },
    /// `/unclaimed/<number>/<base name>`: a file of the image for machines that
    /// no instance claims.
    UnclaimedFile {
        /// 0 for the kernel, 1 for the initrd.
        number: usize,
        /// Its name, for people.
        name: String,
    },
}

impl Request {
    /// The request of this method for this path (without query).
    ///
    /// # Errors
    ///
    /// [`Refusal`] if there is no such method or path.
    pub fn read(method: &str, path: &str, conditions: Conditions) -> Result<Self, Refusal> {
        let method = match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            _ => return Err(Refusal::Method),
        };
        let path = path.strip_prefix('/').ok_or(Refusal::NotFound)?;
        let parts = path.split('/').map(decoded).collect::<Result<Vec<String>, Refusal>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        // An encoded slash makes a part that no part of ours can be.
        if parts.iter().any(|part| matches!(*part, "" | "." | "..") || part.contains(['/', '\\'])) {
            return Err(Refusal::NotFound);
        }
        Ok(Self { method, wanted: wanted(&parts).ok_or(Refusal::NotFound)?, conditions })
    }
}

fn wanted(parts: &[&str]) -> Option<Wanted> {
    match parts {
        ["infrakit.ipxe"] => Some(Wanted::OwnScript(Prelude::None)),
        [.., "autoexec.ipxe"] => Some(Wanted::OwnScript(Prelude::KeepLease)),
        ["ipxe", script] => {
            let mac = script.strip_suffix(".ipxe")?.parse().ok()?;
            Some(Wanted::ScriptOf(mac))
        }
        ["loader", name] => Some(Wanted::Loader((*name).to_owned())),
        ["loader", directory, name] => Some(Wanted::Loader(format!("{directory}/{name}"))),
        ["boot", token, number, name] => Some(Wanted::InstanceFile {
            token: token.parse().ok()?,
            number: place(number)?,
            name: (*name).to_owned(),
        }),
        ["unclaimed", number, name] => {
            Some(Wanted::UnclaimedFile { number: place(number)?, name: (*name).to_owned() })
        }
        _ => None,
    }
}

/// A number in the one spelling that we write.
fn place(digits: &str) -> Option<usize> {
    digits.parse().ok().filter(|number: &usize| number.to_string() == digits)
}

/// RFC 3986 §2.1, once: the result is not looked at for percent signs again.
fn decoded(part: &str) -> Result<String, Refusal> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut nibble = || {
            let digit = char::from(rest.next()?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        let (Some(high), Some(low)) = (nibble(), nibble()) else {
            return Err(Refusal::Path);
        };
        bytes.push(high << 4 | low);
    }
    let text = String::from_utf8(bytes).map_err(|_| Refusal::Path)?;
    if text.chars().any(char::is_control) { Err(Refusal::Path) } else { Ok(text) }
}

/// A path that names nothing of ours, for the log: in one line, not too long,
/// and without what may be a token.
#[must_use]
pub fn loggable(path: &str) -> String {
    const LONGEST: usize = 100;
    let is_digit = |byte: u8| byte.is_ascii_hexdigit();
    let part = |part: &str| {
        let digits = part.bytes().filter(|byte| is_digit(*byte)).count();
        if digits >= 16 { "...".to_owned() } else { part.escape_debug().to_string() }
    };
    let shown = path.split('/').map(part).collect::<Vec<_>>().join("/");
    shown.chars().take(LONGEST).collect()
}

impl Wanted {
    /// The name of the file that is wanted, without the token.
    #[must_use]
    pub fn file(&self) -> &str {
        match self {
            Self::OwnScript(_) | Self::ScriptOf(_) => "script",
            Self::Loader(name)
            | Self::InstanceFile { name, .. }
            | Self::UnclaimedFile { name, .. } => name,
        }
    }
}

impl fmt::Display for Wanted {
    /// The path for the log: without the token, which only its machine may know.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnScript(Prelude::None) => formatter.write_str("/infrakit.ipxe"),
            Self::OwnScript(Prelude::KeepLease) => formatter.write_str("/autoexec.ipxe"),
            Self::ScriptOf(mac) => write!(formatter, "/ipxe/{}.ipxe", mac.hyphenated()),
            Self::Loader(name) => write!(formatter, "/loader/{name}"),
            Self::InstanceFile { token: _, number, name } => {
                write!(formatter, "/boot/.../{number}/{name}")
            }
            Self::UnclaimedFile { number, name } => {
                write!(formatter, "/unclaimed/{number}/{name}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(path: &str) -> Result<Wanted, Refusal> {
        Request::read("GET", path, Conditions::default()).map(|request| request.wanted)
    }

    #[test]
    fn every_path_of_ours_is_understood() {
        let mac = Mac::new([0x52, 0x54, 0, 0xaa, 1, 0xf]);
        let token = Token(0xab);
        let digits = token.digits();
        for (path, expected) in [
            ("/infrakit.ipxe".to_owned(), Wanted::OwnScript(Prelude::None)),
            ("/autoexec.ipxe".to_owned(), Wanted::OwnScript(Prelude::KeepLease)),
            ("/loader/a/autoexec.ipxe".to_owned(), Wanted::OwnScript(Prelude::KeepLease)),
            ("/ipxe/52-54-00-aa-01-0f.ipxe".to_owned(), Wanted::ScriptOf(mac)),
            ("/ipxe/52:54:00:AA:01:0F.ipxe".to_owned(), Wanted::ScriptOf(mac)),
            ("/ipxe/525400aa010f%2eipxe".to_owned(), Wanted::ScriptOf(mac)),
            ("/loader/undionly.kpxe".to_owned(), Wanted::Loader("undionly.kpxe".to_owned())),
            (
                "/loader/arm64-efi/ipxe.efi".to_owned(),
                Wanted::Loader("arm64-efi/ipxe.efi".to_owned()),
            ),
            (
                format!("/boot/{digits}/1/initrd%20%25.img"),
                Wanted::InstanceFile { token, number: 1, name: "initrd %.img".to_owned() },
            ),
            (
                "/unclaimed/0/vmlinuz".to_owned(),
                Wanted::UnclaimedFile { number: 0, name: "vmlinuz".to_owned() },
            ),
        ] {
            assert_eq!(read(&path), Ok(expected), "{path}");
        }
    }

    #[test]
    fn nothing_else_is_there() {
        let digits = Token(0xab).digits();
        for path in [
            "/",
            "*",
            "",
            "//infrakit.ipxe",
            "/infrakit.ipxe/",
            "/./infrakit.ipxe",
            "/x/../infrakit.ipxe",
            "/%2e%2e/autoexec.ipxe",
            "/a%2fautoexec.ipxe",
            "/loader/..%2f..%2fetc%2fpasswd",
            "/loader/a\\b",
            "/loader/a/b/c",
            "/ipxe/ff-ff-ff-ff-ff-ff.ipxe",
            "/ipxe/x.ipxe",
            "/boot/ab/0/vmlinuz",
            &format!("/boot/{digits}/01/vmlinuz"),
            &format!("/boot/{digits}/+1/vmlinuz"),
            &format!("/boot/{digits}/-1/vmlinuz"),
            &format!("/boot/{digits}/0"),
            &format!("/boot/{digits}/99999999999999999999999/x"),
            "/unclaimed/vmlinuz",
        ] {
            assert_eq!(read(path), Err(Refusal::NotFound), "{path}");
        }
    }

    #[test]
    fn a_path_is_decoded_strictly_and_once() {
        for path in ["/%", "/%4", "/%zz", "/%+1", "/loader/a%00", "/loader/%ff", "/loader/a%0ab"] {
            assert_eq!(read(path), Err(Refusal::Path), "{path}");
        }
        assert_eq!(read("/loader/%252e"), Ok(Wanted::Loader("%2e".to_owned())));
    }

    #[test]
    fn only_get_and_head_are_methods_here() {
        for method in ["POST", "PUT", "OPTIONS", "TRACE", "CONNECT", "get", ""] {
            let request = Request::read(method, "/infrakit.ipxe", Conditions::default());
            assert_eq!(request, Err(Refusal::Method), "{method}");
        }
    }

    #[test]
    fn the_log_has_no_token() {
        let token = Token(0xdead_beef);
        let wanted = Wanted::InstanceFile { token, number: 0, name: "k".to_owned() };
        assert_eq!(wanted.to_string(), "/boot/.../0/k");
        assert!(!format!("{wanted:?}").contains("deadbeef"));
        let path = format!("/boot/{}/0/../k", token.digits());
        assert_eq!(loggable(&path), "/boot/.../0/../k");
        assert_eq!(loggable("/favicon\n.ico"), "/favicon\\n.ico");
        assert_eq!(loggable(&"/x".repeat(5000)).len(), 100);
    }

    proptest! {
        #[test]
        fn no_path_panics(path: String, tail in "[/%.a-z0-9]{0,30}") {
            let _ = read(&path);
            let _ = read(&format!("/{tail}"));
            let _ = read(&format!("/boot/{}/{tail}", Token(1).digits()));
        }
    }
}
