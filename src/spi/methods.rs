//! The methods, each under its name in `jsonrpc_core`'s dispatcher: reads the
//! parameters, has the decision made on the state, and leaves the result.
//!
//! Knows no HTTP, no clock and no source of chance: both come with the call.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jsonrpc_core::{Compatibility, MetaIoHandler, Metadata, Value};
use serde_json::value::RawValue;
use tracing::{debug, info};

use super::{
    Spi,
    answer::{self, Gone},
    assets, describe,
    envelope::{Call, Envelope, open},
    event_list,
    exchange::Socket,
    flavor, interfaces, machines, metadata,
    provision::{self, Occasion, Order, Provisioned},
    reply::{self, Outcome},
    request::{Describe, Destroy, Label, Params, Provision, Validate},
};
use crate::{
    boot::health,
    events::{Door, Refused},
    state::State,
};

/// How long Validate may wait for the digests of files, all together. The
/// caller gives up after 15 seconds.
const VALIDATE_PATIENCE: Duration = Duration::from_secs(2);

/// How long Provision may: controllers ask for many machines at once.
const PROVISION_PATIENCE: Duration = Duration::from_millis(700);

/// What goes with a call through the dispatcher.
///
/// The result does not go through it: the dispatcher would make a tree of
/// values of it, which takes seven times as long as writing it for ten thousand
/// instances. So the method leaves it here, written.
#[derive(Clone)]
struct Context {
    occasion: Occasion,
    socket: Socket,
    result: Arc<Mutex<Option<Box<RawValue>>>>,
}

impl Metadata for Context {}

/// The dispatcher.
pub(super) struct Methods {
    handler: MetaIoHandler<Context>,
    names: Vec<&'static str>,
}

impl Methods {
    /// All methods, over this plugin's state.
    pub(super) fn new(spi: &Spi) -> Self {
        let handler = MetaIoHandler::with_compatibility(Compatibility::V2);
        let mut methods = Self { handler, names: interfaces::methods() };
        methods.add("Handshake.Hello", spi, |_, _, _| async { reply::hello() });
        methods.add("Handshake.Implements", spi, |_, _, _| async { reply::implements() });
        methods.add("Handshake.Types", spi, |_, _, _| async { reply::types() });
        methods.add("Flavor.Validate", spi, flavor_validate);
        methods.add("Flavor.Prepare", spi, flavor_prepare);
        methods.add("Flavor.Healthy", spi, flavor_healthy);
        methods.add("Flavor.Drain", spi, flavor_drain);
        methods.add("Instance.Validate", spi, validate);
        methods.add("Instance.Provision", spi, provision);
        methods.add("Instance.Label", spi, label);
        methods.add("Instance.Destroy", spi, destroy);
        methods.add("Instance.DescribeInstances", spi, describe);
        machines::methods::add_to(&mut methods, spi);
        methods.add("Event.List", spi, event_list);
        methods.add("Metadata.Get", spi, metadata_get);
        methods.add("Metadata.Keys", spi, metadata_keys);
        methods
    }

    /// What is to be done with this body.
    pub(super) fn open(&self, body: &[u8]) -> Envelope {
        open(body, &self.names)
    }

    /// Does what the call says, to its end, and returns the body of the answer.
    pub(super) async fn answer(
        &self,
        call: &Call,
        (occasion, socket): (Occasion, Socket),
    ) -> String {
        let context = Context { occasion, socket, result: Arc::default() };
        let core = self.handler.handle_request(&call.canonical(), context.clone()).await;
        let result = context.result.lock().unwrap_or_else(PoisonError::into_inner).take();
        call.close(core.as_deref(), result.as_deref())
    }

