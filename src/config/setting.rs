//! The settings there are: their names, what `--help` says of them, and where
//! it says so. One list for flags, variables and the file. Knows no value.

use serde::Deserialize;

use super::table::TABLE;

/// Something that can be set by a flag, a variable or a line of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is documented by its `help`, which people read, too")]
pub enum Setting {
    Kernel,
    Initrd,
    Cmdline,
    Adapter,
    EnableDhcp,
    Dhcp,
    StartAddress,
    LeaseCount,
    LeaseTime,
    AddressDhcp,
    Gateway,
    Dns,
    DhcpPort,
    Probe,
    DeclineHold,
    DhcpWatch,
    Spread,
    EnableDhcp6,
    Address6,
    Subnet6,
    Range6,
    Dns6,
    Search6,
    Ntp6,
    Dhcp6Port,
    EnableTftp,
    AddressTftp,
    TftpPort,
    TftpSinglePort,
    TftpBlockSize,
    TftpFragments,
    TftpTransfers,
    TftpTransfersPerClient,
    IpxePath,
    IpxeDir,
    SecureBootDir,
    EnableHttp,
    AddressHttp,
    HttpPort,
    Pace,
    Name,
    Plugins,
    Listen,
    ListenTokenFile,
    StateDir,
    Images,
    Inventory,
    Unclaimed,
    Log,
    LogFormat,
    LogCaller,
    LogStack,
    LogStdout,
}

/// How a setting is written on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One of the three arguments, with its placeholder.
    Argument(&'static str),
    /// A flag with a value, of which this is the placeholder.
    Value(&'static str),
    /// A flag that is on when it has no value, and takes `=true` or `=false`.
    Switch,
}

/// What `--help` says of a setting.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// Which setting.
    pub setting: Setting,
    /// The name in the file; with two hyphens before it, the flag.
    pub name: &'static str,
    /// The spelling of `infrakit x remoteboot`, where it was one of its flags.
    pub ancestral: Option<&'static str>,
    /// How it is written.
    pub form: Form,
    /// Under which heading it stands.
    pub heading: &'static str,
    /// What it does, and what holds without it.
    pub help: &'static str,
}

/// What the names of all variables begin with.
pub(super) const VARIABLE_PREFIX: &str = "INFRAKIT_REMOTEBOOT_";

impl Setting {
    /// All of them, in the order of `--help`.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|description| description.setting)
    }

    /// The name in the file, and of the flag.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.description().name
    }

    /// The name of its variable.
    #[must_use]
    pub fn variable(self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name().replace('-', "_").to_ascii_uppercase())
    }

    /// The flag's other spellings: the ancestor's, and with small letters only.
    #[must_use]
    pub fn other_spellings(self) -> Vec<String> {
        let Description { name, ancestral, .. } = self.description();
        let capitals = ancestral.map_or_else(|| camel_case(name), str::to_owned);
        let small = name.replace('-', "");
        let mut spellings = vec![capitals, small];
        spellings.dedup();
        spellings.retain(|spelling| spelling != name);
        spellings
    }

    /// What is known of it.
    #[must_use]
    pub const fn description(self) -> Description {
        TABLE[self as usize]
    }
}

fn camel_case(name: &str) -> String {
    let mut parts = name.split('-');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut camel, part| {
        let (initial, rest) = part.split_at(part.len().min(1));
        camel.push_str(&initial.to_ascii_uppercase());
        camel.push_str(rest);
        camel
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_setting_has_its_own_row_of_the_table() {
        for (place, setting) in Setting::all().enumerate() {
            assert_eq!(setting as usize, place, "{setting:?}");
        }
    }

    #[test]
    fn no_spelling_belongs_to_two_settings() {
        let mut seen = HashSet::new();
        for setting in Setting::all() {
            assert!(seen.insert(setting.name().to_owned()), "{setting:?}");
            for spelling in setting.other_spellings() {
                assert!(seen.insert(spelling.clone()), "{spelling}");
            }
        }
    }

    #[test]
    fn the_name_of_a_setting_in_the_file_is_the_name_of_its_flag() {
        for setting in Setting::all() {
            let name =
                serde::de::value::StrDeserializer::<serde::de::value::Error>::new(setting.name());
            assert_eq!(Setting::deserialize(name).expect("a key"), setting);
        }
    }

    #[test]
    fn spellings_and_variables_follow_from_the_name() {
        let spellings = |setting: Setting| setting.other_spellings().join(" ");
        assert_eq!(spellings(Setting::EnableDhcp), "enableDHCP enabledhcp");
        assert_eq!(spellings(Setting::IpxePath), "iPXEPath ipxepath");
        assert_eq!(spellings(Setting::StateDir), "stateDir statedir");
        assert_eq!(spellings(Setting::Adapter), "");
        assert_eq!(Setting::LeaseCount.variable(), "INFRAKIT_REMOTEBOOT_LEASE_COUNT");
    }
}
