//! The inventory at work: merged when the daemon starts, and read anew at every
//! SIGHUP. A file that is broken then changes nothing.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    boot::inventory::{Merged, merge},
    config::{Inventory, inventory::read},
    files::Loaders,
    model::Timestamp,
    store::{Store, Unwritable},
};

/// Makes known what is listed, and returns when that is on disk.
pub(super) async fn begin(store: &Store, inventory: &Inventory) -> Result<(), Unwritable> {
    let now = Timestamp::from(SystemTime::now());
    let (machines, slots) = (&inventory.machines, &inventory.slots);
    let merged = store.decide(|state| merge(state, (machines, slots), now)).await?;
    let Merged { new, changed, overfull, apart, twofold } = merged;
    let file = inventory.path.display();
    let (slots, conflicts) = store.look(|state| (state.slots.count(), state.conflicts(now).len()));
    info!(%file, listed = machines.len(), new, changed, slots, conflicts, "inventory");
    for (mac, card, problem) in apart {
        warn!(%mac, %card, %problem, "the inventory lists it as a card of this machine; it stays apart");
    }
    for (mac, owner) in twofold {
        warn!(%mac, %owner, "it is a card of a machine that is listed, too; what is listed for it is passed over");
    }
    for mac in overfull {
        warn!(%mac, "it would have too many labels with those of the inventory, and keeps its own");
    }
    Ok(())
}

/// Reads the file again whenever the signal comes, until the end. Always there,
/// since a process that nobody told otherwise ends by SIGHUP.
pub(super) async fn follow(
    mut hangup: Signal,
    (store, loaders): (Store, Arc<Loaders>),
    path: Option<PathBuf>,
    ending: CancellationToken,
) {
    loop {
        tokio::select! {
            () = ending.cancelled() => return,
            _ = hangup.recv() => {}
        }
        let Some(path) = path.clone() else {
            info!("SIGHUP: there is no --inventory to read again");
            continue;
        };
        let reading = path.clone();
        let loaders = Arc::clone(&loaders);
        match tokio::task::spawn_blocking(move || read(&reading, &loaders.look_now())).await {
            Ok(Ok(inventory)) => {
                // The store says itself why, and the daemon ends then.
                if begin(&store, &inventory).await.is_err() {
                    return;
                }
            }
            Ok(Err(problem)) => {
                let (file, problem) =
                    (path.display(), format!("{:#}", anyhow::Error::from(problem)));
                error!(%file, problem, "SIGHUP: the inventory cannot be used and changes nothing");
            }
            Err(panic) => error!(%panic, "SIGHUP: the inventory cannot be read"),
        }
    }
}
