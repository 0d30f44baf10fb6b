//! DHCP for machines that boot (RFC 2131, 2132, 4578) and for the hosts beside them.
//!
//! A packet becomes a [`request::Request`] or is refused with a reason; the
//! request, the state and the time become an [`answer::Answer`] and changes;
//! the answer becomes a packet and a destination. Only [`serve`] has sockets,
//! and only [`link`] reaches machines that have no address yet.

pub mod answer;
mod boot_file;
mod door;
mod elsewhere;
mod ladder;
mod late;
mod layout;
mod lease;
mod link;
mod lookout;
mod options;
pub mod others;
mod overlay;
mod probe;
pub mod proxy;
pub mod reply;
pub mod request;
pub mod serve;
mod spread;
mod subnet;
mod survey;
#[cfg(test)]
mod testing;

use std::{net::Ipv4Addr, time::Duration};

use crate::{
    boot::Rules,
    model::{Profile, Subnets},
};

pub use survey::Survey;

/// Our part beside other servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Give addresses, and say what to boot.
    Server,
    /// Say what to boot; another server gives the addresses.
    Proxy,
}

/// How we look for other servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// What we ask.
    pub survey: Survey,
    /// How often.
    pub every: Duration,
}

/// What the room is told by the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether we give addresses.
    pub role: Role,
    /// The question who else serves, if we watch for that: it is none of a client's.
    pub watch: Option<Watch>,
    /// The networks that are served.
    pub subnets: Subnets,
    /// What machines of a kind are told over what their network says; the first that
    /// is for a machine is its own.
    pub profiles: Vec<Profile>,
    /// Where machines fetch boot programs by TFTP, if somebody serves them.
    pub tftp: Option<Ipv4Addr>,
    /// The authority of the HTTP server with scripts, if there is one:
    /// `address` or `address:port`.
    pub authority: Option<String>,
    /// What becomes of machines that no instance claims, and how machines are sent to
    /// their disks.
    pub rules: Rules,
    /// Whether we ask on the network if somebody uses an address, before it is
    /// offered to a machine for the first time.
    pub probe: bool,
    /// How long an address that somebody else uses is given to nobody.
    pub decline_hold: Duration,
    /// How many boots may begin in a second; 0 is any number.
    pub spread: u32,
}

/// How long an offered address is kept back: UEFI takes 3.8 s from OFFER to
/// REQUEST, iPXE with a slow link longer.
pub const OFFER_HOLD: Duration = Duration::from_secs(60);
