//! Boot programs: found on disk, checked for their architecture, kept in memory.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;

use super::secure_boot::{self, shims};
use crate::model::{Architecture, Catalogue, LoaderProfile};

/// Where Debian's `ipxe` package puts its files.
const SYSTEM_DIRECTORY: &str = "/usr/lib/ipxe";

/// How old a catalogue may be: a crowd of machines must not make as many looks
/// at the disk.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// So many programs of a directory are kept besides the usual ones.
const MOST_OTHERS: usize = 64;

/// No boot program is larger; what is, is something else.
const LARGEST: u64 = 16 << 20;

/// The boot programs, looked for again every second at most, and read again
/// when a file has changed.
#[derive(Debug)]
pub struct Loaders {
    single: Option<PathBuf>,
    directories: Vec<PathBuf>,
    profiles: Vec<LoaderProfile>,
    signed: Option<PathBuf>,
    read: Mutex<HashMap<PathBuf, Read>>,
    latest: Mutex<Option<(Instant, Arc<Catalogue>)>>,
}

/// A file as it was read, or that it is none of ours.
#[derive(Debug, Clone)]
struct Read {
    modified: SystemTime,
    length: u64,
    content: Option<Bytes>,
}

impl Loaders {
    /// Boot programs from one file, which goes before all others of its
    /// architecture, from a directory, and from where Debian's `ipxe` package
    /// puts them for what the directory has not.
    #[must_use]
    pub fn new(single: Option<PathBuf>, directory: Option<PathBuf>) -> Self {
        let directories = directory.into_iter().chain([PathBuf::from(SYSTEM_DIRECTORY)]).collect();
        Self { single, ..Self::only_from(directories) }
    }

    /// The same with a directory of signed programs: shims, and what they load.
    #[must_use]
    pub fn with_signed(self, directory: Option<PathBuf>) -> Self {
        Self { signed: directory, ..self }
    }

    /// Boot programs from these directories alone, the first before the others.
    #[must_use]
    pub fn only_from(directories: Vec<PathBuf>) -> Self {
        let (read, latest) = (Mutex::default(), Mutex::default());
        Self { single: None, directories, profiles: Vec::new(), signed: None, read, latest }
    }

    /// With these profiles.
    #[must_use]
    pub fn by(self, profiles: Vec<LoaderProfile>) -> Self {
        Self { profiles, ..self }
    }

