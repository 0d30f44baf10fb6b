//! Somebody else's DHCP server, on a host of its own: dnsmasq, ISC's dhcpd, Kea; and
//! what passes on the bridge.
//! Each gives addresses of the lab's network, and says no word of booting unless
//! it is told to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use super::{Host, Lab, cache, within};

/// The other server's address.
pub(crate) const OTHER: &str = "10.77.0.3";
/// How the addresses begin that it gives.
pub(crate) const GIVEN: &str = "10.77.0.2";

/// The ports of DHCP and DHCPv6, as `/proc/net/udp` and `udp6` have them.
const PORT: (&str, &str) = ("/proc/net/udp", ":0043 ");
const PORT6: (&str, &str) = ("/proc/net/udp6", ":0223 ");

/// A server that runs. Dropping it ends it.
pub(crate) struct Other<'a> {
    host: Host<'a>,
    process: Child,
    leases: PathBuf,
}

impl<'a> Other<'a> {
    /// dnsmasq as people have it: addresses, and no word of booting.
    #[track_caller]
    pub(crate) fn dnsmasq(lab: &'a Lab) -> Self {
        Self::dnsmasq_that_says(lab, &[])
    }

    /// The same, with these lines in its file.
    #[track_caller]
    pub(crate) fn dnsmasq_with(lab: &'a Lab, lines: &str) -> Self {
        let file = lab.folder().join("dnsmasq.conf");
        fs::write(&file, lines).expect("written");
        Self::run_dnsmasq(lab, &format!("--conf-file={}", file.display()), &[])
    }

    /// The same, with more arguments.
    #[track_caller]
    pub(crate) fn dnsmasq_that_says(lab: &'a Lab, more: &[&str]) -> Self {
        Self::run_dnsmasq(lab, "--conf-file=/dev/null", more)
    }

    #[track_caller]
    fn run_dnsmasq(lab: &'a Lab, configuration: &str, more: &[&str]) -> Self {
        let range = format!("--dhcp-range={GIVEN}00,{GIVEN}40,1h");
        let leases = lab.folder().join("dnsmasq.leases");
        let file = format!("--dhcp-leasefile={}", leases.display());
        let mut arguments = vec![
            "--keep-in-foreground",
            configuration,
            "--port=0",
            "--interface=eth0",
            "--bind-interfaces",
            "--user=root",
            "--no-ping",
            "--pid-file",
            "--dhcp-authoritative",
            "--log-dhcp",
            "--log-facility=-",
            &range,
            &file,
        ];
        arguments.extend(more);
        Self::start(lab, ("dnsmasq", &arguments), (leases, (OTHER, PORT)))
    }

    /// ISC's server, as unpacked by `tests/lab/install`.
    #[track_caller]
    pub(crate) fn isc(lab: &'a Lab) -> Self {
        Self::isc_with(lab, "")
    }

    /// The same, with these lines in its file.
    #[track_caller]
    pub(crate) fn isc_with(lab: &'a Lab, lines: &str) -> Self {
        let configuration = format!(
            "authoritative;\n{lines}\ndefault-lease-time 3600;\n\
             subnet 10.77.0.0 netmask 255.255.255.0 {{ range {GIVEN}00 {GIVEN}40; }}\n"
        );
        Self::run_isc(lab, ("-4", &configuration), (OTHER, PORT))
    }

    /// The same as a DHCPv6 server, in a lab that speaks IPv6 alone, with more lines
    /// before its network.
    #[track_caller]
    pub(crate) fn isc6_that_says(lab: &'a Lab, more: &str) -> Self {
        let configuration = format!(
            "authoritative;\ndefault-lease-time 3600;\n{more}\n\
             subnet6 fd00:77::/64 {{ range6 fd00:77::100 fd00:77::1ff; }}\n"
        );
        Self::run_isc(lab, ("-6", &configuration), ("fd00:77::3", PORT6))
    }

    #[track_caller]
    fn run_isc(
        lab: &'a Lab,
        (family, configuration): (&str, &str),
        place: (&str, (&str, &str)),
    ) -> Self {
        let program = there(cache().join("isc-dhcp-server/usr/sbin/dhcpd"));
        let file = lab.folder().join("dhcpd.conf");
        let leases = lab.folder().join("dhcpd.leases");
        fs::write(&file, configuration).expect("written");
        fs::write(&leases, "").expect("written");
        let path = |path: &Path| path.display().to_string();
        let pid = lab.folder().join("dhcpd.pid");
        let command = [path(&program), path(&file), path(&leases), path(&pid)];
        let [program, file, lease_file, pid] = &command;
        let arguments = [family, "-f", "-cf", file, "-lf", lease_file, "-pf", pid, "eth0"];
        Self::start(lab, (program, &arguments), (leases, place))
    }

