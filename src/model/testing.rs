//! Values for the tests of all parts, made in one place, so that a new field is
//! added in one.

use super::{
    Asset, BootMode, Image, Instance, InstanceId, Mac, Machine, MachineEvent, Progress, Secrets,
    Source, Stage, Tags, Timestamp, Token,
};

/// A file of the image directory.
pub(crate) fn file(name: &str) -> Asset {
    Asset { source: Source::File(name.parse().expect("a name")), checksum: None }
}

/// Three secrets that no other number gives.
pub(crate) const fn secrets(number: u128) -> Secrets {
    Secrets {
        files: Token(number << 2),
        init: Token((number << 2) + 1),
        report: Token((number << 2) + 2),
    }
}

/// An instance of this machine; its ID, its secrets and its time are made of the
/// number.
pub(crate) fn instance(number: u64, mac: Mac) -> Instance {
    let now = Timestamp(number);
    Instance {
        id: InstanceId::next(None, now),
        logical_id: None,
        tags: Tags::new(),
        init: String::new().into(),
        mac,
        address: None,
        hostname: "host".parse().expect("a name"),
        index: None,
        boot: BootMode::Always,
        image: Some(
            Image { kernel: file("vmlinuz"), initrds: Vec::new(), cmdline: "a=b".to_owned() }
                .into(),
        ),
        secrets: secrets(u128::from(number)),
        provisioned_at: now,
        progress: Progress::new(now),
    }
}

/// A machine that has waited in the hold script since then.
pub(crate) fn held(mac: Mac, since: Timestamp) -> Machine {
    let machine = Machine::first(mac, MachineEvent::Waited, since).expect("it becomes known");
    Machine { last_seen: Some(since), stage: Some(Stage::Holding), ..machine }
}

/// These tags.
pub(crate) fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
