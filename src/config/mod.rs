//! The configuration: what was written, checked once, and then right.
//!
//! Knows the command line, the environment and the file, and no socket: a
//! configuration can be checked without anything being started.

mod arguments;
mod check;
mod checker;
mod given;
mod host;
pub mod inventory;
mod loaders;
mod log;
mod logfmt;
mod machines;
mod network;
mod network6;
mod overlay_table;
mod problem;
mod profiles;
mod rule_tables;
mod rules;
mod secure_boot;
mod setting;
mod show;
mod subnet_table;
mod subnets;
mod table;
mod tftp;
mod wire;

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
};

pub use arguments::{Flags, Invocation, Pull, parse};
pub use check::Checked;
pub use given::Given;
pub use host::{Adapter, Host};
pub use inventory::{Inventory, InventoryError};
pub use loaders::LoaderTable;
pub use log::{Log, LogFormat, LogOutput};
pub use machines::{Machines, Order, socket};
pub use overlay_table::OverlayTable;
pub use problem::{Fault, Problem, Problems, Remark};
pub use profiles::ProfileTable;
pub use rule_tables::{LocalBootTable, UnclaimedTable};
pub use setting::{Description, Form, Setting};
pub use show::show;
pub use subnet_table::SubnetTable;
pub use tftp::Tftp;

use crate::{
    boot::{Rules, UnclaimedImage},
    model::{LoaderProfile, Pool, Profile, Rate, Seconds, Subnet, Subnet6, Subnets},
};

/// Everything that is configured, as it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How fast a machine is sent to of which nothing else is said.
    pub pace: Option<Rate>,
    /// Where the state is kept; made at the start if it is missing.
    pub state_dir: PathBuf,
    /// What the files of images are named relative to; made if it is missing.
    pub images: PathBuf,
    /// The machines that are listed, if there is a list.
    pub inventory: Option<Inventory>,
    /// How InfraKit reaches us.
    pub plugin: Plugin,
    /// Our part in DHCP, if we have one.
    pub dhcp: Option<Dhcp>,
    /// The TFTP server, if it is wanted.
    pub tftp: Option<Tftp>,
    /// What the HTTP server listens on, if it is wanted; port 0 is any port.
    pub http: Option<SocketAddr>,
    /// The address of the TFTP server that machines are told (`siaddr`, RFC
    /// 2131 §2), ours or another's; none only if DHCP is not wanted.
    pub next_server: Option<Ipv4Addr>,
    /// Under which address and port machines reach the HTTP server, ours or
    /// another's; none only if neither HTTP nor DHCP is wanted.
    pub http_authority: Option<SocketAddrV4>,
    /// What is served over IPv6, if anything is.
    pub ipv6: Option<Ipv6>,
    /// The ports of TFTP and HTTP, wherever they are served; 0 is any port.
    pub ports: Ports,
    /// The image of the three arguments.
    pub unclaimed: Option<UnclaimedImage>,
    /// What becomes of machines that no instance claims, and how machines are sent to
    /// their disks; what machines boot by the three arguments is the last of them.
    pub rules: Rules,
    /// The boot program that goes before all others of its architecture.
    pub ipxe_path: Option<PathBuf>,
    /// The directory of boot programs.
    pub ipxe_dir: Option<PathBuf>,
    /// Which boot programs some machines are told, in the order of the file.
    pub loaders: Vec<LoaderProfile>,
    /// What some machines are told by DHCP, in the order of the file.
    pub profiles: Vec<Profile>,
    /// The directory of signed boot programs, with a shim in it.
    pub secure_boot_dir: Option<PathBuf>,
    /// What is logged, and how.
    pub log: Log,
}

/// How InfraKit reaches us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// The directory of the plugins' sockets; made if it is missing.
    pub directory: PathBuf,
    /// The name of our socket in it: no slash, no dot at the beginning.
    pub name: String,
    /// What we listen on by TCP, if that is wanted.
    pub listen: Option<Listen>,
}

/// Where InfraKit reaches us by TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address; port 0 is any port.
    pub address: SocketAddr,
    /// What callers have to know; always there unless the address is loopback.
    pub token: Option<ListenToken>,
}

/// A secret of at least 16 characters that are the same in a URL's path: no
/// slash, no percent sign. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ListenToken(String);

impl ListenToken {
    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ListenToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ListenToken(..)")
    }
}

