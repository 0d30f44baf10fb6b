//! Which answers may be put off when many machines boot at once, and for how long a
//! client has patience. Pure.
//!
//! It is the ACK behind which a machine loads. UEFI collects OFFERs for 3.7 seconds
//! whenever they come, so one that is late spreads nothing.

use std::time::Duration;

use super::{
    answer::{Reply, ReplyKind},
    request::{Client, Request},
};

/// UEFI asks again after 4 seconds, the plain ROM after 4, too.
const OF_FIRMWARE: Duration = Duration::from_millis(2500);

/// iPXE asks again after one second.
const OF_IPXE: Duration = Duration::from_millis(750);

/// For how long this answer may be put off; nothing if it may not.
pub(super) const fn patience(request: &Request, reply: &Reply) -> Option<Duration> {
    match (reply.kind, &reply.boot, request.client) {
        (
            ReplyKind::Offer(_) | ReplyKind::Inform | ReplyKind::Refuse | ReplyKind::ProxyOffer(_),
            _,
            _,
        )
        | (_, Err(_), _)
        | (_, _, Client::Host) => None,
        (_, Ok(_), Client::Ipxe { .. }) => Some(OF_IPXE),
        (_, Ok(_), Client::Firmware { .. }) => Some(OF_FIRMWARE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::{
        answer::NoBootFile,
        testing::{HOST, IPXE, UEFI, card, request, settings},
    };

    fn reply(kind: ReplyKind, boot: Result<super::super::answer::BootFile, NoBootFile>) -> Reply {
        let subnets = settings().subnets;
        let subnet = subnets.iter().next().expect("one").clone();
        Reply {
            kind,
            boot,
            remark: None,
            hostname: None,
            server: subnet.server,
            times: subnet.times,
            subnet,
            vlan: None,
            own: Default::default(),
        }
    }

    #[test]
    fn only_what_lets_a_machine_load_is_put_off_and_ipxe_less_than_firmware() {
        let address = [10, 0, 0, 9].into();
        let boot = || Ok(super::super::answer::BootFile::Script("http://x/".to_owned()));
        let of = |client, reply: &Reply| patience(&request(card(1), 1, client), reply);
        let acknowledged = reply(ReplyKind::Acknowledge(address), boot());
        assert_eq!(of(UEFI, &acknowledged), Some(OF_FIRMWARE));
        assert_eq!(of(IPXE, &acknowledged), Some(OF_IPXE));
        assert_eq!(of(HOST, &acknowledged), None);
        assert_eq!(of(UEFI, &reply(ReplyKind::Offer(address), boot())), None);
        let disk = reply(ReplyKind::Acknowledge(address), Err(NoBootFile::OwnDisk));
        assert_eq!(of(UEFI, &disk), None);
    }
}
