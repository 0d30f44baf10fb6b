//! The exchanges of `plugin-spec/exchanges`, sent to a running daemon, and its
//! answers compared with the recorded ones by meaning.
//!
//! They were recorded with another plugin, so what was its own is replaced by
//! ours: Properties by ones that name a kernel that is there, the IDs of
//! instances by those of instances made for the purpose. What differs beyond
//! that must be listed in `plugin-spec/differences.json`.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::daemon::{Answer, Daemon};

#[derive(Deserialize)]
struct Exchange {
    name: String,
    /// Who spoke with whom: `recorded ...` if InfraKit's own client asked.
    source: String,
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
    let (mut count, mut by_infrakit) = (0, 0);
    for exchange in exchanges() {
        // The one that wants no machine to be free.
        let daemon = if exchange.name.starts_with("dummy-") { without_machines } else { daemon };
        count += 1;
        by_infrakit += u32::from(exchange.source.starts_with("recorded"));
        if exchange.request.path.starts_with("/events") {
            same_stream(daemon, &exchange);
            continue;
        }
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
    }
    assert!(count > 100, "only {count} exchanges were found");
    assert!(by_infrakit > 30, "only {by_infrakit} are of InfraKit's own clients");
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
        // A topic with nodes becomes one of ours that has some, and so does a path
        // with keys or a value; a leaf stays a name that there is not.
        "Event.List" if response["result"]["Nodes"].get(0).is_some() => {
            request["params"]["Topic"] = json!("refusal");
            Vec::new()
        }
        "Metadata.Get" if !response["result"]["Value"].is_null() => {
            request["params"]["Path"] = json!("pool/counts/held");
            Vec::new()
        }
        "Metadata.Keys" if request["params"]["Path"] == "now" => {
            request["params"]["Path"] = json!("pool/counts");
            Vec::new()
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
    if let Some(nodes) = recorded["Nodes"].as_array() {
        let ours_of = ours["Nodes"].as_array().unwrap_or_else(|| panic!("{name}: {ours}"));
        let names: Vec<&str> = ours_of.iter().map(|node| node.as_str().expect("text")).collect();
        assert_eq!((names.is_empty(), ours.get("Name")), (nodes.is_empty(), recorded.get("Name")));
        assert!(names.is_sorted(), "{name}: {ours}");
        return;
    }
    if recorded["Value"].is_number() {
        assert_eq!((ours["Value"].is_number(), &ours["Name"]), (true, &recorded["Name"]), "{name}");
        return;
    }
    assert!(covers(ours, recorded), "{name}: {ours} has not all of {recorded}");
}

/// A stream has no end: the same head, and the first event with the same members,
/// of a refusal that is made for it. Topics of the other plugin's own become such
/// as there are here.
fn same_stream(daemon: &Daemon, exchange: &Exchange) {
    let Exchange { name, source: _, request, response } = exchange;
    let topics = [
        ("streams%2Fsec%2F1", "refusal%2Fspi%2Funix"),
        ("streams%2Fsec%2F", "refusal%2Fspi%2F"),
        ("streams%2F", "refusal%2F"),
    ];
    let path = topics.iter().find_map(|(theirs, ours)| {
        request.path.strip_suffix(theirs).map(|start| format!("{start}{ours}"))
    });
    let path = path.unwrap_or_else(|| panic!("{name}: {}", request.path));
    let mut text = format!("{} {path} HTTP/1.1\r\n", request.method);
    for (header, value) in &request.headers {
        text.push_str(&format!("{header}: {value}\r\n"));
    }
    let mut stream = BufReader::new(daemon.connect());
    stream.get_mut().write_all(format!("{text}\r\n").as_bytes()).expect("sent");
    let mut lines = stream.lines().map(|line| line.expect("a line in time"));
    let head: Vec<String> = lines
        .by_ref()
        .take_while(|line| !line.is_empty())
        .map(|line| line.to_lowercase())
        .collect();
    assert_eq!(head[0], format!("http/1.1 {} ok", response.status), "{name}");
    for header in ["content-type", "cache-control", "transfer-encoding"] {
        let recorded = response.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(header));
        let expected = format!("{header}: {}", recorded.expect(header).1);
        assert!(head.contains(&expected), "{name}: no {expected} in {head:?}");
    }
    daemon.call("Instance.Destroy", json!({"Instance": "nosuch"})).expect_err("it is refused");
    let data = |line: &str| -> Option<Value> {
        line.strip_prefix("data: ").map(|data| serde_json::from_str(data).expect("JSON"))
    };
    let ours = lines.find_map(|line| data(&line)).expect("an event");
    let recorded = response.body.lines().find_map(data).expect("an event");
    for member in recorded.as_object().expect("an object").keys() {
        // The client's own time, which it fills in.
        if member != "Received" {
            assert!(ours.get(member).is_some(), "{name}: no {member} in {ours}");
        }
    }
    assert_eq!(ours["Topic"], "refusal/spi/unix", "{name}");
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
