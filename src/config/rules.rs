//! Checks the rules for machines that no instance claims, and for sending machines
//! to their disks: those of the file, `--unclaimed`, and the three arguments.

use std::path::PathBuf;

use ipnet::IpNet;

use super::{
    Dhcp, DhcpPart, Fault, Ipv6, Remark, Setting,
    checker::{Checker, readable},
    given::IMAGE,
    rule_tables::{LocalBootTable, UnclaimedTable, Whom},
    subnet_table::Text,
};
use crate::{
    boot::{
        Rules, UnclaimedImage, cmdline,
        rules::{LocalRule, Rule, Scope, Then, Whose},
    },
    model::Treatment,
};

/// The networks that are served, and whether others may be behind relays.
#[derive(Debug, Clone, Default)]
pub(super) struct Served {
    networks: Vec<IpNet>,
    /// Without a server of ours for them, machines of other networks may come.
    is_all_of_ipv4: bool,
    is_all_of_ipv6: bool,
}

impl Served {
    pub(super) fn of(dhcp: Option<&Dhcp>, ipv6: Option<&Ipv6>) -> Self {
        let tables = dhcp.iter().flat_map(|dhcp| dhcp.by_flags.iter().chain(&dhcp.tables));
        let dhcp6 = ipv6.and_then(|ipv6| ipv6.dhcp.as_ref());
        let tables6 = dhcp6.iter().flat_map(|dhcp| &dhcp.subnets);
        let networks = tables.map(|subnet| IpNet::V4(subnet.network));
        Self {
            networks: networks.chain(tables6.map(|subnet| IpNet::V6(subnet.network))).collect(),
            is_all_of_ipv4: dhcp.is_some_and(|dhcp| match dhcp.part {
                DhcpPart::Server | DhcpPart::Auto => true,
                DhcpPart::Proxy => false,
            }),
            is_all_of_ipv6: dhcp6.is_some(),
        }
    }
}

/// All rules, in the order in which they hold: the tables, the flag, the arguments.
pub(super) fn rules(
    checker: &mut Checker<'_>,
    arguments: Option<&UnclaimedImage>,
    served: &Served,
) -> Rules {
    let given = checker.given;
    let mut rules: Vec<(String, Rule)> = Vec::new();
    for (place, table) in given.unclaimed().iter().enumerate() {
        let name = format!("[[unclaimed]] number {} in {}", place + 1, given.file());
        let rule = Desk { checker, name: &name, served }.unclaimed(table);
        rules.extend(rule.map(|rule| (name, rule)));
    }
    if let Some(then) = flag(checker) {
        let rule = Rule { scope: Scope::default(), machines: Whose::Strangers, then };
        rules.push((given.place(Setting::Unclaimed), rule));
    }
    if let Some(image) = arguments {
        let then = Then::Image(image.clone());
        let rule = Rule { scope: Scope::default(), machines: Whose::All, then };
        rules.push((given.place(IMAGE[0]), rule));
    }
    for (place, (name, rule)) in rules.iter().enumerate() {
        if let Some((other, _)) = rules[..place].iter().find(|(_, first)| first.covers(rule)) {
            checker.problem_at(name.clone(), Fault::Unreachable { other: other.clone() });
        }
    }
    let mut ways: Vec<(String, LocalRule)> = Vec::new();
    for (place, table) in given.local_boot().iter().enumerate() {
        let name = format!("[[local-boot]] number {} in {}", place + 1, given.file());
        let LocalBootTable { subnet, architecture, way } = *table;
        let scope = Desk { checker, name: &name, served }.scope(subnet, architecture);
        if let Some((other, _)) = ways.iter().find(|(_, first)| first.scope.covers(scope)) {
            checker.problem_at(name.clone(), Fault::Unreachable { other: other.clone() });
        }
        ways.push((name, LocalRule { scope, way }));
    }
    let unclaimed = rules.into_iter().map(|(_, rule)| rule).collect();
    Rules::new(unclaimed, ways.into_iter().map(|(_, way)| way).collect())
}

/// What `--unclaimed` says, if it says anything.
fn flag(checker: &mut Checker<'_>) -> Option<Then> {
    match checker.given.text(Setting::Unclaimed)? {
        "hold" => Some(Then::Hold),
        "local" => Some(Then::Local),
        "ignore" => Some(Then::Ignore),
        _ => {
            let fault = Fault::NotOneOf { known: "hold, local, ignore" };
            checker.problem(Setting::Unclaimed, fault);
            None
        }
    }
}

