//! The kernel's command line: a minijinja template of one line.
//!
//! What comes out goes into an iPXE script, so it must be one line that iPXE
//! hands on as it is. Pure.

use std::{
    fmt::{self, Write as _},
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use minijinja::{
    Environment, ErrorKind, UndefinedBehavior, Value, context,
    value::{Enumerator, Object},
};

use super::{init::is_ignition, urls};
use crate::model::{Instance, Mac, VlanId};

/// The names that a template may use.
const NAMES: &[&str] = &[
    "mac",
    "machine",
    "ip",
    "hostname",
    "id",
    "logical_id",
    "index",
    "server",
    "vlan",
    "tags",
    "nocloud",
    "ignition",
    "init",
    "report",
];

/// The longest command line that every kernel takes whole: `COMMAND_LINE_SIZE`
/// of Linux is 2048 with its ending zero on x86 and arm64.
pub const MAX_LENGTH: usize = 2047;

/// Steps of a template before it is stopped: no template of one line needs them.
const FUEL: u64 = 20_000;

/// What the variables of a template stand for.
#[derive(Debug, Clone, Copy)]
pub struct Variables<'a> {
    /// `{{ mac }}`: the card that it boots with; with colons, small letters.
    pub mac: Mac,
    /// `{{ machine }}`: the card that names the machine, in the same spelling.
    pub machine: Mac,
    /// `{{ ip }}`: the address that is kept for the machine, if it asks over IPv4;
    /// else the one that it asks from.
    pub ip: IpAddr,
    /// `{{ server }}`: the address of this daemon.
    pub server: IpAddr,
    /// `{{ vlan }}`: the one that the machine loads over; undefined without it.
    pub vlan: Option<VlanId>,
    /// Where machines reach our HTTP server; the URLs are undefined without it.
    pub authority: Option<&'a str>,
    /// Gives `{{ hostname }}`, `{{ id }}`, `{{ logical_id }}`, `{{ index }}`,
    /// `{{ tags }}` and the URLs `{{ nocloud }}`, `{{ ignition }}`, `{{ init }}` and
    /// `{{ report }}`; without it (a machine that no instance claims) all of them
    /// are undefined.
    pub instance: Option<&'a Instance>,
}

/// Why a command line cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidCmdLine {
    /// It uses a name that there is not.
    #[error(
        "`{{{{ {0} }}}}` is unknown; known are mac, machine, ip, hostname, id, logical_id, index, server, vlan, nocloud, ignition, init, report and tags[\"x\"]"
    )]
    UnknownName(String),
    /// The template is wrong, or uses what this machine or instance has not.
    #[error("{0}")]
    Template(String),
    /// It would not be one line.
    #[error("it has a line break or another control character")]
    ControlCharacter,
    /// iPXE would take this word for the end of its command.
    #[error("iPXE would take the word `{0}` for the end of its command")]
    IpxeWord(String),
    /// iPXE joins a line that ends so with the next one.
    #[error("it ends with a backslash, which iPXE takes for a line that goes on")]
    Backslash,
    /// Kernels would cut it.
    #[error("it has {0} bytes; kernels cut it after {MAX_LENGTH}")]
    TooLong(usize),
}

/// Checks a template without an instance at hand: any tag is taken for there.
///
/// # Errors
///
/// [`InvalidCmdLine`] if no instance could make a command line of it.
pub fn check(template: &str) -> Result<(), InvalidCmdLine> {
    if let Some(name) = unknown_name(template, NAMES)? {
        return Err(InvalidCmdLine::UnknownName(name));
    }
    let any = context! {
        mac => "00:00:00:00:00:00", machine => "00:00:00:00:00:00", ip => "0.0.0.0", server => "0.0.0.0", hostname => "x",
        id => "rb-0000000000000000", logical_id => "x", index => 0, vlan => 1, nocloud => "http://x/",
        ignition => "http://x/", init => "http://x/", report => "http://x/",
        tags => Value::from_object(AnyTag),
    };
    let environment = environment();
    let rendered = environment.render_str(template, any);
    one_line(rendered.map_err(|error| describe(&error))?).map(|_| ())
}

/// The first name, in alphabetical order, that the template uses and that is
/// neither one of these nor a function.
pub(super) fn unknown_name(
    template: &str,
    known: &[&str],
) -> Result<Option<String>, InvalidCmdLine> {
    let environment = environment();
    let parsed = environment.template_from_str(template).map_err(|error| describe(&error))?;
    let names = parsed.undeclared_variables(false).into_iter();
    let is_known = |name: &String| {
        known.contains(&name.as_str()) || environment.globals().any(|(global, _)| global == name)
    };
    Ok(names.filter(|name| !is_known(name)).min())
}

