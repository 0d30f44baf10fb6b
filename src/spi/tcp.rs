//! The same methods on TCP, by `jsonrpc_http_server`: its middleware hands each
//! request to the same envelope and dispatcher as the Unix socket's.

use std::{io, net::SocketAddr, sync::Arc};

use jsonrpc_core::MetaIoHandler;
use jsonrpc_http_server::{
    RequestMiddlewareAction, Server, ServerBuilder,
    hyper::{self, Body, body::HttpBody, header},
};

use super::{
    admission::{Headers, Secret, admit},
    counter::{Counter, Response},
    exchange::{Answer, CONTENT_TYPE, Head, LARGEST_BODY, Socket},
    stream::{Chunks, HEADERS},
};

/// Where to listen on TCP, and what callers must know.
#[derive(Debug, Clone)]
pub struct TcpDoor {
    /// The address; port 0 for any that is free.
    pub address: SocketAddr,
    /// Required where others than this host's own processes can connect.
    pub token: Option<Secret>,
}

/// Why TCP cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TcpError {
    /// Anybody could provision and destroy.
    #[error("{0} can be reached from other hosts, so a token is required to listen on it")]
    Open(SocketAddr),
    /// The system refuses.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// A server that runs until it is closed.
pub(super) struct Running {
    address: SocketAddr,
    token: Option<Secret>,
    server: Option<Server>,
}

impl Running {
    /// Begins to serve.
    pub(super) async fn start(counter: Arc<Counter>, door: TcpDoor) -> Result<Self, TcpError> {
        let TcpDoor { address, token } = door;
        if !address.ip().is_loopback() && token.is_none() {
            return Err(TcpError::Open(address));
        }
        let required = token.clone();
        let builder = ServerBuilder::new(MetaIoHandler::<()>::default())
            .event_loop_executor(tokio::runtime::Handle::current())
            .request_middleware(move |request: hyper::Request<Body>| {
                let (counter, token) = (Arc::clone(&counter), required.clone());
                let response = async move {
                    Ok(match respond(&counter, token.as_ref(), request).await {
                        Response::Whole(answer) => response(answer),
                        Response::Events(chunks) => events(chunks),
                    })
                };
                // Hosts are looked at in `admit`, since any literal address of
                // ours is right.
                RequestMiddlewareAction::Respond {
                    should_validate_hosts: false,
                    response: Box::pin(response),
                }
            });
        // It waits for the socket to be bound by our own runtime.
        let started = tokio::task::spawn_blocking(move || builder.start_http(&address)).await;
        let listen = |source| TcpError::Listen { address, source };
        match started {
            Ok(Ok(server)) => Ok(Self { address: *server.address(), token, server: Some(server) }),
            Ok(Err(source)) => Err(listen(source)),
            Err(_) => Err(listen(io::Error::other("the starting thread has ended"))),
        }
    }

    /// Under which URL it is found by who may read it.
    pub(super) fn url(&self) -> String {
        let path = self.token.as_ref().map(Secret::path).unwrap_or_default();
        format!("http://{}{path}", self.address)
    }

    /// Ends it when the calls in flight have been answered.
    pub(super) async fn close(mut self) {
        let (done, ended) = tokio::sync::oneshot::channel();
        end(self.server.take(), move || {
            // Nobody waits any more if the daemon has given up on it.
            let _ = done.send(());
        });
        if ended.await.is_err() {
            tracing::error!("the TCP server could not be ended");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(self.server.take(), || ());
    }
}

/// Dropping the server waits for its last connection, so it has a thread of its
/// own for that: none of the runtime's, which would have to wait for it, too.
fn end(server: Option<Server>, then: impl FnOnce() + Send + 'static) {
    let Some(server) = server else { return then() };
    let ending = move || {
        drop(server);
        then();
    };
    if let Err(error) = std::thread::Builder::new().name("tcp-end".to_owned()).spawn(ending) {
        tracing::error!(%error, "no thread to end the TCP server");
    }
}

async fn respond(
    counter: &Arc<Counter>,
    token: Option<&Secret>,
    request: hyper::Request<Body>,
) -> Response {
    let (head, body) = request.into_parts();
    let text = |name| {
        head.headers.get(name).map(|value: &header::HeaderValue| {
            // What is no text is no header that we know.
            value.to_str().unwrap_or("?")
        })
    };
    let headers = Headers {
        host: text(header::HOST),
        origin: text(header::ORIGIN),
        authorization: text(header::AUTHORIZATION),
    };
    let path = match admit(headers, head.uri.path(), token) {
        Ok(path) => path,
        Err(answer) => {
            counter.turned_away(Socket::Tcp, &answer);
            return Response::Whole(answer);
        }
    };
    let (method, query) = (head.method.as_str(), head.uri.query());
    let content_type = text(header::CONTENT_TYPE);
    let head = Head { method, path, query, content_type, socket: Socket::Tcp };
    counter.respond(head, read(body)).await
}

/// The body; nothing if it is too large, or breaks off.
async fn read(mut body: Body) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        if whole.len() + piece.len() > LARGEST_BODY {
            return None;
        }
        whole.extend_from_slice(&piece);
    }
    Some(whole)
}

fn response(answer: Answer) -> hyper::Response<Body> {
    let Answer { status, header, body } = answer;
    let mut builder =
        hyper::Response::builder().status(status).header(header::CONTENT_TYPE, CONTENT_TYPE);
    if let Some((name, value)) = &header {
        builder = builder.header(*name, value.as_ref());
    }
    builder.body(Body::from(body)).unwrap_or_else(|_| hyper::Response::new(Body::empty()))
}

/// The chunks by a task of their own, which ends when either side does.
fn events(mut chunks: Chunks) -> hyper::Response<Body> {
    let (mut sender, body) = Body::channel();
    tokio::spawn(async move {
        while let Some(chunk) = chunks.next().await {
            if sender.send_data(chunk).await.is_err() {
                break;
            }
        }
    });
    let mut response = hyper::Response::new(body);
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}
