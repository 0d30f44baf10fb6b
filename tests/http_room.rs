//! The HTTP room from outside: real sockets, a real store, real files.

use std::{
    future::Future,
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use remoteboot::{
    boot::{Addressing, Policy, Rules, UnclaimedImage},
    files::{Images, Loaders},
    http::{Http, Settings, serve},
    model::{
        Asset, BootMode, Change, Checksum, Decision, Destroyed, Image, Instance, InstanceId,
        InstanceState, Lease, LeaseState, Mac, Progress, Reason, Secrets, Source, Stage, Timestamp,
        Token,
    },
    store::Store,
};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

const MAC: Mac = Mac::new([0x52, 0x54, 0, 0xaa, 1, 1]);
const OTHER: Mac = Mac::new([0x52, 0x54, 0, 0xaa, 1, 2]);
const TOKEN: Token = Token(0xab);
const OTHER_TOKEN: Token = Token(0xcd);
const KERNEL: &[u8] = b"0123456789";

#[tokio::test]
async fn provisioning_turns_waiting_into_booting() {
    let room = Room::open(Settings::default()).await;
    let script = room.get("/infrakit.ipxe").await;
    assert_eq!(script.status, 200);
    assert!(script.text().contains("52:54:00:aa:01:01 waits to be provisioned"));
    assert_eq!(room.stage(), Some(Stage::Holding));
    room.provision(MAC, TOKEN, "vmlinuz").await;
    let script = room.get("/ipxe/52-54-00-aa-01-01.ipxe").await;
    let line = format!("/boot/{}/0/vmlinuz quiet", TOKEN.digits());
    assert!(script.text().contains(&line), "{}", script.text());
    assert_eq!(room.stage(), Some(Stage::Script));
    let kernel = room.get(&room.kernel()).await;
    assert_eq!((kernel.status, kernel.body.as_slice()), (200, KERNEL));
    assert_eq!(room.stage(), Some(Stage::Kernel));
}

#[tokio::test]
async fn head_says_what_get_would_send_and_sends_no_body() {
    let room = Room::open(Settings::default()).await;
    room.provision(MAC, TOKEN, "vmlinuz").await;
    for path in ["/infrakit.ipxe", "/loader/undionly.kpxe", &room.kernel(), "/nope"] {
        let get = room.get(path).await;
        let head = room.ask(&format!("HEAD {path} HTTP/1.1\r\n\r\n")).await;
        assert_eq!((head.status, &head.headers), (get.status, &get.headers), "{path}");
        assert_eq!((get.body.len(), head.body.len()), (get.length(), 0), "{path}");
    }
}

#[tokio::test]
async fn ranges_and_conditions_choose_what_is_sent() {
    let room = Room::open(Settings::default()).await;
    room.provision(MAC, TOKEN, "vmlinuz").await;
    let path = room.kernel();
    let whole = room.get(&path).await;
    let (tag, date) = (whole.header("etag"), whole.header("last-modified"));
    assert_eq!(whole.header("accept-ranges"), "bytes");
    for (headers, status, body) in [
        ("Range: bytes=2-4".to_owned(), 206, "234"),
        ("Range: bytes=5-100".to_owned(), 206, "56789"),
        ("Range: bytes=-2".to_owned(), 206, "89"),
        ("Range: bytes=10-".to_owned(), 416, ""),
        ("Range: bytes=0-1,4-5".to_owned(), 200, "0123456789"),
        (format!("Range: bytes=0-0\r\nIf-Range: {tag}"), 206, "0"),
        ("Range: bytes=0-0\r\nIf-Range: \"x\"".to_owned(), 200, "0123456789"),
        (format!("If-None-Match: {tag}"), 304, ""),
        (format!("If-Modified-Since: {date}"), 304, ""),
        ("If-None-Match: \"x\"".to_owned(), 200, "0123456789"),
    ] {
        let reply = room.ask(&format!("GET {path} HTTP/1.1\r\n{headers}\r\n\r\n")).await;
        assert_eq!((reply.status, reply.text()), (status, body), "{headers}");
    }
    let reply = room.ask(&format!("GET {path} HTTP/1.1\r\nRange: bytes=10-\r\n\r\n")).await;
    assert_eq!(reply.header("content-range"), "bytes */10");
}

#[tokio::test]
async fn one_connection_carries_a_whole_boot() {
    let room = Room::open(Settings::default()).await;
    room.provision(MAC, TOKEN, "vmlinuz").await;
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let mut stream = room.connect().await;
        // The third comes in the same segment as the second.
        let script = format!("GET /infrakit.ipxe {version}\r\nConnection: keep-alive\r\n\r\n");
        let kernel = format!("GET {} {version}\r\nConnection: keep-alive\r\n\r\n", room.kernel());
        stream.write_all(script.as_bytes()).await.expect("sent");
        let first = Reply::read(&mut stream, true).await.expect("a reply");
        assert_eq!((first.status, first.version.as_str()), (200, version));
        assert_eq!(first.header("connection"), "keep-alive");
        stream.write_all(format!("{kernel}{kernel}").as_bytes()).await.expect("sent");
        for _ in 0..2 {
            let reply = Reply::read(&mut stream, true).await.expect("a reply");
            assert_eq!((reply.status, reply.body.as_slice()), (200, KERNEL));
        }
        let last = format!("GET /infrakit.ipxe {version}\r\nConnection: close\r\n\r\n");
        stream.write_all(last.as_bytes()).await.expect("sent");
        let reply = Reply::read(&mut stream, true).await.expect("a reply");
        assert_eq!(reply.header("connection"), "close");
        assert_eq!(limited(stream.read(&mut [0; 8])).await.expect("closed in order"), 0);
    }
    // HTTP/1.0 that does not ask for more is closed.
    let mut stream = room.connect().await;
    stream.write_all(b"GET /infrakit.ipxe HTTP/1.0\r\n\r\n").await.expect("sent");
    let mut all = Vec::new();
    limited(stream.read_to_end(&mut all)).await.expect("closed in order");
    assert!(all.starts_with(b"HTTP/1.0 200 OK\r\n"));
}

