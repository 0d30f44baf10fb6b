//! Which events a change makes. Pure: told from the state before the change, the
//! change, and the moment.

use super::{Event, Fact, identity};
use crate::{
    model::{
        Architecture, Change, Destroyed, Holder, Instance, InstanceState, Lease, Lease6,
        LeaseState, LocalBoot, Mac, Machine, MachineEvent, MachineState, Progress, Stage,
        Timestamp,
    },
    state::State,
};

/// The events that this change makes in this state, in the order in which they
/// are to be told. None, if all stays as it was.
#[must_use]
pub fn story(before: &State, change: &Change, now: Timestamp) -> Vec<Event> {
    match change {
        Change::Lease(lease) => of_lease(before, lease, now).into_iter().collect(),
        Change::Kept(_) | Change::Ahead(_) => Vec::new(),
        Change::Lease6(lease) => of_lease6(before, lease, now).into_iter().collect(),
        Change::Seen(machine) | Change::Machine(machine) => {
            let mut events = of_machine(before, machine, now);
            events.extend(identity::cards(before, machine, now));
            events.extend(identity::moved(before, machine, now));
            let made = before.conflicts_made_by(change, now);
            events
                .extend(made.iter().map(|conflict| identity::conflict(machine.mac, conflict, now)));
            events
        }
        // What is in them is the inventory, and no news of a machine.
        Change::Slots(_) => Vec::new(),
        Change::Forgotten(mac) => {
            before.machines.find(*mac).map(|machine| forgotten(machine, now)).into_iter().collect()
        }
        Change::Instance(instance) => of_instance(before, instance, now),
        Change::Progress(id, progress) => {
            let instance = before.instances.find(*id);
            instance.map(|instance| of_progress(instance, progress, now)).unwrap_or_default()
        }
        Change::Destroyed(destroyed) => of_destroyed(before, destroyed, now),
    }
}

fn of_machine(before: &State, machine: &Machine, now: Timestamp) -> Vec<Event> {
    let mac = machine.mac;
    // What an instance has stays assigned, whatever is said of it.
    let state = match machine.state {
        MachineState::Assigned | MachineState::Retiring => machine.state,
        _ if before.instances.of_machine(mac).is_some() => MachineState::Assigned,
        state => state,
    };
    let known = before.machines.find(mac);
    let mut events = Vec::new();
    if known.is_none() {
        events.push(found(machine, state, now));
    }
    if let Some(stage) = machine.stage
        && known.and_then(|known| known.stage) != Some(stage)
    {
        events.push(reached(before, mac, stage, now));
    }
    events.extend(known.and_then(|known| stepped(before, known, state, now)));
    if machine.is_deaf() && !known.is_some_and(Machine::is_deaf) {
        events.push(deaf(machine, now));
    }
    events.extend(
        known.and_then(|known| learned(known, machine)).map(|way| sent_otherwise(way, now)),
    );
    events
}

/// That a machine did not come to its disk, and is sent there in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SentOtherwise {
    /// The machine.
    pub(super) mac: Mac,
    /// The way in which it came back at once.
    pub(super) failed: Option<LocalBoot>,
    /// The way from now on.
    pub(super) way: LocalBoot,
}

/// The same, if the change says it.
#[must_use]
pub(super) fn of_local_boot(before: &State, change: &Change) -> Option<SentOtherwise> {
    match change {
        Change::Seen(machine) => learned(before.machines.find(machine.mac)?, machine),
        Change::Lease(_)
        | Change::Lease6(_)
        | Change::Machine(_)
        | Change::Forgotten(_)
        | Change::Instance(_)
        | Change::Progress(..)
        | Change::Kept(_)
        | Change::Ahead(_)
        | Change::Slots(_)
        | Change::Destroyed(_) => None,
    }
}

fn learned(known: &Machine, machine: &Machine) -> Option<SentOtherwise> {
    let (before, after) = (known.habits.local, machine.habits.local);
    let way = after.way.filter(|_| after.way != before.way)?;
    Some(SentOtherwise { mac: machine.mac, failed: before.told.map(|(told, _)| told), way })
}

fn sent_otherwise(SentOtherwise { mac, failed, way }: SentOtherwise, now: Timestamp) -> Event {
    let data = vec![
        ("mac", Fact::text(mac)),
        ("before", Fact::maybe(failed.map(LocalBoot::name))),
        ("local_boot", Fact::text(way.name())),
    ];
    let message =
        format!("machine {mac} did not come to its own disk; it is sent there by {}", way.name());
    Event::new(("machine", &mac.to_string(), "local-boot"), message, data, now)
}

