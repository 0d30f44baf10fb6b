//! Offer, acknowledge, refuse, or stay silent and say why. Pure.

use std::net::Ipv4Addr;

use crate::{
    boot::{self, Sighting},
    files::Catalogue,
    model::{
        Architecture, Change, Decision, Firmware, Hostname, LeaseState, Mac, Stage, Timestamp,
    },
    state::State,
};

pub use super::boot_file::{BootFile, NoBootFile, boot_file};
use super::{
    DECLINE_HOLD, OFFER_HOLD, Settings,
    lease::{self, Standing},
    request::{Client, Kind, Request},
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
    /// OFFER, ACK or NAK.
    pub kind: ReplyKind,
    /// What the client shall boot, or why it is told nothing of it.
    pub boot: Result<BootFile, NoBootFile>,
    /// The name of the machine, from its instance.
    pub hostname: Option<Hostname>,
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
}

/// Why nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It chose another server.
    #[error("it asks the server {0}")]
    AnotherServer(Ipv4Addr),
    /// It came through a relay on a network that is not served.
    #[error("the relay {0} is on a network that is not served")]
    AnotherNetwork(Ipv4Addr),
    /// No address is free.
    #[error("no address is free")]
    PoolIsFull,
    /// It asks about an address that we know nothing of; another server may.
    #[error("nothing is known of this client, another server may know it")]
    UnknownClient,
    /// The address was given back.
    #[error("the address was given back")]
    Released,
    /// The address is set aside, since somebody else uses it.
    #[error("somebody else uses the address, it is set aside")]
    Declined,
    /// It speaks of an address that is not its own.
    #[error("the address is not its own")]
    NotItsOwn,
}

/// Answers a request.
pub fn answer(
    state: &State,
    (settings, catalogue): (&Settings, &Catalogue),
    request: &Request,
    now: Timestamp,
) -> Decision<Answer> {
    let giaddr = request.route.giaddr;
    if !giaddr.is_unspecified() && !settings.subnet.network.contains(&giaddr) {
        return Decision::only(Answer::Silence(Why::AnotherNetwork(giaddr)));
    }
    if let Some(server) = addressed_to(request.kind)
        && server != settings.subnet.server
    {
        return Decision::only(Answer::Silence(Why::AnotherServer(server)));
    }
    let conversation = Conversation { state, settings, catalogue, request, now };
    let mut decision = match request.kind {
        Kind::Discover { wanted } => conversation.discover(wanted),
        Kind::Select { address, .. } => {
            conversation.grant(address, lease::selected(state, request.mac, address, now))
        }
        Kind::Reboot { address } | Kind::Extend { address } => {
            conversation.grant(address, lease::kept(state, request.mac, address, now))
        }
        Kind::Decline { address, .. } => conversation.end(address, Why::Declined),
        Kind::Release { address, .. } => conversation.end(address, Why::Released),
        Kind::Inform { .. } => Decision::only(conversation.reply(ReplyKind::Inform)),
    };
    if let Answer::Reply(_) = decision.answer {
        decision.changes.extend(conversation.sighting());
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
    state: &'a State,
    settings: &'a Settings,
    catalogue: &'a Catalogue,
    request: &'a Request,
    now: Timestamp,
}

impl Conversation<'_> {
    fn discover(self, wanted: Option<Ipv4Addr>) -> Decision<Answer> {
        let Self { state, request: Request { mac, .. }, now, .. } = self;
        let Some(address) = lease::to_offer(state, *mac, wanted, now) else {
            return Decision::only(Answer::Silence(Why::PoolIsFull));
        };
        let held = lease::offered(state, *mac, address, (now, OFFER_HOLD));
        Decision {
            answer: self.reply(ReplyKind::Offer(address)),
            changes: held.into_iter().collect(),
        }
    }

    fn grant(self, address: Ipv4Addr, standing: Standing) -> Decision<Answer> {
        match standing {
            Standing::Unknown => Decision::only(Answer::Silence(Why::UnknownClient)),
            Standing::Bad => Decision::only(self.reply(ReplyKind::Refuse)),
            Standing::Good => Decision {
                answer: self.reply(ReplyKind::Acknowledge(address)),
                changes: lease::bound(
                    self.state,
                    self.request.mac,
                    address,
                    self.now.after(self.settings.subnet.lease_time.into()),
                ),
            },
        }
    }

    fn end(self, address: Ipv4Addr, why: Why) -> Decision<Answer> {
        let ending = match why {
            Why::Declined => (LeaseState::Declined, self.now.after(DECLINE_HOLD)),
            _ => (LeaseState::Released, self.now),
        };
        match lease::ended(self.state, self.request.mac, address, ending) {
            Some(change) => Decision::with(Answer::Silence(why), change),
            None => Decision::only(Answer::Silence(Why::NotItsOwn)),
        }
    }

    fn reply(self, kind: ReplyKind) -> Answer {
        let instance = self.state.instances.of_machine(self.request.mac);
        Answer::Reply(Reply {
            kind,
            boot: self.boot_file(),
            hostname: instance.map(|instance| instance.hostname.clone()),
        })
    }

    fn boot_file(self) -> Result<BootFile, NoBootFile> {
        let Self { state, settings, catalogue, request, .. } = self;
        // Only a BIOS goes on to its disk when it is told of no boot file. UEFI asks
        // for one for a minute by PXE and then another by HTTP: it is given iPXE,
        // whose script leaves for the disk.
        let is_bios = matches!(
            request.client,
            Client::Firmware { firmware: Firmware::Known(Architecture::Bios), .. }
        );
        if is_bios && boot::boots_locally(state, request.mac) {
            return Err(NoBootFile::OwnDisk);
        }
        boot_file(settings, catalogue, request.client, request.mac)
    }

    /// Only what wants to boot is a machine that somebody may provision.
    fn sighting(self) -> Vec<Change> {
        let (firmware, stage) = match self.request.client {
            Client::Host => return Vec::new(),
            Client::Firmware { firmware, .. } => (Some(firmware), Stage::Firmware),
            Client::Ipxe { firmware } => (firmware, Stage::Ipxe),
        };
        let architecture = match firmware {
            // iPXE from undionly.kpxe repeats what the BIOS said, and so does UEFI.
            Some(Firmware::Known(architecture)) => Some(architecture),
            Some(Firmware::Unknown(_)) | None => None,
        };
        let mac: Mac = self.request.mac;
        let uuid = self.request.uuid.clone();
        boot::seen(self.state, Sighting { mac, architecture, uuid, stage }, self.now)
    }
}

#[cfg(test)]
mod tests;
