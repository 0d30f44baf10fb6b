//! A request: which of the things that we have is wanted, by path; and how much
//! of a body is read for it.
//!
//! Paths are decoded once and strictly; what is not listed in [`Wanted`] is
//! not there. Knows no state and no file. Pure.

use std::fmt;

use super::{
    Refusal,
    head::{Head, Length},
    range::Conditions,
    report::{self, Message},
};
use crate::{
    boot::{
        AGAIN, Claim, Prelude, SERIAL,
        grub::{ConfigName, config_name},
        init::Document,
        report::Report,
    },
    model::{Mac, Token, serial},
};

/// A request that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// GET, HEAD or POST.
    pub method: Method,
    /// The thing.
    pub wanted: Wanted,
    /// What of the thing, if it is a file.
    pub conditions: Conditions,
}

/// The methods that are answered (RFC 9110 §9.3.1 to §9.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Sends it.
    Get,
    /// Says what GET would send; UEFI asks so first.
    Head,
    /// The same as GET, with more room for words: of reports only.
    Post,
}

/// What iPXE 2.x for UEFI asks for in the directory that it was loaded from.
const AUTOEXEC: &str = "autoexec.ipxe";

/// The largest body of a report, in bytes.
pub const LARGEST_BODY: usize = 4 << 10;

/// The things that there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// `/infrakit.ipxe` and any `.../autoexec.ipxe`: the script of who asks.
    OwnScript(Prelude),
    /// `/ipxe/<mac>.ipxe`, perhaps with `?serial=`: the script of this machine.
    ScriptOf {
        /// The card that it says it asks with.
        mac: Mac,
        /// The serial number that it says it has, if it can be one.
        serial: Option<String>,
    },
    /// `/ipxe/<mac>.ipxe?again`: the same, asked for again in the same boot.
    ScriptAgain(Mac),
    /// Any `.../grub.cfg`, also with an address or a number behind it: GRUB's
    /// configuration of who asks, or of the machine that the name says.
    GrubConfig(ConfigName),
    /// `/loader/<name>`: a boot program; also any other path that ends in `.efi`.
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
    /// `/init/<token>/<name>`: one of the forms of an instance's `Init`.
    Init {
        /// The secret of the instance.
        token: Token,
        /// Which form.
        document: Document,
    },
    /// `/report/<token>` and what is below it.
    Report {
        /// The secret of the instance.
        token: Token,
        /// What its machine says.
        report: Report,
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
    /// [`Refusal`] if there is no such method or path, or if a report cannot be
    /// understood.
    pub fn read(
        method: &str,
        path: &str,
        message: &Message,
        conditions: Conditions,
    ) -> Result<Self, Refusal> {
        let parts = parts(path);
        let is_report = parts.as_ref().is_ok_and(|parts| is_report(parts));
        let method = match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" if is_report => Method::Post,
            _ if is_report => return Err(Refusal::Method("GET, HEAD, POST")),
            _ => return Err(Refusal::Method("GET, HEAD")),
        };
        let parts = parts?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let wanted = wanted(&parts, message)?.ok_or(Refusal::NotFound)?;
        Ok(Self { method, wanted, conditions })
    }
}

/// How many bytes of body are to be read before the request of this head, for
/// this path, can be answered.
///
/// # Errors
///
/// [`Refusal`] if it has a body where none is taken, or a larger one.
pub fn body_to_read(head: &Head, path: &str) -> Result<usize, Refusal> {
    let takes_body = head.method == "POST" && parts(path).is_ok_and(|parts| is_report(&parts));
    match head.body {
        Length::Bytes(0) => Ok(0),
        Length::Bytes(_) | Length::Unknown if !takes_body => Err(Refusal::Body),
        Length::Unknown => Err(Refusal::NoLength),
        Length::Bytes(length) => usize::try_from(length)
            .ok()
            .filter(|length| *length <= LARGEST_BODY)
            .ok_or(Refusal::BodyTooLarge(LARGEST_BODY)),
    }
}

