//! The operator's rules: what becomes of machines that no instance claims, and how
//! machines are sent to their own disks, by network and by architecture. Pure.
//!
//! In each list the first rule that is about a machine holds.

use std::{fmt, net::IpAddr, path::PathBuf, sync::Arc};

use ipnet::IpNet;

use crate::model::{Architecture, LocalBoot, Machine, Treatment};

/// All rules; cheap to clone. Without any, machines that no instance claims wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    unclaimed: Arc<[Rule]>,
    local: Arc<[LocalRule]>,
}

/// A rule for machines that no instance claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which machines it is about.
    pub scope: Scope,
    /// Whether it is about strangers alone.
    pub machines: Whose,
    /// What becomes of them.
    pub then: Then,
}

/// A rule for how machines are sent to their own disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalRule {
    /// Which machines it is about.
    pub scope: Scope,
    /// The way that is tried first.
    pub way: LocalBoot,
}

/// Machines by where they ask and by what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    /// Only those in this network. No network that is served is half in it, so it
    /// is the same for every address of a machine.
    pub subnet: Option<IpNet>,
    /// Only those whose firmware has said that it is this.
    pub architecture: Option<Architecture>,
}

/// Where a machine asks, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Its address, or another of its network.
    pub address: IpAddr,
    /// What its firmware has said, now or before.
    pub architecture: Option<Architecture>,
}

/// Whom a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Whose {
    /// Machines that only turned up ([`Machine::is_stranger`]).
    #[default]
    Strangers,
    /// Those of the pool, too: listed, labelled, freed, or released by an instance.
    All,
}

/// What becomes of a machine that no instance claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// It is told nothing, and becomes no machine that is known.
    Ignore,
    /// It waits for a Provision.
    Hold,
    /// It boots from its own disk.
    Local,
    /// It boots this.
    Image(UnclaimedImage),
}

/// What machines boot by a rule, and by the command line's three arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnclaimedImage {
    /// The file of the kernel.
    pub kernel: PathBuf,
    /// The files of the initrds, in this order.
    pub initrds: Vec<PathBuf>,
    /// The kernel's command line, a template as in [`crate::model::Image::cmdline`].
    pub cmdline: String,
}

impl Rules {
    /// These rules, the first one first.
    #[must_use]
    pub fn new(unclaimed: Vec<Rule>, local: Vec<LocalRule>) -> Self {
        Self { unclaimed: unclaimed.into(), local: local.into() }
    }

    /// Every machine that no instance claims boots this.
    #[must_use]
    pub fn image(image: UnclaimedImage) -> Self {
        let scope = Scope::default();
        Self::new(vec![Rule { scope, machines: Whose::All, then: Then::Image(image) }], Vec::new())
    }

    /// What becomes of this machine, if no instance claims it; it waits where no
    /// rule is about it.
    #[must_use]
    pub fn unclaimed(&self, machine: Option<&Machine>, spot: Spot) -> &Then {
        let is_stranger = machine.is_none_or(Machine::is_stranger);
        let is_about = |rule: &&Rule| {
            let machines = match rule.machines {
                Whose::Strangers => is_stranger,
                Whose::All => true,
            };
            machines && rule.scope.includes(spot)
        };
        self.unclaimed.iter().find(is_about).map_or(&Then::Hold, |rule| &rule.then)
    }

    /// The way that machines there are sent to their own disks, if a rule says one.
    #[must_use]
    pub fn local_boot(&self, spot: Spot) -> Option<LocalBoot> {
        self.local.iter().find(|rule| rule.scope.includes(spot)).map(|rule| rule.way)
    }

    /// The rules for machines that no instance claims.
    #[must_use]
    pub fn for_unclaimed(&self) -> &[Rule] {
        &self.unclaimed
    }

    /// Every file that a rule names, in the order of their numbers in URLs.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.images().flat_map(UnclaimedImage::files)
    }

    /// The number that the first file of this image has in URLs.
    #[must_use]
    pub fn first_file(&self, image: &UnclaimedImage) -> usize {
        let before = self.images().take_while(|other| *other != image);
        before.flat_map(UnclaimedImage::files).count()
    }

    fn images(&self) -> impl Iterator<Item = &UnclaimedImage> {
        self.unclaimed.iter().filter_map(|rule| match &rule.then {
            Then::Image(image) => Some(image),
            Then::Ignore | Then::Hold | Then::Local => None,
        })
    }
}

impl UnclaimedImage {
    /// The kernel, then the initrds.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.kernel].into_iter().chain(&self.initrds)
    }
}

impl Then {
    /// The same without the image.
    #[must_use]
    pub const fn treatment(&self) -> Treatment {
        match self {
            Self::Ignore => Treatment::Ignore,
            Self::Hold => Treatment::Hold,
            Self::Local => Treatment::Local,
            Self::Image(_) => Treatment::Image,
        }
    }
}

impl Rule {
    /// Whether every machine that the other rule is about is this one's, too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let machines = self.machines == Whose::All || self.machines == other.machines;
        machines && self.scope.covers(other.scope)
    }
}

impl Scope {
    /// Whether it is about a machine there.
    #[must_use]
    pub fn includes(self, spot: Spot) -> bool {
        self.subnet.is_none_or(|subnet| subnet.contains(&spot.address))
            && self.architecture.is_none_or(|one| spot.architecture == Some(one))
    }

    /// Whether every machine that the other is about is this one's, too.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        let subnet = match (self.subnet, other.subnet) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wide), Some(narrow)) => wide.contains(&narrow),
        };
        subnet && (self.architecture.is_none() || self.architecture == other.architecture)
    }
}

