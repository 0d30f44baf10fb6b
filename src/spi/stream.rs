//! Events as server-sent events: `data: {..}` and an empty line for each, and now
//! and then a comment, so that a connection that has gone is noticed.
//!
//! A listener who does not read holds up nobody: what is sent next is made when
//! there is room for it, and the bus throws away what waits too long.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::events::{Event, Subscription};

/// As InfraKit's own server has them, but for `Access-Control-Allow-Origin: *`:
/// what happens here is nothing for any page that a browser shows.
pub(super) const HEADERS: [(&str, &str); 2] =
    [("content-type", "text/event-stream"), ("cache-control", "no-cache")];

/// Between two comments.
const PING_EVERY: Duration = Duration::from_secs(15);

/// A comment, which InfraKit's client passes over.
const PING: Bytes = Bytes::from_static(b": ping\n\n");

/// Chunks that may wait for a connection, besides what the system holds for it.
const WAITING: usize = 16;

/// What a connection sends, piece by piece.
pub(super) struct Chunks(mpsc::Receiver<Bytes>);

impl Chunks {
    /// The next piece; nothing at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }

    /// The same for who polls.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_recv(context)
    }
}

/// What the listener is to be sent, until `closing` or until it hangs up.
pub(super) fn pump(subscription: Subscription, closing: CancellationToken) -> Chunks {
    pump_with(subscription, closing, PING_EVERY)
}

fn pump_with(
    subscription: Subscription,
    closing: CancellationToken,
    ping_every: Duration,
) -> Chunks {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = closing.cancelled() => {}
            () = sender.closed() => debug!("a listener has gone"),
            () = send_all(subscription, &sender, ping_every) => {}
        }
    });
    Chunks(receiver)
}

async fn send_all(
    mut subscription: Subscription,
    sender: &mpsc::Sender<Bytes>,
    ping_every: Duration,
) {
    let mut pings = interval_at(Instant::now() + ping_every, ping_every);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // A place first: while there is none, events wait in the bus alone, which
        // counts what it throws away.
        let Ok(place) = sender.reserve().await else { return };
        tokio::select! {
            _ = pings.tick() => place.send(PING),
            event = subscription.next() => match event {
                Some(event) => place.send(written(&event)),
                None => return,
            },
        }
    }
}

/// The event in one line, which JSON's texts cannot break.
fn written(event: &Event) -> Bytes {
    match serde_json::to_string(event) {
        Ok(json) => Bytes::from(format!("data: {json}\n\n")),
        Err(error) => {
            tracing::error!(topic = event.topic, %error, "an event cannot be written");
            PING
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::events::{Bus, Door, Refused, Topics};

    fn refused(what: &str) -> Refused {
        let (who, why) = ("10.0.0.9".to_owned(), "it is \"not\"\nallowed".to_owned());
        Refused { door: Door::Http, who, what: what.to_owned(), why }
    }

    #[tokio::test]
    async fn an_event_is_one_line_as_infrakit_reads_it() {
        let bus = Bus::default();
        let mut chunks = pump(bus.subscribe(Topics::All), CancellationToken::new());
        bus.refused(|| refused("/x\r\ndata: {}"));
        let chunk = chunks.next().await.expect("an event");
        let text = std::str::from_utf8(&chunk).expect("text");
        let line = text.strip_suffix("\n\n").and_then(|text| text.strip_prefix("data: "));
        let line = line.expect("a line of data");
        assert!(!line.contains(['\n', '\r']), "{line}");
        let event: Value = serde_json::from_str(line).expect("JSON");
        let names: Vec<&String> = event.as_object().expect("an object").keys().collect();
        assert_eq!(names, ["Data", "ID", "Message", "Timestamp", "Topic", "Type"]);
        assert_eq!(event["Topic"], "refusal/http/10.0.0.9");
        assert_eq!((&event["Type"], &event["ID"]), (&json!("refusal"), &json!("10.0.0.9")));
        assert_eq!(event["Data"]["what"], "/x\r\ndata: {}");
        let moment = event["Timestamp"].as_str().expect("text");
        assert!(
            moment.starts_with("20") && moment.ends_with('Z') && moment.len() == 24,
            "{moment}"
        );
    }

    #[tokio::test]
    async fn a_silent_stream_has_a_comment_now_and_then() {
        let every = Duration::from_millis(20);
        let bus = Bus::default();
        let begun = Instant::now();
        let subscription = bus.subscribe(Topics::All);
        let mut chunks = pump_with(subscription, CancellationToken::new(), every);
        for count in 1..4 {
            assert_eq!(chunks.next().await.as_deref(), Some(b": ping\n\n".as_slice()));
            assert!(begun.elapsed() >= every * count);
        }
    }

    #[tokio::test]
    async fn a_stream_ends_when_the_plugin_does_also_if_nobody_reads_it() {
        let bus = Bus::default();
        let closing = CancellationToken::new();
        let mut chunks = pump(bus.subscribe(Topics::All), closing.clone());
        let mut read = pump(bus.subscribe(Topics::All), closing.clone());
        for number in 0..50 {
            bus.refused(|| refused(&number.to_string()));
        }
        // Until the one that nobody reads is full.
        for _ in 0..50 {
            assert!(read.next().await.is_some());
        }
        closing.cancel();
        let mut count = 0;
        while chunks.next().await.is_some() {
            count += 1;
        }
        assert_eq!((count, read.next().await), (WAITING, None));
    }

    #[tokio::test]
    async fn who_hangs_up_listens_no_more() {
        let bus = Bus::default();
        drop(pump(bus.subscribe(Topics::All), CancellationToken::new()));
        while bus.is_heard() {
            tokio::task::yield_now().await;
        }
    }
}
