//! Whatever a crash has lost, an address that was acknowledged is its machine's.

use std::{net::Ipv4Addr, path::Path};

use proptest::prelude::*;

use super::*;
use crate::{
    model::{
        Decision, Destroyed, Instance, LeaseState, Mac, Pool, Range, Reason, Timestamp, testing,
    },
    store::{Store, frame, log},
};

/// What happens to the machines 1 to 3 and the addresses 1 and 2.
#[derive(Debug, Clone, Copy)]
enum Event {
    Provision(u8, u8),
    /// It asks for the address that is kept for it, each always for as long.
    Lease(u8),
    Destroy(u8),
    Wait(u32),
}

/// What a machine was told when so many decisions were on disk.
#[derive(Debug, Clone, Copy)]
struct Told {
    lease: Lease,
    written: u64,
}

const fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last])
}

fn event() -> impl Strategy<Value = Event> {
    let machine = 1u8..4;
    prop_oneof![
        2 => (machine.clone(), 1u8..3).prop_map(|(one, last)| Event::Provision(one, last)),
        4 => machine.clone().prop_map(Event::Lease),
        1 => machine.prop_map(Event::Destroy),
        2 => (1u32..400).prop_map(Event::Wait),
    ]
}

fn destroyed(state: &State, machine: u8, at: Timestamp) -> Option<Change> {
    let instance = state.instances.of_machine(mac(machine))?;
    let (id, report) = (instance.id, instance.secrets.report);
    let reason = Reason::RollingUpdate;
    Some(Change::Destroyed(Destroyed { id, at, reason, mac: mac(machine), report }))
}

/// What the rooms would decide: nothing that is another's is given away.
fn change_of(state: &State, event: Event, (turn, now): (u64, Timestamp)) -> Option<Change> {
    match event {
        Event::Provision(machine, last) => {
            let address = Ipv4Addr::new(10, 0, 0, last);
            let is_free = state.is_open_to(mac(machine), address, now)
                && state.addresses.reserved_for(address).is_none();
            let instance =
                Instance { address: Some(address), ..testing::instance(turn, mac(machine)) };
            let has_none = state.instances.of_machine(mac(machine)).is_none();
            (is_free && has_none).then_some(Change::Instance(instance))
        }
        Event::Lease(machine) => {
            let mac = mac(machine);
            let address = state.addresses.reservation_of(mac)?;
            let expires = now.after(Duration::from_secs(3000 + 400 * u64::from(machine)));
            let lease = Lease { address, mac, state: LeaseState::Bound, expires };
            state.is_open_to(mac, address, now).then_some(Change::Lease(lease))
        }
        Event::Destroy(machine) => destroyed(state, machine, now),
        Event::Wait(_) => None,
    }
}

/// Decides on all, each on disk before the next; what was told, and where the log ended
/// behind each.
async fn live(
    (store, directory): (&Store, &Path),
    events: &[Event],
    now: &mut Timestamp,
) -> (Vec<Told>, Vec<usize>) {
    let (mut told, mut ends) = (Vec::new(), vec![0]);
    for (turn, event) in (1..).zip(events) {
        if let Event::Wait(seconds) = event {
            *now = now.after(Duration::from_secs((*seconds).into()));
        }
        let Some(change) = store.look(|state| change_of(state, *event, (turn, *now))) else {
            continue;
        };
        let ((), number) = store.decide_now(|_| Decision::with((), change.clone()));
        if let Change::Lease(lease) = change {
            told.push(Told { lease, written: number.expect("it rests on something") });
        }
        store.look_durably(|_| ()).await.expect("written");
        let files = log::files(directory).expect("there");
        let bytes = std::fs::read(&files[0].1).expect("there");
        ends.push(frame::read(&bytes).expect("whole").end);
    }
    (told, ends)
}

fn copied(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary directory");
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copied");
    }
    copy
}

/// Nobody else can have what was told, up to its end, and while its instance lives it is
/// known by it.
fn assert_kept(state: &State, told: &[Told], now: Timestamp) {
    for Told { lease, .. } in told.iter().filter(|told| now < told.lease.expires) {
        let last = Timestamp(lease.expires.0 - 1);
        for moment in [now, last] {
            for other in (1..4).map(mac).filter(|other| *other != lease.mac) {
                assert!(!state.is_open_to(other, lease.address, moment), "{other}: {lease:?}");
            }
            if state.addresses.reserved_for(lease.address) == Some(lease.mac) {
                let found = state.machine_at(lease.address, moment);
                assert_eq!(found, Some(lease.mac), "{lease:?}");
            }
        }
        assert_ne!(state.addresses.free(network(), Some(lease.address), now), Some(lease.address));
        assert_ne!(state.addresses.free(network(), Some(lease.address), last), Some(lease.address));
    }
}

