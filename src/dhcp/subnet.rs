//! Which of our networks a client is on. Pure.

use std::{net::Ipv4Addr, sync::Arc};

use super::{
    answer::Why,
    request::{Kind, Request},
};
use crate::model::{Subnet, Subnets};

/// The network that the client is on, by the first of these that says it: the
/// relay's link selection (RFC 3527 §2), the client's subnet selection (RFC
/// 3011), the relay's own address (RFC 2131 §4.3.1), the address that the client
/// has, since it renews it without its relay (RFC 2131 §4.3.2); else the link
/// that it was heard on, where `link` is our own address.
pub(super) fn of<'a>(
    subnets: &'a Subnets,
    request: &Request,
    link: Option<Ipv4Addr>,
) -> Result<&'a Arc<Subnet>, Why> {
    let route = &request.route;
    let relay = Some(route.giaddr).filter(|giaddr| !giaddr.is_unspecified());
    if let Some(named) = route.link_selection.or(route.subnet_selection).or(relay) {
        return subnets.of(named).ok_or(Why::AnotherNetwork(named));
    }
    let own = match request.kind {
        Kind::Extend { address } | Kind::Release { address, .. } | Kind::Inform { address } => {
            subnets.of(address)
        }
        Kind::Discover { .. }
        | Kind::Select { .. }
        | Kind::Reboot { .. }
        | Kind::Decline { .. } => None,
    };
    own.or_else(|| subnets.of(link?)).ok_or(Why::NoNetwork)
}

/// An address of the network that the client is on, for the rules that go by networks:
/// what a relay says of it also where we do not serve that network.
pub(super) fn spot(request: &Request, subnet: &Subnet) -> Ipv4Addr {
    let route = &request.route;
    let relay = Some(route.giaddr).filter(|giaddr| !giaddr.is_unspecified());
    let named = route.link_selection.or(route.subnet_selection).or(relay);
    named.unwrap_or_else(|| subnet.network.network())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::testing::*;

    #[test]
    fn what_says_most_of_the_network_goes_before_what_says_less() {
        let subnets = settings().subnets;
        let network = |asked: &Request, link| of(&subnets, asked, link).map(|subnet| subnet.server);
        let mut asked = request(card(1), 1, HOST);
        assert_eq!(network(&asked, None), Err(Why::NoNetwork));
        assert_eq!(network(&asked, Some(SERVER)), Ok(SERVER));
        asked.route.giaddr = REMOTE_RELAY;
        assert_eq!(network(&asked, Some(SERVER)), Ok(REMOTE_SERVER), "the relay's address");
        asked.route.subnet_selection = Some([10, 0, 0, 0].into());
        assert_eq!(network(&asked, None), Ok(SERVER), "what the client asks for");
        asked.route.link_selection = Some([10, 7, 0, 0].into());
        assert_eq!(network(&asked, None), Ok(REMOTE_SERVER), "what the relay says");
        asked.route.link_selection = Some([10, 8, 0, 0].into());
        assert_eq!(network(&asked, None), Err(Why::AnotherNetwork([10, 8, 0, 0].into())));
    }

    #[test]
    fn a_renewal_without_its_relay_is_of_the_network_of_its_address() {
        let subnets = settings().subnets;
        let mut asked = request(card(1), 1, HOST);
        let at = |asked: &Request| of(&subnets, asked, Some(SERVER)).map(|subnet| subnet.server);
        asked.kind = Kind::Extend { address: REMOTE_FIRST };
        assert_eq!(at(&asked), Ok(REMOTE_SERVER));
        asked.kind = Kind::Extend { address: [192, 168, 0, 9].into() };
        assert_eq!(at(&asked), Ok(SERVER));
        // Where it was before it was restarted says nothing of where it is.
        asked.kind = Kind::Reboot { address: REMOTE_FIRST };
        assert_eq!(at(&asked), Ok(SERVER));
    }
}
