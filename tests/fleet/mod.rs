//! Bare machines that live: each leases its address, waits in the hold script,
//! boots what it is told to, reports in, does what its page says, and starts
//! again when it is gone. On loopback, over real sockets, each in a thread.
//!
//! They put up with a daemon that is not there: they ask again, as firmware and
//! the lab's system do.
// Each test file uses its own part of it.
#![allow(dead_code)]

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use remoteboot::model::Mac;
use socket2::{Domain, Socket, Type};

use crate::machine::{self, HOST, IPXE, Ports};

/// Between two questions of a machine; iPXE and the lab's system take seconds.
const PAUSE: Duration = Duration::from_millis(60);

/// How long a machine waits for an answer before it asks again.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a machine runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) cmdline: String,
    /// The address that it has while it runs this.
    pub(crate) address: Ipv4Addr,
}

impl Running {
    /// The value of a word of its command line.
    pub(crate) fn word(&self, key: &str) -> Option<&str> {
        let words = self.cmdline.split_whitespace();
        words.filter_map(|word| word.split_once('=')).find(|(one, _)| *one == key).map(|one| one.1)
    }
}

/// What one machine has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Life {
    /// What it runs; nothing while it is off or on its way.
    pub(crate) running: Option<Running>,
    /// Whether it is in the hold script.
    pub(crate) waits: bool,
    /// Its addresses, each once.
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// The command lines that it was started with, in order.
    pub(crate) booted: Vec<String>,
    /// How often it was told to stop its work.
    pub(crate) drained: u32,
}

/// Machines that are switched on until they are switched off or this is dropped.
pub(crate) struct Fleet {
    machines: Vec<One>,
}

struct One {
    mac: Mac,
    life: Arc<Mutex<Life>>,
    off: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fleet {
    /// Switches on so many machines, the first with number 1.
    pub(crate) fn power_on(count: u8, ports: Ports) -> Self {
        // All are behind one relay, whose port only one can listen on.
        let relay = Arc::new(Mutex::new(()));
        let machines = (1..=count).map(|number| {
            let machine = machine::Machine::new(number, ports);
            let (life, off) = (Arc::<Mutex<Life>>::default(), Arc::new(AtomicBool::new(false)));
            let bare = Bare {
                machine,
                life: Arc::clone(&life),
                off: Arc::clone(&off),
                relay: Arc::clone(&relay),
            };
            let thread = Some(std::thread::spawn(move || bare.live()));
            One { mac: machine.mac, life, off, thread }
        });
        Self { machines: machines.collect() }
    }

    /// The card of the machine with this number.
    pub(crate) fn mac(&self, number: usize) -> String {
        self.machines[number - 1].mac.to_string()
    }

    /// What the machine with this card has done.
    pub(crate) fn life(&self, mac: &str) -> Life {
        self.one(mac).life.lock().expect("no panic").clone()
    }

    /// What the machine with this card runs.
    pub(crate) fn running(&self, mac: &str) -> Option<Running> {
        self.life(mac).running
    }

    /// How many run something.
    pub(crate) fn count_running(&self) -> usize {
        let runs = |one: &&One| one.life.lock().expect("no panic").running.is_some();
        self.machines.iter().filter(runs).count()
    }

    /// How many are in the hold script.
    pub(crate) fn count_waiting(&self) -> usize {
        self.machines.iter().filter(|one| one.life.lock().expect("no panic").waits).count()
    }

    /// Pulls the plug of this machine.
    pub(crate) fn power_off(&mut self, mac: &str) {
        let found = self.machines.iter_mut().find(|one| one.mac.to_string() == mac);
        found.expect("one of ours").end();
    }

    fn one(&self, mac: &str) -> &One {
        self.machines.iter().find(|one| one.mac.to_string() == mac).expect("one of ours")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for one in &self.machines {
            one.off.store(true, Ordering::Relaxed);
        }
        self.machines.iter_mut().for_each(One::end);
    }
}

impl One {
    fn end(&mut self) {
        self.off.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a machine has panicked");
        }
        let mut life = self.life.lock().expect("no panic");
        (life.running, life.waits) = (None, false);
    }
}

/// A machine from its own side.
struct Bare {
    machine: machine::Machine,
    life: Arc<Mutex<Life>>,
    off: Arc<AtomicBool>,
    relay: Arc<Mutex<()>>,
}

