//! Whether an instance is well. Pure, and the one place that says so.

use std::time::Duration;

use crate::model::{Instance, InstanceState, Timestamp};

/// How an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// It may still come up; also of one that there is not.
    Unknown,
    /// It runs: its machine has reported in since it was started last.
    Healthy,
    /// It has failed, or has not reported in within its time.
    Unhealthy,
}

impl Health {
    /// Its number on InfraKit's wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Healthy => 1,
            Self::Unhealthy => 2,
        }
    }
}

/// How this instance is, if its machine has `boot_timeout` to report in.
///
/// An instance that was never ready has that long from its Provision on, however
/// often its machine begins again: one that starts over and over is not well. One
/// that was ready has it from the beginning of the boot that it is in.
#[must_use]
pub fn health(instance: Option<&Instance>, boot_timeout: Duration, now: Timestamp) -> Health {
    let Some(instance) = instance else { return Health::Unknown };
    let progress = &instance.progress;
    match progress.state {
        InstanceState::Running => Health::Healthy,
        InstanceState::Failed => Health::Unhealthy,
        InstanceState::Provisioning | InstanceState::Booting => {
            let begun = match progress.ready_at {
                None => instance.provisioned_at,
                Some(_) => progress.since,
            };
            let is_late = now.since(begun) > boot_timeout;
            if is_late { Health::Unhealthy } else { Health::Unknown }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mac, Progress, testing};

    const PROVISIONED: Timestamp = Timestamp(1_000);
    const TIMEOUT: Duration = Duration::from_secs(10);

    fn at(second: u64) -> Timestamp {
        PROVISIONED.after(Duration::from_secs(second))
    }

    fn health_of(progress: &Progress, second: u64) -> Health {
        let instance = Instance {
            provisioned_at: PROVISIONED,
            progress: progress.clone(),
            ..testing::instance(1, Mac::new([2, 0, 0, 0, 0, 1]))
        };
        health(Some(&instance), TIMEOUT, at(second))
    }

    #[test]
    fn an_instance_is_what_its_machine_has_shown() {
        use Health::{Healthy, Unhealthy, Unknown};
        let new = Progress::new(PROVISIONED);
        let booting = new.script(true, at(4));
        let again = booting.script(true, at(9));
        let ready = booting.ready(None, at(8));
        let restarted = ready.script(true, at(100));
        let failed = ready.failed("disk", at(20));
        for (name, progress, second, expected) in [
            ("not asked for yet", &new, 10, Unknown),
            ("never asked for", &new, 11, Unhealthy),
            ("booting", &booting, 10, Unknown),
            ("booting for too long", &booting, 11, Unhealthy),
            ("starting again and again", &again, 11, Unhealthy),
            ("running", &ready, 8, Healthy),
            ("running for long", &ready, 100_000, Healthy),
            ("started again", &restarted, 110, Unknown),
            ("started again in vain", &restarted, 111, Unhealthy),
            ("failed", &failed, 20, Unhealthy),
            ("failed and begun again", &failed.script(true, at(30)), 31, Unknown),
        ] {
            assert_eq!(health_of(progress, second), expected, "{name}");
        }
    }

    #[test]
    fn of_an_instance_that_there_is_not_nothing_is_known() {
        assert_eq!(health(None, TIMEOUT, at(1_000)), Health::Unknown);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_late() {
        let booting = Progress::new(at(500)).script(true, at(500));
        assert_eq!(health_of(&booting, 0), Health::Unknown);
    }
}
