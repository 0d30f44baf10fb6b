//! Fifty clients at once provision, label and destroy what they and others made,
//! and a model says afterwards whether anything was lost or given twice.
//!
//! The model believes only what was acknowledged. An instance lives for certain
//! from the answer to its Provision until somebody asks for its Destroy; two that
//! had the same machine must not have lived for certain at the same time.

mod daemon;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Mutex,
    time::Instant,
};

use daemon::{Daemon, Home};
use remoteboot::{
    model::{Change, Decision, Mac, Machine, MachineEvent, Timestamp},
    store::Store,
};
use serde_json::{Value, json};

const CLIENTS: u64 = 50;
const CALLS: u32 = 40;
/// Fewer than clients, so that they get in each other's way.
const MACHINES: u8 = 30;

/// What the model knows of one instance.
#[derive(Debug, Clone)]
struct Known {
    mac: String,
    tags: BTreeMap<String, String>,
    answered: Instant,
    /// When the first Destroy of it was asked for, if one was acknowledged.
    destroy_asked: Option<Instant>,
}

type Model = Mutex<HashMap<String, Known>>;

/// A generator that gives the same numbers for the same seed (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
fn fifty_clients_lose_nothing_and_get_no_machine_twice() {
    let home = Home::new();
    let machines = waiting(&home);
    let daemon = home.start(&[]);
    let model = Model::default();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (daemon, model, machines) = (&daemon, &model, &machines);
            scope.spawn(move || call_often(daemon, model, (client, machines)));
        }
    });
    let model = model.into_inner().expect("no client panicked");
    assert!(model.len() > usize::from(MACHINES), "only {} were provisioned", model.len());
    let destroyed = model.values().filter(|known| known.destroy_asked.is_some()).count();
    assert!(destroyed > usize::from(MACHINES), "only {destroyed} were destroyed");
    no_machine_twice(&model);
    same_as(&model, &daemon);
    daemon.kill();
    same_as(&model, &home.start(&[]));
}

fn call_often(daemon: &Daemon, model: &Model, (client, machines): (u64, &[Mac])) {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ (client + 1));
    for turn in 0..CALLS {
        let some = || -> Option<String> {
            let model = model.lock().expect("no client panicked");
            let alive = model.iter().filter(|(_, known)| known.destroy_asked.is_none());
            let mut ids: Vec<&String> = alive.map(|(id, _)| id).collect();
            ids.sort();
            let place = Numbers(client * 31 + u64::from(turn) + 1).below(ids.len().max(1) as u64);
            ids.get(usize::try_from(place).expect("few")).map(|id| (*id).clone())
        };
        match numbers.below(10) {
            0..=4 => {
                let name = format!("{client}-{turn} \u{1f680} <&>\"");
                let mac =
                    machines[usize::try_from(numbers.below(machines.len() as u64)).expect("few")];
                provision(daemon, model, &name, (numbers.below(4) > 0).then_some(mac));
            }
            5..=7 => {
                let Some(id) = some() else { continue };
                destroy(daemon, model, &id);
            }
            _ => {
                let Some(id) = some() else { continue };
                label(daemon, model, &id, &format!("label {client} {turn}"));
            }
        }
    }
}

/// Provisions with a tag that nobody else uses, and asks which machine that is.
fn provision(daemon: &Daemon, model: &Model, name: &str, mac: Option<Mac>) {
    let mut properties = json!({"Kernel": "vmlinuz"});
    if let Some(mac) = mac {
        properties["MAC"] = json!(mac.to_string());
    }
    let tags = json!({"client": name});
    let spec = json!({"Properties": properties, "Tags": tags, "Init": name, "LogicalID": null});
    match daemon.call("Instance.Provision", json!({"Type": "", "Spec": spec})) {
        Ok(result) => {
            let id = result["ID"].as_str().expect("an ID").to_owned();
            let answered = Instant::now();
            let described = describe(daemon, &tags);
            assert_eq!(described.len(), 1, "{id} is not there: {described:?}");
            let mac = described[0]["Properties"]["mac"].as_str().expect("a MAC").to_owned();
            let tags = [("client".to_owned(), name.to_owned())].into();
            let new = Known { mac, tags, answered, destroy_asked: None };
            // Only from here on does anybody know of it who could destroy it.
            let mut model = model.lock().expect("no client panicked");
            assert!(model.insert(id.clone(), new).is_none(), "{id} was issued twice");
        }
        Err(error) => {
            let text = error["message"].as_str().expect("text");
            let expected = match mac {
                Some(mac) => format!("Properties.MAC: the machine {mac} is instance rb-"),
                None => "no free machine".to_owned(),
            };
            assert!(text.starts_with(&expected), "{text}");
        }
    }
}

