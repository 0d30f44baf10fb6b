//! The daemon: opens the state, binds every door, and only then lets any of them
//! answer; stops them all together.
//!
//! Knows which parts there are and how they fit; no protocol, no policy.

mod inventory;
mod ipv6;
mod part;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, UdpSocket},
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    boot::{Addressing, Paths, Policy},
    config::{Config, Dhcp, Tftp},
    dhcp,
    files::{Images, Loaders},
    http, spi,
    state::State,
    store::Store,
    tftp::{self, serve::Ports, transfer::Limits},
};

/// How long the rooms may take to end. What is promised is on disk by then; who
/// still loads a file asks again.
const LAST_WORDS: Duration = Duration::from_secs(4);

/// Serves until SIGTERM or SIGINT comes, or a room fails.
///
/// # Errors
///
/// What cannot be opened or bound, before anything is answered; or why a room or
/// the disk failed later.
pub fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the first file is made: an early signal must not leave one.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        allow_many_sockets();
        let daemon = Daemon::bind(config).await?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => info!("SIGTERM: ending"),
                _ = interrupt.recv() => info!("SIGINT: ending"),
            }
        };
        daemon.run(stop, hangup).await
    })
}

/// Each transfer has a socket, and each connection. Most systems give a process 1024
/// descriptors unless it asks for more, since select(2) knows no others; we use none.
fn allow_many_sockets() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "cannot ask for more file descriptors");
    }
}

/// How many file descriptors the process may have.
fn descriptors() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Everything bound, nothing answered yet.
struct Daemon {
    store: Store,
    inventory: Option<PathBuf>,
    loaders: Arc<Loaders>,
    dhcp: Option<(dhcp::serve::Sockets, dhcp::Settings)>,
    tftp: Option<(UdpSocket, (Ports, Limits), tftp::library::Settings)>,
    http: Option<(TcpListener, http::Http)>,
    ipv6: Option<ipv6::Doors>,
    plugin: spi::Doors,
}

impl Daemon {
    async fn bind(config: Config) -> anyhow::Result<Self> {
        let part = match &config.dhcp {
            Some(dhcp) => Some((dhcp, part::take(dhcp).await?)),
            None => None,
        };
        let is_server = part.as_ref().is_some_and(|(_, part)| part.role == dhcp::Role::Server);
        // Where another server gives the addresses, none is ours to give or to keep.
        let served = config.dhcp.as_ref().filter(|_| is_server);
        let subnets = served.map(Dhcp::subnets).unwrap_or_default();
        let pools = subnets.iter().map(|subnet| subnet.pool.clone());
        let dhcp6 = config.ipv6.as_ref().and_then(|ipv6| ipv6.dhcp.as_ref());
        let subnets6 = dhcp6.map(|dhcp| dhcp.subnets.clone()).unwrap_or_default();
        let state = State::new(pools).with_subnets6(subnets6);
        let store = Store::open_over(&config.state_dir, state)?;
        std::fs::create_dir_all(&config.images).with_context(|| {
            format!("cannot make the image directory {}", config.images.display())
        })?;
        let images = Images::new(config.images.clone());
        let loaders = Loaders::new(config.ipxe_path.clone(), config.ipxe_dir.clone());
        let loaders = loaders.by(config.loaders.clone());
        let loaders = Arc::new(loaders.with_signed(config.secure_boot_dir.clone()));
        let addressing = if is_server { Addressing::Ours } else { Addressing::Foreign };
        let listener = match config.http {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .with_context(|| format!("cannot serve HTTP on {address}"))?,
            ),
            None => None,
        };
        let paths = paths(&config, part.as_ref());
        let policy = policy(&config, listener.as_ref(), paths)?;
        let dhcp = part.map(|part| bind_dhcp(part, &config, policy.as_ref())).transpose()?;
        let tftp = match &config.tftp {
            Some(tftp) => {
                let address = tftp.address;
                let socket = UdpSocket::bind(address)
                    .await
                    .with_context(|| format!("cannot serve TFTP on {address}"))?;
                info!(address = %socket.local_addr()?, "TFTP");
                let settings = tftp::library::Settings { policy: policy.clone(), addressing };
                Some((socket, engine(tftp), settings))
            }
            None => None,
        };
        let http = match (listener, &policy) {
            (Some(listener), Some(policy)) => {
                info!(address = %listener.local_addr()?, "HTTP");
                let (store, images) = (store.clone(), images.clone());
                let (loaders, policy) = (Arc::clone(&loaders), Arc::new(policy.clone()));
                let settings = http::Settings::within(descriptors());
                Some((
                    listener,
                    http::Http { store, images, loaders, policy, addressing, settings },
                ))
            }
            (Some(_), None) | (None, _) => None,
        };
        let ipv6 = match &config.ipv6 {
            Some(ipv6) => {
                Some(ipv6::Doors::bind(&config, ipv6, (&store, &images, &loaders)).await?)
            }
            None => None,
        };
        let policy = policy.as_ref().or(ipv6.as_ref().and_then(ipv6::Doors::policy));
        let server = policy.map(|policy| policy.server);
        let server = server.or(config.next_server.map(Into::into));
        let settings = spi::Settings {
            subnets,
            server: server.unwrap_or([127, 0, 0, 1].into()),
            authority: policy.map(|policy| policy.authority.clone()),
        };
        // Before a controller can ask for a machine.
        if let Some(inventory) = &config.inventory {
            inventory::begin(&store, inventory).await?;
        }
        let inventory = config.inventory.as_ref().map(|inventory| inventory.path.clone());
        let plugin = spi::Spi::new(store.clone(), images, settings);
        let plugin = spi::Doors::open(&plugin, listeners(config)?).await?;
        Ok(Self { store, inventory, loaders, dhcp, tftp, http, ipv6, plugin })
    }

    /// Serves until `stop`, or until a room or the disk fails.
    async fn run(self, stop: impl Future<Output = ()>, hangup: Signal) -> anyhow::Result<()> {
        let ending = CancellationToken::new();
        let hall = (self.store.clone(), Arc::clone(&self.loaders));
        let follow = inventory::follow(hangup, hall, self.inventory, ending.clone());
        let follow = tokio::spawn(follow);
        let mut rooms: JoinSet<anyhow::Result<()>> = JoinSet::new();
        if let Some((sockets, settings)) = self.dhcp {
            let hall = (settings, Arc::clone(&self.loaders), self.store.clone());
            let ending = ending.clone();
            rooms.spawn(async { dhcp::serve::serve(sockets, hall, ending).await.context("DHCP") });
        }
        if let Some((socket, engine, settings)) = self.tftp {
            let hall = (settings, Arc::clone(&self.loaders), self.store.clone());
            let ending = ending.clone();
            rooms.spawn(async {
                tftp::machines::serve_machines(socket, engine, hall, ending).await.context("TFTP")
            });
        }
        if let Some((listener, http)) = self.http {
            let ending = ending.clone();
            rooms.spawn(async { http::serve(listener, http, ending).await.context("HTTP") });
        }
        if let Some(ipv6) = self.ipv6 {
            ipv6.serve(&mut rooms, (&self.loaders, &self.store), &ending);
        }
        let plugin_ending = ending.clone();
        rooms.spawn(async {
            self.plugin.serve(plugin_ending).await;
            Ok(())
        });
        let outcome = tokio::select! {
            () = stop => Ok(()),
            reason = self.store.failed() => Err(anyhow::Error::from(reason)),
            Some(ended) = rooms.join_next() => match ended {
                Ok(Ok(())) => Err(anyhow::anyhow!("a service ended by itself")),
                Ok(Err(error)) => Err(error),
                Err(panic) => Err(anyhow::Error::from(panic)),
            },
        };
        ending.cancel();
        let ended = async {
            while rooms.join_next().await.is_some() {}
            let _ = follow.await;
        };
        if tokio::time::timeout(LAST_WORDS, ended).await.is_err() {
            error!("a service did not end within {} s", LAST_WORDS.as_secs());
            rooms.abort_all();
        }
        let store = self.store;
        tokio::task::spawn_blocking(move || store.close()).await?;
        outcome
    }
}

