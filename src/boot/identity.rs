//! Which machine is it that asks by TFTP or HTTP?
//!
//! Where we give out the addresses, the source address says it, and a MAC in a
//! URL must agree. Where another server does, the MAC in the URL is believed
//! unless the kernel's neighbour table knows better.

use std::net::IpAddr;

use crate::{
    model::{Mac, Timestamp},
    state::State,
};

/// Who gives out the addresses of the machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// Our own DHCP server: a source address tells the machine.
    Ours,
    /// Somebody else: we can't tell.
    Foreign,
}

/// What is known of who asks, before anything is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visitor {
    /// The source address of the request.
    pub address: IpAddr,
    /// The hardware address that the kernel's neighbour table has for it.
    pub neighbour: Option<Mac>,
}

/// Which machine the visitor says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It did not say.
    None,
    /// In the URL.
    Mac(Mac),
}

/// Why a visitor is not believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Imposter {
    /// The address is leased to another machine.
    #[error("{address} is leased to {owner}, not to {claimed}")]
    AnothersAddress {
        /// The source address.
        address: IpAddr,
        /// Whose it is.
        owner: Mac,
        /// Who it says it is.
        claimed: Mac,
    },
    /// We give out the addresses, and have not given this one to anybody.
    #[error("{address} is leased to nobody, so it is not believed to be {claimed}")]
    NoLease {
        /// The source address.
        address: IpAddr,
        /// Who it says it is.
        claimed: Mac,
    },
    /// The neighbour table has another hardware address for the source.
    #[error("{address} belongs to the card {neighbour}, not to {claimed}")]
    AnothersCard {
        /// The source address.
        address: IpAddr,
        /// The card that answers for it.
        neighbour: Mac,
        /// Who it says it is.
        claimed: Mac,
    },
}

/// The card of the machine that asks, as far as it can be told: the one that its
/// address was leased to, else the one that it claims. What one card of a machine may
/// have, each of its cards may.
///
/// # Errors
///
/// [`Imposter`] if it claims to be a machine that it is not, or cannot be
/// shown to be.
pub fn identify(
    state: &State,
    addressing: Addressing,
    visitor: Visitor,
    (claim, now): (Claim, Timestamp),
) -> Result<Option<Mac>, Imposter> {
    let address = visitor.address;
    let leased = state.machine_at(address, now);
    let owner = match addressing {
        Addressing::Ours => leased,
        // A lease of a time when we gave the addresses says less than the card.
        Addressing::Foreign => leased.filter(|_| visitor.neighbour.is_none()),
    };
    let is_same = |one: Mac, other: Mac| {
        one == other || state.machines.of_card(one) == state.machines.of_card(other)
    };
    match (claim, owner, addressing) {
        (Claim::None, Some(owner), _) => Ok(Some(owner)),
        (Claim::None, None, Addressing::Ours) => Ok(None),
        (Claim::None, None, Addressing::Foreign) => Ok(visitor.neighbour),
        (Claim::Mac(claimed), Some(owner), _) if is_same(claimed, owner) => Ok(Some(owner)),
        (Claim::Mac(claimed), Some(owner), _) => {
            Err(Imposter::AnothersAddress { address, owner, claimed })
        }
        (Claim::Mac(claimed), None, Addressing::Ours) => {
            Err(Imposter::NoLease { address, claimed })
        }
        (Claim::Mac(claimed), None, Addressing::Foreign) => match visitor.neighbour {
            Some(neighbour) if !is_same(neighbour, claimed) => {
                Err(Imposter::AnothersCard { address, neighbour, claimed })
            }
            Some(_) | None => Ok(Some(claimed)),
        },
    }
}

