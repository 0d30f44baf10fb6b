//! What a machine that asks by DHCP is to be offered, and what its asking shows of
//! it. Both families ask here, so that they say the same as its script will. Pure.

use std::net::IpAddr;

use super::{
    local::{asked, elsewhere, order, sent, way},
    rules::{Rules, Spot, Then},
    sighting::{Sighting, seen},
};
use crate::{
    model::{
        Architecture, BootWay, Change, Decision, Entry, EntryWay, Firmware, LocalBoot, Mac,
        Machine, Port, Proxied, Stage, Timestamp, Treatment,
    },
    state::State,
};

/// A machine that asks by DHCP for something to boot.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The card that it asks with.
    pub mac: Mac,
    /// An address of the network that it is on, for the rules.
    pub address: IpAddr,
    /// What asks.
    pub program: Program,
    /// What it says of its firmware, if it says it.
    pub firmware: Option<Firmware>,
    /// Its SMBIOS UUID, if it says it.
    pub uuid: Option<String>,
    /// The port of the switch that it is on, if a relay says it.
    pub port: Option<Port>,
    /// What its firmware is brought to by the form of a proxy's offer that it is told;
    /// nothing if it is told none.
    pub proxied: Option<Proxied>,
}

/// What of a machine asks by DHCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Its firmware, which boots this way.
    Firmware(BootWay),
    /// iPXE.
    Ipxe,
}

/// What a machine is to be offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// What its firmware boots, or the script of its iPXE.
    BootFile,
    /// No boot file, so that it goes on to its own disk.
    OwnDisk,
    /// No boot file: by rule it is none of ours.
    Ignored,
}

/// What this machine is to be offered.
#[must_use]
pub fn offer(state: &State, rules: &Rules, caller: Caller, now: Timestamp) -> Decision<Offer> {
    let Caller { mac, address, program, firmware, uuid, port, proxied } = caller;
    let known = state.machines.with_card(mac);
    let said = match firmware {
        // iPXE from undionly.kpxe repeats what the BIOS said, and so does UEFI.
        Some(Firmware::Known(architecture)) => Some(architecture),
        Some(Firmware::Unknown(_)) | None => None,
    };
    let spot = Spot { address, architecture: said.or(architecture_of(known)) };
    let (is_local, treatment) = match state.instance_of_card(mac) {
        Some(instance) => (instance.progress.boots_locally(instance.boot), None),
        None => match rules.unclaimed(known, spot) {
            Then::Ignore => return Decision { answer: Offer::Ignored, changes: ignored(known) },
            then => (*then == Then::Local, Some(then.treatment())),
        },
    };
    let stage = match program {
        Program::Firmware(_) => Stage::Firmware,
        Program::Ipxe => Stage::Ipxe,
    };
    let habits = known.map(|machine| machine.habits).unwrap_or_default();
    let order = order(rules, known, spot);
    let mut local = habits.local;
    if !is_local {
        local = elsewhere(local);
    } else if let Some(way) = entry_way(program, address, known) {
        local = asked(local, Entry { card: mac, way }, &order, now);
    }
    let way = way(local, &order);
    let answer = match program {
        Program::Firmware(_) if is_local && way == LocalBoot::NoOffer => {
            local = sent(local, way, now);
            Offer::OwnDisk
        }
        Program::Firmware(_) | Program::Ipxe => Offer::BootFile,
    };
    let mut learned = habits;
    learned.local = local;
    if let Some(proxied) = proxied.filter(|_| answer == Offer::BootFile) {
        learned.proxied = proxied;
    }
    let learned = (learned != habits).then_some(learned);
    let sighting = Sighting {
        architecture: said,
        uuid,
        port,
        learned,
        treatment,
        ..Sighting::new(mac, stage)
    };
    Decision { answer, changes: seen(state, sighting, now) }
}

fn architecture_of(known: Option<&Machine>) -> Option<Architecture> {
    known.and_then(|machine| machine.architecture)
}

/// A stranger that was known before there was the rule is not given out any more.
fn ignored(known: Option<&Machine>) -> Vec<Change> {
    let treatment = Some(Treatment::Ignore);
    let known = known.filter(|machine| machine.treatment != treatment);
    known
        .map(|machine| Change::Seen(Machine { treatment, ..machine.clone() }))
        .into_iter()
        .collect()
}

/// The entry of the firmware's boot order that this is; none if it is iPXE that the
/// firmware was given, which asks behind it.
fn entry_way(program: Program, address: IpAddr, known: Option<&Machine>) -> Option<EntryWay> {
    let stage = known.and_then(|machine| machine.stage);
    Some(match (program, address.is_ipv6()) {
        (Program::Firmware(BootWay::Pxe), false) => EntryWay::Pxe,
        (Program::Firmware(BootWay::Http), false) => EntryWay::Http,
        (Program::Firmware(BootWay::Pxe), true) => EntryWay::Pxe6,
        (Program::Firmware(BootWay::Http), true) => EntryWay::Http6,
        (Program::Ipxe, _) if matches!(stage, Some(Stage::Firmware | Stage::Ipxe)) => return None,
        (Program::Ipxe, false) => EntryWay::Ipxe,
        (Program::Ipxe, true) => EntryWay::Ipxe6,
    })
}
