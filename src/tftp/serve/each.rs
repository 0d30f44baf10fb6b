//! The server's port, and a port for each transfer, all in one thread.
//!
//! No task for each: in lockstep a block is a share of one wait for all clients that
//! have answered by then, one receive and one send. The thread asks itself which sockets
//! have something, for as long as they have it (epoll, level-triggered), so that none
//! is read in vain, and nothing is handed from one processor to another.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use tracing::debug;

use super::super::answer::{Answer, Opening, opening};
use super::super::places::{Place, Places};
use super::super::reply::Reply;
use super::super::report::{Refusals, Tell};
use super::super::request::{FileName, Request, parse};
use super::super::transfer::{Limits, Outcome, Step, Transfer};
use super::line::Line;
use super::send::{Windows, allow_fragments, path_mtu, send_now};
use super::{LARGEST_DATAGRAM, REST};

/// How many sockets are taken at one look.
const AT_ONCE: usize = 256;

/// How many requests are taken, and how many that waited begin, before transfers have
/// their turn.
const REQUESTS_AT_ONCE: usize = 16;

/// For so long the thread goes on looking before it sleeps, if answers came as soon as
/// that: to sleep and be woken takes longer than the answer of a machine on a fast link,
/// and more of the processor, too. Where the way is longer, it sleeps at once.
const SOON: Duration = Duration::from_micros(50);

/// The keys of the two that are no transfers; theirs are their seats.
const PORT: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

/// The server's port and all transfers.
pub(super) struct EachPort<A> {
    /// The server's own port.
    socket: UdpSocket,
    /// The server's own address with port 0.
    local: SocketAddr,
    limits: Limits,
    answer: A,
    refusals: Refusals,
    tell: Tell,
    epoll: OwnedFd,
    seats: Vec<Option<Line>>,
    free: Vec<usize>,
    /// Which seat a client's port has.
    clients: HashMap<SocketAddr, usize>,
    places: Places,
    /// When to look at which seat. Only its line's own alarm counts.
    alarms: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Whether there is a processor for others meanwhile.
    may_be_eager: bool,
    /// Whether what was last waited for came soon.
    is_eager: bool,
}

