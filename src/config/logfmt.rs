//! Log lines as `key=value` pairs, for programs that read logfmt.

use std::{
    fmt::{self, Write as _},
    time::SystemTime,
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Writes a line as `t=... lvl=... module=... msg=... key=value`, as the log of
/// InfraKit does.
#[derive(Debug)]
pub(super) struct Logfmt {
    /// With the place in the source.
    pub(super) caller: bool,
}

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let level = metadata.level().as_str().to_ascii_lowercase();
        write!(writer, "t={}.{:03}", since.as_secs(), since.subsec_millis())?;
        write!(writer, " lvl={level} module={}", metadata.target())?;
        if let (true, Some(file), Some(line)) = (self.caller, metadata.file(), metadata.line()) {
            write!(writer, " caller={file}:{line}")?;
        }
        let mut pairs = Pairs(String::new());
        event.record(&mut pairs);
        writeln!(writer, "{}", pairs.0)
    }
}

struct Pairs(String);

impl Pairs {
    fn pair(&mut self, field: &Field, value: &str) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        let plain = !value.is_empty()
            && value.chars().all(|letter| letter.is_ascii_graphic() && !"\"=\\".contains(letter));
        // Writing into a `String` cannot fail.
        let _ = match plain {
            true => write!(self.0, " {name}={value}"),
            false => write!(self.0, " {name}=\"{}\"", value.escape_default()),
        };
    }
}

impl Visit for Pairs {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.pair(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.pair(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_break_in_a_value_makes_no_second_line() {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(Logfmt { caller: false })
            .finish();
        tracing::subscriber::with_default(lines, || {
            tracing::info!(name = "a\nlvl=error", count = 3, "machine asks");
        });
        let written = String::from_utf8(kept.0.lock().expect("unpoisoned").clone()).expect("text");
        assert_eq!(written.lines().count(), 1, "{written}");
        let (_, line) = written.split_once(" lvl").expect("a level");
        assert!(line.ends_with("msg=\"machine asks\" name=\"a\\nlvl=error\" count=3\n"), "{line}");
    }
}
