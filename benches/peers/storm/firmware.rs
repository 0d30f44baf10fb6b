//! One machine from its power switch to the first bytes of its kernel, with the
//! patience of EDK2 (`PxeBcDhcp4.c`, `PxeBcImpl.h`) and iPXE (`config/dhcp.h`,
//! `net/retry.h`): what they wait for, when they ask again, when they give up.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream, UdpSocket},
    sync::mpsc::UnboundedReceiver,
    time::{timeout, timeout_at},
};

use super::{
    crowd::{Crowd, Stage},
    packets::{Asker, Heard, Kind},
};
use crate::{lab::SERVER, machine};

/// After which EDK2 asks again by DHCP, in seconds; behind the last it gives up.
const OF_FIRMWARE: [u64; 4] = [4, 8, 16, 32];
/// The same of iPXE.
const OF_IPXE: [u64; 4] = [1, 2, 4, 8];
/// iPXE waits for a proxyDHCP server at least as long.
const FOR_PROXY: Duration = Duration::from_secs(2);
/// How long EDK2 waits for a packet of TFTP, and how often.
const TFTP_WAIT: Duration = Duration::from_secs(4);
const TFTP_TRIES: u32 = 6;
/// iPXE's wait for a connection: 0.25 s, doubled until it is more than 10 s.
const CONNECT: Duration = Duration::from_millis(15_750);
/// For an answer on a connection that is alive iPXE waits for ever; a person does not.
const ANSWER: Duration = Duration::from_secs(60);
/// What is read of the kernel.
const FIRST_BYTES: usize = 64 << 10;
/// Octets of a block, and blocks of a window, that EDK2 asks for.
const BLOCK: usize = 1468;

/// Boots, or says why it gave up.
pub(crate) async fn boot(
    crowd: &Crowd,
    machine: u32,
    mut mailbox: UnboundedReceiver<Heard>,
) -> Result<(), String> {
    let stages = (Stage::Offer, Stage::Acknowledge);
    let lease = lease(crowd, (machine, Asker::Firmware), stages, &mut mailbox).await?;
    let begun = Instant::now();
    load(crowd, lease.address, &lease.file).await?;
    crowd.waited(Stage::Loader, begun.elapsed());
    let stages = (Stage::IpxeOffer, Stage::IpxeAcknowledge);
    let again = self::lease(crowd, (machine, Asker::Ipxe), stages, &mut mailbox).await?;
    assert_eq!(again.address, lease.address, "machine {machine} was given another address");
    script_and_kernel(crowd, machine, &again).await
}

/// DISCOVER to ACK.
async fn lease(
    crowd: &Crowd,
    (machine, asker): (u32, Asker),
    (offer, acknowledge): (Stage, Stage),
    mailbox: &mut UnboundedReceiver<Heard>,
) -> Result<Heard, String> {
    let begun = Instant::now();
    let waits = if asker == Asker::Firmware { OF_FIRMWARE } else { OF_IPXE };
    let mut offered: Option<Heard> = None;
    for (turn, wait) in waits.into_iter().enumerate() {
        if turn > 0 && offered.is_none() {
            crowd.asked_again(offer);
        }
        crowd.ask((machine, asker), None, begun.elapsed()).await;
        let until = Instant::now() + Duration::from_secs(wait);
        while let Ok(Some(heard)) = timeout_at(until.into(), mailbox.recv()).await {
            if (heard.asker, heard.kind) != (asker, Kind::Offer) || offered.is_some() {
                continue;
            }
            crowd.waited(offer, begun.elapsed());
            let is_enough = asker == Asker::Ipxe && heard.is_alone;
            offered = Some(heard);
            if is_enough {
                break;
            }
        }
        // EDK2 collects OFFERs until its time is over, whenever they come.
        let is_patient = asker == Asker::Ipxe && begun.elapsed() < FOR_PROXY;
        if offered.as_ref().is_some_and(|heard| !is_patient || heard.is_alone) {
            break;
        }
    }
    let address = offered.ok_or_else(|| format!("without an OFFER ({asker:?})"))?.address;
    assert_eq!(address, machine::own(machine), "machine {machine} was offered another's");
    let begun = Instant::now();
    for (turn, wait) in waits.into_iter().enumerate() {
        if turn > 0 {
            crowd.asked_again(acknowledge);
        }
        crowd.ask((machine, asker), Some(address), begun.elapsed()).await;
        let until = Instant::now() + Duration::from_secs(wait);
        while let Ok(Some(heard)) = timeout_at(until.into(), mailbox.recv()).await {
            match (heard.asker == asker, heard.kind) {
                (true, Kind::Acknowledge) => {
                    crowd.waited(acknowledge, begun.elapsed());
                    return Ok(heard);
                }
                (true, Kind::Refuse) => return Err(format!("refused by DHCP ({asker:?})")),
                _ => {}
            }
        }
    }
    Err(format!("without an ACK ({asker:?})"))
}

