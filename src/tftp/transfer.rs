//! One read from its first packet to its end, as a machine of states: packets
//! and moments in, packets and an outcome out.
//!
//! RFC 1350, 2347, 2348, 2349 and 7440. It must not know sockets, the clock or
//! where the content comes from.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::pace::{Due, Pace, Repeated, Waits};
use super::reply::Reply;
use super::request::{LARGEST_BLOCK, Options, Packet, Request, SMALLEST_BLOCK};

/// The block size that RFC 1350 §2 fixes, octets: used where none is agreed.
pub const PLAIN_BLOCK: u16 = 512;

/// The largest window that is ever agreed: with half of the block numbers
/// outstanding, an ACK can still be told from a very old one.
pub const LARGEST_WINDOW: u16 = 32767;

/// How many octets a window may have, where it has more than one block: it leaves
/// at once, and has to find room in switches and in the client's buffer.
pub const LARGEST_FLIGHT: u32 = 128 * 1024;

/// How far the server goes for its clients.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest block that is agreed, octets: 8 to 65464.
    pub block_size: u16,
    /// Largest block that is agreed in lockstep (no window, or one of 1) whether or not
    /// it needs IP fragments on the way, octets: 8 to 65464; none where clients may
    /// not be able to put them together.
    pub in_fragments: Option<u16>,
    /// Largest window that is agreed, blocks: 1 to [`LARGEST_WINDOW`].
    pub window: u16,
    /// How long is waited for answers.
    pub waits: Waits,
    /// Transfers at one time, of all clients.
    pub transfers: usize,
    /// Transfers at one time of one IP address.
    pub transfers_per_client: usize,
}

impl Default for Limits {
    /// Blocks as large as the path takes in one packet, 64 in a window, a first wait of
    /// 1 second and 2 at most, 10 seconds for a client that is silent; 1024 transfers,
    /// 128 of them for one address, which may be that of a NAT with a rack behind it.
    fn default() -> Self {
        Self {
            block_size: LARGEST_BLOCK,
            in_fragments: None,
            window: 64,
            waits: Waits {
                first: Duration::from_secs(1),
                longest: Duration::from_secs(2),
                patience: Duration::from_secs(10),
            },
            transfers: 1024,
            transfers_per_client: 128,
        }
    }
}

impl Limits {
    /// These, with blocks that fit into one packet on the way to `client`, which
    /// takes IP packets of `mtu` octets: many boot ROMs cannot put fragments together.
    /// What is allowed in fragments stays so.
    #[must_use]
    pub fn on_path(&self, client: IpAddr, mtu: u32) -> Self {
        // IPv4 (RFC 791) or IPv6 (RFC 8200), UDP (RFC 768), opcode and block.
        let headers = 8 + 4 + if client.to_canonical().is_ipv4() { 20 } else { 40 };
        let fitting = u16::try_from(mtu.saturating_sub(headers)).unwrap_or(LARGEST_BLOCK);
        // A path for less than RFC 1350's blocks is none: then fragments it is.
        let block_size = self.block_size.min(fitting.max(PLAIN_BLOCK));
        Self { block_size, ..self.clone() }
    }
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The client acknowledged the last block.
    Finished,
    /// The client wanted the size only, which was in the OACK. UEFI does this
    /// before each file. Seen on: EDK2 2022.11, ERROR 8 "User aborted the
    /// transfer".
    SizeProbe,
    /// The client ended it with an ERROR.
    Aborted {
        /// The code as sent.
        code: u16,
        /// The client's words, fit to be shown.
        text: String,
    },
    /// The client never answered at all: it has gone on elsewhere, its address was
    /// forged, or something between us does not let our answers through.
    NeverAnswered,
    /// The client did not answer any more, however often it was sent the same.
    TimedOut,
    /// All was sent, and then the client was silent: most likely it has
    /// the file, and its last ACK was lost.
    Unconfirmed,
    /// Nobody listens on the client's port any more: the machine was reset, or it
    /// has the file and its last ACK was lost.
    Gone,
    /// The same client, after a silence or before the first answer, asked anew
    /// from the same port.
    Superseded,
    /// The server was told to stop.
    Stopped,
}

/// What a transfer does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send these, in this order.
    Send(Vec<Reply>),
    /// Nothing: wait for a packet or the deadline.
    Wait,
    /// The transfer is over.
    End(Outcome),
}

/// What the client has told us so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The OACK has no answer yet.
    Opening,
    /// Blocks flow.
    Sending,
}

/// One read under way.
///
/// Blocks are counted from 1 without end; only on the wire do their numbers roll
/// over, from 65535 to 0.
#[derive(Clone, Debug)]
pub struct Transfer {
    content: Bytes,
    request: Request,
    agreed: Options,
    phase: Phase,
    /// The last block that the client has, 0 for none.
    acknowledged: u64,
    /// The last block that was sent, 0 for none.
    sent: u64,
    /// The last block that was sent twice or more often.
    resent: u64,
    /// When the client last acknowledged anything, even for the second time.
    heard: Option<Instant>,
    patience: Duration,
    pace: Pace,
}

