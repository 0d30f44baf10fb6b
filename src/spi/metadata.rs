//! What Metadata.Get and Metadata.Keys tell: the state as a tree, so that a
//! template of InfraKit's can say `{{ metadata "remoteboot/pool/counts/held" }}`.
//!
//! Pure. Of the tree only what the path names is made. No token and no `Init` is
//! anywhere in it.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Serialize, Serializer};
use serde_json::{Value, value::RawValue};

use super::{
    path::Path,
    request::{Params, Unreadable, text},
};
use crate::{
    model::{
        Architecture, Instance, InstanceId, Lease, Lease6, LeaseState, LogicalId, Mac, Machine,
        MachineState, Stage, Tags, Timestamp,
    },
    state::State,
};

/// The parameters of both methods.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The plugin's name, as the caller wrote it; it goes back to the letter.
    name: String,
    path: Path,
}

impl Request {
    pub(super) fn read(params: &Params) -> Result<Self, Unreadable> {
        let name = text(params, "Name", "Name")?;
        // As InfraKit splits a name: behind the first slash is the object's.
        match name.split_once('/') {
            Some((_, object)) if !matches!(object, "" | ".") => {
                Err(Unreadable::NoSuchObject(object.to_owned()))
            }
            Some(_) | None => Ok(Self { path: Path::read(params, "Path")?, name }),
        }
    }
}

/// The result of Metadata.Get, with the names of InfraKit's Go type.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Got<'a> {
    name: &'a str,
    value: Box<RawValue>,
}

/// The result of Metadata.Keys, with the names of InfraKit's Go type.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed<'a> {
    name: &'a str,
    nodes: Vec<String>,
}

/// What is at the path, with all that is below it; null if there is nothing.
pub(super) fn get(
    state: &State,
    request: &Request,
    now: Timestamp,
) -> Result<Box<RawValue>, serde_json::Error> {
    let tree = Tree { state, now };
    let value = match request.path.words().as_slice() {
        [] => raw(&tree)?,
        ["machines"] => raw(&Machines(tree))?,
        ["instances"] => raw(&Instances(tree))?,
        ["leases"] => raw(&Leases(tree))?,
        path => raw(&tree.within(path)?)?,
    };
    raw(&Got { name: &request.name, value })
}

/// What follows the path, sorted; nothing if there is nothing at the path, or
/// nothing below it.
pub(super) fn keys(
    state: &State,
    request: &Request,
    now: Timestamp,
) -> Result<Box<RawValue>, serde_json::Error> {
    let tree = Tree { state, now };
    let mut nodes: Vec<String> = match request.path.words().as_slice() {
        [] => ["instances", "leases", "machines", "pool"].map(str::to_owned).into(),
        ["machines"] => state.machines.all().map(|machine| machine.mac.to_string()).collect(),
        ["instances"] => state.instances.all().map(|instance| instance.id.to_string()).collect(),
        ["leases"] => tree.leases().map(|(address, _)| address.to_string()).collect(),
        path => match tree.within(path)? {
            Value::Object(members) => members.into_iter().map(|(name, _)| name).collect(),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Vec::new(),
        },
    };
    nodes.sort_unstable();
    raw(&Listed { name: &request.name, nodes })
}

fn raw(value: &impl Serialize) -> Result<Box<RawValue>, serde_json::Error> {
    serde_json::value::to_raw_value(value)
}

/// The whole tree.
#[derive(Clone, Copy)]
struct Tree<'a> {
    state: &'a State,
    now: Timestamp,
}

impl Serialize for Tree<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Root<'a> {
            instances: Instances<'a>,
            leases: Leases<'a>,
            machines: Machines<'a>,
            pool: Pool,
        }
        let tree = *self;
        let root = Root {
            instances: Instances(tree),
            leases: Leases(tree),
            machines: Machines(tree),
            pool: tree.pool(),
        };
        root.serialize(serializer)
    }
}

