//! The files that machines are given: images from one directory, and boot
//! programs from memory. Knows no protocol and no policy.

mod images;
mod loaders;
mod secure_boot;

pub use images::{Digest, FileError, Images, OpenFile};
pub use loaders::{Catalogue, Loaders};
pub use secure_boot::{second_stages, shims};
