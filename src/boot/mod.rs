//! The one policy: what shall this machine do next, and who is it that asks.
//!
//! DHCP, TFTP and HTTP all ask here, so that a machine hears the same through
//! every door. Pure; knows `state` and `model` and nothing else of ours.

pub mod cmdline;
pub mod grub;
mod health;
pub mod hostname;
mod identity;
pub mod init;
pub mod inventory;
pub mod report;
mod script;
mod sighting;
pub mod urls;

use std::time::Duration;

use crate::{
    model::{Image, Instance, Mac, Stage, Timestamp},
    state::State,
};
pub use health::{Health, health};
pub use identity::{Addressing, Claim, Imposter, Visitor, identify};
pub use script::{AGAIN, Asker, Prelude, Script, base_name, script_for};
pub use sighting::{Sighting, fetches_loader, seen, silent_loader};

/// What is the same for all machines that reach us over IPv4, or over IPv6, from
/// the configuration: a machine is told URLs of the kind that it asks by.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What machines boot that no instance claims; without it they wait.
    pub unclaimed: Option<UnclaimedImage>,
    /// The authority (`address` or `address:port`) under which machines reach
    /// our HTTP server.
    pub authority: String,
    /// The host part of the authority: `{{ server }}` in a command line.
    pub server: std::net::IpAddr,
}

/// The image of the command line's three arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnclaimedImage {
    /// The file of the kernel.
    pub kernel: std::path::PathBuf,
    /// The file of the initrd.
    pub initrd: std::path::PathBuf,
    /// The kernel's command line, a template as in [`Image::cmdline`].
    pub cmdline: String,
}

/// What a machine shall do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next<'a> {
    /// Boot what its instance says.
    Instance(&'a Instance, &'a Image),
    /// Boot from its own disk, since its instance says so.
    Local(&'a Instance),
    /// Wait: its instance was booted too often in vain.
    GaveUp(&'a Instance),
    /// Boot what all machines boot that no instance claims.
    Unclaimed(&'a UnclaimedImage),
    /// Wait, and ask again.
    Hold,
}

/// What this machine shall do next.
#[must_use]
pub fn next<'a>(state: &'a State, policy: &'a Policy, mac: Mac, now: Timestamp) -> Next<'a> {
    let Some(instance) = state.instances.of_machine(mac) else {
        return policy.unclaimed.as_ref().map_or(Next::Hold, Next::Unclaimed);
    };
    let image = match &instance.image {
        Some(image) if !instance.progress.boots_locally(instance.boot) => image,
        Some(_) | None => return Next::Local(instance),
    };
    let is_exhausted = instance.progress.is_exhausted(instance.boot);
    if is_exhausted && begins_anew(state, instance, now) {
        return Next::GaveUp(instance);
    }
    Next::Instance(instance, image)
}

/// Whether this machine is sent to its own disk.
#[must_use]
pub fn boots_locally(state: &State, mac: Mac) -> bool {
    state
        .instances
        .of_machine(mac)
        .is_some_and(|instance| instance.progress.boots_locally(instance.boot))
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

    fn policy() -> Policy {
        Policy { unclaimed: None, authority: "10.0.0.1".to_owned(), server: [10, 0, 0, 1].into() }
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
            assert_eq!(boots_locally(&state, MAC), expected, "{boot:?} {ready}");
            let policy = policy();
            let next = next(&state, &policy, MAC, NOW);
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
            let next = next(&state, &policy, MAC, now);
            assert_eq!(matches!(next, Next::GaveUp(_)), gives_up, "{stage:?} {next:?}");
        }
    }
}
