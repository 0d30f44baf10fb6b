//! No packet panics the reader; what is read is answered with a packet whose
//! options end, and that goes somewhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use remoteboot::{
    dhcp::{
        Settings,
        answer::{self, Answer},
        reply, request,
    },
    files::Catalogue,
    model::{Architecture, Pool, Seconds, Subnet, Timestamp},
    state::State,
};

fuzz_target!(|packet: &[u8]| {
    let Ok(asked) = request::parse(packet) else { return };
    let server = [10, 0, 0, 1].into();
    let pool = Pool { first: [10, 0, 0, 9].into(), last: [10, 0, 0, 12].into(), except: vec![] };
    let settings = Settings {
        subnet: Subnet {
            network: "10.0.0.1/24".parse().expect("a network"),
            server,
            gateway: server,
            dns: vec![server],
            pool: pool.clone(),
            lease_time: Seconds(60),
        },
        tftp: Some(server),
        authority: Some(server.to_string()),
    };
    let catalogue =
        Catalogue::new([(Architecture::Bios, "undionly.kpxe".to_owned(), bytes::Bytes::new())]);
    let mut state = State::new(Some(pool));
    for step in 0..2 {
        let decision =
            answer::answer(&state, (&settings, &catalogue), &asked, Timestamp(step * 1000));
        decision.changes.iter().for_each(|change| state.apply(change));
        if let Answer::Reply(answered) = decision.answer {
            let _ = reply::destination(&asked, &answered);
            if let Ok(packet) = reply::encode(&settings, &asked, &answered) {
                assert!(packet.len() >= 300 && packet[240..].contains(&255));
            }
        }
    }
});
