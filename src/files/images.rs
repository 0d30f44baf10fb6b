//! The image directory: opened so that nothing leads out of it, hashed once.

use std::{
    collections::HashMap,
    fs, io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::model::{Checksum, ImageFile};

/// The directory that image files are named relative to.
#[derive(Debug, Clone)]
pub struct Images {
    root: PathBuf,
    digests: Arc<Mutex<HashMap<Version, watch::Receiver<Digest>>>>,
}

/// What is known of a file's SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Digest {
    /// It is being read.
    Pending,
    /// This is it.
    Known(Checksum),
    /// The file could not be read to its end.
    Unreadable(String),
}

/// Why a file cannot be given out.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is no such file.
    #[error("there is no file `{name}` in {}", root.display())]
    Missing {
        /// Its name.
        name: String,
        /// Where it should be.
        root: PathBuf,
    },
    /// A symbolic link leads out of the directory.
    #[error("`{name}` leads out of {}", root.display())]
    Outside {
        /// Its name.
        name: String,
        /// What it leads out of.
        root: PathBuf,
    },
    /// A directory, a device, a pipe.
    #[error("`{0}` is no regular file")]
    Irregular(String),
    /// The system refuses.
    #[error("cannot open `{name}`")]
    Unreadable {
        /// Its name.
        name: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// An open file and what it was when it was opened.
#[derive(Debug)]
pub struct OpenFile {
    /// The file, to be read at given places.
    pub file: fs::File,
    /// Its length in bytes.
    pub length: u64,
    /// When it was last written.
    pub modified: SystemTime,
    version: Version,
    around: Mutex<Around>,
}

/// What is round the content of an open file, and changes its ctime as the content
/// does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Around {
    links: u64,
    mode: u32,
    owner: (u32, u32),
    /// Where it is now, as the kernel says; another place when it was renamed.
    place: Option<PathBuf>,
    changed: (i64, i64),
}

