//! Offer, acknowledge, refuse, or stay silent and say why. Pure.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use ipnet::Ipv4Net;

use crate::{
    boot::{
        self, Caller,
        loader::{Applicant, Choice, Remark},
    },
    files::Catalogue,
    model::{
        Change, Decision, DhcpOptions, Hostname, LeaseState, LeaseTimes, Mac, Overlay, Proxied,
        Subnet, Timestamp, VlanId,
    },
    state::State,
};

pub use super::boot_file::{BootFile, NoBootFile, boot_file};
use super::{
    OFFER_HOLD, Role, Settings,
    lease::{Place, Standing},
    overlay, proxy,
    request::{Client, Kind, Request},
    subnet,
};

/// A request, and what is known of how it came.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What is asked.
    pub request: &'a Request,
    /// Our own address on the link that it was heard on; none if it came from
    /// beyond our networks, by a relay or as a renewal.
    pub link: Option<Ipv4Addr>,
    /// Where it came from, if it was sent to the port of boot servers
    /// ([`super::proxy`]).
    pub boot_port: Option<SocketAddrV4>,
    /// What was found out for it.
    pub probed: Probed,
}

/// What is known of an address that might be offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    /// Nothing yet.
    Nothing,
    /// Nobody answered for this address in time.
    Quiet(Ipv4Addr),
    /// Somebody did.
    Answered {
        /// For this address.
        address: Ipv4Addr,
        /// With this card, if it could be seen.
        card: Option<Mac>,
    },
}

/// What to say to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This.
    Reply(Reply),
    /// Nothing, for this reason.
    Silence(Why),
    /// First, whether somebody uses this address; then decide again.
    Probe {
        /// The address, which is kept back meanwhile.
        address: Ipv4Addr,
        /// Our adapter on its network; none if it is beyond a router.
        adapter: Option<String>,
    },
    /// Somebody uses this address, it is set aside; decide again.
    InUse(Ipv4Addr),
}

/// What a reply says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// OFFER, ACK or NAK.
    pub kind: ReplyKind,
    /// What the client shall boot, or why it is told nothing of it.
    pub boot: Result<BootFile, NoBootFile>,
    /// What an operator should know of that.
    pub remark: Option<Remark>,
    /// The name of the machine, from its instance.
    pub hostname: Option<Hostname>,
    /// Who the client shall take us for: ourselves, or the relay (RFC 5107).
    pub server: Ipv4Addr,
    /// How long the client may have the address.
    pub times: LeaseTimes,
    /// The network that the client is on.
    pub subnet: Arc<Subnet>,
    /// The VLAN that the machine loads over.
    pub vlan: Option<VlanId>,
    /// What this machine is told over what its network says.
    pub own: DhcpOptions,
}

/// The kinds of reply (RFC 2131 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    /// Here is an address that you could have.
    Offer(Ipv4Addr),
    /// The address is yours.
    Acknowledge(Ipv4Addr),
    /// Here is what you asked besides an address (DHCPINFORM).
    Inform,
    /// You can't have this address; ask anew.
    Refuse,
    /// Here is what you boot; another server has your address (PXE 2.1 §2.2.3). The
    /// form is that which its firmware was brought to.
    ProxyOffer(Proxied),
    /// The same beside the other server's ACK, to who takes it nowhere else.
    ProxyBeside,
    /// The same to who asked at the port of boot servers, and there.
    ProxyAcknowledge(SocketAddrV4),
}

impl ReplyKind {
    /// The address that it is about, if it is about one.
    #[must_use]
    pub const fn yiaddr(self) -> Option<Ipv4Addr> {
        match self {
            Self::Offer(address) | Self::Acknowledge(address) => Some(address),
            Self::Inform
            | Self::Refuse
            | Self::ProxyOffer(_)
            | Self::ProxyBeside
            | Self::ProxyAcknowledge(_) => None,
        }
    }
}

