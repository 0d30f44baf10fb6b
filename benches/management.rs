//! How fast the plugin's socket is beside a hundred thousand other instances: Describe
//! over ten thousand and by tags that more and more have, beside plain serde_json of the
//! same value, and Provision, Label and Destroy from fifty clients, each on disk before
//! its answer.
//!
//! Two things are measured in one run, turn by turn, and their ratio is printed
//! with its spread, since computers are shared. `TMPDIR` names a directory on the
//! disk that is to be measured.

#[path = "../tests/daemon/mod.rs"]
mod daemon;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    sync::Mutex,
    time::{Duration, Instant},
};

use daemon::{Daemon, Home, answer_of, connect, outcome};
use remoteboot::{
    model::{
        BootMode, Change, Decision, Instance, InstanceId, Mac, Machine, MachineEvent, Progress,
        Secrets, Timestamp, Token,
    },
    store::Store,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const INSTANCES: u32 = 10_000;
/// How many others are in the store; `OTHERS=0` measures without them.
const OTHERS: u32 = 100_000;
const CLIENTS: u32 = 50;
const TURNS: usize = 60;

/// What Describe says, as a Rust program would hold it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Descriptions {
    r#type: String,
    descriptions: Vec<Description>,
}

#[derive(Serialize, Deserialize)]
struct Description {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "LogicalID")]
    logical_id: Option<String>,
    #[serde(rename = "Tags")]
    tags: BTreeMap<String, String>,
    #[serde(rename = "Properties")]
    properties: Details,
}

#[derive(Serialize, Deserialize)]
struct Details {
    mac: String,
    ip: Option<String>,
    hostname: String,
    arch: Option<String>,
    state: String,
    since: String,
    boots: u32,
    index: Option<u32>,
    #[serde(rename = "Boot")]
    boot: String,
    #[serde(rename = "Kernel")]
    kernel: String,
    #[serde(rename = "Initrd")]
    initrd: Vec<String>,
    #[serde(rename = "CmdLine")]
    cmdline: String,
}

fn main() {
    // `cargo test --benches` runs this, too, and wants no measurement.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let home = Home::new();
    waiting(&home);
    let daemon = home.start(&["--log", "1"]);
    let others = others();
    println!("{CLIENTS} clients, {INSTANCES} machines, {others} others, {} cores", cores());
    by_tag(&daemon, others);
    let ids = Mutex::new(Vec::new());
    rate("Provision", |client, number| {
        let id = provision(client, number);
        ids.lock().expect("no panic").push(id);
    });
    describe(&daemon);
    let ids = ids.into_inner().expect("no panic");
    rate("Label", |client, number| {
        let labels = json!({"turn": number.to_string()});
        client.call("Instance.Label", json!({"Instance": ids[number as usize], "Labels": labels}));
    });
    rate("Destroy", |client, number| {
        client.call("Instance.Destroy", json!({"Instance": ids[number as usize]}));
    });
}

