//! Serves the plugin: reads requests, gives each its time and its random bits,
//! sends the answers. The Unix socket is warp's.

use std::{pin::pin, sync::Arc, time::Duration, time::SystemTime};

use bytes::Buf;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};
use warp::{Filter, Stream};

use super::{
    Listeners, ServeError, Spi,
    envelope::Envelope,
    exchange::{Answer, CONTENT_TYPE, Head, LARGEST_BODY, Route, route},
    methods::Methods,
    provision::Occasion,
    socket::Presence,
    tcp::Running,
    unix,
};
use crate::model::{Timestamp, Token};

/// How long calls in flight are waited for at the end.
const LAST_CALLS: Duration = Duration::from_secs(3);

/// The sockets of the plugin, bound: whoever finds them waits to be served.
pub struct Doors {
    presence: Presence,
    unix: tokio::net::UnixListener,
    tcp: Option<Running>,
    counter: Arc<Counter>,
}

impl Doors {
    /// Takes the plugin's place in the plugins directory, and listens.
    ///
    /// The store is open by then: while the state is not known there is no
    /// socket, so no controller ever counts instances in an empty list.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if a socket cannot be had; none is left behind then.
    pub async fn open(spi: &Spi, listeners: Listeners) -> Result<Self, ServeError> {
        let counter = Arc::new(Counter { methods: Methods::new(spi) });
        let (mut presence, listener) = Presence::begin(&listeners.directory, &listeners.name)?;
        let unix = tokio::net::UnixListener::from_std(listener).map_err(ServeError::Runtime)?;
        let tcp = match listeners.tcp {
            None => None,
            Some(door) => {
                let running = Running::start(Arc::clone(&counter), door).await?;
                presence.announce(&running.url())?;
                Some(running)
            }
        };
        info!(name = %listeners.name, directory = %listeners.directory.display(), tcp = tcp.is_some(), "plugin");
        Ok(Self { presence, unix, tcp, counter })
    }

    /// Serves until `stop` is cancelled; then no more calls are taken, those in
    /// flight are answered, and the files in the plugins directory go.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { presence, unix, tcp, counter } = self;
        let unix = unix::serve(unix, warp::service(filter(counter)), stop.clone());
        let ended = async {
            stop.cancelled().await;
            // Found by nobody any more, while the last calls are answered.
            drop(presence);
            tokio::time::sleep(LAST_CALLS).await;
        };
        let all = async {
            unix.await;
            if let Some(tcp) = tcp {
                tcp.close().await;
            }
        };
        tokio::select! {
            () = all => {}
            () = ended => debug!("calls were still in flight at the end"),
        }
    }
}

/// Where requests of both sockets are answered.
pub(super) struct Counter {
    methods: Methods,
}

impl Counter {
    /// The answer to a request whose body is still to be read.
    ///
    /// A call is done to its end even if its caller hangs up: InfraKit's client
    /// does so after 15 seconds, and would find half a Provision.
    pub(super) async fn answer(
        self: &Arc<Self>,
        head: Head<'_>,
        body: impl Future<Output = Option<Vec<u8>>>,
    ) -> Answer {
        match route(head) {
            Route::Answer(answer) => return answer,
            Route::Call => {}
        }
        let Some(body) = body.await else { return Answer::too_large() };
        let call = match Methods::open(&body) {
            Envelope::Answer(answer) => return Answer::ok(answer),
            Envelope::Call(call) => Arc::new(call),
        };
        let occasion = match occasion() {
            Ok(occasion) => occasion,
            Err(problem) => {
                error!(%problem, "the system gives no random bits");
                return Answer::ok(call.broken());
            }
        };
        let work = {
            let (counter, call) = (Arc::clone(self), Arc::clone(&call));
            tokio::spawn(async move { counter.methods.answer(&call, occasion).await })
        };
        let answer = work.await.unwrap_or_else(|panic| {
            error!(method = call.method, %panic, "a call ended by a panic");
            call.broken()
        });
        debug!(method = call.method, bytes = answer.len(), "answered");
        Answer::ok(answer)
    }
}

fn occasion() -> Result<Occasion, getrandom::Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)?;
    let token = Token(u128::from_ne_bytes(bits));
    Ok(Occasion { now: Timestamp::from(SystemTime::now()), token })
}

/// What warp does with a request on the Unix socket.
fn filter(
    counter: Arc<Counter>,
) -> impl Filter<Extract = (impl warp::Reply,), Error = warp::Rejection> + Clone + Send + Sync + 'static
{
    warp::method()
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(
            move |method: warp::http::Method,
                  path: warp::path::FullPath,
                  headers: warp::http::HeaderMap,
                  body| {
                let counter = Arc::clone(&counter);
                async move {
                    let content_type = headers
                        .get(warp::http::header::CONTENT_TYPE)
                        .map(|value| value.to_str().unwrap_or("?"));
                    let head = Head { method: method.as_str(), path: path.as_str(), content_type };
                    response(counter.answer(head, read(body)).await)
                }
            },
        )
}

/// The body; nothing if it is too large, or breaks off.
async fn read(body: impl Stream<Item = Result<impl Buf, warp::Error>>) -> Option<Vec<u8>> {
    let mut body = pin!(body);
    let mut whole = Vec::new();
    while let Some(piece) = std::future::poll_fn(|context| body.as_mut().poll_next(context)).await {
        let mut piece = piece.ok()?;
        if whole.len() + piece.remaining() > LARGEST_BODY {
            return None;
        }
        while piece.has_remaining() {
            let chunk = piece.chunk();
            let length = chunk.len();
            whole.extend_from_slice(chunk);
            piece.advance(length);
        }
    }
    Some(whole)
}

fn response(answer: Answer) -> warp::http::Response<String> {
    let Answer { status, header, body } = answer;
    let mut builder = warp::http::Response::builder()
        .status(status)
        .header(warp::http::header::CONTENT_TYPE, CONTENT_TYPE);
    if let Some((name, value)) = &header {
        builder = builder.header(*name, value.as_ref());
    }
    builder.body(body.into_owned()).unwrap_or_default()
}
