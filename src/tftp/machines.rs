//! TFTP for machines: the engine, asked with the state and the clock of now.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::{
    answer::Answer,
    library::{Settings, look_up},
    reply::ErrorCode,
    request::Request,
    serve::{Ports, serve},
    transfer::Limits,
};
use crate::{files::Loaders, model::Timestamp, store::Store};

/// Serves boot programs and scripts until told to stop.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_machines(
    socket: UdpSocket,
    (ports, limits): (Ports, Limits),
    (settings, loaders, store): (Settings, Arc<Loaders>, Store),
    stop: CancellationToken,
) -> io::Result<()> {
    let answer = move |request: &Request, client: SocketAddr| {
        let IpAddr::V4(address) = client.ip().to_canonical() else {
            let message = "only IPv4 is served here".to_owned();
            return Answer::Refuse { code: ErrorCode::AccessViolation, message };
        };
        let catalogue = loaders.catalogue();
        let now = Timestamp::from(SystemTime::now());
        store.note(|state| look_up(state, (&settings, &catalogue), (&request.file, address), now))
    };
    serve(socket, (ports, limits), answer, stop).await
}
