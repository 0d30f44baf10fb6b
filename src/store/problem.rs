//! Why a store cannot be opened.

use std::{io, path::PathBuf};

use super::disk::VERSION;

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
        "the state in {} is damaged: {what}; it is left untouched: restore a copy of the whole \
         directory, or move it away to begin without instances and leases", path.display()
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
