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

use super::{
    loaders::{labels, names},
    overlay_table::{OverlayTable, Wrong},
};
use crate::model::{
    Architecture, Catalogue, Listed, LocalBoot, MOST_CARDS, Mac, Overlay, Port, Rate, RelayId,
    Slot, Tags, VlanId, check_label, check_note,
};

/// The inventory as it was when the configuration was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The file, to be read again.
    pub path: PathBuf,
    /// The machines in it, no card twice.
    pub machines: Vec<Listed>,
    /// The places behind ports, no port twice.
    pub slots: Vec<Slot>,
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
    /// A card or a port is in it twice.
    #[error("line {}, column {}: {what} is listed twice, first in line {}", second.0, second.1, first.0)]
    Twice {
        /// The card, or the IDs of the port.
        what: String,
        /// Line and column of the first.
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
pub fn read(path: &Path, programs: &Catalogue) -> Result<Inventory, InventoryError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| InventoryError::File { path: path.to_owned(), source })?;
    let (machines, slots) = parse(&text, programs)?;
    Ok(Inventory { path: path.to_owned(), machines, slots })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    machine: Vec<Table>,
    #[serde(default)]
    slot: Vec<Spanned<SlotTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SlotTable {
    #[serde(deserialize_with = "slot_name")]
    name: String,
    #[serde(rename = "remote-id")]
    remote_id: Option<RelayId>,
    #[serde(rename = "circuit-id")]
    circuit_id: Option<RelayId>,
}

fn slot_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    let problem = |problem: String| D::Error::custom(format!("name: {problem}"));
    match check_label(&name, "") {
        Ok(()) => Ok(name),
        Err(_) if name.is_empty() => Err(problem("it is empty".to_owned())),
        Err(_) => Err(problem(format!(
            "{name:?} is too long, or has a blank, an equals sign or a control character in it"
        ))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    mac: Spanned<Mac>,
    #[serde(default)]
    macs: Vec<Spanned<Mac>>,
    arch: Option<Architecture>,
    #[serde(default, deserialize_with = "labels")]
    labels: Tags,
    #[serde(default, deserialize_with = "note")]
    note: Option<String>,
    #[serde(rename = "local-boot")]
    local_boot: Option<LocalBoot>,
    vlan: Option<VlanId>,
    pace: Option<Rate>,
    loader: Option<Spanned<Loader>>,
    dhcp: Option<Spanned<OverlayTable>>,
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

fn parse(text: &str, programs: &Catalogue) -> Result<(Vec<Listed>, Vec<Slot>), InventoryError> {
    let file: File = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        InventoryError::Invalid { place: place(text, at), reason: error.message().to_owned() }
    })?;
    let mut places = HashMap::new();
    for table in &file.machine {
        let own = table.mac.get_ref();
        // Its name may stand among all its cards, too.
        let further = table.macs.iter().filter(|card| card.get_ref() != own);
        for card in [&table.mac].into_iter().chain(further) {
            let second = place(text, card.span().start);
            if let Some(first) = places.insert(*card.get_ref(), second) {
                let what = card.get_ref().to_string();
                return Err(InventoryError::Twice { what, first, second });
            }
        }
        if table.macs.len() > MOST_CARDS {
            let reason = format!("a machine may have {MOST_CARDS} cards at most");
            return Err(InventoryError::Invalid { place: places[own], reason });
        }
    }
    let slots = slots(text, file.slot)?;
    let machines = file.machine.into_iter().map(|table| listed(text, table, programs));
    Ok((machines.collect::<Result<_, _>>()?, slots))
}

fn listed(text: &str, table: Table, programs: &Catalogue) -> Result<Listed, InventoryError> {
    let Table { mac, macs, arch, labels, note, local_boot, vlan, pace, loader, dhcp } = table;
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
    let mut overlay = Overlay::default();
    if let Some(table) = dhcp {
        let (said, wrong) = table.get_ref().overlay();
        if let Some(Wrong { key, value, fault }) = wrong.into_iter().next() {
            return Err(invalid(table.span(), format!("dhcp: `{key} = {value}` {fault}")));
        }
        overlay = said;
    }
    let dhcp = overlay;
    let mac = mac.into_inner();
    let cards = macs.into_iter().map(Spanned::into_inner).filter(|card| *card != mac).collect();
    Ok(Listed {
        mac,
        cards,
        architecture: arch,
        labels,
        note,
        local_boot,
        vlan,
        pace,
        loaders,
        dhcp,
    })
}

