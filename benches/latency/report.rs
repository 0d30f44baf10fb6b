//! The runs as a table: medians, and the ratio of ours to each other in the same round.

use std::{fs, path::Path};

use crate::{Server, wire::Times};

/// Whether the server knew the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    First,
    Again,
}

impl Start {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::First => "its first start",
            Self::Again => "its next start",
        }
    }
}

/// One boot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) title: &'static str,
    pub(crate) server: Server,
    pub(crate) start: Start,
    pub(crate) round: usize,
    pub(crate) times: Times,
}

/// The median, the least and the greatest.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
    let middle = f64::midpoint(at(values.len() / 2), at(values.len().saturating_sub(1) / 2));
    (middle, at(0), at(values.len().saturating_sub(1)))
}

/// In Markdown.
pub(crate) fn table(runs: &[Run]) -> String {
    let mut text = String::from(
        "| machine | server | DISCOVER to its request for the script, s | remoteboot to it (least \
         to greatest) | the server's share, ms | its longest answer, ms | answers |\n\
         |---|---|--:|--:|--:|--:|--:|\n",
    );
    let mut told = Vec::new();
    for run in runs {
        let key = (run.title, run.start, run.server);
        if told.contains(&key) {
            continue;
        }
        told.push(key);
        let alike = |other: &&Run| other.title == run.title && other.start == run.start;
        let own = runs.iter().filter(alike).filter(|other| other.server == run.server);
        let own: Vec<&Run> = own.collect();
        let of =
            |value: fn(&Times) -> f64| spread(own.iter().map(|one| value(&one.times)).collect()).0;
        let ratios = own.iter().filter_map(|other| {
            let is_ours = |ours: &&Run| ours.server == Server::Ours && ours.round == other.round;
            let ours = runs.iter().filter(alike).find(is_ours)?;
            Some(ours.times.to_script.as_secs_f64() / other.times.to_script.as_secs_f64())
        });
        let (ratio, least, greatest) = spread(ratios.collect());
        text += &format!(
            "| {}, {} | {} | {:.2} | {ratio:.2} ({least:.2} to {greatest:.2}) | {:.2} | {:.2} | {:.0} |\n",
            run.title,
            run.start.name(),
            run.server.name(),
            of(|times| times.to_script.as_secs_f64()),
            of(|times| times.server.as_secs_f64() * 1000.0),
            of(|times| times.longest.as_secs_f64() * 1000.0),
            of(|times| f64::from(times.answers)),
        );
    }
    text
}

/// Puts it into docs/benchmarks.md, between the lines that are there for it.
pub(crate) fn keep(text: &str) {
    const BEGIN: &str = "<!-- latency: from here -->";
    const END: &str = "<!-- latency: to here -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks.md");
    let document = fs::read_to_string(&path).expect("the document is there");
    let (before, rest) = document.split_once(BEGIN).expect("the line is there");
    let (_, after) = rest.split_once(END).expect("the line is there");
    fs::write(&path, format!("{before}{BEGIN}\n\n{text}\n{END}{after}")).expect("written");
}
