//! `remoteboot pulliPXE`: downloads iPXE, and puts a file in place only when it
//! is whole and right. Knows nothing of the daemon.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Client, StatusCode, Url, header::CONTENT_TYPE, redirect};
use sha2::{Digest as _, Sha256};

use crate::{
    config::Pull,
    model::{Architecture, Checksum},
};

/// Where the project builds its programs for everybody.
const SOURCE: &str = "https://boot.ipxe.org";
/// The program of the ancestor, for PCs with BIOS.
const FILE: &str = "undionly.kpxe";
/// No boot program is larger; what is, is something else.
const LARGEST: usize = 16 << 20;
/// More of them are a circle.
const MOST_REDIRECTS: usize = 5;
/// A server that says nothing for so long says nothing any more.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a program was not downloaded. What was there before is still there.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// It is no URL that programs can be downloaded from.
    #[error("--url={0} is not an http or https URL")]
    Url(String),
    /// The server cannot be asked, or sent less than it announced.
    #[error("cannot download {url}")]
    Request {
        /// What was asked for.
        url: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// The server has something else to say.
    #[error("{url} answers {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// What was answered, never 200.
        status: StatusCode,
    },
    /// It is larger than any boot program.
    #[error("{url} is larger than {LARGEST} bytes, so it is no boot program")]
    TooLarge {
        /// What was asked for.
        url: String,
    },
    /// There is nothing in it.
    #[error("{url} is empty")]
    Empty {
        /// What was asked for.
        url: String,
    },
    /// It is for people, such as the page of a captive portal.
    #[error("{url} is a web page, not a boot program")]
    Page {
        /// What was asked for.
        url: String,
    },
    /// It is not what was wanted.
    #[error("{url} has sha256 {received}, but --sha256={expected} was wanted")]
    Digest {
        /// What was asked for.
        url: String,
        /// What was wanted.
        expected: Checksum,
        /// What came.
        received: Checksum,
    },
    /// It cannot be put in place.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Downloads what is asked for, shows how far it is, and prints each file's
/// digest.
///
/// # Errors
///
/// What could not be downloaded, the first of it if it is several.
pub fn run(pull: Pull) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let is_plain = pull.url.as_deref().is_some_and(|url| url.starts_with("http:"));
        let client = client(is_plain)?;
        match &pull.directory {
            Some(directory) => all(&client, Path::new(directory), pull.url.as_deref()).await,
            None => one(&client, &pull).await,
        }
    })
}

async fn one(client: &Client, pull: &Pull) -> anyhow::Result<()> {
    let expected = pull
        .sha256
        .as_deref()
        .map(|text| text.parse::<Checksum>().with_context(|| format!("--sha256={text}")))
        .transpose()?;
    let file = PathBuf::from(pull.file.as_deref().unwrap_or(FILE));
    let program = match &pull.url {
        Some(url) => Program { url: parsed(url)?, expected },
        None => Program { url: below(SOURCE, FILE)?, expected },
    };
    let received = fetch(client, &program, &file).await?;
    println!("{}  sha256:{received}", file.display());
    Ok(())
}

/// The programs of all architectures; a failure does not stop the others.
async fn all(client: &Client, directory: &Path, url: Option<&str>) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for architecture in Architecture::ALL {
        match best(client, directory, (url.unwrap_or(SOURCE), architecture)).await {
            Ok((name, received)) => println!("{name}  sha256:{received}"),
            Err(error) => {
                let error = anyhow::Error::new(error);
                eprintln!("{}: {error:#}", architecture.name());
                failures.push(architecture.name());
            }
        }
    }
    anyhow::ensure!(failures.is_empty(), "there is no program for {}", failures.join(", "));
    Ok(())
}

/// The first of an architecture's programs that the server has.
async fn best(
    client: &Client,
    directory: &Path,
    (source, architecture): (&str, Architecture),
) -> Result<(&'static str, Checksum), PullError> {
    let mut missing = None;
    for name in published(architecture) {
        let program = Program { url: below(source, name)?, expected: None };
        match fetch(client, &program, &directory.join(name)).await {
            Ok(received) => return Ok((name, received)),
            Err(error @ PullError::Status { status: StatusCode::NOT_FOUND, .. }) => {
                missing = missing.or(Some(error));
            }
            Err(error) => return Err(error),
        }
    }
    Err(missing.expect("every architecture has a published program, by a test"))
}

/// The names under which boot.ipxe.org has the programs of an architecture:
/// those of UEFI in a directory each, that of BIOS at the top.
fn published(architecture: Architecture) -> impl Iterator<Item = &'static str> {
    let is_bios = architecture == Architecture::Bios;
    let names = architecture.loaders().iter().copied();
    names.filter(move |name| if is_bios { *name == FILE } else { name.contains('/') })
}

/// What to download, and what its digest must be.
struct Program {
    url: Url,
    expected: Option<Checksum>,
}

fn parsed(text: &str) -> Result<Url, PullError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.filter(Url::has_host).ok_or_else(|| PullError::Url(text.to_owned()))
}

fn below(source: &str, name: &str) -> Result<Url, PullError> {
    parsed(&format!("{}/{name}", source.trim_end_matches('/')))
}

/// A client that trusts whom the system trusts. A mirror by plain http needs
/// nobody's trust, so there it does without if the system names nobody.
fn client(is_plain: bool) -> anyhow::Result<Client> {
    // reqwest comes without a provider of ciphers and panics if there is none.
    // It is already there if this runs a second time.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match builder().build() {
        Err(_) if is_plain => builder().tls_certs_only([]).build(),
        outcome => outcome,
    }
    .context(
        "cannot prepare for https; are the system's root certificates installed (ca-certificates)?",
    )
}

