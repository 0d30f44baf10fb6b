//! The load of HTTP: clients that fetch a file again and again and look at all of it or
//! have the kernel throw it away, one that asks for a script after the other, and wrk.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::net::RecvFlags;

use crate::lab::{CLIENT, Lab, SERVER};

/// What a client does with what it receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// Copies it, as a real machine does, and compares every octet.
    Compared,
    /// Counts it; the kernel does not copy it (`MSG_TRUNC`), so that the server and
    /// not the client is the limit.
    Dropped,
}

/// A connection that stays.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The head of an answer, and what of its body came with it.
struct Head {
    status: u16,
    length: usize,
    first: usize,
    received: usize,
}

impl Connection {
    pub(crate) fn open(from: Ipv4Addr) -> std::io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect(&SocketAddr::from((SERVER, 80)).into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream, buffer: vec![0; 256 << 10] })
    }

    /// Asks, and reads as far as the head goes.
    fn ask(&mut self, path: &str) -> std::io::Result<Head> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {SERVER}\r\n\r\n");
        self.stream.write_all(request.as_bytes())?;
        let mut received = 0;
        loop {
            let count = self.stream.read(&mut self.buffer[received..])?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            received += count;
            let mut fields = [httparse::EMPTY_HEADER; 32];
            let mut head = httparse::Response::new(&mut fields);
            let parsed = head.parse(&self.buffer[..received]).expect("it is HTTP");
            let httparse::Status::Complete(first) = parsed else { continue };
            let is_it =
                |field: &&httparse::Header| field.name.eq_ignore_ascii_case("content-length");
            let length = head.headers.iter().find(is_it).map(|field| field.value);
            let length = std::str::from_utf8(length.expect("a length")).expect("digits");
            let length = length.parse().expect("digits");
            return Ok(Head { status: head.code.unwrap_or_default(), length, first, received });
        }
    }

    /// The status and the whole body.
    pub(crate) fn get(&mut self, path: &str) -> std::io::Result<(u16, Vec<u8>)> {
        let Head { status, length, first, received } = self.ask(path)?;
        let mut body = self.buffer[first..received].to_vec();
        let begun = body.len();
        body.resize(length, 0);
        self.stream.read_exact(&mut body[begun..])?;
        Ok((status, body))
    }

    /// Fetches the file once.
    fn fetch(&mut self, path: &str, file: &[u8], receiving: Receiving) {
        let Head { status, length, first, received } = self.ask(path).expect("an answer");
        assert_eq!((status, length), (200, file.len()), "{path}");
        let mut place = received - first;
        assert!(self.buffer[first..received] == file[..place], "the beginning is another");
        while place < length {
            let count = match receiving {
                Receiving::Compared => {
                    let count = self.stream.read(&mut self.buffer).expect("more");
                    let expected = &file[place..place + count];
                    assert!(&self.buffer[..count] == expected, "another content at {place}");
                    count
                }
                Receiving::Dropped => {
                    let most = (length - place).min(self.buffer.len());
                    let buffer = &mut self.buffer[..most];
                    rustix::net::recv(&self.stream, buffer, RecvFlags::TRUNC).expect("more").1
                }
            };
            assert!(count > 0, "it ends after {place} of {length} octets");
            place += count;
        }
        assert_eq!(place, length, "more than was announced");
    }
}

/// Whether the path is answered 200.
pub(crate) fn is_answered(path: &str) -> bool {
    let asked = Connection::open(CLIENT).and_then(|mut connection| connection.get(path));
    let is_answered = asked.is_ok_and(|(status, _)| status == 200);
    if !is_answered {
        thread::sleep(Duration::from_millis(5));
    }
    is_answered
}

/// The octets that were fetched, the time of all, and the times of the transfers.
pub(crate) struct Fetched {
    pub(crate) octets: u64,
    pub(crate) took: Duration,
    pub(crate) transfers: Vec<Duration>,
}

