//! When iPXE asks so late after its firmware that something was in between. Pure.
//!
//! A loader that takes the card over may take its link down for a moment, and a switch
//! with a spanning tree or LACP then passes nothing for 30 to 90 seconds.

use std::time::Duration;

use super::request::{Client, Kind, Request};
use crate::model::{Machine, Stage, Timestamp};

/// Nobody needs so long to load a boot program, but by the slowest of ways.
const USUAL: Duration = Duration::from_secs(45);

/// No boot lies between questions that are further apart.
const SAME_BOOT: Duration = Duration::from_secs(600);

/// How long after its firmware this machine's iPXE asks for the first time, if that is
/// longer than usual. The machine is as it was before the request.
pub(super) fn of(machine: Option<&Machine>, request: &Request, now: Timestamp) -> Option<Duration> {
    let is_first =
        matches!((request.kind, request.client), (Kind::Discover { .. }, Client::Ipxe { .. }));
    let machine = machine.filter(|machine| is_first && machine.stage == Some(Stage::Firmware))?;
    let time = now.since(machine.last_seen?);
    (USUAL..SAME_BOOT).contains(&time).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dhcp::testing::{IPXE, UEFI, card, request},
        model::testing,
    };

    #[test]
    fn only_an_ipxe_that_comes_long_after_its_firmware_is_late() {
        let machine = |stage| Machine {
            stage: Some(stage),
            last_seen: Some(Timestamp(0)),
            ..testing::held(card(1), Timestamp(0))
        };
        for (stage, client, seconds, is_late) in [
            (Stage::Firmware, IPXE, 44, false),
            (Stage::Firmware, IPXE, 45, true),
            (Stage::Firmware, IPXE, 600, false),
            (Stage::Firmware, UEFI, 60, false),
            (Stage::Ipxe, IPXE, 60, false),
            (Stage::Kernel, IPXE, 60, false),
        ] {
            let asked = request(card(1), 1, client);
            let late = of(Some(&machine(stage)), &asked, Timestamp(seconds * 1000));
            assert_eq!(late.is_some(), is_late, "{stage:?} after {seconds} s");
        }
        assert_eq!(of(None, &request(card(1), 1, IPXE), Timestamp(60_000)), None);
    }
}
