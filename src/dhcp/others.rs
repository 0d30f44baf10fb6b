//! Asks on our links who else gives addresses: at the start, and while we do.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{net::UdpSocket, task::JoinSet, time::Instant};
use tracing::{debug, info, warn};

use super::{Watch, door, survey::Survey};
use crate::{events::Bus, model::Subnets};

/// How long offers are waited for: most servers look first whether somebody has the
/// address, which takes ISC's and dnsmasq a second or more.
const PATIENCE: Duration = Duration::from_secs(2);

/// A lost packet must not make a network look empty: so often it is asked.
const ATTEMPTS: u32 = 2;

/// When we have heard enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// When one server has answered on a link.
    First,
    /// When all had time to.
    All,
}

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
/// (option 54). Ends after 4 seconds, or as soon as it may. Loopback is not asked: all
/// who are there are on this computer.
///
/// # Errors
///
/// What the system says, such as that the port of clients, the one after `port`,
/// is in use.
pub async fn servers(
    (survey, until): (Survey, Until),
    subnets: &Subnets,
    port: u16,
) -> io::Result<BTreeSet<Ipv4Addr>> {
    let ours: BTreeSet<Ipv4Addr> = subnets.iter().map(|subnet| subnet.server).collect();
    let outside = subnets.iter().filter(|subnet| !subnet.network.network().is_loopback());
    let links = outside.filter_map(|subnet| subnet.adapter.clone());
    let mut asked = JoinSet::new();
    for adapter in links.collect::<BTreeSet<String>>() {
        let socket = client(&adapter, port)?;
        asked.spawn(ask(socket, (survey, until), (port, ours.clone())));
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
    (survey, until): (Survey, Until),
    (port, ours): (u16, BTreeSet<Ipv4Addr>),
) -> io::Result<BTreeSet<Ipv4Addr>> {
    let mut buffer = [0; 2048];
    let mut found = BTreeSet::new();
    for _ in 0..ATTEMPTS {
        socket.send_to(&survey.packet(), (Ipv4Addr::BROADCAST, port)).await?;
        let end = Instant::now() + PATIENCE;
        while let Ok(heard) = tokio::time::timeout_at(end, socket.recv(&mut buffer)).await {
            let server = survey.server(&buffer[..heard?]);
            found.extend(server.filter(|server| !ours.contains(server)));
            if until == Until::First && !found.is_empty() {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Warns of each other server when it is found, and again when it was away, for ever.
pub(super) async fn watch(
    Watch { survey, every }: Watch,
    (subnets, port): (Subnets, u16),
    events: Bus,
) {
    let mut known = BTreeSet::new();
    let mut can_ask = true;
    loop {
        match servers((survey, Until::All), &subnets, port).await {
            Ok(found) => {
                for server in found.difference(&known) {
                    warn!(%server, "another DHCP server gives addresses where we do");
                    events.other_server(*server);
                }
                for server in known.difference(&found) {
                    info!(%server, "the other DHCP server answers no more");
                }
                (known, can_ask) = (found, true);
            }
            Err(error) if can_ask => {
                can_ask = false;
                warn!(%error, "cannot ask who else serves DHCP");
            }
            Err(error) => debug!(%error, "cannot ask who else serves DHCP"),
        }
        tokio::time::sleep(every).await;
    }
}
