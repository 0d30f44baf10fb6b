//! What a client is told to boot: its program, its script, or nothing.
//!
//! Pure. Over IPv6 all three are URLs (RFC 5970 §3.1).

use crate::{
    files::Catalogue,
    model::{BootWay, Firmware, Mac},
};

use super::{Settings, request::Client};

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

/// Why a client that wants to boot is told nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoBootFile {
    /// It does not want to boot.
    #[error("it does not want to boot")]
    Host,
    /// Nothing tells its card, so no instance can be for it.
    #[error(
        "neither its address nor its DUID nor a relay tells its MAC, so it is no machine that is known"
    )]
    NoMac,
    /// Its instance says that it boots from its own disk.
    #[error("it boots from its own disk")]
    OwnDisk,
    /// By a rule for machines that no instance claims, it is none of ours.
    #[error("it is left alone by rule")]
    Ignored,
    /// No boot program is made for its architecture number.
    #[error("there is no boot program for architecture number {0:#06x}")]
    UnknownArchitecture(u16),
    /// The program for its architecture is not installed.
    #[error("no boot program for {0} is installed")]
    NoProgram(&'static str),
    /// TFTP is not served here.
    #[error("TFTP is not enabled, and PXE firmware knows nothing else")]
    NoTftp,
    /// HTTP is not served here.
    #[error("HTTP is not enabled")]
    NoHttp,
}

/// What this client is told to boot.
///
/// # Errors
///
/// [`NoBootFile`]: then it is given an address and nothing more.
pub fn boot_file(
    settings: &Settings,
    catalogue: &Catalogue,
    client: Client,
    mac: Option<Mac>,
) -> Result<BootFile, NoBootFile> {
    if client == Client::Host {
        return Err(NoBootFile::Host);
    }
    let mac = mac.ok_or(NoBootFile::NoMac)?;
    let authority = settings.authority.as_deref().ok_or(NoBootFile::NoHttp);
    let (way, firmware) = match client {
        Client::Host => return Err(NoBootFile::Host),
        Client::Ipxe { .. } => {
            let url = format!("http://{}/ipxe/{}.ipxe", authority?, mac.hyphenated());
            return Ok(BootFile::Script(url));
        }
        Client::Firmware { way, firmware } => (way, firmware),
    };
    let architecture = match firmware {
        Firmware::Known(architecture) => architecture,
        Firmware::Unknown(number) => return Err(NoBootFile::UnknownArchitecture(number)),
    };
    let name = catalogue.loader(architecture).ok_or(NoBootFile::NoProgram(architecture.name()))?;
    match way {
        BootWay::Pxe => {
            let server = settings.tftp.as_deref().ok_or(NoBootFile::NoTftp)?;
            Ok(BootFile::Program(format!("tftp://{server}/{name}")))
        }
        BootWay::Http => Ok(BootFile::ProgramUrl(format!("http://{}/loader/{name}", authority?))),
    }
}
