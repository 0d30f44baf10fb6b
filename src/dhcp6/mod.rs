//! DHCP for machines that boot over IPv6 (RFC 8415, 5970), and for the hosts
//! beside them.
//!
//! The same path as over IPv4: a packet becomes a [`request::Request`] or is
//! refused with a reason; the request, the state and the time become an
//! [`answer::Answer`] and changes; the answer becomes a packet. Routers and
//! prefixes are not told here: those are the router's to advertise.

pub mod answer;
mod boot_file;
mod client;
mod lease;
pub mod reply;
pub mod request;
pub mod serve;
pub mod server_id;
#[cfg(test)]
mod testing;

use std::net::Ipv6Addr;

use crate::{
    boot::Rules,
    model::{Duid, Seconds, Subnet6},
};

/// What the room is told by the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Who we are: option 2 of all that we say.
    pub server_id: Duid,
    /// Our own address; clients that no relay speaks for are in its network.
    pub server: Ipv6Addr,
    /// The networks that are served.
    pub subnets: Vec<Subnet6>,
    /// The name servers, first asked first (RFC 3646 §3).
    pub dns: Vec<Ipv6Addr>,
    /// The domains that names are looked up in, first searched first (RFC 3646 §4).
    pub search: Vec<String>,
    /// The time servers (RFC 5908 §4.1).
    pub ntp: Vec<Ipv6Addr>,
    /// How long an address is leased: its valid and its preferred lifetime.
    pub lease_time: Seconds,
    /// The host of the TFTP server in URLs, if there is one: an address in brackets.
    pub tftp: Option<String>,
    /// The authority of the HTTP server with scripts, if there is one:
    /// `[address]` or `[address]:port`.
    pub authority: Option<String>,
    /// What becomes of machines that no instance claims, and how machines are sent to
    /// their disks.
    pub rules: Rules,
}

impl Settings {
    /// The network that this address is in, if it is served.
    #[must_use]
    pub fn subnet_of(&self, address: Ipv6Addr) -> Option<&Subnet6> {
        self.subnets.iter().find(|subnet| subnet.network.contains(&address))
    }
}

/// How long an advertised address is kept back for its client.
pub const OFFER_HOLD: std::time::Duration = std::time::Duration::from_secs(60);

/// How long an address that was given back is still its client's: UEFI gives it
/// back before it starts what it has loaded, and iPXE loads a kernel with it.
pub const RELEASE_HOLD: std::time::Duration = std::time::Duration::from_secs(15 * 60);

/// How long an address that somebody declined is given to nobody.
pub const DECLINE_HOLD: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