impl<A> EachPort<A>
where
    A: Fn(&Request, SocketAddr) -> Answer,
{
    /// # Errors
    ///
    /// The kernel has no epoll to give.
    pub(super) fn new(
        (socket, local): (UdpSocket, SocketAddr),
        limits: Limits,
        answer: A,
        tell: Tell,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let refusals = Refusals::new(Arc::clone(&tell));
        let (seats, free, clients) = (Vec::new(), Vec::new(), HashMap::new());
        let alarms = BinaryHeap::new();
        let places = Places::new((limits.transfers, limits.transfers_per_client));
        let may_be_eager =
            std::thread::available_parallelism().is_ok_and(|number| number.get() > 1);
        let server = Self {
            socket,
            local,
            limits,
            answer,
            refusals,
            tell,
            epoll,
            seats,
            free,
            clients,
            places,
            alarms,
            may_be_eager,
            is_eager: false,
        };
        server.listen(&server.socket, PORT)?;
        Ok(server)
    }

    /// Serves until there is something to read from `stop`, or its other end is closed.
    ///
    /// # Errors
    ///
    /// As from epoll_wait(2), which has none to give here.
    pub(super) fn run(mut self, stop: &impl AsFd) -> io::Result<()> {
        self.listen(stop, STOP)?;
        let mut datagram = vec![0; LARGEST_DATAGRAM];
        let mut events = Vec::with_capacity(AT_ONCE);
        'serving: loop {
            let is_idle = self.wait(&mut events)?;
            for event in &events {
                match event.data.u64() {
                    STOP => break 'serving,
                    PORT => self.requests(&mut datagram),
                    seat => self.turn(seat as usize, event.flags),
                }
            }
            self.ring(Instant::now());
            self.begin_waiting(is_idle);
        }
        for line in self.seats.iter().flatten() {
            line.report(&Outcome::Stopped, &self.tell);
        }
        Ok(())
    }

    fn listen(&self, socket: &impl AsFd, key: u64) -> io::Result<()> {
        let key = epoll::EventData::new_u64(key);
        Ok(epoll::add(&self.epoll, socket, key, epoll::EventFlags::IN)?)
    }

    /// Waits until a socket has something, or an alarm may be due. Says whether nothing
    /// had come for so long that those who wait for a transfer may have theirs.
    fn wait(&mut self, events: &mut Vec<epoll::Event>) -> io::Result<bool> {
        let begun = Instant::now();
        events.clear();
        while self.is_eager && begun.elapsed() < SOON {
            if self.look(events, Some(Duration::ZERO))? > 0 {
                return Ok(false);
            }
        }
        if self.places.has_work() {
            return Ok(self.look(events, Some(Duration::ZERO))? == 0);
        }
        let alarm = self.alarms.peek().map(|Reverse((when, _seat))| *when);
        let time = alarm.map(|alarm| alarm.saturating_duration_since(begun));
        let count = self.look(events, time)?;
        self.is_eager = self.may_be_eager && count > 0 && begun.elapsed() < 2 * SOON;
        Ok(false)
    }

    /// Which sockets have something by then; how many.
    fn look(&self, events: &mut Vec<epoll::Event>, time: Option<Duration>) -> io::Result<usize> {
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        match epoll::wait(&self.epoll, spare_capacity(events), time.as_ref()) {
            Err(rustix::io::Errno::INTR) => Ok(0),
            looked => Ok(looked?),
        }
    }

    /// Takes what has come to the server's own port.
    fn requests(&mut self, datagram: &mut [u8]) {
        for _each in 0..REQUESTS_AT_ONCE {
            match self.socket.recv_from(datagram) {
                Ok((length, client)) => self.heard(&datagram[..length], client),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    debug!(%error, "tftp port");
                    std::thread::sleep(REST);
                    return;
                }
            }
        }
    }

    fn heard(&mut self, datagram: &[u8], client: SocketAddr) {
        match opening(parse(datagram)) {
            Opening::Read(request) => self.read(request, client, false),
            Opening::Refuse(reply) => self.refuse(&reply, client, None),
            Opening::Silence(why) => self.refusals.unanswered(client, &why),
        }
    }

    /// Begins the transfers whose turn has come.
    fn begin_waiting(&mut self, is_idle: bool) {
        for _each in 0..REQUESTS_AT_ONCE {
            let Some((client, request)) = self.places.next((is_idle, Instant::now())) else {
                return;
            };
            self.read(request, client, true);
        }
    }

    /// A read that has come, or whose turn has.
    fn read(&mut self, request: Request, client: SocketAddr, is_turn: bool) {
        if let Some(seat) = self.clients.get(&client).copied()
            && let Some(line) = self.seats[seat].as_mut()
        {
            let outcome = line.asked(&request);
            let is_over = outcome.is_some();
            self.after(seat, outcome);
            if !is_over {
                return;
            }
        }
        let now = Instant::now();
        match self.places.ask(client, &request, (is_turn, now)) {
            Place::Free => self.open(request, client),
            Place::Soon => {}
            Place::Full => self.refusals.put_off(client, &request.file, now),
            Place::None(why) => self.refusals.left_lying(client, (&request.file, &why), now),
        }
    }

    fn open(&mut self, request: Request, client: SocketAddr) {
        match (self.answer)(&request, client) {
            Answer::Content(content) => {
                let file = request.file.clone();
                if let Err(error) = self.start(content, request, client) {
                    self.refusals.has_no_socket(client, &file, &error);
                }
            }
            Answer::Refuse { code, message } => {
                let reply = Reply::Error { code, message };
                self.refuse(&reply, client, Some(&request.file));
            }
        }
    }

    fn refuse(&self, reply: &Reply, client: SocketAddr, file: Option<&FileName>) {
        self.refusals.refused(client, file, reply);
        let reply = std::slice::from_ref(reply);
        if let Err(unsent) = send_now(&self.socket, Some(client), reply, &mut Windows::Apart) {
            debug!(%client, error = %unsent.error, "tftp refusal not sent");
        }
    }

    fn start(&mut self, content: Bytes, request: Request, client: SocketAddr) -> io::Result<()> {
        let socket = UdpSocket::bind(self.local)?;
        socket.connect(client)?;
        socket.set_nonblocking(true)?;
        allow_fragments(&socket);
        let seat = self.free.pop().unwrap_or_else(|| {
            self.seats.push(None);
            self.seats.len() - 1
        });
        if let Err(error) = self.listen(&socket, seat as u64) {
            self.free.push(seat);
            return Err(error);
        }
        let now = Instant::now();
        let limits = self.limits.on_path(client.ip(), path_mtu(&socket));
        let (transfer, first) = Transfer::new(content, request, &limits, now);
        let line = self.seats[seat].insert(Line::new((client, socket), transfer, now));
        self.alarms.push(Reverse((line.alarm, seat)));
        self.clients.insert(client, seat);
        self.places.begun(client.ip());
        let outcome = line.carry_out(Step::Send(first));
        self.after(seat, outcome);
        Ok(())
    }

    /// A socket has something, or has room again.
    fn turn(&mut self, seat: usize, flags: epoll::EventFlags) {
        let Some(line) = self.seats[seat].as_mut() else { return };
        let mut outcome = None;
        if flags.contains(epoll::EventFlags::OUT) {
            outcome = line.go_on();
            if outcome.is_none() && !line.waits() {
                self.wants(seat, epoll::EventFlags::IN);
            }
        }
        let Some(line) = self.seats[seat].as_mut() else { return };
        if outcome.is_none() && flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::ERR) {
            outcome = line.hear();
        }
        self.after(seat, outcome);
    }

    fn wants(&self, seat: usize, flags: epoll::EventFlags) {
        let Some(line) = self.seats[seat].as_ref() else { return };
        let key = epoll::EventData::new_u64(seat as u64);
        // It cannot fail for a socket that is there. If it did, the clock would help.
        let _wanted = epoll::modify(&self.epoll, &line.socket, key, flags);
    }

    /// Looks at all transfers whose time has come.
    fn ring(&mut self, now: Instant) {
        while let Some(Reverse((when, seat))) = self.alarms.peek().copied() {
            if when > now {
                return;
            }
            self.alarms.pop();
            let Some(line) = self.seats[seat].as_mut().filter(|line| line.alarm == when) else {
                continue;
            };
            let outcome = line.ring(now);
            line.alarm = line.transfer.deadline();
            self.alarms.push(Reverse((line.alarm, seat)));
            self.after(seat, outcome);
        }
    }

    /// What is to be done after each turn of a transfer.
    fn after(&mut self, seat: usize, outcome: Option<Outcome>) {
        let Some(line) = self.seats[seat].as_mut() else { return };
        if let Some(outcome) = outcome {
            self.clients.remove(&line.client);
            self.places.ended(line.client.ip());
            line.report(&outcome, &self.tell);
            // Its socket closes, and epoll forgets it.
            self.seats[seat] = None;
            self.free.push(seat);
            return;
        }
        let deadline = line.transfer.deadline();
        if deadline < line.alarm {
            line.alarm = deadline;
            self.alarms.push(Reverse((deadline, seat)));
        }
        if line.waits() {
            self.wants(seat, epoll::EventFlags::IN | epoll::EventFlags::OUT);
        }
    }
}
