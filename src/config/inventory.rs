//! The inventory: a TOML file of machines, with a `[[machine]]` table each. Read
//! when the daemon starts, and again when it is told to. Knows what the file may
//! look like, not what it changes.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, de::Error as _};
use toml::Spanned;

use super::loaders::{labels, names};
use crate::model::{Architecture, Catalogue, Listed, Mac, Tags, check_note};

/// The inventory as it was when the configuration was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The file, to be read again.
    pub path: PathBuf,
    /// The machines in it, none twice.
    pub machines: Vec<Listed>,
}

/// Why an inventory cannot be used. Nothing of it is used then.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It says something that makes no sense.
    #[error("line {}, column {}: {reason}", place.0, place.1)]
    Invalid {
        /// Line and column.
        place: (usize, usize),
        /// Why it makes no sense.
        reason: String,
    },
    /// A machine is in it twice.
    #[error("line {}, column {}: {mac} is listed twice, first in line {}", second.0, second.1, first.0)]
    Twice {
        /// The machine.
        mac: Mac,
        /// Line and column of its first address.
        first: (usize, usize),
        /// Line and column of the other one.
        second: (usize, usize),
    },
}

/// Reads the file. Its boot programs are to be in this catalogue.
///
/// # Errors
///
/// What is wrong with it.
pub fn read(path: &Path, programs: &Catalogue) -> Result<Vec<Listed>, InventoryError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| InventoryError::File { path: path.to_owned(), source })?;
    parse(&text, programs)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    machine: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    mac: Spanned<Mac>,
    arch: Option<Architecture>,
    #[serde(default, deserialize_with = "labels")]
    labels: Tags,
    #[serde(default, deserialize_with = "note")]
    note: Option<String>,
    loader: Option<Spanned<Loader>>,
}

/// The boot programs of a machine, the first choice first.
#[derive(Deserialize)]
#[serde(transparent)]
struct Loader(#[serde(deserialize_with = "names")] Vec<String>);

fn note<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let note = String::deserialize(from)?;
    check_note(&note).map_err(|problem| D::Error::custom(format!("note: {problem}")))?;
    Ok(Some(note))
}

fn parse(text: &str, programs: &Catalogue) -> Result<Vec<Listed>, InventoryError> {
    let file: File = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        InventoryError::Invalid { place: place(text, at), reason: error.message().to_owned() }
    })?;
    let mut places = HashMap::new();
    for table in &file.machine {
        let second = place(text, table.mac.span().start);
        if let Some(first) = places.insert(*table.mac.get_ref(), second) {
            return Err(InventoryError::Twice { mac: *table.mac.get_ref(), first, second });
        }
    }
    file.machine.into_iter().map(|table| listed(text, table, programs)).collect()
}

fn listed(text: &str, table: Table, programs: &Catalogue) -> Result<Listed, InventoryError> {
    let Table { mac, arch, labels, note, loader } = table;
    let invalid = |span: std::ops::Range<usize>, reason| InventoryError::Invalid {
        place: place(text, span.start),
        reason,
    };
    let mut loaders = Vec::new();
    if let Some(loader) = loader {
        let span = loader.span();
        loaders = loader.into_inner().0;
        for name in &loaders {
            programs.check(name, arch).map_err(|reason| invalid(span.clone(), reason))?;
        }
    }
    Ok(Listed { mac: mac.into_inner(), architecture: arch, labels, note, loaders })
}

