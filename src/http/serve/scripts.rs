//! Scripts, the straight way: they are what a crowd of machines asks for all at once,
//! and warp's routes take longer than all else of such an answer. What is not quite
//! plainly asked for, or is refused, goes through the routes as everything else does.

use std::{net::IpAddr, time::SystemTime};

use super::exchange::visitor;
use crate::{
    files::Catalogue,
    http::{
        Http,
        answer::{Answer, Asked, Premises, answer},
        head::{Head, Length},
        range::Conditions,
        reply::{self, Reply},
        report::Message,
        request::{Request, Wanted},
    },
    model::{Decision, Timestamp},
};

/// A script for who asks.
pub(super) struct Script {
    pub(super) reply: Reply,
    pub(super) wanted: Wanted,
}

/// The answer to a plain question for a script, if it is one and is not refused.
pub(super) async fn script(http: &Http, head: &Head, client: IpAddr) -> Option<Script> {
    let request = asked(head)?;
    let catalogue = Catalogue::default();
    let (policy, addressing) = (&http.policy, http.addressing);
    let premises = Premises { policy, addressing, catalogue: &catalogue };
    let asked = Asked { request: &request, visitor: visitor(http, client) };
    let now = Timestamp::from(SystemTime::now());
    let decided = http.store.look_or_decide(|state| {
        let Decision { answer, changes } = answer(state, &premises, &asked, now);
        match answer {
            Answer::Script(text) => Decision { answer: Some(text), changes },
            // It is decided once more, and then done.
            _ => Decision::only(None),
        }
    });
    let text = decided.await.ok()??;
    Some(Script { reply: reply::script(text), wanted: request.wanted })
}

/// What a plain target is made of.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'/' | b'.' | b'-' | b'_' | b'?' | b'=' | b':' | b'%')
}

/// The request, if it is a plain one for a script.
fn asked(head: &Head) -> Option<Request> {
    let target = head.target.as_str();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let may_be_one = path.ends_with(".ipxe") || path.contains("grub.cfg");
    if !may_be_one || head.body != Length::Bytes(0) || !target.bytes().all(is_plain) {
        return None;
    }
    let message = Message { query: query.to_owned(), ..Message::default() };
    let request = Request::read(&head.method, path, &message, Conditions::default()).ok()?;
    match &request.wanted {
        Wanted::OwnScript(_)
        | Wanted::ScriptOf { .. }
        | Wanted::ScriptAgain(_)
        | Wanted::GrubConfig(_) => Some(request),
        Wanted::Loader(_)
        | Wanted::InstanceFile { .. }
        | Wanted::Init { .. }
        | Wanted::Report { .. }
        | Wanted::UnclaimedFile { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_question_for_a_script_goes_the_straight_way() {
        for (request, is_plain) in [
            ("GET /infrakit.ipxe HTTP/1.1\r\n\r\n", true),
            ("HEAD /ipxe/02-00-00-00-00-01.ipxe?serial=7X HTTP/1.0\r\n\r\n", true),
            ("GET /boot/grub.cfg HTTP/1.1\r\n\r\n", true),
            ("GET http://x/infrakit.ipxe HTTP/1.1\r\n\r\n", false),
            ("POST /infrakit.ipxe HTTP/1.1\r\n\r\n", false),
            ("GET /infrakit.ipxe HTTP/1.1\r\nContent-Length: 1\r\n\r\n", false),
            ("GET /infrakit.ipxe#x HTTP/1.1\r\n\r\n", false),
            ("GET /nothing.ipxe HTTP/1.1\r\n\r\n", false),
            ("GET /ipxe/%zz.ipxe HTTP/1.1\r\n\r\n", false),
            ("GET /boot/0/0/x.ipxe HTTP/1.1\r\n\r\n", false),
        ] {
            let head = Head::read(request.as_bytes()).expect(request).expect("whole").0;
            assert_eq!(asked(&head).is_some(), is_plain, "{request}");
        }
    }
}
