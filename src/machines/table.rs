//! The machines as people read them: a line each, in columns. Pure.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use crate::model::Timestamp;

/// What is said of a machine, as far as people are shown it.
#[derive(Deserialize)]
struct Row {
    mac: String,
    macs: Value,
    state: String,
    since: String,
    arch: Option<String>,
    ip: Option<String>,
    slot: Option<String>,
    conflicts: Vec<String>,
    labels: BTreeMap<String, String>,
    last_seen: Option<String>,
    stage: Option<String>,
    instance: Option<Held>,
    unclaimed: Option<String>,
    local_boot: Option<String>,
    note: Option<String>,
}

#[derive(Deserialize)]
struct Held {
    id: String,
    state: String,
}

#[derive(Deserialize)]
struct Rows {
    #[serde(rename = "Machines")]
    machines: Vec<Row>,
}

/// The names of the columns. The last may have blanks in it, the others have none.
const COLUMNS: [&str; 15] = [
    "MAC",
    "CARDS",
    "STATE",
    "FOR",
    "ARCH",
    "ADDRESS",
    "SEEN",
    "STAGE",
    "INSTANCE",
    "INSTANCE-IS",
    "TOLD",
    "SLOT",
    "CONFLICTS",
    "LABELS",
    "NOTE",
];

/// What a cell has that has nothing.
const NOTHING: &str = "-";

/// The result of `Machine.List` as a table, with spans of time up to now.
pub(super) fn write(result: &Value, now: Timestamp) -> serde_json::Result<String> {
    let rows = Rows::deserialize(result)?;
    let mut lines = vec![COLUMNS.map(str::to_owned)];
    lines.extend(rows.machines.into_iter().map(|row| cells(row, now)));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..COLUMNS.len()).filter_map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let padded = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    Ok(text)
}

fn cells(row: Row, now: Timestamp) -> [String; COLUMNS.len()] {
    let or_nothing = |text: Option<String>| {
        text.filter(|text| !text.is_empty()).unwrap_or_else(|| NOTHING.to_owned())
    };
    let ago = |moment: Option<&str>| {
        or_nothing(moment.and_then(Timestamp::from_rfc3339).map(|moment| age(now.since(moment))))
    };
    let (instance, progress) = row.instance.map(|held| (held.id, held.state)).unzip();
    let labels = joined(row.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    [
        row.mac,
        or_nothing(cards(&row.macs)),
        row.state,
        ago(Some(&row.since)),
        or_nothing(row.arch),
        or_nothing(row.ip),
        ago(row.last_seen.as_deref()),
        or_nothing(row.stage),
        or_nothing(instance),
        or_nothing(progress),
        or_nothing(told(row.unclaimed, row.local_boot)),
        or_nothing(row.slot),
        or_nothing(Some(row.conflicts.join(","))),
        or_nothing(Some(labels)),
        or_nothing(row.note),
    ]
}

/// What it is told without an instance, and how it is sent to its own disk, in one
/// word: `hold`, `local/exit`, `exit`.
fn told(unclaimed: Option<String>, local_boot: Option<String>) -> Option<String> {
    match (unclaimed, local_boot) {
        (Some(unclaimed), Some(way)) if unclaimed == "local" => Some(format!("{unclaimed}/{way}")),
        (Some(unclaimed), _) => Some(unclaimed),
        (None, way) => way,
    }
}

/// The result of `Machine.Conflicts`, a line each.
pub(super) fn conflicts(result: &Value) -> serde_json::Result<String> {
    #[derive(Deserialize)]
    struct Conflicts {
        #[serde(rename = "Conflicts")]
        conflicts: Vec<Conflict>,
    }
    #[derive(Deserialize)]
    struct Conflict {
        kind: String,
        message: String,
    }
    let Conflicts { conflicts } = Conflicts::deserialize(result)?;
    let lines = conflicts.iter().map(|one| format!("{:12}  {}\n", one.kind, one.message));
    Ok(lines.collect())
}

/// The cards of a machine besides the one that names it, if there are any.
pub(super) fn cards(cards: &Value) -> Option<String> {
    let cards = cards.as_array().into_iter().flatten().skip(1).filter_map(Value::as_str);
    let cards: Vec<String> = cards.map(|card| format!("+{card}")).collect();
    (!cards.is_empty()).then(|| cards.join(","))
}

/// The labels in one word; nothing if there are none.
pub(super) fn labels(labels: &Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    joined(labels.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default())))
}

