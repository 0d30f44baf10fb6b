//! A state of so many machines, each with an instance, an address that it keeps, and a
//! lease; and what is configured beside.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Mutex, OnceLock},
    time::Duration,
};

use remoteboot::{
    boot::Rules,
    dhcp::{Role, Settings},
    model::{
        Architecture, Asset, BootMode, Catalogue, Change, DhcpOptions, Image, Instance, InstanceId,
        Lease, LeaseState, LeaseTimes, Mac, Machine, MachineEvent, Pool, Progress, Seconds,
        Secrets, Source, Subnet, Subnets, Tags, Timestamp, Token,
    },
    state::State,
};

/// So many machines in a small state, and in a large one.
pub(crate) const MACHINES: [u32; 2] = [100, 100_000];

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 16, 0, 1);
pub(crate) const NOW: Timestamp = Timestamp(1_000_000_000);
pub(crate) const LEASE: Seconds = Seconds(7200);

/// One of so many in each group.
const GROUPS: u32 = 10;

/// The card of the machine with this number.
pub(crate) fn card(number: u32) -> Mac {
    // Odd, so that every number has its own product, in no order.
    let [a, b, c, d] = number.wrapping_mul(0x9e37_79b1).to_be_bytes();
    Mac::new([2, 0, a, b, c, d])
}

/// The address that is kept for it.
pub(crate) fn kept(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 24, 0, 0).to_bits() + number)
}

/// The state of so many machines, made once.
pub(crate) fn state(machines: u32) -> &'static State {
    static MADE: OnceLock<Mutex<HashMap<u32, &'static State>>> = OnceLock::new();
    let mut made = MADE.get_or_init(Mutex::default).lock().expect("no panic");
    made.entry(machines).or_insert_with(|| Box::leak(Box::new(new_state(machines))))
}

fn new_state(machines: u32) -> State {
    let mut state = State::new(settings().subnets.iter().map(|subnet| subnet.pool.clone()));
    let mut last = None;
    for number in 0..machines {
        let id = InstanceId::next(last, Timestamp(1));
        last = Some(id);
        let mac = card(number);
        let machine = Machine::first(mac, MachineEvent::Waited, Timestamp(1)).expect("known");
        let address = kept(number);
        state
            .apply(&Change::Seen(Machine { architecture: Some(Architecture::X64Uefi), ..machine }));
        state.apply(&Change::Instance(instance(id, number)));
        state.apply(&Change::Lease(bound(number, address)));
    }
    state
}

pub(crate) fn bound(number: u32, address: Ipv4Addr) -> Lease {
    let expires = NOW.after(Duration::from(LEASE));
    Lease { address, mac: card(number), state: LeaseState::Bound, expires }
}

pub(crate) fn instance(id: InstanceId, number: u32) -> Instance {
    let secret = |place: u128| Token(u128::from(number) * 3 + place);
    let file =
        |name: &str| Asset { source: Source::File(name.parse().expect("a name")), checksum: None };
    Instance {
        id,
        logical_id: None,
        tags: group(number),
        init: "#!/bin/sh\n".to_owned().into(),
        mac: card(number),
        address: Some(kept(number)),
        hostname: format!("node-{number}").parse().expect("a name"),
        index: Some(number),
        boot: BootMode::Always,
        image: Some(
            Image {
                kernel: file("vmlinuz"),
                initrds: vec![file("initrd.img")],
                cmdline: "console=ttyS0 ip={{ ip }} hostname={{ hostname }} mac={{ mac }}"
                    .to_owned(),
            }
            .into(),
        ),
        secrets: Secrets { files: secret(0), init: secret(1), report: secret(2) },
        provisioned_at: Timestamp(1),
        progress: Progress::new(Timestamp(1)),
    }
}

/// The tags of the group that this machine's instance is in.
pub(crate) fn group(number: u32) -> Tags {
    let group = format!("group-{}", number % GROUPS);
    [("infrakit.group".to_owned(), group)].into_iter().collect()
}

pub(crate) fn settings() -> Settings {
    let network = "10.16.0.0/12".parse().expect("a network");
    let range = "10.17.0.0-10.18.255.255".parse().expect("a range");
    Settings {
        role: Role::Server,
        watch: None,
        subnets: Subnets::new([Subnet {
            network,
            adapter: Some("eth0".to_owned()),
            server: SERVER,
            gateway: SERVER,
            dns: vec![SERVER],
            pool: Pool { network, ranges: vec![range], except: vec![] },
            times: LeaseTimes::of(LEASE),
            options: DhcpOptions::default(),
            vlan: None,
            pace: None,
        }]),
        profiles: vec![],
        tftp: Some(SERVER),
        authority: Some(SERVER.to_string()),
        rules: Rules::default(),
        probe: false,
        decline_hold: Duration::from_secs(24 * 3600),
        spread: 0,
    }
}

pub(crate) fn catalogue() -> Catalogue {
    Catalogue::new([
        (Architecture::Bios, "undionly.kpxe".to_owned(), bytes::Bytes::from_static(b"b")),
        (Architecture::X64Uefi, "snponly.efi".to_owned(), bytes::Bytes::from_static(b"x")),
    ])
}
