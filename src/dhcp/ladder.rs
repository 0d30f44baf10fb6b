//! Which form of a proxy's offer a machine is told, found out by trying. Pure.
//!
//! Some firmware ignores an offer with option 43, some never asks port 4011, some
//! reads only what comes with the ACK. Who asks again and again and comes no further
//! is told the next form.

use crate::model::{Proxied, Rung, Stage};

/// So many DISCOVERs in vain, which is one round of most firmware (4, 8, 16, 32 s),
/// and the next form is tried.
const ROUND: u8 = 4;

/// What is known of a machine with a DISCOVER of its firmware, where this was known
/// before and it had come as far as `stage`. A form that led further is kept.
pub(super) fn climb(before: Proxied, stage: Option<Stage>) -> Proxied {
    let Proxied { mut rung, mut vain, mut is_deaf } = before;
    if stage != Some(Stage::Firmware) {
        (vain, is_deaf) = (0, false);
    }
    if vain >= ROUND {
        vain = 0;
        rung = match rung {
            Rung::Offer => Rung::BootServer,
            Rung::BootServer => Rung::Acknowledge,
            Rung::Acknowledge => Rung::Offer,
        };
        is_deaf |= rung == Rung::Offer;
    }
    Proxied { rung, vain: vain + 1, is_deaf }
}

/// Whether a round of each form has just been in vain. It is said each time: who did
/// not read it the first time may the second.
pub(super) fn has_tried_all(proxied: Proxied) -> bool {
    proxied.is_deaf && proxied.rung == Rung::Offer && proxied.vain == 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VAIN: Option<Stage> = Some(Stage::Firmware);

    fn climbed(stages: &[Option<Stage>]) -> Vec<Proxied> {
        let step = |known: &mut Proxied, stage: &Option<Stage>| {
            *known = climb(*known, *stage);
            Some(*known)
        };
        stages.iter().scan(Proxied::default(), step).collect()
    }

    #[test]
    fn who_asks_a_whole_round_in_vain_is_told_the_next_form_and_then_the_first_again() {
        let stages = [[None].as_slice(), &[VAIN; 12]].concat();
        let rungs: Vec<Rung> = climbed(&stages).into_iter().map(|known| known.rung).collect();
        let rounds = [Rung::Offer, Rung::BootServer, Rung::Acknowledge].map(|rung| [rung; 4]);
        assert_eq!(rungs, [rounds.concat().as_slice(), &[Rung::Offer]].concat());
    }

    #[test]
    fn that_all_forms_were_in_vain_is_said_once_for_each_three_rounds() {
        let known = climbed(&[VAIN; 26]);
        let said: Vec<usize> = (0..26).filter(|place| has_tried_all(known[*place])).collect();
        assert_eq!(said, [12, 24]);
    }

    #[test]
    fn that_all_forms_were_in_vain_holds_until_the_machine_comes_further() {
        let known = climbed(&[VAIN; 30]);
        let deaf_from = known.iter().position(|known| known.is_deaf);
        assert_eq!(deaf_from, Some(12));
        assert!(known[12..].iter().all(|known| known.is_deaf));
        let further = climb(known[29], Some(Stage::Ipxe));
        assert_eq!((further.is_deaf, further.vain, further.rung), (false, 1, known[29].rung));
    }

    #[test]
    fn the_form_that_led_further_is_kept() {
        for (rounds, rung) in [(4, Rung::BootServer), (8, Rung::Acknowledge)] {
            let mut known = climbed(&vec![VAIN; rounds + 1])[rounds];
            for stage in [Stage::Ipxe, Stage::Kernel, Stage::Holding, Stage::Script] {
                known = climb(known, Some(stage));
                assert_eq!(known.rung, rung, "{stage:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_that_a_row_may_say_ends_the_ladder(vain: u8, is_deaf: bool, rung in 0usize..3) {
            let rung = [Rung::Offer, Rung::BootServer, Rung::Acknowledge][rung];
            let after = climb(Proxied { rung, vain, is_deaf }, VAIN);
            prop_assert!((1..=ROUND).contains(&after.vain));
        }
    }
}
