//! InfraKit's RPC client as it is on the wire: HTTP/1.1 on a Unix socket, kept
//! connections that are used again, an end to its patience after 15 seconds.

use std::{
    fmt,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

/// After so long it hangs up.
const TIMEOUT: Duration = Duration::from_secs(15);
/// A connection that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// No more connections than these are kept.
const KEPT: usize = 10;

/// Why there is no result.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The plugin says so.
    Refused(String),
    /// There is no answer.
    Lost(io::Error),
}

impl fmt::Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(message) => formatter.write_str(message),
            Self::Lost(error) => write!(formatter, "Post \"http://h\": {error}"),
        }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// The client of one plugin.
pub(crate) struct Client {
    pub(super) socket: PathBuf,
    idle: Mutex<Vec<(Instant, UnixStream)>>,
}

impl Client {
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), idle: Mutex::default() }
    }

    /// The result of a method.
    ///
    /// # Errors
    ///
    /// What the plugin refuses with, or that there was no answer in time.
    pub(crate) fn call(&self, method: &str, params: &Value) -> Result<Value, Failed> {
        // The largest are what a plugin must not round: up to 2^63-1.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = (u64::MAX >> 1).wrapping_sub(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1);
        // As Go's encoder writes strings.
        let params = params
            .to_string()
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026");
        let body =
            format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params},"id":{id}}}"#);
        let answer = self.exchange(&body)?;
        assert!(answer.contains(&format!("\"id\":{id}")), "{method}: id {id} in {answer}");
        let answer: Value = serde_json::from_str(&answer).map_err(io::Error::from)?;
        if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
            let message = error["message"].as_str().unwrap_or_default();
            return Err(Failed::Refused(message.to_owned()));
        }
        match answer.get("result") {
            None | Some(Value::Null) => Err(Failed::Refused("result is null".to_owned())),
            Some(result) => Ok(result.clone()),
        }
    }

    fn exchange(&self, body: &str) -> io::Result<String> {
        let begun = Instant::now();
        // A kept connection that turns out dead is an error: nothing is sent twice.
        let mut stream = match self.kept() {
            Some(stream) => stream,
            None => UnixStream::connect(&self.socket)?,
        };
        stream.set_write_timeout(Some(TIMEOUT))?;
        let head = format!(
            "POST / HTTP/1.1\r\nHost: h\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\n\
             Content-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes())?;
        let answer = read_answer(&mut stream, begun + TIMEOUT)?;
        let mut idle = self.idle.lock().expect("no panic");
        if idle.len() < KEPT {
            idle.push((Instant::now(), stream));
        }
        Ok(answer)
    }

    fn kept(&self) -> Option<UnixStream> {
        let mut idle = self.idle.lock().expect("no panic");
        idle.retain(|(since, _)| since.elapsed() < IDLE);
        idle.pop().map(|(_, stream)| stream)
    }
}

fn read_answer(stream: &mut UnixStream, until: Instant) -> io::Result<String> {
    let mut read = Vec::new();
    let mut piece = [0; 16384];
    loop {
        if let Some(body) = whole_body(&read) {
            return Ok(String::from_utf8_lossy(body).into_owned());
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let text = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "EOF")),
            count => read.extend_from_slice(&piece[..count]),
        }
    }
}

/// The body, once it has come to its end.
fn whole_body(read: &[u8]) -> Option<&[u8]> {
    let end = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.expect("answers have a length").trim().parse().expect("a number");
    read[end..].get(..length)
}
