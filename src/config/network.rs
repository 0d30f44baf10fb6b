//! Checks what machines are told of the network, and which of its addresses
//! they are given.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Dhcp, DhcpPart, Fault, Remark, Setting, checker::Checker, subnets};
use crate::model::{DhcpOptions, LeaseTimes, Pool, Range, Seconds, Subnet};

/// The ancestor's number of leases.
const LEASE_COUNT: u32 = 20;
/// So many addresses can be kept in memory, and are more than a site has machines.
pub(super) const MOST_LEASES: u32 = 1 << 16;
/// The ancestor's two hours.
pub(super) const LEASE_TIME: u32 = 7200;
/// Shorter ones are renewed without end, a longer one than a year is forgotten.
pub(super) const LEASE_TIMES: std::ops::RangeInclusive<u32> = 60..=31_536_000;

/// A day: who took an address by hand seldom gives it back sooner.
const DECLINE_HOLD: u32 = 86_400;
/// From not at all to a year.
const DECLINE_HOLDS: std::ops::RangeInclusive<u32> = 0..=31_536_000;

/// Five minutes: a DISCOVER more is none on any network, and takes an address of the
/// other server for a minute or so.
const WATCH: u32 = 300;
/// From twice the time that it takes to a day.
const WATCHES: std::ops::RangeInclusive<u32> = 10..=86_400;
/// As many boot programs of half a megabyte as a gigabit carries.
const SPREAD: u32 = 200;
/// From all at once.
const SPREADS: std::ops::RangeInclusive<u32> = 0..=100_000;

/// The adapter, and our own address on it.
pub(super) struct Network {
    adapter: Option<String>,
    own: Option<Ipv4Net>,
    /// Our address in the first network of the file, where no flag says one.
    of_tables: Option<Ipv4Addr>,
}

impl Network {
    pub(super) fn of(checker: &mut Checker<'_>) -> Self {
        let adapter = adapter(checker);
        let addresses: Vec<Ipv4Net> = match adapter {
            Some(adapter) => adapter.addresses.clone(),
            None => checker.host.addresses().collect(),
        };
        let name = adapter.map(|adapter| adapter.name.clone());
        let start = start_address(checker);
        let own = if checker.given.has(Setting::AddressDhcp) {
            own_address(checker, &addresses, name.as_deref())
        } else {
            // The ancestor took the last one, and so often one of another network.
            let near = start.and_then(|start| addresses.iter().find(|own| own.contains(&start)));
            near.or(addresses.first()).copied().filter(|_| adapter.is_some())
        };
        Self { adapter: name, own, of_tables: None }
    }

    /// The address under which machines reach a server: the one that was given,
    /// else our own. If the server is ours, it must be one of this machine's.
    pub(super) fn told(
        &self,
        checker: &mut Checker<'_>,
        setting: Setting,
        enabled: Setting,
    ) -> Option<Ipv4Addr> {
        let is_ours = checker.switch(enabled);
        if checker.given.has(setting) {
            let address = checker.address(setting)?;
            if is_ours && !checker.host.has_address(address) {
                let known = checker.host.addresses().map(|own| own.addr()).collect();
                let fault = Fault::NotOurs { of: "this machine".to_owned(), known };
                checker.problem(setting, fault);
            }
            if address.is_loopback() && self.own.is_some_and(|own| !own.addr().is_loopback()) {
                let place = checker.given.place(setting);
                let text = format!("{place}: no other machine can reach this address");
                checker.remark(Remark::Warning(text));
            }
            return Some(address);
        }
        let unknown = self.own.is_none()
            && self.of_tables.is_none()
            && !checker.given.has(Setting::AddressDhcp)
            && !checker.given.has(Setting::Adapter);
        if is_ours && unknown {
            let because = "with the server enabled, or --adapter to take it from";
            checker.problem(setting, Fault::Missing { because });
        }
        self.own.map(|own| own.addr()).or(self.of_tables)
    }
}

