//! A daemon to talk to: its directories, its process, and what it answers.
//!
//! Knows the command line, the plugins directory and HTTP/1.1; knows no method.
// Each test file uses its own part of it.
#![allow(dead_code)]

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Longer than anything here takes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The name of the plugin, unless a test says otherwise.
pub(crate) const NAME: &str = "remoteboot";

/// The directories of a daemon; they stay when it ends, and go with this.
pub(crate) struct Home {
    root: tempfile::TempDir,
}

impl Home {
    /// Empty directories, but for a kernel called `vmlinuz` and an initrd.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let home = Self { root };
        fs::create_dir(home.images()).expect("made");
        fs::write(home.images().join("vmlinuz"), "kernel").expect("written");
        fs::write(home.images().join("initrd.img"), "initrd").expect("written");
        home
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.path().join("images")
    }

    pub(crate) fn plugins(&self) -> PathBuf {
        self.root.path().join("plugins")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.plugins().join(NAME)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.root.path().join("log")).unwrap_or_default()
    }

    /// Starts a daemon and waits until it answers.
    pub(crate) fn start(&self, arguments: &[&str]) -> Daemon {
        let mut child = self.spawn(arguments);
        let until = Instant::now() + LIMIT;
        while UnixStream::connect(self.socket()).is_err() {
            let ended = child.try_wait().expect("a child of ours");
            assert!(ended.is_none(), "it ended at once: {ended:?}\n{}", self.log());
            assert!(Instant::now() < until, "no socket after {LIMIT:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        Daemon { child, socket: self.socket() }
    }

    /// Starts one that is expected to refuse, and waits for its end.
    pub(crate) fn start_in_vain(&self, arguments: &[&str]) -> ExitStatus {
        wait(&mut self.spawn(arguments))
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.root.path().join("log"))
            .expect("a log");
        Command::new(env!("CARGO_BIN_EXE_remoteboot"))
            .arg("--state-dir")
            .arg(self.state())
            .arg("--images")
            .arg(self.images())
            .args(["--name", NAME])
            .args(arguments)
            .env("INFRAKIT_PLUGINS_DIR", self.plugins())
            .env_remove("INFRAKIT_HOME")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("the daemon starts")
    }
}

/// A running daemon; it is killed with this value.
pub(crate) struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The result of a method, or its error object.
    pub(crate) fn call(&self, method: &str, params: Value) -> Result<Value, Value> {
        let body = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
        outcome(&self.post(body.to_string().as_bytes()))
    }

    /// The answer to a call with this body.
    pub(crate) fn post(&self, body: &[u8]) -> Answer {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        self.exchange(&[head.as_bytes(), body].concat())
    }

    /// A connection of its own.
    pub(crate) fn connect(&self) -> UnixStream {
        connect(&self.socket)
    }

    /// The answer to these bytes on a connection of their own.
    pub(crate) fn exchange(&self, request: &[u8]) -> Answer {
        let mut stream = connect(&self.socket);
        // What it does not read to the end, it may close on us.
        let _ = stream.write_all(request);
        answer_of(&mut stream)
    }

    /// As the operating system does when memory is short.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("a child of ours");
        wait(&mut self.child);
    }

    /// Waits for the end that somebody else has asked for.
    pub(crate) fn ended(mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// As `infrakit plugin stop` does.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let pid = self.pid().to_string();
        let sent = Command::new("/bin/kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(sent.success());
        wait(&mut self.child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The result of a JSON-RPC answer, or its error object.
pub(crate) fn outcome(answer: &Answer) -> Result<Value, Value> {
    let body: Value = serde_json::from_str(&answer.body)
        .unwrap_or_else(|error| panic!("{error} in answer {answer:?}"));
    match body.get("error") {
        Some(error) if !error.is_null() => Err(error.clone()),
        Some(_) | None => Ok(body["result"].clone()),
    }
}

pub(crate) fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket");
    stream.set_write_timeout(Some(LIMIT)).expect("a socket");
    stream
}

/// Reads one answer, to its end by length or by the end of the connection.
pub(crate) fn answer_of(stream: &mut impl Read) -> Answer {
    let mut read = Vec::new();
    let end_of_head = loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).expect("an answer in time");
        assert!(count > 0, "it closed after {:?}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&piece[..count]);
    };
    let head = String::from_utf8(read[..end_of_head].to_vec()).expect("text");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let mut body = read[end_of_head + 4..].to_vec();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    match length.map(|(_, value)| value.parse::<usize>().expect("a length")) {
        Some(length) => {
            let mut rest = vec![0; length.saturating_sub(body.len())];
            // The answer to HEAD has a length and no body.
            if stream.read_exact(&mut rest).is_ok() {
                body.extend_from_slice(&rest);
            }
        }
        None => {
            stream.read_to_end(&mut body).expect("to the end");
        }
    }
    Answer {
        status: status.parse().expect("a number"),
        headers,
        body: String::from_utf8(body).expect("text"),
    }
}

/// Waits for the thing itself.
pub(crate) fn eventually<Thing>(what: &str, mut look: impl FnMut() -> Option<Thing>) -> Thing {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(thing) = look() {
            return thing;
        }
        assert!(Instant::now() < until, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    eventually("the end of the daemon", || child.try_wait().expect("a child of ours"))
}
