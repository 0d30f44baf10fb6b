//! The paces that machines are sent at, each shared by all connections of its
//! machine, and known as long as one of them sends.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use nix::{
    setsockopt_impl,
    sys::socket::{setsockopt, sockopt::SetStruct},
};
use tokio::net::TcpStream;

use crate::{
    http::pace::{self, Pace},
    model::{Mac, Rate},
};

/// `SO_MAX_PACING_RATE` of Linux (asm-generic/socket.h), which the crates have not.
const SO_MAX_PACING_RATE: libc::c_int = 47;

/// Between the pieces the kernel evens out what is left of bursts, for TCP without any
/// special queue since Linux 4.13. In octets per second.
#[derive(Debug, Clone, Copy)]
struct MaxPacingRate;

setsockopt_impl!(MaxPacingRate, libc::SOL_SOCKET, SO_MAX_PACING_RATE, u32, SetStruct<'_, u32>);

/// Who is sent to: all connections of a machine are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Receiver {
    /// The machine.
    Machine(Mac),
    /// Whoever has this address, where the machine is not known.
    Address(IpAddr),
}

/// The paces of all machines that are being sent to.
#[derive(Debug, Clone, Default)]
pub(super) struct Paces(Arc<Mutex<HashMap<Receiver, Weak<Mutex<Pace>>>>>);

/// So many may be left over before they are cleared away.
const MOST_LEFT_OVER: usize = 1024;

impl Paces {
    /// The pace of this machine.
    pub(super) fn of(&self, receiver: Receiver, rate: Rate) -> Paced {
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if paces.len() > MOST_LEFT_OVER {
            paces.retain(|_, pace| pace.strong_count() > 0);
        }
        let known = paces.get(&receiver).and_then(Weak::upgrade);
        let pace = known.unwrap_or_default();
        paces.insert(receiver, Arc::downgrade(&pace));
        Paced { rate, pace }
    }
}

/// The right to send to a machine at its pace.
#[derive(Debug, Clone)]
pub(super) struct Paced {
    rate: Rate,
    pace: Arc<Mutex<Pace>>,
}

impl Paced {
    /// Has the kernel pace this connection, too.
    pub(super) fn begin(&self, stream: &TcpStream) -> io::Result<()> {
        Ok(setsockopt(stream, MaxPacingRate, &self.rate.octets())?)
    }

    /// How much may be sent at once.
    pub(super) fn piece(&self) -> u64 {
        pace::piece(self.rate)
    }

    /// Waits until more may be sent than these octets.
    pub(super) async fn sent(&self, octets: u64) {
        let wait = {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.send(octets, self.rate, Instant::now())
        };
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_one_machine_share_its_pace_and_nothing_is_kept_of_who_has_gone() {
        let paces = Paces::default();
        let rate: Rate = "10M".parse().expect("a rate");
        let receiver = |last| Receiver::Address(IpAddr::from([10, 0, 0, last]));
        let first = paces.of(receiver(1), rate);
        assert!(Arc::ptr_eq(&first.pace, &paces.of(receiver(1), rate).pace));
        assert!(!Arc::ptr_eq(&first.pace, &paces.of(receiver(2), rate).pace));
        for last in 0..=255 {
            for third in 0..8 {
                paces.of(Receiver::Address(IpAddr::from([10, 0, third, last])), rate);
            }
        }
        assert!(paces.0.lock().expect("unpoisoned").len() <= MOST_LEFT_OVER + 1);
        assert!(Arc::ptr_eq(&first.pace, &paces.of(receiver(1), rate).pace));
    }
}
