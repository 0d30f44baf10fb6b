//! Blocks by TFTP that are larger than a packet, to real clients on real networks with
//! packets of 1500 octets: each in a network namespace of its own.

mod lab;

use std::{
    fs,
    time::{Duration, Instant},
};

use lab::{Daemon, Host, Lab, ip};

/// What is fetched: more than a megabyte, so several of the largest block.
const FILE: &str = "ipxe.efi";

const PORTS: [&[&str]; 2] = [&[], &["--tftp-single-port"]];

/// The server by IPv4 and by IPv6, and the largest block that fits into a packet.
const SERVERS: [(&str, u16); 2] = [("10.77.0.1", 1468), ("fd00:77::1", 1448)];

/// Blocks that are asked for.
const ASKED: [u16; 2] = [8192, 65464];

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn where_fragments_are_allowed_a_block_is_as_large_as_its_client_asks() {
    for ports in PORTS {
        let lab = lab();
        let daemon = lab.daemon(&[ports, &["--address6=fd00:77::1", "--tftp-fragments"]].concat());
        let host = host(&lab);
        for (server, fits) in SERVERS {
            for block in ASKED {
                let before = host.fragments();
                lockstep(&lab, &host, server, block);
                wait_for_line(&daemon, block, 1);
                // It came in packets that are nearly full.
                let length = fs::metadata(lab.loader(FILE)).expect("there").len();
                let fragments = host.fragments() - before;
                assert!(fragments >= length / 1480, "{server}, {block}: {fragments}");
            }
            // As large as is asked for, and not larger; in a window as large as fits.
            let before = host.fragments();
            lockstep(&lab, &host, server, 1024);
            wait_for_line(&daemon, 1024, 1);
            windowed(&lab, &host, server, (8192, 64));
            wait_for_line(&daemon, fits, 64);
            assert_eq!(host.fragments(), before, "{server}");
        }
    }
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn unless_fragments_are_allowed_no_block_needs_them_over_ipv4_and_ipv6() {
    for ports in PORTS {
        let lab = lab();
        let daemon = lab.daemon(&[ports, &["--address6=fd00:77::1"]].concat());
        let host = host(&lab);
        for (server, fits) in SERVERS {
            for block in ASKED {
                lockstep(&lab, &host, server, block);
                wait_for_line(&daemon, fits, 1);
                windowed(&lab, &host, server, (block, 64));
                wait_for_line(&daemon, fits, 64);
            }
        }
        assert_eq!(host.fragments(), 0);
    }
}

#[test]
#[ignore = "makes network namespaces: needs root, run `make test`"]
fn a_block_that_is_the_largest_allowed_may_need_fragments_too() {
    let lab = lab();
    let daemon = lab.daemon(&["--tftp-fragments", "--tftp-block-size=4096"]);
    let host = host(&lab);
    lockstep(&lab, &host, lab::SERVER, 65464);
    wait_for_line(&daemon, 4096, 1);
    assert!(host.fragments() > 0);
}

fn lab() -> Lab {
    let lab = Lab::new();
    ip(&lab, &["addr", "add", "fd00:77::1/64", "dev", "br0", "nodad"]);
    lab
}

/// A host with an address of each kind.
fn host(lab: &Lab) -> Host<'_> {
    let host = Host::new(lab, 1, "br0");
    host.must("ip", &["addr", "add", "10.77.0.51/24", "dev", "eth0"]);
    host.must("ip", &["addr", "add", "fd00:77::51/64", "dev", "eth0", "nodad"]);
    host
}

/// Fetches the file one block at a time, with busybox.
#[track_caller]
fn lockstep(lab: &Lab, host: &Host<'_>, server: &str, block: u16) {
    let (out, block) = (out(lab), block.to_string());
    host.must("busybox", &["tftp", "-b", &block, "-g", "-r", FILE, "-l", &out, server]);
    compare(lab, &out);
}

/// Fetches the file in windows, with atftp.
#[track_caller]
fn windowed(lab: &Lab, host: &Host<'_>, server: &str, (block, window): (u16, u16)) {
    let out = out(lab);
    let (block, window) = (format!("blksize {block}"), format!("windowsize {window}"));
    let options = ["--option", block.as_str(), "--option", window.as_str()];
    let files = ["-g", "-r", FILE, "-l", &out, server];
    host.must("atftp", &[&options[..], &files[..]].concat());
    compare(lab, &out);
}

fn out(lab: &Lab) -> String {
    lab.folder().join("out").display().to_string()
}

/// Whether what was fetched is what is served.
#[track_caller]
fn compare(lab: &Lab, out: &str) {
    let (got, served) = (fs::read(out).expect("received"), fs::read(lab.loader(FILE)));
    assert!(got == served.expect("there"), "{} octets", got.len());
    fs::remove_file(out).expect("ours");
}

/// Waits for the line in the log of the one transfer since the last call; the last ACK
/// may be on its way yet.
#[track_caller]
fn wait_for_line(daemon: &Daemon, block: u16, window: u16) {
    let until = Instant::now() + Duration::from_secs(10);
    let expected = format!("blksize={block} windowsize={window} ");
    loop {
        let log = daemon.log();
        let last = log.lines().rfind(|line| line.contains(&format!("file={FILE} ")));
        if last.is_some_and(|line| line.contains(&expected)) {
            return;
        }
        assert!(Instant::now() < until, "{expected} is not in {last:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
