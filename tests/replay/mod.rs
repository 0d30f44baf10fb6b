//! The exchanges of `plugin-spec/exchanges`, sent to a running daemon, and its
//! answers compared with the recorded ones by meaning.
//!
//! They were recorded with another plugin, so what was its own is replaced by
//! ours: Properties by ones that name a kernel that is there, the IDs of
//! instances by those of instances made for the purpose. What differs beyond
//! that must be listed in `plugin-spec/differences.json`.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::daemon::{Answer, Daemon};

#[derive(Deserialize)]
struct Exchange {
    name: String,
    request: Request,
    response: Response,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

#[derive(Deserialize)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

#[derive(Deserialize)]
struct Difference {
    exchange: String,
    ours: Ours,
    reason: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Ours {
    Result { result: Value },
    Error { error: i64, says: String },
    Document { document: Value },
}

#[derive(Deserialize)]
struct Rpc<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    result: Option<Value>,
    error: Option<Value>,
}

/// Replays every file.
pub(crate) fn all(daemon: &Daemon, without_machines: &Daemon) {
    let mut differences = differences();
    let mut count = 0;
    for exchange in exchanges() {
        // The one that wants no machine to be free.
        let daemon = if exchange.name.starts_with("dummy-") { without_machines } else { daemon };
        let prepared = prepare(daemon, &exchange);
        let answer = send(daemon, &exchange.request, &prepared.body);
        match differences.remove(&exchange.name) {
            Some(difference) => differs(&exchange, &difference, &answer),
            None => same(&exchange, &answer),
        }
        if let Some(id) = outcome_id(&answer) {
            destroy(daemon, &id);
        }
        prepared.made.iter().for_each(|id| destroy(daemon, id));
        count += 1;
    }
    assert!(count > 100, "only {count} exchanges were found");
    let unknown: Vec<&String> = differences.keys().collect();
    assert!(unknown.is_empty(), "differences of exchanges that there are not: {unknown:?}");
}

/// A body in which all that was the other plugin's own is ours.
struct Prepared {
    body: String,
    made: Vec<String>,
}

fn prepare(daemon: &Daemon, exchange: &Exchange) -> Prepared {
    let untouched = |made| Prepared { body: exchange.request.body.clone(), made };
    let (Ok(mut request), Ok(response)) = (
        serde_json::from_str::<Value>(&exchange.request.body),
        serde_json::from_str::<Value>(&exchange.response.body),
    ) else {
        return untouched(Vec::new());
    };
    let succeeded = !response["result"].is_null() || exchange.name.starts_with("dummy-");
    let method = request["method"].as_str().unwrap_or_default().to_owned();
    let made = match method.as_str() {
        "Instance.DescribeInstances" => {
            let recorded = response["result"]["Descriptions"].as_array().cloned();
            let made = recorded.unwrap_or_default().iter().map(|one| make(daemon, one)).collect();
            return untouched(made);
        }
        "Instance.Provision" if succeeded => {
            own(&mut request["params"]["Spec"]["Properties"]);
            Vec::new()
        }
        "Instance.Validate" if succeeded => {
            own(&mut request["params"]["Properties"]);
            Vec::new()
        }
        "Instance.Destroy" | "Instance.Label" if succeeded => {
            let id = make(daemon, &json!({}));
            request["params"]["Instance"] = json!(id);
            vec![id]
        }
        _ => return untouched(Vec::new()),
    };
    Prepared { body: request.to_string(), made }
}

/// Recorded Properties become ours; where there were none, there are none.
fn own(properties: &mut Value) {
    if properties.is_object() {
        *properties = json!({"Kernel": "vmlinuz", "Initrd": "initrd.img", "CmdLine": "quiet"});
    }
}

/// An instance like the recorded one.
fn make(daemon: &Daemon, description: &Value) -> String {
    let spec = json!({
        "Properties": {"Kernel": "vmlinuz"},
        "Tags": description["Tags"], "LogicalID": description["LogicalID"],
    });
    let result = daemon.call("Instance.Provision", json!({"Type": "", "Spec": spec}));
    result.expect("enough machines")["ID"].as_str().expect("text").to_owned()
}

fn destroy(daemon: &Daemon, id: &str) {
    daemon.call("Instance.Destroy", json!({"Type": "", "Instance": id})).expect("ours");
}

fn outcome_id(answer: &Answer) -> Option<String> {
    let body: Value = serde_json::from_str(&answer.body).ok()?;
    body["result"]["ID"].as_str().map(str::to_owned)
}

fn send(daemon: &Daemon, request: &Request, body: &str) -> Answer {
    let mut text = format!("{} {} HTTP/1.1\r\n", request.method, request.path);
    for (name, value) in &request.headers {
        if !name.eq_ignore_ascii_case("content-length") {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if request.method != "GET" {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    daemon.exchange(format!("{text}Connection: close\r\n\r\n{body}").as_bytes())
}

/// The status, the identifier byte for byte, and the same result or error.
fn same(exchange: &Exchange, answer: &Answer) {
    let name = &exchange.name;
    let recorded = &exchange.response;
    assert_eq!(answer.status, recorded.status, "{name}: {answer:?}");
    for header in ["content-type", "location", "x-content-type-options"] {
        let expected = recorded.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(header));
        if let Some((_, expected)) = expected
            && !name.starts_with("dummy-")
        {
            assert_eq!(answer.header(header), Some(expected.as_str()), "{name}: {header}");
        }
    }
    let Ok(expected) = serde_json::from_str::<Rpc>(&recorded.body) else {
        return same_document(exchange, answer);
    };
    let ours: Rpc = serde_json::from_str(&answer.body)
        .unwrap_or_else(|error| panic!("{name}: {error} in {answer:?}"));
    assert!(answer.body.ends_with('\n'), "{name}");
    assert_eq!(ours.id.get(), expected.id.get(), "{name}");
    match (&expected.result, &expected.error) {
        (_, Some(error)) => same_error(name, error, ours.error.as_ref()),
        (Some(result), None) => {
            let ours = ours.result.unwrap_or_else(|| panic!("{name}: no result in {answer:?}"));
            same_result(name, result, &ours);
        }
        (None, None) => panic!("{name} was recorded without an answer"),
    }
}

/// Texts that are the protocol's must be the same; those that are the other
/// plugin's own need only be an error of the same code.
fn same_error(name: &str, recorded: &Value, ours: Option<&Value>) {
    let ours = ours.unwrap_or_else(|| panic!("{name}: a result instead of {recorded}"));
    assert_eq!(ours["code"], recorded["code"], "{name}");
    assert_eq!(ours["data"], recorded["data"], "{name}");
    let text = recorded["message"].as_str().expect("text");
    let of_protocol = ["rpc: ", "no-plugin:", "jsonrpc must"];
    let said = ours["message"].as_str().expect("text");
    if of_protocol.iter().any(|start| text.starts_with(start)) {
        assert_eq!(said, text, "{name}");
    }
    assert!(!said.is_empty(), "{name}");
    assert!(!name.starts_with("dummy-") || said.starts_with("no free machine"), "{name}: {said}");
}

fn same_result(name: &str, recorded: &Value, ours: &Value) {
    if let Some(descriptions) = recorded["Descriptions"].as_array() {
        let ours = ours["Descriptions"].as_array().unwrap_or_else(|| panic!("{name}: {ours}"));
        assert_eq!(summary(ours), summary(descriptions), "{name}");
        return;
    }
    if let Some(id) = recorded.get("ID") {
        assert!(id.is_string() && ours["ID"].as_str().is_some_and(|id| id.starts_with("rb-")));
        assert_eq!(ours["Type"], recorded["Type"], "{name}");
        return;
    }
    assert!(covers(ours, recorded), "{name}: {ours} has not all of {recorded}");
}

/// What matters of descriptions, in an order of its own: the names and tags,
/// and whether there are details. No tags and null are the same.
fn summary(descriptions: &[Value]) -> Vec<String> {
    let mut summary: Vec<String> = descriptions
        .iter()
        .map(|one| {
            assert!(one["ID"].is_string(), "{one}");
            let mut tags: BTreeMap<String, String> =
                serde_json::from_value(one["Tags"].clone()).unwrap_or_default();
            // Ours has this one besides all that were given.
            tags.remove("infrakit.state");
            format!("{} {tags:?} {}", one["LogicalID"], one.get("Properties").is_some())
        })
        .collect();
    summary.sort();
    summary
}

/// Whether all that is recorded is there; there may be more, such as further
/// versions.
fn covers(ours: &Value, recorded: &Value) -> bool {
    match (ours, recorded) {
        (Value::Object(ours), Value::Object(recorded)) => recorded
            .iter()
            .all(|(key, value)| ours.get(key).is_some_and(|ours| covers(ours, value))),
        (Value::Array(ours), Value::Array(recorded)) => {
            recorded.iter().all(|value| ours.iter().any(|ours| covers(ours, value)))
        }
        _ => ours == recorded,
    }
}

/// Bodies that are no answers of JSON-RPC.
fn same_document(exchange: &Exchange, answer: &Answer) {
    let name = &exchange.name;
    let recorded = &exchange.response.body;
    let Ok(expected) = serde_json::from_str::<Value>(recorded) else {
        assert_eq!(&answer.body, recorded, "{name}");
        return;
    };
    let ours: Value = serde_json::from_str(&answer.body).expect(name);
    assert!(covers(&ours["Implements"], &expected["Implements"]), "{name}: {ours}");
    let methods = |api: &Value| -> Vec<(String, Vec<String>)> {
        let methods = api["Interfaces"][0]["Methods"].as_array().expect(name);
        let keys = |params: &Value| params.as_object().expect(name).keys().cloned().collect();
        methods
            .iter()
            .map(|one| (one["Request"]["method"].to_string(), keys(&one["Request"]["params"])))
            .collect()
    };
    assert_eq!(methods(&ours), methods(&expected), "{name}");
}

fn differs(exchange: &Exchange, difference: &Difference, answer: &Answer) {
    let name = &exchange.name;
    assert!(difference.reason.len() > 10, "{name} needs a reason");
    assert_eq!(answer.status, 200, "{name}");
    let ours: Value = serde_json::from_str(&answer.body).expect(name);
    match &difference.ours {
        Ours::Result { result } => assert!(covers(&ours["result"], result), "{name}: {ours}"),
        Ours::Document { document } => assert_eq!(&ours, document, "{name}"),
        Ours::Error { error, says } => {
            assert_eq!(ours["error"]["code"], json!(error), "{name}: {ours}");
            let said = ours["error"]["message"].as_str().expect(name);
            assert!(said.contains(says.as_str()), "{name}: {said}");
        }
    }
}

fn exchanges() -> Vec<Exchange> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugin-spec/exchanges");
    let mut paths: Vec<_> = fs::read_dir(directory)
        .expect("the exchanges")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).expect("text");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    paths.iter().map(read).collect()
}

fn differences() -> BTreeMap<String, Difference> {
    let text = include_str!("../../plugin-spec/differences.json");
    let list: Vec<Difference> = serde_json::from_str(text).expect("differences");
    list.into_iter().map(|one| (one.exchange.clone(), one)).collect()
}
