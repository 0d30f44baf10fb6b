//! The pool as its operator sees it: the program's own command against the
//! running daemon, the inventory, and what a group gets of both.

mod daemon;
mod machine;

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixListener,
    path::PathBuf,
    process::{Command, Output},
};

use daemon::{Daemon, Home, NAME, eventually};
use machine::{IPXE, Machine, Ports};
use serde_json::{Value, json};

/// A daemon's directories, with an inventory among them.
struct Pool {
    home: Home,
}

impl Pool {
    fn new() -> Self {
        Self { home: Home::new() }
    }

    /// With these machines in its inventory, each in rack 1.
    fn listing(count: u8) -> Self {
        let pool = Self::new();
        pool.write(&(1..=count).map(|number| listed(number, "1")).collect::<String>());
        pool
    }

    fn inventory(&self) -> PathBuf {
        self.home.images().with_file_name("inventory.toml")
    }

    fn write(&self, inventory: &str) {
        fs::write(self.inventory(), inventory).expect("written");
    }

    fn start(&self) -> Daemon {
        self.home.start(&["--inventory", self.inventory().to_str().expect("text")])
    }

    /// `remoteboot machines` with these words.
    fn run(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_remoteboot"))
            .arg("machines")
            .args(words)
            .env_clear()
            .env("INFRAKIT_PLUGINS_DIR", self.home.plugins())
            .output()
            .expect("the program starts")
    }

    /// What it prints when all is fine.
    fn fine(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "", "{words:?}");
        text(&output.stdout)
    }

    /// What it says when the daemon refuses.
    fn refused(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// Every machine of the list, by its address, as JSON.
    fn all(&self) -> BTreeMap<String, Value> {
        let answer: Value = serde_json::from_str(&self.fine(&["--json"])).expect("JSON");
        let rows = answer["Machines"].as_array().expect("a list").clone();
        rows.into_iter().map(|row| (row["mac"].as_str().expect("a MAC").to_owned(), row)).collect()
    }

    fn state(&self, mac: &str) -> String {
        self.all()[mac]["state"].as_str().expect("a state").to_owned()
    }
}

