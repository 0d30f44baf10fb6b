//! What a hundred thousand machines cost: how much memory the daemon has at rest, and
//! how long it takes until it answers.
//!
//! A machine is one of four kinds: a reservation (an instance with an address), a
//! machine that was seen and has a lease, an instance on a machine that was seen, with a
//! lease, and the same behind a relay that tells its port, with labels of its own. The
//! daemon is started on each store, measured and killed, in several rounds;
//! `REMOTEBOOT_BEFORE=FILE` measures another build beside this one, turn by turn.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use remoteboot::{
    model::{
        Architecture, Asset, BootMode, Change, Decision, Entry, EntryWay, Image, Instance,
        InstanceId, Lease, LeaseState, Mac, Machine, MachineEvent, MachineState, Pool, Port,
        Progress, Secrets, Source, Stage, Tags, Timestamp, Token,
    },
    state::State,
    store::Store,
};

const MACHINES: u32 = 100_000;
const ROUNDS: usize = 3;
const NOW: Timestamp = Timestamp(1_795_380_487_000);

/// What is in a store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    Reserved,
    Leased,
    Whole,
    /// As [`Self::Whole`], and the daemon was killed before the last of it was folded.
    Crashed,
    Labelled,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Nothing, Self::Reserved, Self::Leased, Self::Whole, Self::Crashed, Self::Labelled];

    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "an empty store",
            Self::Reserved => "reservations",
            Self::Leased => "machines with a lease",
            Self::Whole => "instances on machines with a lease",
            Self::Crashed => "the same, killed with a full log",
            Self::Labelled => "the same with labels, port and UUID",
        }
    }
}

fn main() {
    // `cargo test --benches` runs this, too, and wants no measurement.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let rounds = std::env::var("QUICK").map_or(ROUNDS, |_| 1);
    let own = PathBuf::from(env!("CARGO_BIN_EXE_remoteboot"));
    let mut programs = vec![("remoteboot", own)];
    if let Ok(before) = std::env::var("REMOTEBOOT_BEFORE") {
        programs.push(("before", before.into()));
    }
    let wanted = std::env::var("ONLY").ok();
    if wanted.as_ref().is_none_or(|wanted| "questions".contains(wanted.as_str())) {
        questions();
    }
    println!("{MACHINES} machines; the median of {rounds} rounds, the least and the greatest");
    let mut empty = vec![0.0; programs.len()];
    for kind in Kind::ALL {
        if wanted.as_ref().is_some_and(|wanted| !kind.name().contains(wanted.as_str())) {
            continue;
        }
        let root = tempfile::tempdir().expect("a temporary directory");
        let filled = root.path().join("filled");
        if kind != Kind::Nothing {
            fill(&filled, kind);
        }
        let mut measured = vec![(Vec::new(), Vec::new()); programs.len()];
        for _ in 0..rounds {
            for ((_, program), (starts, memory)) in programs.iter().zip(&mut measured) {
                let (start, octets) = start(program, root.path(), &filled);
                starts.push(start.as_secs_f64() * 1e3);
                memory.push(octets as f64);
            }
        }
        for (place, (starts, memory)) in measured.into_iter().enumerate() {
            let (name, memory) = (programs[place].0, spread(memory));
            if kind == Kind::Nothing {
                empty[place] = memory[1];
            }
            let [least, start, most] = spread(starts);
            println!(
                "{:35} {name:10} answers after {start:.0} ms ({least:.0} to {most:.0}), {:.1} MB, \
                 {:.0} octets for a machine",
                kind.name(),
                memory[1] / 1e6,
                (memory[1] - empty[place]).max(0.0) / f64::from(MACHINES),
            );
        }
    }
}

