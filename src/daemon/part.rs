//! Our part in DHCP: what is configured, or what the network says at the start.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use tracing::{info, warn};

use crate::{
    config::{Dhcp, DhcpPart},
    dhcp::{
        Role, Survey, Watch,
        others::{Until, question, servers},
    },
};

/// The part that we take, and what we ask from time to time who else serves.
pub(super) struct Part {
    pub(super) role: Role,
    pub(super) watch: Option<Watch>,
}

/// Takes the part that is configured. With `auto`, asks who gives addresses: if
/// somebody does, we are a proxy.
///
/// # Errors
///
/// That nobody can be asked, or that nobody else gives addresses and neither can we.
pub(super) async fn take(dhcp: &Dhcp) -> anyhow::Result<Part> {
    let proxy = Part { role: Role::Proxy, watch: None };
    match dhcp.part {
        DhcpPart::Server => {
            // A server serves, whether it can look around or not.
            let survey = question().inspect_err(|error| warn!(%error, "looks for no other server"));
            let watch = survey.ok().and_then(|survey| watch(dhcp, survey));
            return Ok(Part { role: Role::Server, watch });
        }
        DhcpPart::Proxy => return Ok(proxy),
        DhcpPart::Auto => {}
    }
    let why = "--dhcp=auto: cannot ask who else serves DHCP";
    let survey = question().context(why)?;
    let subnets = dhcp.subnets();
    let asked = servers((survey, Until::First), &subnets, dhcp.port);
    let found = asked.await.context(why)?;
    if !found.is_empty() {
        let servers: Vec<String> = found.iter().map(Ipv4Addr::to_string).collect();
        let servers = servers.join(", ");
        info!(servers, "another DHCP server gives addresses here: we are a proxy beside it");
        return Ok(proxy);
    }
    let has_any = subnets.iter().any(|subnet| subnet.pool.addresses().next().is_some());
    anyhow::ensure!(
        has_any,
        "--dhcp=auto: no other DHCP server answers, so we would be the one: --start-address is \
         needed for that, or --dhcp=proxy to wait for another"
    );
    info!("no other DHCP server answers: we give the addresses");
    Ok(Part { role: Role::Server, watch: watch(dhcp, survey) })
}

fn watch(dhcp: &Dhcp, survey: Survey) -> Option<Watch> {
    dhcp.watch.map(|every| Watch { survey, every: every.into() })
}
