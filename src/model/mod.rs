//! The nouns of remoteboot: values that cannot be wrong once they exist.
//!
//! Nothing here knows a protocol, a file, a socket or the clock, and nothing
//! here imports another part of this crate.

mod architecture;
mod change;
mod dhcp_options;
mod image;
mod instance;
mod lease;
mod mac;
mod machine;
mod names;
mod pool;
mod subnet;
mod timestamp;

pub use architecture::{Architecture, BootWay, Firmware};
pub use change::{Change, Decision};
pub use dhcp_options::{
    DhcpOptions, Domain, InvalidDomain, InvalidOptionValue, InvalidRoute, OptionValue, Route,
    addresses_value,
};
pub use image::{Asset, Checksum, Image, ImageFile, InvalidChecksum, InvalidImageFile, Source};
pub use instance::{Instance, InstanceId, LogicalId, Tags, Token};
pub use lease::{Lease, LeaseState};
pub use mac::{InvalidMac, Mac};
pub use machine::{Machine, Stage};
pub use names::{Hostname, InvalidHostname};
pub use pool::{InvalidRange, Pool, Range};
pub use subnet::{LeaseTimes, Subnet, Subnets, Unreservable};
pub use timestamp::{Seconds, Timestamp};