/// What is asked of the state for each packet and each call, with 100 machines and with
/// all of them.
fn questions() {
    let states = [100, MACHINES].map(state);
    let network = POOL.0.parse().expect("a network");
    let tags: Tags = [("ten".to_owned(), "yes".to_owned())].into();
    let later = NOW.after(Duration::from_secs(86_400));
    type Question<'a> = Box<dyn Fn(&State) -> usize + 'a>;
    let asked: [(&str, Question<'_>); 6] = [
        (
            "who has this address",
            Box::new(|state| usize::from(state.machine_at(address(7), NOW).is_some())),
        ),
        (
            "the next free address",
            Box::new(|state| usize::from(state.addresses.free(network, None, NOW).is_some())),
        ),
        (
            "the next free index of a group",
            Box::new(|state| state.instances.free_index("workers") as usize),
        ),
        (
            "the owner of an index",
            Box::new(|state| usize::from(state.instances.at_index("workers", 99).is_some())),
        ),
        (
            "the instances of a tag that ten have",
            Box::new(|state| state.instances.tagged(&tags).len()),
        ),
        (
            "a machine to give out, when one of all waits",
            Box::new(|state| usize::from(state.machines.choose(later, |_| true).is_some())),
        ),
    ];
    for (name, question) in &asked {
        let [few, many] = states.each_ref().map(|state| {
            let times = (0..21).map(|_| {
                let begun = Instant::now();
                for _ in 0..1000 {
                    std::hint::black_box(question(std::hint::black_box(state)));
                }
                begun.elapsed().as_nanos() as f64 / 1000.0
            });
            spread(times.collect())[1]
        });
        println!("{name}: {few:.0} ns with 100, {many:.0} ns with {MACHINES}");
    }
}

/// A network with room for all, and a few more.
const POOL: (&str, &str) = ("10.16.0.0/15", "10.16.0.0-10.17.255.0");

/// A state with so many machines that have an instance and a lease, and as many that were
/// switched off in the hold script, but for one.
fn state(machines: u32) -> State {
    let pool = Pool {
        network: POOL.0.parse().expect("a network"),
        ranges: vec![POOL.1.parse().expect("a range")],
        except: Vec::new(),
    };
    let mut state = State::new([pool]);
    let mut last = None;
    for number in 0..machines {
        let id = InstanceId::next(last, NOW);
        last = Some(id);
        let mut changes = machine(number, id, Kind::Whole);
        if let Change::Instance(instance) = &mut changes[1]
            && number < 10
        {
            instance.tags.insert("ten".to_owned(), "yes".to_owned());
        }
        let [_, a, b, c] = number.to_be_bytes();
        let held = Machine::first(Mac::new([0x52, 0x54, 9, a, b, c]), MachineEvent::Waited, NOW);
        let seen = if number + 1 == machines { 86_400 } else { 0 };
        let last_seen = Some(NOW.after(Duration::from_secs(seen)));
        let held = Machine { last_seen, ..held.expect("known by it") };
        changes.push(Change::Seen(held));
        changes.iter().for_each(|change| state.apply(change));
    }
    state
}

/// Starts a daemon on a copy of the store; how long until it answers, and its resident
/// octets a while after.
fn start(program: &Path, root: &Path, filled: &Path) -> (Duration, u64) {
    let place = root.join("run");
    let _ = fs::remove_dir_all(&place);
    let state = place.join("state");
    fs::create_dir_all(&state).expect("made");
    for entry in fs::read_dir(filled).into_iter().flatten().flatten() {
        fs::copy(entry.path(), state.join(entry.file_name())).expect("copied");
    }
    if fs::read_dir(&state).is_ok_and(|mut entries| entries.next().is_none()) {
        fs::remove_dir(&state).expect("removed");
    }
    sync_all();
    let begun = Instant::now();
    let child = Command::new(program)
        .arg("--state-dir")
        .arg(&state)
        .arg("--images")
        .arg(place.join("images"))
        .args(["--log", "1", "--name", "remoteboot"])
        .env("INFRAKIT_PLUGINS_DIR", place.join("plugins"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the daemon starts");
    let mut daemon = Running(child);
    let socket = place.join("plugins/remoteboot");
    while UnixStream::connect(&socket).is_err() {
        assert!(daemon.0.try_wait().expect("a child of ours").is_none(), "it ended at once");
        assert!(begun.elapsed() < Duration::from_secs(60), "it never answers");
        std::thread::sleep(Duration::from_micros(500));
    }
    let took = begun.elapsed();
    std::thread::sleep(Duration::from_millis(1000));
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.0.id())).expect("it runs");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kilobytes = resident.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
    (took, kilobytes * 1024)
}

/// What was copied must not be written while the daemon waits for the disk.
fn sync_all() {
    let synced = Command::new("sync").status().expect("sync runs");
    assert!(synced.success());
}

/// Killed with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes a store with so many machines of this kind, durably.
fn fill(directory: &Path, kind: Kind) {
    let store = Store::open(directory, None).expect("a new store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let write = |changes: Vec<Change>| {
        let decision = Decision { answer: (), changes };
        runtime.block_on(store.decide(|_| decision)).expect("written");
    };
    let mut last = None;
    for first in (0..MACHINES).step_by(5000) {
        let mut changes = Vec::new();
        for number in first..first + 5000 {
            let id = InstanceId::next(last, NOW);
            last = Some(id);
            changes.extend(machine(number, id, kind));
        }
        write(changes);
    }
    if kind != Kind::Crashed {
        store.close();
        return;
    }
    // Everything is in the tables, and then leases come until the log is about to be
    // folded; so it is copied as a kill would leave it.
    store.close();
    let store = Store::open(directory, None).expect("the same store");
    for first in (0..28_000).step_by(1000) {
        let leases = (first..first + 1000).map(lease).collect();
        let decision = Decision { answer: (), changes: leases };
        runtime.block_on(store.decide(|_| decision)).expect("written");
    }
    let beside = directory.with_extension("beside");
    fs::create_dir(&beside).expect("made");
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        fs::copy(entry.path(), beside.join(entry.file_name())).expect("copied");
    }
    store.close();
    fs::remove_dir_all(directory).expect("removed");
    fs::rename(beside, directory).expect("renamed");
}

