//! What a machine boots: kernel, initrds, command line.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A kernel, its initrds in the order in which they are loaded, and the
/// command line, still with its template variables.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Image {
    /// The kernel, or whatever else iPXE can start.
    pub kernel: Asset,
    /// Loaded one after the other; the kernel sees them as one.
    pub initrds: Vec<Asset>,
    /// A minijinja template of one line; see `boot::cmdline`.
    pub cmdline: String,
}

impl Image {
    /// The kernel first, then each initrd: an asset's place in this order is
    /// its number in URLs.
    pub fn assets(&self) -> impl Iterator<Item = &Asset> {
        std::iter::once(&self.kernel).chain(&self.initrds)
    }
}

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Asset {
    /// Where it comes from.
    pub source: Source,
    /// What its bytes must hash to before the first of them is served.
    pub checksum: Option<Checksum>,
}

/// Where the bytes of an asset are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// In the image directory.
    File(ImageFile),
    /// Somewhere that the machine itself fetches from, by `http` or `https`.
    Url(String),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.fmt(formatter),
            Self::Url(url) => url.fmt(formatter),
        }
    }
}

/// The name of a file relative to the image directory, that cannot lead out of
/// it: parts between single slashes, none of them `.` or `..`, no control
/// characters, 1024 bytes at most.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageFile(String);

/// Why a text does not name a file of the image directory.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidImageFile {
    /// It starts at the root of the file system.
    #[error("`{0}` is an absolute path; name it relative to the image directory")]
    Absolute(String),
    /// It has a part `..`, `.` or none between two slashes.
    #[error("`{0}` has a part `..`, `.` or an empty one; name it relative to the image directory")]
    Winding(String),
    /// It is empty, too long, or has bytes that no file name should have.
    #[error("`{0}` is not a file name")]
    Unprintable(String),
}

impl ImageFile {
    /// The name as written, with slashes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part behind the last slash.
    #[must_use]
    pub fn base_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl FromStr for ImageFile {
    type Err = InvalidImageFile;

    fn from_str(text: &str) -> Result<Self, InvalidImageFile> {
        let unprintable =
            text.is_empty() || text.len() > 1024 || text.chars().any(char::is_control);
        if unprintable || text.contains('\\') {
            return Err(InvalidImageFile::Unprintable(text.escape_debug().to_string()));
        }
        if text.starts_with('/') {
            return Err(InvalidImageFile::Absolute(text.to_owned()));
        }
        // `./kernel` is how people write it, and it leads nowhere else.
        let plain = text.strip_prefix("./").unwrap_or(text);
        if plain.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(InvalidImageFile::Winding(text.to_owned()));
        }
        Ok(Self(plain.to_owned()))
    }
}

impl fmt::Display for ImageFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for ImageFile {
    type Error = InvalidImageFile;

    fn try_from(text: String) -> Result<Self, InvalidImageFile> {
        text.parse()
    }
}

impl From<ImageFile> for String {
    fn from(file: ImageFile) -> Self {
        file.0
    }
}

/// A SHA-256 digest; written as 64 hexadecimal digits, small letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum(pub [u8; 32]);

/// The text is no SHA-256 digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a SHA-256 digest (64 hexadecimal digits)")]
pub struct InvalidChecksum(String);

impl FromStr for Checksum {
    type Err = InvalidChecksum;

    /// A prefix `sha256:` is taken, too.
    fn from_str(text: &str) -> Result<Self, InvalidChecksum> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        let mut digest = [0; 32];
        if digits.len() != 2 * digest.len() {
            return Err(InvalidChecksum(text.to_owned()));
        }
        for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
            let nibble = |digit: u8| char::from(digit).to_digit(16);
            let (Some(high), Some(low)) = (nibble(pair[0]), nibble(pair[1])) else {
                return Err(InvalidChecksum(text.to_owned()));
            };
            *byte = u8::try_from(high * 16 + low).expect("two nibbles are a byte");
        }
        Ok(Self(digest))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl TryFrom<String> for Checksum {
    type Error = InvalidChecksum;

    fn try_from(text: String) -> Result<Self, InvalidChecksum> {
        text.parse()
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_name_cannot_lead_out_of_the_image_directory() {
        for text in ["../x", "a/../../x", "a/..", "..", ".", "a//b", "a/./b", "a/"] {
            assert_eq!(text.parse::<ImageFile>(), Err(InvalidImageFile::Winding(text.to_owned())));
        }
        assert_eq!(
            "/etc/passwd".parse::<ImageFile>(),
            Err(InvalidImageFile::Absolute("/etc/passwd".to_owned()))
        );
        for text in ["", "a\0b", "a\nb", "a\\b"] {
            assert!(matches!(text.parse::<ImageFile>(), Err(InvalidImageFile::Unprintable(_))));
        }
    }

    #[test]
    fn a_leading_dot_slash_is_only_a_way_of_writing() {
        let file: ImageFile = "./images/vmlinuz".parse().expect("a plain name");
        assert_eq!((file.as_str(), file.base_name()), ("images/vmlinuz", "vmlinuz"));
    }

    #[test]
    fn a_digest_is_64_digits() {
        let text = "ab".repeat(32);
        assert_eq!(text.parse::<Checksum>().expect("64 digits").to_string(), text);
        assert_eq!(format!("sha256:{text}").parse::<Checksum>(), text.parse());
        for wrong in ["", "ab", &"zz".repeat(32), &"ab".repeat(33), &"é".repeat(32)] {
            assert!(wrong.parse::<Checksum>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_accepted_name_has_a_part_that_leads_up(text in "[./a\\\\]{0,12}") {
            if let Ok(file) = text.parse::<ImageFile>() {
                prop_assert!(!file.as_str().starts_with('/'));
                prop_assert!(file.as_str().split('/').all(|part| !matches!(part, "" | "." | "..")));
            }
        }
    }
}
