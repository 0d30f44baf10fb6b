//! Which boot program a machine is told, or why none. The one place that says so,
//! for DHCP over IPv4 and IPv6. Pure.
//!
//! The first of its order is told until it was fetched twice and nothing came of it;
//! then the next one, round and round. What brought iPXE is kept. iPXE itself is told
//! its script, and a boot program only if it cannot do what it must, and once.

use std::{fmt, time::Duration};

use ipnet::IpNet;

use super::{SHORTEST_BOOT, Sighting, seen};
use crate::{
    model::{
        BootWay, Catalogue, Change, Client, Firmware, IpxeFeatures, Mac, Machine, Stage, Timestamp,
        Tried, refusal,
    },
    state::State,
};

/// A boot program that was fetched so often in a row without bringing iPXE is in vain.
const MOST_VAIN: u8 = 2;

/// No chain of boot programs takes longer from one to the next: who asks later has
/// been started again.
const SAME_BOOT: Duration = SHORTEST_BOOT;

/// Who wants to boot, as far as the choice goes.
#[derive(Debug, Clone, Copy)]
pub struct Applicant {
    /// The card that it asks with.
    pub mac: Mac,
    /// What it is.
    pub client: Client,
    /// What it can do, if it is iPXE.
    pub features: IpxeFeatures,
    /// The network that it is on.
    pub network: Option<IpNet>,
    /// Whether this request begins a conversation (DISCOVER, Solicit): what follows is
    /// told the same.
    pub begins: bool,
}

/// What a machine is told to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// This program of the catalogue.
    Program {
        /// By TFTP or by a URL.
        way: BootWay,
        /// Its name.
        name: String,
    },
    /// Its script.
    Script,
}

/// Why a client that wants to boot is told nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoBootFile {
    /// It does not want to boot.
    #[error("it does not want to boot")]
    Host,
    /// Nothing tells its card, so no instance can be for it.
    #[error(
        "neither its address nor its DUID nor a relay tells its MAC, so it is no machine that is known"
    )]
    NoMac,
    /// It boots from its own disk, and its firmware goes there when it is told of none.
    #[error("it boots from its own disk")]
    OwnDisk,
    /// By a rule for machines that no instance claims, it is none of ours.
    #[error("it is left alone by rule")]
    Ignored,
    /// No boot program is made for its architecture number.
    #[error("{}", refusal(*.0))]
    UnknownArchitecture(u16),
    /// No program for its architecture is installed.
    #[error("no boot program for {0} is installed")]
    NoProgram(&'static str),
    /// TFTP is not served here.
    #[error("TFTP is not enabled, and PXE firmware knows nothing else")]
    NoTftp,
    /// HTTP is not served here.
    #[error("HTTP is not enabled")]
    NoHttp,
    /// It is iPXE that lacks this, and has fetched a boot program in this boot.
    #[error(
        "it is iPXE without {0} although it fetched a boot program in this boot: none is given a \
         second time (depth 2)"
    )]
    LacksAgain(&'static str),
}

/// What is told, and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What the machine boots.
    pub told: Result<Told, NoBootFile>,
    /// What an operator should know.
    pub remark: Option<Remark>,
    /// What is known of its boot program now; nothing if it is nothing new.
    pub learned: Option<Tried>,
}

impl Choice {
    /// Nothing, for this reason.
    #[must_use]
    pub const fn nothing(why: NoBootFile) -> Self {
        Self { told: Err(why), remark: None, learned: None }
    }
}

/// What an operator should know of a choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// Another boot program is tried.
    Next {
        /// The one that was in vain.
        before: String,
        /// The one that is told now.
        after: String,
    },
    /// There is no other to try.
    NoOther(String),
    /// iPXE is told a boot program, since it lacks this.
    Chained {
        /// What it lacks.
        lacks: &'static str,
        /// What it is told.
        name: String,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Next { before, after } => write!(
                formatter,
                "{before} was fetched twice and never came back as iPXE: trying {after}"
            ),
            Self::NoOther(name) => write!(
                formatter,
                "{name} was fetched twice and never came back as iPXE, and there is no other to try"
            ),
            Self::Chained { lacks, name } => {
                write!(formatter, "its iPXE has no {lacks}: it is given {name}, once (depth 1)")
            }
        }
    }
}

