//! No datagram panics the reader, and no accepted name leads out of a directory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use remoteboot::tftp::request::{Packet, parse};

fuzz_target!(|datagram: &[u8]| {
    if let Ok(Packet::Read(request)) = parse(datagram) {
        let name = request.file.as_str();
        assert!(!name.starts_with('/') && name.split('/').all(|part| part != ".."));
    }
});
