//! `Init` in the forms in which systems ask for it: NoCloud, Ignition, raw.
//!
//! Pure. Nothing in it is expanded: what the controller gave is what the machine
//! gets.

use serde_json::{Value, json};

use crate::model::Instance;

/// One of the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Document {
    /// NoCloud's `user-data`: `Init` itself, or an empty cloud-config.
    UserData,
    /// NoCloud's `meta-data`.
    MetaData,
    /// NoCloud's `vendor-data`: an empty cloud-config. cloud-init waits for it.
    VendorData,
    /// `Init`, if it is an Ignition configuration.
    Ignition,
    /// `Init` itself.
    Raw,
}

/// What a machine without `Init` is told to do: nothing.
const NOTHING: &str = "#cloud-config\n{}\n";

impl Document {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::UserData, Self::MetaData, Self::VendorData, Self::Ignition, Self::Raw];

    /// Its name, the last part of its URL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserData => "user-data",
            Self::MetaData => "meta-data",
            Self::VendorData => "vendor-data",
            Self::Ignition => "ignition",
            Self::Raw => "init",
        }
    }

    /// Its media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Ignition => "application/vnd.coreos.ignition+json",
            Self::MetaData | Self::VendorData => "text/yaml; charset=utf-8",
            Self::UserData | Self::Raw => "text/plain; charset=utf-8",
        }
    }

    /// Its text for this instance; nothing if the instance has no such document.
    #[must_use]
    pub fn of(self, instance: &Instance) -> Option<String> {
        match self {
            Self::UserData if instance.init.is_empty() => Some(NOTHING.to_owned()),
            Self::UserData | Self::Raw => Some(instance.init.to_string()),
            Self::MetaData => Some(meta_data(instance)),
            Self::VendorData => Some(NOTHING.to_owned()),
            Self::Ignition => is_ignition(&instance.init).then(|| instance.init.to_string()),
        }
    }
}

/// Whether the text is an Ignition configuration: an object whose `ignition` has
/// a `version` (Ignition specification 3, `ignition.version`).
#[must_use]
pub fn is_ignition(init: &str) -> bool {
    // Most are scripts of some length: look at the first letter before the rest.
    init.trim_start().starts_with('{')
        && serde_json::from_str::<Value>(init)
            .is_ok_and(|value| value["ignition"]["version"].is_string())
}

/// JSON, which is YAML too.
fn meta_data(instance: &Instance) -> String {
    let meta_data = json!({
        "instance-id": instance.id,
        "local-hostname": instance.hostname,
        "mac": instance.mac,
        "logical-id": instance.logical_id,
        "index": instance.index,
        "tags": instance.tags,
    });
    format!("{meta_data:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mac, testing};

    const IGNITION: &str = r#"{"ignition": {"version": "3.4.0"}, "storage": {}}"#;

    fn instance(init: &str) -> Instance {
        let mac = Mac::new([2, 0, 0, 0, 0, 1]);
        Instance { init: init.to_owned().into(), ..testing::instance(1, mac) }
    }

    #[test]
    fn ignition_is_told_by_its_version_and_by_nothing_else() {
        assert!(is_ignition(IGNITION) && is_ignition(&format!("\n {IGNITION}\n")));
        for text in ["", "{}", "[]", "{", "#cloud-config\n{}", r#"{"ignition": {}}"#, "null"] {
            assert!(!is_ignition(text), "{text}");
        }
    }

    #[test]
    fn every_document_is_there_but_ignition_that_is_none() {
        let script = instance("#!/bin/sh\necho {{ mac }} $x\n");
        for document in Document::ALL {
            let text = document.of(&script);
            match document {
                Document::UserData | Document::Raw => {
                    assert_eq!(text, Some(script.init.to_string()))
                }
                Document::Ignition => assert_eq!(text, None),
                Document::MetaData | Document::VendorData => assert!(text.is_some()),
            }
        }
        assert_eq!(Document::Ignition.of(&instance(IGNITION)).as_deref(), Some(IGNITION));
        assert_eq!(Document::UserData.of(&instance("")).as_deref(), Some(NOTHING));
        assert_eq!(Document::Raw.of(&instance("")).as_deref(), Some(""));
    }

    #[test]
    fn the_meta_data_has_what_cloud_init_needs() {
        let meta_data = Document::MetaData.of(&instance("")).expect("always there");
        let read: Value = serde_json::from_str(&meta_data).expect("JSON");
        assert_eq!(read["instance-id"], "rb-0000000000010000");
        assert_eq!(read["local-hostname"], "host");
    }
}
