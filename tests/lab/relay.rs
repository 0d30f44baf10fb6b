//! A host with a foot in two networks, which passes on what it hears of DHCP.

use std::{fs, process::Child};

use super::{Host, Lab, cache, ip};

/// The network behind the relay, and its own place in it.
pub(crate) const BEHIND: &str = "10.78.0.1/24";
/// Where the relay is in the daemon's network.
const TOWARDS: &str = "10.77.0.5/24";

/// A relay that runs. Dropping it ends it.
pub(crate) struct Relay<'a> {
    pub(crate) host: Host<'a>,
    process: Child,
}

impl<'a> Relay<'a> {
    /// Between `br0`, where the daemon is, and `br1`, where clients are.
    #[track_caller]
    pub(crate) fn new(lab: &'a Lab, program: &str, arguments: &[&str]) -> Self {
        ip(lab, &["link", "add", "br1", "type", "bridge"]);
        ip(lab, &["link", "set", "br1", "up"]);
        let host = Host::new(lab, 100, "br0");
        host.card("eth1", 101, "br1");
        host.must("ip", &["link", "set", "lo", "up"]);
        host.must("ip", &["addr", "add", TOWARDS, "dev", "eth0"]);
        host.must("ip", &["addr", "add", BEHIND, "dev", "eth1"]);
        host.must("sh", &["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]);
        ip(lab, &["route", "add", "10.78.0.0/24", "via", "10.77.0.5"]);
        let log = fs::File::create(lab.folder().join("relay.log")).expect("written");
        let mut command = host.command(program, arguments);
        let process = command.stdout(log.try_clone().expect("a file")).stderr(log).spawn();
        Self { process: process.expect("nsenter starts"), host }
    }

    /// That of dnsmasq.
    #[track_caller]
    pub(crate) fn dnsmasq(lab: &'a Lab) -> Self {
        let arguments = "--no-daemon --conf-file=/dev/null --port=0 --log-dhcp --user=root \
            --pid-file= --dhcp-relay=10.78.0.1,10.77.0.1";
        Self::new(lab, "dnsmasq", &arguments.split_whitespace().collect::<Vec<_>>())
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.host.folder().join("relay.log");
            eprintln!("--- relay\n{}", fs::read_to_string(log).unwrap_or_default());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// ISC's dhcrelay, as unpacked by `tests/lab/install`.
///
/// # Panics
///
/// When it is not there: a test that is not made is no test.
#[track_caller]
pub(crate) fn dhcrelay() -> String {
    let unpacked = cache().join("relay/usr/sbin/dhcrelay");
    assert!(unpacked.exists(), "there is no {}: run tests/lab/install", unpacked.display());
    unpacked.display().to_string()
}
