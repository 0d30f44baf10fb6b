//! DHCPv6 with a real client (ISC's dhclient) on real networks, each in a network
//! namespace of its own.

mod lab;

use std::{fs, os::unix::fs::PermissionsExt as _, process::Stdio};

use lab::Lab;

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
