//! Reads single settings, and keeps what is wrong with them.

use std::{
    net::Ipv4Addr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use super::{Fault, Given, Host, Problem, Remark, Setting};

/// Reads one setting after the other, and keeps what is wrong. What cannot be
/// read is taken as if it were not there; the problem keeps it from mattering.
pub(super) struct Checker<'a> {
    pub(super) given: &'a Given,
    pub(super) host: &'a Host,
    problems: Vec<Problem>,
    remarks: Vec<Remark>,
}

impl<'a> Checker<'a> {
    pub(super) const fn new(given: &'a Given, host: &'a Host) -> Self {
        Self { given, host, problems: Vec::new(), remarks: Vec::new() }
    }

    /// What was found.
    pub(super) fn findings(self) -> (Vec<Problem>, Vec<Remark>) {
        (self.problems, self.remarks)
    }

    pub(super) fn problem(&mut self, setting: Setting, fault: Fault) {
        self.problem_at(self.given.place(setting), fault);
    }

    /// The same of what is no setting.
    pub(super) fn problem_at(&mut self, place: String, fault: Fault) {
        let problem = Problem { place, fault };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    pub(super) fn remark(&mut self, remark: Remark) {
        self.remarks.push(remark);
    }

    /// A switch; off if it was not set.
    pub(super) fn switch(&mut self, setting: Setting) -> bool {
        self.switch_or(setting, false)
    }

    /// A switch, and what it is if it was not set.
    pub(super) fn switch_or(&mut self, setting: Setting, default: bool) -> bool {
        match self.given.text(setting) {
            // The words of Go's strconv.ParseBool, which the ancestor's flags take.
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
            None => default,
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
            Some(_) => {
                self.problem(setting, Fault::NotASwitch);
                default
            }
        }
    }

    /// A number in this range.
    pub(super) fn number(
        &mut self,
        setting: Setting,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> u32 {
        let Some(text) = self.given.text(setting) else { return default };
        let digits = text.bytes().all(|digit| digit.is_ascii_digit());
        match text.parse().ok().filter(|number| digits && range.contains(number)) {
            Some(number) => number,
            None => {
                let (least, most) = range.into_inner();
                self.problem(setting, Fault::NotANumber { least, most });
                default
            }
        }
    }

    /// The address of a machine.
    pub(super) fn address(&mut self, setting: Setting) -> Option<Ipv4Addr> {
        let text = self.given.text(setting)?;
        self.addresses_in(setting, text).into_iter().next()
    }

    /// The addresses of machines, with commas between them.
    pub(super) fn addresses_in(&mut self, setting: Setting, text: &str) -> Vec<Ipv4Addr> {
        let mut addresses = Vec::new();
        let texts = text.split(',').filter(|_| setting == Setting::Dns).map(str::trim);
        let one = Some(text).filter(|_| setting != Setting::Dns);
        for text in texts.chain(one) {
            match Ipv4Addr::from_str(text) {
                Ok(address) if is_no_machine(address) => {
                    self.problem(setting, Fault::NoMachine { address });
                }
                Ok(address) => addresses.push(address),
                Err(_) => self.problem(setting, Fault::NotAnAddress { text: text.to_owned() }),
            }
        }
        addresses
    }

    pub(super) fn path(&mut self, setting: Setting) -> Option<PathBuf> {
        let text = self.given.text(setting)?;
        if text.is_empty() {
            self.problem(setting, Fault::Empty);
            return None;
        }
        Some(self.host.absolute(text))
    }

    /// A directory, there or not; what is there must not be something else.
    pub(super) fn directory(&mut self, setting: Setting) -> Option<PathBuf> {
        let path = self.path(setting)?;
        if path.exists() && !path.is_dir() {
            let reason = "is no directory".to_owned();
            self.problem(setting, Fault::File { path: path.clone(), reason });
        }
        Some(path)
    }

    /// A file that is there, and that we may read.
    pub(super) fn file(&mut self, setting: Setting) -> Option<PathBuf> {
        let path = self.path(setting)?;
        match readable(&path) {
            Ok(()) => Some(path),
            Err(reason) => {
                self.problem(setting, Fault::File { path, reason });
                None
            }
        }
    }
}

/// Whether it is a file that is there, and that we may read; else why not.
pub(super) fn readable(path: &Path) -> Result<(), String> {
    match std::fs::File::open(path).and_then(|file| file.metadata()) {
        Err(error) => Err(error.to_string()),
        Ok(metadata) if !metadata.is_file() => Err("is no regular file".to_owned()),
        Ok(metadata) if metadata.len() == 0 => Err("is empty".to_owned()),
        Ok(_) => Ok(()),
    }
}

/// Machines cannot reach anybody under such an address (RFC 6890).
pub(super) fn is_no_machine(address: Ipv4Addr) -> bool {
    address.octets()[0] == 0 || address.is_broadcast() || address.is_multicast()
}
