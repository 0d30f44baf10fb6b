//! Two network namespaces with a wire between them: the load is in one, and a
//! server in the other, so that each has its own ports.

use std::{
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// The server's end of the wire.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 16, 0, 1);
/// The end of the load, which is a relay as far as the server can see.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 16, 0, 2);
/// The server's adapter.
pub(crate) const ADAPTER: &str = "served";

/// It ends when the pipe to its input closes, however this program ends.
const HOLDER: &str = "ip link set lo up && echo ready && read -r _";

const WIRE: &str = "set -e
ip link set lo up
ip link add load type veth peer name served netns $holder
ip addr add 10.16.0.2/12 dev load
ip link set load up
nsenter --target $holder --net sh -c '
    ip addr add 10.16.0.1/12 dev served && ip link set served up'
until ip link show load | grep -q 'state UP'; do sleep 0.01; done
# Kea opens no socket, and says so as a warning only, where the link is not up yet.
nsenter --target $holder --net sh -c '
    until ip link show served | grep -q \"state UP\"; do sleep 0.01; done'";

/// The wire, and where the servers' packages are.
pub(crate) struct Lab {
    holder: Child,
    packages: PathBuf,
    /// Where servers keep what they write.
    pub(crate) folder: tempfile::TempDir,
}

/// Runs this program again in a network of its own, unless it is in one.
pub(crate) fn enter() {
    const INSIDE: &str = "REMOTEBOOT_BENCH_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    let mut inside = Command::new("unshare");
    inside.arg("--net").arg(std::env::current_exe().expect("this program has a path"));
    let error = inside.args(std::env::args_os().skip(1)).env(INSIDE, "1").exec();
    panic!("cannot make a network namespace, which needs root: {error}");
}

impl Lab {
    pub(crate) fn new() -> Self {
        let packages = std::env::var_os("REMOTEBOOT_PEERS").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab/peers"),
            PathBuf::from,
        );
        assert!(
            packages.join("usr/sbin").is_dir(),
            "no servers in {}: run benches/peers/install",
            packages.display()
        );
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", HOLDER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("unshare starts");
        let mut ready = String::new();
        let said = holder.stdout.take().expect("its output is piped");
        BufReader::new(said).read_line(&mut ready).expect("its output can be read");
        assert_eq!(ready.trim(), "ready");
        let mut wire = Command::new("sh");
        wire.args(["-c", WIRE]).env("holder", holder.id().to_string());
        let wired = wire.status().expect("sh starts");
        assert!(wired.success(), "the wire can be made");
        let folder = tempfile::Builder::new().prefix("remoteboot-peers-").tempdir();
        Self { holder, packages, folder: folder.expect("a temporary folder") }
    }

    /// A command that will run where the servers are; its process is the program.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net", "--"]);
        // However this program ends, it ends, too.
        command.args(["setpriv", "--pdeathsig", "KILL", "--"]).arg(program);
        self.with_libraries(&mut command);
        command.stdin(Stdio::null());
        command
    }

    /// With the libraries of the packages.
    pub(crate) fn with_libraries(&self, command: &mut Command) {
        let library = |name| self.packages.join(name).join("x86_64-linux-gnu");
        let (first, second) = (library("usr/lib"), library("lib"));
        command.env("LD_LIBRARY_PATH", format!("{}:{}", first.display(), second.display()));
    }

    /// A program of the packages, such as `usr/sbin/dhcpd`.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.packages.join(name)
    }

    /// What was unpacked, a package and its version a line.
    pub(crate) fn versions(&self) -> String {
        std::fs::read_to_string(self.packages.join("versions")).unwrap_or_default()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
