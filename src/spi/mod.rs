//! The InfraKit plugin: JSON-RPC over HTTP on a Unix socket, and on TCP if
//! asked for, by which machines are provisioned, described and destroyed.
//!
//! The contract is in `plugin-spec/`. Knows the state, the image directory and
//! the command line's template; knows no machine's protocol.

mod addition;
mod admission;
mod answer;
mod assets;
mod counter;
mod describe;
mod duration;
mod envelope;
mod event_list;
mod exchange;
mod flavor;
mod info;
mod interfaces;
mod machines;
#[doc(hidden)]
pub mod measured;
mod metadata;
mod methods;
mod path;
mod place;
mod properties;
mod provision;
mod reply;
mod request;
mod serve;
mod socket;
mod stream;
mod tcp;
mod unix;
mod url;

use std::{io, net::IpAddr, path::PathBuf, sync::Arc};

pub use admission::{InvalidSecret, Secret};
pub use serve::Doors;
pub use socket::SocketError;
pub use tcp::{TcpDoor, TcpError};

use crate::{files::Images, model::Subnets, store::Store};

/// What is configured of the plugin.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The networks whose addresses we give out; none if another DHCP server does.
    pub subnets: Subnets,
    /// Our address towards machines: `{{ server }}` in a command line.
    pub server: IpAddr,
    /// The authority of our HTTP server towards machines, of which the URLs in a
    /// command line are made; none if HTTP is not served.
    pub authority: Option<String>,
}

/// Where the plugin is found.
#[derive(Debug, Clone)]
pub struct Listeners {
    /// InfraKit's plugins directory; made (mode 0755) if it is not there.
    pub directory: PathBuf,
    /// The name of the plugin, which is that of the socket.
    pub name: String,
    /// TCP besides, if asked for.
    pub tcp: Option<TcpDoor>,
}

/// The plugin, cheap to clone.
#[derive(Clone)]
pub struct Spi {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    images: Images,
    settings: Settings,
}

/// Why the plugin cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The Unix socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// TCP cannot be had.
    #[error(transparent)]
    Tcp(#[from] TcpError),
    /// The runtime refuses the socket.
    #[error("cannot wait on the socket")]
    Runtime(#[source] io::Error),
}

impl Spi {
    /// The plugin over this state and these files.
    #[must_use]
    pub fn new(store: Store, images: Images, settings: Settings) -> Self {
        Self { shared: Arc::new(Shared { store, images, settings }) }
    }

    fn store(&self) -> &Store {
        &self.shared.store
    }

    fn images(&self) -> &Images {
        &self.shared.images
    }

    fn settings(&self) -> &Settings {
        &self.shared.settings
    }
}
