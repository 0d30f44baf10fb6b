//! Who a machine is: several cards that are one, boards that say what others say, and
//! the ports that they hang on. The program's own command and listeners against the
//! running daemon, on loopback.

mod daemon;
mod machine;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    process::Command,
};

use daemon::{Daemon, Home, NAME, connect, eventually};
use machine::{BIOS, HOST, IPXE, Machine, Ports};
use serde_json::{Value, json};

/// A daemon's directories and ports, with an inventory among them.
struct Site {
    home: Home,
    ports: Ports,
}

impl Site {
    fn new(inventory: &str) -> Self {
        let site = Self { home: Home::new(), ports: Ports::free() };
        site.write(inventory);
        site
    }

    fn write(&self, inventory: &str) {
        let path = self.home.images().with_file_name("inventory.toml");
        fs::write(path, inventory).expect("written");
    }

    fn start(&self) -> Daemon {
        let inventory = self.home.images().with_file_name("inventory.toml");
        let mut arguments = self.ports.arguments();
        arguments.extend(["--inventory".to_owned(), inventory.display().to_string()]);
        self.home.start(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn machine(&self, number: u8) -> Machine {
        Machine::new(number, self.ports)
    }

    /// What `remoteboot machines` prints with these words, and whether it is content.
    fn run(&self, words: &[&str]) -> (String, bool) {
        let output = Command::new(env!("CARGO_BIN_EXE_remoteboot"))
            .arg("machines")
            .args(words)
            .env_clear()
            .env("INFRAKIT_PLUGINS_DIR", self.home.plugins())
            .output()
            .expect("the program starts");
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8(said).expect("text"), output.status.success())
    }

    #[track_caller]
    fn fine(&self, words: &[&str]) -> String {
        let (said, is_fine) = self.run(words);
        assert!(is_fine, "{words:?}: {said}");
        said
    }

    #[track_caller]
    fn refused(&self, words: &[&str]) -> String {
        let (said, is_fine) = self.run(words);
        assert!(!is_fine, "{words:?}: {said}");
        said
    }

    /// Every machine of the list, by its name.
    fn all(&self) -> BTreeMap<String, Value> {
        let answer: Value = serde_json::from_str(&self.fine(&["--json"])).expect("JSON");
        let rows = answer["Machines"].as_array().expect("a list").clone();
        rows.into_iter().map(|row| (row["mac"].as_str().expect("a MAC").to_owned(), row)).collect()
    }

    /// The value of a field of the one machine with this card.
    fn of(&self, card: &str, field: &str) -> Value {
        let has = |row: &Value| row["macs"].as_array().expect("cards").contains(&json!(card));
        let all = self.all();
        let rows: Vec<&Value> = all.values().filter(|row| has(row)).collect();
        assert_eq!(rows.len(), 1, "{card} is one machine's: {all:?}");
        rows[0][field].clone()
    }

    /// Listens to what happens to machines.
    fn listen(&self) -> Listener {
        let mut stream = connect(&self.home.socket());
        let request = "GET /events?topic=machine%2F HTTP/1.1\r\nHost: h\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("sent");
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while line.trim_end() != "" || line.is_empty() {
            line.clear();
            stream.read_line(&mut line).expect("the headers come at once");
        }
        Listener(stream)
    }
}

struct Listener(BufReader<UnixStream>);

impl Listener {
    /// The events of this kind, up to the one by which this machine became known.
    fn until_found(&mut self, last: &str, kind: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).expect("more in time") > 0, "more of them");
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let event: Value = serde_json::from_str(data).expect("JSON");
            let topic = event["Topic"].as_str().expect("text");
            if topic == format!("machine/{last}/found") {
                return events;
            }
            if topic.ends_with(&format!("/{kind}")) {
                events.push(event);
            }
        }
    }
}

fn name(number: u8) -> String {
    format!("52:54:00:10:00:{number:02x}")
}

fn provision(daemon: &Daemon, more: Value) -> Result<String, String> {
    let mut properties = json!({
        "Kernel": "vmlinuz", "Initrd": "initrd.img",
        "CmdLine": "card={{ mac }} machine={{ machine }}",
    });
    properties.as_object_mut().expect("one").extend(more.as_object().expect("one").clone());
    let spec = json!({"Properties": properties, "Tags": {"infrakit.group": "g"}});
    match daemon.call("Instance.Provision", json!({"Spec": spec})) {
        Ok(result) => Ok(result["ID"].as_str().expect("an ID").to_owned()),
        Err(error) => Err(error["message"].as_str().expect("a message").to_owned()),
    }
}