fn builder() -> reqwest::ClientBuilder {
    let policy = redirect::Policy::custom(|attempt| {
        let is_circle = attempt.previous().len() > MOST_REDIRECTS;
        let from = attempt.previous().last().map(Url::scheme);
        match may_follow(from, attempt.url().scheme()) && !is_circle {
            true => attempt.follow(),
            // The redirect itself is the answer then: a status that is not 200.
            false => attempt.stop(),
        }
    });
    Client::builder()
        .user_agent(concat!("remoteboot/", env!("CARGO_PKG_VERSION")))
        .redirect(policy)
        .connect_timeout(PATIENCE)
        .read_timeout(PATIENCE)
}

/// Whether a redirect leads from one scheme to another without giving up TLS.
fn may_follow(from: Option<&str>, to: &str) -> bool {
    to == "https" || (to == "http" && from == Some("http"))
}

/// Downloads a program, checks it, and puts it in place.
async fn fetch(client: &Client, program: &Program, file: &Path) -> Result<Checksum, PullError> {
    let url = program.url.to_string();
    let content = download(client, &program.url).await?;
    let received = Checksum(Sha256::digest(&content).into());
    if let Some(expected) = program.expected.filter(|expected| *expected != received) {
        return Err(PullError::Digest { url, expected, received });
    }
    let put = put(file, &content);
    put.map_err(|source| PullError::Write { path: file.to_owned(), source })?;
    Ok(received)
}

async fn download(client: &Client, wanted: &Url) -> Result<Vec<u8>, PullError> {
    let url = || wanted.to_string();
    let broken =
        |source: reqwest::Error| PullError::Request { url: url(), source: source.without_url() };
    let mut response = client.get(wanted.clone()).send().await.map_err(broken)?;
    let status = response.status();
    if status != StatusCode::OK {
        return Err(PullError::Status { url: url(), status });
    }
    let announced = response.content_length();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_page = kind.is_some_and(|kind| kind.trim_start().starts_with("text/html"));
    let progress = progress(announced, wanted.path());
    let mut content = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        content.extend_from_slice(&piece);
        if content.len() > LARGEST {
            return Err(PullError::TooLarge { url: url() });
        }
        progress.set_position(content.len() as u64);
    }
    progress.finish_and_clear();
    if content.is_empty() {
        return Err(PullError::Empty { url: url() });
    }
    if is_page || looks_like_page(&content) {
        return Err(PullError::Page { url: url() });
    }
    Ok(content)
}

/// A bar on a terminal; elsewhere nothing, by indicatif itself.
fn progress(length: Option<u64>, name: &str) -> ProgressBar {
    let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}") {
        bar.set_style(style);
    }
    bar.with_message(name.trim_start_matches('/').to_owned())
}

fn looks_like_page(content: &[u8]) -> bool {
    let text = content.trim_ascii_start();
    let begins =
        |with: &[u8]| text.get(..with.len()).is_some_and(|it| it.eq_ignore_ascii_case(with));
    begins(b"<!doctype") || begins(b"<html")
}

/// Writes a file beside its place, then moves it there: whoever looks sees the
/// old one or the whole new one.
fn put(file: &Path, content: &[u8]) -> io::Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let name = file.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let aside = directory.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let moved = write_aside(&aside, content).and_then(|()| fs::rename(&aside, file));
    if moved.is_err() {
        // The first error tells more than that nothing could be tidied up.
        let _ = fs::remove_file(&aside);
    }
    moved?;
    fs::File::open(directory)?.sync_all()
}

fn write_aside(aside: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(aside)?;
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_has_a_published_program_that_the_catalogue_knows() {
        for architecture in Architecture::ALL {
            let names: Vec<_> = published(architecture).collect();
            assert!(!names.is_empty(), "{}", architecture.name());
            assert!(names.iter().all(|name| architecture.loaders().contains(name)));
        }
        let names: Vec<_> = published(Architecture::X64Uefi).collect();
        assert_eq!(names, ["x86_64-efi/snponly.efi", "x86_64-efi/ipxe.efi"]);
    }

    #[test]
    fn no_redirect_gives_up_tls() {
        assert!(may_follow(Some("http"), "http"));
        assert!(may_follow(Some("http"), "https"));
        assert!(may_follow(Some("https"), "https"));
        assert!(!may_follow(Some("https"), "http"));
        assert!(!may_follow(Some("http"), "file"));
    }

    #[test]
    fn pages_are_told_from_programs() {
        assert!(looks_like_page(b"\r\n <!DOCTYPE html><html>"));
        assert!(looks_like_page(b"<HTML>"));
        assert!(!looks_like_page(b"MZ"));
        assert!(!looks_like_page(b"<"));
    }

    #[test]
    fn only_urls_of_the_web_are_taken() {
        for text in ["ftp://h/x", "file:///etc/passwd", "undionly.kpxe", "http://", ""] {
            assert!(parsed(text).is_err(), "{text}");
        }
        let url = below("http://h/ipxe/", "a/b.efi").expect("a URL");
        assert_eq!(url.as_str(), "http://h/ipxe/a/b.efi");
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("x86_64-efi/snponly.efi");
        put(&file, b"first").expect("written");
        put(&file, b"second").expect("written");
        assert_eq!(fs::read(&file).expect("there"), b"second");
        let mode = fs::metadata(&file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        let beside = fs::read_dir(directory.path().join("x86_64-efi")).expect("there").count();
        assert_eq!(beside, 1);
        put(directory.path(), b"x").expect_err("a directory is not replaced");
        assert!(file.is_file());
    }
}
