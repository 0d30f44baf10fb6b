//! An unmodified group controller scales bare machines: whole groups over the
//! real socket, machines that lease, boot, report and obey over real sockets, and
//! a daemon that is killed in the middle of each.

mod controller;
mod daemon;
mod fleet;
mod machine;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use controller::{Client, Controller, Event, GROUP_TAG, Group, HASH_TAG, Member};
use daemon::{Daemon, Home};
use fleet::Fleet;
use machine::Ports;
use serde_json::{Value, json};

/// Of the controller. The real one takes ten seconds.
const INTERVAL: Duration = Duration::from_millis(250);

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Whether the daemon is killed in the middle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Daemons {
    OneLife,
    Killed,
}

/// A daemon, its machines, and somebody who watches that no machine is twice.
struct Stage {
    home: Home,
    ports: Ports,
    daemon: Mutex<Option<Daemon>>,
    fleet: Mutex<Fleet>,
    daemons: Daemons,
    watcher: Option<(Arc<AtomicBool>, std::thread::JoinHandle<Vec<String>>)>,
}

impl Stage {
    /// So many machines that wait.
    fn new(machines: u8, daemons: Daemons) -> Self {
        let (home, ports) = (Home::new(), Ports::free());
        let daemon = start(&home, ports);
        let fleet = Fleet::power_on(machines, ports);
        let ends = Arc::new(AtomicBool::new(false));
        let (socket, ended) = (home.socket(), Arc::clone(&ends));
        let watcher = std::thread::spawn(move || watch(&socket, &ended));
        let stage = Self {
            home,
            ports,
            daemon: Mutex::new(Some(daemon)),
            fleet: Mutex::new(fleet),
            daemons,
            watcher: Some((ends, watcher)),
        };
        stage.until("all wait", || {
            let waiting = stage.fleet.lock().expect("no panic").count_waiting();
            (waiting == usize::from(machines)).then_some(())
        });
        stage
    }

