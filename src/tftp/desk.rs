//! All transfers of one port: who a packet is from, what it is for, and whose time
//! has come. Transfers are told apart by the client's address and port.
//!
//! Pure: packets and moments in, packets and outcomes out. It must not know
//! sockets, nor which file a client may have.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::answer::{Opening, Why, opening};
use super::places::{Place, Places};
use super::reply::Reply;
use super::request::{FileName, Malformed, Packet, Request};
use super::transfer::{Limits, Outcome, Step, Transfer};

/// The transfers that run.
#[derive(Debug)]
pub struct Desk {
    seats: HashMap<SocketAddr, Seat>,
    /// When to look at which transfer. A transfer's own deadline may be later by
    /// then: each packet puts it off, and it would cost too much to do so here.
    alarms: BinaryHeap<Reverse<(Instant, SocketAddr)>>,
    places: Places,
}

#[derive(Debug)]
struct Seat {
    transfer: Transfer,
    began: Instant,
    /// The one alarm of its that counts.
    alarm: Instant,
}

/// What is to be done after a packet or an alarm.
#[derive(Debug)]
pub struct Turn {
    /// The transfer that has ended by it.
    pub ended: Option<Ended>,
    /// What the client is told.
    pub said: Said,
}

/// A transfer that is over.
#[derive(Debug)]
pub struct Ended {
    /// As it was last.
    pub transfer: Transfer,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it ran.
    pub took: Duration,
}

/// What a client is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// These, in this order.
    Packets(Vec<Reply>),
    /// This ERROR, since its request for this file is refused, or is none.
    Refusal(Option<FileName>, Reply),
    /// Nothing yet: its transfer goes on.
    Nothing,
    /// Nothing, since its packet is worth none.
    Silence(Why),
    /// Nothing until its turn comes to get this file.
    PutOff(FileName),
    /// Nothing, since there is no room for what it asks for.
    LeftLying(FileName, Why),
}

/// What a file can be opened to: its content, with limits that hold on the way to
/// the client; or an ERROR.
pub type Opened = Result<(Bytes, Limits), Reply>;

