//! One connection: requests in, answers out, files by `sendfile`.
//!
//! Files do not go through user space: at 100 MB and 16 connections that is
//! four times the rate of `warp::fs` for a twentieth of its CPU time.

mod outgoing;

use std::{
    convert::Infallible,
    io,
    net::IpAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant as Deadline, timeout},
};
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use warp::http::{Request, Response, StatusCode, Uri};

use super::{
    alarm::Alarm,
    exchange::{self, Delivery, LastOne, Part, Shown},
    paces::Paced,
    places::{GRACE, Place},
    scripts::{self, Script},
    speech::Speech,
};
use crate::{
    events::Bus,
    http::{
        Http, Refusal, Settings,
        head::{Head, Length},
        reply::Body,
        request::body_to_read,
    },
};

/// How long, and how much of, what a refused client still sends is read: a
/// connection closed with bytes unread is reset, and the reason with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 << 10;

/// Room for a whole request of boot firmware, so that one call receives it.
const ROOM: usize = 1 << 10;

/// Answers requests until the client has no more, is refused, or is too slow.
pub(super) async fn converse<Routes>(
    (stream, place): (TcpStream, &Place),
    (client, settings, events): (IpAddr, Settings, Bus),
    (http, mut routes): (Arc<Http>, Routes),
    stop: CancellationToken,
) where
    Routes: Service<
            Request<Empty<Bytes>>,
            Response = warp::reply::Response,
            Error = Infallible,
            Future: Send,
        >,
{
    let mut connection = Connection::new(stream, client, settings);
    let mut stopped = pin!(stop.cancelled());
    loop {
        let received = tokio::select! {
            biased;
            received = connection.request(place) => received,
            () = &mut stopped => return,
        };
        let begun = Instant::now();
        if let Ok(Some((head, _))) = &received
            && let Some(script) = scripts::script(&http, head, client).await
        {
            match connection.send_script(&script, Speech::of(head), begun).await {
                Ok(()) if !head.keep_alive || stop.is_cancelled() => {
                    return connection.finish().await;
                }
                Ok(()) => continue,
                Err(error) => {
                    tracing::debug!(%client, %error, "the transfer ended early");
                    return;
                }
            }
        }
        let (response, speech) = match received {
            Ok(None) | Err(ReceiveError::Gone) => return,
            Ok(Some((head, body))) => {
                let speech = Speech::of(&head);
                (respond(&mut routes, (head, body), client).await, speech)
            }
            Err(ReceiveError::Refused(refusal)) => {
                tracing::debug!(%client, %refusal);
                exchange::tell_refused(&events, client, "a request", &refusal);
                (exchange::refused(&refusal), Speech::LAST)
            }
        };
        match connection.send(&response, speech, begun).await {
            Ok(ending) if ending || stop.is_cancelled() => return connection.finish().await,
            Ok(_) => connection.served = true,
            Err(error) => {
                tracing::debug!(%client, %error, "the transfer ended early");
                return;
            }
        }
    }
}

/// Says that there are too many connections, and closes.
pub(super) async fn turn_away(
    stream: TcpStream,
    (client, settings, events): (IpAddr, Settings, Bus),
) {
    exchange::tell_refused(&events, client, "a connection", &Refusal::Crowded);
    let mut connection = Connection::new(stream, client, settings);
    let response = exchange::refused(&Refusal::Crowded);
    if connection.send(&response, Speech::LAST, Instant::now()).await.is_ok() {
        connection.finish().await;
    }
}

async fn respond<Routes>(
    routes: &mut Routes,
    received: (Head, Vec<u8>),
    client: IpAddr,
) -> Response<Bytes>
where
    Routes: Service<
            Request<Empty<Bytes>>,
            Response = warp::reply::Response,
            Error = Infallible,
            Future: Send,
        >,
{
    let Some(request) = exchange::request(received, client) else {
        return exchange::refused(&Refusal::Malformed("unreadable target or header".to_owned()));
    };
    let Ok(answered) = routes.call(request).await;
    let (parts, body) = answered.into_parts();
    // The bodies are made of bytes in memory, which cannot fail.
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Response::from_parts(parts, body)
}

enum ReceiveError {
    /// The client hung up, or took too long: nothing is to be said.
    Gone,
    Refused(Refusal),
}

struct Connection {
    stream: TcpStream,
    client: IpAddr,
    settings: Settings,
    /// What was received and is not yet read.
    received: Vec<u8>,
    /// Whether a request was answered: the next one may take its time to come.
    served: bool,
    alarm: Alarm,
}

