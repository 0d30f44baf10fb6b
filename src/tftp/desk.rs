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

use super::answer::{Opening, Why, admit, opening};
use super::reply::Reply;
use super::request::{FileName, Malformed, Packet, Request};
use super::transfer::{Limits, Outcome, Step, Transfer};

/// The transfers that run.
#[derive(Debug)]
pub struct Desk {
    limits: Limits,
    seats: HashMap<SocketAddr, Seat>,
    /// When to look at which transfer. A transfer's own deadline may be later by
    /// then: each packet puts it off, and it would cost too much to do so here.
    alarms: BinaryHeap<Reverse<(Instant, SocketAddr)>>,
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
    /// This ERROR, since its request is none.
    Refusal(Reply),
    /// Nothing yet: its transfer goes on.
    Nothing,
    /// Nothing, since its packet is worth none.
    Silence(Why),
    /// Nothing, since there is no room for what it asks for.
    LeftLying(FileName, Why),
}

/// What a file can be opened to: its content, with limits that hold on the way to
/// the client; or an ERROR.
pub type Opened = Result<(Bytes, Limits), Reply>;

impl Desk {
    /// An empty one.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, seats: HashMap::new(), alarms: BinaryHeap::new() }
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
                    Opening::Refuse(reply) => Said::Refusal(reply),
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
                Opening::Refuse(reply) => Said::Refusal(reply),
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
        let running = self.seats.keys().map(SocketAddr::ip);
        if let Err(why) = admit(&self.limits, running, client.ip()) {
            return Said::LeftLying(request.file, why);
        }
        let (content, limits) = match open(&request) {
            Ok(opened) => opened,
            Err(refusal) => return Said::Refusal(refusal),
        };
        let (transfer, first) = Transfer::new(content, request, &limits, now);
        let alarm = transfer.deadline();
        self.alarms.push(Reverse((alarm, client)));
        self.seats.insert(client, Seat { transfer, began: now, alarm });
        Said::Packets(first)
    }

    fn follow(&mut self, client: SocketAddr, step: Step, now: Instant) -> Turn {
        let said = match step {
            Step::Send(replies) => Said::Packets(replies),
            Step::Wait => Said::Nothing,
            Step::End(outcome) => {
                let ended = self.seats.remove(&client).map(|seat| {
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
