//! No packet panics the reader; what is read is answered, as a server and as a
//! proxy, with a packet whose options end, and that goes somewhere.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use remoteboot::{
    dhcp::{
        Role, Settings,
        answer::{self, Answer, Probed, Question},
        reply, request,
    },
    files::Catalogue,
    model::{Architecture, DhcpOptions, LeaseTimes, Pool, Seconds, Subnet, Subnets, Timestamp},
    state::State,
};

fuzz_target!(|packet: &[u8]| {
    let Ok(asked) = request::parse(packet) else { return };
    let server = [10, 0, 0, 1].into();
    let pool = Pool {
        network: "10.0.0.0/24".parse().expect("a network"),
        ranges: vec!["10.0.0.9-10.0.0.12".parse().expect("a range")],
        except: vec![],
    };
    let catalogue =
        Catalogue::new([(Architecture::Bios, "undionly.kpxe".to_owned(), bytes::Bytes::new())]);
    for role in [Role::Server, Role::Proxy] {
        let settings = Settings {
            role,
            watch: None,
            profiles: Vec::new(),
            subnets: Subnets::new([Subnet {
                network: "10.0.0.1/24".parse().expect("a network"),
                adapter: Some("eth0".to_owned()),
                server,
                gateway: server,
                dns: vec![server],
                pool: pool.clone(),
                times: LeaseTimes::of(Seconds(60)),
                options: DhcpOptions::default(),
                vlan: None,
                pace: None,
            }]),
            tftp: Some(server),
            authority: Some(server.to_string()),
            rules: Default::default(),
            probe: false,
            decline_hold: Duration::from_secs(600),
            spread: 0,
        };
        let mut state = State::new([pool.clone()]);
        for step in 0..2 {
            let question = Question {
                request: &asked,
                link: Some(server),
                boot_port: None,
                probed: Probed::Nothing,
            };
            let now = Timestamp(step * 1000);
            let decision = answer::answer(&state, (&settings, &catalogue), question, now);
            decision.changes.iter().for_each(|change| state.apply(change));
            if let Answer::Reply(answered) = decision.answer {
                let _ = reply::destination(&asked, &answered);
                if let Ok(packet) = reply::encode(&asked, &answered) {
                    assert!(packet.len() >= 300 && packet[240..].contains(&255));
                }
            }
        }
    }
});
