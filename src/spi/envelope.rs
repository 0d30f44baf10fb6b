//! What surrounds a call: from a body to a method with its parameters, and from
//! a result to a body, as InfraKit's own JSON-RPC server does it.
//!
//! Pure. It knows no method. The identifier of a call may be anything, and goes
//! back byte for byte: `jsonrpc_core` sees a request with the identifier 1, and
//! its answer gets the real one here.

use std::fmt;

use serde::{
    Deserialize,
    de::{self, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

/// Codes of errors: those of JSON-RPC 2.0 §5.1, and the one that gorilla's
/// `rpc/v2/json2` has for all that a method refuses.
pub(super) const INVALID_REQUEST: i64 = -32600;
pub(super) const PARSE_ERROR: i64 = -32700;
pub(super) const INTERNAL_ERROR: i64 = -32603;
pub(super) const SERVER_ERROR: i64 = -32000;

/// What is to be done with a body.
#[derive(Debug)]
pub(super) enum Envelope {
    /// The method is to be called.
    Call(Call),
    /// This is the whole answer; empty if nobody can be told anything, because
    /// there is no identifier.
    Answer(String),
}

/// A call of a method that there is.
#[derive(Debug)]
pub(super) struct Call {
    id: Option<Box<RawValue>>,
    /// One of the methods that `open` was told.
    pub(super) method: &'static str,
    params: String,
}

/// What `jsonrpc_core` answers.
#[derive(Deserialize)]
struct CoreAnswer {
    error: Option<CoreError>,
}

#[derive(Deserialize)]
struct CoreError {
    code: i64,
    message: String,
    #[serde(default)]
    data: Value,
}

/// Reads a body: the first JSON document in it, whatever comes after.
pub(super) fn open(body: &[u8], methods: &[&'static str]) -> Envelope {
    // Go's decoder puts U+FFFD for what is not UTF-8.
    let text = String::from_utf8_lossy(body);
    let mut documents = serde_json::Deserializer::from_str(&text);
    // A batch, another type, malformed or no JSON: the identifier is unknown,
    // so nobody is told anything.
    let Ok(request) = Request::deserialize(&mut documents) else {
        return Envelope::Answer(String::new());
    };
    match request.checked(methods) {
        Ok((method, params)) => Envelope::Call(Call { id: request.id, method, params }),
        Err(refused) => Envelope::Answer(error(
            request.id.as_deref(),
            refused.code,
            &refused.message,
            &refused.data,
        )),
    }
}

impl Call {
    /// The request as `jsonrpc_core` takes it.
    pub(super) fn canonical(&self) -> String {
        let method = Value::from(self.method);
        format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{},"id":1}}"#, self.params)
    }

    /// The body of the answer: the result that the method left, or the error
    /// that `jsonrpc_core` made. Empty for a call without an identifier.
    pub(super) fn close(&self, core: Option<&str>, result: Option<&RawValue>) -> String {
        let id = self.id.as_deref();
        let answer = core.and_then(|core| serde_json::from_str::<CoreAnswer>(core).ok());
        match (answer, result) {
            (Some(CoreAnswer { error: Some(refused) }), _) => {
                error(id, refused.code, &refused.message, &refused.data.to_string())
            }
            (Some(CoreAnswer { error: None }), Some(result)) => {
                id.map_or_else(String::new, |id| success(id.get(), result.get()))
            }
            // `"result":null` must never leave: InfraKit's group controller
            // ends with a nil pointer when Provision has no ID.
            (Some(CoreAnswer { error: None }) | None, _) => self.broken(),
        }
    }

    /// The answer when the method ended without one.
    pub(super) fn broken(&self) -> String {
        let message = format!("{} ended without an answer, which is a bug", self.method);
        error(self.id.as_deref(), INTERNAL_ERROR, &message, "null")
    }
}

/// The body of a result's answer. Made at once in its length: that of a Describe
/// has megabytes.
fn success(id: &str, result: &str) -> String {
    let parts = ["{\"jsonrpc\":\"2.0\",\"result\":", result, ",\"id\":", id, "}\n"];
    parts.concat()
}

/// The body of an error's answer; `data` is JSON.
fn error(id: Option<&RawValue>, code: i64, message: &str, data: &str) -> String {
    let Some(id) = id else { return String::new() };
    let message = Value::from(message);
    let id = id.get();
    format!(
        "{{\"jsonrpc\":\"2.0\",\"error\":{{\"code\":{code},\"message\":{message},\"data\":{data}}},\"id\":{id}}}\n"
    )
}

/// A request as it came, each member in any spelling of its name.
#[derive(Default)]
struct Request {
    version: Option<Box<RawValue>>,
    method: Option<Box<RawValue>>,
    params: Option<Box<RawValue>>,
    id: Option<Box<RawValue>>,
}

struct Refused {
    code: i64,
    message: String,
    data: String,
}

impl Request {
    /// The method and its parameters as an object, checked in the order in
    /// which Go's server checks.
    fn checked(&self, methods: &[&'static str]) -> Result<(&'static str, String), Refused> {
        let invalid = |code, message, data| Err(Refused { code, message, data });
        let version = self.version.as_deref().map_or("", RawValue::get);
        if serde_json::from_str(version).ok() != Some("2.0".to_owned()) {
            return invalid(INVALID_REQUEST, "jsonrpc must be 2.0".to_owned(), self.as_parsed());
        }
        let method: String = match self.method.as_deref().map(RawValue::get) {
            None | Some("null") => String::new(),
            Some(text) => match serde_json::from_str(text) {
                Ok(method) => method,
                Err(_) => {
                    let message = format!(
                        "json: cannot unmarshal {} into Go struct field serverRequest.method of type string",
                        kind(text)
                    );
                    return invalid(PARSE_ERROR, message, self.as_parsed());
                }
            },
        };
        if let Some(known) = methods.iter().find(|known| **known == method) {
            return Ok((known, object(self.params.as_deref())?));
        }
        let message = match method.split('.').collect::<Vec<_>>().as_slice() {
            [service, _] => {
                let is_service = |known: &&str| known.split('.').next() == Some(*service);
                let what = if methods.iter().any(is_service) { "method" } else { "service" };
                format!("rpc: can't find {what} {}", Value::from(method.as_str()))
            }
            _ => {
                format!("rpc: service/method request ill-formed: {}", Value::from(method.as_str()))
            }
        };
        invalid(SERVER_ERROR, message, "null".to_owned())
    }

    /// The request as Go's server shows it in errors: members of a wrong type
    /// are empty.
    fn as_parsed(&self) -> String {
        let text = |member: &Option<Box<RawValue>>| {
            let read = member.as_deref().and_then(|raw| serde_json::from_str(raw.get()).ok());
            Value::String(read.unwrap_or_default())
        };
        let raw = |member: &Option<Box<RawValue>>| {
            member.as_deref().map_or("null", RawValue::get).to_owned()
        };
        format!(
            r#"{{"jsonrpc":{},"method":{},"params":{},"id":{}}}"#,
            text(&self.version),
            text(&self.method),
            raw(&self.params),
            raw(&self.id)
        )
    }
}

/// The parameters as an object: themselves, the first of an array, or none.
fn object(params: Option<&RawValue>) -> Result<String, Refused> {
    let Some(params) = params.map(RawValue::get) else { return Ok("{}".to_owned()) };
    let first: String = if params.starts_with('[') {
        let elements: Vec<&RawValue> = serde_json::from_str(params).unwrap_or_default();
        elements.first().map_or("null", |first| first.get()).to_owned()
    } else {
        params.to_owned()
    };
    match kind(&first) {
        "object" => Ok(first),
        "null" => Ok("{}".to_owned()),
        kind => Err(Refused {
            code: INVALID_REQUEST,
            message: format!(
                "json: cannot unmarshal {kind} into Go value of type [1]interface {{}}"
            ),
            data: params.to_owned(),
        }),
    }
}

/// What Go calls the type of this JSON value.
fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        Some(b'n') | None => "null",
        Some(_) => "number",
    }
}