/// Our part in DHCP, if we have one and nothing is wrong with it. Numbers,
/// addresses and tables are checked in any case.
pub(super) fn dhcp(checker: &mut Checker<'_>, network: &mut Network, port: u16) -> Option<Dhcp> {
    let tables = subnets::of(checker, network.own.map(|own| own.addr()));
    network.of_tables = tables.first().map(|subnet| subnet.server);
    let part = part(checker);
    let by_flags = by_flags(checker, network, part);
    subnets::compare(checker, by_flags.as_ref());
    let has_any = by_flags.is_some() || !tables.is_empty();
    let probe = checker.switch_or(Setting::Probe, true);
    let hold = checker.number(Setting::DeclineHold, DECLINE_HOLD, DECLINE_HOLDS);
    let decline_hold = Seconds(hold);
    let watch = watch(checker);
    let spread = checker.number(Setting::Spread, SPREAD, SPREADS);
    let part = part.filter(|_| has_any)?;
    Some(Dhcp { part, port, by_flags, tables, probe, decline_hold, watch, spread })
}

/// How often we look for other servers, if we do.
fn watch(checker: &mut Checker<'_>) -> Option<Seconds> {
    if checker.given.text(Setting::DhcpWatch) == Some("0") {
        return None;
    }
    Some(Seconds(checker.number(Setting::DhcpWatch, WATCH, WATCHES)))
}

/// What `--dhcp` says, or the ancestor's switch.
fn part(checker: &mut Checker<'_>) -> Option<DhcpPart> {
    let is_server = checker.switch(Setting::EnableDhcp);
    let server = is_server.then_some(DhcpPart::Server);
    let part = match checker.given.text(Setting::Dhcp) {
        None => return server,
        Some("server") => Some(DhcpPart::Server),
        Some("proxy") => Some(DhcpPart::Proxy),
        Some("auto") => Some(DhcpPart::Auto),
        Some("off") => None,
        Some(_) => {
            checker.problem(Setting::Dhcp, Fault::NotOneOf { known: "server, proxy, auto, off" });
            return server;
        }
    };
    // Switched off, it says only that we are no server.
    if checker.given.has(Setting::EnableDhcp) && is_server != (part == Some(DhcpPart::Server)) {
        let other = checker.given.place(Setting::EnableDhcp);
        checker.problem(Setting::Dhcp, Fault::Contradicts { other });
    }
    part
}

/// The network of the flags. If there are tables, there need be none.
fn by_flags(
    checker: &mut Checker<'_>,
    network: &Network,
    part: Option<DhcpPart>,
) -> Option<Subnet> {
    let count = checker.number(Setting::LeaseCount, LEASE_COUNT, 1..=MOST_LEASES);
    let seconds = checker.number(Setting::LeaseTime, LEASE_TIME, LEASE_TIMES);
    let gateway = checker.address(Setting::Gateway);
    let dns = match checker.given.text(Setting::Dns).map(str::to_owned) {
        Some(text) => checker.addresses_in(Setting::Dns, &text),
        None => Vec::new(),
    };
    let is_other = !checker.given.subnets().is_empty() && !checker.given.has(Setting::StartAddress);
    if is_other {
        return None;
    }
    match part? {
        DhcpPart::Server => {}
        DhcpPart::Auto if checker.given.has(Setting::StartAddress) => {}
        DhcpPart::Proxy | DhcpPart::Auto => return proxied(checker, network),
    }
    for needed in [Setting::Adapter, Setting::StartAddress] {
        if !checker.given.has(needed) {
            checker.problem(needed, Fault::Missing { because: "to give addresses by DHCP" });
        }
    }
    let own = network.own?;
    let server = own.addr();
    let gateway = gateway.unwrap_or(server);
    if !own.contains(&gateway) {
        let place = checker.given.place(Setting::Gateway);
        let text =
            format!("{place}: the router is not in {}, the network of its machines", own.trunc());
        checker.remark(Remark::Warning(text));
    }
    let dns = if dns.is_empty() { vec![server] } else { dns };
    let start = start_address(checker)?;
    let range = range(checker, own, start, count)?;
    let except = taken(range, [server, gateway].into_iter().chain(dns.iter().copied()));
    let network_of_machines = own.trunc();
    let pool = Pool { network: network_of_machines, ranges: vec![range], except };
    if pool.addresses().next().is_none() {
        checker.problem(Setting::LeaseCount, Fault::NothingLeft);
        return None;
    }
    for address in &pool.except {
        let text = format!(
            "{address} is left out of the range: it is the server's, the router's or a name server's"
        );
        checker.remark(Remark::Note(text));
    }
    Some(Subnet {
        network: network_of_machines,
        adapter: Some(network.adapter.clone()?),
        server,
        gateway,
        dns,
        pool,
        times: LeaseTimes::of(Seconds(seconds)),
        options: DhcpOptions::default(),
        vlan: None,
        pace: None,
    })
}

