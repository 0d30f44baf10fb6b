//! The boot storm: so many machines, all switched on within one second, beside
//! dnsmasq and nginx with the same files.

mod crowd;
mod firmware;
mod packets;
mod slow;

use std::{
    fs, io,
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use remoteboot::model::{Asset, Image, Source};
use rustix::process::{Resource, getrlimit, setrlimit};

use self::{
    crowd::{Goods, Outcome, STAGES, Waits},
    slow::Slow,
};
use crate::{
    lab::{ADAPTER, Lab, SERVER},
    load, machine,
    report::Out,
    reserve,
    server::{Kind, POOL, Server, Usage, daemon},
};

/// Octets; a UEFI loader has some more, a BIOS's less. Not a multiple of a block.
const LOADER: usize = 250_007;
/// Octets of the kernel; its first 64 KiB are read.
const KERNEL: usize = 2_000_003;
const LOADER_NAME: &str = "snponly.efi";
/// A machine has one socket at a time, and its server, too; ten thousand need more than
/// most systems give without being asked.
const SOCKETS: u64 = 12_000;

/// In the load's namespace: every machine has its address here, no kernel answers
/// for it when somebody probes, and the server needs one entry of ARP for all.
const ADDRESSES: &str = "set -e
ip route replace local 10.24.0.0/14 dev lo
echo 1 >/proc/sys/net/ipv4/icmp_echo_ignore_all
echo 8 >/proc/sys/net/ipv4/conf/all/arp_ignore
ip neigh replace 10.16.0.1 lladdr $served dev load nud permanent";

/// Where the server is.
const ROUTE: &str = "set -e
ip neigh replace 10.16.0.2 lladdr $load dev served nud permanent
ip route replace 10.24.0.0/14 via 10.16.0.2 dev served";

/// Who serves a storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rig {
    /// With its defaults.
    Ours,
    /// With `--spread=0`.
    Unspread,
    /// Another build, which `REMOTEBOOT_BEFORE` names.
    Before,
    /// dnsmasq with its lease file, and nginx.
    Peers,
    /// The same, and dnsmasq keeps no leases on disk.
    PeersInMemory,
}

const RIGS: [Rig; 5] = [Rig::Ours, Rig::Unspread, Rig::Before, Rig::Peers, Rig::PeersInMemory];

impl Rig {
    const fn name(self) -> &'static str {
        match self {
            Self::Ours => "remoteboot",
            Self::Unspread => "remoteboot, --spread=0",
            Self::Before => "remoteboot, before",
            Self::Peers => "dnsmasq and nginx",
            Self::PeersInMemory => "dnsmasq without a lease file, and nginx",
        }
    }

    const fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::Unspread)
    }
}

/// One storm.
#[derive(Debug, Clone, Copy)]
struct Storm {
    machines: u32,
    /// Hundredths of a processor that the server has; all if none.
    processor: Option<u32>,
}

/// Has all storms whose title has `only` in it, prints their tables, and says whether all
/// machines that the daemon served have booted.
pub(crate) fn measure(lab: &Lab, is_quick: bool, (out, only): (&mut Out, &str)) -> bool {
    let storm = |machines, processor| Storm { machines, processor };
    let storms = if is_quick {
        vec![storm(300, None), storm(300, Some(10))]
    } else {
        vec![storm(1000, None), storm(10_000, None), storm(1000, Some(10))]
    };
    let rigs = std::env::var("RIGS").unwrap_or_default();
    let has_before = std::env::var_os("REMOTEBOOT_BEFORE").is_some();
    let is_there = |rig: &Rig| has_before || *rig != Rig::Before;
    let is_named = |rig: &Rig| rigs.is_empty() || rigs.split(';').any(|name| name == rig.name());
    let is_wanted = |rig: &Rig| is_there(rig) && is_named(rig);
    let mut is_whole = true;
    for storm in storms {
        let of = storm
            .processor
            .map_or_else(String::new, |part| format!(", the server has {part} % of one processor"));
        let title = format!("Boot storm: {} machines{of}", storm.machines);
        if !title.contains(only) {
            continue;
        }
        prepare(lab);
        let mut rows = Vec::new();
        for rig in RIGS.into_iter().filter(is_wanted) {
            let (outcome, usage) = run(lab, rig, storm);
            is_whole &= !rig.is_ours() || outcome.is_whole();
            println!("{}", row(rig, &outcome, usage));
            rows.push((rig, outcome, usage));
        }
        out.say(&format!("\n### {title}\n\n{}", table(&rows)));
    }
    is_whole
}

