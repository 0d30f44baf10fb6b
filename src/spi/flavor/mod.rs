//! InfraKit's Flavor interface: what the instances of a group are given, whether
//! they are well, and how one of them stops its work before it is destroyed.
//!
//! Beside `vanilla` it knows what was reported by the machines themselves. Pure,
//! but for `drain` and the call that it makes.

mod callback;
pub(super) mod drain;
pub(super) mod prepare;
mod properties;
pub(super) mod request;

pub(super) use prepare::Refusal;
pub(super) use properties::Properties;