/// Two reads, as EDK2 makes them: one for the size alone.
async fn load(crowd: &Crowd, own: Ipv4Addr, file: &str) -> Result<(), String> {
    let socket = udp(own).await?;
    let (peer, size) =
        open(crowd, &socket, &read(file, &["tsize", "0", "blksize", "1468", "windowsize", "4"]))
            .await?;
    assert_eq!(size.tsize, Some(crowd.goods.loader.len()), "the size of the loader");
    let _ = socket.send_to(b"\0\x05\0\x08User aborted the transfer\0", peer).await;
    drop(socket);
    let socket = udp(own).await?;
    let (peer, terms) =
        open(crowd, &socket, &read(file, &["blksize", "1468", "windowsize", "4"])).await?;
    socket.connect(peer).await.map_err(|error| error.to_string())?;
    blocks(crowd, &socket, terms.window).await
}

async fn udp(own: Ipv4Addr) -> Result<UdpSocket, String> {
    UdpSocket::bind((own, 0)).await.map_err(|error| format!("no socket: {error}"))
}

fn read(file: &str, options: &[&str]) -> Vec<u8> {
    let mut packet = vec![0, 1];
    for word in [file, "octet"].iter().chain(options) {
        packet.extend_from_slice(word.as_bytes());
        packet.push(0);
    }
    packet
}

/// What a server has agreed to.
struct Terms {
    tsize: Option<usize>,
    window: usize,
}

/// Sends a read until its OACK comes.
async fn open(
    crowd: &Crowd,
    socket: &UdpSocket,
    request: &[u8],
) -> Result<(SocketAddr, Terms), String> {
    let mut packet = [0; 2048];
    for turn in 0..TFTP_TRIES {
        if turn > 0 {
            crowd.asked_again(Stage::Loader);
        }
        let _ = socket.send_to(request, (SERVER, 69)).await;
        let Ok(received) = timeout(TFTP_WAIT, socket.recv_from(&mut packet)).await else {
            continue;
        };
        let (length, peer) = received.map_err(|error| format!("TFTP: {error}"))?;
        return match &packet[..length] {
            [0, 6, options @ ..] => Ok((peer, terms(options))),
            [0, 5, ..] => Err("refused by TFTP (PXE-E23)".to_owned()),
            _ => Err("TFTP without options (PXE-E99)".to_owned()),
        };
    }
    Err("without an answer of TFTP".to_owned())
}

fn terms(options: &[u8]) -> Terms {
    let words: Vec<&[u8]> = options.split(|byte| *byte == 0).collect();
    let value = |name: &str| {
        let place = words.iter().step_by(2).position(|word| *word == name.as_bytes())?;
        std::str::from_utf8(words.get(place * 2 + 1)?).ok()?.parse::<usize>().ok()
    };
    Terms { tsize: value("tsize"), window: value("windowsize").unwrap_or(1) }
}

/// Takes all blocks, and looks at every octet.
async fn blocks(crowd: &Crowd, socket: &UdpSocket, window: usize) -> Result<(), String> {
    let loader = &crowd.goods.loader;
    let (mut packet, mut block, mut unsaid) = ([0; 2048], 0_u16, 0);
    let (mut tries, mut has_complained) = (0, false);
    let acknowledge = async |block: u16| {
        let [high, low] = block.to_be_bytes();
        let _ = socket.send(&[0, 4, high, low]).await;
    };
    acknowledge(0).await;
    loop {
        let Ok(received) = timeout(TFTP_WAIT, socket.recv(&mut packet)).await else {
            tries += 1;
            if tries == TFTP_TRIES {
                return Err("left in the middle of its loader".to_owned());
            }
            crowd.asked_again(Stage::Loader);
            acknowledge(block).await;
            unsaid = 0;
            continue;
        };
        let length = received.map_err(|error| format!("TFTP: {error}"))?;
        let [0, 3, high, low, payload @ ..] = &packet[..length] else {
            // An OACK once more, which a read that was repeated has brought, is passed over
            // once there are blocks.
            if packet[..2] == [0, 6] {
                crowd.repeated_oack();
                if block == 0 {
                    acknowledge(0).await;
                }
                continue;
            }
            return Err(format!("{} in the middle of its loader", told(&packet[..length])));
        };
        if u16::from_be_bytes([*high, *low]) != block.wrapping_add(1) {
            if !has_complained {
                has_complained = true;
                acknowledge(block).await;
                unsaid = 0;
            }
            continue;
        }
        let from = usize::from(block) * BLOCK;
        assert!(loader.get(from..from + payload.len()) == Some(payload), "a damaged loader");
        (block, unsaid, tries, has_complained) = (block + 1, unsaid + 1, 0, false);
        let is_last = payload.len() < BLOCK;
        if is_last || unsaid >= window {
            acknowledge(block).await;
            unsaid = 0;
        }
        if is_last {
            assert_eq!(from + payload.len(), loader.len(), "a whole loader");
            return Ok(());
        }
    }
}