/// A blank is shown as `_`, so that a column stays a word; `--json` has it as it is.
fn joined<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let one =
        |(name, value): (&str, &str)| format!("{name}={}", value.replace(char::is_whitespace, "_"));
    labels.map(one).collect::<Vec<_>>().join(",")
}

/// A span in its largest unit, rounded down: `4s`, `3m`, `2h`, `5d`.
fn age(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_span_is_in_its_largest_unit() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (3600, "1h"),
            (86_399, "23h"),
            (86_400, "1d"),
            (40_000_000, "462d"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn columns_are_aligned_and_empty_cells_are_hyphens() {
        let full = json!({
            "mac": "52:54:00:aa:01:01", "macs": ["52:54:00:aa:01:01", "52:54:00:aa:01:0f"],
            "serial": "7X", "slot": "r1-7", "port": null, "conflicts": ["uuid", "slot"],
            "state": "assigned", "since": "1970-01-01T00:10:00.000Z",
            "arch": "x64-uefi", "uuid": null, "ip": "10.0.0.40", "labels": {"rack": "1", "é": "a b"},
            "first_seen": "1970-01-01T00:00:00Z", "last_seen": "1970-01-01T00:59:30.000Z",
            "stage": "kernel", "instance": {"id": "rb-01", "state": "running"}, "note": "two words",
            "unclaimed": null, "local_boot": "exit",
        });
        let bare = json!({
            "mac": "52:54:00:aa:01:02", "macs": ["52:54:00:aa:01:02"],
            "serial": null, "slot": null, "port": null, "conflicts": [],
            "state": "free", "since": "1970-01-01T00:00:00.000Z",
            "arch": null, "uuid": null, "ip": null, "labels": {}, "last_seen": null,
            "first_seen": "1970-01-01T00:00:00Z", "stage": null, "instance": null, "note": null,
            "unclaimed": "local", "local_boot": "sanboot",
        });
        let text = write(&json!({"Machines": [full, bare]}), Timestamp(3_600_000)).expect("rows");
        let expected = "\
MAC                CARDS               STATE     FOR  ARCH      ADDRESS    SEEN  STAGE   INSTANCE  INSTANCE-IS  TOLD           SLOT  CONFLICTS  LABELS        NOTE
52:54:00:aa:01:01  +52:54:00:aa:01:0f  assigned  50m  x64-uefi  10.0.0.40  30s   kernel  rb-01     running      exit           r1-7  uuid,slot  rack=1,é=a_b  two words
52:54:00:aa:01:02  -                   free      1h   -         -          -     -       -         -            local/sanboot  -     -          -             -
";
        assert_eq!(text, expected);
        let header = write(&json!({"Machines": []}), Timestamp(0)).expect("none");
        assert_eq!(header.split_whitespace().collect::<Vec<_>>(), COLUMNS);
    }

    #[test]
    fn a_conflict_is_a_line() {
        let one = json!({"kind": "uuid", "value": "u", "machines": [], "message": "a and b"});
        let text = conflicts(&json!({"Conflicts": [one]})).expect("rows");
        assert_eq!(text, "uuid          a and b\n");
        assert_eq!(conflicts(&json!({"Conflicts": []})).expect("none"), "");
    }

    #[test]
    fn what_is_no_list_is_refused() {
        assert!(write(&json!({"Machines": [{"mac": 5}]}), Timestamp(0)).is_err());
    }
}
