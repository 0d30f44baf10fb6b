//! The `[[loader]]` tables of the file: which boot programs which machines are told,
//! and in which order. Knows what they may look like, and whether the programs are
//! there.

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{Fault, checker::Checker, subnet_table::Text};
use crate::model::{
    Architecture, Catalogue, LoaderProfile, MachineKind, Tags, check_label, check_label_count,
};

/// A table as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderTable {
    /// Only machines of this architecture.
    pub arch: Option<Architecture>,
    /// Only machines on this network.
    pub network: Option<Text<IpNet>>,
    /// Only machines with all of these labels.
    #[serde(default, deserialize_with = "labels", skip_serializing_if = "Tags::is_empty")]
    pub labels: Tags,
    /// The boot programs, the first choice first.
    #[serde(deserialize_with = "names")]
    pub files: Vec<String>,
}

pub(super) fn labels<'de, D: Deserializer<'de>>(from: D) -> Result<Tags, D::Error> {
    let labels = Tags::deserialize(from)?;
    check_label_count(labels.len()).map_err(D::Error::custom)?;
    for (name, value) in &labels {
        check_label(name, value).map_err(D::Error::custom)?;
    }
    Ok(labels)
}

/// One name, or a list with one at least.
pub(super) fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "the name of a boot program, or a list of such names")]
    enum Names {
        One(String),
        Several(Vec<String>),
    }
    let names = match Names::deserialize(from)? {
        Names::One(name) => vec![name],
        Names::Several(names) => names,
    };
    if names.is_empty() {
        return Err(D::Error::custom("it names no boot program"));
    }
    Ok(names)
}

/// The profiles of the tables, as far as they are right.
pub(super) fn of(checker: &mut Checker<'_>, catalogue: &Catalogue) -> Vec<LoaderProfile> {
    let given = checker.given;
    for table in given.loaders() {
        for name in &table.files {
            if let Err(reason) = catalogue.check(name, table.arch) {
                let place = format!("[[loader]] in {}", given.file());
                checker.problem_at(place, Fault::Loader { reason });
            }
        }
    }
    let profile = |table: &LoaderTable| LoaderProfile {
        kind: MachineKind {
            architecture: table.arch,
            network: table.network.map(|Text(network)| network),
            labels: table.labels.clone(),
        },
        files: table.files.clone(),
    };
    given.loaders().iter().map(profile).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{check::tests::machine, load, parse, wire};
    use super::*;

    fn table(text: &str) -> Result<LoaderTable, String> {
        let text = format!("adapter = 'eth0'\n[[loader]]\n{text}");
        let file = wire::parse(&text).map_err(|error| error.to_string())?;
        Ok(file.loaders[0].clone())
    }

    #[test]
    fn a_table_has_programs_and_says_whose_they_are() {
        let whole = table(
            "arch = 'x64-uefi'\nnetwork = '10.1.0.0/16'\nlabels = { nic = 'x' }\n\
             files = ['snponly.efi', 'ipxe.efi']",
        );
        let whole = whole.expect("right");
        assert_eq!(whole.arch, Some(Architecture::X64Uefi));
        assert_eq!((whole.labels.len(), whole.files.len()), (1, 2));
        assert_eq!(table("files = 'ipxe.efi'").expect("right").files, ["ipxe.efi"]);
    }

    #[test]
    fn what_is_wrong_with_a_table_is_named_with_its_line() {
        for (text, said) in [
            ("files = []", "it names no boot program"),
            ("files = 1", "the name of a boot program"),
            ("arch = 'amd64'\nfiles = 'x'", "`amd64`"),
            ("network = '10.1.0.0'\nfiles = 'x'", "`10.1.0.0`"),
            ("labels = { 'a b' = '1' }\nfiles = 'x'", "`a b`"),
            ("file = 'x'", "`file`"),
        ] {
            let error = table(text).expect_err(said);
            assert!(error.contains(said) && error.contains("line 3"), "{error}");
        }
        assert!(table("arch = 'bios'").expect_err("no files").contains("files"));
    }

    #[test]
    fn a_program_that_is_not_there_or_for_another_machine_is_a_problem_that_names_it() {
        let (directory, host) = machine();
        let file = directory.path().join("remoteboot.toml");
        let problems = |files: &str| {
            let text = format!(
                "ipxe-dir = '{}'\n[[loader]]\narch = 'x64-uefi'\nfiles = {files}",
                directory.path().display()
            );
            std::fs::write(&file, text).expect("written");
            let line = ["remoteboot".into(), format!("--config={}", file.display()).into()];
            let Ok(super::super::Invocation::Run(flags)) = parse(line.to_vec()) else {
                panic!("a command line")
            };
            load(&flags, &host).outcome.map(|config| config.loaders)
        };
        let error = problems("['no.efi']").expect_err("not there").to_string();
        assert!(error.contains("[[loader]]") && error.contains("`no.efi`"), "{error}");
        let error = problems("'undionly.kpxe'").expect_err("for a BIOS").to_string();
        let said = "`undionly.kpxe` is a program for bios, not for x64-uefi";
        assert!(error.contains(said), "{error}");
        let mut program = vec![0; 0x40];
        program[..2].copy_from_slice(b"MZ");
        program[0x3c] = 0x40;
        program.extend_from_slice(b"PE\0\0\x64\x86");
        std::fs::write(directory.path().join("own.efi"), program).expect("written");
        assert_eq!(problems("'own.efi'").expect("right")[0].files, ["own.efi"]);
    }
}
