//! How a machine is sent to its own disk: in the way that its firmware needs, by
//! rule, and by what was learned when it came back. Pure.
//!
//! A start of a machine begins with an entry of its boot order that asks, and may
//! go on with others: UEFI asks by PXE, is sent on, and asks by HTTP. The entry that
//! asked first asks again only when the machine starts anew. If that is soon, and
//! happens twice in a row, it did not come to its disk, and the next way is tried.

use std::{net::IpAddr, time::Duration};

use super::rules::{Rules, Spot};
use crate::model::{
    Architecture, Change, Entry, Habits, LocalBoot, LocalHabit, Mac, Machine, Timestamp,
};
use crate::state::State;

/// Who starts anew so soon after it was sent to its disk may not have come there.
pub const SOON: Duration = Duration::from_secs(180);

/// So many quick starts in a row are a failure; one may be somebody who pressed reset.
const FAILS_AFTER: u8 = 2;

/// The same of a way that has worked before: it is rather its system that fails.
const FAILS_AFTER_SUCCESS: u8 = 4;

/// Firmware that is told of no boot file asks again by itself, with pauses of up to
/// 32 seconds (PXE 2.1 §2.2.3): what comes sooner is the same start.
const ASKS_AGAIN: Duration = Duration::from_secs(40);

/// The ways for firmware of this kind, the one to try first before the others.
#[must_use]
pub const fn ways(architecture: Option<Architecture>) -> &'static [LocalBoot] {
    match architecture {
        // Without a boot file it goes on at once (PXE-E53). If it has nothing to go on
        // to, the network was its only entry, and iPXE can start the disk itself. A
        // program that ends may leave it hanging, so that comes last, and a failure
        // before a success: some take that for a system that was booted.
        Some(Architecture::Bios) => {
            &[LocalBoot::NoOffer, LocalBoot::Sanboot, LocalBoot::Exit, LocalBoot::ExitZero]
        }
        // A program that fails sends UEFI on to its next entry at once; one that
        // succeeds sends some into a menu, but some others only then to the disk.
        // Without a boot file it asks on for a minute by each entry, but it always ends
        // at its disk. sanboot is no way: old iPXE has no drives there.
        Some(
            Architecture::Ia32Uefi
            | Architecture::X64Uefi
            | Architecture::Arm32Uefi
            | Architecture::Arm64Uefi
            | Architecture::Riscv64Uefi
            | Architecture::Loong64Uefi,
        )
        | None => &[LocalBoot::Exit, LocalBoot::ExitZero, LocalBoot::NoOffer],
    }
}

/// The ways to send this machine to its disk, the first one first: what the
/// inventory says and nothing else; or what a rule says, and then those of its
/// firmware.
#[must_use]
pub fn order(rules: &Rules, machine: Option<&Machine>, spot: Spot) -> Vec<LocalBoot> {
    if let Some(way) = machine.and_then(|machine| machine.local_boot) {
        return vec![way];
    }
    let first = rules.local_boot(spot);
    let others = ways(spot.architecture).iter().copied().filter(|way| Some(*way) != first);
    first.into_iter().chain(others).collect()
}

/// The way to send it now.
#[must_use]
pub fn way(habit: LocalHabit, order: &[LocalBoot]) -> LocalBoot {
    let learned = habit.way.filter(|way| order.contains(way));
    learned.or_else(|| order.first().copied()).unwrap_or(LocalBoot::Exit)
}

/// The same for iPXE, which asks for a script and must be told something.
#[must_use]
pub const fn scripted(way: LocalBoot, architecture: Option<Architecture>) -> LocalBoot {
    match (way, architecture) {
        (LocalBoot::NoOffer, Some(Architecture::Bios)) => LocalBoot::Sanboot,
        (LocalBoot::NoOffer, _) => LocalBoot::Exit,
        (way, _) => way,
    }
}

/// The way in which this machine's script leaves for its disk now, and what is known of
/// its firmware with that.
#[must_use]
pub fn of_script(
    state: &State,
    rules: &Rules,
    (mac, address): (Mac, IpAddr),
    now: Timestamp,
) -> (LocalBoot, Option<Habits>) {
    let known = state.machines.with_card(mac);
    let architecture = known.and_then(|machine| machine.architecture);
    let mut habits = known.map(|machine| (*machine.habits).clone()).unwrap_or_default();
    let order = order(rules, known, Spot { address, architecture });
    let way = scripted(way(habits.local, &order), architecture);
    habits.local = sent(habits.local, way, now);
    (way, Some(habits))
}

/// It was sent to its disk in this way now.
#[must_use]
pub fn sent(habit: LocalHabit, way: LocalBoot, now: Timestamp) -> LocalHabit {
    LocalHabit { told: Some((way, now)), ..habit }
}

