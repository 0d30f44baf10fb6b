//! What passes on the lab's bridge, and when: a boot as packets, from the first
//! DISCOVER to the script.
//!
//! A request is a packet of the machine that wants an answer: of DHCP, a TFTP read or
//! acknowledgement, an HTTP request. Its answer is the next packet of the server to the
//! same port, or of the same DHCP transaction.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use etherparse::{SlicedPacket, TransportSlice};

use crate::lab::{Lab, within};

/// The card of `br0`.
const SERVER: [u8; 6] = [2, 0, 0, 0, 0, 1];

const PCAP_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// Of one boot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// From the first DISCOVER to the request whose answer is the script.
    pub(crate) to_script: Duration,
    /// From requests to their answers, until then, in all.
    pub(crate) server: Duration,
    /// The longest of these.
    pub(crate) longest: Duration,
    /// How many of these there were.
    pub(crate) answers: u32,
}

/// What passes on the bridge; it ends with this value.
pub(crate) struct Capture {
    process: Child,
    file: PathBuf,
    /// How much of the file was heard.
    heard: usize,
}

impl Capture {
    pub(crate) fn start(lab: &Lab) -> Self {
        let (file, said) = (lab.folder().join("wire.pcap"), lab.folder().join("tcpdump.said"));
        let log = File::create(&said).expect("made");
        let process = lab
            .command("tcpdump")
            .args(["-i", "br0", "-U", "--immediate-mode", "-Z", "root", "-B", "16384"])
            .args(["-w", &file.display().to_string(), "ip"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nsenter starts");
        let listens = within(Duration::from_secs(10), || {
            fs::read_to_string(&said).ok()?.contains("listening on").then_some(())
        });
        assert!(listens.is_some(), "tcpdump does not listen");
        Self { process, file, heard: PCAP_HEADER }
    }

    /// Waits for the next boot of the machine, until it has its script.
    ///
    /// # Panics
    ///
    /// When it has none in time.
    pub(crate) fn boot(&mut self, limit: Duration, mac: &str) -> Times {
        let mut boot = Boot::new(mac);
        let until = Instant::now() + limit;
        loop {
            let bytes = fs::read(&self.file).unwrap_or_default();
            while let Some((at, frame)) = record(&bytes, &mut self.heard) {
                boot.hear(at, frame);
                if let Some(times) = boot.done {
                    return times;
                }
            }
            assert!(Instant::now() < until, "no script in {limit:?}: {boot:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The record at this place, if all of it is written.
fn record<'a>(bytes: &'a [u8], place: &mut usize) -> Option<(Duration, &'a [u8])> {
    let number = |from: usize| {
        let four = bytes.get(*place + from..*place + from + 4)?;
        four.try_into().ok().map(u32::from_le_bytes)
    };
    let at = Duration::new(u64::from(number(0)?), number(4)? * 1000);
    let length = usize::try_from(number(8)?).ok()?;
    let frame = bytes.get(*place + RECORD_HEADER..*place + RECORD_HEADER + length)?;
    *place += RECORD_HEADER + length;
    Some((at, frame))
}

/// What an answer is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asked {
    Transaction([u8; 4]),
    Udp(u16),
    Tcp(u16),
}

/// What is a word of the machine, or of the server.
struct Word<'a> {
    asked: Asked,
    /// What is said, for people.
    what: String,
    payload: &'a [u8],
}

#[derive(Debug)]
struct Boot {
    /// What the script has in it that is this machine's.
    own: String,
    is_traced: bool,
    begun: Option<Duration>,
    waiting: HashMap<Asked, Duration>,
    /// When each port asked for its file.
    files: HashMap<Asked, Duration>,
    answers: u32,
    server: Duration,
    longest: Duration,
    done: Option<Times>,
}

impl Boot {
    fn new(mac: &str) -> Self {
        Self {
            own: format!("lab={mac}"),
            is_traced: std::env::var_os("TRACE").is_some_and(|value| !value.is_empty()),
            begun: None,
            waiting: HashMap::new(),
            files: HashMap::new(),
            answers: 0,
            server: Duration::ZERO,
            longest: Duration::ZERO,
            done: None,
        }
    }

    fn hear(&mut self, at: Duration, frame: &[u8]) {
        let Some(word) = word(frame) else { return };
        let is_request = frame.get(6..12) != Some(&SERVER);
        if self.begun.is_none() && is_request && word.what == "DISCOVER" {
            self.begun = Some(at);
        }
        let Some(begun) = self.begun else { return };
        if self.is_traced && !(word.what.starts_with("DATA") || word.what == "ACK of a block") {
            let who = if is_request { "machine" } else { "server" };
            println!("    {:8.3} {who}: {}", at.saturating_sub(begun).as_secs_f64(), word.what);
        }
        if is_request {
            // What is asked again has waited from the first time on.
            self.waiting.entry(word.asked).or_insert(at);
            if ["GET ", "RRQ "].iter().any(|verb| word.what.starts_with(verb)) {
                self.files.insert(word.asked, at);
            }
            return;
        }
        if let Some(since) = self.waiting.remove(&word.asked) {
            let took = at.saturating_sub(since);
            self.server += took;
            self.longest = self.longest.max(took);
            self.answers += 1;
        }
        let is_script =
            word.payload.windows(self.own.len()).any(|part| part == self.own.as_bytes());
        if let (true, Some(asked_at)) = (is_script, self.files.get(&word.asked)) {
            self.done = Some(Times {
                to_script: asked_at.saturating_sub(begun),
                server: self.server,
                longest: self.longest,
                answers: self.answers,
            });
        }
    }
}

/// What a frame says; nothing if it asks nothing and answers nothing.
fn word(frame: &[u8]) -> Option<Word<'_>> {
    let is_request = frame.get(6..12)? != SERVER;
    match SlicedPacket::from_ethernet(frame).ok()?.transport? {
        TransportSlice::Udp(udp) => {
            let payload = udp.payload();
            let (from, to) = (udp.source_port(), udp.destination_port());
            let (client, server) = if is_request { (from, to) } else { (to, from) };
            if server == 67 || (server == 4011 && payload.len() >= 240) {
                let transaction = payload.get(4..8)?.try_into().ok()?;
                let what = dhcp(payload)?.to_owned();
                return Some(Word { asked: Asked::Transaction(transaction), what, payload });
            }
            Some(Word { asked: Asked::Udp(client), what: tftp(payload)?, payload })
        }
        TransportSlice::Tcp(tcp) => {
            let payload = tcp.payload();
            let line = payload.split(|byte| *byte == b'\r').next()?;
            let client = if is_request { tcp.source_port() } else { tcp.destination_port() };
            let what = String::from_utf8_lossy(line).into_owned();
            (!payload.is_empty()).then_some(Word { asked: Asked::Tcp(client), what, payload })
        }
        _ => None,
    }
}

/// Option 53.
fn dhcp(payload: &[u8]) -> Option<&'static str> {
    let mut options = payload.get(240..)?;
    while let [code, length, rest @ ..] = options {
        if *code == 53 {
            return Some(match rest.first()? {
                1 => "DISCOVER",
                2 => "OFFER",
                3 => "REQUEST",
                5 => "DHCP ACK",
                6 => "NAK",
                _ => "another DHCP message",
            });
        }
        options = rest.get(usize::from(*length)..)?;
    }
    None
}

fn tftp(payload: &[u8]) -> Option<String> {
    let (opcode, rest) = payload.split_first_chunk::<2>()?;
    Some(match u16::from_be_bytes(*opcode) {
        1 => {
            let name = rest.split(|byte| *byte == 0).next()?;
            format!("RRQ {}", String::from_utf8_lossy(name))
        }
        3 => "DATA".to_owned(),
        4 => "ACK of a block".to_owned(),
        // It wants no answer, and is the server's only when it refuses a file.
        5 => return None,
        6 => "OACK".to_owned(),
        _ => return None,
    })
}
