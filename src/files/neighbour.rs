//! The hardware address that the kernel has for an address: its ARP table.
//!
//! It is asked for the one address, over netlink, where the way to it says on which
//! interface it is. What cannot be found so is looked for in the whole table: the
//! way that we are told need not be that of the packets (a VRF, a rule of the
//! routing), and whose card is not known is believed who it says it is.

mod message;
mod netlink;

use std::{
    net::Ipv4Addr,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::model::Mac;

/// Where Linux shows it.
const TABLE: &str = "/proc/net/arp";

/// `ATF_COM` of `linux/if_arp.h`: the entry is complete.
const COMPLETE: u32 = 2;

/// The card that answers for this address, if the kernel knows. Of an address that
/// several interfaces have neighbours for, it is the one to which our answers go.
///
/// Never that of a router: an address beyond one has no entry of its own.
#[must_use]
pub fn neighbour(address: Ipv4Addr) -> Option<Mac> {
    on_our_way(address).or_else(|| in_the_table(address))
}

/// The neighbour on the interface by which we reach it, if there is no router between.
fn on_our_way(address: Ipv4Addr) -> Option<Mac> {
    static IS_REFUSED: AtomicBool = AtomicBool::new(false);
    static WARNED: Once = Once::new();
    if IS_REFUSED.load(Ordering::Relaxed) {
        return None;
    }
    netlink::ask(address).unwrap_or_else(|error| {
        if netlink::is_refusal(error) {
            IS_REFUSED.store(true, Ordering::Relaxed);
        }
        WARNED.call_once(|| {
            tracing::warn!(%error, "cannot ask the kernel for one neighbour, {TABLE} is read instead");
        });
        None
    })
}

fn in_the_table(address: Ipv4Addr) -> Option<Mac> {
    match std::fs::read_to_string(TABLE) {
        Ok(table) => find(&table, address),
        Err(error) => {
            tracing::warn!(%error, "cannot read {TABLE}");
            None
        }
    }
}

/// Rows are: address, type, flags, hardware address, mask, device.
fn find(table: &str, address: Ipv4Addr) -> Option<Mac> {
    table.lines().skip(1).find_map(|row| {
        let mut fields = row.split_whitespace();
        let is_its_row = fields.next()?.parse() == Ok(address);
        let flags = u32::from_str_radix(fields.nth(1)?.strip_prefix("0x")?, 16).ok()?;
        let mac = fields.next()?.parse().ok()?;
        (is_its_row && flags & COMPLETE != 0).then_some(mac)
    })
}

#[cfg(test)]
mod tests;
