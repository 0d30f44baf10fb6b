//! What DescribeInstances tells, written at once while the state is looked at:
//! a group controller polls it, also for ten thousand instances. Pure.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::value::RawValue;

use super::request::{Describe, Detail};
use crate::{
    model::{Architecture, Hostname, Instance, InstanceId, LogicalId, Mac, Source, Timestamp},
    state::State,
};

/// The result, with the names of InfraKit's Go types.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Descriptions<'a> {
    r#type: &'static str,
    descriptions: Vec<Description<'a>>,
}

#[derive(Serialize)]
struct Description<'a> {
    #[serde(rename = "ID")]
    id: InstanceId,
    #[serde(rename = "LogicalID")]
    logical_id: Option<&'a LogicalId>,
    #[serde(rename = "Tags")]
    tags: Shown<'a>,
    #[serde(rename = "Properties", skip_serializing_if = "Option::is_none")]
    properties: Option<Details<'a>>,
}

/// The tags as they were given, and the one that is made here.
struct Shown<'a>(&'a Instance);

impl Serialize for Shown<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = (Instance::STATE_TAG, self.0.progress.state.name());
        let given = self.0.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        serializer.collect_map(given.chain([own]))
    }
}

/// What is known of the machine in small letters, what was asked for as it is
/// written in Properties.
#[derive(Serialize)]
struct Details<'a> {
    mac: Mac,
    /// All its cards, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    macs: Option<Vec<Mac>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<&'a str>,
    ip: Option<IpAddr>,
    hostname: &'a Hostname,
    arch: Option<&'static str>,
    state: &'static str,
    since: String,
    boots: u32,
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    #[serde(rename = "Boot")]
    boot: &'static str,
    // Not flattened from a struct of their own: that takes twice as long to write.
    #[serde(rename = "Kernel", skip_serializing_if = "Option::is_none")]
    kernel: Option<Written<'a>>,
    #[serde(rename = "Initrd", skip_serializing_if = "Option::is_none")]
    initrd: Option<Vec<Written<'a>>>,
    #[serde(rename = "CmdLine", skip_serializing_if = "Option::is_none")]
    cmdline: Option<&'a str>,
}

/// A source as it was written.
struct Written<'a>(&'a Source);

impl Serialize for Written<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Source::File(file) => serializer.serialize_str(file.as_str()),
            Source::Url(url) => serializer.serialize_str(url),
        }
    }
}

