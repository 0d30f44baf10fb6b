//! Which address a client gets, keeps, or must give up. Pure.
//!
//! One address for each machine, for its first association: an IAID changes
//! along a boot as a DUID does.

use std::{net::Ipv6Addr, time::Duration};

use crate::{
    model::{Change, Holder, Lease6, LeaseState, Subnet6, Timestamp},
    state::State,
};

/// The address to advertise to this client: what it had here; else what it wishes;
/// else a free one. Nothing if the pool is full.
pub(super) fn to_offer(
    state: &State,
    (holder, subnet): (&Holder, &Subnet6),
    wanted: Option<Ipv6Addr>,
    now: Timestamp,
) -> Option<Ipv6Addr> {
    let addresses = &state.addresses6;
    let had = addresses.last_of(holder).filter(|lease| lease.state != LeaseState::Declined);
    had.map(|lease| lease.address)
        .filter(|address| may_have(state, (holder, subnet), *address, now))
        .or_else(|| addresses.free(subnet, wanted, now))
}

/// Whether the client may have this address: it is the pool's, and nobody else
/// holds it.
pub(super) fn may_have(
    state: &State,
    (holder, subnet): (&Holder, &Subnet6),
    address: Ipv6Addr,
    now: Timestamp,
) -> bool {
    let in_pool = subnet.pool.as_ref().is_some_and(|pool| pool.contains(address));
    in_pool && state.addresses6.is_open_to(holder, address, now)
}

/// The change that keeps an advertised address back; none if it is bound to the
/// client already, since an offer must not shorten a lease.
pub(super) fn offered(
    state: &State,
    (holder, association): (&Holder, u32),
    address: Ipv6Addr,
    (now, hold): (Timestamp, Duration),
) -> Option<Change> {
    let bound = state.addresses6.lease(address).is_some_and(|lease| lease.is_bound(now));
    let (holder, expires) = (holder.clone(), now.after(hold));
    let state = LeaseState::Offered;
    (!bound).then_some(Change::Lease6(Lease6 { address, holder, association, state, expires }))
}

/// The changes that give the client the address, and take from it the one that
/// it had before.
pub(super) fn bound(
    state: &State,
    (holder, association): (&Holder, u32),
    address: Ipv6Addr,
    expires: Timestamp,
) -> Vec<Change> {
    let before = state
        .addresses6
        .last_of(holder)
        .filter(|lease| lease.address != address && lease.state == LeaseState::Bound);
    let given_up = before.map(|lease| {
        let state = LeaseState::Released;
        Change::Lease6(Lease6 { state, expires: Timestamp(0), ..lease.clone() })
    });
    let (holder, state) = (holder.clone(), LeaseState::Bound);
    let lease = Lease6 { address, holder, association, state, expires };
    given_up.into_iter().chain([Change::Lease6(lease)]).collect()
}

/// The change of a client that gives back or complains about an address; none if
/// the address is not its own to speak of.
pub(super) fn ended(
    state: &State,
    (holder, association): (&Holder, u32),
    address: Ipv6Addr,
    (new_state, expires): (LeaseState, Timestamp),
) -> Option<Change> {
    let lease = state.addresses6.lease(address).filter(|lease| lease.holder == *holder)?;
    let is_live = matches!(lease.state, LeaseState::Bound | LeaseState::Offered);
    // What has asked for it anew since does not give it back.
    let is_last = new_state == LeaseState::Declined || lease.association == association;
    (is_live && is_last)
        .then(|| Change::Lease6(Lease6 { state: new_state, expires, ..lease.clone() }))
}
