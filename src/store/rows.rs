//! What a change is on disk: rows of three tables and a list of dead IDs.
//!
//! Pure. A row holds a whole record as JSON, so that reading a table back is
//! applying its rows, in whatever order.

use serde::{Serialize, de::DeserializeOwned};

use crate::model::{Change, Instance, InstanceId, Lease, Machine, Timestamp};

const LEASES: &str = "leases";
const MACHINES: &str = "machines";
const INSTANCES: &str = "instances";
const DESTROYED: &str = "destroyed";

/// Every table, in the order in which they are read.
pub(super) const TABLES: [&str; 4] = [LEASES, MACHINES, INSTANCES, DESTROYED];

/// What becomes of one row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Row {
    Put { table: &'static str, key: String, value: Vec<u8> },
    Delete { table: &'static str, key: String },
}

impl Row {
    pub(super) const fn table(&self) -> &'static str {
        match self {
            Self::Put { table, .. } | Self::Delete { table, .. } => table,
        }
    }
}

/// A row that no version of ours wrote.
#[derive(Debug, thiserror::Error)]
#[error("row `{key}` of table `{table}` cannot be read: {source}")]
pub(super) struct InvalidRow {
    table: String,
    key: String,
    source: serde_json::Error,
}

/// The rows that a change makes or takes away.
pub(super) fn of_change(change: &Change) -> Vec<Row> {
    match change {
        Change::Lease(lease) => vec![put(LEASES, lease.address.to_string(), lease)],
        Change::Seen(machine) => vec![put(MACHINES, machine.mac.to_string(), machine)],
        Change::Instance(instance) => vec![put(INSTANCES, instance.id.to_string(), instance)],
        Change::Destroyed { id, at } => vec![
            Row::Delete { table: INSTANCES, key: id.to_string() },
            put(DESTROYED, id.to_string(), at),
        ],
    }
}

/// The change that makes a row's record known.
pub(super) fn to_change(table: &str, key: &str, value: &[u8]) -> Result<Change, InvalidRow> {
    let invalid = |source| InvalidRow { table: table.to_owned(), key: key.to_owned(), source };
    Ok(match table {
        LEASES => Change::Lease(read::<Lease>(value).map_err(invalid)?),
        MACHINES => Change::Seen(read::<Machine>(value).map_err(invalid)?),
        INSTANCES => Change::Instance(read::<Instance>(value).map_err(invalid)?),
        _ => {
            let id = serde_json::Value::from(key);
            let id: InstanceId = serde_json::from_value(id).map_err(invalid)?;
            Change::Destroyed { id, at: read::<Timestamp>(value).map_err(invalid)? }
        }
    })
}

fn put(table: &'static str, key: String, record: &impl Serialize) -> Row {
    let value =
        serde_json::to_vec(record).expect("our records have text keys and no failing parts");
    Row::Put { table, key, value }
}

fn read<Record: DeserializeOwned>(value: &[u8]) -> Result<Record, serde_json::Error> {
    serde_json::from_slice(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LeaseState, Mac};

    #[test]
    fn a_put_row_is_read_as_the_change_that_made_it() {
        let change = Change::Lease(Lease {
            address: [10, 0, 0, 9].into(),
            mac: Mac::new([2, 0, 0, 0, 0, 9]),
            state: LeaseState::Declined,
            expires: Timestamp(77),
        });
        let rows = of_change(&change);
        let [Row::Put { table, key, value }] = rows.as_slice() else {
            panic!("a lease is put");
        };
        assert_eq!(to_change(table, key, value).expect("readable"), change);
    }

    #[test]
    fn a_row_that_cannot_be_read_is_named() {
        let error = to_change(LEASES, "10.0.0.9", b"{}").expect_err("nothing in it");
        assert!(error.to_string().contains("row `10.0.0.9` of table `leases`"), "{error}");
    }
}