    /// Kea, as unpacked by `tests/lab/install`.
    #[track_caller]
    pub(crate) fn kea(lab: &'a Lab) -> Self {
        Self::kea_with(lab, json!({}))
    }

    /// The same, with these members of `Dhcp4`.
    #[track_caller]
    pub(crate) fn kea_with(lab: &'a Lab, members: Value) -> Self {
        let root = cache().join("kea");
        let program = there(root.join("usr/sbin/kea-dhcp4"));
        let (file, leases) = (lab.folder().join("kea.conf"), lab.folder().join("kea.leases"));
        let mut configuration = json!({"Dhcp4": {
            "interfaces-config": {"interfaces": ["eth0"]},
            "lease-database": {"type": "memfile", "name": leases, "lfc-interval": 0},
            "valid-lifetime": 3600,
            "subnet4": [{"id": 1, "subnet": "10.77.0.0/24",
                         "pools": [{"pool": format!("{GIVEN}00 - {GIVEN}40")}]}],
        }});
        for (name, value) in members.as_object().expect("members") {
            configuration["Dhcp4"][name] = value.clone();
        }
        fs::write(&file, configuration.to_string()).expect("written");
        let folder = lab.folder().display();
        let libraries = format!("LD_LIBRARY_PATH={}/usr/lib/x86_64-linux-gnu", root.display());
        let (locks, pids) =
            (format!("KEA_LOCKFILE_DIR={folder}"), format!("KEA_PIDFILE_DIR={folder}"));
        let (program, file) = (program.display().to_string(), file.display().to_string());
        let arguments = [libraries.as_str(), &locks, &pids, &program, "-c", &file];
        Self::start(lab, ("env", &arguments), (leases, (OTHER, PORT)))
    }

    #[track_caller]
    fn start(
        lab: &'a Lab,
        (program, arguments): (&str, &[&str]),
        (leases, (address, (table, port))): (PathBuf, (&str, (&str, &str))),
    ) -> Self {
        let host = Host::new(lab, 200, "br0");
        if address.contains(':') {
            host.must("ip", &["addr", "add", &format!("{address}/64"), "dev", "eth0", "nodad"]);
        } else {
            host.must("ip", &["addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        }
        let log = fs::File::create(lab.folder().join("other.log")).expect("made");
        let process = host
            .command(program, arguments)
            .stdout(log.try_clone().expect("twice"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("nsenter starts");
        let mut other = Self { host, process, leases };
        let serves = within(Duration::from_secs(10), || {
            let ended = other.process.try_wait().expect("ours");
            assert!(ended.is_none(), "{program} ended: {}", other.log());
            let (sockets, _) = other.host.run("cat", &[table]);
            sockets.contains(port).then_some(())
        });
        assert!(serves.is_some(), "{program} does not serve: {}", other.log());
        other
    }

    /// The addresses that it has given, in a file of its own form.
    pub(crate) fn leases(&self) -> String {
        fs::read_to_string(&self.leases).unwrap_or_default()
    }

    /// What it has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.host.folder().join("other.log")).unwrap_or_default()
    }
}

impl Drop for Other<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What passes on the bridge.
pub(crate) struct Capture<'a> {
    lab: &'a Lab,
    process: Child,
    file: PathBuf,
}

impl<'a> Capture<'a> {
    pub(crate) fn start(lab: &'a Lab, filter: &str) -> Self {
        let file = lab.folder().join("ours.pcap");
        let said = lab.folder().join("tcpdump.log");
        let log = fs::File::create(&said).expect("made");
        let process = lab
            .command("tcpdump")
            .args(["-i", "br0", "-U", "-Z", "root", "-w", &file.display().to_string(), filter])
            .stderr(log)
            .spawn()
            .expect("nsenter starts");
        let listens = within(Duration::from_secs(10), || {
            fs::read_to_string(&said).ok()?.contains("listening on").then_some(())
        });
        assert!(listens.is_some(), "tcpdump does not listen");
        Self { lab, process, file }
    }

    /// The packets that it has seen, each from its Ethernet header on.
    pub(crate) fn packets(mut self, _alive: &Other<'_>) -> Vec<Vec<u8>> {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, rustix::process::Signal::INT).expect("ours");
        self.process.wait().expect("ours");
        let bytes = fs::read(&self.file).expect("it has written");
        let mut packets = Vec::new();
        let mut rest = &bytes[24..];
        while rest.len() >= 16 {
            let length = u32::from_le_bytes(rest[8..12].try_into().expect("four")) as usize;
            packets.push(rest[16..16 + length].to_vec());
            rest = &rest[16 + length..];
        }
        packets
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = self.lab;
    }
}

/// The program, which must be there: a test that is not made is no test.
#[track_caller]
fn there(program: PathBuf) -> PathBuf {
    assert!(program.exists(), "there is no {}: run tests/lab/install", program.display());
    program
}
