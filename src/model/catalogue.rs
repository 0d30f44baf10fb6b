//! The boot programs that there are, and in which order which machine is told
//! them. A value: where they come from it does not know.

use std::collections::HashMap;

use bytes::Bytes;
use ipnet::IpNet;

use super::{Architecture, Machine, MachineKind};

/// The boot programs that there are at a moment, by their names: relative to the
/// root of TFTP and to `/loader/` of HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    usual: HashMap<Architecture, Vec<String>>,
    by_name: HashMap<String, (Architecture, Bytes)>,
    /// Names in small letters.
    signed: HashMap<String, Bytes>,
    profiles: Vec<LoaderProfile>,
}

/// Which boot programs some machines are told, in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoaderProfile {
    /// Which machines.
    pub kind: MachineKind,
    /// The programs, the first choice first.
    pub files: Vec<String>,
}

impl Catalogue {
    /// A catalogue of these programs, which are told in this order unless somebody
    /// says otherwise.
    #[must_use]
    pub fn new(programs: impl IntoIterator<Item = (Architecture, String, Bytes)>) -> Self {
        let mut catalogue = Self::default();
        for (architecture, name, content) in programs {
            let usual = catalogue.usual.entry(architecture).or_default();
            // What is another name for the same is no second choice.
            let is_there = |one: &String| {
                *one == name || catalogue.by_name.get(one).is_some_and(|(_, same)| *same == content)
            };
            if !usual.iter().any(is_there) {
                usual.push(name.clone());
            }
            catalogue.by_name.entry(name).or_insert((architecture, content));
        }
        catalogue
    }

    /// With these programs, too, which nobody is told unless somebody says so.
    #[must_use]
    pub fn and(
        mut self,
        programs: impl IntoIterator<Item = (Architecture, String, Bytes)>,
    ) -> Self {
        for (architecture, name, content) in programs {
            self.by_name.entry(name).or_insert((architecture, content));
        }
        self
    }

