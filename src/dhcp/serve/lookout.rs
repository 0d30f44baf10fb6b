//! Looks ahead of time at the addresses that machines get next.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tracing::debug;

use crate::{
    dhcp::{lookout, probe::Prober},
    model::{Subnets, Timestamp},
    store::Store,
};

/// How often it is seen what comes next. A machine takes longer from its switch to
/// its first DISCOVER.
const EVERY: Duration = Duration::from_secs(1);

/// Looks until it is dropped.
pub(super) async fn look_ahead(prober: Arc<Prober>, subnets: Subnets, store: Store) {
    if subnets.iter().all(|subnet| subnet.adapter.is_none()) {
        return;
    }
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = Timestamp::from(SystemTime::now());
        let next = store.look(|state| lookout::next(state, &subnets, now));
        let mut due = prober.due(next);
        if !due.is_empty() {
            // Where nobody can be heard silence says nothing.
            let running = running();
            due.retain(|(_, adapter)| running.contains(*adapter));
        }
        let mut looks = JoinSet::new();
        for (address, adapter) in due {
            let (prober, adapter) = (Arc::clone(&prober), adapter.to_owned());
            looks.spawn(async move { prober.probe(address, Some(&adapter)).await });
        }
        looks.join_all().await;
    }
}

/// The adapters that have a link.
fn running() -> HashSet<String> {
    let adapters = if_addrs::get_if_addrs().inspect_err(|error| debug!(%error, "no adapters"));
    let running = adapters.unwrap_or_default().into_iter().filter(if_addrs::Interface::is_oper_up);
    running.map(|adapter| adapter.name).collect()
}
