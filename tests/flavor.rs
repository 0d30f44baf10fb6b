//! The Flavor interface from outside: a group as InfraKit's controller drives it,
//! and machines that are asked to stop their work.

mod daemon;
mod machine;

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant, SystemTime},
};

use daemon::{Daemon, Home, LIMIT};
use machine::{IPXE, Machine, Ports};
use remoteboot::{
    model::{Callback, Change, Decision, Instance, Mac, MachineEvent, Progress, Timestamp},
    store::Store,
};
use serde_json::{Value, json};

/// How long a machine of these tests has to stop its work.
const SHORT: &str = "700ms";

#[test]
fn each_of_twenty_that_are_provisioned_at_once_gets_one_place_and_what_belongs_to_it() {
    let home = Home::new();
    waiting(&home, 20);
    let daemon = home.start(&[]);
    let each: Vec<Value> = (0..20)
        .map(|n| json!({"Tags": {"place": n.to_string()}, "CmdLine": format!("p={n}")}))
        .collect();
    let flavor = json!({"Tags": {"tier": "web"}, "CmdLine": "quiet", "Each": each});
    let allocation = json!({"Size": 20, "LogicalIDs": null});
    let params = json!({"Type": "", "Properties": flavor, "Allocation": allocation});
    let valid = daemon.call("Flavor.Validate", params);
    assert_eq!(valid, Ok(json!({"Type": "", "OK": true})));
    let properties = json!({"Kernel": "vmlinuz", "Hostname": "web-{{ index }}"});
    let provision = || {
        let spec = spec(&properties, &Value::Null);
        let prepared = prepare(&daemon, &flavor, &spec, &allocation);
        let params = json!({"Type": "", "Spec": prepared["Spec"]});
        daemon.call("Instance.Provision", params).expect("a machine")
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(provision)).collect();
        threads.into_iter().for_each(|thread| {
            thread.join().expect("no panic");
        });
    });
    let instances = described(&daemon);
    let places: BTreeSet<u64> = instances.iter().map(place).collect();
    assert_eq!(places, (0..20).collect());
    for instance in &instances {
        let place = place(instance);
        assert_eq!(instance["Tags"]["place"], place.to_string());
        assert_eq!(instance["Tags"]["tier"], "web");
        assert_eq!(instance["Properties"]["CmdLine"], format!("quiet p={place}"));
        assert_eq!(instance["Properties"]["hostname"], format!("web-{place}"));
    }
    // Who takes the place of one that goes is given what belongs to that place.
    let gone = &instances[7];
    daemon.call("Instance.Destroy", json!({"Instance": gone["ID"]})).expect("it lives");
    let spec = spec(&properties, &Value::Null);
    let mut next = prepare(&daemon, &flavor, &spec, &allocation)["Spec"].clone();
    next["Properties"]["MAC"] = gone["Properties"]["mac"].clone();
    daemon.call("Instance.Provision", json!({"Spec": next})).expect("by its name");
    let places: BTreeSet<u64> = described(&daemon).iter().map(place).collect();
    assert_eq!(places, (0..20).collect());
}

#[test]
fn the_place_of_one_of_several_names_is_that_in_the_list_in_whatever_order_they_come() {
    let home = Home::new();
    waiting(&home, 3);
    let daemon = home.start(&[]);
    let allocation = json!({"Size": 0, "LogicalIDs": ["db", "web", "cache"]});
    let flavor = json!({"Each": [{"CmdLine": "a"}, {"CmdLine": "b"}, {"CmdLine": "c"}]});
    let properties = json!({"Kernel": "vmlinuz", "CmdLine": "i={{ index }}"});
    let provision = |name: &str| {
        let spec = spec(&properties, &json!(name));
        let prepared = prepare(&daemon, &flavor, &spec, &allocation);
        daemon.call("Instance.Provision", json!({"Spec": prepared["Spec"]})).expect("a machine")
    };
    for (name, place, cmdline) in [
        ("cache", 2, "i={{ index }} c"),
        ("db", 0, "i={{ index }} a"),
        ("web", 1, "i={{ index }} b"),
    ] {
        let id = provision(name)["ID"].clone();
        let described = described(&daemon);
        let one = described.iter().find(|one| one["ID"] == id).expect("it lives");
        assert_eq!(
            (one["LogicalID"].as_str(), &one["Properties"]["index"]),
            (Some(name), &json!(place))
        );
        assert_eq!(one["Properties"]["CmdLine"], cmdline);
        assert_eq!(provision(name)["ID"], id, "asked again");
    }
}

