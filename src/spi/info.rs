//! The two documents under `/info/`: what `infrakit local NAME info` shows.
//!
//! Pure. InfraKit's own server shows empty parameters; here they are the examples
//! of the specification, so that they can be used as they are.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::interfaces::{INTERFACES, versions};

/// Every method with parameters, result, errors and examples.
const SPECIFICATION: &str = include_str!("../../plugin-spec/openrpc.json");

/// `/info/api.json`: the interfaces with an example of every method, in
/// alphabetical order; identifiers are strings here.
pub(super) fn api() -> &'static str {
    static API: LazyLock<String> = LazyLock::new(make_api);
    &API
}

fn make_api() -> String {
    let specification: Value = serde_json::from_str(SPECIFICATION).unwrap_or_default();
    let example = |name: &&str| {
        let methods = specification["methods"].as_array().into_iter().flatten();
        let example = methods
            .filter(|method| method["name"] == *name)
            .map(|method| method["examples"][0].clone())
            .next()
            .unwrap_or_default();
        let params = example["params"].as_array().into_iter().flatten();
        let params: Map<String, Value> = params
            .filter_map(|one| Some((one["name"].as_str()?.to_owned(), one["value"].clone())))
            .collect();
        json!({
            "Request": {"jsonrpc": "2.0", "method": name, "params": params, "id": "1"},
            "Response": {"result": example["result"]["value"], "id": "1"},
        })
    };
    let implements: Vec<Value> = versions()
        .map(|(interface, version)| json!({"Name": interface.name, "Version": version, "Sub": ""}))
        .collect();
    let mut interfaces = Vec::new();
    for interface in INTERFACES {
        let methods: Vec<Value> = interface.methods.iter().map(example).collect();
        interfaces.extend(interface.versions.iter().map(|version| {
            json!({"Name": interface.name, "Version": version, "Sub": "", "Methods": methods})
        }));
    }
    json!({
        "Vendor": {
            "Name": env!("CARGO_PKG_NAME"), "Version": env!("CARGO_PKG_VERSION"), "Sub": "", "URL": "",
        },
        "Implements": implements,
        "Interfaces": interfaces,
    })
    .to_string()
}

/// `/info/functions.json`: the functions of templates, of which a plugin
/// without templates of InfraKit's has none.
pub(super) const fn functions() -> &'static str {
    "{}"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_every_interface_has_an_example_with_usable_parameters() {
        let api: Value = serde_json::from_str(api()).expect("JSON");
        let shown = api["Interfaces"].as_array().expect("a list");
        assert_eq!(shown.len(), versions().count());
        let settings = crate::spi::answer::tests::settings();
        for (shown, (interface, version)) in shown.iter().zip(versions()) {
            assert_eq!(
                (&shown["Name"], &shown["Version"]),
                (&json!(interface.name), &json!(version))
            );
            let methods = shown["Methods"].as_array().expect("a list");
            let names: Vec<_> = methods
                .iter()
                .map(|method| method["Request"]["method"].as_str().expect("a name"))
                .collect();
            assert_eq!(names, interface.methods);
            for method in methods {
                assert!(!method["Response"]["result"].is_null(), "{method}");
                let params = &method["Request"]["params"];
                assert!(!params.as_object().expect("an object").is_empty(), "{method}");
                let example = match method["Request"]["method"].as_str() {
                    Some("Instance.Provision") => &params["Spec"]["Properties"],
                    Some("Instance.Validate") => &params["Properties"],
                    _ => continue,
                };
                crate::spi::answer::validate(&settings, example).expect("usable");
            }
        }
    }
}
