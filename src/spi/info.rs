//! The two documents under `/info/`: what `infrakit local NAME info` shows.
//!
//! Pure. InfraKit's own server shows empty parameters; here they are filled in,
//! so that the example can be used as it is.

use serde_json::{Value, json};

use super::flavor::{prepare, request::Prepare};

/// Properties with every field, to start from.
pub(super) const EXAMPLE: &str = include_str!("../../plugin-spec/properties.json");

/// `/info/api.json`: the interfaces with an example of every method, in
/// alphabetical order; identifiers are strings here.
pub(super) fn api() -> String {
    let properties: Value = serde_json::from_str(EXAMPLE).unwrap_or_default();
    let tags = json!({"infrakit.group": "workers"});
    let spec = json!({
        "Properties": properties, "Tags": tags, "Init": "", "LogicalID": null, "Attachments": null,
    });
    let done = json!({"Type": "", "OK": true});
    let instance = "rb-01a2066b0dab0000";
    let methods = [
        (
            "DescribeInstances",
            json!({"Type": "", "Tags": tags, "Properties": false}),
            json!({"Type": "", "Descriptions": [{"ID": instance, "LogicalID": null, "Tags": tags}]}),
        ),
        (
            "Destroy",
            json!({"Type": "", "Instance": instance, "Context": {"Reason": "terminate"}}),
            done.clone(),
        ),
        (
            "Label",
            json!({"Type": "", "Instance": instance, "Labels": {"tier": "web"}}),
            done.clone(),
        ),
        ("Provision", json!({"Type": "", "Spec": spec}), json!({"Type": "", "ID": instance})),
        ("Validate", json!({"Type": "", "Properties": properties}), done),
    ];
    let instance_methods = examples("Instance", methods.into());
    let flavor_methods = examples("Flavor", flavor(&spec));
    let interface = |(name, version)| json!({"Name": name, "Version": version, "Sub": ""});
    let interfaces = super::reply::interfaces().map(|(name, version)| {
        let mut interface = interface((name, version));
        interface["Methods"] =
            if name == "Flavor" { flavor_methods.clone() } else { instance_methods.clone() };
        interface
    });
    json!({
        "Vendor": {
            "Name": env!("CARGO_PKG_NAME"), "Version": env!("CARGO_PKG_VERSION"), "Sub": "", "URL": "",
        },
        "Implements": super::reply::interfaces().map(interface).collect::<Vec<_>>(),
        "Interfaces": interfaces.collect::<Vec<_>>(),
    })
    .to_string()
}

/// A method with an example of its parameters and its result.
type Example = (&'static str, Value, Value);

fn examples(interface: &str, methods: Vec<Example>) -> Value {
    let example = |(method, params, result): Example| {
        let method = format!("{interface}.{method}");
        json!({
            "Request": {"jsonrpc": "2.0", "method": method, "params": params, "id": "1"},
            "Response": {"result": result, "id": "1"},
        })
    };
    methods.into_iter().map(example).collect()
}

/// The methods of the Flavor interface, for instances of this Spec.
fn flavor(spec: &Value) -> Vec<Example> {
    let properties = json!({
        "Init": ["#!/bin/sh", "echo worker"], "Tags": {"tier": "web"}, "CmdLine": "quiet",
        "BootTimeout": "10m", "DrainTimeout": "10s",
    });
    let allocation = json!({"Size": 1, "LogicalIDs": null});
    let member = json!({
        "Type": "", "Properties": properties,
        "Instance": {"ID": "rb-01a2066b0dab0000", "LogicalID": null, "Tags": spec["Tags"]},
    });
    let prepare = json!({
        "Type": "", "Properties": properties, "Spec": spec, "Allocation": allocation,
        "Index": {"Group": "workers", "Sequence": 1},
    });
    let prepared = prepare.as_object().and_then(|params| Prepare::read(params).ok());
    let prepared = prepared.and_then(|request| prepare::prepare(&request).ok());
    vec![
        ("Drain", member.clone(), json!({"Type": "", "OK": true})),
        ("Healthy", member, json!({"Type": "", "Health": 1})),
        ("Prepare", prepare, json!({"Type": "", "Spec": prepared})),
        (
            "Validate",
            json!({"Type": "", "Properties": properties, "Allocation": allocation}),
            json!({"Type": "", "OK": true}),
        ),
    ]
}

/// `/info/functions.json`: the functions of templates, of which a plugin
/// without templates of InfraKit's has none.
pub(super) fn functions() -> String {
    json!({}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_every_method_has_usable_parameters() {
        let api: Value = serde_json::from_str(&api()).expect("JSON");
        let methods = api["Interfaces"][0]["Methods"].as_array().expect("a list");
        let names: Vec<_> =
            methods.iter().map(|method| method["Request"]["method"].as_str()).collect();
        assert!(names.is_sorted() && names.len() == 5, "{names:?}");
        for method in methods {
            let params = &method["Request"]["params"];
            let example = match method["Request"]["method"].as_str() {
                Some("Instance.Provision") => &params["Spec"]["Properties"],
                Some("Instance.Validate") => &params["Properties"],
                _ => continue,
            };
            let settings = crate::spi::answer::tests::settings();
            crate::spi::answer::validate(&settings, example).expect("usable");
        }
        let interfaces = api["Interfaces"].as_array().expect("a list");
        let flavor = interfaces.iter().find(|interface| interface["Name"] == "Flavor");
        let methods = flavor.expect("it is one")["Methods"].as_array().expect("a list");
        let names: Vec<_> =
            methods.iter().map(|method| method["Request"]["method"].as_str()).collect();
        assert!(names.is_sorted() && names.len() == 4, "{names:?}");
        for method in methods {
            let params = &method["Request"]["params"];
            crate::spi::flavor::Properties::read(&params["Properties"]).expect("usable");
            if method["Request"]["method"] == "Flavor.Prepare" {
                let prepared = &method["Response"]["result"]["Spec"];
                assert_eq!(prepared["Tags"]["tier"], "web", "{prepared}");
            }
        }
    }
}