fn described(daemon: &Daemon) -> Vec<Value> {
    let params = json!({"Tags": {}, "Properties": true});
    let result = daemon.call("Instance.DescribeInstances", params).expect("a list");
    let all = result["Descriptions"].as_array().expect("a list");
    all.iter().map(|one| one["Properties"].clone()).collect()
}

/// iPXE with this SMBIOS UUID, as it is sent.
fn board(uuid: [u8; 16]) -> Vec<u8> {
    [&IPXE.concat(), &[97, 17, 0][..], &uuid].concat()
}

/// iPXE behind this port of this switch.
fn behind(switch: &str, circuit: &str) -> Vec<u8> {
    let part = |code: u8, text: &str| {
        [&[code, u8::try_from(text.len()).expect("short")], text.as_bytes()].concat()
    };
    let both = [part(1, circuit), part(2, switch)].concat();
    [IPXE.concat(), part_of(82, &both)].concat()
}

fn part_of(code: u8, value: &[u8]) -> Vec<u8> {
    [&[code, u8::try_from(value.len()).expect("short")], value].concat()
}

#[test]
fn a_machine_with_two_cards_is_one_by_either_and_stays_it_over_a_kill() {
    let site = Site::new("");
    let daemon = site.start();
    let (first, second, stranger) = (site.machine(1), site.machine(2), site.machine(3));
    for card in [first, second, stranger] {
        assert!(!card.script().contains("kernel --name"), "nothing is provisioned");
    }
    assert_eq!(site.all().len(), 3, "nobody said that two are one");
    let said = site.fine(&["join", &name(1), &name(2)]);
    assert!(said.contains(&format!("{}  held  +{}", name(1), name(2))), "{said}");
    assert_eq!(site.all().len(), 2);

    // By the card that does not name it.
    let id = provision(&daemon, json!({"MAC": name(2)})).expect("provisioned");
    let held = provision(&daemon, json!({"MAC": name(1)})).expect_err("it has one");
    assert!(held.contains(&id), "{held}");
    let [instance] = &described(&daemon)[..] else { panic!("one instance") };
    assert_eq!(instance["mac"], name(1));
    assert_eq!(instance["macs"], json!([name(1), name(2)]));

    let boots = |card: Machine| {
        let lease = card.lease(IPXE);
        let script = card.script();
        let (kernel, _, cmdline) = card.load(lease.address, &script);
        assert_eq!(kernel, b"kernel");
        assert!(cmdline.contains(&format!("card={} machine={}", card.mac, name(1))), "{cmdline}");
        let (url, _) = machine::kernel_of(&script);
        let foreign = stranger.lease(IPXE).address;
        assert_ne!(stranger.http(foreign, "GET", stranger.path(&url)).status, 200);
        // What one card was told is given to the other, too: it is the same machine.
        (url, lease.address)
    };
    let (url, at_first) = boots(first);
    assert_eq!(described(&daemon)[0]["ip"], at_first.to_string());
    let (same, at_second) = boots(second);
    assert_eq!(described(&daemon)[0]["ip"], at_second.to_string(), "that of the last boot");
    assert_eq!(url, same);
    for address in [at_first, at_second] {
        assert_eq!(first.http(address, "GET", first.path(&url)).status, 200);
    }
    assert_eq!(described(&daemon).len(), 1);

    daemon.kill();
    let daemon = site.start();
    assert_eq!(site.of(&name(2), "macs"), json!([name(1), name(2)]));
    boots(second);
    let refused = site.refused(&["join", &name(3), &name(2)]);
    assert!(refused.contains(&format!("is a card of machine {}", name(1))), "{refused}");
    let refused = site.refused(&["split", &name(1)]);
    assert!(refused.contains("it names its machine"), "{refused}");

    daemon.call("Instance.Destroy", json!({"Instance": id})).expect("destroyed");
    site.fine(&["split", &name(2)]);
    assert!(!second.script().contains("kernel --name"));
    assert_eq!(site.of(&name(2), "macs"), json!([name(2)]));
    assert_eq!(site.all().len(), 3);
}