impl<'a> Tree<'a> {
    /// What is at a path within one thing, or within the pool.
    fn within(self, path: &[&str]) -> Result<Value, serde_json::Error> {
        let (whole, rest) = match path {
            ["pool", rest @ ..] => (serde_json::to_value(self.pool())?, rest),
            ["machines", mac, rest @ ..] => {
                let machine = mac.parse().ok().and_then(|mac| self.state.machines.with_card(mac));
                (serde_json::to_value(machine.map(|machine| self.machine(machine)))?, rest)
            }
            ["instances", id, rest @ ..] => {
                let instance = id.parse().ok().and_then(|id| self.state.instances.find(id));
                (serde_json::to_value(instance.map(|instance| self.instance(instance)))?, rest)
            }
            ["leases", address, rest @ ..] => {
                let lease = address.parse().ok().and_then(|address| self.lease_of(address));
                (serde_json::to_value(lease)?, rest)
            }
            _ => return Ok(Value::Null),
        };
        Ok(below(whole, rest))
    }

    fn machine(self, machine: &'a Machine) -> MachineNode<'a> {
        MachineNode {
            mac: machine.mac,
            macs: machine.cards().collect(),
            serial: machine.identity.serial.as_deref(),
            slot: self.state.slot_of(machine),
            state: machine.shown_state(self.now).name(),
            since: machine.since.rfc3339(),
            stage: machine.stage.map(Stage::name),
            arch: machine.architecture.map(Architecture::name),
            uuid: machine.uuid.as_deref(),
            ip: self.state.any_address_of(machine.mac, None, self.now),
            labels: &machine.labels,
            first_seen: machine.first_seen.rfc3339(),
            last_seen: machine.last_seen.map(Timestamp::rfc3339),
            instance: self.state.instances.of_machine(machine.mac).map(|instance| instance.id),
        }
    }

    fn instance(self, instance: &'a Instance) -> InstanceNode<'a> {
        let progress = &instance.progress;
        InstanceNode {
            id: instance.id,
            logical_id: instance.logical_id.as_ref(),
            group: instance.group(),
            mac: instance.mac,
            state: progress.state.name(),
            since: progress.since.rfc3339(),
            boots: progress.boots,
            hostname: instance.hostname.to_string(),
            ip: self.state.any_address_of(instance.mac, instance.address, self.now),
            failure: progress.failure.as_ref().map(|text| instance.without_secrets(text)),
            tags: &instance.tags,
        }
    }

    /// All leases, those over IPv4 first. An offer is none: it may come to nothing.
    fn leases(self) -> impl Iterator<Item = (IpAddr, LeaseNode)> {
        let (addresses, addresses6) = (&self.state.addresses, &self.state.addresses6);
        let over_ipv4 = addresses.leases().filter(|lease| lease.state != LeaseState::Offered);
        let over_ipv6 = addresses6.leases().filter(|lease| lease.state != LeaseState::Offered);
        over_ipv4
            .map(move |lease| (lease.address.into(), self.lease(lease)))
            .chain(over_ipv6.map(move |lease| (lease.address.into(), self.lease6(lease))))
    }

    fn lease_of(self, address: IpAddr) -> Option<LeaseNode> {
        match address {
            IpAddr::V4(address) => {
                let lease = self.state.addresses.lease(address);
                lease.filter(|one| one.state != LeaseState::Offered).map(|one| self.lease(one))
            }
            IpAddr::V6(address) => {
                let lease = self.state.addresses6.lease(address);
                lease.filter(|one| one.state != LeaseState::Offered).map(|one| self.lease6(one))
            }
        }
    }

    fn lease(self, lease: &Lease) -> LeaseNode {
        let state = lease_state(lease.state, lease.is_held(self.now));
        let expires = lease.expires.rfc3339();
        LeaseNode { mac: Some(lease.mac), client: None, state, expires }
    }

    fn lease6(self, lease: &Lease6) -> LeaseNode {
        let state = lease_state(lease.state, lease.is_held(self.now));
        let mac = lease.holder.machine();
        let client = mac.is_none().then(|| lease.holder.to_string());
        LeaseNode { mac, client, state, expires: lease.expires.rfc3339() }
    }

    fn pool(self) -> Pool {
        let mut machines: BTreeMap<&str, Vec<Mac>> =
            MachineState::ALL.iter().map(|state| (state.name(), Vec::new())).collect();
        for machine in self.state.machines.all() {
            let state = machine.shown_state(self.now).name();
            machines.entry(state).or_default().push(machine.mac);
        }
        machines.values_mut().for_each(|macs| macs.sort_unstable());
        let counts = machines.iter().map(|(state, macs)| (*state, macs.len())).collect();
        Pool { counts, machines }
    }
}

#[derive(Serialize)]
struct MachineNode<'a> {
    mac: Mac,
    macs: Vec<Mac>,
    serial: Option<&'a str>,
    slot: Option<&'a str>,
    state: &'static str,
    since: String,
    stage: Option<&'static str>,
    arch: Option<&'static str>,
    uuid: Option<&'a str>,
    ip: Option<IpAddr>,
    labels: &'a Tags,
    first_seen: String,
    last_seen: Option<String>,
    instance: Option<InstanceId>,
}

#[derive(Serialize)]
struct InstanceNode<'a> {
    id: InstanceId,
    logical_id: Option<&'a LogicalId>,
    group: Option<&'a str>,
    mac: Mac,
    state: &'static str,
    since: String,
    boots: u32,
    hostname: String,
    ip: Option<IpAddr>,
    failure: Option<String>,
    tags: &'a Tags,
}

