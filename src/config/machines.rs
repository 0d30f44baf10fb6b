//! The command line of `remoteboot machines`: what may be written, and what was.
//! Knows where the plugin's socket is to be looked for, and not how to talk.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, builder::PossibleValuesParser};

use super::{Flags, Host, Problems, Setting};
use crate::model::{Architecture, Mac, MachineState, Tags, check_label, check_note};

/// What `remoteboot machines` shall do, and with which daemon.
#[derive(Debug)]
pub struct Machines {
    /// The flags that say where the daemon is.
    pub flags: Flags,
    /// Whether the daemon's answer is printed as it is.
    pub json: bool,
    /// What to do.
    pub order: Order,
}

/// What the operator says of machines.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    /// Show those that are all that.
    List {
        /// In this state.
        state: Option<MachineState>,
        /// With all of these labels.
        labels: Tags,
        /// Of this architecture.
        architecture: Option<Architecture>,
    },
    /// Change their labels; nothing as a value takes one away.
    Label(Vec<Mac>, Vec<(String, Option<String>)>),
    /// Take them out of the pool.
    SetAside(Vec<Mac>, Option<String>),
    /// Give them back to the pool.
    Free(Vec<Mac>),
    /// Forget them.
    Forget(Vec<Mac>),
    /// Make the others cards of the first.
    Join(Mac, Vec<Mac>),
    /// Make these cards machines of their own.
    Split(Vec<Mac>),
    /// Show what contradicts.
    Conflicts,
}

/// The settings that say where the daemon is.
pub(super) const WHERE: [Setting; 2] = [Setting::Name, Setting::Plugins];

const EXAMPLES: &str = "Examples:
  remoteboot machines                       all machines that are known
  remoteboot machines --state=held          those that wait to be provisioned
  remoteboot machines label 52:54:00:aa:01:01 52:54:00:aa:01:02 rack=1 spare-
  remoteboot machines set-aside 52:54:00:aa:01:01 --reason='broken fan'
  remoteboot machines free 52:54:00:aa:01:01
  remoteboot machines conflicts             what contradicts: UUIDs, slots, cards
  remoteboot machines join 52:54:00:aa:01:01 52:54:00:aa:01:02

The daemon is found as InfraKit finds it, by --plugins and --name, their
variables or the file of --config. README.md says what the states mean.

Exit codes: 0 fine, 1 something failed, 2 the command line or the configuration is wrong.";

/// The subcommand.
pub(super) fn command() -> Command {
    let macs = || {
        let macs = Arg::new("mac").value_name("MAC").num_args(1..).required(true);
        macs.help("A machine, in any usual spelling of its address; several at once")
    };
    let reason = Arg::new("reason").long("reason").value_name("TEXT");
    let words = Arg::new("word").value_name("MAC|NAME=VALUE|NAME-").num_args(1..).required(true);
    filters(located(Command::new("machines")))
        .about("Shows the machines that are known, and takes the operator's word about them")
        .after_help(EXAMPLES)
        .args_override_self(true)
        .subcommand(filters(Command::new("list")).about("Shows the machines that are known"))
        .subcommand(
            Command::new("label")
                .about("Gives machines labels, which Select in Properties asks for")
                .arg(words.help("Machines, labels to give them, and with a hyphen behind it the name of a label to take away; in any order")),
        )
        .subcommand(
            Command::new("set-aside")
                .about("Takes machines out of the pool; what an instance has is set aside when that is destroyed")
                .arg(macs())
                .arg(reason.help("Why, for people; 200 characters at most")),
        )
        .subcommand(
            Command::new("free")
                .about("Gives machines back to the pool: released ones, and those that were set aside")
                .arg(macs()),
        )
        .subcommand(
            Command::new("forget")
                .about("Forgets machines; one that is seen again is a new one")
                .arg(macs()),
        )
        .subcommand(
            Command::new("join")
                .about("Makes cards those of one machine, which is known by the first from then on")
                .arg(macs().num_args(2..).help("The card that names the machine, and those that become its own")),
        )
        .subcommand(
            Command::new("split")
                .about("Takes cards out of their machine; each is a machine of its own when it is seen")
                .arg(macs().help("A further card of a machine; several at once")),
        )
        .subcommand(Command::new("conflicts").about(
            "Shows what contradicts: two machines with one UUID, serial number, slot or card, and UUIDs that change",
        ))
}