impl Connection {
    fn new(stream: TcpStream, client: IpAddr, settings: Settings) -> Self {
        // With it off, a head would wait for the acknowledgement of the last
        // body: 40 ms for each file.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%client, %error, "no TCP_NODELAY");
        }
        let alarm = Alarm::new(settings.head_time);
        Self { stream, client, settings, received: Vec::new(), served: false, alarm }
    }

    /// The next head and its body; nothing if no other request has begun.
    async fn request(&mut self, place: &Place) -> Result<Option<(Head, Vec<u8>)>, ReceiveError> {
        let Some(head) = self.head(place).await? else { return Ok(None) };
        let body = self.body(&head).await?;
        Ok(Some((head, body)))
    }

    /// The next head; nothing if no other request has begun, in time or before somebody
    /// who waits wants the place.
    async fn head(&mut self, place: &Place) -> Result<Option<Head>, ReceiveError> {
        let Settings { head_time, idle_time, .. } = self.settings;
        let mut idle = self.served && self.received.is_empty();
        let mut deadline = Deadline::now() + if idle { idle_time } else { head_time };
        loop {
            match Head::read(&self.received) {
                Ok(Some((head, length))) => {
                    self.received.drain(..length);
                    return Ok(Some(head));
                }
                Ok(None) => {}
                Err(refusal) => return Err(ReceiveError::Refused(refusal)),
            }
            let received =
                if idle { self.idle(deadline, place).await } else { self.receive(deadline).await };
            match received {
                Ok(0) if self.received.is_empty() => return Ok(None),
                Ok(0) | Err(_) => return Err(ReceiveError::Gone),
                Ok(_) => {}
            }
            if idle {
                idle = false;
                deadline = Deadline::now() + head_time;
            }
        }
    }

    /// The beginning of the next request; nothing if somebody who waits wants the place.
    async fn idle(&mut self, deadline: Deadline, place: &Place) -> io::Result<usize> {
        // Who asks again at once does not come to be asked for its place: that would take
        // locks which all connections share.
        let grace = deadline.min(Deadline::now() + GRACE);
        match self.receive(grace).await {
            Err(error) if error.kind() == io::ErrorKind::TimedOut && grace < deadline => {}
            received => return received,
        }
        tokio::select! {
            biased;
            received = self.receive(deadline) => received,
            () = place.is_wanted() => Ok(0),
        }
    }

    /// More of what the client sends, until its time is over.
    async fn receive(&mut self, deadline: Deadline) -> io::Result<usize> {
        self.received.reserve(ROOM);
        self.alarm.limit(deadline, self.stream.read_buf(&mut self.received)).await
    }

    /// The body behind this head, which may take as long as a head.
    async fn body(&mut self, head: &Head) -> Result<Vec<u8>, ReceiveError> {
        if head.body == Length::Bytes(0) {
            return Ok(Vec::new());
        }
        // What is no target is no report's, either.
        let target = head.target.parse::<Uri>().unwrap_or_default();
        let length = body_to_read(head, target.path()).map_err(ReceiveError::Refused)?;
        if head.expects_continue() && self.received.len() < length {
            let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
            self.send_bytes(go_on).await.map_err(|_| ReceiveError::Gone)?;
        }
        let deadline = Deadline::now() + self.settings.head_time;
        while self.received.len() < length {
            if !matches!(self.receive(deadline).await, Ok(1..)) {
                return Err(ReceiveError::Gone);
            }
        }
        Ok(self.received.drain(..length).collect())
    }

    /// Sends a script and writes its line into the log.
    async fn send_script(
        &mut self,
        Script { reply, wanted }: &Script,
        speech: Speech,
        begun: Instant,
    ) -> io::Result<()> {
        let status =
            StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = reply.headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        let mut message = speech.head(status, headers, !speech.keep_alive);
        let body = match &reply.body {
            Body::Bytes(bytes) if speech.with_body => bytes.as_ref(),
            Body::Bytes(_) | Body::Part { .. } => &[],
        };
        message.extend_from_slice(body);
        let sent = self.send_bytes(&message).await;
        tracing::info!(
            client = %self.client,
            path = wanted.to_string(),
            status = status.as_u16(),
            bytes = if sent.is_ok() { body.len() } else { 0 },
            complete = sent.is_ok(),
            seconds = begun.elapsed().as_secs_f64(),
            "http"
        );
        self.served = true;
        sent
    }

    /// Sends the answer and writes its line into the log; says whether it was the last.
    async fn send(
        &mut self,
        response: &Response<Bytes>,
        speech: Speech,
        begun: Instant,
    ) -> io::Result<bool> {
        let ending = response.extensions().get::<LastOne>().is_some() || !speech.keep_alive;
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| (name.as_str(), value.as_bytes()));
        let mut message = speech.head(response.status(), headers, ending);
        let part = response.extensions().get::<Part>().filter(|_| speech.with_body);
        if speech.with_body {
            message.extend_from_slice(response.body());
        }
        let mut bytes = 0;
        let sent = match (self.send_bytes(&message).await, part) {
            (Ok(()), Some(part)) => self.send_part(part, &mut bytes).await,
            (Ok(()), None) => {
                bytes = if speech.with_body { response.body().len() as u64 } else { 0 };
                Ok(())
            }
            (Err(error), _) => Err(error),
        };
        let path = response.extensions().get::<Shown>().map_or("-", |shown| shown.0.as_str());
        let (client, status) = (self.client, response.status().as_u16());
        let (complete, seconds) = (sent.is_ok(), begun.elapsed().as_secs_f64());
        tracing::info!(%client, path, status, bytes, complete, seconds, "http");
        if let Some(delivery) = response.extensions().get::<Delivery>().filter(|_| speech.with_body)
        {
            delivery.tell(bytes, complete);
        }
        sent.map(|()| ending)
    }

    /// Closes so that the client can read the last answer to its end.
    async fn finish(mut self) {
        let mut read = 0;
        let reading = async {
            self.stream.shutdown().await?;
            while read < LINGER_BYTES {
                self.received.clear();
                match self.stream.read_buf(&mut self.received).await? {
                    0 => break,
                    count => read += count,
                }
            }
            io::Result::Ok(())
        };
        if let Ok(Err(error)) = timeout(LINGER, reading).await {
            tracing::trace!(client = %self.client, %error, "closed by the client");
        }
    }
}
