//! A store of the daemon's in which every machine has an instance with an address.

use std::path::Path;

use remoteboot::{
    model::{
        BootMode, Change, Decision, Instance, InstanceId, Mac, Progress, Secrets, Tags, Timestamp,
        Token,
    },
    store::Store,
};

use crate::machine;

/// Makes it, durably.
pub(crate) fn fill(directory: &Path, machines: u32) {
    let store = Store::open(directory, None).expect("a new store");
    let mut last = None;
    let mut next = || {
        last = Some(InstanceId::next(last, Timestamp(1)));
        last.expect("just made")
    };
    let changes = (0..machines).map(|number| Change::Instance(instance(next(), number))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let decision = Decision { answer: (), changes };
    runtime.block_on(store.decide(|_| decision)).expect("written");
    store.close();
}

fn instance(id: InstanceId, number: u32) -> Instance {
    let secret = |place: u128| Token(u128::from(number) * 3 + place);
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
