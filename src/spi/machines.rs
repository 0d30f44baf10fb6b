//! The pool, as its operator sees it: the service `Machine`, which is our own.
//!
//! Pure: the state, the request and the moment go in, a decision comes out. What
//! may become of a machine `model::lifecycle` says; here it is asked, and a step
//! that must not be is refused with the machine and its instance named.

mod cards;
pub(super) mod methods;
mod request;

use std::net::IpAddr;

use serde::Serialize;
use serde_json::value::RawValue;

pub(super) use request::{Filter, InvalidParams, Join, Label, Nothing, One, SetAside};

use crate::{
    boot::cards::{Unjoinable, Unsplittable},
    model::{
        Architecture, Change, Decision, Forbidden, InstanceId, InvalidLabel, LocalBoot, Mac,
        Machine, MachineEvent, MachineState, Port, Stage, Tags, Timestamp, Treatment,
        check_label_count,
    },
    state::{Conflict, State},
};

/// Why the operator's word is not carried out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The parameters are none.
    #[error(transparent)]
    Params(#[from] InvalidParams),
    /// It was never seen, is not listed, or was forgotten.
    #[error("there is no machine {mac}{}", promised(*.instance))]
    Unknown { mac: Mac, instance: Option<InstanceId> },
    /// What must not become of it.
    #[error("{mac}: {problem}{}", held_by(*.instance))]
    Forbidden { mac: Mac, problem: Forbidden, instance: Option<InstanceId> },
    /// What an instance has must stay known.
    #[error(
        "{mac}: a machine that is {} cannot be forgotten; instance {instance} has it, destroy that first",
        state.name()
    )]
    Unforgettable { mac: Mac, state: MachineState, instance: InstanceId },
    /// It would have too many labels.
    #[error("{mac}: {problem}")]
    Labels { mac: Mac, problem: InvalidLabel },
    /// It cannot have this card.
    #[error("{mac} and {card} are not joined: {problem}")]
    Unjoinable { mac: Mac, card: Mac, problem: Unjoinable },
    /// It cannot leave its machine.
    #[error("{mac}: {problem}")]
    Unsplittable { mac: Mac, problem: Unsplittable },
}

fn promised(instance: Option<InstanceId>) -> String {
    let said = |id| format!(" yet; it was never seen, and instance {id} waits for it");
    instance.map(said).unwrap_or_default()
}

fn held_by(instance: Option<InstanceId>) -> String {
    instance.map(|id| format!("; instance {id} has it")).unwrap_or_default()
}

/// What is told of a machine; names in small letters, as in Describe.
#[derive(Serialize)]
struct Row<'a> {
    mac: Mac,
    /// All its cards, the one that names it first.
    macs: Vec<Mac>,
    state: &'static str,
    since: String,
    arch: Option<&'static str>,
    uuid: Option<&'a str>,
    serial: Option<&'a str>,
    slot: Option<&'a str>,
    port: Option<&'a Port>,
    /// Kinds; `Machine.Conflicts` says more.
    conflicts: Vec<&'static str>,
    ip: Option<IpAddr>,
    labels: &'a Tags,
    first_seen: String,
    last_seen: Option<String>,
    stage: Option<&'static str>,
    instance: Option<Held>,
    unclaimed: Option<&'static str>,
    local_boot: Option<&'static str>,
    note: Option<&'a str>,
    /// The boot program that it was found to take, or is tried on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    loader: Option<&'a str>,
}

/// The instance that has the machine.
#[derive(Serialize)]
struct Held {
    id: InstanceId,
    state: &'static str,
}

/// The result of List.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Rows<'a> {
    machines: Vec<Row<'a>>,
}

/// The machines that are all that is asked for, in the order of their addresses.
pub(super) fn list(
    state: &State,
    filter: &Filter,
    now: Timestamp,
) -> Result<Box<RawValue>, serde_json::Error> {
    let mut machines: Vec<&Machine> =
        state.machines.all().filter(|machine| filter.matches(machine, now)).collect();
    machines.sort_unstable_by_key(|machine| machine.mac);
    let machines = machines.into_iter().map(|machine| row(state, machine, now)).collect();
    serde_json::value::to_raw_value(&Rows { machines })
}

