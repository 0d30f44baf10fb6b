//! dnsmasq for DHCP and TFTP, nginx for the script, in the lab's network where the
//! daemon would be.
//!
//! No ping before an offer, which is dnsmasq's usual three seconds for a new address.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use crate::lab::{Lab, SERVER, within};

/// Both, running. They end with this value or with the lab, whichever is first.
pub(crate) struct Peers(Vec<Child>);

impl Peers {
    /// Starts both, and waits until all their ports are open. The script is one file,
    /// with this machine's MAC in it.
    pub(crate) fn start(lab: &Lab, mac: &str, is_tuned: bool) -> Self {
        let folder = lab.folder().join("peers");
        for name in ["tftp", "www", "tmp"] {
            fs::create_dir_all(folder.join(name)).expect("the lab's folder can be written");
        }
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("written");
        for name in ["undionly.kpxe", "snponly.efi"] {
            for place in ["tftp", "www"] {
                fs::copy(lab.loader(name), folder.join(place).join(name)).expect("copied");
            }
        }
        write("www/boot.ipxe", &script(mac));
        if is_tuned {
            write("tftp/autoexec.ipxe", &autoexec());
            write("www/autoexec.ipxe", &autoexec());
        }
        write("dnsmasq.conf", &dnsmasq(&folder, is_tuned));
        write("nginx.conf", &nginx(&folder));
        let mut started = Vec::new();
        for (program, option) in [("dnsmasq", "--conf-file="), ("nginx", "-c")] {
            let mut command = command(lab, program);
            let file = folder.join(format!("{program}.conf"));
            match program {
                "dnsmasq" => {
                    command.args(["--keep-in-foreground"]);
                    command.arg(format!("{option}{}", file.display()));
                }
                _ => drop(command.arg(option).arg(file)),
            }
            let log = File::create(folder.join(format!("{program}.said"))).expect("made");
            command.stdout(log.try_clone().expect("a second handle")).stderr(log);
            started.push(command.spawn().expect("nsenter starts"));
        }
        let peers = Self(started);
        let serves = within(Duration::from_secs(10), || serves(lab).then_some(()));
        let said = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(serves.is_some(), "{}{}", said("dnsmasq.said"), said("nginx.said"));
        peers
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// DHCP, TFTP and HTTP, in hexadecimal digits as the kernel's tables have them; HTTP
/// listens.
fn serves(lab: &Lab) -> bool {
    let table = |name| {
        let output = lab.command("cat").arg(name).output().expect("nsenter starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let udp = table("/proc/net/udp");
    let is_http = |line: &str| line.contains(":0050 ") && line.contains(" 0A ");
    udp.contains(":0043 ") && udp.contains(":0045 ") && table("/proc/net/tcp").lines().any(is_http)
}

/// A program of the packages, with their libraries, in the lab's network.
fn command(lab: &Lab, program: &str) -> Command {
    let packages = std::env::var_os("REMOTEBOOT_PEERS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab/peers"),
        PathBuf::from,
    );
    let path = packages.join("usr/sbin").join(program);
    assert!(path.exists(), "there is no {}: run benches/peers/install", path.display());
    let mut command = lab.command(path);
    let library = |name| packages.join(name).join("x86_64-linux-gnu").display().to_string();
    command.env("LD_LIBRARY_PATH", format!("{}:{}", library("usr/lib"), library("lib")));
    command
}

fn script(mac: &str) -> String {
    format!(
        "#!ipxe
kernel http://{SERVER}/vmlinuz initrd=initrd console=ttyS0 lab={mac}
initrd http://{SERVER}/initrd
boot
"
    )
}

/// What iPXE 2.x for UEFI runs before any DHCP of its own.
fn autoexec() -> String {
    format!("#!ipxe\nifopen net0\nchain http://{SERVER}/boot.ipxe || dhcp\n")
}

/// As in dnsmasq's example file. The BIOS here that is to be no iPXE cannot hide option
/// 175: told the script, it asks for the usual loader, as it does with the daemon.
fn dnsmasq(folder: &Path, is_tuned: bool) -> String {
    let tuned = if is_tuned {
        // "No proxyDHCP will come", and what the plain PXE client takes for it.
        "dhcp-option-force=tag:ipxe,encap:175,176,1b
dhcp-option-force=tag:!ipxe,tag:!http,60,PXEClient
dhcp-option-force=tag:!ipxe,tag:!http,43,06:01:08:ff
"
    } else {
        ""
    };
    let folder = folder.display();
    format!(
        "port=0
interface=br0
bind-interfaces
user=root
no-ping
dhcp-authoritative
dhcp-range=10.77.0.100,10.77.0.149,2h
dhcp-leasefile={folder}/leases
pid-file={folder}/dnsmasq.pid
log-facility={folder}/dnsmasq.log
enable-tftp
tftp-root={folder}/tftp
dhcp-match=set:ipxe,175
dhcp-match=set:bios,option:client-arch,0
dhcp-match=set:efi,option:client-arch,7
dhcp-match=set:http,option:client-arch,16
dhcp-boot=tag:!ipxe,tag:bios,undionly.kpxe
dhcp-boot=tag:!ipxe,tag:efi,snponly.efi
dhcp-boot=tag:!ipxe,tag:http,http://{SERVER}/snponly.efi
dhcp-option-force=tag:http,60,HTTPClient
dhcp-boot=tag:ipxe,http://{SERVER}/boot.ipxe
{tuned}"
    )
}

fn nginx(folder: &Path) -> String {
    let folder = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {folder}/tmp;\n"))
        .concat();
    format!(
        "daemon off;
user root;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
    access_log off;
{temporary}    server {{
        listen {SERVER}:80;
        root {folder}/www;
    }}
}}
"
    )
}
