//! The doors over IPv6: DHCPv6, and TFTP and HTTP as over IPv4, where machines are
//! told URLs with our IPv6 address.

use std::{
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::Arc,
};

use anyhow::Context as _;
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    boot::{Addressing, Paths, Policy},
    config::{Config, Dhcp6, Ipv6},
    dhcp6,
    files::{Images, Loaders},
    http,
    store::Store,
    tftp::{self, serve::Ports, transfer::Limits},
};

/// Everything bound, nothing answered yet.
pub(super) struct Doors {
    dhcp: Option<(dhcp6::serve::Sockets, dhcp6::Settings)>,
    tftp: Option<(UdpSocket, (Ports, Limits), tftp::library::Settings)>,
    http: Option<(TcpListener, http::Http)>,
    policy: Option<Policy>,
}

impl Doors {
    pub(super) async fn bind(
        config: &Config,
        ipv6: &Ipv6,
        (store, images, loaders): (&Store, &Images, &Arc<Loaders>),
    ) -> anyhow::Result<Self> {
        let has_pool = |dhcp: &Dhcp6| dhcp.subnets.iter().any(|subnet| subnet.pool.is_some());
        let addressing = match &ipv6.dhcp {
            Some(dhcp) if has_pool(dhcp) => Addressing::Ours,
            Some(_) | None => Addressing::Foreign,
        };
        let at = |port| SocketAddr::V6(SocketAddrV6::new(ipv6.server, port, 0, 0));
        let listener = match config.ports.http.map(at) {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .with_context(|| format!("cannot serve HTTP on {address}"))?,
            ),
            None => None,
        };
        let policy = match &listener {
            Some(listener) => Some(Policy {
                rules: config.rules.clone(),
                authority: authority(ipv6.server, listener.local_addr()?.port()),
                server: ipv6.server.into(),
                paths: Paths { pace: config.pace, ..Paths::default() },
            }),
            None => None,
        };
        let tftp = match &ipv6.tftp {
            Some(tftp) => {
                let address = tftp.address;
                let socket = UdpSocket::bind(address)
                    .await
                    .with_context(|| format!("cannot serve TFTP on {address}"))?;
                info!(address = %socket.local_addr()?, "TFTP");
                let settings = tftp::library::Settings { policy: policy.clone(), addressing };
                Some((socket, super::engine(tftp), settings))
            }
            None => None,
        };
        let dhcp = match &ipv6.dhcp {
            Some(dhcp) => Some(bind_dhcp(config, (ipv6, dhcp), policy.as_ref())?),
            None => None,
        };
        let http = match (listener, policy.clone().map(Arc::new)) {
            (Some(listener), Some(policy)) => {
                info!(address = %listener.local_addr()?, "HTTP");
                let (store, images) = (store.clone(), images.clone());
                let (loaders, settings) =
                    (Arc::clone(loaders), http::Settings::within(super::descriptors()));
                let http = http::Http { store, images, loaders, policy, addressing, settings };
                Some((listener, http))
            }
            (Some(_), None) | (None, _) => None,
        };
        Ok(Self { dhcp, tftp, http, policy })
    }

    /// What machines are told of us that ask over IPv6.
    pub(super) const fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref()
    }

    /// Serves until `ending`.
    pub(super) fn serve(
        self,
        rooms: &mut JoinSet<anyhow::Result<()>>,
        (loaders, store): (&Arc<Loaders>, &Store),
        ending: &CancellationToken,
    ) {
        if let Some((sockets, settings)) = self.dhcp {
            let (hall, ending) = ((settings, Arc::clone(loaders), store.clone()), ending.clone());
            rooms.spawn(async {
                dhcp6::serve::serve(sockets, hall, ending).await.context("DHCPv6")
            });
        }
        if let Some((socket, engine, settings)) = self.tftp {
            let (hall, ending) = ((settings, Arc::clone(loaders), store.clone()), ending.clone());
            rooms.spawn(async {
                tftp::machines::serve_machines(socket, engine, hall, ending).await.context("TFTP")
            });
        }
        if let Some((listener, http)) = self.http {
            let ending = ending.clone();
            rooms.spawn(async { http::serve(listener, http, ending).await.context("HTTP") });
        }
    }
}

fn bind_dhcp(
    config: &Config,
    (ipv6, dhcp): (&Ipv6, &Dhcp6),
    policy: Option<&Policy>,
) -> anyhow::Result<(dhcp6::serve::Sockets, dhcp6::Settings)> {
    let Ipv6 { adapter, server, .. } = ipv6;
    let sockets = dhcp6::serve::Sockets::bind(adapter, *server, dhcp.port).with_context(|| {
        format!("cannot serve DHCPv6 on [{server}]:{} of adapter {adapter}", dhcp.port)
    })?;
    let server_id = dhcp6::server_id::load_or_make(&config.state_dir)
        .context("cannot use the name of the DHCPv6 server in the state directory")?;
    let address = SocketAddr::from((*server, sockets.port()));
    info!(adapter, %address, duid = %server_id, "DHCPv6");
    let settings = dhcp6::Settings {
        server_id,
        server: *server,
        subnets: dhcp.subnets.clone(),
        dns: dhcp.dns.clone(),
        search: dhcp.search.clone(),
        ntp: dhcp.ntp.clone(),
        lease_time: dhcp.lease_time,
        tftp: config.ports.tftp.map(|_| format!("[{server}]")),
        authority: policy.map(|policy| policy.authority.clone()),
        rules: config.rules.clone(),
    };
    Ok((sockets, settings))
}

/// The default port is left out, as over IPv4.
fn authority(server: Ipv6Addr, port: u16) -> String {
    if port == 80 { format!("[{server}]") } else { format!("[{server}]:{port}") }
}