/// Why nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It chose another server.
    #[error("it asks the server {0}")]
    AnotherServer(Ipv4Addr),
    /// It is on a network that is not served, or asks for an address of one: its
    /// relay, or the relay's or its own selection, says so.
    #[error("it is on the network of {0}, which is not served")]
    AnotherNetwork(Ipv4Addr),
    /// Nothing says which network it is on: it came by no relay and no link.
    #[error("it says nothing of the network that it is on")]
    NoNetwork,
    /// No address is free.
    #[error("no address of {0} is free")]
    PoolIsFull(Ipv4Net),
    /// Every address that was looked at for it is used by somebody.
    #[error("every address that was looked at for it is in use")]
    AllInUse,
    /// It asks about an address that we know nothing of; another server may.
    #[error("nothing is known of this client, another server may know it")]
    UnknownClient,
    /// The address was given back.
    #[error("the address was given back")]
    Released,
    /// The address is set aside, since somebody else uses it.
    #[error("somebody else uses the address, it is set aside")]
    Declined,
    /// It does not boot, and addresses are another server's here.
    #[error("it does not want to boot, and its address is another server's matter")]
    NoBootClient,
    /// It speaks to the server that gives the addresses.
    #[error("addresses are another server's matter")]
    NoServer,
    /// It is our own question who else serves.
    #[error("we ask ourselves")]
    Ourselves,
    /// It wants to boot, and there is nothing for it.
    #[error("{0}")]
    NothingToBoot(NoBootFile),
    /// It speaks of an address that is not its own.
    #[error("the address is not its own")]
    NotItsOwn,
}

/// Answers a request.
pub fn answer(
    state: &State,
    (settings, catalogue): (&Settings, &Catalogue),
    question: Question<'_>,
    now: Timestamp,
) -> Decision<Answer> {
    if settings.watch.is_some_and(|watch| watch.survey.card() == question.request.mac) {
        return Decision::only(Answer::Silence(Why::Ourselves));
    }
    match settings.role {
        Role::Proxy => return proxy::answer(state, (settings, catalogue), question, now),
        Role::Server => {}
    }
    let Question { request, link, probed, .. } = question;
    let subnet = match subnet::of(&settings.subnets, request, link) {
        Ok(subnet) => subnet,
        Err(why) => return Decision::only(Answer::Silence(why)),
    };
    let server = request.route.server_override.unwrap_or(subnet.server);
    if let Some(named) = addressed_to(request.kind)
        && named != server
        && settings.subnets.iter().all(|subnet| subnet.server != named)
    {
        return Decision::only(Answer::Silence(Why::AnotherServer(named)));
    }
    let starts = matches!(request.client, Client::Firmware { .. });
    let place = Place { state, network: subnet.network, mac: request.mac, now, starts };
    let offered = offer(state, (settings, catalogue), (request, subnet), (None, now));
    let choice = &offered.answer;
    let overlay = &overlay::of(state, settings, (request, subnet));
    let conversation = Conversation { place, subnet, server, settings, choice, request, overlay };
    let mut decision = match request.kind {
        Kind::Discover { wanted } => conversation.discover(wanted, probed),
        Kind::Select { address, .. } => conversation.grant(address, place.selected(address)),
        Kind::Reboot { address } | Kind::Extend { address } => {
            conversation.grant(address, place.kept(address))
        }
        Kind::Decline { address, .. } => conversation.end(address, Why::Declined),
        Kind::Release { address, .. } => conversation.end(address, Why::Released),
        Kind::Inform { .. } => {
            Decision::only(conversation.reply(ReplyKind::Inform, conversation.times()))
        }
    };
    if let Answer::Reply(_) = decision.answer {
        decision.changes.extend(offered.changes);
    }
    decision
}

/// The server that a request names, where it names one.
const fn addressed_to(kind: Kind) -> Option<Ipv4Addr> {
    match kind {
        Kind::Select { server, .. } => Some(server),
        Kind::Decline { server, .. } | Kind::Release { server, .. } => server,
        Kind::Discover { .. } | Kind::Reboot { .. } | Kind::Extend { .. } | Kind::Inform { .. } => {
            None
        }
    }
}

#[derive(Clone, Copy)]
struct Conversation<'a> {
    place: Place<'a>,
    subnet: &'a Arc<Subnet>,
    server: Ipv4Addr,
    settings: &'a Settings,
    choice: &'a Choice,
    request: &'a Request,
    overlay: &'a Overlay,
}