/// What is known of the ways to machines, whoever gives them their addresses.
fn paths(config: &Config, part: Option<&(&Dhcp, part::Part)>) -> Paths {
    let subnets = part.map(|(dhcp, part)| match part.role {
        dhcp::Role::Server => dhcp.subnets(),
        dhcp::Role::Proxy => dhcp.proxied(),
    });
    Paths { subnets: subnets.unwrap_or_default(), pace: config.pace }
}

/// What machines are told of us; none if nobody tells them anything.
fn policy(
    config: &Config,
    listener: Option<&TcpListener>,
    paths: Paths,
) -> anyhow::Result<Option<Policy>> {
    let Some(mut authority) = config.http_authority else { return Ok(None) };
    if let (0, Some(listener)) = (authority.port(), listener) {
        authority.set_port(listener.local_addr()?.port());
    }
    let server = *authority.ip();
    // The default port is left out: some firmware shows the URL on a small screen.
    let authority = match authority.port() {
        80 => server.to_string(),
        _ => authority.to_string(),
    };
    Ok(Some(Policy { rules: config.rules.clone(), authority, server: server.into(), paths }))
}

fn bind_dhcp(
    (dhcp, part): (&Dhcp, part::Part),
    config: &Config,
    policy: Option<&Policy>,
) -> anyhow::Result<(dhcp::serve::Sockets, dhcp::Settings)> {
    let part::Part { role, watch } = part;
    let subnets = match role {
        dhcp::Role::Server => dhcp.subnets(),
        dhcp::Role::Proxy => dhcp.proxied(),
    };
    let sockets = dhcp::serve::Sockets::bind(&subnets, dhcp.port, role)?;
    let settings = dhcp::Settings {
        role,
        watch,
        subnets,
        profiles: config.profiles.clone(),
        tftp: config.next_server,
        authority: policy.map(|policy| policy.authority.clone()),
        rules: config.rules.clone(),
        probe: dhcp.probe,
        decline_hold: dhcp.decline_hold.into(),
        spread: dhcp.spread,
    };
    Ok((sockets, settings))
}

/// How the TFTP room works.
fn engine(tftp: &Tftp) -> (Ports, Limits) {
    let usual = Limits::default();
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let block_size = tftp.block_size.unwrap_or(usual.block_size);
    let limits = Limits {
        block_size,
        in_fragments: tftp.fragments.then_some(block_size),
        transfers: count(tftp.transfers),
        transfers_per_client: count(tftp.transfers_per_client),
        ..usual
    };
    (if tftp.single_port { Ports::Single } else { Ports::Each }, limits)
}

fn listeners(config: Config) -> anyhow::Result<spi::Listeners> {
    let plugin = config.plugin;
    let tcp = plugin
        .listen
        .map(|listen| {
            let token = listen.token.map(|token| token.reveal().parse()).transpose()?;
            anyhow::Ok(spi::TcpDoor { address: listen.address, token })
        })
        .transpose()?;
    Ok(spi::Listeners { directory: plugin.directory, name: plugin.name, tcp })
}