#[test]
fn an_address_that_is_kept_for_a_machine_is_that_of_one_of_its_cards_at_a_time() {
    let site = Site::new(&format!(
        "[[machine]]\nmac = '{}'\nmacs = ['{}', '{}']\n",
        name(1),
        name(1),
        name(2)
    ));
    let daemon = site.start();
    let kept = Ipv4Addr::new(127, 1, 0, 50);
    provision(&daemon, json!({"MAC": name(1), "Address": kept.to_string()})).expect("provisioned");
    let (first, second) = (site.machine(1), site.machine(2));
    assert_eq!(second.lease(IPXE).address, kept, "whichever asks first");
    let other = first.lease(IPXE).address;
    assert_ne!(other, kept, "two cards have not one address");
    assert_eq!(first.lease(HOST).address, other, "and it keeps that");
    // It is started anew: nothing runs that has the address by the other card.
    assert_eq!(first.lease(BIOS).address, kept);
    assert_ne!(second.lease(HOST).address, kept);
    assert_eq!(first.lease(HOST).address, kept);
}

#[test]
fn boards_that_say_the_same_are_told_once_and_junk_never() {
    let site = Site::new("");
    let daemon = site.start();
    let mut heard = site.listen();
    let own: [u8; 16] = *b"LLED\x00\x42\x35\x10\x80\x52\xb3\xc0OKN2";
    let ami = [0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 0, 9];
    for _ in 0..3 {
        for (number, uuid) in [
            (1, own),
            (2, own),
            (3, ami),
            (4, ami),
            (5, [0; 16]),
            (6, [0; 16]),
            (7, [0xff; 16]),
            (8, [0xff; 16]),
        ] {
            site.machine(number).lease(&[&board(uuid)]);
        }
    }
    site.machine(99).lease(IPXE);
    let events = heard.until_found(&name(99), "conflict");
    assert_eq!(events.len(), 1, "{events:?}");
    let data = &events[0]["Data"];
    assert_eq!((&data["kind"], &data["machines"]), (&json!("uuid"), &json!([name(2), name(1)])));
    let logged = || {
        let log = site.home.log();
        log.lines().filter(|line| line.contains("show the same UUID")).count()
    };
    assert_eq!(logged(), 1, "{}", site.home.log());
    let said = site.fine(&["conflicts"]);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&name(1)) && said.contains(&name(2)) && said.contains("join"), "{said}");
    assert_eq!(site.of(&name(3), "uuid"), Value::Null, "junk is not kept");
    assert_eq!(site.of(&name(1), "conflicts"), json!(["uuid"]));

    daemon.kill();
    let _daemon = site.start();
    let mut heard = site.listen();
    site.machine(1).lease(&[&board(own)]);
    site.machine(2).lease(&[&board(own)]);
    // Another board behind the card of before.
    let mut other = own;
    other[15] = b'3';
    site.machine(1).lease(&[&board(other)]);
    site.machine(1).lease(&[&board(other)]);
    site.machine(98).lease(IPXE);
    let kinds: Vec<Value> = heard
        .until_found(&name(98), "conflict")
        .iter()
        .map(|event| event["Data"]["kind"].clone())
        .collect();
    assert_eq!(kinds, ["uuid-changes"]);
    assert_eq!(logged(), 1);
}

#[test]
fn a_serial_number_is_what_its_machine_says_while_it_waits() {
    let site = Site::new("");
    let _daemon = site.start();
    let machine = site.machine(1);
    let script = machine.script();
    let ask = script.lines().find(|line| line.contains("?serial=")).expect("it is asked for it");
    assert!(ask.contains("${serial:uristring} ||"), "{ask}");
    let address = machine.lease(IPXE).address;
    for (said, expected) in
        [("", Value::Null), ("Default%20string", Value::Null), ("5CG%201X", json!("5CG 1X"))]
    {
        let path = format!("/ipxe/{}.ipxe?serial={said}", machine.mac.hyphenated());
        assert_eq!(machine.http(address, "GET", &path).status, 200);
        assert_eq!(site.of(&name(1), "serial"), expected, "{said}");
    }
    let other = site.machine(2);
    let address = other.lease(IPXE).address;
    let path = format!("/ipxe/{}.ipxe?serial=5CG%201X", other.mac.hyphenated());
    assert_eq!(other.http(address, "GET", &path).status, 200);
    assert!(site.fine(&["conflicts"]).contains("the same serial number 5CG 1X"));
}