impl Conversation<'_> {
    fn discover(self, wanted: Option<Ipv4Addr>, probed: Probed) -> Decision<Answer> {
        let Self { place, settings, subnet, .. } = self;
        if let Probed::Answered { address, card } = probed
            && card != Some(place.mac)
            && let Some(change) = place.squatted(address, settings.decline_hold)
        {
            return Decision::with(Answer::InUse(address), change);
        }
        let Some(address) = place.to_offer(wanted) else {
            return Decision::only(Answer::Silence(Why::PoolIsFull(subnet.network)));
        };
        // What was found out may be of an address that is another's by now.
        let is_known = match probed {
            Probed::Nothing => false,
            Probed::Quiet(known) | Probed::Answered { address: known, .. } => known == address,
        };
        // Every address of the loopback network is our own.
        let is_probed = settings.probe && !subnet.network.network().is_loopback();
        if is_probed && !is_known && place.is_doubtful(address, subnet.adapter.is_some()) {
            let answer = Answer::Probe { address, adapter: subnet.adapter.clone() };
            return Decision::with(answer, place.probing(address, OFFER_HOLD));
        }
        Decision {
            answer: self.reply(ReplyKind::Offer(address), self.times()),
            changes: place.offered(address, OFFER_HOLD).into_iter().collect(),
        }
    }

    fn grant(self, address: Ipv4Addr, standing: Standing) -> Decision<Answer> {
        match standing {
            Standing::Unknown => Decision::only(Answer::Silence(Why::UnknownClient)),
            Standing::Bad => Decision::only(self.reply(ReplyKind::Refuse, self.times())),
            Standing::Good => {
                let full = self.times();
                let (left, changes) = match self.place.young(address, full.lease) {
                    Some(left) => (LeaseTimes::of(left), vec![Change::Kept(address)]),
                    None => {
                        let expires = self.place.now.after(full.lease.into());
                        (full, self.place.bound(address, expires))
                    }
                };
                Decision { answer: self.reply(ReplyKind::Acknowledge(address), left), changes }
            }
        }
    }

    fn end(self, address: Ipv4Addr, why: Why) -> Decision<Answer> {
        let now = self.place.now;
        let ending = match why {
            Why::Declined => (LeaseState::Declined, now.after(self.settings.decline_hold)),
            _ => (LeaseState::Released, now),
        };
        match self.place.ended(address, ending) {
            Some(change) => Decision::with(Answer::Silence(why), change),
            None => Decision::only(Answer::Silence(Why::NotItsOwn)),
        }
    }

    fn times(self) -> LeaseTimes {
        self.overlay.times.unwrap_or(self.subnet.times)
    }

    fn reply(self, kind: ReplyKind, times: LeaseTimes) -> Answer {
        let instance = self.place.state.instance_of_card(self.request.mac);
        Answer::Reply(Reply {
            kind,
            boot: boot_file_of(self.settings, self.choice, self.request),
            remark: self.choice.remark.clone(),
            hostname: instance.map(|instance| instance.hostname.clone()),
            server: self.server,
            times,
            subnet: Arc::clone(self.subnet),
            vlan: vlan_of(self.place.state, self.subnet, self.request),
            own: self.overlay.options.clone(),
        })
    }
}

/// How a client is told what it boots.
pub(super) fn boot_file_of(
    settings: &Settings,
    choice: &Choice,
    request: &Request,
) -> Result<BootFile, NoBootFile> {
    let told = choice.told.as_ref().map_err(|why| *why)?;
    boot_file(settings, told, request.mac)
}

/// The VLAN that this machine loads over: its own, else that of its network.
pub(super) fn vlan_of(state: &State, subnet: &Subnet, request: &Request) -> Option<VlanId> {
    let own = state.machines.with_card(request.mac).and_then(|machine| machine.vlan);
    let is_there = subnet.network.contains(&subnet::spot(request, subnet));
    own.or_else(|| subnet.vlan.filter(|_| is_there))
}

/// What this client is to be offered, and what its asking shows of it. Only what
/// wants to boot is a machine that somebody may provision.
pub(super) fn offer(
    state: &State,
    (settings, catalogue): (&Settings, &Catalogue),
    (request, subnet): (&Request, &Subnet),
    (proxied, now): (Option<Proxied>, Timestamp),
) -> Decision<Choice> {
    let spot = subnet::spot(request, subnet);
    // Behind a relay it may be on a network that is not served.
    let served = Some(subnet.network).filter(|network| network.contains(&spot));
    let network = served.unwrap_or_else(|| Ipv4Net::from(spot));
    let caller = Caller {
        applicant: Applicant {
            mac: request.mac,
            client: request.client,
            features: request.features,
            network: Some(network.into()),
            begins: matches!(request.kind, Kind::Discover { .. }),
        },
        address: spot.into(),
        uuid: request.uuid.clone(),
        port: request.port(),
        proxied,
    };
    boot::offer(state, (&settings.rules, catalogue), caller, now)
}

#[cfg(test)]
mod tests;
