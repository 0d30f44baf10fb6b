//! The settings of the TFTP server.

use std::{net::SocketAddr, ops::RangeInclusive};

use super::{Setting, checker::Checker};

/// The TFTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tftp {
    /// What it listens on; port 0 is any port.
    pub address: SocketAddr,
    /// Whether transfers stay on this port.
    pub single_port: bool,
    /// The largest block, octets (RFC 2348); none is as large as the path takes.
    pub block_size: Option<u16>,
    /// Whether a block in lockstep may need IP fragments on the way.
    pub fragments: bool,
    /// Transfers at one time, at least 1.
    pub transfers: u32,
    /// Transfers at one time of one address, at least 1.
    pub transfers_per_client: u32,
}

/// What may be agreed on (RFC 2348).
const BLOCK_SIZES: RangeInclusive<u32> = 8..=65464;
/// More than a rack's machines at once, and no more open sockets than most systems
/// allow a process.
const TRANSFERS: u32 = 1024;
/// A rack behind a NAT has one address, and firmware may ask twice.
const TRANSFERS_PER_CLIENT: u32 = 128;
/// Transfers that a machine has room for.
const COUNTS: RangeInclusive<u32> = 1..=1_000_000;

/// The server at each of these addresses that there is; its settings are checked in
/// any case.
pub(super) fn tftp<const COUNT: usize>(
    checker: &mut Checker<'_>,
    addresses: [Option<SocketAddr>; COUNT],
) -> [Option<Tftp>; COUNT] {
    let single_port = checker.switch(Setting::TftpSinglePort);
    let block_size = checker.number(Setting::TftpBlockSize, *BLOCK_SIZES.end(), BLOCK_SIZES);
    let is_limited = checker.given.has(Setting::TftpBlockSize);
    let fragments = checker.switch(Setting::TftpFragments);
    let transfers = checker.number(Setting::TftpTransfers, TRANSFERS, COUNTS);
    let transfers_per_client =
        checker.number(Setting::TftpTransfersPerClient, TRANSFERS_PER_CLIENT, COUNTS);
    let at = |address| Tftp {
        address,
        single_port,
        block_size: u16::try_from(block_size).ok().filter(|_| is_limited),
        fragments,
        transfers,
        transfers_per_client,
    };
    addresses.map(|address| address.map(at))
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::{ANCESTRAL, config_of, machine, problems_of};

    fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
        ANCESTRAL.iter().chain(more).copied().collect()
    }

    #[test]
    fn without_settings_of_its_own_it_is_as_good_as_the_path() {
        let (_directory, host) = machine();
        let tftp = config_of(&host, &ANCESTRAL).tftp.expect("a TFTP server");
        assert_eq!((tftp.single_port, tftp.block_size, tftp.fragments), (false, None, false));
        assert_eq!((tftp.transfers, tftp.transfers_per_client), (1024, 128));
    }

    #[test]
    fn over_ipv6_alone_its_settings_hold_too() {
        let (_directory, host) = machine();
        let line = ["--adapter=six0", "--enable-dhcp6", "--enable-tftp", "--tftp-single-port"];
        let config = config_of(&host, &line);
        assert_eq!(config.tftp, None);
        let tftp = config.ipv6.expect("it is served").tftp.expect("a TFTP server");
        assert_eq!(tftp.address, "[fd00:77::1]:69".parse().expect("an address"));
        assert!(tftp.single_port);
    }

    #[test]
    fn its_settings_are_read_and_checked() {
        let (_directory, host) = machine();
        let line = [
            "--tftp-single-port",
            "--tftp-block-size=1400",
            "--tftp-fragments",
            "--tftp-transfers=10",
            "--tftp-transfers-per-client=2",
        ];
        let tftp = config_of(&host, &with(&line)).tftp.expect("a TFTP server");
        assert_eq!((tftp.single_port, tftp.block_size, tftp.fragments), (true, Some(1400), true));
        assert_eq!((tftp.transfers, tftp.transfers_per_client), (10, 2));
        for wrong in ["--tftp-block-size=7", "--tftp-block-size=65465", "--tftp-transfers=0"] {
            let problems = problems_of(&host, &with(&[wrong]));
            assert!(problems.contains(wrong), "{problems}");
        }
    }
}
