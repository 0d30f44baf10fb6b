//! What the inventory says becomes known: machines that nobody has seen, and
//! labels for those that were.

use std::collections::HashSet;

use super::cards::{Unjoinable, joined, taking_over};
use crate::{
    model::{
        Change, Decision, Listed, Mac, Machine, MachineEvent, MachineState, Slot, Timestamp,
        check_label_count,
    },
    state::State,
};

/// What came of a reading of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Merged {
    /// How many machines became known.
    pub new: usize,
    /// How many others are different now.
    pub changed: usize,
    /// Cards that are listed for a machine and could not become its own, and why.
    pub apart: Vec<(Mac, Mac, Unjoinable)>,
    /// Machines that are listed and are by now a card of another that is listed.
    pub twofold: Vec<(Mac, Mac)>,
    /// Machines whose labels are too many with those of the file; theirs stay as
    /// they are.
    pub overfull: Vec<Mac>,
}

/// Makes known what is listed. A machine that is listed no more stays: to forget
/// it is the operator's word.
#[must_use]
pub fn merge(
    state: &State,
    (inventory, slots): (&[Listed], &[Slot]),
    now: Timestamp,
) -> Decision<Merged> {
    let mut merged = Merged::default();
    let mut changes = Vec::new();
    // First, so that what follows is told with the names of its slots.
    if !state.slots.are(slots) {
        changes.push(Change::Slots(slots.to_vec()));
    }
    let mut spoken_of: HashSet<Mac> = inventory.iter().map(|listed| listed.mac).collect();
    for listed in inventory {
        let name = state.machines.of_card(listed.mac);
        if name != listed.mac && !spoken_of.insert(name) {
            merged.twofold.push((listed.mac, name));
            continue;
        }
        let known = state.machines.find(name);
        let before = match known {
            Some(machine) => machine.after(MachineEvent::Listed, now).ok(),
            None => Machine::first(name, MachineEvent::Listed, now),
        };
        // To be listed is allowed in every state, and makes a machine known.
        let Some(before) = before else { continue };
        let mut after = said_of(&before, listed);
        if check_label_count(after.labels.len()).is_err() {
            merged.overfull.push(name);
            after.labels = before.labels;
        }
        let after = with_cards(state, after, listed, &mut merged.apart);
        match known {
            Some(machine) if *machine == after => continue,
            Some(_) => merged.changed += 1,
            None => merged.new += 1,
        }
        changes.extend(taking_over(state, after));
    }
    changes.extend(uncontested(state, &spoken_of));
    Decision { answer: merged, changes }
}

/// The machine with the cards that are listed for it, as far as they can be its own.
fn with_cards(
    state: &State,
    mut machine: Machine,
    listed: &Listed,
    apart: &mut Vec<(Mac, Mac, Unjoinable)>,
) -> Machine {
    if !machine.identity.contested.is_empty() {
        machine.identity.contested.clear();
    }
    let said = machine.clone();
    let name = machine.mac;
    for card in listed.cards.iter().filter(|card| **card != name) {
        match joined(state, &machine, *card) {
            Ok(more) => machine = more,
            Err(problem) => {
                machine.identity.contested.insert(*card);
                apart.push((machine.mac, *card, problem));
            }
        }
    }
    // What an older file said of a card that has come to it holds no longer.
    let Machine { local_boot, vlan, pace, loaders, dhcp, .. } = said;
    Machine { local_boot, vlan, pace, loaders, dhcp, ..machine }
}

/// Of machines that are listed no more, nothing is contested.
fn uncontested(state: &State, listed: &HashSet<Mac>) -> Vec<Change> {
    let is_over = |machine: &&Machine| {
        !machine.identity.contested.is_empty() && !listed.contains(&machine.mac)
    };
    let without = |machine: &Machine| {
        let mut machine = machine.clone();
        machine.identity.contested.clear();
        Change::Machine(machine)
    };
    state.machines.all().filter(is_over).map(without).collect()
}