/// The parts between the slashes, decoded.
fn parts(path: &str) -> Result<Vec<String>, Refusal> {
    let path = path.strip_prefix('/').ok_or(Refusal::NotFound)?;
    let mut parts = path.split('/').map(decoded).collect::<Result<Vec<String>, Refusal>>()?;
    if parts.last().is_some_and(|last| is_of_boot_programs(last)) {
        parts = parts.iter().flat_map(|part| part.split('\\')).map(str::to_owned).collect();
        parts.retain(|part| !part.is_empty());
    }
    // An encoded slash makes a part that no part of ours can be.
    let is_none =
        |part: &String| matches!(part.as_str(), "" | "." | "..") || part.contains(['/', '\\']);
    if parts.iter().any(is_none) { Err(Refusal::NotFound) } else { Ok(parts) }
}

/// Whether a path ends in what boot programs ask for in the directory that they were
/// loaded from. They write that path as they please: shim doubles a slash, others
/// use backslashes.
fn is_of_boot_programs(last: &str) -> bool {
    let last = last.rsplit('\\').next().unwrap_or_default();
    last.eq_ignore_ascii_case(AUTOEXEC) || is_program(last) || config_name(last).is_some()
}

/// Whether it is the name of a program for UEFI.
fn is_program(name: &str) -> bool {
    name.len() > 4 && name.get(name.len() - 4..).is_some_and(|end| end.eq_ignore_ascii_case(".efi"))
}

/// Whether a report may be posted there.
fn is_report(parts: &[String]) -> bool {
    let [first, token, name] = parts else { return false };
    first == "report" && token.parse::<Token>().is_ok() && report::NAMES.contains(&name.as_str())
}

fn wanted(parts: &[&str], message: &Message) -> Result<Option<Wanted>, Refusal> {
    if let ["report", token, name] = parts {
        let Ok(token) = token.parse() else { return Ok(None) };
        let report = report::read(name, message)?;
        return Ok(report.map(|report| Wanted::Report { token, report }));
    }
    let is_again = message.query == AGAIN;
    Ok(thing(parts).map(|thing| match thing {
        Wanted::ScriptOf { mac, .. } if is_again => Wanted::ScriptAgain(mac),
        Wanted::ScriptOf { mac, .. } => Wanted::ScriptOf { mac, serial: serial_in(&message.query) },
        other => other,
    }))
}

/// A claim, of whatever text: what cannot be a serial number is passed over.
fn serial_in(query: &str) -> Option<String> {
    serial(&decoded(query.strip_prefix(SERIAL)?).ok()?)
}

fn thing(parts: &[&str]) -> Option<Wanted> {
    match parts {
        ["infrakit.ipxe"] => Some(Wanted::OwnScript(Prelude::None)),
        [.., name] if name.eq_ignore_ascii_case(AUTOEXEC) => {
            Some(Wanted::OwnScript(Prelude::KeepLease))
        }
        ["ipxe", script] => {
            let mac = script.strip_suffix(".ipxe")?.parse().ok()?;
            Some(Wanted::ScriptOf { mac, serial: None })
        }
        ["loader", name] => Some(Wanted::Loader((*name).to_owned())),
        ["loader", directory, name] => Some(Wanted::Loader(format!("{directory}/{name}"))),
        ["boot", token, number, name] => Some(Wanted::InstanceFile {
            token: token.parse().ok()?,
            number: place(number)?,
            name: (*name).to_owned(),
        }),
        ["init", token, name] => {
            let document = Document::ALL.into_iter().find(|document| document.name() == *name)?;
            Some(Wanted::Init { token: token.parse().ok()?, document })
        }
        ["report", token] => {
            Some(Wanted::Report { token: token.parse().ok()?, report: Report::Poll })
        }
        ["unclaimed", number, name] => {
            Some(Wanted::UnclaimedFile { number: place(number)?, name: (*name).to_owned() })
        }
        // What a program of an instance asks for beside itself is no boot program: it is
        // not looked for, and no token comes into the log as part of its name.
        ["boot" | "init" | "report", token, ..] if token.parse::<Token>().is_ok() => None,
        [.., name] if is_program(name) => Some(Wanted::Loader(parts.join("/"))),
        [.., name] => config_name(name).map(Wanted::GrubConfig),
        [] => None,
    }
}