/// The network of the flags for a proxy, which gives no addresses.
fn proxied(checker: &mut Checker<'_>, network: &Network) -> Option<Subnet> {
    if !checker.given.has(Setting::Adapter) && !checker.given.has(Setting::AddressDhcp) {
        checker.problem(
            Setting::Adapter,
            Fault::Missing { because: "with --dhcp=proxy and --dhcp=auto" },
        );
    }
    let own = network.own?;
    let has_it = |adapter: &&super::Adapter| adapter.addresses.contains(&own);
    let by_address = || checker.host.adapters.iter().find(has_it).map(|found| found.name.clone());
    let adapter = network.adapter.clone().or_else(by_address)?;
    for unused in [Setting::StartAddress, Setting::LeaseCount, Setting::Gateway, Setting::Dns] {
        if checker.given.has(unused) {
            let place = checker.given.place(unused);
            let text = format!("{place} is told nobody by a proxy: another server has its own");
            checker.remark(Remark::Note(text));
        }
    }
    Some(Subnet {
        network: own.trunc(),
        adapter: Some(adapter),
        server: own.addr(),
        gateway: own.addr(),
        dns: Vec::new(),
        pool: Pool { network: own.trunc(), ranges: Vec::new(), except: Vec::new() },
        times: LeaseTimes::of(Seconds(LEASE_TIME)),
        options: DhcpOptions::default(),
        vlan: None,
        pace: None,
    })
}

/// The addresses that machines are given, none of them impossible.
fn range(checker: &mut Checker<'_>, own: Ipv4Net, first: Ipv4Addr, count: u32) -> Option<Range> {
    let network = own.trunc();
    if !network.contains(&first) {
        checker.problem(Setting::StartAddress, Fault::OutsideNetwork { address: first, network });
        return None;
    }
    if first == own.addr() {
        checker.problem(Setting::StartAddress, Fault::StartsAtServer { address: first });
        return None;
    }
    let Some(last) = u32::from(first).checked_add(count - 1).map(Ipv4Addr::from) else {
        checker.problem(Setting::LeaseCount, Fault::RangeRollsOver { first, count });
        return None;
    };
    if !network.contains(&last) {
        let fault = Fault::RangeLeavesNetwork { first, last, count, network };
        checker.problem(Setting::LeaseCount, fault);
        return None;
    }
    // RFC 3021: both addresses of a /31 are hosts.
    if network.prefix_len() < 31 {
        if first == network.network() {
            checker.problem(Setting::StartAddress, Fault::NoHost { address: first });
            return None;
        }
        if last == network.broadcast() {
            checker.problem(Setting::LeaseCount, Fault::NoHost { address: last });
            return None;
        }
    }
    Range::new(first, last).ok()
}

/// Those of the range that belong to somebody, lowest first, each once.
fn taken(range: Range, owned: impl Iterator<Item = Ipv4Addr>) -> Vec<Ipv4Addr> {
    let mut taken: Vec<Ipv4Addr> = owned.filter(|address| range.contains(*address)).collect();
    taken.sort();
    taken.dedup();
    taken
}

fn start_address(checker: &mut Checker<'_>) -> Option<Ipv4Addr> {
    checker.address(Setting::StartAddress)
}

fn own_address(
    checker: &mut Checker<'_>,
    addresses: &[Ipv4Net],
    adapter: Option<&str>,
) -> Option<Ipv4Net> {
    let address = checker.address(Setting::AddressDhcp)?;
    let own = addresses.iter().find(|own| own.addr() == address);
    // With a wrong adapter, that one is what must be put right.
    if own.is_none() && (adapter.is_some() || !checker.given.has(Setting::Adapter)) {
        let of = adapter.unwrap_or("this machine").to_owned();
        let known = addresses.iter().map(Ipv4Net::addr).collect();
        checker.problem(Setting::AddressDhcp, Fault::NotOurs { of, known });
    }
    own.copied()
}

