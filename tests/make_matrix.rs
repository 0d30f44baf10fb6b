//! `make matrix`: boots the cells of the firmware matrix and writes
//! `docs/firmware-matrix.md`. The command line says which: those whose names have all
//! of its words (`arm64 kea`), or all of any of several lists of words (`arm64 kea,
//! bios`); with `--new` only those of them that were never run. `--document` boots
//! nothing, and writes the document anew from what was seen before. No test: its end
//! tells whether a cell fails that is not known to.

mod cells;
mod lab;

use std::{
    process::ExitCode,
    sync::{Mutex, PoisonError},
    time::{Instant, SystemTime},
};

use cells::{
    Cell, boot, real,
    results::{Attempt, Results, Seen},
    versions,
};

/// How many machines run at once; `MATRIX_JOBS` says otherwise.
const JOBS: usize = 2;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words == ["--document"] {
        Results::read().write();
        return ExitCode::SUCCESS;
    }
    let images = lab::cache().join("images");
    if !images.is_dir() {
        eprintln!("there is no {}: run tests/lab/install", images.display());
        return ExitCode::FAILURE;
    }
    let cells = chosen(&words);
    if cells.is_empty() {
        eprintln!("no cell, or none that is new, has a name with `{}`", words.join(" "));
        return ExitCode::FAILURE;
    }
    // A panic of the lab is in the results, and once is enough.
    std::panic::set_hook(Box::new(|_| {}));
    let jobs = std::env::var("MATRIX_JOBS").ok().and_then(|text| text.parse().ok());
    println!("{} cells", cells.len());
    let begun = Instant::now();
    let failing = run(&cells, jobs.unwrap_or(JOBS));
    println!("{} cells in {:.0} s", cells.len(), begun.elapsed().as_secs_f32());
    let unknown: Vec<&Cell> = failing.iter().filter(|cell| cell.known().is_none()).collect();
    for cell in &failing {
        println!("fails: {cell}: {}", cell.known().unwrap_or("not known to"));
    }
    if unknown.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The cells that these words are of.
fn chosen(words: &[String]) -> Vec<Cell> {
    let (flags, words): (Vec<&String>, Vec<&String>) =
        words.iter().partition(|word| *word == "--new");
    let words: Vec<&str> = words.into_iter().map(String::as_str).collect();
    let lists = words.join(" ");
    let lists: Vec<&str> = lists.split(',').filter(|list| !list.trim().is_empty()).collect();
    let mut cells = if flags.is_empty() { real() } else { Results::read().unknown() };
    cells.retain(|cell| {
        let name = cell.to_string();
        let has_all = |list: &&str| list.split_whitespace().all(|word| name.contains(word));
        lists.is_empty() || lists.iter().any(has_all)
    });
    cells
}

/// Boots them, so many at once, and writes down each as it comes; those that fail.
fn run(cells: &[Cell], jobs: usize) -> Vec<Cell> {
    let mut results = Results::read();
    let now = results.begin(versions::now(), SystemTime::now());
    let (results, waiting) =
        (Mutex::new(results), Mutex::new(cells.iter().rev().copied().collect()));
    let failing = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(cell) = next(&waiting) {
                    let attempts = attempts(cell);
                    let seen = Seen { run: now.clone(), date: today(), attempts };
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    if !seen.is_well() {
                        failing.lock().unwrap_or_else(PoisonError::into_inner).push(cell);
                    }
                    results.add(cell, seen);
                    results.write();
                }
            });
        }
    });
    failing.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn next(waiting: &Mutex<Vec<Cell>>) -> Option<Cell> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

/// One, and a second one if the first fails.
fn attempts(cell: Cell) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    for _ in 0..2 {
        let attempt = boot::attempt(cell);
        println!("{cell}: {attempt:?}");
        let is_well = attempt.is_well();
        attempts.push(attempt);
        if is_well {
            break;
        }
    }
    attempts
}

/// For example `2026-11-24`.
fn today() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()[..10].to_owned()
}
