//! The one policy: what shall this machine do next, and who is it that asks.
//!
//! DHCP, TFTP and HTTP all ask here, so that a machine hears the same through
//! every door. Pure; knows `state` and `model` and nothing else of ours.

pub mod cards;
pub mod cmdline;
pub mod grub;
mod health;
pub mod hostname;
mod identity;
pub mod init;
pub mod inventory;
pub mod loader;
pub mod local;
mod offer;
mod paths;
mod plan;
pub mod report;
pub mod rules;
mod script;
mod sighting;
mod spread;
pub mod urls;
mod vlan;

use std::{net::IpAddr, time::Duration};

use crate::{
    model::{Image, Instance, Mac, Stage, Timestamp, Treatment},
    state::State,
};
use rules::{Spot, Then};

pub use health::{Health, health};
pub use identity::{Addressing, Claim, Imposter, Visitor, booting_card, identify};
pub use offer::{Caller, offer};
pub use paths::Paths;
pub use plan::base_name;
pub use rules::{Rules, UnclaimedImage};
pub use script::{AGAIN, Asker, Prelude, SERIAL, Script, script_for};
pub use sighting::{Sighting, seen, silent_loader};
pub use spread::{Crowd, share};

/// What is the same for all machines that reach us over IPv4, or over IPv6, from
/// the configuration: a machine is told URLs of the kind that it asks by.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What becomes of machines that no instance claims, and how machines are sent to
    /// their disks.
    pub rules: Rules,
    /// The authority (`address` or `address:port`) under which machines reach
    /// our HTTP server.
    pub authority: String,
    /// The host part of the authority: `{{ server }}` in a command line.
    pub server: std::net::IpAddr,
    /// What is known of the ways to machines.
    pub paths: Paths,
}

/// What a machine shall do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next<'a> {
    /// Boot what its instance says.
    Instance(&'a Instance, &'a Image),
    /// Boot from its own disk, since its instance says so, or a rule for machines that
    /// no instance claims.
    Local(Option<&'a Instance>),
    /// Wait: its instance was booted too often in vain.
    GaveUp(&'a Instance),
    /// Boot what a rule says for machines that no instance claims.
    Unclaimed(&'a UnclaimedImage),
    /// Wait, and ask again.
    Hold,
    /// Whatever it would do without us: by rule it is none of ours.
    Ignore,
}

impl Next<'_> {
    /// What it is as a treatment of machines that no instance claims, if none does.
    #[must_use]
    pub const fn treatment(self) -> Option<Treatment> {
        match self {
            Self::Instance(..) | Self::GaveUp(_) | Self::Local(Some(_)) => None,
            Self::Local(None) => Some(Treatment::Local),
            Self::Unclaimed(_) => Some(Treatment::Image),
            Self::Hold => Some(Treatment::Hold),
            Self::Ignore => Some(Treatment::Ignore),
        }
    }
}

/// What the machine with this card shall do next, which asks from this address.
#[must_use]
pub fn next<'a>(
    state: &'a State,
    policy: &'a Policy,
    (mac, address): (Mac, IpAddr),
    now: Timestamp,
) -> Next<'a> {
    let Some(instance) = state.instance_of_card(mac) else {
        let known = state.machines.with_card(mac);
        let architecture = known.and_then(|machine| machine.architecture);
        return match policy.rules.unclaimed(known, Spot { address, architecture }) {
            Then::Ignore => Next::Ignore,
            Then::Hold => Next::Hold,
            Then::Local => Next::Local(None),
            Then::Image(image) => Next::Unclaimed(image),
        };
    };
    let image = match &instance.image {
        Some(image) if !instance.progress.boots_locally(instance.boot) => image,
        Some(_) | None => return Next::Local(Some(instance)),
    };
    let is_exhausted = instance.progress.is_exhausted(instance.boot);
    if is_exhausted && begins_anew(state, instance, now) {
        return Next::GaveUp(instance);
    }
    Next::Instance(instance, image)
}

/// No machine comes from one script through a kernel to the next in less time: it
/// asks for the first one again, since the answer was lost.
const SHORTEST_BOOT: Duration = Duration::from_secs(60);

/// Whether a script that this machine is given now begins a boot. Where another
/// server gives out the addresses and the kernel is fetched elsewhere, nothing is
/// seen between two scripts but the time.
fn begins_anew(state: &State, instance: &Instance, now: Timestamp) -> bool {
    let stage = state.machines.find(instance.mac).and_then(|machine| machine.stage);
    stage != Some(Stage::Script) || now.since(instance.progress.since) >= SHORTEST_BOOT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BootMode, Change, MOST_INSTALLS, Machine, testing};

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
    const NOW: Timestamp = Timestamp(1000);
    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

    fn policy() -> Policy {
        let (authority, server) = ("10.0.0.1".to_owned(), [10, 0, 0, 1].into());
        Policy { rules: Rules::default(), authority, server, paths: Paths::default() }
    }

    /// A state in which the machine has come so far with an instance of this mode.
    fn state(boot: BootMode, stage: Stage) -> State {
        let mut state = State::new(None);
        state.apply(&Change::Machine(Machine {
            stage: Some(stage),
            ..testing::held(MAC, Timestamp(1))
        }));
        state.apply(&Change::Instance(Instance { boot, ..testing::instance(1, MAC) }));
        state
    }

    fn progress(state: &mut State, change: impl FnOnce(&Instance) -> crate::model::Progress) {
        let instance = state.instances.of_machine(MAC).expect("provisioned");
        let change = Change::Progress(instance.id, change(instance));
        state.apply(&change);
    }

    #[test]
    fn a_machine_boots_from_its_disk_when_its_mode_says_so() {
        for (boot, ready, expected) in [
            (BootMode::Always, false, false),
            (BootMode::Always, true, false),
            (BootMode::Once, false, false),
            (BootMode::Once, true, true),
            (BootMode::Never, false, true),
        ] {
            let mut state = state(boot, Stage::Firmware);
            if ready {
                progress(&mut state, |instance| instance.progress.ready(None, NOW));
            }
            let policy = policy();
            let next = next(&state, &policy, (MAC, ADDRESS), NOW);
            assert_eq!(matches!(next, Next::Local(_)), expected, "{boot:?} {ready} {next:?}");
        }
    }

    #[test]
    fn an_installation_that_never_reports_is_not_begun_again_but_may_be_ended() {
        let soon = NOW.after(SHORTEST_BOOT - Duration::from_millis(1));
        let later = NOW.after(SHORTEST_BOOT);
        for (stage, now, gives_up) in [
            (Stage::Firmware, NOW, true),
            (Stage::Script, soon, false),
            (Stage::Script, later, true),
        ] {
            let mut state = state(BootMode::Once, stage);
            for _ in 0..MOST_INSTALLS {
                progress(&mut state, |instance| instance.progress.script(true, NOW));
            }
            let policy = policy();
            let next = next(&state, &policy, (MAC, ADDRESS), now);
            assert_eq!(matches!(next, Next::GaveUp(_)), gives_up, "{stage:?} {next:?}");
        }
    }
}
