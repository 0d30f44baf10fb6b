//! The state on disk: tables in one redb file, and the log in front of them.
//!
//! redb commits atomically and syncs; what a commit returned for is there after
//! a crash. Every page has a checksum, verified when the file is opened. But a commit
//! writes whole pages and waits for the disk twice, so what must be on disk at once
//! goes to the log (`log`), and from there into the tables, many rows at a time.

use std::{
    collections::BTreeMap, fs, io, num::NonZero, os::unix::fs::FileExt as _, path::Path,
    sync::mpsc::SyncSender,
};

use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend,
    TableDefinition,
};

use super::{
    later,
    log::{self, Log, ReadError},
    problem::OpenError,
    rows::{self, InvalidRow, Row},
};
use crate::{model::Change, state::State};

/// The name of the file in the state directory.
pub const FILE_NAME: &str = "state.redb";

/// The version of what is in the directory. One that is not known is refused: 4 says how
/// far promises may be ahead of it, which whoever does not know it would break; 3 has a
/// log, which whoever knows the tables alone would pass over.
pub(super) const VERSION: u64 = 4;

/// The first version that is read, and made [`VERSION`]: it had tables alone.
const FIRST: u64 = 2;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The number of the last batch of the log that is in the tables.
const FOLDED: &str = "folded";

/// How much of the file redb may keep in memory, octets: it is read once, at the start.
const CACHE: usize = 1 << 20;

/// So many rows are understood by one thread while others do those before and behind.
const ROWS_AT_ONCE: usize = 256;

/// So many threads do that at most: each looks at all rows and understands its own.
const READERS: usize = 4;

pub(super) struct Disk {
    database: Database,
}

