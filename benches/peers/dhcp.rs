//! What is measured of DHCP.

use std::{collections::HashMap, time::Duration};

use remoteboot::{model::LeaseState, store::Store};

use crate::{
    lab::Lab,
    load::{self, Exchange, Load, Outcome, WINDOW},
    machine,
    report::{self, Out, Run},
    server::{Kind, Server, Task},
};

const ALL: [Kind; 8] = [
    Kind::Ours,
    Kind::Before,
    Kind::Kea,
    Kind::KeaThreads,
    Kind::Dhcpd,
    Kind::Dnsmasq,
    Kind::Bare,
    Kind::BareWithoutDisk,
];

struct Case {
    title: &'static str,
    task: Task,
    load: Load,
    /// So many machines lease before it begins.
    leased: u32,
}

const POOL: Task = Task { pool: 65_536, reserved: 0 };

fn cases(time: Duration, is_quick: bool) -> Vec<Case> {
    let first = Load {
        exchange: Exchange::First,
        from: 0,
        machines: 60_000,
        time,
        is_reserved: false,
        is_hostile: false,
        window: WINDOW,
    };
    let held = 500;
    let again = Load { exchange: Exchange::Again, machines: held, ..first };
    let own = if is_quick { 2000 } else { 10_000 };
    let reserved = Load { is_reserved: true, machines: own, ..first };
    let many = if is_quick { 20_000 } else { 100_000 };
    vec![
        Case { title: "first leases", task: POOL, load: first, leased: 0 },
        Case {
            title: "first leases, 256 at a time",
            task: POOL,
            load: Load { window: 256, ..first },
            leased: 0,
        },
        Case { title: "the same machines again", task: POOL, load: again, leased: held },
        Case {
            title: "renewals",
            task: POOL,
            load: Load { exchange: Exchange::Renew, ..again },
            leased: held,
        },
        Case {
            title: "reserved addresses",
            task: Task { reserved: own, ..POOL },
            load: reserved,
            leased: 0,
        },
        Case {
            title: "first leases amid as many bad packets",
            task: POOL,
            load: Load { is_hostile: true, ..first },
            leased: 0,
        },
        Case {
            title: "reserved addresses, one of very many",
            task: Task { reserved: many, ..POOL },
            load: Load { machines: many, ..reserved },
            leased: 0,
        },
    ]
}

/// Measures all cases whose title has `only` in it, and prints their tables.
pub(crate) fn measure(lab: &Lab, is_quick: bool, (out, only): (&mut Out, &str)) {
    let (rounds, time) =
        if is_quick { (2, Duration::from_millis(700)) } else { (5, Duration::from_secs(3)) };
    for case in cases(time, is_quick) {
        if !case.title.contains(only) {
            continue;
        }
        let kinds: Vec<Kind> = ALL.into_iter().filter(|kind| wanted(*kind, &case)).collect();
        let mut runs = Vec::new();
        for round in 0..rounds {
            for kind in &kinds {
                runs.push(run(lab, &case, *kind, round));
            }
        }
        out.say(&format!("\n### {}\n\n{}", case.title, report::table(&kinds, &runs)));
        out.say(&synced(lab, &case, &kinds));
    }
    starts(lab, is_quick, (out, only));
}

fn wanted(kind: Kind, case: &Case) -> bool {
    // It reads a hundred thousand hosts for more than a minute.
    let has_too_many = kind == Kind::Dnsmasq && case.task.reserved > 10_000;
    // The store that is made for it may be of a later version.
    let is_too_late = kind == Kind::Before && case.task.reserved > 0;
    kind.is_chosen() && !is_too_late && !has_too_many
}

fn prepare(case: &Case, kind: Kind) -> HashMap<std::net::Ipv4Addr, u32> {
    if case.leased == 0 {
        return HashMap::new();
    }
    let time = Duration::from_secs(60);
    let load = Load { exchange: Exchange::First, machines: case.leased, time, ..case.load };
    let outcome = load::run(load, &HashMap::new());
    assert_eq!(outcome.exchanges, u64::from(case.leased), "{kind:?} leases to all");
    outcome.leases
}