/// The command line of this machine.
///
/// # Errors
///
/// [`InvalidCmdLine`] if it uses what is not there, such as a tag or a logical
/// ID that the instance has not, or comes out as something iPXE can't hand on.
pub fn render(template: &str, variables: &Variables) -> Result<String, InvalidCmdLine> {
    one_line(filled_in(template, variables)?)
}

fn filled_in(template: &str, variables: &Variables) -> Result<String, InvalidCmdLine> {
    match plainly(template, variables) {
        Some(rendered) => Ok(rendered),
        None => by_engine(template, variables),
    }
}

/// What becomes of a template of text and names alone, as nearly all are: to parse it and
/// run it takes the engine twenty times as long, and every machine that boots waits for
/// that. Nothing if it has more than these, or the name of what is not there, so that the
/// engine does it or says why not.
fn plainly(template: &str, variables: &Variables) -> Option<String> {
    const ROOM: usize = 128;
    let begins_more = |pair: &[u8]| matches!(pair, b"{%" | b"{#");
    let is_text = |text: &str| !text.as_bytes().windows(2).any(begins_more);
    let mut rendered = String::with_capacity(template.len() + ROOM);
    let mut rest = template;
    while let Some((text, behind)) = rest.split_once("{{") {
        let (name, after) = behind.split_once("}}")?;
        if !is_text(text) {
            return None;
        }
        rendered.push_str(text);
        name_to(&mut rendered, name.trim_matches(' '), variables)?;
        rest = after;
    }
    rendered.push_str(rest);
    is_text(rest).then_some(rendered)
}

/// Writes what this name stands for, if it is there.
fn name_to(line: &mut String, name: &str, variables: &Variables) -> Option<()> {
    let Variables { mac, machine, ip, server, vlan, authority, instance } = *variables;
    let url = |url: fn(&str, &Instance) -> String| Some(url(authority?, instance?));
    match name {
        "mac" => write!(line, "{mac}"),
        "machine" => write!(line, "{machine}"),
        "ip" => write!(line, "{ip}"),
        "server" => write!(line, "{server}"),
        "vlan" => write!(line, "{}", u16::from(vlan?)),
        "hostname" => line.write_str(instance?.hostname.as_str()),
        "id" => write!(line, "{}", instance?.id),
        "index" => write!(line, "{}", instance?.index?),
        "nocloud" => line.write_str(&url(urls::nocloud)?),
        "init" => line.write_str(&url(urls::init)?),
        "report" => line.write_str(&url(urls::report)?),
        _ => return None,
    }
    .ok()
}

fn by_engine(template: &str, variables: &Variables) -> Result<String, InvalidCmdLine> {
    let environment = environment();
    let parsed = environment.template_from_str(template).map_err(|error| describe(&error))?;
    let (mac, ip, server) =
        (variables.mac.to_string(), variables.ip.to_string(), variables.server.to_string());
    let machine = variables.machine.to_string();
    let mut values = context! { mac, machine, ip, server };
    if let Some(vlan) = variables.vlan {
        values = context! { vlan => u16::from(vlan), ..values };
    }
    if let Some(instance) = variables.instance {
        values = context! { ..values, ..of_instance(template, instance, variables) };
    }
    parsed.render(values).map_err(|error| describe(&error))
}

/// The command line of this machine as its kernel gets it: with the names of this
/// many initrds.
///
/// # Errors
///
/// As [`render`].
pub fn complete(
    template: &str,
    variables: &Variables,
    initrds: usize,
) -> Result<String, InvalidCmdLine> {
    let own = filled_in(template, variables)?;
    if initrds == 0 {
        return one_line(own);
    }
    // The names come first: behind a `--` of the operator's they would be
    // arguments of init. UEFI with iPXE of 2019 panics the kernel without them.
    const NAME: usize = "initrd=initrd.00 ".len();
    let mut whole = String::with_capacity(initrds * NAME + own.len());
    for number in 0..initrds {
        write!(whole, "initrd=initrd.{number} ").expect("writing to a String has no errors");
    }
    whole.push_str(own.trim());
    one_line(whole)
}

/// What is known of the instance alone; what it has not stays undefined.
fn of_instance(template: &str, instance: &Instance, variables: &Variables) -> Value {
    let tags = Value::from_pairs(instance.tags.clone());
    let mut values = context! {
        hostname => instance.hostname.as_str(), id => instance.id.to_string(), tags,
    };
    if let Some(name) = &instance.logical_id {
        values = context! { logical_id => name.0.as_str(), ..values };
    }
    if let Some(index) = instance.index {
        values = context! { index, ..values };
    }
    if let Some(authority) = variables.authority {
        let (nocloud, init) = (urls::nocloud(authority, instance), urls::init(authority, instance));
        values = context! { nocloud, init, report => urls::report(authority, instance), ..values };
        // Only looked at where it is asked for: an Init may have a megabyte.
        if template.contains("ignition") && is_ignition(&instance.init) {
            values = context! { ignition => urls::ignition(authority, instance), ..values };
        }
    }
    values
}

