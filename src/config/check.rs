//! From what was written to what is meant: everything that is wrong is found at
//! once. Looks at files, and never changes one.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use super::{
    Config, Fault, Given, Host, Listen, ListenToken, Log, LogFormat, LogOutput, Plugin, Problems,
    Remark, Setting,
    checker::{Checker, is_no_machine},
    given::IMAGE,
    network::{self, Network},
};
use crate::{
    boot::{UnclaimedImage, cmdline},
    files::Loaders,
    model::Architecture,
};

/// What came of a check.
#[derive(Debug)]
pub struct Checked {
    /// What was written.
    pub given: Given,
    /// What is meant, or everything that is wrong.
    pub outcome: Result<Config, Problems>,
    /// What works, but may not be meant.
    pub remarks: Vec<Remark>,
}

/// The port of DHCP servers (RFC 2131 §4.1).
const DHCP_PORT: u32 = 67;
/// The port of TFTP servers (RFC 1350 §4); firmware knows no other.
const TFTP_PORT: u32 = 69;
/// The port of HTTP servers, that of the ancestor.
const HTTP_PORT: u32 = 80;
/// Any port that a server can have; 0 is any free one.
const PORTS: RangeInclusive<u32> = 0..=65535;
/// The last port has none after it for answers, and none can be free by chance.
const DHCP_PORTS: RangeInclusive<u32> = 1..=65534;
/// The name under which InfraKit's groups name us, that of the program.
const NAME: &str = "remoteboot";
/// Where a daemon of the system keeps its state (FHS 3.0 §5.8).
const SYSTEM_STATE: &str = "/var/lib/remoteboot";
/// The ancestor's boot program, served from where it was started.
const IPXE_FILE: &str = "undionly.kpxe";
/// What is done is worth a line.
const LOG_LEVEL: u32 = 3;
/// So many characters cannot be guessed over a network.
const SHORTEST_TOKEN: usize = 16;
/// A socket's path ends with a zero and has 108 bytes at most (unix(7)).
const LONGEST_SOCKET: usize = 107;

/// Checks what was given against this machine.
pub(super) fn check(given: Given, host: &Host) -> Checked {
    let mut checker = Checker::new(&given, host);
    let config = checker.config();
    let (problems, remarks) = checker.findings();
    let outcome = if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) };
    Checked { given, outcome, remarks }
}