#[derive(Serialize)]
struct LeaseNode {
    mac: Option<Mac>,
    /// Who has it, if that is no machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    state: &'static str,
    expires: String,
}

const fn lease_state(state: LeaseState, is_held: bool) -> &'static str {
    match (state, is_held) {
        (LeaseState::Released, _) => "released",
        (_, false) => "expired",
        (LeaseState::Probing, true) => "probing",
        (LeaseState::Offered, true) => "offered",
        (LeaseState::Bound, true) => "bound",
        (LeaseState::Declined, true) => "declined",
    }
}

/// The machines by their state, and how many they are.
#[derive(Serialize)]
struct Pool {
    counts: BTreeMap<&'static str, usize>,
    #[serde(flatten)]
    machines: BTreeMap<&'static str, Vec<Mac>>,
}

struct Machines<'a>(Tree<'a>);

impl Serialize for Machines<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let machines = self.0.state.machines.all();
        serializer.collect_map(machines.map(|machine| (machine.mac, self.0.machine(machine))))
    }
}

struct Instances<'a>(Tree<'a>);

impl Serialize for Instances<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let instances = self.0.state.instances.all();
        serializer.collect_map(instances.map(|instance| (instance.id, self.0.instance(instance))))
    }
}

struct Leases<'a>(Tree<'a>);

impl Serialize for Leases<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.leases())
    }
}

