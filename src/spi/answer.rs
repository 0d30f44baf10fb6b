//! What Validate, Label and Destroy say, and every reason to refuse.
//!
//! Pure: the state, the request and the moment go in, a decision comes out.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::{
    Settings,
    properties::{InvalidProperties, Naming, Properties},
    provision::{own_tags, renderable},
    request,
};
use crate::{
    boot::{
        cmdline::{self, InvalidCmdLine},
        hostname::{self, InvalidTemplate},
    },
    model::{
        Change, Decision, Destroyed, Forbidden, Image, Instance, InstanceId, LogicalId, Mac,
        Machine, MachineEvent, Select, Timestamp, Unreservable,
    },
    state::State,
};

/// Why a call is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The Properties cannot be used.
    #[error(transparent)]
    Properties(#[from] InvalidProperties),
    /// No command line can be made of the template, or not for this instance.
    #[error("Properties.CmdLine: {problem} (in `{template}`)")]
    CmdLine { template: String, problem: InvalidCmdLine },
    /// No host name can be made of the template, or not for this instance.
    #[error("Properties.Hostname: {problem} (in `{template}`)")]
    Hostname { template: String, problem: InvalidTemplate },
    /// Another instance of the group has this place.
    #[error("Properties.Index: instance {owner} has place {index} of this group")]
    IndexHeld { index: u32, owner: InstanceId },
    /// Nothing is added at this place.
    #[error("Properties.Each: its length is {entries}, so it has nothing for index {index}")]
    NoEntry { index: u32, entries: usize },
    /// Something is added by index to an instance without one.
    #[error(
        "Properties.Each: this instance has no index; give it Properties.Index or the tag {}",
        Instance::GROUP_TAG
    )]
    NoIndex,
    /// Nobody here gives out addresses.
    #[error(
        "Properties.Address: {0} cannot be kept for a machine, since another DHCP server gives out the addresses"
    )]
    NoSubnet(Ipv4Addr),
    /// The address can be no machine's.
    #[error("{said}: {problem}")]
    Unreservable { said: Said, problem: Unreservable },
    /// The address is another instance's.
    #[error("{said}: {address} is kept for {owner}")]
    Reserved { said: Said, address: Ipv4Addr, owner: Mac },
    /// The address is in use.
    #[error(
        "{said}: {address} is in use by {holder} and cannot be given to {mac} before it is free"
    )]
    Leased { said: Said, address: Ipv4Addr, holder: Mac, mac: Mac },
    /// Two fields say two things.
    #[error("Properties.{field} {property} and LogicalID {logical_id} are not the same")]
    Contradiction { field: &'static str, property: String, logical_id: LogicalId },
    /// The machine that must be it is another instance.
    #[error("{said}: the machine {mac} is instance {owner}")]
    MachineHeld { said: Said, mac: Mac, owner: InstanceId },
    /// No machine may be given out, or none that is what it must be.
    #[error("no free machine{}", selected(.select.as_ref(), *.available))]
    NoFreeMachine { select: Option<Select>, available: usize },
    /// The machine that must be it may not be given out.
    #[error("{said}: {mac}: {problem}")]
    Unavailable { said: Said, mac: Mac, problem: Forbidden },
    /// The machine that must be it is not what it must be.
    #[error("Properties.Select: the machine {mac} is not known to be {select}")]
    NotSelected { mac: Mac, select: Select },
    /// The command line of the instance cannot be made with these tags.
    #[error("Labels: {problem} (in the instance's CmdLine `{template}`)")]
    Labels { template: String, problem: InvalidCmdLine },
    /// A tag that is made here.
    #[error("{said}: the tag {tag} is made by this plugin and cannot be given")]
    OwnTag { said: &'static str, tag: &'static str },
    /// No disks can be attached.
    #[error("Attachments: {0} asked for, but attachments are not understood here; leave them out")]
    Attachments(usize),
    /// No ID of ours, or one that was never issued.
    #[error("there is no instance `{0}`")]
    UnknownInstance(String),
    /// It lived once.
    #[error("instance {0} was destroyed")]
    Destroyed(InstanceId),
}

