//! The methods of the service `Machine`: has each decided, and says it when it
//! is on disk.

use serde_json::{json, value::to_raw_value};
use tracing::info;

use super::{Filter, Join, Label, Nothing, One, Refusal, SetAside};
use crate::{
    model::{Decision, Mac, Timestamp},
    spi::{
        Spi,
        methods::Methods,
        provision::Occasion,
        reply::{Failure, Outcome},
        request::Params,
    },
    state::State,
};

/// Adds them to the dispatcher.
pub(in crate::spi) fn add_to(methods: &mut Methods, spi: &Spi) {
    methods.add("Machine.Conflicts", spi, conflicts);
    methods.add("Machine.Forget", spi, forget);
    methods.add("Machine.Free", spi, free);
    methods.add("Machine.Join", spi, join);
    methods.add("Machine.Label", spi, label);
    methods.add("Machine.List", spi, list);
    methods.add("Machine.SetAside", spi, set_aside);
    methods.add("Machine.Split", spi, split);
}

async fn conflicts(spi: Spi, params: Params, occasion: Occasion) -> Outcome {
    Nothing::read(&params).map_err(Refusal::from)?;
    let now = occasion.now;
    Ok(spi.store().look_durably(|state| super::cards::conflicts(state, now)).await??)
}

async fn join(spi: Spi, params: Params, occasion: Occasion) -> Outcome {
    let request = Join::read(&params).map_err(Refusal::from)?;
    let (mac, now) = (request.mac, occasion.now);
    let shown = decided(&spi, (mac, now), |state| super::cards::join(state, &request)).await?;
    info!(%mac, card = %request.card, "card joined");
    Ok(shown)
}

/// Shows the machine that the card has left.
async fn split(spi: Spi, params: Params, occasion: Occasion) -> Outcome {
    let One { mac } = One::read(&params).map_err(Refusal::from)?;
    let owner = spi.store().decide(|state| super::cards::split_off(state, mac)).await??;
    info!(%mac, %owner, "card split off");
    decided(&spi, (owner, occasion.now), |_| Decision::only(Ok(()))).await
}

async fn list(spi: Spi, params: Params, occasion: Occasion) -> Outcome {
    let filter = Filter::read(&params).map_err(Refusal::from)?;
    let now = occasion.now;
    Ok(spi.store().look_durably(|state| super::list(state, &filter, now)).await??)
}

async fn label(spi: Spi, params: Params, occasion: Occasion) -> Outcome {
    let request = Label::read(&params).map_err(Refusal::from)?;
    let (mac, now) = (request.mac, occasion.now);
    let shown = decided(&spi, (mac, now), |state| super::label(state, &request)).await?;
    info!(%mac, labels = request.labels.len(), "machine labelled");
    Ok(shown)
}

async fn set_aside(spi: Spi, params: Params, occasion: Occasion) -> Outcome {
    let request = SetAside::read(&params).map_err(Refusal::from)?;
    let (mac, now) = (request.mac, occasion.now);
    let shown = decided(&spi, (mac, now), |state| super::set_aside(state, &request, now)).await?;
    info!(%mac, reason = ?request.reason, "machine set aside");
    Ok(shown)
}

async fn free(spi: Spi, params: Params, occasion: Occasion) -> Outcome {
    let One { mac } = One::read(&params).map_err(Refusal::from)?;
    let now = occasion.now;
    let shown = decided(&spi, (mac, now), |state| super::free(state, mac, now)).await?;
    info!(%mac, "machine freed");
    Ok(shown)
}

async fn forget(spi: Spi, params: Params, _: Occasion) -> Outcome {
    let One { mac } = One::read(&params).map_err(Refusal::from)?;
    spi.store().decide(|state| super::forget(state, mac)).await??;
    info!(%mac, "machine forgotten");
    Ok(to_raw_value(&json!({"MAC": mac}))?)
}

/// Has it decided, and shows the machine when that is on disk, also what was so
/// before. A machine that was forgotten meanwhile is shown by its address alone.
async fn decided(
    spi: &Spi,
    (mac, now): (Mac, Timestamp),
    decide: impl FnOnce(&State) -> Decision<Result<(), Refusal>>,
) -> Outcome {
    spi.store().decide(decide).await??;
    let shown = spi.store().look_durably(|state| super::show(state, mac, now)).await?;
    let shown = shown.map_err(Failure::from)?;
    let machine = match shown {
        Some(machine) => machine,
        None => to_raw_value(&json!({"mac": mac}))?,
    };
    Ok(to_raw_value(&std::collections::BTreeMap::from([("Machine", machine)]))?)
}