/// It asks by this entry, to be sent to its disk.
#[must_use]
pub fn asked(habit: LocalHabit, entry: Entry, order: &[LocalBoot], now: Timestamp) -> LocalHabit {
    let Some((told, at)) = habit.told else {
        return LocalHabit { entry: habit.entry.or(Some(entry)), ..habit };
    };
    let begun = LocalHabit { told: None, entry: Some(entry), ..habit };
    let away = now.since(at);
    if away >= SOON {
        return LocalHabit { works: Some(told), returns: 0, ..begun };
    }
    let is_same_start = told == LocalBoot::NoOffer && away < ASKS_AGAIN;
    if is_same_start || habit.entry != Some(entry) {
        return habit;
    }
    let returns = habit.returns.saturating_add(1);
    let fails_after = if habit.works == Some(told) { FAILS_AFTER_SUCCESS } else { FAILS_AFTER };
    match following(order, told) {
        Some(next) if returns >= fails_after => {
            let works = habit.works.filter(|way| *way != told);
            LocalHabit { way: Some(next), works, returns: 0, ..begun }
        }
        Some(_) | None => LocalHabit { returns, ..begun },
    }
}

/// The way behind this one, and behind the last the first again; none if there is
/// no other.
fn following(order: &[LocalBoot], way: LocalBoot) -> Option<LocalBoot> {
    let place = order.iter().position(|one| *one == way).map_or(0, |place| place + 1);
    let next = order.get(place).or_else(|| order.first())?;
    Some(*next).filter(|next| *next != way)
}

/// It is not sent to its disk in this start.
#[must_use]
pub fn elsewhere(habit: LocalHabit) -> LocalHabit {
    LocalHabit { told: None, entry: None, returns: 0, ..habit }
}