fn found(machine: &Machine, state: MachineState, now: Timestamp) -> Event {
    let architecture = machine.architecture.map(Architecture::name);
    let mac = machine.mac;
    let kind = architecture.map(|name| format!(", {name}")).unwrap_or_default();
    let message = format!("machine {mac} is new{kind}; it is {}", state.name());
    let data = vec![
        ("mac", Fact::text(mac)),
        ("state", Fact::text(state.name())),
        ("arch", Fact::maybe(architecture)),
        ("uuid", Fact::maybe(machine.uuid.as_ref())),
    ];
    Event::new(("machine", &mac.to_string(), "found"), message, data, now)
}

fn reached(before: &State, mac: Mac, stage: Stage, now: Timestamp) -> Event {
    let does = match stage {
        Stage::Firmware => "asks by its firmware",
        Stage::Loader => "has fetched its boot program",
        Stage::Ipxe => "asks by iPXE",
        Stage::Holding => "waits to be provisioned",
        Stage::Script => "was given the script of what it boots",
        Stage::Kernel => "fetches its kernel",
        Stage::Local => "was sent to its own disk",
    };
    let data = vec![
        ("mac", Fact::text(mac)),
        ("stage", Fact::text(stage.name())),
        ("id", Fact::maybe(before.instances.of_machine(mac).map(|instance| instance.id))),
        ("ip", Fact::maybe(before.any_address_of(mac, None, now))),
    ];
    Event::new(("machine", &mac.to_string(), "stage"), format!("machine {mac} {does}"), data, now)
}

fn deaf(machine: &Machine, now: Timestamp) -> Event {
    let mac = machine.mac;
    let architecture = machine.architecture.map(Architecture::name);
    let message = format!(
        "the firmware of machine {mac} ignores proxy offers: what it boots is to be named in the \
         DHCP server that it hears"
    );
    let data = vec![("mac", Fact::text(mac)), ("arch", Fact::maybe(architecture))];
    Event::new(("machine", &mac.to_string(), "deaf"), message, data, now)
}

/// The step of a machine that was known, if it makes one.
fn stepped(before: &State, known: &Machine, state: MachineState, now: Timestamp) -> Option<Event> {
    if known.state == state {
        return None;
    }
    let mac = known.mac;
    let message = format!("machine {mac} was {} and is {}", known.state.name(), state.name());
    let data = vec![
        ("mac", Fact::text(mac)),
        ("state", Fact::text(state.name())),
        ("before", Fact::text(known.state.name())),
        ("id", Fact::maybe(before.instances.of_machine(mac).map(|instance| instance.id))),
    ];
    Some(Event::new(("machine", &mac.to_string(), "state"), message, data, now))
}

fn forgotten(machine: &Machine, now: Timestamp) -> Event {
    let mac = machine.mac;
    let data = vec![("mac", Fact::text(mac)), ("before", Fact::text(machine.state.name()))];
    let message = format!("machine {mac} is forgotten");
    Event::new(("machine", &mac.to_string(), "forgotten"), message, data, now)
}

fn of_instance(before: &State, instance: &Instance, now: Timestamp) -> Vec<Event> {
    if let Some(known) = before.instances.find(instance.id) {
        let progress = of_progress(known, &instance.progress, now);
        return labelled(known, instance, now).into_iter().chain(progress).collect();
    }
    let (id, mac) = (instance.id, instance.mac);
    let mut data = identity(instance);
    data.extend([
        ("hostname", Fact::text(&instance.hostname)),
        ("ip", Fact::maybe(instance.address)),
        ("index", instance.index.map_or(Fact::Nothing, |index| Fact::Number(index.into()))),
        ("boot", Fact::text(instance.boot.name())),
        ("state", Fact::text(instance.progress.state.name())),
    ]);
    let message = format!("instance {id} is provisioned: machine {mac} is to be it");
    let provisioned = Event::new(("instance", &id.to_string(), "provisioned"), message, data, now);
    let assigned = before.machines.find(mac).and_then(|machine| {
        let state = match machine.state {
            MachineState::Retiring => MachineState::Retiring,
            _ => MachineState::Assigned,
        };
        let mut step = stepped(before, machine, state, now)?;
        // The state of before does not know the instance.
        step.data.retain(|(name, _)| *name != "id");
        step.data.push(("id", Fact::text(id)));
        Some(step)
    });
    [provisioned].into_iter().chain(assigned).collect()
}

