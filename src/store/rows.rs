//! What a change is on disk: rows of tables.
//!
//! Pure. A row holds a whole record as JSON, so that reading a table back is
//! applying its rows. How far an instance has come has a table of its own: it
//! changes often, and the instance with its `Init` may be large.

use serde::{
    Serialize,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Error;

use crate::model::{
    Change, Destroyed, Instance, InstanceId, Lease, Lease6, Machine, Progress, Timestamp,
};

pub(super) const LEASES: &str = "leases";
const LEASES6: &str = "leases6";
pub(super) const MACHINES: &str = "machines";
pub(super) const INSTANCES: &str = "instances";
const PROGRESS: &str = "progress";
const DESTROYED: &str = "destroyed";
const AHEAD: &str = "ahead";

/// The key of the one row of that table.
const UNTIL: &str = "until";

/// Every table, in the order in which they are read. The log has their places here, so
/// none is moved.
pub(super) const TABLES: [&str; 7] =
    [LEASES, LEASES6, MACHINES, INSTANCES, PROGRESS, DESTROYED, AHEAD];

/// What becomes of one row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Row {
    Put { table: &'static str, key: String, value: Vec<u8> },
    Delete { table: &'static str, key: String },
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
        Change::Kept(_) => Vec::new(),
        Change::Ahead(until) => vec![put(AHEAD, UNTIL.to_owned(), until)],
        Change::Lease6(lease) => vec![put(LEASES6, lease.address.to_string(), lease)],
        Change::Seen(machine) | Change::Machine(machine) => {
            vec![put(MACHINES, machine.mac.to_string(), machine)]
        }
        Change::Slots(_) => Vec::new(),
        Change::Forgotten(mac) => vec![Row::Delete { table: MACHINES, key: mac.to_string() }],
        Change::Instance(instance) => vec![put(INSTANCES, instance.id.to_string(), instance)],
        Change::Progress(id, progress) => vec![put(PROGRESS, id.to_string(), progress)],
        Change::Destroyed(destroyed) => {
            let key = destroyed.id.to_string();
            vec![
                Row::Delete { table: INSTANCES, key: key.clone() },
                Row::Delete { table: PROGRESS, key: key.clone() },
                put(DESTROYED, key, destroyed),
            ]
        }
    }
}

/// The change that makes a row's record known.
pub(super) fn to_change(table: &str, key: &str, value: &[u8]) -> Result<Change, InvalidRow> {
    let invalid = |source| InvalidRow { table: table.to_owned(), key: key.to_owned(), source };
    Ok(match table {
        LEASES => Change::Lease(read::<Lease>(value).map_err(invalid)?),
        LEASES6 => Change::Lease6(read::<Lease6>(value).map_err(invalid)?),
        MACHINES => Change::Seen(read::<Machine>(value).map_err(invalid)?),
        INSTANCES => Change::Instance(read::<Instance>(value).map_err(invalid)?),
        PROGRESS => {
            let id: InstanceId = key.parse().map_err(|error| invalid(Error::custom(error)))?;
            Change::Progress(id, read::<Progress>(value).map_err(invalid)?)
        }
        AHEAD => Change::Ahead(read::<Timestamp>(value).map_err(invalid)?),
        _ => Change::Destroyed(read::<Destroyed>(value).map_err(invalid)?),
    })
}

/// What the last instance that was read has, which the next one mostly has, too: then it
/// is made once, and both have it.
#[derive(Default)]
pub(super) struct Alike(Option<Instance>);

impl Alike {
    /// The same change, with what is as it was in memory once.
    pub(super) fn same(&mut self, mut change: Change) -> Change {
        let Change::Instance(next) = &mut change else { return change };
        match &self.0 {
            Some(last)
                if last.tags == next.tags && last.image == next.image && last.init == next.init =>
            {
                next.tags = last.tags.clone();
                next.image = last.image.clone();
                next.init = last.init.clone();
            }
            _ => self.0 = Some(next.clone()),
        }
        change
    }
}

/// The change that a row of the log makes known; none if another of its batch says it.
pub(super) fn of_row(row: &Row) -> Result<Option<Change>, InvalidRow> {
    match row {
        Row::Put { table, key, value } => to_change(table, key, value).map(Some),
        Row::Delete { table, key } if *table == MACHINES => {
            let invalid =
                |source| InvalidRow { table: MACHINES.to_owned(), key: key.clone(), source };
            let mac = serde_json::from_value(key.as_str().into()).map_err(invalid)?;
            Ok(Some(Change::Forgotten(mac)))
        }
        // The instance is destroyed.
        Row::Delete { .. } => Ok(None),
    }
}

fn put(table: &'static str, key: String, record: &impl Serialize) -> Row {
    let value =
        serde_json::to_vec(record).expect("our records have text keys and no failing parts");
    Row::Put { table, key, value }
}

fn read<Record: DeserializeOwned>(value: &[u8]) -> Result<Record, serde_json::Error> {
    // Looked at once as a whole, and not again for each text in it.
    let text = std::str::from_utf8(value).map_err(Error::custom)?;
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Duid, Holder, LeaseState, Mac, Reason, testing};

    #[test]
    fn a_put_row_is_read_as_the_change_that_made_it() {
        let instance = testing::instance(7, Mac::new([2, 0, 0, 0, 0, 9]));
        let (id, mac) = (instance.id, instance.mac);
        let progress = instance.progress.script(true, Timestamp(3)).failed("why", Timestamp(4));
        let destroyed = Destroyed {
            id,
            at: Timestamp(9),
            reason: Reason::RollingUpdate,
            mac,
            report: instance.secrets.report,
        };
        for change in [
            Change::Lease(Lease {
                address: [10, 0, 0, 9].into(),
                mac,
                state: LeaseState::Declined,
                expires: Timestamp(77),
            }),
            Change::Lease6(Lease6 {
                address: "fd00::9".parse().expect("an address"),
                holder: Holder::Machine(mac),
                association: 1,
                state: LeaseState::Bound,
                expires: Timestamp(77),
            }),
            Change::Lease6(Lease6 {
                address: "fd00::a".parse().expect("an address"),
                holder: Holder::Client(Duid::of_uuid([7; 16]), 2),
                association: 2,
                state: LeaseState::Released,
                expires: Timestamp(77),
            }),
            Change::Seen(testing::held(mac, Timestamp(5))),
            Change::Instance(instance),
            Change::Progress(id, progress),
            Change::Destroyed(destroyed),
            Change::Ahead(Timestamp(8)),
        ] {
            let rows = of_change(&change);
            let Some(Row::Put { table, key, value }) = rows.last() else {
                panic!("{change:?} is put");
            };
            assert_eq!(to_change(table, key, value).expect("readable"), change);
        }
    }

    #[test]
    fn what_is_gone_leaves_no_row_of_its_own() {
        let mac = Mac::new([2, 0, 0, 0, 0, 9]);
        let forgotten = of_change(&Change::Forgotten(mac));
        assert_eq!(forgotten, [Row::Delete { table: MACHINES, key: mac.to_string() }]);
    }

    #[test]
    fn a_row_that_cannot_be_read_is_named() {
        let error = to_change(LEASES, "10.0.0.9", b"{}").expect_err("nothing in it");
        assert!(error.to_string().contains("row `10.0.0.9` of table `leases`"), "{error}");
    }
}
