//! What a machine's firmware and its iPXE say by DHCP, through a relay, and what of
//! the answers they look at.

use std::net::Ipv4Addr;

use crate::{
    lab::{CLIENT, SERVER},
    machine,
};

/// Which program of a machine asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// UEFI PXE (EDK2).
    Firmware,
    /// The iPXE that it has loaded.
    Ipxe,
}

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Offer,
    Acknowledge,
    Refuse,
}

/// An answer to a machine.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) machine: u32,
    pub(crate) asker: Asker,
    pub(crate) kind: Kind,
    pub(crate) address: Ipv4Addr,
    /// The name of the boot file, in its field or in option 67.
    pub(crate) file: String,
    /// iPXE need not wait for a proxyDHCP server (option 175, suboption 176).
    pub(crate) is_alone: bool,
}

/// A DISCOVER, or a REQUEST of an offered address; `seconds` since the first.
pub(crate) fn packet(
    machine: u32,
    asker: Asker,
    requested: Option<Ipv4Addr>,
    seconds: u16,
) -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 1]);
    packet[4..8].copy_from_slice(&xid(machine, asker).to_be_bytes());
    packet[8..10].copy_from_slice(&seconds.to_be_bytes());
    if asker == Asker::Firmware {
        packet[10] = 0x80;
    }
    packet[24..28].copy_from_slice(&CLIENT.octets());
    packet[28..34].copy_from_slice(&machine::bytes(machine));
    packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
    let mut put = |code: u8, value: &[u8]| {
        packet.extend_from_slice(&[code, value.len() as u8]);
        packet.extend_from_slice(value);
    };
    put(53, &[if requested.is_some() { 3 } else { 1 }]);
    put(57, &1472_u16.to_be_bytes());
    if let Some(address) = requested {
        put(54, &SERVER.octets());
        put(50, &address.octets());
    }
    match asker {
        Asker::Firmware => {
            put(55, &[1, 2, 3, 4, 5, 6, 12, 13, 15, 43, 54, 60, 66, 67, 97, 128, 129, 135]);
            put(60, b"PXEClient:Arch:00007:UNDI:003000");
            put(94, &[1, 3, 0]);
        }
        Asker::Ipxe => {
            put(55, &[1, 3, 6, 7, 12, 15, 17, 43, 60, 66, 67, 119, 128, 129, 135, 175, 203]);
            put(60, b"PXEClient:Arch:00007:UNDI:003010");
            put(61, &[&[1][..], &machine::bytes(machine)].concat());
            put(77, b"iPXE");
            put(94, &[1, 3, 10]);
            // HTTP, TFTP, PXE, EFI and a version.
            put(175, &[19, 1, 1, 21, 1, 1, 33, 1, 1, 36, 1, 1, 235, 3, 1, 0, 0]);
        }
    }
    put(93, &7_u16.to_be_bytes());
    let mut uuid = [0; 17];
    uuid[11..].copy_from_slice(&machine::bytes(machine));
    put(97, &uuid);
    packet.push(255);
    packet.resize(packet.len().max(340), 0);
    packet
}

const fn xid(machine: u32, asker: Asker) -> u32 {
    machine << 1 | matches!(asker, Asker::Ipxe) as u32
}

/// Reads an answer; nothing if it is none to one of so many machines.
pub(crate) fn read(packet: &[u8], machines: u32) -> Option<Heard> {
    let xid = u32::from_be_bytes(packet.get(4..8)?.try_into().ok()?);
    let machine = Some(xid >> 1).filter(|machine| *machine < machines)?;
    assert_eq!(packet.get(28..34)?, machine::bytes(machine), "a packet has another's card");
    let (mut kind, mut file, mut is_alone) = (None, text(packet.get(108..236)?), false);
    let mut rest = packet.get(240..)?;
    while let Some((code, value, behind)) = next(rest) {
        rest = behind;
        match (code, value) {
            (53, [2]) => kind = Some(Kind::Offer),
            (53, [5]) => kind = Some(Kind::Acknowledge),
            (53, [6]) => kind = Some(Kind::Refuse),
            (67, name) => file = text(name),
            (175, inner) => is_alone = inner.windows(3).any(|part| part == [176, 1, 1]),
            _ => {}
        }
    }
    let asker = if xid & 1 == 0 { Asker::Firmware } else { Asker::Ipxe };
    let address = Ipv4Addr::from([packet[16], packet[17], packet[18], packet[19]]);
    Some(Heard { machine, asker, kind: kind?, address, file, is_alone })
}

/// The next option, and what is behind it.
fn next(rest: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let start = rest.iter().position(|code| *code != 0)?;
    let rest = &rest[start..];
    let (code, length) = (rest[0], usize::from(*rest.get(1)?));
    let is_option = code != 255;
    is_option.then_some((code, rest.get(2..2 + length)?, rest.get(2 + length..)?))
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}