/// Lines of cells by the names of their columns.
fn table(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines = text.lines();
    let header = lines.next().expect("a header");
    let names: Vec<&str> = header.split_whitespace().collect();
    let starts: Vec<usize> = names.iter().map(|name| header.find(name).expect("it")).collect();
    lines
        .map(|line| {
            let cell = |(place, name): (usize, &&str)| {
                let end = starts.get(place + 1).copied().unwrap_or(line.len());
                let cell = &line[starts[place]..end.min(line.len())];
                (name.to_string(), cell.trim().to_owned())
            };
            names.iter().enumerate().map(cell).collect()
        })
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn mac(number: u8) -> String {
    format!("52:54:00:10:00:{number:02x}")
}

fn listed(number: u8, rack: &str) -> String {
    format!(
        "[[machine]]\nmac = \"{}\"\narch = \"bios\"\nlabels = {{ rack = \"{rack}\" }}\n",
        mac(number)
    )
}

fn provision(daemon: &Daemon, more: Value) -> Result<String, String> {
    let mut properties = json!({"Kernel": "vmlinuz"});
    properties.as_object_mut().expect("one").extend(more.as_object().expect("one").clone());
    let spec = json!({"Properties": properties, "Tags": {"infrakit.group": "g"}});
    match daemon.call("Instance.Provision", json!({"Spec": spec})) {
        Ok(result) => Ok(result["ID"].as_str().expect("an ID").to_owned()),
        Err(error) => Err(error["message"].as_str().expect("a message").to_owned()),
    }
}

fn destroy(daemon: &Daemon, id: &str) {
    daemon.call("Instance.Destroy", json!({"Instance": id})).expect("destroyed");
}

/// Which machine each instance has.
fn taken(daemon: &Daemon) -> BTreeMap<String, String> {
    let params = json!({"Tags": {}, "Properties": true});
    let result = daemon.call("Instance.DescribeInstances", params).expect("a list");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let one = |one: &Value| (text(&one["ID"]), text(&one["Properties"]["mac"]));
    result["Descriptions"].as_array().expect("a list").iter().map(one).collect()
}

fn hang_up(daemon: &Daemon) {
    let pid = daemon.pid().to_string();
    let sent = Command::new("/bin/kill").args(["-HUP", &pid]).status().expect("kill runs");
    assert!(sent.success());
}

#[test]
fn the_list_shows_every_machine_in_columns_and_as_the_daemon_tells_it() {
    let pool = Pool::listing(2);
    let ports = Ports::free();
    let mut arguments = ports.arguments();
    arguments.extend(["--inventory".to_owned(), pool.inventory().display().to_string()]);
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let daemon = pool.home.start(&words);
    Machine::new(3, ports).script();
    let address = Machine::new(3, ports).lease(IPXE).address;
    Machine::new(3, ports).script();
    let id = provision(&daemon, json!({"MAC": mac(2)})).expect("free");
    pool.fine(&["set-aside", &mac(1), "--reason", "broken fan"]);
    let rows = table(&pool.fine(&[]));
    let column = |name: &str| -> Vec<&str> { rows.iter().map(|row| row[name].as_str()).collect() };
    assert_eq!(column("MAC"), [mac(1), mac(2), mac(3)]);
    assert_eq!(column("STATE"), ["set-aside", "assigned", "held"]);
    assert_eq!(column("ARCH"), ["bios", "bios", "x64-uefi"]);
    assert_eq!(column("ADDRESS"), ["-", "-", &address.to_string()]);
    assert_eq!(column("STAGE"), ["-", "-", "holding"]);
    assert_eq!(column("INSTANCE"), ["-", &id, "-"]);
    assert_eq!(column("INSTANCE-IS"), ["-", "provisioning", "-"]);
    assert_eq!(column("LABELS"), ["rack=1", "rack=1", "-"]);
    assert_eq!(column("NOTE"), ["broken fan", "-", "-"]);
    assert_eq!(column("SEEN")[..2], ["-", "-"]);
    let is_age = |text: &&str| {
        let digits = text.trim_end_matches(['s', 'm']);
        digits.len() + 1 == text.len() && digits.parse::<u32>().is_ok()
    };
    assert!(column("FOR").iter().all(is_age) && is_age(&column("SEEN")[2]), "{rows:?}");
    let answer: Value = serde_json::from_str(&pool.fine(&["--json"])).expect("JSON");
    assert_eq!(answer, daemon.call("Machine.List", json!({})).expect("a list"));
    for (words, expected) in [
        (&["--state=held"][..], &[3][..]),
        (&["list", "--state", "seen"], &[]),
        (&["--label=rack=1"], &[1, 2]),
        (&["list", "--label=rack=1", "--state=set-aside"], &[1]),
        (&["--arch", "x64-uefi"], &[3]),
    ] {
        let rows = table(&pool.fine(words));
        let macs: Vec<&str> = rows.iter().map(|row| row["MAC"].as_str()).collect();
        let expected: Vec<String> = expected.iter().map(|number| mac(*number)).collect();
        assert_eq!(macs, expected, "{words:?}");
    }
}

#[test]
fn select_finds_machines_that_nobody_has_seen_by_labels_of_file_and_operator() {
    let pool = Pool::new();
    pool.write(&[listed(1, "1"), listed(2, "2"), listed(3, "2")].concat());
    let daemon = pool.start();
    let words = ["label", "52-54-00-10-00-03", "disk=sata", "525400100002", "spare-"];
    let labelled = |number| format!("{}  free  disk=sata,rack=2\n", mac(number));
    assert_eq!(pool.fine(&words), labelled(3) + &labelled(2));
    pool.fine(&["label", &mac(3), "disk=nvme"]);
    let select = |labels: Value| json!({"Select": {"Arch": "bios", "Labels": labels}});
    let id =
        provision(&daemon, select(json!({"rack": "2", "disk": "nvme"}))).expect("there is one");
    assert_eq!(taken(&daemon)[&id], mac(3));
    let error = provision(&daemon, select(json!({"rack": "2", "disk": "nvme"}))).expect_err("one");
    assert!(error.starts_with("no free machine is Arch bios, label disk=nvme"), "{error}");
    pool.fine(&["label", &mac(2), "disk-"]);
    assert!(provision(&daemon, select(json!({"disk": "sata"}))).is_err());
    let id = provision(&daemon, select(json!({"rack": "2"}))).expect("the other one");
    assert_eq!(taken(&daemon)[&id], mac(2));
    let id = provision(&daemon, json!({})).expect("any");
    assert_eq!(taken(&daemon)[&id], mac(1));
}

#[test]
fn a_machine_that_is_set_aside_is_given_to_nobody_while_many_ask() {
    let pool = Pool::listing(12);
    let daemon = pool.start();
    let before: Vec<String> = (1..=4).map(mac).collect();
    let words: Vec<&str> =
        ["set-aside"].into_iter().chain(before.iter().map(String::as_str)).collect();
    assert_eq!(pool.fine(&words).lines().count(), 4);
    // Four more are set aside while twenty ask for what is left.
    let (ids, states): (Vec<String>, Vec<(String, String)>) = std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..20).map(|_| scope.spawn(|| provision(&daemon, json!({})).ok())).collect();
        let aside: Vec<_> = (5..=8)
            .map(|number| {
                let daemon = &daemon;
                scope.spawn(move || {
                    let params = json!({"MAC": mac(number)});
                    let answer = daemon.call("Machine.SetAside", params).expect("it may");
                    (mac(number), answer["Machine"]["state"].as_str().expect("one").to_owned())
                })
            })
            .collect();
        (
            asking.into_iter().filter_map(|one| one.join().expect("no panic")).collect(),
            aside.into_iter().map(|one| one.join().expect("no panic")).collect(),
        )
    });
    let taken: HashSet<String> = taken(&daemon).into_values().collect();
    assert_eq!(taken.len(), ids.len(), "each was given once");
    assert!(before.iter().all(|mac| !taken.contains(mac)), "{taken:?}");
    for (mac, state) in &states {
        assert_eq!(taken.contains(mac), state == "retiring", "{mac} is {state}");
        assert_eq!(pool.state(mac), *state);
    }
    let aside = states.iter().filter(|(_, state)| state == "set-aside").count();
    assert_eq!(taken.len(), 8 - aside, "all that was left was given");
    assert!(provision(&daemon, json!({"MAC": mac(1)})).is_err(), "nor to who names it");
}