/// Addresses for all machines, and room for their sockets.
fn prepare(lab: &Lab) {
    let mut most = getrlimit(Resource::Nofile);
    assert!(most.maximum.is_none_or(|most| most >= SOCKETS), "ulimit -Hn must be {SOCKETS}");
    most.current = most.maximum;
    setrlimit(Resource::Nofile, most).expect("it is allowed");
    let link = |mut ip: Command, name: &str| {
        let shown = ip.args(["-br", "link", "show", "dev", name]).output().expect("ip starts");
        let shown = String::from_utf8(shown.stdout).expect("text");
        shown.split_whitespace().nth(2).expect("a card").to_owned()
    };
    let served = link(lab.command(Path::new("ip")), ADAPTER);
    let load = link(Command::new("ip"), "load");
    let mut here = Command::new("sh");
    let here = here.args(["-c", ADDRESSES]).env("served", served).status();
    assert!(here.expect("sh starts").success(), "addresses for the machines");
    let mut there = lab.command(Path::new("sh"));
    let there = there.args(["-c", ROUTE]).env("load", load).status();
    assert!(there.expect("sh starts").success(), "a way to the machines");
}

fn run(lab: &Lab, rig: Rig, storm: Storm) -> (Outcome, Usage) {
    let folder = lab.folder.path().join(format!("storm-{rig:?}"));
    let _ = fs::remove_dir_all(&folder);
    let goods = Goods { loader: loader(), kernel: noise(KERNEL, 2), secret: reserve::secret };
    for (place, bytes) in [("tftp", &goods.loader), ("images", &goods.kernel)] {
        fs::create_dir_all(folder.join(place)).expect("made");
        let name = if place == "tftp" { LOADER_NAME } else { "vmlinuz" };
        fs::write(folder.join(place).join(name), bytes).expect("written");
    }
    let servers = start(lab, rig, storm, &folder);
    let slow = storm.processor.map(|percent| {
        let slow = Slow::new(percent).expect("this runs as root");
        servers.iter().try_for_each(|server| slow.take(server.id())).expect("taken in");
        slow
    });
    let before = usage(&servers);
    let outcome = crowd::run(storm.machines, goods);
    let after = usage(&servers);
    drop(servers);
    // A group of processes that have just ended is not yet empty.
    std::thread::sleep(Duration::from_millis(200));
    drop(slow);
    (outcome, Usage { cpu: after.cpu - before.cpu, memory: after.memory })
}

fn usage(servers: &[Server]) -> Usage {
    let sum =
        |sum: Usage, one: Usage| Usage { cpu: sum.cpu + one.cpu, memory: sum.memory + one.memory };
    servers.iter().map(Server::usage).fold(Usage::default(), sum)
}

/// With the header of a UEFI program for x86-64.
fn loader() -> Vec<u8> {
    let mut loader = noise(LOADER, 1);
    loader[..2].copy_from_slice(b"MZ");
    loader[0x3c..0x40].copy_from_slice(&[0x40, 0, 0, 0]);
    loader[0x40..0x46].copy_from_slice(b"PE\0\0\x64\x86");
    loader
}

/// No two blocks of it are the same.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let number = |place: u64| place.wrapping_add(seed << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..length as u64).map(|place| (number(place) >> 56) as u8).collect()
}

