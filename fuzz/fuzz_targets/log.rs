//! Whatever is in the log, a store opens with it or says what is damaged, and leaves
//! it as it is then.
#![no_main]

use std::{fs, path::PathBuf, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use remoteboot::store::{FILE_NAME, OpenError, Store};

/// A new store's tables, made once.
fn tables() -> &'static [u8] {
    static TABLES: OnceLock<Vec<u8>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let directory = directory();
        Store::open(&directory, None).expect("a new store").close();
        fs::read(directory.join(FILE_NAME)).expect("its tables")
    })
}

fn directory() -> PathBuf {
    let directory = std::env::temp_dir().join(format!("fuzz-log-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    directory
}

fuzz_target!(|bytes: &[u8]| {
    let tables = tables();
    let directory = directory();
    fs::create_dir(&directory).expect("made");
    fs::write(directory.join(FILE_NAME), tables).expect("written");
    let log = directory.join("state.log.1");
    fs::write(&log, bytes).expect("written");
    match Store::open(&directory, None) {
        Ok(store) => store.close(),
        Err(OpenError::Damaged { path, .. }) => {
            assert_eq!(path, log);
            assert_eq!(fs::read(&log).expect("still there"), bytes);
        }
        Err(error) => panic!("{error}"),
    }
});
