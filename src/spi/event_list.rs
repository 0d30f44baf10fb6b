//! What Event.List tells: the tree of topics, from the state and from what can
//! happen to each kind of thing. Pure.

use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    path::Path,
    request::{Params, Unreadable},
};
use crate::{
    events::{DHCP_EVENTS, DOORS, INSTANCE_EVENTS, LEASE_EVENTS, MACHINE_EVENTS, ROOTS},
    model::{InstanceId, LeaseState, Mac},
    state::State,
};

/// The result, with the name of InfraKit's Go type.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Nodes<'a> {
    nodes: &'a [String],
}

/// The topic whose next words are asked for.
pub(super) fn read(params: &Params) -> Result<Path, Unreadable> {
    Path::read(params, "Topic")
}

/// What follows this topic, sorted; nothing behind the last word and behind a
/// topic that there is not.
pub(super) fn nodes(state: &State, topic: &Path) -> Result<Box<RawValue>, serde_json::Error> {
    let mut nodes = below(state, &topic.words());
    nodes.sort_unstable();
    serde_json::value::to_raw_value(&Nodes { nodes: &nodes })
}

fn below(state: &State, topic: &[&str]) -> Vec<String> {
    let fixed = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let if_known =
        |is_known: bool, words: &[&str]| if is_known { fixed(words) } else { Vec::new() };
    match topic {
        [] => fixed(&ROOTS),
        ["machine"] => state.machines.all().map(|machine| machine.mac.to_string()).collect(),
        ["instance"] => state.instances.all().map(|instance| instance.id.to_string()).collect(),
        ["lease"] => {
            let over_ipv4 = state.addresses.leases().filter(|one| one.state != LeaseState::Offered);
            let over_ipv6 =
                state.addresses6.leases().filter(|one| one.state != LeaseState::Offered);
            let over_ipv6 = over_ipv6.map(|lease| lease.address.to_string());
            over_ipv4.map(|lease| lease.address.to_string()).chain(over_ipv6).collect()
        }
        ["refusal"] => fixed(&DOORS),
        ["machine", mac] => {
            let mac = mac.parse::<Mac>().ok();
            if_known(mac.is_some_and(|mac| state.machines.find(mac).is_some()), MACHINE_EVENTS)
        }
        ["instance", id] => {
            let id = id.parse::<InstanceId>().ok();
            if_known(id.is_some_and(|id| state.instances.find(id).is_some()), &INSTANCE_EVENTS)
        }
        ["lease", address] => {
            let lease = match address.parse() {
                Ok(IpAddr::V4(one)) => state.addresses.lease(one).map(|lease| lease.state),
                Ok(IpAddr::V6(one)) => state.addresses6.lease(one).map(|lease| lease.state),
                Err(_) => None,
            };
            if_known(lease.is_some_and(|state| state != LeaseState::Offered), &LEASE_EVENTS)
        }
        ["dhcp", address] => if_known(address.parse::<Ipv4Addr>().is_ok(), &DHCP_EVENTS),
        // Who will be refused is not known before, and no other server is remembered.
        [..] => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        model::{Change, Lease, Timestamp},
        spi::{
            answer::tests::{instance, mac, waiting},
            path::tests::read,
        },
    };

    #[test]
    fn the_tree_leads_to_every_topic_and_ends_in_empty_lists() {
        let mut state = waiting(&[2, 1]);
        let held = instance(5, 1, &[]);
        state.apply(&Change::Instance(held.clone()));
        for (last, kind) in [(9, LeaseState::Bound), (10, LeaseState::Offered)] {
            let address = [10, 0, 0, last].into();
            let lease = Lease { address, mac: mac(1), state: kind, expires: Timestamp(9) };
            state.apply(&Change::Lease(lease));
        }
        let listed = |topic: &str| -> Value {
            let path = read(json!(topic)).expect("a path");
            serde_json::from_str(nodes(&state, &path).expect("JSON").get()).expect("JSON")
        };
        for (topic, expected) in [
            (".", json!(["dhcp", "instance", "lease", "machine", "refusal"])),
            ("dhcp", json!([])),
            ("dhcp/10.0.0.3", json!(DHCP_EVENTS)),
            ("machine", json!(["52:54:00:00:00:01", "52:54:00:00:00:02"])),
            ("machine/52:54:00:00:00:01", json!(MACHINE_EVENTS)),
            ("machine/52:54:00:00:00:01/state", json!([])),
            ("machine/52:54:00:00:00:09", json!([])),
            ("instance", json!([held.id.to_string()])),
            ("lease", json!(["10.0.0.9"])),
            ("lease/10.0.0.9", json!(LEASE_EVENTS)),
            ("lease/10.0.0.10", json!([])),
            ("refusal", json!(DOORS)),
            ("refusal/dhcp", json!([])),
            ("streams", json!([])),
        ] {
            assert_eq!(listed(topic), json!({"Nodes": expected}), "{topic}");
        }
        let id = format!("instance/{}", held.id);
        assert_eq!(listed(&id), json!({"Nodes": INSTANCE_EVENTS}));
        for list in [MACHINE_EVENTS, &INSTANCE_EVENTS, &LEASE_EVENTS, &DOORS, &ROOTS] {
            assert!(list.is_sorted(), "{list:?}");
        }
    }
}