/// Which daemon is asked, and how its answer is shown; before and after the
/// subcommand.
fn located(command: Command) -> Command {
    let settings = WHERE.map(|setting| {
        let argument = super::arguments::argument_of(setting);
        argument.global(true).help_heading("Daemon")
    });
    let config = Arg::new("config").long("config").value_name("FILE").global(true);
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).global(true);
    command
        .args(settings)
        .arg(
            config
                .help("The daemon's file of settings, for its name and plugins alone [$INFRAKIT_REMOTEBOOT_CONFIG]")
                .help_heading("Daemon"),
        )
        .arg(json.help("Prints the daemon's answers as they are"))
}

fn filters(command: Command) -> Command {
    let state = Arg::new("state").long("state").value_name("STATE");
    let label = Arg::new("label").long("label").value_name("NAME=VALUE");
    let arch = Arg::new("arch").long("arch").value_name("ARCH");
    let states = MachineState::ALL.map(MachineState::name);
    let architectures = Architecture::ALL.map(Architecture::name);
    command
        .arg(state.value_parser(PossibleValuesParser::new(states)).help("Only those in this state"))
        .arg(
            label
                .action(ArgAction::Append)
                .help("Only those with this label; several must all be there"),
        )
        .arg(
            arch.value_parser(PossibleValuesParser::new(architectures))
                .help("Only those of this architecture"),
        )
}

/// What was written.
///
/// # Errors
///
/// What makes no sense in it, in words.
pub(super) fn read(matches: &ArgMatches, flags: Flags) -> Result<Machines, String> {
    let json = matches.get_flag("json");
    let order = match matches.subcommand() {
        None => list(matches)?,
        Some(("list", below)) => {
            nothing_before(matches, "list")?;
            list(below)?
        }
        Some((name, below)) => {
            nothing_before(matches, name)?;
            match name {
                "label" => label(below)?,
                "set-aside" => {
                    let reason = below.get_one::<String>("reason").cloned();
                    if let Some(reason) = &reason {
                        check_note(reason).map_err(|problem| format!("--reason: {problem}"))?;
                    }
                    Order::SetAside(macs(below)?, reason)
                }
                "free" => Order::Free(macs(below)?),
                "join" => {
                    let mut macs = macs(below)?;
                    Order::Join(macs.remove(0), macs)
                }
                "split" => Order::Split(macs(below)?),
                "conflicts" => Order::Conflicts,
                _ => Order::Forget(macs(below)?),
            }
        }
    };
    Ok(Machines { flags, json, order })
}

/// A condition of the list before another command would be passed over.
fn nothing_before(matches: &ArgMatches, name: &str) -> Result<(), String> {
    let given = ["state", "label", "arch"].into_iter().find(|flag| matches.contains_id(flag));
    given.map_or(Ok(()), |flag| Err(format!("--{flag} belongs behind `{name}`, if it has it")))
}

fn list(matches: &ArgMatches) -> Result<Order, String> {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let labels = matches.get_many::<String>("label").into_iter().flatten().map(|text| {
        let (name, value) =
            text.split_once('=').ok_or_else(|| format!("--label={text} is not NAME=VALUE"))?;
        check_label(name, value).map_err(|problem| format!("--label={text}: {problem}"))?;
        Ok((name.to_owned(), value.to_owned()))
    });
    Ok(Order::List {
        state: text("state").and_then(MachineState::named),
        labels: labels.collect::<Result<_, String>>()?,
        architecture: text("arch").and_then(Architecture::named),
    })
}

