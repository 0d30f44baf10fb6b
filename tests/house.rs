//! The rules of the house, as ARCHITECTURE.md gives them, read against the
//! source text without comments and tests. Textual: it can be fooled by someone
//! who wants to, and catches everyone who forgets.

use std::{
    fs,
    path::{Path, PathBuf},
};

const ROOMS: [&str; 5] = ["dhcp", "dhcp6", "tftp", "http", "spi"];

/// Files that may touch the world: sockets, files, the clock, the environment.
/// All others are pure.
const HANDS: &[&str] = &[
    "main.rs",
    "daemon.rs",
    "daemon/",
    "machines.rs",
    "machines/client.rs",
    "pull.rs",
    "config/",
    "events/bus.rs",
    "store/mod.rs",
    "store/disk.rs",
    "store/log.rs",
    "store/promised.rs",
    "store/queue.rs",
    "store/writer.rs",
    "files/",
    "dhcp/serve.rs",
    "dhcp/serve/",
    "dhcp/link.rs",
    "dhcp/door.rs",
    "dhcp/probe.rs",
    "dhcp/others.rs",
    "dhcp6/serve.rs",
    "dhcp6/server_id.rs",
    "tftp/serve.rs",
    "tftp/serve/",
    "tftp/machines.rs",
    "http/serve.rs",
    "http/serve/",
    "spi/serve.rs",
    "spi/tcp.rs",
    "spi/socket.rs",
    "spi/stream.rs",
    "spi/assets.rs",
    "spi/unix.rs",
    "spi/counter.rs",
    "spi/flavor/callback.rs",
    "spi/flavor/drain.rs",
];

/// What a pure file must not name.
const WORLD: &[&str] = &[
    "tokio::",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "UnixListener",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime::now",
    "Instant::now",
    "getrandom::",
    "rustix::",
];

/// A foreign crate and where it may be named.
const CRATES: &[(&str, &[&str])] = &[
    ("dhcproto", &["dhcp/request.rs", "dhcp/reply.rs", "dhcp6/reply.rs"]),
    ("etherparse", &["dhcp/link.rs", "dhcp/probe.rs"]),
    ("libc", &["dhcp/link.rs", "http/serve/paces.rs"]),
    ("warp", &["http/serve.rs", "http/serve/", "spi/serve.rs", "spi/unix.rs"]),
    ("httparse", &["http/"]),
    ("httpdate", &["http/reply.rs"]),
    ("form_urlencoded", &["http/report.rs", "spi/exchange.rs"]),
    ("hyper", &["spi/unix.rs", "spi/tcp.rs", "spi/flavor/callback.rs"]),
    ("hyper_util", &["spi/unix.rs", "spi/flavor/callback.rs"]),
    ("jsonrpc_core", &["spi/"]),
    ("jsonrpc_http_server", &["spi/tcp.rs"]),
    ("mac_address", &["model/mac.rs"]),
    ("minijinja", &["boot/cmdline.rs", "boot/hostname.rs"]),
    ("nix", &["tftp/serve/send.rs", "http/serve/paces.rs"]),
    ("redb", &["store/disk.rs"]),
    ("crc32fast", &["store/frame.rs"]),
    ("serde_json", &["store/rows.rs", "spi/", "boot/init.rs", "machines.rs", "machines/"]),
    ("humantime", &["model/timestamp.rs"]),
    ("reqwest", &["pull.rs", "pull/", "machines/client.rs"]),
];

struct Source {
    /// Below `src`, with slashes.
    name: String,
    /// Without comments and tests.
    text: String,
    whole: String,
}

