//! The nouns of remoteboot: values that cannot be wrong once they exist.
//!
//! Nothing here knows a protocol, a file, a socket or the clock, and nothing
//! here imports another part of this crate.

mod architecture;
mod catalogue;
mod change;
mod client;
mod dhcp_options;
mod duid;
mod habits;
mod hexadecimal;
mod image;
mod instance;
mod lease;
mod lease6;
mod lifecycle;
mod listed;
mod mac;
mod machine;
mod names;
mod pool;
mod processors;
mod progress;
mod select;
mod subnet;
mod subnet6;
#[cfg(test)]
pub(crate) mod testing;
mod timestamp;
mod token;

pub use architecture::{Architecture, BootWay, Firmware};
pub use catalogue::{Catalogue, LoaderProfile};
pub use change::{Change, Decision};
pub use client::{Client, IpxeFeatures};
pub use dhcp_options::{
    DhcpOptions, Domain, InvalidDomain, InvalidOptionValue, InvalidRoute, OptionValue, Route,
    addresses_value,
};
pub use duid::{Duid, InvalidDuid};
pub use habits::{Habits, Tried};
pub use image::{Asset, Checksum, Image, ImageFile, InvalidChecksum, InvalidImageFile, Source};
pub use instance::{BootMode, Destroyed, Instance, InstanceId, LogicalId, Reason, Tags};
pub use lease::{Lease, LeaseState};
pub use lease6::{Holder, Lease6};
pub use lifecycle::{Forbidden, InstanceEvent, InstanceState, MachineEvent, MachineState};
pub use listed::{
    InvalidLabel, InvalidNote, LONGEST_LABEL, LONGEST_NOTE, Listed, MOST_LABELS, check_label,
    check_label_count, check_note,
};
pub use mac::{InvalidMac, Mac};
pub use machine::{Machine, Stage};
pub use names::{Hostname, InvalidHostname};
pub use pool::{InvalidRange, Pool, Range};
pub use processors::{Fate, PROCESSORS, Processor, processor, refusal};
pub use progress::{Callback, Drain, LONGEST_FAILURE, MOST_INSTALLS, Progress};
pub use select::{InvalidMacPrefix, MacPrefix, Select};
pub use subnet::{LeaseTimes, Subnet, Subnets, Unreservable};
pub use subnet6::{Pool6, Subnet6};
pub use timestamp::{Seconds, Timestamp};
pub use token::{InvalidToken, Secrets, Token};
