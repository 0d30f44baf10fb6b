//! What to write into another DHCP server for a machine that hears no proxy. Pure.
//! `docs/beside-dhcp.md` has the same for all architectures at once.

use std::net::Ipv4Addr;

/// The lines that name a boot program, in the words of each server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) isc_dhcpd: String,
    pub(super) kea: String,
    pub(super) dnsmasq: String,
}

/// Those that send a machine to this program of our TFTP server.
pub(super) fn lines(program: &str, server: Ipv4Addr) -> Lines {
    Lines {
        isc_dhcpd: format!("next-server {server}; filename \"{program}\";"),
        kea: format!("\"next-server\": \"{server}\", \"boot-file-name\": \"{program}\""),
        dnsmasq: format!("dhcp-boot={program},,{server}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_told_the_program_and_the_address_in_its_own_words() {
        let Lines { isc_dhcpd, kea, dnsmasq } = lines("snponly.efi", Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(isc_dhcpd, r#"next-server 10.0.0.1; filename "snponly.efi";"#);
        assert_eq!(kea, r#""next-server": "10.0.0.1", "boot-file-name": "snponly.efi""#);
        assert_eq!(dnsmasq, "dhcp-boot=snponly.efi,,10.0.0.1");
    }
}
