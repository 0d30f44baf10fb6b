//! Which machine becomes an instance, and what it is given. Pure.

use std::net::Ipv4Addr;

use super::{
    Settings,
    answer::{Refusal, Said},
    place,
    properties::{Naming, Properties},
    request,
};
use crate::{
    boot::{
        cmdline::{self, Variables},
        hostname::{self, Member},
    },
    model::{
        Change, Decision, Hostname, Image, Instance, InstanceId, LeaseState, LogicalId, Mac,
        Machine, MachineEvent, Progress, Secrets, Select, Tags, Timestamp,
    },
    state::State,
};

/// A Provision that was read and checked as far as it goes without a machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) request: &'a request::Provision,
    pub(super) properties: &'a Properties,
}

/// What is new with every call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Occasion {
    /// The time.
    pub(super) now: Timestamp,
    /// Random bits that were never used before.
    pub(super) secrets: Secrets,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Provisioned {
    /// An instance that was not there before.
    New(InstanceId, Mac),
    /// The one that the caller made before, and perhaps never heard of.
    Already(InstanceId),
}

/// The living instance that this request asked for before: of the same group
/// and the same logical ID. Callers that were not answered in time ask again.
pub(super) fn already(state: &State, request: &request::Provision) -> Option<InstanceId> {
    let group = request.tags.get(Instance::GROUP_TAG).map(String::as_str);
    let named = state.instances.named(group, request.logical_id.as_ref()?)?;
    Some(named.id)
}

/// Takes a machine and makes it an instance, or says why not.
pub(super) fn provision(
    state: &State,
    settings: &Settings,
    order: Order<'_>,
    occasion: Occasion,
) -> Decision<Result<Provisioned, Refusal>> {
    if let Some(id) = already(state, order.request) {
        return Decision::only(Ok(Provisioned::Already(id)));
    }
    match new_instance(state, settings, order, occasion) {
        Err(refusal) => Decision::only(Err(refusal)),
        Ok(instance) => {
            let answer = Ok(Provisioned::New(instance.id, instance.mac));
            Decision::with(answer, Change::Instance(instance))
        }
    }
}

fn new_instance(
    state: &State,
    settings: &Settings,
    Order { request, properties }: Order<'_>,
    Occasion { now, secrets }: Occasion,
) -> Result<Instance, Refusal> {
    if request.attachments > 0 {
        return Err(Refusal::Attachments(request.attachments));
    }
    own_tags("Tags", &request.tags)?;
    let group = request.tags.get(Instance::GROUP_TAG).map(String::as_str);
    let (index, addition) = place::of(state, properties, group)?;
    let named = Named::of(request.logical_id.as_ref(), settings)?;
    let address = wanted_address(properties, named, request.logical_id.as_ref())?;
    let mac = match wanted_machine(properties, named, request.logical_id.as_ref())? {
        Some((mac, said)) => unheld(state, properties, state.machines.of_card(mac), said)?,
        None => {
            // A machine that nobody holds owns no reservation: say so before
            // "no free machine", which a controller would retry for ever.
            if let Some((address, said)) = address
                && let Some(owner) = state.addresses.reserved_for(address)
            {
                return Err(Refusal::Reserved { said, address, owner });
            }
            let wanted = address.map(|(address, _)| address);
            free_machine(state, settings, Wish { request, properties, wanted }, now)?
        }
    };
    if let Some((address, said)) = address {
        open_to(state, (address, said), mac, now)?;
    }
    let id = InstanceId::next(state.instances.last_id(), now);
    let mut tags = request.tags.clone();
    tags.extend(addition.tags.clone());
    let logical_id = request.logical_id.as_ref();
    let member = Member { index, logical_id, id, mac, tags: &tags };
    let image = properties
        .image
        .clone()
        .map(|image| Image { cmdline: addition.behind_cmdline(&image.cmdline), ..image }.into());
    let instance = Instance {
        id,
        logical_id: request.logical_id.clone(),
        init: addition.behind_init(&request.init).into(),
        mac,
        address: address.map(|(address, _)| address),
        hostname: hostname(properties, named, member)?,
        tags,
        index,
        boot: properties.boot,
        image,
        secrets,
        provisioned_at: now,
        progress: Progress::new(now),
    };
    renderable(state, settings, &instance, now)?;
    Ok(instance)
}

