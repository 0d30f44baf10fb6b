//! remoteboot boots bare machines over the network, and lets InfraKit scale them.
//!
//! Machines ask through three doors, [`dhcp`], [`tftp`] and `http`, what they
//! shall do next; a controller says through the fourth, `spi`, what they shall
//! become. Between them is a hall: the nouns ([`model`]), all that is known
//! ([`state`]), the policy ([`boot`]), the disk ([`store`]) and the files that
//! machines are given ([`files`]). ARCHITECTURE.md has the map and the rules.

pub mod boot;
pub mod config;
pub mod daemon;
pub mod dhcp;
pub mod dhcp6;
pub mod events;
pub mod files;
pub mod http;
pub mod machines;
pub mod model;
pub mod pull;
pub mod spi;
pub mod state;
pub mod store;
pub mod tftp;
