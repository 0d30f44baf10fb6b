//! The parameters of the service `Machine`. Strict, as Properties are: they are
//! our own words, so what is not known is an error. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    model::{
        Architecture, InvalidLabel, InvalidMac, InvalidNote, Mac, Machine, MachineState, Tags,
        Timestamp, check_label, check_note,
    },
    spi::request::Params,
};

/// Parameters that make no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("params.{}: {problem}", name.escape_debug())]
pub(in crate::spi) struct InvalidParams {
    name: String,
    problem: Problem,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum Problem {
    #[error("there is no such parameter; known are {0}")]
    Unknown(String),
    #[error("required: the MAC address of a machine")]
    NoMac,
    #[error("required: the MAC address of the card that becomes its own")]
    NoCard,
    #[error("required: an object of labels, null for those to be taken away")]
    NoLabels,
    #[error("expected {expected}, found {found}")]
    WrongType { expected: &'static str, found: String },
    #[error("there is no state `{}`; known are {}", .0.escape_debug(), states())]
    State(String),
    #[error("there is no architecture `{}`; known are {}", .0.escape_debug(), architectures())]
    Architecture(String),
    #[error(transparent)]
    Mac(InvalidMac),
    #[error(transparent)]
    Label(InvalidLabel),
    #[error(transparent)]
    Note(InvalidNote),
}

impl InvalidParams {
    /// Whether a parameter has another type than it must have.
    pub(in crate::spi) const fn is_type(&self) -> bool {
        matches!(self.problem, Problem::WrongType { .. })
    }
}

/// `Machine.List`: what is not said is no condition.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::spi) struct Filter {
    pub(in crate::spi) state: Option<MachineState>,
    pub(in crate::spi) labels: Tags,
    pub(in crate::spi) architecture: Option<Architecture>,
}

/// `Machine.Label`.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::spi) struct Label {
    pub(in crate::spi) mac: Mac,
    /// Nothing for a label that is taken away.
    pub(in crate::spi) labels: BTreeMap<String, Option<String>>,
}

/// `Machine.SetAside`.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::spi) struct SetAside {
    pub(in crate::spi) mac: Mac,
    pub(in crate::spi) reason: Option<String>,
}

/// `Machine.Join`.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::spi) struct Join {
    pub(in crate::spi) mac: Mac,
    pub(in crate::spi) card: Mac,
}

/// `Machine.Conflicts`: there is nothing to say.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::spi) struct Nothing;

/// `Machine.Free`, `Machine.Forget` and `Machine.Split`.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::spi) struct One {
    pub(in crate::spi) mac: Mac,
}

impl Filter {
    pub(in crate::spi) fn read(params: &Params) -> Result<Self, InvalidParams> {
        only(params, &["State", "Labels", "Arch"])?;
        let state = text(params, "State")?.map(|name| {
            MachineState::named(name).ok_or_else(|| at("State", Problem::State(name.to_owned())))
        });
        let architecture = text(params, "Arch")?.map(|name| {
            let unknown = || at("Arch", Problem::Architecture(name.to_owned()));
            Architecture::named(name).ok_or_else(unknown)
        });
        let labels = labels(params)?.unwrap_or_default().into_iter().map(|(name, value)| {
            let found = "null".to_owned();
            let no_text = Problem::WrongType { expected: "a string", found };
            let value = value.ok_or_else(|| at(&format!("Labels.{name}"), no_text))?;
            Ok((name, value))
        });
        Ok(Self {
            state: state.transpose()?,
            labels: labels.collect::<Result<_, _>>()?,
            architecture: architecture.transpose()?,
        })
    }

    /// Whether the machine is all that now.
    pub(super) fn matches(&self, machine: &Machine, now: Timestamp) -> bool {
        self.state.is_none_or(|state| machine.shown_state(now) == state)
            && self.architecture.is_none_or(|wanted| machine.architecture == Some(wanted))
            && self.labels.iter().all(|(name, value)| machine.labels.get(name) == Some(value))
    }
}

