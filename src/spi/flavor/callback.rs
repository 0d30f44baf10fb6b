//! The call that asks a machine to stop its work: one POST to the machine itself.
//!
//! It goes to the address that the machine reported from and to no other: no name
//! is looked up, no proxy asked, no redirection followed.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::model::Callback;

/// The longest head of an answer that is read, in bytes; its body is not.
const LONGEST_HEAD: usize = 16 << 10;

/// Why a machine was not asked, or did not say that it has stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// It cannot be reached.
    #[error("it cannot be reached: {0}")]
    Unreachable(#[source] std::io::Error),
    /// The path is none that HTTP has.
    #[error("the path cannot be asked for: {0}")]
    Path(#[source] hyper::http::Error),
    /// It speaks something else, or breaks off.
    #[error("it does not answer by HTTP: {0}")]
    Http(#[source] hyper::Error),
    /// It answers something else than success.
    #[error("it answers {0}")]
    Refused(StatusCode),
}

/// Asks the machine, and returns when it has said that it stopped. There is no
/// limit of time here: whoever has waited long enough drops this.
pub(super) async fn call(callback: &Callback) -> Result<(), CallError> {
    let place = SocketAddr::from((callback.address, callback.port));
    let request = Request::post(callback.path.as_str())
        .header(header::HOST, place.to_string())
        .header(header::CONNECTION, "close")
        .header(header::CONTENT_LENGTH, "0")
        .body(Empty::<Bytes>::new())
        .map_err(CallError::Path)?;
    let stream = TcpStream::connect(place).await.map_err(CallError::Unreachable)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(LONGEST_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(CallError::Http)?;
    // What ends it shows in the answer.
    let driven = async {
        let _ = connection.await;
        std::future::pending::<std::convert::Infallible>().await
    };
    let answer = tokio::select! {
        answer = sender.send_request(request) => answer.map_err(CallError::Http)?,
        never = driven => match never {},
    };
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(CallError::Refused(status)) }
}