    /// What there is, no older than a second.
    #[must_use]
    pub fn catalogue(&self) -> Arc<Catalogue> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some((looked, catalogue)) if looked.elapsed() < FRESH_FOR => Arc::clone(catalogue),
            Some(_) | None => {
                let catalogue = Arc::new(self.look());
                *latest = Some((Instant::now(), Arc::clone(&catalogue)));
                catalogue
            }
        }
    }

    /// What there is at this moment.
    #[must_use]
    pub fn look_now(&self) -> Arc<Catalogue> {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.catalogue()
    }

    fn look(&self) -> Catalogue {
        let single = self.single.iter().filter_map(|path| {
            let content = self.content(path)?;
            let name = path.file_name()?.to_str()?.to_owned();
            Some((architecture_of(&content), name, content))
        });
        let in_directories = self.directories.iter().flat_map(|directory| {
            Architecture::ALL.into_iter().flat_map(move |architecture| {
                architecture.loaders().iter().filter_map(move |name| {
                    let path = directory.join(name);
                    let content = self.content(&path)?;
                    if architecture_of(&content) != architecture {
                        tracing::debug!(path = %path.display(), "not for {}", architecture.name());
                        return None;
                    }
                    Some((architecture, (*name).to_owned(), content))
                })
            })
        });
        let others = self.directories.iter().flat_map(|directory| self.others(directory));
        let all = Catalogue::new(single.chain(in_directories)).and(others);
        all.with_signed(self.signed_programs(), shims).by(self.profiles.clone())
    }

    /// The programs of the directory, and of those in it, that nobody is told unless
    /// somebody says so: a shim, a GRUB, an iPXE of one's own.
    fn others(&self, directory: &Path) -> Vec<(Architecture, String, Bytes)> {
        let mut names = Vec::new();
        for (name, is_directory) in entries(directory) {
            if !is_directory {
                names.push(name);
                continue;
            }
            let below = entries(&directory.join(&name)).into_iter();
            let files = below.filter(|(_, is_directory)| !is_directory);
            names.extend(files.map(|(file, _)| format!("{name}/{file}")));
        }
        names.retain(|name| is_program_name(name) && !is_usual(name));
        names.sort_unstable();
        if names.len() > MOST_OTHERS {
            tracing::debug!(path = %directory.display(), "only {MOST_OTHERS} programs of it are served");
        }
        let program = |name: String| {
            let content = self.content(&directory.join(&name))?;
            let architecture = architecture_of(&content);
            // Without a header for a machine that is known it is no UEFI program.
            let is_broken = architecture == Architecture::Bios && is_uefi_name(&name);
            (!is_broken).then_some((architecture, name, content))
        };
        names.into_iter().take(MOST_OTHERS).filter_map(program).collect()
    }

    /// The programs of the directory of signed ones, by their names in small letters.
    fn signed_programs(&self) -> Vec<(Architecture, String, Bytes)> {
        let all = self.signed.iter().flat_map(|directory| secure_boot::programs(directory));
        let programs = all.filter_map(|(name, path)| {
            let content = self.content(&path)?;
            let architecture = architecture_of(&content);
            if architecture == Architecture::Bios {
                tracing::debug!(path = %path.display(), "no UEFI program");
                return None;
            }
            Some((architecture, name, content))
        });
        programs.collect()
    }

    /// The content of the file, read again only if it has changed.
    fn content(&self, path: &Path) -> Option<Bytes> {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        let (modified, length) = (metadata.modified().ok()?, metadata.len());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.get(path)
            && (known.modified, known.length) == (modified, length)
        {
            return known.content.clone();
        }
        let content = match read_whole(path, length) {
            Ok(content) => Some(content),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read this boot program");
                None
            }
        };
        read.insert(path.to_owned(), Read { modified, length, content: content.clone() });
        content
    }
}

/// The files and directories in a directory, but for hidden ones; none if it cannot
/// be read.
fn entries(directory: &Path) -> Vec<(String, bool)> {
    let Ok(found) = fs::read_dir(directory) else { return Vec::new() };
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'))?;
        Some((name, fs::metadata(entry.path()).ok()?.is_dir()))
    };
    found.filter_map(entry).collect()
}

fn is_usual(name: &str) -> bool {
    Architecture::ALL.into_iter().any(|architecture| architecture.loaders().contains(&name))
}

/// Whether a file of this name may be a boot program: a UEFI application, or what a
/// BIOS loads by PXE.
fn is_program_name(name: &str) -> bool {
    let ends = [".pxe", ".kpxe", ".kkpxe", ".0"];
    is_uefi_name(name) || ends.iter().any(|end| name.ends_with(end))
}

fn is_uefi_name(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".efi")
}