/// What a logical ID says about the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    /// Which one it is.
    Machine(Mac),
    /// Which address of our network it has.
    Address(Ipv4Addr),
    /// An address of another network: nothing, and it is no host name.
    ForeignAddress,
    /// Nothing.
    Nothing,
}

impl Named {
    fn of(logical_id: Option<&LogicalId>, settings: &Settings) -> Result<Self, Refusal> {
        let Some(LogicalId(text)) = logical_id else { return Ok(Self::Nothing) };
        if let Ok(mac) = text.parse() {
            return Ok(Self::Machine(mac));
        }
        let Ok(address) = text.parse::<Ipv4Addr>() else { return Ok(Self::Nothing) };
        match settings.subnets.of(address) {
            Some(subnet) => subnet
                .reservable(address)
                .map(|()| Self::Address(address))
                .map_err(|problem| Refusal::Unreservable { said: Said::LogicalId, problem }),
            None => Ok(Self::ForeignAddress),
        }
    }
}

fn wanted_machine(
    properties: &Properties,
    named: Named,
    logical_id: Option<&LogicalId>,
) -> Result<Option<(Mac, Said)>, Refusal> {
    match (properties.mac, named, logical_id) {
        (Some(mac), Named::Machine(other), Some(logical_id)) if mac != other => {
            Err(contradiction("MAC", mac.to_string(), logical_id))
        }
        (Some(mac), _, _) => Ok(Some((mac, Said::Mac))),
        (None, Named::Machine(mac), _) => Ok(Some((mac, Said::LogicalId))),
        (None, Named::Address(_) | Named::ForeignAddress | Named::Nothing, _) => Ok(None),
    }
}

fn wanted_address(
    properties: &Properties,
    named: Named,
    logical_id: Option<&LogicalId>,
) -> Result<Option<(Ipv4Addr, Said)>, Refusal> {
    match (properties.address, named, logical_id) {
        (Some(address), Named::Address(other), Some(logical_id)) if address != other => {
            Err(contradiction("Address", address.to_string(), logical_id))
        }
        (Some(address), _, _) => Ok(Some((address, Said::Address))),
        (None, Named::Address(address), _) => Ok(Some((address, Said::LogicalId))),
        (None, Named::Machine(_) | Named::ForeignAddress | Named::Nothing, _) => Ok(None),
    }
}

fn contradiction(field: &'static str, property: String, logical_id: &LogicalId) -> Refusal {
    Refusal::Contradiction { field, property, logical_id: logical_id.clone() }
}

/// The tags that are made when somebody asks cannot be given.
pub(super) fn own_tags(said: &'static str, tags: &Tags) -> Result<(), Refusal> {
    let is_own = tags.contains_key(Instance::STATE_TAG);
    if is_own { Err(Refusal::OwnTag { said, tag: Instance::STATE_TAG }) } else { Ok(()) }
}

/// The machine, if it may be named; it need not have been seen yet.
fn unheld(state: &State, properties: &Properties, mac: Mac, said: Said) -> Result<Mac, Refusal> {
    if let Some(owner) = state.instances.of_machine(mac) {
        return Err(Refusal::MachineHeld { said, mac, owner: owner.id });
    }
    let Some(machine) = state.machines.find(mac) else {
        // Nothing is known of it, so it can't be shown to be what it must be.
        return match &properties.select {
            Some(select) => Err(Refusal::NotSelected { mac, select: select.clone() }),
            None => Ok(mac),
        };
    };
    machine.state.after(MachineEvent::Named).map_err(|problem| Refusal::Unavailable {
        said,
        mac,
        problem,
    })?;
    match &properties.select {
        Some(select) if !select.matches(machine, state.slot_of(machine)) => {
            Err(Refusal::NotSelected { mac, select: select.clone() })
        }
        Some(_) | None => Ok(mac),
    }
}

/// What a Provision that names no machine says about it.
#[derive(Clone, Copy)]
struct Wish<'a> {
    request: &'a request::Provision,
    properties: &'a Properties,
    wanted: Option<Ipv4Addr>,
}

