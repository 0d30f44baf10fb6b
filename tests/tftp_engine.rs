//! The TFTP room from outside, over loopback: beside async-tftp as a peer, in
//! the cases where that one and the firmware disagree, and with real clients.

#![allow(clippy::unwrap_used)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use remoteboot::tftp::answer::Answer;
use remoteboot::tftp::pace::Waits;
use remoteboot::tftp::reply::ErrorCode;
use remoteboot::tftp::report::Told;
use remoteboot::tftp::request::{Options, Packet, Request, parse};
use remoteboot::tftp::serve::{Ports, serve};
use remoteboot::tftp::transfer::Limits;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything may take here.
const LIMIT: Duration = Duration::from_secs(20);

/// Shorter than the first retransmission, which comes after a second.
const AT_ONCE: Duration = Duration::from_millis(500);

/// A file that is not there, and for how long the server finds that out.
const SLOW: &str = "slow";
const STALL: Duration = Duration::from_secs(3);

const BOTH: [Ports; 2] = [Ports::Each, Ports::Single];

/// How EDK2 2022.11 ends a transfer once it knows the size.
const PROBED: &[u8] = b"\x00\x05\x00\x08User aborted the transfer\x00";

/// What EDK2 2022.11 asks for.
const EDK2: &str = "tsize=0 blksize=1468 windowsize=4";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_servers_agree_to_the_same_and_give_the_same_bytes() {
    for ports in BOTH {
        let limits = Limits { block_size: 8192, window: 8, ..Limits::default() };
        let ours = Server::start(ports, limits.clone()).await;
        let peer = Peer::start(&limits).await;
        let asked = [
            "",
            "blksize=512",
            "blksize=1432 tsize=0",
            EDK2,
            "windowsize=16 blksize=65464 tsize=0",
            "TSIZE=0 BlkSize=1024 WindowSize=7",
            "timeout=3",
            "utimeout=5 blksize=1400 multicast=",
            "blksize=7",
            "windowsize=0",
            "timeout=0",
        ];
        for asked in asked {
            for length in LENGTHS {
                let from_ours = download(ours.address, &name(length), asked).await;
                let from_peer = download(peer.address, &name(length), asked).await;
                assert!(from_ours.content == content(length), "{length}, {asked}");
                assert!(from_peer.content == content(length), "peer: {length}, {asked}");
                assert_eq!(from_ours.agreed, from_peer.agreed, "{length}, {asked}");
            }
        }
    }
}

