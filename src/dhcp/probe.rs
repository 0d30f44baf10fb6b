//! Whether somebody uses an address: an ARP probe on our own link (RFC 5227
//! §2.1), an ICMP echo beyond a router (RFC 2131 §4.4.1). Asks and waits; what
//! follows from the answer is decided elsewhere.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, ArpPacketSlice, IcmpEchoHeader, Icmpv4Header, Icmpv4Slice,
    Icmpv4Type, Ipv4Slice,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::{net::UdpSocket, sync::oneshot, task::JoinSet};
use tracing::{debug, info};

use super::{answer::Probed, link, lookout::Sightings};
use crate::model::{Mac, Subnets, Timestamp};

/// How long an answer is waited for: on a link it takes well under a millisecond,
/// through a few routers some. UEFI collects offers for 3.7 s, iPXE asks again
/// after one.
const LIMIT: Duration = Duration::from_millis(400);

/// A lost packet must not make an address look free: so often it is asked.
const ATTEMPTS: u32 = 2;

/// All that addresses are looked at by.
#[derive(Debug)]
pub(super) struct Prober {
    /// By the adapters.
    links: HashMap<String, Ears>,
    beyond: Option<Ears>,
    /// What was seen on our links.
    sightings: Mutex<Sightings>,
}

impl Prober {
    /// What is needed for these networks. Where the right to it is missing,
    /// nobody answers.
    pub(super) fn open(subnets: &Subnets) -> Self {
        let adapters = subnets.iter().filter_map(|subnet| subnet.adapter.as_deref());
        let links = adapters.filter_map(|name| {
            let ears = or_nothing(Voice::link(name).and_then(Ears::new), name)?;
            Some((name.to_owned(), ears))
        });
        let links = links.collect();
        let is_beyond = subnets.iter().any(|subnet| subnet.adapter.is_none());
        let echo = || or_nothing(Voice::echo().and_then(Ears::new), "relays");
        let sightings = Mutex::default();
        Self { links, beyond: is_beyond.then(echo).flatten(), sightings }
    }

    /// Hears the answers until it is dropped.
    pub(super) fn listen(self: &std::sync::Arc<Self>, tasks: &mut JoinSet<()>) {
        let names = self.links.keys().cloned().map(Some).chain(self.beyond.as_ref().map(|_| None));
        for name in names {
            let prober = std::sync::Arc::clone(self);
            tasks.spawn(async move {
                if let Some(ears) = prober.ears(name.as_deref()) {
                    ears.listen(|address| prober.seen(|seen| seen.heard(address))).await;
                }
            });
        }
    }

    /// Asks who uses the address, on our link or, without an adapter, beyond a
    /// router.
    pub(super) async fn probe(&self, address: Ipv4Addr, adapter: Option<&str>) -> Probed {
        let Some(ears) = self.ears(adapter) else { return Probed::Quiet(address) };
        let probed = match ears.probe(address).await {
            Ok(probed) => probed,
            Err(error) => {
                // No way leads to it: that says nothing of it later.
                debug!(%error, %address, "cannot be asked for");
                return Probed::Quiet(address);
            }
        };
        debug!(%address, ?probed, "looked at");
        if adapter.is_some() {
            let is_quiet = matches!(probed, Probed::Quiet(_));
            self.seen(|seen| seen.keep(address, is_quiet, now()));
        }
        probed
    }

    /// Whether a look of a short while ago is as good as one now.
    pub(super) fn vouches_for(&self, address: Ipv4Addr) -> bool {
        self.seen(|seen| seen.vouch_for(address, now()))
    }

