//! Checks what machines are told of the network, and which of its addresses
//! they are given.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Dhcp, Fault, Remark, Setting, checker::Checker};
use crate::model::{Pool, Seconds, Subnet};

/// The ancestor's number of leases.
const LEASE_COUNT: u32 = 20;
/// So many addresses can be kept in memory, and are more than a site has machines.
const MOST_LEASES: u32 = 1 << 16;
/// The ancestor's two hours.
const LEASE_TIME: u32 = 7200;
/// Shorter ones are renewed without end, a longer one than a year is forgotten.
const LEASE_TIMES: std::ops::RangeInclusive<u32> = 60..=31_536_000;

/// The adapter, and our own address on it.
pub(super) struct Network {
    adapter: Option<String>,
    own: Option<Ipv4Net>,
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
        Self { adapter: name, own }
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
            return Some(address);
        }
        let unknown = self.own.is_none()
            && !checker.given.has(Setting::AddressDhcp)
            && !checker.given.has(Setting::Adapter);
        if is_ours && unknown {
            let because = "with the server enabled, or --adapter to take it from";
            checker.problem(setting, Fault::Missing { because });
        }
        self.own.map(|own| own.addr())
    }
}

/// The DHCP server, if it is wanted and nothing is wrong with it. Numbers and
/// addresses are checked in any case.
pub(super) fn dhcp(checker: &mut Checker<'_>, network: &Network, port: u16) -> Option<Dhcp> {
    let count = checker.number(Setting::LeaseCount, LEASE_COUNT, 1..=MOST_LEASES);
    let seconds = checker.number(Setting::LeaseTime, LEASE_TIME, LEASE_TIMES);
    let gateway = checker.address(Setting::Gateway);
    let dns = match checker.given.text(Setting::Dns).map(str::to_owned) {
        Some(text) => checker.addresses_in(Setting::Dns, &text),
        None => Vec::new(),
    };
    if !checker.switch(Setting::EnableDhcp) {
        return None;
    }
    for needed in [Setting::Adapter, Setting::StartAddress] {
        if !checker.given.has(needed) {
            checker.problem(needed, Fault::Missing { because: "with --enable-dhcp" });
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
    let mut pool = range(checker, own, start, count)?;
    pool.except = taken(&pool, [server, gateway].into_iter().chain(dns.iter().copied()));
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
    let lease_time = Seconds(seconds);
    let subnet = Subnet { network: own.trunc(), server, gateway, dns, pool, lease_time };
    Some(Dhcp { adapter: network.adapter.clone()?, port, subnet })
}

/// The addresses that machines are given, none of them impossible.
fn range(checker: &mut Checker<'_>, own: Ipv4Net, first: Ipv4Addr, count: u32) -> Option<Pool> {
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
    Some(Pool { first, last, except: Vec::new() })
}

/// Those of the range that belong to somebody, lowest first, each once.
fn taken(pool: &Pool, owned: impl Iterator<Item = Ipv4Addr>) -> Vec<Ipv4Addr> {
    let mut taken: Vec<Ipv4Addr> = owned.filter(|address| pool.contains(*address)).collect();
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
    if adapter.addresses.is_empty() {
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