fn destroy(daemon: &Daemon, model: &Model, id: &str) {
    let asked = Instant::now();
    let params = json!({"Type": "", "Instance": id, "Context": {"Reason": "terminate"}});
    daemon.call("Instance.Destroy", params).expect("it lives, or was destroyed before");
    let mut model = model.lock().expect("no client panicked");
    let known = model.get_mut(id).expect("it was acknowledged");
    known.destroy_asked = Some(known.destroy_asked.map_or(asked, |before| before.min(asked)));
}

/// Labels of different clients have different names, so that their order does
/// not matter.
fn label(daemon: &Daemon, model: &Model, id: &str, name: &str) {
    let params = json!({"Type": "", "Instance": id, "Labels": {name: "ü\n\u{0}"}});
    match daemon.call("Instance.Label", params) {
        Ok(_) => {
            let mut model = model.lock().expect("no client panicked");
            let known = model.get_mut(id).expect("it was acknowledged");
            known.tags.insert(name.to_owned(), "ü\n\u{0}".to_owned());
        }
        Err(error) => {
            assert_eq!(error["message"], format!("instance {id} was destroyed"));
        }
    }
}

/// Of the instances that had the same machine, one is asked to end before the next
/// is acknowledged.
fn no_machine_twice(model: &HashMap<String, Known>) {
    let mut by_machine: HashMap<&str, Vec<(&String, &Known)>> = HashMap::new();
    for (id, known) in model {
        by_machine.entry(&known.mac).or_default().push((id, known));
    }
    for (mac, mut instances) in by_machine {
        // IDs sort by time.
        instances.sort_by_key(|(id, _)| *id);
        for pair in instances.windows(2) {
            let ((before, earlier), (after, later)) = (pair[0], pair[1]);
            let asked = earlier.destroy_asked.unwrap_or_else(|| {
                panic!("{mac} is {before} still, and {after}");
            });
            assert!(asked <= later.answered, "{mac} was {before} and {after} at once");
        }
    }
}

/// Describe tells of exactly those that live, each with all its tags.
fn same_as(model: &HashMap<String, Known>, daemon: &Daemon) {
    let expected: BTreeSet<(String, String, BTreeMap<String, String>)> = model
        .iter()
        .filter(|(_, known)| known.destroy_asked.is_none())
        .map(|(id, known)| (id.clone(), known.mac.clone(), known.tags.clone()))
        .collect();
    let told = describe(daemon, &json!({}));
    let told: BTreeSet<_> = told
        .iter()
        .map(|one| {
            let mut tags: BTreeMap<String, String> =
                serde_json::from_value(one["Tags"].clone()).expect("tags");
            assert!(tags.remove("infrakit.state").is_some(), "{one}");
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            (text(&one["ID"]), text(&one["Properties"]["mac"]), tags)
        })
        .collect();
    assert_eq!(told, expected);
}

fn describe(daemon: &Daemon, tags: &Value) -> Vec<Value> {
    let params = json!({"Type": "", "Tags": tags, "Properties": true});
    let result = daemon.call("Instance.DescribeInstances", params).expect("a list");
    result["Descriptions"].as_array().expect("a list").clone()
}

/// Machines that wait in the hold script, put into the state before the start.
fn waiting(home: &Home) -> Vec<Mac> {
    let machines: Vec<Mac> = (1..=MACHINES).map(|last| Mac::new([2, 0, 0, 0, 0, last])).collect();
    let held = |mac: &Mac| {
        let machine = Machine::first(*mac, MachineEvent::Waited, Timestamp(1));
        Change::Machine(machine.expect("it becomes known"))
    };
    let decision = Decision { answer: (), changes: machines.iter().map(held).collect() };
    let store = Store::open(&home.state(), None).expect("a new store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(store.decide(|_| decision)).expect("written");
    store.close();
    machines
}