#[test]
fn what_cannot_be_is_said_in_the_words_of_who_wrote_it() {
    let home = Home::new();
    let daemon = home.start(&[]);
    let refusal = |method: &str, params: Value| {
        let error = daemon.call(method, params).expect_err(method);
        (error["code"].as_i64(), error["message"].as_str().expect("text").to_owned())
    };
    let two = json!({"Each": [{}, {}]});
    let too_few = refusal("Flavor.Validate", json!({"Properties": two, "Allocation": {"Size": 3}}));
    let says = "Properties.Each: its length is 2, but Allocation.Size is 3";
    assert_eq!(too_few, (Some(-32000), says.to_owned()));
    let wrong = refusal("Flavor.Healthy", json!({"Properties": {"BootTimeout": "soon"}}));
    assert!(wrong.1.starts_with("Properties.BootTimeout: `soon` is not a duration"), "{wrong:?}");
    let typed = refusal("Flavor.Drain", json!({"Type": "rack1"}));
    assert_eq!(typed, (Some(-32000), "no-plugin:rack1".to_owned()));
    let wrong = refusal("Flavor.Prepare", json!({"Spec": {"Init": 5}}));
    assert_eq!(wrong, (Some(-32600), "params.Spec.Init: expected a string, found 5".to_owned()));
}

#[test]
fn an_instance_is_healthy_when_its_machine_has_reported_and_not_when_it_is_late() {
    let home = Home::new();
    let now = Timestamp::from(SystemTime::now());
    let ids = instances(&home, |number, progress| match number {
        1 => progress.clone(),
        2 => progress.script(true, now).ready(None, now),
        _ => progress.script(true, now).failed("no disk", now),
    });
    let daemon = home.start(&[]);
    let health = |id: &str, boot_timeout: &str| {
        let params = json!({
            "Type": "", "Properties": {"BootTimeout": boot_timeout},
            "Instance": {"ID": id, "LogicalID": null, "Tags": null},
        });
        daemon.call("Flavor.Healthy", params).expect("known or not")["Health"].clone()
    };
    for (id, boot_timeout, expected) in [
        (ids[0].as_str(), "10m", 0),
        (&ids[0], "1ns", 2),
        (&ids[1], "1ns", 1),
        (&ids[2], "10m", 2),
        ("rb-ffffffffffffffff", "1ns", 0),
        ("nosuch", "1ns", 0),
    ] {
        assert_eq!(health(id, boot_timeout), expected, "{id} {boot_timeout}");
    }
    daemon.call("Instance.Destroy", json!({"Instance": ids[1]})).expect("it lives");
    assert_eq!(health(&ids[1], "10m"), 0);
}

#[test]
fn there_is_nothing_to_stop_in_what_does_not_run_or_is_not_there() {
    let home = Home::new();
    let now = Timestamp::from(SystemTime::now());
    let ids = instances(&home, |number, progress| match number {
        1 => progress.clone(),
        2 => progress.script(true, now).ready(None, now),
        _ => progress.script(true, now).ready(None, now).failed("no disk", now),
    });
    let daemon = home.start(&[]);
    daemon.call("Instance.Destroy", json!({"Instance": ids[1]})).expect("it lives");
    let begun = Instant::now();
    for id in ids.iter().map(String::as_str).chain(["nosuch", "rb-ffffffffffffffff", ""]) {
        drain(&daemon, id, "1h");
    }
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
}

