//! How far an instance has come: its state, and the evidence for it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{BootMode, InstanceEvent, InstanceState, Rare, Timestamp, Usual};

/// How far an instance has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Where it is.
    pub state: InstanceState,
    /// Since when it is there.
    pub since: Timestamp,
    /// How often its machine was given its script at the beginning of a boot.
    pub boots: u32,
    /// When its machine reported in first: what is installed once is installed
    /// from then on.
    pub ready_at: Option<Timestamp>,
    /// Why it has failed, in its machine's words or ours.
    pub failure: Option<String>,
    /// What is known of its end.
    pub drain: Rare<Drain>,
}

/// Stopping the work of a machine before its instance is destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drain {
    /// Where the machine wants to be asked, on itself and nowhere else.
    pub callback: Option<Callback>,
    /// When it was asked.
    pub asked_at: Option<Timestamp>,
    /// When it reported that it has stopped.
    pub done_at: Option<Timestamp>,
}

impl Usual for Drain {
    const USUAL: &'static Self = &Self { callback: None, asked_at: None, done_at: None };
}

/// A place on a machine that takes a POST by plain HTTP. The address is the one
/// that the machine reported from, so that nobody can make us call another host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callback {
    /// The machine's own address.
    pub address: IpAddr,
    /// The port, 1 to 65535.
    pub port: u16,
    /// The path with its query, from the first slash.
    pub path: String,
}

/// A machine that installs itself and never reports in is begun this often, and
/// then waits in the hold script: it must not install itself for ever.
pub const MOST_INSTALLS: u32 = 3;

/// The longest reason of a failure that is kept, in bytes.
pub const LONGEST_FAILURE: usize = 1000;