/// The machine that has the wanted address now; else the one that the logical ID
/// had last; else the one that waits longest. The first two are named, so that
/// they may be had although they have not come back to the pool yet.
fn free_machine(
    state: &State,
    settings: &Settings,
    Wish { request, properties, wanted }: Wish<'_>,
    now: Timestamp,
) -> Result<Mac, Refusal> {
    let anything = Select::default();
    let select = properties.select.as_ref().unwrap_or(&anything);
    let is_open = |machine: &&Machine| {
        machine.state.after(MachineEvent::Named).is_ok()
            && select.matches(machine, state.slot_of(machine))
    };
    let subnet = wanted.and_then(|address| settings.subnets.of(address));
    // One without a lease of ours may be anywhere.
    let is_there = |machine: &Machine| {
        let lease =
            state.machines.cards_of(machine.mac).find_map(|card| state.addresses.last_of(card));
        subnet.zip(lease).is_none_or(|(subnet, lease)| subnet.network.contains(&lease.address))
    };
    let holder = wanted
        .and_then(|address| state.addresses.lease(address))
        .filter(|lease| lease.is_held(now) && lease.state != LeaseState::Declined)
        .and_then(|lease| state.machines.with_card(lease.mac))
        .filter(is_open);
    let former = || {
        let group = request.tags.get(Instance::GROUP_TAG).map(String::as_str);
        state.machines.former(group, request.logical_id.as_ref()?).filter(is_open)
    };
    let machine = holder.or_else(former).or_else(|| {
        state.machines.choose(now, |machine| {
            select.matches(machine, state.slot_of(machine)) && is_there(machine)
        })
    });
    machine.map(|machine| machine.mac).ok_or_else(|| Refusal::NoFreeMachine {
        select: properties.select.clone(),
        available: state.machines.available().count(),
    })
}

fn open_to(
    state: &State,
    (address, said): (Ipv4Addr, Said),
    mac: Mac,
    now: Timestamp,
) -> Result<(), Refusal> {
    if let Some(owner) = state.addresses.reserved_for(address).filter(|owner| *owner != mac) {
        return Err(Refusal::Reserved { said, address, owner });
    }
    if state.is_open_to(mac, address, now) {
        return Ok(());
    }
    let holder = state.addresses.lease(address).map_or(mac, |lease| lease.mac);
    Err(Refusal::Leased { said, address, holder, mac })
}

fn hostname(
    properties: &Properties,
    named: Named,
    member: Member<'_>,
) -> Result<Hostname, Refusal> {
    match &properties.hostname {
        Some(Naming::Fixed(hostname)) => return Ok(hostname.clone()),
        Some(Naming::Template(template)) => {
            return hostname::render(template, &member)
                .map_err(|problem| Refusal::Hostname { template: template.clone(), problem });
        }
        None => {}
    }
    let from_logical_id = match named {
        Named::Nothing => member.logical_id.and_then(|LogicalId(text)| text.parse().ok()),
        Named::Machine(_) | Named::Address(_) | Named::ForeignAddress => None,
    };
    let from_id =
        || member.id.to_string().parse().expect("`rb-` and digits are one label of a host name");
    Ok(from_logical_id.unwrap_or_else(from_id))
}