impl Source {
    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            self.name == *place || (place.ends_with('/') && self.name.starts_with(place))
        })
    }

    fn part(&self) -> &str {
        self.name.split(['/', '.']).next().unwrap_or_default()
    }

    /// The parts of this crate that the file names.
    fn imports(&self) -> Vec<&str> {
        let mut parts = Vec::new();
        for tail in self.text.split("crate::").skip(1) {
            match tail.strip_prefix('{') {
                None => parts.push(first_word(tail)),
                Some(list) => {
                    let mut depth = 0;
                    let mut expects_part = true;
                    for (place, letter) in list.char_indices() {
                        match letter {
                            '{' => depth += 1,
                            '}' if depth == 0 => break,
                            '}' => depth -= 1,
                            ',' if depth == 0 => expects_part = true,
                            _ if depth == 0 && expects_part && letter.is_alphabetic() => {
                                parts.push(first_word(&list[place..]));
                                expects_part = false;
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
        parts
    }
}

fn first_word(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    &text[..end.unwrap_or(text.len())]
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).expect("below src").display().to_string();
            let is_test = name.ends_with("/tests.rs")
                || name.ends_with("/testing.rs")
                || name.contains("/tests/");
            if name.ends_with(".rs") && !is_test {
                let whole = fs::read_to_string(&path).expect("text");
                found.push(Source { text: without_tests(&whole), name, whole });
            }
        }
    }
    assert!(found.len() > 20, "the sources are found");
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Without line comments, and without what follows the first `#[cfg(test)]`
/// module, which stands last in a file.
fn without_tests(text: &str) -> String {
    let end = text.match_indices("#[cfg(test)]\n").map(|(place, _)| place).find(|place| {
        let item = text[*place..].lines().find(|line| !line.starts_with("#["));
        item.is_some_and(|line| line.ends_with("mod tests {"))
    });
    let code = &text[..end.unwrap_or(text.len())];
    code.lines()
        .map(|line| if line.trim_start().starts_with("//") { "" } else { line })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Fails with all that breaks a rule, not only the first.
fn check(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn no_room_knows_another() {
    let broken: Vec<String> = sources()
        .iter()
        .filter(|source| ROOMS.contains(&source.part()))
        .flat_map(|source| {
            let others = source.imports().into_iter().filter(|part| {
                ROOMS.contains(part) && *part != source.part()
                    || matches!(*part, "config" | "daemon" | "machines" | "main" | "pull")
            });
            others.map(|part| format!("{} names {part}", source.name)).collect::<Vec<_>>()
        })
        .collect();
    check("what two rooms need belongs in the hall", &broken);
}

#[test]
fn the_hall_looks_only_inwards() {
    let allowed = |part: &str| -> Option<&[&str]> {
        Some(match part {
            "model" => &["model"],
            "state" => &["model", "state"],
            "boot" => &["model", "state", "boot"],
            "events" => &["model", "state", "events"],
            "store" => &["model", "state", "events", "store"],
            "files" => &["model", "files"],
            _ => return None,
        })
    };
    let broken: Vec<String> = sources()
        .iter()
        .filter_map(|source| Some((source, allowed(source.part())?)))
        .flat_map(|(source, allowed)| {
            let wrong = source.imports().into_iter().filter(|part| !allowed.contains(part));
            wrong.map(|part| format!("{} names {part}", source.name)).collect::<Vec<_>>()
        })
        .collect();
    check("the hall knows no room, and its parts only what is inside of them", &broken);
}

#[test]
fn only_hands_touch_the_world() {
    let broken: Vec<String> = sources()
        .iter()
        .filter(|source| !source.is_in(HANDS))
        .flat_map(|source| {
            let named = WORLD.iter().filter(|word| source.text.contains(**word));
            named.map(|word| format!("{} names {word}", source.name)).collect::<Vec<_>>()
        })
        .collect();
    check("a decision reads no clock, no file and no socket", &broken);
}

#[test]
fn every_library_stays_in_its_room() {
    let mut broken = Vec::new();
    for source in sources() {
        for (library, places) in CRATES {
            let named = source.text.lines().any(|line| {
                line.match_indices(&format!("{library}::")).any(|(place, _)| {
                    !line[..place]
                        .ends_with(|letter: char| letter.is_alphanumeric() || letter == '_')
                })
            });
            if named && !source.is_in(places) {
                broken.push(format!("{} names {library}", source.name));
            }
        }
    }
    check("a foreign crate is named in one place, so that leaving it is a small change", &broken);
}

#[test]
fn only_the_store_changes_the_state() {
    let broken: Vec<String> = sources()
        .iter()
        .filter(|source| {
            let changes = [".apply(", ".apply_own("].iter().any(|call| source.text.contains(call));
            // There the one is made of the other.
            changes && !source.is_in(&["store/", "state/mod.rs"])
        })
        .map(|source| source.name.clone())
        .collect();
    check("changes are values; the store carries them out", &broken);
}

#[test]
fn unsafe_code_is_in_one_file() {
    let broken: Vec<String> = sources()
        .iter()
        .filter(|source| source.name != "dhcp/link.rs")
        .filter(|source| source.text.contains("unsafe {") || source.text.contains("allow(unsafe"))
        .map(|source| source.name.clone())
        .collect();
    check("unsafe code is in dhcp/link.rs alone", &broken);
}

#[test]
fn every_file_says_what_it_is_for() {
    let broken: Vec<String> = sources()
        .iter()
        .filter(|source| !source.whole.starts_with("//!"))
        .map(|source| source.name.clone())
        .collect();
    check("a file opens with what it is for", &broken);
}

#[test]
fn no_file_is_two_things() {
    const LONGEST_FILE: usize = 400;
    const LONGEST_FUNCTION: usize = 80;
    let mut broken = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        if lines.len() > LONGEST_FILE {
            broken.push(format!("{}: {} lines", source.name, lines.len()));
        }
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let opens = line.contains("fn ") && !line.trim_end().ends_with(';');
            let end = lines[start..]
                .iter()
                .position(|later| *later == format!("{}}}", " ".repeat(indent)));
            if let (true, Some(length)) = (opens, end)
                && length > LONGEST_FUNCTION
            {
                broken.push(format!("{}:{} a function of {length} lines", source.name, start + 1));
            }
        }
    }
    check("a file over 400 lines or a function over 80 is two things", &broken);
}

#[test]
fn every_test_that_the_documents_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    let mut folders = vec![root.join("src"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                code.push_str(&fs::read_to_string(&path).expect("text"));
            }
        }
    }
    let mut broken = Vec::new();
    let mut named = 0;
    for document in ["ancestor.md", "firmware.md", "firmware-matrix.md"] {
        let text = fs::read_to_string(root.join("docs").join(document)).expect("a document");
        let names = text.split('`').skip(1).step_by(2).filter(|name| {
            name.matches('_').count() > 3
                && name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
        });
        for name in names {
            named += 1;
            if !code.contains(&format!("fn {name}(")) {
                broken.push(format!("{document} names {name}"));
            }
        }
    }
    assert!(named > 50, "names are found: {named}");
    check("a document names only tests that there are", &broken);
}
