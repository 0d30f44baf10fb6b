//! The command line: what may be written, what `--help` says, and what was
//! written. Knows no variable, no file and no meaning of a value.

use std::{collections::BTreeMap, ffi::OsString};

use clap::{Arg, ArgAction, ArgMatches, Command, error::ErrorKind};

use super::{Form, Setting, machines};

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// To serve.
    Run(Flags),
    /// To say what is wrong with a configuration.
    Check(Flags),
    /// To fetch boot programs.
    Pull(Pull),
    /// To show the pool, or to change it.
    Machines(machines::Machines),
}

/// What the command line sets.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// Each flag's spelling, without hyphens, and its value.
    pub settings: BTreeMap<Setting, (String, String)>,
    /// The arguments, three at most.
    pub arguments: Vec<String>,
    /// The configuration file.
    pub config: Option<String>,
}

/// What `pulliPXE` shall fetch, and to where.
#[derive(Debug, Clone, Default)]
pub struct Pull {
    /// All architectures' programs go to this directory; without it, one
    /// program goes to the current directory.
    pub directory: Option<String>,
    /// The name of the one program; `undionly.kpxe` without it.
    pub file: Option<String>,
    /// Where the program is, or with a directory: below which they are.
    pub url: Option<String>,
    /// What the one program must hash to.
    pub sha256: Option<String>,
}

const EXAMPLES: &str = r#"Examples:
  All machines on eth0 boot the same; nothing but this command is needed:
    remoteboot ./kernel ./initrd "console=tty0" --adapter=eth0 \
      --startAddress=192.168.0.2 --leaseCount=50 --enableDHCP --enableTFTP --enableHTTP

  InfraKit decides what each machine boots, from files in /srv/images:
    remoteboot --adapter=eth0 --start-address=192.168.0.2 --images=/srv/images \
      --enable-dhcp --enable-tftp --enable-http

  Say what is wrong before anything is started:
    remoteboot check --config=/etc/remoteboot.toml

  Show the machines that are known, and what each is doing:
    remoteboot machines

Every setting has three names: --lease-count=50 on the command line, which goes
before INFRAKIT_REMOTEBOOT_LEASE_COUNT=50 in the environment, which goes before
lease-count = 50 in the file of --config. --enable-dhcp is --enable-dhcp=true.

Exit codes: 0 fine, 1 something failed, 2 the command line or the configuration is wrong."#;

/// Reads a command line, its first word being the program's name.
///
/// # Errors
///
/// That it cannot be understood; also that help or the version was asked for,
/// which [`clap::Error::exit_code`] tells apart.
pub fn parse(words: Vec<OsString>) -> Result<Invocation, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(&words)?;
    let top = flags(&matches, &words);
    match matches.subcommand() {
        Some(("check", below)) => {
            let mut flags = flags(below, &words);
            for (setting, set) in top.settings {
                flags.settings.entry(setting).or_insert(set);
            }
            flags.config = flags.config.or(top.config);
            Ok(Invocation::Check(flags))
        }
        Some(("machines", below)) => {
            let of_machines = |setting: &Setting| machines::WHERE.contains(setting);
            if let Some((_, (spelling, text))) =
                top.settings.iter().find(|(one, _)| !of_machines(one))
            {
                let message = format!("--{spelling}={text} before machines is none of its flags");
                return Err(command.error(ErrorKind::ArgumentConflict, message));
            }
            let mut flags = Flags { config: config(below).or(top.config), ..Flags::default() };
            for setting in machines::WHERE {
                flags.settings.extend(set(below, &words, setting));
            }
            for (setting, set) in top.settings {
                flags.settings.entry(setting).or_insert(set);
            }
            let read = machines::read(below, flags);
            read.map(Invocation::Machines)
                .map_err(|problem| command.error(ErrorKind::ValueValidation, problem))
        }
        Some((_, below)) => {
            if let Some((spelling, text)) = top.settings.values().next() {
                let message = format!("--{spelling}={text} before pulliPXE is none of its flags");
                return Err(command.error(ErrorKind::ArgumentConflict, message));
            }
            let text = |name: &str| below.get_one::<String>(name).cloned();
            Ok(Invocation::Pull(Pull {
                directory: text("ipxe-dir"),
                file: text("file"),
                url: text("url"),
                sha256: text("sha256"),
            }))
        }
        None => Ok(Invocation::Run(top)),
    }
}

