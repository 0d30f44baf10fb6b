//! The limit: a server that knows nothing, and answers from the MAC alone. With a
//! file it appends a record for each ACK, and sends the ACK when that is synced,
//! with all that came meanwhile.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::mpsc,
};

use crate::{lab::SERVER, machine, server::POOL};

/// As many bytes as the daemon writes for a lease.
const RECORD: usize = 128;

/// Serves until it is killed.
pub(crate) fn serve(file: Option<&Path>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None);
    let socket = socket.expect("a socket");
    crate::load::make_room(&socket);
    let address = SocketAddr::from((SERVER, 67));
    socket.bind(&address.into()).expect("the port is free");
    let socket: UdpSocket = socket.into();
    let writer = file.map(|path| {
        let file = File::create(path).expect("a file can be made");
        let (to_writer, answers) = mpsc::channel();
        let socket = socket.try_clone().expect("a second handle");
        std::thread::spawn(move || write(file, &socket, &answers));
        to_writer
    });
    let mut packet = [0; 2048];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
        let Some(answer) = answer(&packet[..length]) else { continue };
        match (&writer, answer[242]) {
            (Some(writer), 5) => writer.send((answer, from)).expect("the writer runs"),
            _ => drop(socket.send_to(&answer, from)),
        }
    }
}

fn write(file: File, socket: &UdpSocket, answers: &mpsc::Receiver<(Vec<u8>, SocketAddr)>) {
    // Zeros ahead, as the daemon has them: a file that grows is synced more slowly.
    const STEP: u64 = 1 << 20;
    let (mut end, mut allocated) = (0, 0);
    let mut records = Vec::new();
    while let Ok(first) = answers.recv() {
        let batch: Vec<_> = std::iter::once(first).chain(answers.try_iter()).collect();
        records.clear();
        for (answer, _) in &batch {
            records.extend_from_slice(&answer[..RECORD]);
        }
        let after = end + records.len() as u64;
        if after > allocated {
            allocated = after.next_multiple_of(STEP);
            let zeros = vec![0; (allocated - after) as usize];
            file.write_all_at(&zeros, after).expect("written");
        }
        file.write_all_at(&records, end).expect("written");
        end = after;
        file.sync_data().expect("synced");
        for (answer, from) in &batch {
            let _ = socket.send_to(answer, from);
        }
    }
}

fn answer(request: &[u8]) -> Option<Vec<u8>> {
    let kind = match request.get(242)? {
        1 => 2,
        3 => 5,
        _ => return None,
    };
    let mac: [u8; 6] = request[28..34].try_into().ok()?;
    let address = Ipv4Addr::from_bits(POOL.to_bits().wrapping_add(machine::number(mac)));
    let mut answer = request[..240].to_vec();
    answer[0] = 2;
    answer[16..20].copy_from_slice(&address.octets());
    answer.extend_from_slice(&[53, 1, kind, 54, 4]);
    answer.extend_from_slice(&SERVER.octets());
    answer.extend_from_slice(&[51, 4, 0, 0, 28, 32, 1, 4, 255, 240, 0, 0, 255]);
    answer.resize(300, 0);
    Some(answer)
}
