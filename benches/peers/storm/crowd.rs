//! All machines of a storm: they share one relay, and what was seen of them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{net::UdpSocket, sync::mpsc, task::JoinSet};

use super::{
    firmware,
    packets::{self, Asker, Heard},
};
use crate::{lab::SERVER, load};

/// After which a machine that has not booted counts as one that never will.
const LONGEST: Duration = Duration::from_secs(150);

/// The waits of a boot, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Offer,
    Acknowledge,
    Loader,
    IpxeOffer,
    IpxeAcknowledge,
    Script,
    Kernel,
}

/// All stages.
pub(crate) const STAGES: [Stage; 7] = [
    Stage::Offer,
    Stage::Acknowledge,
    Stage::Loader,
    Stage::IpxeOffer,
    Stage::IpxeAcknowledge,
    Stage::Script,
    Stage::Kernel,
];

/// What was seen of a stage.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waits {
    /// From the first question of a machine to the whole answer.
    pub(crate) longest: Duration,
    /// How often a machine asked once more.
    pub(crate) asked_again: u64,
}

/// What came of a storm.
#[derive(Debug, Default, Clone)]
pub(crate) struct Outcome {
    pub(crate) stages: BTreeMap<Stage, Waits>,
    /// When each machine that booted had its kernel's first bytes, from the moment
    /// when the first of all was switched on.
    pub(crate) booted: Vec<Duration>,
    /// Why machines gave up, and how many.
    pub(crate) gave_up: BTreeMap<String, u64>,
    /// OACKs that came once more, to a machine that had one.
    pub(crate) repeated_oacks: u64,
}

impl Outcome {
    /// Whether all machines booted.
    pub(crate) fn is_whole(&self) -> bool {
        self.gave_up.is_empty()
    }

    /// Why machines gave up, in words.
    pub(crate) fn troubles(&self) -> String {
        self.gave_up.iter().fold(String::new(), |mut text, (why, count)| {
            let _ = write!(text, "{}{count} {why}", if text.is_empty() { "" } else { "; " });
            text
        })
    }
}

/// What machines load, and how they know their own script.
pub(crate) struct Goods {
    pub(crate) loader: Vec<u8>,
    pub(crate) kernel: Vec<u8>,
    /// What only the script of the machine of this number has.
    pub(crate) secret: fn(u32) -> String,
}

/// What all machines share.
pub(crate) struct Crowd {
    relay: UdpSocket,
    pub(crate) goods: Goods,
    pub(crate) begun: Instant,
    outcome: Mutex<Outcome>,
}

impl Crowd {
    /// Sends a DISCOVER or a REQUEST.
    pub(crate) async fn ask(
        &self,
        (machine, asker): (u32, Asker),
        requested: Option<Ipv4Addr>,
        waited: Duration,
    ) {
        let seconds = u16::try_from(waited.as_secs()).unwrap_or(u16::MAX);
        let packet = packets::packet(machine, asker, requested, seconds);
        // A full queue loses it, as a network does.
        let _ = self.relay.send_to(&packet, (SERVER, 67)).await;
    }

    pub(crate) fn waited(&self, stage: Stage, wait: Duration) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = outcome.stages.entry(stage).or_default();
        waits.longest = waits.longest.max(wait);
    }

    pub(crate) fn asked_again(&self, stage: Stage) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.stages.entry(stage).or_default().asked_again += 1;
    }

    pub(crate) fn repeated_oack(&self) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.repeated_oacks += 1;
    }

    fn ended(&self, ended: Result<(), String>) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match ended {
            Ok(()) => outcome.booted.push(self.begun.elapsed()),
            Err(why) => *outcome.gave_up.entry(why).or_default() += 1,
        }
    }
}

/// Switches so many machines on within one second, and sees them through.
///
/// # Panics
///
/// When one gets what is not its own, or what is damaged.
pub(crate) fn run(machines: u32, goods: Goods) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(storm(machines, goods))
}

async fn storm(machines: u32, goods: Goods) -> Outcome {
    let relay = load::socket();
    relay.set_nonblocking(true).expect("a socket");
    let relay = UdpSocket::from_std(relay).expect("a socket");
    let begun = Instant::now() + Duration::from_millis(200);
    let crowd = Arc::new(Crowd { relay, goods, begun, outcome: Mutex::default() });
    let (mut boots, mut boxes) = (JoinSet::new(), Vec::new());
    for number in 0..machines {
        let (sender, mailbox) = mpsc::unbounded_channel();
        boxes.push(sender);
        let crowd = Arc::clone(&crowd);
        boots.spawn(async move {
            let switched_on = begun + Duration::from_secs(1) * number / machines;
            tokio::time::sleep_until(switched_on.into()).await;
            let boot = firmware::boot(&crowd, number, mailbox);
            let ended = tokio::time::timeout(LONGEST, boot).await;
            let late = Err(format!("not there after {} s", LONGEST.as_secs()));
            crowd.ended(ended.unwrap_or(late));
        });
    }
    let hearing = tokio::spawn(hear(Arc::clone(&crowd), boxes));
    while let Some(ended) = boots.join_next().await {
        ended.expect("each machine gets what is its own");
    }
    hearing.abort();
    let outcome = crowd.outcome.lock().unwrap_or_else(PoisonError::into_inner);
    outcome.clone()
}

/// Gives the relay's packets to their machines.
async fn hear(crowd: Arc<Crowd>, boxes: Vec<mpsc::UnboundedSender<Heard>>) {
    let machines = u32::try_from(boxes.len()).expect("a count of ours");
    let mut packet = [0; 1500];
    loop {
        let Ok(length) = crowd.relay.recv(&mut packet).await else { continue };
        if let Some(heard) = packets::read(&packet[..length], machines) {
            // One that has booted listens no more.
            let _ = boxes[heard.machine as usize].send(heard);
        }
    }
}
