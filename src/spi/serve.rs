//! The plugin's doors: bound, served and ended together. warp has the routes of
//! the Unix socket, `unix` its connections, `tcp` the other way in.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};
use warp::{Filter, Reply, Stream};

use super::{
    Listeners, ServeError, Spi,
    counter::{Counter, Response},
    exchange::{Answer, CONTENT_TYPE, Head, LARGEST_BODY, Socket},
    socket::Presence,
    stream::{Chunks, HEADERS},
    tcp::Running,
    unix,
};

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
        let counter = Arc::new(Counter::new(spi));
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
        let routes = warp::service(filter(Arc::clone(&counter)));
        let unix = unix::serve(unix, routes, stop.clone());
        let ended = async {
            stop.cancelled().await;
            counter.close();
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

/// What warp does with a request on the Unix socket.
fn filter(
    counter: Arc<Counter>,
) -> impl Filter<Extract = (impl warp::Reply,), Error = warp::Rejection> + Clone + Send + Sync + 'static
{
    warp::method()
        .and(warp::path::full())
        .and(warp::query::raw().map(Some).or(warp::any().map(|| None)).unify())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(
            move |method: warp::http::Method,
                  path: warp::path::FullPath,
                  query: Option<String>,
                  headers: warp::http::HeaderMap,
                  body| {
                let counter = Arc::clone(&counter);
                async move {
                    let content_type = headers
                        .get(warp::http::header::CONTENT_TYPE)
                        .map(|value| value.to_str().unwrap_or("?"));
                    let (method, path) = (method.as_str(), path.as_str());
                    let query = query.as_deref();
                    let head = Head { method, path, query, content_type, socket: Socket::Unix };
                    match counter.respond(head, read(body)).await {
                        Response::Whole(answer) => response(answer).into_response(),
                        Response::Events(chunks) => events(chunks),
                    }
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

impl Stream for Chunks {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Chunks::poll_next(&mut self, context).map(|chunk| chunk.map(Ok))
    }
}

fn events(chunks: Chunks) -> warp::reply::Response {
    let mut response = warp::reply::stream(chunks).into_response();
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, warp::http::HeaderValue::from_static(value));
    }
    response
}