    pub(super) fn add<Method, Answer>(&mut self, name: &'static str, spi: &Spi, method: Method)
    where
        Method: Fn(Spi, Params, Occasion) -> Answer + Copy + Send + Sync + 'static,
        Answer: Future<Output = Outcome> + Send,
    {
        let spi = spi.clone();
        self.handler.add_method_with_meta(name, move |params, context: Context| {
            let spi = spi.clone();
            async move {
                let events = spi.store().events().clone();
                let params = members(params);
                match method(spi, params.clone(), context.occasion).await {
                    Ok(result) => {
                        let mut left =
                            context.result.lock().unwrap_or_else(PoisonError::into_inner);
                        *left = Some(result);
                        Ok(Value::Null)
                    }
                    Err(failure) => {
                        let shown = || reply::shown(&failure, &params);
                        // Quoted: it repeats what the caller wrote, line breaks and all.
                        debug!(method = name, failure = ?shown(), "refused");
                        events.refused(|| Refused {
                            door: Door::Spi,
                            who: context.socket.name().to_owned(),
                            what: name.to_owned(),
                            why: shown(),
                        });
                        Err(reply::error(&failure, &params))
                    }
                }
            }
        });
    }
}

/// The envelope has seen to it that these are always an object.
fn members(params: jsonrpc_core::Params) -> Params {
    match params {
        jsonrpc_core::Params::Map(members) => members,
        jsonrpc_core::Params::None | jsonrpc_core::Params::Array(_) => Params::new(),
    }
}

async fn validate(spi: Spi, params: Params, _: Occasion) -> Outcome {
    let request = Validate::read(&params)?;
    let properties = answer::validate(spi.settings(), &request.properties)?;
    if let Some(image) = &properties.image {
        assets::check(spi.images(), image, VALIDATE_PATIENCE).await?;
    }
    reply::ok()
}

async fn provision(spi: Spi, params: Params, occasion: Occasion) -> Outcome {
    let request = Provision::read(&params)?;
    let store = spi.store();
    // Before anything else is looked at: who asks again is owed the same ID,
    // even if the files have gone since.
    if let Some(id) = store.look_durably(|state| provision::already(state, &request)).await? {
        info!(%id, logical_id = ?request.logical_id, "provisioned before");
        return reply::id(id);
    }
    let properties = answer::validate(spi.settings(), &request.properties)?;
    if let Some(image) = &properties.image {
        assets::check(spi.images(), image, PROVISION_PATIENCE).await?;
    }
    let order = Order { request: &request, properties: &properties };
    let decided = store
        .decide(|state| provision::provision(state, spi.settings(), order, occasion))
        .await??;
    match decided {
        Provisioned::New(id, mac) => {
            info!(%id, %mac, logical_id = ?request.logical_id, "provisioned");
            reply::id(id)
        }
        Provisioned::Already(id) => {
            // The other call may still be on its way to the disk.
            store.look_durably(|_| ()).await?;
            info!(%id, logical_id = ?request.logical_id, "provisioned before");
            reply::id(id)
        }
    }
}

async fn label(spi: Spi, params: Params, occasion: Occasion) -> Outcome {
    let request = Label::read(&params)?;
    let now = occasion.now;
    spi.store().decide(|state| answer::label(state, spi.settings(), &request, now)).await??;
    // Also labels that were there must be on disk.
    spi.store().look_durably(|_| ()).await?;
    info!(id = %request.instance, labels = request.labels.len(), "labelled");
    reply::ok()
}

async fn destroy(spi: Spi, params: Params, occasion: Occasion) -> Outcome {
    let request = Destroy::read(&params)?;
    let now = occasion.now;
    match spi.store().decide(|state| answer::destroy(state, &request, now)).await?? {
        Gone::Now(mac) => {
            info!(id = %request.instance, %mac, reason = ?request.reason, "destroyed");
        }
        Gone::Before => {
            spi.store().look_durably(|_| ()).await?;
            debug!(id = %request.instance, reason = ?request.reason, "destroyed before");
        }
    }
    reply::ok()
}

async fn describe(spi: Spi, params: Params, occasion: Occasion) -> Outcome {
    let request = Describe::read(&params)?;
    let now = occasion.now;
    Ok(spi.store().look_durably(|state| describe::describe(state, &request, now)).await??)
}

async fn flavor_validate(_: Spi, params: Params, _: Occasion) -> Outcome {
    let request = flavor::request::Validate::read(&params)?;
    flavor::prepare::validate(&request)?;
    reply::ok()
}

async fn flavor_prepare(_: Spi, params: Params, _: Occasion) -> Outcome {
    let request = flavor::request::Prepare::read(&params)?;
    reply::spec(&flavor::prepare::prepare(&request)?)
}

async fn flavor_healthy(spi: Spi, params: Params, occasion: Occasion) -> Outcome {
    let request = flavor::request::Member::read(&params)?;
    let boot_timeout = flavor::Properties::read(&request.properties)?.boot_timeout;
    let instance = |state: &State| {
        let living = answer::living(state, &request.instance).ok();
        health(living, boot_timeout, occasion.now)
    };
    reply::health(spi.store().look_durably(instance).await?)
}

async fn flavor_drain(spi: Spi, params: Params, occasion: Occasion) -> Outcome {
    let request = flavor::request::Member::read(&params)?;
    let patience = flavor::Properties::read(&request.properties)?.drain_timeout;
    // One that does not stop in time must not keep its group from going on.
    let end = flavor::drain::drain(spi.store(), &request.instance, patience, occasion.now).await?;
    debug!(id = ?request.instance, ?end, "drained");
    reply::ok()
}

async fn event_list(spi: Spi, params: Params, _: Occasion) -> Outcome {
    let path = event_list::read(&params)?;
    Ok(spi.store().look_durably(|state| event_list::nodes(state, &path)).await??)
}

async fn metadata_get(spi: Spi, params: Params, occasion: Occasion) -> Outcome {
    let request = metadata::Request::read(&params)?;
    let now = occasion.now;
    Ok(spi.store().look_durably(|state| metadata::get(state, &request, now)).await??)
}

async fn metadata_keys(spi: Spi, params: Params, occasion: Occasion) -> Outcome {
    let request = metadata::Request::read(&params)?;
    let now = occasion.now;
    Ok(spi.store().look_durably(|state| metadata::keys(state, &request, now)).await??)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        files::Images,
        spi::{answer::tests, reply::Failure},
        store::Store,
    };

