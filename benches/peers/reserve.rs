//! A store of the daemon's in which every machine has an instance with an address.

use std::path::Path;

use remoteboot::{
    model::{
        BootMode, Change, Decision, Image, Instance, InstanceId, Mac, Progress, Secrets, Tags,
        Timestamp, Token,
    },
    store::Store,
};

use crate::machine;

/// Makes it, durably.
pub(crate) fn fill(directory: &Path, machines: u32) {
    fill_with(directory, machines, None);
}

/// The same with machines that boot this.
pub(crate) fn fill_with(directory: &Path, machines: u32, image: Option<&Image>) {
    let store = Store::open(directory, None).expect("a new store");
    let mut last = None;
    let mut next = || {
        last = Some(InstanceId::next(last, Timestamp(1)));
        last.expect("just made")
    };
    let changes = (0..machines).map(|number| {
        let boot = if image.is_some() { BootMode::Always } else { BootMode::Never };
        let instance =
            Instance { image: image.cloned().map(Into::into), boot, ..instance(next(), number) };
        Change::Instance(instance)
    });
    let changes = changes.collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let decision = Decision { answer: (), changes };
    runtime.block_on(store.decide(|_| decision)).expect("written");
    store.close();
}

/// What only the script of this machine has, as it is in URLs.
pub(crate) fn secret(number: u32) -> String {
    token(number, 0).digits()
}

const fn token(number: u32, place: u128) -> Token {
    Token(number as u128 * 3 + place)
}

fn instance(id: InstanceId, number: u32) -> Instance {
    let secret = |place| token(number, place);
    Instance {
        id,
        logical_id: None,
        tags: Tags::new(),
        init: String::new().into(),
        mac: Mac::new(machine::bytes(number)),
        address: Some(machine::own(number)),
        hostname: format!("node-{number}").parse().expect("a name"),
        index: None,
        boot: BootMode::Never,
        image: None,
        secrets: Secrets { files: secret(0), init: secret(1), report: secret(2) },
        provisioned_at: Timestamp(1),
        progress: Progress::new(Timestamp(1)),
    }
}
