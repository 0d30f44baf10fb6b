//! What Validate and Prepare say: a Spec with all that the flavor adds, or the
//! reason why there is none. Pure.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::{
    Properties,
    request::{Allocation, Prepare, Spec, Validate},
};
use crate::spi::addition::{Addition, InvalidAddition};

/// Why a flavor cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(in crate::spi) enum Refusal {
    /// Its Properties cannot be used.
    #[error(transparent)]
    Properties(#[from] InvalidAddition),
    /// There are more instances than entries.
    #[error("Properties.Each: its length is {entries}, but {allocated}")]
    TooFew { entries: usize, allocated: String },
    /// What a command line or `Each` would go into is something else.
    #[error("Spec.Properties: expected an object that {what} can be put into, found {found}")]
    NoObject { what: &'static str, found: String },
    /// The command line that another would be put behind is none.
    #[error(
        "Spec.Properties.CmdLine: expected a string that Properties.CmdLine can be put behind, found {0}"
    )]
    NoCmdLine(String),
    /// The group's instances and its flavor have both something for each.
    #[error("Spec.Properties.Each: the flavor has Properties.Each, too; leave one of the two out")]
    TwoLists,
    /// The group's instances cannot all have one index.
    #[error(
        "Spec.Properties.Index: {given} is given, but `{logical_id}` has place {place} in Allocation.LogicalIDs; leave it out"
    )]
    TwoIndexes { given: String, logical_id: String, place: usize },
    /// The group has a name twice.
    #[error("Allocation.LogicalIDs: `{0}` is there twice")]
    Twice(String),
    /// The name is not one of those that the group has.
    #[error("Spec.LogicalID: {} is not one of the {count} in Allocation.LogicalIDs", quoted(.logical_id.as_deref()))]
    NotAllocated { logical_id: Option<String>, count: usize },
}

/// Whether a group of this size can have this flavor.
pub(in crate::spi) fn validate(request: &Validate) -> Result<(), Refusal> {
    if let Allocation::LogicalIds(names) = &request.allocation {
        let mut seen = HashSet::new();
        // The second one would be answered with the instance of the first for ever.
        if let Some(name) = names.iter().find(|name| !seen.insert(*name)) {
            return Err(Refusal::Twice(name.clone()));
        }
    }
    enough(&Properties::read(&request.properties)?, &request.allocation)
}

/// The Spec with all that is added to it.
pub(in crate::spi) fn prepare(request: &Prepare) -> Result<Value, Refusal> {
    let properties = Properties::read(&request.properties)?;
    enough(&properties, &request.allocation)?;
    let place = place(&request.spec, &request.allocation)?;
    let addition = match place.and_then(|place| properties.each.get(place)) {
        Some(own) => properties.all.and(own),
        None => properties.all.clone(),
    };
    let spec = &request.spec;
    let mut prepared = spec.properties.clone();
    append_cmdline(&mut prepared, &addition)?;
    match place {
        Some(place) => put_index(&mut prepared, spec, place)?,
        // Which of them it will be, Provision knows.
        None if !properties.each.is_empty() => put_each(&mut prepared, &properties)?,
        None => {}
    }
    Ok(json!({
        "Properties": prepared,
        "Tags": tags(spec, &addition),
        "Init": addition.behind_init(&spec.init),
        "LogicalID": spec.logical_id,
        "Attachments": spec.attachments,
    }))
}

/// Whether there is an entry of `Each` for everyone, if there is any.
fn enough(properties: &Properties, allocation: &Allocation) -> Result<(), Refusal> {
    let entries = properties.each.len();
    let (members, allocated) = match allocation {
        Allocation::Size(size) => (*size, format!("Allocation.Size is {size}")),
        Allocation::LogicalIds(names) => {
            (names.len() as u64, format!("Allocation.LogicalIDs has {}", names.len()))
        }
    };
    if entries > 0 && (entries as u64) < members {
        return Err(Refusal::TooFew { entries, allocated });
    }
    Ok(())
}

