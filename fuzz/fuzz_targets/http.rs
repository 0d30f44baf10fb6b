//! No head, path, query or body panics; whatever part of a file a range chooses
//! is within it; and nothing that is another machine's is answered.
#![no_main]

use libfuzzer_sys::fuzz_target;
use remoteboot::{
    boot::{Addressing, Policy, Visitor},
    files::Catalogue,
    http::{
        answer::{Answer, Asked, Premises, answer},
        head::Head,
        range::{Conditions, Facts, Selection},
        report::Message,
        request::{LARGEST_BODY, Request, Wanted, body_to_read, loggable},
    },
    model::{
        BootMode, Change, Instance, InstanceId, Lease, LeaseState, Mac, Progress, Secrets,
        Timestamp, Token,
    },
    state::State,
};

const NOW: Timestamp = Timestamp(1000);

/// An instance with secrets of the digits 1, 2 and 3, on another machine than
/// the one that asks.
fn state() -> State {
    let [own, other] = [1, 2].map(|last| Mac::new([2, 0, 0, 0, 0, last]));
    let mut state = State::new(None);
    let (address, expires) = ([10, 0, 0, 9].into(), Timestamp(5000));
    state.apply(&Change::Lease(Lease { address, mac: own, state: LeaseState::Bound, expires }));
    let digits = |digit: u128| Token(u128::MAX / 15 * digit);
    state.apply(&Change::Instance(Instance {
        id: InstanceId::next(None, NOW),
        logical_id: None,
        tags: [].into(),
        init: "secret".to_owned().into(),
        mac: other,
        address: None,
        hostname: "host".parse().expect("a name"),
        index: None,
        boot: BootMode::Always,
        image: None,
        secrets: Secrets { files: digits(1), init: digits(2), report: digits(3) },
        provisioned_at: NOW,
        progress: Progress::new(NOW),
    }));
    state
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some((head, length))) = Head::read(bytes) else { return };
    assert!(length <= bytes.len());
    let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
    let _ = loggable(path);
    let rest = &bytes[length..];
    let body = body_to_read(&head, path).map(|length| {
        assert!(length <= LARGEST_BODY);
        rest[..length.min(rest.len())].to_vec()
    });
    let message = Message {
        query: query.to_owned(),
        body: body.unwrap_or_default(),
        is_form: head.has_form(),
    };
    let range =
        head.values("range").next().map(|value| String::from_utf8_lossy(value).into_owned());
    let conditions = Conditions { range, ..Conditions::default() };
    let facts = Facts {
        length: 10,
        entity_tag: "\"x\"".to_owned(),
        last_modified: "Thu, 01 Jan 1970 00:00:00 GMT".to_owned(),
    };
    if let Selection::Part { first, length } = conditions.select(&facts) {
        assert!(length > 0 && first + length <= 10);
    }
    let Ok(request) = Request::read(&head.method, path, &message, conditions) else { return };
    if let Wanted::Init { .. } | Wanted::Report { .. } = &request.wanted {
        assert!(
            request.wanted.to_string().contains("/.../")
                || request.wanted.to_string() == "/report/..."
        );
    }
    let server = [10, 0, 0, 1].into();
    let policy = Policy {
        rules: Default::default(),
        authority: "10.0.0.1".to_owned(),
        server,
        paths: remoteboot::boot::Paths::default(),
    };
    let catalogue = Catalogue::new([]);
    let premises =
        Premises { policy: &policy, addressing: Addressing::Ours, catalogue: &catalogue };
    let visitor = Visitor { address: [10, 0, 0, 9].into(), neighbour: None };
    let decision = answer(&state(), &premises, &Asked { request: &request, visitor }, NOW);
    match request.wanted {
        Wanted::OwnScript(_)
        | Wanted::ScriptOf { .. }
        | Wanted::ScriptAgain(_)
        | Wanted::GrubConfig(_) => {}
        _ => assert!(matches!(decision.answer, Answer::Refused(_)) && decision.changes.is_empty()),
    }
});