    fn commit(&self, group: Value) -> Controller {
        let group = Group::of(&group);
        Controller::commit(&self.home.socket(), group, INTERVAL)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.home.log()))
    }

    /// The middle of a story: the daemon dies here, if this one is about that.
    fn middle(&self) {
        if self.daemons == Daemons::OneLife {
            return;
        }
        let mut daemon = self.daemon.lock().expect("no panic");
        daemon.take().expect("it runs").kill();
        *daemon = Some(start(&self.home, self.ports));
    }

    fn call(&self, method: &str, params: Value) -> Result<Value, Value> {
        self.daemon.lock().expect("no panic").as_ref().expect("it runs").call(method, params)
    }

    fn running(&self, mac: &str) -> Option<fleet::Running> {
        self.fleet.lock().expect("no panic").running(mac)
    }

    fn life(&self, mac: &str) -> fleet::Life {
        self.fleet.lock().expect("no panic").life(mac)
    }

    fn mac(&self, number: usize) -> String {
        self.fleet.lock().expect("no panic").mac(number)
    }

    #[track_caller]
    fn until<Thing>(&self, what: &str, mut look: impl FnMut() -> Option<Thing>) -> Thing {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(thing) = look() {
                return thing;
            }
            if Instant::now() > until {
                let log = self.home.log();
                let tells = |line: &&str| !line.contains("Describe") && !line.contains("/report/");
                let log: Vec<&str> = log.lines().filter(tells).collect();
                let log = log[log.len().saturating_sub(60)..].join("\n");
                let all = json!({"Type": "", "Tags": {}, "Properties": true});
                let there = self.call("Instance.DescribeInstances", all);
                panic!("not within {LIMIT:?}: {what}\n{there:?}\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the group has so many members, each of which runs on a machine
    /// of its own what its group says, and no other machine runs anything of it.
    #[track_caller]
    fn settled(&self, controller: &Controller, count: usize) -> Vec<Member> {
        let group = controller.group();
        self.until(&format!("{count} members of {} that run", group.id), || {
            let members = controller.members();
            let is_new = |member: &Member| member.tags[HASH_TAG] == group.hash();
            let runs = |member: &Member| {
                let running = self.running(member.mac());
                running.is_some_and(|one| one.word("id") == Some(member.id.as_str()))
            };
            let is_running = |member: &Member| member.properties["state"] == "running";
            let all = |check: &dyn Fn(&Member) -> bool| members.iter().all(check);
            (members.len() == count && all(&is_new) && all(&runs) && all(&is_running))
                .then_some(members)
        })
    }

    /// Waits until so many machines run something, all others wait.
    #[track_caller]
    fn run_in_all(&self, count: usize) {
        self.until(&format!("{count} machines run something"), || {
            (self.fleet.lock().expect("no panic").count_running() == count).then_some(())
        });
    }

    /// Nothing that was acknowledged and not destroyed is lost, and what the
    /// watcher saw was never wrong.
    #[track_caller]
    fn end(mut self, controllers: &[&Controller]) {
        for controller in controllers {
            let members: BTreeSet<String> =
                controller.members().into_iter().map(|member| member.id).collect();
            let mut expected = BTreeSet::new();
            for event in controller.events() {
                match event {
                    Event::Provisioned(id) | Event::Adopted(id) => drop(expected.insert(id)),
                    // Whether it came to that is not known if the daemon died over it.
                    Event::Destroying(id) => drop(expected.remove(&id)),
                    Event::Destroyed(..) | Event::Refused(..) => {}
                }
            }
            // A Provision whose answer was lost with the daemon is there as well.
            let lost: Vec<&String> = expected.difference(&members).collect();
            assert!(lost.is_empty(), "lost: {lost:?} of {members:?}");
        }
        let (ends, watcher) = self.watcher.take().expect("it watches until here");
        ends.store(true, Ordering::Relaxed);
        let seen = watcher.join().expect("no panic");
        assert!(seen.is_empty(), "{seen:?}");
    }
}

fn start(home: &Home, ports: Ports) -> Daemon {
    let mut arguments = ports.arguments();
    arguments.extend(["--log".to_owned(), "4".to_owned()]);
    home.start(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Looks at all instances again and again; what was ever wrong about them.
fn watch(socket: &std::path::Path, ends: &AtomicBool) -> Vec<String> {
    let (client, mut wrong) = (Client::new(socket), Vec::new());
    let mut machine_of: HashMap<String, String> = HashMap::new();
    while !ends.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(30));
        let all = json!({"Type": "", "Tags": {}, "Properties": true});
        let Ok(result) = client.call("Instance.DescribeInstances", &all) else { continue };
        let mut taken = BTreeMap::new();
        for description in result["Descriptions"].as_array().expect("a list") {
            let id = description["ID"].to_string();
            let mac = description["Properties"]["mac"].to_string();
            if let Some(other) = taken.insert(mac.clone(), id.clone()) {
                wrong.push(format!("{mac} is {other} and {id}"));
            }
            let known = machine_of.entry(id.clone()).or_insert_with(|| mac.clone());
            if *known != mac {
                wrong.push(format!("{id} was {known} and is {mac}"));
            }
        }
    }
    wrong
}

/// A group of cattle.
fn workers(id: &str, size: u32, release: u32) -> Value {
    json!({"ID": id, "Properties": {
        "Allocation": {"Size": size},
        "Instance": {"Plugin": "remoteboot", "Properties": {
            "Kernel": "vmlinuz", "CmdLine": "report={{ report }} id={{ id }}",
        }},
        "Flavor": {"Plugin": "remoteboot", "Properties": {
            "Init": ["#!/bin/sh", "echo worker"], "Tags": {"tier": "web"},
            "CmdLine": format!("release={release}"), "DrainTimeout": "3s",
        }},
        "Updating": {"Duration": "0s"},
    }})
}

/// Commits the change again if the update stopped since the daemon died over a
/// call, as whoever operates the controller does once the group is whole again.
/// (Sooner, and the controller counts one member less to wait for.)
fn again_if_stopped(stage: &Stage, controller: &mut Controller, changed: &Value) {
    let is_whole = controller.members().len() == controller.group().allocation.count();
    if let (Some(Err(error)), true) = (controller.updated(), is_whole) {
        assert!(stage.daemons == Daemons::Killed, "{error}");
        let _ = controller.change(group(changed));
    }
}

fn group(value: &Value) -> Group {
    Group::of(value)
}

fn a_group_goes_from_nothing_to_three_to_five_to_two(daemons: Daemons) {
    let stage = Stage::new(20, daemons);
    let mut workers = stage.commit(workers("workers", 3, 1));
    stage.until("one is there", || (!workers.members().is_empty()).then_some(()));
    stage.middle();
    let three = stage.settled(&workers, 3);
    workers.scale(5);
    stage.until("more are there", || (workers.members().len() > 3).then_some(()));
    stage.middle();
    let five = stage.settled(&workers, 5);
    assert!(three.iter().all(|one| five.iter().any(|other| other.id == one.id)), "all stayed");
    let indexes: BTreeSet<String> =
        five.iter().map(|one| one.properties["index"].to_string()).collect();
    assert_eq!(indexes, (0..5).map(|index: u32| index.to_string()).collect());
    workers.scale(2);
    stage.until("fewer are there", || (workers.members().len() < 5).then_some(()));
    stage.middle();
    let two = stage.settled(&workers, 2);
    let left: Vec<&str> = two.iter().map(|member| member.id.as_str()).collect();
    let youngest: Vec<&str> = five[3..].iter().map(|member| member.id.as_str()).collect();
    assert_eq!(left, youngest, "the oldest went first");
    for gone in &five[..3] {
        let life = stage.until("it waits again", || {
            let life = stage.life(gone.mac());
            life.running.is_none().then_some(life)
        });
        assert_eq!((life.booted.len(), life.drained), (1, 1), "{}: {life:?}", gone.mac());
    }
    stage.run_in_all(2);
    stage.end(&[&workers]);
}

#[test]
fn a_group_goes_from_nothing_to_three_to_five_to_two_of_twenty_machines() {
    a_group_goes_from_nothing_to_three_to_five_to_two(Daemons::OneLife);
}

#[test]
fn a_group_grows_and_shrinks_over_kills_of_the_daemon() {
    a_group_goes_from_nothing_to_three_to_five_to_two(Daemons::Killed);
}

fn a_rolling_update_stops_at_a_machine_that_never_reports(daemons: Daemons) {
    let stage = Stage::new(7, daemons);
    let mut controller = stage.commit(workers("workers", 5, 1));
    let before = stage.settled(&controller, 5);
    // Members go lowest ID first, and each new one takes the index that is free.
    let mute = before[2].properties["index"].as_u64().expect("an index");
    let mut changed = workers("workers", 5, 2);
    let each: Vec<Value> = (0..5)
        .map(|index| json!({"CmdLine": if index == mute { "lab.mute=1" } else { "x=1" }}))
        .collect();
    changed["Properties"]["Flavor"]["Properties"]["Each"] = json!(each);
    controller.change(group(&changed)).expect("accepted");
    stage.until("the first is replaced", || {
        let members = controller.members();
        (!members.iter().any(|member| member.id == before[0].id)).then_some(())
    });
    stage.middle();
    let mute = stage.until("the mute one boots", || {
        again_if_stopped(&stage, &mut controller, &changed);
        let members = controller.members();
        members.into_iter().find(|member| {
            let running = stage.running(member.mac());
            running.is_some_and(|one| one.word("lab.mute").is_some())
        })
    });
    // Many polls long nothing more happens.
    let until = Instant::now() + INTERVAL * 12;
    while Instant::now() < until {
        let members = controller.members();
        let old: Vec<&str> = members
            .iter()
            .filter(|member| before.iter().any(|one| one.id == member.id))
            .map(|member| member.id.as_str())
            .collect();
        assert_eq!(old, [before[3].id.as_str(), &before[4].id], "the others stay as they were");
        std::thread::sleep(INTERVAL);
    }
    let stopped_by_kill = matches!(controller.updated(), Some(Err(_)));
    assert!(!stopped_by_kill, "it waits for {}", mute.id);
    for one in &before[3..] {
        let running = stage.running(one.mac()).expect("it runs on");
        assert_eq!((running.word("release"), running.word("id")), (Some("1"), Some(&*one.id)));
        assert_eq!(stage.life(one.mac()).drained, 0);
    }
    // The operator takes the change back: all become what they were.
    controller.change(group(&workers("workers", 5, 1))).expect("accepted");
    stage.until("the update back", || controller.updated().filter(Result::is_ok)).expect("well");
    stage.settled(&controller, 5);
    stage.end(&[&controller]);
}

#[test]
fn a_rolling_update_stops_at_a_machine_that_never_reports_and_the_others_run_on() {
    a_rolling_update_stops_at_a_machine_that_never_reports(Daemons::OneLife);
}

#[test]
fn a_rolling_update_stops_at_a_mute_machine_over_a_kill_of_the_daemon() {
    a_rolling_update_stops_at_a_machine_that_never_reports(Daemons::Killed);
}

fn a_machine_that_dies_is_replaced(daemons: Daemons) {
    let stage = Stage::new(4, daemons);
    let controller = stage.commit(workers("workers", 3, 1));
    let before = stage.settled(&controller, 3);
    let dead = &before[1];
    stage.fleet.lock().expect("no panic").power_off(dead.mac());
    // Nobody looks at health in steady state: who operates it takes it out.
    stage.call("Machine.SetAside", json!({"MAC": dead.mac()})).expect("taken out");
    stage.middle();
    let params = json!({"Type": "", "Instance": dead.id, "Context": {"Reason": "terminate"}});
    stage.call("Instance.Destroy", params).expect("destroyed");
    stage.middle();
    let after = stage.settled(&controller, 3);
    assert!(after.iter().all(|member| member.mac() != dead.mac()), "{after:?}");
    for stayed in [&before[0], &before[2]] {
        assert!(after.iter().any(|member| member.id == stayed.id), "{} stayed", stayed.id);
        assert_eq!(stage.life(stayed.mac()).booted.len(), 1);
    }
    stage.end(&[]);
}

#[test]
fn a_machine_that_dies_and_is_set_aside_is_replaced_by_another() {
    a_machine_that_dies_is_replaced(Daemons::OneLife);
}

#[test]
fn a_machine_that_dies_is_replaced_over_kills_of_the_daemon() {
    a_machine_that_dies_is_replaced(Daemons::Killed);
}

fn two_groups_share_a_pool(daemons: Daemons) {
    let stage = Stage::new(8, daemons);
    let mut web = stage.commit(workers("web", 4, 1));
    let mut data = stage.commit(workers("data", 3, 7));
    stage.middle();
    let first = [stage.settled(&web, 4), stage.settled(&data, 3)].concat();
    let machines: BTreeSet<&str> = first.iter().map(Member::mac).collect();
    assert_eq!(machines.len(), 7);
    // One grows into what the other leaves, while there is but one machine left.
    data.scale(5);
    web.scale(2);
    stage.middle();
    let (two, five) = (stage.settled(&web, 2), stage.settled(&data, 5));
    for (members, release) in [(&two, "1"), (&five, "7")] {
        for member in members {
            let running = stage.running(member.mac()).expect("it runs");
            assert_eq!(running.word("release"), Some(release));
        }
    }
    stage.end(&[&web, &data]);
}

#[test]
fn two_groups_on_one_pool_never_share_a_machine() {
    two_groups_share_a_pool(Daemons::OneLife);
}

#[test]
fn two_groups_on_one_pool_never_share_a_machine_over_kills_of_the_daemon() {
    two_groups_share_a_pool(Daemons::Killed);
}

/// Which pets, by what they are called.
fn pets(logical_ids: &[String], release: u32) -> Value {
    let mut group = workers("pets", 1, release);
    group["Properties"]["Allocation"] = json!({"LogicalIDs": logical_ids});
    group
}

fn pets_stay(stage: &Stage, logical_ids: &[String], is_address: bool) {
    let mut controller = stage.commit(pets(logical_ids, 1));
    stage.middle();
    let before = stage.settled(&controller, logical_ids.len());
    let places = |members: &[Member]| -> BTreeMap<String, (String, String)> {
        let place = |member: &Member| {
            let running = stage.running(member.mac()).expect("it runs");
            let place = (member.mac().to_owned(), running.address.to_string());
            (member.logical_id.clone().expect("a pet"), place)
        };
        members.iter().map(place).collect()
    };
    let first = places(&before);
    for (logical_id, (mac, address)) in &first {
        assert_eq!(logical_id, if is_address { address } else { mac });
    }
    let changed = pets(logical_ids, 2);
    controller.change(group(&changed)).expect("accepted");
    stage.until("one is replaced", || {
        let members = controller.members();
        (members.iter().filter(|one| before.iter().any(|old| old.id == one.id)).count()
            < before.len())
        .then_some(())
    });
    stage.middle();
    let done = stage.until("the update", || {
        again_if_stopped(stage, &mut controller, &changed);
        controller.updated().filter(Result::is_ok)
    });
    done.expect("all went well");
    let after = stage.settled(&controller, logical_ids.len());
    assert_eq!(places(&after), first, "machine and address are the same");
    for member in &after {
        let running = stage.running(member.mac()).expect("it runs");
        assert_eq!(running.word("release"), Some("2"));
    }
    assert!(after.iter().all(|one| before.iter().all(|old| old.id != one.id)));
}

#[test]
fn pets_by_mac_keep_machine_and_address_through_a_rolling_update() {
    for daemons in [Daemons::OneLife, Daemons::Killed] {
        let stage = Stage::new(5, daemons);
        let logical_ids: Vec<String> = [2, 4, 5].map(|number| stage.mac(number)).into();
        pets_stay(&stage, &logical_ids, false);
        stage.end(&[]);
    }
}

#[test]
fn pets_by_address_keep_machine_and_address_through_a_rolling_update() {
    for daemons in [Daemons::OneLife, Daemons::Killed] {
        let stage = Stage::new(5, daemons);
        // One that a machine has now, and two that nobody has.
        let held = stage.life(&stage.mac(3)).addresses[0].to_string();
        let logical_ids = [held, "127.1.0.150".to_owned(), "127.2.0.7".to_owned()];
        pets_stay(&stage, &logical_ids, true);
        stage.end(&[]);
    }
}

#[test]
fn what_was_made_by_hand_is_adopted_and_not_started_again() {
    for daemons in [Daemons::OneLife, Daemons::Killed] {
        let stage = Stage::new(4, daemons);
        let tags = json!({GROUP_TAG: "workers", HASH_TAG: "bootstrap", "mine": "yes"});
        let spec = json!({
            "Properties": {"Kernel": "vmlinuz", "CmdLine": "report={{ report }} id={{ id }}"},
            "Tags": tags, "Init": "", "LogicalID": null, "Attachments": null,
        });
        let result = stage.call("Instance.Provision", json!({"Type": "", "Spec": spec}));
        let id = result.expect("a machine is free")["ID"].as_str().expect("an ID").to_owned();
        let controller = stage.commit(workers("workers", 3, 1));
        stage.until("it is adopted", || {
            controller.events().contains(&Event::Adopted(id.clone())).then_some(())
        });
        stage.middle();
        let members = stage.settled(&controller, 3);
        let adopted = members.iter().find(|member| member.id == id).expect("it is a member");
        assert_eq!(adopted.tags["mine"], "yes");
        assert_eq!(stage.life(adopted.mac()).booted.len(), 1);
        stage.end(&[&controller]);
    }
}

#[test]
fn each_commit_says_hello_exactly_once() {
    let stage = Stage::new(2, Daemons::OneLife);
    let hellos = || stage.home.log().matches("method=\"Handshake.Hello\"").count();
    let before = hellos();
    let mut controller = stage.commit(workers("workers", 1, 1));
    stage.settled(&controller, 1);
    controller.scale(2);
    stage.settled(&controller, 2);
    assert_eq!(hellos() - before, 2, "one of them was a change");
    controller.destroy();
    stage.run_in_all(0);
    stage.end(&[]);
}
