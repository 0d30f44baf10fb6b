//! How cards come together in one machine, and apart: by the operator's word or the
//! inventory's, never by what firmware says. Pure.

use crate::{
    model::{
        Change, InstanceId, InvalidLabel, MOST_CARDS, Mac, Machine, MachineState, check_label_count,
    },
    state::State,
};

/// Why a card cannot become a machine's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unjoinable {
    /// It is what it is.
    #[error("it is one card, there is nothing to join")]
    Itself,
    /// It is a further card of another machine.
    #[error("{card} is a card of machine {owner}; split it from that first")]
    Anothers {
        /// The card.
        card: Mac,
        /// Whose it is.
        owner: Mac,
    },
    /// Both have an instance: two instances cannot have one machine.
    #[error("both have an instance: {own} and {other}; destroy one of them first")]
    BothHeld {
        /// The machine's.
        own: InstanceId,
        /// The other's.
        other: InstanceId,
    },
    /// The instance names its machine by the card that would lose its name.
    #[error("instance {instance} has {card}; join them the other way round: {card} first")]
    Held {
        /// The card.
        card: Mac,
        /// What has it.
        instance: InstanceId,
    },
    /// Somebody took it out of the pool, for a reason.
    #[error("{card} is set aside; free it first")]
    Aside {
        /// The card.
        card: Mac,
    },
    /// The labels contradict each other.
    #[error("the label {name} is {own:?} here and {other:?} of {card}; make them the same first")]
    Label {
        /// The card.
        card: Mac,
        /// The label.
        name: String,
        /// The machine's value.
        own: String,
        /// The other's.
        other: String,
    },
    /// There would be too many labels.
    #[error(transparent)]
    Labels(#[from] InvalidLabel),
    /// There would be too many cards.
    #[error("{0} cards are more than the {MOST_CARDS} that a machine may have")]
    TooMany(usize),
}

/// Why a card cannot become a machine of its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsplittable {
    /// It names the machine that it would leave.
    #[error("it names its machine; split the other cards from it instead")]
    Names,
    /// It is of no machine with several.
    #[error("it is no further card of a machine")]
    Alone,
}

/// The machine with this card as one of its own, and all that is known of the card
/// as a machine of itself. Nothing is taken over in silence: what contradicts is an
/// error.
///
/// # Errors
///
/// [`Unjoinable`] says why not.
pub fn joined(state: &State, machine: &Machine, card: Mac) -> Result<Machine, Unjoinable> {
    let owner = state.machines.of_card(card);
    if card == machine.mac {
        return Err(Unjoinable::Itself);
    }
    if machine.identity.cards.contains(&card) {
        return Ok(machine.clone());
    }
    if owner != card {
        return Err(Unjoinable::Anothers { card, owner });
    }
    let held = |mac| state.instances.of_machine(mac).map(|instance| instance.id);
    match (held(machine.mac), held(card)) {
        (Some(own), Some(other)) => return Err(Unjoinable::BothHeld { own, other }),
        (None, Some(instance)) => return Err(Unjoinable::Held { card, instance }),
        (Some(_) | None, None) => {}
    }
    let after = match state.machines.find(card) {
        None => {
            let mut after = machine.clone();
            after.identity.cards.insert(card);
            after
        }
        Some(other) => together(machine, other)?,
    };
    match after.cards().count() {
        count if count > MOST_CARDS => Err(Unjoinable::TooMany(count)),
        _ => Ok(after),
    }
}

/// The changes by which the machine is this from now on and the cards that have come
/// to it are no machines any more.
#[must_use]
pub fn taking_over(state: &State, after: Machine) -> Vec<Change> {
    let known = after.identity.cards.iter().filter(|card| state.machines.find(**card).is_some());
    let mut changes: Vec<Change> = known.map(|card| Change::Forgotten(*card)).collect();
    changes.push(Change::Machine(after));
    changes
}

