//! What a machine is given for its first start, what it reports, and what comes
//! of it: over real sockets, over kills, with the whole daemon.

mod daemon;
mod machine;

use std::{fs, io::Write, net::Ipv4Addr, process::Command};

use daemon::{Daemon, Home};
use machine::{BIOS, HTTP, IPXE, Machine, Page, Ports, UEFI, connected, kernel_of, page};
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
        fs::write(stage.loaders().join("undionly.kpxe"), vec![b'b'; 7000]).expect("written");
        // The header of a UEFI program for x86-64, then whatever.
        let mut program = vec![0; 3000];
        program[..2].copy_from_slice(b"MZ");
        program[0x3c] = 0x40;
        program[0x40..0x46].copy_from_slice(b"PE\0\0\x64\x86");
        fs::write(stage.loaders().join("snponly.efi"), program).expect("written");
        stage
    }

    fn loaders(&self) -> std::path::PathBuf {
        self.home.images().with_file_name("loaders")
    }

    fn start(&self) -> Daemon {
        let mut arguments = self.ports.arguments();
        let loaders = self.loaders().display().to_string();
        arguments.extend(["--ipxe-dir".to_owned(), loaders, "--log".to_owned(), "5".to_owned()]);
        self.home.start(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn machine(&self, number: u8) -> Machine {
        Machine::new(number, self.ports)
    }
}

/// What every instance here tells its kernel: all URLs that there are.
const URLS: &str = "ds=nocloud;s={{ nocloud }} rb.init={{ init }} rb.report={{ report }}";

/// Makes the machine an instance of this Init, with these properties besides.
fn provision(daemon: &Daemon, machine: &Machine, init: &str, more: &[(&str, Value)]) -> String {
    let mut properties =
        json!({"Kernel": "vmlinuz", "CmdLine": URLS, "MAC": machine.mac.to_string()});
    for (name, value) in more {
        properties[*name] = value.clone();
    }
    let spec = json!({
        "Properties": properties, "Tags": {"t": "x"}, "Init": init, "LogicalID": null,
        "Attachments": null
    });
    let result = daemon.call("Instance.Provision", json!({"Type": "", "Spec": spec}));
    result.expect("provisioned")["ID"].as_str().expect("an ID").to_owned()
}

fn destroy(daemon: &Daemon, id: &str, reason: &str) {
    let context = json!({"Reason": reason});
    let parameters = json!({"Type": "", "Instance": id, "Context": context});
    daemon.call("Instance.Destroy", parameters).expect("destroyed");
}

/// The properties of the one instance with this ID.
fn described(daemon: &Daemon, id: &str) -> Value {
    let parameters = json!({"Type": "", "Tags": {}, "Properties": true});
    let result = daemon.call("Instance.DescribeInstances", parameters).expect("described");
    let all = result["Descriptions"].as_array().expect("a list").clone();
    all.into_iter().find(|one| one["ID"] == id).expect("it lives")["Properties"].clone()
}

/// The machine as its system sees itself: its address, and what its kernel's
/// command line names.
struct System {
    machine: Machine,
    address: Ipv4Addr,
    cmdline: String,
}

impl System {
    /// The whole way from firmware to a running kernel.
    fn boot(machine: Machine, firmware: &[&[u8]]) -> Self {
        let booted = machine.boot(firmware);
        Self { machine, address: machine.lease(IPXE).address, cmdline: booted.cmdline }
    }

    fn url(&self, name: &str) -> String {
        let mut words = self.cmdline.split([' ', ';']);
        let url = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        url.unwrap_or_else(|| panic!("no {name} in {}", self.cmdline)).to_owned()
    }

    fn get(&self, url: &str) -> Page {
        self.machine.http(self.address, "GET", self.machine.path(url))
    }

    /// The status and the words that a report of this is answered with.
    fn report(&self, what: &str) -> (u16, String) {
        let page = self.get(&format!("{}{what}", self.url("rb.report")));
        (page.status, page.text())
    }

    /// As the image's shell does, from the machine's own address.
    fn curl(&self, arguments: &[&str]) -> (u16, String) {
        let output = Command::new("curl")
            .args(["-sS", "-m", "20", "--interface", &self.address.to_string()])
            .args(["-w", "%{http_code}"])
            .args(arguments)
            .output()
            .expect("curl is there");
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success(), "{arguments:?}: {:?}", output.stderr);
        let (words, status) = text.split_at(text.len() - 3);
        (status.parse().expect("a status"), words.to_owned())
    }
}