fn start(lab: &Lab, rig: Rig, storm: Storm, folder: &Path) -> Vec<Server> {
    match rig {
        Rig::Ours | Rig::Unspread | Rig::Before => {
            let image = Image {
                kernel: Asset {
                    source: Source::File("vmlinuz".to_owned().try_into().expect("a name")),
                    checksum: None,
                },
                initrds: Vec::new(),
                cmdline: "console=ttyS0".to_owned(),
            };
            reserve::fill_with(&folder.join("state"), storm.machines, Some(&image));
            let command = ours(lab, rig, folder);
            vec![Server::start_with(Kind::Ours, command, folder.into(), load::is_answered)]
        }
        Rig::Peers | Rig::PeersInMemory => {
            scripts(&folder.join("www/ipxe"), storm.machines).expect("written");
            let nginx = folder.join("nginx");
            fs::create_dir_all(&nginx).expect("made");
            let command = nginx_command(lab, folder, &nginx);
            let is_open = || {
                std::thread::sleep(Duration::from_millis(10));
                TcpStream::connect((SERVER, 80)).is_ok()
            };
            let nginx = Server::start_with(Kind::Dnsmasq, command, nginx, is_open);
            let command = dnsmasq(lab, rig, storm, folder);
            let dnsmasq =
                Server::start_with(Kind::Dnsmasq, command, folder.into(), load::is_answered);
            vec![dnsmasq, nginx]
        }
    }
}

fn last() -> Ipv4Addr {
    Ipv4Addr::from_bits(POOL.to_bits() + 1023)
}

fn ours(lab: &Lab, rig: Rig, folder: &Path) -> Command {
    let mut command =
        lab.command(&daemon(if rig == Rig::Before { Kind::Before } else { Kind::Ours }));
    command.arg("--state-dir").arg(folder.join("state"));
    command.arg("--plugins").arg(folder.join("plugins"));
    command.arg("--images").arg(folder.join("images"));
    command.arg("--ipxe-dir").arg(folder.join("tftp"));
    let server = SERVER.to_string();
    command.args(["--adapter", ADAPTER, "--address-dhcp", &server, "--address-tftp", &server]);
    command.args(["--address-http", &server, "--enable-dhcp", "--enable-tftp", "--enable-http"]);
    command.args(["--start-address", &POOL.to_string(), "--lease-count", "1024"]);
    command.args(["--lease-time", "7200", "--log", "1"]);
    if rig == Rig::Unspread {
        command.arg("--spread=0");
    }
    command
}

fn dnsmasq(lab: &Lab, rig: Rig, storm: Storm, folder: &Path) -> Command {
    let hosts = folder.join("hosts");
    let host = |number| format!("{},{}\n", machine::mac(number), machine::own(number));
    fs::write(&hosts, (0..storm.machines).map(host).collect::<String>()).expect("written");
    let mut command = lab.command(&lab.program("usr/sbin/dnsmasq"));
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"]);
    command.args(["--no-ping", "--quiet-dhcp", "--quiet-tftp", "--log-facility=/dev/null"]);
    command.arg(format!("--interface={ADAPTER}"));
    command.arg(format!("--dhcp-range={POOL},{},255.240.0.0,7200", last()));
    command.args(["--dhcp-lease-max=1000000", "--dhcp-authoritative"]);
    command.arg(format!("--dhcp-hostsfile={}", hosts.display()));
    match rig {
        Rig::PeersInMemory => command.arg("--leasefile-ro"),
        _ => command.arg(format!("--dhcp-leasefile={}", folder.join("leases").display())),
    };
    command.arg(format!("--pid-file={}", folder.join("pid").display()));
    command.arg("--enable-tftp").arg(format!("--tftp-root={}", folder.join("tftp").display()));
    command.arg("--tftp-max=20000").arg("--dhcp-match=set:ipxe,175");
    command.arg(format!("--dhcp-boot=tag:!ipxe,{LOADER_NAME},,{SERVER}"));
    command.arg(format!(
        "--dhcp-boot=tag:ipxe,http://{SERVER}/ipxe/${{net0/mac:hexhyp}}.ipxe,,{SERVER}"
    ));
    // iPXE need not wait for a proxyDHCP server, as with ours.
    command.arg("--dhcp-option=tag:ipxe,encap:175,176,1b");
    command
}

