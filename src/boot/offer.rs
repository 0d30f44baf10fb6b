//! What a machine that asks by DHCP is to be offered, and what its asking shows of
//! it. Both families ask here, so that they say the same as its script will. Pure.

use std::net::IpAddr;

use super::{
    loader::{Applicant, Choice, NoBootFile, Told, choose},
    local::{asked, elsewhere, order, sent, way},
    rules::{Rules, Spot, Then},
    sighting::{Sighting, seen},
};
use crate::{
    model::{
        Architecture, BootWay, Catalogue, Change, Client, Decision, Entry, EntryWay, Firmware,
        LocalBoot, Machine, Port, Proxied, Stage, Timestamp, Treatment,
    },
    state::State,
};

/// A machine that asks by DHCP for something to boot.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The card that it asks with, what asks, and what that is.
    pub applicant: Applicant,
    /// An address of the network that it is on, for the rules.
    pub address: IpAddr,
    /// Its SMBIOS UUID, if it says it.
    pub uuid: Option<String>,
    /// The port of the switch that it is on, if a relay says it.
    pub port: Option<Port>,
    /// What its firmware is brought to by the form of a proxy's offer that it is told;
    /// nothing if it is told none.
    pub proxied: Option<Proxied>,
}

/// What this machine is to be offered, and what its asking shows of it.
#[must_use]
pub fn offer(
    state: &State,
    (rules, catalogue): (&Rules, &Catalogue),
    caller: Caller,
    now: Timestamp,
) -> Decision<Choice> {
    let Caller { applicant, address, uuid, port, proxied } = caller;
    let mac = applicant.mac;
    let firmware = match applicant.client {
        Client::Host => return Decision::only(Choice::nothing(NoBootFile::Host)),
        Client::Firmware { firmware, .. } => Some(firmware),
        Client::Ipxe { firmware } => firmware,
    };
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
            Then::Ignore => {
                let answer = Choice::nothing(NoBootFile::Ignored);
                return Decision { answer, changes: ignored(known) };
            }
            then => (*then == Then::Local, Some(then.treatment())),
        },
    };
    let habits = known.map(|machine| (*machine.habits).clone()).unwrap_or_default();
    let order = order(rules, known, spot);
    let mut local = habits.local;
    if !is_local {
        local = elsewhere(local);
    } else if let Some(way) = entry_way(applicant.client, address, known) {
        local = asked(local, Entry { card: mac, way }, &order, now);
    }
    let way = way(local, &order);
    let is_firmware = matches!(applicant.client, Client::Firmware { .. });
    let answer = if is_firmware && is_local && way == LocalBoot::NoOffer {
        local = sent(local, way, now);
        Choice::nothing(NoBootFile::OwnDisk)
    } else {
        choose(state, catalogue, &applicant, now)
    };
    let Some(stage) = stage(applicant.client, &answer) else { return Decision::only(answer) };
    let mut learned = habits.clone();
    learned.local = local;
    if let Some(tried) = &answer.learned {
        learned.loader = Some(tried.clone());
    }
    if let Some(proxied) = proxied.filter(|_| answer.told.is_ok()) {
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

/// How far the boot has come with a request that is answered so; nothing if it is
/// where it was.
fn stage(client: Client, choice: &Choice) -> Option<Stage> {
    match (client, &choice.told) {
        // It is where it was: in the boot in which it has fetched a program.
        (Client::Host, _) | (_, Err(NoBootFile::LacksAgain(_))) => None,
        // iPXE that is told a program is to be left behind, as firmware is.
        (Client::Firmware { .. }, _) | (Client::Ipxe { .. }, Ok(Told::Program { .. })) => {
            Some(Stage::Firmware)
        }
        (Client::Ipxe { .. }, Ok(Told::Script) | Err(_)) => Some(Stage::Ipxe),
    }
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
fn entry_way(client: Client, address: IpAddr, known: Option<&Machine>) -> Option<EntryWay> {
    let stage = known.and_then(|machine| machine.stage);
    let is_behind = matches!(stage, Some(Stage::Firmware | Stage::Loader | Stage::Ipxe));
    Some(match (client, address.is_ipv6()) {
        (Client::Host, _) => return None,
        (Client::Firmware { way: BootWay::Pxe, .. }, false) => EntryWay::Pxe,
        (Client::Firmware { way: BootWay::Http, .. }, false) => EntryWay::Http,
        (Client::Firmware { way: BootWay::Pxe, .. }, true) => EntryWay::Pxe6,
        (Client::Firmware { way: BootWay::Http, .. }, true) => EntryWay::Http6,
        (Client::Ipxe { .. }, _) if is_behind => return None,
        (Client::Ipxe { .. }, false) => EntryWay::Ipxe,
        (Client::Ipxe { .. }, true) => EntryWay::Ipxe6,
    })
}
