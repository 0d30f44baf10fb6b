//! A machine's script, a change of the state, and what is written of it.

use divan::{Bencher, black_box};
use remoteboot::{
    boot::{Asker, Paths, Policy, Prelude, Rules, script_for},
    model::Change,
    store::measured::write,
};

use crate::world::{MACHINES, NOW, SERVER, bound, card, kept, settings, state};

#[divan::bench(args = MACHINES, sample_size = 100)]
fn the_script_of_a_machine(bencher: Bencher, machines: u32) {
    let state = state(machines);
    let policy = Policy {
        rules: Rules::default(),
        authority: SERVER.to_string(),
        server: SERVER.into(),
        paths: Paths { subnets: settings().subnets, pace: None },
    };
    let mut number = 0;
    bencher.bench_local(|| {
        number = next(number, machines);
        let asker = Asker {
            mac: Some(card(number)),
            address: kept(number).into(),
            prelude: Prelude::None,
            is_again: false,
        };
        let script = script_for(black_box(state), &policy, asker, NOW);
        assert!(script.text.contains("vmlinuz"), "{}", script.text);
        script
    });
}

#[divan::bench(args = MACHINES, sample_size = 100)]
fn apply_a_renewed_lease(bencher: Bencher, machines: u32) {
    let mut state = state(machines).clone();
    let mut number = 0;
    bencher.bench_local(|| {
        number = next(number, machines);
        state.apply(&Change::Lease(bound(number, kept(number))));
    });
}

/// The next of a hundred of the machines.
const fn next(number: u32, machines: u32) -> u32 {
    (number + machines / 100) % machines
}

/// As many leases as wait for the disk together under load.
#[divan::bench(args = [1, 64], sample_size = 100)]
fn a_batch_of_leases_for_the_log(bencher: Bencher, leases: u32) {
    let changes: Vec<Change> =
        (0..leases).map(|number| Change::Lease(bound(number, kept(number)))).collect();
    let mut log = Vec::new();
    bencher.bench_local(|| {
        log.clear();
        write(&mut log, black_box(&changes), 7);
        assert!(log.len() > changes.len() * 64);
    });
}