/// What is below the value at this path. The name of a tag may have slashes.
fn below(mut value: Value, path: &[&str]) -> Value {
    let [first, rest @ ..] = path else { return value };
    if let Some(inner) = value.get_mut(first) {
        return below(inner.take(), rest);
    }
    value.get_mut(path.join("/")).map(Value::take).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        model::{Change, Token, testing},
        spi::answer::tests::{NOW, instance, mac, waiting},
    };

    const INIT: &str = "#!/bin/sh\necho password";

    /// Three machines, an instance on the first, leases and an offer.
    fn state() -> State {
        let mut state = waiting(&[1, 2, 3]);
        let mut machine = testing::held(mac(2), Timestamp(NOW.0 - 1000));
        machine.labels = testing::tags(&[("rack", "7"), ("a/b", "c")]);
        state.apply(&Change::Machine(machine));
        let mut held = instance(5, 1, &[("infrakit.group", "w")]);
        held.init = INIT.to_owned().into();
        let secret = |token: Token| Token(token.0 | (0xfeed << 100));
        let secrets = held.secrets;
        held.secrets.files = secret(secrets.files);
        held.secrets.init = secret(secrets.init);
        held.secrets.report = secret(secrets.report);
        let words = format!("404 http://x/init/{}/init", held.secrets.init.digits());
        held.progress = held.progress.script(true, NOW).failed(&words, NOW);
        state.apply(&Change::Instance(held));
        for (last, of, kind, expires) in [
            (9, 1, LeaseState::Bound, NOW.0 + 1),
            (10, 2, LeaseState::Bound, NOW.0),
            (11, 3, LeaseState::Offered, NOW.0 + 1),
            (12, 3, LeaseState::Declined, NOW.0 + 1),
        ] {
            let address = [10, 0, 0, last].into();
            let lease = Lease { address, mac: mac(of), state: kind, expires: Timestamp(expires) };
            state.apply(&Change::Lease(lease));
        }
        state
    }

    fn asked(path: &str) -> Request {
        let mut params = Params::new();
        params.insert("Name".to_owned(), json!("x"));
        params.insert("Path".to_owned(), json!(path));
        Request::read(&params).expect("parameters")
    }

    fn value(state: &State, path: &str) -> Value {
        let got = get(state, &asked(path), NOW).expect("JSON");
        let got: Value = serde_json::from_str(got.get()).expect("JSON");
        assert_eq!(got["Name"], "x");
        got["Value"].clone()
    }

    fn nodes(state: &State, path: &str) -> Value {
        let listed = keys(state, &asked(path), NOW).expect("JSON");
        let listed: Value = serde_json::from_str(listed.get()).expect("JSON");
        assert_eq!(listed["Name"], "x");
        listed["Nodes"].clone()
    }

    #[test]
    fn every_leaf_has_its_value() {
        let state = state();
        for (path, expected) in [
            ("machines/52:54:00:00:00:02/state", json!("held")),
            ("machines/52-54-00-00-00-02/labels", json!({"rack": "7", "a/b": "c"})),
            ("machines/52:54:00:00:00:02/labels/rack", json!("7")),
            ("machines/52:54:00:00:00:02/labels/a/b", json!("c")),
            ("machines/52:54:00:00:00:03/state", json!("free")),
            ("machines/52:54:00:00:00:03/instance", json!(null)),
            ("machines/52:54:00:00:00:01/instance", json!("rb-0000000000050000")),
            ("machines/52:54:00:00:00:01/ip", json!("10.0.0.9")),
            ("machines/52:54:00:00:00:01/stage", json!("holding")),
            ("instances/rb-0000000000050000/group", json!("w")),
            ("instances/rb-0000000000050000/state", json!("failed")),
            ("instances/rb-0000000000050000/boots", json!(1)),
            ("instances/rb-0000000000050000/failure", json!("404 http://x/init/.../init")),
            ("instances/rb-0000000000050000/tags", json!({"infrakit.group": "w"})),
            ("pool/held", json!(["52:54:00:00:00:02"])),
            ("pool/releasing", json!([])),
            ("pool/counts/assigned", json!(1)),
            ("leases/10.0.0.9/mac", json!("52:54:00:00:00:01")),
            ("leases/10.0.0.9/state", json!("bound")),
            ("leases/10.0.0.10/state", json!("expired")),
            ("leases/10.0.0.12/state", json!("declined")),
        ] {
            assert_eq!(value(&state, path), expected, "{path}");
            if !expected.is_object() {
                assert_eq!(nodes(&state, path), json!([]), "{path}");
            }
        }
    }

    #[test]
    fn what_there_is_not_is_null_and_has_no_keys() {
        let state = state();
        for path in [
            "nosuch/x",
            "machines/x",
            "machines/52:54:00:00:00:09",
            "machines/52:54:00:00:00:01/nosuch",
            "machines/52:54:00:00:00:01/state/x",
            "instances/rb-0000000000060000/state",
            "leases/10.0.0.11",
            "leases/10.0.0.99/mac",
            "pool/nosuch",
            "pool/held/0",
        ] {
            assert_eq!(value(&state, path), Value::Null, "{path}");
            assert_eq!(nodes(&state, path), json!([]), "{path}");
        }
    }

    /// The keys lead to exactly what Get of an inner path shows, down to the leaves.
    #[test]
    fn keys_and_values_agree_from_the_root_to_every_leaf() {
        fn walk(state: &State, path: &str, expected: &Value) -> usize {
            assert_eq!(&value(state, path), expected, "{path}");
            let members = expected.as_object().cloned().unwrap_or_default();
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            assert_eq!(nodes(state, path), json!(names), "{path}");
            let below =
                |(name, value): (&String, &Value)| walk(state, &format!("{path}/{name}"), value);
            1 + members.iter().map(below).sum::<usize>()
        }
        let state = state();
        let whole = value(&state, ".");
        assert_eq!(value(&state, ""), whole);
        assert!(walk(&state, "", &whole) > 70, "{whole}");
        assert_eq!(nodes(&state, "."), json!(["instances", "leases", "machines", "pool"]));
        assert_eq!(nodes(&state, "pool/counts").as_array().map(Vec::len), Some(7));
    }

    #[test]
    fn no_secret_of_an_instance_is_in_the_tree() {
        let state = state();
        let whole = value(&state, ".").to_string();
        assert!(!whole.contains("password"), "{whole}");
        for instance in state.instances.all() {
            let secrets = instance.secrets;
            for secret in [secrets.files, secrets.init, secrets.report] {
                assert!(!whole.contains(&secret.digits()), "{whole}");
            }
        }
    }
}
