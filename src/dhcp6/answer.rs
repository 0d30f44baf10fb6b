//! Advertise, grant, refuse, or stay silent and say why. Pure.

use std::net::Ipv6Addr;

use crate::{
    boot::{
        self, Caller,
        loader::{Applicant, Choice, Remark},
    },
    files::Catalogue,
    model::{Decision, Holder, IpxeFeatures, LeaseState, Subnet6, Timestamp},
    state::State,
};

pub use super::boot_file::{BootFile, NoBootFile, boot_file};
use super::{
    DECLINE_HOLD, OFFER_HOLD, RELEASE_HOLD, Settings, lease,
    request::{Association, Client, Kind, Other, Request, To},
};

/// What to say to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This.
    Reply(Reply),
    /// Nothing, for this reason.
    Silence(Why),
}

/// What a reply says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Advertise or Reply.
    pub kind: ReplyKind,
    /// What holds of the whole (RFC 8415 §21.13).
    pub status: Option<Status>,
    /// What becomes of what the client asked addresses for.
    pub associations: Vec<Granted>,
    /// What is refused by kind.
    pub others: Vec<(Other, u32)>,
    /// What the client shall boot, or why it is told nothing of it.
    pub boot: Result<BootFile, NoBootFile>,
    /// What an operator should know of that.
    pub remark: Option<Remark>,
}

/// The kinds of reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    /// Here is what you could have.
    Advertise,
    /// It is yours, at once (with option 14).
    Rapid,
    /// It is yours, and here is what else you asked.
    Reply,
    /// Only what the status says.
    Status,
}

/// What becomes of one association.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Granted {
    /// The client's number for it.
    pub id: u32,
    /// The address that it has.
    pub address: Option<Ipv6Addr>,
    /// The addresses that it must use no more: their lifetimes are zero.
    pub gone: Vec<Ipv6Addr>,
    /// Why it has none.
    pub status: Option<Status>,
}

/// What a status code says (RFC 8415 §21.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Status {
    /// All is well.
    #[error("all is well")]
    Success,
    /// No address is free.
    #[error("no address is free")]
    NoAddressAvailable,
    /// Nothing is known of such an association.
    #[error("nothing is known of an address of its")]
    NoBinding,
    /// The address is none of the client's link.
    #[error("its address is none of its network")]
    NotOnLink,
    /// Servers are spoken to all at once.
    #[error("it must ask all servers")]
    UseMulticast,
}

/// Why nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It chose another server.
    #[error("it asks another server")]
    AnotherServer,
    /// It is on a network that is not served.
    #[error("{0} is on a network that is not served")]
    AnotherNetwork(Ipv6Addr),
    /// It must go to all servers, and came to our address alone (RFC 8415 §16).
    #[error("it was sent to this server alone, and is for all")]
    Unicast,
    /// No range is set for its network: only options are given there.
    #[error("it wants an address, and no range of addresses is set for its network")]
    NoRange,
    /// It asks about addresses that we know nothing of; another server may.
    #[error("nothing is known of these addresses, another server may know them")]
    UnknownClient,
    /// It asks whether its addresses are good, and names none.
    #[error("it names no address")]
    NoAddress,
}

/// Answers a request.
pub fn answer(
    state: &State,
    (settings, catalogue): (&Settings, &Catalogue),
    request: &Request,
    now: Timestamp,
) -> Decision<Answer> {
    let silence = |why| Decision::only(Answer::Silence(why));
    let link = request.route.link().unwrap_or(settings.server);
    let Some(subnet) = settings.subnet_of(link) else {
        return silence(Why::AnotherNetwork(link));
    };
    if request.server_id.as_deref().is_some_and(|named| named != settings.server_id.bytes()) {
        return silence(Why::AnotherServer);
    }
    let offered = offer(state, (settings, catalogue), (request, subnet), now);
    let choice = &offered.answer;
    let conversation = Conversation { state, settings, choice, request, subnet, now };
    if request.route.relays.is_empty() && request.route.to == To::Us {
        return match request.kind {
            // RFC 8415 §18.4: nobody was told that we can be spoken to alone.
            Kind::Request | Kind::Renew | Kind::Release | Kind::Decline => {
                Decision::only(conversation.status(Status::UseMulticast))
            }
            Kind::Solicit { .. } | Kind::Confirm | Kind::Rebind | Kind::Information => {
                silence(Why::Unicast)
            }
        };
    }
    let mut decision = match (request.kind, &request.holder) {
        (Kind::Information, _) => Decision::only(conversation.reply(ReplyKind::Reply, Vec::new())),
        (Kind::Confirm, _) => conversation.confirm(),
        // Only an Information-request may come without a client identifier.
        (_, None) => silence(Why::UnknownClient),
        (Kind::Solicit { rapid }, Some(holder)) => conversation.solicit(holder, rapid),
        (Kind::Request, Some(holder)) => conversation.grant(holder),
        (Kind::Renew | Kind::Rebind, Some(holder)) => conversation.extend(holder),
        (Kind::Release, Some(holder)) => {
            conversation.end(holder, (LeaseState::Released, now.after(RELEASE_HOLD)))
        }
        (Kind::Decline, Some(holder)) => {
            conversation.end(holder, (LeaseState::Declined, now.after(DECLINE_HOLD)))
        }
    };
    if let Answer::Reply(reply) = &decision.answer
        && reply.kind != ReplyKind::Status
        // Who has no address goes no further, and there may be any number of them.
        && (request.kind == Kind::Information
            || reply.associations.iter().any(|granted| granted.address.is_some()))
    {
        decision.changes.extend(offered.changes);
    }
    decision
}

