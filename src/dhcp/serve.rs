//! The sockets of DHCP: receive, decide, send. Holds no opinion.

use std::{
    future::poll_fn,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::{Instant, SystemTime},
};

use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, trace, warn};

use crate::{
    boot::{self, Crowd},
    events::{self, Refused},
    files::Loaders,
    model::{Subnets, Timestamp},
    state::State,
    store::{Store, Unwritable},
};

use super::{
    Role, Settings,
    answer::{self, Answer, BootFile, NoBootFile, Probed, Question, Reply, ReplyKind, Why},
    door::{Door, Ear, boot_server},
    elsewhere, ladder, late, others,
    probe::Prober,
    proxy, reply,
    request::{self, Client, Kind, Request},
    spread,
};

/// Requests worked on at once: most wait 0.4 s for a probe, so that is ten thousand new
/// machines in a second. Over it they wait in the socket, which has room for as many: one
/// that is dropped comes again after 4 seconds or more.
const AT_ONCE: usize = 4096;

/// So many turns a request gets, two for each address that somebody uses. What was
/// set aside stays so, and a client that asks again comes further.
const TURNS: usize = 32;

/// Answers that wait for their turn; over it they leave at once.
const MOST_PUT_OFF: usize = 8192;

/// The sockets of all networks, bound.
#[derive(Debug)]
pub struct Sockets {
    doors: Vec<Door>,
    port: u16,
    prober: Prober,
}

/// A door could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve DHCP on {address}:{port}{}", of(adapter.as_deref()))]
pub struct Unbindable {
    address: Ipv4Addr,
    port: u16,
    adapter: Option<String>,
    #[source]
    source: io::Error,
}

fn of(adapter: Option<&str>) -> String {
    adapter.map(|adapter| format!(" of adapter {adapter}")).unwrap_or_default()
}

impl Sockets {
    /// Binds on the adapter of each network, and for networks behind relays on
    /// our address towards them, by whichever adapter they come.
    ///
    /// # Errors
    ///
    /// What the system says, with where: the port is in use, the right to it is
    /// missing.
    pub fn bind(subnets: &Subnets, port: u16, role: Role) -> Result<Self, Unbindable> {
        let mut doors: Vec<Door> = Vec::new();
        // Those without an adapter first: each shares its port with nobody, so that
        // two servers on it are an error at the start.
        let all = subnets.iter().filter(|subnet| subnet.adapter.is_none());
        for subnet in all.chain(subnets.iter().filter(|subnet| subnet.adapter.is_some())) {
            let (address, adapter) = (subnet.server, subnet.adapter.as_deref());
            let is_bound = doors.iter().any(|door| door.address == address);
            if is_bound && adapter.is_none() {
                continue;
            }
            let unbindable = |port, source| {
                let adapter = adapter.map(str::to_owned);
                Unbindable { address, port, adapter, source }
            };
            let door = Door::bind(adapter, address, (port, is_bound));
            let mut door = door.map_err(|source| unbindable(port, source))?;
            if role == Role::Proxy && !is_bound {
                let port = proxy::boot_server_port(port);
                let bound = boot_server(adapter, address, port);
                door.boot = Some(bound.map_err(|source| unbindable(port, source))?);
            }
            info!(address = %SocketAddr::from((address, port)), adapter = adapter.unwrap_or("any, by relays"), ?role, "DHCP");
            doors.push(door);
        }
        Ok(Self { doors, port, prober: Prober::open(subnets) })
    }
}

/// Answers until told to stop.
///
/// # Errors
///
/// None that a packet could cause; the `Result` is for the daemon's list of
/// services.
pub async fn serve(
    sockets: Sockets,
    (settings, loaders, store): (Settings, Arc<Loaders>, Store),
    stop: CancellationToken,
) -> io::Result<()> {
    let mut ears = JoinSet::new();
    let prober = Arc::new(sockets.prober);
    prober.listen(&mut ears);
    if let Some(watch) = settings.watch {
        let (subnets, bus) = (settings.subnets.clone(), store.events().clone());
        ears.spawn(others::watch(watch, (subnets, sockets.port), bus));
    }
    let (crowd, put_off) = (Mutex::default(), Semaphore::new(MOST_PUT_OFF));
    let room = Arc::new(Room { settings, loaders, store, prober, crowd, put_off });
    let places = Arc::new(Semaphore::new(AT_ONCE));
    for door in sockets.doors.into_iter().map(Arc::new) {
        for ear in [Ear::Own, Ear::Any, Ear::Boot] {
            let (room, door) = (Arc::clone(&room), Arc::clone(&door));
            ears.spawn(listen(room, door, ear, Arc::clone(&places)));
        }
    }
    // Those that listen never end by themselves, and end when they are dropped.
    stop.cancelled().await;
    Ok(())
}