#[test]
fn a_machine_is_asked_by_one_post_to_itself_and_has_stopped_when_it_answers() {
    let home = Home::new();
    let ports = Ports::free();
    let machine = Machine::new(7, ports);
    let arguments = ports.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let address = {
        let daemon = home.start(&arguments);
        let address = machine.lease(IPXE).address;
        provision_mac(&daemon, machine.mac);
        address
    };
    // The machine that listens is at the address that it was leased.
    let listener = TcpListener::bind((address, 0)).expect("the leased address");
    let id = report_ready(&home, listener.local_addr().expect("bound"));
    let daemon = home.start(&arguments);
    let answers = std::thread::spawn(move || {
        let (mut stream, request) = asked(&listener);
        write!(stream, "HTTP/1.1 204 Done\r\n\r\n").expect("sent");
        request
    });
    drain(&daemon, &id, "1h");
    let request = answers.join().expect("it was asked");
    assert!(request.starts_with("POST /stop?why=drain HTTP/1.1\r\n"), "{request}");
    assert!(request.to_lowercase().contains("content-length: 0\r\n"), "{request}");
    // It has stopped, so it is not asked again, and nobody listens any more.
    drain(&daemon, &id, "1h");
    drop(daemon);
    let drain = progress(&home, &id).drain;
    assert!(drain.asked_at.is_some() && drain.done_at.is_some(), "{drain:?}");
}

#[test]
fn a_machine_that_does_not_stop_holds_nobody_up_for_longer_than_said() {
    // Where it would be redirected to.
    let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    elsewhere.set_nonblocking(true).expect("a socket");
    let there = elsewhere.local_addr().expect("bound");
    let redirect =
        format!("HTTP/1.1 307 There\r\nLocation: http://{there}/\r\nContent-Length: 0\r\n\r\n");
    for answer in
        [Some("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), Some(&redirect), Some(""), None]
    {
        let home = Home::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let place = listener.local_addr().expect("bound");
        let now = Timestamp::from(SystemTime::now());
        let ids = instances(&home, |_, progress| {
            progress.script(true, now).ready(Some(callback(place)), now)
        });
        let daemon = home.start(&[]);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            match answer {
                Some(answer) => {
                    scope.spawn(move || {
                        let (mut stream, _) = asked(&listener);
                        // It may have been hung up on by then.
                        let _ = write!(stream, "{answer}");
                        let _ = stream.read(&mut [0]);
                    });
                }
                None => drop(listener),
            }
            drain(&daemon, &ids[0], SHORT);
        });
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(700) && took < LIMIT / 2, "{answer:?}: {took:?}");
        assert!(home.log().contains("not drained in time"), "{}", home.log());
        drop(daemon);
        let drain = progress(&home, &ids[0]).drain;
        assert!(drain.asked_at.is_some() && drain.done_at.is_none(), "{answer:?}: {drain:?}");
    }
    assert!(elsewhere.accept().is_err(), "no redirection is followed");
}

#[test]
fn others_are_served_while_a_machine_is_waited_for_and_its_end_ends_that() {
    let home = Home::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let place = listener.local_addr().expect("bound");
    let now = Timestamp::from(SystemTime::now());
    let ids = instances(&home, |_, progress| {
        progress.script(true, now).ready(Some(callback(place)), now)
    });
    let daemon = home.start(&[]);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| drain(&daemon, &ids[0], "1h"));
        // It is being waited for, and never answers.
        let _stream = asked(&listener);
        assert_eq!(described(&daemon).len(), 3);
        daemon.call("Instance.Destroy", json!({"Instance": ids[0]})).expect("it lives");
        waits.join().expect("no panic");
    });
    assert_eq!(described(&daemon).len(), 2);
}

/// Reads the head of the request that somebody sends here.
fn asked(listener: &TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = listener.accept().expect("a call");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).expect("text"))
}

fn callback(place: SocketAddr) -> Callback {
    let SocketAddr::V4(place) = place else { panic!("{place} is no IPv4 address") };
    Callback {
        address: (*place.ip()).into(),
        port: place.port(),
        path: "/stop?why=drain".to_owned(),
    }
}

