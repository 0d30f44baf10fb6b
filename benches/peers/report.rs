//! Many runs of several servers become a table: medians, and the ratio of ours to
//! each other in the same round, with its spread.

use std::{fs, path::Path};

use crate::server::Kind;

/// What is printed, and kept.
#[derive(Default)]
pub(crate) struct Out {
    text: String,
}

impl Out {
    pub(crate) fn say(&mut self, text: &str) {
        println!("{text}");
        self.text += text;
        self.text.push('\n');
    }

    /// Puts it into docs/benchmarks.md, between the lines that are there for it.
    pub(crate) fn keep(&self) {
        const BEGIN: &str = "<!-- make bench: from here -->";
        const END: &str = "<!-- make bench: to here -->";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks.md");
        let document = fs::read_to_string(&path).expect("the document is there");
        let (before, rest) = document.split_once(BEGIN).expect("the line is there");
        let (_, after) = rest.split_once(END).expect("the line is there");
        let document = format!("{before}{BEGIN}\n\n{}\n{END}{after}", self.text);
        fs::write(&path, document).expect("written");
    }
}

/// One run of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) kind: Kind,
    pub(crate) round: usize,
    /// A second; what is compared.
    pub(crate) rate: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Seconds of CPU for ten thousand.
    pub(crate) cpu: f64,
    /// MB.
    pub(crate) memory: f64,
    /// Seconds.
    pub(crate) ready: f64,
    pub(crate) asked_again: u64,
}

/// The value of the middle, the least and the greatest.
pub(crate) fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let (first, last) = (values.first(), values.last());
    let or_none = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
    let (upper, lower) = (values.len() / 2, values.len().saturating_sub(1) / 2);
    let middle = f64::midpoint(or_none(values.get(upper)), or_none(values.get(lower)));
    (middle, or_none(first), or_none(last))
}

/// The table, in Markdown.
pub(crate) fn table(kinds: &[Kind], runs: &[Run]) -> String {
    table_of(kinds, runs, "CPU s for 10,000")
}

/// The same where CPU seconds are for something else.
pub(crate) fn table_of(kinds: &[Kind], runs: &[Run], cpu: &str) -> String {
    let mut text = format!(
        "| server | a second | remoteboot to it (least to greatest) | p50 ms | p99 ms | {cpu} | MB \
         | ready after s | asked again |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for kind in kinds {
        let of = |value: fn(&Run) -> f64| {
            spread(runs.iter().filter(|run| run.kind == *kind).map(value).collect()).0
        };
        let ratios = runs.iter().filter(|run| run.kind == *kind).filter_map(|run| {
            let is_ours = |ours: &&Run| ours.kind == Kind::Ours && ours.round == run.round;
            Some(runs.iter().find(is_ours)?.rate / run.rate)
        });
        let (ratio, least, greatest) = spread(ratios.collect());
        let asked_again: u64 =
            runs.iter().filter(|run| run.kind == *kind).map(|run| run.asked_again).sum();
        text += &format!(
            "| {} | {:.0} | {ratio:.2} ({least:.2} to {greatest:.2}) | {:.2} | {:.2} | {:.2} | \
             {:.1} | {:.3} | {asked_again} |\n",
            kind.name(),
            of(|run| run.rate),
            of(|run| run.p50),
            of(|run| run.p99),
            of(|run| run.cpu),
            of(|run| run.memory),
            of(|run| run.ready),
        );
    }
    text
}
