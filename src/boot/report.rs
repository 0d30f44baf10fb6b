//! What a machine reports of its instance, and what it is told: go on, stop your
//! work, or you are no longer wanted.
//!
//! Pure. Who may report at all is [`super::identify`]'s to say.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use crate::model::{Callback, Change, Decision, Instance, Progress, Reason, Timestamp};

/// What a machine says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Nothing: it asks whether it is still wanted.
    Poll,
    /// It does what it was provisioned for, and may want to be asked to stop.
    Ready(Option<StopUrl>),
    /// It cannot, and this is why.
    Failed(Failure),
    /// It has stopped its work.
    Drained,
}

impl Report {
    /// The last part of its URL; none of the poll.
    #[must_use]
    pub const fn name(&self) -> Option<&'static str> {
        match self {
            Self::Poll => None,
            Self::Ready(_) => Some("ready"),
            Self::Failed(_) => Some("failed"),
            Self::Drained => Some("drained"),
        }
    }
}

/// Why a machine failed, in its own words, fit for a line of a log: the longest
/// that is kept is [`crate::model::LONGEST_FAILURE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(String);

/// What is kept of a failure without a reason.
const UNEXPLAINED: &str = "its machine gave no reason";

impl Failure {
    /// In these words, with a blank for each control character.
    #[must_use]
    pub fn new(words: &str) -> Self {
        let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
        let line: String = words.chars().map(plain).collect();
        match line.trim() {
            "" => Self(UNEXPLAINED.to_owned()),
            words => Self(words.to_owned()),
        }
    }
}

/// Where a machine wants to be asked to stop, as it says it: by plain HTTP, on
/// itself. `http://10.0.0.9:8080/stop`, `http://[fd00::9]:8080/stop`, or `:8080/stop`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopUrl {
    /// The host, if the machine names one.
    host: Option<IpAddr>,
    port: u16,
    path: String,
}

/// The longest path of a [`StopUrl`], with its query, in bytes.
pub const LONGEST_PATH: usize = 200;

/// Why a machine cannot be asked there to stop.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum InvalidStopUrl {
    /// Neither of the two forms.
    #[error("`drain` is neither http://ADDRESS:PORT/PATH nor :PORT/PATH")]
    Form,
    /// A host that is no address.
    #[error("`drain`: the host `{0}` is no IPv4 address, and no IPv6 address in brackets")]
    Host(String),
    /// Somebody else's address.
    #[error("`drain`: the host must be the machine's own address {own}, not {named}")]
    AnothersHost {
        /// Where the report comes from.
        own: IpAddr,
        /// What it names.
        named: IpAddr,
    },
    /// An address of the link, which alone does not say on which link.
    #[error("`drain`: {0} is an address of the link; report from one that is known beyond it")]
    LinkLocal(IpAddr),
    /// No port from 1 to 65535.
    #[error("`drain`: the port `{0}` is no number from 1 to 65535")]
    Port(String),
    /// Too long.
    #[error("`drain`: the path has {0} bytes, more than {LONGEST_PATH}")]
    LongPath(usize),
    /// It would not be one word of a request (RFC 9112 §3).
    #[error("`drain`: the path has a blank or another letter that must be percent-encoded")]
    Path,
}

impl FromStr for StopUrl {
    type Err = InvalidStopUrl;

    fn from_str(text: &str) -> Result<Self, InvalidStopUrl> {
        let start = text.find('/').filter(|_| text.starts_with(':'));
        let (authority, path) = match (start, text.strip_prefix("http://")) {
            (Some(start), _) => text.split_at(start),
            (None, Some(rest)) => rest.split_at(rest.find('/').ok_or(InvalidStopUrl::Form)?),
            (None, None) => return Err(InvalidStopUrl::Form),
        };
        let (host, port) = match authority.find(']') {
            Some(end) => authority.split_at(end + 1),
            None => authority.split_at(authority.find(':').ok_or(InvalidStopUrl::Form)?),
        };
        let port = port.strip_prefix(':').ok_or(InvalidStopUrl::Form)?;
        let host = match host {
            "" if start.is_some() => None,
            named => Some(host_of(named).ok_or_else(|| InvalidStopUrl::Host(shortened(named)))?),
        };
        let number = port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = number
            .filter(|port| *port != 0)
            .ok_or_else(|| InvalidStopUrl::Port(shortened(port)))?;
        if path.len() > LONGEST_PATH {
            return Err(InvalidStopUrl::LongPath(path.len()));
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidStopUrl::Path);
        }
        Ok(Self { host, port, path: path.to_owned() })
    }
}

/// The address that a URL names: over IPv6 in brackets (RFC 3986 §3.2.2).
fn host_of(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
    }
}

/// The beginning of what somebody sent, for an error in one line.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 40;
    text.escape_debug().take(LONGEST).collect()
}