fn command() -> Command {
    let check = settings_of(Command::new("check"))
        .about("Says what is wrong with a configuration; starts and writes nothing")
        .long_about(
            "Says what is wrong with a configuration: prints what would hold, then every problem. \
             Takes the same flags, variables and file as the daemon; starts nothing and writes \
             nothing. Exits with 0 if all is fine, with 1 if not",
        );
    settings_of(Command::new("remoteboot"))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Boots bare machines over the network, and lets InfraKit scale them")
        .after_help(EXAMPLES)
        .subcommand(check)
        .subcommand(machines::command())
        .subcommand(pull_command())
}

fn pull_command() -> Command {
    let option = |name: &'static str, placeholder: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(placeholder).help(help)
    };
    Command::new("pulliPXE")
        .aliases(["pullipxe", "pull-ipxe"])
        .about("Downloads iPXE: undionly.kpxe to the current directory, or all programs")
        .args_override_self(true)
        .arg(
            option("ipxe-dir", "DIR", "Downloads the programs of all architectures to this directory")
                .aliases(["ipxeDir", "ipxedir", "iPXEDir"])
                .conflicts_with_all(["file", "sha256"]),
        )
        .arg(option("file", "NAME", "The file to write, in the current directory [default: undionly.kpxe]"))
        .arg(option("url", "URL", "Where to download from: the program itself, or with --ipxe-dir the address below which all are [default: https://boot.ipxe.org]"))
        .arg(option("sha256", "HEX", "What the program must hash to; another one is not kept"))
}

fn settings_of(command: Command) -> Command {
    let config = Arg::new("config").long("config").value_name("FILE").help(
        "A file with settings (TOML); flags and variables go before what it says \
         [$INFRAKIT_REMOTEBOOT_CONFIG]",
    );
    // The ancestor had them; here they choose nothing.
    let ignored = ["log-debug-V", "log-debug-match", "log-debug-match-exclude"].map(|name| {
        let values = usize::from(name != "log-debug-match-exclude");
        Arg::new(name).long(name).num_args(values..=1).action(ArgAction::Append).hide(true)
    });
    command
        .args_override_self(true)
        .args(Setting::all().map(argument_of))
        .arg(config.help_heading("State and images"))
        .args(ignored)
}

pub(super) fn argument_of(setting: Setting) -> Arg {
    let description = setting.description();
    let argument = Arg::new(setting.name()).help(description.help);
    let named = |argument: Arg| {
        let argument = argument.long(setting.name()).help_heading(description.heading);
        setting.other_spellings().into_iter().enumerate().fold(
            argument,
            |argument, (place, other)| {
                // Names live as long as the program; clap takes none that live shorter.
                let other: &'static str = other.leak();
                // The spelling that people know is shown, the others are only taken.
                match description.ancestral.is_some() && place == 0 {
                    true => argument.visible_alias(other),
                    false => argument.alias(other),
                }
            },
        )
    };
    match description.form {
        Form::Argument(placeholder) => argument.value_name(placeholder),
        Form::Value(placeholder) => named(argument.value_name(placeholder)),
        Form::Switch => named(
            argument
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name("true|false"),
        ),
    }
}

fn flags(matches: &ArgMatches, words: &[OsString]) -> Flags {
    let mut flags = Flags { config: config(matches), ..Flags::default() };
    for setting in Setting::all() {
        match setting.description().form {
            Form::Argument(_) => {
                flags.arguments.extend(matches.get_one::<String>(setting.name()).cloned());
            }
            Form::Value(_) | Form::Switch => flags.settings.extend(set(matches, words, setting)),
        }
    }
    flags
}

fn config(matches: &ArgMatches) -> Option<String> {
    matches.get_one::<String>("config").cloned()
}

/// What a flag sets, and how it was spelt.
fn set(
    matches: &ArgMatches,
    words: &[OsString],
    setting: Setting,
) -> Option<(Setting, (String, String))> {
    let text = matches.get_one::<String>(setting.name())?;
    Some((setting, (spelling_in(words, setting), text.clone())))
}

