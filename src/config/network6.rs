//! Checks what machines are told of their IPv6 networks, and which addresses of
//! them they are given.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::{
    Dhcp6, Fault, Ipv6, Remark, Setting,
    checker::Checker,
    network::{LEASE_TIME, LEASE_TIMES, MOST_LEASES},
};
use crate::model::{Pool6, Seconds, Subnet6};

/// The port of DHCPv6 servers (RFC 8415 §7.2).
const DHCP6_PORT: u32 = 547;
/// The first port has none before it for answers.
const DHCP6_PORTS: std::ops::RangeInclusive<u32> = 2..=65535;
/// The settings that say nothing without `--enable-dhcp6`.
const OF_DHCP6: [Setting; 6] = [
    Setting::Subnet6,
    Setting::Range6,
    Setting::Dns6,
    Setting::Search6,
    Setting::Ntp6,
    Setting::Dhcp6Port,
];

/// What is served over IPv6, if anything is wanted and nothing is wrong with it.
pub(super) fn ipv6(checker: &mut Checker<'_>) -> Option<Ipv6> {
    let is_wanted = checker.switch(Setting::EnableDhcp6);
    let dhcp = Dhcp6 {
        port: u16::try_from(checker.number(Setting::Dhcp6Port, DHCP6_PORT, DHCP6_PORTS))
            .unwrap_or_default(),
        subnets: Vec::new(),
        dns: addresses(checker, Setting::Dns6),
        search: search(checker),
        ntp: addresses(checker, Setting::Ntp6),
        lease_time: Seconds(checker.number(Setting::LeaseTime, LEASE_TIME, LEASE_TIMES)),
    };
    let networks = networks(checker);
    let ranges = ranges(checker);
    if !is_wanted {
        for setting in OF_DHCP6 {
            if checker.given.has(setting) {
                let place = checker.given.place(setting);
                let text = format!("{place}: says nothing without --enable-dhcp6");
                checker.remark(Remark::Warning(text));
            }
        }
        if !checker.given.has(Setting::Address6) {
            return None;
        }
    }
    if !checker.given.has(Setting::Adapter) {
        checker.problem(Setting::Adapter, Fault::Missing { because: "to serve IPv6 on it" });
        return None;
    }
    let own = own(checker)?;
    let networks = if networks.is_empty() { vec![own.trunc()] } else { networks };
    if is_wanted && !networks.iter().any(|network| network.contains(&own.addr())) {
        let text = format!(
            "{}: our own address {} is in none of them, so only clients behind relays are answered",
            checker.given.place(Setting::Subnet6),
            own.addr()
        );
        checker.remark(Remark::Warning(text));
    }
    let taken = [&[own.addr()], dhcp.dns.as_slice(), dhcp.ntp.as_slice()].concat();
    let subnets = subnets(checker, networks, (ranges, &taken));
    let dhcp = is_wanted.then_some(Dhcp6 { subnets, ..dhcp });
    let adapter = checker.given.text(Setting::Adapter)?.to_owned();
    Some(Ipv6 { adapter, server: own.addr(), tftp: None, dhcp })
}

/// Our own address with its network: the one that was given, else the adapter's
/// first that others than its neighbours can reach, too.
fn own(checker: &mut Checker<'_>) -> Option<Ipv6Net> {
    let name = checker.given.text(Setting::Adapter)?.to_owned();
    // An adapter that there is not is named elsewhere.
    let adapter = checker.host.adapters.iter().find(|adapter| adapter.name == name)?;
    let known = &adapter.addresses6;
    if let Some(text) = checker.given.text(Setting::Address6) {
        let address = address(checker, Setting::Address6, text)?;
        let own = known.iter().find(|own| own.addr() == address).copied();
        if own.is_none() {
            let known = known.iter().map(Ipv6Net::addr).collect();
            checker.problem(Setting::Address6, Fault::NotOurs6 { of: name, known });
        }
        return own;
    }
    let own = known.iter().find(|own| !own.addr().is_unicast_link_local()).copied();
    if own.is_none() {
        checker.problem(Setting::Address6, Fault::AdapterWithoutAddress6 { adapter: name });
    }
    own
}

