//! remoteboot boots bare machines over the network, and lets InfraKit scale them.
#![warn(missing_docs)]

pub mod boot;
pub mod dhcp;
pub mod files;
pub mod model;
pub mod state;
pub mod store;