/// Our part in DHCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dhcp {
    /// Which one it is.
    pub part: DhcpPart,
    /// The server's port, 1 to 65534.
    pub port: u16,
    /// The network that the flags say, on an adapter of ours.
    pub by_flags: Option<Subnet>,
    /// Those of the file's `[[subnet]]` tables, in their order.
    pub tables: Vec<Subnet>,
    /// Whether addresses are asked for on the network before they are offered.
    pub probe: bool,
    /// How long an address that somebody else uses is given to nobody.
    pub decline_hold: Seconds,
    /// How often a server asks who else gives addresses; never if there is nothing.
    pub watch: Option<Seconds>,
    /// How many boots may begin in a second; 0 is any number.
    pub spread: u32,
}

impl Dhcp {
    /// All networks that are served, with the addresses that we may give.
    #[must_use]
    pub fn subnets(&self) -> Subnets {
        Subnets::new(self.by_flags.iter().chain(&self.tables).cloned())
    }

    /// The same as a proxy serves them: with nothing to give.
    #[must_use]
    pub fn proxied(&self) -> Subnets {
        let all = self.by_flags.iter().chain(&self.tables).cloned();
        Subnets::new(all.map(|subnet| {
            let pool = Pool { ranges: Vec::new(), ..subnet.pool };
            Subnet { pool, ..subnet }
        }))
    }

    /// The port that machines are answered on: 68 (RFC 2131 §4.1), and with
    /// another server port than 67 the one after it.
    #[must_use]
    pub const fn client_port(&self) -> u16 {
        self.port.saturating_add(1)
    }
}

/// What we do on a network where machines ask by DHCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DhcpPart {
    /// Give addresses, and say what to boot.
    Server,
    /// Say what to boot; another server gives the addresses.
    Proxy,
    /// The one or the other, by whether another server answers at the start.
    Auto,
}

impl DhcpPart {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Proxy => "proxy",
            Self::Auto => "auto",
        }
    }
}

/// What is served over IPv6: TFTP and HTTP as over IPv4, and maybe DHCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv6 {
    /// The network adapter that requests come in by.
    pub adapter: String,
    /// Our own address on it.
    pub server: Ipv6Addr,
    /// The TFTP server on that address, if it is wanted.
    pub tftp: Option<Tftp>,
    /// The DHCPv6 server, if it is wanted.
    pub dhcp: Option<Dhcp6>,
}

/// The DHCPv6 server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dhcp6 {
    /// The server's port, 2 to 65535.
    pub port: u16,
    /// The networks, and what may be given of them.
    pub subnets: Vec<Subnet6>,
    /// The name servers that machines are told.
    pub dns: Vec<Ipv6Addr>,
    /// The domains that machines look names up in.
    pub search: Vec<String>,
    /// The time servers that machines are told.
    pub ntp: Vec<Ipv6Addr>,
    /// How long an address is leased.
    pub lease_time: Seconds,
}

/// The ports that both families share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// TFTP; none if it is not served.
    pub tftp: Option<u16>,
    /// HTTP; none if it is not served.
    pub http: Option<u16>,
}

/// The variable that names the file, as `--config` does.
const CONFIG_VARIABLE: &str = "INFRAKIT_REMOTEBOOT_CONFIG";

/// Reads the file if there is one, puts everything together and checks it.
/// Looks at files and writes none.
#[must_use]
pub fn load(flags: &Flags, host: &Host) -> Checked {
    match given(flags, host) {
        Ok(given) => check::check(given, host),
        Err(problem) => Checked {
            given: Given::merge(flags, host, None),
            outcome: Err(Problems(vec![problem])),
            remarks: Vec::new(),
        },
    }
}

/// Everything that was set, the file's settings too if there is a file.
fn given(flags: &Flags, host: &Host) -> Result<Given, Problem> {
    let (path, place) = match (&flags.config, host.variable(CONFIG_VARIABLE)) {
        (Some(path), _) => (path.as_str(), format!("--config={path}")),
        (None, Some(path)) => (path, format!("{CONFIG_VARIABLE}={path}")),
        (None, None) => return Ok(Given::merge(flags, host, None)),
    };
    let absolute = host.absolute(path);
    let fault = match std::fs::read_to_string(&absolute) {
        Err(error) => Fault::File { path: absolute, reason: error.to_string() },
        Ok(text) => match wire::parse(&text) {
            Err(error) => Fault::Toml { reason: error.to_string() },
            Ok(file) => return Ok(Given::merge(flags, host, Some((path, file)))),
        },
    };
    Err(Problem { place, fault })
}
