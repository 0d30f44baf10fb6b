//! No head and no path panics, and whatever part of a file a range chooses is
//! within it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use remoteboot::http::{
    head::Head,
    range::{Conditions, Facts, Selection},
    request::Request,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some((head, length))) = Head::read(bytes) else { return };
    assert!(length <= bytes.len());
    let _ = Request::read(&head.method, &head.target, Conditions::default());
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
});
