//! The program: from arguments to a configuration, to the log, to what is asked
//! for. Decides nothing but the exit code.

use std::{io::Write as _, process::ExitCode};

use remoteboot::{
    config::{self, Checked, Flags, Host, Invocation, Machines, Remark},
    daemon, machines, pull,
};

/// Something that was asked for could not be done.
const FAILED: u8 = 1;
/// What was asked for makes no sense.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let invocation = match config::parse(std::env::args_os().collect()) {
        Ok(invocation) => invocation,
        Err(error) => {
            // Help and version come this way, too. That nobody reads them is no
            // failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    let done = match invocation {
        Invocation::Run(flags) => run(&flags),
        Invocation::Check(flags) => check(&flags),
        Invocation::Machines(asked) => ask(&asked),
        Invocation::Pull(pull) => pull::run(pull).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(FAILED)
    })
}

fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let Checked { outcome, remarks, .. } = config::load(flags, &Host::read()?);
    let config = match outcome {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}\nsee `remoteboot --help`");
            return Ok(ExitCode::from(USAGE));
        }
    };
    config.log.start();
    for remark in remarks {
        match remark {
            Remark::Warning(text) => tracing::warn!("{text}"),
            Remark::Note(text) => tracing::info!("{text}"),
        }
    }
    daemon::run(config)?;
    Ok(ExitCode::SUCCESS)
}

fn check(flags: &Flags) -> anyhow::Result<ExitCode> {
    let checked = config::load(flags, &Host::read()?);
    write!(std::io::stdout(), "{}", config::show(&checked))?;
    for remark in &checked.remarks {
        eprintln!("{remark}");
    }
    match checked.outcome {
        Ok(_) => {
            eprintln!("nothing is wrong");
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            eprintln!("{problems}");
            Ok(ExitCode::from(FAILED))
        }
    }
}

fn ask(asked: &Machines) -> anyhow::Result<ExitCode> {
    match config::socket(&asked.flags, &Host::read()?) {
        Ok(socket) => machines::run(asked, &socket).map(|()| ExitCode::SUCCESS),
        Err(problems) => {
            eprintln!("{problems}\nsee `remoteboot machines --help`");
            Ok(ExitCode::from(USAGE))
        }
    }
}
