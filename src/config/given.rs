//! What was set and by what: flags over variables over the file. Knows nothing
//! of what the values mean.

use std::collections::BTreeMap;

use super::{
    Flags, Host, LoaderTable, LocalBootTable, ProfileTable, Setting, SubnetTable, UnclaimedTable,
    wire::File,
};

/// Every setting that was set, as a text.
#[derive(Debug, Clone, Default)]
pub struct Given {
    values: BTreeMap<Setting, Value>,
    subnets: Vec<SubnetTable>,
    unclaimed: Vec<UnclaimedTable>,
    local_boot: Vec<LocalBootTable>,
    loaders: Vec<LoaderTable>,
    profiles: Vec<ProfileTable>,
    file: String,
}

#[derive(Debug, Clone)]
struct Value {
    text: String,
    origin: Origin,
}

/// What a setting was set by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// A flag in this spelling, without its hyphens.
    Flag(String),
    /// One of the three arguments.
    Argument,
    /// The setting's variable.
    Variable,
    /// This file.
    File(String),
}

/// The three settings that make an image.
pub(super) const IMAGE: [Setting; 3] = [Setting::Kernel, Setting::Initrd, Setting::Cmdline];

impl Given {
    /// Puts together what was set: the file's texts, if there is a file, then
    /// the variables over them, then the command line over both. The three
    /// arguments belong together: with one of them on the command line, none
    /// comes from elsewhere.
    #[must_use]
    pub(super) fn merge(flags: &Flags, host: &Host, file: Option<(&str, File)>) -> Self {
        let (path, mut file) = file.unwrap_or_default();
        let from_file = |text| Value { text, origin: Origin::File(path.to_owned()) };
        let settings = std::mem::take(&mut file.settings).into_iter();
        let mut values: BTreeMap<Setting, Value> =
            settings.map(|(setting, text)| (setting, from_file(text))).collect();
        for setting in Setting::all() {
            if let Some(text) = host.variable(&setting.variable()) {
                values.insert(setting, Value { text: text.to_owned(), origin: Origin::Variable });
            }
        }
        if !flags.arguments.is_empty() {
            values.retain(|setting, _| !IMAGE.contains(setting));
        }
        for (setting, text) in IMAGE.into_iter().zip(&flags.arguments) {
            values.insert(setting, Value { text: text.clone(), origin: Origin::Argument });
        }
        for (setting, (spelling, text)) in &flags.settings {
            // The ancestor's flags hold their default when they are blank.
            if text.is_empty() && setting.description().ancestral.is_some() {
                continue;
            }
            let origin = Origin::Flag(spelling.clone());
            values.insert(*setting, Value { text: text.clone(), origin });
        }
        let File { subnets, unclaimed, local_boot, loaders, profiles, settings: _ } = file;
        let file = path.escape_debug().to_string();
        Self { values, subnets, unclaimed, local_boot, loaders, profiles, file }
    }

    /// What it was set to.
    #[must_use]
    pub fn text(&self, setting: Setting) -> Option<&str> {
        self.values.get(&setting).map(|value| value.text.as_str())
    }

    /// Whether it was set.
    #[must_use]
    pub fn has(&self, setting: Setting) -> bool {
        self.values.contains_key(&setting)
    }

    /// The `[[subnet]]` tables of the file, in their order.
    #[must_use]
    pub fn subnets(&self) -> &[SubnetTable] {
        &self.subnets
    }

    /// The `[[unclaimed]]` tables of the file, in their order.
    #[must_use]
    pub fn unclaimed(&self) -> &[UnclaimedTable] {
        &self.unclaimed
    }

    /// The `[[local-boot]]` tables of the file, in their order.
    #[must_use]
    pub fn local_boot(&self) -> &[LocalBootTable] {
        &self.local_boot
    }

    /// The `[[loader]]` tables of the file, in their order.
    #[must_use]
    pub fn loaders(&self) -> &[LoaderTable] {
        &self.loaders
    }