fn labelled(known: &Instance, instance: &Instance, now: Timestamp) -> Option<Event> {
    if known.tags == instance.tags {
        return None;
    }
    let names = |(name, value): (&String, &String)| {
        (known.tags.get(name) != Some(value)).then(|| name.clone())
    };
    let names: Vec<String> = instance.tags.iter().filter_map(names).collect();
    let id = instance.id;
    let message = format!("instance {id} has other tags: {}", names.join(", "));
    let mut data = identity(instance);
    data.push(("tags", Fact::Names(names)));
    Some(Event::new(("instance", &id.to_string(), "labelled"), message, data, now))
}

fn of_progress(instance: &Instance, after: &Progress, now: Timestamp) -> Vec<Event> {
    let (id, before) = (instance.id, &instance.progress);
    let told = |progress: &Progress| (progress.state, progress.boots, progress.failure.clone());
    let mut events = Vec::new();
    if told(before) != told(after) {
        let failure = after.failure.as_ref().map(|text| instance.without_secrets(text));
        let message = match (after.state, &failure) {
            (InstanceState::Booting, _) => {
                format!("instance {id} is booting, boot number {}", after.boots)
            }
            (InstanceState::Failed, Some(failure)) => {
                format!("instance {id} has failed: {failure}")
            }
            (state, _) => format!("instance {id} is {}", state.name()),
        };
        let mut data = identity(instance);
        data.extend([
            ("state", Fact::text(after.state.name())),
            ("before", Fact::text(before.state.name())),
            ("boots", Fact::Number(after.boots.into())),
            ("failure", Fact::maybe(failure)),
        ]);
        events.push(Event::new(("instance", &id.to_string(), "state"), message, data, now));
    }
    let (asked, done) = (after.drain.asked_at, after.drain.done_at);
    for (is_new, step, sentence) in [
        (asked.is_some() && before.drain.asked_at != asked, "asked", "is asked to stop its work"),
        (done.is_some() && before.drain.done_at != done, "done", "has stopped its work"),
    ] {
        if is_new {
            let mut data = identity(instance);
            data.push(("step", Fact::text(step)));
            let message = format!("instance {id} {sentence}");
            events.push(Event::new(("instance", &id.to_string(), "drain"), message, data, now));
        }
    }
    events
}

fn of_destroyed(before: &State, destroyed: &Destroyed, now: Timestamp) -> Vec<Event> {
    let Some(instance) = before.instances.find(destroyed.id) else { return Vec::new() };
    let (id, reason) = (instance.id, destroyed.reason.name());
    let mut data = identity(instance);
    data.extend([
        ("reason", Fact::text(reason)),
        ("before", Fact::text(instance.progress.state.name())),
    ]);
    let message = format!("instance {id} is destroyed: {reason}");
    let gone = Event::new(("instance", &id.to_string(), "destroyed"), message, data, now);
    let released = before.machines.find(instance.mac).and_then(|machine| {
        let after = machine.after(MachineEvent::Destroyed, destroyed.at).ok()?;
        stepped(before, machine, after.state, now)
    });
    [gone].into_iter().chain(released).collect()
}

/// An offer is not told, nor that an address is asked after: they may come to
/// nothing.
fn of_lease(before: &State, lease: &Lease, now: Timestamp) -> Option<Event> {
    let Lease { address, mac, state, expires } = *lease;
    let known = before.addresses.lease(address);
    let is_same = known.is_some_and(|known| known.state == state && known.mac == mac);
    let is_bound = known.is_some_and(|known| known.is_bound(now));
    let step = Step { state, expires, is_same, is_renewed: is_same && is_bound };
    let (what, message) = step.told(&address.to_string(), &mac.to_string())?;
    let mut data = vec![("ip", Fact::text(address)), ("mac", Fact::text(mac))];
    data.extend(step.facts(before, Some(mac)));
    Some(Event::new(("lease", &address.to_string(), what), message, data, now))
}

