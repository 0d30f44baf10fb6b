//! Asks on our links who else gives addresses: at the start, and while we do.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{net::UdpSocket, task::JoinSet, time::Instant};
use tracing::{debug, warn};

use super::{door, survey::Survey};
use crate::model::Subnets;

/// How long offers are waited for: most servers look first whether somebody has the
/// address, which takes ISC's and dnsmasq a second or more.
const PATIENCE: Duration = Duration::from_secs(2);

/// A lost packet must not make a network look empty: so often it is asked.
const ATTEMPTS: u32 = 2;

/// How often it is asked while we give addresses.
const EVERY: Duration = Duration::from_secs(300);

/// A question of a random card.
///
/// # Errors
///
/// That the system has no random numbers.
pub fn question() -> io::Result<Survey> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Survey::new(random))
}

/// The other servers on the links of these networks, as they call themselves
/// (option 54). Ends when one is found, or after 4 seconds.
///
/// # Errors
///
/// What the system says, such as that the port of clients, the one after `port`,
/// is in use.
pub async fn servers(
    survey: Survey,
    subnets: &Subnets,
    port: u16,
) -> io::Result<BTreeSet<Ipv4Addr>> {
    let ours: BTreeSet<Ipv4Addr> = subnets.iter().map(|subnet| subnet.server).collect();
    let links = subnets.iter().filter_map(|subnet| subnet.adapter.clone());
    let mut asked = JoinSet::new();
    for adapter in links.collect::<BTreeSet<String>>() {
        let socket = client(&adapter, port)?;
        asked.spawn(ask(socket, survey, (port, ours.clone())));
    }
    let mut found = BTreeSet::new();
    while let Some(answered) = asked.join_next().await {
        found.extend(answered.map_err(io::Error::other)??);
    }
    Ok(found)
}

/// A socket on the port of clients: it shares it with those of this computer, since
/// each hears what is sent to all.
fn client(adapter: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = door::socket(Some(adapter))?;
    socket.set_reuse_address(true)?;
    let own = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.saturating_add(1)));
    socket.bind(&own.into())?;
    UdpSocket::from_std(socket.into())
}

async fn ask(
    socket: UdpSocket,
    survey: Survey,
    (port, ours): (u16, BTreeSet<Ipv4Addr>),
) -> io::Result<Option<Ipv4Addr>> {
    let mut buffer = [0; 2048];
    for _ in 0..ATTEMPTS {
        socket.send_to(&survey.packet(), (Ipv4Addr::BROADCAST, port)).await?;
        let end = Instant::now() + PATIENCE;
        while let Ok(heard) = tokio::time::timeout_at(end, socket.recv(&mut buffer)).await {
            let server = survey.server(&buffer[..heard?]).filter(|server| !ours.contains(server));
            if server.is_some() {
                return Ok(server);
            }
        }
    }
    Ok(None)
}

/// Warns of each other server once, for ever.
pub(super) async fn watch(survey: Survey, subnets: Subnets, port: u16) {
    let mut known = BTreeSet::new();
    loop {
        tokio::time::sleep(EVERY).await;
        match servers(survey, &subnets, port).await {
            Ok(found) => {
                for server in found {
                    if known.insert(server) {
                        warn!(%server, "another DHCP server gives addresses here, too");
                    }
                }
            }
            Err(error) => debug!(%error, "cannot ask who else serves DHCP"),
        }
    }
}
