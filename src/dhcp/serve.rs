//! The sockets of DHCP: receive, decide, send. Holds no opinion.

mod ears;
mod lookout;
mod promised;
mod room;
mod tell;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{sync::Semaphore, sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{files::Loaders, model::Subnets, store::Store};

use super::{
    Role, Settings,
    door::{Door, boot_server},
    others,
    probe::Prober,
    proxy,
};
use room::Room;

/// Requests worked on at once: most wait 0.4 s for a probe, so that is ten thousand new
/// machines in a second. Over it they wait in the socket, which has room for as many: one
/// that is dropped comes again after 4 seconds or more.
const AT_ONCE: usize = 4096;

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
/// None that a packet could cause: the system has no pair of sockets to give for the
/// thread that hears, or that thread has panicked.
pub async fn serve(
    sockets: Sockets,
    (settings, loaders, store): (Settings, Arc<Loaders>, Store),
    stop: CancellationToken,
) -> io::Result<()> {
    let mut tasks = JoinSet::new();
    let prober = Arc::new(sockets.prober);
    prober.listen(&mut tasks);
    if let Some(watch) = settings.watch {
        let (subnets, bus) = (settings.subnets.clone(), store.events().clone());
        tasks.spawn(others::watch(watch, (subnets, sockets.port), bus));
    }
    if settings.role == Role::Server && settings.probe {
        let (prober, subnets) = (Arc::clone(&prober), settings.subnets.clone());
        tasks.spawn(lookout::look_ahead(prober, subnets, store.clone()));
    }
    // As many as are worked on at once, at most.
    let (keep, kept) = mpsc::unbounded_channel();
    let room = Arc::new(Room::new(settings, loaders, (store, keep), prober));
    tasks.spawn(promised::open_when_written(Arc::clone(&room), kept));
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let doors = sockets.doors.into_iter().map(Arc::new).collect();
    // What else there is ends when it is dropped.
    ears::listen(room, doors, places, stop).await
}
