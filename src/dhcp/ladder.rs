//! Which form of a proxy's offer each machine takes, found out by trying. Pure.
//!
//! Some firmware ignores an offer with option 43, some never asks port 4011. Who
//! asks again and again and comes no further is told the other form.

use std::collections::HashMap;

use crate::model::{Mac, Stage};

/// The forms of a proxy's offer, the usual one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rung {
    /// With discovery control (option 43): the boot file is in the offer.
    #[default]
    Offer,
    /// Without it: the firmware asks the boot server, on port 4011.
    BootServer,
}

/// What a DISCOVER comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Step {
    /// The form that the machine is told.
    pub rung: Rung,
    /// That a round of each form was in vain, said once each time.
    pub has_tried_all: bool,
}

/// So many DISCOVERs in vain, which is one round of most firmware (4, 8, 16, 32 s),
/// and the other form is tried.
const ROUND: u8 = 4;

/// Machines that are remembered; others are told the usual form.
const MOST: usize = 1 << 16;

/// What is known of each machine, until the daemon ends.
#[derive(Debug, Default)]
pub struct Ladder {
    machines: HashMap<Mac, Climb>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Climb {
    rung: Rung,
    vain: u8,
}

impl Ladder {
    /// The form for a DISCOVER of this machine's firmware, which had come as far as
    /// `stage` before. A form that led further is kept.
    pub fn climb(&mut self, mac: Mac, stage: Option<Stage>) -> Step {
        if self.machines.len() >= MOST && !self.machines.contains_key(&mac) {
            return Step::default();
        }
        let mut has_tried_all = false;
        let climb = self.machines.entry(mac).or_default();
        if stage != Some(Stage::Firmware) {
            climb.vain = 0;
        }
        if climb.vain == ROUND {
            climb.vain = 0;
            climb.rung = match climb.rung {
                Rung::Offer => Rung::BootServer,
                Rung::BootServer => Rung::Offer,
            };
            has_tried_all = climb.rung == Rung::Offer;
        }
        climb.vain += 1;
        Step { rung: climb.rung, has_tried_all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac::new([2, 0, 0, 0, 0, 2]);

    fn rungs(ladder: &mut Ladder, stages: &[Option<Stage>]) -> Vec<Rung> {
        stages.iter().map(|stage| ladder.climb(MAC, *stage).rung).collect()
    }

    #[test]
    fn who_asks_a_whole_round_in_vain_is_told_the_other_form_and_then_the_first_again() {
        let mut ladder = Ladder::default();
        let vain = [Some(Stage::Firmware); 8];
        assert_eq!(ladder.climb(MAC, None).rung, Rung::Offer, "never seen");
        let expected = [[Rung::Offer; 3].as_slice(), &[Rung::BootServer; 4], &[Rung::Offer]];
        assert_eq!(rungs(&mut ladder, &vain), expected.concat());
        assert_eq!(ladder.climb(OTHER, Some(Stage::Firmware)).rung, Rung::Offer);
    }

    #[test]
    fn that_both_forms_were_in_vain_is_said_once_for_each_two_rounds() {
        let mut ladder = Ladder::default();
        let asked = (0..17).map(|_| ladder.climb(MAC, Some(Stage::Firmware)).has_tried_all);
        let said: Vec<usize> =
            asked.enumerate().filter(|(_, said)| *said).map(|(place, _)| place).collect();
        assert_eq!(said, [8, 16]);
    }

    #[test]
    fn the_form_that_led_further_is_kept() {
        let mut ladder = Ladder::default();
        rungs(&mut ladder, &[Some(Stage::Firmware); 4]);
        for stage in [Stage::Firmware, Stage::Ipxe, Stage::Kernel, Stage::Holding, Stage::Script] {
            assert_eq!(ladder.climb(MAC, Some(stage)).rung, Rung::BootServer, "{stage:?}");
        }
    }
}