impl Disk {
    /// Opens the file in `directory`, or makes it, takes in what a crash has left of
    /// the log, and reads all into `state`.
    pub(super) fn open(
        directory: &Path,
        mut state: State,
    ) -> Result<(Self, Log, State), OpenError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Unusable { path, source }
        };
        create_private(directory).map_err(unusable(directory))?;
        let path = directory.join(FILE_NAME);
        // Looked for first: a daemon that begins at the same time makes its log last.
        let files = log::files(directory).map_err(unusable(directory))?;
        let exists = path.try_exists().map_err(unusable(&path))?;
        if !exists {
            let is_empty = |log: &Path| log::read(log).is_ok_and(|read| read.numbers.is_none());
            if let Some((_, log)) = files.into_iter().find(|(_, log)| !is_empty(log)) {
                let what = format!("{FILE_NAME}, to which it belongs, is missing");
                return Err(OpenError::Damaged { path: log, what });
            }
            make_new(&path)?;
        }
        // redb takes an empty file for a new one; ours are never empty.
        if fs::metadata(&path).map_err(unusable(&path))?.len() == 0 {
            let what = "the file is empty".to_owned();
            return Err(OpenError::Damaged { path, what });
        }
        let disk = Self { database: open_checked(&path)? };
        let wrong = |error: LoadError| error.of(&path);
        let (version, folded) = disk.meta().map_err(wrong)?;
        let files = log::files(directory).map_err(unusable(directory))?;
        let read = later::read(&files, folded)?;
        let count = |name| disk.count(name).map_err(wrong);
        let (machines, instances) = (count(rows::MACHINES)?, count(rows::INSTANCES)?);
        state = state.gathering(count(rows::LEASES)?, machines, instances);
        disk.load(&mut state).map_err(wrong)?;
        // What the log has came after all that is in the tables, in this order.
        read.changes.into_iter().for_each(|change| state.apply_own(change));
        let last = read.last;
        if last > folded || version != VERSION {
            // Nothing is written before all of it could be read.
            disk.commit(read.rows, last).map_err(|error| wrong(error.into()))?;
        }
        for (_, file) in &files {
            fs::remove_file(file).map_err(unusable(file))?;
        }
        let number = files.last().map_or(1, |(number, _)| number + 1);
        let log = Log::create(directory, number, last + 1).map_err(unusable(directory))?;
        Ok((disk, log, state.settled().begun()))
    }

    /// Takes a whole file of the log into the tables.
    pub(super) fn fold(&self, file: &Path) -> Result<(), FoldError> {
        let batches = log::read(file)?;
        match batches.numbers {
            Some((_, last)) => Ok(self.commit(batches.rows, last)?),
            None => Ok(()),
        }
    }

    /// Writes the rows, of which the last of each key counts, and that the log is in
    /// the tables up to the batch of this number; returns when that is on disk.
    fn commit(&self, rows: Vec<Row>, last: u64) -> Result<(), redb::Error> {
        // In the order of the tables a page is written once.
        let mut sorted: BTreeMap<(&'static str, String), Option<Vec<u8>>> = BTreeMap::new();
        for row in rows {
            match row {
                Row::Put { table, key, value } => sorted.insert((table, key), Some(value)),
                Row::Delete { table, key } => sorted.insert((table, key), None),
            };
        }
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert("version", VERSION)?;
            meta.insert(FOLDED, last)?;
        }
        for name in rows::TABLES {
            let mut own = sorted.iter().filter(|((table, _), _)| *table == name).peekable();
            if own.peek().is_none() {
                continue;
            }
            let mut table = transaction.open_table(definition(name))?;
            for ((_, key), value) in own {
                match value {
                    Some(value) => drop(table.insert(key.as_str(), value.as_slice())?),
                    None => drop(table.remove(key.as_str())?),
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// The version, which is one that is known, and the number of the last batch of
    /// the log that is in the tables.
    fn meta(&self) -> Result<(u64, u64), LoadError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let meta = transaction.open_table(META).map_err(redb::Error::from)?;
        let number = |name| -> Result<u64, redb::Error> {
            Ok(meta.get(name)?.map_or(0, |number| number.value()))
        };
        match number("version")? {
            version @ FIRST..=VERSION => Ok((version, number(FOLDED)?)),
            found => Err(LoadError::Version(found)),
        }
    }

    /// How many rows a table has.
    fn count(&self, name: &str) -> Result<usize, LoadError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        match transaction.open_table(definition(name)) {
            Ok(table) => {
                let count = table.len().map_err(redb::Error::from)?;
                Ok(usize::try_from(count).unwrap_or_default())
            }
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(0),
            Err(error) => Err(redb::Error::from(error).into()),
        }
    }

    /// Takes all rows into `state`. Each of some threads understands its share of them,
    /// and this one applies them in their order.
    fn load(&self, state: &mut State) -> Result<(), LoadError> {
        let count = std::thread::available_parallelism().map_or(1, NonZero::get).min(READERS);
        std::thread::scope(|scope| {
            let (readers, shares): (Vec<_>, Vec<_>) = (0..count)
                .map(|own| {
                    let (some, changes) = std::sync::mpsc::sync_channel(4);
                    (scope.spawn(move || self.read((own, count), &some)), changes)
                })
                .unzip();
            // The first that has no more has come to the end of all, or to an error.
            for changes in shares.iter().cycle().map_while(|share| share.recv().ok()) {
                changes.into_iter().for_each(|change| state.apply_own(change));
            }
            // Whoever is not at the end needs not go there.
            drop(shares);
            readers.into_iter().try_for_each(|reader| {
                reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }

    /// Sends the changes that make the rows of all tables known, [`ROWS_AT_ONCE`] at a
    /// time: of so many such parts, counted over all tables, each that is this one's.
    fn read(
        &self,
        (own, count): (usize, usize),
        to: &SyncSender<Vec<Change>>,
    ) -> Result<(), LoadError> {
        let (mut turn, mut alike) = (0, rows::Alike::default());
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        for name in rows::TABLES {
            let table = match transaction.open_table(definition(name)) {
                Ok(table) => table,
                // Written by a version that had no such things.
                Err(redb::TableError::TableDoesNotExist(_)) => continue,
                Err(error) => return Err(redb::Error::from(error).into()),
            };
            let mut entries = table.iter().map_err(redb::Error::from)?.peekable();
            while entries.peek().is_some() {
                let room = if turn == own { ROWS_AT_ONCE } else { 0 };
                let mut changes = Vec::with_capacity(room);
                for entry in entries.by_ref().take(ROWS_AT_ONCE) {
                    let (key, value) = entry.map_err(redb::Error::from)?;
                    if turn == own {
                        let change = rows::to_change(name, key.value(), value.value())?;
                        changes.push(alike.same(change));
                    }
                }
                if turn == own && to.send(changes).is_err() {
                    // Another has failed.
                    return Ok(());
                }
                turn = (turn + 1) % count;
            }
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("version {0}")]
    Version(u64),
    #[error(transparent)]
    Redb(#[from] redb::Error),
    #[error(transparent)]
    Row(#[from] InvalidRow),
}

impl LoadError {
    /// What that says of the file.
    fn of(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::Version(found) => OpenError::Version { path, found },
            Self::Redb(redb::Error::Io(source)) if !tells_damage(&source) => {
                OpenError::Unusable { path, source }
            }
            Self::Redb(error) => OpenError::Damaged { path, what: error.to_string() },
            Self::Row(error) => OpenError::Damaged { path, what: error.to_string() },
        }
    }
}

/// Whether that is said of what is in a file. Anything else, such as a full disk, is no
/// reason to move it away.
fn tells_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

/// A file of the log could not be taken into the tables.
#[derive(Debug, thiserror::Error)]
pub(super) enum FoldError {
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error(transparent)]
    Redb(#[from] redb::Error),
}

const fn definition(name: &str) -> TableDefinition<'_, &'static str, &'static [u8]> {
    TableDefinition::new(name)
}

/// Makes the directory for its owner only: it holds what machines are told.
fn create_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let absent = directory.ancestors().take_while(|path| !path.exists());
    let parents: Vec<&Path> = absent.filter_map(Path::parent).collect();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // Of a directory whose name was lost with the power nothing is left.
    parents.into_iter().try_for_each(sync_directory)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    fs::File::open(path)?.sync_all()
}

/// Makes a file with empty tables beside, and gives it its name when it is
/// whole, so that a file of that name is never half made. The name is on disk when the
/// directory is synced next, which making the log does.
fn make_new(path: &Path) -> Result<(), OpenError> {
    let unusable = |source| OpenError::Unusable { path: path.to_owned(), source };
    let beside = path.with_extension(format!("new.{}", std::process::id()));
    let made = (|| -> Result<(), redb::Error> {
        let mut options = fs::File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(&beside)?;
        let database = Database::builder().create_with_backend(Unsynced(file.try_clone()?))?;
        let transaction = database.begin_write()?;
        transaction.open_table(META)?.insert("version", VERSION)?;
        for name in rows::TABLES {
            transaction.open_table(definition(name))?;
        }
        transaction.commit()?;
        drop(database);
        Ok(file.sync_all()?)
    })();
    made.map_err(|error| unusable(io::Error::other(error)))?;
    set_private(&beside).map_err(unusable)?;
    // A link fails if somebody else made the file meanwhile; then theirs holds.
    match fs::hard_link(&beside, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(unusable(error)),
        Ok(()) | Err(_) => {}
    }
    fs::remove_file(&beside).map_err(unusable)
}

/// A file that nobody knows yet: what is written to it is synced once, when all of it
/// is there, and not at each step of redb.
#[derive(Debug)]
struct Unsynced(fs::File);

impl StorageBackend for Unsynced {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}

fn set_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

fn open_checked(path: &Path) -> Result<Database, OpenError> {
    let damaged = |what: String| OpenError::Damaged { path: path.to_owned(), what };
    // Looked at before redb may repair it: a file that redb cannot have written
    // is reported, not repaired.
    let opened =
        Database::builder().set_check_integrity_on_open(true).set_cache_size(CACHE).open(path);
    opened.map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: path.to_owned() },
        redb::DatabaseError::Storage(redb::StorageError::Io(source)) if !tells_damage(&source) => {
            OpenError::Unusable { path: path.to_owned(), source }
        }
        other => damaged(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Lease, LeaseState, Mac, Timestamp};

    fn filled() -> (tempfile::TempDir, PathBuf, State) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (disk, _, mut state) =
            Disk::open(directory.path(), State::new(None)).expect("a new store");
        for last in 0..200u8 {
            let change = Change::Lease(Lease {
                address: [10, 0, 0, last].into(),
                mac: Mac::new([2, 0, 0, 0, 0, last]),
                state: LeaseState::Bound,
                expires: Timestamp(u64::from(last)),
            });
            disk.commit(rows::of_change(&change), 0).expect("written");
            state.apply(&change);
        }
        let path = directory.path().join(FILE_NAME);
        (directory, path, state)
    }

    #[test]
    fn an_empty_file_is_damage_and_not_a_new_store() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join(FILE_NAME), "").expect("written");
        let error = Disk::open(directory.path(), State::new(None)).map(|_| ()).expect_err("empty");
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert_eq!(fs::read(directory.path().join(FILE_NAME)).expect("there"), b"");
    }

    #[test]
    fn a_file_of_something_else_is_damage_and_is_left() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let text = "this is no database\n".repeat(1000);
        fs::write(directory.path().join(FILE_NAME), &text).expect("written");
        let error = Disk::open(directory.path(), State::new(None)).map(|_| ()).expect_err("text");
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert_eq!(fs::read(directory.path().join(FILE_NAME)).expect("there"), text.as_bytes());
    }

    fn set_version(path: &Path, version: u64) {
        let database = Database::open(path).expect("a store");
        let transaction = database.begin_write().expect("begun");
        let mut meta = transaction.open_table(META).expect("there");
        meta.insert("version", version).expect("set");
        drop(meta);
        transaction.commit().expect("written");
    }

    #[test]
    fn a_store_without_a_log_is_read_and_no_daemon_of_that_time_opens_it_again() {
        for version in [2, 3] {
            let (directory, path, state) = filled();
            set_version(&path, version);
            log::files(directory.path()).expect("there").iter().for_each(|(_, log)| {
                fs::remove_file(log).expect("removed");
            });
            let (disk, _, read) = Disk::open(directory.path(), State::new(None)).expect("known");
            assert_eq!(read, state);
            assert_eq!(disk.meta().expect("there").0, VERSION);
        }
    }

    #[test]
    fn a_version_that_is_not_known_is_refused() {
        for version in [1, 5] {
            let (directory, path, _) = filled();
            set_version(&path, version);
            let error = Disk::open(directory.path(), State::new(None)).map(|_| ());
            let Err(OpenError::Version { found, .. }) = error else { panic!("{error:?}") };
            assert_eq!(found, version);
        }
    }

    #[test]
    fn a_log_without_its_tables_is_reported_and_no_tables_are_made_for_it() {
        let (directory, path, _) = filled();
        let mut log = Log::create(directory.path(), 7, 1).expect("made");
        log.append(&[Change::Forgotten(Mac::new([2; 6]))]).expect("written");
        fs::remove_file(&path).expect("removed");
        let error = Disk::open(directory.path(), State::new(None)).map(|_| ()).expect_err("alone");
        assert!(
            error.to_string().contains("state.redb, to which it belongs, is missing"),
            "{error}"
        );
        assert!(matches!(&error, OpenError::Damaged { path, .. } if path.ends_with("state.log.7")));
        assert!(!path.exists());
    }

    #[test]
    fn a_full_disk_is_no_damage() {
        let path = Path::new("/nowhere/state.redb");
        let of = |kind: io::ErrorKind| LoadError::Redb(redb::Error::Io(kind.into())).of(path);
        assert!(matches!(of(io::ErrorKind::StorageFull), OpenError::Unusable { .. }));
        assert!(matches!(of(io::ErrorKind::UnexpectedEof), OpenError::Damaged { .. }));
    }

    #[test]
    fn nothing_of_a_log_is_taken_into_tables_that_cannot_be_read() {
        let (directory, path, _) = filled();
        for (_, log) in log::files(directory.path()).expect("there") {
            fs::remove_file(log).expect("removed");
        }
        let bad = |table| Row::Put { table, key: "10.0.0.9".to_owned(), value: b"{}".to_vec() };
        let disk = Disk { database: Database::open(&path).expect("a store") };
        disk.commit(vec![bad(rows::TABLES[0])], 0).expect("written");
        drop(disk);
        let mut log = Log::create(directory.path(), 7, 1).expect("made");
        log.append(&[Change::Forgotten(Mac::new([2; 6]))]).expect("written");
        let error = Disk::open(directory.path(), State::new(None)).map(|_| ()).expect_err("bad");
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        let disk = Disk { database: Database::open(&path).expect("a store") };
        assert_eq!(disk.meta().expect("there"), (VERSION, 0), "the log is not in the tables");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// A byte that changed, anywhere, is either without meaning or reported;
        /// it never loses a lease in silence, and never panics.
        #[test]
        fn a_changed_byte_is_reported_or_means_nothing(place in 0usize..1_000_000, bits in 1u8..) {
            let (directory, path, state) = filled();
            let mut bytes = fs::read(&path).expect("there");
            let place = place % bytes.len();
            bytes[place] ^= bits;
            fs::write(&path, bytes).expect("written");
            if let Ok((_, _, read)) = Disk::open(directory.path(), State::new(None)) {
                prop_assert_eq!(read, state, "byte {} of the file", place);
            }
        }

        /// A file that lost its end is reported.
        #[test]
        fn a_cut_file_is_reported_or_means_nothing(keep in 1usize..1_000_000) {
            let (directory, path, state) = filled();
            let bytes = fs::read(&path).expect("there");
            fs::write(&path, &bytes[..keep.min(bytes.len() - 1)]).expect("written");
            if let Ok((_, _, read)) = Disk::open(directory.path(), State::new(None)) {
                prop_assert_eq!(read, state);
            }
        }
    }
}
