//! A small application behind nginx, as one would write it instead of the daemon: a
//! script for the MAC in the URL, made of a template in memory. hyper on a Unix socket.

use std::{convert::Infallible, path::Path, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

/// Stands for the MAC in the template.
pub(crate) const MAC: &str = "@MAC@";

/// Serves for ever.
pub(crate) fn serve(socket: &Path, template: &Path) {
    let template = std::fs::read_to_string(template).expect("the template can be read");
    let template: Arc<str> = template.into();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = tokio::net::UnixListener::bind(socket).expect("the socket can be made");
        loop {
            let (stream, _) = listener.accept().await.expect("a listener");
            let template = Arc::clone(&template);
            tokio::spawn(async move {
                let answer = service_fn(|request| {
                    let answer = answer(&template, &request);
                    async { Ok::<_, Infallible>(answer) }
                });
                // nginx closes what it has no more use for.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    });
}

fn answer(template: &str, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mac =
        request.uri().path().strip_prefix("/ipxe/").and_then(|path| path.strip_suffix(".ipxe"));
    let Some(mac) = mac.filter(|mac| mac.len() == 17) else {
        let mut response = Response::new(Full::default());
        *response.status_mut() = hyper::StatusCode::NOT_FOUND;
        return response;
    };
    let mut response = Response::new(Full::from(template.replace(MAC, mac)));
    let plain = hyper::header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, plain);
    response
}
