//! Host names made of a template, so that many instances of one description are
//! named one by one. Pure.

use minijinja::{Value, context};

use super::cmdline::{AnyTag, InvalidCmdLine, describe, environment, unknown_name};
use crate::model::{Hostname, InstanceId, InvalidHostname, LogicalId, Mac, Tags};

/// The names that a template may use. An address is not among them: a machine
/// may be given its own only later.
const NAMES: [&str; 5] = ["index", "logical_id", "id", "mac", "tags"];

/// What the variables of a template stand for.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// `{{ index }}`, undefined without it.
    pub index: Option<u32>,
    /// `{{ logical_id }}`, undefined without it.
    pub logical_id: Option<&'a LogicalId>,
    /// `{{ id }}`.
    pub id: InstanceId,
    /// `{{ mac }}`: with colons, which no host name has, so it needs a filter.
    pub mac: Mac,
    /// `{{ tags["x"] }}`.
    pub tags: &'a Tags,
}

/// Why no host name comes of a template.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidTemplate {
    /// It uses a name that there is not.
    #[error(
        "`{{{{ {0} }}}}` is unknown here; known are index, logical_id, id, mac and tags[\"x\"]"
    )]
    UnknownName(String),
    /// It is wrong, or uses what this instance has not.
    #[error(transparent)]
    Template(InvalidCmdLine),
    /// It comes out as something else.
    #[error("it comes out as something else: {0}")]
    Hostname(#[source] InvalidHostname),
}

/// Checks a template without an instance at hand: any tag is taken for there.
///
/// # Errors
///
/// [`InvalidTemplate`] if no instance could be named by it.
pub fn check(template: &str) -> Result<(), InvalidTemplate> {
    if let Some(name) = unknown_name(template, &NAMES).map_err(InvalidTemplate::Template)? {
        return Err(InvalidTemplate::UnknownName(name));
    }
    let any = context! {
        index => 0, logical_id => "example", id => "rb-0000000000000000",
        mac => "00:00:00:00:00:00", tags => Value::from_object(AnyTag),
    };
    name(template, any).map(|_| ())
}

/// The name of this instance.
///
/// # Errors
///
/// [`InvalidTemplate`] if it uses what is not there, such as a tag that the
/// instance has not, or comes out as no host name.
pub fn render(template: &str, member: &Member) -> Result<Hostname, InvalidTemplate> {
    let (id, mac) = (member.id.to_string(), member.mac.to_string());
    let mut values = context! { id, mac, tags => Value::from_pairs(member.tags.clone()) };
    if let Some(LogicalId(logical_id)) = member.logical_id {
        values = context! { logical_id, ..values };
    }
    if let Some(index) = member.index {
        values = context! { index, ..values };
    }
    name(template, values)
}

fn name(template: &str, values: Value) -> Result<Hostname, InvalidTemplate> {
    let wrong = |error: minijinja::Error| InvalidTemplate::Template(describe(&error));
    let environment = environment();
    let parsed = environment.template_from_str(template).map_err(wrong)?;
    let text = parsed.render(values).map_err(wrong)?;
    text.parse().map_err(InvalidTemplate::Hostname)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Timestamp, testing};

    fn named(template: &str, index: Option<u32>) -> Result<String, String> {
        let tags = testing::tags(&[("rack", "R1"), ("odd", "a b")]);
        let logical_id = LogicalId("pet".to_owned());
        let member = Member {
            index,
            logical_id: Some(&logical_id),
            id: InstanceId::next(None, Timestamp(1)),
            mac: Mac::new([2, 0, 0, 0, 0, 1]),
            tags: &tags,
        };
        let name = render(template, &member).map_err(|error| error.to_string())?;
        Ok(name.to_string())
    }

    #[test]
    fn every_name_is_filled_in() {
        for (template, expected) in [
            ("web-{{ index }}", "web-4"),
            ("{{ tags[\"rack\"] }}-{{ index + 1 }}.example", "r1-5.example"),
            ("x-{{ logical_id }}", "x-pet"),
            ("m{{ mac|replace(\":\", \"\") }}", "m020000000001"),
            ("{{ id }}", "rb-0000000000010000"),
        ] {
            assert_eq!(check(template), Ok(()), "{template}");
            assert_eq!(named(template, Some(4)), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn what_can_name_nobody_is_refused_before_any_instance() {
        for (template, says) in [
            ("web-{{ ip }}", "`{{ ip }}` is unknown here"),
            ("web-{{ index", "syntax error"),
            ("web_{{ index }}", "comes out as something else: `web_0`"),
            ("web-{{ mac }}", "comes out as something else: `web-00:00"),
            ("{{ index }}\n{{ index }}", "comes out as something else"),
        ] {
            let error = check(template).expect_err(template).to_string();
            assert!(error.contains(says), "{template}: {error}");
        }
    }

    #[test]
    fn what_an_instance_has_not_is_refused_for_it() {
        for (template, index) in [
            ("web-{{ index }}", None),
            ("{{ tags[\"none\"] }}", Some(0)),
            ("{{ tags[\"odd\"] }}", Some(0)),
        ] {
            assert_eq!(check(template), Ok(()));
            assert!(named(template, index).is_err(), "{template}");
        }
    }
}
