//! The IPv6 networks that we serve, as they were configured and checked.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

/// A network of machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet6 {
    /// The network and the length of its prefix.
    pub network: Ipv6Net,
    /// What may be given to its clients; without it they are told everything but
    /// an address.
    pub pool: Option<Pool6>,
}

/// The addresses that may be given to clients: few enough to be kept in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool6 {
    /// The lowest of them.
    pub first: Ipv6Addr,
    /// The highest of them.
    pub last: Ipv6Addr,
    /// Those between that belong to somebody: the server, a name server.
    pub except: Vec<Ipv6Addr>,
}

impl Pool6 {
    /// Whether the address may be given to a client.
    #[must_use]
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        (self.first..=self.last).contains(&address) && !self.except.contains(&address)
    }

    /// All of them, lowest first.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv6Addr> + '_ {
        (u128::from(self.first)..=u128::from(self.last))
            .map(Ipv6Addr::from)
            .filter(|address| !self.except.contains(address))
    }
}