/// Asks for a drain that is OK in any case.
fn drain(daemon: &Daemon, id: &str, timeout: &str) {
    let params = json!({
        "Type": "", "Properties": {"DrainTimeout": timeout},
        "Instance": {"ID": id, "LogicalID": null, "Tags": null},
    });
    assert_eq!(daemon.call("Flavor.Drain", params), Ok(json!({"Type": "", "OK": true})));
}

fn prepare(daemon: &Daemon, flavor: &Value, spec: &Value, allocation: &Value) -> Value {
    let params = json!({
        "Type": "", "Properties": flavor, "Spec": spec, "Allocation": allocation,
        "Index": {"Group": "g", "Sequence": 20},
    });
    daemon.call("Flavor.Prepare", params).expect("it fits")
}

fn spec(properties: &Value, logical_id: &Value) -> Value {
    json!({
        "Properties": properties, "Tags": {"infrakit.group": "g", "infrakit.config.hash": "x"},
        "Init": "", "LogicalID": logical_id, "Attachments": null,
    })
}

fn place(instance: &Value) -> u64 {
    instance["Properties"]["index"].as_u64().expect("a place")
}

fn described(daemon: &Daemon) -> Vec<Value> {
    let params = json!({"Type": "", "Tags": {}, "Properties": true});
    let result = daemon.call("Instance.DescribeInstances", params).expect("a list");
    result["Descriptions"].as_array().expect("a list").clone()
}

/// Does this to the state while no daemon has it.
fn change(home: &Home, changes: impl FnOnce(&Store) -> Vec<Change>) {
    let store = Store::open(&home.state(), None).expect("the store");
    let decision = Decision { answer: (), changes: changes(&store) };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(store.decide(|_| decision)).expect("written");
    store.close();
}

/// Machines that wait.
fn waiting(home: &Home, count: u8) {
    change(home, |_| {
        let machine = |last| {
            let (mac, at) = (Mac::new([2, 0, 0, 0, 0, last]), Timestamp(last.into()));
            remoteboot::model::Machine::first(mac, MachineEvent::Waited, at).expect("known")
        };
        (1..=count).map(|last| Change::Machine(machine(last))).collect()
    });
}

/// Three instances that have come so far; their IDs.
fn instances(home: &Home, progress: impl Fn(usize, &Progress) -> Progress) -> Vec<String> {
    waiting(home, 3);
    let ids: Vec<String> = {
        let daemon = home.start(&[]);
        let spec = json!({"Properties": {"Kernel": "vmlinuz"}});
        let provision = || daemon.call("Instance.Provision", json!({"Spec": spec})).expect("free");
        (0..3).map(|_| provision()["ID"].as_str().expect("text").to_owned()).collect()
    };
    change(home, |store| {
        let numbered = |(number, instance): (usize, &Instance)| {
            Change::Progress(instance.id, progress(number + 1, &instance.progress))
        };
        store.look(|state| state.instances.all().enumerate().map(numbered).collect())
    });
    ids
}

fn provision_mac(daemon: &Daemon, mac: Mac) {
    let properties = json!({"Kernel": "vmlinuz", "MAC": mac.to_string()});
    daemon.call("Instance.Provision", json!({"Spec": {"Properties": properties}})).expect("free");
}

/// The one instance has reported that it is ready, and where it can be asked.
fn report_ready(home: &Home, place: SocketAddr) -> String {
    let now = Timestamp::from(SystemTime::now());
    let mut id = String::new();
    change(home, |store| {
        let instance = store.look(|state| state.instances.all().next().cloned()).expect("one");
        id = instance.id.to_string();
        let ready = instance.progress.script(true, now).ready(Some(callback(place)), now);
        vec![Change::Progress(instance.id, ready)]
    });
    id
}

fn progress(home: &Home, id: &str) -> Progress {
    let store = Store::open(&home.state(), None).expect("the store");
    let id = id.parse().expect("an ID");
    store.look(|state| state.instances.find(id).map(|one| one.progress.clone())).expect("it lives")
}
