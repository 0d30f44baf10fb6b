//! How fast machines are sent to, measured at clients of the running daemon.
//!
//! A busy computer is slow, so nothing here asks how fast it is at least but for what
//! a tenth of any computer does. What is asked is that nothing comes sooner than it
//! may: at any time since its beginning, no more than the rate times that time.

mod daemon;
mod machine;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use daemon::{Daemon, Home, LIMIT};
use machine::{IPXE, Machine, Ports};
use socket2::{Domain, Socket, Type};

/// Octets of the file, and what is sent of it in a second.
const LENGTH: usize = 8_000_000;
const RATE: f64 = 4_000_000.0;

/// What may come at once: one piece, and what may be made up for.
const BURST: f64 = 100_000.0;

/// A daemon whose machines all boot the same large file.
struct Place {
    daemon: Daemon,
    address: SocketAddr,
    _home: Home,
}

impl Place {
    fn new(arguments: &[&str]) -> Self {
        let home = Home::new();
        fs::write(home.images().join("initrd.img"), vec![7; LENGTH]).expect("written");
        let port = free_port();
        let path = |name| home.images().join(name).display().to_string();
        let (kernel, initrd, port_text) = (path("vmlinuz"), path("initrd.img"), port.to_string());
        let own = [
            &kernel,
            &initrd,
            "quiet",
            "--enableHTTP",
            "--addressHTTP=127.0.0.1",
            "--http-port",
            &port_text,
        ];
        let daemon = home.start(&[&own, arguments].concat());
        Self { daemon, address: ([127, 0, 0, 1], port).into(), _home: home }
    }

    /// Fetches the file from this address of ours; what had come when.
    fn fetch(&self, from: Ipv4Addr) -> Vec<(Instant, usize)> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((from, 0)).into()).expect("all of 127/8 is ours");
        socket.connect(&self.address.into()).expect("it listens");
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        let mut arrivals = vec![(Instant::now(), 0)];
        stream
            .write_all(b"GET /unclaimed/1/initrd.img HTTP/1.1\r\nConnection: close\r\n\r\n")
            .expect("sent");
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = stream.read(&mut buffer).expect("more, or the end");
            if count == 0 {
                return arrivals;
            }
            arrivals.push((Instant::now(), count));
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

/// The whole of several fetches in the order of time, from the first request on.
fn together(fetches: &[Vec<(Instant, usize)>]) -> Vec<(Duration, f64)> {
    let mut all: Vec<(Instant, usize)> = fetches.concat();
    all.sort_by_key(|(at, _)| *at);
    let begun = all.first().expect("it began").0;
    let mut total = 0.0;
    let summed = all.into_iter().map(|(at, count)| {
        total += f64::from(u32::try_from(count).expect("a piece"));
        (at - begun, total)
    });
    summed.collect()
}

/// Nothing was sooner than the rate allows; says how fast it was.
#[track_caller]
fn assert_paced(arrivals: &[(Duration, f64)]) {
    for (time, total) in arrivals {
        let most = RATE * time.as_secs_f64() + BURST;
        assert!(*total <= most, "{total} octets after {time:?}, {most} at most");
    }
    let (time, total) = arrivals.last().expect("it ended");
    println!("{:.2} MB/s of {:.2}", total / time.as_secs_f64() / 1e6, RATE / 1e6);
}

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[test]
fn a_machine_is_sent_its_files_evenly_and_no_faster_than_its_pace() {
    let place = Place::new(&["--pace=4M"]);
    let arrivals = together(&[place.fetch(ONE)]);
    assert!(arrivals.last().expect("it came").1 > 8e6, "all of it");
    assert_paced(&arrivals);
}

#[test]
fn connections_of_one_machine_share_its_pace_and_other_machines_have_their_own() {
    let place = Place::new(&["--pace=32Mbit"]);
    let start = Barrier::new(3);
    let fetch = |from| {
        start.wait();
        place.fetch(from)
    };
    let (first, second, other) = thread::scope(|scope| {
        let own = [scope.spawn(|| fetch(ONE)), scope.spawn(|| fetch(ONE))];
        let other = scope.spawn(|| fetch(OTHER)).join().expect("no panic");
        let [first, second] = own.map(|own| own.join().expect("no panic"));
        (first, second, other)
    });
    let own = together(&[first.clone(), second]);
    assert_paced(&own);
    let other_alone = together(std::slice::from_ref(&other));
    assert_paced(&other_alone);
    // It has the same to fetch as either of the two, and a pace of its own for it.
    let other_time = other_alone.last().expect("it ended").0;
    let own_time = own.last().expect("it ended").0;
    assert!(other_time < own_time.mul_f64(0.75), "{other_time:?} beside {own_time:?}");
}

#[test]
fn machines_that_boot_together_are_told_so_one_after_the_other() {
    let (home, ports) = (Home::new(), Ports::free());
    let arguments = ports.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _daemon = home.start(&[&arguments[..], &["--spread=10"]].concat());
    let begun = Instant::now();
    for number in 1..=12 {
        Machine::new(number, ports).lease(IPXE);
    }
    // A tenth of a second for each but the first, and a quarter of one is made up for.
    assert!(begun.elapsed() >= Duration::from_millis(850), "{:?}", begun.elapsed());
}

#[test]
fn without_a_pace_it_goes_as_fast_as_it_can() {
    let place = Place::new(&[]);
    let arrivals = together(&[place.fetch(ONE)]);
    let (time, _) = arrivals.last().expect("it came");
    assert!(*time < Duration::from_secs(1), "{time:?}");
    assert!(place.daemon.pid() > 0);
}