/// What makes a machine of this kind.
fn machine(number: u32, id: InstanceId, kind: Kind) -> Vec<Change> {
    match kind {
        Kind::Nothing => Vec::new(),
        Kind::Reserved => vec![Change::Instance(instance(number, id))],
        Kind::Leased => vec![Change::Seen(seen(number)), lease(number)],
        Kind::Whole | Kind::Crashed => vec![
            Change::Seen(seen(number)),
            Change::Instance(instance(number, id)),
            Change::Machine(Machine {
                state: MachineState::Assigned,
                enrolled: true,
                ..seen(number)
            }),
            Change::Progress(id, Progress::new(NOW).script(true, NOW).ready(None, NOW)),
            lease(number),
        ],
        Kind::Labelled => {
            let mut machine = Machine {
                state: MachineState::Assigned,
                enrolled: true,
                uuid: Some(format!("4c4c4544-0042-3510-8052-b3c0{number:08x}")),
                labels: [("rack", number / 40), ("unit", number % 40)]
                    .map(|(name, value)| (name.to_owned(), value.to_string()))
                    .into(),
                ..seen(number)
            };
            let id_of = |text: String| text.parse().ok();
            let port = Port {
                remote_id: id_of(format!("leaf-{}", number / 40)),
                circuit_id: id_of(format!("ge-0/0/{}", number % 40)),
            };
            machine.identity.ports.insert(mac(number), port);
            let mut whole = machine_without_labels(number, id);
            whole.insert(0, Change::Seen(machine));
            whole
        }
    }
}

fn machine_without_labels(number: u32, id: InstanceId) -> Vec<Change> {
    vec![
        Change::Instance(instance(number, id)),
        Change::Progress(id, Progress::new(NOW).script(true, NOW).ready(None, NOW)),
        lease(number),
    ]
}

fn mac(number: u32) -> Mac {
    // In no order, as in a hall.
    let [_, a, b, c] = number.wrapping_mul(7_919).to_be_bytes();
    Mac::new([0x52, 0x54, 0, a, b, c])
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 16, 0, 0)) + number)
}

fn seen(number: u32) -> Machine {
    let mut machine = Machine::first(mac(number), MachineEvent::Asked, NOW).expect("known by it");
    // As every boot leaves it.
    machine.habits.local.entry = Some(Entry { card: mac(number), way: EntryWay::Pxe });
    Machine {
        architecture: Some(Architecture::X64Uefi),
        last_seen: Some(NOW),
        stage: Some(Stage::Kernel),
        ..machine
    }
}

fn lease(number: u32) -> Change {
    let expires = NOW.after(Duration::from_secs(3600));
    let (address, mac) = (address(number), mac(number));
    Change::Lease(Lease { address, mac, state: LeaseState::Bound, expires })
}

fn instance(number: u32, id: InstanceId) -> Instance {
    let spread = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let secret = |place: u128| Token(spread.wrapping_add(place << 64 | place));
    let file =
        |name: &str| Asset { source: Source::File(name.parse().expect("a name")), checksum: None };
    let tags: Tags = [
        ("infrakit.group", "workers"),
        ("infrakit.config.hash", "pnllvg4lhmhtqgqdk6em7myn4o4py4xk"),
        ("role", "worker"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let image = Image {
        kernel: file("vmlinuz"),
        initrds: vec![file("initrd.img")],
        cmdline: "console=ttyS0 host={{ hostname }}".to_owned(),
    };
    Instance {
        id,
        logical_id: None,
        tags,
        init: "#!/bin/sh\necho worker\n".to_owned().into(),
        mac: mac(number),
        address: Some(address(number)),
        hostname: format!("worker-{number}").parse().expect("a name"),
        index: Some(number),
        boot: BootMode::Always,
        image: Some(image.into()),
        secrets: Secrets { files: secret(1), init: secret(2), report: secret(3) },
        provisioned_at: NOW,
        progress: Progress::new(NOW),
    }
}

/// The least, the median and the greatest.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}
