//! What is measured of TFTP.

use std::{fs, path::Path, process::Command, rc::Rc, time::Duration};

use crate::{
    lab::{ADAPTER, Lab, SERVER},
    report::{self, Out, Run},
    server::{Kind, Server, daemon},
    tftp_load::{self, FILE, Load},
};

const ALL: [Kind; 4] = [Kind::Ours, Kind::Dnsmasq, Kind::TftpdHpa, Kind::Atftpd];

/// Octets; more than a BIOS's loader has and less than UEFI's. Not a multiple of a block.
const LENGTH: usize = 300_007;

/// Measures all cases whose title has `only` in it, and prints their tables.
pub(crate) fn measure(lab: &Lab, is_quick: bool, (out, only): (&mut Out, &str)) {
    let file: Vec<u8> = (0..LENGTH as u64)
        .map(|place| (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect();
    let file = Rc::new(file);
    let folder = lab.folder.path().join("tftp");
    fs::create_dir_all(&folder).expect("made");
    fs::write(folder.join(FILE), &*file).expect("written");
    let (rounds, time) =
        if is_quick { (2, Duration::from_millis(500)) } else { (3, Duration::from_secs(2)) };
    for load in loads(time, is_quick) {
        let Load { clients, block, window, lost, .. } = load;
        let lossy = if lost > 0 { format!(", {} % lost", lost / 10) } else { String::new() };
        let title =
            format!("TFTP, MB a second: {clients} clients, block {block}, window {window}{lossy}");
        if !title.contains(only) {
            continue;
        }
        let mut runs = Vec::new();
        let mut agreed = Vec::new();
        for round in 0..rounds {
            for kind in ALL {
                let (run, terms) = run(lab, &folder, (load, &file), kind, round);
                runs.push(run);
                agreed.push(format!("{} {terms:?}", kind.name()));
            }
        }
        agreed.truncate(ALL.len());
        out.say(&format!("\n### {title}\n\n{}", report::table(&ALL, &runs)));
        out.say(&format!("Block and window that were agreed on: {}.", agreed.join(", ")));
    }
}

fn loads(time: Duration, is_quick: bool) -> Vec<Load> {
    let mut loads = Vec::new();
    let (clients, blocks, windows): (&[usize], &[usize], &[u16]) = if is_quick {
        (&[1, 100], &[1468], &[1, 16])
    } else {
        (&[1, 10, 100, 1000], &[512, 1468, 8192], &[1, 4, 16])
    };
    for clients in clients {
        for block in blocks {
            for window in windows {
                let (clients, block, window) = (*clients, *block, *window);
                loads.push(Load { clients, block, window, time, lost: 0 });
            }
        }
    }
    for window in [1, 16] {
        loads.push(Load { clients: 10, block: 1468, window, time, lost: 50 });
    }
    loads
}

fn run(
    lab: &Lab,
    files: &Path,
    (load, file): (Load, &Rc<Vec<u8>>),
    kind: Kind,
    round: usize,
) -> (Run, (usize, u16)) {
    let folder = lab.folder.path().join(format!("tftp-{kind:?}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("made");
    let command = command(lab, kind, files, &folder);
    let server = Server::start_with(kind, command, folder, tftp_load::is_answered);
    let before = server.usage();
    let outcome = tftp_load::run(load, file);
    let after = server.usage();
    let part = |part: f64| {
        let place = (outcome.transfers.len() as f64 * part) as usize;
        outcome.transfers[place.min(outcome.transfers.len() - 1)].as_secs_f64() * 1e3
    };
    let rate = outcome.octets as f64 / outcome.took.as_secs_f64() / 1e6;
    let run = Run {
        kind,
        round,
        rate,
        p50: part(0.5),
        p99: part(0.99),
        cpu: (after.cpu - before.cpu) * 1e4 / outcome.transfers.len() as f64,
        memory: after.memory,
        ready: server.ready.as_secs_f64(),
        asked_again: outcome.asked_again,
    };
    (run, outcome.agreed)
}

fn command(lab: &Lab, kind: Kind, files: &Path, folder: &Path) -> Command {
    match kind {
        Kind::Ours => {
            let mut command = lab.command(&daemon(kind));
            command.arg("--state-dir").arg(folder.join("state"));
            command.arg("--plugins").arg(folder.join("plugins"));
            command.args(["--adapter", ADAPTER, "--address-tftp", &SERVER.to_string()]);
            command.args(["--enable-tftp", "--log", "1", "--ipxe-dir"]).arg(files);
            command.args(["--tftp-transfers", "4096", "--tftp-transfers-per-client", "4096"]);
            command
        }
        Kind::TftpdHpa => {
            let mut command = lab.command(&lab.program("usr/sbin/in.tftpd"));
            command.args(["-L", "-u", "root", "-a", &format!("{SERVER}:69"), "-s"]).arg(files);
            command
        }
        Kind::Atftpd => {
            let mut command = lab.command(&lab.program("usr/sbin/atftpd"));
            command.args(["--daemon", "--no-fork", "--maxthread", "4096", "--user", "root"]);
            command.args(["--group", "root", "--verbose=1", "--logfile", "/dev/null"]);
            command.args(["--bind-address", &SERVER.to_string()]).arg(files);
            command
        }
        _ => {
            let mut command = lab.command(&lab.program("usr/sbin/dnsmasq"));
            command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0"]);
            command.args(["--user=root", "--log-facility=/dev/null", "--tftp-max=4096"]);
            command.arg(format!("--enable-tftp={ADAPTER}"));
            command.arg(format!("--tftp-root={}", files.display()));
            command.arg(format!("--pid-file={}", folder.join("pid").display()));
            command
        }
    }
}
