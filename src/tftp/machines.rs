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
    library::{Settings, fetched, look_up},
    report::{Tell, Told},
    request::Request,
    serve::{Ports, serve},
    transfer::Limits,
};
use crate::{
    boot::{Addressing, Visitor},
    events::{Door, Refused, Served},
    files::{Loaders, neighbour},
    model::Timestamp,
    store::Store,
};

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
    let tell = teller(store.clone(), Arc::clone(&loaders), settings.addressing);
    let answer = move |request: &Request, client: SocketAddr| {
        let address = client.ip().to_canonical();
        let catalogue = loaders.catalogue();
        let now = Timestamp::from(SystemTime::now());
        // A boot program is for everybody.
        let is_program = catalogue.content(request.file.as_str()).is_some();
        let visitor = match is_program {
            true => Visitor { address, neighbour: None },
            false => visitor(settings.addressing, address),
        };
        store.note(|state| look_up(state, (&settings, &catalogue), (&request.file, visitor), now))
    };
    serve(socket, (ports, limits), (answer, tell), stop).await
}

/// Makes events of what becomes of requests, and keeps that a machine has its boot
/// program.
fn teller(store: Store, loaders: Arc<Loaders>, addressing: Addressing) -> Tell {
    Arc::new(move |client: SocketAddr, told: Told<'_>| {
        let address = client.ip().to_canonical();
        match told {
            Told::Refused { what, why } => store.events().refused(|| Refused {
                door: Door::Tftp,
                who: address.to_string(),
                what: what.to_string(),
                why: why.to_string(),
            }),
            Told::Read { file, bytes, complete } => {
                if complete {
                    let visitor = visitor(addressing, address);
                    let (catalogue, now) =
                        (loaders.catalogue(), Timestamp::from(SystemTime::now()));
                    let hall = (addressing, &*catalogue);
                    store.note(|state| fetched(state, hall, (file, visitor), now));
                }
                store.events().served(|| {
                    let now = Timestamp::from(SystemTime::now());
                    let (mac, instance) = store.look(|state| state.visitor_at(address, now));
                    Served { file: file.to_owned(), address, mac, instance, bytes, complete }
                });
            }
        }
    })
}

/// Who asks from this address; beside another server its card says it.
fn visitor(addressing: Addressing, address: IpAddr) -> Visitor {
    let neighbour = match (addressing, address) {
        (Addressing::Foreign, IpAddr::V4(address)) => neighbour(address),
        (Addressing::Foreign, IpAddr::V6(_)) | (Addressing::Ours, _) => None,
    };
    Visitor { address, neighbour }
}
