//! All transfers on the server's own port, in one task.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::super::answer::Answer;
use super::super::desk::{Desk, Ended, Opened, Said, Turn};
use super::super::reply::Reply;
use super::super::report::{Refusals, Tell, report};
use super::super::request::{Malformed, Packet, Request, parse};
use super::super::transfer::Limits;
use super::send::{USUAL_MTU, Windows, path_mtu, send};
use super::{LARGEST_DATAGRAM, REST};

/// How many packets are taken before the clock is looked at: more than the socket has
/// room for. A server with too much to do is late, and what a client has said in time
/// is still to be read: it is neither sent anything twice for that, nor given up.
const AT_ONCE: usize = 1024;

/// How long packets for one client may wait for room in the socket; then they are
/// as good as lost, and others have their turn.
const LONGEST_WAIT_FOR_ROOM: Duration = Duration::from_millis(50);

/// Room for what has left and is not on the wire yet, octets: one socket for all.
const SEND_BUFFER: usize = 4 << 20;

/// The one port with its transfers.
pub(super) struct SinglePort<A> {
    socket: UdpSocket,
    /// The server's own address with port 0.
    local: SocketAddr,
    limits: Limits,
    answer: A,
    desk: Desk,
    refusals: Refusals,
    tell: Tell,
    /// Clients whose windows leave block by block.
    apart: HashSet<SocketAddr>,
}

impl<A> SinglePort<A>
where
    A: Fn(&Request, SocketAddr) -> Answer,
{
    pub(super) fn new(
        (socket, local): (UdpSocket, SocketAddr),
        limits: Limits,
        answer: A,
        tell: Tell,
    ) -> Self {
        if sockopt::set_socket_send_buffer_size_force(&socket, SEND_BUFFER).is_err() {
            let _usual = sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER);
        }
        let desk = Desk::new(&limits);
        let (refusals, apart) = (Refusals::new(Arc::clone(&tell)), HashSet::new());
        Self { socket, local, limits, answer, desk, refusals, tell, apart }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut datagram = vec![0; LARGEST_DATAGRAM];
        let mut clock = pin!(tokio::time::sleep(Duration::ZERO));
        let mut set_to = None;
        loop {
            let alarm = self.desk.alarm();
            if alarm != set_to
                && let Some(alarm) = alarm
            {
                clock.as_mut().reset(alarm.into());
            }
            set_to = alarm;
            let ready = tokio::select! {
                () = stop.cancelled() => break,
                () = &mut clock, if alarm.is_some() => {
                    set_to = None;
                    Ok(())
                }
                ready = self.socket.readable() => ready,
            };
            let received = match ready {
                Ok(()) => self.receive(&mut datagram).await,
                Err(error) => Err(error),
            };
            if let Err(error) = received {
                debug!(%error, "tftp port");
                tokio::time::sleep(REST).await;
            }
            while let Some((client, turn)) = self.desk.due(Instant::now()) {
                self.carry_out(client, turn).await;
            }
            while let Some((client, request)) = self.desk.waiting(Instant::now()) {
                self.hear(client, Ok(Packet::Read(request))).await;
            }
        }
        for (client, ended) in self.desk.stop(Instant::now()) {
            self.ended(client, &ended);
        }
    }

    fn ended(&self, client: SocketAddr, ended: &Ended) {
        report(client, (&ended.transfer, &ended.outcome), ended.took, &self.tell);
    }

    /// Takes what has come, for as long as the clock can wait.
    async fn receive(&mut self, datagram: &mut [u8]) -> io::Result<()> {
        for _each in 0..AT_ONCE {
            let (length, client) = match self.socket.try_recv_from(datagram) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            self.hear(client, parse(&datagram[..length])).await;
        }
        Ok(())
    }

    async fn hear(&mut self, client: SocketAddr, heard: Result<Packet, Malformed>) {
        let Self { desk, answer, limits, local, .. } = self;
        let open = |request: &Request| opened(answer(request, client), limits, *local, client);
        let turn = desk.hear(client, heard, Instant::now(), open);
        self.carry_out(client, turn).await;
    }

    async fn carry_out(&mut self, client: SocketAddr, turn: Turn) {
        if let Some(ended) = turn.ended {
            self.ended(client, &ended);
            self.apart.remove(&client);
        }
        let replies = match turn.said {
            Said::Packets(replies) => replies,
            Said::Refusal(file, reply) => {
                self.refusals.refused(client, file.as_ref(), &reply);
                vec![reply]
            }
            Said::Nothing => return,
            Said::Silence(why) => {
                self.refusals.unanswered(client, &why);
                return;
            }
            Said::PutOff(file) => {
                self.refusals.put_off(client, &file, Instant::now());
                return;
            }
            Said::LeftLying(file, why) => {
                self.refusals.left_lying(client, (&file, &why), Instant::now());
                return;
            }
        };
        let is_apart = self.apart.contains(&client);
        let mut windows = if is_apart { Windows::Apart } else { Windows::Together };
        let sent = send(&self.socket, Some(client), &replies, &mut windows);
        match tokio::time::timeout(LONGEST_WAIT_FOR_ROOM, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%client, %error, "tftp packet not sent"),
            Err(_late) => debug!(%client, "tftp packet not sent: no room"),
        }
        if windows == Windows::Apart && !is_apart && replies.len() > 1 {
            self.apart.insert(client);
        }
    }
}

/// What an answer is worth on the way to this client.
fn opened(answer: Answer, limits: &Limits, local: SocketAddr, client: SocketAddr) -> Opened {
    match answer {
        Answer::Content(content) => Ok((content, limits.on_path(client.ip(), mtu(local, client)))),
        Answer::Refuse { code, message } => Err(Reply::Error { code, message }),
    }
}

/// The MTU on the way to a client: only a connected socket is told.
fn mtu(local: SocketAddr, client: SocketAddr) -> u32 {
    let probe =
        std::net::UdpSocket::bind(local).and_then(|socket| socket.connect(client).map(|()| socket));
    probe.map_or(USUAL_MTU, |socket| path_mtu(&socket))
}