/// Describe by tags that 10, 1,000 and all of the others have: what each costs for an
/// instance that it returns.
fn by_tag(daemon: &Daemon, others: u32) {
    if others == 0 {
        return;
    }
    let group = json!({"infrakit.group": "others"});
    let with = |name: &str| json!({"infrakit.group": "others", name: "yes"});
    let queries = [
        ("a tag that 10 have", json!({"ten": "yes"}), 10),
        ("their group and that tag", with("ten"), 10),
        ("a tag that 1,000 have", json!({"thousand": "yes"}), 1000),
        ("their group and that tag", with("thousand"), 1000),
        ("the group of all", group, others),
        ("the group of all, none of whom has", with("none"), 0),
    ];
    for (name, tags, expected) in queries {
        let params = json!({"Type": "", "Tags": tags, "Properties": false});
        let whole = daemon.call("Instance.DescribeInstances", params.clone()).expect("a list");
        let count = whole["Descriptions"].as_array().map_or(0, Vec::len);
        assert_eq!(count, expected as usize, "{name}");
        let mut client = Client { stream: None };
        let mut received = Vec::new();
        let mut times: Vec<f64> = (0..TURNS)
            .map(|_| {
                let begun = Instant::now();
                client.send("Instance.DescribeInstances", &params);
                client.receive(&mut received);
                begun.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let [low, middle, high] = [TURNS / 4, TURNS / 2, TURNS * 3 / 4].map(|place| times[place]);
        println!(
            "Describe by {name}: {count} in {middle:.0} microseconds (quartiles {low:.0} to \
             {high:.0}), {:.2} for each",
            middle / f64::from(expected.max(1)),
        );
    }
}

/// Describe's time until its answer begins to come, and until all of it is there,
/// beside the time in which serde_json writes the same value.
fn describe(daemon: &Daemon) {
    let params = json!({"Type": "", "Tags": {"infrakit.group": "bench"}, "Properties": true});
    let whole = daemon.call("Instance.DescribeInstances", params.clone()).expect("a list");
    let value: Descriptions = serde_json::from_value(whole).expect("the same shape");
    assert_eq!(value.descriptions.len(), INSTANCES as usize);
    let mut client = Client { stream: None };
    let mut received = Vec::new();
    let (mut begins, mut ends, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    let mut length = 0;
    for _ in 0..TURNS {
        let begun = Instant::now();
        client.send("Instance.DescribeInstances", &params);
        begins.push(client.receive(&mut received) - begun);
        ends.push(begun.elapsed());
        let begun = Instant::now();
        let written = std::hint::black_box(serde_json::to_vec(&value).expect("JSON"));
        plain.push(begun.elapsed());
        length = written.len();
        assert!(length.abs_diff(received.len()) < 500, "{length} and {} bytes", received.len());
    }
    let alone = median(plain.clone()).as_secs_f64() * 1e3;
    println!(
        "Describe of {INSTANCES} ({:.1} MB); serde_json alone: {alone:.1} ms",
        length as f64 / 1e6
    );
    for (name, times) in [("begins to answer", begins), ("has answered", ends)] {
        let ratio =
            |(ours, plain): (&Duration, &Duration)| ours.as_secs_f64() / plain.as_secs_f64();
        let mut ratios: Vec<f64> = times.iter().zip(&plain).map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        println!(
            "  {name} after {:.1} ms, ratio {:.2} (quartiles {:.2} to {:.2})",
            median(times).as_secs_f64() * 1e3,
            ratios[TURNS / 2],
            ratios[TURNS / 4],
            ratios[TURNS * 3 / 4],
        );
    }
}

/// Makes as many calls as there are instances, from all clients, and prints the
/// rate and how long one took.
fn rate(name: &str, call: impl Fn(&mut Client, u32) + Sync) {
    let next = std::sync::atomic::AtomicU32::new(0);
    let times = Mutex::new(Vec::new());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client { stream: None };
                let mut own = Vec::new();
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if number >= INSTANCES {
                        break;
                    }
                    let begun = Instant::now();
                    call(&mut client, number);
                    own.push(begun.elapsed());
                }
                times.lock().expect("no panic").extend(own);
            });
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let mut times = times.into_inner().expect("no panic");
    times.sort();
    println!(
        "{name}: {:.0} a second; p50 {:.1} ms, p99 {:.1} ms",
        f64::from(INSTANCES) / took,
        times[times.len() / 2].as_secs_f64() * 1e3,
        times[times.len() * 99 / 100].as_secs_f64() * 1e3,
    );
}

/// A connection that is kept, as InfraKit's client does.
struct Client {
    stream: Option<std::os::unix::net::UnixStream>,
}

impl Client {
    fn send(&mut self, method: &str, params: &Value) -> &mut std::os::unix::net::UnixStream {
        let body = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
        let body = body.to_string();
        let stream = self.stream.get_or_insert_with(|| connect(&socket()));
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("sent");
        stream
    }