pub(super) fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment
    });
    &ENVIRONMENT
}

pub(super) fn describe(error: &minijinja::Error) -> InvalidCmdLine {
    let text = error.detail().unwrap_or_default().to_owned();
    InvalidCmdLine::Template(match error.kind() {
        ErrorKind::UndefinedError if text.is_empty() => {
            "it uses a value that is not defined here (a tag, an index or a logical ID that the instance has not, an Init that is no Ignition, or HTTP that is not served?)"
                .to_owned()
        }
        kind if text.is_empty() => kind.to_string(),
        kind => format!("{kind}: {text}"),
    })
}

fn one_line(line: String) -> Result<String, InvalidCmdLine> {
    let trimmed = line.trim();
    let line = if trimmed.len() == line.len() { line } else { trimmed.to_owned() };
    // Nearly all lines are ASCII, which takes a look at each octet.
    let is_printable = line.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !is_printable && line.chars().any(char::is_control) {
        return Err(InvalidCmdLine::ControlCharacter);
    }
    // iPXE ends a word at a blank (`isspace`); all others are control characters.
    let ends_a_command = |word: &&str| matches!(*word, "||" | "&&" | ";");
    if let Some(word) = line.split(' ').find(ends_a_command) {
        return Err(InvalidCmdLine::IpxeWord(word.to_owned()));
    }
    if line.ends_with('\\') {
        return Err(InvalidCmdLine::Backslash);
    }
    if line.len() > MAX_LENGTH {
        return Err(InvalidCmdLine::TooLong(line.len()));
    }
    Ok(line)
}

/// Tags of which every one is there, for a check before any is known.
#[derive(Debug)]
pub(super) struct AnyTag;

impl Object for AnyTag {
    fn get_value(self: &Arc<Self>, _key: &Value) -> Option<Value> {
        Some(Value::from("x"))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Empty
    }

