//! What was seen of each cell, and when: `docs/firmware-matrix.json`, from which
//! the document is made. A cell that is not run keeps what was seen before.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::{Cell, all, real};

/// All results, and the runs that they are of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// By the moment at which the first of their kind began.
    pub(crate) runs: BTreeMap<String, Run>,
    /// By the cell's name.
    pub(crate) cells: BTreeMap<String, Seen>,
}

/// What booted what, in one `make matrix` or in several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The version of remoteboot and the commit of its source.
    pub(crate) remoteboot: String,
    /// Everything else, by its name.
    pub(crate) versions: BTreeMap<String, String>,
}

/// What was seen of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// In which run.
    pub(crate) run: String,
    /// The day, for example `2026-11-24`.
    pub(crate) date: String,
    /// One, or two if the first one failed.
    pub(crate) attempts: Vec<Attempt>,
}

/// What came of powering the machine on once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Attempt {
    /// It booted its own kernel and command line.
    Booted {
        /// Seconds from power-on to the word on the console.
        seconds: f32,
        /// Seconds from our first answer to the request for the script; none where
        /// we have no part in DHCP.
        to_script: Option<f32>,
        /// The version that the iPXE that ran says on the console.
        ipxe: String,
    },
    /// It was refused as it should be, with this reason in the log.
    Refused {
        /// Seconds from power-on.
        seconds: f32,
        /// The reason.
        why: String,
    },
    /// It did not do what it should.
    Failed {
        /// What was missing.
        why: String,
        /// The last lines of console and log.
        seen: Vec<String>,
    },
}

impl Attempt {
    pub(crate) fn is_well(&self) -> bool {
        matches!(self, Self::Booted { .. } | Self::Refused { .. })
    }
}

impl Seen {
    /// Whether the last attempt was what it should be.
    pub(crate) fn is_well(&self) -> bool {
        self.attempts.last().is_some_and(Attempt::is_well)
    }
}

impl Results {
    /// Those of the repository; none, if there are none yet.
    pub(crate) fn read() -> Self {
        let path = path("firmware-matrix.json");
        if !path.exists() {
            return Self::default();
        }
        let text = fs::read_to_string(&path).expect("docs/firmware-matrix.json can be read");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Writes them, and the document that is made of them.
    pub(crate) fn write(&self) {
        let text = serde_json::to_string_pretty(self).expect("it is JSON");
        fs::write(path("firmware-matrix.json"), text + "\n").expect("docs can be written");
        let document = super::document::of(self);
        fs::write(path("firmware-matrix.md"), document).expect("docs can be written");
    }

    /// Begins a run, and returns its name: that of an earlier one in which the same
    /// booted the same.
    pub(crate) fn begin(&mut self, run: Run, now: SystemTime) -> String {
        let same = self.runs.iter().find(|(_, known)| **known == run);
        let name = same.map(|(name, _)| name.clone());
        let name = name.unwrap_or_else(|| humantime::format_rfc3339_seconds(now).to_string());
        self.runs.insert(name.clone(), run);
        name
    }

    /// Takes what was seen of a cell, and forgets cells and runs that are no more.
    pub(crate) fn add(&mut self, cell: Cell, seen: Seen) {
        self.cells.insert(cell.to_string(), seen);
        let names: Vec<String> = all().iter().map(Cell::to_string).collect();
        self.cells.retain(|name, _| names.contains(name));
        let Self { runs, cells } = self;
        runs.retain(|name, _| cells.values().any(|seen| seen.run == *name));
    }

    pub(crate) fn of(&self, cell: Cell) -> Option<&Seen> {
        self.cells.get(&cell.to_string())
    }

    /// Cells that are to be booted and never were.
    pub(crate) fn unknown(&self) -> Vec<Cell> {
        real().into_iter().filter(|cell| self.of(*cell).is_none()).collect()
    }
}

/// A file of the documents.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}