fn network() -> ipnet::Ipv4Net {
    "10.0.0.0/24".parse().expect("a network")
}

fn open(directory: &Path) -> Store {
    let range = Range::new([10, 0, 0, 1].into(), [10, 0, 0, 4].into()).expect("in order");
    let pool = Pool { network: network(), ranges: vec![range], except: Vec::new() };
    Store::open(directory, [pool]).expect("it opens")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The disk may be behind by any number of decisions when all ends; whatever left
    /// until then holds afterwards, also when its instance is destroyed then, over a
    /// second crash and over an end in order.
    #[test]
    fn what_was_told_holds_whatever_a_crash_has_lost(
        events in proptest::collection::vec(event(), 1..12),
        behind in 0usize..4,
        destroys: bool,
        ends_well: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let store = open(directory.path());
            let mut now = Timestamp(1_000_000);
            // All begin so: two machines with addresses, and one that says how far ahead.
            let begin = [Event::Provision(1, 1), Event::Provision(2, 2), Event::Lease(1)];
            let events = [&begin[..], &events].concat();
            let (told, ends) = live((&store, directory.path()), &events, &mut now).await;
            let crashed = copied(directory.path());
            store.close();
            let written = (ends.len() - 1).saturating_sub(behind);
            let file = log::files(crashed.path()).expect("there").remove(0).1;
            let bytes = std::fs::read(&file).expect("there");
            std::fs::write(&file, &bytes[..ends[written]]).expect("written");
            let left: Vec<Told> =
                told.into_iter().filter(|told| told.written <= written as u64).collect();

            let store = open(crashed.path());
            store.look(|state| assert_kept(state, &left, now));
            if destroys {
                for machine in 1..4 {
                    if let Some(change) = store.look(|state| destroyed(state, machine, now)) {
                        store.decide(|_| Decision::with((), change)).await.expect("written");
                    }
                }
                store.look(|state| assert_kept(state, &left, now));
            }
            let again = copied(crashed.path());
            store.close();
            let store = open(if ends_well { crashed.path() } else { again.path() });
            store.look(|state| assert_kept(state, &left, now));
            store.close();
        });
    }
}

/// A store in which the machine 1 keeps the address 1.
async fn kept(directory: &Path) -> Store {
    let store = open(directory);
    let now = Timestamp(1000);
    let provision = |state: &State| {
        let change = change_of(state, Event::Provision(1, 1), (1, now)).expect("it is free");
        Decision::with((), change)
    };
    store.decide(provision).await.expect("written");
    store
}

/// What the answer to it rests on, and the number of the decision.
fn ask(store: &Store, now: Timestamp) -> (Option<u64>, u64) {
    let lease = |state: &State| {
        let change = change_of(state, Event::Lease(1), (2, now)).expect("its own");
        Decision::with((), change)
    };
    let ((), number) = store.decide_now(lease);
    (number, store.together().handed)
}

#[tokio::test]
async fn the_answer_about_a_kept_address_waits_for_what_says_that_it_may_and_then_no_more() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = kept(directory.path()).await;
    assert_eq!(ask(&store, Timestamp(2000)), (Some(2), 2), "this one says so");
    assert_eq!(ask(&store, Timestamp(3000)), (Some(2), 3), "what is known of the address");
    let later = Timestamp(2000).after(STEP);
    assert_eq!(ask(&store, later), (Some(3), 4), "still covered");
    assert_eq!(ask(&store, later.after(Duration::from_secs(1))), (Some(5), 5), "a step more");
    store.close();
    let (number, _) = ask(&store, later.after(Duration::from_secs(2)));
    assert!(number > Some(5), "nothing is written any more, and nothing leaves");
}

#[tokio::test]
async fn a_machine_with_two_cards_waits_for_its_lease() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = kept(directory.path()).await;
    let mut machine = testing::held(mac(1), Timestamp(1000));
    machine.identity.cards = [mac(9)].into_iter().collect();
    store.decide(|_| Decision::with((), Change::Machine(machine))).await.expect("written");
    ask(&store, Timestamp(2000));
    let (number, own) = ask(&store, Timestamp(3000));
    assert_eq!(number, Some(own));
}

#[tokio::test]
async fn after_an_end_in_order_nothing_counts_as_lost() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = kept(directory.path()).await;
    ask(&store, Timestamp(2000));
    store.look_durably(|_| ()).await.expect("written");
    let crashed = copied(directory.path());
    store.close();
    let lost = |directory: &Path| {
        let store = open(directory);
        let lost = store.look(|state| state.addresses.lost_until());
        store.close();
        lost
    };
    assert_eq!(lost(directory.path()), Timestamp::default());
    // An end in order makes nothing good that was lost before.
    assert!(lost(crashed.path()) > Timestamp(2000));
    assert!(lost(crashed.path()) > Timestamp(2000));
}
