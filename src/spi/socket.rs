//! The plugin's files in the plugins directory: the socket, `NAME.pid` and
//! `NAME.listen`, by which InfraKit finds and stops a plugin.
//!
//! Knows nothing of what is said over the socket.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, fchmod},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

/// The longest path of a socket in bytes: `sun_path` with its ending zero has
/// 108 (unix(7)).
const LONGEST_PATH: usize = 107;

/// How many clients may wait to be let in.
const BACKLOG: i32 = 128;

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The name is no plain file name, or one that InfraKit takes for something else.
    #[error(
        "`{0}` is no name for a plugin: take letters, digits, hyphens, dots and underscores, and no ending .listen or .pid"
    )]
    Name(String),
    /// The path does not fit into a socket address.
    #[error("the path of the socket, {}, is {} bytes long; {LONGEST_PATH} are the most", .0.display(), .0.as_os_str().len())]
    TooLong(PathBuf),
    /// Another process answers there.
    #[error("another process is listening on {}; stop it or take another name", .0.display())]
    Live(PathBuf),
    /// There is a file that is no socket.
    #[error("{} is there and is no socket; it is left alone", .0.display())]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("cannot {what} {}", path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// The files of a running plugin; they go with this value, if they are still
/// the ones that were made.
#[derive(Debug)]
pub(super) struct Presence {
    directory: PathBuf,
    name: String,
    /// Each file that was made. Held open, since the number of an inode that is
    /// gone is soon that of another file.
    made: Vec<(PathBuf, File)>,
}

impl Presence {
    /// Makes the directory, binds the socket, and writes the process's ID.
    pub(super) fn begin(directory: &Path, name: &str) -> Result<(Self, UnixListener), SocketError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_reserved = name.ends_with(".listen") || name.ends_with(".pid");
        if name.is_empty() || name.starts_with('.') || is_reserved || !name.bytes().all(is_plain) {
            return Err(SocketError::Name(name.to_owned()));
        }
        let path = directory.join(name);
        if path.as_os_str().as_bytes().len() > LONGEST_PATH {
            return Err(SocketError::TooLong(path));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(|source| system("make the directory", directory, source))?;
        let _lock = lock(directory)?;
        remove_stale(&path)?;
        let listener = bind(&path).map_err(|error| system("listen on", &path, error.into()))?;
        let mut presence =
            Self { directory: directory.to_owned(), name: name.to_owned(), made: Vec::new() };
        presence.remember(path)?;
        // No line break: InfraKit's `plugin stop` does not take one.
        presence.write("pid", 0o644, &std::process::id().to_string())?;
        Ok((presence, listener))
    }

    /// Writes `NAME.listen`, by which InfraKit finds the TCP socket. Only our
    /// own user may read it, since the URL may have a token in it.
    pub(super) fn announce(&mut self, url: &str) -> Result<(), SocketError> {
        self.write("listen", 0o600, url)
    }

    /// Puts the whole file there at once, over one that an ended process left.
    fn write(&mut self, ending: &str, mode: u32, content: &str) -> Result<(), SocketError> {
        let path = self.directory.join(format!("{}.{ending}", self.name));
        let draft = self.directory.join(format!(".{}.{ending}.{}", self.name, std::process::id()));
        let written = (|| {
            let _ = fs::remove_file(&draft);
            let mut options = File::options();
            let mut file = options.write(true).create_new(true).mode(mode).open(&draft)?;
            io::Write::write_all(&mut file, content.as_bytes())?;
            fs::rename(&draft, &path)
        })();
        written.map_err(|source| system("write", &path, source))?;
        self.remember(path)
    }