/// The machine without this card, which is nobody's then until it is seen.
///
/// # Errors
///
/// [`Unsplittable`] says why not.
pub fn split(state: &State, card: Mac) -> Result<Machine, Unsplittable> {
    match state.machines.with_card(card) {
        Some(machine) if machine.mac != card => {
            let identity = (*machine.identity).clone().without(card).into();
            Ok(Machine { identity, ..machine.clone() })
        }
        Some(machine) if !machine.identity.cards.is_empty() => Err(Unsplittable::Names),
        Some(_) | None => Err(Unsplittable::Alone),
    }
}

fn together(machine: &Machine, other: &Machine) -> Result<Machine, Unjoinable> {
    let card = other.mac;
    if matches!(other.state, MachineState::SetAside | MachineState::Retiring) {
        return Err(Unjoinable::Aside { card });
    }
    let mut labels = machine.labels.clone();
    for (name, other) in &other.labels {
        match labels.get(name).cloned() {
            None => drop(labels.insert(name.clone(), other.clone())),
            Some(own) if own == *other => {}
            Some(own) => {
                let (name, other) = (name.clone(), other.clone());
                return Err(Unjoinable::Label { card, name, own, other });
            }
        }
    }
    check_label_count(labels.len())?;
    let uuids = [machine.uuid.as_ref(), other.uuid.as_ref()];
    let theirs = (card, (*other.identity).clone());
    let mut identity = (*machine.identity).clone().joined(theirs, uuids);
    let mut after = machine.clone();
    if other.last_seen > machine.last_seen {
        identity.asked_by = Some(other.asked_by());
        (after.last_seen, after.stage) = (other.last_seen, other.stage);
        if machine.state.is_available() && other.state.is_available() {
            (after.state, after.since) = (other.state, other.since);
        }
    }
    Ok(Machine {
        architecture: machine.architecture.or(other.architecture),
        uuid: machine.uuid.clone().or_else(|| other.uuid.clone()),
        labels,
        first_seen: machine.first_seen.min(other.first_seen),
        former: machine.former.clone().or_else(|| other.former.clone()),
        note: machine.note.clone().or_else(|| other.note.clone()),
        enrolled: machine.enrolled || other.enrolled,
        treatment: after.treatment.or(other.treatment),
        // What the inventory says of one is said of the machine.
        local_boot: machine.local_boot.or(other.local_boot),
        vlan: machine.vlan.or(other.vlan),
        pace: machine.pace.or(other.pace),
        loaders: first_said(&machine.loaders, &other.loaders),
        dhcp: machine.dhcp.over(&other.dhcp).into(),
        // It is one firmware, and what was found out with either card is true of both.
        habits: (*machine.habits).clone().or(&other.habits).into(),
        identity: identity.into(),
        ..after
    })
}

