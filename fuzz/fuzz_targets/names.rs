//! What clients and relays say of themselves in small: the names that GRUB asks for,
//! iPXE's features (option 175), the port of a relay (option 82). None panics, and what
//! is read is what can be written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use remoteboot::{
    boot::{Claim, grub::config_name},
    model::{IpxeFeatures, Port, RelayId},
};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Some(name) = config_name(&text)
        && let Claim::Mac(mac) = name.claim
    {
        let again = if name.is_again { "-again" } else { "" };
        let written = format!("grub.cfg-01-{}{again}", mac.hyphenated());
        assert_eq!(config_name(&written), Some(name));
    }
    let _ = IpxeFeatures::read(bytes);
    let _ = RelayId::of_bytes(bytes);
    let _ = Port::of_relay_information(bytes);
});
