//! What boots what: the versions of everything that takes part, asked of itself or
//! of the package that it came in.

use std::{collections::BTreeMap, fs, process::Command};

use super::results::Run;
use crate::lab::cache;

/// Packages of the system, by what a reader calls them.
const PACKAGES: [(&str, &str); 10] = [
    ("QEMU x86", "qemu-system-x86"),
    ("QEMU arm64", "qemu-system-arm"),
    ("SeaBIOS", "seabios"),
    ("OVMF", "ovmf"),
    ("OVMF IA32", "ovmf-ia32"),
    ("AAVMF", "qemu-efi-aarch64"),
    ("AAVMF arm32", "qemu-efi-arm"),
    ("iPXE ROM", "ipxe-qemu"),
    ("dnsmasq", "dnsmasq-base"),
    ("radvd", "radvd"),
];

/// The commit, and whether what is built differs from it.
const COMMIT: &str = "git() { command git -c safe.directory='*' \"$@\" 2>/dev/null; }
commit=$(git rev-parse --short HEAD) || commit='no commit'
git diff --quiet HEAD -- src Cargo.lock || commit=\"$commit, changed\"
echo \"$commit\"";

/// What takes part in a run that begins now.
pub(crate) fn now() -> Run {
    let mut versions = BTreeMap::new();
    for (name, package) in PACKAGES {
        let said = said("dpkg-query", &["-W", "-f", "${Version}", package], &[]);
        versions.insert(name.to_owned(), said);
    }
    let cached = |path: &str| cache().join(path).display().to_string();
    let libraries = cached("kea/usr/lib/x86_64-linux-gnu");
    let kea = said(&cached("kea/usr/sbin/kea-dhcp4"), &["-v"], &[("LD_LIBRARY_PATH", &libraries)]);
    versions.insert("Kea".to_owned(), kea);
    for (name, program) in [
        ("ISC dhcpd", "isc-dhcp-server/usr/sbin/dhcpd"),
        ("ISC dhcrelay", "relay/usr/sbin/dhcrelay"),
    ] {
        versions.insert(name.to_owned(), said(&cached(program), &["--version"], &[]));
    }
    for architecture in ["amd64", "arm64"] {
        let boot = cache().join("kernels").join(architecture).join("boot");
        let names = fs::read_dir(boot).into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let kernel = names.filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned));
        versions.insert(format!("Linux {architecture}"), kernel.collect());
    }
    let system = said("sh", &["-c", ". /etc/os-release && echo $PRETTY_NAME"], &[]);
    versions.insert("system".to_owned(), system);
    let commit = said("sh", &["-c", COMMIT], &[]);
    Run { remoteboot: format!("{} ({commit})", env!("CARGO_PKG_VERSION")), versions }
}

/// The first line that it prints; nothing if there is no such program.
fn said(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).envs(environment.iter().copied());
    let Ok(output) = command.current_dir(env!("CARGO_MANIFEST_DIR")).output() else {
        return String::new();
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    said.lines().next().unwrap_or_default().trim().to_owned()
}
