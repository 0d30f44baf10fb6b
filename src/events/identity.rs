//! What is told of who a machine is: that it was seen in another slot, and that
//! something contradicts something. Pure.

use super::{Event, Fact};
use crate::{
    model::{Mac, Machine, Timestamp},
    state::{Conflict, State},
};

/// That the machine was seen in another slot than before.
pub(super) fn moved(before: &State, machine: &Machine, now: Timestamp) -> Option<Event> {
    let was = before.slot_of(before.machines.find(machine.mac)?)?;
    let is = before.slot_of(machine)?;
    if was == is {
        return None;
    }
    let mac = machine.mac;
    let message = format!("machine {mac} was in slot {was} and is in slot {is}");
    let data = vec![
        ("mac", Fact::text(mac)),
        ("card", Fact::text(machine.asked_by())),
        ("slot", Fact::text(is)),
        ("before", Fact::text(was)),
    ];
    Some(Event::new(("machine", &mac.to_string(), "slot"), message, data, now))
}

/// That the machine has other cards than before.
pub(super) fn cards(before: &State, machine: &Machine, now: Timestamp) -> Option<Event> {
    let known = before.machines.find(machine.mac).map(|known| &known.identity.cards);
    let was_none = known.is_none_or(|cards| cards.is_empty());
    if known == Some(&machine.identity.cards) || was_none && machine.identity.cards.is_empty() {
        return None;
    }
    let (mac, cards) = (machine.mac, machine.cards().map(|card| card.to_string()));
    let cards: Vec<String> = cards.collect();
    let message = format!("machine {mac} has the cards {}", cards.join(", "));
    let data = vec![("mac", Fact::text(mac)), ("macs", Fact::Names(cards))];
    Some(Event::new(("machine", &mac.to_string(), "cards"), message, data, now))
}

/// That this machine has made a conflict.
pub(super) fn conflict(mac: Mac, conflict: &Conflict, now: Timestamp) -> Event {
    let machines = conflict.machines.iter().map(Mac::to_string).collect();
    let data = vec![
        ("mac", Fact::text(mac)),
        ("kind", Fact::text(conflict.kind())),
        ("value", Fact::Text(conflict.value())),
        ("machines", Fact::Names(machines)),
    ];
    let topic = ("machine", &*mac.to_string(), "conflict");
    Event::new(topic, conflict.to_string(), data, now)
}
