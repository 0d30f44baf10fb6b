//! DHCP by Kea's own load tool, perfdhcp, at rates that it keeps to itself: it is one
//! client behind a relay, looks at no address, and takes a processor for some 10,000
//! exchanges a second, so the most that a server can do is measured by `load`.

use std::{fmt::Write as _, process::Command};

use crate::{
    lab::{Lab, SERVER},
    report::{Out, spread},
    server::{Kind, Server, Task},
};

const TITLE: &str = "perfdhcp: first leases at a rate";

const KINDS: [Kind; 6] =
    [Kind::Ours, Kind::Before, Kind::Kea, Kind::KeaThreads, Kind::Dhcpd, Kind::Dnsmasq];

/// Exchanges that begin in a second.
const RATES: [u32; 3] = [500, 5000, 10_000];

/// How many machines it is at most; each asks once.
const MACHINES: u32 = 60_000;

/// What it says of one run.
struct Said {
    /// Exchanges that ended in a second.
    rate: f64,
    /// In a hundred, of DISCOVER and of REQUEST.
    unanswered: [f64; 2],
    /// Milliseconds to an OFFER and an ACK, the mean.
    delay: [f64; 2],
}

/// Measures it if its title has `only` in it, and prints the table.
pub(crate) fn measure(lab: &Lab, is_quick: bool, (out, only): (&mut Out, &str)) {
    if !TITLE.contains(only) {
        return;
    }
    let (rounds, rates) = if is_quick { (1, &RATES[1..2]) } else { (3, &RATES[..]) };
    let mut text = format!(
        "\n### {TITLE}\n\n| begun a second | server | ended | unanswered DISCOVERs | REQUESTs | OFFER \
         after ms | ACK after ms |\n|--:|---|--:|--:|--:|--:|--:|\n"
    );
    for rate in rates {
        let kinds: Vec<Kind> = KINDS.into_iter().filter(|kind| kind.is_chosen()).collect();
        let mut runs = Vec::new();
        for _ in 0..rounds {
            runs.extend(kinds.iter().map(|kind| (*kind, run(lab, *kind, *rate))));
        }
        for kind in kinds {
            let middle = |value: fn(&Said) -> f64| {
                spread(runs.iter().filter(|run| run.0 == kind).map(|run| value(&run.1)).collect()).0
            };
            let _ = writeln!(
                text,
                "| {rate} | {} | {:.0} | {:.1} % | {:.1} % | {:.2} | {:.2} |",
                kind.name(),
                middle(|said| said.rate),
                middle(|said| said.unanswered[0]),
                middle(|said| said.unanswered[1]),
                middle(|said| said.delay[0]),
                middle(|said| said.delay[1]),
            );
        }
    }
    out.say(text.trim_end());
}

fn run(lab: &Lab, kind: Kind, rate: u32) -> Said {
    let _server = Server::start(lab, kind, Task { pool: 65_536, reserved: 0 });
    let mut command = Command::new(lab.program("usr/sbin/perfdhcp"));
    lab.with_libraries(&mut command);
    command.args(["-4", "-l", "load", "-p", "3", "-r", &rate.to_string()]);
    // It ends with 3 when it has lost packets.
    let output = command.args(["-R", &MACHINES.to_string(), &SERVER.to_string()]).output();
    let text = String::from_utf8(output.expect("perfdhcp starts").stdout).expect("text");
    let number = |text: &str, start: &str| -> f64 {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(start));
        let word = line.and_then(|line| line.split_whitespace().next());
        word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no `{start}` in {text}"))
    };
    let part =
        |name: &str| text.split(name).nth(1).unwrap_or_else(|| panic!("no {name} in {text}"));
    let parts =
        [part("***Statistics for: DISCOVER-OFFER***"), part("***Statistics for: REQUEST-ACK***")];
    Said {
        rate: number(&text, "Rate:"),
        unanswered: parts.map(|part| number(part, "drops ratio:")),
        delay: parts.map(|part| number(part, "avg delay:")),
    }
}
