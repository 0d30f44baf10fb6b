//! The load of TFTP: so many clients at a time fetch one file, again and again, and
//! compare every octet of it.
//!
//! It is to cost little, or it and not the server is what is measured: one thread
//! that never sleeps, so that no server has to wake it; a window that comes as one
//! datagram is taken as one (UDP_GRO) where the server sent it so, and cut up here; one
//! call for a block in lockstep, one more only when a window goes on.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt::UdpGroSegment};
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    fd::OwnedFd,
};

use crate::{
    lab::CLIENT,
    tftp_client::{Fetched, Heard, request},
};

/// How long a client waits before it repeats itself.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many clients begin before the others are heard again.
const BEGIN_AT_ONCE: usize = 16;

/// How long after the time of a load its transfers are given up.
const LONGEST_REST: Duration = Duration::from_secs(3);

/// How often clients that wait are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Room for a window that comes as one datagram.
const LARGEST_DATAGRAM: usize = 65_536;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) server: Ipv4Addr,
    pub(crate) clients: usize,
    pub(crate) block: usize,
    pub(crate) window: u16,
    /// For so long octets are counted, and after it no transfer begins.
    pub(crate) time: Duration,
    /// How many of a thousand blocks are lost on the way.
    pub(crate) lost: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// That came in order and were compared, within the time.
    pub(crate) octets: u64,
    /// Those, and what it took to finish the transfers under way.
    pub(crate) octets_in_all: u64,
    /// From each request to the last block, in order.
    pub(crate) transfers: Vec<Duration>,
    /// How many of them were given up: they would have taken longer.
    pub(crate) given_up: u64,
    /// How often a client repeated itself since it had heard nothing.
    pub(crate) asked_again: u64,
    /// Blocks that were sent, those that were lost counted.
    pub(crate) blocks: u64,
    /// And of these, more than were needed.
    pub(crate) surplus: u64,
    /// The block and the window that were agreed on last.
    pub(crate) agreed: (usize, u16),
}

impl Outcome {
    /// How long this part of the transfers took at most.
    pub(crate) fn milliseconds(&self, part: f64) -> f64 {
        let place = (self.transfers.len() as f64 * part) as usize;
        self.transfers[place.min(self.transfers.len() - 1)].as_secs_f64() * 1e3
    }
}

/// Whether a server answers a request at once.
pub(crate) fn is_answered(server: Ipv4Addr) -> bool {
    let socket = UdpSocket::bind((CLIENT, 0)).expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
    let asked = socket.send_to(&request(512, 1), (server, 69));
    let mut answer = [0; 1500];
    let Ok((_, from)) = asked.and_then(|_| socket.recv_from(&mut answer)) else { return false };
    // An ERROR ends it.
    let _ = socket.send_to(&[0, 5, 0, 0, 0], from);
    answer[1] == 6 || answer[1] == 3
}

/// Runs the load until its time is over and all that had begun has ended.
pub(crate) fn run(load: Load, file: &[u8]) -> Outcome {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
    let mut clients: Vec<Client<'_>> = Vec::with_capacity(load.clients);
    let mut all = Outcome::default();
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    let begun = Instant::now();
    let (mut running, mut looked) = (0, begun);
    loop {
        let beginning = load.clients - clients.len();
        for _ in 0..beginning.min(BEGIN_AT_ONCE) {
            clients.push(Client::new(&load, file, clients.len(), &epoll));
            running += 1;
        }
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), Some(&Timespec::default()))
            .expect("an epoll");
        let now = Instant::now();
        let is_time = now - begun < load.time;
        for event in &events {
            let number = usize::try_from(event.data.u64()).expect("a number of ours");
            let client = &mut clients[number];
            let octets = client.octets();
            let is_over = client.hear(&load, &mut buffer, now, &mut all);
            let octets = (client.octets() - octets) as u64;
            all.octets_in_all += octets;
            all.octets += if is_time { octets } else { 0 };
            if client.is_refused {
                let (asked, chance) = (client.asked, client.chance);
                *client = Client::new(&load, file, number, &epoll);
                (client.asked, client.chance) = (asked, chance);
                all.asked_again += 1;
                continue;
            }
            if is_over {
                all.transfers.push(now - client.asked);
                all.agreed = (client.fetched.block, client.fetched.window);
                running -= 1;
                if is_time {
                    let chance = client.chance;
                    *client = Client::new(&load, file, number, &epoll);
                    client.chance = chance;
                    running += 1;
                } else {
                    client.socket = None;
                }
            }
        }
        if running == 0 && clients.len() == load.clients {
            break;
        }
        if now - looked > LOOK {
            looked = now;
            if now - begun > load.time + LONGEST_REST {
                for client in clients.iter().filter(|client| client.socket.is_some()) {
                    client.give_up();
                    all.transfers.push(now - client.asked);
                    all.given_up += 1;
                }
                break;
            }
            for client in clients.iter_mut().filter(|client| now - client.heard > PATIENCE) {
                client.repeat(now, &mut all);
            }
        }
    }
    all.transfers.sort();
    all
}