impl Around {
    fn of(file: &fs::File, metadata: &fs::Metadata) -> Self {
        Self {
            links: metadata.nlink(),
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            place: fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What changes when a file is written, replaced or touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Version {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl OpenFile {
    fn new(name: &str, file: fs::File) -> Result<Self, FileError> {
        let unreadable = |source| FileError::Unreadable { name: name.to_owned(), source };
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() || metadata.file_type().is_fifo() {
            return Err(FileError::Irregular(name.to_owned()));
        }
        let version = Version::of(&metadata);
        let modified = metadata.modified().map_err(unreadable)?;
        let around = Mutex::new(Around::of(&file, &metadata));
        Ok(Self { file, length: metadata.len(), modified, version, around })
    }

    /// Whether the file still has the content that it had when it was opened.
    ///
    /// Writing changes the times of the content (mtime) and of the inode (ctime), and
    /// who writes may set the former back (`cp -p`), but never the latter. The latter
    /// alone changes, too, when the file gets another name, link, mode or owner, or
    /// another file its name: where one of these is seen to have changed, that was it.
    /// So what is written between two looks that also do one of these, and leaves
    /// length and mtime to the nanosecond as they were, is not noticed.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        let Ok(metadata) = self.file.metadata() else { return false };
        let now = Version::of(&metadata);
        if now == self.version {
            return true;
        }
        if (Version { changed: self.version.changed, ..now }) != self.version {
            return false;
        }
        let mut around = self.around.lock().unwrap_or_else(PoisonError::into_inner);
        if around.changed == now.changed {
            return true;
        }
        let after = Around::of(&self.file, &metadata);
        let is_explained = Around { changed: around.changed, ..after.clone() } != *around;
        if is_explained {
            *around = after;
        }
        is_explained
    }

    /// Opens a file that the operator named, wherever it is.
    ///
    /// # Errors
    ///
    /// [`FileError`] as from [`Images::open`].
    pub fn at(path: &Path) -> Result<Self, FileError> {
        let name = path.display().to_string();
        // Without waiting for a writer, should it be a pipe.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(descriptor) => Self::new(&name, descriptor.into()),
            Err(error) if error == rustix::io::Errno::NOENT => Err(FileError::Missing {
                name,
                root: path.parent().unwrap_or(Path::new("/")).to_owned(),
            }),
            Err(error) => Err(FileError::Unreadable { name, source: error.into() }),
        }
    }

    /// A strong entity tag (RFC 9110 §8.8.3), with its quotes: another one for
    /// every state of the file.
    #[must_use]
    pub fn entity_tag(&self) -> String {
        let Version { inode, length, modified: (seconds, nanoseconds), changed, .. } = self.version;
        format!(
            "\"{inode:x}-{length:x}-{seconds:x}.{nanoseconds:x}-{:x}.{:x}\"",
            changed.0, changed.1
        )
    }
}

impl Images {
    /// The image directory at `root`; it may come into being later.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root, digests: Arc::default() }
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens a file below the directory. The kernel resolves the name and lets
    /// no symbolic link lead out (`openat2`, Linux 5.6).
    ///
    /// # Errors
    ///
    /// [`FileError`], which names the file.
    pub fn open(&self, name: &ImageFile) -> Result<OpenFile, FileError> {
        let missing = || FileError::Missing { name: name.to_string(), root: self.root.clone() };
        let unreadable = |error: rustix::io::Errno| FileError::Unreadable {
            name: name.to_string(),
            source: error.into(),
        };
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::openat(CWD, &self.root, directory, Mode::empty()).map_err(|error| {
                if error == rustix::io::Errno::NOENT { missing() } else { unreadable(error) }
            })?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&root, name.as_str(), flags, Mode::empty(), beneath) {
            Ok(descriptor) => OpenFile::new(name.as_str(), descriptor.into()),
            Err(error) if error == rustix::io::Errno::XDEV || error == rustix::io::Errno::LOOP => {
                Err(FileError::Outside { name: name.to_string(), root: self.root.clone() })
            }
            Err(error)
                if error == rustix::io::Errno::NOENT || error == rustix::io::Errno::NOTDIR =>
            {
                Err(missing())
            }
            Err(error) => Err(unreadable(error)),
        }
    }

    /// The SHA-256 of the file as it is now, if it is known; else reading it
    /// begins in the background, and [`Digest::Pending`] is the answer.
    pub fn digest(&self, file: &OpenFile) -> Digest {
        self.reading(file).borrow().clone()
    }

    /// The SHA-256 of the file as it is now, waited for no longer than `limit`.
    pub async fn digest_within(&self, file: &OpenFile, limit: Duration) -> Digest {
        let mut reading = self.reading(file);
        let known = reading.wait_for(|digest| *digest != Digest::Pending);
        match tokio::time::timeout(limit, known).await {
            Ok(Ok(digest)) => digest.clone(),
            Ok(Err(_)) => Digest::Unreadable("reading it was broken off".to_owned()),
            Err(_) => Digest::Pending,
        }
    }

    fn reading(&self, file: &OpenFile) -> watch::Receiver<Digest> {
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = digests.get(&file.version)
            && !matches!(*reading.borrow(), Digest::Unreadable(_))
        {
            return reading.clone();
        }
        // The same file in another state is of no more use, and one that could
        // not be read is tried again: a disk may recover.
        let Version { device, inode, .. } = file.version;
        digests.retain(|version, _| (version.device, version.inode) != (device, inode));
        let (report, reading) = watch::channel(Digest::Pending);
        let begun = file.file.try_clone().and_then(|copy| {
            let read = move || report.send_replace(hash(&copy));
            std::thread::Builder::new().name("digest".to_owned()).spawn(read)
        });
        match begun {
            Ok(_) => {
                digests.insert(file.version, reading.clone());
                reading
            }
            Err(error) => watch::channel(Digest::Unreadable(error.to_string())).1,
        }
    }
}

/// Reads at given places, since the descriptor is shared.
fn hash(file: &fs::File) -> Digest {
    use std::os::unix::fs::FileExt;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 18];
    let mut place = 0;
    loop {
        match file.read_at(&mut piece, place) {
            Ok(0) => return Digest::Known(Checksum(hasher.finalize().into())),
            Ok(count) => {
                hasher.update(&piece[..count]);
                place += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Digest::Unreadable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn images() -> (tempfile::TempDir, Images) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("images");
        fs::create_dir_all(root.join("a")).expect("made");
        fs::write(directory.path().join("secret"), "secret").expect("written");
        fs::write(root.join("a/vmlinuz"), "kernel").expect("written");
        (directory, Images::new(root))
    }

    fn opened(images: &Images, name: &str) -> Result<OpenFile, FileError> {
        images.open(&name.parse().expect("a name"))
    }

    #[test]
    fn a_file_below_is_opened_also_through_a_link_inside() {
        let (_directory, images) = images();
        symlink("a/vmlinuz", images.root().join("current")).expect("linked");
        for name in ["a/vmlinuz", "current"] {
            assert_eq!(opened(&images, name).expect("there").length, 6);
        }
    }

    #[test]
    fn no_link_leads_out() {
        let (directory, images) = images();
        symlink("../secret", images.root().join("up")).expect("linked");
        symlink(directory.path().join("secret"), images.root().join("absolute")).expect("linked");
        symlink("..", images.root().join("parent")).expect("linked");
        for name in ["up", "absolute", "parent/secret"] {
            let error = opened(&images, name).expect_err(name);
            assert!(matches!(error, FileError::Outside { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn what_is_no_file_is_named() {
        let (_directory, images) = images();
        assert!(matches!(opened(&images, "nope"), Err(FileError::Missing { .. })));
        assert!(matches!(opened(&images, "a/vmlinuz/x"), Err(FileError::Missing { .. })));
        assert!(matches!(opened(&images, "a"), Err(FileError::Irregular(_))));
    }

    #[tokio::test]
    async fn a_file_that_changed_is_hashed_again() {
        let (_directory, images) = images();
        let limit = Duration::from_secs(20);
        let path = images.root().join("a/vmlinuz");
        let first = opened(&images, "a/vmlinuz").expect("there");
        let known = images.digest_within(&first, limit).await;
        // `printf kernel | sha256sum`
        let expected = "6923dd1bc0460082c5d55a831908c24a282860b7f1cd6c2b79cf1bc8857c639c";
        assert_eq!(known, Digest::Known(expected.parse().expect("64 digits")));
        fs::write(&path, "another kernel").expect("written");
        let second = opened(&images, "a/vmlinuz").expect("there");
        assert_ne!(first.entity_tag(), second.entity_tag());
        assert!(second.is_unchanged() && !first.is_unchanged());
        assert_ne!(images.digest_within(&second, limit).await, known);
    }

    /// The open file after something was done with it and its directory.
    fn after(what: impl FnOnce(&Path)) -> (tempfile::TempDir, OpenFile) {
        let (directory, images) = images();
        let path = images.root().join("a/vmlinuz");
        // Times have the grain of the kernel's clock tick.
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        let file = fs::File::options().write(true).open(&path).expect("there");
        file.set_modified(long_ago).expect("set");
        let open = opened(&images, "a/vmlinuz").expect("there");
        let begun = open.file.metadata().expect("there");
        let is_later = || {
            let probe = images.root().join("probe");
            fs::write(&probe, "").expect("written");
            let probe = probe.metadata().expect("there");
            (probe.ctime(), probe.ctime_nsec()) > (begun.ctime(), begun.ctime_nsec())
        };
        while !is_later() {}
        what(&path);
        (directory, open)
    }

    #[test]
    fn another_name_link_mode_or_file_in_its_place_does_not_change_an_open_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let beside = |path: &Path| path.with_extension("new");
        let (_directory, renamed) = after(|path| fs::rename(path, beside(path)).expect("renamed"));
        assert!(renamed.is_unchanged(), "mv vmlinuz vmlinuz.new");
        let (_directory, replaced) = after(|path| {
            fs::write(beside(path), "another").expect("written");
            fs::rename(beside(path), path).expect("renamed");
        });
        assert!(replaced.is_unchanged(), "mv new vmlinuz");
        let (_directory, removed) = after(|path| fs::remove_file(path).expect("removed"));
        assert!(removed.is_unchanged(), "rm vmlinuz");
        let (_directory, linked) = after(|path| fs::hard_link(path, beside(path)).expect("linked"));
        assert!(linked.is_unchanged(), "ln vmlinuz backup");
        let (_directory, opened) = after(|path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o444)).expect("set");
        });
        assert!(opened.is_unchanged(), "chmod 444 vmlinuz");
        assert!(opened.is_unchanged(), "and it stays so");
    }

    #[test]
    fn what_is_written_into_an_open_file_is_noticed_also_with_its_old_time() {
        let with_old_time = |path: &Path, text: &str| {
            let before = path.metadata().expect("there").modified().expect("a time");
            fs::write(path, text).expect("written");
            let file = fs::File::options().write(true).open(path).expect("there");
            file.set_modified(before).expect("set");
        };
        let (_directory, open) = after(|path| fs::write(path, "KERNEL").expect("written"));
        assert!(!open.is_unchanged(), "another time");
        let (_directory, open) = after(|path| with_old_time(path, "longer than it was"));
        assert!(!open.is_unchanged(), "another length");
        let (_directory, open) = after(|path| with_old_time(path, "KERNEL"));
        assert!(!open.is_unchanged(), "cp -p over it");
        // Also when it was renamed before.
        let (directory, open) = after(|path| {
            fs::rename(path, path.with_extension("old")).expect("renamed");
        });
        assert!(open.is_unchanged());
        let path = directory.path().join("images/a/vmlinuz.old");
        let (first, mut tries) = (open.file.metadata().expect("there").ctime_nsec(), 0);
        while open.file.metadata().expect("there").ctime_nsec() == first && tries < 1_000_000 {
            with_old_time(&path, "KERNEL");
            tries += 1;
        }
        assert!(!open.is_unchanged(), "cp -p over it");
    }

    #[tokio::test]
    async fn a_file_that_could_not_be_read_once_is_read_again() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("kernel");
        fs::write(&path, "bytes").expect("written");
        let images = Images::new(directory.path().to_owned());
        let limit = Duration::from_secs(10);
        // Reading from a descriptor for writing is refused, as by a bad disk.
        let blind = fs::File::options().write(true).open(&path).expect("there");
        let blind = OpenFile::new("kernel", blind).expect("a regular file");
        let refused = images.digest_within(&blind, limit).await;
        assert!(matches!(refused, Digest::Unreadable(_)), "{refused:?}");
        let file = images.open(&"kernel".parse().expect("a name")).expect("there");
        let expected = Checksum(Sha256::digest("bytes").into());
        assert_eq!(images.digest_within(&file, limit).await, Digest::Known(expected));
    }
}
