//! The one policy: what shall this machine do next, and who is it that asks.
//!
//! DHCP, TFTP and HTTP all ask here, so that a machine hears the same through
//! every door. Pure; knows `state` and `model` and nothing else of ours.

pub mod cmdline;
mod identity;
mod script;
mod sighting;

use crate::{
    model::{Image, Instance, Mac},
    state::State,
};
pub use identity::{Addressing, Claim, Imposter, Visitor, identify};
pub use script::{Asker, Prelude, Script, base_name, script_for};
pub use sighting::{Sighting, seen};

/// What is the same for all machines, from the configuration.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What machines boot that no instance claims; without it they wait.
    pub unclaimed: Option<UnclaimedImage>,
    /// The authority (`address` or `address:port`) under which machines reach
    /// our HTTP server.
    pub authority: String,
    /// The host part of the authority: `{{ server }}` in a command line.
    pub server: std::net::Ipv4Addr,
}

/// The image of the command line's three arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnclaimedImage {
    /// The file of the kernel.
    pub kernel: std::path::PathBuf,
    /// The file of the initrd.
    pub initrd: std::path::PathBuf,
    /// The kernel's command line, a template as in [`Image::cmdline`].
    pub cmdline: String,
}

/// What a machine shall do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next<'a> {
    /// Boot what its instance says.
    Instance(&'a Instance),
    /// Boot what all machines boot that no instance claims.
    Unclaimed(&'a UnclaimedImage),
    /// Wait, and ask again.
    Hold,
}

impl<'a> Next<'a> {
    /// The image of the instance, if it boots one.
    #[must_use]
    pub const fn image(&self) -> Option<&'a Image> {
        match self {
            Self::Instance(instance) => Some(&instance.image),
            Self::Unclaimed(_) | Self::Hold => None,
        }
    }
}

/// What this machine shall do next.
#[must_use]
pub fn next<'a>(state: &'a State, policy: &'a Policy, mac: Mac) -> Next<'a> {
    if let Some(instance) = state.instances.of_machine(mac) {
        return Next::Instance(instance);
    }
    policy.unclaimed.as_ref().map_or(Next::Hold, Next::Unclaimed)
}
