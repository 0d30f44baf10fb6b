//! How a machine is sent to its own disk, and what of that its firmware was found
//! to take.

use serde::{Deserialize, Serialize};

use super::{Mac, Timestamp};

/// The ways to send a machine from the network to its own disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LocalBoot {
    /// Its firmware is told of no boot file. iPXE in a card's ROM is not asked for
    /// one, and gets a script in the way that is next for its firmware.
    NoOffer,
    /// iPXE ends with a failure: `exit 1`.
    Exit,
    /// iPXE ends as if it had succeeded: `exit 0`.
    #[serde(rename = "exit-0")]
    ExitZero,
    /// iPXE starts the first disk: `sanboot --drive 0x80`, and `exit 1` if that fails.
    Sanboot,
}

impl LocalBoot {
    /// Its name in the configuration and towards people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoOffer => "no-offer",
            Self::Exit => "exit",
            Self::ExitZero => "exit-0",
            Self::Sanboot => "sanboot",
        }
    }
}

/// A way by which firmware comes to the network: one entry of its boot order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The card.
    pub card: Mac,
    /// The protocol.
    pub way: EntryWay,
}

/// By which protocol an entry boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryWay {
    /// PXE.
    Pxe,
    /// UEFI HTTP Boot.
    Http,
    /// iPXE in the card's ROM.
    Ipxe,
    /// PXE over IPv6.
    Pxe6,
    /// UEFI HTTP Boot over IPv6.
    Http6,
    /// iPXE in the card's ROM, over IPv6.
    Ipxe6,
}

/// What was found out about sending a machine to its disk. How it is found out is
/// in `boot::local`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LocalHabit {
    /// The way that it is sent, since the ones before failed; none as long as the
    /// usual one of its firmware has not.
    pub way: Option<LocalBoot>,
    /// The way by which it came to its disk: it stayed away, or reported in.
    pub works: Option<LocalBoot>,
    /// How it was sent in its present start, and when last; none if it was not.
    pub told: Option<(LocalBoot, Timestamp)>,
    /// The entry that asked first in this start.
    pub entry: Option<Entry>,
    /// So many starts in a row it came back at once.
    pub returns: u8,
}