/// The same, but of several cards of a machine the one that was told this URL.
///
/// # Errors
///
/// As [`identify`].
pub fn booting_card(
    state: &State,
    addressing: Addressing,
    visitor: Visitor,
    (claim, now): (Claim, Timestamp),
) -> Result<Option<Mac>, Imposter> {
    let told = identify(state, addressing, visitor, (claim, now))?;
    Ok(match claim {
        Claim::Mac(claimed) => told.map(|_| claimed),
        Claim::None => told,
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::{Change, Holder, Lease, Lease6, LeaseState};

    const NOW: Timestamp = Timestamp(1000);
    const OWNER: Mac = Mac::new([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac::new([2, 0, 0, 0, 0, 2]);
    const LEASED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const UNKNOWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);

    fn asked(
        addressing: Addressing,
        address: Ipv4Addr,
        neighbour: Option<Mac>,
        claim: Claim,
    ) -> Result<Option<Mac>, Imposter> {
        let mut state = State::new(None);
        state.apply(&Change::Lease(Lease {
            address: LEASED,
            mac: OWNER,
            state: LeaseState::Bound,
            expires: Timestamp(2000),
        }));
        identify(&state, addressing, Visitor { address: address.into(), neighbour }, (claim, NOW))
    }

    #[test]
    fn a_leased_address_is_its_machine_whatever_the_url_says() {
        for addressing in [Addressing::Ours, Addressing::Foreign] {
            assert_eq!(asked(addressing, LEASED, None, Claim::None), Ok(Some(OWNER)));
            assert_eq!(asked(addressing, LEASED, None, Claim::Mac(OWNER)), Ok(Some(OWNER)));
            assert!(asked(addressing, LEASED, None, Claim::Mac(OTHER)).is_err());
        }
    }

    #[test]
    fn over_ipv6_a_lease_or_the_card_in_the_address_tells_the_machine() {
        let mut state = State::new(None);
        state.apply(&Change::Lease6(Lease6 {
            address: "fd00::100".parse().expect("an address"),
            holder: Holder::Machine(OWNER),
            association: 1,
            state: LeaseState::Bound,
            expires: Timestamp(2000),
        }));
        let asked = |address: &str, claim| {
            let address = address.parse().expect("an address");
            identify(&state, Addressing::Ours, Visitor { address, neighbour: None }, (claim, NOW))
        };
        assert_eq!(asked("fd00::100", Claim::None), Ok(Some(OWNER)));
        assert!(asked("fd00::100", Claim::Mac(OTHER)).is_err());
        assert_eq!(asked("fe80::ff:fe00:2", Claim::Mac(OTHER)), Ok(Some(OTHER)));
        assert!(asked("fe80::ff:fe00:2", Claim::Mac(OWNER)).is_err());
        assert!(asked("fd00::101", Claim::Mac(OWNER)).is_err());
    }

    #[test]
    fn what_is_leased_to_one_card_of_a_machine_may_speak_for_another_and_for_no_stranger() {
        let stranger = Mac::new([2, 0, 0, 0, 0, 3]);
        let mut state = State::new(None);
        let mut machine = crate::model::testing::held(OWNER, NOW);
        machine.identity.cards.insert(OTHER);
        state.apply(&Change::Machine(machine));
        state.apply(&Change::Lease(Lease {
            address: LEASED,
            mac: OTHER,
            state: LeaseState::Bound,
            expires: Timestamp(2000),
        }));
        for (addressing, neighbour) in [
            (Addressing::Ours, None),
            (Addressing::Foreign, None),
            (Addressing::Foreign, Some(OTHER)),
        ] {
            let visitor = Visitor { address: LEASED.into(), neighbour };
            let asked = |claim| identify(&state, addressing, visitor, (Claim::Mac(claim), NOW));
            assert!(matches!(asked(OWNER), Ok(Some(_))), "{addressing:?}");
            assert_eq!(asked(OTHER), Ok(Some(OTHER)));
            assert!(asked(stranger).is_err(), "{addressing:?}");
        }
    }

    #[test]
    fn nobody_takes_the_name_of_a_machine_without_its_lease() {
        assert_eq!(
            asked(Addressing::Ours, UNKNOWN, Some(OWNER), Claim::Mac(OWNER)),
            Err(Imposter::NoLease { address: UNKNOWN.into(), claimed: OWNER })
        );
        assert_eq!(asked(Addressing::Ours, UNKNOWN, Some(OWNER), Claim::None), Ok(None));
    }

    #[test]
    fn beside_another_server_a_lease_of_ours_is_no_more_than_the_card() {
        let foreign = Addressing::Foreign;
        assert_eq!(asked(foreign, LEASED, Some(OTHER), Claim::None), Ok(Some(OTHER)));
        assert_eq!(asked(foreign, LEASED, Some(OTHER), Claim::Mac(OTHER)), Ok(Some(OTHER)));
        assert!(asked(foreign, LEASED, Some(OTHER), Claim::Mac(OWNER)).is_err());
        assert_eq!(
            asked(Addressing::Ours, LEASED, Some(OTHER), Claim::Mac(OWNER)),
            Ok(Some(OWNER))
        );
    }

    #[test]
    fn beside_another_server_the_neighbour_table_decides() {
        let foreign = Addressing::Foreign;
        assert_eq!(asked(foreign, UNKNOWN, Some(OTHER), Claim::None), Ok(Some(OTHER)));
        assert_eq!(asked(foreign, UNKNOWN, Some(OTHER), Claim::Mac(OTHER)), Ok(Some(OTHER)));
        assert!(asked(foreign, UNKNOWN, Some(OTHER), Claim::Mac(OWNER)).is_err());
        assert_eq!(asked(foreign, UNKNOWN, None, Claim::Mac(OTHER)), Ok(Some(OTHER)));
    }
}
