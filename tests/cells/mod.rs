//! Every way in which a firmware can boot from us, as one table: which firmware, by
//! what, and who is there besides. `tests/make_matrix.rs` boots them all and writes
//! `docs/firmware-matrix.md`; `tests/matrix.rs` boots some, and keeps the document
//! to this table.

// Each of the two programs uses a part of it.
#![allow(dead_code)]

pub(crate) mod boot;
pub(crate) mod document;
pub(crate) mod results;
pub(crate) mod versions;

use std::fmt;

use super::lab::Firmware;

/// A kind of machine with the boot program that it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// SeaBIOS, and the iPXE of 2019 in the ROM of QEMU's cards.
    BiosRom,
    /// SeaBIOS with a PXE client that does not call itself iPXE, and `undionly.kpxe`.
    BiosUndionly(Release),
    /// x86-64 UEFI with `snponly.efi`.
    X64Snponly(Release),
    /// x86-64 UEFI with `ipxe.efi`, which has drivers of its own.
    X64Ipxe(Release),
    /// x86-64 UEFI, and the iPXE of 2019 in the ROM of QEMU's cards.
    X64Rom,
    /// arm64 UEFI with `ipxe-arm64.efi`.
    Arm64Ipxe(Release),
    /// 32-bit UEFI, for which Debian has no boot program.
    Ia32,
    /// 32-bit ARM UEFI, for which Debian has no boot program.
    Arm32,
    /// UEFI of other processors.
    Others,
}

/// The releases of Debian, one for each generation of iPXE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// iPXE of 2019.
    Bookworm,
    /// iPXE of 2025.
    Trixie,
    /// iPXE of 2026.
    Sid,
}

/// By which protocol the firmware loads its boot program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Road {
    /// PXE over IPv4.
    Pxe4,
    /// HTTP Boot over IPv4.
    Http4,
    /// PXE over IPv6.
    Pxe6,
    /// HTTP Boot over IPv6.
    Http6,
}

/// Which part we play, and who is there besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// We are the DHCP server.
    Server,
    /// We are a proxy beside dnsmasq.
    Dnsmasq,
    /// We are a proxy beside ISC's dhcpd.
    Isc,
    /// We are a proxy beside Kea.
    Kea,
    /// We are the server, behind a relay: dnsmasq's for IPv4, ISC's for IPv6.
    Relay,
    /// Our DHCP is off, and another server names our boot programs and scripts:
    /// dnsmasq over IPv4, ISC's dhcpd over IPv6.
    Told,
}

/// What is to be seen of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// The machine boots its own kernel.
    Boots(Firmware),
    /// The machine is refused, and the log says why.
    Refused(Firmware),
    /// There is no such thing, for this reason.
    None(&'static str),
    /// It cannot be tried here, for this reason.
    Untried(&'static str),
}

/// A firmware, by what it boots, and who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) row: Row,
    pub(crate) road: Road,
    pub(crate) way: Way,
}

pub(crate) const ROWS: [Row; 14] = [
    Row::BiosRom,
    Row::BiosUndionly(Release::Bookworm),
    Row::BiosUndionly(Release::Trixie),
    Row::BiosUndionly(Release::Sid),
    Row::X64Snponly(Release::Bookworm),
    Row::X64Snponly(Release::Trixie),
    Row::X64Snponly(Release::Sid),
    Row::X64Ipxe(Release::Sid),
    Row::X64Rom,
    Row::Arm64Ipxe(Release::Trixie),
    Row::Arm64Ipxe(Release::Sid),
    Row::Ia32,
    Row::Arm32,
    Row::Others,
];

pub(crate) const ROADS: [Road; 4] = [Road::Pxe4, Road::Http4, Road::Pxe6, Road::Http6];

pub(crate) const WAYS: [Way; 6] =
    [Way::Server, Way::Dnsmasq, Way::Isc, Way::Kea, Way::Relay, Way::Told];

