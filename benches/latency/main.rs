//! From a machine's first DISCOVER to its request for the script, in QEMU with real
//! firmware: the daemon beside dnsmasq and nginx, turn by turn in one run. See
//! docs/benchmarks.md.
//!
//! The times are taken on the wire, alike for all. `QUICK=1` makes one round, to see
//! that it works; `ONLY` names firmware by a part of its title; `TRACE=1` prints every
//! packet of a boot.

#[path = "../../tests/lab/mod.rs"]
mod lab;
mod peers;
mod report;
mod wire;

use std::{process::Child, time::Duration};

use lab::{Daemon, Firmware, Lab};
use peers::Peers;
use report::{Run, Start};
use serde_json::json;
use wire::{Capture, Times};

const MAC: &str = "52:54:00:77:00:01";
const ROUNDS: usize = 3;

/// Longer than any firmware here takes from power-on to its script on a busy computer.
const LIMIT: Duration = Duration::from_secs(90);

const CASES: [(Firmware, &str); 4] = [
    (Firmware::BiosIpxeRom, "BIOS, iPXE in ROM"),
    (Firmware::BiosChain, "BIOS, PXE, then undionly.kpxe"),
    (Firmware::UefiPxe, "UEFI, PXE, then snponly.efi"),
    (Firmware::UefiHttp, "UEFI, HTTP Boot, then snponly.efi"),
];

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Ours,
    /// dnsmasq and nginx as the examples in their manuals and in iPXE's have them.
    Usual,
    /// The same with all that is known to make iPXE wait for nothing.
    Tuned,
}

impl Server {
    const ALL: [Self; 3] = [Self::Ours, Self::Usual, Self::Tuned];

    const fn name(self) -> &'static str {
        match self {
            Self::Ours => "remoteboot",
            Self::Usual => "dnsmasq + nginx",
            Self::Tuned => "dnsmasq + nginx, tuned for iPXE",
        }
    }
}

fn main() {
    // `cargo test --benches` runs this, too, and wants no measurement.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let is_quick = std::env::var_os("QUICK").is_some_and(|value| !value.is_empty());
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut runs = Vec::new();
    for round in 0..if is_quick { 1 } else { ROUNDS } {
        for (firmware, title) in CASES.into_iter().filter(|(_, title)| title.contains(&only)) {
            for turn in 0..Server::ALL.len() {
                // Each comes first, second and last.
                let server = Server::ALL[(turn + round) % Server::ALL.len()];
                for (start, times) in measure(firmware, server) {
                    let milliseconds = times.server.as_secs_f64() * 1000.0;
                    println!(
                        "{title}, {}, {}: {:.3} s, of it the server's {milliseconds:.2} ms in {} answers",
                        start.name(),
                        server.name(),
                        times.to_script.as_secs_f64(),
                        times.answers,
                    );
                    runs.push(Run { title, server, start, round, times });
                }
            }
        }
    }
    let text = report::table(&runs);
    println!("\n{text}");
    // A part, or a hasty look, is nothing to keep.
    if !is_quick && only.is_empty() {
        report::keep(&text);
    }
}

/// One machine, switched on; the quickest one is then reset, and the server knows it at
/// its second start.
fn measure(firmware: Firmware, server: Server) -> Vec<(Start, Times)> {
    let lab = Lab::new();
    let _router = router(&lab);
    let _served = match server {
        Server::Ours => {
            let daemon = lab.daemon(&[]);
            daemon.provision(json!({
                "Kernel": "vmlinuz",
                "Initrd": "initrd",
                "CmdLine": "console=ttyS0 lab={{ mac }}",
                "MAC": MAC,
            }));
            Served::Ours { _daemon: daemon }
        }
        Server::Usual => Served::Peers { _peers: Peers::start(&lab, MAC, false) },
        Server::Tuned => Served::Peers { _peers: Peers::start(&lab, MAC, true) },
    };
    let mut capture = Capture::start(&lab);
    let mut machine = lab.machine(firmware, MAC);
    let mut starts = vec![(Start::First, capture.boot(LIMIT, MAC))];
    if firmware == Firmware::BiosIpxeRom {
        machine.reset();
        starts.push((Start::Again, capture.boot(LIMIT, MAC)));
    }
    starts
}

/// What serves, until it is dropped.
enum Served {
    Ours { _daemon: Daemon },
    Peers { _peers: Peers },
}

/// An IPv6 router that leads nowhere and has no network, for which nobody waits then:
/// the iPXE of 2019 would for 16 s, whoever serves.
fn router(lab: &Lab) -> Router {
    let path = |name: &str| lab.folder().join(name);
    let file = path("radvd.conf");
    std::fs::write(&file, "interface br0 { AdvSendAdvert on; AdvDefaultLifetime 0; };\n")
        .expect("the lab's folder can be written");
    let forwarding = "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
        exec radvd --nodaemon --logmethod stderr --config \"$0\" --pidfile \"$1\" 2>\"$2\"";
    let mut command = lab.command("sh");
    command.args(["-c", forwarding]).arg(file).arg(path("radvd.pid")).arg(path("radvd.log"));
    Router(command.spawn().expect("nsenter starts"))
}

/// radvd, until it is dropped.
struct Router(Child);

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