/// One table under examination.
struct Desk<'a, 'b> {
    checker: &'a mut Checker<'b>,
    /// How a person finds it again.
    name: &'a str,
    served: &'a Served,
}

impl Desk<'_, '_> {
    fn unclaimed(&mut self, table: &UnclaimedTable) -> Option<Rule> {
        let scope = self.scope(table.subnet, table.architecture);
        let machines = match table.machines {
            Some(Whom::All) => Whose::All,
            Some(Whom::Strangers) | None => Whose::Strangers,
        };
        let then = match table.then {
            Treatment::Image => Then::Image(self.image(table)?),
            Treatment::Hold => self.without_image(table, Then::Hold),
            Treatment::Local => self.without_image(table, Then::Local),
            Treatment::Ignore => {
                if machines == Whose::All {
                    self.problem("machines = all", Fault::IgnoresThePool);
                }
                self.without_image(table, Then::Ignore)
            }
        };
        Some(Rule { scope, machines, then })
    }

    fn scope(
        &mut self,
        subnet: Option<Text<IpNet>>,
        architecture: Option<crate::model::Architecture>,
    ) -> Scope {
        let subnet = subnet.map(|Text(subnet)| subnet);
        if let Some(subnet) = subnet {
            self.subnet(subnet);
        }
        Scope { subnet, architecture }
    }

    /// Every door must find the same machines in it, whatever address they have.
    fn subnet(&mut self, subnet: IpNet) {
        let line = format!("subnet = {subnet}");
        if subnet != subnet.trunc() {
            return self.problem(&line, Fault::NotTheNetwork { network: subnet.trunc() });
        }
        let networks = &self.served.networks;
        if let Some(whole) =
            networks.iter().find(|whole| **whole != subnet && whole.contains(&subnet))
        {
            return self.problem(&line, Fault::PartOfANetwork { network: *whole });
        }
        if networks.iter().any(|network| subnet.contains(network)) {
            return;
        }
        let is_all = match subnet {
            IpNet::V4(_) => self.served.is_all_of_ipv4,
            IpNet::V6(_) => self.served.is_all_of_ipv6,
        };
        if is_all {
            let known = networks.clone();
            return self.problem(&line, Fault::NotServed { known });
        }
        if !networks.is_empty() {
            let text = format!(
                "`{line}` of {}: no network of ours is in it, so it is about machines behind \
                 relays alone",
                self.name
            );
            self.checker.remark(Remark::Warning(text));
        }
    }

    fn image(&mut self, table: &UnclaimedTable) -> Option<UnclaimedImage> {
        let Some(kernel) = &table.kernel else {
            self.problem("kernel", Fault::Missing { because: "with then = \"image\"" });
            return None;
        };
        let kernel = self.file("kernel", kernel);
        let initrds: Vec<_> = table.initrd.iter().map(|file| self.file("initrd", file)).collect();
        let cmdline = table.cmdline.clone().unwrap_or_default();
        if let Err(error) = cmdline::check(&cmdline) {
            let line = format!("cmdline = {}", cmdline.escape_debug());
            self.problem(&line, Fault::Cmdline { reason: error.to_string() });
        }
        Some(UnclaimedImage {
            kernel: kernel?,
            initrds: initrds.into_iter().collect::<Option<_>>()?,
            cmdline,
        })
    }

    fn file(&mut self, key: &str, text: &str) -> Option<PathBuf> {
        let path = self.checker.host.absolute(text);
        match readable(&path) {
            Ok(()) => Some(path),
            Err(reason) => {
                let line = format!("{key} = {}", text.escape_debug());
                self.problem(&line, Fault::File { path, reason });
                None
            }
        }
    }

    fn without_image(&mut self, table: &UnclaimedTable, then: Then) -> Then {
        let keys = [
            ("kernel", table.kernel.is_some()),
            ("initrd", !table.initrd.is_empty()),
            ("cmdline", table.cmdline.is_some()),
        ];
        for (key, _) in keys.into_iter().filter(|(_, is_there)| *is_there) {
            self.problem(key, Fault::NoImage { then: then.treatment().name() });
        }
        then
    }