    fn render(self: &Arc<Self>, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("{}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{LogicalId, testing};

    fn instance() -> Instance {
        Instance {
            logical_id: Some(LogicalId("pet 1".to_owned())),
            tags: testing::tags(&[("tier", "web")]),
            hostname: "pet-1".parse().expect("a name"),
            index: Some(4),
            ..testing::instance(1, Mac::new([2, 0, 0, 0, 0, 1]))
        }
    }

    fn rendered(template: &str, instance: Option<&Instance>) -> Result<String, InvalidCmdLine> {
        let mac = Mac::new([2, 0, 0, 0, 0, 1]);
        let (ip, server) = ([10, 0, 0, 9].into(), [10, 0, 0, 1].into());
        let authority = Some("10.0.0.1:8080");
        let vlan = VlanId::try_from(20).ok().filter(|_| instance.is_some());
        render(template, &Variables { mac, machine: mac, ip, server, authority, vlan, instance })
    }

    #[test]
    fn every_name_is_filled_in() {
        let template = "a={{ mac }} b={{ ip }} c={{ hostname }} d={{ id }} e={{ logical_id }} \
                        f={{ server }} g={{ tags[\"tier\"] }} i={{ index }} v={{ vlan }}";
        assert_eq!(check(template), Ok(()));
        assert_eq!(
            rendered(template, Some(&instance())).expect("all are there"),
            "a=02:00:00:00:00:01 b=10.0.0.9 c=pet-1 d=rb-0000000000010000 e=pet 1 f=10.0.0.1 g=web i=4 v=20"
        );
    }

    #[test]
    fn a_name_that_there_is_not_is_refused_before_any_instance() {
        assert_eq!(check("x={{ nope }}"), Err(InvalidCmdLine::UnknownName("nope".to_owned())));
        assert!(check("x={{ mac.nope }}").is_err());
        assert!(check("x={{ mac").is_err());
        assert!(check("x={{ mac|nope }}").is_err());
        assert!(
            check(
                "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}"
            )
            .is_err()
        );
    }

    #[test]
    fn a_tag_or_logical_id_that_the_instance_has_not_is_refused() {
        let mut bare = instance();
        bare.logical_id = None;
        assert_eq!(check("x={{ tags[\"nope\"] }}"), Ok(()));
        assert!(rendered("x={{ tags[\"nope\"] }}", Some(&bare)).is_err());
        assert!(rendered("x={{ logical_id }}", Some(&bare)).is_err());
        assert!(rendered("x={{ hostname }}", None).is_err());
        assert!(rendered("x={{ vlan }}", None).is_err());
    }

    #[test]
    fn the_urls_are_those_of_the_instance_and_ignition_only_of_an_ignition() {
        let script = instance();
        let (init, report) = (script.secrets.init.digits(), script.secrets.report.digits());
        assert_eq!(
            rendered("{{ nocloud }} {{ init }} {{ report }}", Some(&script))
                .expect("all are there"),
            format!(
                "http://10.0.0.1:8080/init/{init}/ http://10.0.0.1:8080/init/{init}/init \
                 http://10.0.0.1:8080/report/{report}"
            )
        );
        assert!(rendered("{{ ignition }}", Some(&script)).is_err());
        let ignition =
            Instance { init: r#"{"ignition": {"version": "3.0.0"}}"#.to_owned().into(), ..script };
        let url = format!("http://10.0.0.1:8080/init/{init}/ignition");
        assert_eq!(rendered("{{ ignition }}", Some(&ignition)), Ok(url));
        assert!(rendered("{{ report }}", None).is_err());
    }

    #[test]
    fn nothing_ends_the_command_of_the_script_early() {
        assert_eq!(check("a\nshell"), Err(InvalidCmdLine::ControlCharacter));
        assert_eq!(check("a || shell"), Err(InvalidCmdLine::IpxeWord("||".to_owned())));
        assert_eq!(check("a && b"), Err(InvalidCmdLine::IpxeWord("&&".to_owned())));
        assert_eq!(check("a ; b"), Err(InvalidCmdLine::IpxeWord(";".to_owned())));
        assert_eq!(check("a\\"), Err(InvalidCmdLine::Backslash));
        assert_eq!(check(&"x".repeat(3000)), Err(InvalidCmdLine::TooLong(3000)));
        let mut tagged = instance();
        tagged.tags.insert("evil".to_owned(), "x\nshell".to_owned());
        assert_eq!(
            rendered("{{ tags.evil }}", Some(&tagged)),
            Err(InvalidCmdLine::ControlCharacter)
        );
    }

    #[test]
    fn words_of_kernels_pass_as_they_are() {
        let line = "console=ttyS0,115200n8 ip=dhcp a=\"b c\" x=${net0/mac} -- --flag a;b a||b #x";
        assert_eq!(check(line), Ok(()));
        assert_eq!(rendered(line, None).expect("plain"), line);
    }

    #[test]
    fn what_is_text_and_names_needs_no_engine() {
        let mac = Mac::new([2, 0, 0, 0, 0, 1]);
        let (ip, server) = ([10, 0, 0, 9].into(), [10, 0, 0, 1].into());
        let (instance, vlan) = (instance(), VlanId::try_from(20).ok());
        let authority = Some("10.0.0.1:8080");
        let instance = Some(&instance);
        let variables = Variables { mac, machine: mac, ip, server, authority, vlan, instance };
        for (template, is_plain) in [
            ("", true),
            ("quiet a={b} }} c", true),
            ("ds=nocloud;s={{ nocloud }} {{mac}}{{  index }}", true),
            ("{{ tags.tier }}", false),
            ("{{- mac }}", false),
            ("{{ mac|upper }}", false),
            ("{{ nope }}", false),
            ("{{ mac", false),
            ("{# no #}x", false),
            ("{{ mac }}{% if index %}x{% endif %}", false),
        ] {
            assert_eq!(plainly(template, &variables).is_some(), is_plain, "{template}");
        }
    }

    proptest! {
        #[test]
        fn without_the_engine_it_comes_out_the_same(
            pieces in proptest::collection::vec(
                prop_oneof![
                    "[{}%# a-z\n-]{0,3}",
                    proptest::sample::select(NAMES).prop_map(|name| format!("{{{{ {name} }}}}")),
                ],
                0..8,
            ),
            has_instance: bool,
        ) {
            let (template, instance) = (pieces.concat(), instance());
            let mac = Mac::new([2, 0, 0, 0, 0, 1]);
            let (ip, server) = ([10, 0, 0, 9].into(), [10, 0, 0, 1].into());
            let instance = has_instance.then_some(&instance);
            let vlan = VlanId::try_from(20).ok();
            let authority = Some("10.0.0.1:8080");
            let variables = Variables { mac, machine: mac, ip, server, authority, vlan, instance };
            if let Some(plain) = plainly(&template, &variables) {
                prop_assert_eq!(one_line(plain), by_engine(&template, &variables).and_then(one_line));
            }
        }

        #[test]
        fn no_template_panics(template in "[{}% a-z\"\\[\\]|.()0-9]{0,40}") {
            let _ = check(&template);
            let _ = rendered(&template, Some(&instance()));
        }
    }
}
