//! What is sent, and what an operator is told of it: in the log, and as an event.

use std::time::SystemTime;

use tracing::{debug, info, trace, warn};

use super::room::Room;
use crate::{
    boot,
    dhcp::{
        answer::{BootFile, NoBootFile, Reply, ReplyKind, Why},
        door::Door,
        elsewhere, ladder, late, reply,
        request::{Client, Kind, Request},
    },
    events::{self, Refused},
    model::Timestamp,
};

impl Room {
    /// Says what can be seen of a machine before it is answered: that its loader was
    /// silent, that its link was down.
    pub(super) fn notice(&self, request: &Request) {
        let mac = request.mac;
        let is_new = matches!(request.kind, Kind::Discover { .. });
        match request.client {
            Client::Firmware { .. } if is_new => {
                let silent = self.store.look(|state| boot::silent_loader(state, mac));
                silent.into_iter().for_each(|what| warn!(%mac, "{what}"));
            }
            Client::Ipxe { .. } => self.notice_if_late(request),
            Client::Firmware { .. } | Client::Host => {}
        }
    }

    fn notice_if_late(&self, request: &Request) {
        let (mac, now) = (request.mac, Timestamp::from(SystemTime::now()));
        let late = self.store.look(|state| late::of(state.machines.with_card(mac), request, now));
        if let Some(late) = late {
            let seconds = late.as_secs();
            warn!(
                %mac,
                seconds,
                "its iPXE asks long after its firmware: does its switch's port wait for a spanning \
                 tree or LACP? (portfast, or LACP fallback)"
            );
        }
    }

    /// Sends nothing, and says why.
    pub(super) fn silent(&self, request: &Request, why: Why) {
        let (mac, kind, client) = (request.mac, request.kind, request.client);
        match why {
            Why::Declined => warn!(%mac, ?kind, %why, "not answered"),
            Why::NoBootClient
            | Why::NoServer
            | Why::Ourselves
            | Why::NothingToBoot(NoBootFile::Ignored) => {
                trace!(%mac, ?kind, %why, "not answered");
            }
            Why::NothingToBoot(NoBootFile::OwnDisk) => info!(%mac, ?client, %why, "not answered"),
            Why::NothingToBoot(_) => {
                warn!(%mac, ?client, %why, "not answered");
                self.refused(Some(request), "a boot program", why);
            }
            Why::Released => debug!(%mac, ?kind, %why, "not answered"),
            Why::PoolIsFull(_) | Why::AllInUse => {
                warn!(%mac, ?kind, %why, "not answered");
                self.refused(Some(request), "an address", why);
            }
            Why::AnotherServer(_)
            | Why::AnotherNetwork(_)
            | Why::NoNetwork
            | Why::UnknownClient
            | Why::NotItsOwn => {
                debug!(%mac, ?kind, %why, "not answered");
                self.refused(Some(request), "an answer", why);
            }
        }
    }

    pub(super) fn send(&self, door: &Door, request: &Request, reply: &Reply) {
        let mac = request.mac;
        let destination = reply::destination(request, reply);
        let sent = match reply::encode(request, reply) {
            Ok(packet) => door.send(&packet, destination),
            Err(error) => return warn!(%mac, %error, "not answered"),
        };
        if let Some(remark) = &reply.remark {
            warn!(%mac, "{remark}");
        }
        match (sent, &reply.boot) {
            (Err(error), _) => warn!(%mac, ?destination, %error, "the answer could not be sent"),
            (Ok(()), Ok(boot)) => {
                info!(%mac, client = ?request.client, answer = ?reply.kind, ?boot)
            }
            (Ok(()), Err(NoBootFile::Host)) => {
                info!(%mac, client = ?request.client, answer = ?reply.kind);
            }
            (Ok(()), Err(why @ NoBootFile::Ignored)) => {
                debug!(%mac, client = ?request.client, answer = ?reply.kind, %why);
            }
            (Ok(()), Err(why @ NoBootFile::OwnDisk)) => {
                info!(%mac, client = ?request.client, answer = ?reply.kind, %why);
            }
            (Ok(()), Err(why)) => {
                warn!(%mac, client = ?request.client, answer = ?reply.kind, %why, "nothing to boot");
            }
        }
        if let (ReplyKind::ProxyOffer(proxied), Ok(BootFile::Program { name, server })) =
            (reply.kind, &reply.boot)
            && ladder::has_tried_all(proxied)
        {
            let elsewhere::Lines { isc_dhcpd, kea, dnsmasq } = elsewhere::lines(name, *server);
            warn!(
                %mac, isc_dhcpd, kea, dnsmasq,
                "this firmware ignores proxy offers: write what it boots into the DHCP server that \
                 it hears; docs/beside-dhcp.md has the lines for all architectures"
            );
        }
        match (reply.kind, &reply.boot) {
            (ReplyKind::Refuse, _) => self.refused(Some(request), "its address", "ask anew"),
            (_, Ok(_) | Err(NoBootFile::Host | NoBootFile::OwnDisk | NoBootFile::Ignored)) => {}
            (_, Err(why)) => self.refused(Some(request), "a boot program", why),
        }
    }

    /// Tells that a client gets nothing, or not what it asked for.
    pub(super) fn refused(&self, request: Option<&Request>, what: &str, why: impl ToString) {
        self.store.events().refused(|| Refused {
            door: events::Door::Dhcp,
            who: request.map_or_else(|| "unknown".to_owned(), |request| request.mac.to_string()),
            what: what.to_owned(),
            why: why.to_string(),
        });
    }
}
