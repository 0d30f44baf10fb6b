//! What of an answer must be on disk before it leaves. Pure.
//!
//! Mostly that is what was decided with it. But a machine whose lease holds as it is
//! is promised what was written down before: its answer waits for that alone, which
//! mostly is no time at all.

use std::{collections::HashMap, net::Ipv4Addr};

use crate::model::{Change, Lease};

/// By which decisions the promises were made that may not be on disk yet.
#[derive(Debug, Default)]
pub(super) struct Promises {
    leases: HashMap<Ipv4Addr, u64>,
    /// The last that said how far leases may be ahead of the disk.
    ahead: u64,
    /// The leases are looked through for those on disk when they are so many.
    many: usize,
}

/// What an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RestsOn {
    /// It promises nothing.
    Nothing,
    /// A decision before it.
    Earlier(u64),
    /// Its own.
    Own,
}

impl RestsOn {
    /// The number of the decision, if it has to be waited for one.
    pub(super) const fn of(self, own: u64) -> Option<u64> {
        match self {
            Self::Nothing => None,
            Self::Earlier(number) => Some(number),
            Self::Own => Some(own),
        }
    }
}

impl Promises {
    /// What an answer rests on that comes with these changes.
    pub(super) fn rests_on(&self, changes: &[Change]) -> RestsOn {
        let mut earlier = None;
        for change in changes.iter().filter(|change| change.is_promise()) {
            let number = match change {
                Change::Kept(address) => self.leases.get(address).copied().unwrap_or_default(),
                _ => return RestsOn::Own,
            };
            earlier = Some(number.max(earlier.unwrap_or_default()));
        }
        earlier.map_or(RestsOn::Nothing, RestsOn::Earlier)
    }

    /// What the answer with this lease rests on, if it may be ahead of the lease: what
    /// says whose the address is, and what says how far it may be ahead. All that was
    /// written of the address before is among it, so that nothing older comes back.
    pub(super) fn before(&self, lease: &Lease) -> RestsOn {
        let known = self.leases.get(&lease.address).copied().unwrap_or_default();
        RestsOn::Earlier(known.max(self.ahead))
    }

    /// Remembers what was handed to the writer as the decision of this number, when
    /// it had written all up to `written`.
    pub(super) fn handed(&mut self, changes: &[Change], number: u64, written: u64) {
        const FEW: usize = 1024;
        for change in changes {
            let address = match change {
                Change::Lease(lease) => Some(lease.address),
                Change::Instance(instance) => instance.address,
                Change::Ahead(_) => {
                    self.ahead = number;
                    None
                }
                _ => None,
            };
            if let Some(address) = address {
                self.leases.insert(address, number);
            }
        }
        if self.leases.len() > self.many.max(FEW) {
            self.leases.retain(|_, number| *number > written);
            self.many = 2 * self.leases.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LeaseState, Mac, Timestamp};

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    fn mac(last: u8) -> Mac {
        Mac::new([2, 0, 0, 0, 0, last])
    }

    fn bound(address: Ipv4Addr, last: u8) -> Change {
        let (state, expires) = (LeaseState::Bound, Timestamp(1000));
        Change::Lease(Lease { address, mac: mac(last), state, expires })
    }

    #[test]
    fn a_lease_that_holds_waits_for_the_decision_that_made_it() {
        let mut promises = Promises::default();
        assert_eq!(promises.rests_on(&[Change::Kept(ADDRESS)]), RestsOn::Earlier(0));
        promises.handed(&[bound(ADDRESS, 1)], 7, 0);
        promises.handed(&[bound([10, 0, 0, 8].into(), 2)], 8, 0);
        assert_eq!(promises.rests_on(&[Change::Kept(ADDRESS)]), RestsOn::Earlier(7));
        let with_another = [Change::Kept(ADDRESS), Change::Forgotten(mac(3))];
        assert_eq!(promises.rests_on(&with_another), RestsOn::Own);
    }

    #[test]
    fn a_lease_waits_for_itself_whatever_was_written_before() {
        let mut promises = Promises::default();
        promises.handed(&[bound(ADDRESS, 1)], 3, 3);
        assert_eq!(promises.rests_on(&[bound(ADDRESS, 1)]), RestsOn::Own);
        assert_eq!(promises.rests_on(&[]), RestsOn::Nothing);
    }

    #[test]
    fn only_leases_that_are_not_on_disk_are_remembered_for_long() {
        let mut promises = Promises::default();
        for number in 1..100_000u32 {
            let change = bound(Ipv4Addr::from_bits(number), 1);
            promises.handed(&[change], number.into(), u64::from(number).saturating_sub(10));
            let last = [Change::Kept(Ipv4Addr::from_bits(number))];
            assert_eq!(promises.rests_on(&last), RestsOn::Earlier(number.into()));
        }
        assert!(promises.leases.len() <= 1025, "{}", promises.leases.len());
    }
}
