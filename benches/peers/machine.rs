//! The machines of the load: their MACs come in no order, and tell their number.

use std::net::Ipv4Addr;

/// Odd, so that every number has its own product, and back.
const SCRAMBLE: u32 = 0x9e37_79b1;

/// The first of the addresses that are reserved.
const RESERVED: Ipv4Addr = Ipv4Addr::new(10, 24, 0, 0);

/// The MAC of a machine, as six bytes.
pub(crate) fn bytes(number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.wrapping_mul(SCRAMBLE).to_be_bytes();
    [2, 0, a, b, c, d]
}

/// The MAC of a machine, as text.
pub(crate) fn mac(number: u32) -> String {
    bytes(number).map(|byte| format!("{byte:02x}")).join(":")
}

/// The number of the machine with this MAC.
pub(crate) fn number(mac: [u8; 6]) -> u32 {
    let [_, _, a, b, c, d] = mac;
    // Newton's way to the inverse of an odd number: each step doubles the right bits.
    let inverse = (0..5).fold(SCRAMBLE, |guess, _| {
        guess.wrapping_mul(2u32.wrapping_sub(SCRAMBLE.wrapping_mul(guess)))
    });
    u32::from_be_bytes([a, b, c, d]).wrapping_mul(inverse)
}

/// The address that is reserved for a machine.
pub(crate) fn own(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(RESERVED.to_bits() + number)
}
