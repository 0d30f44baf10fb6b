//! JSON-RPC over the daemon's Unix socket. Knows no method.

use std::{
    error::Error,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};

/// The daemon answers within milliseconds; after this it never will.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nobody answers there.
    #[error(
        "no daemon answers at {}: {cause}; --plugins and --name say where it is, as they told it",
        socket.display()
    )]
    NoDaemon { socket: PathBuf, cause: String },
    /// What answers speaks otherwise.
    #[error("what answers at {} is no remoteboot", socket.display())]
    NoAnswer { socket: PathBuf },
    /// The daemon's own words.
    #[error("{0}")]
    Refused(String),
}

/// A caller of one daemon.
pub(super) struct Client {
    socket: PathBuf,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct Answer {
    result: Option<Value>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl Client {
    /// Of the daemon behind this socket; nothing is asked yet.
    pub(super) fn new(socket: &Path) -> reqwest::Result<Self> {
        // reqwest wants a provider of ciphers, though nothing here is enciphered,
        // and nobody is trusted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            .tls_certs_only([])
            .no_proxy()
            .timeout(PATIENCE)
            .build()?;
        Ok(Self { socket: socket.to_owned(), http })
    }

    /// The result of a method.
    pub(super) async fn call(&self, method: &str, params: Value) -> Result<Value, Failure> {
        let body = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
        let request = self.http.post("http://remoteboot/").body(body.to_string());
        let no_daemon = |error: reqwest::Error| Failure::NoDaemon {
            socket: self.socket.clone(),
            cause: root(&error).to_string(),
        };
        let answer = request.send().await.map_err(no_daemon)?.bytes().await.map_err(no_daemon)?;
        match serde_json::from_slice(&answer) {
            Ok(Answer { error: Some(refusal), .. }) => Err(Failure::Refused(refusal.message)),
            Ok(Answer { result: Some(result), .. }) => Ok(result),
            Ok(Answer { .. }) | Err(_) => Err(Failure::NoAnswer { socket: self.socket.clone() }),
        }
    }
}

/// What the system said; what reqwest makes of it speaks of URLs.
fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    error.source().map_or(error, root)
}
