//! Checks the `[[subnet]]` tables of the file, each by itself and against each
//! other.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{
    Fault, Remark, SubnetTable,
    checker::{Checker, is_no_machine},
    overlay_table::Wrong,
    subnet_table::Text,
};
use crate::model::{DhcpOptions, LeaseTimes, Pool, Range, Subnet};

/// So many addresses can be kept in memory, and are more than a site has machines.
const MOST_ADDRESSES: u64 = 1 << 20;

/// The networks of the tables as far as they are right. `near` is our own
/// address where no table has an adapter.
pub(super) fn of(checker: &mut Checker<'_>, near: Option<Ipv4Addr>) -> Vec<Subnet> {
    let given = checker.given;
    let (on_links, behind_relays): (Vec<&SubnetTable>, Vec<&SubnetTable>) =
        given.subnets().iter().partition(|table| table.adapter.is_some());
    let mut found: Vec<Subnet> = Vec::new();
    for table in on_links.into_iter().chain(behind_relays) {
        let near = near.or_else(|| found.first().map(|subnet| subnet.server));
        let mut desk = Desk { checker, table };
        found.extend(desk.subnet(near));
    }
    // In the order of the file, as they are shown.
    let place = |subnet: &Subnet| {
        given.subnets().iter().position(|table| table.network.0 == subnet.network)
    };
    found.sort_by_key(place);
    found
}

/// Finds what no two networks may share; `by_flags` is one more.
pub(super) fn compare(checker: &mut Checker<'_>, by_flags: Option<&Subnet>) {
    let given = checker.given;
    let flags = by_flags.map(|subnet| {
        let adapter = subnet.adapter.as_deref();
        (subnet.network, adapter, format!("{}, the network of the flags,", subnet.network))
    });
    let tables = given.subnets().iter().map(|table| {
        let name = format!("[[subnet]] {}", table.network.0);
        (table.network.0, table.adapter.as_deref(), name)
    });
    let all: Vec<_> = flags.into_iter().chain(tables).collect();
    for (place, (network, adapter, name)) in all.iter().enumerate() {
        for (other_network, other_adapter, other) in &all[..place] {
            if network.contains(&other_network.network())
                || other_network.contains(&network.network())
            {
                let fault = Fault::Overlaps { other: other.clone() };
                checker.problem_at(format!("{name} in {}", given.file()), fault);
            }
            if let (Some(adapter), Some(same)) = (adapter, other_adapter)
                && adapter == same
            {
                let place = format!("`adapter = {adapter}` of {name} in {}", given.file());
                checker.problem_at(place, Fault::SameAdapter { other: other.clone() });
            }
        }
    }
    let ranges = given.subnets().iter().flat_map(|table| &table.ranges);
    let count: u64 = ranges.map(|Text(range)| range.count()).sum();
    if count > MOST_ADDRESSES {
        let fault = Fault::TooManyAddresses { count, most: MOST_ADDRESSES };
        checker.problem_at(format!("[[subnet]] in {}", given.file()), fault);
    }
}

/// One table under examination.
struct Desk<'a, 'b> {
    checker: &'a mut Checker<'b>,
    table: &'a SubnetTable,
}