impl Checker<'_> {
    fn config(&mut self) -> Config {
        let state_dir = self.state_dir();
        let images = self.directory(Setting::Images).unwrap_or_else(|| state_dir.join("images"));
        if !images.is_dir() {
            let text = format!("{} is no directory yet; it is made at the start", images.display());
            self.remark(Remark::Note(text));
        }
        let network = Network::of(self);
        let ports = self.ports();
        let dhcp = network::dhcp(self, &network, ports.dhcp);
        let next_server = network.told(self, Setting::AddressTftp, Setting::EnableTftp);
        let http_address = network.told(self, Setting::AddressHttp, Setting::EnableHttp);
        let on = |address: Option<Ipv4Addr>, port| Some(SocketAddrV4::new(address?, port));
        let http_authority = on(http_address, ports.http);
        let tftp = on(next_server, ports.tftp).filter(|_| self.switch(Setting::EnableTftp));
        let http = http_authority.filter(|_| self.switch(Setting::EnableHttp));
        let config = Config {
            state_dir,
            images,
            plugin: self.plugin(),
            dhcp,
            tftp: tftp.map(SocketAddr::V4),
            http: http.map(SocketAddr::V4),
            next_server,
            http_authority,
            unclaimed: self.unclaimed(),
            ipxe_path: self.ipxe_path(),
            ipxe_dir: self.ipxe_dir(),
            log: self.log(),
        };
        self.same_ports(&config);
        self.boot_programs(&config);
        config
    }

    fn ports(&mut self) -> Ports {
        let port = |number: u32| u16::try_from(number).unwrap_or_default();
        Ports {
            dhcp: port(self.number(Setting::DhcpPort, DHCP_PORT, DHCP_PORTS)),
            tftp: port(self.number(Setting::TftpPort, TFTP_PORT, PORTS)),
            http: port(self.number(Setting::HttpPort, HTTP_PORT, PORTS)),
        }
    }

    fn state_dir(&mut self) -> PathBuf {
        if let Some(directory) = self.directory(Setting::StateDir) {
            return directory;
        }
        if self.host.is_root {
            return SYSTEM_STATE.into();
        }
        // A relative path in this variable counts as none (XDG Base Directory
        // Specification 0.8).
        let configured = self.host.variable("XDG_STATE_HOME").map(Path::new);
        if let Some(directory) = configured.filter(|directory| directory.is_absolute()) {
            return directory.join("remoteboot");
        }
        self.home(Setting::StateDir).join(".local/state/remoteboot")
    }

    fn home(&mut self, for_setting: Setting) -> PathBuf {
        let Some(home) = self.host.home.clone() else {
            self.problem(for_setting, Fault::NoHome);
            return PathBuf::new();
        };
        home
    }

    fn plugin(&mut self) -> Plugin {
        let directory = self.directory(Setting::Plugins).unwrap_or_else(|| {
            let named = |name| self.host.variable(name).map(|path| self.host.absolute(path));
            if let Some(directory) = named("INFRAKIT_PLUGINS_DIR") {
                return directory;
            }
            if let Some(home) = named("INFRAKIT_HOME") {
                return home.join("plugins");
            }
            self.home(Setting::Plugins).join(".infrakit/plugins")
        });
        let name = self.given.text(Setting::Name).unwrap_or(NAME).to_owned();
        if let Some(reason) = wrong_in_name(&name, &directory) {
            self.problem(Setting::Name, Fault::Name { reason });
        }
        Plugin { directory, name, listen: self.listen() }
    }

    fn listen(&mut self) -> Option<Listen> {
        let token = self.token();
        let text = self.given.text(Setting::Listen)?;
        let Ok(address) = SocketAddr::from_str(text) else {
            self.problem(Setting::Listen, Fault::NotASocketAddress);
            return None;
        };
        if let SocketAddr::V4(address) = address
            && is_no_machine(*address.ip())
        {
            self.problem(Setting::Listen, Fault::NoMachine { address: *address.ip() });
        } else if address.ip().is_unspecified() {
            self.problem(Setting::Listen, Fault::NotASocketAddress);
        }
        let has_token = self.given.has(Setting::ListenTokenFile);
        if !address.ip().is_loopback() && !has_token {
            self.problem(Setting::Listen, Fault::OpenListen);
        }
        Some(Listen { address, token })
    }

    fn token(&mut self) -> Option<ListenToken> {
        let path = self.path(Setting::ListenTokenFile)?;
        if !self.given.has(Setting::Listen) {
            let text = "without --listen the token of --listen-token-file is asked of nobody";
            self.remark(Remark::Warning(text.to_owned()));
        }
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                let fault = Fault::File { path, reason: error.to_string() };
                self.problem(Setting::ListenTokenFile, fault);
                return None;
            }
        };
        let line = text.strip_suffix('\n').unwrap_or(&text);
        // What stands for itself in the path of a URL (RFC 3986 §3.3).
        let is_plain =
            |letter: u8| letter.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&letter);
        if line.len() < SHORTEST_TOKEN || !line.bytes().all(is_plain) {
            self.problem(Setting::ListenTokenFile, Fault::Token { path });
            return None;
        }
        Some(ListenToken(line.to_owned()))
    }

    fn unclaimed(&mut self) -> Option<UnclaimedImage> {
        let given = IMAGE.iter().filter(|setting| self.given.has(**setting)).count();
        if given > 0 && given < IMAGE.len() {
            let last = IMAGE.into_iter().rfind(|setting| self.given.has(*setting));
            self.problem(last.unwrap_or(Setting::Kernel), Fault::Arguments { given });
        }
        let kernel = self.file(Setting::Kernel);
        let initrd = self.file(Setting::Initrd);
        let cmdline = self.given.text(Setting::Cmdline)?.to_owned();
        if let Err(error) = cmdline::check(&cmdline) {
            self.problem(Setting::Cmdline, Fault::Cmdline { reason: error.to_string() });
        }
        Some(UnclaimedImage { kernel: kernel?, initrd: initrd?, cmdline })
    }

    fn ipxe_path(&mut self) -> Option<PathBuf> {
        if self.given.has(Setting::IpxePath) {
            return self.file(Setting::IpxePath);
        }
        Some(self.host.absolute(IPXE_FILE)).filter(|path| path.is_file())
    }

    fn ipxe_dir(&mut self) -> Option<PathBuf> {
        let path = self.directory(Setting::IpxeDir)?;
        if !path.is_dir() {
            let reason = "there is no such directory; `remoteboot pulliPXE --ipxe-dir` makes it";
            let fault = Fault::File { path: path.clone(), reason: reason.to_owned() };
            self.problem(Setting::IpxeDir, fault);
        }
        Some(path)
    }

    fn log(&mut self) -> Log {
        let level = self.number(Setting::Log, LOG_LEVEL, 0..=5);
        let format = match self.given.text(Setting::LogFormat) {
            None | Some("term") => LogFormat::Term,
            Some("logfmt") => LogFormat::Logfmt,
            Some("json") => LogFormat::Json,
            Some(_) => {
                self.problem(Setting::LogFormat, Fault::NotOneOf { known: "term, logfmt, json" });
                LogFormat::Term
            }
        };
        let standard = self.switch(Setting::LogStdout);
        Log {
            level: u8::try_from(level).unwrap_or_default(),
            format,
            caller: self.switch(Setting::LogCaller),
            stack: self.switch(Setting::LogStack),
            output: if standard { LogOutput::Standard } else { LogOutput::Error },
        }
    }

    fn same_ports(&mut self, config: &Config) {
        if let (Some(dhcp), Some(tftp)) = (&config.dhcp, config.tftp)
            && dhcp.port == tftp.port()
        {
            let other = self.given.place(Setting::DhcpPort);
            self.problem(Setting::TftpPort, Fault::SamePort { other });
        }
        if let (Some(listen), Some(http)) = (&config.plugin.listen, config.http)
            && listen.address == http
            && http.port() != 0
        {
            let other = self.given.place(Setting::HttpPort);
            self.problem(Setting::Listen, Fault::SamePort { other });
        }
    }

    fn boot_programs(&mut self, config: &Config) {
        if config.tftp.is_none() {
            return;
        }
        if config.dhcp.is_some()
            && config.tftp.is_some_and(|tftp| u32::from(tftp.port()) != TFTP_PORT)
        {
            let text = "firmware asks for boot programs on port 69 only, whatever --tftp-port is";
            self.remark(Remark::Warning(text.to_owned()));
        }
        let loaders = Loaders::new(config.ipxe_path.clone(), config.ipxe_dir.clone()).catalogue();
        if Architecture::ALL.into_iter().all(|machine| loaders.loader(machine).is_none()) {
            let text = "there is no boot program; `remoteboot pulliPXE` downloads one to the \
                        current directory, and with --ipxe-dir those of all architectures";
            self.remark(Remark::Warning(text.to_owned()));
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    dhcp: u16,
    tftp: u16,
    http: u16,
}

/// Why InfraKit would not find a socket of this name.
fn wrong_in_name(name: &str, directory: &Path) -> Option<String> {
    let length = directory.join(name).as_os_str().len();
    let reason = match name {
        "" => "be empty".to_owned(),
        _ if name.contains('/') => "have a slash".to_owned(),
        _ if name.starts_with('.') => "begin with a dot".to_owned(),
        _ if name.ends_with(".pid") || name.ends_with(".listen") => {
            "end with .pid or .listen, which InfraKit reads as files".to_owned()
        }
        // InfraKit makes a URL of it.
        _ if name.contains('%') || name.chars().any(char::is_control) => {
            "have a percent sign or a control character".to_owned()
        }
        _ if length > LONGEST_SOCKET => {
            format!("make a path of {length} bytes; sockets have {LONGEST_SOCKET} at most")
        }
        _ => return None,
    };
    Some(reason)
}

#[cfg(test)]
mod tests {}