fn label(matches: &ArgMatches) -> Result<Order, String> {
    let (mut macs, mut labels) = (Vec::new(), Vec::new());
    for word in matches.get_many::<String>("word").into_iter().flatten() {
        let (name, value) = match (word.split_once('='), word.strip_suffix('-')) {
            (Some((name, value)), _) => (name, Some(value)),
            (None, Some(name)) => (name, None),
            (None, None) => {
                macs.push(mac(word)?);
                continue;
            }
        };
        check_label(name, value.unwrap_or_default())
            .map_err(|problem| format!("{}: {problem}", word.escape_debug()))?;
        if labels.iter().any(|(other, _)| other == name) {
            return Err(format!("{}: this label is named twice", word.escape_debug()));
        }
        labels.push((name.to_owned(), value.map(str::to_owned)));
    }
    match (macs.is_empty(), labels.is_empty()) {
        (true, _) => Err("no machine is named; give the MAC of one".to_owned()),
        (false, true) => {
            Err("no label is named; give NAME=VALUE, or NAME- to take one away".to_owned())
        }
        (false, false) => Ok(Order::Label(macs, labels)),
    }
}

fn macs(matches: &ArgMatches) -> Result<Vec<Mac>, String> {
    matches.get_many::<String>("mac").into_iter().flatten().map(|text| mac(text)).collect()
}

fn mac(text: &str) -> Result<Mac, String> {
    text.parse().map_err(|problem: crate::model::InvalidMac| problem.to_string())
}