    fn registered(directory: &std::path::Path) -> Methods {
        let store = Store::open(&directory.join("state"), None).expect("a new store");
        let images = Images::new(directory.to_owned());
        Methods::new(&Spi::new(store, images, tests::settings()))
    }

    fn specification() -> Vec<Value> {
        let text = include_str!("../../plugin-spec/openrpc.json");
        let specification: Value = serde_json::from_str(text).expect("JSON");
        specification["methods"].as_array().expect("a list").clone()
    }

    #[test]
    fn what_is_dispatched_known_and_specified_is_the_same() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let methods = registered(directory.path());
        let dispatched: BTreeSet<String> =
            methods.handler.into_iter().map(|(name, _)| name).collect();
        let known: BTreeSet<String> =
            interfaces::methods().iter().map(|name| (*name).to_owned()).collect();
        let specified: BTreeSet<String> = specification()
            .iter()
            .map(|method| method["name"].as_str().expect("text").to_owned())
            .collect();
        assert_eq!(dispatched, known);
        assert_eq!(specified, known);
    }

    #[test]
    fn every_example_of_the_specification_is_read_and_names_only_its_parameters() {
        for method in specification() {
            let name = method["name"].as_str().expect("text");
            let names: BTreeSet<&str> = method["params"]
                .as_array()
                .expect(name)
                .iter()
                .filter_map(|one| one["name"].as_str())
                .collect();
            let examples = method["examples"].as_array().expect(name);
            assert!(!examples.is_empty(), "{name}");
            for example in examples {
                let params: Params = example["params"]
                    .as_array()
                    .expect(name)
                    .iter()
                    .map(|one| (one["name"].as_str().expect(name).to_owned(), one["value"].clone()))
                    .collect();
                assert!(
                    params.keys().all(|key| names.contains(key.as_str())),
                    "{name}: {params:?}"
                );
                let read: Result<(), Failure> = match name {
                    "Instance.Validate" => {
                        Validate::read(&params).map_err(Failure::from).and_then(|read| {
                            Ok(answer::validate(&tests::settings(), &read.properties)
                                .map(|_| ())?)
                        })
                    }
                    "Instance.Provision" => {
                        Provision::read(&params).map_err(Failure::from).and_then(|read| {
                            Ok(answer::validate(&tests::settings(), &read.properties)
                                .map(|_| ())?)
                        })
                    }
                    "Instance.Label" => Label::read(&params).map(|_| ()).map_err(Failure::from),
                    "Instance.Destroy" => Destroy::read(&params).map(|_| ()).map_err(Failure::from),
                    "Instance.DescribeInstances" => {
                        Describe::read(&params).map(|_| ()).map_err(Failure::from)
                    }
                    "Flavor.Validate" => flavor::request::Validate::read(&params)
                        .map_err(Failure::from)
                        .and_then(|read| Ok(flavor::prepare::validate(&read)?)),
                    "Flavor.Prepare" => flavor::request::Prepare::read(&params)
                        .map_err(Failure::from)
                        .and_then(|read| {
                            let spec = flavor::prepare::prepare(&read)?;
                            assert_eq!(example["result"]["value"]["Spec"], spec);
                            Ok(())
                        }),
                    "Flavor.Healthy" | "Flavor.Drain" => {
                        flavor::request::Member::read(&params).map_err(Failure::from).and_then(
                            |read| Ok(flavor::Properties::read(&read.properties).map(|_| ())?),
                        )
                    }
                    "Machine.List" => machines::Filter::read(&params)
                        .map(|_| ())
                        .map_err(|invalid| machines::Refusal::from(invalid).into()),
                    "Machine.Label" => machines::Label::read(&params)
                        .map(|_| ())
                        .map_err(|invalid| machines::Refusal::from(invalid).into()),
                    "Machine.SetAside" => machines::SetAside::read(&params)
                        .map(|_| ())
                        .map_err(|invalid| machines::Refusal::from(invalid).into()),
                    "Machine.Join" => machines::Join::read(&params)
                        .map(|_| ())
                        .map_err(|invalid| machines::Refusal::from(invalid).into()),
                    "Machine.Conflicts" => machines::Nothing::read(&params)
                        .map(|_| ())
                        .map_err(|invalid| machines::Refusal::from(invalid).into()),
                    "Machine.Free" | "Machine.Forget" | "Machine.Split" => {
                        machines::One::read(&params)
                            .map(|_| ())
                            .map_err(|invalid| machines::Refusal::from(invalid).into())
                    }
                    "Event.List" => event_list::read(&params).map(|_| ()).map_err(Failure::from),
                    "Metadata.Get" | "Metadata.Keys" => {
                        metadata::Request::read(&params).map(|_| ()).map_err(Failure::from)
                    }
                    "Handshake.Hello" | "Handshake.Implements" | "Handshake.Types" => Ok(()),
                    other => panic!("{other} is no method"),
                };
                read.unwrap_or_else(|failure| panic!("{name}: {failure}"));
            }
        }
    }

    #[tokio::test]
    async fn handshakes_are_answered_as_specified() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let methods = registered(directory.path());
        let occasion = Occasion { now: tests::NOW, secrets: crate::model::testing::secrets(1) };
        for specified in specification().iter().filter(|method| {
            method["name"].as_str().is_some_and(|name| name.starts_with("Handshake."))
        }) {
            let body = json!({"jsonrpc": "2.0", "method": specified["name"], "id": 1}).to_string();
            let Envelope::Call(call) = methods.open(body.as_bytes()) else {
                panic!("{body} is a call");
            };
            let answer: Value =
                serde_json::from_str(&methods.answer(&call, (occasion, Socket::Unix)).await)
                    .expect("JSON");
            assert_eq!(answer["result"], specified["examples"][0]["result"]["value"]);
        }
    }
}
