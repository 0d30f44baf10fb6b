//! What machines are told by DHCP besides their boot file, as it is written: in a
//! `[[subnet]]` table, in a `[[profile]]`, or of a machine in the inventory. Knows what
//! each option looks like, and which of them make no sense.

use std::{collections::BTreeMap, fmt::Display, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::{
    Fault,
    checker::is_no_machine,
    network::{LEASE_TIME, LEASE_TIMES},
    subnet_table::{Code, OptionTable, Text},
};
use crate::model::{
    DhcpOptions, Domain, Hostname, LeaseTimes, Overlay, Route, Seconds, addresses_value,
};

/// The smallest that a link may have (RFC 2132 §5.1).
const SMALLEST_MTU: u16 = 68;

/// What is told instead of what the network says, or besides it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OverlayTable {
    /// The router (option 3).
    pub router: Option<Ipv4Addr>,
    /// The name servers (option 6).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv4Addr>,
    /// The name of one machine (option 12), unless its instance has another.
    pub hostname: Option<Hostname>,
    /// Seconds.
    pub lease_time: Option<u32>,
    /// T1, seconds.
    pub renew_time: Option<u32>,
    /// T2, seconds.
    pub rebind_time: Option<u32>,
    /// The domain (option 15).
    pub domain: Option<Text<Domain>>,
    /// The domains that names are looked up in (option 119).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<Text<Domain>>,
    /// The time servers (option 42).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<Ipv4Addr>,
    /// The largest packet (option 26).
    pub mtu: Option<u16>,
    /// Static routes (option 121).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Text<Route>>,
    /// Any other option by its code.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<Text<Code>, OptionTable>,
}

/// A line that makes no sense.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) key: &'static str,
    /// As it was written; empty if it was not.
    pub(super) value: String,
    pub(super) fault: Fault,
}

impl Wrong {
    fn new(key: &'static str, value: &impl Display, fault: Fault) -> Self {
        Self { key, value: value.to_string(), fault }
    }
}

impl OverlayTable {
    /// What it means, as far as it is right, and what is wrong.
    pub(super) fn overlay(&self) -> (Overlay, Vec<Wrong>) {
        let (options, mut wrong) = self.options();
        let is_timed = [self.lease_time, self.renew_time, self.rebind_time] != [None; 3];
        let times = is_timed.then(|| {
            if self.lease_time.is_none() {
                let because = "with `renew-time` or `rebind-time`";
                wrong.push(Wrong::new("lease-time", &"", Fault::Missing { because }));
            }
            let (times, more) = self.times();
            wrong.extend(more);
            times
        });
        (Overlay { options, times }, wrong)
    }

    /// The options alone.
    pub(super) fn options(&self) -> (DhcpOptions, Vec<Wrong>) {
        let (mut options, mut wrong) = (DhcpOptions::default(), Vec::new());
        let router: Vec<Ipv4Addr> = self.router.into_iter().collect();
        for (key, code, addresses) in
            [("router", 3, &router), ("dns", 6, &self.dns), ("ntp", 42, &self.ntp)]
        {
            for address in addresses.iter().filter(|address| is_no_machine(**address)) {
                wrong.push(Wrong::new(key, address, Fault::NoMachine { address: *address }));
            }
            if !addresses.is_empty() {
                options.set(code, addresses_value(addresses));
            }
        }
        if let Some(hostname) = &self.hostname {
            options.set(12, hostname.as_str().as_bytes().to_vec());
        }
        if let Some(Text(domain)) = &self.domain {
            options.set(15, domain.to_string().into_bytes());
        }
        if !self.search.is_empty() {
            options.set(119, self.search.iter().flat_map(|Text(domain)| domain.value()).collect());
        }
        if let Some(mtu) = self.mtu {
            if mtu < SMALLEST_MTU {
                let (least, most) = (SMALLEST_MTU.into(), u16::MAX.into());
                wrong.push(Wrong::new("mtu", &mtu, Fault::NotANumber { least, most }));
            }
            options.set(26, mtu.to_be_bytes().to_vec());
        }
        if !self.routes.is_empty() {
            options.set(121, self.routes.iter().flat_map(|Text(route)| route.value()).collect());
        }
        for (Text(code), value) in &self.options {
            if let Some(instead) = said_otherwise(*code) {
                wrong.push(Wrong::new("options", code, Fault::OptionElsewhere { instead }));
            }
            match value.bytes() {
                Some(bytes) if (1..=1024).contains(&bytes.len()) => options.set(code.0, bytes),
                Some(_) | None => wrong.push(Wrong::new("options", code, Fault::OptionLength)),
            }
        }
        (options, wrong)
    }

    /// The times, with those that are usual where nothing is said.
    pub(super) fn times(&self) -> (LeaseTimes, Vec<Wrong>) {
        let mut wrong = Vec::new();
        let lease = self.lease_time.unwrap_or(LEASE_TIME);
        if !LEASE_TIMES.contains(&lease) {
            let (least, most) = LEASE_TIMES.into_inner();
            wrong.push(Wrong::new("lease-time", &lease, Fault::NotANumber { least, most }));
        }
        let usual = LeaseTimes::of(Seconds(lease));
        let renew = self.renew_time.map_or(usual.renew, Seconds);
        let rebind = self.rebind_time.map_or(usual.rebind, Seconds);
        let times = LeaseTimes { renew, rebind, lease: Seconds(lease) };
        if times.renew.0 == 0 || times.renew.0 >= times.rebind.0 || times.rebind.0 >= lease {
            let told = [("renew-time", renew), ("rebind-time", rebind)];
            let [renew, rebind] = told.map(|(name, Seconds(time))| format!("{name} {time}"));
            let fault = Fault::Times { renew, rebind, lease };
            wrong.push(Wrong::new("lease-time", &lease, fault));
        }
        (times, wrong)
    }
}

/// What says an option that cannot be set by its number.
const fn said_otherwise(Code(code): Code) -> Option<&'static str> {
    Some(match code {
        1 | 28 => "`network` says it",
        3 => "`router` says it",
        6 => "`dns` says it",
        12 => "an instance says it, or `hostname` in the inventory",
        15 => "`domain` says it",
        26 => "`mtu` says it",
        42 => "`ntp` says it",
        51 => "`lease-time` says it",
        58 => "`renew-time` says it",
        59 => "`rebind-time` says it",
        119 => "`search` says it",
        121 => "`routes` says it",
        50 | 52 | 53 | 54 | 55 | 57 | 61 | 82 | 118 => "the protocol needs it for itself",
        _ => return None,
    })
}