impl Desk {
    /// An empty one.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let places = Places::new((limits.transfers, limits.transfers_per_client));
        Self { seats: HashMap::new(), alarms: BinaryHeap::new(), places }
    }

    /// Takes what came from a client's port; `open` is asked for the file of a new
    /// transfer.
    pub fn hear(
        &mut self,
        client: SocketAddr,
        heard: Result<Packet, Malformed>,
        now: Instant,
        open: impl FnOnce(&Request) -> Opened,
    ) -> Turn {
        let Some(seat) = self.seats.get_mut(&client) else {
            let said = match heard {
                Ok(
                    Packet::Acknowledge { .. } | Packet::Data { .. } | Packet::OptionAcknowledge(_),
                ) => Said::Silence(Why::Stray),
                heard => match opening(heard) {
                    Opening::Read(request) => self.read(client, request, now, open),
                    Opening::Refuse(reply) => Said::Refusal(None, reply),
                    // Elsewhere it comes to a port of its own that is closed by then.
                    Opening::Silence(Why::StrayError) => Said::Silence(Why::Stray),
                    Opening::Silence(why) => Said::Silence(why),
                },
            };
            return Turn { ended: None, said };
        };
        let packet = match heard {
            Ok(packet) => packet,
            Err(noise) => return Turn { ended: None, said: Said::Silence(Why::Noise(noise)) },
        };
        let step = seat.transfer.on(&packet, now);
        let mut turn = self.follow(client, step, now);
        // A request that ended a transfer is the first of the next.
        if let (Some(_), Packet::Read(request)) = (&turn.ended, packet) {
            turn.said = match opening(Ok(Packet::Read(request))) {
                Opening::Read(request) => self.read(client, request, now, open),
                Opening::Refuse(reply) => Said::Refusal(None, reply),
                Opening::Silence(why) => Said::Silence(why),
            };
        }
        turn
    }

    /// Gives one transfer whose time has come, and what is to be done; to be called
    /// until there is none.
    pub fn due(&mut self, now: Instant) -> Option<(SocketAddr, Turn)> {
        loop {
            let Reverse((when, client)) = *self.alarms.peek()?;
            if when > now {
                return None;
            }
            self.alarms.pop();
            let Some(seat) = self.seats.get_mut(&client).filter(|seat| seat.alarm == when) else {
                continue;
            };
            let step = seat.transfer.on_timeout(now);
            let alarm = seat.transfer.deadline();
            let waits = matches!(step, Step::Wait | Step::Send(_));
            if waits {
                seat.alarm = alarm;
                self.alarms.push(Reverse((alarm, client)));
            }
            if step != Step::Wait {
                return Some((client, self.follow(client, step, now)));
            }
        }
    }

    /// The read whose turn has come, since there is room for it: to be heard as if it came
    /// now. To be called until there is none.
    pub fn waiting(&mut self, now: Instant) -> Option<(SocketAddr, Request)> {
        self.places.next((true, now))
    }

    /// When [`Desk::due`] is to be asked next, at the latest.
    #[must_use]
    pub fn alarm(&self) -> Option<Instant> {
        self.alarms.peek().map(|Reverse((when, _client))| *when)
    }

    /// How many transfers run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.seats.len()
    }

    /// Ends all transfers.
    pub fn stop(&mut self, now: Instant) -> Vec<(SocketAddr, Ended)> {
        let ended = self.seats.drain().map(|(client, seat)| {
            self.places.ended(client.ip());
            let took = now.saturating_duration_since(seat.began);
            (client, Ended { transfer: seat.transfer, outcome: Outcome::Stopped, took })
        });
        ended.collect()
    }

    fn read(
        &mut self,
        client: SocketAddr,
        request: Request,
        now: Instant,
        open: impl FnOnce(&Request) -> Opened,
    ) -> Said {
        match self.places.ask(client, &request, (true, now)) {
            Place::Free => {}
            Place::Soon | Place::Full => return Said::PutOff(request.file),
            Place::None(why) => return Said::LeftLying(request.file, why),
        }
        let (content, limits) = match open(&request) {
            Ok(opened) => opened,
            Err(refusal) => return Said::Refusal(Some(request.file), refusal),
        };
        let (transfer, first) = Transfer::new(content, request, &limits, now);
        let alarm = transfer.deadline();
        self.alarms.push(Reverse((alarm, client)));
        self.seats.insert(client, Seat { transfer, began: now, alarm });
        self.places.begun(client.ip());
        Said::Packets(first)
    }

    fn follow(&mut self, client: SocketAddr, step: Step, now: Instant) -> Turn {
        let said = match step {
            Step::Send(replies) => Said::Packets(replies),
            Step::Wait => Said::Nothing,
            Step::End(outcome) => {
                let ended = self.seats.remove(&client).map(|seat| {
                    self.places.ended(client.ip());
                    let took = now.saturating_duration_since(seat.began);
                    Ended { transfer: seat.transfer, outcome, took }
                });
                return Turn { ended, said: Said::Nothing };
            }
        };
        if let Some(seat) = self.seats.get_mut(&client) {
            let deadline = seat.transfer.deadline();
            if deadline < seat.alarm {
                seat.alarm = deadline;
                self.alarms.push(Reverse((deadline, client)));
            }
        }
        Turn { ended: None, said }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::super::reply::ErrorCode;
    use super::super::request::parse;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const EDK2: &[u8] = b"\x00\x01x\x00octet\x00tsize\x000\x00blksize\x0064\x00windowsize\x004\x00";
    const PLAIN: &[u8] = b"\x00\x01x\x00octet\x00";
    const PROBED: &[u8] = b"\x00\x05\x00\x08User aborted the transfer\x00";

    #[test]
    fn two_ports_of_one_address_have_a_transfer_each() {
        let mut desk = Desk::new(&Limits::default());
        let now = Instant::now();
        assert_eq!(blocks(hear(&mut desk, 1, PLAIN, now)), [1]);
        assert_eq!(blocks(hear(&mut desk, 2, PLAIN, now)), [1]);
        assert_eq!(blocks(hear(&mut desk, 1, b"\x00\x04\x00\x01", now)), [2]);
        assert_eq!(blocks(hear(&mut desk, 2, b"\x00\x04\x00\x01", now)), [2]);
        assert_eq!(desk.running(), 2);
    }

    #[test]
    fn after_a_size_probe_the_same_port_is_answered_at_once() {
        let mut desk = Desk::new(&Limits::default());
        let now = Instant::now();
        assert!(matches!(hear(&mut desk, 1, EDK2, now).said, Said::Packets(_)));
        let probed = hear(&mut desk, 1, PROBED, now);
        assert_eq!(probed.ended.unwrap().outcome, Outcome::SizeProbe);
        assert!(matches!(hear(&mut desk, 1, EDK2, now).said, Said::Packets(_)));
    }

    #[test]
    fn another_request_from_the_same_port_ends_one_transfer_and_begins_one() {
        let mut desk = Desk::new(&Limits { transfers: 1, ..Limits::default() });
        let now = Instant::now();
        hear(&mut desk, 1, EDK2, now);
        let turn = hear(&mut desk, 1, PLAIN, now);
        assert_eq!(turn.ended.as_ref().unwrap().outcome, Outcome::Superseded);
        assert_eq!(blocks(turn), [1]);
        assert_eq!(desk.running(), 1);
    }

    #[test]
    fn what_belongs_to_no_transfer_is_not_answered() {
        let mut desk = Desk::new(&Limits::default());
        let now = Instant::now();
        for stray in [&b"\x00\x04\x00\x01"[..], b"\x00\x03\x00\x01x", b"\x00\x06", PROBED, b"\x00"]
        {
            let said = hear(&mut desk, 1, stray, now).said;
            assert!(matches!(said, Said::Silence(_)), "{}: {said:?}", stray.escape_ascii());
        }
        let refused = hear(&mut desk, 1, b"\x00\x01../x\x00octet\x00", now).said;
        let Said::Refusal(None, Reply::Error { code, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(code, ErrorCode::AccessViolation);
    }

    #[test]
    fn who_is_silent_is_given_up_within_the_patience() {
        let limits = Limits::default();
        let mut desk = Desk::new(&limits);
        let start = Instant::now();
        for port in 1..=20 {
            hear(&mut desk, port, PLAIN, start + SECOND * port.into() / 20);
        }
        let mut outcomes = Vec::new();
        while let Some(now) = desk.alarm() {
            assert!(now <= start + SECOND + limits.waits.patience, "{:?}", now - start);
            while let Some((_client, turn)) = desk.due(now) {
                outcomes.extend(turn.ended.map(|ended| ended.outcome));
            }
        }
        assert_eq!(outcomes, vec![Outcome::NeverAnswered; 20]);
        assert_eq!(desk.running(), 0);
    }

    #[test]
    fn who_comes_when_all_is_taken_has_the_first_place_that_is_free() {
        let mut desk = Desk::new(&Limits { transfers: 1, ..Limits::default() });
        let now = Instant::now();
        hear(&mut desk, 1, PLAIN, now);
        for port in [2, 3, 2] {
            assert!(matches!(hear(&mut desk, port, PLAIN, now).said, Said::PutOff(_)), "{port}");
        }
        assert!(desk.waiting(now).is_none(), "nothing is free");
        hear(&mut desk, 1, PROBED, now);
        let (next, request) = desk.waiting(now).unwrap();
        assert_eq!((next.port(), request.file.as_str()), (2, "x"));
        assert_eq!(blocks(hear(&mut desk, 2, PLAIN, now)), [1]);
        assert!(desk.waiting(now).is_none(), "it is taken again");
    }

    #[test]
    fn stopping_ends_all() {
        let mut desk = Desk::new(&Limits::default());
        hear(&mut desk, 1, PLAIN, Instant::now());
        hear(&mut desk, 2, PLAIN, Instant::now());
        let ended = desk.stop(Instant::now());
        assert!(ended.iter().all(|(_, ended)| ended.outcome == Outcome::Stopped));
        assert_eq!((ended.len(), desk.running()), (2, 0));
    }

    proptest! {
        /// Whatever comes from wherever: the limits hold, a packet brings one window
        /// at most, and in the end everybody is given up.
        #[test]
        fn no_traffic_breaks_the_limits(
            traffic in proptest::collection::vec((0_u16..12, datagram(), 0_u64..3000), 0..300),
        ) {
            let limits = Limits { transfers: 6, transfers_per_client: 4, ..Limits::default() };
            let mut desk = Desk::new(&limits);
            let mut now = Instant::now();
            for (port, datagram, wait) in traffic {
                let turn = hear(&mut desk, port, &datagram, now);
                let sent = match turn.said { Said::Packets(packets) => packets.len(), _ => 0 };
                prop_assert!(sent <= usize::from(limits.window));
                prop_assert!(desk.running() <= limits.transfers);
                prop_assert!(desk.running() == 0 || desk.alarm().is_some());
                now += Duration::from_millis(wait);
                let mut turns = 0;
                while desk.due(now).is_some() {
                    turns += 1;
                    prop_assert!(turns <= limits.transfers, "one turn for each");
                }
            }
            let mut rounds = 0;
            while let Some(alarm) = desk.alarm() {
                now = now.max(alarm);
                while desk.due(now).is_some() {}
                rounds += 1;
                prop_assert!(rounds < 1000, "never given up");
            }
            prop_assert_eq!(desk.running(), 0);
        }

        /// Each client gets its own file, byte for byte, through losses.
        #[test]
        fn nobody_gets_what_is_for_another(
            clients in 1_u16..6,
            lost in proptest::collection::vec(0_u8..8, 0..400),
        ) {
            let mut road = Road::new(clients, lost);
            road.run();
            for client in &road.clients {
                prop_assert!(client.file == content(client.port), "port {}", client.port);
            }
            prop_assert_eq!(road.desk.running(), 0);
        }
    }

    fn datagram() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            2 => Just(EDK2.to_vec()),
            2 => Just(PLAIN.to_vec()),
            1 => Just(PROBED.to_vec()),
            6 => (0_u8..40).prop_map(|block| vec![0, 4, 0, block]),
            1 => proptest::collection::vec(any::<u8>(), 0..20),
            1 => proptest::collection::vec(any::<u8>(), 0..20)
                .prop_map(|rest| [&[0, 1, b'x', 0][..], &rest].concat()),
        ]
    }

    /// A client after RFC 7440 §4 that asks again after a second.
    struct Client {
        port: u16,
        file: Vec<u8>,
        blocks: u16,
        since_ack: u16,
        said: Vec<u8>,
        has_all: bool,
    }

    impl Client {
        fn hear(&mut self, packet: &Packet) -> bool {
            let block = match packet {
                Packet::OptionAcknowledge(_) if self.blocks == 0 => 0,
                Packet::Data { block, payload } if *block == self.blocks + 1 && !self.has_all => {
                    self.file.extend_from_slice(payload);
                    (self.blocks, self.since_ack) = (*block, self.since_ack + 1);
                    self.has_all = payload.len() < 64;
                    if !self.has_all && self.since_ack < 4 {
                        return false;
                    }
                    *block
                }
                _ => self.blocks,
            };
            self.since_ack = 0;
            self.said = [4_u16.to_be_bytes(), block.to_be_bytes()].concat();
            true
        }
    }

    /// Clients and the desk; of each eight packets one is lost, as `lost` says.
    struct Road {
        desk: Desk,
        clients: Vec<Client>,
        to_desk: VecDeque<u16>,
        lost: VecDeque<u8>,
        now: Instant,
    }

    impl Road {
        fn new(clients: u16, lost: Vec<u8>) -> Self {
            let client = |port| Client {
                port,
                file: Vec::new(),
                blocks: 0,
                since_ack: 0,
                said: EDK2.to_vec(),
                has_all: false,
            };
            Self {
                desk: Desk::new(&Limits::default()),
                clients: (0..clients).map(client).collect(),
                to_desk: (0..clients).collect(),
                lost: lost.into(),
                now: Instant::now(),
            }
        }

        fn run(&mut self) {
            let mut client_due = self.now + SECOND;
            for _each in 0..100_000 {
                if let Some(port) = self.to_desk.pop_front() {
                    let said = self.clients[usize::from(port)].said.clone();
                    if !self.is_lost() {
                        let turn = hear(&mut self.desk, port, &said, self.now);
                        self.deliver(port, turn);
                    }
                    continue;
                }
                self.now = match self.desk.alarm() {
                    Some(alarm) => alarm.min(client_due).max(self.now),
                    None if self.clients.iter().all(|client| client.has_all) => return,
                    None => client_due,
                };
                while let Some((client, turn)) = self.desk.due(self.now) {
                    self.deliver(client.port(), turn);
                }
                if self.now >= client_due {
                    client_due = self.now + SECOND;
                    let waiting = self.clients.iter().filter(|client| !client.has_all);
                    self.to_desk.extend(waiting.map(|client| client.port));
                }
            }
            panic!("no end");
        }

        fn deliver(&mut self, port: u16, turn: Turn) {
            let Said::Packets(replies) = turn.said else { return };
            for reply in replies {
                let mut datagram = Vec::new();
                reply.encode(&mut datagram);
                if self.is_lost() {
                    continue;
                }
                if self.clients[usize::from(port)].hear(&parse(&datagram).unwrap()) {
                    self.to_desk.push_back(port);
                }
            }
        }

        fn is_lost(&mut self) -> bool {
            self.lost.pop_front() == Some(0)
        }
    }

    fn content(port: u16) -> Bytes {
        (0..64 * 30 + port).map(|place| (place ^ (port << 3)) as u8).collect()
    }

    fn hear(desk: &mut Desk, port: u16, datagram: &[u8], now: Instant) -> Turn {
        let client = SocketAddr::from(([192, 0, 2, 1], port));
        let open = |_: &Request| Ok((content(port), Limits::default()));
        desk.hear(client, parse(datagram), now, open)
    }

    fn blocks(turn: Turn) -> Vec<u16> {
        let Said::Packets(replies) = turn.said else { panic!("{turn:?}") };
        let number = |reply: &Reply| match reply {
            Reply::Data { block, .. } => *block,
            other => panic!("{other:?}"),
        };
        replies.iter().map(number).collect()
    }
}
