//! What is measured of TFTP.
//!
//! All servers run at once, each on an address of its own, and only one of them is
//! asked at a time: turn by turn, so that whatever else the computer does meets all.

use std::{
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    lab::{ADAPTER, Lab},
    meter::Meter,
    report::{Out, spread},
    server::{Kind, Server, daemon},
    tftp_client::FILE,
    tftp_load::{self, Load, Outcome},
};

/// Octets; more than a BIOS's loader has and less than UEFI's. Not a multiple of a block.
const LENGTH: usize = 300_007;

/// Octets for a thousand clients, and where much is lost: a BIOS's loader.
const SHORT: usize = 70_001;

/// From how many clients on they fetch the short one.
const MANY: usize = 1000;

/// Octets of a packet on a usual wire, and on one for large packets.
const MTU: u32 = 1500;
const LARGE_MTU: u32 = 9000;

/// Octets of it before a block: of IPv4, of UDP and of TFTP.
const HEADERS: usize = 20 + 8 + 4;

/// What is asked for, and by how many.
#[derive(Debug, Clone, Copy)]
struct Setting {
    clients: usize,
    block: usize,
    window: u16,
    /// Of a thousand blocks.
    lost: u32,
    mtu: u32,
}

/// A server that runs.
struct Peer {
    kind: Kind,
    address: Ipv4Addr,
    _server: Server,
    meter: Meter,
}

/// One turn of one server.
struct Turn {
    kind: Kind,
    round: usize,
    outcome: Outcome,
    /// Octets a second.
    rate: f64,
    /// Seconds.
    cpu: f64,
}