impl Desk<'_, '_> {
    fn subnet(&mut self, near: Option<Ipv4Addr>) -> Option<Subnet> {
        let table = self.table;
        let Text(network) = table.network;
        if network != network.trunc() {
            self.problem("network", &network, Fault::NotANetwork { network: network.trunc() });
            return None;
        }
        let server = self.server(network, near);
        let router = self.router(server);
        table.dns.iter().for_each(|address| self.machine("dns", *address));
        let times = self.times();
        let options = self.options();
        let taken = [(server, "our own address"), (router, "the router")];
        let dns = table.dns.iter().map(|address| (Some(*address), "a name server"));
        let taken: Vec<(Ipv4Addr, &'static str)> = taken
            .into_iter()
            .chain(dns)
            .filter_map(|(address, whose)| Some((address?, whose)))
            .collect();
        let ranges = self.ranges(network, &taken);
        Some(Subnet {
            network,
            adapter: table.adapter.clone(),
            server: server?,
            gateway: router?,
            dns: table.dns.clone(),
            pool: Pool { network, ranges, except: Vec::new() },
            times,
            options,
            vlan: table.vlan,
            pace: table.pace,
        })
    }

    /// Our own address: in the network if we are on it, else where relays find us.
    fn server(&mut self, network: Ipv4Net, near: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let table = self.table;
        let host = self.checker.host;
        let Some(name) = &table.adapter else {
            let address = match table.server.or(near) {
                Some(address) => address,
                None => {
                    let because = "without an adapter: the address of ours that its relays send to";
                    self.problem("server", &"", Fault::Missing { because });
                    return None;
                }
            };
            if !host.has_address(address) {
                let known = host.addresses().map(|own| own.addr()).collect();
                let fault = Fault::NotOurs { of: "this machine".to_owned(), known };
                self.problem("server", &address, fault);
            }
            return Some(address);
        };
        let Some(adapter) = host.adapters.iter().find(|adapter| adapter.name == *name) else {
            let known = host.adapters.iter().map(|adapter| adapter.name.clone()).collect();
            self.problem("adapter", name, Fault::UnknownAdapter { known });
            return None;
        };
        if !adapter.is_up {
            let text = format!("{name} is down; no machine can be heard");
            self.checker.remark(Remark::Warning(text));
        }
        let known: Vec<Ipv4Addr> = adapter.addresses.iter().map(Ipv4Net::addr).collect();
        let is_ours = |address: &Ipv4Addr| known.contains(address) && network.contains(address);
        match table.server {
            Some(address) if !is_ours(&address) => {
                let of = format!("{name} in {network}");
                self.problem("server", &address, Fault::NotOurs { of, known });
                None
            }
            Some(address) => Some(address),
            None => {
                let own = known.iter().copied().find(is_ours);
                if own.is_none() {
                    self.problem("adapter", name, Fault::AdapterElsewhere { network, known });
                }
                own
            }
        }
    }

    /// Without one, machines on our link are told our own address, as with flags;
    /// those behind relays would not find us.
    fn router(&mut self, server: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let Text(network) = self.table.network;
        let Some(router) = self.table.router else {
            if self.table.adapter.is_some() {
                return server;
            }
            let because = "without an adapter: machines reach us by it";
            self.problem("router", &"", Fault::Missing { because });
            return None;
        };
        self.machine("router", router);
        if !network.contains(&router) {
            let place = self.place("router", &router);
            let text =
                format!("{place}: the router is not in {network}, the network of its machines");
            self.checker.remark(Remark::Warning(text));
        }
        Some(router)
    }

    /// None of them impossible, none with somebody's address.
    fn ranges(&mut self, network: Ipv4Net, taken: &[(Ipv4Addr, &'static str)]) -> Vec<Range> {
        let ranges: Vec<Range> = self.table.ranges.iter().map(|Text(range)| *range).collect();
        // RFC 3021: both addresses of a /31 are hosts.
        let edges = [network.network(), network.broadcast()];
        let edges = edges.into_iter().filter(|_| network.prefix_len() < 31);
        let edges = edges.map(|address| (address, "the network's own or broadcast address"));
        for (place, range) in ranges.iter().enumerate() {
            if !network.contains(&range.first()) || !network.contains(&range.last()) {
                self.problem("ranges", range, Fault::OutsideOf { network });
                continue;
            }
            for (address, whose) in edges.clone().chain(taken.iter().copied()) {
                if range.contains(address) {
                    self.problem("ranges", range, Fault::RangeHas { address, whose });
                }
            }
            for other in ranges[..place].iter().filter(|other| other.overlaps(*range)) {
                let other = format!("the range {other}");
                self.problem("ranges", range, Fault::Overlaps { other });
            }
        }
        ranges
    }

    fn times(&mut self) -> LeaseTimes {
        let (times, wrong) = self.table.told().times();
        self.problems(wrong);
        times
    }

    fn options(&mut self) -> DhcpOptions {
        let (options, wrong) = self.table.told().options();
        self.problems(wrong);
        options
    }

    fn problems(&mut self, wrong: Vec<Wrong>) {
        for Wrong { key, value, fault } in wrong {
            self.problem(key, &value, fault);
        }
    }

    fn machine(&mut self, name: &str, address: Ipv4Addr) {
        if is_no_machine(address) {
            self.problem(name, &address, Fault::NoMachine { address });
        }
    }

    fn problem(&mut self, key: &str, value: &dyn std::fmt::Display, fault: Fault) {
        let place = self.place(key, value);
        self.checker.problem_at(place, fault);
    }

    /// How a person finds the line again.
    fn place(&self, key: &str, value: &dyn std::fmt::Display) -> String {
        let (network, file) = (&self.table.network.0, self.checker.given.file());
        let value = value.to_string();
        let line = if value.is_empty() { key.to_owned() } else { format!("{key} = {value}") };
        format!("`{line}` of [[subnet]] {network} in {file}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Checked,
        check::tests::{ANCESTRAL, checked, machine, problems_of},
        show,
    };
    use crate::model::Seconds;

    /// A link of ours and a network behind relays.
    const RIGHT: &str = r#"
        enable-dhcp = true
        [[subnet]]
        network = "10.0.1.0/24"
        adapter = "two0"
        ranges = ["10.0.1.100-10.0.1.199", "10.0.1.250"]
        [[subnet]]
        network = "10.7.0.0/16"
        ranges = ["10.7.1.0-10.7.1.255"]
        router = "10.7.0.1"
        dns = ["10.7.0.53", "10.0.0.53"]
        lease-time = 600
        renew-time = 100
        rebind-time = 500
        domain = "rack7.example"
        search = ["rack7.example", "example"]
        ntp = ["10.7.0.123"]
        mtu = 9000
        routes = ["10.0.0.0/8 via 10.7.0.2"]
        options = { "66" = "text:boot", "43" = { "1" = "u8:7" } }
    "#;

    /// What comes of this file, and more on the command line.
    fn of_file(text: &str, more: &[&str]) -> Checked {
        let (directory, host) = machine();
        std::fs::write(directory.path().join("racks.toml"), text).expect("written");
        checked(&host, &[&["--config=racks.toml"], more].concat())
    }

    fn tables(text: &str) -> Vec<Subnet> {
        of_file(text, &[]).outcome.expect("it is right").dhcp.expect("a DHCP server").tables
    }

    #[test]
    fn each_table_is_a_network_with_what_its_machines_are_told() {
        let tables = tables(RIGHT);
        let [near, far] = tables.as_slice() else { panic!("{tables:?}") };
        let own = Ipv4Addr::new(10, 0, 1, 1);
        assert_eq!((near.adapter.as_deref(), near.server, near.gateway), (Some("two0"), own, own));
        assert_eq!(
            (near.dns.len(), near.times.lease, near.options.iter().count()),
            (0, Seconds(7200), 0)
        );
        assert_eq!(near.pool.addresses().count(), 101);
        assert_eq!((far.adapter.as_deref(), far.server), (None, own), "relays find us there");
        assert_eq!(far.gateway, Ipv4Addr::new(10, 7, 0, 1));
        assert_eq!((far.times.renew, far.times.rebind), (Seconds(100), Seconds(500)));
        let options: Vec<(u8, Vec<u8>)> =
            far.options.iter().map(|(code, value)| (code, value.to_vec())).collect();
        let routes = vec![8, 10, 10, 7, 0, 2];
        let expected = [
            (15, b"rack7.example".to_vec()),
            (26, vec![35, 40]),
            (42, vec![10, 7, 0, 123]),
            (43, vec![1, 1, 7]),
            (66, b"boot".to_vec()),
            (119, b"\x05rack7\x07example\x00\x07example\x00".to_vec()),
            (121, routes),
        ];
        assert_eq!(options, expected);
    }

    #[test]
    fn without_an_adapter_in_the_flags_everything_is_served_from_the_first_network() {
        let checked = of_file(RIGHT, &["--enable-http", "--enable-tftp"]);
        let config = checked.outcome.expect("it is right");
        assert_eq!(config.next_server, Some(Ipv4Addr::new(10, 0, 1, 1)));
        assert_eq!(config.http.map(|http| http.to_string()).as_deref(), Some("10.0.1.1:80"));
    }

    #[test]
    fn the_network_of_the_flags_is_one_of_several() {
        let (directory, host) = machine();
        std::fs::write(directory.path().join("racks.toml"), RIGHT).expect("written");
        let line = [&ANCESTRAL[..], &["--config=racks.toml"]].concat();
        let dhcp = checked(&host, &line).outcome.expect("it is right").dhcp.expect("a server");
        let networks: Vec<String> =
            dhcp.subnets().iter().map(|subnet| subnet.network.to_string()).collect();
        assert_eq!(networks, ["10.0.1.0/24", "10.7.0.0/16", "192.168.0.0/24"]);
        assert_eq!(dhcp.tables[1].server, Ipv4Addr::new(192, 168, 0, 1), "where the flags are");
    }

    #[test]
    fn what_check_shows_of_tables_means_the_same_again() {
        let (directory, host) = machine();
        let read = |text: &str| {
            std::fs::write(directory.path().join("racks.toml"), text).expect("written");
            checked(&host, &["--config=racks.toml"])
        };
        let first = read(RIGHT);
        let second = read(&show(&first)).outcome.expect("what is shown is right");
        assert_eq!(second, first.outcome.expect("it is right"));
    }

    #[test]
    fn each_impossible_table_is_named_with_both_things_that_contradict() {
        let near = "[[subnet]]\nnetwork = \"10.0.1.0/24\"\nadapter = \"two0\"\n";
        let far = "[[subnet]]\nnetwork = \"10.7.0.0/24\"\n";
        let routed = format!("{near}{far}router = \"10.7.0.1\"\n");
        let cases: [(&str, &str, &[&str]); 24] = [
            (near, "ranges = ['10.0.1.1-10.0.1.9']", &["10.0.1.1-10.0.1.9", "10.0.1.1, our own"]),
            (&routed, "ranges = ['10.7.0.1-10.7.0.9']", &["10.7.0.1-10.7.0.9", "the router"]),
            (
                &routed,
                "dns = ['10.7.0.5']\nranges = ['10.7.0.2-10.7.0.9']",
                &["ranges = 10.7.0.2-10.7.0.9", "10.7.0.5, a name server"],
            ),
            (near, "ranges = ['10.0.1.9-10.0.2.9']", &["10.0.1.9-10.0.2.9", "in 10.0.1.0/24"]),
            (near, "ranges = ['10.0.1.250-10.0.1.255']", &["10.0.1.255", "broadcast"]),
            (near, "ranges = ['10.0.1.0']", &["10.0.1.0", "network's own"]),
            (
                near,
                "ranges = ['10.0.1.5-10.0.1.9', '10.0.1.9-10.0.1.20']",
                &["ranges = 10.0.1.9-10.0.1.20", "the range 10.0.1.5-10.0.1.9"],
            ),
            (near, "server = '10.0.0.1'", &["server = 10.0.0.1", "two0 in 10.0.1.0/24"]),
            (near, "router = '0.0.0.0'", &["router = 0.0.0.0", "no machine's"]),
            (near, "ntp = ['224.0.1.1']", &["ntp = 224.0.1.1", "no machine's"]),
            (near, "lease-time = 5", &["lease-time = 5", "60 to"]),
            (near, "renew-time = 6300", &["renew-time 6300", "rebind-time 6300"]),
            (near, "rebind-time = 7200", &["rebind-time 7200", "lease-time 7200"]),
            (near, "mtu = 67", &["mtu = 67", "68 to 65535"]),
            (near, "options = { '3' = 'ip:10.0.1.9' }", &["options = 3", "`router` says it"]),
            (near, "options = { '53' = 'u8:1' }", &["options = 53", "the protocol"]),
            (near, far, &["`router` of [[subnet]] 10.7.0.0/24", "is needed without an adapter"]),
            (far, "router = '10.7.0.1'", &["`server` of [[subnet]] 10.7.0.0/24", "is needed"]),
            (
                far,
                "router = '10.7.0.1'\nserver = '10.9.9.9'",
                &["server = 10.9.9.9", "this machine"],
            ),
            (far, "adapter = 'eth9'", &["adapter = eth9", "no such adapter", "two0"]),
            (far, "adapter = 'eth0'", &["adapter = eth0", "no address in 10.7.0.0/24"]),
            (
                &routed,
                "[[subnet]]\nnetwork = '10.7.0.128/25'\nrouter = '10.7.0.129'",
                &["[[subnet]] 10.7.0.128/25", "overlaps [[subnet]] 10.7.0.0/24"],
            ),
            (
                near,
                "[[subnet]]\nnetwork = '10.0.0.0/24'\nadapter = 'two0'",
                &["adapter = two0", "10.0.0.0/24", "[[subnet]] 10.0.1.0/24 has this adapter"],
            ),
            (near, "[[subnet]]\nnetwork = '10.8.0.1/24'", &["10.8.0.1/24", "10.8.0.0/24 is"]),
        ];
        for (text, more, named) in cases {
            let (directory, host) = machine();
            let text = format!("enable-dhcp = true\n{text}{more}");
            std::fs::write(directory.path().join("racks.toml"), &text).expect("written");
            let problems = problems_of(&host, &["--config=racks.toml"]);
            assert!(named.iter().all(|part| problems.contains(part)), "{text}\n{problems}");
            assert!(problems.contains("racks.toml"), "{problems}");
        }
    }

    #[test]
    fn a_table_must_not_overlap_the_network_of_the_flags() {
        let (directory, host) = machine();
        let table = "[[subnet]]\nnetwork = '192.168.0.128/25'\nrouter = '192.168.0.129'\n";
        std::fs::write(directory.path().join("racks.toml"), table).expect("written");
        let line = [&ANCESTRAL[..], &["--config=racks.toml"]].concat();
        let problems = problems_of(&host, &line);
        assert!(
            problems.contains("overlaps 192.168.0.0/24, the network of the flags"),
            "{problems}"
        );
    }

    #[test]
    fn more_addresses_than_memory_holds_are_refused() {
        let table = "[[subnet]]\nnetwork = '10.0.0.0/8'\nrouter = '10.0.0.2'\nserver = '192.168.0.1'\n\
            ranges = ['10.1.0.0-10.255.0.0']";
        let (directory, host) = machine();
        std::fs::write(directory.path().join("racks.toml"), table).expect("written");
        let problems = problems_of(&host, &["--config=racks.toml"]);
        assert!(problems.contains("1048576 are possible"), "{problems}");
    }

    #[test]
    fn the_example_for_racks_is_right() {
        let (directory, mut host) = machine();
        for (place, network) in ["10.20.0.10/24", "10.20.1.10/24"].into_iter().enumerate() {
            host.adapters.push(crate::config::Adapter {
                name: format!("rack{place}"),
                addresses: vec![network.parse().expect("a network")],
                addresses6: Vec::new(),
                is_up: true,
            });
        }
        let example = include_str!("../../examples/racks.toml");
        std::fs::write(directory.path().join("racks.toml"), example).expect("written");
        let checked = checked(&host, &["--config=racks.toml"]);
        let dhcp = checked.outcome.expect("it is right").dhcp.expect("a DHCP server");
        assert_eq!(dhcp.tables.len(), 3);
    }
}