fn first_said(own: &[String], other: &[String]) -> Vec<String> {
    if own.is_empty() { other.to_vec() } else { own.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MachineEvent, Timestamp, testing};

    const NOW: Timestamp = Timestamp(1000);

    fn mac(last: u8) -> Mac {
        Mac::new([2, 0, 0, 0, 0, last])
    }

    fn uuid(number: u8) -> String {
        format!("4c4c4544-0042-3510-8052-b3c04f4b4e{number:02x}")
    }

    fn machine(last: u8, labels: &[(&str, &str)]) -> Machine {
        let labels = testing::tags(labels);
        let uuid = Some(uuid(last));
        Machine { labels, uuid, ..testing::held(mac(last), Timestamp(last.into())) }
    }

    fn state(machines: impl IntoIterator<Item = Machine>) -> State {
        let mut state = State::new(None);
        machines.into_iter().for_each(|machine| state.apply(&Change::Machine(machine)));
        state
    }

    fn join(state: &mut State, name: u8, card: u8) -> Result<(), Unjoinable> {
        let machine = state.machines.find(mac(name)).expect("known");
        let after = joined(state, machine, mac(card))?;
        for change in taking_over(state, after) {
            state.apply(&change);
        }
        Ok(())
    }

    #[test]
    fn two_that_were_seen_become_one_with_all_that_both_are() {
        let mut state = state([
            machine(1, &[("rack", "1"), ("a", "x")]),
            machine(2, &[("rack", "1"), ("b", "y")]),
        ]);
        assert_eq!(join(&mut state, 1, 2), Ok(()));
        assert_eq!(state.machines.count(), 1);
        let both = state.machines.with_card(mac(2)).expect("known");
        assert_eq!(both.mac, mac(1));
        assert_eq!(both.labels, testing::tags(&[("rack", "1"), ("a", "x"), ("b", "y")]));
        assert_eq!((both.asked_by(), both.last_seen), (mac(2), Some(Timestamp(2))));
        assert_eq!(both.cards().collect::<Vec<_>>(), [mac(1), mac(2)]);
        assert_eq!(state.conflicts(NOW), [], "that they show two UUIDs is known");
        assert_eq!(join(&mut state, 1, 2), Ok(()), "again is nothing new");
        let alone = split(&state, mac(2)).expect("it is one of two");
        assert_eq!(alone.cards().collect::<Vec<_>>(), [mac(1)]);
    }

    #[test]
    fn what_was_learned_or_listed_of_a_card_is_the_machine_s() {
        let mut listed = machine(2, &[]);
        listed.enrolled = true;
        listed.vlan = crate::model::VlanId::try_from(20).ok();
        listed.loaders = vec!["ipxe.efi".to_owned()];
        listed.habits.proxied.rung = crate::model::Rung::Acknowledge;
        let mut own = machine(1, &[]);
        own.habits.local.way = Some(crate::model::LocalBoot::ExitZero);
        let mut state = state([own.clone(), listed.clone()]);
        assert_eq!(join(&mut state, 1, 2), Ok(()));
        let both = state.machines.with_card(mac(2)).expect("known");
        assert!(both.enrolled && !both.is_stranger());
        assert_eq!((both.vlan, &both.loaders), (listed.vlan, &listed.loaders));
        assert_eq!(both.habits.proxied, listed.habits.proxied);
        assert_eq!(both.habits.local, own.habits.local);
    }

    #[test]
    fn what_contradicts_is_not_joined() {
        let aside = machine(4, &[]).after(MachineEvent::SetAside, NOW).expect("it may");
        let rack = |last, rack| machine(last, &[("rack", rack)]);
        let mut state = state([rack(1, "1"), rack(2, "2"), rack(3, "1"), aside, machine(5, &[])]);
        for (number, last) in [(1, 5), (2, 6)] {
            state.apply(&Change::Instance(testing::instance(number, mac(last))));
        }
        let id = |last| state.instances.of_machine(mac(last)).expect("provisioned").id;
        let (five, six) = (id(5), id(6));
        for (name, card, expected) in [
            (1, 1, Unjoinable::Itself),
            (1, 4, Unjoinable::Aside { card: mac(4) }),
            (1, 5, Unjoinable::Held { card: mac(5), instance: five }),
            (5, 6, Unjoinable::BothHeld { own: five, other: six }),
            (
                1,
                2,
                Unjoinable::Label {
                    card: mac(2),
                    name: "rack".to_owned(),
                    own: "1".to_owned(),
                    other: "2".to_owned(),
                },
            ),
        ] {
            assert_eq!(join(&mut state, name, card), Err(expected), "{name} {card}");
        }
        assert_eq!(join(&mut state, 1, 3), Ok(()));
        let anothers = Unjoinable::Anothers { card: mac(3), owner: mac(1) };
        assert_eq!(join(&mut state, 5, 3), Err(anothers));
        assert_eq!(split(&state, mac(1)), Err(Unsplittable::Names));
        assert_eq!(split(&state, mac(5)), Err(Unsplittable::Alone));
        let many = |state: &mut State| (10..10 + 64).try_for_each(|last| join(state, 1, last));
        assert_eq!(many(&mut state), Err(Unjoinable::TooMany(65)));
    }
}