    fn problem(&mut self, line: &str, fault: Fault) {
        self.checker.problem_at(format!("`{line}` of {}", self.name), fault);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        boot::rules::Spot,
        config::{
            Checked,
            check::tests::{ANCESTRAL, checked, machine, problems_of},
            show,
        },
        model::{Architecture, LocalBoot},
    };

    const NETWORKS: &str = r#"
        enable-dhcp = true
        enable-http = true
        [[subnet]]
        network = "10.0.1.0/24"
        adapter = "two0"
        [[subnet]]
        network = "10.7.0.0/16"
        router = "10.7.0.1"
    "#;

    const RIGHT: &str = r#"
        [[unclaimed]]
        architecture = "arm64-uefi"
        machines = "all"
        then = "image"
        kernel = "kernel"
        initrd = ["initrd", "kernel"]
        cmdline = "console=ttyAMA0 mac={{ mac }}"
        [[unclaimed]]
        subnet = "10.7.0.0/16"
        then = "local"
        [[unclaimed]]
        then = "hold"
        [[local-boot]]
        subnet = "10.7.0.0/16"
        architecture = "x64-uefi"
        way = "exit-0"
    "#;

    /// What comes of this file, and more on the command line.
    fn of_file(text: &str, more: &[&str]) -> Checked {
        let (directory, host) = machine();
        std::fs::write(directory.path().join("r.toml"), text).expect("written");
        checked(&host, &[&["--config=r.toml"], more].concat())
    }

    fn rules_of(text: &str, more: &[&str]) -> Rules {
        let outcome = of_file(text, more).outcome;
        outcome.unwrap_or_else(|problems| panic!("{problems}")).rules
    }

    fn told(rules: &Rules, address: [u8; 4], architecture: Architecture) -> Treatment {
        let spot = Spot { address: address.into(), architecture: Some(architecture) };
        rules.unclaimed(None, spot).treatment()
    }

    #[test]
    fn the_tables_of_the_file_are_rules_in_their_order() {
        let rules = rules_of(&format!("{NETWORKS}{RIGHT}"), &[]);
        for (address, architecture, expected) in [
            ([10, 7, 1, 1], Architecture::Arm64Uefi, Treatment::Image),
            ([10, 7, 1, 1], Architecture::X64Uefi, Treatment::Local),
            ([10, 0, 1, 9], Architecture::X64Uefi, Treatment::Hold),
        ] {
            assert_eq!(told(&rules, address, architecture), expected, "{address:?}");
        }
        let files: Vec<_> = rules.files().filter_map(|path| path.file_name()).collect();
        assert_eq!(files, ["kernel", "initrd", "kernel"]);
        let spot =
            Spot { address: [10, 7, 0, 9].into(), architecture: Some(Architecture::X64Uefi) };
        assert_eq!(rules.local_boot(spot), Some(LocalBoot::ExitZero));
    }

    #[test]
    fn the_flag_is_for_strangers_behind_the_tables_and_the_arguments_are_for_all() {
        let (_directory, host) = machine();
        let rules = |line: &[&str]| {
            checked(&host, &[&ANCESTRAL[..], line].concat()).outcome.expect("right").rules
        };
        let listed = crate::model::Machine::first(
            crate::model::Mac::new([2; 6]),
            crate::model::MachineEvent::Listed,
            crate::model::Timestamp(0),
        );
        let spot = Spot { address: [192, 168, 0, 9].into(), architecture: None };
        for (line, of_a_stranger, of_the_pool) in [
            (&[][..], Treatment::Image, Treatment::Image),
            (&["--unclaimed=local"], Treatment::Local, Treatment::Image),
            (&["--unclaimed=ignore"], Treatment::Ignore, Treatment::Image),
        ] {
            let rules = rules(line);
            assert_eq!(rules.unclaimed(None, spot).treatment(), of_a_stranger, "{line:?}");
            assert_eq!(rules.unclaimed(listed.as_ref(), spot).treatment(), of_the_pool);
        }
        assert!(problems_of(&host, &["--unclaimed=image"]).contains("hold, local, ignore"));
        let by_file = rules_of("unclaimed = \"local\"", &[]);
        assert_eq!(by_file.unclaimed(None, spot).treatment(), Treatment::Local);
    }

