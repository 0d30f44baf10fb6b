//! The two questions that find one neighbour, which way leads to an address and who
//! is it there, and what the kernel answers: rtnetlink(7), `linux/netlink.h`,
//! `linux/rtnetlink.h`, `linux/neighbour.h`. Pure; numbers are in the processor's order.
//!
//! What does not make sense is as good as no answer.

use std::{net::Ipv4Addr, ops::RangeInclusive};

use crate::model::Mac;

/// `struct nlmsghdr`: length, type, flags, sequence, port.
const HEADER: usize = 16;
/// `struct rtmsg` and `struct ndmsg` have the same length.
const FAMILY_HEADER: usize = 12;
/// `struct rtattr`: length, type; then the value, filled up to a multiple of four.
const ATTRIBUTE_HEADER: usize = 4;

/// A question has one attribute, an IPv4 address.
const QUESTION: usize = HEADER + FAMILY_HEADER + ATTRIBUTE_HEADER + 4;

const NLMSG_ERROR: u16 = 2;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;

/// The errors that there can be (`MAX_ERRNO` of `linux/err.h`); zero would be a receipt.
const ERRNO: RangeInclusive<i32> = 1..=4095;

/// `NLM_F_REQUEST` alone: without `NLM_F_DUMP` one object is asked for.
const NLM_F_REQUEST: u16 = 1;

const AF_INET: u8 = 2;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
/// A gateway of another family, such as an IPv6 one.
const RTA_VIA: u16 = 18;
/// Neither our own address nor one of many hosts, nor refused.
const RTN_UNICAST: u8 = 1;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// We answer for the address in somebody's place.
const NTF_PROXY: u8 = 8;
/// REACHABLE, STALE, DELAY, PROBE and PERMANENT: what `/proc/net/arp` shows as complete
/// (`arp_state_to_flags` of `net/ipv4/arp.c`). It leaves out NOARP (0x40), rightly: on
/// an interface without ARP the kernel enters our own hardware address there.
const COMPLETE: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x80;

