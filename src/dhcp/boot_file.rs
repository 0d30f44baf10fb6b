//! How a client is told what it boots: a name on the TFTP server, or a URL.
//!
//! Pure. What it boots `boot::loader` says; the table of firmware and what it needs is
//! in `docs/firmware.md`.

use super::Settings;
pub use crate::boot::loader::NoBootFile;
use crate::{
    boot::loader::Told,
    model::{BootWay, Mac},
};

/// What a client is told to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootFile {
    /// A boot program by TFTP, for PXE firmware.
    Program {
        /// Its name on our TFTP server.
        name: String,
        /// That server's address.
        server: std::net::Ipv4Addr,
    },
    /// A boot program by HTTP, for UEFI HTTP Boot.
    ProgramUrl(String),
    /// The machine's script, for iPXE.
    Script(String),
}

impl BootFile {
    /// As it is told: a name on the TFTP server, or a URL.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Program { name, .. } => name,
            Self::ProgramUrl(url) | Self::Script(url) => url,
        }
    }
}

/// Where this is to be had.
///
/// # Errors
///
/// That it is not served here.
pub fn boot_file(settings: &Settings, told: &Told, mac: Mac) -> Result<BootFile, NoBootFile> {
    let authority = settings.authority.as_deref().ok_or(NoBootFile::NoHttp);
    Ok(match told {
        Told::Script => {
            let url = format!("http://{}/ipxe/{}.ipxe", authority?, mac.hyphenated());
            BootFile::Script(url)
        }
        Told::Program { way: BootWay::Pxe, name } => {
            let server = settings.tftp.ok_or(NoBootFile::NoTftp)?;
            BootFile::Program { name: name.clone(), server }
        }
        Told::Program { way: BootWay::Http, name } => {
            BootFile::ProgramUrl(format!("http://{}/loader/{name}", authority?))
        }
    })
}
