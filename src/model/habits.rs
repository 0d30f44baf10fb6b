//! What was learned of a machine's firmware by trying.

use serde::{Deserialize, Serialize};

use super::{LocalHabit, Proxied, Rung, Usual};

/// What its firmware was found to take and to refuse. It is kept with the machine, so
/// that nothing of it must be found out again after a restart.
///
/// Each field's default is what a machine is told of which nothing was learned, and
/// a row that was written before a field was there is read with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Habits {
    /// Which form of a proxy's offer it takes.
    pub proxied: Proxied,
    /// How it is sent to its own disk.
    pub local: LocalHabit,
    /// The boot program that it is told of those in its order; the first if nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loader: Option<Tried>,
}

impl Usual for Habits {
    const USUAL: &'static Self = &Self {
        proxied: Proxied { rung: Rung::Offer, vain: 0, is_deaf: false },
        local: LocalHabit { way: None, works: None, told: None, entry: None, returns: 0 },
        loader: None,
    };
}

impl Habits {
    /// With what was learned otherwise, where nothing was.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        let Self { proxied, local, loader } = self;
        Self {
            proxied: known_or(proxied, other.proxied),
            local: known_or(local, other.local),
            loader: loader.or_else(|| other.loader.clone()),
        }
    }
}

/// A boot program, and how it went with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Its name in the catalogue.
    pub name: String,
    /// How often in a row it was fetched and never came back as iPXE.
    pub vain: u8,
}

fn known_or<T: PartialEq + Default>(own: T, other: T) -> T {
    if own == T::default() { other } else { own }
}