impl StopUrl {
    /// On the machine that has this address and no other.
    fn on(&self, own: IpAddr) -> Result<Callback, InvalidStopUrl> {
        if matches!(own, IpAddr::V6(own) if own.is_unicast_link_local()) {
            return Err(InvalidStopUrl::LinkLocal(own));
        }
        match self.host {
            Some(named) if named != own => Err(InvalidStopUrl::AnothersHost { own, named }),
            Some(_) | None => {
                Ok(Callback { address: own, port: self.port, path: self.path.clone() })
            }
        }
    }
}

/// What a machine is told, in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// Go on.
    Keep,
    /// Stop your work, then report it.
    Drain,
    /// Its instance was destroyed.
    Gone(Reason),
}

impl fmt::Display for Words {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => formatter.write_str("keep"),
            Self::Drain => formatter.write_str("drain"),
            Self::Gone(reason) => write!(formatter, "gone {}", reason.name()),
        }
    }
}

impl Words {
    /// To the machine of an instance that lives and has come so far.
    #[must_use]
    pub fn of(progress: &Progress) -> Self {
        match (progress.drain.asked_at, progress.drain.done_at) {
            (Some(_), None) => Self::Drain,
            (Some(_) | None, Some(_)) | (None, None) => Self::Keep,
        }
    }
}