impl Transfer {
    /// Starts a read of `content`, and says what to send first: the OACK if any
    /// option is agreed (RFC 2347), else the first block.
    pub fn new(
        content: Bytes,
        request: Request,
        limits: &Limits,
        now: Instant,
    ) -> (Self, Vec<Reply>) {
        let agreed = agree(&request.options, limits, &content);
        let phase = if agreed == Options::default() { Phase::Sending } else { Phase::Opening };
        let agreed_wait =
            agreed.timeout.map(|seconds| limits.waits.agreed(Duration::from_secs(seconds.into())));
        let mut transfer = Self {
            content,
            request,
            agreed,
            phase,
            acknowledged: 0,
            sent: 0,
            resent: 0,
            heard: None,
            patience: limits.waits.first,
            pace: Pace::new(agreed_wait.unwrap_or(limits.waits), now),
        };
        let first = transfer.flight();
        (transfer, first)
    }

    /// Takes a packet from the client: from its port to the transfer's, or a
    /// read that came from the same port to the server's.
    pub fn on(&mut self, packet: &Packet, now: Instant) -> Step {
        match packet {
            Packet::Acknowledge { block } => self.acknowledge(*block, now),
            Packet::Error { code, message } => Step::End(self.ended_by(*code, message)),
            Packet::Read(request) => self.meet(request, now),
            // Nothing of a read that we send. It may be a stray, so it does not
            // end the transfer.
            Packet::Write(_) | Packet::Data { .. } | Packet::OptionAcknowledge(_) => Step::Wait,
        }
    }

    /// Does what the clock calls for, if anything.
    pub fn on_timeout(&mut self, now: Instant) -> Step {
        match self.pace.due(now) {
            Due::Nothing => Step::Wait,
            Due::Resend => self.again(),
            Due::GiveUp => Step::End(self.given_up()),
        }
    }

    /// When [`Transfer::on_timeout`] is to be called next.
    pub fn deadline(&self) -> Instant {
        self.pace.deadline()
    }

    /// What was asked for.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Octets of a full block, as agreed.
    pub fn block_size(&self) -> u16 {
        self.agreed.block_size.unwrap_or(PLAIN_BLOCK)
    }

    /// Blocks for each ACK, as agreed.
    pub fn window(&self) -> u16 {
        self.agreed.window.unwrap_or(1)
    }

    /// Octets of the content that the client has acknowledged.
    pub fn delivered(&self) -> u64 {
        let octets = self.acknowledged.saturating_mul(self.block_size().into());
        octets.min(self.content.len() as u64)
    }

    fn acknowledge(&mut self, block: u16, now: Instant) -> Step {
        self.heard = Some(now);
        if self.phase == Phase::Opening {
            // RFC 2347: the answer to an OACK is an ACK of block 0.
            if block != 0 {
                return Step::Wait;
            }
            self.phase = Phase::Sending;
            self.pace.progress(now);
            return Step::Send(self.flight());
        }
        // How many blocks it is ahead of the last ACK, on a wire of 16 bits.
        let ahead = u64::from(block.wrapping_sub(wire_number(self.acknowledged)));
        if ahead == 0 {
            return self.repeat(now);
        }
        if ahead > self.sent - self.acknowledged {
            // Older than the last one, or of a block that was never sent.
            return Step::Wait;
        }
        self.acknowledged += ahead;
        if self.acknowledged == self.last_block() {
            return Step::End(Outcome::Finished);
        }
        let is_too_soon = self.pace.is_too_soon(now);
        self.pace.progress(now);
        if self.acknowledged == self.sent {
            return Step::Send(self.flight());
        }
        // From the middle of a window. RFC 7440 §4: the next window begins behind the
        // block that was acknowledged, since the one after it was lost. But EDK2 also
        // says what it has to each block that it had already. What we have sent twice
        // it answers so with the last block of the first copy, or sooner than the second
        // one can be there; to begin again for that would never end, another
        // Sorcerer's Apprentice.
        let was_not_lost =
            self.acknowledged == self.resent || self.acknowledged < self.resent && is_too_soon;
        if was_not_lost { self.onward() } else { self.again() }
    }

    /// The client acknowledges once more what it has.
    fn repeat(&mut self, now: Instant) -> Step {
        // RFC 1123 §4.2.3.1: in lockstep only the clock sends anything again.
        if self.window() == 1 {
            return Step::Wait;
        }
        match self.pace.repeated(now) {
            Repeated::Resend => self.again(),
            Repeated::Later => Step::Wait,
        }
    }

    fn given_up(&self) -> Outcome {
        match self.heard {
            None => Outcome::NeverAnswered,
            Some(_) if self.sent == self.last_block() => Outcome::Unconfirmed,
            Some(_) => Outcome::TimedOut,
        }
    }

    fn ended_by(&self, code: u16, message: &str) -> Outcome {
        let size_was_told = self.agreed.size.is_some();
        if size_was_told && self.acknowledged == 0 && matches!(code, 0 | 8) {
            return Outcome::SizeProbe;
        }
        Outcome::Aborted { code, text: message.to_owned() }
    }

