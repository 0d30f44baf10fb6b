//! The load of DHCP: many machines behind one relay, so many exchanges at a time,
//! as fast as they are answered. Looks at every answer.

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use crate::{
    lab::{CLIENT, SERVER},
    machine,
};

/// How long a machine waits before it asks again (RFC 2131 §4.1: 4 s).
const PATIENCE: Duration = Duration::from_secs(4);

/// Exchanges at a time.
pub(crate) const WINDOW: u32 = 64;

/// What the machines do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// DISCOVER, OFFER, REQUEST, ACK, each machine once.
    First,
    /// The same, again and again.
    Again,
    /// REQUEST with the address that it has, ACK, again and again.
    Renew,
}

/// What is asked of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) exchange: Exchange,
    /// The first machine.
    pub(crate) from: u32,
    /// How many machines there are.
    pub(crate) machines: u32,
    /// After which no exchange begins.
    pub(crate) time: Duration,
    /// Whether each must get the address that is reserved for it.
    pub(crate) is_reserved: bool,
    /// Whether as many bad or foreign packets come as good ones.
    pub(crate) is_hostile: bool,
    pub(crate) window: u32,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) exchanges: u64,
    in_time: u64,
    pub(crate) took: Duration,
    /// From each packet to its answer.
    answers: Vec<u32>,
    pub(crate) asked_again: u64,
    pub(crate) refused: u64,
    /// Which address each machine has.
    pub(crate) leases: HashMap<Ipv4Addr, u32>,
}

impl Outcome {
    /// Exchanges a second, of those that ended while others began.
    pub(crate) fn rate(&self) -> f64 {
        self.in_time as f64 / self.took.as_secs_f64()
    }

    /// The time within which this part of the answers came, in milliseconds.
    pub(crate) fn answered(&mut self, part: f64) -> f64 {
        if self.answers.is_empty() {
            return f64::NAN;
        }
        let place = (self.answers.len() as f64 * part) as usize;
        let place = place.min(self.answers.len() - 1);
        f64::from(*self.answers.select_nth_unstable(place).1) / 1e3
    }
}

#[derive(Clone, Copy)]
struct Pending {
    machine: u32,
    /// In a REQUEST; none while an OFFER is awaited.
    address: Option<Ipv4Addr>,
    sent: Instant,
}

struct Crowd {
    load: Load,
    socket: UdpSocket,
    outcome: Outcome,
    /// By transaction, which is the place here.
    pending: Vec<Option<Pending>>,
    /// The addresses of those who renew, by machine.
    held: Vec<Ipv4Addr>,
    next: u32,
    begun: Instant,
    turn: u32,
}

/// Gives it more room than the system does to others, so that the load loses nothing.
pub(crate) fn make_room(socket: &socket2::Socket) {
    let forced = rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, 4 << 20);
    forced.expect("this runs as root");
}

/// The relay's.
pub(crate) fn socket() -> UdpSocket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None);
    let socket = socket.expect("a socket");
    make_room(&socket);
    socket.bind(&SocketAddr::from((CLIENT, 67)).into()).expect("the port is free");
    socket.into()
}

/// Whether a server answers a DISCOVER at once.
pub(crate) fn is_answered() -> bool {
    let socket = socket();
    socket.set_read_timeout(Some(Duration::from_millis(5))).expect("a socket");
    let packet = packet(0xffff_ffff, 0xffff_fff0, None, false);
    let mut answer = [0; 1500];
    socket.send_to(&packet, (SERVER, 67)).is_ok()
        && socket.recv(&mut answer).is_ok_and(|length| length > 242 && answer[242] == 2)
}

/// Has all machines ask.
///
/// # Panics
///
/// When an answer is wrong: an address that another machine has, or not its own.
pub(crate) fn run(load: Load, held: &HashMap<Ipv4Addr, u32>) -> Outcome {
    let mut addresses = vec![Ipv4Addr::UNSPECIFIED; load.machines as usize];
    for (address, machine) in held {
        if let Some(place) = addresses.get_mut((machine.wrapping_sub(load.from)) as usize) {
            *place = *address;
        }
    }
    let socket = socket();
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
    let mut crowd = Crowd {
        load,
        socket,
        outcome: Outcome::default(),
        pending: vec![None; load.window as usize],
        held: addresses,
        next: 0,
        begun: Instant::now(),
        turn: 0,
    };
    crowd.run();
    crowd.outcome.took = crowd.begun.elapsed().min(load.time);
    crowd.outcome
}