impl fmt::Display for Scope {
    /// In a few words, for people.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.architecture, self.subnet) {
            (None, None) => formatter.write_str("every machine"),
            (Some(one), None) => write!(formatter, "{}", one.name()),
            (None, Some(subnet)) => write!(formatter, "{subnet}"),
            (Some(one), Some(subnet)) => write!(formatter, "{} in {subnet}", one.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mac, MachineEvent, Timestamp};

    use Architecture::{Arm64Uefi, Bios, X64Uefi};

    fn image(name: &str) -> UnclaimedImage {
        let initrds = vec![format!("{name}.img").into()];
        UnclaimedImage { kernel: name.into(), initrds, cmdline: String::new() }
    }

    fn scope(subnet: &str, architecture: Option<Architecture>) -> Scope {
        let subnet = (!subnet.is_empty()).then(|| subnet.parse().expect("a network"));
        Scope { subnet, architecture }
    }

    fn rule(scope: Scope, machines: Whose, then: Then) -> Rule {
        Rule { scope, machines, then }
    }

    fn rules() -> Rules {
        let unclaimed = vec![
            rule(scope("10.1.0.0/16", Some(Arm64Uefi)), Whose::All, Then::Image(image("arm"))),
            rule(scope("10.1.0.0/16", None), Whose::Strangers, Then::Local),
            rule(scope("", Some(Bios)), Whose::Strangers, Then::Ignore),
            rule(scope("fd00::/64", None), Whose::All, Then::Image(image("six"))),
        ];
        let local = vec![
            LocalRule { scope: scope("", Some(X64Uefi)), way: LocalBoot::ExitZero },
            LocalRule { scope: scope("10.1.0.0/16", None), way: LocalBoot::Exit },
        ];
        Rules::new(unclaimed, local)
    }

    fn spot(address: &str, architecture: Option<Architecture>) -> Spot {
        Spot { address: address.parse().expect("an address"), architecture }
    }

    #[test]
    fn the_first_rule_that_is_about_a_machine_holds_and_without_one_it_waits() {
        let mac = Mac::new([2, 0, 0, 0, 0, 1]);
        let stranger = Machine::first(mac, MachineEvent::Waited, Timestamp(1)).expect("known");
        let listed = Machine::first(mac, MachineEvent::Listed, Timestamp(1)).expect("known");
        let rules = rules();
        for (address, architecture, of_a_stranger, of_the_pool) in [
            ("10.1.0.9", Some(Arm64Uefi), Treatment::Image, Treatment::Image),
            ("10.1.0.9", Some(X64Uefi), Treatment::Local, Treatment::Hold),
            ("10.1.0.9", Some(Bios), Treatment::Local, Treatment::Hold),
            ("10.1.0.9", None, Treatment::Local, Treatment::Hold),
            ("10.2.0.9", Some(Bios), Treatment::Ignore, Treatment::Hold),
            ("10.2.0.9", None, Treatment::Hold, Treatment::Hold),
            ("10.2.0.9", Some(Arm64Uefi), Treatment::Hold, Treatment::Hold),
            ("fd00::9", Some(Arm64Uefi), Treatment::Image, Treatment::Image),
            ("fd01::9", Some(Arm64Uefi), Treatment::Hold, Treatment::Hold),
        ] {
            let told = |machine| rules.unclaimed(machine, spot(address, architecture)).treatment();
            assert_eq!(told(None), of_a_stranger, "{address} {architecture:?}");
            assert_eq!(told(Some(&stranger)), of_a_stranger, "{address} {architecture:?}");
            assert_eq!(told(Some(&listed)), of_the_pool, "{address} {architecture:?}");
        }
        let nothing = Rules::default();
        assert_eq!(nothing.unclaimed(None, spot("10.1.0.9", None)), &Then::Hold);
    }

    #[test]
    fn the_way_to_the_disk_goes_by_the_first_rule_too() {
        let rules = rules();
        for (address, architecture, way) in [
            ("10.1.0.9", Some(X64Uefi), Some(LocalBoot::ExitZero)),
            ("10.1.0.9", Some(Arm64Uefi), Some(LocalBoot::Exit)),
            ("10.2.0.9", Some(Arm64Uefi), None),
        ] {
            assert_eq!(rules.local_boot(spot(address, architecture)), way, "{address}");
        }
    }

    #[test]
    fn each_file_of_each_image_has_a_number_of_its_own() {
        let rules = rules();
        let files: Vec<_> = rules.files().map(|path| path.display().to_string()).collect();
        assert_eq!(files, ["arm", "arm.img", "six", "six.img"]);
        assert_eq!(rules.first_file(&image("arm")), 0);
        assert_eq!(rules.first_file(&image("six")), 2);
    }

    #[test]
    fn a_rule_covers_another_if_nothing_is_left_for_it() {
        let any = scope("", None);
        for (first, second, expected) in [
            (any, scope("10.1.0.0/16", Some(Bios)), true),
            (scope("10.0.0.0/8", None), scope("10.1.0.0/16", Some(Bios)), true),
            (scope("10.1.0.0/16", None), scope("10.0.0.0/8", None), false),
            (scope("10.1.0.0/16", None), any, false),
            (scope("", Some(Bios)), scope("10.1.0.0/16", Some(Bios)), true),
            (scope("", Some(Bios)), scope("10.1.0.0/16", None), false),
            (scope("10.0.0.0/8", None), scope("fd00::/8", None), false),
        ] {
            assert_eq!(first.covers(second), expected, "{first} {second}");
        }
        let of = |machines| rule(any, machines, Then::Hold);
        assert!(of(Whose::All).covers(&of(Whose::Strangers)));
        assert!(!of(Whose::Strangers).covers(&of(Whose::All)));
    }
}
