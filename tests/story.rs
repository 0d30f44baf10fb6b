//! The whole story, over real sockets: a controller provisions, machines boot,
//! nobody gets what is not meant for them, and a restart loses nothing.

mod daemon;
mod machine;

use std::{
    fs,
    io::{Read, Write},
    time::Duration,
};

use daemon::{Daemon, Home};
use machine::{BIOS, HOST, HTTP, IPXE, Machine, Ports, UEFI, connected, initrds_of, kernel_of};
use serde_json::{Value, json};

/// A daemon with all its doors open, and boot programs of its own.
struct Stage {
    home: Home,
    ports: Ports,
}

impl Stage {
    fn new() -> Self {
        let stage = Self { home: Home::new(), ports: Ports::free() };
        fs::create_dir(stage.loaders()).expect("made");
        fs::write(stage.loaders().join("undionly.kpxe"), vec![b'b'; 70_000]).expect("written");
        // The header of a UEFI program for x86-64, then whatever.
        let mut program = vec![0; 3000];
        program[..2].copy_from_slice(b"MZ");
        program[0x3c] = 0x40;
        program[0x40..0x46].copy_from_slice(b"PE\0\0\x64\x86");
        fs::write(stage.loaders().join("snponly.efi"), program).expect("written");
        stage.image("vmlinuz", &vec![b'k'; 100_000]);
        stage.image("initrd.img", b"the initrd");
        stage.image("second.img", b"the second");
        stage
    }

    fn loaders(&self) -> std::path::PathBuf {
        self.home.images().with_file_name("loaders")
    }

    fn image(&self, name: &str, content: &[u8]) {
        fs::write(self.home.images().join(name), content).expect("written");
    }

    fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    fn start_with(&self, more: &[&str]) -> Daemon {
        let mut arguments = self.ports.arguments();
        arguments.extend(["--ipxe-dir".to_owned(), self.loaders().display().to_string()]);
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        self.home.start(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn machine(&self, number: u8) -> Machine {
        Machine::new(number, self.ports)
    }
}

fn properties(more: &[(&str, Value)]) -> Value {
    let mut all = json!({"Kernel": "vmlinuz", "Initrd": "initrd.img", "CmdLine": "a={{ mac }}"});
    for (name, value) in more {
        all[*name] = value.clone();
    }
    all
}

fn try_provision(
    daemon: &Daemon,
    properties: &Value,
    logical_id: Option<&str>,
) -> Result<String, String> {
    let spec = json!({
        "Properties": properties, "Tags": {"infrakit.group": "g", "tier": "web"}, "Init": "",
        "LogicalID": logical_id, "Attachments": null
    });
    match daemon.call("Instance.Provision", json!({"Type": "", "Spec": spec})) {
        Ok(result) => Ok(result["ID"].as_str().expect("an ID").to_owned()),
        Err(error) => Err(error["message"].as_str().expect("a message").to_owned()),
    }
}

fn provision(daemon: &Daemon, properties: &Value) -> String {
    try_provision(daemon, properties, None).expect("provisioned")
}

fn destroy(daemon: &Daemon, id: &str) {
    let context = json!({"Reason": "terminate"});
    let parameters = json!({"Type": "", "Instance": id, "Context": context});
    daemon.call("Instance.Destroy", parameters).expect("destroyed");
}

fn describe(daemon: &Daemon) -> Vec<Value> {
    let parameters = json!({"Type": "", "Tags": {"infrakit.group": "g"}, "Properties": true});
    let result = daemon.call("Instance.DescribeInstances", parameters).expect("described");
    result["Descriptions"].as_array().expect("a list").clone()
}

#[test]
fn each_machine_boots_what_was_provisioned_for_it_whatever_its_firmware() {
    let stage = Stage::new();
    let daemon = stage.start();
    for (number, firmware, loader) in [(1, BIOS, 70_000), (2, UEFI, 3000), (3, HTTP, 3000)] {
        let machine = stage.machine(number);
        let more = [
            ("MAC", json!(machine.mac.to_string())),
            ("Initrd", json!(["initrd.img", "second.img"])),
            ("CmdLine", json!("mac={{ mac }} tier={{ tags[\"tier\"] }} id={{ id }} ip={{ ip }}")),
        ];
        let id = provision(&daemon, &properties(&more));
        let booted = machine.boot(firmware);
        assert_eq!(booted.loader.len(), loader);
        assert_eq!(booted.kernel, vec![b'k'; 100_000]);
        assert_eq!(booted.initrds, [b"the initrd".to_vec(), b"the second".to_vec()]);
        let address = machine.lease(IPXE).address;
        let own = format!("mac={} tier=web id={id} ip={address}", machine.mac);
        assert_eq!(booted.cmdline, format!("initrd=initrd.0 initrd=initrd.1 {own}"));
    }
    assert_eq!(describe(&daemon).len(), 3);
}

#[test]
fn a_held_machine_boots_at_its_next_question_once_it_is_provisioned() {
    let stage = Stage::new();
    let daemon = stage.start();
    assert_eq!(try_provision(&daemon, &properties(&[]), None), Err("no free machine".to_owned()));
    let machine = stage.machine(1);
    let held = machine.script();
    assert!(held.contains("waits to be provisioned") && held.contains("chain"), "{held}");
    provision(&daemon, &properties(&[]));
    let script = machine.script();
    assert!(kernel_of(&script).1.ends_with(&format!("a={}", machine.mac)), "{script}");
}

#[test]
fn a_group_takes_as_many_machines_longest_waiting_first_and_no_host() {
    let stage = Stage::new();
    let daemon = stage.start();
    stage.machine(9).lease(HOST);
    for number in [3, 1, 2] {
        stage.machine(number).lease(UEFI);
        // One millisecond is the clock's step: the order must be theirs.
        std::thread::sleep(Duration::from_millis(3));
    }
    for _ in 0..3 {
        provision(&daemon, &properties(&[]));
    }
    let taken: Vec<String> = describe(&daemon)
        .iter()
        .map(|instance| instance["Properties"]["mac"].as_str().expect("a MAC").to_owned())
        .collect();
    let expected = [3, 1, 2].map(|number| stage.machine(number).mac.to_string());
    assert_eq!(taken, expected);
    assert_eq!(try_provision(&daemon, &properties(&[]), None), Err("no free machine".to_owned()));
}

#[test]
fn names_choose_machines_and_addresses() {
    let stage = Stage::new();
    let daemon = stage.start();
    let (by_mac, by_address) = (stage.machine(1), stage.machine(2));
    by_address.lease(UEFI);
    let id =
        try_provision(&daemon, &properties(&[]), Some(&by_mac.mac.to_string())).expect("a pet");
    let again = try_provision(&daemon, &properties(&[]), Some(&by_mac.mac.to_string()));
    assert_eq!(again.as_ref(), Ok(&id), "asked again it is the same");
    try_provision(&daemon, &properties(&[]), Some("127.2.3.4")).expect("a pet by address");
    assert_eq!(by_address.lease(UEFI).address.to_string(), "127.2.3.4");
    let named = stage.machine(3);
    let more = [
        ("MAC", json!(named.mac.to_string())),
        ("Address", json!("127.2.3.5")),
        ("Hostname", json!("web-1")),
    ];
    provision(&daemon, &properties(&more));
    let lease = named.lease(UEFI);
    assert_eq!(
        (lease.address.to_string().as_str(), lease.hostname.as_str()),
        ("127.2.3.5", "web-1")
    );
    for (field, value) in [("MAC", named.mac.to_string()), ("Address", "127.2.3.5".to_owned())] {
        let error = try_provision(&daemon, &properties(&[(field, json!(value))]), None);
        let error = error.expect_err("it is taken");
        assert!(error.contains(field) && error.contains(&value), "{error}");
    }
}

#[test]
fn nobody_gets_what_is_not_meant_for_them() {
    let stage = Stage::new();
    let daemon = stage.start();
    let (owner, thief) = (stage.machine(1), stage.machine(2));
    provision(&daemon, &properties(&[("MAC", json!(owner.mac.to_string()))]));
    let script = owner.script();
    let (kernel, _) = kernel_of(&script);
    let address = thief.lease(IPXE).address;
    let of_owner = format!("/ipxe/{}.ipxe", owner.mac.hyphenated());
    let token = owner.path(&kernel).split('/').nth(2).expect("a token").to_owned();
    let refused = |from, path: &str| {
        for method in ["GET", "HEAD"] {
            let page = thief.http(from, method, path);
            assert!((400..500).contains(&page.status), "{path}: {}", page.head);
            assert!(!page.text().contains("kkkk") && !page.text().contains(&token), "{path}");
        }
    };
    // By another machine's address, and by one that was leased to nobody.
    for from in [address, [127, 77, 0, 1].into()] {
        refused(from, &of_owner);
        refused(from, owner.path(&kernel));
        refused(from, &initrds_of(&script)[0].replace("http://", "/"));
    }
    let own = owner.lease(IPXE).address;
    for path in [
        "/",
        "/boot",
        "/boot/",
        "/state.redb",
        "/images/vmlinuz",
        "/vmlinuz",
        "/etc/passwd",
        "/../state/state.redb",
        "/boot/../../state/state.redb",
        "/%2e%2e/state/state.redb",
        "/..%2fstate%2fstate.redb",
        "/loader/../images/vmlinuz",
        "/loader/..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/loader/%00",
        "/unclaimed/0/vmlinuz",
    ] {
        refused(own, path);
    }
    refused(own, &format!("/boot/{token}/9/vmlinuz"));
    refused(own, &format!("/boot/{}/0/vmlinuz", "0".repeat(32)));
    refused(own, &format!("/boot/{}/0/vmlinuz", token.to_uppercase() + "0"));
    for name in ["vmlinuz", "../state/state.redb", "/etc/passwd", "state.redb"] {
        assert!(thief.tftp(address, name).is_err(), "{name}");
    }
    assert_eq!(owner.http(own, "GET", owner.path(&kernel)).status, 200, "the owner still may");
}

#[test]
fn destroy_takes_the_files_away_and_a_second_provision_gives_new_ones() {
    let stage = Stage::new();
    let daemon = stage.start();
    let machine = stage.machine(1);
    let more = [("MAC", json!(machine.mac.to_string()))];
    let id = provision(&daemon, &properties(&more));
    let (old, _) = kernel_of(&machine.script());
    let address = machine.lease(IPXE).address;
    assert_eq!(machine.http(address, "GET", machine.path(&old)).status, 200);
    destroy(&daemon, &id);
    assert_eq!(describe(&daemon), Vec::<Value>::new());
    assert_eq!(machine.http(address, "GET", machine.path(&old)).status, 404);
    assert!(machine.script().contains("waits to be provisioned"));
    destroy(&daemon, &id);
    let never = json!({"Type": "", "Instance": "rb-00000000000000ff"});
    assert!(daemon.call("Instance.Destroy", never).is_err(), "an ID that was never issued");
    stage.image("second", b"another kernel");
    let second = provision(&daemon, &properties(&[more[0].clone(), ("Kernel", json!("second"))]));
    assert!(second > id, "{second} is later than {id}");
    assert_eq!(machine.boot(UEFI).kernel, b"another kernel");
    assert_ne!(kernel_of(&machine.script()).0, old);
}

#[test]
fn destroy_cuts_a_transfer_that_is_under_way() {
    let stage = Stage::new();
    let daemon = stage.start();
    let machine = stage.machine(1);
    let length = 64 << 20;
    stage.image("large", &vec![b'l'; length]);
    let more = [("MAC", json!(machine.mac.to_string())), ("Kernel", json!("large"))];
    let id = provision(&daemon, &properties(&more));
    let (url, _) = kernel_of(&machine.script());
    let mut stream = connected(machine.lease(IPXE).address, stage.ports.http);
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", machine.path(&url));
    stream.write_all(request.as_bytes()).expect("sent");
    let mut read = vec![0; 100_000];
    stream.read_exact(&mut read).expect("it has begun");
    destroy(&daemon, &id);
    let mut rest = Vec::new();
    // It may end by a reset.
    let _ = stream.read_to_end(&mut rest);
    let received = read.len() + rest.len();
    // What was in the sockets' buffers arrives; the rest never leaves.
    assert!(received < length / 2, "{received} of {length} bytes arrived");
}

#[test]
fn a_file_is_served_only_with_the_checksum_that_was_promised() {
    let stage = Stage::new();
    let daemon = stage.start();
    let machine = stage.machine(1);
    stage.image("kernel", b"kernel");
    // `printf kernel | sha256sum`
    let right = "6923dd1bc0460082c5d55a831908c24a282860b7f1cd6c2b79cf1bc8857c639c";
    let with = |digest: &str| {
        let mac = ("MAC", json!(machine.mac.to_string()));
        properties(&[mac, ("Kernel", json!("kernel")), ("Checksum", json!({"kernel": digest}))])
    };
    let error = try_provision(&daemon, &with(&"0".repeat(64)), None).expect_err("it differs");
    assert!(error.contains("Checksum") && error.contains(right), "{error}");
    provision(&daemon, &with(right));
    assert_eq!(machine.boot(UEFI).kernel, b"kernel");
    let (kernel, _) = kernel_of(&machine.script());
    stage.image("kernel", b"kernem");
    let page = machine.http(machine.lease(IPXE).address, "GET", machine.path(&kernel));
    assert!(page.status >= 400 && !page.text().contains("kernem"), "{}", page.head);
}

#[test]
fn a_url_is_named_to_the_machine_as_it_is() {
    let stage = Stage::new();
    let daemon = stage.start();
    let machine = stage.machine(1);
    let url = "https://images.example/a/vmlinuz?x=1";
    let more = [("MAC", json!(machine.mac.to_string())), ("Kernel", json!(url))];
    provision(&daemon, &properties(&more));
    assert_eq!(kernel_of(&machine.script()).0, url);
}

#[test]
fn the_three_arguments_are_for_machines_that_no_instance_claims() {
    let stage = Stage::new();
    let kernel = stage.home.images().join("vmlinuz").display().to_string();
    let initrd = stage.home.images().join("initrd.img").display().to_string();
    let daemon = stage.start_with(&[&kernel, &initrd, "console=tty0 m={{ mac }}"]);
    // One after the other, iPXE between: none changes what the next is told.
    for (number, firmware, loader) in [(1, UEFI, 3000), (2, BIOS, 70_000), (3, UEFI, 3000)] {
        let machine = stage.machine(number);
        let booted = machine.boot(firmware);
        assert_eq!((booted.loader.len(), booted.kernel.len()), (loader, 100_000));
        assert_eq!(booted.initrds, [b"the initrd".to_vec()]);
        assert_eq!(booted.cmdline, format!("initrd=initrd.0 console=tty0 m={}", machine.mac));
    }
    let claimed = stage.machine(2);
    provision(&daemon, &properties(&[("MAC", json!(claimed.mac.to_string()))]));
    assert_eq!(claimed.boot(BIOS).cmdline, format!("initrd=initrd.0 a={}", claimed.mac));
    let host = stage.machine(9).lease(HOST);
    assert_eq!(host.boot_file, "", "a plain host is told nothing of it");
}

#[test]
fn autoexec_is_the_machines_own_script_by_tftp_and_by_http() {
    let stage = Stage::new();
    let daemon = stage.start();
    let machine = stage.machine(1);
    provision(&daemon, &properties(&[("MAC", json!(machine.mac.to_string()))]));
    let address = machine.lease(UEFI).address;
    let by_tftp = machine.tftp(address, "autoexec.ipxe").expect("a script");
    let by_http = machine.http(address, "GET", "/loader/autoexec.ipxe").text();
    assert_eq!(String::from_utf8_lossy(&by_tftp), by_http);
    assert_eq!(machine.load(address, &by_http).0.len(), 100_000);
}

#[test]
fn a_boot_goes_on_over_a_restart_and_over_a_kill() {
    let stage = Stage::new();
    let daemon = stage.start();
    let machine = stage.machine(1);
    let id = provision(&daemon, &properties(&[("MAC", json!(machine.mac.to_string()))]));
    let lease = machine.lease(IPXE);
    daemon.kill();
    let daemon = stage.start();
    let script = machine.http(lease.address, "GET", machine.path(&lease.boot_file)).text();
    assert!(daemon.terminate().success());
    let daemon = stage.start();
    assert_eq!(machine.load(lease.address, &script).0.len(), 100_000);
    assert_eq!(machine.lease(IPXE).address, lease.address);
    assert_eq!(describe(&daemon)[0]["ID"].as_str(), Some(id.as_str()));
}

#[test]
fn a_file_of_the_operator_that_leads_out_of_the_image_directory_is_refused_by_name() {
    let stage = Stage::new();
    let daemon = stage.start();
    stage.machine(1).lease(UEFI);
    std::os::unix::fs::symlink("/etc/passwd", stage.home.images().join("link")).expect("linked");
    for (value, word) in [
        ("/etc/passwd", "absolute"),
        ("../state/state.redb", ".."),
        ("nope", "no file"),
        ("link", "leads out"),
        ("", "file name"),
    ] {
        let error = try_provision(&daemon, &properties(&[("Kernel", json!(value))]), None);
        let error = error.expect_err(value);
        assert!(error.contains("Kernel") && error.contains(word), "{value}: {error}");
    }
    assert_eq!(describe(&daemon), Vec::<Value>::new(), "and nothing was taken");
    provision(&daemon, &properties(&[]));
}
