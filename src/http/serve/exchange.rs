//! One request, from warp's filters to what is sent: reads the clock, opens
//! and checks files, asks the store. Which thing it is, `answer` decides.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http_body_util::Empty;
use tower_service::Service;
use warp::{
    Filter,
    http::{
        HeaderMap, HeaderName, Method, Request as HttpRequest, Response, StatusCode, Uri, header,
    },
    path::FullPath,
};

use super::paces::{Paced, Paces, Receiver};
use crate::{
    boot::{Addressing, Visitor},
    events::{Bus, Door, Refused, Served},
    files::{Digest, FileError, OpenFile, neighbour},
    http::{
        Http, Refusal,
        answer::{Answer, Asked, Place, Premises, ServedFile, answer},
        head::Head,
        range::{Conditions, Facts},
        reply::{self, Body, Reply},
        report::Message,
        request::{Request, Wanted, loggable},
    },
    model::{InstanceId, Timestamp},
    store::Store,
};

/// Who sent a request: an extension of the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client(pub(super) IpAddr);

/// The part of a file that is the body: an extension of the response.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) file: Arc<OpenFile>,
    pub(super) first: u64,
    pub(super) length: u64,
    /// How fast its machine is sent to.
    pub(super) pace: Option<Paced>,
    /// Whose file it is, and who knows whether that still lives.
    owner: Option<(InstanceId, Store)>,
}

impl Part {
    /// Whether the machine may still have it: Destroy takes it away at once.
    pub(super) fn is_granted(&self) -> bool {
        self.owner
            .as_ref()
            .is_none_or(|(id, store)| store.look(|state| state.instances.find(*id).is_some()))
    }
}

/// What the log says of the request: an extension of the response.
#[derive(Debug, Clone)]
pub(super) struct Shown(pub(super) String);

/// Who is told what was sent of a file: an extension of the response.
#[derive(Clone)]
pub(super) struct Delivery {
    store: Store,
    file: String,
    address: IpAddr,
    /// The instance whose file it is; else the one that its machine has.
    instance: Option<InstanceId>,
}

impl Delivery {
    pub(super) fn tell(&self, bytes: u64, complete: bool) {
        self.store.events().served(|| {
            let now = Timestamp::from(SystemTime::now());
            let (mac, has) = self.store.look(|state| {
                let owner = self.instance.and_then(|id| state.instances.find(id));
                let (mac, has) = state.visitor_at(self.address, now);
                (owner.map(|owner| owner.mac).or(mac), has)
            });
            let (file, address) = (self.file.clone(), self.address);
            Served { file, address, mac, instance: self.instance.or(has), bytes, complete }
        });
    }
}

/// That the connection ends after this: an extension of the response.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastOne;

/// The request in warp's types; what it says behind its path is an extension.
pub(super) fn request(
    (head, body): (Head, Vec<u8>),
    client: IpAddr,
) -> Option<HttpRequest<Empty<Bytes>>> {
    let mut request = HttpRequest::new(Empty::new());
    *request.method_mut() = Method::from_bytes(head.method.as_bytes()).ok()?;
    let target = head.target.parse::<Uri>().ok()?;
    // warp's path filters panic on a target without a path, as of `CONNECT x:1`.
    target.path_and_query()?;
    let query = target.query().unwrap_or_default().to_owned();
    request.extensions_mut().insert(Message { query, body, is_form: head.has_form() });
    *request.uri_mut() = target;
    for (name, value) in &head.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        request.headers_mut().append(name, value.as_slice().try_into().ok()?);
    }
    request.extensions_mut().insert(Client(client));
    Some(request)
}

/// The routes as a service for the requests of all connections.
pub(super) fn service(
    http: Arc<Http>,
    paces: Paces,
) -> impl Service<
    HttpRequest<Empty<Bytes>>,
    Response = warp::reply::Response,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    let routes = warp::method()
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Message>())
        .and(warp::ext::get::<Client>())
        .then(move |method: Method, path: FullPath, headers: HeaderMap, message, client| {
            let (http, paces) = (Arc::clone(&http), paces.clone());
            async move {
                let (path, conditions) = (path.as_str(), conditions(&headers));
                let request = Request::read(method.as_str(), path, &message, conditions);
                let shown = request
                    .as_ref()
                    .map_or_else(|_| loggable(path), |request| request.wanted.to_string());
                exchange((&http, &paces), (request, shown), client).await
            }
        });
    warp::service(routes)
}