    /// Reads the head and the body of an answer into `received`; when it began.
    fn receive(&mut self, received: &mut Vec<u8>) -> Instant {
        let stream = self.stream.as_mut().expect("sent by it");
        received.resize(1 << 20, 0);
        let mut length = stream.read(received).expect("an answer");
        let began = Instant::now();
        let head = received[..length].windows(4).position(|four| four == b"\r\n\r\n");
        let head = head.expect("the head comes at once") + 4;
        let text = std::str::from_utf8(&received[..head]).expect("text").to_lowercase();
        let body = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let end = head + body.expect("a length").parse::<usize>().expect("a number");
        received.resize(end, 0);
        while length < end {
            length += stream.read(&mut received[length..]).expect("the rest");
        }
        began
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        let answer = answer_of(self.send(method, &params));
        outcome(&answer).unwrap_or_else(|error| panic!("{method} {params}: {error}"))
    }
}

/// Where the one daemon of this program is.
fn socket() -> std::path::PathBuf {
    SOCKET.lock().expect("no panic").clone().expect("set before any client is")
}

static SOCKET: Mutex<Option<std::path::PathBuf>> = Mutex::new(None);

fn provision(client: &mut Client, number: u32) -> String {
    let properties = json!({
        "Kernel": "vmlinuz", "Initrd": "initrd.img", "CmdLine": "console=ttyS0 host={{ hostname }}",
        "MAC": mac(number).to_string(),
    });
    let tags = json!({
        "infrakit.group": "bench", "infrakit.config.hash": "pnllvg4lhmhtqgqdk6em7myn4o4py4xk",
        "rack": (number % 40).to_string(),
    });
    let spec = json!({"Properties": properties, "Tags": tags, "Init": "#!/bin/sh\necho worker\n"});
    let result = client.call("Instance.Provision", json!({"Type": "", "Spec": spec}));
    result["ID"].as_str().expect("an ID").to_owned()
}

fn mac(number: u32) -> Mac {
    let [_, a, b, c] = number.to_be_bytes();
    Mac::new([0x52, 0x54, 1, a, b, c])
}

fn waiting(home: &Home) {
    *SOCKET.lock().expect("no panic") = Some(home.socket());
    let held = |number| {
        let machine = Machine::first(mac(number), MachineEvent::Waited, Timestamp(1));
        Change::Machine(machine.expect("it becomes known"))
    };
    let store = Store::open(&home.state(), None).expect("a new store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut last = None;
    let mut others: Vec<Change> = (0..others())
        .map(|number| {
            let id = InstanceId::next(last, Timestamp(1));
            last = Some(id);
            Change::Instance(other(id, number))
        })
        .collect();
    others.extend((0..INSTANCES).map(held));
    for changes in others.chunks(5000) {
        let decision = Decision { answer: (), changes: changes.to_vec() };
        runtime.block_on(store.decide(|_| decision)).expect("written");
    }
    store.close();
}

fn others() -> u32 {
    std::env::var("OTHERS").map_or(OTHERS, |text| text.parse().expect("a number"))
}

/// One of those that are there already.
fn other(id: InstanceId, number: u32) -> Instance {
    let tags = [("infrakit.group", true), ("thousand", number < 1000), ("ten", number < 10)];
    let value = |name: &str| if name == "infrakit.group" { "others" } else { "yes" };
    let has = |(name, has): (&str, bool)| has.then(|| (name.to_owned(), value(name).to_owned()));
    let secret = |place: u128| Token(u128::from(number) * 3 + place);
    let [_, a, b, c] = number.to_be_bytes();
    Instance {
        id,
        logical_id: None,
        tags: tags.into_iter().filter_map(has).collect(),
        init: String::new().into(),
        mac: Mac::new([0x52, 0x54, 2, a, b, c]),
        address: None,
        hostname: format!("other-{number}").parse().expect("a name"),
        index: Some(number),
        boot: BootMode::Never,
        image: None,
        secrets: Secrets { files: secret(0), init: secret(1), report: secret(2) },
        provisioned_at: Timestamp(1),
        progress: Progress::new(Timestamp(1)),
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
