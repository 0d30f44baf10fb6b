//! What one machine loads and boots, whatever loads it: the files' URLs and the command
//! line, for iPXE's script and for GRUB's configuration. Pure.

use std::{fmt::Write as _, net::IpAddr, path::Path};

use super::{
    Next, Policy, UnclaimedImage,
    cmdline::{InvalidCmdLine, Variables},
    urls,
};
use crate::model::{Image, Instance, Mac, Source, VlanId};

/// Why a machine that has something to boot is not told to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unscriptable {
    #[error("command line: {0}")]
    CmdLine(#[from] InvalidCmdLine),
    #[error("the URL `{0}` has a blank or a control character")]
    Url(String),
    #[error("GRUB cannot load `{0}`: it knows `http://` and nothing else")]
    NoHttp(String),
    #[error("command line: GRUB cannot hand on {0}")]
    ForGrub(&'static str),
}

/// The name that a file of the unclaimed image has in its URL.
#[must_use]
pub fn base_name(path: &Path) -> &str {
    path.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or("file")
}

/// What one machine loads and boots.
pub(super) struct Plan<'a> {
    pub(super) policy: &'a Policy,
    pub(super) mac: Mac,
    pub(super) address: IpAddr,
    pub(super) hostname: &'a str,
    /// The kernel, then the initrds.
    pub(super) urls: Vec<String>,
    pub(super) cmdline: String,
}

/// The card that a machine boots with.
pub(super) struct Card {
    pub(super) mac: Mac,
    pub(super) machine: Mac,
    pub(super) address: IpAddr,
    pub(super) vlan: Option<VlanId>,
}

/// Makes a command line of its template, for a kernel with so many initrds.
type Complete = fn(&str, &Variables<'_>, usize) -> Result<String, InvalidCmdLine>;

/// What it is that the machine with this card loads and boots.
///
/// # Errors
///
/// [`Unscriptable`]: the operator must change something.
pub(super) fn plan<'a>(
    policy: &'a Policy,
    next: Next<'a>,
    Card { mac, machine, address, vlan }: Card,
    complete: Complete,
) -> Result<Plan<'a>, Unscriptable> {
    let (urls, template, instance) = match next {
        Next::Instance(instance, image) => {
            (urls_of(policy, instance, image)?, image.cmdline.as_str(), Some(instance))
        }
        Next::Unclaimed(image) => (unclaimed_urls(policy, image), image.cmdline.as_str(), None),
        Next::Hold | Next::Local(_) | Next::GaveUp(_) | Next::Ignore => (Vec::new(), "", None),
    };
    let authority = Some(policy.authority.as_str());
    // A machine that waits may have asked for its address before another was kept
    // for its instance: the system that it boots gets that one.
    let kept = instance.and_then(|instance| instance.address).map(IpAddr::from);
    let ip = kept.filter(|kept| kept.is_ipv4() == address.is_ipv4()).unwrap_or(address);
    let server = policy.server;
    let variables = Variables { mac, machine, ip, server, authority, vlan, instance };
    let cmdline = complete(template, &variables, urls.len().saturating_sub(1))?;
    let hostname = instance.map_or("${hostname}", |instance| instance.hostname.as_str());
    Ok(Plan { policy, mac, address, hostname, urls, cmdline })
}

fn urls_of(
    policy: &Policy,
    instance: &Instance,
    image: &Image,
) -> Result<Vec<String>, Unscriptable> {
    let url = |(number, asset): (usize, &crate::model::Asset)| match &asset.source {
        Source::File(file) => {
            let name = percent_encoded(file.base_name());
            Ok(urls::file(&policy.authority, instance, number, &name))
        }
        Source::Url(url) if is_one_word(url) => Ok(url.clone()),
        Source::Url(url) => Err(Unscriptable::Url(url.clone())),
    };
    image.assets().enumerate().map(url).collect()
}

/// A script is made of lines of words: nothing in a URL may end one.
fn is_one_word(url: &str) -> bool {
    !url.is_empty()
        && !url.ends_with('\\')
        && !url.chars().any(|c| c.is_control() || c.is_whitespace())
}

fn unclaimed_urls(policy: &Policy, image: &UnclaimedImage) -> Vec<String> {
    let first = policy.rules.first_file(image);
    let url = |(place, path): (usize, &std::path::PathBuf)| {
        let (number, name) = (first + place, percent_encoded(base_name(path)));
        format!("http://{}/unclaimed/{number}/{name}", policy.authority)
    };
    image.files().enumerate().map(url).collect()
}

/// All but the unreserved characters as `%XX` (RFC 3986 §2.1 and §2.3): no
/// `${}` is left for iPXE to expand, no blank to end a word.
fn percent_encoded(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String has no errors");
        }
        encoded
    })
}
