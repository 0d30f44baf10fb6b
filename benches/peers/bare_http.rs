//! The limit for HTTP: a server that knows nothing. A script lies ready in memory, head and
//! all, under the path that is asked for, and an initrd leaves by sendfile; one thread
//! for each processor, each with connections of its own, and no call that could be spared.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::Arc,
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, EventData, EventFlags},
    fd::OwnedFd,
    net::sockopt,
};

use crate::{http_server::INITRD, lab::SERVER};

/// What one call of sendfile is asked for.
const PIECE: usize = 1 << 20;

/// The listener's key; those of connections are their places.
const LISTENER: u64 = u64::MAX;

/// What is served: scripts by their path, whole answers; and the initrd.
struct Content {
    scripts: HashMap<Vec<u8>, Vec<u8>>,
    initrd: File,
    length: u64,
}

struct Connection {
    stream: TcpStream,
    /// Of the initrd, what is sent already.
    sent: Option<u64>,
}

/// Serves what lies in this folder until it is killed.
pub(crate) fn serve(files: &Path) {
    let initrd = File::open(files.join(INITRD)).expect("there");
    let length = initrd.metadata().expect("there").len();
    let scripts = fs::read_dir(files.join("ipxe")).expect("there").map(|entry| {
        let entry = entry.expect("there");
        let script = fs::read(entry.path()).expect("there");
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
            script.len()
        )
        .into_bytes();
        answer.extend(script);
        (format!("/ipxe/{}", entry.file_name().display()).into_bytes(), answer)
    });
    let content = Arc::new(Content { scripts: scripts.collect(), initrd, length });
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let serving: Vec<_> = (0..threads)
        .map(|_| {
            let content = Arc::clone(&content);
            std::thread::spawn(move || serve_own(&content))
        })
        .collect();
    serving.into_iter().for_each(|thread| thread.join().expect("it never ends"));
}

/// One thread, with the connections that the kernel gives it.
fn serve_own(content: &Content) {
    let listener = listener();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN).expect("added");
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None).expect("an epoll");
        for event in &events {
            let place = event.data.u64();
            if place == LISTENER {
                let (stream, _) = listener.accept().expect("a connection");
                stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).expect("set");
                let place = EventData::new_u64(connections.len() as u64);
                epoll::add(&epoll, &stream, place, EventFlags::IN).expect("added");
                connections.push(Some(Connection { stream, sent: None }));
                continue;
            }
            let connection = &mut connections[place as usize];
            let goes_on = connection.as_mut().is_some_and(|connection| match connection.sent {
                None => connection.answer(content, (&epoll, place)),
                Some(_) => connection.send(content, (&epoll, place)),
            });
            if !goes_on {
                *connection = None;
            }
        }
    }
}

fn listener() -> TcpListener {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.set_reuse_address(true).and_then(|()| socket.set_reuse_port(true)).expect("set");
    socket.bind(&SocketAddr::from((SERVER, 80)).into()).expect("the port is free");
    socket.listen(511).expect("it listens");
    socket.into()
}

impl Connection {
    /// Answers one request, which comes in one piece; says whether there may be more.
    fn answer(&mut self, content: &Content, (epoll, place): (&OwnedFd, u64)) -> bool {
        let mut request = [0; 2048];
        let Ok(length @ 1..) = self.stream.read(&mut request) else { return false };
        let mut words = request[..length].split(|octet| *octet == b' ');
        let path = words.nth(1).unwrap_or_default();
        if let Some(answer) = content.scripts.get(path) {
            return self.stream.write(answer).is_ok_and(|count| count == answer.len());
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.length);
        sockopt::set_tcp_cork(&self.stream, true).expect("set");
        self.stream.write_all(head.as_bytes()).expect("there is room");
        self.sent = Some(0);
        epoll::modify(epoll, &self.stream, EventData::new_u64(place), EventFlags::OUT)
            .expect("modified");
        true
    }

    /// Sends one piece more; says whether the connection goes on.
    fn send(&mut self, content: &Content, (epoll, place): (&OwnedFd, u64)) -> bool {
        let mut offset = self.sent.unwrap_or_default();
        match rustix::fs::sendfile(&self.stream, &content.initrd, Some(&mut offset), PIECE) {
            Ok(_) => self.sent = Some(offset),
            Err(error) => return std::io::Error::from(error).kind() == ErrorKind::WouldBlock,
        }
        if offset == content.length {
            self.sent = None;
            sockopt::set_tcp_cork(&self.stream, false).expect("set");
            epoll::modify(epoll, &self.stream, EventData::new_u64(place), EventFlags::IN)
                .expect("modified");
        }
        true
    }
}