/// What is sent for a refusal, also of what never became a request.
pub(super) fn refused(refusal: &Refusal) -> Response<Bytes> {
    let mut response = response(reply::refusal(refusal)).0;
    if refusal.ends_connection() {
        response.extensions_mut().insert(LastOne);
    }
    response
}

/// Tells who was refused what; the path has no token in it.
pub(super) fn tell_refused(events: &Bus, client: IpAddr, path: &str, refusal: &Refusal) {
    events.refused(|| Refused {
        door: Door::Http,
        who: client.to_string(),
        what: path.to_owned(),
        why: refusal.to_string(),
    });
}

async fn exchange(
    (http, paces): (&Http, &Paces),
    (request, shown): (Result<Request, Refusal>, String),
    Client(client): Client,
) -> Response<Bytes> {
    let answered = match request {
        Ok(request) => answered((http, paces), &request, client).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(refusal) => {
            tracing::debug!(%client, path = %shown, %refusal);
            tell_refused(http.store.events(), client, &shown, &refusal);
            refused(&refusal)
        }
    };
    response.extensions_mut().insert(Shown(shown));
    response
}

/// A file is opened and checked before anything is decided, so that what the
/// machine is seen to fetch was really there.
async fn answered(
    (http, paces): (&Http, &Paces),
    request: &Request,
    client: IpAddr,
) -> Result<Response<Bytes>, Refusal> {
    let asked = Asked { request, visitor: visitor(http, client) };
    // It is looked for on the disk once a second, so not for what does without.
    let catalogue = match &request.wanted {
        Wanted::Loader(_) => http.loaders.catalogue(),
        _ => Arc::default(),
    };
    let is_file = match &request.wanted {
        Wanted::Loader(_)
        | Wanted::OwnScript(_)
        | Wanted::GrubConfig(_)
        | Wanted::ScriptOf { .. }
        | Wanted::ScriptAgain(_)
        | Wanted::Init { .. }
        | Wanted::Report { .. } => false,
        Wanted::InstanceFile { .. } | Wanted::UnclaimedFile { .. } => true,
    };
    let premises =
        Premises { policy: &http.policy, addressing: http.addressing, catalogue: &catalogue };
    let mut opened = None;
    if is_file {
        let now = Timestamp::from(SystemTime::now());
        if let Answer::File(file) =
            http.store.look(|state| answer(state, &premises, &asked, now).answer)
        {
            let checked = Arc::new(open_checked(http, &file).await?);
            opened = Some((file, checked));
        }
    }
    let now = Timestamp::from(SystemTime::now());
    let decided = http.store.decide(|state| answer(state, &premises, &asked, now)).await;
    match decided.map_err(|_| Refusal::Stopping)? {
        Answer::Script(text) => Ok(response(reply::script(text)).0),
        Answer::Loader(program) => {
            let mut response = response(reply::loader(program)).0;
            let delivery = delivery(http, &request.wanted, client, None);
            response.extensions_mut().insert(delivery);
            Ok(response)
        }
        // Provisioned anew while the file was checked: what was checked is of
        // no more use.
        Answer::File(wanted) => match opened {
            Some((file, checked)) if file == wanted => {
                let owner = file.instance.map(|id| (id, http.store.clone()));
                let pace = pace(http, paces, (client, file.instance));
                let mut response = file_response((checked, owner, pace), &request.conditions);
                if response.extensions().get::<Part>().is_some() {
                    let delivery = delivery(http, &request.wanted, client, file.instance);
                    response.extensions_mut().insert(delivery);
                }
                Ok(response)
            }
            Some(_) | None => Err(Refusal::Checking),
        },
        Answer::Document(document, text) => Ok(response(reply::document(document, text)).0),
        Answer::Told(words) => {
            until_written(&http.store).await?;
            Ok(response(reply::told(words)).0)
        }
        Answer::TooLate(words) => {
            until_written(&http.store).await?;
            Ok(response(reply::too_late(words)).0)
        }
        Answer::Refused(refusal) => Err(refusal),
    }
}

/// A machine acts on what it is told, as a controller does: it may switch itself
/// off, or never send its report again. So all of it is on disk first, also what
/// another request has changed.
async fn until_written(store: &Store) -> Result<(), Refusal> {
    store.look_durably(|_| ()).await.map_err(|_| Refusal::Stopping)
}

fn delivery(
    http: &Http,
    wanted: &Wanted,
    address: IpAddr,
    instance: Option<InstanceId>,
) -> Delivery {
    let store = http.store.clone();
    Delivery { store, file: wanted.file().to_owned(), address, instance }
}

