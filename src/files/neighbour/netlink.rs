//! Asks the kernel for one neighbour. It wants to know on which interface (`neigh_get`
//! of `net/core/neighbour.c`, Linux 5.0), so the first question is which way leads to
//! the address: two calls for each question, however long the table is.
//!
//! Nothing is waited for: the kernel answers before it takes back the call that asks.
//! Before Linux 6.17 it may itself wait for whoever is configuring interfaces.

use std::{cell::RefCell, net::Ipv4Addr, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect,
        netlink::SocketAddrNetlink, recv, send, socket_with,
    },
};

use super::message::{Answer, answer, neighbour_question, route_question};
use crate::model::Mac;

/// Our questions are answered with some 200 bytes.
const LONGEST_ANSWER: usize = 4096;

thread_local! {
    /// One for each thread that asks, so that none waits for another.
    static SOCKET: RefCell<Option<Socket>> = const { RefCell::new(None) };
}

/// The card of the neighbour with this address, if no router is between us and it,
/// and its entry on the interface by which we reach it is complete.
///
/// # Errors
///
/// What the kernel said, where it did not answer. After an error the next question
/// begins with a new socket.
pub(super) fn ask(address: Ipv4Addr) -> Result<Option<Mac>, Errno> {
    SOCKET.with_borrow_mut(|kept| {
        let mut socket = kept.take().map_or_else(Socket::open, Ok)?;
        let told = socket.ask(address)?;
        *kept = Some(socket);
        Ok(told)
    })
}

/// Whether it would be the same for any address at any time: the kernel is too old,
/// or we may not.
pub(super) fn is_refusal(error: Errno) -> bool {
    [
        Errno::ACCESS,
        Errno::AFNOSUPPORT,
        Errno::NOSYS,
        Errno::OPNOTSUPP,
        Errno::PERM,
        Errno::PROTONOSUPPORT,
    ]
    .contains(&error)
}

/// A socket of rtnetlink(7).
#[derive(Debug)]
struct Socket {
    socket: OwnedFd,
    /// The number of the last question.
    sequence: u32,
}

impl Socket {
    fn open() -> Result<Self, Errno> {
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        // No protocol is `NETLINK_ROUTE`.
        let socket = socket_with(family, SocketType::RAW, flags, None)?;
        // To the kernel: what another process sends is not let in then.
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    fn ask(&mut self, address: Ipv4Addr) -> Result<Option<Mac>, Errno> {
        let mut buffer = [0; LONGEST_ANSWER];
        let sequence = self.next();
        let way = self.exchange(&route_question(address, sequence), &mut buffer)?;
        let interface = match way {
            Answer::Object(..) => way.direct_interface(),
            Answer::Refused(errno) => match Errno::from_raw_os_error(errno) {
                refusal @ (Errno::OPNOTSUPP | Errno::PERM) => return Err(refusal),
                // A table of routes says with many others that no way leads there,
                // ACCESS among them (`fib_props` of `net/ipv4/fib_semantics.c`).
                _ => None,
            },
        };
        let Some(interface) = interface else { return Ok(None) };
        let sequence = self.next();
        let question = neighbour_question(address, interface, sequence);
        let neighbour = self.exchange(&question, &mut buffer)?;
        match neighbour {
            Answer::Object(..) => Ok(neighbour.card_of(address)),
            Answer::Refused(errno) => match Errno::from_raw_os_error(errno) {
                // There is no entry; the interface has gone.
                Errno::NOENT | Errno::NODEV => Ok(None),
                error => Err(error),
            },
        }
    }

    fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends the last question. An answer to another one is an error, and so the end of
    /// the socket that it is on.
    fn exchange<'a>(
        &self,
        question: &[u8],
        buffer: &'a mut [u8; LONGEST_ANSWER],
    ) -> Result<Answer<'a>, Errno> {
        send(&self.socket, question, SendFlags::empty())?;
        let (_, length) = recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT)?;
        answer(&buffer[..length], self.sequence).ok_or(Errno::BADMSG)
    }
}
