//! How packets leave: each by itself, or the blocks of a window together, in one
//! call that the kernel cuts up (UDP_SEGMENT). And how large a packet may be.
//!
//! It must not know transfers.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::IpMtu;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, getsockopt, sendmsg};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, ipv6_mtu, set_ip_mtu_discover};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::super::reply::{Reply, data_header};

/// How many blocks the kernel cuts one call into, at most (UDP_MAX_SEGMENTS).
const MOST_SEGMENTS: usize = 64;

/// Octets of one call, at most: what an IPv4 packet holds beside its headers.
const LARGEST_CALL: usize = 65_507;

/// What holds for paths whose MTU cannot be asked for: Ethernet's.
pub(super) const USUAL_MTU: u32 = 1500;

/// The MTU of the path that a connected socket has.
pub(super) fn path_mtu(socket: &impl AsFd) -> u32 {
    let over_ipv4 = getsockopt(&socket.as_fd(), IpMtu).ok();
    let over_ipv4 = over_ipv4.and_then(|mtu| u32::try_from(mtu).ok());
    over_ipv4.or_else(|| ipv6_mtu(socket).ok()).unwrap_or(USUAL_MTU)
}

/// Lets the kernel and routers cut up what we send. A block fits into the path that is
/// known, unless it may need fragments; if the path has a narrower place that says
/// nothing, a block that cannot be cut up would be lost however often it is sent.
/// Over IPv6 the kernel does so by itself, and routers never do (RFC 8200 §4.5).
pub(super) fn allow_fragments(socket: &impl AsFd) {
    // Without it, sending still works on all paths that tell their MTU.
    let _kept = set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT);
}

/// Whether windows leave in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Windows {
    /// The kernel cuts them up.
    Together,
    /// The kernel or the network card on this path cannot: block by block.
    Apart,
}

/// Sends all replies in their order, to `client` or where the socket is connected
/// to, and waits where there is no room. Sets `windows` to [`Windows::Apart`] if this
/// path turns out to need it.
///
/// # Errors
///
/// As from sendmsg(2); what was left then is not sent.
pub(super) async fn send(
    socket: &UdpSocket,
    client: Option<SocketAddr>,
    replies: &[Reply],
    windows: &mut Windows,
) -> io::Result<()> {
    // Mostly there is room, and then Tokio need not be asked.
    let mut left = match send_now(socket, client, replies, windows) {
        Ok(()) => return Ok(()),
        Err(unsent) if unsent.error.kind() == io::ErrorKind::WouldBlock => unsent.left,
        Err(unsent) => return Err(unsent.error),
    };
    let attempt = || {
        let rest = &replies[replies.len() - left..];
        send_now(socket, client, rest, windows).map_err(|unsent| {
            left = unsent.left;
            unsent.error
        })
    };
    socket.async_io(Interest::WRITABLE, attempt).await
}

/// What did not leave.
#[derive(Debug)]
pub(super) struct Unsent {
    pub(super) error: io::Error,
    /// How many replies, the last ones.
    pub(super) left: usize,
}

/// Sends replies as [`send`] does, as far as there is room: it never waits.
///
/// # Errors
///
/// As from sendmsg(2), [`io::ErrorKind::WouldBlock`] where there is no room.
pub(super) fn send_now(
    socket: &impl AsFd,
    client: Option<SocketAddr>,
    replies: &[Reply],
    windows: &mut Windows,
) -> Result<(), Unsent> {
    let client = client.map(SockaddrStorage::from);
    let mut rest = replies;
    while !rest.is_empty() {
        let length = match windows {
            Windows::Together => together(rest),
            Windows::Apart => 1,
        };
        let (batch, later) = rest.split_at(length);
        match send_batch(socket, client.as_ref(), batch) {
            Ok(()) => rest = later,
            // The checksum cannot be left to the card (EIO), or the MTU has become
            // smaller than the block (the others).
            Err(Errno::EIO | Errno::EINVAL | Errno::EMSGSIZE | Errno::EOPNOTSUPP) if length > 1 => {
                *windows = Windows::Apart;
            }
            Err(error) => return Err(Unsent { error: error.into(), left: rest.len() }),
        }
    }
    Ok(())
}

/// How many of the replies, at least one, can leave in one call: blocks of the same
/// size, of which the last may be shorter.
fn together(replies: &[Reply]) -> usize {
    let Some(Reply::Data { payload: first, .. }) = replies.first() else { return 1 };
    let size = data_header(0).len() + first.len();
    let most = (LARGEST_CALL / size).clamp(1, MOST_SEGMENTS);
    let mut count = 0;
    for reply in replies.iter().take(most) {
        let Reply::Data { payload, .. } = reply else { break };
        if payload.len() > first.len() {
            break;
        }
        count += 1;
        if payload.len() < first.len() {
            break;
        }
    }
    count
}