    /// Those of the addresses, each with its adapter, that are to be looked at ahead of
    /// time now.
    pub(super) fn due<'a>(&self, addresses: Vec<(Ipv4Addr, &'a str)>) -> Vec<(Ipv4Addr, &'a str)> {
        self.seen(|seen| seen.due(addresses, now()))
    }

    fn seen<T>(&self, act: impl FnOnce(&mut Sightings) -> T) -> T {
        // Nothing in it is left half done by a panic.
        act(&mut self.sightings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ears(&self, adapter: Option<&str>) -> Option<&Ears> {
        match adapter {
            Some(adapter) => self.links.get(adapter),
            None => self.beyond.as_ref(),
        }
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

fn or_nothing<T>(opened: io::Result<T>, place: &str) -> Option<T> {
    opened
        .inspect_err(|error| info!(%error, place, "addresses are offered without being looked at"))
        .ok()
}

/// Who waits for which address to be answered for.
type Waiting = HashMap<Ipv4Addr, Vec<oneshot::Sender<Option<Mac>>>>;

/// A socket, and who waits for what it hears.
#[derive(Debug)]
struct Ears {
    /// No UDP socket: the system takes any kind, as long as nobody asks it for
    /// addresses.
    ear: UdpSocket,
    mouth: Socket,
    voice: Voice,
    waiting: Mutex<Waiting>,
}

impl Ears {
    fn new((socket, voice): (Socket, Voice)) -> io::Result<Self> {
        let ear = UdpSocket::from_std(socket.try_clone()?.into())?;
        Ok(Self { ear, mouth: socket, voice, waiting: Mutex::default() })
    }

    /// Fails where it cannot be asked: waiting would not help.
    async fn probe(&self, address: Ipv4Addr) -> io::Result<Probed> {
        let (tell, mut told) = oneshot::channel();
        self.with(|waiting| waiting.entry(address).or_default().push(tell));
        let mut probed = Ok(Probed::Quiet(address));
        for _ in 0..ATTEMPTS {
            if let Err(error) = self.voice.ask(&self.mouth, address) {
                probed = Err(error);
                break;
            }
            match tokio::time::timeout(LIMIT / ATTEMPTS, &mut told).await {
                Ok(Ok(card)) => {
                    probed = Ok(Probed::Answered { address, card });
                    break;
                }
                // Nobody listens any more: the daemon ends.
                Ok(Err(_)) => break,
                Err(_) => {}
            }
        }
        drop(told);
        self.with(|waiting| {
            if let Some(others) = waiting.get_mut(&address) {
                others.retain(|other| !other.is_closed());
                if others.is_empty() {
                    waiting.remove(&address);
                }
            }
        });
        probed
    }

    async fn listen(&self, heard: impl Fn(Ipv4Addr)) {
        let mut buffer = [0; 2048];
        loop {
            let length = match self.ear.recv(&mut buffer).await {
                Ok(length) => length,
                // Such as that the adapter is down for a while.
                Err(error) => {
                    debug!(%error, "receiving failed");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            let Some((address, card)) = self.voice.heard(&buffer[..length]) else { continue };
            heard(address);
            let told = self.with(|waiting| waiting.remove(&address)).unwrap_or_default();
            for tell in told {
                // Who waits no longer needs no answer.
                let _ = tell.send(card);
            }
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Waiting) -> T) -> T {
        // Nothing in it is left half done by a panic.
        act(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How it is asked, and how an answer is told from all else.
#[derive(Debug)]
enum Voice {
    /// By ARP, from this card.
    Link { card: [u8; 6], all_cards: SockAddr },
    /// By ICMP, with this number of ours.
    Echo { identifier: u16 },
}

impl Voice {
    fn link(adapter: &str) -> io::Result<(Socket, Self)> {
        let (socket, card, all_cards) = link::arp_socket(adapter)?;
        Ok((socket, Self::Link { card, all_cards }))
    }

    fn echo() -> io::Result<(Socket, Self)> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        socket.set_nonblocking(true)?;
        let [_, _, high, low] = std::process::id().to_be_bytes();
        Ok((socket, Self::Echo { identifier: u16::from_be_bytes([high, low]) }))
    }

    fn ask(&self, socket: &Socket, address: Ipv4Addr) -> io::Result<()> {
        match self {
            Self::Link { card, all_cards } => {
                // Without a sender's address, so that nobody takes it for news (RFC 5227
                // §2.1.1).
                let packet = ArpEthIpv4Packet {
                    operation: ArpOperation::REQUEST,
                    sender_mac: *card,
                    sender_ipv4: [0; 4],
                    target_mac: [0; 6],
                    target_ipv4: address.octets(),
                };
                socket.send_to(&packet.to_bytes(), all_cards)?;
            }
            Self::Echo { identifier } => {
                let echo = IcmpEchoHeader { id: *identifier, seq: 0 };
                let header = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &[]);
                socket.send_to(&header.to_bytes(), &SocketAddr::from((address, 0)).into())?;
            }
        }
        Ok(())
    }

    /// Who says that which address is in use, if this says so.
    fn heard(&self, packet: &[u8]) -> Option<(Ipv4Addr, Option<Mac>)> {
        match self {
            Self::Link { .. } => {
                let packet = ArpPacketSlice::from_slice(packet).ok()?.to_packet();
                let packet = packet.try_eth_ipv4().ok()?;
                let address = packet.sender_ipv4_addr();
                (!address.is_unspecified()).then(|| (address, Some(Mac::new(packet.sender_mac))))
            }
            Self::Echo { identifier } => {
                let packet = Ipv4Slice::from_slice(packet).ok()?;
                let echo = Icmpv4Slice::from_slice(packet.payload().payload).ok()?;
                match echo.icmp_type() {
                    Icmpv4Type::EchoReply(reply) if reply.id == *identifier => {
                        Some((packet.header().source_addr(), None))
                    }
                    _ => None,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    const ADDRESS: [u8; 4] = [10, 0, 0, 9];
    const CARD: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];
    const ECHO: Voice = Voice::Echo { identifier: 7 };

    fn link() -> Voice {
        let all_cards = SocketAddr::from((Ipv4Addr::BROADCAST, 0)).into();
        Voice::Link { card: [2; 6], all_cards }
    }

    fn arp(operation: ArpOperation, sender_ipv4: [u8; 4]) -> [u8; ArpEthIpv4Packet::LEN] {
        let target_ipv4 = ADDRESS;
        ArpEthIpv4Packet {
            operation,
            sender_mac: CARD,
            sender_ipv4,
            target_mac: [2; 6],
            target_ipv4,
        }
        .to_bytes()
    }

    fn icmp(kind: Icmpv4Type) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4(ADDRESS, [10, 0, 0, 1], 9).icmpv4(kind);
        builder.write(&mut packet, b"payload").expect("a packet");
        packet
    }

    #[test]
    fn whoever_speaks_from_an_address_by_arp_uses_it() {
        let used = Some((ADDRESS.into(), Some(Mac::new(CARD))));
        assert_eq!(link().heard(&arp(ArpOperation::REPLY, ADDRESS)), used);
        assert_eq!(link().heard(&arp(ArpOperation::REQUEST, ADDRESS)), used);
        // Another one who asks whether it is used.
        assert_eq!(link().heard(&arp(ArpOperation::REQUEST, [0; 4])), None);
    }

    #[test]
    fn only_an_answer_to_our_own_echo_counts() {
        let id = |id| IcmpEchoHeader { id, seq: 3 };
        assert_eq!(ECHO.heard(&icmp(Icmpv4Type::EchoReply(id(7)))), Some((ADDRESS.into(), None)));
        for other in [Icmpv4Type::EchoReply(id(8)), Icmpv4Type::EchoRequest(id(7))] {
            assert_eq!(ECHO.heard(&icmp(other)), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (link().heard(&bytes), ECHO.heard(&bytes));
        }
    }
}