/// Each client, an address and a path, fetches the file until the time is over, and to
/// the end of it.
pub(crate) fn fetch(
    clients: &[(Ipv4Addr, String)],
    file: &[u8],
    (receiving, time): (Receiving, Duration),
) -> Fetched {
    let begun = Instant::now();
    let client = |(from, path): &(Ipv4Addr, String)| {
        let mut connection = Connection::open(*from).expect("a connection");
        let mut transfers = Vec::new();
        while transfers.is_empty() || begun.elapsed() < time {
            let asked = Instant::now();
            connection.fetch(path, file, receiving);
            transfers.push(asked.elapsed());
        }
        transfers
    };
    let mut transfers: Vec<Duration> = thread::scope(|scope| {
        let threads: Vec<_> = clients.iter().map(|own| scope.spawn(move || client(own))).collect();
        let ended = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        ended.flatten().collect()
    });
    transfers.sort();
    let octets = transfers.len() as u64 * file.len() as u64;
    Fetched { octets, took: begun.elapsed(), transfers }
}

/// What wrk says.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) rate: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Answers in all.
    pub(crate) requests: u64,
}

/// wrk for so long; a client of our own asks, too, and compares every answer.
pub(crate) fn wrk(
    lab: &Lab,
    connections: usize,
    path: &str,
    (expected, time): (&[u8], Duration),
) -> Said {
    let ended = Arc::new(AtomicBool::new(false));
    let checked = thread::scope(|scope| {
        let checker = scope.spawn(|| {
            let mut connection = Connection::open(CLIENT).expect("a connection");
            let mut count = 0;
            while !ended.load(Ordering::Relaxed) {
                let (status, body) = connection.get(path).expect("an answer under load");
                assert_eq!((status, body.as_slice()), (200, expected), "answer {count}");
                count += 1;
                thread::sleep(Duration::from_millis(5));
            }
            count
        });
        let mut wrk = Command::new(lab.program("usr/bin/wrk"));
        lab.with_libraries(&mut wrk);
        wrk.args(["--latency", "--threads", "2", "--connections", &connections.to_string()]);
        wrk.args(["--duration", &format!("{}s", time.as_secs().max(1))]);
        let output = wrk.arg(format!("http://{SERVER}{path}")).output().expect("wrk starts");
        ended.store(true, Ordering::Relaxed);
        (checker.join().expect("no panic"), String::from_utf8_lossy(&output.stdout).into_owned())
    });
    let (count, text) = checked;
    assert!(count > 10, "only {count} answers were compared");
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    let of = |start: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(start));
        line.unwrap_or_else(|| panic!("no `{start}` in {text}")).trim().to_owned()
    };
    let requests =
        text.lines().find_map(|line| line.split_once(" requests in ")?.0.trim().parse().ok());
    Said {
        rate: of("Requests/sec:").parse().expect("a number"),
        p50: milliseconds(&of("50%")),
        p99: milliseconds(&of("99%")),
        requests: requests.expect("a number"),
    }
}

/// As wrk writes them: `81.00us`, `1.20ms`, `1.00s`.
fn milliseconds(text: &str) -> f64 {
    for (unit, factor) in [("us", 1e-3), ("ms", 1.0), ("s", 1e3)] {
        if let Some(Ok(number)) = text.strip_suffix(unit).map(str::parse::<f64>) {
            return number * factor;
        }
    }
    panic!("no time: {text}");
}

/// One connection, one question after the other, each answer as expected: prints the
/// seconds of all, p50 and p99 in milliseconds, and how many. It runs beside the server.
pub(crate) fn ask_in_turn(from: Ipv4Addr, (path, marks): (&str, &str)) {
    const TURNS: usize = 5000;
    let mut connection = Connection::open(from).expect("a connection");
    let (status, expected) = connection.get(path).expect("an answer");
    let text = String::from_utf8_lossy(&expected);
    assert!(status == 200 && text.contains(marks), "{status}, no {marks}: {text}");
    let mut times = Vec::with_capacity(TURNS);
    let begun = Instant::now();
    for _ in 0..TURNS {
        let asked = Instant::now();
        let (status, body) = connection.get(path).expect("an answer");
        times.push(asked.elapsed());
        assert_eq!((status, &body), (200, &expected));
    }
    let took = begun.elapsed().as_secs_f64();
    times.sort();
    let at = |part: usize| times[TURNS * part / 100].as_secs_f64() * 1e3;
    println!("{took} {} {} {TURNS}", at(50), at(99));
}