/// One machine, as List tells of it; nothing if it is not known.
pub(super) fn show(
    state: &State,
    mac: Mac,
    now: Timestamp,
) -> Result<Option<Box<RawValue>>, serde_json::Error> {
    let machine = state.machines.with_card(mac).map(|machine| row(state, machine, now));
    machine.map(|machine| serde_json::value::to_raw_value(&machine)).transpose()
}

/// The note of a machine that has none, and hears no proxy.
const IS_DEAF: &str = "ignores proxy offers: docs/beside-dhcp.md";

fn row<'a>(state: &'a State, machine: &'a Machine, now: Timestamp) -> Row<'a> {
    let instance = state.instances.of_machine(machine.mac);
    let reserved = instance.and_then(|instance| instance.address);
    Row {
        mac: machine.mac,
        macs: machine.cards().collect(),
        state: machine.shown_state(now).name(),
        since: machine.since.rfc3339(),
        arch: machine.architecture.map(Architecture::name),
        uuid: machine.uuid.as_deref(),
        serial: machine.identity.serial.as_deref(),
        slot: state.slot_of(machine),
        port: machine.port(),
        conflicts: state.conflicts_of(machine, now).iter().map(Conflict::kind).collect(),
        ip: state.any_address_of(machine.mac, reserved, now),
        labels: &machine.labels,
        first_seen: machine.first_seen.rfc3339(),
        last_seen: machine.last_seen.map(Timestamp::rfc3339),
        stage: machine.stage.map(Stage::name),
        instance: instance
            .map(|instance| Held { id: instance.id, state: instance.progress.state.name() }),
        unclaimed: machine.treatment.filter(|_| instance.is_none()).map(Treatment::name),
        local_boot: local_boot(machine).map(LocalBoot::name),
        note: machine.note.as_deref().or(machine.is_deaf().then_some(IS_DEAF)),
        loader: machine.habits.loader.as_ref().map(|tried| tried.name.as_str()),
    }
}

/// How it is sent to its own disk, as far as that is said or was learned; else how it
/// was sent there last.
fn local_boot(machine: &Machine) -> Option<LocalBoot> {
    let local = machine.habits.local;
    machine.local_boot.or(local.way).or_else(|| Some(local.told?.0)).or(local.works)
}

/// Adds the labels over those of the same name, and takes away those without a
/// value.
pub(super) fn label(state: &State, request: &Label) -> Decision<Result<(), Refusal>> {
    let before = match known(state, request.mac) {
        Ok(machine) => machine,
        Err(refusal) => return Decision::only(Err(refusal)),
    };
    let mut labels = before.labels.clone();
    for (name, value) in &request.labels {
        match value {
            Some(value) => labels.insert(name.clone(), value.clone()),
            None => labels.remove(name),
        };
    }
    if let Err(problem) = check_label_count(labels.len()) {
        return Decision::only(Err(Refusal::Labels { mac: request.mac, problem }));
    }
    changed(before, Machine { labels, ..before.clone() })
}

/// Takes the machine out of the pool. What an instance has it keeps until it is
/// destroyed.
pub(super) fn set_aside(
    state: &State,
    request: &SetAside,
    now: Timestamp,
) -> Decision<Result<(), Refusal>> {
    match stepped(state, request.mac, MachineEvent::SetAside, now) {
        Err(refusal) => Decision::only(Err(refusal)),
        Ok((before, after)) => {
            let note = request.reason.clone().or_else(|| after.note.clone());
            changed(before, Machine { note, ..after })
        }
    }
}

/// Gives the machine back to the pool.
pub(super) fn free(state: &State, mac: Mac, now: Timestamp) -> Decision<Result<(), Refusal>> {
    match stepped(state, mac, MachineEvent::Freed, now) {
        Err(refusal) => Decision::only(Err(refusal)),
        Ok((before, after)) => changed(before, after),
    }
}

