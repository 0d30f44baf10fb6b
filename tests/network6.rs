//! DHCPv6 with a real client (ISC's dhclient) on real networks, each in a network
//! namespace of its own.

mod lab;

use std::{fs, os::unix::fs::PermissionsExt as _, process::Stdio};

use lab::{Host, Lab};
use serde_json::json;

/// A card on the bridge of the lab, `in1`, and its client's files.
struct Card<'a> {
    lab: &'a Lab,
}

impl<'a> Card<'a> {
    fn new(lab: &'a Lab) -> Self {
        for arguments in [
            "link add in1 address 52:54:00:20:00:01 type veth peer name out1",
            "link set out1 master br0 up",
        ] {
            run(lab, "ip", &arguments.split(' ').collect::<Vec<_>>());
        }
        run(lab, "sh", &["-c", "echo 0 >/proc/sys/net/ipv6/conf/in1/accept_dad"]);
        run(lab, "ip", &["link", "set", "in1", "up"]);
        run(lab, "sh", &["-c", &has_link_local("in1")]);
        let card = Self { lab };
        card.write("script", "#!/bin/sh\n[ -z \"$new_ip6_address$new_dhcp6_name_servers\" ] || \
            echo \"$reason|$new_ip6_address|$new_dhcp6_name_servers|$new_dhcp6_domain_search\" >>\"${0%script}heard\"\n");
        let configuration = "also request dhcp6.name-servers, dhcp6.domain-search;\n";
        card.write("dhclient.conf", configuration);
        let script = lab.folder().join("script");
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("set");
        card
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.lab.folder().join(name), text).expect("the lab's folder can be written");
    }

    /// What the client hands its script, after it has asked anew under another name
    /// than before.
    fn ask(&self, more: &[&str]) -> String {
        let path = |name: &str| self.lab.folder().join(name).display().to_string();
        let _ = fs::remove_file(path("leases"));
        let _ = fs::remove_file(path("heard"));
        let mut client = self.lab.command("dhclient");
        client.args(["-6", "-1", "-v"]).args(more);
        for (flag, name) in
            [("-lf", "leases"), ("-pf", "pid"), ("-sf", "script"), ("-cf", "dhclient.conf")]
        {
            client.arg(flag).arg(path(name));
        }
        let log = fs::File::create(path("client.log")).expect("written");
        client.stdout(Stdio::null()).stderr(log).arg("in1");
        // It goes into the background when it has what it wants.
        let status = client.status().expect("dhclient starts");
        let said = fs::read_to_string(path("client.log")).unwrap_or_default();
        assert!(status.success(), "{status}: {said}");
        let stopped = self.lab.command("dhclient").args(["-6", "-x", "-pf", &path("pid")]).output();
        drop(stopped.expect("dhclient starts"));
        let heard = fs::read_to_string(path("heard"));
        heard.unwrap_or_else(|error| panic!("{error}: {said}")).trim().to_owned()
    }
}