fn keep() -> (u16, String) {
    (200, "keep\n".to_owned())
}

#[test]
fn init_in_every_form_is_its_machine_s_alone_and_gone_with_its_instance() {
    let stage = Stage::new();
    let mut daemon = stage.start();
    let ignition = r#"{"ignition": {"version": "3.4.0"}, "x": "{{ mac }} ${y}"}"#;
    let more = [("CmdLine", json!(format!("{URLS} ignition.config.url={{{{ ignition }}}}")))];
    let id = provision(&daemon, &stage.machine(1), ignition, &more);
    let system = System::boot(stage.machine(1), UEFI);
    let (seed, report) = (system.url("s"), system.url("rb.report"));
    assert!(seed.ends_with('/'), "{seed}");
    let documents = [
        (format!("{seed}user-data"), "text/plain; charset=utf-8"),
        (format!("{seed}meta-data"), "text/yaml; charset=utf-8"),
        (format!("{seed}vendor-data"), "text/yaml; charset=utf-8"),
        (system.url("rb.init"), "text/plain; charset=utf-8"),
        (system.url("ignition.config.url"), "application/vnd.coreos.ignition+json"),
    ];
    for (url, kind) in &documents {
        let page = system.get(url);
        assert_eq!(page.status, 200, "{url}");
        assert!(page.head.contains(&format!("Content-Type: {kind}")), "{}", page.head);
        assert!(page.head.contains("Cache-Control: no-store"), "{}", page.head);
        match url.rsplit('/').next() {
            Some("meta-data") => {
                let read: Value = serde_json::from_slice(&page.body).expect("JSON, so YAML");
                assert_eq!(read["instance-id"], id.as_str());
            }
            Some("vendor-data") => assert_eq!(page.text(), "#cloud-config\n{}\n"),
            _ => assert_eq!(page.text(), ignition, "{url}"),
        }
    }
    assert_eq!(system.get(&format!("{seed}network-config")).status, 404);
    assert_eq!(system.report(""), keep());
    let thief = System { address: stage.machine(2).lease(IPXE).address, ..system };
    let refused = |status: u16| {
        for (url, _) in documents.iter().chain([&(report.clone(), ""), &(seed.clone(), "")]) {
            for address in [thief.address, [127, 77, 0, 1].into()] {
                let page = thief.machine.http(address, "GET", thief.machine.path(url));
                let expected = if *url == seed { 404 } else { status.max(page.status) };
                assert_eq!(page.status, expected, "{url}: {}", page.text());
                assert!((403..405).contains(&page.status), "{url}");
                assert!(!page.text().contains("ignition\""), "{url}: {}", page.text());
            }
        }
    };
    refused(403);
    destroy(&daemon, &id, "rolling_update");
    let system = System { address: stage.machine(1).lease(IPXE).address, ..thief };
    for _ in 0..2 {
        for (url, _) in &documents {
            assert_eq!(system.get(url).status, 404, "{url}");
        }
        let gone = "gone rolling_update\n".to_owned();
        assert_eq!(system.report(""), (200, gone.clone()));
        assert_eq!(system.report("/ready"), (410, gone.clone()));
        let thief = stage.machine(2).lease(IPXE).address;
        assert_eq!(system.machine.http(thief, "GET", system.machine.path(&report)).status, 403);
        daemon.kill();
        daemon = stage.start();
    }
    for url in [&seed, &report] {
        let token = url.trim_end_matches('/').rsplit('/').next().expect("a token");
        assert!(token.len() == 32 && !stage.home.log().contains(token), "it is in the log");
    }
}

