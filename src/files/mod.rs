//! The files that machines are given: images from one directory, and boot
//! programs from memory. Knows no protocol and no policy.

mod images;
mod loaders;
mod neighbour;
mod secure_boot;

pub use crate::model::Catalogue;
pub use images::{Digest, FileError, Images, OpenFile};
pub use loaders::Loaders;
pub use neighbour::neighbour;
pub use secure_boot::{second_stages, shims};