/// Forgets all that is known of the machine; when it is seen again it is a new one.
pub(super) fn forget(state: &State, mac: Mac) -> Decision<Result<(), Refusal>> {
    let machine = match known(state, mac) {
        Ok(machine) => machine,
        Err(refusal) => return Decision::only(Err(refusal)),
    };
    match state.instances.of_machine(machine.mac) {
        Some(instance) => {
            let (state, instance) = (machine.state, instance.id);
            Decision::only(Err(Refusal::Unforgettable { mac, state, instance }))
        }
        None => Decision::with(Ok(()), Change::Forgotten(machine.mac)),
    }
}

/// The machine that has this card.
fn known(state: &State, mac: Mac) -> Result<&Machine, Refusal> {
    let instance = || state.instance_of_card(mac).map(|instance| instance.id);
    state.machines.with_card(mac).ok_or_else(|| Refusal::Unknown { mac, instance: instance() })
}

/// The machine before and after the event.
fn stepped(
    state: &State,
    mac: Mac,
    event: MachineEvent,
    now: Timestamp,
) -> Result<(&Machine, Machine), Refusal> {
    let before = known(state, mac)?;
    let after = before.after(event, now).map_err(|problem| {
        let instance = state.instance_of_card(mac).map(|instance| instance.id);
        Refusal::Forbidden { mac, problem, instance }
    })?;
    Ok((before, after))
}