/// What this machine is told to boot.
#[must_use]
pub fn choose(
    state: &State,
    catalogue: &Catalogue,
    applicant: &Applicant,
    now: Timestamp,
) -> Choice {
    let machine = state.machines.with_card(applicant.mac);
    let plain = |told| Choice { told, remark: None, learned: None };
    let (way, firmware, lacks) = match applicant.client {
        Client::Host => return plain(Err(NoBootFile::Host)),
        Client::Ipxe { firmware } => match applicant.features.lacks(firmware) {
            None => return plain(Ok(Told::Script)),
            Some(lacks) if has_fetched(machine, now) => {
                return plain(Err(NoBootFile::LacksAgain(lacks)));
            }
            // Such a one says nothing of HTTP; and old ones nothing of what they are.
            Some(lacks) => {
                (BootWay::Pxe, firmware.unwrap_or(Firmware::from_number(0)), Some(lacks))
            }
        },
        Client::Firmware { way, firmware } => (way, firmware, None),
    };
    let architecture = match firmware {
        Firmware::Known(architecture) => architecture,
        Firmware::Unknown(number) => return plain(Err(NoBootFile::UnknownArchitecture(number))),
    };
    let order = catalogue.order(architecture, (machine, applicant.network));
    match turn(&order, machine, applicant.begins) {
        None => plain(Err(NoBootFile::NoProgram(architecture.name()))),
        Some((name, tried, remark)) => {
            let chained = lacks.filter(|_| applicant.begins);
            let chained = chained.map(|lacks| Remark::Chained { lacks, name: name.clone() });
            Choice {
                told: Ok(Told::Program { way, name }),
                remark: remark.or(chained),
                learned: tried,
            }
        }
    }
}

/// Whether it has fetched a boot program in the boot that it is in.
fn has_fetched(machine: Option<&Machine>, now: Timestamp) -> bool {
    machine.is_some_and(|machine| {
        let is_recent = machine.last_seen.is_some_and(|last| now.since(last) < SAME_BOOT);
        machine.stage == Some(Stage::Loader) && is_recent
    })
}

/// The program whose turn it is, what is to be remembered of it, and what is to be
/// said; nothing if there is none.
fn turn(
    order: &[&str],
    machine: Option<&Machine>,
    begins: bool,
) -> Option<(String, Option<Tried>, Option<Remark>)> {
    let tried = machine.and_then(|machine| machine.habits.loader.as_ref());
    let known = tried
        .and_then(|tried| Some((order.iter().position(|name| *name == tried.name)?, tried.vain)));
    let (place, vain) = known.unwrap_or_default();
    let name = (*order.get(place)?).to_owned();
    // Firmware asks, and what it had fetched has not come back in between.
    let is_vain = begins && machine.is_some_and(|machine| machine.stage == Some(Stage::Loader));
    if !is_vain {
        return Some((name, None, None));
    }
    let vain = vain.saturating_add(1);
    let tried = Tried { name: name.clone(), vain };
    if vain < MOST_VAIN {
        return Some((name, Some(tried), None));
    }
    match order.get((place + 1) % order.len()) {
        Some(after) if *after != name => {
            let tried = Tried { name: (*after).to_owned(), vain: 0 };
            let remark = Remark::Next { before: name, after: tried.name.clone() };
            Some((tried.name.clone(), Some(tried), Some(remark)))
        }
        // Said once: it may be a program that is no iPXE, and does well.
        Some(_) | None => {
            let remark = (vain == MOST_VAIN).then(|| Remark::NoOther(name.clone()));
            Some((name, Some(tried), remark))
        }
    }
}

/// What it shows that a machine has fetched the whole of a boot program.
#[must_use]
pub fn fetched(state: &State, mac: Mac, now: Timestamp) -> Vec<Change> {
    // Whatever runs already may fetch what it likes.
    let stage = state.machines.with_card(mac).and_then(|machine| machine.stage);
    if stage != Some(Stage::Firmware) {
        return Vec::new();
    }
    seen(state, Sighting::new(mac, Stage::Loader), now)
}

#[cfg(test)]
mod tests;