#[derive(Clone, Copy)]
struct Conversation<'a> {
    state: &'a State,
    settings: &'a Settings,
    choice: &'a Choice,
    request: &'a Request,
    /// The network of the client's link.
    subnet: &'a Subnet6,
    now: Timestamp,
}

impl<'a> Conversation<'a> {
    /// RFC 8415 §18.3.1.
    fn solicit(self, holder: &'a Holder, rapid: bool) -> Decision<Answer> {
        if self.subnet.pool.is_none() {
            return Decision::only(Answer::Silence(Why::NoRange));
        }
        let address = self.primary(holder).and_then(|one| self.to_offer(holder, one));
        if rapid {
            return self.bind(holder, ReplyKind::Rapid, address);
        }
        let held = address.and_then(|address| {
            lease::offered(self.state, self.who(holder), address, (self.now, OFFER_HOLD))
        });
        Decision {
            answer: self.reply(ReplyKind::Advertise, self.granted(holder, address)),
            changes: held.into_iter().collect(),
        }
    }

    /// RFC 8415 §18.3.2.
    fn grant(self, holder: &'a Holder) -> Decision<Answer> {
        let is_elsewhere = |address: &Ipv6Addr| !self.subnet.network.contains(address);
        let Some(primary) = self.primary(holder) else {
            return self.bind(holder, ReplyKind::Reply, None);
        };
        if primary.addresses.iter().any(is_elsewhere) {
            let refused = Granted { status: Some(Status::NotOnLink), ..granted(primary.id) };
            return Decision::only(self.reply(ReplyKind::Reply, vec![refused]));
        }
        let address = self.own_of(holder, primary).or_else(|| self.to_offer(holder, primary));
        self.bind(holder, ReplyKind::Reply, address)
    }

    /// RFC 8415 §18.3.3.
    fn confirm(self) -> Decision<Answer> {
        let mut named = self.request.associations.iter().flat_map(|one| &one.addresses).peekable();
        if named.peek().is_none() {
            return Decision::only(Answer::Silence(Why::NoAddress));
        }
        let all_here = named.all(|address| self.subnet.network.contains(address));
        Decision::only(self.status(if all_here { Status::Success } else { Status::NotOnLink }))
    }

    /// RFC 8415 §18.3.4 and §18.3.5. An address of our pool that nobody else has is
    /// granted even if we do not remember it: the offer of it may have been
    /// forgotten by a restart.
    fn extend(self, holder: &'a Holder) -> Decision<Answer> {
        let Some(primary) = self.primary(holder) else {
            return self.bind(holder, ReplyKind::Reply, None);
        };
        if let Some(address) = self.own_of(holder, primary) {
            return self.bind(holder, ReplyKind::Reply, Some(address));
        }
        // What is not of this link, or is our pool's and another's, is no good. Of
        // the rest another server may know.
        let is_ours = |address: &Ipv6Addr| {
            self.subnet.pool.as_ref().is_some_and(|pool| pool.contains(*address))
        };
        let named = primary.addresses.iter().copied();
        let gone: Vec<Ipv6Addr> = named
            .filter(|address| !self.subnet.network.contains(address) || is_ours(address))
            .collect();
        if gone.is_empty() && self.request.kind == Kind::Rebind {
            return Decision::only(Answer::Silence(Why::UnknownClient));
        }
        let status = gone.is_empty().then_some(Status::NoBinding);
        let refused = Granted { gone, status, ..granted(primary.id) };
        Decision::only(self.reply(ReplyKind::Reply, vec![refused]))
    }

    /// RFC 8415 §18.3.7 and §18.3.8.
    fn end(self, holder: &Holder, ending: (LeaseState, Timestamp)) -> Decision<Answer> {
        let mut changes = Vec::new();
        let mut unknown = Vec::new();
        for association in &self.request.associations {
            let ended = association.addresses.iter().filter_map(|address| {
                lease::ended(self.state, (holder, association.id), *address, ending)
            });
            let before = changes.len();
            changes.extend(ended);
            if changes.len() == before {
                let status = Some(Status::NoBinding);
                unknown.push(Granted { status, ..granted(association.id) });
            }
        }
        let Answer::Reply(reply) = self.status(Status::Success) else {
            return Decision::only(Answer::Silence(Why::UnknownClient));
        };
        let answer = Answer::Reply(Reply { associations: unknown, ..reply });
        Decision { answer, changes }
    }

