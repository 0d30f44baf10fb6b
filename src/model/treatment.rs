//! What becomes of a machine that no instance claims.

use serde::{Deserialize, Serialize};

/// What a machine that no instance claims is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Treatment {
    /// Nothing of what it could boot, and it becomes no machine that is known.
    Ignore,
    /// To wait in the hold script, for a Provision.
    Hold,
    /// To boot from its own disk.
    Local,
    /// To boot the image of a rule.
    Image,
}

impl Treatment {
    /// Its name in the configuration and towards people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Hold => "hold",
            Self::Local => "local",
            Self::Image => "image",
        }
    }
}