    fn remember(&mut self, path: PathBuf) -> Result<(), SocketError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => {
                self.made.push((path, file.into()));
                Ok(())
            }
            Err(error) => Err(system("look at", &path, error.into())),
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // Without the lock another daemon could put its socket there between
        // the look and the removal; if it is refused, that is all that is risked.
        let _lock = lock(&self.directory);
        for (path, made) in &self.made {
            let is_ours = match (fs::symlink_metadata(path), made.metadata()) {
                (Ok(found), Ok(made)) => (found.dev(), found.ino()) == (made.dev(), made.ino()),
                (Ok(_) | Err(_), _) => false,
            };
            if is_ours {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Keeps other daemons from looking and binding in this directory meanwhile.
///
/// Two that start at once would both find a stale socket, and the second would
/// remove what the first has just bound. A lock on the directory itself leaves
/// no file behind, and ends with its holder.
fn lock(directory: &Path) -> Result<File, SocketError> {
    let refused = |source| system("lock", directory, source);
    let file = File::open(directory).map_err(refused)?;
    file.lock().map_err(refused)?;
    Ok(file)
}

/// Removes a socket that nobody answers on.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let looked = |source| system("look at", path, source);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(looked(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match connect(path) {
        Err(Errno::CONNREFUSED) => {
            fs::remove_file(path).map_err(|source| system("remove the stale", path, source))
        }
        Err(Errno::NOENT) => Ok(()),
        // AGAIN: it listens, and its queue is full.
        Ok(()) | Err(Errno::AGAIN) => Err(SocketError::Live(path.to_owned())),
        Err(error) => Err(system("connect to", path, error.into())),
    }
}

fn connect(path: &Path) -> Result<(), Errno> {
    // Without waiting: a process that hangs would hang us, too.
    let socket = stream(SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
}

fn bind(path: &Path) -> Result<UnixListener, Errno> {
    let socket = stream(SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    // The mode of the socket before it is bound is that of the file, so there
    // is no moment in which others could connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn stream(flags: SocketFlags) -> Result<std::os::fd::OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

fn system(what: &'static str, path: &Path, source: io::Error) -> SocketError {
    SocketError::System { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::PermissionsExt, net::UnixStream};

    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_files_are_there_while_the_plugin_is_and_only_then() {
        let parent = directory();
        let plugins = parent.path().join("a/plugins");
        let (mut presence, _listener) = Presence::begin(&plugins, "boot").expect("free");
        presence.announce("http://127.0.0.1:1/x").expect("written");
        assert_eq!(names(&plugins), ["boot", "boot.listen", "boot.pid"]);
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&plugins.join("boot")), 0o600);
        assert_eq!(mode(&plugins.join("boot.listen")), 0o600);
        assert_eq!(mode(&plugins) & 0o700, 0o700);
        let pid = fs::read_to_string(plugins.join("boot.pid")).expect("there");
        assert_eq!(pid, std::process::id().to_string());
        UnixStream::connect(plugins.join("boot")).expect("it listens");
        drop(presence);
        assert_eq!(names(&plugins), [""; 0]);
    }

    #[test]
    fn a_live_socket_is_left_alone_and_named() {
        let directory = directory();
        let path = directory.path().join("boot");
        let _other = UnixListener::bind(&path).expect("free");
        let error = Presence::begin(directory.path(), "boot").expect_err("it is live");
        assert!(matches!(&error, SocketError::Live(live) if *live == path), "{error}");
        UnixStream::connect(&path).expect("it still listens");
        assert_eq!(names(directory.path()), ["boot"]);
    }

    #[test]
    fn a_stale_socket_and_its_pid_file_are_replaced() {
        let directory = directory();
        let path = directory.path().join("boot");
        drop(UnixListener::bind(&path).expect("free"));
        fs::write(directory.path().join("boot.pid"), "1").expect("written");
        let (presence, _listener) = Presence::begin(directory.path(), "boot").expect("stale");
        UnixStream::connect(&path).expect("it listens");
        drop(presence);
        assert_eq!(names(directory.path()), [""; 0]);
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let directory = directory();
        fs::write(directory.path().join("boot"), "precious").expect("written");
        let error = Presence::begin(directory.path(), "boot").expect_err("a file");
        assert!(matches!(error, SocketError::NotASocket(_)), "{error}");
        assert_eq!(fs::read(directory.path().join("boot")).expect("there"), b"precious");
    }

    #[test]
    fn files_of_a_successor_stay() {
        let directory = directory();
        let (presence, listener) = Presence::begin(directory.path(), "boot").expect("free");
        drop(listener);
        let (_successor, _listener) = Presence::begin(directory.path(), "boot").expect("stale");
        drop(presence);
        assert_eq!(names(directory.path()), ["boot", "boot.pid"]);
        UnixStream::connect(directory.path().join("boot")).expect("the successor listens");
    }

    #[test]
    fn of_many_that_start_at_once_on_a_stale_socket_one_serves() {
        let directory = directory();
        drop(UnixListener::bind(directory.path().join("boot")).expect("free"));
        let started: Vec<_> = std::thread::scope(|scope| {
            let begin = || Presence::begin(directory.path(), "boot");
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(begin)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(started.iter().filter(|one| one.is_ok()).count(), 1);
        UnixStream::connect(directory.path().join("boot")).expect("the one listens");
    }

    #[test]
    fn a_path_or_name_that_cannot_be_is_named() {
        let directory = directory();
        let long = directory.path().join("x".repeat(100));
        let error = Presence::begin(&long, "boot").expect_err("too long");
        assert!(error.to_string().contains("107 are the most"), "{error}");
        for name in ["", ".", "..", "a/b", "x.listen", "x.pid", "a b", "%zz"] {
            let error = Presence::begin(directory.path(), name).expect_err(name);
            assert!(matches!(error, SocketError::Name(_)), "{error}");
        }
        assert_eq!(names(directory.path()), [""; 0]);
    }
}
