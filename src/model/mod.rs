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
mod identity;
mod image;
mod instance;
mod lease;
mod lease6;
mod lifecycle;
mod listed;
mod local_boot;
mod mac;
mod machine;
mod names;
mod overlay;
mod path;
mod pool;
mod port;
mod processors;
mod progress;
mod proxied;
mod select;
mod shared;
mod smbios;
mod spelled;
mod subnet;
mod subnet6;
mod tags;
#[cfg(test)]
pub(crate) mod testing;
mod timestamp;
mod token;
mod treatment;

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
pub use identity::{Identity, MOST_CARDS, MOST_UUIDS};
pub use image::{Asset, Checksum, Image, ImageFile, InvalidChecksum, InvalidImageFile, Source};
pub use instance::{BootMode, Destroyed, Instance, InstanceId, LogicalId, Reason};
pub use lease::{Lease, LeaseState};
pub use lease6::{Holder, Lease6};
pub use lifecycle::{Forbidden, InstanceEvent, InstanceState, MachineEvent, MachineState};
pub use listed::{
    InvalidLabel, InvalidNote, LONGEST_LABEL, LONGEST_NOTE, Listed, MOST_LABELS, check_label,
    check_label_count, check_note,
};
pub use local_boot::{Entry, EntryWay, LocalBoot, LocalHabit};
pub use mac::{InvalidMac, Mac};
pub use machine::{Machine, Stage};
pub use names::{Hostname, InvalidHostname};
pub use overlay::{MachineKind, Overlay, Profile};
pub use path::{InvalidRate, InvalidVlanId, Rate, VlanId};
pub use pool::{InvalidRange, Pool, Range};
pub use port::{InvalidRelayId, Port, RelayId, Slot};
pub use processors::{Fate, PROCESSORS, Processor, processor, refusal};
pub use progress::{Callback, Drain, LONGEST_FAILURE, MOST_INSTALLS, Progress};
pub use proxied::{Proxied, Rung};
pub use select::{InvalidMacPrefix, MacPrefix, Select};
pub use shared::{Pooled, Rare, Shared, Usual};
pub use smbios::{LONGEST_SERIAL, canonical_uuid, is_genuine_uuid, serial};
pub use subnet::{LeaseTimes, Subnet, Subnets, Unreservable};
pub use subnet6::{Pool6, Subnet6};
pub use tags::{TagPool, Tags};
pub use timestamp::{Seconds, Timestamp};
pub use token::{InvalidToken, Secrets, Token};
pub use treatment::Treatment;