/// Where a caller said what is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Address,
    Mac,
    LogicalId,
}

impl std::fmt::Display for Said {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Address => "Properties.Address",
            Self::Mac => "Properties.MAC",
            Self::LogicalId => "LogicalID",
        })
    }
}

/// The Properties, if an instance could be made of them; that their files are
/// there is looked up elsewhere.
pub(super) fn validate(settings: &Settings, properties: &Value) -> Result<Properties, Refusal> {
    let properties = Properties::read(properties)?;
    if let Some(Image { cmdline: template, .. }) = &properties.image {
        cmdline::check(template)
            .map_err(|problem| Refusal::CmdLine { template: template.clone(), problem })?;
    }
    if let Some(Naming::Template(template)) = &properties.hostname {
        hostname::check(template)
            .map_err(|problem| Refusal::Hostname { template: template.clone(), problem })?;
    }
    if let Some(address) = properties.address {
        if settings.subnets.is_empty() {
            return Err(Refusal::NoSubnet(address));
        }
        settings
            .subnets
            .reservable(address)
            .map_err(|problem| Refusal::Unreservable { said: Said::Address, problem })?;
    }
    Ok(properties)
}

/// Adds the labels to the tags, over those of the same name.
pub(super) fn label(
    state: &State,
    settings: &Settings,
    request: &request::Label,
    now: Timestamp,
) -> Decision<Result<(), Refusal>> {
    let instance = match living(state, &request.instance) {
        Ok(instance) => instance,
        Err(refusal) => return Decision::only(Err(refusal)),
    };
    if let Err(refusal) = own_tags("Labels", &request.labels) {
        return Decision::only(Err(refusal));
    }
    let mut labelled = instance.clone();
    labelled.tags.extend(request.labels.clone());
    if labelled == *instance {
        return Decision::only(Ok(()));
    }
    // A machine that could not boot any more would say so on its own console only.
    if let Err(Refusal::CmdLine { template, problem }) = renderable(state, settings, &labelled, now)
    {
        return Decision::only(Err(Refusal::Labels { template, problem }));
    }
    Decision::with(Ok(()), Change::Instance(labelled))
}

/// What a Destroy found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// This machine is free now.
    Now(Mac),
    /// It was destroyed before: whoever asks again has what he wants.
    Before,
}

/// Ends an instance. Its machine is released: it may still run what it ran.
pub(super) fn destroy(
    state: &State,
    request: &request::Destroy,
    now: Timestamp,
) -> Decision<Result<Gone, Refusal>> {
    let instance = match living(state, &request.instance) {
        Ok(instance) => instance,
        Err(Refusal::Destroyed(_)) => return Decision::only(Ok(Gone::Before)),
        Err(refusal) => return Decision::only(Err(refusal)),
    };
    let destroyed = Destroyed {
        id: instance.id,
        at: now,
        reason: request.reason,
        mac: instance.mac,
        report: instance.secrets.report,
    };
    let former = instance.logical_id.clone();
    let former = former.map(|name| (instance.group().map(str::to_owned), name));
    let released = state
        .machines
        .find(instance.mac)
        .and_then(|machine| machine.after(MachineEvent::Destroyed, now).ok())
        .map(|machine| Change::Machine(Machine { former, ..machine }));
    let changes = [Change::Destroyed(destroyed)].into_iter().chain(released).collect();
    Decision { answer: Ok(Gone::Now(instance.mac)), changes }
}

fn selected(select: Option<&Select>, available: usize) -> String {
    match select {
        Some(select) if available == 0 => format!(" is {select}: none is free"),
        Some(select) => format!(" is {select}: of {available} that are free, none"),
        None => String::new(),
    }
}