/// The same over IPv6, where also a client without a card has an address.
fn of_lease6(before: &State, lease: &Lease6, now: Timestamp) -> Option<Event> {
    let Lease6 { address, ref holder, state, expires, .. } = *lease;
    let known = before.addresses6.lease(address);
    let is_same = known.is_some_and(|known| known.state == state && known.holder == *holder);
    let is_bound = known.is_some_and(|known| known.is_bound(now));
    let step = Step { state, expires, is_same, is_renewed: is_same && is_bound };
    let (what, message) = step.told(&address.to_string(), &holder.to_string())?;
    let mut data = vec![("ip", Fact::text(address)), ("mac", Fact::maybe(holder.machine()))];
    if let Holder::Client(..) = holder {
        data.push(("client", Fact::text(holder)));
    }
    data.extend(step.facts(before, holder.machine()));
    Some(Event::new(("lease", &address.to_string(), what), message, data, now))
}

/// What becomes of an address.
struct Step {
    state: LeaseState,
    expires: Timestamp,
    /// Whether that was so before, for the same client.
    is_same: bool,
    is_renewed: bool,
}

impl Step {
    /// The last word of the topic and the sentence, if it is told at all.
    fn told(&self, address: &str, holder: &str) -> Option<(&'static str, String)> {
        Some(match self.state {
            LeaseState::Probing | LeaseState::Offered => return None,
            LeaseState::Bound => ("bound", format!("{address} is leased to {holder}")),
            LeaseState::Released if self.is_same => return None,
            LeaseState::Released => ("released", format!("{holder} gives {address} back")),
            LeaseState::Declined => {
                ("declined", format!("{holder} found {address} in use: nobody gets it for now"))
            }
        })
    }

