//! The plugin from outside: the running daemon over its sockets.

mod daemon;
mod replay;

use std::{
    collections::HashSet,
    fs,
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use daemon::{Daemon, Home, LIMIT, NAME, answer_of, connect, eventually, outcome};
use remoteboot::{
    model::{Change, Decision, Mac, Machine, MachineEvent, Timestamp},
    store::Store,
};
use serde_json::{Value, json};

#[test]
fn fifty_provisions_at_once_over_twenty_machines_take_each_once() {
    let home = Home::new();
    let machines = waiting(&home, 20);
    let daemon = home.start(&[]);
    let begun = Instant::now();
    let answers: Vec<Result<Value, Value>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(|| provision(&daemon))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let refusals: Vec<&Value> = answers.iter().filter_map(|one| one.as_ref().err()).collect();
    assert_eq!(refusals.len(), 30);
    assert!(refusals.iter().all(|error| error["message"] == "no free machine"), "{refusals:?}");
    let ids: HashSet<String> =
        answers.iter().filter_map(|one| Some(one.as_ref().ok()?["ID"].to_string())).collect();
    let taken: HashSet<String> = described(&daemon)
        .iter()
        .map(|one| one["Properties"]["mac"].as_str().expect("a MAC").to_owned())
        .collect();
    assert_eq!((ids.len(), taken), (20, machines.iter().map(Mac::to_string).collect()));
}

#[test]
fn a_caller_that_hangs_up_does_not_stop_its_provision() {
    let home = Home::new();
    waiting(&home, 1);
    let daemon = home.start(&[]);
    // Nothing on disk, and too long to read before Provision gives up waiting.
    let large = fs::File::create(home.images().join("large")).expect("made");
    large.set_len(16 << 30).expect("sparse");
    let properties = json!({"Kernel": "large", "Checksum": {"large": "ab".repeat(32)}});
    let body = call("Instance.Provision", json!({"Spec": {"Properties": properties}}));
    let mut caller = connect(&home.socket());
    caller.write_all(&posted(&body)).expect("sent");
    assert!(described(&daemon).is_empty(), "it was done before its caller hung up");
    drop(caller);
    let begun = Instant::now();
    eventually("the instance", || (described(&daemon).len() == 1).then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn what_was_provisioned_survives_a_kill_and_the_stale_socket_is_replaced() {
    let home = Home::new();
    waiting(&home, 3);
    let daemon = home.start(&[]);
    let ids: Vec<Value> = (0..2).map(|_| provision(&daemon).expect("free")["ID"].clone()).collect();
    let labels = json!({"Instance": ids[0], "Labels": {"infrakit.config.hash": "x", "a": ""}});
    daemon.call("Instance.Label", labels).expect("alive");
    daemon.call("Instance.Destroy", json!({"Instance": ids[1]})).expect("alive");
    let before = described(&daemon);
    daemon.kill();
    assert!(home.socket().exists(), "a killed daemon leaves its socket");
    let daemon = home.start(&[]);
    assert_eq!(described(&daemon), before);
    let tags = json!({"infrakit.config.hash": "x", "a": "", "infrakit.state": "provisioning"});
    assert_eq!(before[0]["Tags"], tags);
    daemon.call("Instance.Destroy", json!({"Instance": ids[1]})).expect("destroyed before");
    let error = daemon
        .call("Instance.Destroy", json!({"Instance": "rb-ffffffffffffffff"}))
        .expect_err("never issued");
    assert_eq!(error["message"], "there is no instance `rb-ffffffffffffffff`");
}

#[test]
fn a_live_socket_is_left_to_its_owner() {
    let home = Home::new();
    let daemon = home.start(&[]);
    // Another state, so that only the socket is in the way.
    let other = home.state().with_extension("other");
    let arguments = ["--state-dir", other.to_str().expect("text")];
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_remoteboot"))
        .args(arguments)
        .args(["--images", home.images().to_str().expect("text"), "--name", NAME])
        .env("INFRAKIT_PLUGINS_DIR", home.plugins())
        .output()
        .expect("it runs");
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains(home.socket().to_str().expect("text")), "{said}");
    hello(&daemon);
}

#[test]
fn there_is_no_socket_while_the_state_cannot_be_read() {
    let home = Home::new();
    let _holder = Store::open(&home.state(), None).expect("a new store");
    assert!(!home.start_in_vain(&[]).success());
    assert!(!home.socket().exists());
}

#[test]
fn the_files_of_the_plugin_come_and_go_with_it() {
    let home = Home::new();
    let daemon = home.start(&["--listen", "127.0.0.1:0"]);
    let file = |ending: &str| home.plugins().join(format!("{NAME}.{ending}"));
    let url = eventually("the file for TCP", || fs::read_to_string(file("listen")).ok());
    assert_eq!(fs::read_to_string(file("pid")).expect("there"), daemon.pid().to_string());
    assert!(url.starts_with("http://127.0.0.1:") && !url.ends_with('\n'), "{url}");
    assert!(daemon.terminate().success());
    assert_eq!(fs::read_dir(home.plugins()).expect("there").count(), 0);
}

#[test]
fn tcp_speaks_the_same_to_clients_that_are_no_pages_of_others() {
    let home = Home::new();
    waiting(&home, 1);
    let daemon = home.start(&["--listen", "127.0.0.1:0"]);
    let url = eventually("the file for TCP", || {
        fs::read_to_string(home.plugins().join(format!("{NAME}.listen"))).ok()
    });
    let authority = url.strip_prefix("http://").expect("http");
    let over_tcp = |method: &str, path: &str, headers: &str, body: &str| {
        let mut stream = TcpStream::connect(authority).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        answer_of(&mut stream)
    };
    let host = format!("Host: {authority}\r\n");
    let body = call("Instance.Provision", json!({"Spec": {"Properties": {"Kernel": "vmlinuz"}}}));
    let id = outcome(&over_tcp("POST", "/", &host, &body)).expect("free")["ID"].clone();
    assert_eq!(described(&daemon)[0]["ID"], id);
    let hello = call("Handshake.Hello", json!({}));
    let evil = format!("{host}Origin: http://evil.example\r\n");
    assert_eq!(over_tcp("POST", "/", &evil, &hello).status, 403);
    assert_eq!(over_tcp("POST", "/", "Host: evil.example\r\n", &hello).status, 403);
    assert_eq!(over_tcp("GET", "/", &host, "").status, 405);
    assert_eq!(over_tcp("GET", "/info/api.json", &host, "").status, 200);
    let large = "x".repeat((5 << 20) + 1);
    assert_eq!(over_tcp("POST", "/", &host, &large).status, 413);
    assert_eq!(over_tcp("POST", "/", &host, &hello).status, 200);
}

#[test]
fn requests_that_never_end_do_not_hold_up_the_end_of_the_daemon() {
    let home = Home::new();
    let daemon = home.start(&["--listen", "127.0.0.1:0"]);
    let url = eventually("the file for TCP", || {
        fs::read_to_string(home.plugins().join(format!("{NAME}.listen"))).ok()
    });
    let authority = url.strip_prefix("http://").expect("http");
    let half = format!("POST / HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 99\r\n\r\n{{");
    let mut tcp = TcpStream::connect(authority).expect("it listens");
    tcp.write_all(half.as_bytes()).expect("sent");
    let mut unix = connect(&home.socket());
    unix.write_all(half.as_bytes()).expect("sent");
    hello(&daemon);
    assert!(daemon.terminate().success());
    assert!(!home.log().contains("did not end within"), "{}", home.log());
    assert_eq!(fs::read_dir(home.plugins()).expect("there").count(), 0);
}

#[test]
fn nothing_that_is_sent_stops_the_plugin() {
    let home = Home::new();
    waiting(&home, 1);
    let daemon = home.start(&[]);
    let whole = call(
        "Instance.Provision",
        json!({"Type": "nosuch", "Spec": {"Properties": {"Kernel": "vmlinuz"}, "Tags": {"a": "b"}}}),
    );
    for length in 0..whole.len() {
        assert_eq!(daemon.post(&whole.as_bytes()[..length]).status, 200, "{length}");
    }
    for place in 0..whole.len() {
        for byte in [0, b'"', b'{', b']', 0xff] {
            let mut changed = whole.clone().into_bytes();
            changed[place] = byte;
            assert_eq!(daemon.post(&changed).status, 200, "{place} {byte}");
        }
    }
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"Instance.Validate","params":{{"Properties":{}{}}}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(outcome(&daemon.post(deep.as_bytes())).is_err());
    assert_eq!(daemon.post(&vec![b' '; (5 << 20) + 1]).status, 413);
    for broken in
        ["\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "GET\r\n\r\n", "\0\0\0\0"]
    {
        let mut stream = connect(&home.socket());
        stream.write_all(broken.as_bytes()).expect("sent");
    }
    hello(&daemon);
}

#[test]
fn a_connection_carries_many_calls() {
    let home = Home::new();
    let _daemon = home.start(&[]);
    let mut stream = connect(&home.socket());
    let body = call("Handshake.Hello", json!({}));
    for _ in 0..20 {
        stream.write_all(&posted(&body)).expect("sent");
        assert!(outcome(&answer_of(&mut stream)).is_ok());
    }
}

#[test]
fn validate_says_what_is_wrong_with_files() {
    let home = Home::new();
    let daemon = home.start(&[]);
    let validate = |properties: Value| {
        let answer =
            daemon.call("Instance.Validate", json!({"Type": "", "Properties": properties}));
        answer.map_err(|error| error["message"].as_str().expect("text").to_owned())
    };
    // `printf kernel | sha256sum`
    let digest = "6923dd1bc0460082c5d55a831908c24a282860b7f1cd6c2b79cf1bc8857c639c";
    let right =
        json!({"Kernel": "vmlinuz", "Initrd": ["initrd.img"], "Checksum": {"vmlinuz": digest}});
    assert_eq!(validate(right), Ok(json!({"Type": "", "OK": true})));
    let wrong = json!({"Kernel": "vmlinuz", "Checksum": {"vmlinuz": "ab".repeat(32)}});
    let error = validate(wrong).expect_err("another digest");
    assert!(error.contains(digest) && error.contains(&"ab".repeat(32)), "{error}");
    let error = validate(json!({"Kernel": "vmlinuz", "Initrd": "nope"})).expect_err("missing");
    assert!(error.starts_with("Properties.Initrd: there is no file `nope`"), "{error}");
    let begun = Instant::now();
    for _ in 0..500 {
        validate(json!({"Kernel": "vmlinuz"})).expect("right");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn recorded_exchanges_are_answered_as_recorded_but_for_the_listed_differences() {
    let home = Home::new();
    waiting(&home, 200);
    let daemon = home.start(&[]);
    let bare = Home::new();
    let without_machines = bare.start(&[]);
    replay::all(&daemon, &without_machines);
}

/// Machines that wait, put into the state before the daemon starts: they are
/// seen by protocols that these tests do not speak.
fn waiting(home: &Home, count: u8) -> Vec<Mac> {
    let machines: Vec<Mac> = (1..=count).map(|last| Mac::new([2, 0, 0, 0, 0, last])).collect();
    let changes = machines.iter().map(|mac| {
        let at = Timestamp(u64::from(mac.bytes()[5]));
        let machine = Machine::first(*mac, MachineEvent::Waited, at).expect("it becomes known");
        Change::Machine(machine)
    });
    let decision = Decision { answer: (), changes: changes.collect() };
    let store = Store::open(&home.state(), None).expect("a new store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(store.decide(|_| decision)).expect("written");
    store.close();
    machines
}

fn provision(daemon: &Daemon) -> Result<Value, Value> {
    let spec = json!({"Properties": {"Kernel": "vmlinuz"}, "Tags": {}, "LogicalID": null});
    daemon.call("Instance.Provision", json!({"Type": "", "Spec": spec}))
}

fn described(daemon: &Daemon) -> Vec<Value> {
    let params = json!({"Type": "", "Tags": {}, "Properties": true});
    let result = daemon.call("Instance.DescribeInstances", params).expect("a list");
    result["Descriptions"].as_array().expect("a list").clone()
}

fn hello(daemon: &Daemon) {
    let result = daemon.call("Handshake.Hello", json!({})).expect("it says hello");
    assert_eq!(result["Objects"]["Instance/0.6.1"][0]["Name"], ".");
}

fn call(method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).to_string()
}

fn posted(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}
