//! The listener: who is let in, and how all of it ends. No policy here.

mod alarm;
mod connection;
mod crew;
mod exchange;
mod paces;
mod places;
mod scripts;
mod speech;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use self::{crew::Crew, paces::Paces, places::Places};
use super::Http;

/// After an accept that failed, usually for want of file descriptors.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(50);

/// Connections of clients that have too many, which are being told so; one more is
/// closed without a word.
const MOST_TURNED_AWAY: usize = 1024;

/// How many connections may wait in the kernel, which takes no more of them than
/// net.core.somaxconn. There the handshake is done and a request acknowledged, and iPXE
/// waits for its answer as long as it takes: what is refused or reset ends a boot.
const BACKLOG: i32 = 16_384;

/// Serves until `stop`: then accepts no more, closes what is idle, and gives
/// running transfers [`super::Settings::stop_time`].
///
/// # Errors
///
/// What the system says if the listener is no listener.
pub async fn serve(listener: TcpListener, http: Http, stop: CancellationToken) -> io::Result<()> {
    // A listener without an address cannot be served.
    listener.local_addr()?;
    rustix::net::listen(&listener, BACKLOG)?;
    let settings = http.settings.clone();
    let places = Places::new(settings.connections, settings.connections_per_client);
    let waiting_room = Places::new(MOST_TURNED_AWAY, MOST_TURNED_AWAY);
    let events = http.store.events().clone();
    let http = Arc::new(http);
    let service = exchange::service(Arc::clone(&http), Paces::default());
    let crew = Crew::start()?;
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = next(&listener, &places) => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
                continue;
            }
        };
        let client = peer.ip().to_canonical();
        let (settings, events) = (settings.clone(), events.clone());
        match (places.take(client), waiting_room.take(client)) {
            (Some(place), _) => {
                let (rooms, stop) = ((Arc::clone(&http), service.clone()), stop.clone());
                let serving = async move |stream| {
                    let client = (client, settings, events);
                    connection::converse((stream, &place), client, rooms, stop).await;
                    drop(place);
                };
                if let Err(error) = crew.serve(&mut connections, stream, serving) {
                    tracing::warn!(%error, "a connection cannot be served");
                }
            }
            (None, Some(place)) => {
                connections.spawn(async move {
                    connection::turn_away(stream, (client, settings, events)).await;
                    drop(place);
                });
            }
            (None, None) => tracing::debug!(%client, "too many connections"),
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if timeout(settings.stop_time, all_ended).await.is_err() {
        tracing::info!(transfers = connections.len(), "transfers were cut");
        connections.shutdown().await;
    }
    Ok(())
}

/// The next connection, once there is a place for it: until then it waits in the
/// kernel's queue, behind those that came before it.
async fn next(listener: &TcpListener, places: &Places) -> io::Result<(TcpStream, SocketAddr)> {
    places.some_is_free().await;
    listener.accept().await
}
