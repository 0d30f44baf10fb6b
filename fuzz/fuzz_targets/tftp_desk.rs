//! Whatever comes from whichever ports and whenever: the limits hold, one packet
//! brings one window at most, and in the end every transfer is given up.
#![no_main]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use remoteboot::tftp::desk::{Desk, Said};
use remoteboot::tftp::request::{Request, parse};
use remoteboot::tftp::transfer::Limits;

// A packet each: the client's port, tens of milliseconds that have passed, the
// length, and so many octets.
fuzz_target!(|traffic: &[u8]| {
    let limits = Limits { transfers: 5, transfers_per_client: 3, ..Limits::default() };
    let content = Bytes::from_static(&[7; 3000]);
    let mut desk = Desk::new(&limits);
    let mut now = Instant::now();
    let mut rest = traffic;
    while let Some(([port, wait, length], after)) = rest.split_first_chunk::<3>() {
        let (datagram, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        now += Duration::from_millis(u64::from(*wait) * 10);
        while desk.due(now).is_some() {}
        let client = SocketAddr::from(([192, 0, 2, port >> 4], u16::from(*port)));
        let open = |_: &Request| Ok((content.clone(), limits.on_path(client.ip(), 1500)));
        let turn = desk.hear(client, parse(datagram), now, open);
        if let Said::Packets(packets) = turn.said {
            assert!(!packets.is_empty() && packets.len() <= usize::from(limits.window));
        }
        assert!(desk.running() <= limits.transfers);
    }
    let end = now + Duration::from_secs(61);
    while let Some(alarm) = desk.alarm() {
        assert!(alarm <= end, "a client is waited for too long");
        now = now.max(alarm);
        while desk.due(now).is_some() {}
    }
    assert_eq!(desk.running(), 0);
});