/// The place of this instance among the names of its group; none in a group of
/// instances that are alike.
fn place(spec: &Spec, allocation: &Allocation) -> Result<Option<usize>, Refusal> {
    let Allocation::LogicalIds(names) = allocation else { return Ok(None) };
    let place = names.iter().position(|name| Some(name) == spec.logical_id.as_ref());
    place.map(Some).ok_or_else(|| Refusal::NotAllocated {
        logical_id: spec.logical_id.clone(),
        count: names.len(),
    })
}

fn append_cmdline(properties: &mut Value, addition: &Addition) -> Result<(), Refusal> {
    if addition.cmdline.is_empty() {
        return Ok(());
    }
    let fields = fields(properties, "Properties.CmdLine")?;
    let cmdline = match fields.get("CmdLine") {
        None | Some(Value::Null) => addition.cmdline.clone(),
        Some(Value::String(given)) => addition.behind_cmdline(given),
        Some(other) => return Err(Refusal::NoCmdLine(other.to_string())),
    };
    fields.insert("CmdLine".to_owned(), Value::String(cmdline));
    Ok(())
}

/// Where there are no Properties there is no command line that could name an
/// index, so it goes into an object only.
fn put_index(properties: &mut Value, spec: &Spec, place: usize) -> Result<(), Refusal> {
    let Value::Object(fields) = properties else { return Ok(()) };
    let index = json!(place);
    match fields.get("Index") {
        Some(given) if !given.is_null() && *given != index => Err(Refusal::TwoIndexes {
            given: given.to_string(),
            logical_id: spec.logical_id.clone().unwrap_or_default(),
            place,
        }),
        Some(_) | None => {
            fields.insert("Index".to_owned(), index);
            Ok(())
        }
    }
}

fn put_each(properties: &mut Value, flavor: &Properties) -> Result<(), Refusal> {
    let fields = fields(properties, "Properties.Each")?;
    match fields.get("Each") {
        Some(given) if !given.is_null() && *given != flavor.each_as_written => {
            Err(Refusal::TwoLists)
        }
        Some(_) | None => {
            fields.insert("Each".to_owned(), flavor.each_as_written.clone());
            Ok(())
        }
    }
}

fn fields<'a>(
    properties: &'a mut Value,
    what: &'static str,
) -> Result<&'a mut Map<String, Value>, Refusal> {
    match properties {
        Value::Object(fields) => Ok(fields),
        other => Err(Refusal::NoObject { what, found: other.to_string() }),
    }
}

/// None stay none where none is added.
fn tags(spec: &Spec, addition: &Addition) -> Option<Map<String, Value>> {
    if spec.tags.is_none() && addition.tags.is_empty() {
        return None;
    }
    let mut tags = spec.tags.clone().unwrap_or_default();
    tags.extend(addition.tags.iter().map(|(key, value)| (key.clone(), json!(value))));
    Some(tags)
}