    /// The association that the client's one address is for: the one that names
    /// it, else the first.
    fn primary(self, holder: &Holder) -> Option<&'a Association> {
        let last = self.state.addresses6.last_of(holder).map(|lease| lease.address);
        let all = &self.request.associations;
        let names_last =
            |one: &&Association| last.is_some_and(|last| one.addresses.contains(&last));
        all.iter().find(names_last).or(all.first())
    }

    /// The client, and the number of that association.
    fn who(self, holder: &Holder) -> (&Holder, u32) {
        (holder, self.primary(holder).map_or(0, |one| one.id))
    }

    fn to_offer(self, holder: &Holder, association: &Association) -> Option<Ipv6Addr> {
        let wanted = association.addresses.first().copied();
        lease::to_offer(self.state, (holder, self.subnet), wanted, self.now)
    }

    /// The address among those it names that the client has or may have.
    fn own_of(self, holder: &Holder, association: &Association) -> Option<Ipv6Addr> {
        let last = self.state.addresses6.last_of(holder).map(|lease| lease.address);
        let may_have = |address: &Ipv6Addr| {
            lease::may_have(self.state, (holder, self.subnet), *address, self.now)
        };
        let mut named = association.addresses.iter().copied().filter(may_have);
        named.clone().find(|address| Some(*address) == last).or_else(|| named.next())
    }

    fn bind(self, holder: &Holder, kind: ReplyKind, address: Option<Ipv6Addr>) -> Decision<Answer> {
        let until = self.now.after(self.settings.lease_time.into());
        let bound =
            address.map(|address| lease::bound(self.state, self.who(holder), address, until));
        Decision {
            answer: self.reply(kind, self.granted(holder, address)),
            changes: bound.unwrap_or_default(),
        }
    }

    /// The address for one association, and none for the others.
    fn granted(self, holder: &Holder, address: Option<Ipv6Addr>) -> Vec<Granted> {
        let primary = self.primary(holder);
        let of = |one: &Association| {
            let address = address.filter(|_| primary == Some(one));
            let named = one.addresses.iter().copied();
            let gone = match self.request.kind {
                Kind::Renew | Kind::Rebind => named.filter(|old| Some(*old) != address).collect(),
                _ => Vec::new(),
            };
            let status = address.is_none().then_some(Status::NoAddressAvailable);
            Granted { id: one.id, address, gone, status }
        };
        self.request.associations.iter().map(of).collect()
    }

    fn reply(self, kind: ReplyKind, associations: Vec<Granted>) -> Answer {
        let others = self.request.others.clone();
        let (boot, remark) = (self.boot_file(), self.choice.remark.clone());
        Answer::Reply(Reply { kind, status: None, associations, others, boot, remark })
    }

    fn status(self, status: Status) -> Answer {
        Answer::Reply(Reply {
            kind: ReplyKind::Status,
            status: Some(status),
            associations: Vec::new(),
            others: Vec::new(),
            boot: Err(NoBootFile::Host),
            remark: None,
        })
    }

    fn boot_file(self) -> Result<BootFile, NoBootFile> {
        let told = self.choice.told.as_ref().map_err(|why| *why)?;
        let mac = self.request.holder.as_ref().and_then(Holder::machine);
        boot_file(self.settings, told, mac.ok_or(NoBootFile::NoMac)?)
    }
}

/// What this client is to be offered, and what its asking shows of it. Only what
/// wants to boot is a machine that somebody may provision.
fn offer(
    state: &State,
    (settings, catalogue): (&Settings, &Catalogue),
    (request, subnet): (&Request, &Subnet6),
    now: Timestamp,
) -> Decision<Choice> {
    let Some(applicant) = applicant(request, subnet) else {
        let is_host = request.client == Client::Host;
        let why = if is_host { NoBootFile::Host } else { NoBootFile::NoMac };
        return Decision::only(Choice::nothing(why));
    };
    let uuid = request.client_id.as_ref().and_then(crate::model::Duid::uuid);
    let address = subnet.network.network().into();
    let caller = Caller { applicant, address, uuid, port: None, proxied: None };
    boot::offer(state, (&settings.rules, catalogue), caller, now)
}

/// The client as a machine; nothing if none is known by it.
fn applicant(request: &Request, subnet: &Subnet6) -> Option<Applicant> {
    Some(Applicant {
        mac: request.holder.as_ref().and_then(Holder::machine)?,
        client: request.client,
        // Over IPv6 iPXE lists none.
        features: IpxeFeatures::default(),
        network: Some(subnet.network.into()),
        begins: matches!(request.kind, Kind::Solicit { .. }),
    })
}

const fn granted(id: u32) -> Granted {
    Granted { id, address: None, gone: Vec::new(), status: None }
}

#[cfg(test)]
mod tests;
