//! Our part in DHCP: what is configured, or what the network says at the start.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use tracing::info;

use crate::{
    config::{Dhcp, DhcpPart},
    dhcp::{self, Role, Survey},
};

/// The part that we take, and what we ask from time to time who else serves.
pub(super) struct Part {
    pub(super) role: Role,
    pub(super) survey: Option<Survey>,
}

/// Takes the part that is configured. With `auto`, asks who gives addresses: if
/// somebody does, we are a proxy.
///
/// # Errors
///
/// That nobody can be asked, or that nobody else gives addresses and neither can we.
pub(super) async fn take(dhcp: &Dhcp) -> anyhow::Result<Part> {
    match dhcp.part {
        DhcpPart::Server => return Ok(Part { role: Role::Server, survey: None }),
        DhcpPart::Proxy => return Ok(Part { role: Role::Proxy, survey: None }),
        DhcpPart::Auto => {}
    }
    let why = "--dhcp=auto: cannot ask who else serves DHCP";
    let survey = dhcp::others::question().context(why)?;
    let subnets = dhcp.subnets();
    let servers = dhcp::others::servers(survey, &subnets, dhcp.port).await.context(why)?;
    if !servers.is_empty() {
        let servers: Vec<String> = servers.iter().map(Ipv4Addr::to_string).collect();
        let servers = servers.join(", ");
        info!(servers, "another DHCP server gives addresses here: we are a proxy beside it");
        return Ok(Part { role: Role::Proxy, survey: None });
    }
    let has_any = subnets.iter().any(|subnet| subnet.pool.addresses().next().is_some());
    anyhow::ensure!(
        has_any,
        "--dhcp=auto: no other DHCP server answers, so we would be the one: --start-address is \
         needed for that, or --dhcp=proxy to wait for another"
    );
    info!("no other DHCP server answers: we give the addresses");
    Ok(Part { role: Role::Server, survey: Some(survey) })
}