    fn facts(&self, before: &State, mac: Option<Mac>) -> [(&'static str, Fact); 3] {
        let instance = mac.and_then(|mac| before.instance_of_card(mac));
        let expires = match self.state {
            LeaseState::Released => Fact::Nothing,
            LeaseState::Probing
            | LeaseState::Offered
            | LeaseState::Bound
            | LeaseState::Declined => Fact::Text(self.expires.rfc3339()),
        };
        [
            ("id", Fact::maybe(instance.map(|instance| instance.id))),
            ("expires", expires),
            ("renewed", Fact::Flag(self.is_renewed)),
        ]
    }
}

/// What tells an instance from others. Neither its tags nor `Init`, which may
/// hold what no listener needs to know.
fn identity(instance: &Instance) -> Vec<(&'static str, Fact)> {
    vec![
        ("id", Fact::text(instance.id)),
        ("mac", Fact::text(instance.mac)),
        ("logical_id", Fact::maybe(instance.logical_id.as_ref())),
        ("group", Fact::maybe(instance.group())),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{InstanceId, Token, testing},
        state::tests::{Happening, changes, happening},
    };

    const INIT: &str = "#!/bin/sh\necho password";
    const NOW: Timestamp = Timestamp(100);

    /// Secrets that do not look like anything else.
    fn disguised(change: Change) -> Change {
        match change {
            Change::Instance(mut instance) => {
                let secret = |token: Token| Token(token.0 | (0xfeed << 100));
                instance.init = INIT.to_owned().into();
                instance.secrets.files = secret(instance.secrets.files);
                instance.secrets.init = secret(instance.secrets.init);
                instance.secrets.report = secret(instance.secrets.report);
                Change::Instance(instance)
            }
            other => other,
        }
    }

    /// Applies all that, with a failure of each instance that quotes its secrets;
    /// shows each change with its events and the state after it.
    fn live(happenings: &[Happening], mut show: impl FnMut(&[Event], &State, &State)) {
        let mut state = State::new(None);
        for happening in happenings {
            let mut all: Vec<Change> =
                changes(&state, happening).into_iter().map(disguised).collect();
            if let Happening::Script(_) = happening {
                let quoting = |change: &Change| {
                    let Change::Progress(id, progress) = change else { return None };
                    let secrets = state.instances.find(*id)?.secrets;
                    let [files, init, report] =
                        [secrets.files, secrets.init, secrets.report].map(Token::digits);
                    let words = format!("404 http://x/init/{init}/init {report}{files}");
                    Some(Change::Progress(*id, progress.failed(&words, NOW)))
                };
                let quoted: Vec<Change> = all.iter().filter_map(quoting).collect();
                all.extend(quoted);
            }
            for change in &all {
                let before = state.clone();
                let events = story(&before, change, NOW);
                state.apply(change);
                show(&events, &before, &state);
            }
        }
    }

    fn fact<'a>(event: &'a Event, name: &str) -> &'a Fact {
        let fact = event.data.iter().find(|(known, _)| *known == name);
        fact.map_or(&Fact::Nothing, |(_, fact)| fact)
    }

    fn text(fact: &Fact) -> &str {
        match fact {
            Fact::Text(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }

    proptest! {
        /// Who only listens knows the state of every machine and instance.
        #[test]
        fn the_events_tell_every_state(happenings in proptest::collection::vec(happening(), 0..60)) {
            let mut machines: HashMap<String, String> = HashMap::new();
            let mut instances: HashMap<String, String> = HashMap::new();
            live(&happenings, |events, _, after| {
                for event in events {
                    let what = event.topic.rsplit('/').next().expect("a word");
                    match (event.r#type, what) {
                        ("machine", "found") => {
                            let old = machines.insert(event.id.clone(), text(fact(event, "state")).to_owned());
                            assert_eq!(old, None, "{event:?}");
                        }
                        ("machine", "state") => {
                            let old = machines.insert(event.id.clone(), text(fact(event, "state")).to_owned());
                            assert_eq!(old.as_deref(), Some(text(fact(event, "before"))), "{event:?}");
                        }
                        ("machine", "forgotten") => assert!(machines.remove(&event.id).is_some()),
                        ("instance", "provisioned" | "state") => {
                            instances.insert(event.id.clone(), text(fact(event, "state")).to_owned());
                        }
                        ("instance", "destroyed") => assert!(instances.remove(&event.id).is_some()),
                        _ => {}
                    }
                }
                let known = after.machines.all().map(|one| (one.mac.to_string(), one.state.name().to_owned()));
                assert_eq!(machines, known.collect::<HashMap<_, _>>());
                let living = after.instances.all().map(|one| (one.id.to_string(), one.progress.state.name().to_owned()));
                assert_eq!(instances, living.collect::<HashMap<_, _>>());
            });
        }

        #[test]
        fn no_event_has_a_secret_of_an_instance(happenings in proptest::collection::vec(happening(), 0..60)) {
            live(&happenings, |events, before, after| {
                let told = format!("{events:?}");
                for instance in before.instances.all().chain(after.instances.all()) {
                    let secrets = instance.secrets;
                    for secret in [secrets.files, secrets.init, secrets.report] {
                        assert!(!told.contains(&secret.digits()), "{told}");
                    }
                    assert!(!told.contains("password"), "{told}");
                }
            });
        }

        /// What is told can be found: the tree of topics has each of them.
        #[test]
        fn every_topic_is_one_of_those_that_are_listed(happenings in proptest::collection::vec(happening(), 0..60)) {
            live(&happenings, |events, _, _| {
                for event in events {
                    let words: Vec<&str> = event.topic.split('/').collect();
                    let [kind, id, what] = words.as_slice() else { panic!("{event:?}") };
                    let listed: &[&str] = match *kind {
                        "machine" => crate::events::MACHINE_EVENTS,
                        "instance" => &crate::events::INSTANCE_EVENTS,
                        "lease" => &crate::events::LEASE_EVENTS,
                        _ => &[],
                    };
                    assert!(listed.contains(what), "{event:?}");
                    assert_eq!((*kind, *id), (event.r#type, event.id.as_str()));
                    assert!(!event.message.is_empty() && !event.message.contains('\n'));
                }
            });
        }
    }

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    #[test]
    fn that_a_machine_hears_no_proxy_is_told_once_until_it_comes_further() {
        let mut state = State::new(None);
        let mut step = |stage, is_deaf| {
            let mut machine = Machine { stage: Some(stage), ..testing::held(MAC, NOW) };
            machine.habits.proxied.is_deaf = is_deaf;
            told(&mut state, &[Change::Seen(machine)]).iter().any(|what| what.contains("deaf"))
        };
        assert!(!step(Stage::Firmware, false));
        assert!(step(Stage::Firmware, true) && !step(Stage::Firmware, true));
        assert!(!step(Stage::Ipxe, false) && step(Stage::Firmware, true));
    }

    /// The topics of these changes without the name, one after the other.
    fn told(state: &mut State, changes: &[Change]) -> Vec<String> {
        let mut told = Vec::new();
        for change in changes {
            for event in story(state, change, NOW) {
                let what = event.topic.rsplit('/').next().expect("a word").to_owned();
                let state = match fact(&event, "state") {
                    Fact::Text(state) => format!(" {state}"),
                    _ => String::new(),
                };
                told.push(format!("{} {what}{state}", event.r#type));
            }
            state.apply(change);
        }
        told
    }

    #[test]
    fn the_life_of_an_instance_is_told_in_its_order() {
        let mut state = State::new(None);
        let instance = testing::instance(7, MAC);
        let progress = &instance.progress;
        let booting = progress.script(true, NOW);
        let mut labelled = Instance { progress: booting.ready(None, NOW), ..instance.clone() };
        labelled.tags.insert("a".to_owned(), "b".to_owned());
        let drained = labelled.progress.drain_asked(NOW).drained(NOW);
        let again = booting.script(true, NOW);
        let destroyed = Destroyed {
            id: instance.id,
            at: NOW,
            reason: crate::model::Reason::RollingUpdate,
            mac: MAC,
            report: instance.secrets.report,
        };
        let progressed = |progress| Change::Progress(instance.id, progress);
        let changes = [
            Change::Seen(testing::held(MAC, NOW)),
            Change::Instance(instance.clone()),
            progressed(booting.clone()),
            progressed(booting.clone()),
            progressed(again),
            progressed(booting.ready(None, NOW)),
            Change::Instance(labelled.clone()),
            progressed(drained),
            Change::Destroyed(destroyed),
            Change::Destroyed(destroyed),
            Change::Forgotten(MAC),
        ];
        let expected = [
            "machine found held",
            "machine stage",
            "instance provisioned provisioning",
            "machine state assigned",
            "instance state booting",
            "instance state booting",
            "instance state running",
            "instance labelled",
            "instance drain",
            "instance drain",
            "instance destroyed",
            "machine state releasing",
            "machine forgotten",
        ];
        assert_eq!(told(&mut state, &changes), expected);
        assert_eq!(InstanceId::next(None, Timestamp(7)), instance.id);
    }

    #[test]
    fn an_offer_and_what_is_given_back_twice_are_not_told() {
        let mut state = State::new(None);
        let lease = |state| {
            Change::Lease(Lease {
                address: [10, 0, 0, 9].into(),
                mac: MAC,
                state,
                expires: Timestamp(500),
            })
        };
        let all = [
            lease(LeaseState::Offered),
            lease(LeaseState::Bound),
            lease(LeaseState::Bound),
            lease(LeaseState::Released),
            lease(LeaseState::Released),
            lease(LeaseState::Declined),
        ];
        let mut renewed = Vec::new();
        for change in &all {
            for event in story(&state, change, NOW) {
                renewed.push((event.topic.clone(), fact(&event, "renewed").clone()));
            }
            state.apply(change);
        }
        let expected =
            [("bound", false), ("bound", true), ("released", false), ("declined", false)]
                .map(|(what, renewed)| (format!("lease/10.0.0.9/{what}"), Fact::Flag(renewed)));
        assert_eq!(renewed, expected);
    }

    #[test]
    fn over_ipv6_a_lease_is_told_of_its_machine_or_of_its_client() {
        let mut state = State::new(None);
        state.apply(&Change::Instance(testing::instance(7, MAC)));
        let lease = |holder: &Holder, state| {
            Change::Lease6(Lease6 {
                address: "fd00::9".parse().expect("an address"),
                holder: holder.clone(),
                association: 1,
                state,
                expires: Timestamp(500),
            })
        };
        let machine = Holder::Machine(MAC);
        let client = Holder::Client(crate::model::Duid::of_uuid([7; 16]), 2);
        let told = [
            (&machine, LeaseState::Offered),
            (&machine, LeaseState::Bound),
            (&machine, LeaseState::Bound),
            (&machine, LeaseState::Released),
            (&machine, LeaseState::Released),
            (&client, LeaseState::Bound),
            (&client, LeaseState::Declined),
        ]
        .into_iter()
        .flat_map(|(holder, kind)| {
            let change = lease(holder, kind);
            let events = story(&state, &change, NOW);
            state.apply(&change);
            events
        });
        let told: Vec<Event> = told.collect();
        let brief: Vec<_> = told
            .iter()
            .map(|event| {
                let has = |name| *fact(event, name) != Fact::Nothing;
                let what = event.topic.strip_prefix("lease/fd00::9/").expect("its topic");
                (what, fact(event, "renewed").clone(), has("mac"), has("id"), has("client"))
            })
            .collect();
        let (first, again) = (Fact::Flag(false), Fact::Flag(true));
        let expected = [
            ("bound", first.clone(), true, true, false),
            ("bound", again, true, true, false),
            ("released", first.clone(), true, true, false),
            ("bound", first.clone(), false, false, true),
            ("declined", first, false, false, true),
        ];
        assert_eq!(brief, expected);
    }
}
