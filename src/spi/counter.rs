//! Where requests of both sockets are answered: each call is a task of its own,
//! with its time and its random bits.

use std::{sync::Arc, time::SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::{
    Spi,
    envelope::Envelope,
    exchange::{Answer, Head, Route, Socket, route},
    methods::Methods,
    provision::Occasion,
    stream::{Chunks, pump},
};
use crate::{
    events::{Door, Refused, Topics},
    model::{Secrets, Timestamp, Token},
};

/// Where requests of both sockets are answered.
pub(super) struct Counter {
    methods: Methods,
    spi: Spi,
    /// Ends the streams of events.
    closing: CancellationToken,
}

/// What is sent back.
pub(super) enum Response {
    /// This.
    Whole(Answer),
    /// Events, until somebody hangs up.
    Events(Chunks),
}

impl Counter {
    pub(super) fn new(spi: &Spi) -> Self {
        let closing = CancellationToken::new();
        Self { methods: Methods::new(spi), spi: spi.clone(), closing }
    }

    /// Ends all streams of events, now and later.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// What is sent for a request whose body is still to be read.
    pub(super) async fn respond(
        self: &Arc<Self>,
        head: Head<'_>,
        body: impl Future<Output = Option<Vec<u8>>>,
    ) -> Response {
        Response::Whole(match route(head) {
            Route::Events(topics) => return Response::Events(self.events(topics)),
            Route::Answer(answer) => {
                if answer.status >= 400 {
                    self.turned_away(head.socket, &answer);
                }
                answer
            }
            Route::Call => self.call(head.socket, body).await,
        })
    }

    /// Tells that a request was refused before it was a call.
    pub(super) fn turned_away(&self, socket: Socket, answer: &Answer) {
        self.spi.store().events().refused(|| Refused {
            door: Door::Spi,
            who: socket.name().to_owned(),
            what: "a request".to_owned(),
            why: format!("{}: {}", answer.status, answer.body.trim_end()),
        });
    }

    fn events(&self, topics: Topics) -> Chunks {
        debug!(?topics, "a listener");
        pump(self.spi.store().events().subscribe(topics), self.closing.clone())
    }

    /// The answer to a call.
    ///
    /// A call is done to its end even if its caller hangs up: InfraKit's client
    /// does so after 15 seconds, and would find half a Provision.
    async fn call(
        self: &Arc<Self>,
        socket: Socket,
        body: impl Future<Output = Option<Vec<u8>>>,
    ) -> Answer {
        let Some(body) = body.await else {
            let answer = Answer::too_large();
            self.turned_away(socket, &answer);
            return answer;
        };
        let call = match self.methods.open(&body) {
            Envelope::Answer(answer) => {
                self.spi.store().events().refused(|| Refused {
                    door: Door::Spi,
                    who: socket.name().to_owned(),
                    what: "a call".to_owned(),
                    why: message(&answer),
                });
                return Answer::ok(answer);
            }
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
            tokio::spawn(async move { counter.methods.answer(&call, (occasion, socket)).await })
        };
        let answer = work.await.unwrap_or_else(|panic| {
            error!(method = call.method, %panic, "a call ended by a panic");
            call.broken()
        });
        debug!(method = call.method, bytes = answer.len(), "answered");
        Answer::ok(answer)
    }
}

/// The message of an answer with an error; one without has no text at all.
fn message(answer: &str) -> String {
    let answer: Option<serde_json::Value> = serde_json::from_str(answer).ok();
    let message = answer.as_ref().and_then(|answer| answer["error"]["message"].as_str());
    message.unwrap_or("it is no call of JSON-RPC 2.0").to_owned()
}

fn occasion() -> Result<Occasion, getrandom::Error> {
    let token = || {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits)?;
        Ok(Token(u128::from_ne_bytes(bits)))
    };
    let secrets = Secrets { files: token()?, init: token()?, report: token()? };
    Ok(Occasion { now: Timestamp::from(SystemTime::now()), secrets })
}
