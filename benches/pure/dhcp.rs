//! One DHCP exchange in its pure parts.

use std::net::Ipv4Addr;

use divan::{Bencher, black_box};
use remoteboot::{
    dhcp::{
        answer::{Answer, Probed, Question, Reply, answer},
        reply::encode,
        request::{Request, parse},
    },
    model::Mac,
};

use crate::world::{MACHINES, NOW, SERVER, card, catalogue, kept, settings, state};

/// Who asks.
#[derive(Debug, Clone, Copy)]
enum Who {
    Uefi,
    Ipxe,
}

/// One that no state here has.
const STRANGER: u32 = 5_000_000;

/// A packet as this firmware sends it; a renewal has its address in `ciaddr`.
fn packet(mac: Mac, who: Who, message: u8, more: &[(u8, &[u8])], ciaddr: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0; 236];
    packet[..4].copy_from_slice(&[1, 1, 6, 0]);
    packet[4..8].copy_from_slice(&[1, 2, 3, 4]);
    packet[10] = 0x80;
    packet[12..16].copy_from_slice(&ciaddr.octets());
    packet[28..34].copy_from_slice(&mac.bytes());
    packet.extend([99, 130, 83, 99, 53, 1, message]);
    let uuid = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    let parameters: Vec<u8> = (1..7).chain(12..14).chain(40..60).chain(128..136).collect();
    let features = [19, 1, 1, 20, 1, 1, 21, 1, 1, 23, 1, 1, 36, 1, 1, 0xeb, 3, 2, 0, 0];
    let mut options: Vec<(u8, &[u8])> =
        vec![(57, &[5, 192]), (55, &parameters), (97, &uuid), (94, &[1, 3, 0]), (93, &[0, 7])];
    options.push((60, b"PXEClient:Arch:00007:UNDI:003000"));
    if let Who::Ipxe = who {
        options.extend([(77, &b"iPXE"[..]), (175, &features)]);
    }
    options.extend(more);
    for (code, value) in options {
        packet.extend([code, u8::try_from(value.len()).expect("short")]);
        packet.extend(value);
    }
    packet.push(255);
    packet
}

fn asked(number: u32, who: Who, message: u8, more: &[(u8, &[u8])]) -> Request {
    parse(&packet(card(number), who, message, more, Ipv4Addr::UNSPECIFIED)).expect("a request")
}

#[divan::bench(sample_size = 100)]
fn parse_a_discover_of_uefi(bencher: Bencher) {
    let packet = packet(card(1), Who::Uefi, 1, &[], Ipv4Addr::UNSPECIFIED);
    bencher.bench(|| parse(black_box(&packet)).expect("a request"));
}

#[divan::bench(sample_size = 100)]
fn parse_a_discover_of_ipxe(bencher: Bencher) {
    let packet = packet(card(1), Who::Ipxe, 1, &[], Ipv4Addr::UNSPECIFIED);
    bencher.bench(|| parse(black_box(&packet)).expect("a request"));
}

/// Measures a decision, which must be a reply.
fn decide(bencher: Bencher, machines: u32, requests: &[Request]) {
    let (state, settings, catalogue) = (state(machines), settings(), catalogue());
    let mut turn = 0;
    bencher.bench_local(|| {
        turn += 1;
        let request = &requests[turn % requests.len()];
        let question =
            Question { request, link: Some(SERVER), boot_port: None, probed: Probed::Nothing };
        let decision = answer(black_box(state), (&settings, &catalogue), question, NOW);
        assert!(matches!(decision.answer, Answer::Reply(_)));
        decision
    });
}

/// A hundred of the machines, from all over the state: as many in a large one as in a
/// small one, so that as much of it comes from the processor's caches.
fn numbers(machines: u32) -> impl Iterator<Item = u32> {
    (0..100).map(move |place| place * 7919 % machines)
}

/// A machine that nobody has heard of.
#[divan::bench(args = MACHINES, sample_size = 100)]
fn decide_a_first_offer(bencher: Bencher, machines: u32) {
    let requests: Vec<Request> =
        (0..100).map(|place| asked(STRANGER + place, Who::Uefi, 1, &[])).collect();
    decide(bencher, machines, &requests);
}

#[divan::bench(args = MACHINES, sample_size = 100)]
fn decide_a_first_lease(bencher: Bencher, machines: u32) {
    let requests = (0..100).map(|place| {
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 17, 0, 0).to_bits() + place);
        let more = [(54, &SERVER.octets()[..]), (50, &address.octets()[..])];
        asked(STRANGER + place, Who::Uefi, 3, &more)
    });
    decide(bencher, machines, &requests.collect::<Vec<_>>());
}

/// The address is kept for the machine, and is its lease already.
#[divan::bench(args = MACHINES, sample_size = 100)]
fn decide_an_offer_of_a_kept_address(bencher: Bencher, machines: u32) {
    let requests = numbers(machines).map(|number| asked(number, Who::Uefi, 1, &[]));
    decide(bencher, machines, &requests.collect::<Vec<_>>());
}

#[divan::bench(args = MACHINES, sample_size = 100)]
fn decide_an_offer_to_ipxe(bencher: Bencher, machines: u32) {
    let requests = numbers(machines).map(|number| asked(number, Who::Ipxe, 1, &[]));
    decide(bencher, machines, &requests.collect::<Vec<_>>());
}

#[divan::bench(args = MACHINES, sample_size = 100)]
fn decide_a_renewal(bencher: Bencher, machines: u32) {
    let requests = numbers(machines).map(|number| {
        let bytes = packet(card(number), Who::Uefi, 3, &[], kept(number));
        parse(&bytes).expect("a request")
    });
    decide(bencher, machines, &requests.collect::<Vec<_>>());
}

fn replied(request: &Request) -> Reply {
    let question =
        Question { request, link: Some(SERVER), boot_port: None, probed: Probed::Nothing };
    match answer(state(MACHINES[0]), (&settings(), &catalogue()), question, NOW).answer {
        Answer::Reply(reply) => reply,
        other => panic!("{other:?}"),
    }
}

#[divan::bench(sample_size = 100)]
fn encode_an_offer_to_uefi(bencher: Bencher) {
    let request = asked(1, Who::Uefi, 1, &[]);
    let reply = replied(&request);
    bencher.bench(|| encode(black_box(&request), black_box(&reply)).expect("it fits"));
}

#[divan::bench(sample_size = 100)]
fn encode_an_offer_to_ipxe(bencher: Bencher) {
    let request = asked(1, Who::Ipxe, 1, &[]);
    let reply = replied(&request);
    bencher.bench(|| encode(black_box(&request), black_box(&reply)).expect("it fits"));
}