/// The machine with what is said of it.
fn said_of(before: &Machine, listed: &Listed) -> Machine {
    let mut labels = before.labels.clone();
    labels.extend(listed.labels.clone());
    // What firmware says of itself goes before what is written about it.
    let architecture = match before.last_seen {
        Some(_) => before.architecture.or(listed.architecture),
        None => listed.architecture.or(before.architecture),
    };
    // Why it is set aside is not written over.
    let is_aside = matches!(before.state, MachineState::SetAside | MachineState::Retiring);
    let note = match &listed.note {
        Some(note) if !is_aside || before.note.is_none() => Some(note.clone()),
        Some(_) | None => before.note.clone(),
    };
    // The file alone says them: a line that is taken out holds no longer.
    let Listed { local_boot, vlan, pace, ref loaders, ref dhcp, .. } = *listed;
    let (enrolled, loaders, dhcp) = (true, loaders.clone(), dhcp.clone().into());
    let machine = Machine { local_boot, vlan, pace, loaders, dhcp, enrolled, ..before.clone() };
    Machine { labels, architecture, note, ..machine }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{Architecture, MOST_LABELS, Mac, Overlay, Tags, VlanId, testing};

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
    const NOW: Timestamp = Timestamp(1000);

    fn listed(labels: &[(&str, &str)]) -> Listed {
        let architecture = Some(Architecture::Bios);
        let note = Some("by the door".to_owned());
        let labels = testing::tags(labels);
        let cards = BTreeSet::new();
        let (local_boot, vlan, pace) = (None, None, None);
        Listed {
            mac: MAC,
            cards,
            architecture,
            labels,
            note,
            local_boot,
            vlan,
            pace,
            loaders: vec![],
            dhcp: Overlay::default(),
        }
    }

    /// Merges it, and says how many are new and how many changed.
    fn merged(state: &mut State, listed: &Listed) -> (usize, usize) {
        let decision = merge(state, (std::slice::from_ref(listed), &[]), NOW);
        decision.changes.iter().for_each(|change| state.apply(change));
        (decision.answer.new, decision.answer.changed)
    }

    fn known(state: &State) -> Machine {
        state.machines.find(MAC).expect("known").clone()
    }

    #[test]
    fn a_machine_that_nobody_has_seen_may_be_given_out() {
        let mut state = State::new(None);
        assert_eq!(merged(&mut state, &listed(&[("rack", "1")])), (1, 0));
        let machine = known(&state);
        assert_eq!((machine.state, machine.last_seen), (MachineState::Free, None));
        assert_eq!(machine.architecture, Some(Architecture::Bios));
        assert_eq!(machine.labels, testing::tags(&[("rack", "1")]));
        assert_eq!(machine.note.as_deref(), Some("by the door"));
        assert_eq!(state.machines.choose(NOW, |_| true), Some(&machine));
        assert_eq!(merged(&mut state, &listed(&[("rack", "1")])), (0, 0), "again is nothing new");
    }

    #[test]
    fn one_that_is_known_keeps_its_state_and_what_firmware_says() {
        let mut state = State::new(None);
        let labels = testing::tags(&[("rack", "7"), ("own", "x")]);
        let architecture = Some(Architecture::X64Uefi);
        let held = Machine { labels, architecture, ..testing::held(MAC, Timestamp(5)) };
        state.apply(&Change::Machine(held.clone()));
        assert_eq!(merged(&mut state, &listed(&[("rack", "1")])), (0, 1));
        let labels = testing::tags(&[("rack", "1"), ("own", "x")]);
        let note = Some("by the door".to_owned());
        assert_eq!(known(&state), Machine { labels, note, enrolled: true, ..held });
    }

    #[test]
    fn who_is_listed_is_no_stranger_and_goes_to_its_disk_as_the_file_says_and_no_longer() {
        let mut state = State::new(None);
        state.apply(&Change::Machine(testing::held(MAC, Timestamp(5))));
        assert!(known(&state).is_stranger());
        let bare = Listed { note: None, ..listed(&[]) };
        let local_boot = Some(crate::model::LocalBoot::ExitZero);
        assert_eq!(merged(&mut state, &Listed { local_boot, ..bare.clone() }), (0, 1));
        assert!(!known(&state).is_stranger());
        assert_eq!(known(&state).local_boot, local_boot);
        assert_eq!(merged(&mut state, &bare), (0, 1));
        assert_eq!(known(&state).local_boot, None);
    }

    #[test]
    fn what_is_written_of_an_architecture_can_be_corrected_until_it_was_seen() {
        let mut state = State::new(None);
        merged(&mut state, &listed(&[]));
        let corrected = Listed { architecture: Some(Architecture::X64Uefi), ..listed(&[]) };
        assert_eq!(merged(&mut state, &corrected), (0, 1));
        assert_eq!(known(&state).architecture, corrected.architecture);
        let seen = Machine { last_seen: Some(NOW), ..known(&state) };
        state.apply(&Change::Machine(seen));
        assert_eq!(merged(&mut state, &listed(&[])), (0, 0));
    }

    #[test]
    fn the_way_to_a_machine_and_its_options_are_as_the_file_says_also_when_it_says_nothing_more() {
        let mut state = State::new(None);
        let (vlan, pace) = (VlanId::try_from(20).ok(), "10M".parse().ok());
        let mut dhcp = Overlay::default();
        dhcp.options.set(66, b"elsewhere".to_vec());
        merged(&mut state, &Listed { vlan, pace, dhcp: dhcp.clone(), ..listed(&[]) });
        assert_eq!((known(&state).vlan, known(&state).pace), (vlan, pace));
        assert_eq!(*known(&state).dhcp, dhcp);
        assert_eq!(merged(&mut state, &listed(&[])), (0, 1));
        assert_eq!((known(&state).vlan, known(&state).pace), (None, None));
        assert!(known(&state).dhcp.is_empty());
    }

    #[test]
    fn what_was_said_of_a_card_before_it_was_a_machine_s_holds_no_longer() {
        let mut state = State::new(None);
        let card = Mac::new([2, 0, 0, 0, 0, 2]);
        let mut tried = testing::held(card, Timestamp(5));
        tried.vlan = VlanId::try_from(20).ok();
        tried.habits.loader = Some(crate::model::Tried { name: "ipxe.efi".to_owned(), vain: 0 });
        state.apply(&Change::Machine(tried.clone()));
        let cards = BTreeSet::from([card]);
        assert_eq!(merged(&mut state, &Listed { cards, ..listed(&[]) }), (1, 0));
        assert_eq!((known(&state).vlan, state.machines.count()), (None, 1));
        assert_eq!(known(&state).habits, tried.habits, "but what was learned of it does");
    }

    #[test]
    fn what_an_instance_has_stays_its_own_also_if_it_was_never_seen() {
        let mut state = State::new(None);
        state.apply(&Change::Instance(testing::instance(1, MAC)));
        assert_eq!(merged(&mut state, &listed(&[])), (1, 0));
        assert_eq!(known(&state).state, MachineState::Assigned);
    }

    #[test]
    fn the_reason_of_a_set_aside_machine_is_not_written_over() {
        let mut state = State::new(None);
        merged(&mut state, &listed(&[]));
        let aside = known(&state).after(MachineEvent::SetAside, NOW).expect("it may");
        let note = Some("broken fan".to_owned());
        state.apply(&Change::Machine(Machine { note: note.clone(), ..aside }));
        assert_eq!(merged(&mut state, &listed(&[])), (0, 0));
        let machine = known(&state);
        assert_eq!((machine.state, machine.note), (MachineState::SetAside, note));
    }

    #[test]
    fn labels_that_are_too_many_together_change_none() {
        let mut state = State::new(None);
        let many = (0..MOST_LABELS).map(|number| (format!("l{number}"), String::new()));
        let labels: Tags = many.collect();
        let held = Machine { labels: labels.clone(), ..testing::held(MAC, Timestamp(5)) };
        state.apply(&Change::Machine(held));
        let decision = merge(&state, (&[listed(&[("one", "more")])], &[]), NOW);
        assert_eq!(decision.answer.overfull, [MAC]);
        decision.changes.iter().for_each(|change| state.apply(change));
        assert_eq!(known(&state).labels, labels);
    }

    #[test]
    fn machines_that_are_listed_no_more_stay() {
        let mut state = State::new(None);
        merged(&mut state, &listed(&[]));
        assert_eq!(merge(&state, (&[], &[]), NOW), Decision::only(Merged::default()));
    }
}
