//! TFTP for machines: the engine, asked with the state and the clock of now.

use std::{io, net::SocketAddr, sync::Arc, time::SystemTime};

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::{
    library::{Settings, look_up},
    request::Request,
    serve::serve,
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
    (settings, loaders, store): (Settings, Arc<Loaders>, Store),
    stop: CancellationToken,
) -> io::Result<()> {
    let answer = move |request: &Request, client: SocketAddr| {
        let address = client.ip().to_canonical();
        let catalogue = loaders.catalogue();
        let now = Timestamp::from(SystemTime::now());
        store.note(|state| look_up(state, (&settings, &catalogue), (&request.file, address), now))
    };
    serve(socket, Limits::default(), answer, stop).await
}
