//! From a request to what is done about it. Most answers leave at once; those that
//! promise something are kept until it is on disk; only for those that wait for
//! a probe or for their turn there is a task.

use std::{
    net::SocketAddrV4,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc::UnboundedSender};
use tracing::{debug, warn};

use super::promised::Kept;
use crate::{
    boot::Crowd,
    dhcp::{
        Settings,
        answer::{self, Answer, Probed, Question, Reply, Why},
        door::Door,
        probe::Prober,
        request::Request,
        spread,
    },
    files::Loaders,
    model::Timestamp,
    store::{Decided, Store},
};

/// So many turns a request gets, two for each address that somebody uses. What was
/// set aside stays so, and a client that asks again comes further.
const TURNS: usize = 32;

/// Answers that wait for their turn; over it they leave at once.
const MOST_PUT_OFF: usize = 8192;

/// A request that is worked on, and how it came.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) door: Arc<Door>,
    pub(super) request: Request,
    /// Where it came from, if to the port of boot servers.
    pub(super) boot_port: Option<SocketAddrV4>,
    /// Its place among those that are worked on.
    pub(super) place: OwnedSemaphorePermit,
}

pub(super) struct Room {
    settings: Settings,
    loaders: Arc<Loaders>,
    pub(super) store: Store,
    keep: UnboundedSender<Kept>,
    prober: Arc<Prober>,
    crowd: Mutex<Crowd>,
    /// Room for those that wait for their turn to be told.
    put_off: Arc<Semaphore>,
}

impl Room {
    pub(super) fn new(
        settings: Settings,
        loaders: Arc<Loaders>,
        (store, keep): (Store, UnboundedSender<Kept>),
        prober: Arc<Prober>,
    ) -> Self {
        let (crowd, put_off) = (Mutex::default(), Arc::new(Semaphore::new(MOST_PUT_OFF)));
        Self { settings, loaders, store, keep, prober, crowd, put_off }
    }

    /// Decides on a request that has just come, and does what can be done at once.
    pub(super) fn hear(self: &Arc<Self>, asked: Asked) {
        self.notice(&asked.request);
        let mut decided = self.decide(&asked, Probed::Nothing);
        if let Decided::Now(Answer::Probe { address, .. }) = decided
            && self.prober.vouches_for(address)
        {
            decided = self.decide(&asked, Probed::Quiet(address));
        }
        match decided {
            Decided::Now(answer) => self.carry_out(answer, asked),
            // Its task ends with the room only.
            Decided::Promised(answer) => drop(self.keep.send(answer.with(asked))),
        }
    }

    fn decide(&self, asked: &Asked, probed: Probed) -> Decided<Answer> {
        self.store.decide_at_once(|state| {
            let catalogue = self.loaders.catalogue();
            answer::answer(state, (&self.settings, &catalogue), question(asked, probed), now())
        })
    }

    /// Does what was decided, all of whose promises are on disk.
    pub(super) fn carry_out(self: &Arc<Self>, answer: Answer, asked: Asked) {
        match answer {
            Answer::Reply(reply) => self.reply(reply, asked),
            Answer::Silence(why) => self.silent(&asked.request, why),
            Answer::Probe { .. } | Answer::InUse(_) => {
                let room = Arc::clone(self);
                tokio::spawn(async move { room.look_and_decide(answer, asked).await });
            }
        }
    }

    /// Sends the reply, in its turn if many machines begin to load.
    fn reply(self: &Arc<Self>, reply: Reply, asked: Asked) {
        let wait = self.turn_of(&asked.request, &reply);
        // Where there are too many, nobody is kept.
        let put_off = Arc::clone(&self.put_off).try_acquire_owned();
        let Some(put_off) = put_off.ok().filter(|_| !wait.is_zero()) else {
            return self.send(&asked.door, &asked.request, &reply);
        };
        debug!(mac = %asked.request.mac, ?wait, "one of many: put off");
        let room = Arc::clone(self);
        let Asked { door, request, place, .. } = asked;
        drop(place);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            room.send(&door, &request, &reply);
            drop(put_off);
        });
    }

    /// How long this reply waits for its turn.
    fn turn_of(&self, request: &Request, reply: &Reply) -> Duration {
        let Some(patience) = spread::patience(request, reply) else { return Duration::ZERO };
        let rule = (self.settings.spread, patience);
        // Nothing in it is left half done by a panic.
        let mut crowd = self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
        crowd.join(request.mac, rule, Instant::now())
    }

    /// Looks at addresses and decides again, as often as the decision wants it and a
    /// client waits.
    async fn look_and_decide(self: &Arc<Self>, mut answer: Answer, asked: Asked) {
        let mut probed = Probed::Nothing;
        for _ in 1..TURNS {
            probed = match answer {
                Answer::Probe { address, adapter } => {
                    self.prober.probe(address, adapter.as_deref()).await
                }
                Answer::InUse(address) => {
                    warn!(%address, ?probed, "somebody uses it without a lease; set aside");
                    Probed::Nothing
                }
                Answer::Reply(_) | Answer::Silence(_) => return self.carry_out(answer, asked),
            };
            let catalogue = self.loaders.catalogue();
            let question = question(&asked, probed);
            let hall = (&self.settings, &*catalogue);
            let decided =
                self.store.decide(|state| answer::answer(state, hall, question, now())).await;
            answer = match decided {
                Ok(answer) => answer,
                Err(error) => return warn!(mac = %asked.request.mac, %error, "not answered"),
            };
        }
        self.silent(&asked.request, Why::AllInUse);
    }
}

fn question(asked: &Asked, probed: Probed) -> Question<'_> {
    let Asked { door, request, boot_port, .. } = asked;
    Question { request, link: door.on_link(), boot_port: *boot_port, probed }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}