/// Cells that `make test` boots, and the test that does: those of `tests/matrix.rs` are
/// of kinds that no other test boots.
pub(crate) const TESTED: [(Cell, &str); 28] = [
    (
        Cell { row: Row::BiosUndionly(Release::Trixie), road: Road::Pxe4, way: Way::Isc },
        "a_bios_boots_through_undionly_of_another_generation_beside_dhcpd",
    ),
    (
        Cell { row: Row::X64Ipxe(Release::Sid), road: Road::Pxe4, way: Way::Kea },
        "a_uefi_machine_boots_by_pxe_beside_kea_with_drivers_of_ipxe",
    ),
    (
        Cell { row: Row::X64Snponly(Release::Bookworm), road: Road::Http4, way: Way::Isc },
        "a_uefi_machine_boots_by_http_beside_dhcpd_with_the_oldest_ipxe",
    ),
    (
        Cell { row: Row::BiosRom, road: Road::Pxe4, way: Way::Relay },
        "a_bios_with_an_ipxe_rom_boots_behind_a_relay",
    ),
    (
        Cell { row: Row::Arm64Ipxe(Release::Sid), road: Road::Http4, way: Way::Dnsmasq },
        "an_arm64_machine_boots_by_http_beside_dnsmasq",
    ),
    (
        Cell { row: Row::X64Snponly(Release::Sid), road: Road::Pxe4, way: Way::Told },
        "a_uefi_machine_boots_what_dnsmasq_names_without_our_dhcp",
    ),
    (
        Cell { row: Row::X64Snponly(Release::Trixie), road: Road::Pxe6, way: Way::Relay },
        "a_uefi_machine_boots_by_pxe_over_ipv6_behind_a_relay",
    ),
    (
        Cell { row: Row::Ia32, road: Road::Pxe4, way: Way::Server },
        "a_32_bit_uefi_machine_is_refused_and_the_log_says_why",
    ),
    (
        Cell { row: Row::BiosRom, road: Road::Pxe4, way: Way::Server },
        "a_bios_machine_with_an_ipxe_rom_boots_its_own_command_line",
    ),
    (
        Cell { row: Row::BiosUndionly(Release::Sid), road: Road::Pxe4, way: Way::Server },
        "a_bios_machine_boots_through_undionly",
    ),
    (
        Cell { row: Row::X64Snponly(Release::Bookworm), road: Road::Pxe4, way: Way::Server },
        "the_loaders_of_every_release_boot_a_uefi_machine",
    ),
    (
        Cell { row: Row::X64Snponly(Release::Trixie), road: Road::Pxe4, way: Way::Server },
        "the_loaders_of_every_release_boot_a_uefi_machine",
    ),
    (
        Cell { row: Row::X64Snponly(Release::Sid), road: Road::Pxe4, way: Way::Server },
        "a_uefi_machine_boots_by_pxe",
    ),
    (
        Cell { row: Row::X64Snponly(Release::Sid), road: Road::Http4, way: Way::Server },
        "a_uefi_machine_boots_by_http",
    ),
    (
        Cell { row: Row::X64Rom, road: Road::Pxe4, way: Way::Server },
        "a_uefi_machine_with_an_ipxe_rom_boots_its_own_command_line",
    ),
    (
        Cell { row: Row::Arm64Ipxe(Release::Sid), road: Road::Pxe4, way: Way::Server },
        "an_arm64_machine_boots_by_pxe",
    ),
    (
        Cell { row: Row::Arm64Ipxe(Release::Sid), road: Road::Http4, way: Way::Server },
        "an_arm64_machine_boots_by_http",
    ),
    (
        Cell { row: Row::X64Snponly(Release::Sid), road: Road::Pxe6, way: Way::Server },
        "a_uefi_machine_boots_by_pxe_over_ipv6",
    ),
    (
        Cell { row: Row::X64Snponly(Release::Sid), road: Road::Http6, way: Way::Server },
        "a_uefi_machine_boots_by_http_over_ipv6",
    ),
    (
        Cell { row: Row::X64Snponly(Release::Sid), road: Road::Http6, way: Way::Relay },
        "a_uefi_machine_boots_over_ipv6_behind_a_relay",
    ),
    (
        Cell { row: Row::X64Snponly(Release::Sid), road: Road::Pxe4, way: Way::Dnsmasq },
        "a_uefi_machine_boots_by_pxe_beside_dnsmasq",
    ),
    (
        Cell { row: Row::X64Snponly(Release::Sid), road: Road::Http4, way: Way::Dnsmasq },
        "a_uefi_machine_boots_by_http_beside_dnsmasq",
    ),
    (
        Cell { row: Row::BiosUndionly(Release::Sid), road: Road::Pxe4, way: Way::Dnsmasq },
        "a_bios_machine_boots_through_undionly_beside_dnsmasq",
    ),
    (
        Cell { row: Row::BiosRom, road: Road::Pxe4, way: Way::Dnsmasq },
        "a_bios_machine_with_an_ipxe_rom_boots_beside_dnsmasq",
    ),
    (
        Cell { row: Row::X64Rom, road: Road::Pxe4, way: Way::Dnsmasq },
        "a_uefi_machine_with_an_ipxe_rom_boots_beside_dnsmasq",
    ),
    (
        Cell { row: Row::X64Snponly(Release::Sid), road: Road::Pxe4, way: Way::Isc },
        "a_uefi_machine_boots_by_pxe_beside_isc_dhcpd",
    ),
    (
        Cell { row: Row::X64Snponly(Release::Sid), road: Road::Http4, way: Way::Kea },
        "a_uefi_machine_boots_by_http_beside_kea",
    ),
    (
        Cell { row: Row::X64Snponly(Release::Sid), road: Road::Pxe4, way: Way::Relay },
        "a_uefi_machine_behind_a_relay_boots_its_own_command_line",
    ),
];

