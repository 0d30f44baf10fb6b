//! The log in front of the tables: what is decided is appended here and synced, and
//! goes into the tables later, many rows at once.
//!
//! A log is some files, each `state.log.` and a number, of which the oldest is the
//! one that goes into the tables next. It knows bytes and files, not what is in them.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    frame::{self, Batches, Damage},
    rows,
};
use crate::model::Change;

const FILE_NAME: &str = "state.log.";

/// A file grows by so many zeros at a time: a sync of bytes that were there before
/// has no length and no place of the file to write down, and waits half as long.
const STEP: u64 = 1 << 20;

/// The file that is appended to.
pub(super) struct Log {
    directory: PathBuf,
    file: File,
    path: PathBuf,
    /// The number of the file.
    file_number: u64,
    /// The number of the next batch.
    next: u64,
    end: u64,
    allocated: u64,
    buffer: Vec<u8>,
}

impl Log {
    /// Begins a log in which `next` is the first batch. A file of the number that
    /// has no batch is written over.
    pub(super) fn create(directory: &Path, file_number: u64, next: u64) -> io::Result<Self> {
        let path = directory.join(format!("{FILE_NAME}{file_number}"));
        let file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        File::open(directory)?.sync_all()?;
        let directory = directory.to_owned();
        let (end, allocated, buffer) = (0, 0, Vec::new());
        Ok(Self { directory, file, path, file_number, next, end, allocated, buffer })
    }

    /// Appends the changes, and returns when they are on disk, all or none.
    pub(super) fn append<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> io::Result<()> {
        self.buffer.clear();
        let start = frame::begin(&mut self.buffer);
        for row in changes.into_iter().flat_map(rows::of_change) {
            frame::add(&mut self.buffer, &row);
        }
        // A batch says its length in four octets; a longer one could not be read.
        if u32::try_from(self.buffer.len()).is_err() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        frame::finish(&mut self.buffer, start, self.next);
        let end = self.end + self.buffer.len() as u64;
        if end > self.allocated {
            let allocated = end.next_multiple_of(STEP);
            let zeros = vec![0; usize::try_from(allocated - end).unwrap_or_default()];
            self.file.write_all_at(&zeros, end)?;
            self.allocated = allocated;
        }
        self.file.write_all_at(&self.buffer, self.end)?;
        self.file.sync_data()?;
        self.end = end;
        self.next += 1;
        Ok(())
    }

    /// How many octets of it are used.
    pub(super) const fn len(&self) -> u64 {
        self.end
    }

    /// Goes on in another file; gives the one that is complete.
    pub(super) fn turn(&mut self) -> io::Result<PathBuf> {
        let after = Self::create(&self.directory, self.file_number + 1, self.next)?;
        Ok(std::mem::replace(self, after).path)
    }

    /// The file, which nothing is appended to any more.
    pub(super) fn into_path(self) -> PathBuf {
        self.path
    }
}

/// The files of the log in `directory`, the oldest first, with their numbers.
pub(super) fn files(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(FILE_NAME)?.parse().ok());
        found.extend(number.map(|number: u64| (number, entry.path())));
    }
    found.sort();
    Ok(found)
}

/// A file of the log could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    File(#[from] io::Error),
    #[error(transparent)]
    Damage(#[from] Damage),
}

/// Reads a file of the log.
pub(super) fn read(path: &Path) -> Result<Batches, ReadError> {
    Ok(frame::read(&fs::read(path)?)?)
}
