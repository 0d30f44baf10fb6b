//! The load of TFTP: so many clients at a time fetch one file, again and again, and
//! compare every octet of it.

use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{net::UdpSocket, task::LocalSet};

use crate::lab::{CLIENT, SERVER};

/// The file, by a name that the daemon knows.
pub(crate) const FILE: &str = "undionly.kpxe";

/// How long a client waits before it repeats itself.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) block: usize,
    pub(crate) window: u16,
    /// After which no transfer begins.
    pub(crate) time: Duration,
    /// How many of a thousand blocks are lost on the way.
    pub(crate) lost: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) octets: u64,
    pub(crate) took: Duration,
    /// From each request to the last block.
    pub(crate) transfers: Vec<Duration>,
    pub(crate) asked_again: u64,
    /// What was agreed on last.
    pub(crate) agreed: (usize, u16),
}

/// Whether a server answers a request at once.
pub(crate) fn is_answered() -> bool {
    let socket = std::net::UdpSocket::bind((CLIENT, 0)).expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
    let asked = socket.send_to(&request(512, 1), (SERVER, 69));
    let mut answer = [0; 1500];
    let Ok((_, from)) = asked.and_then(|_| socket.recv_from(&mut answer)) else { return false };
    // An ERROR ends it.
    let _ = socket.send_to(&[0, 5, 0, 0, 0], from);
    answer[1] == 6 || answer[1] == 3
}

pub(crate) fn run(load: Load, file: &Rc<Vec<u8>>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let begun = Instant::now();
    let clients = LocalSet::new();
    let handles: Vec<_> = (0..load.clients)
        .map(|number| clients.spawn_local(client(load, Rc::clone(file), begun, number as u32)))
        .collect();
    let mut all = Outcome::default();
    runtime.block_on(clients.run_until(async {
        for handle in handles {
            let own = handle.await.expect("a client does not panic");
            all.octets += own.octets;
            all.transfers.extend(own.transfers);
            all.asked_again += own.asked_again;
            all.agreed = own.agreed;
        }
    }));
    all.took = begun.elapsed();
    all.transfers.sort();
    all
}

async fn client(load: Load, file: Rc<Vec<u8>>, begun: Instant, number: u32) -> Outcome {
    let mut own = Outcome::default();
    let mut chance = number.wrapping_mul(2_654_435_761) | 1;
    while begun.elapsed() < load.time {
        let asked = Instant::now();
        fetch(load, &file, &mut own, &mut chance).await;
        own.transfers.push(asked.elapsed());
    }
    own
}

/// Fetches the file once.
async fn fetch(load: Load, file: &[u8], own: &mut Outcome, chance: &mut u32) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None);
    let socket = socket.expect("a socket");
    let _ = socket.set_recv_buffer_size(1 << 20);
    socket.set_nonblocking(true).expect("a socket");
    socket.bind(&SocketAddr::from((CLIENT, 0)).into()).expect("a port");
    let socket = UdpSocket::from_std(socket.into()).expect("a socket");
    let mut word = request(load.block, load.window);
    let mut to = SocketAddr::from((SERVER, 69));
    socket.send_to(&word, to).await.expect("sent");
    let mut fetched = Fetched { file, block: 512, window: 1, last: 0, since: 0, gap: false };
    let mut buffer = vec![0; 65_536];
    loop {
        let heard = tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer)).await;
        let Ok(heard) = heard else {
            own.asked_again += 1;
            fetched.gap = false;
            socket.send_to(&word, to).await.expect("sent");
            continue;
        };
        let (length, from) = heard.expect("a socket");
        *chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if (*chance >> 8) % 1000 < load.lost {
            continue;
        }
        to = from;
        let (answer, is_over) = fetched.hear(&buffer[..length]);
        if let Some(answer) = answer {
            word = answer;
            socket.send_to(&word, to).await.expect("sent");
        }
        if is_over {
            own.octets += file.len() as u64;
            own.agreed = (fetched.block, fetched.window);
            return;
        }
    }
}

struct Fetched<'a> {
    file: &'a [u8],
    block: usize,
    window: u16,
    /// The number of the last block that came in order, from 1, without the wrap.
    last: usize,
    /// Blocks since the last ACK.
    since: u16,
    /// Whether an ACK for a gap was sent already.
    gap: bool,
}

impl Fetched<'_> {
    /// What to answer, and whether that was the end.
    fn hear(&mut self, packet: &[u8]) -> (Option<Vec<u8>>, bool) {
        match packet {
            [0, 6, options @ ..] => {
                let texts: Vec<&str> = options
                    .split(|byte| *byte == 0)
                    .map(|text| std::str::from_utf8(text).expect("text"))
                    .collect();
                for pair in texts.chunks_exact(2) {
                    match pair[0].to_lowercase().as_str() {
                        "blksize" => self.block = pair[1].parse().expect("a number"),
                        "windowsize" => self.window = pair[1].parse().expect("a number"),
                        _ => {}
                    }
                }
                (Some(vec![0, 4, 0, 0]), false)
            }
            [0, 3, a, b, content @ ..] => self.block(u16::from_be_bytes([*a, *b]), content),
            _ => panic!("{:?}", String::from_utf8_lossy(packet)),
        }
    }

    fn block(&mut self, number: u16, content: &[u8]) -> (Option<Vec<u8>>, bool) {
        if number != (self.last + 1) as u16 {
            // RFC 7440 §4: the last one in order, once for a gap.
            let answer = (!self.gap).then(|| self.acknowledge());
            self.gap = true;
            return (answer, false);
        }
        let from = self.last * self.block;
        let until = (from + self.block).min(self.file.len());
        assert!(content == &self.file[from..until], "block {} is another", self.last + 1);
        self.last += 1;
        self.since += 1;
        self.gap = false;
        let is_over = content.len() < self.block;
        let is_due = is_over || self.since >= self.window;
        (is_due.then(|| self.acknowledge()), is_over)
    }

    fn acknowledge(&mut self) -> Vec<u8> {
        self.since = 0;
        let [a, b] = (self.last as u16).to_be_bytes();
        vec![0, 4, a, b]
    }
}

fn request(block: usize, window: u16) -> Vec<u8> {
    let window = if window > 1 { format!("windowsize\0{window}\0") } else { String::new() };
    let text = format!("{FILE}\0octet\0blksize\0{block}\0{window}");
    [&[0, 1], text.as_bytes()].concat()
}