/// What the machine of this instance is told that reports from this address, and
/// what becomes different by it. The same report again makes no change.
///
/// # Errors
///
/// [`InvalidStopUrl`] if it wants another host to be asked to stop.
pub fn report(
    instance: &Instance,
    report: &Report,
    (address, now): (IpAddr, Timestamp),
) -> Result<Decision<Words>, InvalidStopUrl> {
    let before = &instance.progress;
    let after = match report {
        Report::Poll => return Ok(Decision::only(Words::of(before))),
        Report::Ready(stop) => {
            before.ready(stop.as_ref().map(|stop| stop.on(address)).transpose()?, now)
        }
        // Before it is cut: half a secret could not be found any more.
        Report::Failed(Failure(reason)) => before.failed(&instance.without_secrets(reason), now),
        Report::Drained => before.drained(now),
    };
    let words = Words::of(&after);
    if after == *before {
        return Ok(Decision::only(words));
    }
    Ok(Decision::with(words, Change::Progress(instance.id, after)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{InstanceState, LONGEST_FAILURE, Mac, testing};

    const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));

    fn instance() -> Instance {
        testing::instance(1, Mac::new([2, 0, 0, 0, 0, 1]))
    }

    /// Tells the instance, and says what its machine is told and whether anything
    /// became different.
    fn tell(instance: &mut Instance, said: &Report, at: u64) -> (Words, bool) {
        let decision = report(instance, said, (OWN, Timestamp(at))).expect("a fair report");
        let is_new = !decision.changes.is_empty();
        for change in decision.changes {
            let Change::Progress(id, progress) = change else { panic!("{change:?}") };
            assert_eq!(id, instance.id);
            instance.progress = progress;
        }
        (decision.answer, is_new)
    }

    fn ready(url: &str) -> Report {
        Report::Ready(Some(url.parse().expect(url)))
    }

    #[test]
    fn the_same_report_again_changes_nothing_and_is_answered_the_same() {
        let mut instance = instance();
        let failed = Report::Failed(Failure::new("disk\tfull\n"));
        for (said, state) in [
            (Report::Ready(None), InstanceState::Running),
            (failed, InstanceState::Failed),
            (ready(":8080/stop"), InstanceState::Running),
            (Report::Drained, InstanceState::Running),
        ] {
            let (first, again) = (tell(&mut instance, &said, 5), tell(&mut instance, &said, 9));
            assert_eq!(first, (Words::Keep, true), "{said:?}");
            assert_eq!(again, (Words::Keep, false), "{said:?}");
            assert_eq!(instance.progress.state, state, "{said:?}");
        }
        assert_eq!(instance.progress.ready_at, Some(Timestamp(5)));
        assert_eq!(tell(&mut instance, &Report::Poll, 10), (Words::Keep, false));
    }

    #[test]
    fn a_machine_is_told_to_stop_from_being_asked_to_its_report_of_it() {
        let mut instance = instance();
        tell(&mut instance, &Report::Ready(None), 1);
        instance.progress = instance.progress.drain_asked(Timestamp(2));
        assert_eq!(tell(&mut instance, &Report::Poll, 3), (Words::Drain, false));
        assert_eq!(tell(&mut instance, &Report::Ready(None), 3).0, Words::Drain);
        assert_eq!(tell(&mut instance, &Report::Drained, 4), (Words::Keep, true));
        assert_eq!(tell(&mut instance, &Report::Poll, 5), (Words::Keep, false));
    }

    #[test]
    fn nobody_makes_us_call_another_host() {
        let instance = instance();
        let own = |url: &str| report(&instance, &ready(url), (OWN, Timestamp(1)));
        for url in [":8080/stop?now", "http://10.0.0.9:8080/stop?now"] {
            let changes = own(url).expect(url).changes;
            let [Change::Progress(_, progress)] = changes.as_slice() else { panic!("{changes:?}") };
            let path = "/stop?now".to_owned();
            let expected = Callback { address: OWN, port: 8080, path };
            assert_eq!(progress.drain.callback, Some(expected));
        }
        let refused = own("http://10.0.0.10:22/").expect_err("another's");
        assert_eq!(
            refused.to_string(),
            "`drain`: the host must be the machine's own address 10.0.0.9, not 10.0.0.10"
        );
    }

    #[test]
    fn over_ipv6_too_a_machine_is_called_on_itself_alone() {
        let instance = instance();
        let at = |own: &str, url: &str| {
            let own: IpAddr = own.parse().expect("an address");
            let changes = report(&instance, &ready(url), (own, Timestamp(1)))?.changes;
            let [Change::Progress(_, progress)] = changes.as_slice() else { panic!("{changes:?}") };
            Ok::<_, InvalidStopUrl>(progress.drain.callback.clone().expect("given"))
        };
        for url in [":8080/stop", "http://[fd00::9]:8080/stop", "http://[fd00:0:0::9]:8080/stop"] {
            let callback = at("fd00::9", url).expect(url);
            assert_eq!(callback.address, "fd00::9".parse::<IpAddr>().expect("an address"));
            assert_eq!((callback.port, callback.path.as_str()), (8080, "/stop"));
        }
        for (own, url, expected) in [
            ("fd00::9", "http://[fd00::a]:22/", "own address fd00::9, not fd00::a"),
            ("fd00::9", "http://10.0.0.9:22/", "own address fd00::9, not 10.0.0.9"),
            ("10.0.0.9", "http://[::ffff:10.0.0.9]:22/", "own address 10.0.0.9"),
            ("fe80::9", ":22/", "fe80::9 is an address of the link"),
        ] {
            let error = at(own, url).expect_err(url).to_string();
            assert!(error.contains(expected), "{url}: {error}");
        }
    }

    #[test]
    fn a_place_to_be_asked_at_is_one_that_can_be_called() {
        let long = format!(":1/{}", "x".repeat(LONGEST_PATH));
        for (url, expected) in [
            ("", "neither"),
            ("8080", "neither"),
            (":8080", "neither"),
            ("/stop", "neither"),
            ("http://10.0.0.9:80", "neither"),
            ("http://10.0.0.9/stop", "neither"),
            ("https://10.0.0.9:80/stop", "neither"),
            ("http://localhost:80/", "`localhost`"),
            ("http://:80/", "``"),
            ("http://me@10.0.0.9:80/", "`me@10.0.0.9`"),
            ("http://010.0.0.9:80/", "`010.0.0.9`"),
            ("http://fd00::9:80/", "`fd00`"),
            ("http://[fd00::9/", "`[fd00`"),
            ("http://[fd00::9]/", "neither"),
            ("http://[fd00::9]80/", "neither"),
            ("http://[10.0.0.9]:80/", "`[10.0.0.9]`"),
            ("http://[fe80::9%eth0]:80/", "`[fe80::9%eth0]`"),
            (":0/", "`0`"),
            (":+1/", "`+1`"),
            (":65536/", "`65536`"),
            ("http://10.0.0.9:80:80/", "`80:80`"),
            (":80/a b", "blank"),
            (":80/a\r\nHost: x", "blank"),
            (":80/ü", "blank"),
            (long.as_str(), "201 bytes"),
        ] {
            let error = url.parse::<StopUrl>().expect_err(url).to_string();
            assert!(error.contains("`drain`") && error.contains(expected), "{url}: {error}");
        }
        assert!(long[..long.len() - 1].parse::<StopUrl>().is_ok());
        assert!(":65535/".parse::<StopUrl>().is_ok());
    }

    #[test]
    fn a_failure_is_one_line_and_never_empty() {
        for (words, expected) in [
            ("disk full\n", "disk full"),
            ("a\r\n\tb\u{1b}[31m\u{9b}", "a   b [31m"),
            ("", UNEXPLAINED),
            (" \n\0 ", UNEXPLAINED),
        ] {
            assert_eq!(Failure::new(words), Failure(expected.to_owned()));
        }
        let mut instance = instance();
        tell(&mut instance, &Report::Failed(Failure::new(&"ü".repeat(4000))), 1);
        assert_eq!(instance.progress.failure.expect("given").len(), LONGEST_FAILURE);
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_our_own_and_one_word(text: String, tail in "[ -~]{0,40}") {
            for text in [text, format!(":1{tail}"), format!("http://10.0.0.9:1{tail}")] {
                let Ok(url) = text.parse::<StopUrl>() else { continue };
                if let Ok(Callback { address, port, path }) = url.on(OWN) {
                    prop_assert!(address == OWN && port != 0 && path.starts_with('/'));
                    prop_assert!(!path.contains([' ', '\r', '\n']));
                }
            }
        }

        #[test]
        fn no_failure_has_a_control_character(words: String) {
            let Failure(kept) = Failure::new(&words);
            prop_assert!(!kept.is_empty() && !kept.chars().any(char::is_control));
        }
    }
}