#[test]
fn a_slot_is_where_a_relay_says_that_a_machine_is() {
    let slot = |name: &str, circuit: &str| {
        format!("[[slot]]\nname = '{name}'\nremote-id = 'sw1'\ncircuit-id = '{circuit}'\n")
    };
    let two = slot("r1-7", "p7") + &slot("r1-8", "p8");
    let site = Site::new(&two);
    let daemon = site.start();
    let mut heard = site.listen();
    let (first, second) = (site.machine(1), site.machine(2));
    first.lease(&[&behind("sw1", "p7")]);
    second.lease(&[&behind("sw1", "\u{1}\u{2}")]);
    assert_eq!(site.of(&name(1), "slot"), "r1-7");
    assert_eq!(site.of(&name(2), "slot"), Value::Null);
    let port = json!({"remote_id": "sw1", "circuit_id": "0x0102"});
    assert_eq!(site.of(&name(2), "port"), port, "what it could be named by");

    let none = provision(&daemon, json!({"Select": {"Slot": "r1-8"}})).expect_err("empty");
    assert!(none.contains("slot r1-8"), "{none}");
    second.lease(&[&behind("sw1", "p8")]);
    provision(&daemon, json!({"Select": {"Slot": "r1-8"}})).expect("it is there");
    let [instance] = &described(&daemon)[..] else { panic!("one instance") };
    assert_eq!((&instance["mac"], &instance["slot"]), (&json!(name(2)), &json!("r1-8")));

    // It is moved to where the other one is.
    first.lease(&[&behind("sw1", "p8")]);
    first.lease(&[&behind("sw1", "p8")]);
    site.machine(99).lease(IPXE);
    let moved = heard.until_found(&name(99), "slot");
    let [moved] = &moved[..] else { panic!("told once: {moved:?}") };
    assert_eq!(
        (&moved["Data"]["before"], &moved["Data"]["slot"]),
        (&json!("r1-7"), &json!("r1-8"))
    );
    let said = site.fine(&["conflicts"]);
    assert!(said.starts_with("slot ") && said.contains("slot r1-8"), "{said}");
    assert_eq!(site.of(&name(1), "conflicts"), json!(["slot"]));

    // The place is called something else from now on.
    site.write(&two.replace("r1-8", "row-1-rack-8"));
    let pid = daemon.pid().to_string();
    assert!(Command::new("/bin/kill").args(["-HUP", &pid]).status().expect("runs").success());
    eventually("the new name", || (site.of(&name(2), "slot") == "row-1-rack-8").then_some(()));
    assert_eq!(NAME, "remoteboot");
}

#[test]
fn the_inventory_joins_cards_that_were_seen_apart_and_shows_those_that_it_cannot() {
    let site = Site::new("");
    let daemon = site.start();
    for number in 1..=4 {
        site.machine(number).lease(IPXE);
    }
    site.fine(&["join", &name(3), &name(4)]);
    let file = format!(
        "[[machine]]\nmac = '{}'\nmacs = ['{}', '{}']\nlabels = {{ rack = '1' }}\n",
        name(1),
        name(2),
        name(4)
    );
    site.write(&file);
    daemon.kill();
    let _daemon = site.start();
    assert_eq!(site.of(&name(2), "macs"), json!([name(1), name(2)]));
    assert_eq!(site.of(&name(2), "labels"), json!({"rack": "1"}));
    assert_eq!(site.of(&name(4), "macs"), json!([name(3), name(4)]), "nothing is taken away");
    let said = site.fine(&["conflicts"]);
    assert!(said.starts_with("card ") && said.contains(&name(4)), "{said}");
    let log = site.home.log();
    assert!(log.contains("split it from that first"), "{log}");
    // The operator does, and the file is read again.
    site.fine(&["split", &name(4)]);
    assert_eq!(site.fine(&["conflicts"]), "", "nobody else has it");
}