    #[test]
    fn what_is_wrong_names_the_rule() {
        for (table, said) in [
            (
                "[[unclaimed]]\nsubnet = '10.8.0.0/16'\nthen = 'hold'",
                "number 1 in r.toml: no network that is served is in it; there are 10.0.1.0/24, 10.7.0.0/16",
            ),
            (
                "[[unclaimed]]\nsubnet = '10.7.1.0/24'\nthen = 'hold'",
                "is only a part of 10.7.0.0/16",
            ),
            (
                "[[unclaimed]]\nsubnet = '10.7.0.1/16'\nthen = 'hold'",
                "10.7.0.0/16 is the one of this address",
            ),
            ("[[unclaimed]]\nthen = 'image'", "`kernel` of [[unclaimed]] number 1"),
            (
                "[[unclaimed]]\nthen = 'image'\nkernel = 'none'",
                "`kernel = none` of [[unclaimed]] number 1",
            ),
            ("[[unclaimed]]\nthen = 'image'\nkernel = 'kernel'\ninitrd = 'nothing'", "is empty"),
            (
                "[[unclaimed]]\nthen = 'image'\nkernel = 'kernel'\ncmdline = '{{ x'",
                "`cmdline = {{ x` of",
            ),
            (
                "[[unclaimed]]\nthen = 'local'\nkernel = 'kernel'",
                "`kernel` of [[unclaimed]] number 1 in r.toml: belongs to then = \"image\", not to \"local\"",
            ),
            ("[[unclaimed]]\nthen = 'ignore'\nmachines = 'all'", "set them aside"),
            (
                "[[unclaimed]]\nthen = 'hold'\n[[unclaimed]]\narchitecture = 'bios'\nthen = 'local'",
                "number 2 in r.toml: is never reached: [[unclaimed]] number 1 in r.toml",
            ),
            (
                "[[local-boot]]\nway = 'exit'\n[[local-boot]]\nsubnet = '10.0.0.0/8'\nway = 'exit-0'",
                "[[local-boot]] number 2 in r.toml: is never reached",
            ),
            (
                "[[local-boot]]\nsubnet = 'fd00::/64'\nway = 'exit'\n[[local-boot]]\nsubnet = '11.0.0.0/8'\nway = 'exit-0'",
                "[[local-boot]] number 2",
            ),
        ] {
            let problems = of_file(&format!("{NETWORKS}{table}"), &[]).outcome.expect_err(said);
            assert!(problems.to_string().contains(said), "{table}: {problems}");
        }
        for (table, said) in [
            ("[[unclaimed]]\nthen = 'reboot'", "`ignore`, `hold`, `local`, `image`"),
            ("[[unclaimed]]\nsubnet = '10.7.0.0'\nthen = 'hold'", "`10.7.0.0`"),
            ("[[unclaimed]]\narchitecture = 'amd64'\nthen = 'hold'", "x64-uefi"),
            ("[[unclaimed]]\nthen = 'hold'\nmachine = 'all'", "machine"),
            ("unclaimed = 5", "hold, local or ignore, or [[unclaimed]] tables"),
            ("[[local-boot]]\nway = 'reboot'", "exit-0"),
        ] {
            let problems = of_file(table, &[]).outcome.expect_err(said).to_string();
            assert!(problems.contains(said) && problems.contains("line "), "{table}: {problems}");
        }
        let text = "[[unclaimed]]\nthen = 'local'\n";
        let problems = of_file(text, &["--unclaimed=ignore"]).outcome.expect_err("never reached");
        assert!(
            problems.to_string().contains("--unclaimed=ignore: is never reached"),
            "{problems}"
        );
    }

    #[test]
    fn the_rules_are_shown_as_a_file_that_means_the_same() {
        let (directory, host) = machine();
        let file = directory.path().join("r.toml");
        let bios = "[[unclaimed]]\narchitecture = 'bios'\nthen = 'hold'\n";
        for (text, line) in [
            (&format!("{NETWORKS}{RIGHT}"), &["--config=r.toml"][..]),
            (&bios.to_owned(), &["--config=r.toml", "--unclaimed=ignore"]),
        ] {
            std::fs::write(&file, text).expect("written");
            let first = checked(&host, line);
            std::fs::write(&file, show(&first)).expect("written");
            let second = checked(&host, &["--config=r.toml"]).outcome.expect("it is right");
            assert_eq!(second.rules, first.outcome.expect("it is right").rules);
        }
    }
}
