//! What was acknowledged survives `kill -9`: the daemon is killed at random
//! moments under load from controllers and machines, a hundred times, and what
//! is on disk afterwards is compared with every answer that was received.

mod daemon;
mod machine;

use std::{
    collections::{HashMap, HashSet},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use daemon::Home;
use machine::free_port;
use remoteboot::{
    model::{InstanceId, LeaseState, Mac},
    state::State,
    store::Store,
};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

const KILLS: u32 = 100;
const CONTROLLERS: u32 = 3;
const MACHINES: u8 = 2;

/// Every answer that was received, over all lives of the daemon.
#[derive(Default)]
struct Ledger {
    provisioned: HashMap<InstanceId, Mac>,
    labelled: HashMap<InstanceId, String>,
    /// Destroy was asked for; it may have happened.
    doubtful: HashSet<InstanceId>,
    destroyed: HashSet<InstanceId>,
    leases: HashMap<Ipv4Addr, Mac>,
}

struct Load<'a> {
    socket: PathBuf,
    dhcp_port: u16,
    /// The next card that was never used.
    card: &'a AtomicU32,
    ledger: &'a Mutex<Ledger>,
    stop: AtomicBool,
}

impl Load<'_> {
    fn next_card(&self) -> Mac {
        let [a, b, c, d] = self.card.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        Mac::new([2, 0, a, b, c, d])
    }

    fn runs(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Provisions the machine; nothing if the daemon is gone.
    fn provision(&self, mac: Mac, mut properties: Value) -> Option<InstanceId> {
        properties["Kernel"] = json!("vmlinuz");
        properties["MAC"] = json!(mac.to_string());
        let spec = json!({"Properties": properties, "Tags": {"mac": mac.to_string()}});
        let result = call(&self.socket, "Instance.Provision", &json!({"Type": "", "Spec": spec}))?;
        let id: InstanceId = result["ID"].as_str().expect("an ID").parse().expect("ours");
        let before = self.ledger.lock().expect("no panic").provisioned.insert(id, mac);
        assert_eq!(before, None, "{id} was issued twice");
        Some(id)
    }

    /// Provisions, labels and destroys until the daemon is gone.
    fn control(&self) {
        let mut turn = 0;
        while self.runs() {
            let Some(id) = self.provision(self.next_card(), json!({})) else { return };
            turn += 1;
            match turn % 3 {
                0 => {
                    self.ledger.lock().expect("no panic").doubtful.insert(id);
                    let parameters = json!({"Type": "", "Instance": id.to_string()});
                    if call(&self.socket, "Instance.Destroy", &parameters).is_some() {
                        self.ledger.lock().expect("no panic").destroyed.insert(id);
                    }
                }
                1 => {
                    let labels = json!({"turn": turn.to_string()});
                    let parameters =
                        json!({"Type": "", "Instance": id.to_string(), "Labels": labels});
                    if call(&self.socket, "Instance.Label", &parameters).is_some() {
                        self.ledger.lock().expect("no panic").labelled.insert(id, turn.to_string());
                    }
                }
                _ => {}
            }
        }
    }

    /// Leases addresses as ever new machines behind a relay at `relay`, of which each
    /// second one has an instance that keeps its address.
    fn boot(&self, relay: Ipv4Addr) {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("a socket");
        socket.bind(&SocketAddrV4::new(relay, self.dhcp_port).into()).expect("a relay's address");
        socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket");
        let socket = UdpSocket::from(socket);
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.dhcp_port);
        let ask = |mac: Mac, options: &[u8]| -> Option<Vec<u8>> {
            let packet = request(mac, relay, options);
            socket.send_to(&packet, server).ok()?;
            let mut answer = [0; 1500];
            loop {
                let length = socket.recv(&mut answer).ok()?;
                if answer[28..34] == mac.bytes() && length > 240 {
                    return Some(answer[..length].to_vec());
                }
            }
        };
        let mut is_kept = false;
        while self.runs() {
            let mac = self.next_card();
            is_kept = !is_kept;
            if is_kept {
                let [.., a, b, c] = mac.bytes();
                let address = Ipv4Addr::new(127, 128 | a, b, c);
                if self.provision(mac, json!({"Address": address})).is_none() {
                    continue;
                }
            }
            let Some(offer) = ask(mac, &[53, 1, 1]) else { continue };
            let mut options = vec![53, 1, 3, 54, 4, 127, 0, 0, 1, 50, 4];
            options.extend_from_slice(&offer[16..20]);
            let Some(answer) = ask(mac, &options) else { continue };
            assert_eq!(&answer[240..243], &[53, 1, 5], "{answer:?} is an ACK");
            let yiaddr: [u8; 4] = answer[16..20].try_into().expect("four bytes");
            assert_eq!(yiaddr[1] >= 128, is_kept, "{mac} has {yiaddr:?}");
            let before = self.ledger.lock().expect("no panic").leases.insert(yiaddr.into(), mac);
            assert_eq!(before, None, "{yiaddr:?} has two owners");
        }
    }
}