fn read_whole(path: &Path, length: u64) -> io::Result<Bytes> {
    if length == 0 || length > LARGEST {
        let text = format!("{length} bytes is no size for a boot program");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    fs::read(path).map(Bytes::from)
}

/// What a program is made for: by its PE header if it is a UEFI application
/// (UEFI 2.10 §2.1.1), else BIOS.
fn architecture_of(program: &[u8]) -> Architecture {
    let machine = || -> Option<u16> {
        if program.get(..2)? != b"MZ" {
            return None;
        }
        let offset = u32::from_le_bytes(program.get(0x3c..0x40)?.try_into().ok()?);
        let header = program.get(usize::try_from(offset).ok()?..)?;
        let machine = header.strip_prefix(b"PE\0\0")?.get(..2)?;
        Some(u16::from_le_bytes(machine.try_into().ok()?))
    };
    match machine() {
        Some(0x014c) => Architecture::Ia32Uefi,
        Some(0x8664) => Architecture::X64Uefi,
        Some(0x01c0 | 0x01c2 | 0x01c4) => Architecture::Arm32Uefi,
        Some(0xaa64) => Architecture::Arm64Uefi,
        Some(0x5064) => Architecture::Riscv64Uefi,
        Some(0x6264) => Architecture::Loong64Uefi,
        Some(_) | None => Architecture::Bios,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The shortest program with the PE header of this machine type.
    pub(crate) fn efi_program(machine: u16) -> Vec<u8> {
        let mut program = vec![0; 0x40];
        program[..2].copy_from_slice(b"MZ");
        program[0x3c] = 0x40;
        program.extend_from_slice(b"PE\0\0");
        program.extend_from_slice(&machine.to_le_bytes());
        program
    }

    fn directory(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (name, content) in files {
            fs::write(directory.path().join(name), content).expect("written");
        }
        directory
    }

    #[test]
    fn a_program_under_the_name_of_another_architecture_is_not_given_out() {
        let directory = directory(&[
            ("snponly.efi", efi_program(0xaa64)),
            ("ipxe-arm64.efi", efi_program(0x8664)),
            ("ipxe.efi", efi_program(0x8664)),
            ("undionly.kpxe", b"bios".to_vec()),
        ]);
        let catalogue = Loaders::only_from(vec![directory.path().to_owned()]).look();
        assert_eq!(catalogue.loader(Architecture::X64Uefi), Some("ipxe.efi"));
        assert_eq!(catalogue.loader(Architecture::Bios), Some("undionly.kpxe"));
        assert_eq!(catalogue.loader(Architecture::Arm64Uefi), None);
        assert_eq!(catalogue.content("ipxe-arm64.efi"), None);
    }

    #[test]
    fn a_replaced_program_is_read_again_and_an_empty_one_never_served() {
        let directory = directory(&[("undionly.kpxe", b"first".to_vec())]);
        let path = directory.path().join("undionly.kpxe");
        let loaders = Loaders::only_from(vec![directory.path().to_owned()]);
        assert_eq!(loaders.look().content("undionly.kpxe"), Some(&Bytes::from("first")));
        fs::write(&path, "the second").expect("written");
        assert_eq!(loaders.look().content("undionly.kpxe"), Some(&Bytes::from("the second")));
        fs::write(&path, "").expect("written");
        assert_eq!(loaders.look().loader(Architecture::Bios), None);
    }

    #[test]
    fn the_single_file_goes_before_the_others_of_its_architecture() {
        let directory = directory(&[
            ("snponly.efi", efi_program(0x8664)),
            ("mine.efi", efi_program(0x8664)),
            ("undionly.kpxe", b"bios".to_vec()),
        ]);
        let single = directory.path().join("mine.efi");
        let loaders = Loaders::new(Some(single), Some(directory.path().to_owned()));
        assert_eq!(loaders.look().loader(Architecture::X64Uefi), Some("mine.efi"));
        assert_eq!(loaders.look().loader(Architecture::Bios), Some("undionly.kpxe"));
    }

    #[test]
    fn any_program_of_the_directory_is_served_by_its_name_and_told_nobody_by_itself() {
        let directory = directory(&[
            ("shimx64.efi", efi_program(0x8664)),
            ("GRUBAA64.EFI", efi_program(0xaa64)),
            ("lpxelinux.0", b"bios".to_vec()),
            ("broken.efi", b"<html>".to_vec()),
            ("itanium.efi", efi_program(0x0200)),
            ("notes.txt", b"text".to_vec()),
            (".hidden.efi", efi_program(0x8664)),
        ]);
        fs::create_dir(directory.path().join("rack")).expect("made");
        fs::write(directory.path().join("rack/own.efi"), efi_program(0x8664)).expect("written");
        let catalogue = Loaders::only_from(vec![directory.path().to_owned()]).look();
        for (name, architecture) in [
            ("shimx64.efi", Some(Architecture::X64Uefi)),
            ("rack/own.efi", Some(Architecture::X64Uefi)),
            ("GRUBAA64.EFI", Some(Architecture::Arm64Uefi)),
            ("lpxelinux.0", Some(Architecture::Bios)),
            ("broken.efi", None),
            ("itanium.efi", None),
            ("notes.txt", None),
            (".hidden.efi", None),
            ("rack", None),
        ] {
            assert_eq!(catalogue.architecture(name), architecture, "{name}");
        }
        for architecture in Architecture::ALL {
            assert_eq!(catalogue.loader(architecture), None);
        }
    }

    #[test]
    fn a_shim_is_the_loader_and_what_it_asks_for_is_found_in_every_directory() {
        let machine = efi_program(0x8664);
        let signed = directory(&[
            ("shimx64.efi", machine.clone()),
            ("bootx64.efi", machine.clone()),
            ("GRUBX64.EFI", [&machine[..], b"grub"].concat()),
            ("ipxe.efi", [&machine[..], b"signed"].concat()),
            ("bootaa64.efi", b"no program".to_vec()),
            ("grub.cfg", b"set secret=1".to_vec()),
        ]);
        let own = directory(&[
            ("ipxe.efi", machine.clone()),
            ("snponly.efi", machine.clone()),
            ("ipxe-arm64.efi", efi_program(0xaa64)),
        ]);
        let loaders = Loaders::only_from(vec![own.path().to_owned()]);
        let catalogue = loaders.with_signed(Some(signed.path().to_owned())).look();
        assert_eq!(catalogue.loader(Architecture::X64Uefi), Some("shimx64.efi"));
        assert_eq!(catalogue.loader(Architecture::Arm64Uefi), Some("ipxe-arm64.efi"));
        for name in ["grubx64.efi", "boot/grubx64.efi", "EFI/BOOT/GRUBX64.EFI"] {
            assert!(catalogue.content(name).is_some_and(|all| all.ends_with(b"grub")), "{name}");
        }
        assert!(catalogue.content("ipxe.efi").is_some_and(|all| all.ends_with(b"signed")));
        assert!(catalogue.content("snponly.efi").is_some());
        for name in ["bootaa64.efi", "grub.cfg", "grubx64.efi/", "grubaa64.efi", "x/snponly.efi"] {
            assert_eq!(catalogue.content(name), None, "{name}");
        }
    }

    #[test]
    fn the_names_of_ipxe_s_own_shim_and_ipxe_are_served_as_they_are() {
        let names = ["ipxe-shimx64.efi", "snponly-shimx64.efi", "ipxe.efi", "snponly.efi"];
        let signed = directory(&names.map(|name| (name, efi_program(0x8664))));
        let loaders = Loaders::only_from(Vec::new());
        let catalogue = loaders.with_signed(Some(signed.path().to_owned())).look();
        assert_eq!(catalogue.loader(Architecture::X64Uefi), Some("ipxe-shimx64.efi"));
        for name in names {
            assert!(catalogue.content(name).is_some(), "{name}");
            assert!(catalogue.content(&format!("x86_64-sb/{name}")).is_some(), "{name}");
        }
    }

    #[test]
    fn no_header_is_read_beyond_its_end() {
        let whole = efi_program(0x8664);
        for length in 0..whole.len() {
            assert_eq!(architecture_of(&whole[..length]), Architecture::Bios);
        }
        let mut far = whole;
        far[0x3c..0x40].copy_from_slice(&[0xff; 4]);
        assert_eq!(architecture_of(&far), Architecture::Bios);
    }
}
