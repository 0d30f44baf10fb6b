//! The question who else gives addresses, and what answers it. Pure.

use std::net::Ipv4Addr;

use crate::model::Mac;

/// A DISCOVER of a card that there is not: who offers it an address is a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survey {
    card: Mac,
    transaction: [u8; 4],
}

/// Where the fields of a packet begin (RFC 2131 §2).
const YIADDR: usize = 16;
const CHADDR: usize = 28;
const COOKIE: usize = 236;
const OPTIONS: usize = 240;

/// RFC 2131 §3.
const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// BOOTP's shortest packet; some servers drop what is shorter (RFC 1542 §2.1).
const SHORTEST: usize = 300;

impl Survey {
    /// A question with a card of these random bits.
    #[must_use]
    pub const fn new(random: [u8; 10]) -> Self {
        let [first, b, c, d, e, f, transaction @ ..] = random;
        // A single card's address, and one that no maker gives (IEEE 802 §8.2).
        let card = Mac::new([first & 0xfc | 0x02, b, c, d, e, f]);
        Self { card, transaction }
    }

    /// The card that asks.
    #[must_use]
    pub const fn card(&self) -> Mac {
        self.card
    }

    /// The DISCOVER, which wants its answer sent to all.
    pub(super) fn packet(&self) -> Vec<u8> {
        let mut packet = vec![0; OPTIONS];
        packet[..4].copy_from_slice(&[1, 1, 6, 0]);
        packet[4..8].copy_from_slice(&self.transaction);
        packet[10] = 0x80;
        packet[CHADDR..][..6].copy_from_slice(&self.card.bytes());
        packet[COOKIE..].copy_from_slice(&MAGIC);
        packet.extend([53, 1, 1, 55, 3, 1, 3, 6, 255]);
        packet.resize(SHORTEST, 0);
        packet
    }

    /// The server that offers an address with this packet, if it is such an answer.
    /// A proxy's offer has no address, and is no server's.
    pub(super) fn server(&self, packet: &[u8]) -> Option<Ipv4Addr> {
        let is_answer = packet.len() > OPTIONS
            && packet[0] == 2
            && packet[4..8] == self.transaction
            && packet[CHADDR..][..6] == self.card.bytes()
            && packet[COOKIE..OPTIONS] == MAGIC;
        if !is_answer || packet[YIADDR..][..4] == [0; 4] {
            return None;
        }
        let (mut is_offer, mut server) = (false, None);
        let mut rest = &packet[OPTIONS..];
        loop {
            let (value, code, after) = match rest {
                [0, after @ ..] => {
                    rest = after;
                    continue;
                }
                [] | [255, ..] | [_] => break,
                [code, length, tail @ ..] => {
                    let (value, after) = tail.split_at_checked(usize::from(*length))?;
                    (value, *code, after)
                }
            };
            match (code, value) {
                (53, [2]) => is_offer = true,
                (54, [a, b, c, d]) => server = Some(Ipv4Addr::new(*a, *b, *c, *d)),
                _ => {}
            }
            rest = after;
        }
        server.filter(|_| is_offer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        dhcp::{
            Role, Watch,
            answer::{Answer, Why},
            request,
            testing::*,
        },
        files::Catalogue,
    };

    const SURVEY: Survey = Survey::new([0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9]);

    #[test]
    fn our_own_offer_to_the_question_is_read_as_one_and_a_proxy_s_is_not() {
        let asked = request::parse(&SURVEY.packet()).expect("a DISCOVER");
        assert_eq!(asked.mac, SURVEY.card());
        assert!(asked.route.broadcast && asked.mac.is_unicast());
        let mut lab = Lab::new();
        let offer = Lab::packet_for(&asked, &reply(lab.hear(&asked)));
        assert_eq!(SURVEY.server(&offer), Some(SERVER));
        let mut proxied = offer.clone();
        proxied[16..20].fill(0);
        assert_eq!(SURVEY.server(&proxied), None);
        let mut of_another = offer.clone();
        of_another[4] ^= 1;
        assert_eq!(SURVEY.server(&of_another), None);
        assert_eq!(SURVEY.server(&SURVEY.packet()), None);
    }

    #[test]
    fn we_do_not_answer_ourselves() {
        let asked = request::parse(&SURVEY.packet()).expect("a DISCOVER");
        for role in [Role::Server, Role::Proxy] {
            let mut lab = Lab::new();
            lab.catalogue = Catalogue::new([]);
            let every = std::time::Duration::from_secs(1);
            (lab.settings.role, lab.settings.watch) = (role, Some(Watch { survey: SURVEY, every }));
            assert_eq!(lab.hear(&asked), Answer::Silence(Why::Ourselves));
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(mut packet in proptest::collection::vec(any::<u8>(), 0..400), cut in 0usize..400) {
            let _ = SURVEY.server(&packet);
            let mut offer = SURVEY.packet();
            offer[0] = 2;
            offer[16] = 10;
            offer.truncate(OPTIONS);
            offer.append(&mut packet);
            let _ = SURVEY.server(&offer);
            offer.truncate(cut);
            let _ = SURVEY.server(&offer);
        }
    }
}