impl<'de> Deserialize<'de> for Request {
    fn deserialize<Source: de::Deserializer<'de>>(source: Source) -> Result<Self, Source::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Request;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON-RPC request")
            }

            fn visit_map<Map: MapAccess<'de>>(self, mut map: Map) -> Result<Request, Map::Error> {
                let mut request = Request::default();
                while let Some(name) = map.next_key::<String>()? {
                    let value: Box<RawValue> = map.next_value()?;
                    let is_null = value.get() == "null";
                    let member = match name.to_ascii_lowercase().as_str() {
                        "jsonrpc" => &mut request.version,
                        "method" => &mut request.method,
                        "params" => &mut request.params,
                        "id" => &mut request.id,
                        _ => continue,
                    };
                    *member = (!is_null).then_some(value);
                }
                Ok(request)
            }
        }

        source.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const METHODS: [&str; 2] = ["Handshake.Hello", "Instance.Label"];

    fn call(body: &str) -> Call {
        match open(body.as_bytes(), &METHODS) {
            Envelope::Call(call) => call,
            Envelope::Answer(answer) => panic!("{body} was answered: {answer}"),
        }
    }

    fn answer(body: &str) -> String {
        match open(body.as_bytes(), &METHODS) {
            Envelope::Call(call) => panic!("{body} is a call of {}", call.method),
            Envelope::Answer(answer) => answer,
        }
    }

    fn closed(call: &Call) -> String {
        let result = RawValue::from_string(r#"{"OK":true}"#.to_owned()).expect("JSON");
        call.close(Some(r#"{"jsonrpc":"2.0","result":null,"id":1}"#), Some(&result))
    }

    #[test]
    fn an_identifier_of_any_kind_goes_back_byte_for_byte() {
        for id in [
            "1",
            "-1",
            "1.50",
            "9223372036854775807",
            "\"a\\u0041\"",
            "{ \"a\":[1] }",
            "[]",
            "1e400",
        ] {
            let body = format!(r#"{{"jsonrpc":"2.0","method":"Handshake.Hello","id":{id}}}"#);
            let expected =
                format!("{{\"jsonrpc\":\"2.0\",\"result\":{{\"OK\":true}},\"id\":{id}}}\n");
            assert_eq!(closed(&call(&body)), expected);
        }
    }

    #[test]
    fn without_an_identifier_the_method_is_called_and_nothing_answered() {
        for id in ["", r#","id":null"#] {
            let call = call(&format!(r#"{{"jsonrpc":"2.0","method":"Handshake.Hello"{id}}}"#));
            assert_eq!(closed(&call), "");
            let refused = r#"{"jsonrpc":"2.0","error":{"code":-1,"message":"m"},"id":1}"#;
            assert_eq!(call.close(Some(refused), None), "");
        }
    }

    #[test]
    fn parameters_are_an_object_whatever_they_came_as() {
        for (params, expected) in [
            ("", "{}"),
            (r#","params":null"#, "{}"),
            (r#","params":[]"#, "{}"),
            (r#","params":[{"A":1},{"B":2}]"#, r#"{"A":1}"#),
            (r#","PARAMS": {"A" : 1}"#, r#"{"A" : 1}"#),
        ] {
            let call =
                call(&format!(r#"{{"jsonrpc":"2.0","method":"Instance.Label"{params},"id":1}}"#));
            assert_eq!(
                call.canonical(),
                format!(
                    r#"{{"jsonrpc":"2.0","method":"Instance.Label","params":{expected},"id":1}}"#
                )
            );
        }
    }

    #[test]
    fn who_cannot_be_told_is_told_nothing() {
        for body in [
            "",
            "[]",
            "[{}]",
            "5",
            "null",
            "\"x\"",
            "{",
            r#"{"id":1} x"#.trim_end_matches("} x"),
            "{}",
        ] {
            assert_eq!(answer(body), "", "{body}");
        }
    }

    #[test]
    fn a_result_is_never_null() {
        let call = call(r#"{"jsonrpc":"2.0","method":"Handshake.Hello","id":7}"#);
        for core in [None, Some("x"), Some(r#"{"jsonrpc":"2.0","result":null,"id":1}"#)] {
            assert!(call.close(core, None).contains(r#""code":-32603"#), "{core:?}");
        }
    }

    #[test]
    fn gorilla_s_words_for_what_there_is_not() {
        for (method, text) in [
            (r#""Instance.Nope""#, r#"rpc: can't find method \"Instance.Nope\""#),
            (r#""Flavor.Validate""#, r#"rpc: can't find service \"Flavor.Validate\""#),
            (r#""handshake.hello""#, r#"rpc: can't find service \"handshake.hello\""#),
            (r#""A.B.C""#, r#"rpc: service/method request ill-formed: \"A.B.C\""#),
            ("null", r#"rpc: service/method request ill-formed: \"\""#),
            (
                "5",
                "json: cannot unmarshal number into Go struct field serverRequest.method of type string",
            ),
        ] {
            let body = format!(r#"{{"jsonrpc":"2.0","method":{method},"id":1}}"#);
            assert!(answer(&body).contains(text), "{}", answer(&body));
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = open(&body, &METHODS);
        }

        #[test]
        fn a_cut_or_changed_request_is_answered_with_json_or_nothing(
            cut in 0usize..120, place in 0usize..120, byte: u8,
        ) {
            let mut body = br#"{"jsonrpc":"2.0","method":"Instance.Label","params":[{"Labels":{"a":"b"}}],"id":4758190723384661001}"#.to_vec();
            if let Some(changed) = body.get_mut(place) {
                *changed = byte;
            }
            body.truncate(cut.max(1));
            let text = match open(&body, &METHODS) {
                Envelope::Call(call) => {
                    prop_assert!(serde_json::from_str::<Value>(&call.canonical()).is_ok());
                    closed(&call)
                }
                Envelope::Answer(answer) => answer,
            };
            // Not as a value: an identifier such as 4E58190723384661001 goes back as it
            // came, and is larger than a number of Rust's.
            let is_json = serde_json::from_str::<&RawValue>(text.trim()).is_ok();
            prop_assert!(text.is_empty() || is_json, "{}", text);
        }
    }
}