/// Measures all cases whose title has `only` in it, and prints their tables.
pub(crate) fn measure(lab: &Lab, is_quick: bool, (out, only): (&mut Out, &str)) {
    let settings = settings(is_quick);
    if !settings.iter().any(|setting| setting.title().contains(only)) {
        return;
    }
    let rounds = if is_quick { 2 } else { 3 };
    for length in [LENGTH, SHORT] {
        let is_short = |it: &&Setting| (it.clients >= MANY || it.lost > 0) == (length == SHORT);
        let file: Vec<u8> = (0..length as u64)
            .map(|place| (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
            .collect();
        let files = lab.folder.path().join(format!("tftp-{length}"));
        fs::create_dir_all(&files).expect("made");
        fs::write(files.join(FILE), &file).expect("written");
        let settings = settings.iter().filter(is_short);
        let settings: Vec<_> = settings.filter(|it| it.title().contains(only)).collect();
        let mut heading = String::new();
        for setting in settings {
            if setting.heading() != heading {
                heading = setting.heading();
                out.say(&format!("\n### {heading}, of {length} octets\n\n{HEAD}"));
            }
            set_mtu(lab, setting.mtu);
            let peers: Vec<Peer> =
                setting.kinds().map(|kind| Peer::start(lab, kind, &files)).collect();
            let mut turns = Vec::new();
            for round in 0..rounds {
                turns.extend(peers.iter().map(|peer| peer.turn(setting, round, &file)));
            }
            out.say(&rows(setting, &turns));
        }
    }
    set_mtu(lab, MTU);
}

fn kinds() -> impl Iterator<Item = Kind> {
    [Kind::Ours, Kind::Fragments, Kind::Before, Kind::Dnsmasq, Kind::TftpdHpa, Kind::Atftpd]
        .into_iter()
        .filter(|kind| kind.is_chosen())
}

fn settings(is_quick: bool) -> Vec<Setting> {
    let (clients, blocks, windows): (&[usize], &[usize], &[u16]) = if is_quick {
        (&[1, 100], &[1468], &[1, 16])
    } else {
        (&[1, 10, 100, MANY], &[512, 1468, 8192], &[1, 4, 16])
    };
    let mut settings = Vec::new();
    for clients in clients {
        for block in blocks {
            for window in windows {
                let (clients, block, window) = (*clients, *block, *window);
                settings.push(Setting { clients, block, window, lost: 0, mtu: MTU });
            }
        }
    }
    let usual = Setting { clients: 10, block: 8192, window: 1, lost: 0, mtu: LARGE_MTU };
    for window in if is_quick { &[][..] } else { &[1, 4, 16] } {
        settings.push(Setting { window: *window, ..usual });
    }
    for window in [1, 16] {
        settings.push(Setting { block: 1468, window, lost: 50, mtu: MTU, ..usual });
    }
    settings
}

impl Setting {
    /// Who is asked: where all blocks fit into a packet, fragments make no difference.
    fn kinds(&self) -> impl Iterator<Item = Kind> {
        let fits = self.block + HEADERS <= self.mtu as usize;
        kinds().filter(move |kind| *kind != Kind::Fragments || !fits)
    }

    fn heading(&self) -> String {
        let clients =
            if self.clients == 1 { "1 client" } else { &format!("{} clients", self.clients) };
        let lost = match self.lost {
            0 => String::new(),
            lost => format!(", {} % of the blocks lost", lost / 10),
        };
        let mtu = if self.mtu == MTU { String::new() } else { format!(", MTU {}", self.mtu) };
        format!("TFTP, {clients}{lost}{mtu}")
    }

    fn title(&self) -> String {
        format!("{}, block {}, window {},", self.heading(), self.block, self.window)
    }

    fn time(&self) -> Duration {
        Duration::from_millis(match (self.clients, self.lost) {
            (_, 1..) => 1000,
            (MANY.., _) => 800,
            _ => 400,
        })
    }
}

impl Peer {
    fn start(lab: &Lab, kind: Kind, files: &Path) -> Self {
        let number = kinds().position(|it| it == kind).expect("one of them") as u8;
        let address = Ipv4Addr::new(10, 16, 1, number);
        add_address(lab, address);
        let folder = lab.folder.path().join(format!("tftp-{kind:?}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("made");
        let command = command((lab, &folder), kind, address, files);
        let is_answered = || tftp_load::is_answered(address);
        let meter = Meter::new(kind);
        let server = Server::start_with(kind, meter.inside(command), folder, is_answered);
        Self { kind, address, _server: server, meter }
    }

    fn turn(&self, setting: &Setting, round: usize, file: &[u8]) -> Turn {
        let Setting { clients, block, window, lost, .. } = *setting;
        let time = setting.time();
        let load = Load { server: self.address, clients, block, window, time, lost };
        let before = self.meter.seconds();
        let outcome = tftp_load::run(load, file);
        let cpu = self.meter.seconds() - before;
        let rate = outcome.octets as f64 / time.as_secs_f64();
        Turn { kind: self.kind, round, outcome, rate, cpu }
    }
}

const HEAD: &str = "\
| block, window | server | agreed | MB/s | remoteboot to it (least to greatest) | p50 ms | p99 ms \
| CPU s per GB | sent in vain | asked again |
|---|---|---|--:|--:|--:|--:|--:|--:|--:|";

/// The rows of one setting: medians, and ratios of one round.
fn rows(setting: &Setting, turns: &[Turn]) -> String {
    let mut text = String::new();
    for kind in setting.kinds() {
        let own = || turns.iter().filter(|turn| turn.kind == kind);
        let middle = |value: fn(&Turn) -> f64| spread(own().map(value).collect()).0;
        let ratios = own().filter_map(|turn| {
            let ours = turns.iter().find(|it| it.kind == Kind::Ours && it.round == turn.round);
            Some(ours?.rate / turn.rate)
        });
        let (ratio, least, greatest) = spread(ratios.collect());
        let sum = |value: fn(&Outcome) -> u64| own().map(|turn| value(&turn.outcome)).sum::<u64>();
        let (blocks, surplus) = (sum(|it| it.blocks), sum(|it| it.surplus));
        let in_vain = surplus as f64 * 100.0 / (blocks - surplus).max(1) as f64;
        let over = if sum(|it| it.given_up) > 0 { "over " } else { "" };
        let agreed = own().next_back().map(|turn| turn.outcome.agreed).unwrap_or_default();
        let _ = writeln!(
            text,
            "| {}, {} | {} | {}, {} | {:.1} | {ratio:.2} ({least:.2} to {greatest:.2}) | {:.2} | \
             {over}{:.2} | {:.2} | {in_vain:.1} % | {} |",
            setting.block,
            setting.window,
            kind.name(),
            agreed.0,
            agreed.1,
            middle(|turn| turn.rate / 1e6),
            middle(|turn| turn.outcome.milliseconds(0.5)),
            middle(|turn| turn.outcome.milliseconds(0.99)),
            middle(|turn| turn.cpu * 1e9 / turn.outcome.octets_in_all as f64),
            sum(|it| it.asked_again),
        );
    }
    text.trim_end().to_owned()
}

fn add_address(lab: &Lab, address: Ipv4Addr) {
    let mut command = lab.command(Path::new("ip"));
    command.args(["addr", "replace", &format!("{address}/12"), "dev", ADAPTER]);
    assert!(command.status().expect("ip starts").success(), "{address} can be had");
}

fn set_mtu(lab: &Lab, mtu: u32) {
    let mtu = mtu.to_string();
    let mut there = lab.command(Path::new("ip"));
    let mut here = Command::new("ip");
    for (command, adapter) in [(&mut there, ADAPTER), (&mut here, "load")] {
        command.args(["link", "set", adapter, "mtu", &mtu]);
        assert!(command.status().expect("ip starts").success(), "the wire takes it");
    }
}

fn command(
    (lab, folder): (&Lab, &PathBuf),
    kind: Kind,
    address: Ipv4Addr,
    files: &Path,
) -> Command {
    let address = address.to_string();
    match kind {
        Kind::Ours | Kind::Fragments | Kind::Before => {
            let mut command = lab.command(&daemon(kind));
            command.arg("--state-dir").arg(folder.join("state"));
            command.arg("--plugins").arg(folder.join("plugins"));
            command.args(["--adapter", ADAPTER, "--address-tftp", &address]);
            command.args(["--enable-tftp", "--log", "1", "--ipxe-dir"]).arg(files);
            command.args(["--tftp-transfers", "4096", "--tftp-transfers-per-client", "4096"]);
            if kind == Kind::Fragments {
                command.arg("--tftp-fragments");
            }
            command
        }
        Kind::TftpdHpa => {
            let mut command = lab.command(&lab.program("usr/sbin/in.tftpd"));
            command.args(["-L", "-u", "root", "-a", &format!("{address}:69"), "-s"]).arg(files);
            command
        }
        Kind::Atftpd => {
            let mut command = lab.command(&lab.program("usr/sbin/atftpd"));
            command.args(["--daemon", "--no-fork", "--maxthread", "4096", "--user", "root"]);
            command.args(["--group", "root", "--verbose=1", "--logfile", "/dev/null"]);
            command.args(["--bind-address", &address]).arg(files);
            command
        }
        _ => {
            let mut command = lab.command(&lab.program("usr/sbin/dnsmasq"));
            command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0"]);
            command.args(["--user=root", "--log-facility=/dev/null", "--tftp-max=4096"]);
            command.args(["--enable-tftp", "--bind-interfaces", "--listen-address", &address]);
            command.arg(format!("--tftp-root={}", files.display()));
            command.arg(format!("--pid-file={}", folder.join("pid").display()));
            command
        }
    }
}