/// The instances that have all the tags, oldest first.
pub(super) fn describe(
    state: &State,
    request: &Describe,
    now: Timestamp,
) -> Result<Box<RawValue>, serde_json::Error> {
    let descriptions = state
        .instances
        .tagged(&request.tags)
        .into_iter()
        .map(|instance| Description {
            id: instance.id,
            logical_id: instance.logical_id.as_ref(),
            tags: Shown(instance),
            properties: match request.detail {
                Detail::Identity => None,
                Detail::Properties => Some(details(state, instance, now)),
            },
        })
        .collect();
    serde_json::value::to_raw_value(&Descriptions { r#type: "", descriptions })
}

fn details<'a>(state: &'a State, instance: &'a Instance, now: Timestamp) -> Details<'a> {
    let machine = state.machines.find(instance.mac);
    let image = instance.image.as_ref();
    Details {
        mac: instance.mac,
        macs: machine
            .filter(|machine| !machine.identity.cards.is_empty())
            .map(|machine| machine.cards().collect()),
        slot: machine.and_then(|machine| state.slot_of(machine)),
        ip: state.any_address_of(instance.mac, instance.address, now),
        hostname: &instance.hostname,
        arch: machine.and_then(|machine| machine.architecture).map(Architecture::name),
        state: instance.progress.state.name(),
        since: instance.progress.since.rfc3339(),
        boots: instance.progress.boots,
        index: instance.index,
        failure: instance.progress.failure.as_ref().map(|text| instance.without_secrets(text)),
        boot: instance.boot.name(),
        kernel: image.map(|image| Written(&image.kernel.source)),
        initrd: image
            .map(|image| image.initrds.iter().map(|initrd| Written(&initrd.source)).collect()),
        cmdline: image.map(|image| image.cmdline.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        model::{Change, Lease, LeaseState},
        spi::answer::tests::{NOW, instance, mac, waiting},
    };

    fn described(state: &State, tags: &[(&str, &str)], detail: Detail) -> Value {
        let tags =
            tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let result = describe(state, &Describe { tags, detail }, NOW).expect("JSON");
        serde_json::from_str(result.get()).expect("JSON")
    }

    #[test]
    fn nothing_is_an_empty_list_and_not_null() {
        let empty = json!({"Type": "", "Descriptions": []});
        assert_eq!(described(&waiting(&[1]), &[], Detail::Properties), empty);
    }

    #[test]
    fn only_instances_with_all_the_tags_are_told_of_and_tags_to_the_letter() {
        let mut state = waiting(&[1, 2]);
        let tags = [("infrakit.group", "w"), ("odd \"tag\"", "<&>\n")];
        state.apply(&Change::Instance(instance(5, 1, &tags)));
        state.apply(&Change::Instance(instance(6, 2, &[("infrakit.group", "w")])));
        let one = json!({"Type": "", "Descriptions": [{
            "ID": "rb-0000000000050000", "LogicalID": null,
            "Tags": {
                "infrakit.group": "w", "odd \"tag\"": "<&>\n", "infrakit.state": "provisioning",
            },
        }]});
        assert_eq!(described(&state, &tags, Detail::Identity), one);
        let both = described(&state, &tags[..1], Detail::Identity);
        assert_eq!(both["Descriptions"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn details_are_what_is_known_of_the_machine() {
        let mut state = waiting(&[1]);
        let mut held = instance(5, 1, &[]);
        held.address = Some([10, 0, 0, 40].into());
        state.apply(&Change::Instance(held));
        let details = json!({
            "mac": mac(1).to_string(), "ip": "10.0.0.40", "hostname": "host", "arch": null,
            "state": "provisioning", "since": "1970-01-01T00:00:00.005Z", "boots": 0,
            "index": null, "Boot": "always", "Kernel": "vmlinuz", "Initrd": [], "CmdLine": "a=b",
        });
        let told = |state: &State| {
            described(state, &[], Detail::Properties)["Descriptions"][0]["Properties"].clone()
        };
        assert_eq!(told(&state), details);
        state.apply(&Change::Lease(Lease {
            address: [10, 0, 0, 9].into(),
            mac: mac(1),
            state: LeaseState::Bound,
            expires: Timestamp(NOW.0 + 1),
        }));
        assert_eq!(told(&state)["ip"], "10.0.0.9");
    }

    #[test]
    fn how_far_it_has_come_is_told_in_the_details_and_by_a_tag_that_can_be_asked_for() {
        let mut state = waiting(&[]);
        let one = instance(500, 1, &[]);
        state.apply(&Change::Instance(one.clone()));
        state.apply(&Change::Instance(instance(501, 2, &[])));
        let booting = one.progress.script(true, Timestamp(600));
        let failed = booting.failed("no disk", Timestamp(700));
        for (progress, name, boots) in [(booting, "booting", 1), (failed, "failed", 1)] {
            state.apply(&Change::Progress(one.id, progress));
            let tag = [(Instance::STATE_TAG, name)];
            let told = described(&state, &tag, Detail::Properties);
            let told = told["Descriptions"].as_array().expect("a list");
            assert_eq!(told.len(), 1);
            assert_eq!(told[0]["Tags"], json!({Instance::STATE_TAG: name}));
            assert_eq!(told[0]["Properties"]["state"], name);
            assert_eq!(told[0]["Properties"]["boots"], boots);
        }
        let told = described(&state, &[], Detail::Properties);
        assert_eq!(told["Descriptions"][0]["Properties"]["failure"], "no disk");
        assert_eq!(told["Descriptions"][1]["Properties"]["failure"], Value::Null);
    }

    #[test]
    fn a_failure_that_quotes_the_url_that_failed_is_told_without_its_secret() {
        let mut state = waiting(&[]);
        let one = instance(500, 1, &[]);
        let secrets = one.secrets;
        state.apply(&Change::Instance(one.clone()));
        for secret in [secrets.files, secrets.init, secrets.report].map(crate::model::Token::digits)
        {
            let words = format!("404 for http://10.0.0.1/x/{secret}/y");
            let failed = Change::Progress(one.id, one.progress.failed(&words, NOW));
            state.apply(&failed);
            let told = described(&state, &[], Detail::Properties);
            let failure = &told["Descriptions"][0]["Properties"]["failure"];
            assert_eq!(failure, "404 for http://10.0.0.1/x/.../y");
        }
    }
}