/// Whether the command line can be made for this instance: a tag or a logical
/// ID that it has not shows only here.
pub(super) fn renderable(
    state: &State,
    settings: &Settings,
    instance: &Instance,
    now: Timestamp,
) -> Result<(), Refusal> {
    let Some(image) = &instance.image else { return Ok(()) };
    let known = instance.address.or_else(|| state.address_of(instance.mac, now));
    // Where nobody has seen the machine yet, it may be on any of the networks.
    let machine = state.machines.find(instance.mac);
    let vlan = match (machine.and_then(|machine| machine.vlan), known) {
        (Some(vlan), _) => Some(vlan),
        (None, Some(address)) => settings.subnets.of(address).and_then(|subnet| subnet.vlan),
        (None, None) => settings.subnets.iter().find_map(|subnet| subnet.vlan),
    };
    let variables = Variables {
        mac: instance.mac,
        machine: instance.mac,
        // The machine may have no address yet; any is as long as this at most.
        ip: known.unwrap_or(Ipv4Addr::BROADCAST).into(),
        server: settings.server,
        authority: settings.authority.as_deref(),
        vlan,
        instance: Some(instance),
    };
    let template = &image.cmdline;
    cmdline::complete(template, &variables, image.initrds.len())
        .map(|_| ())
        .map_err(|problem| Refusal::CmdLine { template: template.clone(), problem })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        model::{Architecture, Lease, MachineState, Reason, testing},
        spi::answer::{
            self,
            tests::{NOW, mac, machine, settings, waiting as state_of},
            validate,
        },
    };

    /// Provisions this Spec and carries out what was decided.
    fn provisioned(state: &mut State, spec: Value) -> Result<Provisioned, String> {
        let params = json!({"Spec": spec});
        let request = request::Provision::read(params.as_object().expect("an object"))
            .map_err(|error| error.to_string())?;
        let properties =
            validate(&settings(), &request.properties).map_err(|refusal| refusal.to_string())?;
        let order = Order { request: &request, properties: &properties };
        let number = state.instances.all().map(|instance| instance.secrets.files.0).max();
        let secrets = testing::secrets(number.unwrap_or(0) + 1);
        let occasion = Occasion { now: NOW, secrets };
        let decision = provision(state, &settings(), order, occasion);
        decision.changes.iter().for_each(|change| state.apply(change));
        decision.answer.map_err(|refusal| refusal.to_string())
    }

    fn taken(state: &mut State, spec: Value) -> Mac {
        match provisioned(state, spec).expect("a machine") {
            Provisioned::New(_, mac) => mac,
            Provisioned::Already(id) => panic!("{id} was there"),
        }
    }

    /// As Destroy does it.
    fn destroyed(state: &mut State, mac: Mac) {
        let instance = made(state, mac).id.to_string();
        let request = request::Destroy { instance, reason: Reason::RollingUpdate };
        let decision = answer::destroy(state, &request, NOW);
        decision.changes.iter().for_each(|change| state.apply(change));
    }

    fn made(state: &State, mac: Mac) -> &Instance {
        state.instances.of_machine(mac).expect("an instance")
    }

    fn lease(address: [u8; 4], last: u8) -> Change {
        Change::Lease(Lease {
            address: address.into(),
            mac: mac(last),
            state: LeaseState::Bound,
            expires: NOW.after(std::time::Duration::from_secs(60)),
        })
    }

    const KERNEL: &str = "vmlinuz";

    #[test]
    fn a_command_line_that_is_too_long_with_its_initrds_takes_no_machine() {
        let mut state = state_of(&[1]);
        let spec = |initrds: &[&str]| {
            json!({"Properties": {
                "Kernel": KERNEL, "Initrd": initrds, "CmdLine": "x".repeat(cmdline::MAX_LENGTH)
            }})
        };
        let error = provisioned(&mut state, spec(&["i"])).expect_err("too long");
        assert!(error.starts_with("Properties.CmdLine: it has 2063 bytes"), "{error}");
        assert_eq!(state.instances.count(), 0);
        taken(&mut state, spec(&[]));
    }

    #[test]
    fn the_longest_waiting_machine_goes_first_and_no_machine_twice() {
        let mut state = state_of(&[7, 3, 5]);
        let spec = json!({"Properties": {"Kernel": KERNEL}});
        for last in [7, 3, 5] {
            assert_eq!(taken(&mut state, spec.clone()), mac(last));
        }
        assert_eq!(provisioned(&mut state, spec), Err("no free machine".to_owned()));
    }

    #[test]
    fn a_mac_chooses_the_machine_seen_or_not() {
        let mut state = state_of(&[1, 2]);
        let properties = json!({"Kernel": KERNEL, "MAC": mac(2).to_string()});
        assert_eq!(taken(&mut state, json!({"Properties": properties})), mac(2));
        let again = provisioned(&mut state, json!({"Properties": properties})).expect_err("held");
        let id = made(&state, mac(2)).id;
        assert_eq!(again, format!("Properties.MAC: the machine {} is instance {id}", mac(2)));
        let unseen = json!({"Properties": {"Kernel": KERNEL}, "LogicalID": "52-54-00-00-00-09"});
        assert_eq!(taken(&mut state, unseen), mac(9));
        state.apply(&machine(9, 9));
        let rest: Vec<Mac> = state.machines.available().map(|machine| machine.mac).collect();
        assert_eq!(rest, [mac(1)]);
    }

    #[test]
    fn two_macs_that_differ_are_a_contradiction() {
        let mut state = state_of(&[1, 2]);
        let spec = json!({
            "Properties": {"Kernel": KERNEL, "MAC": mac(1).to_string()},
            "LogicalID": mac(2).to_string(),
        });
        let refusal = provisioned(&mut state, spec).expect_err("two machines");
        assert!(refusal.contains("Properties.MAC 52:54:00:00:00:01"), "{refusal}");
        assert!(refusal.contains("LogicalID 52:54:00:00:00:02"), "{refusal}");
    }

    #[test]
    fn an_address_as_logical_id_chooses_its_holder_else_the_longest_waiting() {
        let mut state = state_of(&[1, 2, 3]);
        state.apply(&lease([10, 0, 0, 40], 3));
        let spec = |id: &str| json!({"Properties": {"Kernel": KERNEL}, "LogicalID": id});
        assert_eq!(taken(&mut state, spec("10.0.0.40")), mac(3));
        assert_eq!(taken(&mut state, spec("10.0.0.41")), mac(1));
        for (last, address) in [(3, [10, 0, 0, 40]), (1, [10, 0, 0, 41])] {
            assert_eq!(state.addresses.reservation_of(mac(last)), Some(address.into()));
        }
        assert_eq!(taken(&mut state, spec("192.168.2.200")), mac(2));
        let foreign = made(&state, mac(2));
        assert_eq!((foreign.address, foreign.hostname.as_str()), (None, &*foreign.id.to_string()));
    }

    #[test]
    fn an_address_goes_to_no_machine_that_is_known_to_be_in_another_network() {
        let mut state = state_of(&[1, 2, 3]);
        state.apply(&lease([10, 7, 0, 9], 1));
        state.apply(&lease([10, 0, 0, 9], 2));
        let spec = |id: &str| json!({"Properties": {"Kernel": KERNEL}, "LogicalID": id});
        assert_eq!(taken(&mut state, spec("10.0.0.41")), mac(2));
        assert_eq!(taken(&mut state, spec("10.7.0.41")), mac(1));
        assert_eq!(taken(&mut state, spec("10.7.0.42")), mac(3), "nobody knows where it is");
    }

    #[test]
    fn an_address_that_another_host_uses_is_refused() {
        let mut state = state_of(&[1, 2]);
        // No machine of ours: it never asked to boot.
        state.apply(&lease([10, 0, 0, 40], 77));
        let spec = |fields: Value| json!({"Properties": fields});
        let leased = spec(json!({"Kernel": KERNEL, "Address": "10.0.0.40"}));
        let refusal = provisioned(&mut state, leased).expect_err("in use");
        assert!(refusal.starts_with("Properties.Address: 10.0.0.40 is in use by"), "{refusal}");
        let wanted = spec(json!({"Kernel": KERNEL, "Address": "10.0.0.41"}));
        assert_eq!(taken(&mut state, wanted.clone()), mac(1));
        let refusal = provisioned(&mut state, wanted).expect_err("kept");
        assert_eq!(refusal, format!("Properties.Address: 10.0.0.41 is kept for {}", mac(1)));
        let gateway = json!({"Properties": {"Kernel": KERNEL}, "LogicalID": "10.0.0.254"});
        assert!(
            provisioned(&mut state, gateway).expect_err("no host's").starts_with("LogicalID: ")
        );
    }

    #[test]
    fn the_same_group_and_logical_id_are_the_same_instance_while_it_lives() {
        let mut state = state_of(&[1, 2, 3, 4]);
        let spec = |group: &str, kernel: &str| {
            json!({
                "Properties": {"Kernel": kernel}, "LogicalID": "pet", "Tags": {"infrakit.group": group},
            })
        };
        taken(&mut state, spec("a", KERNEL));
        let first = made(&state, mac(1)).id;
        for kernel in [KERNEL, "another"] {
            assert_eq!(provisioned(&mut state, spec("a", kernel)), Ok(Provisioned::Already(first)));
        }
        assert_eq!(taken(&mut state, spec("b", KERNEL)), mac(2));
        destroyed(&mut state, mac(1));
        assert_eq!(taken(&mut state, spec("a", KERNEL)), mac(1), "a pet finds its machine again");
        assert!(made(&state, mac(1)).id > first);
    }

    #[test]
    fn a_machine_that_is_released_is_given_to_who_names_it_and_to_nobody_else() {
        let any = json!({"Properties": {"Kernel": KERNEL}});
        let by_mac = json!({"Properties": {"Kernel": KERNEL, "MAC": mac(1).to_string()}});
        let by_name = json!({"Properties": {"Kernel": KERNEL}, "LogicalID": mac(1).to_string()});
        let by_address = json!({"Properties": {"Kernel": KERNEL}, "LogicalID": "10.0.0.40"});
        for named in [by_mac, by_name, by_address] {
            let mut state = state_of(&[1]);
            state.apply(&lease([10, 0, 0, 40], 1));
            taken(&mut state, any.clone());
            destroyed(&mut state, mac(1));
            let refusal = provisioned(&mut state, any.clone()).expect_err("it may still run");
            assert_eq!(refusal, "no free machine");
            assert_eq!(taken(&mut state, named), mac(1));
        }
        // Another group's pet of the same name is another pet.
        let mut state = state_of(&[1]);
        let pet = |group: &str| {
            let tags = json!({"infrakit.group": group});
            json!({"Properties": {"Kernel": KERNEL}, "LogicalID": "pet", "Tags": tags})
        };
        taken(&mut state, pet("a"));
        destroyed(&mut state, mac(1));
        assert!(provisioned(&mut state, pet("b")).is_err());
        assert_eq!(taken(&mut state, pet("a")), mac(1));
    }

    #[test]
    fn a_machine_that_is_set_aside_is_given_to_nobody() {
        let mut state = state_of(&[1]);
        let aside = state.machines.find(mac(1)).expect("known").after(MachineEvent::SetAside, NOW);
        state.apply(&Change::Machine(aside.expect("it may")));
        let any = json!({"Properties": {"Kernel": KERNEL}});
        assert_eq!(provisioned(&mut state, any), Err("no free machine".to_owned()));
        let named = json!({"Properties": {"Kernel": KERNEL, "MAC": mac(1).to_string()}});
        let refusal = provisioned(&mut state, named).expect_err("not even by name");
        let expected = "a machine that is set-aside cannot be provisioned";
        assert_eq!(refusal, format!("Properties.MAC: {}: {expected}", mac(1)));
    }

    #[test]
    fn the_conditions_of_select_hold_for_every_way_to_a_machine() {
        let mut state = state_of(&[1, 2]);
        let known = state.machines.find(mac(2)).expect("known").clone();
        let labels = testing::tags(&[("rack", "7")]);
        let architecture = Some(Architecture::Bios);
        state.apply(&Change::Machine(Machine { labels, architecture, ..known }));
        let spec = |select: Value, name: Value| json!({"Properties": {"Kernel": KERNEL, "Select": select}, "LogicalID": name});
        let rack = json!({"Arch": "bios", "Labels": {"rack": "7"}});
        let refusal = provisioned(&mut state, spec(json!({"Arch": "arm64-uefi"}), Value::Null));
        let expected = "no free machine is Arch arm64-uefi: of 2 that are free, none";
        assert_eq!(refusal, Err(expected.to_owned()));
        for name in [mac(1), mac(9)] {
            let refusal = provisioned(&mut state, spec(rack.clone(), json!(name.to_string())));
            let refusal = refusal.expect_err("another machine");
            let known = "is not known to be Arch bios, label rack=7";
            assert_eq!(refusal, format!("Properties.Select: the machine {name} {known}"));
        }
        assert_eq!(taken(&mut state, spec(rack, Value::Null)), mac(2));
        let state_of_it = state.machines.find(mac(2)).expect("known").state;
        assert_eq!(state_of_it, MachineState::Assigned);
    }

    #[test]
    fn the_instances_of_a_group_are_counted_from_zero() {
        let mut state = state_of(&[1, 2, 3]);
        let spec = json!({"Properties": {"Kernel": KERNEL}, "Tags": {"infrakit.group": "g"}});
        for expected in [0, 1] {
            let mac = taken(&mut state, spec.clone());
            assert_eq!(made(&state, mac).index, Some(expected));
        }
        destroyed(&mut state, mac(1));
        let mac = taken(&mut state, spec);
        assert_eq!(made(&state, mac).index, Some(0), "the place that came free");
    }

    #[test]
    fn an_index_that_is_given_is_had_and_one_that_is_had_is_refused() {
        let mut state = state_of(&[1, 2, 3, 4]);
        let spec = |index: Value, tags: Value| json!({"Properties": {"Kernel": KERNEL, "Index": index}, "Tags": tags});
        let group = json!({"infrakit.group": "g"});
        let second = taken(&mut state, spec(json!(1), group.clone()));
        let refusal = provisioned(&mut state, spec(json!(1), group.clone())).expect_err("taken");
        let id = made(&state, second).id;
        assert_eq!(refusal, format!("Properties.Index: instance {id} has place 1 of this group"));
        assert_eq!(state.machines.available().count(), 3, "nothing was taken");
        for (index, tags, expected) in [
            (json!(null), group.clone(), Some(0)),
            (json!(null), group, Some(2)),
            (json!(1), json!({}), Some(1)),
        ] {
            let mac = taken(&mut state, spec(index, tags));
            assert_eq!(made(&state, mac).index, expected);
        }
    }

    #[test]
    fn what_each_is_given_is_that_of_its_index() {
        let mut state = state_of(&[1, 2, 3]);
        let each = json!([
            {"Init": "zero"},
            {"Init": "one", "Tags": {"disk": "nvme"}, "CmdLine": "d={{ tags[\"disk\"] }}"},
        ]);
        let spec = |index: Value, tags: Value| {
            let properties = json!({
                "Kernel": KERNEL, "CmdLine": "i={{ index }}", "Each": each, "Index": index,
                "Hostname": "web-{{ index }}",
            });
            json!({"Properties": properties, "Tags": tags, "Init": "all"})
        };
        let group = json!({"infrakit.group": "g", "disk": "none"});
        for (init, disk, cmdline, hostname) in [
            ("all\nzero", "none", "i={{ index }}", "web-0"),
            ("all\none", "nvme", "i={{ index }} d={{ tags[\"disk\"] }}", "web-1"),
        ] {
            let mac = taken(&mut state, spec(json!(null), group.clone()));
            let instance = made(&state, mac);
            assert_eq!((instance.init.as_str(), instance.hostname.as_str()), (init, hostname));
            assert_eq!(instance.tags["disk"], disk);
            assert_eq!(instance.image.as_ref().expect("a kernel").cmdline, cmdline);
        }
        for (index, tags, refusal) in [
            (json!(null), group, "Properties.Each: its length is 2, so it has nothing for index 2"),
            (
                json!(7),
                json!({}),
                "Properties.Each: its length is 2, so it has nothing for index 7",
            ),
            (
                json!(null),
                json!({}),
                "Properties.Each: this instance has no index; give it Properties.Index or the tag infrakit.group",
            ),
        ] {
            assert_eq!(provisioned(&mut state, spec(index, tags)), Err(refusal.to_owned()));
        }
        assert_eq!(state.machines.available().count(), 1, "nothing was taken");
    }

    #[test]
    fn a_template_that_names_no_host_is_refused() {
        let mut state = state_of(&[1]);
        let spec = |hostname: &str, tags: Value| json!({"Properties": {"Kernel": KERNEL, "Hostname": hostname}, "Tags": tags});
        let bad = spec("web_{{ index }}", json!({"infrakit.group": "g"}));
        let refusal = provisioned(&mut state, bad).expect_err("no host name");
        assert!(refusal.starts_with("Properties.Hostname: ") && refusal.contains("`web_0`"));
        let refusal = provisioned(&mut state, spec("x-{{ index }}", json!({}))).expect_err("none");
        assert!(refusal.starts_with("Properties.Hostname: ") && refusal.contains("(in `x-"));
        let odd = spec("{{ tags[\"a\"] }}", json!({"a": "b c"}));
        let refusal = provisioned(&mut state, odd).expect_err("a blank");
        assert!(refusal.contains("`b c`"), "{refusal}");
        assert_eq!(state.machines.available().count(), 1, "nothing was taken");
    }

    #[test]
    fn a_host_is_named_by_its_properties_or_logical_id_or_id() {
        let mut state = state_of(&[1, 2, 3, 4]);
        let kernel = json!({"Kernel": KERNEL});
        let cases = [
            (
                json!({"Properties": {"Kernel": KERNEL, "Hostname": "Web"}, "LogicalID": "pet"}),
                "web",
            ),
            (json!({"Properties": kernel, "LogicalID": "Pet-1"}), "pet-1"),
            (json!({"Properties": kernel, "LogicalID": "pet 1"}), ""),
            (json!({"Properties": kernel}), ""),
        ];
        for (spec, name) in cases {
            let mac = taken(&mut state, spec);
            let instance = made(&state, mac);
            let id = instance.id.to_string();
            assert_eq!(instance.hostname.as_str(), if name.is_empty() { &id } else { name });
        }
    }

    #[test]
    fn a_tag_of_the_command_line_that_is_not_there_is_refused() {
        let mut state = state_of(&[1]);
        let spec = |tags: Value| json!({"Properties": {"Kernel": KERNEL, "CmdLine": "r={{ tags[\"role\"] }} i={{ ip }}"}, "Tags": tags});
        let refusal = provisioned(&mut state, spec(json!({}))).expect_err("no such tag");
        assert!(refusal.starts_with("Properties.CmdLine: "), "{refusal}");
        assert_eq!(taken(&mut state, spec(json!({"role": "web"}))), mac(1));
    }

    #[test]
    fn attachments_are_refused_and_what_was_said_is_kept() {
        let mut state = state_of(&[1]);
        let mut spec = json!({
            "Properties": {"Kernel": KERNEL}, "Init": "#!/bin/sh\n", "Tags": {"a": "", "ü": "\n"},
            "Attachments": [{"ID": "v1", "Type": "disk"}],
        });
        let refusal = provisioned(&mut state, spec.clone()).expect_err("not understood");
        assert!(refusal.contains("attachments are not understood"), "{refusal}");
        spec["Attachments"] = json!([]);
        taken(&mut state, spec.clone());
        let instance = made(&state, mac(1));
        assert_eq!(instance.init.as_str(), "#!/bin/sh\n");
        assert_eq!(json!(instance.tags), spec["Tags"]);
    }

    proptest! {
        /// Whatever is asked for, no machine and no address has two owners.
        #[test]
        fn nothing_belongs_to_two_instances(
            asked in proptest::collection::vec((0u8..4, 0u8..6, 38u8..44), 1..25),
        ) {
            let mut state = state_of(&[1, 2, 3, 4, 5]);
            state.apply(&lease([10, 0, 0, 40], 2));
            state.apply(&lease([10, 0, 0, 41], 99));
            for (kind, last, address) in asked {
                let mut spec = json!({"Properties": {"Kernel": KERNEL}});
                match kind {
                    0 => {}
                    1 => spec["Properties"]["MAC"] = json!(mac(last).to_string()),
                    2 => spec["LogicalID"] = json!(format!("10.0.0.{address}")),
                    _ => spec["Properties"]["Address"] = json!(format!("10.0.0.{address}")),
                }
                let _ = provisioned(&mut state, spec);
            }
            let living = state.instances.tagged(&crate::model::Tags::new());
            let machines: std::collections::HashSet<_> = living.iter().map(|one| one.mac).collect();
            prop_assert_eq!(machines.len(), living.len());
            let kept: Vec<_> = living.iter().filter_map(|one| one.address).collect();
            let distinct: std::collections::HashSet<_> = kept.iter().collect();
            prop_assert_eq!(distinct.len(), kept.len());
        }
    }
}