/// Two ports may have one name, of a machine with two cards; not two names one port.
fn slots(text: &str, tables: Vec<Spanned<SlotTable>>) -> Result<Vec<Slot>, InventoryError> {
    let mut places = HashMap::new();
    let mut slots = Vec::new();
    for table in tables {
        let second = place(text, table.span().start);
        let SlotTable { name, remote_id, circuit_id } = table.into_inner();
        let port = Port { remote_id, circuit_id };
        if port == Port::default() {
            let reason = format!("slot {name}: it needs a remote-id, a circuit-id or both");
            return Err(InventoryError::Invalid { place: second, reason });
        }
        if let Some(first) = places.insert(port.clone(), second) {
            return Err(InventoryError::Twice { what: port.to_string(), first, second });
        }
        slots.push(Slot { name, port });
    }
    Ok(slots)
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
    fn parsed(text: &str) -> Result<(Vec<Listed>, Vec<Slot>), InventoryError> {
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
        let (machines, slots) =
            parsed(include_str!("../../examples/inventory.toml")).expect("it is right");
        assert!(machines.len() > 2);
        assert!(machines.iter().any(|one| one.cards.len() == 1), "its name is none of them");
        let names: Vec<_> = slots.iter().map(|slot| slot.name.as_str()).collect();
        assert_eq!(names, ["rack1-12", "rack1-12", "rack1-13"]);
        let full = machines.iter().find(|one| one.note.is_some()).expect("one has all");
        assert!(full.architecture.is_some() && !full.labels.is_empty());
        assert!(full.vlan.is_some() && full.pace.is_some());
        let bare = machines.iter().find(|one| one.architecture.is_none()).expect("one is bare");
        assert!(bare.labels.is_empty() && bare.note.is_none());
    }

    #[test]
    fn an_empty_file_lists_nothing_and_addresses_are_taken_in_every_spelling() {
        assert_eq!(parsed("# none yet\n").expect("right"), (vec![], vec![]));
        let text = "[[machine]]\nmac = '52-54-00-AA-01-01'\n[[machine]]\nmac = '525400aa0102'\n";
        let macs: Vec<String> =
            parsed(text).expect("right").0.iter().map(|one| one.mac.to_string()).collect();
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
            (
                "[[machine]]\nmac = '525400aa0101'\nlocal-boot = 'quit'",
                "line 3, column 14",
                "`no-offer`, `exit`, `exit-0`, `sanboot`",
            ),
            (
                "[[machine]]\nmac = '525400aa0101'\nvlan = 4095",
                "line 3, column 8",
                "4095 is no VLAN",
            ),
            ("[[machine]]\nmac = '525400aa0101'\npace = 'fast'", "line 3, column 8", "`fast`"),
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
                "[[machine]]\nmac = '525400aa0101'\ndhcp = { mtu = 60 }",
                "line 3, column 8",
                "dhcp: `mtu = 60` is not a whole number from 68",
            ),
            (
                "[[machine]]\nmac = '525400aa0101'\ndhcp = { hostname = 'a b' }",
                "line 3, column 21",
                "`a b` is not a host name",
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
            (
                "[[machine]]\nmac = '525400aa0101'\n[[machine]]\nmac = '525400aa0102'\n\
                 macs = ['525400aa0102', '525400aa0101']\n",
                "line 5, column 25",
                "52:54:00:aa:01:01 is listed twice, first in line 2",
            ),
            ("[[slot]]\nname = 'a'\n", "line 1, column 1", "slot a: it needs a remote-id"),
            ("[[slot]]\nname = 'a b'\n", "line 2, column 8", "has a blank"),
            ("[[slot]]\nname = ''\n", "line 2, column 8", "name: it is empty"),
            ("[[slot]]\nname = 'a'\nremote-id = '0x1'", "line 3, column 13", "`0x1`"),
            ("[[slot]]\nname = 'a'\nport = 'x'", "line 3, column 1", "`port`"),
            (
                "[[slot]]\nname = 'a'\ncircuit-id = '0x41'\n\
                 [[slot]]\nname = 'b'\ncircuit-id = 'A'\n",
                "line 4, column 1",
                "circuit-id A is listed twice, first in line 1",
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
        assert_eq!(machines.0[0].loaders, ["ipxe.efi"]);
        assert_eq!(machines.0[1].loaders, ["snponly.efi", "undionly.kpxe"]);
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
