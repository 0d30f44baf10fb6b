//! The configuration file as it is written: TOML, each key the name of a
//! setting, and tables of networks. Knows what a file may look like, not what
//! the values mean.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, IntoDeserializer as _},
};

use super::{
    LoaderTable, LocalBootTable, ProfileTable, Setting, SubnetTable, UnclaimedTable,
    rule_tables::Unclaimed,
};

/// The file's keys and values. A key that is no setting is refused, and the
/// refusal names those that are.
#[derive(Debug, Default)]
pub(super) struct File {
    /// What each setting is, written as its flag would have it.
    pub(super) settings: BTreeMap<Setting, String>,
    /// The `[[subnet]]` tables, in their order.
    pub(super) subnets: Vec<SubnetTable>,
    /// The `[[unclaimed]]` tables, in their order.
    pub(super) unclaimed: Vec<UnclaimedTable>,
    /// The `[[local-boot]]` tables, in their order.
    pub(super) local_boot: Vec<LocalBootTable>,
    /// The `[[loader]]` tables, in their order.
    pub(super) loaders: Vec<LoaderTable>,
    /// The `[[profile]]` tables, in their order.
    pub(super) profiles: Vec<ProfileTable>,
}

/// A value as TOML knows it.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a text, a whole number, true, false, or a list of texts")]
enum Written {
    Text(String),
    Number(i64),
    Switch(bool),
    List(Vec<String>),
}

/// A key of the file.
enum Key {
    Setting(Setting),
    Subnets,
    Unclaimed,
    LocalBoot,
    Loaders,
    Profiles,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match name.as_str() {
            "subnet" => Ok(Self::Subnets),
            "unclaimed" => Ok(Self::Unclaimed),
            "local-boot" => Ok(Self::LocalBoot),
            "loader" => Ok(Self::Loaders),
            "profile" => Ok(Self::Profiles),
            _ => Setting::deserialize(name.into_deserializer()).map(Self::Setting),
        }
    }
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> de::Visitor<'de> for Reader {
            type Value = File;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("settings")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
                let mut file = File::default();
                while let Some(key) = map.next_key()? {
                    match key {
                        Key::Subnets => file.subnets = map.next_value()?,
                        Key::LocalBoot => file.local_boot = map.next_value()?,
                        Key::Unclaimed => match map.next_value()? {
                            Unclaimed::Tables(tables) => file.unclaimed = tables,
                            Unclaimed::Word(word) => {
                                file.settings.insert(Setting::Unclaimed, word);
                            }
                        },
                        Key::Loaders => file.loaders = map.next_value()?,
                        Key::Profiles => file.profiles = map.next_value()?,
                        Key::Setting(setting) => {
                            let written: Written = map.next_value()?;
                            file.settings.insert(setting, written.text());
                        }
                    }
                }
                Ok(file)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl Written {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Switch(on) => on.to_string(),
            Self::List(texts) => texts.join(","),
        }
    }
}

/// Reads a file's text.
///
/// # Errors
///
/// What is wrong with it, with line and column.
pub(super) fn parse(text: &str) -> Result<File, toml::de::Error> {
    toml::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_taken_as_its_flag_has_it() {
        let text = r#"
            adapter = "eth0"
            lease-count = 50
            enable-dhcp = true
            dns = ["10.0.0.1", "10.0.0.2"]
        "#;
        let texts = parse(text).expect("a file").settings;
        assert_eq!(texts[&Setting::Adapter], "eth0");
        assert_eq!(texts[&Setting::LeaseCount], "50");
        assert_eq!(texts[&Setting::EnableDhcp], "true");
        assert_eq!(texts[&Setting::Dns], "10.0.0.1,10.0.0.2");
    }

    #[test]
    fn what_is_no_setting_or_no_value_is_refused_with_its_line() {
        let cases = [
            ("adapter = \"eth0\"\nlease-cuont = 50", "lease-cuont"),
            ("adapter = \"eth0\"\nlease-count = 5.5", "a whole number"),
            ("adapter = \"eth0\"\nadapter = \"eth1\"", "duplicate"),
            ("adapter = \"eth0\"\n[dhcp]\nport = 67", "dhcp"),
            ("adapter = \"eth0\"\nlease-count", "key"),
        ];
        for (text, named) in cases {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(named), "{error}");
            assert!(error.contains("line 2") || error.contains("line 3"), "{error}");
        }
    }

    #[test]
    fn each_wrong_line_of_a_subnet_is_refused_with_its_number_and_what_is_wrong() {
        let cases = [
            ("router = \"10.1.0\"", "IPv4"),
            ("routre = \"10.1.0.1\"", "routre"),
            ("ranges = [\"10.1.0.9-10.1.0.1\"]", "ends before it starts"),
            ("ranges = [\"10.1.0.9/28\"]", "10.1.0.9/28"),
            ("search = [\"a b\"]", "`a b` is no domain name"),
            ("routes = [\"10.0.0.0/8\"]", "`10.0.0.0/8` is no route"),
            ("mtu = 70000", "70000"),
            ("options = { \"0\" = \"u8:1\" }", "`0` is no option's number"),
            ("options = { \"66\" = \"boot\" }", "`boot` does not say what it is"),
            ("options = { \"43\" = { \"1\" = \"hex:1\" } }", "`hex:1` is no pairs"),
            ("options = { \"43\" = 1 }", "a table of such texts"),
        ];
        for (line, named) in cases {
            let text = format!("adapter = \"eth0\"\n[[subnet]]\nnetwork = \"10.1.0.0/24\"\n{line}");
            let error = parse(&text).expect_err(line).to_string();
            assert!(error.contains(named) && error.contains("line 4"), "{error}");
        }
        let error = parse("[[subnet]]\nadapter = \"eth0\"").expect_err("no network").to_string();
        assert!(error.contains("network"), "{error}");
        let error = parse("[[subnet]]\nnetwork = \"10.1.0.0\"").expect_err("no mask").to_string();
        assert!(error.contains("`10.1.0.0`") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn an_option_is_a_value_or_has_others_inside() {
        let text = "[[subnet]]\nnetwork = \"10.1.0.0/24\"\n\
            [subnet.options]\n66 = \"text:b\"\n43 = { 2 = \"u8:9\", 1 = \"hex:0304\" }";
        let file = parse(text).expect("a file");
        let values: Vec<_> = file.subnets[0].options.values().map(|table| table.bytes()).collect();
        assert_eq!(values, [Some(vec![1, 2, 3, 4, 2, 1, 9]), Some(b"b".to_vec())]);
    }
}
