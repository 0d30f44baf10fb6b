//! The document that is made of the results. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{
    Cell, Plan, ROADS, ROWS, Road, TESTED, WAYS, real,
    results::{Attempt, Results, Seen},
};

const HEAD: &str = "# The firmware matrix

Which firmware boots from remoteboot, and in whose company. `make matrix` boots every
cell in QEMU and writes this file; `make matrix ONLY=arm64` boots those alone whose
name has that word (`ONLY='x64 kea, bios'`: all words of one of these lists;
`ONLY=--new`: those that were never run), and the others stay as they were seen, with
their date. What was seen is in `firmware-matrix.json`.

A cell is one machine without a disk on a network of its own. It has booted when its
serial console shows, from the system that runs, a random word that was given to this
instance alone in its command line, the machine's card, and the marker of the initrd
that it was given; when it came by the road of its table; and when the iPXE that ran is
that of its row. Numbers are seconds from power-on to that, and in parentheses from
our first answer to the request for the script. QEMU emulates every processor, without
KVM: the numbers compare cells, and are no promise.
";

const WAYS_TEXT: &str = "
The columns: **server**, we give the addresses; **beside**, we are a proxy
(`--dhcp=proxy`) beside this server, which gives the addresses and knows nothing of
booting; **behind a relay**, we are the server and the machine's network has a relay
(dnsmasq's for IPv4, ISC's dhcrelay for IPv6); **named by another**, our DHCP is off, and
another server (dnsmasq for IPv4, ISC's dhcpd for IPv6) gives the addresses and names our
boot programs and `/infrakit.ipxe`.
`*` is booted by `make test`, too. What boots with Secure Boot on is in
[secure-boot.md](secure-boot.md).
";

/// The whole of it.
pub(crate) fn of(results: &Results) -> String {
    let mut text = HEAD.to_owned();
    text += WAYS_TEXT;
    text += &summary(results);
    let newest = results.cells.values().map(|seen| seen.date.as_str()).max().unwrap_or_default();
    let mut notes = Notes::default();
    for road in ROADS {
        table(&mut text, (road, results, newest), &mut notes);
    }
    text += &notes.text();
    text += &tested();
    text += &versions(results);
    text
}

fn summary(results: &Results) -> String {
    let cells = real();
    let failing: Vec<&Cell> = cells
        .iter()
        .filter(|cell| results.of(**cell).is_some_and(|seen| !seen.is_well()))
        .collect();
    let unknown = results.unknown().len();
    let well = cells.len() - failing.len() - unknown;
    let mut text =
        format!("\nOf {} cells that are booted, {well} do what they should", cells.len());
    if unknown > 0 {
        write!(text, ", {unknown} were not run yet").expect("a string");
    }
    match failing.as_slice() {
        [] => text += ", and none fails.\n",
        some => {
            writeln!(text, ", and {} fail:\n", some.len()).expect("a string");
            for cell in some {
                let (row, road, way) = (cell.row.title(), cell.road.title(), cell.way.title());
                let why = cell.known().unwrap_or_else(|| last_word(results.of(**cell)));
                writeln!(text, "- {row}, {road}, {way}: {why}").expect("a string");
            }
        }
    }
    text
}

/// Why the last attempt failed.
fn last_word(seen: Option<&Seen>) -> &str {
    match seen.and_then(|seen| seen.attempts.last()) {
        Some(Attempt::Failed { why, .. }) => why,
        Some(Attempt::Booted { .. } | Attempt::Refused { .. }) | None => "it was not run",
    }
}

fn table(text: &mut String, (road, results, newest): (Road, &Results, &str), notes: &mut Notes) {
    write!(text, "\n## {}\n\n| firmware |", road.title()).expect("a string");
    for way in WAYS {
        write!(text, " {} |", way.title()).expect("a string");
    }
    *text += "\n| --- |";
    *text += &" --- |".repeat(WAYS.len());
    *text += "\n";
    for row in ROWS {
        write!(text, "| {} |", row.title()).expect("a string");
        for way in WAYS {
            let cell = Cell { row, road, way };
            let star = if TESTED.iter().any(|(tested, _)| *tested == cell) { "*" } else { "" };
            let shown = match (cell.plan(), results.of(cell)) {
                (Plan::None(why), _) => format!("– {}", notes.reason("no such thing", why)),
                (Plan::Untried(why), _) => format!("not tried {}", notes.reason("not tried", why)),
                (Plan::Boots(_) | Plan::Refused(_), None) => "not run yet".to_owned(),
                (Plan::Boots(_) | Plan::Refused(_), Some(seen)) => shown(cell, seen, newest, notes),
            };
            write!(text, " {shown}{star} |").expect("a string");
        }
        *text += "\n";
    }
}

/// What a cell that was run shows.
fn shown(cell: Cell, seen: &Seen, newest: &str, notes: &mut Notes) -> String {
    let mut shown = match seen.attempts.last() {
        Some(Attempt::Booted { seconds, to_script, .. }) => match to_script {
            Some(to_script) => format!("{seconds:.1} ({to_script:.1})"),
            None => format!("{seconds:.1}"),
        },
        Some(Attempt::Refused { why, .. }) => {
            format!("refused {}", notes.reason("refused; the log says", why))
        }
        Some(Attempt::Failed { .. }) => "**fails**".to_owned(),
        None => "not run yet".to_owned(),
    };
    if seen.attempts.iter().any(|attempt| !attempt.is_well()) {
        write!(shown, " {}", notes.failure(cell, seen)).expect("a string");
    }
    if seen.date != newest {
        write!(shown, " on {}", seen.date).expect("a string");
    }
    shown
}

/// What stands below the tables.
#[derive(Default)]
struct Notes {
    reasons: Vec<String>,
    failures: Vec<String>,
}

impl Notes {
    /// The letter of a reason.
    fn reason(&mut self, kind: &str, why: &str) -> char {
        let text = format!("{kind}: {why}.");
        let known = self.reasons.iter().position(|reason| *reason == text);
        let place = known.unwrap_or_else(|| {
            self.reasons.push(text);
            self.reasons.len() - 1
        });
        u8::try_from(place).map_or('?', |place| char::from(b'a' + place))
    }

    /// The number of a cell's story.
    fn failure(&mut self, cell: Cell, seen: &Seen) -> String {
        let mut text = format!("`{cell}`, {}", seen.date);
        if let Some(why) = cell.known() {
            write!(text, ". Known: {why}").expect("a string");
        }
        text += "\n";
        for (attempt, name) in seen.attempts.iter().zip(["first", "second"]) {
            match attempt {
                Attempt::Booted { seconds, .. } => {
                    writeln!(text, "\n    {name} try: booted after {seconds:.1} s")
                }
                Attempt::Refused { seconds, .. } => {
                    writeln!(text, "\n    {name} try: refused after {seconds:.1} s")
                }
                Attempt::Failed { why, seen } => {
                    let lines: Vec<String> =
                        seen.iter().map(|line| format!("    {line}\n")).collect();
                    writeln!(
                        text,
                        "\n    {name} try: {why}\n{}",
                        lines.concat().trim_end_matches('\n')
                    )
                }
            }
            .expect("a string");
        }
        self.failures.push(text);
        format!("[{}]", self.failures.len())
    }

    fn text(&self) -> String {
        let mut text = "\n## Notes\n\n".to_owned();
        for (letter, reason) in ('a'..).zip(&self.reasons) {
            writeln!(text, "- {letter}: {reason}").expect("a string");
        }
        for (number, failure) in (1..).zip(&self.failures) {
            write!(text, "\n[{number}] {failure}").expect("a string");
        }
        text
    }
}

fn tested() -> String {
    let mut text = "\n## Booted by `make test`\n\n| cell | test |\n| --- | --- |\n".to_owned();
    for (cell, test) in TESTED {
        writeln!(text, "| `{cell}` | `{test}` |").expect("a string");
    }
    text
}

fn versions(results: &Results) -> String {
    let mut text = "\n## What booted what\n".to_owned();
    let mut heard: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for seen in results.cells.values() {
        for attempt in &seen.attempts {
            if let Attempt::Booted { ipxe, .. } = attempt {
                heard.entry(&seen.run).or_default().insert(ipxe);
            }
        }
    }
    for (name, run) in results.runs.iter().rev() {
        let count = results.cells.values().filter(|seen| seen.run == *name).count();
        writeln!(text, "\n{name}, {count} cells: remoteboot {}\n", run.remoteboot)
            .expect("a string");
        text += "| what | version |\n| --- | --- |\n";
        for (what, version) in &run.versions {
            writeln!(text, "| {what} | {version} |").expect("a string");
        }
        for ipxe in heard.get(name.as_str()).into_iter().flatten() {
            writeln!(text, "| iPXE, as it says itself | {ipxe} |").expect("a string");
        }
    }
    text
}
