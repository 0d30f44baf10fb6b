//! Where requests of both sockets are answered: each call is a task of its own,
//! with its time and its random bits.

use std::{sync::Arc, time::SystemTime};

use tracing::{debug, error};

use super::{
    Spi,
    envelope::Envelope,
    exchange::{Answer, Head, Route, route},
    methods::Methods,
    provision::Occasion,
};
use crate::model::{Secrets, Timestamp, Token};

/// Where requests of both sockets are answered.
pub(super) struct Counter {
    methods: Methods,
}

impl Counter {
    pub(super) fn new(spi: &Spi) -> Self {
        Self { methods: Methods::new(spi) }
    }

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
    let token = || {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits)?;
        Ok(Token(u128::from_ne_bytes(bits)))
    };
    let secrets = Secrets { files: token()?, init: token()?, report: token()? };
    Ok(Occasion { now: Timestamp::from(SystemTime::now()), secrets })
}
