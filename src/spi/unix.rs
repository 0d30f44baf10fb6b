//! Connections on the Unix socket: hyper reads them, warp's routes answer.
//!
//! Not `warp::serve`: its path filters panic on a target without a path
//! (`CONNECT x:1`), which must be refused before they see it.

use std::{convert::Infallible, time::Duration};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use tracing::debug;
use warp::{
    Reply,
    http::{Request, StatusCode},
    reply::Response,
};

/// InfraKit's client keeps idle connections for 10 s and does not repeat a call
/// on one that is gone, so ours must live clearly longer.
const HEAD_TIME: Duration = Duration::from_secs(120);

/// Rest after the system refuses a connection, as when descriptors run out.
const REST: Duration = Duration::from_millis(50);

/// Serves until `stop`; then waits for the calls in flight.
pub(super) async fn serve<Routes, Future>(
    listener: UnixListener,
    routes: Routes,
    stop: CancellationToken,
) where
    Routes: Service<Request<Incoming>, Response = Response, Error = Infallible, Future = Future>
        + Clone
        + Send
        + 'static,
    Future: std::future::Future<Output = Result<Response, Infallible>> + Send + 'static,
{
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let ending = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "no connection");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let routes = routes.clone();
        let answer = service_fn(move |request: Request<Incoming>| {
            let mut routes = routes.clone();
            async move {
                if request.uri().path_and_query().is_none() {
                    let text = "the target has no path\n";
                    return Ok(
                        warp::reply::with_status(text, StatusCode::BAD_REQUEST).into_response()
                    );
                }
                routes.call(request).await
            }
        });
        let connection = ending.watch(server.serve_connection(TokioIo::new(stream), answer));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection");
            }
        });
    }
    drop(listener);
    ending.shutdown().await;
}