/// Where the daemon's socket is to be looked for: where a daemon with these
/// flags, variables and file would have it. Other settings may be wrong.
///
/// # Errors
///
/// What is wrong with the name or the directory.
pub fn socket(flags: &Flags, host: &Host) -> Result<PathBuf, Problems> {
    let given = super::given(flags, host).map_err(|problem| Problems(vec![problem]))?;
    super::check::socket(&given, host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Invocation, parse};

    const MAC: Mac = Mac::new([0x52, 0x54, 0, 0xaa, 1, 1]);

    fn read(line: &[&str]) -> Result<Machines, String> {
        let words = ["remoteboot", "machines"].iter().chain(line);
        match parse(words.map(|word| (*word).into()).collect()) {
            Ok(Invocation::Machines(machines)) => Ok(machines),
            Ok(other) => panic!("{line:?}: {other:?}"),
            Err(error) => {
                assert_eq!(error.exit_code(), 2, "{line:?}");
                Err(error.to_string())
            }
        }
    }

    fn order(line: &[&str]) -> Order {
        read(line).unwrap_or_else(|error| panic!("{line:?}: {error}")).order
    }

    #[test]
    fn machines_alone_is_a_list_and_takes_its_conditions() {
        let all = Order::List { state: None, labels: Tags::new(), architecture: None };
        assert_eq!(order(&[]), all);
        assert_eq!(order(&["list"]), all);
        let some = Order::List {
            state: Some(MachineState::SetAside),
            labels: crate::model::testing::tags(&[("rack", "1"), ("disk", "a=b")]),
            architecture: Some(Architecture::Bios),
        };
        let flags = ["--state=set-aside", "--label", "rack=1", "--label=disk=a=b", "--arch=bios"];
        assert_eq!(order(&flags), some);
        assert_eq!(order(&[&["list"], &flags[..]].concat()), some);
    }

    #[test]
    fn machines_and_labels_may_be_in_any_order_and_spelling() {
        let line = ["label", "spare-", "52-54-00-AA-01-01", "rack=1", "525400aa0101", "empty="];
        let label = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        let labels = vec![label("spare", None), label("rack", Some("1")), label("empty", Some(""))];
        assert_eq!(order(&line), Order::Label(vec![MAC, MAC], labels));
        let aside = ["set-aside", "5254.00aa.0101", "--reason", "broken fan"];
        assert_eq!(order(&aside), Order::SetAside(vec![MAC], Some("broken fan".to_owned())));
        assert_eq!(order(&["free", "525400aa0101"]), Order::Free(vec![MAC]));
        assert_eq!(order(&["forget", "525400aa0101", "525400aa0101"]), Order::Forget(vec![MAC; 2]));
        assert_eq!(order(&["split", "525400aa0101"]), Order::Split(vec![MAC]));
        let other = Mac::new([0x52, 0x54, 0, 0xaa, 1, 2]);
        let join = ["join", "525400aa0101", "525400aa0102", "525400aa0102"];
        assert_eq!(order(&join), Order::Join(MAC, vec![other; 2]));
        assert_eq!(order(&["conflicts", "--json"]), Order::Conflicts);
    }

    #[test]
    fn where_the_daemon_is_may_be_said_before_and_after_the_command() {
        for line in [
            &["--name=x", "--json", "free", "525400aa0101"][..],
            &["free", "525400aa0101", "--name=x", "--json"],
        ] {
            let read = read(line).expect("right");
            assert_eq!(read.flags.settings[&Setting::Name].1, "x");
            assert!(read.json);
        }
        let words = ["remoteboot", "--plugins=/p", "--config=c", "machines"];
        let Ok(Invocation::Machines(read)) = parse(words.map(Into::into).into()) else { panic!() };
        assert_eq!(read.flags.settings[&Setting::Plugins].1, "/p");
        assert_eq!(read.flags.config.as_deref(), Some("c"));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let long = format!("--reason={}", "x".repeat(201));
        for (line, said) in [
            (&["--state=idle"][..], "idle"),
            (&["--arch=amd64"], "x64-uefi"),
            (&["--label=rack"], "--label=rack is not NAME=VALUE"),
            (&["--state=held", "free", "525400aa0101"], "--state belongs behind"),
            (&["free"], "MAC"),
            (&["join", "525400aa0101"], "MAC"),
            (&["--state=held", "conflicts"], "--state belongs behind"),
            (&["free", "rack1"], "`rack1` is not a MAC"),
            (&["label", "525400aa0101"], "no label is named"),
            (&["label", "rack=1"], "no machine is named"),
            (&["label", "525400aa0101", "rack=1", "rack-"], "rack-: this label is named twice"),
            (&["label", "525400aa0101", "=1"], "must not be empty"),
            (&["set-aside", "525400aa0101", &long], "201 characters"),
            (&["set-aside", "525400aa0101", "--adapter=x"], "--adapter"),
            (&["lsit"], "lsit"),
        ] {
            let error = read(line).map(|read| read.order).expect_err(said);
            assert!(error.contains(said), "{line:?}: {error}");
        }
        let words = ["remoteboot", "--adapter=x", "machines"];
        let error = parse(words.map(Into::into).into()).expect_err("none of its flags").to_string();
        assert!(error.contains("--adapter=x"), "{error}");
    }

    #[test]
    fn the_socket_is_where_the_daemon_has_it_whatever_else_is_wrong() {
        let (directory, mut host) = crate::config::check::tests::machine();
        let found = |host: &Host, line: &[&str]| {
            socket(&read(line).expect("right").flags, host).map_err(|problems| problems.to_string())
        };
        let home = directory.path().join("home/.infrakit/plugins/remoteboot");
        assert_eq!(found(&host, &[]), Ok(home));
        let file = "name = 'f'\nplugins = '/f'\nadapter = 'none9'\nenable-dhcp = true\n";
        std::fs::write(directory.path().join("r.toml"), file).expect("written");
        assert_eq!(found(&host, &["--config=r.toml"]), Ok("/f/f".into()));
        assert_eq!(found(&host, &["--config=r.toml", "--name=x"]), Ok("/f/x".into()));
        host.variables.insert("INFRAKIT_HOME".to_owned(), "/i".to_owned());
        assert_eq!(found(&host, &[]), Ok("/i/plugins/remoteboot".into()));
        assert!(found(&host, &["--name=a/b"]).expect_err("no name").contains("--name=a/b"));
        assert!(found(&host, &["--config=no.toml"]).expect_err("no file").contains("no.toml"));
    }
}