#[test]
fn the_log_has_nothing_of_an_init_that_was_refused() {
    let stage = Stage::new();
    let daemon = stage.start();
    let image = json!({"Kernel": "vmlinuz"});
    for (method, params) in [
        ("Instance.Provision", json!({"Spec": {"Properties": image, "Init": ["password"]}})),
        ("Flavor.Prepare", json!({"Properties": {"Init": {"a": "a \"password\""}}, "Spec": {}})),
    ] {
        daemon.call(method, params).expect_err("no text");
        let log = stage.home.log();
        assert!(log.contains("refused") && log.contains(method), "{log}");
        assert!(!log.contains("password"), "{log}");
    }
}

#[test]
fn an_init_of_a_megabyte_comes_back_to_the_byte() {
    let stage = Stage::new();
    let daemon = stage.start();
    // Every letter of the first plane, also those that end lines or are no
    // letters, and every fifth of all others: all bytes that UTF-8 has.
    let others = (0x1_0000..=0x10_ffff).step_by(5);
    let init: String = (0..=0xffff).chain(others).filter_map(char::from_u32).collect();
    assert!(init.len() > 1_000_000, "{}", init.len());
    provision(&daemon, &stage.machine(1), &init, &[]);
    let system = System::boot(stage.machine(1), HTTP);
    for url in [system.url("rb.init"), format!("{}user-data", system.url("s"))] {
        let page = system.get(&url);
        assert!(page.status == 200 && page.body == init.as_bytes(), "{url}: {}", page.body.len());
    }
}

#[test]
fn describe_says_what_a_machine_has_reported_in_whatever_way() {
    let stage = Stage::new();
    let daemon = stage.start();
    let id = provision(&daemon, &stage.machine(1), "", &[]);
    assert_eq!(described(&daemon, &id)["state"], "provisioning");
    let system = System::boot(stage.machine(1), BIOS);
    assert_eq!(described(&daemon, &id)["state"], "booting");
    let report = system.url("rb.report");
    let (ready, failed) = (format!("{report}/ready"), format!("{report}/failed"));
    let state = || {
        let properties = described(&daemon, &id);
        let failure = properties["failure"].as_str().unwrap_or_default().to_owned();
        (properties["state"].as_str().expect("a state").to_owned(), failure)
    };
    let running = ("running".to_owned(), String::new());
    assert_eq!(
        system.machine.http(system.address, "HEAD", system.machine.path(&ready)).status,
        200
    );
    assert_eq!(state().0, "booting", "HEAD is no report");
    assert_eq!(system.report("/ready"), keep());
    assert_eq!(state(), running);
    let since = described(&daemon, &id)["since"].clone();
    assert_eq!(system.curl(&["-X", "POST", &ready]), keep());
    assert_eq!(described(&daemon, &id)["since"], since, "the same again is nothing new");
    let long = "ü".repeat(2000);
    for (arguments, reason) in [
        (vec!["-d", "no disk:\n100% full", &failed], "no disk: 100% full"),
        (vec!["--data-urlencode", "no disk & no ü", &failed], "no disk & no ü"),
        (vec!["--data-urlencode", "reason=no disk & no ü", &failed], "no disk & no ü"),
        (vec!["-G", "--data-urlencode", "reason=no disk+", &failed], "no disk+"),
        (vec!["-H", "Content-Type: text/plain", "-d", "a+b%20", &failed], "a+b%20"),
        (vec!["-H", "Expect: 100-continue", "-d", "waits for a word", &failed], "waits for a word"),
        (vec!["-0", "-d", "in HTTP/1.0", &failed], "in HTTP/1.0"),
        (vec!["-d", &long, &failed], &long[..1000]),
        (vec![&failed], "its machine gave no reason"),
    ] {
        assert_eq!(system.curl(&arguments), keep(), "{arguments:?}");
        assert_eq!(state(), ("failed".to_owned(), reason.to_owned()), "{arguments:?}");
    }
    assert_eq!(system.curl(&["-d", &"x".repeat(4097), &failed]).0, 413);
    assert_eq!(system.curl(&["-H", "Transfer-Encoding: chunked", "-d", "x", &failed]).0, 411);
    assert_eq!(state().1, "its machine gave no reason");
    let stop = |host: &str| format!("{ready}?drain=http://{host}:8080/stop");
    let (status, text) = system.curl(&[&stop("127.0.0.1")]);
    assert!(status == 400 && text.contains("not 127.0.0.1"), "{status} {text}");
    assert_eq!(state().0, "failed", "what was refused is no report");
    assert_eq!(system.curl(&[&stop(&system.address.to_string())]), keep());
    assert_eq!(state(), running);
}

