//! What is measured of HTTP: a large initrd to many machines, and scripts.

use std::{fs, path::Path, time::Duration};

use crate::{
    http_load::{self, Connection, Receiving},
    http_server::{self, ASKING, BESIDE, INITRD, LOCAL},
    lab::{CLIENT, Lab},
    report::{self, Out, Run},
    server::{Kind, Server, Usage},
};

/// Octets of the initrd.
const LENGTH: usize = 100_000_000;

/// Measures all cases whose title has `only` in it, and prints their tables.
pub(crate) fn measure(lab: &Lab, is_quick: bool, (out, only): (&mut Out, &str)) {
    let titles = [Case::Scripts.title(), Case::InTurn.title()];
    let scripts = titles.iter().any(|title| title.contains(only));
    let initrds: Vec<_> = initrds(is_quick);
    let initrds: Vec<_> = initrds.into_iter().filter(|case| case.title().contains(only)).collect();
    if !scripts && initrds.is_empty() {
        return;
    }
    http_server::give_addresses(lab);
    let files = lab.folder.path().join("http");
    let file = prepare(lab, &files);
    let rounds = if is_quick { 2 } else { 5 };
    if scripts {
        let kinds = chosen(&[Kind::Nginx, Kind::NginxProxy, Kind::BareHttp]);
        let time = Duration::from_secs(if is_quick { 1 } else { 2 });
        let (mut loaded, mut in_turn) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            for kind in &kinds {
                let (run, alone) = ask(lab, (*kind, round), &files, time);
                loaded.push(run);
                in_turn.push(alone);
            }
        }
        for (case, runs) in [(Case::Scripts, &loaded), (Case::InTurn, &in_turn)] {
            out.say(&format!("\n### {}\n\n{}", case.title(), report::table(&kinds, runs)));
        }
    }
    let kinds = chosen(&[Kind::Nginx, Kind::BareHttp]);
    for case in initrds {
        let mut runs = Vec::new();
        for round in 0..rounds.min(3) {
            for kind in &kinds {
                runs.push(load(lab, (*kind, round), (&files, &file), case));
            }
        }
        let table = report::table_of(&kinds, &runs, "CPU s for 1 GB");
        out.say(&format!("\n### {}\n\n{table}", case.title()));
    }
}

