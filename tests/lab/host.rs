//! Hosts that are no machines to boot: each in a network of its own, with cards
//! on bridges of the lab, and busybox's udhcpc.

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use super::Lab;

/// A host with one card, `eth0`, on a bridge of the lab.
pub(crate) struct Host<'a> {
    lab: &'a Lab,
    holder: Child,
}

impl<'a> Host<'a> {
    pub(crate) fn new(lab: &'a Lab, number: u8, bridge: &str) -> Self {
        let mut unshare = lab.command("unshare");
        let holder = unshare.args(["--net", "sleep", "600"]).spawn().expect("unshare starts");
        let host = Self { lab, holder };
        let script = lab.folder().join("udhcpc.script");
        if !script.exists() {
            fs::write(&script, SCRIPT).expect("written");
            fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .expect("set");
        }
        let own = format!("/proc/{}/ns/net", host.holder.id());
        let until = Instant::now() + Duration::from_secs(10);
        // It is in the lab's network until unshare has done its work.
        let lab_network =
            lab.command("readlink").arg("/proc/self/ns/net").output().expect("readlink");
        let lab_network = String::from_utf8_lossy(&lab_network.stdout).trim().to_owned();
        while fs::read_link(&own).is_ok_and(|now| {
            now.to_string_lossy() == lab_network
                || now == fs::read_link("/proc/self/ns/net").expect("ours")
        }) {
            assert!(Instant::now() < until, "no network of its own");
            std::thread::sleep(Duration::from_millis(5));
        }
        host.card("eth0", number, bridge);
        host
    }

    /// Gives it a card on a bridge. The number is that of no other card of the lab.
    pub(crate) fn card(&self, name: &str, number: u8, bridge: &str) {
        let (inner, outer) = (format!("in{number}"), format!("out{number}"));
        let id = self.holder.id().to_string();
        let card = format!("52:54:00:20:00:{number:02x}");
        let lab = self.lab;
        ip(lab, &["link", "add", &inner, "address", &card, "type", "veth", "peer", "name", &outer]);
        ip(lab, &["link", "set", &outer, "master", bridge, "up"]);
        ip(lab, &["link", "set", &inner, "netns", &id, "name", name]);
        self.must("ip", &["link", "set", name, "up"]);
    }

    /// The lab's own folder.
    pub(crate) fn folder(&self) -> &Path {
        self.lab.folder()
    }

    /// Runs a program that ends well.
    #[track_caller]
    pub(crate) fn must(&self, program: &str, arguments: &[&str]) {
        let (said, is_well) = self.run(program, arguments);
        assert!(is_well, "{program} {arguments:?}: {said}");
    }

    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> std::process::Command {
        let mut command = self.lab.command("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net", "--", program]);
        command.args(arguments);
        command
    }

    /// What the program said, and whether it ended well.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> (String, bool) {
        let output = self.command(program, arguments).output().expect("nsenter starts");
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).into_owned(), output.status.success())
    }

    /// Asks for an address once; what udhcpc hands its script, or nothing.
    pub(crate) fn lease(&self, more: &[&str]) -> Option<Lease> {
        let script = self.script();
        let mut arguments =
            vec!["udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "4", "-T", "1", "-s", &script];
        arguments.extend(more);
        let (said, _) = self.run("busybox", &arguments);
        let line = said.lines().find_map(|line| line.strip_prefix("bound "))?;
        let words: Vec<String> = line.split('|').map(str::to_owned).collect();
        let [address, mask, router, dns, seconds, server] = words.try_into().expect("six fields");
        Some(Lease { address, mask, router, dns, seconds, server })
    }

    /// Asks for a page by HTTP, with more arguments for curl; its status and its text.
    #[track_caller]
    pub(crate) fn fetch(&self, url: &str, more: &[&str]) -> (u16, String) {
        let arguments = [&["-sgS", "-m", "20", "-w", "%{http_code}", url], more].concat();
        let (said, is_well) = self.run("curl", &arguments);
        assert!(is_well, "{url}: {said}");
        let (text, status) = said.split_at(said.len() - 3);
        (status.parse().expect("a status"), text.to_owned())
    }

    /// Listens on port 8080 for one request, which is answered with 204. What it asks
    /// for is in the file `asked` of the lab, then.
    pub(crate) fn hears_a_request(&self) -> Listener {
        let folder = self.lab.folder();
        let script = "read -r line; echo \"$line\" >\"$0.new\"; mv \"$0.new\" \"$0\"
            printf 'HTTP/1.1 204 No Content\\r\\nConnection: close\\r\\n\\r\\n'";
        let asked = folder.join("asked").display().to_string();
        let arguments = ["nc", "-l", "-p", "8080", "-e", "sh", "-c", script, &asked];
        let process = self.command("busybox", &arguments).spawn().expect("nsenter starts");
        let listens = super::within(Duration::from_secs(10), || {
            let (tables, _) = self.run("cat", &["/proc/net/tcp", "/proc/net/tcp6"]);
            // Port 8080 in hexadecimal digits, state LISTEN.
            let is_it = |line: &str| line.contains(":1F90 ") && line.contains(" 0A ");
            tables.lines().any(is_it).then_some(())
        });
        assert!(listens.is_some(), "nobody listens");
        Listener(process)
    }

    /// A script for udhcpc that configures the card, and says what came of it.
    /// It is written when the first host is made: what is open for writing in one
    /// thread cannot be run by another.
    pub(crate) fn script(&self) -> String {
        self.lab.folder().join("udhcpc.script").display().to_string()
    }

    /// Fragments that this host's IP, of both versions, had to put together
    /// (`ReasmReqds`).
    pub(crate) fn fragments(&self) -> u64 {
        let (text, _) = self.run("cat", &["/proc/net/snmp6"]);
        let over_ipv6 = text.lines().find_map(|line| line.strip_prefix("Ip6ReasmReqds"));
        let over_ipv6: u64 = over_ipv6.expect("counted").trim().parse().expect("a number");
        over_ipv6 + self.counted("/proc/net/snmp", ("Ip:", "ReasmReqds"))
    }

    /// Broadcast packets that this host's IP has taken so far (`InBcastPkts`).
    pub(crate) fn broadcasts(&self) -> u64 {
        self.counted("/proc/net/netstat", ("IpExt:", "InBcastPkts"))
    }

    /// A number of the kernel's: of two lines that begin alike, one has the names.
    fn counted(&self, table: &str, (beginning, name): (&str, &str)) -> u64 {
        let (text, _) = self.run("cat", &[table]);
        let mut lines = text.lines().filter(|line| line.starts_with(beginning));
        let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
        let place = names.split(' ').position(|one| one == name).expect("counted");
        values.split(' ').nth(place).and_then(|value| value.parse().ok()).expect("a number")
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Who waits for a request; dropping it ends it.
pub(crate) struct Listener(Child);

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a client was told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: String,
    pub(crate) mask: String,
    pub(crate) router: String,
    pub(crate) dns: String,
    pub(crate) seconds: String,
    pub(crate) server: String,
}

/// Runs `ip` in the lab's network.
#[track_caller]
pub(crate) fn ip(lab: &Lab, arguments: &[&str]) {
    let output = lab.command("ip").args(arguments).stderr(Stdio::piped()).output().expect("ip");
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

const SCRIPT: &str = "#!/bin/sh
case $1 in bound)
    ip addr flush dev $interface; ip addr add $ip/$mask dev $interface
    [ -z \"$router\" ] || ip route replace default via $router;;
esac
case $1 in bound|renew) echo \"$1 $ip|$subnet|$router|$dns|$lease|$serverid\";; esac
";