#[test]
fn what_must_not_be_is_refused_by_name_and_what_may_be_is_done() {
    let pool = Pool::listing(3);
    let daemon = pool.start();
    let id = provision(&daemon, json!({"MAC": mac(1)})).expect("free");
    for (words, verb) in [(&["free", &mac(1)][..], "freed"), (&["forget", &mac(1)], "forgotten")] {
        let said = pool.refused(words);
        let expected = format!("error: {}: a machine that is assigned cannot be {verb}", mac(1));
        assert!(said.starts_with(&expected) && said.contains(&id), "{said}");
    }
    // It stays with its instance, and is set aside after that.
    assert_eq!(
        pool.fine(&["set-aside", &mac(1), "--reason=old"]),
        format!("{}  retiring  rack=1\n", mac(1))
    );
    assert_eq!(pool.all()[&mac(1)]["note"], "old");
    destroy(&daemon, &id);
    assert_eq!(pool.state(&mac(1)), "set-aside");
    assert!(provision(&daemon, json!({"MAC": mac(1)})).expect_err("no").contains("set-aside"));
    assert_eq!(pool.fine(&["free", &mac(1)]), format!("{}  free  rack=1\n", mac(1)));
    assert_eq!(pool.all()[&mac(1)]["note"], Value::Null);
    // A machine that was released is back when the operator says so.
    let id = provision(&daemon, json!({"MAC": mac(2)})).expect("free");
    destroy(&daemon, &id);
    assert_eq!(pool.state(&mac(2)), "releasing");
    let free: Value = serde_json::from_str(&pool.fine(&["free", "--json", &mac(2)])).expect("JSON");
    assert_eq!(free["Machine"]["state"], "free");
    // One that is refused does not keep the others.
    let id = provision(&daemon, json!({"MAC": mac(3)})).expect("free");
    let output = pool.run(&["forget", &mac(9), &mac(1), &mac(3), &mac(2)]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(text(&output.stdout), format!("{}  forgotten\n{}  forgotten\n", mac(1), mac(2)));
    assert!(said.contains(&format!("error: there is no machine {}\n", mac(9))), "{said}");
    assert!(
        said.contains(&id) && said.ends_with("error: 2 of 4 machines were refused\n"),
        "{said}"
    );
    assert_eq!(pool.all().into_keys().collect::<Vec<_>>(), [mac(3)]);
    let many: Vec<String> = (0..64).map(|number| format!("l{number}=")).collect();
    let words: Vec<&str> =
        ["label", "525400100003"].into_iter().chain(many.iter().map(String::as_str)).collect();
    assert!(pool.refused(&words).contains("65 labels are more than the 64"));
}

#[test]
fn a_forgotten_machine_is_gone_and_comes_back_when_it_is_seen() {
    let pool = Pool::new();
    let ports = Ports::free();
    let arguments = ports.arguments();
    let _daemon = pool.home.start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    Machine::new(1, ports).script();
    pool.fine(&["label", &mac(1), "rack=1"]);
    pool.fine(&["forget", &mac(1)]);
    assert_eq!(table(&pool.fine(&[])), []);
    assert!(pool.refused(&["free", &mac(1)]).contains("there is no machine"));
    Machine::new(1, ports).script();
    let again = &pool.all()[&mac(1)];
    assert_eq!((&again["state"], &again["labels"]), (&json!("held"), &json!({})));
}

#[test]
fn what_the_operator_said_survives_a_kill_and_a_restart() {
    let pool = Pool::listing(4);
    let mut daemon = pool.start();
    let mut expected = pool.all();
    for words in [
        &["label", &mac(1), "rack=7", "own=x"][..],
        &["set-aside", &mac(2), "--reason=broken fan"],
        &["label", &mac(3), "own=x"],
        &["free", &mac(2)],
        &["set-aside", &mac(3)],
        &["forget", &mac(4)],
    ] {
        pool.fine(words);
        // It is killed as soon as it has answered.
        daemon.kill();
        daemon = pool.home.start(&[]);
        let now = pool.all();
        assert_ne!(now, expected, "{words:?} is lost");
        assert!(now.keys().all(|mac| expected.contains_key(mac)));
        expected = now;
    }
    let rows: Vec<_> = expected.values().map(|row| (&row["state"], &row["labels"])).collect();
    let state = |state| json!(state);
    assert_eq!(
        rows,
        [
            (&state("free"), &json!({"rack": "7", "own": "x"})),
            (&state("free"), &json!({"rack": "1"})),
            (&state("set-aside"), &json!({"rack": "1", "own": "x"})),
        ]
    );
    assert!(daemon.terminate().success());
    let _daemon = pool.home.start(&[]);
    assert_eq!(pool.all(), expected);
}

#[test]
fn the_inventory_is_read_at_the_start_and_again_on_sighup() {
    let pool = Pool::listing(2);
    let daemon = pool.start();
    assert_eq!(pool.all().len(), 2);
    pool.fine(&["label", &mac(1), "rack=9", "own=x"]);
    // The first is written of otherwise, the second no more, the third is new.
    pool.write(&[listed(1, "5"), listed(3, "5")].concat());
    hang_up(&daemon);
    let all = eventually("the third machine", || Some(pool.all()).filter(|all| all.len() == 3));
    assert_eq!(all[&mac(1)]["labels"], json!({"rack": "5", "own": "x"}));
    assert_eq!(all[&mac(2)]["labels"], json!({"rack": "1"}));
    // A broken file changes nothing.
    pool.write(&[&listed(4, "5"), "[[machine]]\nmac = 'rack1'\n"].concat());
    hang_up(&daemon);
    let line = eventually("a line in the log", || {
        pool.home.log().lines().find(|line| line.contains("SIGHUP")).map(str::to_owned)
    });
    assert!(line.contains("line 6, column 7") && line.contains("rack1"), "{line}");
    assert_eq!(pool.all(), all);
    // What is forgotten and still listed is back after the next reading.
    pool.fine(&["forget", &mac(3)]);
    pool.write(&listed(3, "5"));
    hang_up(&daemon);
    eventually("the third machine", || (pool.all().len() == 3).then_some(()));
    assert!(daemon.terminate().success());
}

#[test]
fn a_broken_inventory_keeps_the_daemon_from_starting_and_check_says_the_same() {
    let pool = Pool::new();
    pool.write(&[listed(1, "1"), listed(2, "1"), listed(1, "2")].concat());
    let flag = ["--inventory", &pool.inventory().display().to_string()].map(str::to_owned);
    let arguments = flag.each_ref().map(String::as_str);
    assert_eq!(pool.home.start_in_vain(&arguments).code(), Some(2));
    let said = format!("line 10, column 7: {} is listed twice, first in line 2", mac(1));
    assert!(pool.home.log().contains(&said), "{}", pool.home.log());
    let check = Command::new(env!("CARGO_BIN_EXE_remoteboot"))
        .args(["check", "--state-dir", "state"])
        .args(arguments)
        .env_clear()
        .env("HOME", pool.home.images())
        .output()
        .expect("the program starts");
    assert_eq!(check.status.code(), Some(1));
    assert!(text(&check.stderr).contains(&said), "{}", text(&check.stderr));
}

#[test]
fn sighup_without_an_inventory_ends_nothing() {
    let pool = Pool::new();
    let daemon = pool.home.start(&[]);
    hang_up(&daemon);
    eventually("a line in the log", || pool.home.log().contains("SIGHUP").then_some(()));
    assert_eq!(table(&pool.fine(&[])), []);
    assert!(daemon.terminate().success());
}

#[test]
fn without_a_daemon_it_says_where_it_looked_and_why_in_vain() {
    let pool = Pool::new();
    let socket = pool.home.socket().display().to_string();
    let said = pool.refused(&[]);
    assert!(said.contains(&socket) && said.contains("No such file"), "{said}");
    pool.home.start(&[]).kill();
    let said = pool.refused(&["free", &mac(1)]);
    assert!(said.contains(&socket) && said.contains("refused"), "{said}");
    let said = pool.refused(&["--plugins=/nowhere", "--name=other", "list"]);
    assert!(said.contains("/nowhere/other"), "{said}");
    let output = pool.run(&["--name=a/b"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let output = pool.run(&["set-aside", "rack1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("`rack1` is not a MAC"), "{}", text(&output.stderr));
}

#[test]
fn what_answers_otherwise_is_no_remoteboot() {
    let pool = Pool::new();
    fs::create_dir_all(pool.home.plugins()).expect("made");
    let other = UnixListener::bind(pool.home.plugins().join(NAME)).expect("free");
    let served = std::thread::spawn(move || {
        for body in ["hello", "{}", "{\"result\": null}"] {
            let (mut stream, _) = other.accept().expect("a caller");
            let mut request = [0; 4096];
            let count = stream.read(&mut request).expect("a request");
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).expect("sent");
            stream.write_all(body.as_bytes()).expect("sent");
            assert!(count > 0);
        }
    });
    for _ in 0..3 {
        assert!(pool.refused(&[]).contains("is no remoteboot"));
    }
    served.join().expect("no panic");
}
