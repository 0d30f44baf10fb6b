//! Which address a machine gets, keeps, or must give up. Pure.
//!
//! One address for each MAC: along one boot the same machine asks as firmware
//! without a client identifier, as iPXE with one, and as an operating system
//! with another, and must get the same address each time.

use std::{net::Ipv4Addr, time::Duration};

use crate::{
    model::{Change, Lease, LeaseState, Mac, Timestamp},
    state::State,
};

/// The address to offer to this machine: what its instance reserves; else what
/// it had; else what it wishes; else a free one. Nothing if the pool is full.
pub(super) fn to_offer(
    state: &State,
    mac: Mac,
    wanted: Option<Ipv4Addr>,
    now: Timestamp,
) -> Option<Ipv4Addr> {
    let addresses = &state.addresses;
    let is_open = |address: &Ipv4Addr| addresses.is_open_to(mac, *address, now);
    let reserved = addresses.reservation_of(mac).filter(is_open);
    let had = || {
        let last = addresses.last_of(mac).filter(|lease| lease.state != LeaseState::Declined)?;
        Some(last.address).filter(|address| addresses.in_pool(*address) && is_open(address))
    };
    reserved.or_else(had).or_else(|| addresses.free(wanted, now))
}

/// The change that keeps an offered address back; none if it is bound to the
/// machine already, since an offer must not shorten a lease.
pub(super) fn offered(
    state: &State,
    mac: Mac,
    address: Ipv4Addr,
    (now, hold): (Timestamp, Duration),
) -> Option<Change> {
    let bound = state.addresses.lease(address).is_some_and(|lease| lease.is_bound(now));
    let expires = now.after(hold);
    let offer = Lease { address, mac, state: LeaseState::Offered, expires };
    (!bound).then_some(Change::Lease(offer))
}

/// The changes that give the machine the address, and take from it the one that
/// it had before.
pub(super) fn bound(state: &State, mac: Mac, address: Ipv4Addr, expires: Timestamp) -> Vec<Change> {
    let before = state.addresses.bound_to(mac).filter(|lease| lease.address != address);
    let given_up =
        before.map(|lease| Change::Lease(Lease { state: LeaseState::Released, ..*lease }));
    let lease = Lease { address, mac, state: LeaseState::Bound, expires };
    given_up.into_iter().chain([Change::Lease(lease)]).collect()
}

/// What holds of an address that a machine asks to have or to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may have it.
    Good,
    /// It must not have it, and we know the machine or were asked by name.
    Bad,
    /// We know nothing of the machine: it may be another server's.
    Unknown,
}

/// Of an address that the machine chose from our offers.
///
/// An offer that lapsed, or was forgotten by a restart, still holds as long as
/// nobody else has the address: UEFI gives up the boot at a NAK.
pub(super) fn selected(state: &State, mac: Mac, address: Ipv4Addr, now: Timestamp) -> Standing {
    let addresses = &state.addresses;
    let is_ours = addresses.in_pool(address)
        || addresses.reservation_of(mac) == Some(address)
        || addresses.lease(address).is_some_and(|lease| lease.mac == mac);
    if is_ours && addresses.is_open_to(mac, address, now) { Standing::Good } else { Standing::Bad }
}

/// Of an address that the machine says it has (RENEWING, REBINDING) or had
/// (INIT-REBOOT).
pub(super) fn kept(state: &State, mac: Mac, address: Ipv4Addr, now: Timestamp) -> Standing {
    let addresses = &state.addresses;
    // An offer that it did not take, a lease that has expired or an address that it
    // gave back says nothing of another one: it may be another server's (RFC 2131
    // §4.3.2).
    let last = addresses.last_of(mac).filter(|lease| match lease.state {
        LeaseState::Bound | LeaseState::Offered | LeaseState::Released => {
            lease.address == address || lease.is_bound(now)
        }
        LeaseState::Declined => false,
    });
    let reserved = addresses.reservation_of(mac);
    if last.is_none() && reserved.is_none() {
        return Standing::Unknown;
    }
    let is_its_own = match reserved {
        Some(reserved) => reserved == address,
        None => last.is_some_and(|lease| lease.address == address),
    };
    if is_its_own && addresses.is_open_to(mac, address, now) {
        Standing::Good
    } else {
        Standing::Bad
    }
}

/// The change of a machine that gives back or complains about an address; none
/// if the address is not its own to speak of.
pub(super) fn ended(
    state: &State,
    mac: Mac,
    address: Ipv4Addr,
    (new_state, expires): (LeaseState, Timestamp),
) -> Option<Change> {
    let lease = state.addresses.lease(address).filter(|lease| lease.mac == mac)?;
    let is_live = matches!(lease.state, LeaseState::Bound | LeaseState::Offered);
    is_live.then_some(Change::Lease(Lease { state: new_state, expires, ..*lease }))
}