/// A number in the one spelling that we write.
fn place(digits: &str) -> Option<usize> {
    digits.parse().ok().filter(|number: &usize| number.to_string() == digits)
}

/// RFC 3986 §2.1, once: the result is not looked at for percent signs again.
fn decoded(part: &str) -> Result<String, Refusal> {
    if part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'%') {
        return Ok(part.to_owned());
    }
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
            Self::OwnScript(_) | Self::ScriptOf { .. } | Self::ScriptAgain(_) => "script",
            Self::GrubConfig(_) => "grub.cfg",
            Self::Init { document, .. } => document.name(),
            Self::Report { .. } => "report",
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
            Self::ScriptOf { mac, .. } | Self::ScriptAgain(mac) => {
                write!(formatter, "/ipxe/{}.ipxe", mac.hyphenated())
            }
            Self::GrubConfig(ConfigName { claim: Claim::None, .. }) => {
                formatter.write_str("/grub.cfg")
            }
            Self::GrubConfig(ConfigName { claim: Claim::Mac(mac), .. }) => {
                write!(formatter, "/grub.cfg-01-{}", mac.hyphenated())
            }
            Self::Loader(name) => write!(formatter, "/loader/{name}"),
            Self::InstanceFile { token: _, number, name } => {
                write!(formatter, "/boot/.../{number}/{name}")
            }
            Self::Init { token: _, document } => write!(formatter, "/init/.../{}", document.name()),
            Self::Report { token: _, report } => match report.name() {
                None => formatter.write_str("/report/..."),
                Some(name) => write!(formatter, "/report/.../{name}"),
            },
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
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let message = Message { query: query.to_owned(), ..Message::default() };
        let request = Request::read("GET", path, &message, Conditions::default());
        request.map(|request| request.wanted)
    }

    fn config(claim: Claim) -> ConfigName {
        ConfigName { claim, is_again: false }
    }

    #[test]
    fn every_path_of_ours_is_understood() {
        let mac = Mac::new([0x52, 0x54, 0, 0xaa, 1, 0xf]);
        let token = Token(0xab);
        let digits = token.digits();
        let script =
            |serial: Option<&str>| Wanted::ScriptOf { mac, serial: serial.map(str::to_owned) };
        for (path, expected) in [
            ("/infrakit.ipxe".to_owned(), Wanted::OwnScript(Prelude::None)),
            ("/autoexec.ipxe".to_owned(), Wanted::OwnScript(Prelude::KeepLease)),
            ("/loader/a/autoexec.ipxe".to_owned(), Wanted::OwnScript(Prelude::KeepLease)),
            ("/ipxe/52-54-00-aa-01-0f.ipxe".to_owned(), script(None)),
            ("/ipxe/52:54:00:AA:01:0F.ipxe".to_owned(), script(None)),
            ("/ipxe/525400aa010f%2eipxe".to_owned(), script(None)),
            ("/ipxe/525400aa010f.ipxe?serial=5CG%201X".to_owned(), script(Some("5CG 1X"))),
            ("/ipxe/525400aa010f.ipxe?serial=".to_owned(), script(None)),
            ("/ipxe/525400aa010f.ipxe?serial=Default%20string".to_owned(), script(None)),
            ("/ipxe/525400aa010f.ipxe?serial=%zz".to_owned(), script(None)),
            ("/ipxe/525400aa010f.ipxe?serial=%00".to_owned(), script(None)),
            ("/ipxe/525400aa010f.ipxe?again".to_owned(), Wanted::ScriptAgain(mac)),
            ("/loader//autoexec.ipxe".to_owned(), Wanted::OwnScript(Prelude::KeepLease)),
            ("//autoexec.ipxe".to_owned(), Wanted::OwnScript(Prelude::KeepLease)),
            ("/EFI/BOOT/AUTOEXEC.IPXE".to_owned(), Wanted::OwnScript(Prelude::KeepLease)),
            ("/x86_64-efi\\autoexec.ipxe".to_owned(), Wanted::OwnScript(Prelude::KeepLease)),
            ("/EFI%5CBOOT%5Cautoexec.ipxe".to_owned(), Wanted::OwnScript(Prelude::KeepLease)),
            ("/loader//grubx64.efi".to_owned(), Wanted::Loader("grubx64.efi".to_owned())),
            ("/EFI/BOOT/MMX64.EFI".to_owned(), Wanted::Loader("EFI/BOOT/MMX64.EFI".to_owned())),
            ("/grub/grub.cfg".to_owned(), Wanted::GrubConfig(config(Claim::None))),
            ("/grub/x86_64-efi/grub.cfg".to_owned(), Wanted::GrubConfig(config(Claim::None))),
            (
                "/grub//grub.cfg-01-52-54-00-aa-01-0f".to_owned(),
                Wanted::GrubConfig(config(Claim::Mac(mac))),
            ),
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
                format!("/init/{digits}/meta-data"),
                Wanted::Init { token, document: Document::MetaData },
            ),
            (format!("/init/{digits}/init"), Wanted::Init { token, document: Document::Raw }),
            (format!("/report/{digits}"), Wanted::Report { token, report: Report::Poll }),
            (
                format!("/report/{digits}/ready"),
                Wanted::Report { token, report: Report::Ready(None) },
            ),
            (
                format!("/report/{digits}/draine%64"),
                Wanted::Report { token, report: Report::Drained },
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
            "/a/../autoexec.ipxe",
            "/%2e%2e%5cautoexec.ipxe",
            "/autoexec.ipxe/",
            "/x/../grubx64.efi",
            "/..%5cgrubx64.efi",
            "/.efi",
            "/grub/grub.cfg-x",
            "/grub/../grub.cfg",
            "/grub/x86_64-efi/command.lst",
            "/loader/..%2f..%2fetc%2fpasswd",
            "/loader/a\\b",
            "/loader/a/b/c.kpxe",
            "/ipxe/ff-ff-ff-ff-ff-ff.ipxe",
            "/ipxe/x.ipxe",
            "/boot/ab/0/vmlinuz",
            &format!("/boot/{digits}/01/vmlinuz"),
            &format!("/boot/{digits}/+1/vmlinuz"),
            &format!("/boot/{digits}/-1/vmlinuz"),
            &format!("/boot/{digits}/0"),
            &format!("/boot/{digits}/99999999999999999999999/x"),
            &format!("/boot/{digits}/grubx64.efi"),
            &format!("/boot/{digits}/0/EFI/BOOT/grubx64.efi"),
            &format!("/init/{digits}/0/x.efi"),
            &format!("/init/{digits}"),
            &format!("/init/{digits}/"),
            &format!("/init/{digits}/network-config"),
            &format!("/init/{digits}/user-data/x"),
            "/init/ab/user-data",
            &format!("/report/{digits}/"),
            &format!("/report/{digits}/READY"),
            &format!("/report/{digits}/ready/x"),
            &format!("/report/{digits}/keep"),
            "/report/ab/ready",
            "/report",
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
    fn only_reports_may_be_posted_and_every_path_says_what_it_takes() {
        let digits = Token(0xab).digits();
        let report = format!("/report/{digits}/failed");
        let read = |method, path: &str| {
            let request = Request::read(method, path, &Message::default(), Conditions::default());
            request.map(|request| request.method)
        };
        assert_eq!(read("POST", &report), Ok(Method::Post));
        for method in ["PUT", "OPTIONS", "TRACE", "CONNECT", "get", "post", "DELETE", ""] {
            assert_eq!(read(method, "/infrakit.ipxe"), Err(Refusal::Method("GET, HEAD")));
            assert_eq!(read(method, &report), Err(Refusal::Method("GET, HEAD, POST")), "{method}");
        }
        for path in [
            "/infrakit.ipxe",
            "/nope",
            "/%zz",
            "*",
            "/report/ab/ready",
            &format!("/report/{digits}"),
            &format!("/report/{digits}/x"),
            &format!("/init/{digits}/init"),
        ] {
            assert_eq!(read("POST", path), Err(Refusal::Method("GET, HEAD")), "{path}");
        }
    }

    #[test]
    fn a_small_body_is_read_for_a_report_and_none_for_anything_else() {
        let report = format!("/report/{}/failed", Token(0xab).digits());
        let length = |method: &str, path: &str, field: &str| {
            let text = format!("{method} {path} HTTP/1.1\r\n{field}\r\n\r\n");
            let (head, _) = Head::read(text.as_bytes()).expect("well-formed").expect("whole");
            body_to_read(&head, path)
        };
        for (method, path, field, expected) in [
            ("POST", report.as_str(), "Content-Length: 4096", Ok(4096)),
            ("POST", report.as_str(), "Host: x", Ok(0)),
            ("GET", report.as_str(), "Content-Length: 0", Ok(0)),
            ("POST", report.as_str(), "Content-Length: 4097", Err(Refusal::BodyTooLarge(4096))),
            (
                "POST",
                report.as_str(),
                "Content-Length: 99999999999999999999",
                Err(Refusal::BodyTooLarge(4096)),
            ),
            ("POST", report.as_str(), "Transfer-Encoding: chunked", Err(Refusal::NoLength)),
            ("GET", report.as_str(), "Content-Length: 1", Err(Refusal::Body)),
            ("PUT", report.as_str(), "Content-Length: 1", Err(Refusal::Body)),
            ("POST", "/report/ab/failed", "Content-Length: 1", Err(Refusal::Body)),
            ("POST", "/infrakit.ipxe", "Transfer-Encoding: chunked", Err(Refusal::Body)),
        ] {
            assert_eq!(length(method, path, field), expected, "{method} {path} {field}");
        }
    }

    #[test]
    fn the_log_has_no_token() {
        let token = Token(0xdead_beef);
        let wanted = Wanted::InstanceFile { token, number: 0, name: "k".to_owned() };
        assert_eq!(wanted.to_string(), "/boot/.../0/k");
        assert!(!format!("{wanted:?}").contains("deadbeef"));
        let secret = "x=secret".to_owned();
        let message = Message { query: secret.clone(), body: secret.into(), is_form: true };
        for (path, expected) in [("", "/report/..."), ("/ready", "/report/.../ready")] {
            let path = format!("/report/{}{path}", token.digits());
            let request = Request::read("GET", &path, &message, Conditions::default());
            assert_eq!(request.expect(expected).wanted.to_string(), expected);
            assert_eq!(loggable(&path), expected);
        }
        let document = Wanted::Init { token, document: Document::UserData };
        assert_eq!(document.to_string(), "/init/.../user-data");
        let path = format!("/boot/{}/0/../k", token.digits());
        assert_eq!(loggable(&path), "/boot/.../0/../k");
        assert_eq!(loggable("/favicon\n.ico"), "/favicon\\n.ico");
        assert_eq!(loggable(&"/x".repeat(5000)).len(), 100);
    }

    proptest! {
        #[test]
        fn no_path_or_query_panics(
            path: String,
            tail in "[/%.a-z0-9]{0,30}",
            query in "([a-z]{0,7}=?[%:/.0-9a-z+&?]{0,30}){0,3}",
            body: Vec<u8>,
            is_form: bool,
        ) {
            let _ = read(&path);
            let message = Message { query, body, is_form };
            for before in ["/", "/boot/", "/init/", "/report/"] {
                for path in [format!("{before}{tail}"), format!("{before}{}/{tail}", Token(1).digits())] {
                    let _ = Request::read("POST", &path, &message, Conditions::default());
                }
            }
            for name in report::NAMES {
                let path = format!("/report/{}/{name}", Token(1).digits());
                let _ = Request::read("POST", &path, &message, Conditions::default());
            }
        }
    }
}
