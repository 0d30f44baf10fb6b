//! What this machine is told over what its network says. Pure.

use super::{
    Settings,
    request::{Client, Request},
};
use crate::{
    model::{Architecture, Firmware, Overlay, Subnet},
    state::State,
};

/// What the inventory says of the machine, over the first profile that is for it. Its
/// system is told the same as its firmware.
pub(super) fn of(
    state: &State,
    settings: &Settings,
    (request, subnet): (&Request, &Subnet),
) -> Overlay {
    let machine = state.machines.with_card(request.mac);
    let known = machine.and_then(|machine| machine.architecture);
    let architecture = said(request.client).or(known);
    let place = (machine, Some(subnet.network.into()));
    let profile = settings.profiles.iter().find(|profile| profile.kind.is_for(architecture, place));
    match (machine.map(|machine| &*machine.dhcp), profile.map(|profile| &profile.overlay)) {
        (None, None) => Overlay::default(),
        (Some(one), None) | (None, Some(one)) => one.clone(),
        (Some(own), Some(profile)) => own.over(profile),
    }
}

const fn said(client: Client) -> Option<Architecture> {
    match client {
        Client::Firmware { firmware: Firmware::Known(architecture), .. }
        | Client::Ipxe { firmware: Some(Firmware::Known(architecture)) } => Some(architecture),
        Client::Firmware { .. } | Client::Ipxe { .. } | Client::Host => None,
    }
}
