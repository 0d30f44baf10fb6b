//! What is known of the ways to machines: which VLAN a machine loads over, and how
//! fast it is sent to. What is said of a machine goes before what is said of its
//! network, and that before what is said of all. Pure.

use std::net::IpAddr;

use crate::model::{Machine, Rate, Subnet, Subnets, VlanId};

/// What the configuration says of the ways to machines.
#[derive(Debug, Clone, Default)]
pub struct Paths {
    /// The networks, with what is said of each.
    pub subnets: Subnets,
    /// How fast a machine is sent to of which nothing else is said.
    pub pace: Option<Rate>,
}

impl Paths {
    /// The VLAN that a machine at this address loads over; none if it is to stay
    /// where its firmware has put it.
    #[must_use]
    pub fn vlan(&self, machine: Option<&Machine>, address: IpAddr) -> Option<VlanId> {
        let own = machine.and_then(|machine| machine.vlan);
        own.or_else(|| self.network(address)?.vlan)
    }

    /// How fast a machine at this address is sent to; none if nothing says it.
    #[must_use]
    pub fn pace(&self, machine: Option<&Machine>, address: IpAddr) -> Option<Rate> {
        let own = machine.and_then(|machine| machine.pace);
        own.or_else(|| self.network(address)?.pace).or(self.pace)
    }

    fn network(&self, address: IpAddr) -> Option<&Subnet> {
        match address {
            IpAddr::V4(address) => self.subnets.of(address).map(AsRef::as_ref),
            IpAddr::V6(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DhcpOptions, LeaseTimes, Mac, Pool, Seconds, Timestamp, testing};

    fn subnet(network: &str, vlan: Option<u16>, pace: Option<&str>) -> Subnet {
        let network = network.parse().expect("a network");
        Subnet {
            network,
            adapter: None,
            server: [10, 0, 0, 1].into(),
            gateway: [10, 0, 0, 1].into(),
            dns: Vec::new(),
            pool: Pool { network, ranges: Vec::new(), except: Vec::new() },
            times: LeaseTimes::of(Seconds(7200)),
            options: DhcpOptions::default(),
            vlan: vlan.map(|vlan| vlan.try_into().expect("a VLAN")),
            pace: pace.map(|pace| pace.parse().expect("a rate")),
        }
    }

    #[test]
    fn what_is_said_of_a_machine_goes_before_its_network_and_that_before_all() {
        let subnets = Subnets::new([
            subnet("10.0.0.0/24", Some(20), Some("20M")),
            subnet("10.0.1.0/24", None, None),
        ]);
        let paths = Paths { subnets, pace: "30M".parse().ok() };
        let plain = testing::held(Mac::new([2, 0, 0, 0, 0, 1]), Timestamp(1));
        let own = Machine { vlan: 7.try_into().ok(), pace: "10M".parse().ok(), ..plain.clone() };
        for (machine, address, vlan, pace) in [
            (Some(&own), "10.0.0.9", Some(7), "10M"),
            (Some(&own), "10.0.1.9", Some(7), "10M"),
            (Some(&own), "fd00::9", Some(7), "10M"),
            (Some(&plain), "10.0.0.9", Some(20), "20M"),
            (None, "10.0.0.9", Some(20), "20M"),
            (Some(&plain), "10.0.1.9", None, "30M"),
            (None, "fd00::9", None, "30M"),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(paths.vlan(machine, address).map(u16::from), vlan, "{address}");
            assert_eq!(paths.pace(machine, address), pace.parse().ok(), "{address}");
        }
        let nothing = Paths::default();
        assert_eq!(nothing.pace(Some(&plain), [10, 0, 0, 9].into()), None);
    }
}