impl Crowd {
    fn run(&mut self) {
        for place in 0..self.load.window {
            self.begin(place);
        }
        let mut looked = Instant::now();
        let mut answer = [0; 1500];
        while self.pending.iter().any(Option::is_some) {
            match self.socket.recv(&mut answer) {
                Ok(length) => self.hear(&answer[..length]),
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                    "{error}"
                ),
            }
            if looked.elapsed() > Duration::from_millis(200) {
                looked = Instant::now();
                self.ask_again();
            }
        }
    }

    /// The next machine takes the place, if there is one.
    fn begin(&mut self, place: u32) {
        self.pending[place as usize] = None;
        let is_over = self.begun.elapsed() >= self.load.time;
        let has_all = self.load.exchange == Exchange::First && self.next >= self.load.machines;
        if is_over || has_all {
            return;
        }
        let machine = self.load.from + self.next % self.load.machines;
        self.next += 1;
        let renews = self.load.exchange == Exchange::Renew;
        let address = renews.then(|| self.held[(machine - self.load.from) as usize]);
        self.ask(place, machine, address);
    }

    fn ask(&mut self, place: u32, machine: u32, address: Option<Ipv4Addr>) {
        self.pending[place as usize] = Some(Pending { machine, address, sent: Instant::now() });
        self.send(place, machine, address);
    }

    fn send(&mut self, place: u32, machine: u32, address: Option<Ipv4Addr>) {
        let renews = self.load.exchange == Exchange::Renew;
        let mut good = packet(place, machine, address, renews);
        // A full queue loses it, as a network does.
        let _ = self.socket.send_to(&good, (SERVER, 67));
        if self.load.is_hostile {
            self.turn = self.turn.wrapping_add(1);
            let bad = spoil(&mut good, self.turn);
            let _ = self.socket.send_to(bad, (SERVER, 67));
        }
    }

    fn ask_again(&mut self) {
        for place in 0..self.pending.len() {
            let Some(pending) = self.pending[place] else { continue };
            if pending.sent.elapsed() > PATIENCE {
                self.outcome.asked_again += 1;
                // A server that is this slow must not hold up the measurement.
                if self.begun.elapsed() > self.load.time + 2 * PATIENCE {
                    self.pending[place] = None;
                    continue;
                }
                self.ask(place as u32, pending.machine, pending.address);
            }
        }
    }

    fn hear(&mut self, answer: &[u8]) {
        let Some(xid) = answer.get(4..8).and_then(|xid| xid.try_into().ok()) else { return };
        let place = u32::from_be_bytes(xid);
        let Some(Some(pending)) = self.pending.get(place as usize).copied() else { return };
        let is_its_own = answer.get(28..34) == Some(&machine::bytes(pending.machine)[..]);
        let Some(kind) = option(answer, 53).filter(|_| is_its_own) else { return };
        let yiaddr = Ipv4Addr::from([answer[16], answer[17], answer[18], answer[19]]);
        let latency = u32::try_from(pending.sent.elapsed().as_micros()).unwrap_or(u32::MAX);
        match (kind.first(), pending.address) {
            (Some(2), None) => {
                self.outcome.answers.push(latency);
                self.ask(place, pending.machine, Some(yiaddr));
            }
            (Some(5), Some(asked)) => {
                self.outcome.answers.push(latency);
                assert_eq!(yiaddr, asked, "machine {} was given another", pending.machine);
                if self.load.is_reserved {
                    assert_eq!(yiaddr, machine::own(pending.machine), "its own address");
                }
                let before = self.outcome.leases.insert(yiaddr, pending.machine);
                assert!(
                    before.is_none_or(|before| before == pending.machine),
                    "{yiaddr} has two owners, {before:?} and {}",
                    pending.machine
                );
                self.outcome.exchanges += 1;
                self.outcome.in_time += u64::from(self.begun.elapsed() <= self.load.time);
                self.begin(place);
            }
            (Some(6), _) => {
                self.outcome.refused += 1;
                self.ask(place, pending.machine, None);
            }
            _ => {}
        }
    }
}

/// The value of an option of a packet.
fn option(packet: &[u8], code: u8) -> Option<&[u8]> {
    let mut rest = packet.get(240..)?;
    loop {
        match *rest.first()? {
            0 => rest = &rest[1..],
            255 => return None,
            found => {
                let length = usize::from(*rest.get(1)?);
                let value = rest.get(2..2 + length)?;
                if found == code {
                    return Some(value);
                }
                rest = &rest[2 + length..];
            }
        }
    }
}

/// A DISCOVER, a REQUEST of an offered address, or a renewal, through a relay.
fn packet(xid: u32, machine: u32, address: Option<Ipv4Addr>, renews: bool) -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 1]);
    packet[4..8].copy_from_slice(&xid.to_be_bytes());
    packet[24..28].copy_from_slice(&CLIENT.octets());
    packet[28..34].copy_from_slice(&machine::bytes(machine));
    packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
    packet.extend_from_slice(&[53, 1, if address.is_some() { 3 } else { 1 }]);
    match address {
        Some(address) if renews => packet[12..16].copy_from_slice(&address.octets()),
        Some(address) => {
            packet.extend_from_slice(&[54, 4]);
            packet.extend_from_slice(&SERVER.octets());
            packet.extend_from_slice(&[50, 4]);
            packet.extend_from_slice(&address.octets());
        }
        None => {}
    }
    packet.extend_from_slice(&[55, 4, 1, 3, 6, 15, 255]);
    packet.resize(300, 0);
    packet
}

/// What should not be answered, made of what should.
fn spoil(packet: &mut [u8], turn: u32) -> &[u8] {
    packet[4..8].copy_from_slice(&[0xff, 0, 0, 0]);
    match turn % 6 {
        // Cut off within the options.
        0 => &packet[..245],
        // No hardware address has this length.
        1 => {
            packet[2] = 200;
            packet
        }
        // An option that is longer than the packet.
        2 => {
            packet[241] = 255;
            packet
        }
        // An answer, of another server or thrown back.
        3 => {
            packet[0] = 2;
            packet[242] = 2;
            packet
        }
        // No DHCP at all.
        4 => {
            packet[236..240].fill(0x41);
            packet
        }
        // From a network that is not served.
        _ => {
            packet[24..28].copy_from_slice(&[192, 0, 2, 1]);
            packet
        }
    }
}