fn scripts(folder: &Path, machines: u32) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for number in 0..machines {
        let name = machine::mac(number).replace(':', "-");
        let url = format!("http://{SERVER}/boot/{}/0/vmlinuz", reserve::secret(number));
        let script = format!("#!ipxe\nkernel --name vmlinuz {url} console=ttyS0\nboot\n");
        fs::write(folder.join(format!("{name}.ipxe")), script)?;
    }
    Ok(())
}

fn nginx_command(lab: &Lab, folder: &Path, own: &Path) -> Command {
    let configuration = format!(
        "daemon off; user root; worker_processes 2; worker_rlimit_nofile {SOCKETS};
pid {own}/pid; error_log {own}/error crit;
events {{ worker_connections 11000; multi_accept on; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000;
    open_file_cache max=20000 inactive=60s; default_type text/plain;
    client_body_temp_path {own}/a; proxy_temp_path {own}/b; fastcgi_temp_path {own}/c;
    uwsgi_temp_path {own}/d; scgi_temp_path {own}/e;
    server {{
        listen {SERVER}:80 backlog=65535 reuseport;
        root {www};
        location ~ ^/boot/[0-9a-f]+/0/(.*)$ {{ alias {images}/$1; }}
    }}
}}\n",
        own = own.display(),
        www = folder.join("www").display(),
        images = folder.join("images").display(),
    );
    let file = own.join("nginx.conf");
    fs::write(&file, configuration).expect("written");
    // Its workers end with it, however it ends.
    let mut command = lab.command(Path::new("unshare"));
    command.args(["--pid", "--fork", "--kill-child", "--"]).arg(lab.program("usr/sbin/nginx"));
    command.arg("-e").arg(own.join("error")).arg("-p").arg(own).arg("-c").arg(file);
    command
}

fn table(rows: &[(Rig, Outcome, Usage)]) -> String {
    let mut text = String::from(
        "| server | booted | last after s | median s | longest wait in s for OFFER, ACK, loader, \
         iPXE's OFFER, ACK, script, kernel | asked again: DHCP, TFTP, HTTP | OACKs twice | CPU s | \
         MB | gave up |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|---|\n",
    );
    for (rig, outcome, usage) in rows {
        text += &row(*rig, outcome, *usage);
        text.push('\n');
    }
    text
}

fn row(rig: Rig, outcome: &Outcome, usage: Usage) -> String {
    let mut booted = outcome.booted.clone();
    booted.sort();
    let seconds = |time: Option<&Duration>| time.map_or(f64::NAN, Duration::as_secs_f64);
    let (last, median) = (seconds(booted.last()), seconds(booted.get(booted.len() / 2)));
    let of = |stage| outcome.stages.get(&stage).copied().unwrap_or_default();
    let longest = STAGES.map(|stage| format!("{:.2}", of(stage).longest.as_secs_f64())).join(", ");
    let again = |range: &[usize]| -> u64 {
        range.iter().map(|place| STAGES[*place]).map(of).map(|waits: Waits| waits.asked_again).sum()
    };
    format!(
        "| {} | {} | {last:.2} | {median:.2} | {longest} | {}, {}, {} | {} | {:.2} | {:.0} | \
         {} |",
        rig.name(),
        booted.len(),
        again(&[0, 1, 3, 4]),
        again(&[2]),
        again(&[5, 6]),
        outcome.repeated_oacks,
        usage.cpu,
        usage.memory,
        outcome.troubles(),
    )
}