#[test]
fn a_report_that_was_answered_survives_a_kill_at_once_also_if_it_came_twice() {
    let stage = Stage::new();
    let mut daemon = stage.start();
    for number in 1..=10 {
        let id = provision(&daemon, &stage.machine(number), "", &[]);
        let system = System::boot(stage.machine(number), BIOS);
        let path = format!("{}/ready", system.url("rb.report"));
        let request = format!("POST {} HTTP/1.0\r\nHost: x\r\n\r\n", system.machine.path(&path));
        // The answer to the second is awaited, and is as good as one to the first.
        let mut streams = [(); 2].map(|()| connected(system.address, stage.ports.http));
        for stream in &mut streams {
            stream.write_all(request.as_bytes()).expect("sent");
        }
        assert_eq!(page(&mut streams[usize::from(number % 2)]).text(), "keep\n");
        daemon.kill();
        daemon = stage.start();
        assert_eq!(described(&daemon, &id)["state"], "running", "{number}");
    }
}

#[test]
fn what_is_installed_once_boots_from_its_own_disk_after_its_report() {
    let stage = Stage::new();
    let mut daemon = stage.start();
    let once = [("Boot", json!("once"))];
    let id = provision(&daemon, &stage.machine(1), "", &once);
    let system = System::boot(stage.machine(1), BIOS);
    let machine = system.machine;
    assert!(!machine.lease(BIOS).boot_file.is_empty() && !machine.lease(UEFI).boot_file.is_empty());
    assert_eq!(system.report("/ready"), keep());
    for _ in 0..2 {
        // A BIOS goes on to its disk without a boot file; UEFI is led there by iPXE.
        assert_eq!(machine.lease(BIOS).boot_file, "");
        for firmware in [UEFI, HTTP] {
            assert!(!machine.lease(firmware).boot_file.is_empty());
        }
        let script = machine.script();
        assert!(script.contains("boots from its own disk"), "{script}");
        assert!(script.ends_with("exit 1\n") && !script.contains("kernel "), "{script}");
        assert_eq!(described(&daemon, &id)["state"], "running");
        daemon.kill();
        daemon = stage.start();
    }
    // A new instance installs it again.
    destroy(&daemon, &id, "terminate");
    provision(&daemon, &stage.machine(1), "", &once);
    let again = System::boot(stage.machine(1), BIOS);
    assert_ne!(again.url("rb.report"), system.url("rb.report"));
    assert_eq!(system.report(""), (200, "gone terminate\n".to_owned()), "to the old system");
}

#[test]
fn what_never_reports_is_not_installed_for_ever() {
    let stage = Stage::new();
    let daemon = stage.start();
    for (number, by_tftp) in [(1, false), (2, true)] {
        let machine = stage.machine(number);
        let id = provision(&daemon, &machine, "", &[("Boot", json!("once"))]);
        let script = || {
            machine.lease(UEFI);
            if !by_tftp {
                return machine.script();
            }
            let address = machine.lease(IPXE).address;
            let script = machine.tftp(address, "autoexec.ipxe").expect("a script");
            String::from_utf8(script).expect("text")
        };
        for _ in 0..3 {
            kernel_of(&script());
        }
        for _ in 0..2 {
            let held = script();
            assert!(held.contains("was booted 3 times") && !held.contains("kernel "), "{held}");
            let properties = described(&daemon, &id);
            assert_eq!((&properties["state"], &properties["boots"]), (&json!("failed"), &json!(3)));
            assert!(properties["failure"].as_str().expect("a reason").contains("never reported"));
        }
    }
}