fn changed(before: &Machine, after: Machine) -> Decision<Result<(), Refusal>> {
    if *before == after {
        return Decision::only(Ok(()));
    }
    Decision::with(Ok(()), Change::Machine(after))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        model::{Lease, LeaseState, MOST_LABELS, testing},
        spi::answer::tests::{NOW, instance, mac, waiting},
    };

    type Decided = Decision<Result<(), Refusal>>;

    fn carried_out(
        state: &mut State,
        decide: impl FnOnce(&State) -> Decided,
    ) -> Result<(), String> {
        let decision = decide(state);
        decision.changes.iter().for_each(|change| state.apply(change));
        decision.answer.map_err(|refusal| refusal.to_string())
    }

    fn known_state(state: &State, last: u8) -> MachineState {
        state.machines.find(mac(last)).expect("known").state
    }

    fn listed(state: &State, filter: &Filter) -> Vec<Value> {
        let result = list(state, filter, NOW).expect("JSON");
        let result: Value = serde_json::from_str(result.get()).expect("JSON");
        result["Machines"].as_array().expect("a list").clone()
    }

    /// Machine 1 has an instance, machine 2 was released, 3 is held, 4 set aside.
    fn pool() -> State {
        let mut state = waiting(&[1, 2, 3, 4]);
        for last in [1, 2] {
            state.apply(&Change::Instance(instance(u64::from(last), last, &[])));
        }
        let second = state.instances.of_machine(mac(2)).expect("provisioned").id.to_string();
        let reason = crate::model::Reason::Terminate;
        let request = crate::spi::request::Destroy { instance: second, reason };
        let destroyed = crate::spi::answer::destroy(&state, &request, NOW);
        destroyed.changes.iter().for_each(|change| state.apply(change));
        let request = SetAside { mac: mac(4), reason: Some("broken fan".to_owned()) };
        carried_out(&mut state, |state| set_aside(state, &request, NOW)).expect("it may");
        state
    }

    #[test]
    fn a_machine_that_hears_no_proxy_says_so_unless_it_has_a_note_of_its_own() {
        let mut state = pool();
        for last in [2, 4] {
            let mut machine = state.machines.find(mac(last)).expect("known").clone();
            machine.stage = Some(Stage::Firmware);
            machine.habits.proxied.is_deaf = true;
            state.apply(&Change::Seen(machine));
        }
        let note = |last| {
            let shown = show(&state, mac(last), NOW).expect("JSON").expect("known");
            serde_json::from_str::<serde_json::Value>(shown.get()).expect("JSON")["note"].clone()
        };
        assert_eq!([note(2), note(3), note(4)], [json!(IS_DEAF), json!(null), json!("broken fan")]);
    }

    #[test]
    fn the_operator_takes_machines_out_and_gives_them_back() {
        let mut state = pool();
        for last in [2, 4] {
            carried_out(&mut state, |state| free(state, mac(last), NOW)).expect("it may");
            assert_eq!(known_state(&state, last), MachineState::Free);
        }
        assert_eq!(state.machines.find(mac(4)).expect("known").note, None);
        for last in [1, 2, 3] {
            let request = SetAside { mac: mac(last), reason: None };
            carried_out(&mut state, |state| set_aside(state, &request, NOW)).expect("it may");
        }
        assert_eq!(known_state(&state, 1), MachineState::Retiring);
        assert_eq!(state.machines.available().map(|one| one.mac).collect::<Vec<_>>(), [mac(4)]);
        carried_out(&mut state, |state| free(state, mac(1), NOW)).expect("it may");
        assert_eq!(known_state(&state, 1), MachineState::Assigned);
    }

    #[test]
    fn a_step_that_must_not_be_names_the_machine_its_state_and_its_instance() {
        let mut state = pool();
        let id = state.instances.of_machine(mac(1)).expect("provisioned").id;
        let refusal = carried_out(&mut state, |state| free(state, mac(1), NOW)).expect_err("not");
        let said =
            format!("{}: a machine that is assigned cannot be freed; instance {id} has it", mac(1));
        assert_eq!(refusal, said);
        let refusal = carried_out(&mut state, |state| forget(state, mac(1))).expect_err("not");
        let said = format!("{}: a machine that is assigned cannot be forgotten", mac(1));
        assert!(refusal.starts_with(&said) && refusal.contains(&id.to_string()), "{refusal}");
        for decide in
            [free as fn(&State, Mac, Timestamp) -> Decided, |state, mac, _| forget(state, mac)]
        {
            let refusal = carried_out(&mut state, |state| decide(state, mac(9), NOW));
            assert_eq!(refusal, Err(format!("there is no machine {}", mac(9))));
        }
    }

    #[test]
    fn a_machine_that_only_an_instance_names_is_not_known_and_not_forgotten() {
        let mut state = waiting(&[]);
        let promised = instance(1, 7, &[]);
        state.apply(&Change::Instance(promised.clone()));
        let refusal = carried_out(&mut state, |state| forget(state, mac(7))).expect_err("not");
        assert!(refusal.contains(&format!("instance {} waits", promised.id)), "{refusal}");
    }

    #[test]
    fn a_forgotten_machine_is_gone() {
        let mut state = pool();
        for last in [2, 3, 4] {
            carried_out(&mut state, |state| forget(state, mac(last))).expect("it may");
        }
        let rest: Vec<Mac> = state.machines.all().map(|machine| machine.mac).collect();
        assert_eq!(rest, [mac(1)]);
    }

    #[test]
    fn labels_are_added_replaced_and_taken_away_and_what_is_said_again_is_no_change() {
        let mut state = pool();
        let said = |labels: &[(&str, Option<&str>)]| Label {
            mac: mac(3),
            labels: labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
                .collect(),
        };
        let first = said(&[("rack", Some("1")), ("old", Some("x"))]);
        carried_out(&mut state, |state| label(state, &first)).expect("it may");
        let second = said(&[("rack", Some("2")), ("old", None), ("never", None)]);
        carried_out(&mut state, |state| label(state, &second)).expect("it may");
        let machine = state.machines.find(mac(3)).expect("known");
        assert_eq!(machine.labels, testing::tags(&[("rack", "2")]));
        assert_eq!(label(&state, &second).changes, []);
        let many = (0..MOST_LABELS).map(|number| (format!("l{number}"), Some(String::new())));
        let many = Label { mac: mac(3), labels: many.collect() };
        let refusal = carried_out(&mut state, |state| label(state, &many)).expect_err("too many");
        assert!(
            refusal.contains("65 labels") && refusal.contains(&mac(3).to_string()),
            "{refusal}"
        );
    }

    #[test]
    fn every_machine_is_told_of_with_all_that_is_known() {
        let mut state = pool();
        state.apply(&Change::Lease(Lease {
            address: [10, 0, 0, 9].into(),
            mac: mac(1),
            state: LeaseState::Bound,
            expires: Timestamp(NOW.0 + 1),
        }));
        let all = listed(&state, &Filter::default());
        let macs: Vec<&Value> = all.iter().map(|row| &row["mac"]).collect();
        assert_eq!(macs, [1, 2, 3, 4].map(|last| json!(mac(last).to_string())).each_ref());
        let first = json!({
            "mac": mac(1).to_string(), "macs": [mac(1).to_string()], "serial": null, "slot": null,
            "port": null, "conflicts": [], "state": "assigned", "since": "1970-01-01T00:00:00.001Z",
            "arch": null, "uuid": null, "ip": "10.0.0.9", "labels": {},
            "first_seen": "1970-01-01T00:00:00.001Z", "last_seen": "1970-01-01T00:00:00.001Z",
            "stage": "holding", "unclaimed": null, "local_boot": null, "note": null,
            "instance": {"id": instance(1, 1, &[]).id, "state": "provisioning"},
        });
        assert_eq!(all[0], first);
        assert_eq!((&all[1]["state"], &all[1]["instance"]), (&json!("releasing"), &Value::Null));
        // It was last seen a thousand seconds ago.
        assert_eq!(all[2]["state"], "free");
        assert_eq!(
            (&all[3]["state"], &all[3]["note"]),
            (&json!("set-aside"), &json!("broken fan"))
        );
    }

    #[test]
    fn the_specification_shows_what_is_told() {
        let told = listed(&pool(), &Filter::default());
        let specification: Value =
            serde_json::from_str(include_str!("../../plugin-spec/openrpc.json")).expect("JSON");
        let required = &specification["components"]["schemas"]["Machine"]["required"];
        let told: Vec<&String> = told[0].as_object().expect("an object").keys().collect();
        let mut required: Vec<&str> =
            required.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        required.sort_unstable();
        assert_eq!(told, required);
        let names = |name: &str| {
            let schema = &specification["components"]["schemas"]["Machine"]["properties"][name];
            schema["enum"].as_array().expect("a list").clone()
        };
        assert_eq!(names("state"), MachineState::ALL.map(|state| json!(state.name())));
    }

    #[test]
    fn a_filter_leaves_those_that_are_all_of_it() {
        let mut state = pool();
        for (last, rack) in [(2, "1"), (3, "1"), (4, "2")] {
            let machine = state.machines.find(mac(last)).expect("known").clone();
            let architecture = Some(Architecture::Bios).filter(|_| last > 2);
            let labels = testing::tags(&[("rack", rack)]);
            state.apply(&Change::Machine(Machine { labels, architecture, ..machine }));
        }
        let rack = |value| testing::tags(&[("rack", value)]);
        let bios = Some(Architecture::Bios);
        for (filter, expected) in [
            (Filter { state: Some(MachineState::Free), ..Filter::default() }, &[3][..]),
            (Filter { state: Some(MachineState::Held), ..Filter::default() }, &[]),
            (Filter { labels: rack("1"), ..Filter::default() }, &[2, 3]),
            (Filter { labels: rack(""), ..Filter::default() }, &[]),
            (Filter { architecture: bios, ..Filter::default() }, &[3, 4]),
            (Filter { architecture: bios, labels: rack("2"), state: None }, &[4]),
        ] {
            let rows = listed(&state, &filter);
            let macs: Vec<&str> = rows.iter().filter_map(|row| row["mac"].as_str()).collect();
            let expected: Vec<String> =
                expected.iter().map(|last| mac(*last).to_string()).collect();
            assert_eq!(macs, expected, "{filter:?}");
        }
    }
}