fn subnets(
    checker: &mut Checker<'_>,
    networks: Vec<Ipv6Net>,
    (ranges, taken): (Vec<(Ipv6Addr, Ipv6Addr)>, &[Ipv6Addr]),
) -> Vec<Subnet6> {
    let mut subnets: Vec<Subnet6> =
        networks.into_iter().map(|network| Subnet6 { network, pool: None }).collect();
    for (first, last) in ranges {
        let within = |subnet: &&mut Subnet6| {
            subnet.network.contains(&first) && subnet.network.contains(&last)
        };
        let Some(subnet) = subnets.iter_mut().find(within) else {
            checker.problem(Setting::Range6, Fault::Range6Outside { first, last });
            continue;
        };
        if subnet.pool.is_some() {
            let network = subnet.network;
            checker.problem(Setting::Range6, Fault::SecondRange6 { network });
            continue;
        }
        let mut pool = Pool6 { first, last, except: Vec::new() };
        // The network's own is the routers' anycast address (RFC 4291 §2.6.1).
        let taken = taken.iter().copied().chain([subnet.network.network()]);
        let mut except: Vec<Ipv6Addr> = taken.filter(|address| pool.contains(*address)).collect();
        except.sort();
        except.dedup();
        pool.except = except;
        if pool.addresses().next().is_none() {
            checker.problem(Setting::Range6, Fault::NothingLeft);
        }
        subnet.pool = Some(pool);
    }
    subnets
}

fn networks(checker: &mut Checker<'_>) -> Vec<Ipv6Net> {
    let mut networks: Vec<Ipv6Net> = Vec::new();
    for text in texts(checker, Setting::Subnet6) {
        match text.parse::<Ipv6Net>() {
            Ok(network) if networks.iter().any(|other| overlap(other, &network)) => {
                checker.problem(Setting::Subnet6, Fault::Overlap6 { network });
            }
            Ok(network) => networks.push(network.trunc()),
            Err(_) => checker.problem(Setting::Subnet6, Fault::NotANetwork6 { text }),
        }
    }
    networks
}

fn overlap(one: &Ipv6Net, other: &Ipv6Net) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

fn ranges(checker: &mut Checker<'_>) -> Vec<(Ipv6Addr, Ipv6Addr)> {
    let mut ranges = Vec::new();
    for text in texts(checker, Setting::Range6) {
        let ends = text.split_once('-').and_then(|(first, last)| {
            let end = |text: &str| text.trim().parse::<Ipv6Addr>().ok();
            Some((end(first)?, end(last)?)).filter(|(first, last)| first <= last)
        });
        let Some((first, last)) = ends else {
            checker.problem(Setting::Range6, Fault::NotARange6 { text });
            continue;
        };
        if u128::from(last) - u128::from(first) >= u128::from(MOST_LEASES) {
            checker.problem(Setting::Range6, Fault::Range6TooLarge { most: MOST_LEASES });
            continue;
        }
        ranges.push((first, last));
    }
    ranges
}

/// Names as DNS has them (RFC 1035 §2.3.4): labels of 1 to 63 bytes, 253 in all.
fn search(checker: &mut Checker<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for text in texts(checker, Setting::Search6) {
        let name = text.trim_end_matches('.');
        let is_label = |label: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            (1..=63).contains(&label.len()) && label.bytes().all(plain)
        };
        if name.len() <= 253 && name.split('.').all(is_label) {
            names.push(name.to_owned());
        } else {
            checker.problem(Setting::Search6, Fault::NotADomain { text });
        }
    }
    names
}

fn addresses(checker: &mut Checker<'_>, setting: Setting) -> Vec<Ipv6Addr> {
    let texts = texts(checker, setting);
    texts.iter().filter_map(|text| address(checker, setting, text)).collect()
}

fn address(checker: &mut Checker<'_>, setting: Setting, text: &str) -> Option<Ipv6Addr> {
    match text.parse::<Ipv6Addr>() {
        Ok(address) if !address.is_unspecified() && !address.is_multicast() => Some(address),
        Ok(_) | Err(_) => {
            checker.problem(setting, Fault::NotAnAddress6 { text: text.to_owned() });
            None
        }
    }
}