    /// The client sends a request from a port whose transfer is running.
    fn meet(&mut self, request: &Request, now: Instant) -> Step {
        let Some(heard) = self.heard else {
            return if *request == self.request {
                // It was sent twice, or our first packet was lost.
                self.again()
            } else {
                Step::End(Outcome::Superseded)
            };
        };
        // A client that acknowledges blocks asks nothing on the side: the request
        // is a copy that took a longer way. After a silence the machine
        // has started anew.
        if now.saturating_duration_since(heard) < self.patience {
            Step::Wait
        } else {
            Step::End(Outcome::Superseded)
        }
    }

    /// All that has no answer yet: the OACK, or the window behind the last ACK.
    fn flight(&mut self) -> Vec<Reply> {
        match self.phase {
            Phase::Opening => vec![Reply::Options(self.agreed)],
            Phase::Sending => {
                let end = self.acknowledged + u64::from(self.window());
                self.sent = end.min(self.last_block());
                let blocks = self.acknowledged + 1..=self.sent;
                blocks.map(|block| self.data(block)).collect()
            }
        }
    }

    /// All that has no answer yet, for the second time.
    fn again(&mut self) -> Step {
        let sent_before = self.sent;
        let flight = self.flight();
        self.resent = sent_before;
        Step::Send(flight)
    }

    /// What the window has room for beside what is on its way.
    fn onward(&mut self) -> Step {
        let on_its_way = self.sent;
        let end = self.acknowledged + u64::from(self.window());
        self.sent = end.min(self.last_block());
        let blocks: Vec<Reply> =
            (on_its_way + 1..=self.sent).map(|block| self.data(block)).collect();
        if blocks.is_empty() { Step::Wait } else { Step::Send(blocks) }
    }

    fn data(&self, block: u64) -> Reply {
        let size = usize::from(self.block_size());
        let number = wire_number(block);
        let blocks_before = usize::try_from(block - 1).unwrap_or(usize::MAX);
        let length = self.content.len();
        let start = blocks_before.saturating_mul(size).min(length);
        let end = start.saturating_add(size).min(length);
        Reply::Data { block: number, payload: self.content.slice(start..end) }
    }

    /// The last block is the first that is not full: empty, where the content is
    /// an exact multiple (RFC 1350 §6).
    fn last_block(&self) -> u64 {
        self.content.len() as u64 / u64::from(self.block_size()) + 1
    }
}

fn wire_number(block: u64) -> u16 {
    (block & 0xffff) as u16
}