/// The daemon, another build of it, and these, as far as they are wanted.
fn chosen(peers: &[Kind]) -> Vec<Kind> {
    let kinds = [&[Kind::Ours, Kind::Before], peers].concat();
    kinds.into_iter().filter(|kind| kind.is_chosen()).collect()
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
enum Case {
    Scripts,
    InTurn,
    Initrd(u32, Receiving),
}

impl Case {
    fn title(self) -> String {
        match self {
            Self::Scripts => "HTTP, scripts a second: 32 connections".to_owned(),
            Self::InTurn => "HTTP, scripts one after the other, on loopback".to_owned(),
            Self::Initrd(clients, Receiving::Compared) => {
                format!("HTTP, MB of initrd a second: {clients} clients that compare it")
            }
            Self::Initrd(clients, Receiving::Dropped) => {
                format!("HTTP, MB of initrd a second: {clients} clients that drop it")
            }
        }
    }
}

fn initrds(is_quick: bool) -> Vec<Case> {
    let clients: &[u32] = if is_quick { &[1, 10] } else { &[1, 10, http_server::LOADING] };
    let both = [Receiving::Compared, Receiving::Dropped];
    both.iter()
        .flat_map(|receiving| clients.iter().map(|clients| Case::Initrd(*clients, *receiving)))
        .collect()
}

/// Makes the files that are served: the initrd, and the very script that the daemon gives.
fn prepare(lab: &Lab, files: &Path) -> Vec<u8> {
    let file: Vec<u8> = (0..LENGTH as u64)
        .map(|place| (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect();
    fs::create_dir_all(files.join("ipxe")).expect("made");
    fs::write(files.join(INITRD), &file).expect("written");
    fs::write(files.join("vmlinuz"), "MZ").expect("written");
    let server = http_server::start(lab, Kind::Ours, files);
    let script = script_of(ASKING);
    drop(server);
    fs::write(files.join("template"), http_server::template(&script)).expect("written");
    for number in [ASKING, BESIDE] {
        let own =
            script.replace(&http_server::hyphenated(ASKING), &http_server::hyphenated(number));
        fs::write(files.join(format!(".{}", http_server::script(number))), own).expect("written");
    }
    file
}

/// The script as the server gives it: of this machine and no other.
fn script_of(number: u32) -> String {
    let mut connection = Connection::open(CLIENT).expect("a connection");
    let (status, body) = connection.get(&http_server::script(number)).expect("an answer");
    let text = String::from_utf8(body).expect("text");
    let ends = http_server::initrd(Kind::Ours, number);
    let is_its = text.starts_with("#!ipxe\n") && text.contains(&ends);
    assert!(status == 200 && is_its && text.contains(&format!("node-{number}")), "{text}");
    text
}

/// Scripts, by 32 connections and one after the other.
fn ask(lab: &Lab, (kind, round): (Kind, usize), files: &Path, time: Duration) -> (Run, Run) {
    let server = http_server::start(lab, kind, files);
    let path = http_server::script(ASKING);
    let (status, expected) =
        Connection::open(CLIENT).and_then(|mut own| own.get(&path)).expect("an answer");
    assert_eq!(status, 200);
    let of_static = fs::read(files.join(format!(".{path}"))).expect("there");
    assert_eq!(expected.len(), of_static.len(), "all send the same");
    let before = server.usage_of_all();
    let said = http_load::wrk(lab, 32, &path, (&expected, time));
    let after = server.usage_of_all();
    let run = run(&server, (kind, round), (before, after));
    let cpu = run.cpu * 1e4 / said.requests as f64;
    let loaded = Run { rate: said.rate, p50: said.p50, p99: said.p99, cpu, ..run };
    (loaded, ask_in_turn(lab, &server, (kind, round)))
}

fn ask_in_turn(lab: &Lab, server: &Server, (kind, round): (Kind, usize)) -> Run {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = lab.command(&program);
    command.args(["--bench", "--in-turn", &LOCAL.to_string()]);
    command.args([http_server::script(BESIDE), http_server::hyphenated(BESIDE)]);
    let before = server.usage_of_all();
    let output = command.output().expect("it starts");
    let after = server.usage_of_all();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> =
        said.split_whitespace().map(|word| word.parse().expect("one")).collect();
    let [took, p50, p99, turns] = numbers[..] else { panic!("{said}") };
    let run = run(server, (kind, round), (before, after));
    Run { rate: turns / took, p50, p99, cpu: run.cpu * 1e4 / turns, ..run }
}

/// An initrd to so many machines.
fn load(lab: &Lab, (kind, round): (Kind, usize), (files, file): (&Path, &[u8]), case: Case) -> Run {
    let Case::Initrd(clients, receiving) = case else { panic!("{case:?} is no initrd") };
    let server = http_server::start(lab, kind, files);
    let client = |number| (http_server::address(number), http_server::initrd(kind, number));
    let clients: Vec<_> = (0..clients).map(client).collect();
    let before = server.usage_of_all();
    let fetched = http_load::fetch(&clients, file, (receiving, Duration::from_millis(1500)));
    let after = server.usage_of_all();
    let part = |part: usize| {
        let last = fetched.transfers.len() - 1;
        fetched.transfers[last * part / 100].as_secs_f64() * 1e3
    };
    let run = run(&server, (kind, round), (before, after));
    let rate = fetched.octets as f64 / fetched.took.as_secs_f64() / 1e6;
    let cpu = run.cpu * 1e9 / fetched.octets as f64;
    Run { rate, p50: part(50), p99: part(99), cpu, ..run }
}

/// What is known of every run; its CPU time is the whole.
fn run(server: &Server, (kind, round): (Kind, usize), (before, after): (Usage, Usage)) -> Run {
    Run {
        kind,
        round,
        rate: 0.0,
        p50: 0.0,
        p99: 0.0,
        cpu: after.cpu - before.cpu,
        memory: after.memory,
        ready: server.ready.as_secs_f64(),
        asked_again: 0,
    }
}