/// Cells that fail, and why: each is a fault that is understood and not ours to
/// mend. A cell that fails and is not here makes `make matrix` fail.
pub(crate) const KNOWN: [(Cell, &str); 0] = [];

/// All cells, row by row.
pub(crate) fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for row in ROWS {
        for road in ROADS {
            cells.extend(WAYS.map(|way| Cell { row, road, way }));
        }
    }
    cells
}

/// Those that are booted.
pub(crate) fn real() -> Vec<Cell> {
    let mut cells = all();
    cells.retain(|cell| matches!(cell.plan(), Plan::Boots(_) | Plan::Refused(_)));
    cells
}

impl Cell {
    /// What is to be seen.
    pub(crate) fn plan(self) -> Plan {
        let Self { row, road, way } = self;
        let is_proxy = matches!(way, Way::Dnsmasq | Way::Isc | Way::Kea);
        match (row, road, way) {
            (Row::Others, ..) => Plan::Untried(OTHERS),
            (Row::BiosRom | Row::BiosUndionly(_), Road::Http4 | Road::Http6, _) => {
                Plan::None(BIOS_HAS_NO_HTTP)
            }
            (Row::X64Rom, Road::Http4 | Road::Http6, _) => Plan::None(ROM_HAS_NO_HTTP_BOOT),
            (Row::BiosUndionly(_), Road::Pxe6, _) => Plan::None(BIOS_HAS_NO_IPV6),
            (_, Road::Pxe6 | Road::Http6, _) if is_proxy => Plan::None(NO_PROXY_OVER_IPV6),
            (Row::Ia32 | Row::Arm32, _, Way::Told) => Plan::None(NOTHING_TO_NAME),
            (Row::Ia32 | Row::Arm32, ..) => Plan::Refused(self.firmware()),
            (
                Row::BiosRom
                | Row::BiosUndionly(_)
                | Row::X64Snponly(_)
                | Row::X64Ipxe(_)
                | Row::X64Rom
                | Row::Arm64Ipxe(_),
                ..,
            ) => Plan::Boots(self.firmware()),
        }
    }

    fn firmware(self) -> Firmware {
        match (self.row, self.road) {
            (Row::BiosRom, _) => Firmware::BiosIpxeRom,
            (Row::BiosUndionly(_), _) => Firmware::BiosChain,
            (Row::X64Rom, _) => Firmware::UefiIpxeRom,
            (Row::X64Snponly(_) | Row::X64Ipxe(_) | Row::Others, Road::Pxe4) => Firmware::UefiPxe,
            (Row::X64Snponly(_) | Row::X64Ipxe(_) | Row::Others, Road::Http4) => Firmware::UefiHttp,
            (Row::X64Snponly(_) | Row::X64Ipxe(_) | Row::Others, Road::Pxe6) => Firmware::UefiPxe6,
            (Row::X64Snponly(_) | Row::X64Ipxe(_) | Row::Others, Road::Http6) => {
                Firmware::UefiHttp6
            }
            (Row::Arm64Ipxe(_), Road::Pxe4) => Firmware::Arm64UefiPxe,
            (Row::Arm64Ipxe(_), Road::Http4) => Firmware::Arm64UefiHttp,
            (Row::Arm64Ipxe(_), Road::Pxe6) => Firmware::Arm64UefiPxe6,
            (Row::Arm64Ipxe(_), Road::Http6) => Firmware::Arm64UefiHttp6,
            (Row::Ia32, Road::Pxe4) => Firmware::Ia32UefiPxe,
            (Row::Ia32, Road::Http4) => Firmware::Ia32UefiHttp,
            (Row::Ia32, Road::Pxe6) => Firmware::Ia32UefiPxe6,
            (Row::Ia32, Road::Http6) => Firmware::Ia32UefiHttp6,
            (Row::Arm32, Road::Pxe4) => Firmware::Arm32UefiPxe,
            (Row::Arm32, Road::Http4) => Firmware::Arm32UefiHttp,
            (Row::Arm32, Road::Pxe6) => Firmware::Arm32UefiPxe6,
            (Row::Arm32, Road::Http6) => Firmware::Arm32UefiHttp6,
        }
    }

    /// Why it is known to fail, if it is.
    pub(crate) fn known(self) -> Option<&'static str> {
        KNOWN.iter().find(|(cell, _)| *cell == self).map(|(_, why)| *why)
    }
}

/// `x64-snponly-sid/pxe4/kea`: what `ONLY` is compared with, and the name of the
/// cell's result.
impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (row, road, way) = (self.row.id(), self.road.id(), self.way.id());
        write!(formatter, "{row}/{road}/{way}")
    }
}