fn send_batch(
    socket: &impl AsFd,
    client: Option<&SockaddrStorage>,
    batch: &[Reply],
) -> Result<(), Errno> {
    match batch {
        [Reply::Data { payload, .. }, _, ..] => {
            let size = data_header(0).len() + payload.len();
            let segment = u16::try_from(size).map_err(|_| Errno::EMSGSIZE)?;
            let cut = [ControlMessage::UdpGsoSegments(&segment)];
            send_blocks(socket, client, batch, &cut)
        }
        [Reply::Data { block, payload }] => {
            let header = data_header(*block);
            call(socket, client, &[IoSlice::new(&header), IoSlice::new(payload)], &[])
        }
        others => {
            let mut datagram = Vec::new();
            others.iter().for_each(|reply| reply.encode(&mut datagram));
            call(socket, client, &[IoSlice::new(&datagram)], &[])
        }
    }
}

fn send_blocks(
    socket: &impl AsFd,
    client: Option<&SockaddrStorage>,
    blocks: &[Reply],
    control: &[ControlMessage<'_>],
) -> Result<(), Errno> {
    let mut headers = [[0; 4]; MOST_SEGMENTS];
    for (header, reply) in headers.iter_mut().zip(blocks) {
        if let Reply::Data { block, .. } = reply {
            *header = data_header(*block);
        }
    }
    let mut parts = Vec::with_capacity(2 * blocks.len());
    for (header, reply) in headers.iter().zip(blocks) {
        if let Reply::Data { payload, .. } = reply {
            parts.push(IoSlice::new(header));
            parts.push(IoSlice::new(payload));
        }
    }
    call(socket, client, &parts, control)
}

fn call(
    socket: &impl AsFd,
    client: Option<&SockaddrStorage>,
    parts: &[IoSlice<'_>],
    control: &[ControlMessage<'_>],
) -> Result<(), Errno> {
    let socket = socket.as_fd().as_raw_fd();
    sendmsg(socket, parts, control, MsgFlags::MSG_DONTWAIT, client).map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::super::reply::ErrorCode;
    use super::*;

    fn block(number: u16, length: usize) -> Reply {
        let payload: Bytes = (0..length).map(|place| (place as u16 ^ number) as u8).collect();
        Reply::Data { block: number, payload }
    }

    fn encoded(reply: &Reply) -> Vec<u8> {
        let mut datagram = Vec::new();
        reply.encode(&mut datagram);
        datagram
    }

    async fn arrives(replies: &[Reply], is_connected: bool) {
        let (ours, theirs) = pair().await;
        let client = theirs.local_addr().unwrap();
        if is_connected {
            ours.connect(client).await.unwrap();
        }
        let mut windows = Windows::Together;
        let to = Some(client).filter(|_| !is_connected);
        send(&ours, to, replies, &mut windows).await.unwrap();
        let mut datagram = vec![0; 65_536];
        for reply in replies {
            let length = theirs.recv(&mut datagram).await.unwrap();
            assert!(datagram[..length] == encoded(reply), "{length} octets");
        }
        assert_eq!(windows, Windows::Together);
    }

    async fn pair() -> (UdpSocket, UdpSocket) {
        let ours = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        (ours, UdpSocket::bind("127.0.0.1:0").await.unwrap())
    }

    #[tokio::test]
    async fn each_block_arrives_by_itself_and_as_it_is() {
        for is_connected in [true, false] {
            for (size, count, last) in
                [(1468, 16, 1468), (1468, 16, 0), (8, 64, 3), (512, 1, 512), (20_000, 5, 1)]
            {
                let mut replies: Vec<Reply> =
                    (1..count).map(|number| block(number, size)).collect();
                replies.push(block(count, last));
                arrives(&replies, is_connected).await;
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_block_leaves_by_itself() {
        let error = Reply::Error { code: ErrorCode::FileNotFound, message: "no".to_owned() };
        arrives(&[block(1, 8), block(2, 8), error.clone(), block(3, 8)], false).await;
        arrives(&[error], true).await;
    }

    #[tokio::test]
    async fn blocks_that_the_path_has_become_too_narrow_for_still_arrive() {
        let (ours, theirs) = pair().await;
        // Larger than the path takes in one packet, and so than the kernel cuts.
        let replies = [block(1, 65_464), block(2, 65_464)];
        ours.connect(theirs.local_addr().unwrap()).await.unwrap();
        assert!(path_mtu(&ours) >= 65_496, "loopback");
        let mut windows = Windows::Together;
        send(&ours, None, &replies, &mut windows).await.unwrap();
        let mut datagram = vec![0; 65_536];
        for reply in &replies {
            let length = theirs.recv(&mut datagram).await.unwrap();
            assert!(datagram[..length] == encoded(reply));
        }
    }

    proptest! {
        #[test]
        fn what_leaves_together_is_what_the_kernel_can_cut(
            lengths in proptest::collection::vec(prop_oneof![Just(1468_usize), Just(512), 0_usize..65_464], 1..100),
        ) {
            let replies: Vec<Reply> = lengths.iter().map(|length| block(1, *length)).collect();
            let count = together(&replies);
            prop_assert!((1..=MOST_SEGMENTS).contains(&count));
            let batch = &lengths[..count];
            prop_assert!(count == 1 || batch.iter().map(|length| length + 4).sum::<usize>() <= LARGEST_CALL);
            let (last, full) = batch.split_last().unwrap();
            prop_assert!(full.iter().all(|length| *length == batch[0]));
            prop_assert!(*last <= batch[0]);
        }
    }
}
