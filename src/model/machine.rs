//! A machine as it was seen on the network.

use serde::{Deserialize, Serialize};

use super::{Architecture, Mac, Timestamp};

/// A machine that asked to boot from the network. Hosts that only want an
/// address are none: nobody may reinstall them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The card that it asked with.
    pub mac: Mac,
    /// What its firmware says it is, once it has said so.
    pub architecture: Option<Architecture>,
    /// The SMBIOS UUID of option 97, lower case with hyphens, if it sent one.
    pub uuid: Option<String>,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it was last seen; written to disk once a minute at most.
    pub last_seen: Timestamp,
    /// Since when nobody has held it: the longest-waiting machine is taken first.
    pub waiting_since: Timestamp,
    /// How far its present boot has come.
    pub stage: Stage,
}

/// How far a boot has come, by what the machine asked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Its firmware asked by DHCP.
    Firmware,
    /// iPXE asked by DHCP.
    Ipxe,
    /// It was told to wait and ask again.
    Holding,
    /// It was given the script of its instance.
    Script,
    /// It fetched the kernel.
    Kernel,
}

impl Stage {
    /// Its name in Describe and in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Ipxe => "ipxe",
            Self::Holding => "holding",
            Self::Script => "script",
            Self::Kernel => "kernel",
        }
    }
}
