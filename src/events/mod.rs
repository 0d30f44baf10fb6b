//! What happens, told to whoever listens: machines that come, instances that
//! change, leases, files that are fetched, and everything that is refused.
//!
//! `story` says which events a change makes, `event` has their words, `topic` who
//! wants which of them; all of that is pure. `bus` hands them out, and alone has
//! a clock. Knows no protocol, and no secret of an instance is ever in an event.

mod bus;
mod event;
mod identity;
mod measure;
mod story;
mod topic;

pub use bus::{Bus, Subscription};
pub use event::{Door, Event, Fact, Refused, Served};
pub use story::story;
pub use topic::{DHCP_EVENTS, DOORS, INSTANCE_EVENTS, LEASE_EVENTS, MACHINE_EVENTS, ROOTS, Topics};
