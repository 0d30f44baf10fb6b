//! The hardware address that the kernel has for an address: its ARP table.

use std::net::Ipv4Addr;

use crate::model::Mac;

/// Where Linux shows it.
const TABLE: &str = "/proc/net/arp";

/// `ATF_COM` of `linux/if_arp.h`: the entry is complete.
const COMPLETE: u32 = 2;

/// The card that answers for this address, if the kernel knows.
#[must_use]
pub fn neighbour(address: Ipv4Addr) -> Option<Mac> {
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
mod tests {
    use super::*;

    const SHOWN: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
10.0.0.9         0x1         0x2         52:54:00:aa:01:01     *        eth0
10.0.0.10        0x1         0x0         00:00:00:00:00:00     *        eth0
10.0.0.90        0x1         0x6         52:54:00:aa:01:02     *        eth0
";

    #[test]
    fn only_complete_rows_of_the_address_itself_count() {
        let mac = |last| Some(Mac::new([0x52, 0x54, 0, 0xaa, 1, last]));
        assert_eq!(find(SHOWN, [10, 0, 0, 9].into()), mac(1));
        assert_eq!(find(SHOWN, [10, 0, 0, 90].into()), mac(2));
        assert_eq!(find(SHOWN, [10, 0, 0, 10].into()), None);
        assert_eq!(find(SHOWN, [10, 0, 0, 1].into()), None);
        assert_eq!(find("", [10, 0, 0, 1].into()), None);
    }
}
