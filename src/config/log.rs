//! What is logged and how, and the start of logging.

use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// 0 and 1 errors, 2 warnings, 3 what is done, 4 and 5 details.
    pub level: u8,
    /// For people or for programs.
    pub format: LogFormat,
    /// With the place in the source.
    pub caller: bool,
    /// With what each line is part of.
    pub stack: bool,
    /// Where to.
    pub output: LogOutput,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Term,
    /// `key=value` without colours.
    Logfmt,
    /// One JSON object.
    Json,
}

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error.
    Error,
    /// Standard output.
    Standard,
}

impl LogFormat {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Term => "term",
            Self::Logfmt => "logfmt",
            Self::Json => "json",
        }
    }
}

impl Log {
    /// The levels that are let through, of our code and of others'.
    fn filter(self) -> EnvFilter {
        let level = match self.level {
            0 | 1 => "error",
            2 => "warn",
            3 => "info",
            4 => "debug",
            _ => "trace",
        };
        // jsonrpc-core logs whole requests as `rpc`, and with them the secrets
        // of instances. Below us in the stack, only warnings are of interest,
        // unless everything is.
        let others = if self.level > 4 { "debug" } else { "warn" };
        let others = if self.level < 2 { "error" } else { others };
        let rpc = if self.level < 2 { "error" } else { "warn" };
        EnvFilter::new(format!("{others},remoteboot={level},rpc={rpc}"))
    }

    /// Starts logging, for the whole process; a second start changes nothing.
    pub fn start(self) {
        use std::io::IsTerminal as _;
        let is_terminal = match self.output {
            LogOutput::Error => std::io::stderr().is_terminal(),
            LogOutput::Standard => std::io::stdout().is_terminal(),
        };
        let output = self.output;
        let writer = move || -> Box<dyn std::io::Write> {
            match output {
                LogOutput::Error => Box::new(std::io::stderr()),
                LogOutput::Standard => Box::new(std::io::stdout()),
            }
        };
        let spans = if self.stack { FmtSpan::NEW | FmtSpan::CLOSE } else { FmtSpan::NONE };
        let lines = tracing_subscriber::fmt()
            .with_env_filter(self.filter())
            .with_writer(writer)
            .with_ansi(is_terminal && self.format == LogFormat::Term)
            .with_file(self.caller)
            .with_line_number(self.caller)
            .with_span_events(spans);
        // A line that cannot be logged is lost; the daemon goes on.
        let started = match self.format {
            LogFormat::Term => lines.try_init(),
            LogFormat::Logfmt => {
                lines.event_format(super::logfmt::Logfmt { caller: self.caller }).try_init()
            }
            LogFormat::Json => lines.json().try_init(),
        };
        drop(started);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bodies_of_requests_are_logged_at_no_level() {
        for level in 0..=5 {
            let log = Log {
                level,
                format: LogFormat::Term,
                caller: false,
                stack: false,
                output: LogOutput::Error,
            };
            let filter = log.filter().to_string();
            assert!(filter.contains("rpc=warn") || filter.contains("rpc=error"), "{filter}");
        }
    }
}
