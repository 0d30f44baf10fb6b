//! The HTTP room: scripts, images and boot programs for machines that boot,
//! `Init` for what they booted, and what they report.
//!
//! `head` and `request` make a value of what came in, `answer` decides, `reply`
//! says it in HTTP, `serve` moves the bytes. No other room is known here.

pub mod answer;
pub mod head;
pub mod pace;
pub mod range;
mod refusal;
pub mod reply;
pub mod report;
pub mod request;
mod serve;

use std::{sync::Arc, time::Duration};

pub use refusal::Refusal;
pub use serve::serve;

use crate::{
    boot::{Addressing, Policy},
    files::{Images, Loaders},
    store::Store,
};

/// What the room needs of the hall.
#[derive(Clone)]
pub struct Http {
    /// Who holds which machine and address.
    pub store: Store,
    /// The files of instances.
    pub images: Images,
    /// The boot programs.
    pub loaders: Arc<Loaders>,
    /// What machines boot, and where they reach us.
    pub policy: Arc<Policy>,
    /// Who gives out addresses.
    pub addressing: Addressing,
    /// How much of us one client may take.
    pub settings: Settings,
}

/// How much of the server one client may take, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Connections at a time; one more waits until one ends, and those that are idle
    /// end soon then.
    pub connections: usize,
    /// Connections at a time from one address; one more is answered 503.
    pub connections_per_client: usize,
    /// From the first wait to the end of a request's head.
    pub head_time: Duration,
    /// Between two requests on one connection.
    pub idle_time: Duration,
    /// How long a transfer may move no byte: a port that waits for a spanning tree
    /// or LACP passes nothing for a minute and more, and then TCP tries again only
    /// after twice the time that it has tried for.
    pub stall_time: Duration,
    /// How long a request waits for a file's checksum to be computed, before
    /// it is told to come again.
    pub digest_time: Duration,
    /// What running transfers are given when the daemon stops.
    pub stop_time: Duration,
}

impl Settings {
    /// The usual ones, for a process that may have so many file descriptors: a connection
    /// takes two, one of them for the file that it is sent, and there are others who need
    /// some, and must always get one, such as the store.
    #[must_use]
    pub fn within(descriptors: u64) -> Self {
        const SHARE: u64 = 8;
        let usual = Self::default();
        let room = usize::try_from(descriptors / SHARE).unwrap_or(usize::MAX);
        Self { connections: room.clamp(1, usual.connections), ..usual }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_client: 64,
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            stall_time: Duration::from_secs(180),
            digest_time: Duration::from_secs(5),
            stop_time: Duration::from_secs(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_others() {
        for (descriptors, connections) in
            [(0, 1), (1024, 128), (20_000, 2500), (524_288, 16_384), (u64::MAX, 16_384)]
        {
            assert_eq!(Settings::within(descriptors).connections, connections, "{descriptors}");
        }
    }
}