struct Client<'a> {
    /// None when it is done.
    socket: Option<UdpSocket>,
    /// Whether the server's port for this transfer is known.
    is_connected: bool,
    server: Ipv4Addr,
    fetched: Fetched<'a>,
    /// What it said last.
    word: Vec<u8>,
    asked: Instant,
    heard: Instant,
    /// Whether the server has left it alone: its port is closed.
    is_refused: bool,
    chance: u32,
}

impl<'a> Client<'a> {
    /// Begins to fetch the file, from a port of its own.
    fn new(load: &Load, file: &'a [u8], number: usize, epoll: &OwnedFd) -> Self {
        let socket = UdpSocket::bind((CLIENT, 0)).expect("a port");
        socket.set_nonblocking(true).expect("a socket");
        setsockopt(&socket, UdpGroSegment, &true).expect("a kernel that can put together");
        // The room that a window needs, whoever sends it.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(1 << 20);
        let key = epoll::EventData::new_u64(number as u64);
        epoll::add(epoll, &socket, key, epoll::EventFlags::IN).expect("an epoll");
        let asked = Instant::now();
        let word = request(load.block, load.window);
        socket.send_to(&word, (load.server, 69)).expect("sent");
        Self {
            socket: Some(socket),
            is_connected: false,
            server: load.server,
            fetched: Fetched::new(file),
            word,
            asked,
            heard: asked,
            is_refused: false,
            chance: (number as u32).wrapping_mul(2_654_435_761) | 1,
        }
    }

    /// Of the file, that came in order.
    fn octets(&self) -> usize {
        self.fetched.octets()
    }

    /// Takes what has come; says whether the file is there.
    fn hear(&mut self, load: &Load, buffer: &mut [u8], now: Instant, all: &mut Outcome) -> bool {
        let Some(socket) = &self.socket else { return false };
        self.heard = now;
        loop {
            let length = match self.is_connected {
                true => socket.recv(buffer),
                false => socket.recv_from(buffer).and_then(|(length, from)| {
                    self.is_connected = true;
                    socket.connect(from).map(|()| length)
                }),
            };
            let length = match length {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    self.is_refused = true;
                    return false;
                }
                Err(error) => panic!("{error}"),
            };
            let mut said = false;
            for packet in self.fetched.packets(&buffer[..length]) {
                all.blocks += 1;
                if load.lost > 0 {
                    self.chance = self.chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if (self.chance >> 8) % 1000 < load.lost {
                        all.surplus += 1;
                        continue;
                    }
                }
                match self.fetched.hear(packet) {
                    Heard::Taken => {}
                    Heard::Surplus => all.surplus += 1,
                    Heard::Say(word) => {
                        self.word.clear();
                        self.word.extend_from_slice(&word);
                        self.is_refused |= socket.send(&self.word).is_err();
                        said = true;
                    }
                    Heard::Gap(word) => {
                        all.surplus += 1;
                        self.word.clear();
                        self.word.extend_from_slice(&word);
                        self.is_refused |= socket.send(&self.word).is_err();
                    }
                }
            }
            if self.fetched.is_over() {
                return true;
            }
            if said {
                return false;
            }
        }
    }

    /// Says that it wants no more.
    fn give_up(&self) {
        if let Some(socket) = self.socket.as_ref().filter(|_| self.is_connected) {
            let _ = socket.send(&[0, 5, 0, 0, 0]);
        }
    }

    /// Says once more what it said last.
    fn repeat(&mut self, now: Instant, all: &mut Outcome) {
        let Some(socket) = &self.socket else { return };
        all.asked_again += 1;
        self.heard = now;
        self.fetched.forget_gap();
        let sent = match self.is_connected {
            true => socket.send(&self.word),
            false => socket.send_to(&self.word, SocketAddr::from((self.server, 69))),
        };
        // Refused, it hears so next.
        self.is_refused |= sent.is_err();
    }
}
