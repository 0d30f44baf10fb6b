//! The servers: each as its manual says, keeping its leases as it does by default,
//! without a ping before an offer and without a line of log for each lease.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    lab::{ADAPTER, Lab, SERVER},
    machine,
};

/// A server that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    /// With blocks by TFTP that need IP fragments.
    Fragments,
    /// Another build of the daemon, which `REMOTEBOOT_BEFORE` names.
    Before,
    /// With its default, one thread for packets.
    Kea,
    /// With as many threads as it wants.
    KeaThreads,
    Dhcpd,
    Dnsmasq,
    TftpdHpa,
    Atftpd,
    /// With files.
    Nginx,
    /// With files, and an application behind it for scripts.
    NginxProxy,
    /// Answers from the MAC alone, when the record is on disk.
    Bare,
    /// Answers from the MAC alone.
    BareWithoutDisk,
    /// Files and scripts from memory, without a thought.
    BareHttp,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "remoteboot",
            Self::Fragments => "remoteboot, fragments",
            Self::Before => "remoteboot, before",
            Self::Kea => "Kea",
            Self::KeaThreads => "Kea, threads",
            Self::Dhcpd => "ISC dhcpd",
            Self::Dnsmasq => "dnsmasq",
            Self::TftpdHpa => "tftpd-hpa",
            Self::Atftpd => "atftpd",
            Self::Nginx => "nginx",
            Self::NginxProxy => "nginx before an application",
            Self::Bare => "bare, group commit",
            Self::BareWithoutDisk => "bare, no disk",
            Self::BareHttp => "bare, from memory",
        }
    }

    /// Whether it is among those that `KINDS` names, if it names any, and is there.
    pub(crate) fn is_chosen(self) -> bool {
        let chosen = std::env::var("KINDS").unwrap_or_default();
        let is_named = chosen.is_empty() || chosen.split(';').any(|name| name == self.name());
        is_named && (self != Self::Before || std::env::var_os("REMOTEBOOT_BEFORE").is_some())
    }
}

/// What a server has to serve.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task {
    /// How many addresses are in the pool.
    pub(crate) pool: u32,
    /// How many machines have an address of their own.
    pub(crate) reserved: u32,
}

/// The first address of the pool.
pub(crate) const POOL: Ipv4Addr = Ipv4Addr::new(10, 17, 0, 0);

/// The lease time, in seconds, of every server.
const LEASE: u32 = 7200;

/// A running server; it is killed with this value.
pub(crate) struct Server {
    child: Child,
    pub(crate) folder: PathBuf,
    /// From its start to its first answer.
    pub(crate) ready: Duration,
}

/// What a server has used since it was started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Seconds of CPU.
    pub(crate) cpu: f64,
    /// Resident memory in MB.
    pub(crate) memory: f64,
}