impl Progress {
    /// Of an instance that was provisioned now.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { since: now, ..Self::default() }
    }

    /// Its machine was given its script: at the beginning of a boot, or again in
    /// the same one.
    #[must_use]
    pub fn script(&self, is_new_boot: bool, now: Timestamp) -> Self {
        let mut after = self.step(InstanceEvent::Script, now);
        after.failure = None;
        if is_new_boot {
            after.boots = self.boots.saturating_add(1);
            after.since = now;
            // Whatever was asked of the system before, this one was not.
            after.drain = Rare::default();
        }
        after
    }

    /// Its machine reports that it is ready; after it had stopped its work, that it
    /// works again, and can be asked to stop again.
    #[must_use]
    pub fn ready(&self, callback: Option<Callback>, now: Timestamp) -> Self {
        let mut after = self.step(InstanceEvent::Ready, now);
        after.ready_at = self.ready_at.or(Some(now));
        after.failure = None;
        if self.drain.done_at.is_some() {
            after.drain.asked_at = None;
            after.drain.done_at = None;
        }
        if callback.is_some() {
            after.drain.callback = callback;
        }
        after
    }

    /// Its machine reports that it has failed; the reason is cut to
    /// [`LONGEST_FAILURE`].
    #[must_use]
    pub fn failed(&self, reason: &str, now: Timestamp) -> Self {
        let mut after = self.step(InstanceEvent::Failed, now);
        let ends = reason.char_indices().map(|(start, letter)| start + letter.len_utf8());
        let end = ends.take_while(|end| *end <= LONGEST_FAILURE).last().unwrap_or(0);
        after.failure = Some(reason[..end].to_owned());
        after
    }

    /// Its machine was booted too often in vain.
    #[must_use]
    pub fn gave_up(&self, now: Timestamp) -> Self {
        let mut after = self.step(InstanceEvent::GaveUp, now);
        if after.state == InstanceState::Failed && after.failure.is_none() {
            let text = format!("it was booted {} times and never reported in", self.boots);
            after.failure = Some(text);
        }
        after
    }

    /// Its machine is to stop its work.
    #[must_use]
    pub fn drain_asked(&self, now: Timestamp) -> Self {
        let mut after = self.clone();
        after.drain.asked_at = self.drain.asked_at.or(Some(now));
        after
    }

    /// Its machine reports that it has stopped its work.
    #[must_use]
    pub fn drained(&self, now: Timestamp) -> Self {
        let mut after = self.clone();
        after.drain.done_at = self.drain.done_at.or(Some(now));
        after
    }

    /// Whether a machine with this mode boots from its own disk now.
    #[must_use]
    pub const fn boots_locally(&self, mode: BootMode) -> bool {
        match mode {
            BootMode::Always => false,
            BootMode::Once => self.ready_at.is_some(),
            BootMode::Never => true,
        }
    }

    /// Whether another boot of a machine with this mode would be one too many.
    #[must_use]
    pub const fn is_exhausted(&self, mode: BootMode) -> bool {
        matches!(mode, BootMode::Once) && self.ready_at.is_none() && self.boots >= MOST_INSTALLS
    }

    /// Whether somebody was told of it, so that it must be on disk first: the
    /// machine that reported, or who asked it to stop.
    #[must_use]
    pub fn is_promise(&self) -> bool {
        match self.state {
            InstanceState::Running | InstanceState::Failed => true,
            InstanceState::Provisioning | InstanceState::Booting => self.drain.asked_at.is_some(),
        }
    }

    fn step(&self, event: InstanceEvent, now: Timestamp) -> Self {
        match self.state.after(event) {
            Some(state) if state != self.state => Self { state, since: now, ..self.clone() },
            Some(_) | None => self.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1000);
    const LATER: Timestamp = Timestamp(2000);

    #[test]
    fn a_machine_that_is_installed_once_is_sent_to_its_disk_after_its_report_only() {
        let booting = Progress::new(NOW).script(true, NOW);
        assert!(!booting.boots_locally(BootMode::Once) && booting.boots_locally(BootMode::Never));
        let ready = booting.ready(None, LATER);
        assert!(ready.boots_locally(BootMode::Once) && !ready.boots_locally(BootMode::Always));
        // A failure later does not make it install itself again.
        assert!(ready.failed("disk", LATER).boots_locally(BootMode::Once));
    }

    #[test]
    fn a_machine_that_never_reports_is_not_installed_for_ever() {
        let mut progress = Progress::new(NOW);
        for boot in 1..=MOST_INSTALLS {
            assert!(!progress.is_exhausted(BootMode::Once), "{boot}");
            progress = progress.script(true, NOW).script(false, NOW);
            assert_eq!(progress.boots, boot, "asking again is no boot");
        }
        assert!(progress.is_exhausted(BootMode::Once) && !progress.is_exhausted(BootMode::Always));
        let gave_up = progress.gave_up(LATER);
        assert_eq!(gave_up.state, InstanceState::Failed);
        assert_eq!(gave_up.failure.as_deref(), Some("it was booted 3 times and never reported in"));
        assert_eq!(Progress::new(NOW).gave_up(LATER), Progress::new(NOW));
    }

    #[test]
    fn a_running_machine_that_starts_again_must_report_again() {
        let running = Progress::new(NOW).script(true, NOW).ready(None, NOW).drain_asked(NOW);
        let again = running.script(true, LATER);
        assert_eq!((again.state, again.since, again.boots), (InstanceState::Booting, LATER, 2));
        assert_eq!(*again.drain, Drain::default());
    }

    #[test]
    fn a_machine_that_has_stopped_and_is_ready_again_can_be_asked_to_stop_again() {
        let ready = Progress::new(NOW).script(true, NOW).ready(None, NOW);
        // As one that is installed once, and starts again from its own disk.
        assert_eq!(ready.drain_asked(NOW).drained(NOW).ready(None, LATER), ready);
        let asked = ready.drain_asked(NOW);
        assert_eq!(asked.ready(None, LATER), asked, "it has not stopped yet");
    }

    #[test]
    fn the_reason_of_a_failure_is_cut_between_letters() {
        let failed = Progress::new(NOW).failed(&"ü".repeat(2000), NOW);
        assert_eq!(failed.failure.expect("given").len(), LONGEST_FAILURE);
    }
}