pub(super) fn living<'a>(state: &'a State, id: &str) -> Result<&'a Instance, Refusal> {
    let unknown = || Refusal::UnknownInstance(id.to_owned());
    let id: InstanceId = id.parse().map_err(|_| unknown())?;
    if state.instances.was_destroyed(id) {
        return Err(Refusal::Destroyed(id));
    }
    state.instances.find(id).ok_or_else(unknown)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{
        DhcpOptions, LeaseTimes, MachineState, Pool, Reason, Seconds, Subnet, Subnets, Tags,
        testing,
    };

    pub(in crate::spi) const NOW: Timestamp = Timestamp(1_000_000);

    pub(in crate::spi) fn settings() -> Settings {
        let subnet = |network: &str, gateway: [u8; 4], pool| Subnet {
            network: network.parse().expect("a network"),
            adapter: None,
            server: [10, 0, 0, 1].into(),
            gateway: gateway.into(),
            dns: Vec::new(),
            pool,
            times: LeaseTimes::of(Seconds(7200)),
            options: DhcpOptions::default(),
            vlan: None,
            pace: None,
        };
        let remote = Pool {
            network: "10.7.0.0/24".parse().expect("a network"),
            ranges: Vec::new(),
            except: Vec::new(),
        };
        let subnets = [
            subnet("10.0.0.0/24", [10, 0, 0, 254], pool()),
            subnet("10.7.0.0/24", [10, 7, 0, 1], remote),
        ];
        let authority = Some("10.0.0.1:8080".to_owned());
        Settings { server: [10, 0, 0, 1].into(), subnets: Subnets::new(subnets), authority }
    }

    pub(in crate::spi) fn pool() -> Pool {
        Pool {
            network: "10.0.0.0/24".parse().expect("a network"),
            ranges: vec!["10.0.0.9-10.0.0.99".parse().expect("a range")],
            except: Vec::new(),
        }
    }

    pub(in crate::spi) fn mac(last: u8) -> Mac {
        Mac::new([0x52, 0x54, 0, 0, 0, last])
    }

    pub(in crate::spi) fn machine(last: u8, since: u64) -> Change {
        Change::Machine(testing::held(mac(last), Timestamp(since)))
    }

    /// A state in which these machines wait, the first the longest.
    pub(in crate::spi) fn waiting(machines: &[u8]) -> State {
        let mut state = State::new(Some(pool()));
        for (since, last) in (1..).zip(machines) {
            state.apply(&machine(*last, since));
        }
        state
    }

    pub(in crate::spi) fn instance(number: u64, last: u8, tags: &[(&str, &str)]) -> Instance {
        Instance { tags: testing::tags(tags), ..testing::instance(number, mac(last)) }
    }

    fn destroyed(state: &mut State, id: &str) -> Result<Gone, Refusal> {
        let request = request::Destroy { instance: id.to_owned(), reason: Reason::Terminate };
        let decision = destroy(state, &request, NOW);
        decision.changes.iter().for_each(|change| state.apply(change));
        decision.answer
    }

    #[test]
    fn a_destroyed_instance_leaves_its_machine_to_come_back_to_the_pool() {
        let mut state = waiting(&[1, 2]);
        let held = instance(5, 1, &[]);
        state.apply(&Change::Instance(held.clone()));
        assert_eq!(destroyed(&mut state, &held.id.to_string()), Ok(Gone::Now(mac(1))));
        let queue = |state: &State| -> Vec<Mac> {
            state.machines.available().map(|machine| machine.mac).collect()
        };
        assert_eq!(queue(&state), [mac(2)]);
        let released = state.machines.find(mac(1)).expect("known").clone();
        assert_eq!((released.state, released.since), (MachineState::Releasing, NOW));
        let waits = released.after(MachineEvent::Waited, NOW).expect("it may");
        state.apply(&Change::Machine(waits));
        assert_eq!(queue(&state), [mac(2), mac(1)], "behind all others");
        assert_eq!(destroyed(&mut state, &held.id.to_string()), Ok(Gone::Before));
        let remembered = state.instances.destroyed(held.id).expect("for ever");
        assert_eq!((remembered.reason, remembered.mac), (Reason::Terminate, mac(1)));
    }

    #[test]
    fn the_tag_of_the_state_is_nobody_s_to_give() {
        let mut state = waiting(&[1]);
        let before = instance(5, 1, &[]);
        state.apply(&Change::Instance(before.clone()));
        let labels = testing::tags(&[(Instance::STATE_TAG, "running")]);
        let request = request::Label { instance: before.id.to_string(), labels };
        let refusal =
            label(&state, &settings(), &request, NOW).answer.expect_err("it is ours").to_string();
        assert!(refusal.starts_with("Labels: the tag infrakit.state"), "{refusal}");
    }

    #[test]
    fn an_id_that_was_never_issued_is_named() {
        let mut state = waiting(&[1]);
        for id in ["", "nosuch", "rb-00000000000000ff"] {
            let refusal = Refusal::UnknownInstance(id.to_owned());
            assert_eq!(destroyed(&mut state, id), Err(refusal));
            let labels = request::Label { instance: id.to_owned(), labels: Tags::new() };
            assert!(label(&state, &settings(), &labels, NOW).answer.is_err());
        }
    }

    #[test]
    fn labels_are_added_and_replace_and_take_nothing_away() {
        let mut state = waiting(&[1]);
        let before = instance(5, 1, &[("a", "1"), ("b", "2")]);
        state.apply(&Change::Instance(before.clone()));
        let labels: Tags =
            [("b", "3"), ("c", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let request = request::Label { instance: before.id.to_string(), labels };
        let decision = label(&state, &settings(), &request, NOW);
        decision.changes.iter().for_each(|change| state.apply(change));
        let expected: Tags =
            [("a", "1"), ("b", "3"), ("c", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(state.instances.find(before.id).expect("alive").tags, expected);
        assert_eq!(label(&state, &settings(), &request, NOW).changes, []);
    }

    #[test]
    fn a_label_that_would_make_its_machine_unbootable_is_refused() {
        let mut state = waiting(&[1]);
        let mut held = instance(5, 1, &[("tier", "web")]);
        held.image.as_mut().expect("an image").cmdline = "t={{ tags[\"tier\"] }}".to_owned();
        state.apply(&Change::Instance(held.clone()));
        let with = |value: &str| {
            let labels = testing::tags(&[("tier", value)]);
            request::Label { instance: held.id.to_string(), labels }
        };
        let decision = label(&state, &settings(), &with("a\nshell"), NOW);
        let refusal = decision.answer.expect_err("no line").to_string();
        assert!(refusal.starts_with("Labels: it has a line break"), "{refusal}");
        assert_eq!(decision.changes, []);
        assert_eq!(label(&state, &settings(), &with("data"), NOW).changes.len(), 1);
    }

    #[test]
    fn a_command_line_and_an_address_are_checked_before_any_machine() {
        let refusal = |properties: Value| {
            validate(&settings(), &properties).expect_err("cannot be used").to_string()
        };
        let with = |field: &str, text: &str| {
            let mut properties = json!({"Kernel": "k"});
            properties[field] = json!(text);
            refusal(properties)
        };
        assert!(with("CmdLine", "x={{ nope }}").starts_with("Properties.CmdLine: `{{ nope }}`"));
        assert!(with("Hostname", "x-{{ ip }}").starts_with("Properties.Hostname: `{{ ip }}`"));
        for address in ["10.0.0.1", "10.0.0.254", "10.0.0.0", "10.9.0.1"] {
            let text = with("Address", address);
            assert!(text.starts_with("Properties.Address: ") && text.contains(address), "{text}");
        }
        let without = Settings { subnets: Subnets::default(), ..settings() };
        let properties = json!({"Kernel": "k", "Address": "10.0.0.40"});
        assert_eq!(validate(&without, &properties), Err(Refusal::NoSubnet([10, 0, 0, 40].into())));
    }
}