#[tokio::test]
async fn a_small_file_on_an_open_connection_waits_for_nobody() {
    let room = Room::open(Settings::default()).await;
    room.provision(MAC, TOKEN, "vmlinuz").await;
    let mut stream = room.connect().await;
    let begun = std::time::Instant::now();
    for _ in 0..100 {
        let request = format!("GET {} HTTP/1.1\r\n\r\n", room.kernel());
        stream.write_all(request.as_bytes()).await.expect("sent");
        Reply::read(&mut stream, true).await.expect("a reply");
    }
    // Without TCP_NODELAY each one takes 40 ms: 4 s.
    assert!(begun.elapsed() < Duration::from_millis(3000), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_others_are_served() {
    let room = Room::open(Settings::default()).await;
    let large = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    for (request, expected) in [
        ("GET /\r\n\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\x7f\x03\x03", 400),
        ("GET http://[ HTTP/1.1\r\n\r\n", 400),
        ("GET /%zz HTTP/1.1\r\n\r\n", 400),
        ("GET /%00 HTTP/1.1\r\n\r\n", 400),
        ("POST /infrakit.ipxe HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 413),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
        ("POST /infrakit.ipxe HTTP/1.1\r\n\r\n", 405),
        ("OPTIONS * HTTP/1.1\r\n\r\n", 405),
        (large.as_str(), 431),
    ] {
        let reply = room.ask(request).await;
        assert_eq!(reply.status, expected, "{request:?}");
        if expected == 405 {
            assert_eq!(reply.header("allow"), "GET, HEAD");
        }
    }
    let report = format!("/report/{}/ready", report_token().digits());
    let reply = room.ask(&format!("PUT {report} HTTP/1.1\r\n\r\n")).await;
    assert_eq!((reply.status, reply.header("allow")), (405, "GET, HEAD, POST".to_owned()));
    for request in [
        "GET http://elsewhere/infrakit.ipxe HTTP/1.1\r\n\r\n",
        "GET /infrakit.ipxe?x=y HTTP/1.1\r\n\r\n",
        "GET /a/b/autoexec.ipxe HTTP/1.0\r\n\r\n",
    ] {
        let reply = room.ask(request).await;
        assert_eq!(reply.status, 200, "{request:?}");
        assert!(reply.text().starts_with("#!ipxe\n"));
    }
}

#[tokio::test]
async fn random_bytes_end_no_server() {
    let room = Room::open(Settings::default()).await;
    let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..200 {
        let mut bytes = b"GET /boot/../infrakit.ipxe HTTP/1.1\r\nRange: bytes=0-1\r\n\r\n".to_vec();
        for _ in 0..4 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let place = usize::try_from(seed >> 33).expect("31 bits") % bytes.len();
            bytes[place] = u8::try_from(seed >> 24 & 0xff).expect("8 bits");
        }
        let mut stream = room.connect().await;
        stream.write_all(&bytes).await.expect("sent");
        stream.shutdown().await.expect("half closed");
        let _ = limited(stream.read_to_end(&mut Vec::new())).await;
    }
    assert_eq!(room.get("/infrakit.ipxe").await.status, 200);
}

#[tokio::test]
async fn nothing_else_of_the_disk_is_served() {
    let room = Room::open(Settings::default()).await;
    room.provision(MAC, TOKEN, "vmlinuz").await;
    for path in [
        "/",
        "/vmlinuz",
        "/images/vmlinuz",
        "/state/remoteboot.redb",
        "/../state",
        "/%2e%2e/state",
        "//infrakit.ipxe",
        "/loader/../images/vmlinuz",
        "/loader/..%2fimages%2fvmlinuz",
        "/loader/nope.efi",
        "/unclaimed/0/..%2f..%2fetc%2fpasswd",
    ] {
        let reply = room.get(path).await;
        assert_eq!(reply.status, 404, "{path}");
    }
    room.provision(MAC, TOKEN, "out").await;
    let reply = room.get(&format!("/boot/{}/0/out", TOKEN.digits())).await;
    assert_eq!(reply.status, 500);
    assert!(!reply.text().contains("secret"));
}

#[tokio::test]
async fn a_machine_gets_nothing_of_another() {
    let room = Room::open(Settings::default()).await;
    room.provision(OTHER, OTHER_TOKEN, "vmlinuz").await;
    for (path, expected) in [
        ("/ipxe/52-54-00-aa-01-02.ipxe".to_owned(), 403),
        (format!("/boot/{}/0/vmlinuz", OTHER_TOKEN.digits()), 403),
        (format!("/boot/{}/0/vmlinuz", Token(1).digits()), 404),
    ] {
        let reply = room.get(&path).await;
        assert_eq!(reply.status, expected, "{path}");
        assert!(!reply.text().contains("0123456789"));
    }
    assert_eq!(room.stage(), None);
}

#[tokio::test]
async fn of_a_file_with_another_checksum_not_one_byte_is_served() {
    let room = Room::open(Settings::default()).await;
    room.provision(MAC, TOKEN, "vmlinuz").await;
    assert_eq!(room.get(&room.kernel()).await.body, KERNEL);
    for content in ["0123456780", "0123456789", "short"] {
        std::fs::write(room.path("images/vmlinuz"), content).expect("written");
        let reply = room.get(&room.kernel()).await;
        let is_right = content.as_bytes() == KERNEL;
        assert_eq!(reply.status, if is_right { 200 } else { 409 }, "{content}");
        assert_eq!(reply.text().contains(content), is_right);
    }
    std::fs::remove_file(room.path("images/vmlinuz")).expect("removed");
    assert_eq!(room.get(&room.kernel()).await.status, 404);
}

#[tokio::test]
async fn a_file_that_is_still_being_checked_is_not_served() {
    let settings = Settings { digest_time: Duration::ZERO, ..Settings::default() };
    let room = Room::open(settings).await;
    room.provision(MAC, TOKEN, "large").await;
    let path = format!("/boot/{}/0/large", TOKEN.digits());
    let first = room.get(&path).await;
    assert_eq!((first.status, first.header("retry-after").as_str()), (503, "1"));
    limited(async {
        loop {
            let reply = room.get(&path).await;
            if reply.status != 503 {
                return assert_eq!(reply.status, 200);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_arrives_as_it_is() {
    let room = Room::open(Settings::default()).await;
    room.provision(MAC, TOKEN, "large").await;
    let path = format!("/boot/{}/0/large", TOKEN.digits());
    let reply = room.get(&path).await;
    assert_eq!((reply.status, reply.body.len()), (200, LARGE));
    assert!(reply.body == large(), "the content differs");
    let request = format!("GET {path} HTTP/1.1\r\nRange: bytes=12345678-\r\n\r\n");
    assert!(room.ask(&request).await.body == large()[12_345_678..], "the content differs");
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_sent_does_not_arrive_whole() {
    let room = Room::open(Settings::default()).await;
    room.provision(MAC, TOKEN, "large").await;
    let mut stream = room.connect().await;
    let request = format!("GET /boot/{}/0/large HTTP/1.1\r\n\r\n", TOKEN.digits());
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut all = vec![0; 1000];
    limited(stream.read_exact(&mut all)).await.expect("it begins");
    std::fs::write(room.path("images/large"), vec![0; LARGE]).expect("written");
    let _ = limited(stream.read_to_end(&mut all)).await;
    assert!(all.len() < LARGE, "{} bytes came", all.len());
}

#[tokio::test]
async fn a_client_that_does_not_end_its_head_is_cut() {
    let settings = Settings {
        head_time: Duration::from_millis(200),
        idle_time: Duration::from_secs(600),
        ..Settings::default()
    };
    let room = Room::open(settings).await;
    let mut silent = room.connect().await;
    let mut slow = room.connect().await;
    // Its second head is the slow one: once begun, it has no more time than a first.
    slow.write_all(b"GET /infrakit.ipxe HTTP/1.1\r\n\r\n").await.expect("sent");
    Reply::read(&mut slow, true).await.expect("a reply");
    slow.write_all(b"GET /infrakit.ipxe HTTP/1.1\r\nx: ").await.expect("sent");
    assert_eq!(limited(silent.read(&mut [0; 8])).await.unwrap_or(0), 0);
    assert_eq!(limited(slow.read(&mut [0; 8])).await.unwrap_or(0), 0);
    assert_eq!(room.get("/infrakit.ipxe").await.status, 200);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_stalled_transfer_cut() {
    let settings = Settings {
        // Longer than the test waits: it must not be what ends the connection.
        head_time: Duration::from_secs(600),
        idle_time: Duration::from_millis(200),
        stall_time: Duration::from_millis(200),
        ..Settings::default()
    };
    let room = Room::open(settings).await;
    room.provision(MAC, TOKEN, "large").await;
    let mut idle = room.connect().await;
    idle.write_all(b"GET /infrakit.ipxe HTTP/1.1\r\n\r\n").await.expect("sent");
    Reply::read(&mut idle, true).await.expect("a reply");
    assert_eq!(limited(idle.read(&mut [0; 8])).await.unwrap_or(0), 0);
    // Nothing is read until the server has hung up: then less than all is there.
    let mut stalled = room.connect().await;
    let request = format!("GET /boot/{}/0/large HTTP/1.1\r\n\r\n", TOKEN.digits());
    stalled.write_all(request.as_bytes()).await.expect("sent");
    limited(room.until_connections_end(&stalled)).await;
    let mut all = Vec::new();
    let _ = limited(stalled.read_to_end(&mut all)).await;
    assert!(!all.is_empty() && all.len() < LARGE, "{} bytes came", all.len());
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let settings = Settings { connections_per_client: 2, ..Settings::default() };
    let room = Room::open(settings).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = room.connect().await;
        stream.write_all(b"GET /infrakit.ipxe HTTP/1.1\r\n\r\n").await.expect("sent");
        assert_eq!(Reply::read(&mut stream, true).await.expect("a reply").status, 200);
        kept.push(stream);
    }
    let mut third = room.connect().await;
    third.write_all(b"GET /infrakit.ipxe HTTP/1.1\r\n\r\n").await.expect("sent");
    let refused = Reply::read(&mut third, true).await.expect("a reply");
    assert_eq!((refused.status, refused.header("retry-after").as_str()), (503, "1"));
    drop(kept);
    limited(async { while room.get("/infrakit.ipxe").await.status != 200 {} }).await;
}

#[tokio::test]
async fn over_the_limit_each_waits_for_its_turn_and_who_is_idle_makes_room() {
    let room = Room::open(Settings { connections: 4, ..Settings::default() }).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let mut stream = room.connect().await;
        asking.spawn(async move {
            stream.write_all(b"GET /infrakit.ipxe HTTP/1.1\r\n\r\n").await.expect("sent");
            // It keeps its connection, as iPXE does.
            (Reply::read(&mut stream, true).await.expect("a reply").status, stream)
        });
    }
    let mut kept = Vec::new();
    while let Some(answered) = limited(asking.join_next()).await {
        let (status, stream) = answered.expect("no panic");
        assert_eq!(status, 200);
        kept.push(stream);
    }
    assert_eq!(kept.len(), 12);
}

#[tokio::test]
async fn who_has_begun_a_request_has_the_usual_time_for_it_while_others_wait() {
    // Longer than others wait before they ask for the places of those that are idle.
    let head_time = Duration::from_secs(4);
    let room = Room::open(Settings { connections: 1, head_time, ..Settings::default() }).await;
    room.provision(MAC, TOKEN, "vmlinuz").await;
    let mut first = room.connect().await;
    first.write_all(b"GET /infrakit.ipxe HTTP/1.1\r\n\r\n").await.expect("sent");
    Reply::read(&mut first, true).await.expect("a reply");
    let mut waiting = room.connect().await;
    waiting.write_all(b"GET /infrakit.ipxe HTTP/1.1\r\n\r\n").await.expect("sent");
    // A report whose body takes its time is whole.
    let path = format!("/report/{}/failed", report_token().digits());
    let head = format!("POST {path} HTTP/1.1\r\nContent-Length: 6\r\n\r\n");
    first.write_all(head.as_bytes()).await.expect("sent");
    tokio::time::sleep(head_time * 3 / 4).await;
    first.write_all(b"broken").await.expect("sent");
    assert_eq!(Reply::read(&mut first, true).await.expect("a reply").status, 200);
    assert_eq!(room.progress().failure.as_deref(), Some("broken"));
    // And a head that does not end gives nobody more time.
    first.write_all(b"GET /infrakit.ipxe HTTP/1.1\r\nx: ").await.expect("sent");
    assert_eq!(Reply::read(&mut waiting, true).await.expect("a reply").status, 200);
}

#[tokio::test]
async fn stopping_ends_idle_connections_at_once_and_transfers_soon() {
    let settings = Settings { stop_time: Duration::from_millis(300), ..Settings::default() };
    let mut room = Room::open(settings).await;
    room.provision(MAC, TOKEN, "large").await;
    let mut idle = room.connect().await;
    idle.write_all(b"GET /infrakit.ipxe HTTP/1.1\r\n\r\n").await.expect("sent");
    Reply::read(&mut idle, true).await.expect("a reply");
    let mut running = room.connect().await;
    let request = format!("GET /boot/{}/0/large HTTP/1.1\r\n\r\n", TOKEN.digits());
    running.write_all(request.as_bytes()).await.expect("sent");
    limited(running.read_exact(&mut [0; 1000])).await.expect("it begins");
    room.stop.cancel();
    assert_eq!(limited(idle.read(&mut [0; 8])).await.unwrap_or(0), 0);
    limited(&mut room.serving).await.expect("no panic").expect("no error");
    assert!(TcpStream::connect(room.address).await.is_err());
}

#[tokio::test]
async fn the_image_of_the_command_line_is_served_and_nothing_beside_it() {
    let room = Room::open_with(Settings::default(), true).await;
    let script = room.get("/infrakit.ipxe").await;
    let paths: Vec<String> = script
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("set trying http://10.0.0.1/"))
        .map(|path| format!("/{path}"))
        .collect();
    assert_eq!(paths, ["/unclaimed/0/vmlinuz", "/unclaimed/1/large"]);
    for (path, length) in paths.iter().zip([KERNEL.len(), LARGE]) {
        assert_eq!(room.get(path).await.body.len(), length, "{path}");
    }
    assert_eq!(room.get("/unclaimed/0/large").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_and_wget_are_served_where_they_are() {
    let room = Room::open(Settings::default()).await;
    room.provision(MAC, TOKEN, "large").await;
    let url = format!("http://{}/boot/{}/0/large", room.address, TOKEN.digits());
    let got = room.path("got");
    let got = got.to_str().expect("a plain path");
    for command in [
        vec!["curl", "-sSf", "-o", got, &url],
        vec!["curl", "-sSf", "-0", "-o", got, &url],
        // The second half of a download that was broken off.
        vec!["curl", "-sSf", "-C", "-", "-o", got, &url],
        vec!["wget", "-q", "-O", got, &url],
        vec!["wget", "-q", "-c", "-O", got, &url],
    ] {
        if command.iter().any(|word| matches!(*word, "-C" | "-c")) {
            std::fs::write(got, &large()[..LARGE / 2]).expect("written");
        }
        let Some(succeeded) = run(&command).await else { continue };
        assert!(succeeded, "{command:?}");
        assert!(std::fs::read(got).expect("downloaded") == large(), "{command:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_of_curl_wget_and_busybox_are_heard_and_answered() {
    let room = Room::open(Settings::default()).await;
    room.provision(MAC, TOKEN, "vmlinuz").await;
    let report = room.report();
    let (ready, failed) = (format!("{report}/ready"), format!("{report}/failed"));
    let of_query = format!("{failed}?reason=by+query%21");
    let drain = format!("{ready}?drain=:8080/stop");
    for (command, failure) in [
        (vec!["curl", "-sSf", &failed, "-d", "by -d"], Some("by -d")),
        (vec!["curl", "-sSf", &ready], None),
        (vec!["curl", "-sSf", &failed, "--data-urlencode", "urlencoded &"], Some("urlencoded &")),
        (vec!["curl", "-sSf", &drain], None),
        (vec!["wget", "-qO-", &of_query], Some("by query!")),
        (vec!["wget", "-qO-", &ready], None),
        (vec!["wget", "-qO-", "--post-data", "by POST", &failed], Some("by POST")),
        (vec!["wget", "-qO-", "--post-data=", &ready], None),
        (vec!["busybox", "wget", "-qO-", &of_query], Some("by query!")),
        (vec!["busybox", "wget", "-qO-", &ready], None),
        (vec!["busybox", "wget", "-qO-", "--post-data", "by busybox", &failed], Some("by busybox")),
        (vec!["busybox", "wget", "-qO-", &drain], None),
    ] {
        let Some((succeeded, words)) = output(&command).await else { continue };
        assert!(succeeded && words == "keep\n", "{command:?}: {words}");
        let progress = room.progress();
        assert_eq!(progress.failure.as_deref(), failure, "{command:?}");
        let state = if failure.is_none() { InstanceState::Running } else { InstanceState::Failed };
        assert_eq!(progress.state, state, "{command:?}");
    }
    let callback = room.progress().drain.callback.clone().expect("curl is there");
    let place = (callback.address, callback.port, callback.path.as_str());
    assert_eq!(place, ([127, 0, 0, 1].into(), 8080, "/stop"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_of_shell_hears_that_its_machine_is_no_longer_wanted() {
    let room = Room::open(Settings::default()).await;
    room.provision(MAC, TOKEN, "vmlinuz").await;
    let line = |client: &str| {
        let poll = format!("{client} \"{}\"", room.report());
        format!("case \"$({poll})\" in gone*) echo off;; drain*) echo stop;; keep*) echo on;; esac")
    };
    let hear = async |expected: &str| {
        for client in ["wget -qO-", "busybox wget -qO-", "curl -s"] {
            let program = client.split(' ').next().expect("a word");
            if output(&[program, "--help"]).await.is_none() {
                continue;
            }
            let (_, heard) = output(&["sh", "-c", &line(client)]).await.expect("a shell");
            assert_eq!(heard, format!("{expected}\n"), "{client}");
        }
    };
    hear("on").await;
    let id = room.store.look(|state| state.instances.of_machine(MAC).expect("provisioned").id);
    let asked = room.progress().drain_asked(Timestamp::from(SystemTime::now()));
    room.change(Change::Progress(id, asked)).await;
    hear("stop").await;
    let drained = room.get(&format!("/report/{}/drained", report_token().digits())).await;
    assert_eq!((drained.status, drained.text()), (200, "keep\n"));
    hear("on").await;
    room.change(Change::Destroyed(Destroyed {
        id,
        at: Timestamp::from(SystemTime::now()),
        reason: Reason::Terminate,
        mac: MAC,
        report: report_token(),
    }))
    .await;
    hear("off").await;
}

#[tokio::test]
async fn a_client_that_waits_for_a_word_before_its_body_gets_it_or_the_refusal() {
    let room = Room::open(Settings::default()).await;
    room.provision(MAC, TOKEN, "vmlinuz").await;
    let path = format!("/report/{}/failed", report_token().digits());
    let head = |length: usize| {
        format!("POST {path} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut stream = room.connect().await;
    for reason in ["first", "second"] {
        stream.write_all(head(reason.len()).as_bytes()).await.expect("sent");
        let mut word = [0; 25];
        limited(stream.read_exact(&mut word)).await.expect("a word");
        assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
        // In two pieces, and with the next request behind it.
        let (one, other) = reason.split_at(2);
        stream.write_all(one.as_bytes()).await.expect("sent");
        let rest = format!("{other}GET /nope HTTP/1.1\r\n\r\n");
        stream.write_all(rest.as_bytes()).await.expect("sent");
        for status in [200, 404] {
            let reply = Reply::read(&mut stream, true).await.expect("a reply");
            assert_eq!(reply.status, status, "{reason}");
        }
        assert_eq!(room.progress().failure.as_deref(), Some(reason));
    }
    // Who does not wait for it is told nothing twice.
    let eager = room.ask(&format!("{}eager", head(5))).await;
    assert_eq!((eager.status, eager.text()), (200, "keep\n"));
    assert_eq!(room.ask(&head(4097)).await.status, 413);
    assert_eq!(room.progress().failure.as_deref(), Some("eager"));
}

#[tokio::test]
async fn a_body_that_does_not_come_holds_nothing() {
    let settings = Settings { head_time: Duration::from_millis(50), ..Settings::default() };
    let room = Room::open(settings).await;
    room.provision(MAC, TOKEN, "vmlinuz").await;
    let path = format!("/report/{}/failed", report_token().digits());
    let mut stream = room.connect().await;
    let request = format!("POST {path} HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf");
    stream.write_all(request.as_bytes()).await.expect("sent");
    assert_eq!(limited(stream.read(&mut [0; 8])).await.expect("closed"), 0);
    assert_eq!(room.progress().failure, None, "half a reason is none");
}

const LARGE: usize = 20 << 20;

/// Bytes of which no megabyte is like another, made once.
fn large() -> &'static [u8] {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut word: u32 = 1;
        let next = || {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            word.to_le_bytes()
        };
        std::iter::repeat_with(next).take(LARGE / 4).flatten().collect()
    });
    &BYTES
}

/// Whether the program succeeds; nothing if this computer has none such.
async fn run(command: &[&str]) -> Option<bool> {
    output(command).await.map(|(succeeded, _)| succeeded)
}

/// Whether the program succeeds, and what it writes; nothing if this computer
/// has none such.
async fn output(command: &[&str]) -> Option<(bool, String)> {
    let mut process = std::process::Command::new(command[0]);
    process.args(&command[1..]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let ended = tokio::task::spawn_blocking(move || process.output());
    let output = limited(ended).await.expect("no panic").ok()?;
    Some((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// The secret of the place where the machine reports in.
const fn report_token() -> Token {
    Token(TOKEN.0 << 16)
}

/// The outcome, within a time that only a server that hangs needs.
async fn limited<Outcome>(future: impl Future<Output = Outcome>) -> Outcome {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("in time")
}

/// A room with a store, files, and a lease for who asks from this computer.
struct Room {
    address: SocketAddr,
    store: Store,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    directory: tempfile::TempDir,
}

impl Room {
    async fn open(settings: Settings) -> Self {
        Self::open_with(settings, false).await
    }

    async fn open_with(settings: Settings, unclaimed: bool) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        for name in ["images", "loaders", "state"] {
            std::fs::create_dir(path(name)).expect("made");
        }
        std::fs::write(path("secret"), "secret").expect("written");
        std::fs::write(path("images/vmlinuz"), KERNEL).expect("written");
        std::fs::write(path("images/large"), large()).expect("written");
        std::fs::write(path("loaders/undionly.kpxe"), "bios program").expect("written");
        std::os::unix::fs::symlink("../secret", path("images/out")).expect("linked");
        let store = Store::open(&path("state"), None).expect("a new store");
        let now = Timestamp::from(SystemTime::now());
        let lease = Lease {
            address: [127, 0, 0, 1].into(),
            mac: MAC,
            state: LeaseState::Bound,
            expires: now.after(Duration::from_secs(3600)),
        };
        store.decide(|_| Decision::with((), Change::Lease(lease))).await.expect("written");
        let image = UnclaimedImage {
            kernel: path("images/vmlinuz"),
            initrds: vec![path("images/large")],
            cmdline: "quiet".to_owned(),
        };
        let policy = Policy {
            rules: if unclaimed { Rules::image(image) } else { Rules::default() },
            authority: "10.0.0.1".to_owned(),
            server: [10, 0, 0, 1].into(),
            paths: remoteboot::boot::Paths::default(),
        };
        let http = Http {
            store: store.clone(),
            images: Images::new(path("images")),
            loaders: Arc::new(Loaders::only_from(vec![path("loaders")])),
            policy: Arc::new(policy),
            addressing: Addressing::Ours,
            settings,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, http, stop.clone()));
        Self { address, store, stop, serving, directory }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn kernel(&self) -> String {
        format!("/boot/{}/0/vmlinuz", TOKEN.digits())
    }

    /// As Provision would: this machine boots this file, as it is now.
    async fn provision(&self, mac: Mac, token: Token, file: &str) {
        let content = std::fs::read(Path::new(&self.path("images")).join(file)).expect("there");
        let checksum = Checksum(Sha256::digest(content).into());
        let now = Timestamp::from(SystemTime::now());
        let instance = Instance {
            id: InstanceId::next(None, Timestamp(u64::try_from(token.0).expect("small"))),
            logical_id: None,
            tags: [].into(),
            init: String::new().into(),
            mac,
            address: None,
            hostname: "web-1".parse().expect("a name"),
            index: None,
            boot: BootMode::Always,
            image: Some(
                Image {
                    kernel: Asset {
                        source: Source::File(file.parse().expect("a name")),
                        checksum: Some(checksum),
                    },
                    initrds: Vec::new(),
                    cmdline: "quiet".to_owned(),
                }
                .into(),
            ),
            secrets: Secrets {
                files: token,
                init: Token(token.0 << 8),
                report: Token(token.0 << 16),
            },
            provisioned_at: now,
            progress: Progress::new(now),
        };
        let change = Change::Instance(instance);
        self.change(change).await;
    }

    async fn change(&self, change: Change) {
        self.store.decide(|_| Decision::with((), change)).await.expect("written");
    }

    /// Where the machine reports in.
    fn report(&self) -> String {
        format!("http://{}/report/{}", self.address, report_token().digits())
    }

    fn progress(&self) -> Progress {
        self.store.look(|state| state.instances.of_machine(MAC).expect("lives").progress.clone())
    }

    fn stage(&self) -> Option<Stage> {
        self.store.look(|state| state.machines.find(MAC).and_then(|machine| machine.stage))
    }

    async fn connect(&self) -> TcpStream {
        limited(TcpStream::connect(self.address)).await.expect("connected")
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n")).await
    }

    /// The reply to one request on a connection of its own.
    async fn ask(&self, request: &str) -> Reply {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.expect("sent");
        let with_body = !request.starts_with("HEAD");
        Reply::read(&mut stream, with_body).await.expect("a reply")
    }

    /// Until the server has closed its end of this connection, seen without
    /// reading: the kernel lists it no more as established.
    async fn until_connections_end(&self, stream: &TcpStream) {
        let local = stream.local_addr().expect("connected").port();
        let row = format!("0100007F:{:04X} 0100007F:{local:04X} 01", self.address.port());
        loop {
            let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
            if !table.contains(&row) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Debug)]
struct Reply {
    version: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    /// The next reply; nothing if the connection ends before it does.
    async fn read(stream: &mut TcpStream, with_body: bool) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(limited(stream.read_u8()).await.ok()?);
        }
        let head = String::from_utf8(head).expect("ASCII");
        let mut lines = head.lines();
        let mut first = lines.next()?.splitn(3, ' ');
        let (version, status) = (first.next()?.to_owned(), first.next()?.parse().ok()?);
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut reply = Self { version, status, headers, body: Vec::new() };
        if with_body && status != 304 {
            reply.body = vec![0; reply.length()];
            limited(stream.read_exact(&mut reply.body)).await.ok()?;
        }
        Some(reply)
    }

    fn header(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    fn length(&self) -> usize {
        self.header("content-length").parse().expect("always there")
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or("(binary)")
    }
}