fn adapter<'a>(checker: &mut Checker<'a>) -> Option<&'a super::Adapter> {
    let name = checker.given.text(Setting::Adapter)?;
    let host = checker.host;
    let Some(adapter) = host.adapters.iter().find(|adapter| adapter.name == name) else {
        let known = host.adapters.iter().map(|adapter| adapter.name.clone()).collect();
        checker.problem(Setting::Adapter, Fault::UnknownAdapter { known });
        return None;
    };
    // Over IPv6 alone, too, machines are booted.
    let has_ipv6 = checker.switch(Setting::EnableDhcp6) || checker.given.has(Setting::Address6);
    let needs_ipv4 = checker.switch(Setting::EnableDhcp) || !has_ipv6;
    if adapter.addresses.is_empty() && needs_ipv4 {
        let adapter = adapter.name.clone();
        checker.problem(Setting::Adapter, Fault::AdapterWithoutAddress { adapter });
        return None;
    }
    if !adapter.is_up {
        let text = format!("{} is down; no machine can be heard", adapter.name);
        checker.remark(Remark::Warning(text));
    }
    Some(adapter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::tests::{checked, config_of, machine, problems_of};

    fn subnet(line: &[&str]) -> Subnet {
        let (_directory, host) = machine();
        let line = [&["--enableDHCP"], line].concat();
        config_of(&host, &line).dhcp.expect("a DHCP server").by_flags.expect("a network")
    }

    fn problems(line: &[&str]) -> String {
        let (_directory, host) = machine();
        problems_of(&host, &[&["--enableDHCP"], line].concat())
    }

    #[test]
    fn each_impossible_network_is_named() {
        let cases: &[(&[&str], &[&str])] = &[
            (&[], &["--adapter: is needed", "--start-address: is needed"]),
            (&["--adapter=eth9"], &["--adapter=eth9", "eth0, two0, tiny0, bare0"]),
            (&["--adapter=bare0"], &["--adapter=bare0", "no IPv4 address"]),
            (&["--adapter=eth0"], &["--start-address: is needed"]),
            (
                &["--adapter=eth0", "--startAddress=fe80::1"],
                &["--startAddress=fe80::1", "not an IPv4"],
            ),
            (&["--adapter=eth0", "--startAddress=0.0.0.0"], &["--startAddress=0.0.0.0"]),
            (&["--adapter=eth0", "--startAddress=10.0.0.2"], &["=10.0.0.2", "192.168.0.0/24"]),
            (&["--adapter=eth0", "--startAddress=192.168.0.1"], &["=192.168.0.1", "our own"]),
            (&["--adapter=eth0", "--startAddress=192.168.0.0"], &["=192.168.0.0", "broadcast"]),
            (
                &["--adapter=eth0", "--startAddress=192.168.0.200", "--leaseCount=56"],
                &["--leaseCount=56", "192.168.0.255"],
            ),
            (
                &["--adapter=eth0", "--startAddress=192.168.0.200", "--leaseCount=57"],
                &["--leaseCount=57", "end at 192.168.1.0"],
            ),
            (
                &["--adapter=top0", "--startAddress=255.255.255.200", "--leaseCount=57"],
                &["--leaseCount=57", "255.255.255.255"],
            ),
            (&["--leaseCount=0"], &["--leaseCount=0"]),
            (&["--leaseCount=1e3"], &["--leaseCount=1e3"]),
            (&["--probe=maybe"], &["--probe=maybe", "neither true nor false"]),
            (&["--spread=100001"], &["--spread=100001", "0 to 100000"]),
            (&["--decline-hold=31536001"], &["--decline-hold=31536001", "0 to 31536000"]),
            (&["--dhcp-watch=9"], &["--dhcp-watch=9", "10 to 86400"]),
            (&["--gateway=router"], &["--gateway=router", "not an IPv4"]),
            (&["--dns=10.0.0.1,dns"], &["--dns=10.0.0.1,dns", "`dns`"]),
            (
                &["--adapter=eth0", "--addressDHCP=10.0.0.1"],
                &["--addressDHCP=10.0.0.1", "eth0, which has 192.168.0.1"],
            ),
        ];
        for (line, named) in cases {
            let problems = problems(line);
            assert!(named.iter().all(|text| problems.contains(text)), "{line:?}: {problems}");
        }
    }

    #[test]
    fn a_proxy_needs_an_adapter_and_gives_no_addresses() {
        let (_directory, host) = machine();
        for line in [
            &["--dhcp=proxy", "--adapter=eth0"][..],
            &["--dhcp=proxy", "--address-dhcp=192.168.0.1"],
            &["--dhcp=proxy", "--adapter=eth0", "--startAddress=192.168.0.2", "--enableDHCP=false"],
        ] {
            let dhcp = config_of(&host, line).dhcp.expect("a proxy");
            let subnets = dhcp.proxied();
            let all: Vec<_> = subnets.iter().collect();
            let [subnet] = &all[..] else { panic!("{line:?}: {all:?}") };
            assert_eq!(dhcp.part, DhcpPart::Proxy);
            assert_eq!(subnet.adapter.as_deref(), Some("eth0"));
            assert_eq!(subnet.server, Ipv4Addr::new(192, 168, 0, 1));
            assert_eq!(subnet.pool.addresses().count(), 0);
        }
        assert!(problems_of(&host, &["--dhcp=proxy"]).contains("--adapter: is needed"));
        let remarks = checked(&host, &["--dhcp=proxy", "--adapter=eth0", "--gateway=192.168.0.9"]);
        let remarks: Vec<String> = remarks.remarks.iter().map(ToString::to_string).collect();
        assert!(remarks.iter().any(|remark| remark.contains("--gateway=192.168.0.9 is told")));
    }

    #[test]
    fn a_part_that_contradicts_the_switch_names_both() {
        let (_directory, host) = machine();
        for (part, switch) in [
            ("--dhcp=proxy", "--enableDHCP=true"),
            ("--dhcp=off", "--enableDHCP=true"),
            ("--dhcp=auto", "--enableDHCP=true"),
            ("--dhcp=server", "--enableDHCP=false"),
        ] {
            let problems = problems_of(&host, &["--adapter=eth0", part, switch]);
            assert!(problems.contains(part) && problems.contains(switch), "{problems}");
        }
        assert!(problems_of(&host, &["--dhcp=relay"]).contains("server, proxy"));
        let line = ["--dhcp=server", "--adapter=eth0", "--startAddress=192.168.0.9"];
        let dhcp = config_of(&host, &line).dhcp.expect("a server");
        assert_eq!((dhcp.part, dhcp.by_flags.is_some()), (DhcpPart::Server, true));
        assert_eq!(config_of(&host, &["--dhcp=off"]).dhcp, None);
    }

    #[test]
    fn without_a_start_address_auto_can_only_be_a_proxy() {
        let (_directory, host) = machine();
        let line = ["--dhcp=auto", "--adapter=eth0"];
        let addresses = |line: &[&str]| {
            let dhcp = config_of(&host, line).dhcp.expect("a part");
            assert_eq!(dhcp.part, DhcpPart::Auto);
            dhcp.subnets().iter().map(|subnet| subnet.pool.addresses().count()).sum::<usize>()
        };
        assert_eq!(addresses(&line), 0);
        let with_start = [&line[..], &["--startAddress=192.168.0.9", "--leaseCount=5"]].concat();
        assert_eq!(addresses(&with_start), 5);
        let wrong = problems_of(&host, &[&line[..], &["--startAddress=10.9.9.9"]].concat());
        assert!(wrong.contains("--startAddress=10.9.9.9"), "{wrong}");
    }

    #[test]
    fn addresses_are_looked_at_unless_that_is_switched_off() {
        let (_directory, host) = machine();
        let dhcp = |more: &[&str]| {
            let line = ["--enableDHCP", "--adapter=eth0", "--startAddress=192.168.0.9"];
            config_of(&host, &[&line[..], more].concat()).dhcp.expect("a DHCP server")
        };
        assert_eq!((dhcp(&[]).probe, dhcp(&[]).decline_hold), (true, Seconds(86_400)));
        let without = dhcp(&["--probe=false", "--decline-hold=60"]);
        assert_eq!((without.probe, without.decline_hold), (false, Seconds(60)));
        assert_eq!(dhcp(&[]).watch, Some(Seconds(300)));
        assert_eq!(dhcp(&["--dhcp-watch=60"]).watch, Some(Seconds(60)));
        assert_eq!(dhcp(&["--dhcp-watch=0"]).watch, None);
    }

    #[test]
    fn of_several_addresses_the_one_near_the_machines_is_ours() {
        let server = |start: &str| subnet(&["--adapter=two0", start, "--leaseCount=5"]).server;
        assert_eq!(server("--startAddress=10.0.1.9"), Ipv4Addr::new(10, 0, 1, 1));
        assert_eq!(server("--startAddress=10.0.0.9"), Ipv4Addr::new(10, 0, 0, 1));
        let line = ["--adapter=two0", "--addressDHCP=10.0.1.1", "--startAddress=10.0.1.9"];
        assert_eq!(subnet(&line).server, Ipv4Addr::new(10, 0, 1, 1));
    }

    #[test]
    fn what_belongs_to_somebody_is_left_out_of_the_range() {
        let line = [
            "--enableDHCP",
            "--adapter=tiny0",
            "--startAddress=172.16.0.2",
            "--leaseCount=5",
            "--gateway=172.16.0.6",
            "--dns=172.16.0.3,172.16.0.6",
        ];
        let (_directory, host) = machine();
        let checked = checked(&host, &line);
        let subnet = checked
            .outcome
            .expect("it is right")
            .dhcp
            .expect("a DHCP server")
            .by_flags
            .expect("a network");
        let given: Vec<Ipv4Addr> = subnet.pool.addresses().collect();
        assert_eq!(given, [2, 4, 5].map(|last| Ipv4Addr::new(172, 16, 0, last)));
        let remarks: Vec<String> = checked.remarks.iter().map(Remark::to_string).collect();
        for text in ["172.16.0.3 is left out", "172.16.0.6 is left out", "tiny0 is down"] {
            assert!(remarks.iter().any(|remark| remark.contains(text)), "{remarks:?}");
        }
        let line = [
            "--adapter=tiny0",
            "--startAddress=172.16.0.2",
            "--leaseCount=1",
            "--gateway=172.16.0.2",
        ];
        assert!(problems(&line).contains("every address of the range"));
    }

    #[test]
    fn a_router_elsewhere_is_remarked_on() {
        let (_directory, host) = machine();
        let line =
            ["--enableDHCP", "--adapter=eth0", "--startAddress=192.168.0.9", "--gateway=10.0.0.1"];
        let remarks = format!("{:?}", checked(&host, &line).remarks);
        assert!(remarks.contains("--gateway=10.0.0.1"), "{remarks}");
    }

    #[test]
    fn a_server_that_is_not_ours_may_be_anywhere() {
        let (_directory, host) = machine();
        let line = [
            "--enableDHCP",
            "--adapter=eth0",
            "--startAddress=192.168.0.9",
            "--addressHTTP=10.9.9.9",
            "--http-port=8080",
            "--addressTFTP=10.9.9.8",
        ];
        let config = config_of(&host, &line);
        let authority = config.http_authority.map(|authority| authority.to_string());
        assert_eq!(authority.as_deref(), Some("10.9.9.9:8080"));
        assert_eq!(config.next_server, Some(Ipv4Addr::new(10, 9, 9, 8)));
        assert_eq!((config.http, config.tftp), (None, None));
    }

    #[test]
    fn no_adapter_is_needed_to_serve_files_on_loopback() {
        let (_directory, host) = machine();
        let line = ["--enableHTTP", "--addressHTTP=127.0.0.1", "--http-port=0"];
        let http = config_of(&host, &line).http.map(|http| http.to_string());
        assert_eq!(http.as_deref(), Some("127.0.0.1:0"));
    }
}