fn quoted(logical_id: Option<&str>) -> String {
    logical_id.map_or_else(|| "null".to_owned(), |name| format!("`{name}`"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Prepares an instance of a group of two, or of the names a, b and c.
    fn prepared(properties: Value, spec: Value) -> Result<Value, String> {
        let allocation = match spec["LogicalID"] {
            Value::Null => json!({"Size": 2, "LogicalIDs": null}),
            _ => json!({"Size": 0, "LogicalIDs": ["a", "b", "c"]}),
        };
        let params = json!({"Properties": properties, "Spec": spec, "Allocation": allocation});
        let request = Prepare::read(params.as_object().expect("an object")).expect("readable");
        prepare(&request).map_err(|refusal| refusal.to_string())
    }

    fn validated(properties: Value, allocation: Value) -> Result<(), String> {
        let params = json!({"Properties": properties, "Allocation": allocation});
        let request = Validate::read(params.as_object().expect("an object")).expect("readable");
        validate(&request).map_err(|refusal| refusal.to_string())
    }

    fn spec(fields: Value) -> Value {
        let mut spec = json!({
            "Properties": {"Kernel": "k"}, "Tags": {"infrakit.group": "g"}, "Init": "",
            "LogicalID": null, "Attachments": null,
        });
        let fields = fields.as_object().expect("an object").clone();
        spec.as_object_mut().expect("an object").extend(fields);
        spec
    }

    #[test]
    fn a_flavor_that_says_nothing_changes_nothing() {
        let whole = spec(json!({"Init": "x", "Attachments": [{"ID": "v", "Type": "disk"}]}));
        let empty = json!({
            "Properties": null, "Tags": null, "Init": "", "LogicalID": null, "Attachments": null,
        });
        for spec in [whole, empty] {
            for nothing in [json!(null), json!({}), json!({"Each": []})] {
                assert_eq!(prepared(nothing, spec.clone()), Ok(spec.clone()));
            }
        }
    }

    #[test]
    fn what_is_said_for_all_goes_behind_what_is_there() {
        let flavor = json!({"Init": ["b", "c"], "Tags": {"tier": "web"}, "CmdLine": "y"});
        let given = json!({
            "Properties": {"Kernel": "k", "CmdLine": "x"}, "Init": "a",
            "Tags": {"infrakit.group": "g", "tier": "db", "rack": "1"},
        });
        let expected = json!({
            "Properties": {"Kernel": "k", "CmdLine": "x y"}, "Init": "a\nb\nc",
            "Tags": {"infrakit.group": "g", "tier": "web", "rack": "1"},
        });
        assert_eq!(prepared(flavor.clone(), spec(given)), Ok(spec(expected)));
        for nothing in [json!({"Kernel": "k"}), json!({"Kernel": "k", "CmdLine": null})] {
            let given = json!({"Properties": nothing, "Tags": null});
            let expected = json!({
                "Properties": {"Kernel": "k", "CmdLine": "y"}, "Tags": {"tier": "web"}, "Init": "b\nc",
            });
            assert_eq!(prepared(flavor.clone(), spec(given)), Ok(spec(expected)));
        }
    }

    #[test]
    fn one_of_a_list_of_names_is_given_what_is_at_its_place() {
        let flavor = json!({
            "Init": "all", "CmdLine": "y",
            "Each": [{}, {"Init": "b", "Tags": {"disk": "nvme"}, "CmdLine": "z"}, {}, {}],
        });
        let expected = json!({
            "Properties": {"Kernel": "k", "CmdLine": "y z", "Index": 1}, "LogicalID": "b",
            "Init": "all\nb", "Tags": {"infrakit.group": "g", "disk": "nvme"},
        });
        let b = spec(json!({"LogicalID": "b"}));
        assert_eq!(prepared(flavor.clone(), b), Ok(spec(expected)));
        let bare = spec(json!({"LogicalID": "c", "Properties": null}));
        let expected = spec(json!({"LogicalID": "c", "Properties": null, "Init": "all"}));
        assert_eq!(prepared(json!({"Init": "all"}), bare), Ok(expected));
    }

    #[test]
    fn one_of_many_that_are_alike_takes_the_list_along_to_its_provision() {
        let each = json!([{"CmdLine": "a=0"}, {"Tags": {"x": "1"}}]);
        let flavor = json!({"CmdLine": "y", "Each": each});
        let expected = json!({"Properties": {"Kernel": "k", "CmdLine": "y", "Each": each}});
        assert_eq!(prepared(flavor, spec(json!({}))), Ok(spec(expected)));
    }

    #[test]
    fn what_cannot_be_put_together_is_named() {
        let each = || json!({"Each": [{}, {}, {}]});
        let of = |properties: Value| spec(json!({"Properties": properties}));
        let named = |name: &str, properties: Value| {
            spec(json!({"LogicalID": name, "Properties": properties}))
        };
        for (flavor, spec, expected) in [
            (
                json!({"CmdLine": "x"}),
                of(Value::Null),
                "Spec.Properties: expected an object that Properties.CmdLine can be put into, found null",
            ),
            (
                json!({"CmdLine": "x"}),
                of(json!({"CmdLine": ["y"]})),
                "Spec.Properties.CmdLine: expected a string that Properties.CmdLine can be put behind, found [\"y\"]",
            ),
            (
                each(),
                of(json!("k")),
                "Spec.Properties: expected an object that Properties.Each can be put into, found \"k\"",
            ),
            (
                each(),
                of(json!({"Each": [{}]})),
                "Spec.Properties.Each: the flavor has Properties.Each, too; leave one of the two out",
            ),
            (
                each(),
                named("d", json!({})),
                "Spec.LogicalID: `d` is not one of the 3 in Allocation.LogicalIDs",
            ),
            (
                each(),
                named("b", json!({"Index": 7})),
                "Spec.Properties.Index: 7 is given, but `b` has place 1 in Allocation.LogicalIDs; leave it out",
            ),
            (
                json!({"Each": [{}]}),
                of(json!({})),
                "Properties.Each: its length is 1, but Allocation.Size is 2",
            ),
            (
                json!({"Tags": {"infrakit.group": "mine"}}),
                of(json!({})),
                "Properties.Tags.infrakit.group: a group is kept by this tag, so it cannot be given here (`mine`)",
            ),
        ] {
            assert_eq!(prepared(flavor, spec), Err(expected.to_owned()));
        }
    }

    #[test]
    fn a_list_is_as_long_as_its_group_or_longer() {
        let flavor = |entries: usize| json!({"Each": vec![json!({}); entries]});
        let size = |size: u64| json!({"Size": size});
        let names = json!({"LogicalIDs": ["a", "b", "c"]});
        assert_eq!(validated(flavor(3), size(3)), Ok(()));
        assert_eq!(validated(flavor(4), names.clone()), Ok(()));
        assert_eq!(validated(flavor(0), size(3)), Ok(()));
        assert_eq!(validated(json!(null), size(3)), Ok(()));
        let too_few = "Properties.Each: its length is 2, but Allocation";
        assert_eq!(validated(flavor(2), size(3)), Err(format!("{too_few}.Size is 3")));
        assert_eq!(validated(flavor(2), names), Err(format!("{too_few}.LogicalIDs has 3")));
        let twice = validated(json!({}), json!({"LogicalIDs": ["a", "b", "a"]}));
        assert_eq!(twice, Err("Allocation.LogicalIDs: `a` is there twice".to_owned()));
        let template = validated(json!({"CmdLine": "x={{ nope }}"}), size(1)).expect_err("unknown");
        assert!(template.starts_with("Properties.CmdLine: `{{ nope }}` is unknown"), "{template}");
    }

    /// Any JSON, with the names that mean something more often than others.
    fn json_value() -> impl Strategy<Value = Value> {
        let name = proptest::sample::select(vec![
            "Init",
            "Tags",
            "CmdLine",
            "Each",
            "Index",
            "Properties",
            "LogicalID",
            "Size",
            "LogicalIDs",
            "infrakit.group",
            "x",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-2i64..3).prop_map(Value::from),
            "[a-c{}% ]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(name.clone(), inner, 0..5).prop_map(|members| {
                    let members = members.into_iter().map(|(name, value)| (name.to_owned(), value));
                    Value::Object(members.collect())
                }),
            ]
        })
    }

    proptest! {
        /// Whatever comes, it is refused, or comes back with all that keeps a group.
        #[test]
        fn what_is_prepared_keeps_its_group_and_its_name(
            flavor in json_value(), fields in json_value(), allocation in json_value(),
        ) {
            let mut given = spec(json!({}));
            if let Value::Object(fields) = fields {
                given.as_object_mut().expect("an object").extend(fields);
            }
            given["Tags"] = json!({"infrakit.group": "g", "infrakit.config.hash": "h"});
            let params = json!({"Properties": flavor, "Spec": given, "Allocation": allocation});
            let request = Prepare::read(params.as_object().expect("an object"));
            if let Ok(Ok(prepared)) = request.map(|request| prepare(&request)) {
                prop_assert_eq!(&prepared["Tags"]["infrakit.group"], "g");
                prop_assert_eq!(&prepared["Tags"]["infrakit.config.hash"], "h");
                prop_assert_eq!(&prepared["LogicalID"], &given["LogicalID"]);
                prop_assert_eq!(&prepared["Attachments"], &given["Attachments"]);
            }
        }
    }
}