/// The spelling that a command line has for a setting.
fn spelling_in(words: &[OsString], setting: Setting) -> String {
    let known = setting.other_spellings();
    let written = words.iter().rev().find_map(|word| {
        let flag = word.to_str()?.strip_prefix("--")?;
        let name = flag.split('=').next()?;
        known.iter().any(|spelling| spelling == name).then(|| name.to_owned())
    });
    written.unwrap_or_else(|| setting.name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[&str]) -> Result<Invocation, clap::Error> {
        let words = ["remoteboot"].iter().chain(line);
        parse(words.map(|word| OsString::from(*word)).collect())
    }

    fn run(line: &[&str]) -> Flags {
        match parsed(line) {
            Ok(Invocation::Run(flags)) => flags,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    /// Each line of the ancestor's `--help`, with a value.
    const ANCESTRAL: [(&str, Setting, &str); 12] = [
        ("adapter", Setting::Adapter, "eth0"),
        ("addressDHCP", Setting::AddressDhcp, "192.168.0.1"),
        ("addressHTTP", Setting::AddressHttp, "192.168.0.1"),
        ("addressTFTP", Setting::AddressTftp, "192.168.0.1"),
        ("dns", Setting::Dns, "192.168.0.1"),
        ("enableDHCP", Setting::EnableDhcp, "true"),
        ("enableHTTP", Setting::EnableHttp, "true"),
        ("enableTFTP", Setting::EnableTftp, "true"),
        ("gateway", Setting::Gateway, "192.168.0.1"),
        ("iPXEPath", Setting::IpxePath, "undionly.kpxe"),
        ("leasecount", Setting::LeaseCount, "20"),
        ("startAddress", Setting::StartAddress, "192.168.0.2"),
    ];

    #[test]
    fn every_flag_of_the_ancestor_is_taken_in_all_spellings() {
        for (name, setting, value) in ANCESTRAL {
            let mut spellings = setting.other_spellings();
            spellings.push(setting.name().to_owned());
            assert!(spellings.contains(&name.to_owned()), "{name}");
            for spelling in spellings {
                let flags = run(&[&format!("--{spelling}={value}")]);
                assert_eq!(flags.settings[&setting], (spelling, value.to_owned()));
            }
        }
        assert!(Setting::LeaseCount.other_spellings().contains(&"leaseCount".to_owned()));
    }

    #[test]
    fn a_value_may_follow_its_flag_but_a_switch_needs_an_equals_sign() {
        let flags =
            run(&["--adapter", "eth0", "--enableDHCP", "--enableTFTP=false", "k", "i", "c"]);
        assert_eq!(flags.settings[&Setting::Adapter].1, "eth0");
        assert_eq!(flags.settings[&Setting::EnableDhcp].1, "true");
        assert_eq!(flags.settings[&Setting::EnableTftp].1, "false");
        assert_eq!(flags.arguments, ["k", "i", "c"]);
    }

    #[test]
    fn the_last_of_two_equal_flags_holds() {
        let flags = run(&["--gateway=10.0.0.1", "--gateway=10.0.0.2"]);
        assert_eq!(flags.settings[&Setting::Gateway].1, "10.0.0.2");
    }

    #[test]
    fn the_log_flags_of_the_ancestor_are_taken() {
        let line = "--log=5 --log-caller --log-caller=false --log-format=json --log-stack \
                    --log-stdout --log-debug-V=100 --log-debug-match=a=b --log-debug-match c=d \
                    --log-debug-match-exclude";
        run(&line.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn a_word_too_many_and_an_unknown_flag_are_named() {
        for (line, named) in [(&["a", "b", "c", "d"][..], "'d'"), (&["--adaptor=x"], "--adaptor")] {
            let error = parsed(line).expect_err("refused");
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn check_takes_what_the_daemon_takes() {
        let line = ["--adapter=eth0", "check", "k", "i", "c", "--dns=10.0.0.1"];
        let Ok(Invocation::Check(flags)) = parsed(&line) else { panic!("no check") };
        assert_eq!(flags.arguments, ["k", "i", "c"]);
        assert_eq!(flags.settings.len(), 2);
    }

    #[test]
    fn pull_is_understood_in_all_spellings_and_takes_no_flag_of_the_daemon() {
        for spelling in ["pulliPXE", "pullipxe", "pull-ipxe"] {
            let Ok(Invocation::Pull(pull)) = parsed(&[spelling, "--url=http://h/x"]) else {
                panic!("{spelling}");
            };
            assert_eq!(pull.url.as_deref(), Some("http://h/x"));
        }
        assert!(parsed(&["--ipxe-dir=x", "pulliPXE"]).is_err());
    }

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }
}