/// The two highest bits of an attribute's type are flags.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Which way leads to the address?
pub(super) fn route_question(address: Ipv4Addr, sequence: u32) -> [u8; QUESTION] {
    // `rtm_family`, and `rtm_dst_len` in bits.
    let header = [AF_INET, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    question((RTM_GETROUTE, sequence), header, (RTA_DST, address))
}

/// Who is the address on this interface?
pub(super) fn neighbour_question(
    address: Ipv4Addr,
    interface: u32,
    sequence: u32,
) -> [u8; QUESTION] {
    // `ndm_family`, and `ndm_ifindex`; the kernel wants the rest to be zero.
    let mut header = [AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&interface.to_ne_bytes());
    question((RTM_GETNEIGH, sequence), header, (NDA_DST, address))
}

fn question(
    (kind, sequence): (u16, u32),
    header: [u8; FAMILY_HEADER],
    (attribute, address): (u16, Ipv4Addr),
) -> [u8; QUESTION] {
    let mut bytes = [0; QUESTION];
    bytes[0..4].copy_from_slice(&(QUESTION as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    bytes[16..28].copy_from_slice(&header);
    bytes[28..30].copy_from_slice(&8_u16.to_ne_bytes());
    bytes[30..32].copy_from_slice(&attribute.to_ne_bytes());
    bytes[32..36].copy_from_slice(&address.octets());
    bytes
}

/// What the kernel answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// An object of this type, from its family's header on.
    Object(u16, &'a [u8]),
    /// None, for this reason (errno).
    Refused(i32),
}

impl Answer<'_> {
    /// The interface on which the address is reached without a router.
    pub(super) fn direct_interface(&self) -> Option<u32> {
        let Self::Object(RTM_NEWROUTE, route) = *self else { return None };
        let (header, rest) = route.split_at_checked(FAMILY_HEADER)?;
        let is_direct = header[7] == RTN_UNICAST
            && attributes(rest).all(|(kind, _)| kind != RTA_GATEWAY && kind != RTA_VIA);
        let interface = value(rest, RTA_OIF)?.try_into().ok()?;
        is_direct.then_some(u32::from_ne_bytes(interface))
    }

    /// The card of the neighbour with this address, if its entry is complete.
    pub(super) fn card_of(&self, address: Ipv4Addr) -> Option<Mac> {
        let Self::Object(RTM_NEWNEIGH, neighbour) = *self else { return None };
        let (header, rest) = neighbour.split_at_checked(FAMILY_HEADER)?;
        let state = u16::from_ne_bytes([header[8], header[9]]);
        let counts = header[0] == AF_INET
            && state & COMPLETE != 0
            && header[10] & NTF_PROXY == 0
            && value(rest, NDA_DST)? == address.octets();
        let card = Mac::new(value(rest, NDA_LLADDR)?.try_into().ok()?);
        (counts && card.is_unicast()).then_some(card)
    }
}

/// The answer in a datagram to the question with this number, if it has one.
pub(super) fn answer(datagram: &[u8], sequence: u32) -> Option<Answer<'_>> {
    let mut rest = datagram;
    loop {
        let length = u32::from_ne_bytes(*rest.first_chunk()?);
        let message = rest.get(..usize::try_from(length).ok()?)?;
        let (header, body) = message.split_at_checked(HEADER)?;
        let of_question = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        if of_question == sequence {
            return Some(match u16::from_ne_bytes([header[4], header[5]]) {
                // `struct nlmsgerr` begins with the negative errno.
                NLMSG_ERROR => {
                    let errno = i32::from_ne_bytes(*body.first_chunk()?).checked_neg()?;
                    ERRNO.contains(&errno).then_some(Answer::Refused(errno))?
                }
                kind => Answer::Object(kind, body),
            });
        }
        rest = rest.get(message.len().next_multiple_of(4)..)?;
    }
}

fn value(attributes_of: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(attributes_of).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Types and values, as far as they make sense.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *rest.first_chunk()?;
        let attribute = rest.get(..u16::from_ne_bytes([a, b]).into())?;
        let value = attribute.get(ATTRIBUTE_HEADER..)?;
        rest = rest.get(attribute.len().next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & NLA_TYPE_MASK, value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const CARD: [u8; 6] = [0x52, 0x54, 0, 0xaa, 1, 1];
    const SEQUENCE: u32 = 7;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).expect("short");
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).expect("short");
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0, 0]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(4711_u32.to_ne_bytes());
        bytes.extend(body);
        bytes
    }

    fn route(kind: u8, more: &[u8]) -> Vec<u8> {
        let header = [AF_INET, 32, 0, 0, 254, 0, 0, kind, 0, 2, 0, 0];
        let own = [
            attribute(RTA_DST, &ADDRESS.octets()),
            attribute(RTA_OIF, &3_u32.to_ne_bytes()),
            more.to_vec(),
        ];
        message(RTM_NEWROUTE, SEQUENCE, &[&header[..], &own.concat()].concat())
    }

    fn neighbour(state: u16, flags: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut header = [AF_INET, 0, 0, 0, 3, 0, 0, 0, 0, 0, flags, RTN_UNICAST];
        header[8..10].copy_from_slice(&state.to_ne_bytes());
        message(RTM_NEWNEIGH, SEQUENCE, &[&header[..], &attributes.concat()].concat())
    }

    fn interface(datagram: &[u8]) -> Option<u32> {
        answer(datagram, SEQUENCE)?.direct_interface()
    }

    fn card(datagram: &[u8]) -> Option<Mac> {
        answer(datagram, SEQUENCE)?.card_of(ADDRESS)
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn the_questions_are_those_of_ip_route_get_and_ip_neigh_get() {
        let tail = [8, 0, 1, 0, 10, 0, 0, 9];
        let route = [36, 0, 0, 0, 26, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 32];
        let asked = route_question(ADDRESS, SEQUENCE);
        assert_eq!(
            (&asked[..18], &asked[18..28], &asked[28..]),
            (&route[..], &[0; 10][..], &tail[..])
        );
        let header = [36, 0, 0, 0, 30, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        let family = [2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
        let asked = neighbour_question(ADDRESS, 3, SEQUENCE);
        assert_eq!(
            (&asked[..16], &asked[16..28], &asked[28..]),
            (&header[..], &family[..], &tail[..])
        );
    }

    #[test]
    fn a_way_is_direct_without_a_router_of_any_family() {
        assert_eq!(interface(&route(RTN_UNICAST, &[])), Some(3));
        let gateway = attribute(RTA_GATEWAY, &[10, 0, 0, 254]);
        assert_eq!(interface(&route(RTN_UNICAST, &gateway)), None);
        let via = attribute(RTA_VIA, &[&[10, 0][..], &[0xfe; 16]].concat());
        assert_eq!(interface(&route(RTN_UNICAST, &via)), None);
        let (own, broadcast) = (2, 3);
        assert_eq!(interface(&route(own, &[])), None);
        assert_eq!(interface(&route(broadcast, &[])), None);
    }

    #[test]
    fn only_a_complete_entry_of_the_address_itself_counts() {
        let (address, mac) = (attribute(NDA_DST, &ADDRESS.octets()), attribute(NDA_LLADDR, &CARD));
        let entry = |state| card(&neighbour(state, 0, &[address.clone(), mac.clone()]));
        for complete in [0x02, 0x04, 0x08, 0x10, 0x80] {
            assert_eq!(entry(complete), Some(Mac::new(CARD)), "{complete:#x}");
        }
        // None, incomplete, failed, without ARP.
        for other in [0, 0x01, 0x20, 0x40] {
            assert_eq!(entry(other), None, "{other:#x}");
        }
        let with = |flags, attributes: &[Vec<u8>]| card(&neighbour(0x80, flags, attributes));
        let router_and_learned_elsewhere = 0x80 | 0x10;
        let both = [address.clone(), mac.clone()];
        assert_eq!(with(router_and_learned_elsewhere, &both), Some(Mac::new(CARD)));
        assert_eq!(with(NTF_PROXY, &both), None);
        assert_eq!(with(0, std::slice::from_ref(&mac)), None);
        assert_eq!(with(0, std::slice::from_ref(&address)), None);
        assert_eq!(with(0, &[attribute(NDA_DST, &[10, 0, 0, 8]), mac.clone()]), None);
        // Of InfiniBand; of nobody; of a group.
        for no_card in [&[1; 20][..], &[0; 6], &[0xff; 6]] {
            assert_eq!(with(0, &[address.clone(), attribute(NDA_LLADDR, no_card)]), None);
        }
        // An answer to the one question is none to the other.
        assert_eq!(card(&route(RTN_UNICAST, &[])), None);
        assert_eq!(interface(&neighbour(0x80, 0, &both)), None);
    }

    #[test]
    fn an_answer_is_found_by_its_number() {
        let old = message(RTM_NEWNEIGH, SEQUENCE - 1, &[1, 2, 3]);
        assert_eq!(answer(&old, SEQUENCE), None);
        let refused = message(NLMSG_ERROR, SEQUENCE, &(-2_i32).to_ne_bytes());
        assert_eq!(answer(&refused, SEQUENCE), Some(Answer::Refused(2)));
        let filled = [&old[..], &[0]].concat();
        let behind = [&filled[..], &refused].concat();
        assert_eq!(answer(&behind, SEQUENCE), Some(Answer::Refused(2)));
        for no_error in [0, 1, -4096, i32::MIN] {
            let receipt = message(NLMSG_ERROR, SEQUENCE, &i32::to_ne_bytes(no_error));
            assert_eq!(answer(&receipt, SEQUENCE), None, "{no_error}");
        }
        assert_eq!(answer(&refused[..18], SEQUENCE), None, "cut off");
        assert_eq!(answer(&[], SEQUENCE), None);
    }

    proptest! {
        /// Neither noise nor an answer that was damaged makes a panic.
        #[test]
        fn no_bytes_panic(
            noise in vec(any::<u8>(), 0..96),
            damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            kept in any::<prop::sample::Index>(),
        ) {
            let both = [attribute(NDA_DST, &ADDRESS.octets()), attribute(NDA_LLADDR, &CARD)];
            let mut started = message(RTM_NEWNEIGH, SEQUENCE, &noise);
            let mut datagrams = vec![noise, route(RTN_UNICAST, &[]), neighbour(0x80, 0, &both)];
            started[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
            datagrams.push(started);
            for mut datagram in datagrams {
                for (place, byte) in &damage {
                    if !datagram.is_empty() {
                        let place = place.index(datagram.len());
                        datagram[place] = *byte;
                    }
                }
                datagram.truncate(kept.index(datagram.len() + 1));
                for sequence in [SEQUENCE, 0] {
                    let _ = interface(&datagram);
                    let _ = card(&datagram);
                    let _ = answer(&datagram, sequence);
                }
            }
        }

        /// Attributes that we do not know, before and between those that we do, change nothing.
        #[test]
        fn other_attributes_change_nothing(
            others in vec((19_u16..NLA_TYPE_MASK, vec(any::<u8>(), 0..9)), 0..4),
            octets in any::<[u8; 6]>(),
        ) {
            let others: Vec<Vec<u8>> =
                others.iter().map(|(kind, value)| attribute(*kind, value)).collect();
            let own = [attribute(NDA_DST, &ADDRESS.octets()), attribute(NDA_LLADDR, &octets)];
            let all = [others.concat(), own[0].clone(), others.concat(), own[1].clone()];
            let mac = Some(Mac::new(octets)).filter(|mac| mac.is_unicast());
            prop_assert_eq!(card(&neighbour(0x02, 0, &all)), mac);
            prop_assert_eq!(interface(&route(RTN_UNICAST, &others.concat())), Some(3));
        }
    }
}