/// Agrees to what was asked, as far as the limits go, and to nothing else.
fn agree(asked: &Options, limits: &Limits, content: &Bytes) -> Options {
    // In a window packets follow each other anyway: cut up by `UDP_SEGMENT` they
    // leave in one call, and one that is lost is one block.
    let is_lockstep = asked.window.is_none_or(|window| window <= 1);
    let in_fragments = limits.in_fragments.filter(|_| is_lockstep);
    // The largest block of RFC 2348 is still a UDP datagram, over IPv4, too.
    let largest_block = in_fragments.unwrap_or(limits.block_size);
    let largest_block = largest_block.clamp(SMALLEST_BLOCK, LARGEST_BLOCK);
    let largest_window = limits.window.clamp(1, LARGEST_WINDOW);
    let block_size = asked.block_size.map(|asked| asked.clamp(SMALLEST_BLOCK, largest_block));
    let in_flight = LARGEST_FLIGHT / u32::from(block_size.unwrap_or(PLAIN_BLOCK));
    let largest_window = largest_window.min(u16::try_from(in_flight).unwrap_or(LARGEST_WINDOW));
    Options {
        block_size,
        timeout: asked.timeout.map(|asked| asked.max(1)),
        size: asked.size.map(|_asked| content.len() as u64),
        window: asked.window.map(|asked| asked.clamp(1, largest_window)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use proptest::prelude::*;

    use super::super::request::{FileName, Mode, parse};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const WAY: Duration = Duration::from_millis(2);

    #[test]
    fn without_options_the_first_packet_is_block_1_of_512_octets() {
        let (transfer, first) = start(600, Options::default());
        assert_eq!(blocks(&first), [(1, 512)]);
        assert_eq!((transfer.block_size(), transfer.window()), (512, 1));
    }

    #[test]
    fn the_oack_has_what_was_asked_within_the_limits() {
        let agreed = |asked| match start(600, asked).1.as_slice() {
            [Reply::Options(agreed)] => *agreed,
            other => panic!("not one OACK: {other:?}"),
        };
        let all =
            Options { block_size: Some(9000), timeout: Some(7), size: Some(0), window: Some(99) };
        let expected =
            Options { block_size: Some(1468), timeout: Some(7), size: Some(600), window: Some(64) };
        assert_eq!(agreed(all), expected);
        assert_eq!(agreed(of(Some(1024), None)), of(Some(1024), None));
        assert_eq!(agreed(of(None, Some(4))), of(None, Some(4)));
        let size = |size| Options { size: Some(size), ..Options::default() };
        assert_eq!(agreed(size(0)), size(600));
        assert_eq!(agreed(size(99)), size(600));
    }

    #[test]
    fn limits_that_no_rfc_allows_are_brought_into_range() {
        let limits = Limits { block_size: 0, window: 0, ..Limits::default() };
        let asked = of(Some(512), Some(4));
        let (_transfer, first) =
            Transfer::new(content(20), request(asked), &limits, Instant::now());
        assert_eq!(first, [Reply::Options(of(Some(8), Some(1)))]);
    }

    #[test]
    fn an_empty_file_is_one_empty_block() {
        let (mut transfer, first) = start(0, Options::default());
        assert_eq!(blocks(&first), [(1, 0)]);
        assert_eq!(acknowledge(&mut transfer, 1), Step::End(Outcome::Finished));
        assert_eq!(transfer.delivered(), 0);
    }

    #[test]
    fn an_exact_multiple_ends_with_an_empty_block() {
        let (mut transfer, _first) = start(1024, Options::default());
        assert_eq!(blocks(&sent(acknowledge(&mut transfer, 1))), [(2, 512)]);
        assert_eq!(blocks(&sent(acknowledge(&mut transfer, 2))), [(3, 0)]);
        assert_eq!(acknowledge(&mut transfer, 3), Step::End(Outcome::Finished));
        assert_eq!(transfer.delivered(), 1024);
    }

    #[test]
    fn a_window_is_sent_at_once_and_the_last_one_is_shorter() {
        let mut transfer = windowed(40, 8, 4);
        assert_eq!(blocks(&sent(acknowledge(&mut transfer, 0))), [(1, 8), (2, 8), (3, 8), (4, 8)]);
        assert_eq!(blocks(&sent(acknowledge(&mut transfer, 4))), [(5, 8), (6, 0)]);
        assert_eq!(acknowledge(&mut transfer, 6), Step::End(Outcome::Finished));
    }

    #[test]
    fn an_ack_from_the_middle_of_a_window_restarts_it_from_there() {
        let mut transfer = windowed(800, 8, 4);
        acknowledge(&mut transfer, 0);
        assert_eq!(numbers(acknowledge(&mut transfer, 2)), [3, 4, 5, 6]);
    }

    #[test]
    fn what_was_sent_twice_restarts_no_window() {
        let mut transfer = windowed(800, 8, 4);
        let start = Instant::now() + WAY;
        at(&mut transfer, 0, start);
        assert_eq!(numbers(at(&mut transfer, 2, start + WAY)), [3, 4, 5, 6]);
        // Block 3 was not lost, so block 3 comes twice, and EDK2 says what it has.
        assert_eq!(numbers(at(&mut transfer, 4, start + 2 * WAY)), [7, 8]);
        assert_eq!(at(&mut transfer, 4, start + 2 * WAY), Step::Wait);
        assert_eq!(numbers(at(&mut transfer, 8, start + 3 * WAY)), [9, 10, 11, 12]);
        // But what is missing still is sent again.
        assert_eq!(numbers(at(&mut transfer, 9, start + 4 * WAY)), [10, 11, 12, 13]);
        assert_eq!(numbers(at(&mut transfer, 11, start + 5 * WAY)), [12, 13, 14, 15]);
        assert_eq!(numbers(at(&mut transfer, 12, start + 5 * WAY + WAY / 4)), [16]);
        assert_eq!(numbers(at(&mut transfer, 12, start + 7 * WAY)), [13, 14, 15, 16]);
    }

    #[test]
    fn an_ack_repeated_in_a_window_restarts_it_at_once() {
        let mut transfer = windowed(800, 8, 4);
        let start = Instant::now();
        assert_eq!(numbers(at(&mut transfer, 0, start)), [1, 2, 3, 4]);
        assert_eq!(numbers(at(&mut transfer, 4, start + WAY)), [5, 6, 7, 8]);
        assert_eq!(numbers(at(&mut transfer, 4, start + 2 * WAY)), [5, 6, 7, 8]);
    }

    #[test]
    fn an_ack_repeated_for_each_block_out_of_order_restarts_the_window_once() {
        let mut transfer = windowed(800, 8, 4);
        let start = Instant::now();
        at(&mut transfer, 0, start);
        at(&mut transfer, 4, start + WAY);
        assert_eq!(numbers(at(&mut transfer, 4, start + 2 * WAY)), [5, 6, 7, 8]);
        assert_eq!(at(&mut transfer, 4, start + 2 * WAY), Step::Wait);
        assert_eq!(at(&mut transfer, 4, start + 3 * WAY), Step::Wait);
    }

    #[test]
    fn in_lockstep_a_repeated_ack_sends_nothing() {
        let (mut transfer, _first) = start(5000, Options::default());
        assert_eq!(numbers(acknowledge(&mut transfer, 1)), [2]);
        assert_eq!(acknowledge(&mut transfer, 1), Step::Wait);
        assert_eq!(acknowledge(&mut transfer, 0), Step::Wait);
        assert_eq!(numbers(acknowledge(&mut transfer, 2)), [3]);
        assert_eq!(acknowledge(&mut transfer, 1), Step::Wait);
    }

    #[test]
    fn an_ack_of_what_was_never_sent_is_ignored() {
        let mut transfer = windowed(800, 8, 4);
        assert_eq!(acknowledge(&mut transfer, 1), Step::Wait);
        acknowledge(&mut transfer, 0);
        assert_eq!(acknowledge(&mut transfer, 5), Step::Wait);
        assert_eq!(acknowledge(&mut transfer, 65535), Step::Wait);
        assert_eq!(transfer.delivered(), 0);
    }

    #[test]
    fn what_is_no_part_of_a_read_is_ignored() {
        let (mut transfer, _first) = start(5000, Options::default());
        let strays: [&[u8]; 3] =
            [b"\x00\x02x\x00octet\x00", b"\x00\x03\x00\x01x", b"\x00\x06tsize\x000\x00"];
        for stray in strays {
            let packet = parse(stray).unwrap();
            assert_eq!(transfer.on(&packet, Instant::now()), Step::Wait, "{packet:?}");
        }
    }

    #[test]
    fn the_size_probe_of_uefi_is_no_failure() {
        let asked = Options { size: Some(0), ..of(Some(1468), Some(4)) };
        let probe = Step::End(Outcome::SizeProbe);
        assert_eq!(error(&mut start(5000, asked).0, 8), probe);
        assert_eq!(error(&mut start(5000, asked).0, 0), probe);
    }

    #[test]
    fn other_errors_abort() {
        let aborted = |code| Step::End(Outcome::Aborted { code, text: "enough".to_owned() });
        let asked = Options { size: Some(0), ..Options::default() };
        assert_eq!(error(&mut start(5000, asked).0, 3), aborted(3));
        assert_eq!(error(&mut start(5000, of(Some(512), None)).0, 8), aborted(8));
        let (mut transfer, _first) = start(5000, asked);
        acknowledge(&mut transfer, 0);
        acknowledge(&mut transfer, 1);
        assert_eq!(error(&mut transfer, 8), aborted(8));
    }

    #[test]
    fn a_request_sent_twice_gets_the_first_packet_again() {
        let (mut transfer, first) = start(5000, of(Some(1024), None));
        let again = Packet::Read(request(of(Some(1024), None)));
        assert_eq!(transfer.on(&again, Instant::now()), Step::Send(first));
        acknowledge(&mut transfer, 0);
        assert_eq!(transfer.on(&again, Instant::now()), Step::Wait);
    }

    #[test]
    fn another_request_before_the_first_answer_supersedes() {
        let (mut transfer, _first) = start(5000, of(Some(1024), None));
        let other = Packet::Read(request(Options::default()));
        assert_eq!(transfer.on(&other, Instant::now()), Step::End(Outcome::Superseded));
    }

    #[test]
    fn a_request_after_a_silence_supersedes() {
        let (mut transfer, _first) = start(5000, Options::default());
        let now = Instant::now();
        at(&mut transfer, 1, now);
        let again = Packet::Read(request(Options::default()));
        assert_eq!(transfer.on(&again, now + SECOND / 2), Step::Wait);
        assert_eq!(transfer.on(&again, now + SECOND), Step::End(Outcome::Superseded));
    }

    #[test]
    fn a_silent_client_is_sent_the_same_until_it_is_given_up() {
        let now = Instant::now();
        let asked = request(of(Some(512), Some(2)));
        let (mut transfer, _first) = Transfer::new(content(5000), asked, &Limits::default(), now);
        assert_eq!(numbers(at(&mut transfer, 0, now)), [1, 2]);
        let mut waited = Vec::new();
        loop {
            waited.push((transfer.deadline() - now).as_millis());
            match transfer.on_timeout(transfer.deadline()) {
                Step::Send(replies) => {
                    assert_eq!(blocks(&replies), [(1, 512), (2, 512)]);
                }
                Step::End(outcome) => {
                    assert_eq!(outcome, Outcome::TimedOut);
                    break;
                }
                Step::Wait => panic!("waits at its deadline"),
            }
        }
        assert_eq!(waited, [100, 300, 700, 1500, 3100, 5100, 7100, 9100, 10_000]);
    }

    #[test]
    fn a_client_that_never_answers_is_told_from_one_that_has_most_likely_all() {
        let outcome = |mut transfer: Transfer| loop {
            if let Step::End(outcome) = transfer.on_timeout(transfer.deadline()) {
                return outcome;
            }
        };
        assert_eq!(outcome(start(5000, Options::default()).0), Outcome::NeverAnswered);
        assert_eq!(outcome(windowed(5000, 512, 4)), Outcome::NeverAnswered);
        let mut transfer = windowed(5000, 512, 4);
        acknowledge(&mut transfer, 0);
        acknowledge(&mut transfer, 4);
        assert_eq!(outcome(transfer.clone()), Outcome::TimedOut);
        acknowledge(&mut transfer, 8);
        assert_eq!(outcome(transfer), Outcome::Unconfirmed);
    }

    #[test]
    fn a_block_fits_into_one_packet_on_its_path() {
        let client = IpAddr::from([192, 0, 2, 1]);
        let largest = |mtu, client| Limits::default().on_path(client, mtu).block_size;
        assert_eq!(largest(1500, client), 1468);
        assert_eq!(largest(1450, client), 1418);
        assert_eq!(largest(9000, client), 8968);
        assert_eq!(largest(65_536, client), LARGEST_BLOCK);
        assert_eq!(largest(u32::MAX, client), LARGEST_BLOCK);
        assert_eq!(largest(1500, "2001:db8::1".parse().unwrap()), 1448);
        assert_eq!(largest(1500, "::ffff:192.0.2.1".parse().unwrap()), 1468);
        assert_eq!(largest(68, client), PLAIN_BLOCK);
        let configured = Limits { block_size: 1024, ..Limits::default() };
        assert_eq!(configured.on_path(client, 1500).block_size, 1024);
    }

    #[test]
    fn in_lockstep_a_block_that_may_need_fragments_is_as_large_as_is_asked_for() {
        let limits = Limits { in_fragments: Some(LARGEST_BLOCK), ..Limits::default() };
        let smaller = Limits { in_fragments: Some(4096), ..limits.clone() };
        for (client, fits) in [("192.0.2.1", 1468), ("2001:db8::1", 1448)] {
            let client: IpAddr = client.parse().unwrap();
            let block_size = |limits: &Limits, asked, window| {
                let (limits, asked) = (limits.on_path(client, 1500), request(of(asked, window)));
                Transfer::new(content(9), asked, &limits, Instant::now()).0.block_size()
            };
            for asked in [8, 1024, 1469, 8192, LARGEST_BLOCK] {
                for lockstep in [None, Some(1)] {
                    assert_eq!(block_size(&limits, Some(asked), lockstep), asked);
                    assert_eq!(block_size(&smaller, Some(asked), lockstep), asked.min(4096));
                }
                assert_eq!(block_size(&limits, Some(asked), Some(2)), asked.min(fits));
            }
            assert_eq!(block_size(&limits, None, None), PLAIN_BLOCK);
        }
    }

    /// What a request with a forged source address can bring upon others.
    #[test]
    fn before_the_first_ack_blocks_of_any_size_cost_no_more_than_an_oack() {
        let fitting = ethernet();
        let limits = Limits { in_fragments: Some(LARGEST_BLOCK), ..ethernet() };
        let asked = request(of(Some(LARGEST_BLOCK), None));
        let octets = |limits: &Limits| {
            let now = Instant::now();
            let (mut transfer, first) = Transfer::new(content(999_999), asked.clone(), limits, now);
            let mut all = first;
            loop {
                match transfer.on_timeout(transfer.deadline()) {
                    Step::Send(again) => all.extend(again),
                    Step::Wait => {}
                    Step::End(outcome) => break assert_eq!(outcome, Outcome::NeverAnswered),
                }
            }
            assert!(all.iter().all(|reply| matches!(reply, Reply::Options(_))), "{all:?}");
            let mut octets = Vec::new();
            all.iter().for_each(|reply| reply.encode(&mut octets));
            (all.len(), octets.len())
        };
        let ((count, with), (count_without, without)) = (octets(&limits), octets(&fitting));
        assert_eq!(count, count_without);
        // Only the digits of the numbers differ.
        assert!(with <= without + count, "{with}, {without}");
    }

    #[test]
    fn a_window_of_large_blocks_has_fewer_of_them() {
        let window = |block_size| {
            let asked = of(Some(block_size), Some(64));
            let limits = Limits::default();
            Transfer::new(content(9), request(asked), &limits, Instant::now()).0.window()
        };
        assert_eq!(window(1468), 64);
        assert_eq!(window(8192), 16);
        assert_eq!(window(LARGEST_BLOCK), 2);
    }

    #[test]
    fn block_numbers_roll_over() {
        check_clean_network(70_000 * 8 + 3, of(Some(8), None));
        check_clean_network(140_000 * 8, of(Some(8), Some(16)));
        check_clean_network(65_535 * 8, of(Some(8), Some(5)));
        check_clean_network(65_534 * 8, of(Some(8), None));
    }

    #[test]
    fn a_doubled_ack_does_not_double_the_transfer() {
        for window in [1, 2, 4, 16] {
            for late in [0, 1, 150, 250, 390, 410, 1000] {
                let fates = vec![Fate::Arrives, Fate::Arrives, Fate::Twice(late)];
                let mut network =
                    Network::new(content(500 * 64), of(Some(64), Some(window)), fates);
                network.fate_of_data = Fate::Arrives;
                network.run();
                assert!(network.finished, "window {window}, {late} late");
                let most = 501 + 2 * usize::from(window);
                let data = network.data_sent;
                assert!(data <= most, "window {window}, {late} late: {data} blocks");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn whatever_the_network_does_no_byte_is_wrong(
            length in 0_usize..4000,
            block_size in proptest::option::of(8_u16..600),
            window in proptest::option::of(1_u16..20),
            fates in proptest::collection::vec(fate(), 0..400),
            chatty in any::<bool>(),
        ) {
            let content = content(length);
            let mut network = Network::new(content.clone(), of(block_size, window), fates);
            network.chatty = chatty;
            network.run();
            prop_assert!(content.starts_with(&network.client.file), "wrong bytes");
            let complete = network.client.complete && network.client.file == content;
            let given_up = matches!(
                network.outcome,
                Some(Outcome::TimedOut | Outcome::NeverAnswered | Outcome::Unconfirmed)
            );
            prop_assert!(complete || given_up, "{:?}", network.outcome);
            if network.outcome == Some(Outcome::Finished) {
                prop_assert!(complete);
            }
        }

        #[test]
        fn a_few_losses_never_end_a_transfer(
            length in 0_usize..4000,
            window in proptest::option::of(1_u16..20),
            fates in proptest::collection::vec(
                prop_oneof![4 => Just(Fate::Arrives), 1 => Just(Fate::Lost)], 0..30,
            ),
        ) {
            let lost = fates.iter().filter(|fate| **fate == Fate::Lost).count();
            prop_assume!(lost <= 5);
            let mut network = Network::new(content(length), of(Some(64), window), fates);
            network.run();
            prop_assert_eq!(network.client.file, content(length));
            prop_assert!(network.client.complete);
        }
    }

    /// What the network does to a packet; times are in hundredths of [`WAY`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fate {
        Arrives,
        Lost,
        Late(u32),
        Twice(u32),
    }

    fn fate() -> impl Strategy<Value = Fate> {
        prop_oneof![
            6 => Just(Fate::Arrives),
            2 => Just(Fate::Lost),
            2 => (0_u32..100_000).prop_map(Fate::Late),
            2 => (0_u32..1000).prop_map(Fate::Late),
            2 => (0_u32..1000).prop_map(Fate::Twice),
        ]
    }

    /// A client after RFC 1350 and RFC 7440 §4: acknowledges each window, and
    /// whatever is out of order.
    struct Client {
        file: Vec<u8>,
        block_size: usize,
        window: u64,
        /// Blocks that came in order.
        blocks: u64,
        since_ack: u64,
        opened: bool,
        complete: bool,
        /// It has said once that a block is missing, and not seen one in order since.
        complained: bool,
    }

    impl Client {
        fn hear(&mut self, packet: &Packet, chatty: bool) -> Option<u16> {
            match packet {
                Packet::OptionAcknowledge(agreed) => {
                    self.block_size = usize::from(agreed.block_size.unwrap_or(512));
                    self.window = u64::from(agreed.window.unwrap_or(1));
                    self.opened = true;
                    (self.blocks == 0).then_some(0)
                }
                Packet::Data { block, payload } => {
                    if !self.opened {
                        return None;
                    }
                    if self.complete || *block != wire_number(self.blocks + 1) {
                        let again = chatty || !self.complained || self.window == 1;
                        self.complained = true;
                        self.since_ack = 0;
                        return again.then(|| self.last());
                    }
                    self.complained = false;
                    self.file.extend_from_slice(payload);
                    self.blocks += 1;
                    self.since_ack += 1;
                    self.complete = payload.len() < self.block_size;
                    if self.complete || self.since_ack == self.window {
                        self.since_ack = 0;
                        return Some(self.last());
                    }
                    None
                }
                other => panic!("the server said {other:?}"),
            }
        }

        fn last(&self) -> u16 {
            wire_number(self.blocks)
        }
    }

    /// When a packet arrives, its number among all, whether it goes to the client,
    /// and its octets.
    type OnTheWay = (Instant, u64, bool, Vec<u8>);

    /// A transfer and a client with a network between them that does to one packet
    /// after the other what `fates` say, and then nothing bad any more.
    struct Network {
        transfer: Transfer,
        client: Client,
        fates: Vec<Fate>,
        used: usize,
        fate_of_data: Fate,
        chatty: bool,
        on_the_way: BinaryHeap<Reverse<OnTheWay>>,
        count: u64,
        now: Instant,
        data_sent: usize,
        outcome: Option<Outcome>,
        finished: bool,
        first: Vec<Reply>,
    }

    impl Network {
        fn new(content: Bytes, asked: Options, fates: Vec<Fate>) -> Self {
            let now = Instant::now();
            let (transfer, first) = Transfer::new(content, request(asked), &Limits::default(), now);
            let client = Client {
                file: Vec::new(),
                block_size: 512,
                window: 1,
                blocks: 0,
                since_ack: 0,
                opened: asked == Options::default(),
                complete: false,
                complained: false,
            };
            Self {
                transfer,
                client,
                fates,
                used: 0,
                fate_of_data: Fate::Lost,
                chatty: false,
                on_the_way: BinaryHeap::new(),
                count: 0,
                now,
                data_sent: 0,
                outcome: None,
                finished: false,
                first,
            }
        }

        fn run(&mut self) {
            let mut client_due = self.now + SECOND;
            let first = std::mem::take(&mut self.first);
            self.act(Step::Send(first));
            for _each in 0..2_000_000 {
                let Some(next) = self.next(client_due) else {
                    return;
                };
                if let Some(Reverse((when, _, to_client, datagram))) = next {
                    self.now = when;
                    let packet = parse(&datagram).unwrap();
                    if to_client {
                        client_due = self.now + SECOND;
                        if let Some(block) = self.client.hear(&packet, self.chatty) {
                            self.send(false, [4_u16.to_be_bytes(), block.to_be_bytes()].concat());
                        }
                    } else {
                        let step = self.transfer.on(&packet, self.now);
                        self.act(step);
                    }
                } else if client_due < self.transfer.deadline() {
                    // RFC 1350 §2: a client that misses something says again what
                    // it has; one that is complete has gone.
                    self.now = client_due;
                    client_due = self.now + SECOND;
                    if self.client.opened && self.client.blocks > 0 && !self.client.complete {
                        let block = self.client.last();
                        self.send(false, [4_u16.to_be_bytes(), block.to_be_bytes()].concat());
                    }
                } else {
                    self.now = self.transfer.deadline();
                    let step = self.transfer.on_timeout(self.now);
                    self.act(step);
                }
            }
            panic!("no end");
        }

        /// The next packet, if it comes before both clocks; `None` at the end.
        fn next(&mut self, client_due: Instant) -> Option<Option<Reverse<OnTheWay>>> {
            if self.outcome.is_some() {
                return None;
            }
            let clock = client_due.min(self.transfer.deadline());
            match self.on_the_way.peek() {
                Some(Reverse((when, ..))) if *when <= clock => Some(self.on_the_way.pop()),
                Some(_) | None => Some(None),
            }
        }

        fn act(&mut self, step: Step) {
            match step {
                Step::Send(replies) => {
                    for reply in replies {
                        if matches!(reply, Reply::Data { .. }) {
                            self.data_sent += 1;
                        }
                        let mut datagram = Vec::new();
                        reply.encode(&mut datagram);
                        self.send(true, datagram);
                    }
                }
                Step::Wait => {}
                Step::End(outcome) => {
                    self.finished = outcome == Outcome::Finished;
                    self.outcome = Some(outcome);
                }
            }
        }

        fn send(&mut self, to_client: bool, datagram: Vec<u8>) {
            // Where `fate_of_data` is set to `Arrives`, only ACKs have fates.
            let fate = if to_client && self.fate_of_data == Fate::Arrives {
                Fate::Arrives
            } else {
                let fate = self.fates.get(self.used).copied();
                self.used += 1;
                fate.unwrap_or(Fate::Arrives)
            };
            let late = |hundredths: u32| WAY * hundredths / 100;
            let delays = match fate {
                Fate::Arrives => vec![WAY],
                Fate::Lost => vec![],
                Fate::Late(by) => vec![WAY + late(by)],
                Fate::Twice(by) => vec![WAY, WAY + late(by)],
            };
            for delay in delays {
                self.count += 1;
                let packet = (self.now + delay, self.count, to_client, datagram.clone());
                self.on_the_way.push(Reverse(packet));
            }
        }
    }

    fn check_clean_network(length: usize, asked: Options) {
        let content = content(length);
        let mut network = Network::new(content.clone(), asked, Vec::new());
        network.run();
        assert_eq!(network.outcome, Some(Outcome::Finished));
        assert!(network.client.file == content, "{asked:?}");
        let block_size = usize::from(asked.block_size.unwrap());
        assert_eq!(network.data_sent, length / block_size + 1);
    }

    fn of(block_size: Option<u16>, window: Option<u16>) -> Options {
        Options { block_size, window, ..Options::default() }
    }

    fn content(length: usize) -> Bytes {
        // Blocks at different places differ, also 65536 blocks apart.
        let octet = |index: usize| (index ^ (index >> 8) ^ (index >> 16)) as u8;
        (0..length).map(octet).collect()
    }

    fn request(options: Options) -> Request {
        Request { file: FileName::normalise(b"boot.efi").unwrap(), mode: Mode::Octet, options }
    }

    fn start(length: usize, asked: Options) -> (Transfer, Vec<Reply>) {
        Transfer::new(content(length), request(asked), &ethernet(), Instant::now())
    }

    fn ethernet() -> Limits {
        Limits::default().on_path([192, 0, 2, 1].into(), 1500)
    }

    fn windowed(length: usize, block_size: u16, window: u16) -> Transfer {
        start(length, of(Some(block_size), Some(window))).0
    }

    fn at(transfer: &mut Transfer, block: u16, now: Instant) -> Step {
        transfer.on(&Packet::Acknowledge { block }, now)
    }

    fn acknowledge(transfer: &mut Transfer, block: u16) -> Step {
        at(transfer, block, Instant::now())
    }

    fn error(transfer: &mut Transfer, code: u16) -> Step {
        let message = "enough".to_owned();
        transfer.on(&Packet::Error { code, message }, Instant::now())
    }

    fn sent(step: Step) -> Vec<Reply> {
        match step {
            Step::Send(replies) => replies,
            other => panic!("nothing sent: {other:?}"),
        }
    }

    fn numbers(step: Step) -> Vec<u16> {
        blocks(&sent(step)).iter().map(|block| block.0).collect()
    }

    fn blocks(replies: &[Reply]) -> Vec<(u16, usize)> {
        let block = |reply: &Reply| match reply {
            Reply::Data { block, payload } => (*block, payload.len()),
            other => panic!("not a block: {other:?}"),
        };
        replies.iter().map(block).collect()
    }
}