fn run(lab: &Lab, program: &str, arguments: &[&str]) {
    let status = lab.command(program).args(arguments).status().expect("nsenter starts");
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn a_real_client_has_the_same_ipv6_address_after_a_restart_and_under_another_name() {
    let lab = Lab::ipv6();
    let more = ["--dns6=fd00:77::53", "--search6=a.example,b.example"];
    let daemon = lab.daemon6("br0", &more);
    let card = Card::new(&lab);
    let bound = "BOUND6|fd00:77::100|fd00:77::53|a.example. b.example.";
    assert_eq!(card.ask(&[]), bound);
    let duid = lab.folder().join("daemon/state/server-duid");
    let name = fs::read_to_string(&duid).expect("it has a name");

    daemon.terminate();
    let _daemon = lab.daemon6("br0", &more);
    assert_eq!(card.ask(&["-D", "LL"]), bound);
    assert_eq!(fs::read_to_string(&duid).expect("it has a name"), name);
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn a_real_client_that_wants_no_address_is_told_the_rest() {
    let lab = Lab::ipv6();
    let _daemon = lab.daemon6("br0", &["--dns6=fd00:77::53"]);
    let heard = Card::new(&lab).ask(&["-S"]);
    assert!(heard.ends_with("||fd00:77::53|"), "{heard}");
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn in_a_network_without_a_range_a_real_client_is_told_all_but_an_address() {
    let lab = Lab::ipv6();
    let daemon = lab.stateless_daemon6(&["--dns6=fd00:77::53", "--search6=a.example"]);
    let card = Card::new(&lab);
    let heard = card.ask(&["-S"]);
    assert!(heard.ends_with("||fd00:77::53|a.example."), "{heard}");
    // The same client, as firmware: PXE and UEFI HTTP Boot on x86-64.
    for (class, architecture, url) in [
        ("PXEClient", 7, "tftp://[fd00:77::1]/snponly.efi"),
        ("HTTPClient", 16, "http://[fd00:77::1]/loader/snponly.efi"),
    ] {
        let name: Vec<String> = class.bytes().map(|byte| format!("{byte:x}")).collect();
        let length = class.len();
        card.write(
            "dhclient.conf",
            &format!(
                "option dhcp6.class code 16 = string;\n\
                 send dhcp6.client-arch-type {architecture};\n\
                 send dhcp6.class 0:0:1:57:0:{length:x}:{};\n\
                 also request dhcp6.bootfile-url, dhcp6.name-servers;\n",
                name.join(":")
            ),
        );
        card.write(
            "script",
            "#!/bin/sh\necho \"$reason|$new_dhcp6_bootfile_url\" >>\"${0%script}heard\"\n",
        );
        let heard = card.ask(&["-S"]);
        assert!(heard.ends_with(&format!("|{url}")), "{class}: {heard}\n{}", daemon.log());
    }
    let known = daemon.call("Machine.List", json!({}));
    let machine = &known["Machines"][0];
    assert_eq!((&machine["arch"], &machine["ip"]), (&json!("x64-uefi"), &json!(null)));
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn over_ipv6_alone_a_machine_is_shown_reports_and_is_drained_by_its_address() {
    let lab = Lab::ipv6();
    let daemon = lab.daemon6("br0", &[]);
    let events = fs::File::create(lab.folder().join("events")).expect("made");
    let mut listener = lab.command("curl");
    listener.args(["-sN", "--unix-socket"]).arg(daemon.socket()).arg("http://h/events");
    let mut listener = listener.stdout(events).spawn().expect("nsenter starts");
    let (machine, thief) = (Host::new(&lab, 11, "br0"), Host::new(&lab, 12, "br0"));
    let (own, other) = (lease6(&lab, &machine), lease6(&lab, &thief));
    let mac = "52:54:00:20:00:0b";
    let id = daemon.provision_with(
        "mine",
        json!({"Kernel": "vmlinuz", "CmdLine": "i={{ init }} r={{ report }} a={{ ip }}", "MAC": mac}),
    );
    let script = "http://[fd00:77::1]/ipxe/52-54-00-20-00-0b.ipxe";
    let fetch = |host: &Host<'_>, from: &str, url: &str| host.fetch(url, &["--interface", from]);
    let (status, text) = fetch(&machine, &own, script);
    assert_eq!(status, 200, "{text}");
    let word = |key: &str| {
        let found = text.split_whitespace().find_map(|word| word.strip_prefix(key));
        found.unwrap_or_else(|| panic!("no {key} in {text}")).to_owned()
    };
    let (init, report) = (word("i="), word("r="));
    assert!(report.starts_with("http://[fd00:77::1]/"), "{report}");
    assert_eq!(word("a="), own);
    assert_eq!(fetch(&machine, &own, &init), (200, "mine".to_owned()));
    let ready = format!("{report}/ready?drain=http://[{own}]:8080/stop");
    for url in [script, &init, &ready] {
        assert_eq!(fetch(&thief, &other, url).0, 403, "{url}");
    }
    assert_eq!(fetch(&machine, &own, &ready), (200, "keep\n".to_owned()));
    let shown = daemon.describe(&id)["Properties"].clone();
    assert_eq!((&shown["state"], &shown["ip"]), (&json!("running"), &json!(own)));
    let known = daemon.call("Machine.List", json!({}));
    let row = known["Machines"].as_array().expect("a list").iter().find(|one| one["mac"] == mac);
    assert_eq!(row.expect("listed")["ip"], json!(own));
    let get = |path: String| daemon.call("Metadata.Get", json!({"Name": "x", "Path": path}));
    for path in [format!("machines/{mac}/ip"), format!("instances/{id}/ip")] {
        assert_eq!(get(path.clone())["Value"], json!(own), "{path}");
    }
    assert_eq!(get(format!("leases/{own}/mac"))["Value"], json!(mac));

    let waits = machine.hears_a_request();
    daemon.drain(&id);
    let asked = fs::read_to_string(lab.folder().join("asked")).expect("it was asked");
    assert!(asked.starts_with("POST /stop HTTP/1.1"), "{asked}");
    drop(waits);
    listener.kill().expect("ours");
    listener.wait().expect("ours");
    let told = fs::read_to_string(lab.folder().join("events")).expect("written");
    for expected in [format!("lease/{own}/bound"), format!("\"ip\":\"{own}\"")] {
        assert!(told.contains(&expected), "{expected} is not in {told}");
    }
}

/// Ends when the card can ask by DHCPv6, or with an error after 20 seconds.
fn has_link_local(card: &str) -> String {
    format!(
        "for turn in $(seq 200); do
            ip -6 addr show dev {card} scope link | grep -v tentative | grep -q fe80 && exit
            sleep 0.1
        done; exit 1"
    )
}

/// The address that the host is given by DHCPv6, which its card then has.
fn lease6(lab: &Lab, host: &Host<'_>) -> String {
    let path = |name: &str| lab.folder().join(name).display().to_string();
    let script = path("lease6.script");
    if !fs::exists(&script).expect("readable") {
        let text = "#!/bin/sh\n[ -z \"$new_ip6_address\" ] || { ip addr add $new_ip6_address/64 \
            dev $interface nodad; echo got $new_ip6_address; }\n";
        fs::write(&script, text).expect("written");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("set");
    }
    fs::write(path("leases"), "").expect("written");
    host.must("sh", &["-c", &has_link_local("eth0")]);
    let (files, pid) = (path("leases"), path("pid"));
    let arguments = ["-6", "-1", "-D", "LL", "-lf", &files, "-pf", &pid, "-sf", &script, "eth0"];
    let (said, is_well) = host.run("dhclient", &arguments);
    assert!(is_well, "{said}");
    host.must("dhclient", &["-6", "-x", "-pf", &pid]);
    let (shown, _) = host.run("ip", &["-6", "-o", "addr", "show", "dev", "eth0"]);
    let own = shown.split_whitespace().find_map(|word| {
        let address = word.strip_suffix("/64")?;
        // Others are of the card's own making.
        (address.starts_with("fd00:77::1") && !address.contains("ff:fe")).then_some(address)
    });
    own.unwrap_or_else(|| panic!("{said}\n{shown}")).to_owned()
}