/// What a packet is that is no block, in words.
fn told(packet: &[u8]) -> String {
    match packet {
        [0, 5, _, code, words @ ..] => {
            format!("an ERROR ({code}: {})", String::from_utf8_lossy(words).trim_end_matches('\0'))
        }
        other => format!("a packet that begins with {:?}", &other[..other.len().min(4)]),
    }
}

/// On one connection, as iPXE: its script, and what that names.
async fn script_and_kernel(crowd: &Crowd, machine: u32, lease: &Heard) -> Result<(), String> {
    let hyphens = machine::mac(machine).replace(':', "-");
    let url = lease.file.replace("${net0/mac:hexhyp}", &hyphens);
    let begun = Instant::now();
    let (mut stream, script) = loop {
        let mut stream = connect(lease.address).await?;
        let (head, mut body) = get(&mut stream, &url).await?;
        if head.status == 503
            && let Some(seconds) = head.retry_after
        {
            crowd.asked_again(Stage::Script);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            continue;
        }
        if head.status != 200 {
            return Err(format!("refused by HTTP: {}", head.status));
        }
        while body.len() < head.length {
            more(&mut stream, &mut body).await?;
        }
        break (stream, body);
    };
    crowd.waited(Stage::Script, begun.elapsed());
    let script = String::from_utf8(script).expect("text");
    let kernel = script.lines().find(|line| line.starts_with("kernel "));
    let kernel = kernel.and_then(|line| line.split(' ').find(|word| word.starts_with("http:")));
    let kernel = kernel.unwrap_or_else(|| panic!("machine {machine} has no kernel in {script}"));
    let secret = (crowd.goods.secret)(machine);
    assert!(kernel.contains(&secret), "machine {machine} got another's script: {script}");
    let begun = Instant::now();
    let (head, mut body) = get(&mut stream, kernel).await?;
    if head.status != 200 {
        return Err(format!("refused its kernel: {}", head.status));
    }
    assert_eq!(head.length, crowd.goods.kernel.len(), "the length of the kernel");
    while body.len() < FIRST_BYTES {
        more(&mut stream, &mut body).await?;
    }
    assert!(body[..FIRST_BYTES] == crowd.goods.kernel[..FIRST_BYTES], "a damaged kernel");
    crowd.waited(Stage::Kernel, begun.elapsed());
    Ok(())
}

async fn connect(own: Ipv4Addr) -> Result<TcpStream, String> {
    let failed = |error: std::io::Error| format!("no connection: {}", error.kind());
    let socket = TcpSocket::new_v4().map_err(failed)?;
    socket.set_recv_buffer_size(FIRST_BYTES as u32).map_err(failed)?;
    socket.bind((own, 0).into()).map_err(failed)?;
    let connected = timeout(CONNECT, socket.connect((SERVER, 80).into())).await;
    connected.map_err(|_late| "no connection in time".to_owned())?.map_err(failed)
}

struct Head {
    status: u16,
    length: usize,
    retry_after: Option<u64>,
}

/// Asks, and reads the head and what comes with it of the body.
async fn get(stream: &mut TcpStream, url: &str) -> Result<(Head, Vec<u8>), String> {
    let authority = format!("http://{SERVER}");
    let path = url.strip_prefix(&authority).unwrap_or_else(|| panic!("a URL of ours: {url:?}"));
    let request = format!(
        "GET {path} HTTP/1.1\r\nConnection: keep-alive\r\nUser-Agent: iPXE/2.0.0\r\nHost: \
         {SERVER}\r\n\r\n"
    );
    let sent = stream.write_all(request.as_bytes()).await;
    sent.map_err(|error| format!("HTTP: {}", error.kind()))?;
    let mut received = Vec::new();
    loop {
        if let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = received.split_off(end + 4);
            let text = String::from_utf8_lossy(&received).into_owned();
            return Ok((head(&text), body));
        }
        more(stream, &mut received).await?;
    }
}

fn head(text: &str) -> Head {
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().parse::<u64>().ok())?
        })
    };
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    Head {
        status: status.expect("a status"),
        length: field("content-length").expect("a length") as usize,
        retry_after: field("retry-after"),
    }
}

async fn more(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<(), String> {
    match timeout(ANSWER, stream.read_buf(received)).await {
        Err(_late) => Err("without an answer of HTTP".to_owned()),
        Ok(Ok(0)) => Err("hung up on by HTTP".to_owned()),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("HTTP: {}", error.kind())),
    }
}