#[tokio::test]
async fn a_file_of_more_than_65535_blocks_arrives() {
    for ports in BOTH {
        let server = Server::start(ports, Limits::default()).await;
        for asked in ["blksize=8", "blksize=8 windowsize=16"] {
            let download = download(server.address, &name(600_000), asked).await;
            assert!(download.content == content(600_000), "{asked}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_at_once_are_served() {
    for ports in BOTH {
        let limits = Limits { transfers_per_client: 100, ..Limits::default() };
        let server = Server::start(ports, limits).await;
        let mut clients = JoinSet::new();
        for _each in 0..100 {
            clients.spawn(download(server.address, name(100_000), EDK2));
        }
        while let Some(download) = clients.join_next().await {
            assert!(download.unwrap().content == content(100_000));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_size_probe_the_same_port_is_answered_at_once() {
    for ports in BOTH {
        let server = Server::start(ports, Limits::default()).await;
        let client = client().await;
        client.send_to(&read("file-5000", EDK2), server.address).await.unwrap();
        let (_oack, transfer) = receive(&client).await;
        client.send_to(PROBED, transfer).await.unwrap();
        client.send_to(&read("file-5000", EDK2), server.address).await.unwrap();
        let asked = Instant::now();
        let download = carry_on(&client).await;
        assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
        assert!(download.content == content(5000));
    }
}

/// The ERROR and the next request come to two sockets. While the server's own is
/// busy, the request tends to be read first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_does_not_overtake_the_error_before_it() {
    for ports in BOTH {
        // No packet is sent a second time here: what is not answered at once is not
        // answered at all.
        let limits = Limits { waits: first_wait(LIMIT * 10), ..Limits::default() };
        let server = Server::start(ports, limits).await;
        let noise = CancellationToken::new();
        let noisy = tokio::spawn(make_noise(server.address, noise.clone()));
        let client = client().await;
        for turn in 0..1500 {
            client.send_to(&read("file-5000", EDK2), server.address).await.unwrap();
            // On a busy machine blocks of the last transfer may have been sent a second
            // time before its end was heard.
            let (packet, transfer) = loop {
                let received = receive(&client).await;
                if !matches!(received.0, Packet::Data { .. }) {
                    break received;
                }
            };
            assert_eq!(agreed(&packet).size, Some(5000));
            // Every other transfer shows that it is not the one that was ended.
            if turn % 2 == 1 {
                acknowledge(&client, transfer, 0).await;
                expect_blocks(&client, 1..=4).await;
            }
            client.send_to(PROBED, transfer).await.unwrap();
        }
        noise.cancel();
        noisy.await.unwrap();
    }
}

/// Keeps the server's port busy with packets that it refuses.
async fn make_noise(server: SocketAddr, stop: CancellationToken) {
    let client = client().await;
    while !stop.is_cancelled() {
        for _each in 0..20 {
            client.send_to(b"\x00\x63", server).await.unwrap();
        }
        for _each in 0..20 {
            receive(&client).await;
        }
    }
}

#[tokio::test]
async fn an_ack_repeated_in_a_window_is_answered_at_once() {
    for ports in BOTH {
        let server = Server::start(ports, Limits::default()).await;
        let mut found = Vec::new();
        // Where the first answer was held up, the server believes in a long way, and takes
        // what comes at once for an answer to the first copy. That is not so each time.
        while !found.contains(&7) {
            assert!(found.len() < 10, "after the ACK of block 6 came {found:?}");
            found.push(block_after_a_gap(&server).await);
        }
    }
}

/// The block that comes at once after the ACK of block 6, where 5 to 8 were sent twice.
async fn block_after_a_gap(server: &Server) -> u16 {
    let client = client().await;
    client.send_to(&read("file-100000", EDK2), server.address).await.unwrap();
    let (_oack, transfer) = receive(&client).await;
    acknowledge(&client, transfer, 0).await;
    expect_blocks(&client, 1..=4).await;
    acknowledge(&client, transfer, 4).await;
    expect_blocks(&client, 5..=8).await;
    // As if block 5 had been lost.
    let repeated = Instant::now();
    acknowledge(&client, transfer, 4).await;
    expect_blocks(&client, 5..=8).await;
    assert!(repeated.elapsed() < AT_ONCE, "{:?}", repeated.elapsed());
    // As if block 7 had been lost.
    acknowledge(&client, transfer, 6).await;
    let (packet, _transfer) = receive(&client).await;
    assert!(repeated.elapsed() < AT_ONCE, "{:?}", repeated.elapsed());
    let Packet::Data { block, .. } = packet else { panic!("{packet:?}") };
    client.send_to(&[0, 5, 0, 0, 0], transfer).await.unwrap();
    block
}

#[tokio::test]
async fn in_lockstep_a_repeated_ack_is_not_answered() {
    for ports in BOTH {
        let server = Server::start(ports, Limits::default()).await;
        let client = client().await;
        client.send_to(&read("file-100000", ""), server.address).await.unwrap();
        let (_block, transfer) = receive(&client).await;
        for _each in 0..3 {
            acknowledge(&client, transfer, 1).await;
        }
        expect_blocks(&client, 2..=2).await;
        acknowledge(&client, transfer, 2).await;
        // The next packet is block 3, and not block 2 once more.
        expect_blocks(&client, 3..=3).await;
    }
}

#[tokio::test]
async fn a_request_sent_three_times_has_one_transfer() {
    for ports in BOTH {
        let server = Server::start(ports, Limits::default()).await;
        let client = client().await;
        for _each in 0..3 {
            client.send_to(&read("file-5000", EDK2), server.address).await.unwrap();
        }
        let (_oack, first) = receive(&client).await;
        for _each in 0..2 {
            let (packet, transfer) = receive(&client).await;
            assert_eq!(agreed(&packet).size, Some(5000));
            assert_eq!(transfer, first);
        }
    }
}

#[tokio::test]
async fn what_is_lost_is_sent_again() {
    for ports in BOTH {
        let limits = Limits { waits: first_wait(Duration::from_millis(20)), ..Limits::default() };
        let server = Server::start(ports, limits).await;
        let client = client().await;
        client.send_to(&read("file-5000", EDK2), server.address).await.unwrap();
        for _oack in 0..3 {
            let (packet, _transfer) = receive(&client).await;
            assert_eq!(agreed(&packet).size, Some(5000));
        }
        assert!(carry_on(&client).await.content == content(5000));
    }
}

#[tokio::test]
async fn answers_leave_from_the_address_that_was_asked() {
    let server = Server::start_at([127, 0, 0, 2].into(), Ports::Each, Limits::default()).await;
    let client = client().await;
    client.send_to(&read("file-1", ""), server.address).await.unwrap();
    let (_block, transfer) = receive(&client).await;
    assert_eq!(transfer.ip(), server.address.ip());
    assert_ne!(transfer.port(), server.address.port());
}

#[tokio::test]
async fn refusals_have_their_codes_and_the_server_goes_on() {
    for ports in BOTH {
        let server = Server::start(ports, Limits::default()).await;
        let client = client().await;
        let refusals: [(&[u8], u16); 5] = [
            (b"\x00\x01missing\x00octet\x00", 1),
            (b"\x00\x02file-1\x00octet\x00", 2),
            (b"\x00\x01../file-1\x00octet\x00", 2),
            (b"\x00\x01file-1\x00netascii\x00", 0),
            (b"\x00\x63", 4),
        ];
        for (datagram, expected) in refusals {
            client.send_to(datagram, server.address).await.unwrap();
            match receive(&client).await.0 {
                Packet::Error { code, .. } => {
                    assert_eq!(code, expected, "{}", datagram.escape_ascii())
                }
                other => panic!("{}: {other:?}", datagram.escape_ascii()),
            }
        }
    }
}

#[tokio::test]
async fn an_ack_without_a_transfer_is_refused_where_it_cannot_be_one_that_has_ended() {
    for ports in BOTH {
        let server = Server::start(ports, Limits::default()).await;
        let client = client().await;
        acknowledge(&client, server.address, 7).await;
        client.send_to(&read("missing", ""), server.address).await.unwrap();
        let expected: &[u16] = match ports {
            Ports::Each => &[5, 1],
            Ports::Single => &[1],
        };
        for expected in expected {
            match receive(&client).await.0 {
                Packet::Error { code, .. } => assert_eq!(code, *expected),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn on_a_single_port_every_packet_comes_from_it() {
    let server = Server::start(Ports::Single, Limits::default()).await;
    let client = client().await;
    // Connected, it hears nothing from any other port.
    client.connect(server.address).await.unwrap();
    for asked in ["", EDK2, "blksize=8192 windowsize=64"] {
        client.send(&read("file-600000", asked)).await.unwrap();
        assert!(carry_on(&client).await.content == content(600_000), "{asked}");
    }
}

#[tokio::test]
async fn on_a_single_port_a_late_copy_of_the_last_ack_is_no_answer_to_the_next_request() {
    let server = Server::start(Ports::Single, Limits::default()).await;
    let client = client().await;
    client.send_to(&read("file-513", ""), server.address).await.unwrap();
    assert!(carry_on(&client).await.content == content(513));
    acknowledge(&client, server.address, 2).await;
    client.send_to(&read("file-5000", EDK2), server.address).await.unwrap();
    // Not an ERROR.
    assert!(carry_on(&client).await.content == content(5000));
}

#[tokio::test]
async fn a_client_that_falls_silent_is_given_up_and_takes_no_place() {
    for ports in BOTH {
        let first = Duration::from_millis(20);
        let waits = Waits { first, longest: 2 * first, patience: 10 * first };
        let limits = Limits { transfers_per_client: 1, waits, ..Limits::default() };
        let server = Server::start(ports, limits).await;
        let silent = client().await;
        silent.send_to(&read("file-5000", EDK2), server.address).await.unwrap();
        receive(&silent).await;
        let asked = Instant::now();
        answered_in_the_end(&client().await, server.address).await;
        assert!(asked.elapsed() >= 5 * first, "{:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn junk_does_not_stop_the_server() {
    for ports in BOTH {
        let server = Server::start(ports, Limits::default()).await;
        let client = client().await;
        client.send_to(b"\x00\x05\x00", server.address).await.unwrap();
        client.send_to(b"\x00\x03\x00", server.address).await.unwrap();
        for opcode in 0..=255 {
            for length in 0..=4 {
                let junk = [0, opcode, 0, 0xff];
                client.send_to(&junk[..length], server.address).await.unwrap();
            }
        }
        let download = download(server.address, "file-513", EDK2).await;
        assert!(download.content == content(513));
    }
}

#[tokio::test]
async fn a_stranger_does_not_disturb_a_transfer() {
    for ports in BOTH {
        let server = Server::start(ports, Limits::default()).await;
        let (client, stranger) = (client().await, client().await);
        client.send_to(&read("file-5000", ""), server.address).await.unwrap();
        let (_block, transfer) = receive(&client).await;
        acknowledge(&stranger, transfer, 1).await;
        stranger.send_to(b"\x00\x05\x00\x00\x00", transfer).await.unwrap();
        acknowledge(&client, transfer, 1).await;
        expect_blocks(&client, 2..=2).await;
    }
}

#[tokio::test]
async fn over_its_limit_a_client_hears_nothing_until_a_transfer_ends() {
    for ports in BOTH {
        let limits = Limits { transfers_per_client: 1, ..Limits::default() };
        let server = Server::start(ports, limits).await;
        let (first, second) = (client().await, client().await);
        first.send_to(&read("file-5000", EDK2), server.address).await.unwrap();
        let (_oack, transfer) = receive(&first).await;
        second.send_to(&read("file-5000", EDK2), server.address).await.unwrap();
        // The server's port takes one packet after the other: after this refusal the
        // request before it has been judged.
        first.send_to(b"\x00\x63", server.address).await.unwrap();
        receive(&first).await;
        let mut datagram = [0; 2000];
        let heard = timeout(Duration::from_millis(50), second.recv_from(&mut datagram)).await;
        assert!(heard.is_err(), "{heard:?}");
        first.send_to(b"\x00\x05\x00\x00\x00", transfer).await.unwrap();
        answered_in_the_end(&second, server.address).await;
    }
}

#[tokio::test]
async fn a_client_that_has_gone_takes_no_place() {
    let limits = Limits {
        transfers_per_client: 1,
        // Silence alone would take an hour.
        waits: Waits { patience: LIMIT * 180, ..first_wait(Duration::from_millis(20)) },
        ..Limits::default()
    };
    let server = Server::start(Ports::Each, limits).await;
    let gone = client().await;
    gone.send_to(&read("file-5000", EDK2), server.address).await.unwrap();
    receive(&gone).await;
    drop(gone);
    answered_in_the_end(&client().await, server.address).await;
}

#[tokio::test]
async fn stopping_ends_the_server_and_its_transfers() {
    // An address of its own, where no other test takes the ports meanwhile.
    let server = Server::start_at([127, 0, 0, 3].into(), Ports::Each, Limits::default()).await;
    let client = client().await;
    client.send_to(&read("file-5000", ""), server.address).await.unwrap();
    let (_block, transfer) = receive(&client).await;
    server.stop.cancel();
    timeout(LIMIT, server.task).await.unwrap().unwrap().unwrap();
    // Both ports are free again.
    UdpSocket::bind(server.address).await.unwrap();
    UdpSocket::bind(transfer).await.unwrap();
}

#[tokio::test]
async fn each_transfer_has_one_line_in_the_log() {
    let (sender, mut lines) = mpsc::unbounded_channel();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || Lines(sender.clone()))
        .finish();
    // The server's thread takes it over from this one.
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = Server::start(Ports::Each, Limits::default()).await;
    // Another test may come by this line for the first time at this moment, where nobody
    // wants it, and tracing would keep that in mind for all: it is told to look again.
    download(server.address, "file-512", EDK2).await;
    tracing::callsite::rebuild_interest_cache();
    download(server.address, "file-5000", EDK2).await;
    let line = loop {
        let line = timeout(LIMIT, lines.recv()).await.unwrap().unwrap();
        if line.contains("file-5000") {
            break line;
        }
    };
    let fields = [
        " INFO ",
        "tftp read",
        "client=127.0.0.1:",
        "file=file-5000",
        "bytes=5000",
        "outcome=Finished",
        "blksize=1468",
        "windowsize=4",
        "seconds=0.",
    ];
    for field in fields {
        assert!(line.contains(field), "{field} is not in {line}");
    }
    let client = client().await;
    client.send_to(&read("file-5000", EDK2), server.address).await.unwrap();
    let (_oack, transfer) = receive(&client).await;
    client.send_to(b"\x00\x05\x00\x08enough\x00", transfer).await.unwrap();
    let line = timeout(LIMIT, lines.recv()).await.unwrap().unwrap();
    assert!(line.contains(" INFO ") && line.contains("tftp size probe"), "{line}");
    assert!(line.contains("outcome=SizeProbe"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_file_and_each_refusal_is_told_once_and_a_size_probe_is_neither() {
    for ports in BOTH {
        let mut server = Server::start(ports, Limits::default()).await;
        let client = client().await;
        client.send_to(b"\x00\x02file-1\x00octet\x00", server.address).await.unwrap();
        server.tells("not a packet: nothing is written here").await;
        client.send_to(&read("missing", ""), server.address).await.unwrap();
        server.tells("not missing: no such file").await;
        for _refusal in 0..2 {
            assert!(matches!(receive(&client).await.0, Packet::Error { .. }));
        }
        client.send_to(&read("file-5000", EDK2), server.address).await.unwrap();
        let (_oack, transfer) = receive(&client).await;
        client.send_to(PROBED, transfer).await.unwrap();
        // From the same port, so the probe is over before.
        client.send_to(&read("file-5000", EDK2), server.address).await.unwrap();
        assert!(carry_on(&client).await.content == content(5000));
        server.tells("file-5000, all 5000").await;
        client.send_to(&read("file-5000", ""), server.address).await.unwrap();
        let (_block, transfer) = receive(&client).await;
        acknowledge(&client, transfer, 1).await;
        expect_blocks(&client, 2..=2).await;
        client.send_to(b"\x00\x05\x00\x00enough\x00", transfer).await.unwrap();
        server.tells("file-5000, only 512").await;
        // Late words of a transfer, wherever they come to.
        acknowledge(&client, transfer, 1).await;
        client.send_to(b"\x00\x05\x00\x00enough\x00", transfer).await.unwrap();
        client.send_to(&read("missing-too", ""), server.address).await.unwrap();
        server.tells("not missing-too: no such file").await;
        server.stop.cancel();
        assert_eq!(timeout(LIMIT, server.told.recv()).await.unwrap(), None, "{ports:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_spoke_in_time_is_heard_by_a_server_that_had_no_time() {
    // More than any server takes from its sockets at one look.
    const CLIENTS: usize = 100;
    let (first, patience) = (STALL / 2, STALL * 2 / 3);
    let waits = Waits { first, longest: patience, patience };
    let limits = Limits { waits, transfers_per_client: 2 * CLIENTS, ..Limits::default() };
    for ports in BOTH {
        let server = Server::start(ports, limits.clone()).await;
        let mut clients = Vec::new();
        for _each in 0..CLIENTS {
            let client = client().await;
            client.send_to(&read("file-5000", ""), server.address).await.unwrap();
            let (_block, transfer) = receive(&client).await;
            clients.push((client, transfer));
        }
        let another = client().await;
        another.send_to(&read(SLOW, ""), server.address).await.unwrap();
        // The server may have the thread that looks at tokio's clock.
        std::thread::sleep(STALL / 30);
        for (client, transfer) in &clients {
            acknowledge(client, *transfer, 1).await;
        }
        for (client, _transfer) in &clients {
            expect_blocks(client, 2..=2).await;
        }
    }
}

#[tokio::test]
async fn each_request_that_is_left_lying_is_told() {
    for ports in BOTH {
        let limits = Limits { transfers_per_client: 1, ..Limits::default() };
        let mut server = Server::start(ports, limits).await;
        let (first, second) = (client().await, client().await);
        first.send_to(&read("file-5000", EDK2), server.address).await.unwrap();
        receive(&first).await;
        for _each in 0..2 {
            second.send_to(&read("file-513", EDK2), server.address).await.unwrap();
            server.tells("not file-513: all 1 transfers of this client are taken").await;
        }
        server.stop.cancel();
        assert_eq!(timeout(LIMIT, server.told.recv()).await.unwrap(), None, "{ports:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the TFTP clients that `make test` installs"]
async fn real_clients_get_what_is_there() {
    for ports in BOTH {
        let server = Server::start(ports, Limits::default()).await;
        let port = server.address.port().to_string();
        let commands: [&[&str]; 9] = [
            &["tftp", "-m", "binary", "127.0.0.1", &port, "-c", "get", "FILE", "OUT"],
            &["atftp", "-g", "-r", "FILE", "-l", "OUT", "127.0.0.1", &port],
            &[
                "atftp",
                "--option",
                "blksize 1428",
                "-g",
                "-r",
                "FILE",
                "-l",
                "OUT",
                "127.0.0.1",
                &port,
            ],
            &[
                "atftp",
                "--option",
                "windowsize 8",
                "--option",
                "tsize",
                "-g",
                "-r",
                "FILE",
                "-l",
                "OUT",
                "127.0.0.1",
                &port,
            ],
            &["curl", "-s", "-o", "OUT", "tftp://127.0.0.1:PORT/FILE"],
            &["curl", "-s", "--tftp-blksize", "1024", "-o", "OUT", "tftp://127.0.0.1:PORT/FILE"],
            &["curl", "-s", "--tftp-no-options", "-o", "OUT", "tftp://127.0.0.1:PORT/FILE"],
            &["busybox", "tftp", "-g", "-r", "FILE", "-l", "OUT", "127.0.0.1", &port],
            &[
                "busybox",
                "tftp",
                "-b",
                "1468",
                "-g",
                "-r",
                "/FILE",
                "-l",
                "OUT",
                "127.0.0.1",
                &port,
            ],
        ];
        for command in commands {
            for length in LENGTHS {
                let folder = tempfile::tempdir().unwrap();
                let out = folder.path().join("out").display().to_string();
                let fill = |word: &&str| {
                    let word = word.replace("FILE", &name(length)).replace("PORT", &port);
                    word.replace("OUT", &out)
                };
                let words: Vec<String> = command.iter().map(fill).collect();
                let run = move || Command::new(&words[0]).args(&words[1..]).output();
                let run = timeout(LIMIT, tokio::task::spawn_blocking(run)).await;
                let output = run.expect("the client hangs").unwrap().unwrap();
                let got = std::fs::read(folder.path().join("out")).unwrap_or_default();
                assert!(got == content(length), "{command:?}, {length} octets: {output:?}");
            }
        }
    }
}

fn first_wait(first: Duration) -> Waits {
    let usual = Limits::default().waits;
    Waits { first, longest: usual.longest.max(first), patience: usual.patience.max(first * 2) }
}

const LENGTHS: [usize; 9] = [0, 1, 511, 512, 513, 5000, 5872, 100_000, 600_000];

fn name(length: usize) -> String {
    format!("file-{length}")
}

fn content(length: usize) -> Bytes {
    let octet = |index: usize| (index ^ (index >> 8) ^ (index >> 16)) as u8;
    (0..length).map(octet).collect()
}

/// Our server, with a file of each length.
struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
    /// What became of requests.
    told: mpsc::UnboundedReceiver<String>,
}

impl Server {
    async fn start(ports: Ports, limits: Limits) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, ports, limits).await
    }

    #[track_caller]
    fn tells(&mut self, expected: &str) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let told = timeout(LIMIT, self.told.recv()).await;
            let told = told.unwrap_or_else(|_| panic!("{place}: {expected} is not told"));
            assert_eq!(told.as_deref(), Some(expected), "{place}");
        }
    }

    async fn start_at(address: Ipv4Addr, ports: Ports, limits: Limits) -> Self {
        let socket = UdpSocket::bind((address, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let stop = CancellationToken::new();
        let files = LENGTHS.map(|length| (name(length), content(length)));
        let answer = move |request: &Request, _client: SocketAddr| {
            if request.file.as_str() == SLOW {
                std::thread::sleep(STALL);
            }
            let mut files = files.iter();
            match files.find(|(name, _content)| name == request.file.as_str()) {
                Some((_name, content)) => Answer::Content(content.clone()),
                None => Answer::Refuse {
                    code: ErrorCode::FileNotFound,
                    message: "no such file".to_owned(),
                },
            }
        };
        let (sender, told) = mpsc::unbounded_channel();
        let tell = move |_client: SocketAddr, told: Told<'_>| {
            let _untold = sender.send(match told {
                Told::Read { file, bytes, complete: true } => format!("{file}, all {bytes}"),
                Told::Read { file, bytes, complete: false } => format!("{file}, only {bytes}"),
                Told::Refused { what, why } => format!("not {what}: {why}"),
            });
        };
        let serving = serve(socket, (ports, limits), (answer, Arc::new(tell)), stop.clone());
        let task = tokio::spawn(serving);
        Self { address, stop, task, told }
    }
}

/// async-tftp with the same files.
struct Peer {
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Peer {
    async fn start(limits: &Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for length in LENGTHS {
            std::fs::write(folder.path().join(name(length)), content(length)).unwrap();
        }
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let server = async_tftp::server::TftpServerBuilder::with_dir_ro(folder.path()).unwrap();
        let server = server.std_socket(socket).unwrap();
        let server = server.block_size_limit(limits.block_size).window_size_limit(limits.window);
        let server = server.build().await.unwrap();
        tokio::spawn(server.serve());
        Self { address, _folder: folder }
    }
}

/// What came of one read.
struct Download {
    agreed: Options,
    content: Vec<u8>,
}

async fn download(server: SocketAddr, file: impl AsRef<str>, asked: &str) -> Download {
    let client = client().await;
    client.send_to(&read(file.as_ref(), asked), server).await.unwrap();
    carry_on(&client).await
}

/// Receives a file after RFC 1350 and RFC 7440 §4, once it has been asked for.
async fn carry_on(client: &UdpSocket) -> Download {
    let (mut agreed, mut content) = (Options::default(), Vec::new());
    let (mut blocks, mut since_ack) = (0_u64, 0);
    loop {
        let (packet, transfer) = receive(client).await;
        match packet {
            Packet::OptionAcknowledge(options) => {
                agreed = options;
                acknowledge(client, transfer, 0).await;
            }
            Packet::Data { block, payload } if block == (blocks + 1) as u16 => {
                content.extend_from_slice(&payload);
                blocks += 1;
                since_ack += 1;
                let last = payload.len() < agreed.block_size.unwrap_or(512).into();
                if last || since_ack == agreed.window.unwrap_or(1) {
                    since_ack = 0;
                    acknowledge(client, transfer, block).await;
                }
                if last {
                    return Download { agreed, content };
                }
            }
            Packet::Data { .. } => acknowledge(client, transfer, blocks as u16).await,
            other => panic!("the server said {other:?}"),
        }
    }
}

async fn client() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// An RRQ; `asked` is like `blksize=512 tsize=0`.
fn read(file: &str, asked: &str) -> Vec<u8> {
    let mut words = vec![file, "octet"];
    for option in asked.split_whitespace() {
        let (name, value) = option.split_once('=').unwrap();
        words.extend([name, value]);
    }
    let mut datagram = vec![0, 1];
    for word in words {
        datagram.extend_from_slice(word.as_bytes());
        datagram.push(0);
    }
    datagram
}

async fn acknowledge(client: &UdpSocket, transfer: SocketAddr, block: u16) {
    let datagram = [4_u16.to_be_bytes(), block.to_be_bytes()].concat();
    client.send_to(&datagram, transfer).await.unwrap();
}

async fn receive(client: &UdpSocket) -> (Packet, SocketAddr) {
    let mut datagram = vec![0; 65536];
    let received = timeout(LIMIT, client.recv_from(&mut datagram)).await;
    let (length, sender) = received.expect("nothing comes").unwrap();
    (parse(&datagram[..length]).unwrap(), sender)
}

fn agreed(packet: &Packet) -> Options {
    match packet {
        Packet::OptionAcknowledge(agreed) => *agreed,
        other => panic!("not an OACK: {other:?}"),
    }
}

async fn expect_blocks(client: &UdpSocket, blocks: std::ops::RangeInclusive<u16>) {
    for expected in blocks {
        match receive(client).await.0 {
            Packet::Data { block, .. } => assert_eq!(block, expected),
            other => panic!("not block {expected}: {other:?}"),
        }
    }
}

/// Asks until there is an answer, as firmware does.
async fn answered_in_the_end(client: &UdpSocket, server: SocketAddr) {
    let mut datagram = [0; 2000];
    let started = Instant::now();
    while started.elapsed() < LIMIT {
        client.send_to(&read("file-5000", EDK2), server).await.unwrap();
        let heard = timeout(Duration::from_millis(50), client.recv_from(&mut datagram)).await;
        if let Ok(heard) = heard {
            let (length, _transfer) = heard.unwrap();
            assert_eq!(agreed(&parse(&datagram[..length]).unwrap()).size, Some(5000));
            return;
        }
    }
    panic!("never answered");
}

/// Where the log goes: each write is one line.
struct Lines(mpsc::UnboundedSender<String>);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _gone = self.0.send(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
