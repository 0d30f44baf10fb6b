//! The directory of signed boot programs: whether it has what it must.

use std::path::PathBuf;

use super::{Fault, Remark, Setting, checker::Checker};
use crate::{
    files::{Catalogue, Loaders, second_stages, shims},
    model::Architecture,
};

/// The directory that was set, if it has a shim.
pub(super) fn directory(checker: &mut Checker<'_>) -> Option<PathBuf> {
    let path = checker.directory(Setting::SecureBootDir)?;
    let loaders = Loaders::only_from(Vec::new()).with_signed(Some(path.clone()));
    let catalogue = loaders.catalogue();
    let found =
        Architecture::ALL.map(|architecture| (architecture, shim(&catalogue, architecture)));
    if found.iter().all(|(_, shim)| shim.is_none()) {
        let reason = if path.is_dir() {
            "it has no shim, such as shimx64.efi: see docs/secure-boot.md"
        } else {
            "there is no such directory"
        };
        let fault = Fault::File { path: path.clone(), reason: reason.to_owned() };
        checker.problem(Setting::SecureBootDir, fault);
    }
    for (architecture, shim) in found {
        let Some(shim) = shim else { continue };
        let wanted = second_stages(architecture);
        if !wanted.iter().any(|name| catalogue.is_signed(name)) {
            let (directory, wanted) = (path.display(), wanted.join(", "));
            let text = format!("{shim} in {directory} has none of what it could load: {wanted}");
            checker.remark(Remark::Warning(text));
        }
    }
    Some(path)
}

fn shim(catalogue: &Catalogue, architecture: Architecture) -> Option<&str> {
    shims(architecture)
        .iter()
        .copied()
        .find(|name| catalogue.is_signed(name) && catalogue.loader(architecture) == Some(*name))
}