/// Line and column of this byte, both from 1 on.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// With the boot programs that the example names.
    fn parsed(text: &str) -> Result<Vec<Listed>, InventoryError> {
        let program = |(architecture, name): (Architecture, &str)| {
            (architecture, name.to_owned(), bytes::Bytes::copy_from_slice(name.as_bytes()))
        };
        let programs = [
            (Architecture::X64Uefi, "ipxe.efi"),
            (Architecture::X64Uefi, "snponly.efi"),
            (Architecture::Bios, "undionly.kpxe"),
        ];
        parse(text, &Catalogue::new(programs.map(program)))
    }

    #[test]
    fn the_example_lists_machines_with_all_that_can_be_said_of_one() {
        let machines = parsed(include_str!("../../examples/inventory.toml")).expect("it is right");
        assert!(machines.len() > 2);
        let full = machines.iter().find(|one| one.note.is_some()).expect("one has all");
        assert!(full.architecture.is_some() && !full.labels.is_empty());
        let bare = machines.iter().find(|one| one.architecture.is_none()).expect("one is bare");
        assert!(bare.labels.is_empty() && bare.note.is_none());
    }

    #[test]
    fn an_empty_file_lists_nothing_and_addresses_are_taken_in_every_spelling() {
        assert_eq!(parsed("# none yet\n").expect("right"), []);
        let text = "[[machine]]\nmac = '52-54-00-AA-01-01'\n[[machine]]\nmac = '525400aa0102'\n";
        let macs: Vec<String> =
            parsed(text).expect("right").iter().map(|one| one.mac.to_string()).collect();
        assert_eq!(macs, ["52:54:00:aa:01:01", "52:54:00:aa:01:02"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_column() {
        let long = format!("[[machine]]\nmac = '525400aa0102'\nnote = '{}'", "x".repeat(201));
        for (text, place, said) in [
            ("[[machine]]\narch = 'bios'\n", "line 1, column 1", "missing field `mac`"),
            ("[[machine]]\nmac = 'rack1'\n", "line 2, column 7", "`rack1` is not a MAC"),
            ("[[machine]]\nmac = 'ff:ff:ff:ff:ff:ff'\n", "line 2, column 7", "one machine"),
            ("[[machine]]\nmac = '525400aa0101'\narch = 'amd64'", "line 3, column 8", "`amd64`"),
            ("[[machine]]\nmac = '525400aa0101'\narch = 'amd64'", "line 3, column 8", "x64-uefi"),
            ("[[machine]]\nmac = '525400aa0101'\nrack = 1", "line 3, column 1", "`rack`"),
            ("[[machines]]\nmac = '525400aa0101'", "line 1, column 3", "`machines`"),
            (
                "[[machine]]\nmac = '525400aa0101'\nlabels = {rack = 1}",
                "line 3, column 18",
                "string",
            ),
            (
                "[[machine]]\nmac = '525400aa0101'\nlabels = {'a b' = ''}",
                "line 3, column 10",
                "`a b`",
            ),
            (&long, "line 3, column 8", "note: it has 201 characters"),
            (
                "[[machine]]\nmac = '525400aa0101'\nloader = 'no.efi'",
                "line 3, column 10",
                "`no.efi`",
            ),
            (
                "[[machine]]\nmac = '525400aa0101'\nloader = []",
                "line 3, column 10",
                "names no boot",
            ),
            (
                "[[machine]]\nmac = '525400aa0101'\narch = 'x64-uefi'\n\
                 loader = ['ipxe.efi', 'undionly.kpxe']",
                "line 4, column 10",
                "`undionly.kpxe` is a program for bios, not for x64-uefi",
            ),
            (
                "[[machine]]\nmac = '525400aa0101'\nmac = '525400aa0102'",
                "line 3, column 1",
                "duplicate key",
            ),
            (
                "[[machine]]\nmac = '525400aa0101'\n\n[[machine]]\nmac = '52:54:00:AA:01:01'\n",
                "line 5, column 7",
                "52:54:00:aa:01:01 is listed twice, first in line 2",
            ),
        ] {
            let error = parsed(text).expect_err(said).to_string();
            assert!(error.contains(place) && error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_machine_may_have_boot_programs_of_its_own_in_the_order_of_choice() {
        let text = "[[machine]]\nmac = '525400aa0101'\nloader = 'ipxe.efi'\n\
                    [[machine]]\nmac = '525400aa0102'\nloader = ['snponly.efi', 'undionly.kpxe']\n";
        let machines = parsed(text).expect("right");
        assert_eq!(machines[0].loaders, ["ipxe.efi"]);
        assert_eq!(machines[1].loaders, ["snponly.efi", "undionly.kpxe"]);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("/nonexistent/inventory.toml"), &Catalogue::default())
            .expect_err("not there");
        assert!(error.to_string().contains("/nonexistent/inventory.toml"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String, at: usize) {
            let _ = parsed(&text);
            let _ = place(&text, at);
        }
    }
}
