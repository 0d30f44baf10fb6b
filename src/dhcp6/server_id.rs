//! The name that this server has for good: its DUID, in a file of the state
//! directory. It is that of the state, so it moves with it to another machine.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use crate::model::{Duid, InvalidDuid};

/// The name of the file.
pub const FILE_NAME: &str = "server-duid";

/// The DUID in the directory; made there if there is none: a random UUID (RFC
/// 6355).
///
/// # Errors
///
/// What the system says, or that the file holds something else.
pub fn load_or_make(directory: &Path) -> io::Result<Duid> {
    let path = directory.join(FILE_NAME);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|error: InvalidDuid| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let duid = random()?;
            write(directory, &duid)?;
            Ok(duid)
        }
        Err(error) => Err(error),
    }
}

fn random() -> io::Result<Duid> {
    let mut uuid = [0; 16];
    getrandom::fill(&mut uuid).map_err(|error| io::Error::other(error.to_string()))?;
    // Version 4 and its variant (RFC 9562 §5.4).
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(Duid::of_uuid(uuid))
}

/// It has its name only when it is whole and on disk.
fn write(directory: &Path, duid: &Duid) -> io::Result<()> {
    let new = directory.join(format!("{FILE_NAME}.new"));
    let mut file = fs::File::create(&new)?;
    writeln!(file, "{duid}")?;
    file.sync_all()?;
    fs::rename(&new, directory.join(FILE_NAME))?;
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_stays_the_same_and_a_damaged_one_is_an_error() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let first = load_or_make(directory.path()).expect("made");
        assert!(first.uuid().is_some(), "{first}");
        assert_eq!(load_or_make(directory.path()).expect("read"), first);
        fs::write(directory.path().join(FILE_NAME), "0004zz").expect("written");
        let error = load_or_make(directory.path()).expect_err("damaged");
        assert!(error.to_string().contains("server-duid: `0004zz`"), "{error}");
    }
}
