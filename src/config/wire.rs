//! The configuration file as it is written: TOML, each key the name of a
//! setting. Knows what a file may look like, not what the values mean.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Setting;

/// The file's keys and values. A key that is no setting is refused, and the
/// refusal names those that are.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct File(BTreeMap<Setting, Written>);

/// A value as TOML knows it.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a text, a whole number, true, false, or a list of texts")]
enum Written {
    Text(String),
    Number(i64),
    Switch(bool),
    List(Vec<String>),
}

impl File {
    /// What each setting is, written as its flag would have it.
    pub(super) fn texts(self) -> BTreeMap<Setting, String> {
        self.0.into_iter().map(|(setting, written)| (setting, written.text())).collect()
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
        let texts = parse(text).expect("a file").texts();
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
}
