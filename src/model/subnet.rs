//! The network that we serve, as it was configured and checked.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Pool, Seconds};

/// A network, who we are in it, and what its machines are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// The network and its mask.
    pub network: Ipv4Net,
    /// Our own address: the server identifier (RFC 2132 §9.7).
    pub server: Ipv4Addr,
    /// The router (RFC 2132 §3.5).
    pub gateway: Ipv4Addr,
    /// The name servers, first asked first (RFC 2132 §3.8).
    pub dns: Vec<Ipv4Addr>,
    /// What may be given to machines without a reservation.
    pub pool: Pool,
    /// How long an address is leased.
    pub lease_time: Seconds,
}

/// Why no instance can have an address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unreservable {
    /// It is not in the network that we serve.
    #[error("{address} is not in {network}, the network that is served")]
    Elsewhere {
        /// The address.
        address: Ipv4Addr,
        /// The network.
        network: Ipv4Net,
    },
    /// It is the network's own or the broadcast address.
    #[error("{0} is no host's address")]
    NoHost(Ipv4Addr),
    /// It belongs to the server, the router or a name server.
    #[error("{0} belongs to the server, the router or a name server")]
    Infrastructure(Ipv4Addr),
}

impl Subnet {
    /// Whether an instance could have this address, were nobody else to have it.
    ///
    /// # Errors
    ///
    /// [`Unreservable`] if it never can.
    pub fn reservable(&self, address: Ipv4Addr) -> Result<(), Unreservable> {
        let network = self.network.trunc();
        if !network.contains(&address) {
            return Err(Unreservable::Elsewhere { address, network });
        }
        // RFC 3021: both addresses of a /31 are hosts.
        let edges = [network.network(), network.broadcast()];
        if network.prefix_len() < 31 && edges.contains(&address) {
            return Err(Unreservable::NoHost(address));
        }
        let own = [self.server, self.gateway];
        if own.iter().chain(&self.dns).any(|taken| *taken == address) {
            return Err(Unreservable::Infrastructure(address));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_hosts_that_are_nobodys_are_reservable() {
        let subnet = Subnet {
            network: "10.0.0.1/24".parse().expect("a network"),
            server: [10, 0, 0, 1].into(),
            gateway: [10, 0, 0, 254].into(),
            dns: vec![[10, 0, 0, 53].into()],
            pool: Pool { first: [10, 0, 0, 9].into(), last: [10, 0, 0, 20].into(), except: vec![] },
            lease_time: Seconds(7200),
        };
        for last in [2, 9, 30, 253] {
            assert_eq!(subnet.reservable([10, 0, 0, last].into()), Ok(()));
        }
        for last in [0, 1, 53, 254, 255] {
            assert!(subnet.reservable([10, 0, 0, last].into()).is_err(), "{last}");
        }
        assert!(subnet.reservable([10, 0, 1, 9].into()).is_err());
    }
}