impl Row {
    pub(crate) fn id(self) -> String {
        match self {
            Self::BiosRom => "bios-rom".to_owned(),
            Self::BiosUndionly(release) => format!("bios-undionly-{}", release.id()),
            Self::X64Snponly(release) => format!("x64-snponly-{}", release.id()),
            Self::X64Ipxe(release) => format!("x64-ipxe-{}", release.id()),
            Self::X64Rom => "x64-rom".to_owned(),
            Self::Arm64Ipxe(release) => format!("arm64-ipxe-{}", release.id()),
            Self::Ia32 => "ia32".to_owned(),
            Self::Arm32 => "arm32".to_owned(),
            Self::Others => "others".to_owned(),
        }
    }

    /// What a reader calls it.
    pub(crate) fn title(self) -> String {
        match self {
            Self::BiosRom => "BIOS, iPXE 1.0.0 in the card's ROM".to_owned(),
            Self::BiosUndionly(release) => format!("BIOS, `undionly.kpxe` {}", release.ipxe()),
            Self::X64Snponly(release) => format!("UEFI x86-64, `snponly.efi` {}", release.ipxe()),
            Self::X64Ipxe(release) => format!("UEFI x86-64, `ipxe.efi` {}", release.ipxe()),
            Self::X64Rom => "UEFI x86-64, iPXE 1.0.0 in the card's ROM".to_owned(),
            Self::Arm64Ipxe(release) => {
                format!("UEFI arm64, `ipxe-arm64.efi` {}", release.ipxe())
            }
            Self::Ia32 => "UEFI IA32".to_owned(),
            Self::Arm32 => "UEFI arm32".to_owned(),
            Self::Others => "UEFI riscv64, loong64".to_owned(),
        }
    }

    /// The release and the name of its boot program, for those that are given one.
    pub(crate) fn loader(self) -> Option<(Release, &'static str)> {
        match self {
            Self::BiosUndionly(release) => Some((release, "undionly.kpxe")),
            Self::X64Snponly(release) => Some((release, "snponly.efi")),
            Self::X64Ipxe(release) => Some((release, "ipxe.efi")),
            Self::Arm64Ipxe(release) => Some((release, "ipxe-arm64.efi")),
            Self::BiosRom | Self::X64Rom | Self::Ia32 | Self::Arm32 | Self::Others => None,
        }
    }
}

impl Release {
    /// Its name, and the folder of its loaders.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }

    /// How the version begins that its iPXE says on the console.
    pub(crate) fn ipxe(self) -> &'static str {
        match self {
            Self::Bookworm => "1.0.0",
            Self::Trixie => "1.21.1",
            Self::Sid => "2.0.0",
        }
    }
}

impl Road {
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Pxe4 => "pxe4",
            Self::Http4 => "http4",
            Self::Pxe6 => "pxe6",
            Self::Http6 => "http6",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Pxe4 => "PXE over IPv4",
            Self::Http4 => "HTTP Boot over IPv4",
            Self::Pxe6 => "PXE over IPv6",
            Self::Http6 => "HTTP Boot over IPv6",
        }
    }

    pub(crate) fn is_ipv6(self) -> bool {
        matches!(self, Self::Pxe6 | Self::Http6)
    }

    pub(crate) fn is_http(self) -> bool {
        matches!(self, Self::Http4 | Self::Http6)
    }
}

impl Way {
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Dnsmasq => "dnsmasq",
            Self::Isc => "isc",
            Self::Kea => "kea",
            Self::Relay => "relay",
            Self::Told => "told",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Dnsmasq => "beside dnsmasq",
            Self::Isc => "beside dhcpd",
            Self::Kea => "beside Kea",
            Self::Relay => "behind a relay",
            Self::Told => "named by another",
        }
    }
}

const OTHERS: &str = "Debian 12 has no firmware of these for QEMU, and the lab no kernel. \
    `tests/loaders.rs` boots riscv64 with the firmware of a newer release as far as its script; \
    of loong64 there are unit tests alone";
const BIOS_HAS_NO_HTTP: &str = "a BIOS has no HTTP client: HTTP Boot came with UEFI 2.5";
const ROM_HAS_NO_HTTP_BOOT: &str = "the iPXE in the ROM takes the card from the firmware, and \
    fetches its script by HTTP itself: it is under PXE";
const BIOS_HAS_NO_IPV6: &str = "PXE of a BIOS (2.1) is IPv4 alone: nothing would load \
    `undionly.kpxe`";
const NO_PROXY_OVER_IPV6: &str = "DHCPv6 has no proxy: what is booted is said by the server that \
    gives the addresses (RFC 5970)";
const NOTHING_TO_NAME: &str = "Debian has no boot program for these that another server could name";