fn request(mac: Mac, relay: Ipv4Addr, options: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 1]);
    packet[24..28].copy_from_slice(&relay.octets());
    packet[28..34].copy_from_slice(&mac.bytes());
    packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
    packet.extend_from_slice(options);
    packet.push(255);
    packet
}

/// The result of a call, or nothing if the daemon died over it.
fn call(socket: &Path, method: &str, params: &Value) -> Option<Value> {
    let body = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).to_string();
    let mut stream = UnixStream::connect(socket).ok()?;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    // Half an answer is none.
    let answer: Value = serde_json::from_str(body).ok()?;
    assert!(answer.get("error").is_none_or(Value::is_null), "{method}: {answer}");
    Some(answer["result"].clone())
}

/// Everything in the ledger is in the state as it was read from disk.
fn compare(ledger: &Ledger, state: &State, life: u32) {
    for (id, mac) in &ledger.provisioned {
        if ledger.doubtful.contains(id) {
            continue;
        }
        let instance = state.instances.find(*id);
        let instance = instance.unwrap_or_else(|| panic!("life {life}: {id} is lost"));
        assert_eq!(instance.mac, *mac, "life {life}: {id}");
        assert_eq!(instance.tags.get("mac"), Some(&mac.to_string()), "life {life}: {id}");
    }
    for id in &ledger.destroyed {
        assert!(state.instances.find(*id).is_none(), "life {life}: {id} came back");
        assert!(state.instances.was_destroyed(*id), "life {life}: that {id} was is forgotten");
    }
    for (id, turn) in &ledger.labelled {
        let tags = &state.instances.find(*id).expect("labelled, so not destroyed").tags;
        assert_eq!(tags.get("turn"), Some(turn), "life {life}: the label of {id}");
    }
    let now = std::time::SystemTime::now().into();
    for (address, mac) in &ledger.leases {
        // By its lease, or where an instance keeps it by that: that lease may be younger
        // than what is on disk.
        assert_eq!(state.machine_at(*address, now), Some(*mac), "life {life}: {address}");
        if state.addresses.reserved_for(*address) == Some(*mac) {
            continue;
        }
        let lease = state.addresses.lease(*address);
        let lease = lease.unwrap_or_else(|| panic!("life {life}: the lease of {address} is lost"));
        assert_eq!((lease.mac, lease.state), (*mac, LeaseState::Bound), "life {life}: {address}");
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_hundred_kills() {
    let home = Home::new();
    let (card, ledger) = (AtomicU32::new(1), Mutex::new(Ledger::default()));
    let mut moment = std::time::UNIX_EPOCH.elapsed().expect("after 1970").subsec_nanos();
    for life in 1..=KILLS {
        let dhcp_port = free_port();
        let port = dhcp_port.to_string();
        let daemon = home.start(&[
            "--adapter",
            "lo",
            "--addressDHCP",
            "127.0.0.1",
            "--startAddress",
            "127.1.0.0",
            "--leaseCount",
            "60000",
            "--enableDHCP",
            "--dhcp-port",
            &port,
            "--log",
            "1",
        ]);
        let stop = AtomicBool::new(false);
        let load = Load { socket: home.socket(), dhcp_port, card: &card, ledger: &ledger, stop };
        std::thread::scope(|scope| {
            for _ in 0..CONTROLLERS {
                scope.spawn(|| load.control());
            }
            for number in 0..MACHINES {
                let load = &load;
                scope.spawn(move || load.boot([127, 0, 0, 2 + number].into()));
            }
            // The moment is what is random here; nothing is waited for.
            moment = moment.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            std::thread::sleep(Duration::from_millis(20 + u64::from(moment >> 25)));
            daemon.kill();
            load.stop.store(true, Ordering::Relaxed);
        });
        let store = Store::open(&home.state(), None).expect("a killed daemon's store opens");
        let ledger = ledger.lock().expect("no panic");
        store.look(|state| compare(&ledger, state, life));
        store.close();
    }
    let ledger = ledger.lock().expect("no panic");
    let counts = (
        ledger.provisioned.len(),
        ledger.labelled.len(),
        ledger.destroyed.len(),
        ledger.leases.len(),
    );
    println!("{KILLS} kills; provisioned, labelled, destroyed, leased: {counts:?}");
    let (provisioned, labelled, destroyed, leased) = counts;
    let least = KILLS as usize;
    assert!(
        provisioned > least && labelled > least / 4 && destroyed > least / 4 && leased > least,
        "there was load: {counts:?}\n{}",
        home.log()
    );
}
