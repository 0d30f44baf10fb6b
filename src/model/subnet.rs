//! The networks that we serve, as they were configured and checked.

use std::{net::Ipv4Addr, sync::Arc};

use ipnet::Ipv4Net;

use serde::{Deserialize, Serialize};

use super::{DhcpOptions, Pool, Rate, Seconds, VlanId};

/// A network, who we are in it, and what its machines are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// The network and its mask.
    pub network: Ipv4Net,
    /// Our adapter on it; none if its machines reach us through relays only.
    pub adapter: Option<String>,
    /// Our own address: the server identifier (RFC 2132 §9.7). In the network
    /// if we have an adapter on it.
    pub server: Ipv4Addr,
    /// The router (RFC 2132 §3.5).
    pub gateway: Ipv4Addr,
    /// The name servers, first asked first (RFC 2132 §3.8).
    pub dns: Vec<Ipv4Addr>,
    /// What may be given to machines without a reservation.
    pub pool: Pool,
    /// For how long an address is a machine's.
    pub times: LeaseTimes,
    /// What its machines are told besides.
    pub options: DhcpOptions,
    /// The VLAN that its machines load over, where nothing is said of a machine itself.
    pub vlan: Option<VlanId>,
    /// How fast each of its machines is sent to, where nothing is said of it itself.
    pub pace: Option<Rate>,
}

/// For how long an address is a machine's, each shorter than the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTimes {
    /// T1: when a machine asks us for more (RFC 2131 §4.4.5).
    pub renew: Seconds,
    /// T2: when it asks anybody for more.
    pub rebind: Seconds,
    /// When it must not use the address any longer.
    pub lease: Seconds,
}

impl LeaseTimes {
    /// T1 and T2 as RFC 2131 §4.4.5 has them: half, and seven eighths.
    #[must_use]
    pub const fn of(lease: Seconds) -> Self {
        let Seconds(lease) = lease;
        Self {
            renew: Seconds(lease / 2),
            rebind: Seconds(lease - lease / 8),
            lease: Seconds(lease),
        }
    }
}

/// Why no instance can have an address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unreservable {
    /// It is in none of the networks that we serve.
    #[error("{address} is not in {}", served(networks))]
    Elsewhere {
        /// The address.
        address: Ipv4Addr,
        /// The networks.
        networks: Vec<Ipv4Net>,
    },
    /// It is the network's own or the broadcast address.
    #[error("{0} is no host's address")]
    NoHost(Ipv4Addr),
    /// It belongs to the server, the router or a name server.
    #[error("{0} belongs to the server, the router or a name server")]
    Infrastructure(Ipv4Addr),
}

fn served(networks: &[Ipv4Net]) -> String {
    if let [network] = networks {
        return format!("{network}, the network that is served");
    }
    if networks.is_empty() {
        return "a network that is served: addresses are given by another server".to_owned();
    }
    let names: Vec<String> = networks.iter().map(Ipv4Net::to_string).collect();
    format!("one of {}, the networks that are served", names.join(", "))
}

impl Subnet {
    /// Whether an instance could have this address, were nobody else to have it.
    ///
    /// # Errors
    ///
    /// [`Unreservable`] if it never can.
    pub fn reservable(&self, address: Ipv4Addr) -> Result<(), Unreservable> {
        if !self.network.contains(&address) {
            return Err(Unreservable::Elsewhere { address, networks: vec![self.network] });
        }
        // RFC 3021: both addresses of a /31 are hosts.
        let edges = [self.network.network(), self.network.broadcast()];
        if self.network.prefix_len() < 31 && edges.contains(&address) {
            return Err(Unreservable::NoHost(address));
        }
        let own = [self.server, self.gateway];
        if own.iter().chain(&self.dns).any(|taken| *taken == address) {
            return Err(Unreservable::Infrastructure(address));
        }
        Ok(())
    }
}

/// All networks that we serve: no address is in two of them. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subnets(Arc<[Arc<Subnet>]>);

impl Subnets {
    /// These networks. That no two overlap was checked before.
    #[must_use]
    pub fn new(subnets: impl IntoIterator<Item = Subnet>) -> Self {
        let mut all: Vec<Arc<Subnet>> = subnets.into_iter().map(Arc::new).collect();
        all.sort_by_key(|subnet| subnet.network.network());
        Self(all.into())
    }

    /// The one that the address is in.
    #[must_use]
    pub fn of(&self, address: Ipv4Addr) -> Option<&Arc<Subnet>> {
        let behind = self.0.partition_point(|subnet| subnet.network.network() <= address);
        self.0[..behind].last().filter(|subnet| subnet.network.contains(&address))
    }

    /// All of them, by their addresses.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Subnet>> {
        self.0.iter()
    }

    /// Whether there are none: then somebody else gives out the addresses.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an instance could have this address, were nobody else to have it.
    ///
    /// # Errors
    ///
    /// [`Unreservable`] if it never can.
    pub fn reservable(&self, address: Ipv4Addr) -> Result<(), Unreservable> {
        match self.of(address) {
            Some(subnet) => subnet.reservable(address),
            None => {
                let networks = self.iter().map(|subnet| subnet.network).collect();
                Err(Unreservable::Elsewhere { address, networks })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(network: &str) -> Subnet {
        let network: Ipv4Net = network.parse().expect("a network");
        let [a, b, c, _] = network.network().octets();
        let host = |last| Ipv4Addr::new(a, b, c, last);
        Subnet {
            network,
            adapter: None,
            server: host(1),
            gateway: host(254),
            dns: vec![host(53)],
            pool: Pool { network, ranges: Vec::new(), except: Vec::new() },
            times: LeaseTimes::of(Seconds(7200)),
            options: DhcpOptions::default(),
            vlan: None,
            pace: None,
        }
    }

    #[test]
    fn only_addresses_of_hosts_that_are_nobodys_are_reservable() {
        let subnet = subnet("10.0.0.0/24");
        for last in [2, 9, 30, 253] {
            assert_eq!(subnet.reservable([10, 0, 0, last].into()), Ok(()));
        }
        for last in [0, 1, 53, 254, 255] {
            assert!(subnet.reservable([10, 0, 0, last].into()).is_err(), "{last}");
        }
        assert!(subnet.reservable([10, 0, 1, 9].into()).is_err());
    }

    #[test]
    fn the_subnet_of_an_address_is_the_one_that_has_it() {
        let networks = ["10.2.0.0/16", "10.0.0.0/24", "10.0.1.0/24", "192.168.7.0/30"];
        let subnets = Subnets::new(networks.map(subnet));
        let of = |address: &str| {
            let address = address.parse().expect("an address");
            subnets.of(address).map(|subnet| subnet.network.to_string())
        };
        for (address, network) in [
            ("10.0.0.0", Some("10.0.0.0/24")),
            ("10.0.0.255", Some("10.0.0.0/24")),
            ("10.0.1.7", Some("10.0.1.0/24")),
            ("10.2.200.1", Some("10.2.0.0/16")),
            ("192.168.7.3", Some("192.168.7.0/30")),
            ("192.168.7.4", None),
            ("10.0.2.0", None),
            ("9.255.255.255", None),
            ("255.255.255.255", None),
        ] {
            assert_eq!(of(address).as_deref(), network, "{address}");
        }
        let elsewhere = subnets.reservable([10, 0, 9, 9].into()).expect_err("elsewhere");
        assert!(elsewhere.to_string().contains("10.0.0.0/24, 10.0.1.0/24"), "{elsewhere}");
        assert_eq!(subnets.reservable([10, 2, 0, 9].into()), Ok(()));
    }
}