/// Hears one socket of a door, for ever.
async fn listen(room: Arc<Room>, door: Arc<Door>, ear: Ear, places: Arc<Semaphore>) {
    let mut buffer = vec![0; 1 << 16];
    let Some(socket) = door.ear(ear) else { return };
    loop {
        let (packet, from) = match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => (&buffer[..length], from),
            // An ICMP error for an earlier packet of ours arrives so.
            Err(error) => {
                debug!(%error, "receiving failed");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let request = match request::parse(packet) {
            Ok(request) => request,
            Err(reason) => {
                debug!(%reason, "dropped");
                room.refused(None, "a packet", reason);
                continue;
            }
        };
        // Nobody closes it.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let boot_port = match (ear, from) {
            (Ear::Boot, SocketAddr::V4(from)) => Some(from),
            (Ear::Own | Ear::Any, _) | (Ear::Boot, SocketAddr::V6(_)) => None,
        };
        let (room, door) = (Arc::clone(&room), Arc::clone(&door));
        let mut work = Box::pin(async move {
            let reply = room.converse(&door, (&request, boot_port)).await;
            drop(place);
            if let Some(reply) = reply {
                room.put_off(&request, &reply).await;
                room.send(&door, &request, &reply);
            }
        });
        // Mostly an answer waits for nothing: a task of its own, which another thread
        // would be woken for, is only for what waits for the disk or a probe.
        let looked = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
        if looked.is_pending() {
            tokio::spawn(work);
        }
    }
}

struct Room {
    settings: Settings,
    loaders: Arc<Loaders>,
    store: Store,
    prober: Arc<Prober>,
    crowd: Mutex<Crowd>,
    /// Room for those that wait for their turn to be told.
    put_off: Semaphore,
}

impl Room {
    /// Decides, and says why not if nothing is to be sent.
    async fn converse(
        &self,
        door: &Door,
        asked: (&Request, Option<SocketAddrV4>),
    ) -> Option<Reply> {
        let (request, _) = asked;
        let mac = request.mac;
        let is_new = matches!(request.kind, Kind::Discover { .. });
        if is_new && matches!(request.client, Client::Firmware { .. }) {
            let silent = self.store.look(|state| boot::silent_loader(state, mac));
            silent.into_iter().for_each(|what| warn!(%mac, "{what}"));
        }
        match self.decide(door, asked).await {
            Ok(Ok(reply)) => return Some(reply),
            Ok(Err(why @ Why::Declined)) => {
                warn!(%mac, kind = ?request.kind, %why, "not answered");
            }
            Ok(Err(
                why @ (Why::NoBootClient
                | Why::NoServer
                | Why::Ourselves
                | Why::NothingToBoot(NoBootFile::Ignored)),
            )) => {
                trace!(%mac, kind = ?request.kind, %why, "not answered");
            }
            Ok(Err(why @ Why::NothingToBoot(NoBootFile::OwnDisk))) => {
                info!(%mac, client = ?request.client, %why, "not answered");
            }
            Ok(Err(why @ Why::NothingToBoot(_))) => {
                warn!(%mac, client = ?request.client, %why, "not answered");
                self.refused(Some(request), "a boot program", why);
            }
            Ok(Err(why @ Why::Released)) => {
                debug!(%mac, kind = ?request.kind, %why, "not answered");
            }
            Ok(Err(why @ (Why::PoolIsFull(_) | Why::AllInUse))) => {
                warn!(%mac, kind = ?request.kind, %why, "not answered");
                self.refused(Some(request), "an address", why);
            }
            Ok(Err(why)) => {
                debug!(%mac, kind = ?request.kind, %why, "not answered");
                self.refused(Some(request), "an answer", why);
            }
            Err(error) => warn!(%mac, %error, "not answered"),
        }
        None
    }

    /// Waits for its turn, if many machines begin to load.
    async fn put_off(&self, request: &Request, reply: &Reply) {
        let Some(patience) = spread::patience(request, reply) else { return };
        // Where there are too many, nobody is kept.
        let Ok(_place) = self.put_off.try_acquire() else { return };
        let rule = (self.settings.spread, patience);
        let wait = {
            // Nothing in it is left half done by a panic.
            let mut crowd = self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
            crowd.join(request.mac, rule, Instant::now())
        };
        if !wait.is_zero() {
            debug!(mac = %request.mac, ?wait, "one of many: put off");
            tokio::time::sleep(wait).await;
        }
    }