impl Server {
    /// Starts it with an empty store, and waits until it answers.
    pub(crate) fn start(lab: &Lab, kind: Kind, task: Task) -> Self {
        let folder = lab.folder.path().join(format!("{kind:?}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder can be made");
        if matches!(kind, Kind::Ours | Kind::Before) && task.reserved > 0 {
            crate::reserve::fill(&folder.join("state"), task.reserved);
        }
        Self::start_in(lab, kind, task, folder)
    }

    /// Starts it over what is in the folder.
    pub(crate) fn start_in(lab: &Lab, kind: Kind, task: Task, folder: PathBuf) -> Self {
        let command = command(lab, kind, task, &folder);
        Self::start_with(kind, command, folder, crate::load::is_answered)
    }

    /// Starts it by this command, and waits until it answers.
    pub(crate) fn start_with(
        kind: Kind,
        mut command: Command,
        folder: PathBuf,
        is_answered: impl Fn() -> bool,
    ) -> Self {
        let log = File::create(folder.join("log")).expect("a log can be made");
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        let begun = Instant::now();
        let mut child = command.spawn().expect("nsenter starts");
        while !is_answered() {
            let ended = child.try_wait().expect("a child of ours");
            let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(ended.is_none(), "{kind:?} ended at once: {}", log());
            assert!(begun.elapsed() < Duration::from_secs(60), "{kind:?} is silent: {}", log());
        }
        Self { child, folder, ready: begun.elapsed() }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn usage(&self) -> Usage {
        usage(self.child.id())
    }

    /// The same of it and all its processes together. Of memory that they share each
    /// counts its part (PSS).
    pub(crate) fn usage_of_all(&self) -> Usage {
        let mut all = Usage::default();
        let mut processes = vec![self.child.id()];
        while let Some(process) = processes.pop() {
            let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
            let children = children.expect("a process of ours");
            processes.extend(children.split(' ').filter_map(|child| child.parse::<u32>().ok()));
            all.cpu += usage(process).cpu;
            let memory = fs::read_to_string(format!("/proc/{process}/smaps_rollup"));
            all.memory += megabytes(&memory.unwrap_or_default(), "Pss:");
        }
        all
    }

    /// Counts its calls that wait for the disk while `work` is done.
    pub(crate) fn counting_syncs<T>(&self, work: impl FnOnce() -> T) -> (T, u64) {
        let report = self.folder.join("strace");
        let mut strace = Command::new("strace")
            .args(["-f", "-c", "-e", "trace=fsync,fdatasync,msync", "-o"])
            .arg(&report)
            .args(["-p", &self.child.id().to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace starts");
        // It says so when it has attached.
        let mut said = std::io::BufReader::new(strace.stderr.take().expect("piped"));
        let mut line = String::new();
        std::io::BufRead::read_line(&mut said, &mut line).expect("text");
        assert!(line.contains("attached"), "{line}");
        let done = work();
        let pid = strace.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).status();
        let _ = strace.wait();
        let report = fs::read_to_string(report).unwrap_or_default();
        let calls = |line: &str| -> Option<u64> {
            let mut words = line.split_whitespace();
            let (calls, name) = (words.nth(3)?.parse().ok()?, words.next_back()?);
            ["fsync", "fdatasync", "msync"].contains(&name).then_some(calls)
        };
        (done, report.lines().filter_map(calls).sum())
    }

    /// As when the power fails, as far as a process can tell.
    pub(crate) fn kill(mut self) -> PathBuf {
        self.end();
        self.folder.clone()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// What this process has used, without its children that run.
fn usage(process: u32) -> Usage {
    const TICKS_A_SECOND: f64 = 100.0;
    let of = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}"));
    let stat = of("stat").unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // utime and stime, the 14th and 15th of proc(5), and of children that ended.
    let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok());
    let cpu: f64 = (11..15).filter_map(ticks).sum::<f64>() / TICKS_A_SECOND;
    Usage { cpu, memory: megabytes(&of("status").unwrap_or_default(), "VmRSS:") }
}

/// The figure behind this word, which is in kilobytes.
fn megabytes(text: &str, word: &str) -> f64 {
    const MEGABYTE: f64 = 1024.0;
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or_default() / MEGABYTE
}

/// The daemon that is measured.
pub(crate) fn daemon(kind: Kind) -> PathBuf {
    let before = std::env::var_os("REMOTEBOOT_BEFORE").filter(|_| kind == Kind::Before);
    before.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_remoteboot")), PathBuf::from)
}

fn command(lab: &Lab, kind: Kind, task: Task, folder: &Path) -> Command {
    let last = Ipv4Addr::from_bits(POOL.to_bits() + task.pool - 1);
    match kind {
        Kind::Ours | Kind::Before => {
            let mut command = lab.command(&daemon(kind));
            command.arg("--state-dir").arg(folder.join("state"));
            command.arg("--plugins").arg(folder.join("plugins"));
            command.args(["--adapter", ADAPTER, "--address-dhcp", &SERVER.to_string()]);
            command.args(["--enable-dhcp", "--probe=false", "--log", "1"]);
            command.args(["--start-address", &POOL.to_string()]);
            command.args(["--lease-count", &task.pool.to_string()]);
            command.args(["--lease-time", &LEASE.to_string()]);
            command
        }
        Kind::Kea | Kind::KeaThreads => {
            let file = folder.join("kea.conf");
            fs::write(&file, kea(kind, task, last, folder)).expect("written");
            let mut command = lab.command(&lab.program("usr/sbin/kea-dhcp4"));
            command.env("KEA_PIDFILE_DIR", folder).env("KEA_LOCKFILE_DIR", folder);
            command.env("KEA_LFC_EXECUTABLE", lab.program("usr/sbin/kea-lfc"));
            command.arg("-c").arg(file);
            command
        }
        Kind::Dhcpd => {
            let file = folder.join("dhcpd.conf");
            fs::write(&file, dhcpd(task, last)).expect("written");
            File::create(folder.join("leases")).expect("made");
            let mut command = lab.command(&lab.program("usr/sbin/dhcpd"));
            command.args(["-4", "-f", "-q", "-cf"]).arg(file);
            command.arg("-lf").arg(folder.join("leases")).arg("-pf").arg(folder.join("pid"));
            command.arg(ADAPTER);
            command
        }
        Kind::Dnsmasq => {
            let mut command = lab.command(&lab.program("usr/sbin/dnsmasq"));
            command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0"]);
            command.args(["--user=root", "--no-ping", "--quiet-dhcp", "--log-facility=/dev/null"]);
            command.arg(format!("--interface={ADAPTER}"));
            command.arg(format!("--dhcp-range={POOL},{last},255.240.0.0,{LEASE}"));
            command.arg("--dhcp-lease-max=1000000").arg("--dhcp-authoritative");
            command.arg(format!("--dhcp-leasefile={}", folder.join("leases").display()));
            command.arg(format!("--pid-file={}", folder.join("pid").display()));
            if task.reserved > 0 {
                let file = folder.join("hosts");
                let host = |number| format!("{},{}\n", machine::mac(number), machine::own(number));
                fs::write(&file, (0..task.reserved).map(host).collect::<String>())
                    .expect("written");
                command.arg(format!("--dhcp-hostsfile={}", file.display()));
            }
            command
        }
        Kind::Fragments
        | Kind::TftpdHpa
        | Kind::Atftpd
        | Kind::Nginx
        | Kind::NginxProxy
        | Kind::BareHttp => {
            panic!("{kind:?} is no DHCP server")
        }
        Kind::Bare | Kind::BareWithoutDisk => {
            let program = std::env::current_exe().expect("this program has a path");
            let mut command = lab.command(&program);
            command.args(["--bench", "--bare"]);
            if kind == Kind::Bare {
                command.arg(folder.join("log.bare"));
            }
            command
        }
    }
}

fn kea(kind: Kind, task: Task, last: Ipv4Addr, folder: &Path) -> String {
    let host = |number| {
        let (mac, own) = (machine::mac(number), machine::own(number));
        format!(r#"{{"hw-address": "{mac}", "ip-address": "{own}"}}"#)
    };
    let hosts: Vec<String> = (0..task.reserved).map(host).collect();
    format!(
        r#"{{"Dhcp4": {{
    "interfaces-config": {{"interfaces": ["{ADAPTER}"]}},
    "lease-database": {{"type": "memfile", "persist": true, "name": "{}"}},
    "multi-threading": {{"enable-multi-threading": {}}},
    "valid-lifetime": {LEASE},
    "host-reservation-identifiers": ["hw-address"],
    "subnet4": [{{
        "subnet": "10.16.0.0/12",
        "pools": [{{"pool": "{POOL} - {last}"}}],
        "reservations-out-of-pool": true, "reservations-in-subnet": true,
        "reservations": [{}]
    }}],
    "loggers": [{{"name": "kea-dhcp4", "severity": "ERROR",
        "output_options": [{{"output": "stderr"}}]}}]
}}}}"#,
        folder.join("leases.csv").display(),
        kind == Kind::KeaThreads,
        hosts.join(",\n"),
    )
}

fn dhcpd(task: Task, last: Ipv4Addr) -> String {
    let host = |number| {
        let (mac, own) = (machine::mac(number), machine::own(number));
        format!("host h{number} {{ hardware ethernet {mac}; fixed-address {own}; }}\n")
    };
    let hosts: String = (0..task.reserved).map(host).collect();
    format!(
        "authoritative; ping-check false; ddns-update-style none;
default-lease-time {LEASE}; max-lease-time {LEASE};
subnet 10.16.0.0 netmask 255.240.0.0 {{ range {POOL} {last}; }}
{hosts}"
    )
}
