//! The `[[profile]]` tables of the file: what machines of an architecture, on a network
//! or with labels are told by DHCP. Checks them.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    Dhcp, DhcpPart, Fault, Remark,
    checker::Checker,
    loaders::labels,
    overlay_table::{OverlayTable, Wrong},
    subnet_table::Text,
};
use crate::model::{Architecture, MachineKind, Profile, Tags};

/// A table as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileTable {
    /// Only machines of this architecture.
    pub arch: Option<Architecture>,
    /// Only machines on this network.
    pub network: Option<Text<IpNet>>,
    /// Only machines with all of these labels.
    #[serde(default, deserialize_with = "labels", skip_serializing_if = "Tags::is_empty")]
    pub labels: Tags,
    /// What they are told.
    pub dhcp: OverlayTable,
}

/// The profiles of the tables, as far as they are right.
pub(super) fn of(checker: &mut Checker<'_>, dhcp: Option<&Dhcp>) -> Vec<Profile> {
    let given = checker.given;
    let mut profiles = Vec::new();
    let gives = dhcp.is_some_and(|dhcp| dhcp.part != DhcpPart::Proxy);
    if !gives && !given.profiles().is_empty() {
        let text =
            format!("[[profile]] in {}: no address is given, so nobody is told", given.file());
        checker.remark(Remark::Warning(text));
    }
    for table in given.profiles() {
        let (overlay, mut wrong) = table.dhcp.overlay();
        if let Some(hostname) = &table.dhcp.hostname {
            let instead = "a profile is of many machines; the inventory or an instance says it";
            let (value, fault) = (hostname.as_str().to_owned(), Fault::OptionElsewhere { instead });
            wrong.push(Wrong { key: "hostname", value, fault });
        }
        let router = table.dhcp.router.filter(|router| is_given_away(dhcp, *router));
        if let Some(address) = router {
            let fault = Fault::GivenAway { address };
            let value = address.to_string();
            wrong.push(Wrong { key: "router", value, fault });
        }
        for Wrong { key, value, fault } in wrong {
            let line = if value.is_empty() { key.to_owned() } else { format!("{key} = {value}") };
            checker.problem_at(format!("`{line}` of [[profile]] in {}", given.file()), fault);
        }
        let kind = MachineKind {
            architecture: table.arch,
            network: table.network.map(|Text(network)| network),
            labels: table.labels.clone(),
        };
        profiles.push(Profile { kind, overlay });
    }
    profiles
}

/// Whether a machine may be given this address.
fn is_given_away(dhcp: Option<&Dhcp>, address: Ipv4Addr) -> bool {
    let subnets = dhcp.into_iter().flat_map(|dhcp| dhcp.by_flags.iter().chain(&dhcp.tables));
    subnets.flat_map(|subnet| &subnet.pool.ranges).any(|range| range.contains(address))
}

#[cfg(test)]
mod tests {
    use super::super::{
        Checked,
        check::tests::{checked, machine},
        show,
    };
    use super::*;
    use crate::model::{LeaseTimes, Seconds};

    const RIGHT: &str = r#"
        enable-dhcp = true
        [[subnet]]
        network = "10.0.1.0/24"
        adapter = "two0"
        ranges = ["10.0.1.100-10.0.1.199"]
        [[profile]]
        arch = "bios"
        network = "10.0.1.0/24"
        labels = { role = "db" }
        [profile.dhcp]
        router = "10.0.1.7"
        dns = ["10.0.1.8", "10.0.1.9"]
        lease-time = 600
        domain = "db.example"
        search = ["db.example"]
        ntp = ["10.0.1.123"]
        mtu = 9000
        routes = ["10.0.0.0/8 via 10.0.1.2"]
        options = { "66" = "text:boot", "43" = { "1" = "u8:7" } }
        [[profile]]
        dhcp = { mtu = 1400 }
    "#;

    /// What comes of these files, one after the other.
    fn of_files(text: &str, then: impl Fn(&Checked) -> Option<String>) -> Vec<Checked> {
        let (directory, host) = machine();
        let read = |text: &str| {
            std::fs::write(directory.path().join("racks.toml"), text).expect("written");
            checked(&host, &["--config=racks.toml"])
        };
        let first = read(text);
        let second = then(&first).map(|text| read(&text));
        [first].into_iter().chain(second).collect()
    }

    #[test]
    fn a_profile_says_whose_it_is_and_all_that_a_network_can_say_and_is_shown_so() {
        let both = of_files(RIGHT, |first| Some(show(first)));
        let outcomes: Vec<_> = both.into_iter().map(|one| one.outcome.expect("right")).collect();
        assert_eq!(outcomes[0], outcomes[1], "as it is shown");
        let [whole, all] = outcomes[0].profiles.as_slice() else { panic!("two") };
        assert_eq!(whole.kind.architecture, Some(Architecture::Bios));
        assert_eq!(whole.kind.labels.len(), 1);
        assert!(whole.kind.network.is_some() && all.kind == MachineKind::default());
        let codes: Vec<u8> = whole.overlay.options.iter().map(|(code, _)| code).collect();
        assert_eq!(codes, [3, 6, 15, 26, 42, 43, 66, 119, 121]);
        assert_eq!(whole.overlay.times, Some(LeaseTimes::of(Seconds(600))));
        assert_eq!((all.overlay.options.get(26), all.overlay.times), (Some(&[5, 120][..]), None));
    }

    #[test]
    fn that_a_profile_tells_nobody_beside_another_server_is_said() {
        let profile = "[[profile]]\ndhcp = { mtu = 1400 }\n";
        for (part, is_said) in [("proxy", true), ("off", true), ("server", false)] {
            let text = RIGHT.split("[[profile]]").next().expect("a network");
            let text = text.replace("enable-dhcp = true", &format!("dhcp = '{part}'"));
            let [checked] =
                of_files(&format!("{text}\n{profile}"), |_| None).try_into().expect("one");
            let said = format!("{:?}", checked.remarks);
            assert_eq!(said.contains("nobody is told"), is_said, "{part}: {said}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_profile_is_named() {
        for (line, said) in [
            ("router = '10.0.1.150'", "may be given to a machine"),
            ("router = '255.255.255.255'", "no machine's address"),
            ("hostname = 'db'", "a profile is of many machines"),
            ("mtu = 60", "is not a whole number from 68"),
            ("renew-time = 60", "`lease-time` of [[profile]] in racks.toml: is needed"),
            ("lease-time = 600\nrenew-time = 600", "each must be shorter than the next"),
            ("options = { '53' = 'u8:1' }", "the protocol needs it for itself"),
            ("options = { '3' = 'ip:10.0.1.1' }", "`router` says it"),
            ("vlan = 7", "unknown field `vlan`"),
        ] {
            let subnet = RIGHT.split("[[profile]]").next().expect("a network");
            let text = format!("{subnet}\n[[profile]]\n[profile.dhcp]\n{line}\n");
            let [checked] = of_files(&text, |_| None).try_into().expect("one");
            let error = checked.outcome.expect_err(said).to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
