//! Whether the files of an image are there, and are the ones that were meant.
//!
//! Knows the image directory and no method; does not know the clock, only how
//! long it may wait.

use std::time::Duration;

use crate::{
    files::{Digest, FileError, Images, OpenFile},
    model::{Checksum, Image, Source},
};

/// Why a file of an image cannot be given to a machine.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadAsset {
    /// It cannot be opened.
    #[error("Properties.{field}: {}", with_cause(.problem))]
    File { field: &'static str, problem: FileError },
    /// Its bytes are not those that were meant.
    #[error(
        "Properties.{field}: `{name}` has the SHA-256 digest {found}, but Properties.Checksum says {expected}"
    )]
    Differs { field: &'static str, name: String, found: Checksum, expected: Checksum },
    /// It could not be read to its end.
    #[error("Properties.{field}: cannot read `{name}`: {problem}")]
    Unreadable { field: &'static str, name: String, problem: String },
    /// The thread that looks at files has ended.
    #[error("Properties: the files could not be looked at")]
    Unknown,
}

/// Opens every file of the image, and compares digests as far as they are known
/// within `patience`. A digest that is not known by then counts as right: no
/// byte of the file is served before it was compared.
pub(super) async fn check(
    images: &Images,
    image: &Image,
    patience: Duration,
) -> Result<(), BadAsset> {
    let (images, image) = (images.clone(), image.clone());
    let opened = {
        let images = images.clone();
        tokio::task::spawn_blocking(move || open(&images, &image))
    };
    let promised = opened.await.map_err(|_| BadAsset::Unknown)??;
    // All are begun before any is waited for.
    for file in &promised {
        file.compare(&images.digest(&file.file))?;
    }
    let compared = async {
        for file in &promised {
            file.compare(&images.digest_within(&file.file, patience).await)?;
        }
        Ok(())
    };
    tokio::time::timeout(patience, compared).await.unwrap_or(Ok(()))
}

/// A file with the digest that it must have.
struct Promised {
    field: &'static str,
    name: String,
    file: OpenFile,
    expected: Checksum,
}

/// Opens all files; those without a checksum are of no more interest then.
fn open(images: &Images, image: &Image) -> Result<Vec<Promised>, BadAsset> {
    let mut promised = Vec::new();
    for (number, asset) in image.assets().enumerate() {
        let field = if number == 0 { "Kernel" } else { "Initrd" };
        let Source::File(name) = &asset.source else { continue };
        let file = images.open(name).map_err(|problem| BadAsset::File { field, problem })?;
        if let Some(expected) = asset.checksum {
            promised.push(Promised { field, name: name.to_string(), file, expected });
        }
    }
    Ok(promised)
}

impl Promised {
    fn compare(&self, digest: &Digest) -> Result<(), BadAsset> {
        let Self { field, name, expected, .. } = self;
        let (name, expected) = (name.clone(), *expected);
        match digest {
            Digest::Pending => Ok(()),
            Digest::Known(found) if *found == expected => Ok(()),
            Digest::Known(found) => Err(BadAsset::Differs { field, name, found: *found, expected }),
            Digest::Unreadable(problem) => {
                Err(BadAsset::Unreadable { field, name, problem: problem.clone() })
            }
        }
    }
}

/// Clients show the message alone, so the cause is part of it.
fn with_cause(error: &FileError) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spi::properties::Properties;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn checked(properties: serde_json::Value) -> Result<(), String> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("vmlinuz"), "kernel").expect("written");
        std::os::unix::fs::symlink("/etc/passwd", directory.path().join("out")).expect("linked");
        let image = Properties::read(&properties).expect("well formed").image.expect("a kernel");
        let images = Images::new(directory.path().to_owned());
        check(&images, &image, PATIENCE).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_or_leads_out_is_named_with_its_field() {
        let missing = checked(json!({"Kernel": "vmlinuz", "Initrd": "nope"})).await;
        let missing = missing.expect_err("no such file");
        assert!(missing.starts_with("Properties.Initrd: there is no file `nope`"), "{missing}");
        let outside = checked(json!({"Kernel": "out"})).await.expect_err("leads out");
        assert!(outside.starts_with("Properties.Kernel: `out` leads out of"), "{outside}");
        assert_eq!(checked(json!({"Kernel": "http://files.example/k"})).await, Ok(()));
    }

    #[tokio::test]
    async fn a_file_of_another_digest_is_refused_with_both() {
        // `printf kernel | sha256sum`
        let right = "6923dd1bc0460082c5d55a831908c24a282860b7f1cd6c2b79cf1bc8857c639c";
        let with = |digest: &str| json!({"Kernel": "vmlinuz", "Checksum": {"vmlinuz": digest}});
        assert_eq!(checked(with(right)).await, Ok(()));
        let wrong = "ab".repeat(32);
        let refused = checked(with(&wrong)).await.expect_err("another file");
        assert!(refused.starts_with("Properties.Kernel: `vmlinuz`"), "{refused}");
        assert!(refused.contains(right) && refused.contains(&wrong), "{refused}");
    }
}