impl Bare {
    /// Starts again and again until the plug is pulled.
    fn live(&self) {
        while self.is_on() {
            let _ = self.start();
            std::thread::sleep(PAUSE);
        }
    }

    fn is_on(&self) -> bool {
        !self.off.load(Ordering::Relaxed)
    }

    /// From the firmware to the end of what it runs.
    fn start(&self) -> Option<()> {
        let (address, script_url) = self.lease(IPXE)?;
        let script = loop {
            if !self.is_on() {
                return None;
            }
            match self.get(address, &script_url) {
                Ok((200, script)) if script.contains("kernel --name") => break script,
                // It waits, or nobody is there: it asks again.
                Ok((200, _)) => self.waits(true),
                Err(_) => {}
                Ok((status, text)) => panic!("{}: {status} {text}", self.machine.mac),
            }
            std::thread::sleep(PAUSE);
        };
        self.waits(false);
        let (kernel, cmdline) = machine::kernel_of(&script);
        if !matches!(self.get(address, &kernel), Ok((200, _))) {
            return None;
        }
        // The system asks for itself: while its machine waited, an address may have
        // been kept for it.
        let address = loop {
            match self.lease(HOST) {
                Some((address, _)) => break address,
                None if self.is_on() => {}
                None => return None,
            }
        };
        let running = Running { cmdline: cmdline.clone(), address };
        {
            let mut life = self.life.lock().expect("no panic");
            life.booted.push(cmdline);
            life.running = Some(running.clone());
        }
        self.run(&running);
        self.life.lock().expect("no panic").running = None;
        Some(())
    }

    fn waits(&self, waits: bool) {
        self.life.lock().expect("no panic").waits = waits;
    }

    /// What the lab's system does, until it is gone or the plug is pulled.
    fn run(&self, running: &Running) {
        let Some(report) = running.word("report") else {
            while self.is_on() {
                std::thread::sleep(PAUSE);
            }
            return;
        };
        let mut word = match (running.word("lab.mute"), running.word("lab.fail")) {
            (Some(_), _) => None,
            (None, Some(reason)) => Some(format!("/failed?reason={reason}")),
            (None, None) => Some("/ready".to_owned()),
        };
        let mut is_drained = false;
        while self.is_on() {
            if let Some(said) = &word
                && let Ok((200, _)) = self.get(running.address, &format!("{report}{said}"))
            {
                word = None;
            }
            match self.get(running.address, report) {
                Ok((200, order)) if order.starts_with("gone") => return,
                Ok((200, order)) if order.starts_with("drain") && !is_drained => {
                    is_drained = true;
                    word = Some("/drained".to_owned());
                    self.life.lock().expect("no panic").drained += 1;
                }
                Ok((200, _)) | Err(_) => std::thread::sleep(PAUSE),
                Ok((status, text)) => panic!("{}: {status} {text}", self.machine.mac),
            }
        }
    }

    /// DISCOVER to ACK; the address, and where the script is.
    fn lease(&self, client: &[&[u8]]) -> Option<(Ipv4Addr, String)> {
        let _turn = self.relay.lock().expect("no panic");
        let discover = [&[b"\x35\x01\x01".as_slice()], client].concat();
        let offer = self.machine.ask(&discover, PATIENCE)?;
        let mut wanted = vec![53, 1, 3, 54, 4, 127, 0, 0, 1, 50, 4];
        wanted.extend_from_slice(&offer.address.octets());
        let granted = self.machine.ask(&[&[wanted.as_slice()], client].concat(), PATIENCE)?;
        if granted.kind != 5 {
            return None;
        }
        let mut life = self.life.lock().expect("no panic");
        if !life.addresses.contains(&granted.address) {
            life.addresses.push(granted.address);
        }
        Some((granted.address, granted.boot_file))
    }

    /// The status and the body.
    fn get(&self, from: Ipv4Addr, url: &str) -> io::Result<(u16, String)> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddrV4::new(from, 0).into())?;
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.machine.ports.http);
        socket.connect(&server.into())?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let path = self.machine.path(url);
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        match (status, body) {
            (Some(status), Some(body)) => Ok((status, body)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