    /// Decides, and looks at addresses as often as the decision wants it and a
    /// client waits.
    async fn decide(
        &self,
        door: &Door,
        (request, boot_port): (&Request, Option<SocketAddrV4>),
    ) -> Result<Result<Reply, Why>, Unwritable> {
        let mut probed = Probed::Nothing;
        self.notice_if_late(request);
        for _ in 0..TURNS {
            let catalogue = self.loaders.catalogue();
            let now = Timestamp::from(SystemTime::now());
            let question = Question { request, link: door.on_link(), boot_port, probed };
            let hall = (&self.settings, &*catalogue);
            let decision = |state: &State| answer::answer(state, hall, question, now);
            match self.store.decide(decision).await? {
                Answer::Probe { address, adapter } => {
                    probed = self.prober.probe(address, adapter.as_deref()).await;
                }
                Answer::InUse(address) => {
                    warn!(%address, ?probed, "somebody uses it without a lease; set aside");
                    probed = Probed::Nothing;
                }
                Answer::Reply(reply) => return Ok(Ok(reply)),
                Answer::Silence(why) => return Ok(Err(why)),
            }
        }
        Ok(Err(Why::AllInUse))
    }

    /// Says of a machine that its link was down, by the look of it.
    fn notice_if_late(&self, request: &Request) {
        if !matches!(request.client, Client::Ipxe { .. }) {
            return;
        }
        let (mac, now) = (request.mac, Timestamp::from(SystemTime::now()));
        let late = self.store.look(|state| late::of(state.machines.with_card(mac), request, now));
        if let Some(late) = late {
            let seconds = late.as_secs();
            warn!(
                %mac,
                seconds,
                "its iPXE asks long after its firmware: does its switch's port wait for a spanning \
                 tree or LACP? (portfast, or LACP fallback)"
            );
        }
    }

    fn send(&self, door: &Door, request: &Request, reply: &Reply) {
        let mac = request.mac;
        let destination = reply::destination(request, reply);
        let sent = match reply::encode(request, reply) {
            Ok(packet) => door.send(&packet, destination),
            Err(error) => return warn!(%mac, %error, "not answered"),
        };
        if let Some(remark) = &reply.remark {
            warn!(%mac, "{remark}");
        }
        match (sent, &reply.boot) {
            (Err(error), _) => warn!(%mac, ?destination, %error, "the answer could not be sent"),
            (Ok(()), Ok(boot)) => {
                info!(%mac, client = ?request.client, answer = ?reply.kind, ?boot)
            }
            (Ok(()), Err(NoBootFile::Host)) => {
                info!(%mac, client = ?request.client, answer = ?reply.kind);
            }
            (Ok(()), Err(why @ NoBootFile::Ignored)) => {
                debug!(%mac, client = ?request.client, answer = ?reply.kind, %why);
            }
            (Ok(()), Err(why @ answer::NoBootFile::OwnDisk)) => {
                info!(%mac, client = ?request.client, answer = ?reply.kind, %why);
            }
            (Ok(()), Err(why)) => {
                warn!(%mac, client = ?request.client, answer = ?reply.kind, %why, "nothing to boot");
            }
        }
        if let (ReplyKind::ProxyOffer(proxied), Ok(BootFile::Program { name, server })) =
            (reply.kind, &reply.boot)
            && ladder::has_tried_all(proxied)
        {
            let elsewhere::Lines { isc_dhcpd, kea, dnsmasq } = elsewhere::lines(name, *server);
            warn!(
                %mac, isc_dhcpd, kea, dnsmasq,
                "this firmware ignores proxy offers: write what it boots into the DHCP server that \
                 it hears; docs/beside-dhcp.md has the lines for all architectures"
            );
        }
        match (reply.kind, &reply.boot) {
            (ReplyKind::Refuse, _) => self.refused(Some(request), "its address", "ask anew"),
            (_, Ok(_) | Err(NoBootFile::Host | NoBootFile::OwnDisk | NoBootFile::Ignored)) => {}
            (_, Err(why)) => self.refused(Some(request), "a boot program", why),
        }
    }

    /// Tells that a client gets nothing, or not what it asked for.
    fn refused(&self, request: Option<&Request>, what: &str, why: impl ToString) {
        self.store.events().refused(|| Refused {
            door: events::Door::Dhcp,
            who: request.map_or_else(|| "unknown".to_owned(), |request| request.mac.to_string()),
            what: what.to_owned(),
            why: why.to_string(),
        });
    }
}