fn load_of(case: &Case, kind: Kind) -> Load {
    let is_bare = matches!(kind, Kind::Bare | Kind::BareWithoutDisk);
    Load { is_reserved: case.load.is_reserved && !is_bare, ..case.load }
}

fn run(lab: &Lab, case: &Case, kind: Kind, round: usize) -> Run {
    let server = Server::start(lab, kind, case.task);
    let held = prepare(case, kind);
    let before = server.usage();
    let mut outcome = load::run(load_of(case, kind), &held);
    let after = server.usage();
    let ready = server.ready.as_secs_f64();
    let folder = server.kill();
    if kind == Kind::Ours {
        is_on_disk(&folder, &outcome);
    }
    let cpu = (after.cpu - before.cpu) * 1e4 / outcome.exchanges.max(1) as f64;
    Run {
        kind,
        round,
        rate: outcome.rate(),
        p50: outcome.answered(0.5),
        p99: outcome.answered(0.99),
        cpu,
        memory: after.memory,
        ready,
        asked_again: outcome.asked_again,
    }
}

/// What was acknowledged is in the store after a kill, all of it: whose the address is,
/// and the lease, which of an address that an instance keeps may come after the ACK.
fn is_on_disk(folder: &std::path::Path, outcome: &Outcome) {
    let store = Store::open(&folder.join("state"), None).expect("a killed daemon's store opens");
    store.look(|state| {
        let now = std::time::SystemTime::now().into();
        for (address, number) in &outcome.leases {
            let owner = state.machine_at(*address, now).map(|mac| mac.bytes());
            assert_eq!(owner, Some(machine::bytes(*number)), "{address}");
            if state.addresses.reserved_for(*address).is_some() {
                continue;
            }
            let lease = state.addresses.lease(*address);
            let lease = lease.unwrap_or_else(|| panic!("the lease of {address} is lost"));
            assert_eq!(lease.mac.bytes(), machine::bytes(*number), "{address}");
            assert_eq!(lease.state, LeaseState::Bound, "{address}");
        }
    });
    store.close();
}

/// How many exchanges there are for a call that waits for the disk.
fn synced(lab: &Lab, case: &Case, kinds: &[Kind]) -> String {
    let mut text = String::from("Calls that wait for the disk (strace, a run of its own): ");
    for kind in kinds {
        let server = Server::start(lab, *kind, case.task);
        let held = prepare(case, *kind);
        let (outcome, syncs) = server.counting_syncs(|| load::run(load_of(case, *kind), &held));
        text += &format!("{} {syncs} for {} exchanges; ", kind.name(), outcome.exchanges);
    }
    text
}

/// How soon it answers and what it takes at rest, with nothing in its store and with
/// very many machines.
fn starts(lab: &Lab, is_quick: bool, (out, only): (&mut Out, &str)) {
    if !"start".contains(only) {
        return;
    }
    let many = if is_quick { 20_000 } else { 100_000 };
    let few = Task { pool: 1024, reserved: 0 };
    let case = |reserved| Case {
        title: "start",
        task: Task { reserved, ..few },
        load: cases(Duration::from_secs(1), is_quick).remove(0).load,
        leased: 0,
    };
    let mut text = String::from(
        "\n### start\n\n| server | machines | answers after s (median) | MB at rest |\n|---|--:|--:|--:|\n",
    );
    for reserved in [0, many] {
        for kind in ALL.into_iter().filter(|kind| wanted(*kind, &case(reserved))) {
            if matches!(kind, Kind::Bare | Kind::BareWithoutDisk) {
                continue;
            }
            let mut ready = Vec::new();
            let mut memory = 0.0;
            for _ in 0..3 {
                let server = Server::start(lab, kind, case(reserved).task);
                ready.push(server.ready.as_secs_f64());
                memory = server.usage().memory;
            }
            ready.sort_by(f64::total_cmp);
            text += &format!("| {} | {reserved} | {:.3} | {memory:.1} |\n", kind.name(), ready[1]);
        }
    }
    out.say(&text);
}
