//! The plugin's doors: bound, served and ended together. warp has the routes of
//! the Unix socket, `unix` its connections, `tcp` the other way in.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Buf;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};
use warp::{Filter, Stream};

use super::{
    Listeners, ServeError, Spi,
    counter::Counter,
    exchange::{Answer, CONTENT_TYPE, Head, LARGEST_BODY},
    socket::Presence,
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
