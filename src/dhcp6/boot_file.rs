//! How a client is told what it boots: over IPv6 by a URL, whatever it is (RFC 5970
//! §3.1).
//!
//! Pure. What it boots `boot::loader` says.

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
    Program(String),
    /// A boot program by HTTP, for UEFI HTTP Boot.
    ProgramUrl(String),
    /// The machine's script, for iPXE.
    Script(String),
}

impl BootFile {
    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        match self {
            Self::Program(url) | Self::ProgramUrl(url) | Self::Script(url) => url,
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
            let server = settings.tftp.as_deref().ok_or(NoBootFile::NoTftp)?;
            BootFile::Program(format!("tftp://{server}/{name}"))
        }
        Told::Program { way: BootWay::Http, name } => {
            BootFile::ProgramUrl(format!("http://{}/loader/{name}", authority?))
        }
    })
}