    /// The `[[profile]]` tables of the file, in their order.
    #[must_use]
    pub fn profiles(&self) -> &[ProfileTable] {
        &self.profiles
    }

    /// The name of the file, if there is one.
    #[must_use]
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// What it was set by, in a few words.
    #[must_use]
    pub fn origin(&self, setting: Setting) -> String {
        match self.values.get(&setting).map(|value| &value.origin) {
            None => "default".to_owned(),
            Some(Origin::Flag(spelling)) => format!("--{spelling}"),
            Some(Origin::Argument) => "argument".to_owned(),
            Some(Origin::Variable) => setting.variable(),
            Some(Origin::File(path)) => path.escape_debug().to_string(),
        }
    }

    /// How a person finds the setting again: as it was written, where it was
    /// written; its flag if it was not.
    #[must_use]
    pub fn place(&self, setting: Setting) -> String {
        let name = setting.name();
        let Some(Value { text, origin }) = self.values.get(&setting) else {
            return format!("--{name}");
        };
        let text = text.escape_debug();
        match origin {
            Origin::Flag(spelling) => format!("--{spelling}={text}"),
            Origin::Argument => format!("{name} `{text}`"),
            Origin::Variable => format!("{}={text}", setting.variable()),
            Origin::File(path) => format!("`{name} = {text}` in {path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Flags {
        let line = ["remoteboot"].into_iter().chain(line.split_whitespace());
        match super::super::parse(line.map(Into::into).collect()).expect("a command line") {
            super::super::Invocation::Run(flags) => flags,
            other => panic!("{other:?}"),
        }
    }

    fn host(variables: &[(&str, &str)]) -> Host {
        let variables = variables.iter().map(|(name, text)| ((*name).into(), (*text).into()));
        Host { variables: variables.collect(), ..Host::default() }
    }

    #[test]
    fn a_flag_goes_over_a_variable_and_a_variable_over_the_file() {
        let file = || {
            let texts = super::super::wire::parse("adapter = 'f'\ngateway = 'f'\ndns = 'f'");
            Some(("r.toml", texts.expect("a file")))
        };
        let host = host(&[
            ("INFRAKIT_REMOTEBOOT_ADAPTER", "v"),
            ("INFRAKIT_REMOTEBOOT_GATEWAY", "v"),
            ("INFRAKIT_REMOTEBOOT_DNS", ""),
        ]);
        let given = Given::merge(&flags("--adapter=c"), &host, file());
        assert_eq!(given.place(Setting::Adapter), "--adapter=c");
        assert_eq!(given.place(Setting::Gateway), "INFRAKIT_REMOTEBOOT_GATEWAY=v");
        assert_eq!(given.place(Setting::Dns), "`dns = f` in r.toml");
        assert_eq!(given.place(Setting::StartAddress), "--start-address");
        assert!(!given.has(Setting::StartAddress));
    }

    #[test]
    fn the_three_arguments_come_from_one_place() {
        let host = host(&[
            ("INFRAKIT_REMOTEBOOT_KERNEL", "v"),
            ("INFRAKIT_REMOTEBOOT_INITRD", "v"),
            ("INFRAKIT_REMOTEBOOT_CMDLINE", "v"),
        ]);
        let given = Given::merge(&flags("kernel"), &host, None);
        assert_eq!(given.text(Setting::Kernel), Some("kernel"));
        assert_eq!(given.text(Setting::Initrd), None);
        let given = Given::merge(&flags(""), &host, None);
        assert_eq!(given.text(Setting::Initrd), Some("v"));
    }

    #[test]
    fn a_blank_flag_of_the_ancestor_is_its_default() {
        let given = Given::merge(&flags("--addressHTTP= --name="), &Host::default(), None);
        assert!(!given.has(Setting::AddressHttp));
        assert_eq!(given.text(Setting::Name), Some(""));
    }
}