pub(super) fn visitor(http: &Http, address: IpAddr) -> Visitor {
    let neighbour = match (http.addressing, address) {
        (Addressing::Foreign, IpAddr::V4(address)) => neighbour(address),
        // Over IPv6 the state finds the card in the address itself.
        (Addressing::Foreign, IpAddr::V6(_)) | (Addressing::Ours, _) => None,
    };
    Visitor { address, neighbour }
}

fn conditions(headers: &HeaderMap) -> Conditions {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Conditions {
        range: text(header::RANGE),
        if_range: text(header::IF_RANGE),
        if_none_match: text(header::IF_NONE_MATCH),
        if_modified_since: text(header::IF_MODIFIED_SINCE),
    }
}

/// The file, if its bytes are those that it was provisioned with.
async fn open_checked(http: &Http, wanted: &ServedFile) -> Result<OpenFile, Refusal> {
    let (images, place) = (http.images.clone(), wanted.place.clone());
    // On a thread that may wait: the directory may be on a slow disk or network.
    let opening = tokio::task::spawn_blocking(move || match place {
        Place::Images(file) => images.open(&file),
        Place::Operator(path) => OpenFile::at(&path),
    });
    let opened = opening.await.map_err(|_| Refusal::Stopping)?;
    let file = opened.map_err(|error| unavailable(wanted, &error))?;
    let Some(expected) = wanted.checksum else {
        return Ok(file);
    };
    match http.images.digest_within(&file, http.settings.digest_time).await {
        Digest::Known(found) if found == expected => Ok(file),
        Digest::Known(found) => {
            let (instance, place) = (&wanted.instance, &wanted.place);
            tracing::error!(?instance, ?place, %expected, %found, "a boot file is not what it was");
            Err(Refusal::Checksum)
        }
        Digest::Pending => Err(Refusal::Checking),
        Digest::Unreadable(error) => {
            tracing::error!(place = ?wanted.place, %error, "a boot file cannot be read");
            Err(Refusal::FileUnreadable)
        }
    }
}

fn unavailable(wanted: &ServedFile, error: &FileError) -> Refusal {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::error!(instance = ?wanted.instance, %error, cause, "a boot file cannot be served");
    match error {
        FileError::Missing { .. } => Refusal::FileMissing,
        FileError::Outside { .. } | FileError::Irregular(_) | FileError::Unreadable { .. } => {
            Refusal::FileUnreadable
        }
    }
}

fn file_response(
    (file, owner, pace): (Arc<OpenFile>, Option<(InstanceId, Store)>, Option<Paced>),
    conditions: &Conditions,
) -> Response<Bytes> {
    let facts = Facts {
        length: file.length,
        entity_tag: file.entity_tag(),
        last_modified: reply::http_date(file.modified),
    };
    let (mut response, part) = response(reply::file(&facts, conditions));
    if let Some((first, length)) = part {
        response.extensions_mut().insert(Part { file, first, length, pace, owner });
    }
    response
}

/// How fast this client is sent a file: as its machine, if that is known.
fn pace(
    http: &Http,
    paces: &Paces,
    (client, instance): (IpAddr, Option<InstanceId>),
) -> Option<Paced> {
    let now = Timestamp::from(SystemTime::now());
    let (mac, rate) = http.store.look(|state| {
        let owner = instance.and_then(|id| state.instances.find(id)).map(|owner| owner.mac);
        let at = || state.machine_at(client, now).map(|card| state.machines.of_card(card));
        let mac = owner.or_else(at);
        let machine = mac.and_then(|mac| state.machines.find(mac));
        (mac, http.policy.paths.pace(machine, client))
    });
    Some(paces.of(mac.map_or(Receiver::Address(client), Receiver::Machine), rate?))
}

/// The reply in warp's types, and the part of the file that is its body.
fn response(reply: Reply) -> (Response<Bytes>, Option<(u64, u64)>) {
    let (bytes, part) = match reply.body {
        Body::Bytes(bytes) => (bytes, None),
        Body::Part { first, length } => (Bytes::new(), Some((first, length))),
    };
    let mut response = Response::new(bytes);
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in reply.headers {
        // Values are ours: numbers, names of types, tags of hexadecimal digits.
        if let Ok(value) = value.try_into() {
            response.headers_mut().insert(name, value);
        }
    }
    (response, part)
}