    /// With these signed programs, by names in small letters, which go before others of
    /// their names. Of those that are shims for an architecture by this list, the first
    /// is what its machines are told where nobody says otherwise.
    #[must_use]
    pub fn with_signed(
        mut self,
        programs: impl IntoIterator<Item = (Architecture, String, Bytes)>,
        shims: impl Fn(Architecture) -> &'static [&'static str],
    ) -> Self {
        let mut found: HashMap<Architecture, usize> = HashMap::new();
        for (architecture, name, content) in programs {
            if let Some(rank) = shims(architecture).iter().position(|shim| *shim == name) {
                let best = found.entry(architecture).or_insert(rank);
                *best = rank.min(*best);
            }
            self.by_name.insert(name.clone(), (architecture, content.clone()));
            self.signed.insert(name, content);
        }
        let told = |(architecture, rank): (Architecture, usize)| {
            (architecture, vec![shims(architecture)[rank].to_owned()])
        };
        self.usual.extend(found.into_iter().map(told));
        self
    }

    /// Whether one of the signed programs has this name.
    #[must_use]
    pub fn is_signed(&self, name: &str) -> bool {
        self.signed.contains_key(name)
    }

    /// With these profiles: the first that is for a machine, and has a program for
    /// its architecture, is its own.
    #[must_use]
    pub fn by(mut self, profiles: Vec<LoaderProfile>) -> Self {
        self.profiles = profiles;
        self
    }

    /// The first choice for this architecture where nobody says otherwise.
    #[must_use]
    pub fn loader(&self, architecture: Architecture) -> Option<&str> {
        self.usual.get(&architecture)?.first().map(String::as_str)
    }

    /// The programs for a machine of this architecture on this network, in the order
    /// in which they are tried: those that were said of itself, else of its profile,
    /// else the usual ones. Programs for another architecture, or that are not there,
    /// are left out.
    #[must_use]
    pub fn order(
        &self,
        architecture: Architecture,
        (machine, network): (Option<&Machine>, Option<IpNet>),
    ) -> Vec<&str> {
        let suitable = |names: &[String]| -> Vec<&str> {
            let known = names.iter().filter_map(|name| self.by_name.get_key_value(name));
            let suitable = known.filter(|(_, (one, _))| *one == architecture);
            suitable.map(|(name, _)| name.as_str()).collect()
        };
        let own = machine.map(|machine| machine.loaders.as_slice()).unwrap_or_default();
        let profiles = self.profiles.iter();
        let profiles =
            profiles.filter(|one| one.kind.is_for(Some(architecture), (machine, network)));
        let said = profiles.map(|profile| profile.files.as_slice());
        let usual = self.usual.get(&architecture).map(Vec::as_slice).unwrap_or_default();
        let mut orders = std::iter::once(own).chain(said).map(suitable);
        orders.find(|names| !names.is_empty()).unwrap_or_else(|| suitable(usual))
    }

    /// What the boot program of this name is made for.
    #[must_use]
    pub fn architecture(&self, name: &str) -> Option<Architecture> {
        self.by_name.get(name).map(|(architecture, _)| *architecture)
    }

    /// The bytes of the boot program of this name.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<&Bytes> {
        let base_name = name.rsplit('/').next().unwrap_or_default();
        // Shim asks in the directory of its own path, whatever that was, or in none.
        let signed = || self.signed.get(&base_name.to_ascii_lowercase());
        let plain = || self.by_name.get(name).map(|(_, content)| content);
        if base_name == name { signed().or_else(plain) } else { plain().or_else(signed) }
    }

    /// Whether this program may be said of machines of this architecture.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words that name it.
    pub fn check(&self, name: &str, architecture: Option<Architecture>) -> Result<(), String> {
        match (self.architecture(name), architecture) {
            (None, _) => {
                let mut names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
                names.sort_unstable();
                let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                Err(format!(
                    "there is no boot program `{}`; there are: {known}",
                    name.escape_debug()
                ))
            }
            (Some(made_for), Some(wanted)) if made_for != wanted => Err(format!(
                "`{name}` is a program for {}, not for {}",
                made_for.name(),
                wanted.name()
            )),
            (Some(_), _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mac, Timestamp, testing};

    fn program(architecture: Architecture, name: &str) -> (Architecture, String, Bytes) {
        (architecture, name.to_owned(), Bytes::from(name.to_owned()))
    }

    fn profile(files: &[&str]) -> LoaderProfile {
        let files = files.iter().map(|name| (*name).to_owned()).collect();
        LoaderProfile { kind: MachineKind::default(), files }
    }

    fn catalogue() -> Catalogue {
        use Architecture::{Bios, X64Uefi};
        let usual = [(Bios, "undionly.kpxe"), (X64Uefi, "snponly.efi"), (X64Uefi, "ipxe.efi")];
        let others = [(X64Uefi, "shimx64.efi"), (Bios, "old.pxe")];
        Catalogue::new(usual.map(|(architecture, name)| program(architecture, name)))
            .and(others.map(|(architecture, name)| program(architecture, name)))
    }

    fn machine(loaders: &[&str], labels: &[(&str, &str)]) -> Machine {
        let loaders = loaders.iter().map(|name| (*name).to_owned()).collect();
        let labels = testing::tags(labels);
        Machine { loaders, labels, ..testing::held(Mac::new([2, 0, 0, 0, 0, 1]), Timestamp(1)) }
    }

    #[test]
    fn what_is_said_of_a_machine_goes_before_its_profile_and_that_before_the_usual() {
        let x64 = Architecture::X64Uefi;
        let plain = catalogue();
        assert_eq!(plain.order(x64, (None, None)), ["snponly.efi", "ipxe.efi"]);
        let mut labelled = profile(&["shimx64.efi"]);
        labelled.kind.labels = testing::tags(&[("nic", "x")]);
        let mut there = profile(&["ipxe.efi", "gone.efi", "undionly.kpxe"]);
        there.kind.network = Some("10.1.0.0/16".parse().expect("a network"));
        let said = catalogue().by(vec![labelled, there]);
        let network = |text: &str| Some(text.parse().expect("a network"));
        let (own, nic) = (machine(&["old.pxe", "shimx64.efi"], &[]), machine(&[], &[("nic", "x")]));
        for (machine, network, expected) in [
            (None, None, &["snponly.efi", "ipxe.efi"][..]),
            (None, network("10.1.2.0/24"), &["ipxe.efi"]),
            (None, network("10.2.0.0/24"), &["snponly.efi", "ipxe.efi"]),
            (None, network("fd00::/64"), &["snponly.efi", "ipxe.efi"]),
            (Some(&nic), network("10.1.2.0/24"), &["shimx64.efi"]),
            (Some(&own), network("10.1.2.0/24"), &["shimx64.efi"]),
        ] {
            assert_eq!(said.order(x64, (machine, network)), expected);
        }
        assert_eq!(said.order(Architecture::Bios, (Some(&own), None)), ["old.pxe"]);
        // A profile without a program for it is none of its own.
        assert_eq!(said.order(Architecture::Bios, (Some(&nic), None)), ["undionly.kpxe"]);
        assert!(said.order(Architecture::Arm64Uefi, (Some(&own), None)).is_empty());
    }

    #[test]
    fn the_same_program_under_two_names_is_one_choice() {
        let same = |name: &str| (Architecture::X64Uefi, name.to_owned(), Bytes::from_static(b"x"));
        let catalogue = Catalogue::new([same("ipxe-amd64.efi"), same("ipxe.efi")]);
        assert_eq!(catalogue.order(Architecture::X64Uefi, (None, None)), ["ipxe-amd64.efi"]);
        assert!(catalogue.content("ipxe.efi").is_some());
    }

    #[test]
    fn what_is_not_there_or_for_another_machine_is_named() {
        let catalogue = catalogue();
        assert_eq!(catalogue.check("shimx64.efi", Some(Architecture::X64Uefi)), Ok(()));
        let error = catalogue.check("old.pxe", Some(Architecture::X64Uefi)).expect_err("BIOS");
        assert_eq!(error, "`old.pxe` is a program for bios, not for x64-uefi");
        let error = catalogue.check("no.efi", None).expect_err("not there");
        assert!(error.contains("`no.efi`") && error.contains("ipxe.efi, old.pxe"), "{error}");
    }
}
