//! The state on disk: one redb file, written by one thread.
//!
//! redb commits atomically and syncs; what a commit returned for is there after
//! a crash. Every page has a checksum, verified when the file is opened.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::rows::{self, InvalidRow, Row};
use crate::{model::Change, state::State};

/// The name of the file in the state directory.
pub const FILE_NAME: &str = "state.redb";

/// The version of what the tables mean. One that is not known is refused.
const VERSION: u64 = 2;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the state in {} is in use by another remoteboot", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The directory or the file cannot be used.
    #[error("cannot use the state in {}", path.display())]
    Unusable {
        /// The directory or file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file is not what was written. It is left as it is.
    #[error(
        "the state in {} is damaged: {what}; it is left untouched: restore a copy of it, or move \
         it away to begin without instances and leases", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file was written by a version that is not known here.
    #[error("the state in {} has version {found}, this remoteboot knows version {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version that it says it has.
        found: u64,
    },
    /// The system has no thread for the writer.
    #[error("cannot start the thread that writes the state")]
    Thread(#[source] io::Error),
}

pub(super) struct Disk {
    database: Database,
}

impl Disk {
    /// Opens the file in `directory`, or makes it, and reads it into `state`.
    pub(super) fn open(directory: &Path, mut state: State) -> Result<(Self, State), OpenError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Unusable { path, source }
        };
        create_private(directory).map_err(unusable(directory))?;
        let path = directory.join(FILE_NAME);
        let exists = path.try_exists().map_err(unusable(&path))?;
        if !exists {
            make_new(&path)?;
        }
        // redb takes an empty file for a new one; ours are never empty.
        if fs::metadata(&path).map_err(unusable(&path))?.len() == 0 {
            let what = "the file is empty".to_owned();
            return Err(OpenError::Damaged { path, what });
        }
        let disk = Self { database: open_checked(&path)? };
        disk.load(&mut state).map_err(|error| match error {
            LoadError::Version(found) => OpenError::Version { path: path.clone(), found },
            LoadError::Redb(error) => {
                OpenError::Damaged { path: path.clone(), what: error.to_string() }
            }
            LoadError::Row(error) => {
                OpenError::Damaged { path: path.clone(), what: error.to_string() }
            }
        })?;
        Ok((disk, state))
    }

    /// Writes the changes and returns when they are on disk, all or none.
    pub(super) fn commit<'a>(
        &self,
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut table = None;
            for row in changes.into_iter().flat_map(rows::of_change) {
                // Opening a table costs more than a row: keep it for the next.
                let name = row.table();
                if table.as_ref().is_none_or(|(open, _)| *open != name) {
                    drop(table.take());
                    table = Some((name, transaction.open_table(definition(name))?));
                }
                let Some((_, table)) = table.as_mut() else { continue };
                match row {
                    Row::Put { key, value, .. } => {
                        drop(table.insert(key.as_str(), value.as_slice())?)
                    }
                    Row::Delete { key, .. } => drop(table.remove(key.as_str())?),
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn load(&self, state: &mut State) -> Result<(), LoadError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let meta = transaction.open_table(META).map_err(redb::Error::from)?;
        let version = meta.get("version").map_err(redb::Error::from)?;
        let found = version.map_or(0, |version| version.value());
        if found != VERSION {
            return Err(LoadError::Version(found));
        }
        for name in rows::TABLES {
            let table = match transaction.open_table(definition(name)) {
                Ok(table) => table,
                // Written by a version that had no such things.
                Err(redb::TableError::TableDoesNotExist(_)) => continue,
                Err(error) => return Err(redb::Error::from(error).into()),
            };
            for entry in table.iter().map_err(redb::Error::from)? {
                let (key, value) = entry.map_err(redb::Error::from)?;
                let change = rows::to_change(name, key.value(), value.value())?;
                state.apply(&change);
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

const fn definition(name: &str) -> TableDefinition<'_, &'static str, &'static [u8]> {
    TableDefinition::new(name)
}

/// Makes the directory for its owner only: it holds what machines are told.
fn create_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Makes a file with empty tables beside, and gives it its name when it is
/// whole, so that a file of that name is never half made.
fn make_new(path: &Path) -> Result<(), OpenError> {
    let unusable = |source| OpenError::Unusable { path: path.to_owned(), source };
    let beside = path.with_extension(format!("new.{}", std::process::id()));
    let made = (|| -> Result<(), redb::Error> {
        let database = Database::builder().create(&beside)?;
        let transaction = database.begin_write()?;
        transaction.open_table(META)?.insert("version", VERSION)?;
        for name in rows::TABLES {
            transaction.open_table(definition(name))?;
        }
        transaction.commit()?;
        Ok(())
    })();
    made.map_err(|error| unusable(io::Error::other(error)))?;
    set_private(&beside).map_err(unusable)?;
    // A link fails if somebody else made the file meanwhile; then theirs holds.
    match fs::hard_link(&beside, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(unusable(error)),
        Ok(()) | Err(_) => {}
    }
    fs::remove_file(&beside).map_err(unusable)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(unusable)
}

fn set_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

fn open_checked(path: &Path) -> Result<Database, OpenError> {
    let damaged = |what: String| OpenError::Damaged { path: path.to_owned(), what };
    // Looked at before redb may repair it: a file that redb cannot have written
    // is reported, not repaired.
    let opened = Database::builder().set_check_integrity_on_open(true).open(path);
    opened.map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: path.to_owned() },
        redb::DatabaseError::Storage(redb::StorageError::Io(source))
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            OpenError::Unusable { path: path.to_owned(), source }
        }
        other => damaged(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Lease, LeaseState, Mac, Timestamp};

    fn filled() -> (tempfile::TempDir, PathBuf, State) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (disk, mut state) =
            Disk::open(directory.path(), State::new(None)).expect("a new store");
        for last in 0..200u8 {
            let change = Change::Lease(Lease {
                address: [10, 0, 0, last].into(),
                mac: Mac::new([2, 0, 0, 0, 0, last]),
                state: LeaseState::Bound,
                expires: Timestamp(u64::from(last)),
            });
            disk.commit(std::slice::from_ref(&change)).expect("written");
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
            if let Ok((_, read)) = Disk::open(directory.path(), State::new(None)) {
                prop_assert_eq!(read, state, "byte {} of the file", place);
            }
        }

        /// A file that lost its end is reported.
        #[test]
        fn a_cut_file_is_reported_or_means_nothing(keep in 1usize..1_000_000) {
            let (directory, path, state) = filled();
            let bytes = fs::read(&path).expect("there");
            fs::write(&path, &bytes[..keep.min(bytes.len() - 1)]).expect("written");
            if let Ok((_, read)) = Disk::open(directory.path(), State::new(None)) {
                prop_assert_eq!(read, state);
            }
        }
    }
}
