//! How far a machine's firmware was brought to take the offers of a proxy.

use serde::{Deserialize, Serialize};

/// The forms of a proxy's offer, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// With discovery control (option 43): the boot file is in the offer.
    #[default]
    Offer,
    /// Without it: the firmware asks the boot server, on port 4011.
    BootServer,
    /// As the first, and what it asks the other server is answered, too: there is
    /// firmware that reads what it boots in an ACK alone.
    Acknowledge,
}

/// What was tried, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Proxied {
    /// The form that it is told.
    pub rung: Rung,
    /// DISCOVERs that were answered in this form and led no further, one after the
    /// other.
    pub vain: u8,
    /// That a round of each form was in vain since it last came further.
    pub is_deaf: bool,
}
