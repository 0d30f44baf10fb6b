//! Beside a server that gives the addresses: says what to boot, and nothing else
//! (PXE 2.1 §2.2.3, "proxyDHCP"). Pure.
//!
//! Firmware puts our OFFER, which has no address, together with the other server's.
//! A host hears nothing from us, and nobody is refused anything.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use super::{
    Settings,
    answer::{Answer, Question, Reply, ReplyKind, Why, boot_file_of, offer, vlan_of},
    ladder,
    request::{Client, Kind, Request},
    subnet,
};
use crate::{
    files::Catalogue,
    model::{BootWay, Decision, DhcpOptions, Proxied, Rung, Subnets, Timestamp},
    state::State,
};

/// The port of boot servers (PXE 2.1 §2.2.4). UEFI asks there when it is told
/// `PXEClient` without discovery control.
const BOOT_SERVER_PORT: u16 = 4011;

/// The port of boot servers beside a DHCP server on this port: 4011, and beside
/// another than 67 the second one after it, as clients are on the first.
#[must_use]
pub const fn boot_server_port(server_port: u16) -> u16 {
    match server_port {
        67 => BOOT_SERVER_PORT,
        other => other.saturating_add(2),
    }
}

/// Answers a request.
pub(super) fn answer(
    state: &State,
    hall: (&Settings, &Catalogue),
    Question { request, link, boot_port, probed: _ }: Question<'_>,
    now: Timestamp,
) -> Decision<Answer> {
    if request.client == Client::Host {
        return Decision::only(Answer::Silence(Why::NoBootClient));
    }
    let subnets = &hall.0.subnets;
    let tried = Tried::of(state, request);
    let kind = match kind(request, boot_port, (tried, subnets)) {
        Ok(kind) => kind,
        Err(why) => return Decision::only(Answer::Silence(why)),
    };
    // Behind a relay may be networks that only the other server knows.
    let here = |why| link.and_then(|address| subnets.of(address)).ok_or(why);
    let subnet = match subnet::of(subnets, request, link).or_else(here) {
        Ok(subnet) => subnet,
        Err(why) => return Decision::only(Answer::Silence(why)),
    };
    let is_offer = matches!(kind, ReplyKind::ProxyOffer(_));
    let proxied = tried.filter(|_| is_offer).map(|tried| tried.now);
    let offered = offer(state, hall, (request, subnet), (proxied, now));
    let choice = &offered.answer;
    let answer = match boot_file_of(hall.0, choice, request) {
        // Firmware that is told nothing goes on to its disk.
        Err(why) => Answer::Silence(Why::NothingToBoot(why)),
        Ok(boot) => Answer::Reply(Reply {
            kind,
            boot: Ok(boot),
            remark: choice.remark.clone(),
            hostname: None,
            server: subnet.server,
            times: subnet.times,
            subnet: Arc::clone(subnet),
            vlan: vlan_of(state, subnet, request),
            own: DhcpOptions::default(),
        }),
    };
    Decision { answer, changes: offered.changes }
}

/// What a machine's PXE firmware was brought to by the forms of our offer.
#[derive(Clone, Copy)]
struct Tried {
    before: Proxied,
    /// With this request, if it is a DISCOVER.
    now: Proxied,
}

impl Tried {
    /// Nothing of other clients: they take the first form.
    fn of(state: &State, request: &Request) -> Option<Self> {
        let Client::Firmware { way: BootWay::Pxe, .. } = request.client else { return None };
        let machine = state.machines.with_card(request.mac);
        let before = machine.map(|machine| machine.habits.proxied).unwrap_or_default();
        let now = ladder::climb(before, machine.and_then(|machine| machine.stage));
        Some(Self { before, now })
    }

    fn takes_an_ack_alone(self) -> bool {
        self.before.rung == Rung::Acknowledge
    }
}

/// The kind of answer, to a machine that looks for something to boot.
fn kind(
    request: &Request,
    boot_port: Option<SocketAddrV4>,
    (tried, subnets): (Option<Tried>, &Subnets),
) -> Result<ReplyKind, Why> {
    match (request.kind, boot_port) {
        (Kind::Discover { .. }, None) => {
            Ok(ReplyKind::ProxyOffer(tried.map(|tried| tried.now).unwrap_or_default()))
        }
        // The ACK with the address is the other server's, which it names.
        (Kind::Select { server, .. }, None)
            if tried.is_some_and(Tried::takes_an_ack_alone)
                && subnets.iter().all(|subnet| subnet.server != server) =>
        {
            Ok(ReplyKind::ProxyBeside)
        }
        (
            Kind::Select { .. }
            | Kind::Reboot { .. }
            | Kind::Extend { .. }
            | Kind::Inform { .. }
            | Kind::Decline { .. }
            | Kind::Release { .. },
            None,
        )
        | (Kind::Decline { .. } | Kind::Release { .. }, Some(_)) => Err(Why::NoServer),
        (
            Kind::Discover { .. }
            | Kind::Select { .. }
            | Kind::Reboot { .. }
            | Kind::Extend { .. }
            | Kind::Inform { .. },
            Some(from),
        ) => {
            let address = [request.route.ciaddr, *from.ip()]
                .into_iter()
                .find(|address| is_one_machine(*address))
                .ok_or(Why::NoNetwork)?;
            Ok(ReplyKind::ProxyAcknowledge(SocketAddrV4::new(address, from.port())))
        }
    }
}

const fn is_one_machine(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast()
}

#[cfg(test)]
mod tests;
