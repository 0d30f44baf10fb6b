//! What a client is: firmware, iPXE, or a host that boots nothing. Pure.

use crate::model::{BootWay, Client, Firmware};

/// The enterprise number of Intel, under which PXE and UEFI name their classes
/// (UEFI 2.10 §24.3 and §24.7).
pub(super) const INTEL: [u8; 4] = 343u32.to_be_bytes();

/// What a client is by its user classes (option 15), its vendor class (option 16)
/// and its architectures (option 61).
#[must_use]
pub(super) fn client(
    user: Option<&[u8]>,
    vendor: Option<&[u8]>,
    architectures: Option<&[u8]>,
) -> Client {
    let class = vendor.unwrap_or_default();
    let firmware = firmware(architectures, class);
    let user_classes = user.unwrap_or_default();
    if user_classes == b"iPXE" || counted(user_classes).any(|class| class == b"iPXE") {
        return Client::Ipxe { firmware };
    }
    let is_of = |name: &[u8]| counted(class_data(class)).any(|one| one.starts_with(name));
    let way = if is_of(b"PXEClient") {
        BootWay::Pxe
    } else if is_of(b"HTTPClient") {
        BootWay::Http
    } else {
        return Client::Host;
    };
    match firmware {
        Some(firmware) => Client::Firmware { way, firmware },
        // No BIOS boots over IPv6, so nothing can be taken for granted here.
        None => Client::Host,
    }
}

/// What comes behind the enterprise number of option 16, if that is Intel's.
fn class_data(class: &[u8]) -> &[u8] {
    class.strip_prefix(&INTEL).unwrap_or_default()
}

/// Pieces with two bytes of length before each (RFC 8415 §21.15 and §21.16).
fn counted(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_at_checked(2)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let (piece, rest) = rest.split_at_checked(length)?;
        bytes = rest;
        Some(piece)
    })
}

/// The first architecture of option 61 that is known, else the first; else the
/// number in the vendor class `PXEClient:Arch:00007:...`.
fn firmware(architectures: Option<&[u8]>, class: &[u8]) -> Option<Firmware> {
    let listed: Vec<Firmware> =
        pairs(architectures.unwrap_or_default()).into_iter().map(Firmware::from_number).collect();
    let known = listed.iter().find(|firmware| matches!(firmware, Firmware::Known(_)));
    let by_class = || {
        let text = std::str::from_utf8(counted(class_data(class)).next()?).ok()?;
        let number = text.split(':').skip_while(|part| *part != "Arch").nth(1)?;
        number.parse().ok().map(Firmware::from_number)
    };
    known.or(listed.first()).copied().or_else(by_class)
}

/// Numbers of two bytes.
pub(super) fn pairs(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}