/// What is between the commas.
fn texts(checker: &Checker<'_>, setting: Setting) -> Vec<String> {
    let text = checker.given.text(setting).unwrap_or_default();
    text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::tests::{checked, config_of, machine, problems_of};

    const SIX: [&str; 2] = ["--adapter=six0", "--enable-dhcp6"];

    fn ipv6(line: &[&str]) -> Ipv6 {
        let (_directory, host) = machine();
        config_of(&host, &[&SIX, line].concat()).ipv6.expect("IPv6 is served")
    }

    #[test]
    fn each_impossible_network_is_named() {
        let cases: [(&[&str], &[&str]); 15] = [
            (&["--enable-dhcp6"], &["--adapter: is needed"]),
            (&["--adapter=eth0", "--enable-dhcp6"], &["--address6", "eth0 has no IPv6 address"]),
            (&["--adapter=eth9", "--enable-dhcp6"], &["--adapter=eth9", "no such adapter"]),
            (&["--address6=fd00:77::9"], &["--address6=fd00:77::9", "six0", "fd00:77::1"]),
            (&["--address6=10.0.0.1"], &["--address6=10.0.0.1", "not an IPv6"]),
            (&["--address6=ff02::1"], &["--address6=ff02::1", "not an IPv6"]),
            (&["--subnet6=fd00:77::"], &["--subnet6=fd00:77::", "fd00::/64"]),
            (&["--subnet6=fd00::/64,fd00::/48"], &["--subnet6=", "fd00::/48 overlaps"]),
            (&["--range6=fd00:77::1"], &["--range6=fd00:77::1", "fd00::100-fd00::1ff"]),
            (&["--range6=fd00:77::9-fd00:77::8"], &["--range6=", "fd00::100-fd00::1ff"]),
            (&["--range6=fd00:78::1-fd00:78::2"], &["--range6=", "is in none of the networks"]),
            (&["--range6=fd00:77::1-fd00:77::2:0"], &["--range6=", "65536"]),
            (&["--search6=a..b"], &["--search6=a..b", "no domain"]),
            (&["--dhcp6-port=1"], &["--dhcp6-port=1"]),
            (
                &["--enable-tftp", "--tftp-port=547"],
                &["--tftp-port=547: is the port of --dhcp6-port"],
            ),
        ];
        let (_directory, host) = machine();
        for (line, named) in cases {
            let has_adapter = line.iter().any(|word| word.starts_with("--adapter"));
            let is_bare = has_adapter || line == ["--enable-dhcp6"];
            let all = if is_bare { line.to_vec() } else { [&SIX, line].concat() };
            let problems = problems_of(&host, &all);
            assert!(named.iter().all(|text| problems.contains(text)), "{line:?}: {problems}");
        }
    }

    #[test]
    fn without_a_range_only_options_are_given() {
        let Ipv6 { adapter, server, tftp: _, dhcp } = ipv6(&[]);
        let dhcp = dhcp.expect("a DHCPv6 server");
        assert_eq!((adapter.as_str(), server.to_string().as_str()), ("six0", "fd00:77::1"));
        let network = "fd00:77::/64".parse().expect("a network");
        assert_eq!(dhcp.subnets, [Subnet6 { network, pool: None }]);
        assert_eq!(dhcp.port, 547);
    }

    #[test]
    fn each_range_goes_to_its_network_without_what_belongs_to_somebody() {
        let dhcp = ipv6(&[
            "--subnet6=fd00:77::/64, fd00:88::/64",
            "--range6=fd00:88::-fd00:88::f,fd00:77::1-fd00:77::4",
            "--dns6=fd00:77::3",
            "--search6=a.example.,b.example",
        ])
        .dhcp
        .expect("a DHCPv6 server");
        let given = |place: usize| {
            let pool = dhcp.subnets[place].pool.as_ref().expect("a range");
            pool.addresses().map(|address| address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(given(0), ["fd00:77::2", "fd00:77::4"]);
        assert_eq!((given(1).len(), given(1)[0].as_str()), (15, "fd00:88::1"));
        assert_eq!(dhcp.search, ["a.example", "b.example"]);
    }

    #[test]
    fn what_check_shows_of_ipv6_means_the_same_again() {
        let (directory, host) = machine();
        let more = [
            "--subnet6=fd00:77::/64,fd00:88::/64",
            "--range6=fd00:77::9-fd00:77::10",
            "--dns6=fd00:77::3",
            "--search6=a.example",
            "--ntp6=fd00:77::4",
            "--enable-tftp",
        ];
        let first = checked(&host, &[&SIX[..], &more].concat());
        std::fs::write(directory.path().join("shown.toml"), crate::config::show(&first))
            .expect("written");
        let second = config_of(&host, &["--config=shown.toml"]);
        assert_eq!(second, first.outcome.expect("it is right"));
    }

    #[test]
    fn what_says_nothing_without_the_server_is_remarked_on() {
        let (_directory, host) = machine();
        let line = ["--range6=fd00:77::1-fd00:77::4"];
        let remarks = format!("{:?}", checked(&host, &line).remarks);
        assert!(remarks.contains("--enable-dhcp6"), "{remarks}");
        assert_eq!(config_of(&host, &line).ipv6, None);
    }

    #[test]
    fn files_are_served_over_ipv6_beside_another_dhcp_server() {
        let (_directory, host) = machine();
        let config = config_of(&host, &["--adapter=six0", "--address6=fd00:77::1"]);
        assert_eq!(config.ipv6.expect("IPv6 is served").dhcp, None);
    }

    #[test]
    fn an_adapter_with_ipv6_alone_is_enough_for_ipv6() {
        let (_directory, host) = machine();
        let line = [&SIX[..], &["--enable-tftp", "--enable-http"]].concat();
        let config = config_of(&host, &line);
        assert_eq!((config.http, config.tftp, config.dhcp), (None, None, None));
        assert_eq!((config.ports.http, config.ports.tftp), (Some(80), Some(69)));
        let problems = problems_of(&host, &[&line[..], &["--enable-dhcp"]].concat());
        assert!(problems.contains("--adapter=six0: the adapter has no IPv4 address"), "{problems}");
    }
}
