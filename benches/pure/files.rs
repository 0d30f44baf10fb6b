//! TFTP and HTTP: what comes in, and the next step of a transfer.

use std::time::Instant;

use bytes::Bytes;
use divan::{Bencher, black_box};
use remoteboot::{
    http::head::Head,
    tftp::{
        request::{Packet, parse},
        transfer::{Limits, Step, Transfer},
    },
};

const READ: &[u8] = b"\x00\x01snponly.efi\x00octet\x00blksize\x001468\x00windowsize\x004\x00";

#[divan::bench(sample_size = 100)]
fn parse_a_read_of_tftp() -> Packet {
    parse(black_box(READ)).expect("a read")
}

#[divan::bench(sample_size = 100)]
fn parse_an_ack_of_tftp() -> Packet {
    parse(black_box(b"\x00\x04\x12\x34")).expect("an ACK")
}

/// From an ACK to the next window of four blocks.
#[divan::bench(sample_size = 100)]
fn a_step_of_a_transfer(bencher: Bencher) {
    let content = Bytes::from(vec![7; 32 << 20]);
    let Ok(Packet::Read(request)) = parse(READ) else { panic!("it is a read") };
    let now = Instant::now();
    let begin = || {
        let (mut transfer, _) =
            Transfer::new(content.clone(), request.clone(), &Limits::default(), now);
        let _ = transfer.on(&Packet::Acknowledge { block: 0 }, now);
        (transfer, 0)
    };
    let (mut transfer, mut block) = begin();
    bencher.bench_local(|| {
        // Block numbers roll over, and the content has an end.
        if block > 20_000 {
            (transfer, block) = begin();
        }
        block += 4;
        let step = transfer.on(&Packet::Acknowledge { block }, now);
        assert!(matches!(&step, Step::Send(packets) if packets.len() == 4), "{step:?}");
        step
    });
}

#[divan::bench(sample_size = 100)]
fn parse_the_head_of_an_http_request() -> Head {
    let head = b"GET /ipxe/02-00-9e-37-79-b1.ipxe HTTP/1.1\r\nConnection: keep-alive\r\n\
        User-Agent: iPXE/2.0.0\r\nHost: 10.16.0.1\r\n\r\n";
    Head::read(black_box(head)).expect("well formed").expect("whole").0
}
