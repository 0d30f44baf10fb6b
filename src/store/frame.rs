//! What is in a log: batches of rows, each with its number and a checksum.
//!
//! Pure. A batch is what was synced together, so it is on disk as a whole, or it is
//! the last one and nobody was told of it. That is how a tail that a crash has torn
//! is told from damage: behind damage there is another good batch.
//!
//! ```text
//! batch  = MARK  number:u64  length:u32  crc32(number, length, rows):u32  rows
//! row    = table:u8  key-length:u16  key  value-length:u32  value
//! ```
//!
//! Integers are little-endian. A value-length of all ones is a row that is deleted.

use super::rows::{Row, TABLES};

/// What every batch begins with; not zeros, which is what follows the last one.
const MARK: [u8; 8] = *b"\xc3rbatch\x0a";
const HEADER: usize = 24;
const DELETED: u32 = u32::MAX;

/// A log that is not what was written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    /// A bad batch has a good one behind it.
    #[error("what is at byte {bad} is no batch, but there is one behind it, at byte {good}")]
    Middle {
        /// Where the bad one is.
        bad: usize,
        /// Where the good one is.
        good: usize,
    },
    /// Batches are missing.
    #[error("batch {found} comes where batch {expected} should")]
    Gap {
        /// What should come.
        expected: u64,
        /// What comes.
        found: u64,
    },
    /// The checksum is right and the rows make no sense.
    #[error("the rows of batch {0} cannot be read")]
    Rows(u64),
}

/// A log as it was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batches {
    /// All rows, in the order in which they were written.
    pub(super) rows: Vec<Row>,
    /// The number of the first batch, and of the last; none if there is no batch.
    pub(super) numbers: Option<(u64, u64)>,
    /// Where the batches end. What follows is empty, or torn.
    pub(super) end: usize,
}

/// Begins a batch at the end of `log`; rows are added with [`add`], and [`finish`]
/// makes it whole. Gives the place at which it begins.
pub(super) fn begin(log: &mut Vec<u8>) -> usize {
    let start = log.len();
    log.extend_from_slice(&[0; HEADER]);
    start
}

/// Adds a row to the batch that was begun.
pub(super) fn add(log: &mut Vec<u8>, row: &Row) {
    let (table, key, value) = match row {
        Row::Put { table, key, value } => (table, key, Some(value)),
        Row::Delete { table, key } => (table, key, None),
    };
    let table = TABLES.iter().position(|name| name == table).unwrap_or(TABLES.len());
    log.push(u8::try_from(table).unwrap_or(u8::MAX));
    log.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
    log.extend_from_slice(key.as_bytes());
    let length = value.map_or(DELETED, |value| u32::try_from(value.len()).unwrap_or(DELETED - 1));
    log.extend_from_slice(&length.to_le_bytes());
    log.extend_from_slice(value.map_or(&[], Vec::as_slice));
}

/// Makes the batch whole that begins at `start`.
pub(super) fn finish(log: &mut [u8], start: usize, number: u64) {
    let batch = &mut log[start..];
    let length = u32::try_from(batch.len() - HEADER).unwrap_or(u32::MAX);
    batch[..8].copy_from_slice(&MARK);
    batch[8..16].copy_from_slice(&number.to_le_bytes());
    batch[16..20].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(&batch[8..20], &batch[HEADER..]);
    batch[20..24].copy_from_slice(&sum.to_le_bytes());
}

/// Reads a log. A torn tail is left out.
pub(super) fn read(log: &[u8]) -> Result<Batches, Damage> {
    let mut read = Batches::default();
    while let Some((number, body)) = batch_at(log, read.end) {
        let expected = read.numbers.map_or(number, |(_, last)| last + 1);
        if number != expected {
            return Err(Damage::Gap { expected, found: number });
        }
        let first = read.numbers.map_or(number, |(first, _)| first);
        rows_of(body, &mut read.rows).ok_or(Damage::Rows(number))?;
        read.numbers = Some((first, number));
        read.end += HEADER + body.len();
    }
    let tail = read.end + 1..log.len();
    let good = tail.into_iter().find(|place| batch_at(log, *place).is_some());
    match good {
        Some(good) => Err(Damage::Middle { bad: read.end, good }),
        None => Ok(read),
    }
}

/// The number and the rows of the good batch at this place, if there is one.
fn batch_at(log: &[u8], place: usize) -> Option<(u64, &[u8])> {
    let batch = log.get(place..)?;
    if !batch.starts_with(&MARK) {
        return None;
    }
    let mut rest = &batch[MARK.len()..];
    let number = u64::from_le_bytes(take(&mut rest)?);
    let length = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
    let sum = u32::from_le_bytes(take(&mut rest)?);
    let body = rest.get(..length)?;
    (checksum(&batch[8..20], body) == sum).then_some((number, body))
}

