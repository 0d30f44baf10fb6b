//! A group controller scales real machines: firmware, kernel and a system that
//! reports in and obeys, in QEMU. What is asserted on is what the machines print.

mod controller;
mod lab;

use std::{collections::BTreeSet, time::Duration};

use controller::{Controller, Group, Member};
use lab::{Daemon, Firmware, Lab, Machine, within};
use serde_json::{Value, json};

/// Of the controller. The real one takes ten seconds.
const INTERVAL: Duration = Duration::from_secs(2);

/// Longer than five machines at once take to boot on two busy processors.
const LIMIT: Duration = Duration::from_secs(170);

/// Powers on so many machines, and waits until all are in the hold script.
fn held(lab: &Lab, count: usize) -> Vec<Machine> {
    let mut machines: Vec<Machine> = (1..=count)
        .map(|number| lab.machine(Firmware::BiosChain, &format!("52:54:00:77:00:{number:02}")))
        .collect();
    for machine in &mut machines {
        machine.wait_for("waits to be provisioned", LIMIT.as_secs());
    }
    machines
}

fn workers(id: &str, size: u32, release: u32) -> Value {
    json!({"ID": id, "Properties": {
        "Allocation": {"Size": size},
        "Instance": {"Plugin": "remoteboot", "Properties": {
            "Kernel": "vmlinuz", "Initrd": "initrd",
            "CmdLine": "console=ttyS0 id={{ id }} report={{ report }} lab.init={{ init }}",
        }},
        "Flavor": {"Plugin": "remoteboot", "Properties": {
            "Init": ["#!/bin/sh", "echo worker"],
            "CmdLine": format!("group={id} release={release}"),
        }},
        "Updating": {"Duration": "0s"},
    }})
}

fn group(value: &Value) -> Group {
    Group::of(value)
}

fn commit(daemon: &Daemon, value: &Value) -> Controller {
    Controller::commit(&daemon.socket(), group(value), INTERVAL).expect("accepted")
}

/// Waits until the group has so many members, each on a machine that has said
/// that it is ready and runs what the group says.
#[track_caller]
fn settled(controller: &Controller, machines: &mut [Machine], count: usize) -> Vec<Member> {
    let members = within(LIMIT, || {
        let members = controller.members();
        let runs = |member: &Member| member.properties["state"] == "running";
        (members.len() == count && members.iter().all(runs)).then_some(members)
    });
    let members = members.unwrap_or_else(|| panic!("no {count} run: {:?}", controller.members()));
    for member in &members {
        let machine = of(machines, member.mac());
        machine.wait_for("REMOTEBOOT told=/ready", 10);
        let console = machine.console();
        assert!(console.contains(&format!(" id={} ", member.id)), "{console}");
        // printf '#!/bin/sh\necho worker' | sha256sum
        let digest = "9969c7074359fde1c8de7166e486589fc5bdd805002ed17e206cf80b01246860";
        assert!(console.contains(&format!("REMOTEBOOT init={digest}")), "{console}");
    }
    let taken: BTreeSet<&str> = members.iter().map(Member::mac).collect();
    assert_eq!(taken.len(), count, "each has its own machine");
    members
}

fn of<'a>(machines: &'a mut [Machine], mac: &str) -> &'a mut Machine {
    machines.iter_mut().find(|machine| machine.mac() == mac).expect("one of ours")
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn five_bare_machines_become_a_group_that_goes_from_nothing_to_three_to_five_to_two() {
    let lab = Lab::new();
    let daemon = lab.daemon(&[]);
    let mut machines = held(&lab, 5);
    let mut controller = commit(&daemon, &workers("workers", 3, 1));
    let three = settled(&controller, &mut machines, 3);
    controller.scale(5);
    let five = settled(&controller, &mut machines, 5);
    assert!(three.iter().all(|one| five.contains(one)), "all stayed");
    controller.scale(2);
    for gone in &five[..3] {
        let machine = of(&mut machines, gone.mac());
        machine.wait_for("REMOTEBOOT told=/drained", 60);
        machine.wait_for("REMOTEBOOT gone terminate", 60);
        machine.turn_the_page();
        machine.wait_for("waits to be provisioned", LIMIT.as_secs());
    }
    assert_eq!(settled(&controller, &mut machines, 2), five[3..]);
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn a_rolling_update_reinstalls_one_machine_after_the_other_and_stops_at_a_mute_one() {
    let lab = Lab::new();
    let daemon = lab.daemon(&[]);
    let mut machines = held(&lab, 3);
    let mut controller = commit(&daemon, &workers("workers", 3, 1));
    let before = settled(&controller, &mut machines, 3);
    let mut changed = workers("workers", 3, 2);
    let mute = before[1].properties["index"].as_u64().expect("an index");
    let each: Vec<Value> = (0..3)
        .map(|index| json!({"CmdLine": if index == mute { "lab.mute=1" } else { "" }}))
        .collect();
    changed["Properties"]["Flavor"]["Properties"]["Each"] = json!(each);
    for old in &before[..2] {
        of(&mut machines, old.mac()).turn_the_page();
    }
    controller.change(group(&changed)).expect("accepted");
    for (old, says) in before.iter().zip(["told=/ready", "told=nothing"]) {
        let machine = of(&mut machines, old.mac());
        machine.wait_for("REMOTEBOOT gone rolling_update", LIMIT.as_secs());
        machine.wait_for(&format!("REMOTEBOOT {says}"), LIMIT.as_secs());
        assert!(machine.console().contains("release=2"), "{}", machine.console());
    }
    // Five polls long, nothing more happens.
    let more = within(INTERVAL * 5, || {
        controller.members().iter().all(|member| member.id != before[2].id).then_some(())
    });
    assert_eq!(more, None, "the last one is as it was");
    assert_eq!(controller.updated(), None, "the update waits");
    let last = of(&mut machines, before[2].mac()).console();
    assert!(last.contains("release=1") && !last.contains("REMOTEBOOT drain"), "{last}");
}

#[test]
#[ignore = "boots real firmware: needs root and QEMU, run `make test`"]
fn two_groups_share_a_pool_and_a_machine_that_dies_is_replaced() {
    let lab = Lab::new();
    let daemon = lab.daemon(&[]);
    let mut machines = held(&lab, 3);
    let web = commit(&daemon, &workers("web", 1, 1));
    let data = commit(&daemon, &workers("data", 1, 1));
    let dead = settled(&web, &mut machines, 1).remove(0);
    let other = settled(&data, &mut machines, 1).remove(0);
    assert_ne!(dead.mac(), other.mac());
    for (member, name) in [(&dead, "web"), (&other, "data")] {
        let console = of(&mut machines, member.mac()).console();
        assert!(console.contains(&format!("group={name} ")), "{console}");
    }
    machines.retain(|machine| machine.mac() != dead.mac());
    daemon.call("Machine.SetAside", json!({"MAC": dead.mac()}));
    daemon.destroy(&dead.id);
    let next = within(LIMIT, || {
        let running = |one: &Member| one.properties["state"] == "running";
        web.members().into_iter().find(running).filter(|one| one.id != dead.id)
    });
    let next = next.expect("another takes its place");
    assert_ne!(next.mac(), dead.mac());
    settled(&web, &mut machines, 1);
    assert_eq!(settled(&data, &mut machines, 1), [other]);
}