/// It reported that it is ready: if it was sent to its disk, it came there.
#[must_use]
pub fn reported(state: &State, mac: Mac) -> Option<Change> {
    let machine = state.machines.find(mac)?;
    let local = machine.habits.local;
    let (told, _) = local.told?;
    let mut habits = machine.habits.clone();
    habits.local = LocalHabit { works: Some(told), returns: 0, ..local };
    (habits != machine.habits).then(|| Change::Seen(Machine { habits, ..machine.clone() }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        boot::rules::{LocalRule, Scope},
        model::{EntryWay, testing},
    };

    use LocalBoot::{Exit, ExitZero, NoOffer, Sanboot};

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
    const UEFI: &[LocalBoot] = ways(Some(Architecture::X64Uefi));
    const BIOS: &[LocalBoot] = ways(Some(Architecture::Bios));

    fn entry(way: EntryWay) -> Entry {
        Entry { card: MAC, way }
    }

    /// A start of a machine that comes by PXE and then by HTTP, and is sent on by
    /// each; seconds later it is away.
    fn start(habit: LocalHabit, order: &[LocalBoot], at: u64) -> (LocalHabit, LocalBoot) {
        let second = |second: u64| Timestamp(1000 * (at + second));
        let habit = asked(habit, entry(EntryWay::Pxe), order, second(0));
        let told = way(habit, order);
        let habit = sent(habit, told, second(4));
        let habit = asked(habit, entry(EntryWay::Http), order, second(8));
        (sent(habit, way(habit, order), second(12)), told)
    }

    /// How it is sent in starts at these seconds.
    fn starts(order: &[LocalBoot], seconds: &[u64]) -> Vec<LocalBoot> {
        let mut habit = LocalHabit::default();
        let start = |at: &u64| {
            let (after, told) = start(habit, order, *at);
            habit = after;
            told
        };
        seconds.iter().map(start).collect()
    }

    #[test]
    fn who_comes_back_at_once_twice_is_sent_in_the_next_way_and_so_on_around() {
        let seconds: Vec<u64> = (0..8).map(|number| number * 60).collect();
        let expected = [Exit, Exit, ExitZero, ExitZero, NoOffer, NoOffer, Exit, Exit];
        assert_eq!(starts(UEFI, &seconds), expected);
    }

    #[test]
    fn who_stayed_away_came_to_its_disk() {
        assert_eq!(starts(UEFI, &[0, 200, 400, 600, 800]), [Exit; 5]);
        assert_eq!(starts(UEFI, &[0, 60, 300, 360, 600]), [Exit; 5], "never twice in a row");
        // The way that had worked is not given up for two resets, but for four.
        let resets = [0, 300, 360, 420, 480, 540];
        assert_eq!(starts(UEFI, &resets), [Exit, Exit, Exit, Exit, Exit, ExitZero]);
    }

    #[test]
    fn the_way_that_was_learned_is_kept() {
        let mut habit = LocalHabit::default();
        for at in [0, 60, 120] {
            (habit, _) = start(habit, UEFI, at);
        }
        for at in [1000, 2000, 3000] {
            let (after, told) = start(habit, UEFI, at);
            assert_eq!((told, after.works), (ExitZero, Some(ExitZero)));
            habit = after;
        }
    }

    #[test]
    fn the_other_entries_of_a_start_are_no_failures() {
        let mut habit = LocalHabit::default();
        let all = [EntryWay::Pxe, EntryWay::Http, EntryWay::Pxe6, EntryWay::Http6];
        for (second, way) in all.into_iter().enumerate() {
            let now = Timestamp(1000 * u64::try_from(second).expect("small"));
            habit = sent(asked(habit, entry(way), UEFI, now), Exit, now);
        }
        let second_card = Entry { card: Mac::new([2; 6]), way: EntryWay::Pxe };
        habit = asked(habit, second_card, UEFI, Timestamp(5000));
        assert_eq!((habit.returns, habit.entry), (0, Some(entry(EntryWay::Pxe))));
    }

    #[test]
    fn a_bios_that_asks_on_since_it_is_told_of_no_file_has_not_come_back() {
        let mut habit = LocalHabit::default();
        for second in [0, 4, 12, 28, 60] {
            let now = Timestamp(1000 * second);
            habit = sent(asked(habit, entry(EntryWay::Pxe), BIOS, now), NoOffer, now);
        }
        assert_eq!((habit.returns, habit.way), (0, None));
        for second in [110, 160] {
            let now = Timestamp(1000 * second);
            habit = asked(habit, entry(EntryWay::Pxe), BIOS, now);
            habit = sent(habit, way(habit, BIOS), now);
        }
        assert_eq!(habit.way, Some(Sanboot));
    }

    #[test]
    fn what_the_inventory_says_is_never_left_and_what_a_rule_says_is_tried_first() {
        let rule = LocalRule { scope: Scope::default(), way: Sanboot };
        let rules = Rules::new(Vec::new(), vec![rule]);
        let address = [10, 0, 0, 9].into();
        let spot = Spot { address, architecture: Some(Architecture::X64Uefi) };
        assert_eq!(order(&Rules::default(), None, spot), UEFI);
        assert_eq!(order(&rules, None, spot), [Sanboot, Exit, ExitZero, NoOffer]);
        let held = testing::held(MAC, Timestamp(1));
        let listed = Machine { local_boot: Some(ExitZero), ..held };
        let order = order(&rules, Some(&listed), spot);
        let seconds: Vec<u64> = (0..8).map(|number| number * 60).collect();
        assert_eq!(starts(&order, &seconds), [ExitZero; 8]);
    }

    #[test]
    fn a_machine_that_reports_from_its_disk_came_there() {
        let mut state = State::new(None);
        state.apply(&Change::Machine(testing::held(MAC, Timestamp(1))));
        assert_eq!(reported(&state, MAC), None, "it was not sent there");
        let local = LocalHabit { returns: 1, ..sent(LocalHabit::default(), Exit, Timestamp(2)) };
        let mut sent = testing::held(MAC, Timestamp(1));
        sent.habits.local = local;
        state.apply(&Change::Machine(sent));
        let change = reported(&state, MAC).expect("it is news");
        state.apply(&change);
        let local = state.machines.find(MAC).expect("known").habits.local;
        assert_eq!((local.works, local.returns), (Some(Exit), 0));
        assert_eq!(reported(&state, MAC), None, "no news");
    }

    proptest! {
        /// Whatever entries ask, and whenever: a way is told that is one of the order's,
        /// and it changes only when the machine came back soon after it was sent.
        #[test]
        fn a_way_changes_only_for_who_came_back_soon(
            steps in proptest::collection::vec((0usize..3, 0u64..400, any::<bool>()), 1..60),
            bios: bool,
        ) {
            let order = if bios { BIOS } else { UEFI };
            let entries = [EntryWay::Pxe, EntryWay::Http, EntryWay::Ipxe].map(entry);
            let (mut habit, mut second) = (LocalHabit::default(), 0);
            for (number, pause, is_sent) in steps {
                second += pause;
                let now = Timestamp(1000 * second);
                let before = way(habit, order);
                let told = habit.told;
                habit = asked(habit, entries[number], order, now);
                let after = way(habit, order);
                prop_assert!(order.contains(&after));
                if after != before {
                    let (_, at) = told.expect("it was sent before");
                    prop_assert!(now.since(at) < SOON && habit.entry == Some(entries[number]));
                }
                if is_sent {
                    habit = sent(habit, after, now);
                }
            }
        }
    }

    #[test]
    fn every_firmware_has_a_way_for_a_script_and_no_way_twice() {
        for architecture in Architecture::ALL.map(Some).into_iter().chain([None]) {
            let ways = ways(architecture);
            for (place, one) in ways.iter().enumerate() {
                assert!(!ways[..place].contains(one), "{architecture:?} {one:?}");
                assert_ne!(scripted(*one, architecture), NoOffer);
            }
        }
    }
}