impl Label {
    pub(in crate::spi) fn read(params: &Params) -> Result<Self, InvalidParams> {
        only(params, &["MAC", "Labels"])?;
        let mac = mac(params)?;
        let labels = labels(params)?.ok_or_else(|| at("Labels", Problem::NoLabels))?;
        Ok(Self { mac, labels })
    }
}

impl SetAside {
    pub(in crate::spi) fn read(params: &Params) -> Result<Self, InvalidParams> {
        only(params, &["MAC", "Reason"])?;
        let reason = text(params, "Reason")?.map(|reason| {
            let checked = check_note(reason).map(|()| reason.to_owned());
            checked.map_err(|problem| at("Reason", Problem::Note(problem)))
        });
        Ok(Self { mac: mac(params)?, reason: reason.transpose()? })
    }
}

impl Join {
    pub(in crate::spi) fn read(params: &Params) -> Result<Self, InvalidParams> {
        only(params, &["MAC", "Card"])?;
        Ok(Self { mac: mac(params)?, card: address(params, "Card", Problem::NoCard)? })
    }
}

impl Nothing {
    pub(in crate::spi) fn read(params: &Params) -> Result<Self, InvalidParams> {
        match params.keys().next() {
            Some(name) => Err(at(name, Problem::Unknown("none".to_owned()))),
            None => Ok(Self),
        }
    }
}

impl One {
    pub(in crate::spi) fn read(params: &Params) -> Result<Self, InvalidParams> {
        only(params, &["MAC"])?;
        Ok(Self { mac: mac(params)? })
    }
}

/// Refuses a parameter that is none of these.
fn only(params: &Params, known: &[&str]) -> Result<(), InvalidParams> {
    let unknown = params.keys().find(|name| !known.contains(&name.as_str()));
    unknown.map_or(Ok(()), |name| Err(at(name, Problem::Unknown(known.join(", ")))))
}

fn mac(params: &Params) -> Result<Mac, InvalidParams> {
    address(params, "MAC", Problem::NoMac)
}

fn address(params: &Params, name: &str, missing: Problem) -> Result<Mac, InvalidParams> {
    let text = text(params, name)?.ok_or_else(|| at(name, missing))?;
    text.parse().map_err(|problem| at(name, Problem::Mac(problem)))
}

/// Null is the same as nothing.
fn text<'a>(params: &'a Params, name: &str) -> Result<Option<&'a str>, InvalidParams> {
    match params.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(at(name, wrong("a string", other))),
    }
}

/// The labels, if there are any; nothing for those that are null.
fn labels(params: &Params) -> Result<Option<BTreeMap<String, Option<String>>>, InvalidParams> {
    let labels = match params.get("Labels") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(labels)) => labels,
        Some(other) => return Err(at("Labels", wrong("an object of strings", other))),
    };
    let one = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => return Err(at(&format!("Labels.{name}"), wrong("a string", other))),
        };
        check_label(name, value.as_deref().unwrap_or_default())
            .map_err(|problem| at("Labels", Problem::Label(problem)))?;
        Ok((name.clone(), value))
    };
    labels.iter().map(one).collect::<Result<_, _>>().map(Some)
}

fn at(name: &str, problem: Problem) -> InvalidParams {
    InvalidParams { name: name.to_owned(), problem }
}

fn wrong(expected: &'static str, found: &Value) -> Problem {
    Problem::WrongType { expected, found: found.to_string() }
}

fn states() -> String {
    MachineState::ALL.map(MachineState::name).join(", ")
}