fn rows_of(mut body: &[u8], rows: &mut Vec<Row>) -> Option<()> {
    while !body.is_empty() {
        let [table] = take(&mut body)?;
        let table = *TABLES.get(usize::from(table))?;
        let length = usize::from(u16::from_le_bytes(take(&mut body)?));
        let key = std::str::from_utf8(body.split_off(..length)?).ok()?.to_owned();
        let length = u32::from_le_bytes(take(&mut body)?);
        rows.push(if length == DELETED {
            Row::Delete { table, key }
        } else {
            let value = body.split_off(..usize::try_from(length).ok()?)?.to_vec();
            Row::Put { table, key, value }
        });
    }
    Some(())
}

fn take<const COUNT: usize>(bytes: &mut &[u8]) -> Option<[u8; COUNT]> {
    bytes.split_off(..COUNT)?.try_into().ok()
}

fn checksum(header: &[u8], rows: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(header);
    sum.update(rows);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row() -> impl Strategy<Value = Row> {
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
        (0..TABLES.len(), "[ -~]{0,12}", value).prop_map(|(table, key, value)| {
            let table = TABLES[table];
            match value {
                Some(value) => Row::Put { table, key, value },
                None => Row::Delete { table, key },
            }
        })
    }

    fn batches() -> impl Strategy<Value = Vec<Vec<Row>>> {
        proptest::collection::vec(proptest::collection::vec(row(), 0..4), 1..8)
    }

    /// The log of these batches, and where each ends.
    fn written(batches: &[Vec<Row>], first: u64) -> (Vec<u8>, Vec<usize>) {
        let (mut log, mut ends) = (Vec::new(), Vec::new());
        for (number, rows) in (first..).zip(batches) {
            let start = begin(&mut log);
            rows.iter().for_each(|row| add(&mut log, row));
            finish(&mut log, start, number);
            ends.push(log.len());
        }
        (log, ends)
    }

    fn flat(batches: &[Vec<Row>]) -> Vec<&Row> {
        batches.iter().flatten().collect()
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(batches in batches(), first in 1u64..1000, zeros in 0usize..99) {
            let (mut log, ends) = written(&batches, first);
            log.resize(log.len() + zeros, 0);
            let read = read(&log).expect("whole");
            prop_assert_eq!(read.rows.iter().collect::<Vec<_>>(), flat(&batches));
            prop_assert_eq!(read.numbers, Some((first, first + batches.len() as u64 - 1)));
            prop_assert_eq!(Some(&read.end), ends.last());
        }

        /// However short a crash has cut it, the log is read as its first batches, and
        /// none of those that are whole is lost.
        #[test]
        fn a_cut_log_is_read_as_the_batches_that_are_whole(
            batches in batches(), keep in 0.0f64..1.0, zeros in 0usize..99,
        ) {
            let (mut log, ends) = written(&batches, 1);
            let keep = (log.len() as f64 * keep) as usize;
            log.truncate(keep);
            log.resize(keep + zeros, 0);
            let read = read(&log).expect("a torn tail is no damage");
            let whole = ends.iter().filter(|end| **end <= keep).count();
            // What was cut off may have been zeros.
            let count = read.numbers.map_or(0, |(_, last)| last as usize);
            prop_assert!(count >= whole && count <= whole + 1, "{} of {}", count, whole);
            prop_assert_eq!(read.rows.iter().collect::<Vec<_>>(), flat(&batches[..count]));
        }

        /// The batch that was being written when the power failed may have any bytes.
        #[test]
        fn a_torn_last_batch_is_left_out_and_the_others_are_read(
            batches in batches(), place in any::<usize>(), bits in 1u8..,
        ) {
            let (mut log, ends) = written(&batches, 1);
            let last = ends.len() - 1;
            let begins = last.checked_sub(1).map_or(0, |before| ends[before]);
            let place = begins + place % (log.len() - begins);
            log[place] ^= bits;
            let read = read(&log).expect("a torn tail is no damage");
            prop_assert_eq!(read.rows.iter().collect::<Vec<_>>(), flat(&batches[..last]));
        }

        /// A byte that changed before the last batch is reported.
        #[test]
        fn damage_in_the_middle_is_reported(
            batches in proptest::collection::vec(proptest::collection::vec(row(), 0..4), 2..8),
            place in any::<usize>(), bits in 1u8..,
        ) {
            let (mut log, ends) = written(&batches, 1);
            let place = place % ends[ends.len() - 2];
            log[place] ^= bits;
            prop_assert!(read(&log).is_err(), "byte {} of {}", place, log.len());
        }

        #[test]
        fn anything_else_is_read_without_a_panic(log in proptest::collection::vec(any::<u8>(), 0..200)) {
            let read = read(&log).expect("no batch is in it");
            prop_assert_eq!(read, Batches::default());
        }
    }

    #[test]
    fn a_batch_that_is_missing_is_named() {
        let (mut log, _) = written(&[vec![], vec![]], 1);
        log.extend(written(&[vec![]], 4).0);
        assert_eq!(read(&log), Err(Damage::Gap { expected: 3, found: 4 }));
    }
}
