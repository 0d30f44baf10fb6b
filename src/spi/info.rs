//! The two documents under `/info/`: what `infrakit local NAME info` shows.
//!
//! Pure. InfraKit's own server shows empty parameters; here they are filled in,
//! so that the example can be used as it is.

use serde_json::{Value, json};

/// Properties with every field, to start from.
pub(super) const EXAMPLE: &str = include_str!("../../plugin-spec/properties.json");

/// `/info/api.json`: the interface with an example of every method, in
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
    let methods: Vec<Value> = methods
        .into_iter()
        .map(|(method, params, result)| {
            let method = format!("Instance.{method}");
            json!({
                "Request": {"jsonrpc": "2.0", "method": method, "params": params, "id": "1"},
                "Response": {"result": result, "id": "1"},
            })
        })
        .collect();
    let interface = |version: &&str| json!({"Name": "Instance", "Version": version, "Sub": ""});
    let interfaces = super::reply::VERSIONS.iter().map(|version| {
        let mut interface = interface(version);
        interface["Methods"] = Value::Array(methods.clone());
        interface
    });
    json!({
        "Vendor": {
            "Name": env!("CARGO_PKG_NAME"), "Version": env!("CARGO_PKG_VERSION"), "Sub": "", "URL": "",
        },
        "Implements": super::reply::VERSIONS.iter().map(interface).collect::<Vec<_>>(),
        "Interfaces": interfaces.collect::<Vec<_>>(),
    })
    .to_string()
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
    }
}
