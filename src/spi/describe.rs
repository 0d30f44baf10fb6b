//! What DescribeInstances tells, written at once while the state is looked at:
//! a group controller polls it, also for ten thousand instances. Pure.

use std::net::Ipv4Addr;

use serde::Serialize;
use serde_json::value::RawValue;

use super::request::{Describe, Detail};
use crate::{
    model::{
        Architecture, Hostname, Instance, InstanceId, LogicalId, Mac, Machine, Stage, Tags,
        Timestamp,
    },
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
    tags: &'a Tags,
    #[serde(rename = "Properties", skip_serializing_if = "Option::is_none")]
    properties: Option<Details<'a>>,
}

/// What is known of the machine in small letters, what was asked for as it is
/// written in Properties.
#[derive(Serialize)]
struct Details<'a> {
    mac: Mac,
    ip: Option<Ipv4Addr>,
    hostname: &'a Hostname,
    arch: Option<&'static str>,
    state: &'static str,
    #[serde(rename = "Kernel")]
    kernel: String,
    #[serde(rename = "Initrd")]
    initrds: Vec<String>,
    #[serde(rename = "CmdLine")]
    cmdline: &'a str,
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
            tags: &instance.tags,
            properties: match request.detail {
                Detail::Identity => None,
                Detail::Properties => Some(details(state, instance, now)),
            },
        })
        .collect();
    serde_json::value::to_raw_value(&Descriptions { r#type: "", descriptions })
}

fn details<'a>(state: &State, instance: &'a Instance, now: Timestamp) -> Details<'a> {
    let machine = state.machines.find(instance.mac);
    Details {
        mac: instance.mac,
        ip: state.address_of(instance.mac, now).or(instance.address),
        hostname: &instance.hostname,
        arch: machine.and_then(|machine| machine.architecture).map(Architecture::name),
        state: progress(instance, machine),
        kernel: instance.image.kernel.source.to_string(),
        initrds: instance.image.initrds.iter().map(|initrd| initrd.source.to_string()).collect(),
        cmdline: &instance.image.cmdline,
    }
}

/// How far the instance has come, from what its machine has done since it was
/// provisioned; what it did before was for somebody else.
fn progress(instance: &Instance, machine: Option<&Machine>) -> &'static str {
    let asked = machine.filter(|machine| machine.last_seen > instance.provisioned_at);
    match asked.map(|machine| machine.stage) {
        Some(Stage::Script | Stage::Kernel) => "booting",
        Some(Stage::Firmware | Stage::Ipxe | Stage::Holding) | None => "provisioned",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        model::{Change, Lease, LeaseState},
        spi::answer::tests::{NOW, instance, mac, machine, waiting},
    };

    fn described(state: &State, tags: &[(&str, &str)], detail: Detail) -> Value {
        let tags =
            tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let result = describe(state, &Describe { tags, detail }, NOW).expect("JSON");
        serde_json::from_str(result.get()).expect("JSON")
    }

    fn seen(stage: Stage, at: u64) -> Change {
        match machine(1, 0) {
            Change::Seen(machine) => {
                Change::Seen(Machine { stage, last_seen: Timestamp(at), ..machine })
            }
            other => panic!("{other:?} is no machine"),
        }
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
            "Tags": {"infrakit.group": "w", "odd \"tag\"": "<&>\n"},
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
            "state": "provisioned", "Kernel": "vmlinuz", "Initrd": [], "CmdLine": "a=b",
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
    fn a_boot_of_the_instance_before_is_no_evidence() {
        let mut state = waiting(&[]);
        state.apply(&Change::Instance(instance(500, 1, &[])));
        for (stage, at, expected) in [
            (Stage::Kernel, 400, "provisioned"),
            (Stage::Ipxe, 600, "provisioned"),
            (Stage::Script, 700, "booting"),
            (Stage::Kernel, 800, "booting"),
        ] {
            state.apply(&seen(stage, at));
            let told = described(&state, &[], Detail::Properties);
            assert_eq!(told["Descriptions"][0]["Properties"]["state"], expected, "{stage:?} {at}");
        }
    }
}