fn architectures() -> String {
    Architecture::ALL.map(Architecture::name).join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn params(json: &Value) -> Params {
        json.as_object().expect("an object").clone()
    }

    #[test]
    fn all_that_can_be_said_is_understood_in_every_spelling_of_an_address() {
        let filter = json!({"State": "set-aside", "Labels": {"rack": "1"}, "Arch": "bios"});
        let expected = Filter {
            state: Some(MachineState::SetAside),
            labels: [("rack".to_owned(), "1".to_owned())].into(),
            architecture: Some(Architecture::Bios),
        };
        assert_eq!(Filter::read(&params(&filter)), Ok(expected));
        let nothing = json!({"State": null, "Labels": null, "Arch": null});
        assert_eq!(Filter::read(&params(&nothing)), Ok(Filter::default()));
        let mac = Mac::new([0x52, 0x54, 0, 0xaa, 1, 0xf]);
        for text in ["52-54-00-AA-01-0F", "525400aa010f", "01-52-54-00-aa-01-0f"] {
            assert_eq!(One::read(&params(&json!({"MAC": text}))), Ok(One { mac }), "{text}");
        }
        let label = json!({"MAC": mac.to_string(), "Labels": {"a": "1", "b": null}});
        let labels = [("a".to_owned(), Some("1".to_owned())), ("b".to_owned(), None)].into();
        assert_eq!(Label::read(&params(&label)), Ok(Label { mac, labels }));
        let aside = json!({"MAC": mac.to_string(), "Reason": null});
        assert_eq!(SetAside::read(&params(&aside)), Ok(SetAside { mac, reason: None }));
    }

    #[test]
    fn what_makes_no_sense_is_named_with_what_would() {
        let mac = "52:54:00:aa:01:0f";
        let long = "x".repeat(201);
        let filter = |json: &Value| Filter::read(&params(json)).map(|_| ());
        let label = |json: &Value| Label::read(&params(json)).map(|_| ());
        let aside = |json: &Value| SetAside::read(&params(json)).map(|_| ());
        let one = |json: &Value| One::read(&params(json)).map(|_| ());
        for (read, json, said) in [
            (
                &filter as &dyn Fn(&Value) -> Result<(), InvalidParams>,
                json!({"state": "held"}),
                "params.state: there is no such parameter; known are State, Labels, Arch",
            ),
            (
                &filter,
                json!({"State": "idle"}),
                "params.State: there is no state `idle`; known are seen, held",
            ),
            (&filter, json!({"State": 5}), "params.State: expected a string, found 5"),
            (
                &filter,
                json!({"Arch": "amd64"}),
                "params.Arch: there is no architecture `amd64`; known are bios",
            ),
            (
                &filter,
                json!({"Labels": {"rack": null}}),
                "params.Labels.rack: expected a string, found null",
            ),
            (&filter, json!({"Labels": ["rack"]}), "params.Labels: expected an object of strings"),
            (&label, json!({"MAC": mac}), "params.Labels: required"),
            (
                &label,
                json!({"MAC": mac, "Labels": {"rack": 1}}),
                "params.Labels.rack: expected a string, found 1",
            ),
            (&label, json!({"MAC": mac, "Labels": {"a b": "1"}}), "params.Labels: the label `a b`"),
            (&label, json!({"MAC": mac, "Labels": {"": null}}), "params.Labels: a label's name"),
            (
                &aside,
                json!({"MAC": mac, "Reason": long}),
                "params.Reason: it has 201 characters, 200",
            ),
            (&aside, json!({"MAC": mac, "Reason": "a\nb"}), "params.Reason: it has a control"),
            (&aside, json!({"Reason": "x"}), "params.MAC: required"),
            (&one, json!({}), "params.MAC: required"),
            (&one, json!({"MAC": "rack1"}), "params.MAC: `rack1` is not a MAC address"),
            (
                &one,
                json!({"MAC": "ff:ff:ff:ff:ff:ff"}),
                "params.MAC: `ff:ff:ff:ff:ff:ff` is not the",
            ),
            (&one, json!({"MAC": mac, "Type": ""}), "params.Type: there is no such parameter"),
        ] {
            let error = read(&json).expect_err(said);
            assert!(error.to_string().starts_with(said), "{json}: {error}");
            assert_eq!(error.is_type(), said.contains("expected"), "{json}");
        }
    }
}
