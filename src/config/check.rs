//! From what was written to what is meant: everything that is wrong is found at
//! once. Looks at files, and never changes one.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    ops::RangeInclusive,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use super::{
    CONFIG_VARIABLE, Config, Fault, Given, Host, Inventory, InventoryError, Listen, ListenToken,
    Log, LogFormat, LogOutput, Plugin, Problems, Remark, Setting,
    checker::{Checker, is_no_machine},
    given::IMAGE,
    inventory, loaders,
    network::{self, Network},
    network6, profiles,
    rules::{Served, rules},
    secure_boot,
    setting::VARIABLE_PREFIX,
    tftp::tftp,
};
use crate::{
    boot::{UnclaimedImage, cmdline},
    files::Loaders,
    model::{Architecture, Catalogue, Rate},
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

/// Where the plugin's socket is, whatever else was set.
pub(super) fn socket(given: &Given, host: &Host) -> Result<PathBuf, Problems> {
    let mut checker = Checker::new(given, host);
    let (directory, name) = checker.socket();
    let (problems, _) = checker.findings();
    if problems.is_empty() { Ok(directory.join(name)) } else { Err(Problems(problems)) }
}

impl Checker<'_> {
    fn config(&mut self) -> Config {
        let state_dir = self.state_dir();
        let images = self.directory(Setting::Images).unwrap_or_else(|| state_dir.join("images"));
        if !images.is_dir() {
            let text = format!("{} is no directory yet; it is made at the start", images.display());
            let is_expected = !self.given.has(Setting::Images);
            self.remark(if is_expected { Remark::Note(text) } else { Remark::Warning(text) });
        }
        self.unknown_variables();
        let mut network = Network::of(self);
        let ports = self.ports();
        let dhcp = network::dhcp(self, &mut network, ports.dhcp);
        let next_server = network.told(self, Setting::AddressTftp, Setting::EnableTftp);
        let http_address = network.told(self, Setting::AddressHttp, Setting::EnableHttp);
        let on = |address: Option<Ipv4Addr>, port| Some(SocketAddrV4::new(address?, port));
        let http_authority = on(http_address, ports.http);
        let tftp_address = on(next_server, ports.tftp).filter(|_| self.switch(Setting::EnableTftp));
        let http = http_authority.filter(|_| self.switch(Setting::EnableHttp));
        let ipv6 = network6::ipv6(self);
        let has_tftp = self.switch(Setting::EnableTftp);
        let tftp6_address = ipv6.as_ref().filter(|_| has_tftp);
        let tftp6_address = tftp6_address.map(|ipv6| (ipv6.server, ports.tftp).into());
        let [tftp, tftp6] = tftp(self, [tftp_address.map(SocketAddr::V4), tftp6_address]);
        let unclaimed = self.unclaimed();
        let served = Served::of(dhcp.as_ref(), ipv6.as_ref());
        let rules = rules(self, unclaimed.as_ref(), &served);
        let (ipxe_path, ipxe_dir) = (self.ipxe_path(), self.ipxe_dir());
        let secure_boot_dir = secure_boot::directory(self);
        let programs = Loaders::new(ipxe_path.clone(), ipxe_dir.clone());
        let programs = programs.with_signed(secure_boot_dir.clone()).catalogue();
        let profiles = profiles::of(self, dhcp.as_ref());
        let config = Config {
            profiles,
            pace: self.pace(),
            state_dir,
            images,
            inventory: self.inventory(&programs),
            plugin: self.plugin(),
            dhcp,
            tftp,
            http: http.map(SocketAddr::V4),
            next_server,
            http_authority,
            ipv6: ipv6.map(|ipv6| super::Ipv6 { tftp: tftp6, ..ipv6 }),
            ports: super::Ports {
                tftp: self.switch(Setting::EnableTftp).then_some(ports.tftp),
                http: self.switch(Setting::EnableHttp).then_some(ports.http),
            },
            unclaimed,
            rules,
            ipxe_path,
            ipxe_dir,
            secure_boot_dir,
            loaders: loaders::of(self, &programs),
            log: self.log(),
        };
        self.same_ports(&config);
        self.boot_programs(&config, &programs);
        config
    }

    fn pace(&mut self) -> Option<Rate> {
        let read = self.given.text(Setting::Pace)?.parse();
        read.map_err(|error| self.problem(Setting::Pace, Fault::Rate(error))).ok()
    }

    /// A misspelt variable would be as if it were not there.
    fn unknown_variables(&mut self) {
        let known: Vec<String> = Setting::all().map(Setting::variable).collect();
        let names = self.host.variables.keys().filter(|name| name.starts_with(VARIABLE_PREFIX));
        let mut unknown: Vec<&String> =
            names.filter(|name| *name != CONFIG_VARIABLE && !known.contains(name)).collect();
        unknown.sort();
        for name in unknown {
            self.remark(Remark::Warning(format!("{name}: there is no such setting")));
        }
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
        let (directory, name) = self.socket();
        Plugin { directory, name, listen: self.listen() }
    }

    /// The directory and the name of the plugin's socket.
    fn socket(&mut self) -> (PathBuf, String) {
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
        (directory, name)
    }

    fn inventory(&mut self, programs: &Catalogue) -> Option<Inventory> {
        let path = self.path(Setting::Inventory)?;
        let fault = match inventory::read(&path, programs) {
            Ok(inventory) => return Some(inventory),
            Err(InventoryError::File { path, source }) => {
                Fault::File { path, reason: source.to_string() }
            }
            Err(error) => Fault::Inventory { reason: error.to_string() },
        };
        self.problem(Setting::Inventory, fault);
        None
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
        let is_open = std::fs::metadata(&path).is_ok_and(|file| file.mode() & 0o077 != 0);
        if is_open {
            let text = format!("{} can be read by others; chmod 600", path.display());
            self.remark(Remark::Warning(text));
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
        Some(UnclaimedImage { kernel: kernel?, initrds: vec![initrd?], cmdline })
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
        if let (Some(dhcp), Some(tftp)) = (&config.dhcp, &config.tftp)
            && dhcp.port == tftp.address.port()
        {
            let other = self.given.place(Setting::DhcpPort);
            self.problem(Setting::TftpPort, Fault::SamePort { other });
        }
        let dhcp6 = config.ipv6.as_ref().and_then(|ipv6| ipv6.dhcp.as_ref());
        if dhcp6.is_some_and(|dhcp| Some(dhcp.port) == config.ports.tftp) {
            let other = self.given.place(Setting::Dhcp6Port);
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

    fn boot_programs(&mut self, config: &Config, programs: &Catalogue) {
        let Some(port) = config.ports.tftp else { return };
        let dhcp6 = config.ipv6.as_ref().and_then(|ipv6| ipv6.dhcp.as_ref());
        if (config.dhcp.is_some() || dhcp6.is_some()) && u32::from(port) != TFTP_PORT {
            let text = "firmware asks for boot programs on port 69 only, whatever --tftp-port is";
            self.remark(Remark::Warning(text.to_owned()));
        }
        if Architecture::ALL.into_iter().all(|machine| programs.loader(machine).is_none()) {
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
pub(super) mod tests {
    use super::*;
    use crate::config::{self, Adapter, Invocation, show};

    /// A machine with a kernel, an initrd and some adapters.
    pub(crate) fn machine() -> (tempfile::TempDir, Host) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for name in ["kernel", "initrd", "undionly.kpxe"] {
            std::fs::write(directory.path().join(name), name).expect("written");
        }
        std::fs::write(directory.path().join("nothing"), "").expect("written");
        let adapter = |name: &str, addresses: &[&str], is_up| {
            let addresses = addresses.iter().map(|text| text.parse().expect("a network"));
            let addresses6 = Vec::new();
            Adapter { name: name.to_owned(), addresses: addresses.collect(), addresses6, is_up }
        };
        let addresses6 =
            ["fe80::1/64", "fd00:77::1/64"].map(|text| text.parse().expect("a network"));
        let six = Adapter { addresses6: addresses6.to_vec(), ..adapter("six0", &[], true) };
        let host = Host {
            adapters: vec![
                adapter("eth0", &["192.168.0.1/24"], true),
                adapter("two0", &["10.0.0.1/24", "10.0.1.1/24"], true),
                adapter("tiny0", &["172.16.0.1/29"], false),
                adapter("bare0", &[], true),
                adapter("top0", &["255.255.255.1/24"], true),
                six,
            ],
            home: Some(directory.path().join("home")),
            working_directory: directory.path().to_owned(),
            ..Host::default()
        };
        (directory, host)
    }

    pub(crate) fn checked(host: &Host, line: &[&str]) -> Checked {
        let words = ["remoteboot"].iter().chain(line).map(|word| (*word).into());
        let Ok(Invocation::Run(flags)) = config::parse(words.collect()) else {
            panic!("{line:?} is no command line");
        };
        config::load(&flags, host)
    }

    pub(crate) fn config_of(host: &Host, line: &[&str]) -> Config {
        let checked = checked(host, line);
        checked.outcome.unwrap_or_else(|problems| panic!("{line:?}: {problems}"))
    }

    pub(crate) fn problems_of(host: &Host, line: &[&str]) -> String {
        match checked(host, line).outcome {
            Ok(config) => panic!("{line:?} is right: {config:?}"),
            Err(problems) => problems.to_string(),
        }
    }

    /// The line of the ancestor's users.
    pub(crate) const ANCESTRAL: [&str; 9] = [
        "./kernel",
        "./initrd",
        "console=tty0",
        "--adapter=eth0",
        "--startAddress=192.168.0.2",
        "--leaseCount=50",
        "--enableDHCP",
        "--enableTFTP",
        "--enableHTTP",
    ];

    #[test]
    fn the_line_of_the_ancestor_means_what_it_meant() {
        let (directory, host) = machine();
        let config = config_of(&host, &ANCESTRAL);
        let image = config.unclaimed.expect("an image");
        assert_eq!(image.kernel, directory.path().join("kernel"));
        assert_eq!(
            (image.initrds, image.cmdline.as_str()),
            (vec![directory.path().join("initrd")], "console=tty0")
        );
        let own = Ipv4Addr::new(192, 168, 0, 1);
        let dhcp = config.dhcp.expect("a DHCP server");
        assert_eq!((dhcp.port, dhcp.client_port(), dhcp.tables.len()), (67, 68, 0));
        let subnet = dhcp.by_flags.expect("a network");
        assert_eq!(subnet.adapter.as_deref(), Some("eth0"));
        assert_eq!(subnet.network, "192.168.0.0/24".parse().expect("a network"));
        assert_eq!((subnet.server, subnet.gateway), (own, own));
        assert_eq!(subnet.dns, [own]);
        assert_eq!(subnet.pool.ranges, ["192.168.0.2-192.168.0.51".parse().expect("a range")]);
        assert_eq!(subnet.times.lease.0, 7200);
        let tftp = config.tftp.map(|tftp| tftp.address);
        assert_eq!(tftp, Some(SocketAddr::from((own, 69))));
        assert_eq!(config.http, Some(SocketAddr::from((own, 80))));
        assert_eq!(config.http_authority, Some(SocketAddrV4::new(own, 80)));
        assert_eq!(config.next_server, Some(own));
        assert_eq!(config.ipxe_path, Some(directory.path().join("undionly.kpxe")));
    }

    #[test]
    fn without_anything_it_is_a_plugin_only() {
        let (directory, mut host) = machine();
        std::fs::remove_file(directory.path().join("undionly.kpxe")).expect("removed");
        let config = config_of(&host, &[]);
        assert_eq!((config.dhcp, config.tftp, config.http), (None, None, None));
        assert_eq!((config.unclaimed, config.ipxe_path), (None, None));
        let home = directory.path().join("home");
        assert_eq!(config.plugin.directory, home.join(".infrakit/plugins"));
        assert_eq!((config.plugin.name.as_str(), config.plugin.listen), ("remoteboot", None));
        assert_eq!(config.state_dir, home.join(".local/state/remoteboot"));
        assert_eq!(config.images, home.join(".local/state/remoteboot/images"));
        host.home = None;
        assert!(problems_of(&host, &[]).contains("--state-dir: there is no home directory"));
        host.is_root = true;
        let line = ["--plugins=plugins"];
        assert_eq!(config_of(&host, &line).state_dir, PathBuf::from("/var/lib/remoteboot"));
    }

    #[test]
    fn directories_follow_the_variables_of_others() {
        let (_directory, mut host) = machine();
        let mut set = |name: &str, value: &str| {
            host.variables.insert(name.to_owned(), value.to_owned());
            config_of(&host, &[])
        };
        assert_eq!(set("XDG_STATE_HOME", "/x").state_dir, PathBuf::from("/x/remoteboot"));
        assert_eq!(set("INFRAKIT_REMOTEBOOT_STATE_DIR", "/y").state_dir, PathBuf::from("/y"));
        assert_eq!(set("INFRAKIT_HOME", "/i").plugin.directory, PathBuf::from("/i/plugins"));
        assert_eq!(set("INFRAKIT_PLUGINS_DIR", "/p").plugin.directory, PathBuf::from("/p"));
        assert_eq!(set("INFRAKIT_PLUGINS_DIR", "").plugin.directory, PathBuf::from("/i/plugins"));
    }

    #[test]
    fn each_wrong_setting_is_named_with_its_value() {
        let (directory, host) = machine();
        std::fs::write(directory.path().join("bad.toml"), "[[machine]]\nmac = 'x'\n")
            .expect("written");
        let cases: [(&[&str], &[&str]); 28] = [
            (&["--inventory=nope.toml"], &["--inventory=nope.toml", "No such file"]),
            (&["--inventory=bad.toml"], &["--inventory=bad.toml", "line 2, column 7", "`x`"]),
            (&["kernel"], &["kernel `kernel`", "1 of 3"]),
            (&["kernel", "initrd"], &["initrd `initrd`", "2 of 3"]),
            (&["nope", "initrd", ""], &["kernel `nope`", "No such file"]),
            (&["kernel", "nothing", ""], &["initrd `nothing`", "is empty"]),
            (&["kernel", ".", ""], &["initrd `.`", "is no regular file"]),
            (&["kernel", "initrd", "{{ nope }}"], &["cmdline `{{ nope }}`", "unknown"]),
            (&["--enableDHCP=maybe"], &["--enableDHCP=maybe", "neither true nor false"]),
            (&["--http-port=65536"], &["--http-port=65536", "0 to 65535"]),
            (&["--dhcp-port=0"], &["--dhcp-port=0", "1 to 65534"]),
            (&["--log=6"], &["--log=6", "0 to 5"]),
            (&["--log-format=xml"], &["--log-format=xml", "term, logfmt, json"]),
            (&["--enableHTTP"], &["--address-http", "is needed"]),
            (&["--enableTFTP"], &["--address-tftp", "is needed"]),
            (
                &["--enableHTTP", "--addressHTTP=0.0.0.0"],
                &["--addressHTTP=0.0.0.0", "no machine's"],
            ),
            (
                &["--enableHTTP", "--addressHTTP=10.9.9.9"],
                &["--addressHTTP=10.9.9.9", "this machine"],
            ),
            (&["--ipxe-dir=nope"], &["--ipxe-dir=nope", "no such directory"]),
            (&["--iPXEPath=nope"], &["--iPXEPath=nope", "No such file"]),
            (&["--images=kernel"], &["--images=kernel", "is no directory"]),
            (&["--state-dir="], &["--state-dir=", "is empty"]),
            (&["--name=a/b"], &["--name=a/b", "slash"]),
            (&["--name=.hidden"], &["--name=.hidden", "dot"]),
            (&["--name=x.pid"], &["--name=x.pid", ".pid"]),
            (&["--name="], &["--name=", "empty"]),
            (&["--listen=24864"], &["--listen=24864", "127.0.0.1:24864"]),
            (&["--listen=0.0.0.0:1"], &["--listen=0.0.0.0:1", "no machine's"]),
            (&["--config=nope.toml"], &["--config=nope.toml", "No such file"]),
        ];
        for (line, named) in cases {
            let problems = problems_of(&host, line);
            assert!(named.iter().all(|text| problems.contains(text)), "{line:?}: {problems}");
        }
    }

    #[test]
    fn all_problems_are_found_at_once() {
        let (_directory, host) = machine();
        let line = ["nope", "--adapter=eth9", "--leaseCount=-1", "--enableDHCP", "--log=9"];
        let problems = problems_of(&host, &line);
        for named in ["nope", "eth9", "leaseCount=-1", "--start-address", "--log=9"] {
            assert!(problems.contains(named), "{named} is not in {problems}");
        }
    }

    #[test]
    fn two_servers_do_not_share_a_port() {
        let (_directory, host) = machine();
        let with = |more: &[&'static str]| [&ANCESTRAL[..], more].concat();
        let problems = problems_of(&host, &with(&["--tftp-port=67"]));
        assert!(problems.contains("--tftp-port=67: is the port of --dhcp-port"), "{problems}");
        let line = ["--enableHTTP", "--addressHTTP=127.0.0.1", "--listen=127.0.0.1:80"];
        assert!(problems_of(&host, &line).contains("--listen=127.0.0.1:80: is the port of"));
        // HTTP by TCP and TFTP by UDP are two.
        config_of(&host, &with(&["--tftp-port=80"]));
    }

    #[test]
    fn only_loopback_is_listened_on_without_a_token() {
        let (directory, host) = machine();
        assert!(problems_of(&host, &["--listen=192.168.0.1:9"]).contains("--listen-token-file"));
        assert!(config_of(&host, &["--listen=127.0.0.1:9"]).plugin.listen.is_some());
        let path = directory.path().join("token");
        let line = ["--listen=192.168.0.1:9", "--listen-token-file=token"];
        for wrong in
            ["", "fifteen-letters", "sixteen/letters-", "sixteen letters-", "two-lines-of-16\nx"]
        {
            std::fs::write(&path, wrong).expect("written");
            let problems = problems_of(&host, &line);
            assert!(problems.contains("--listen-token-file=token"), "{problems}");
            assert!(wrong.is_empty() || !problems.contains(wrong), "{problems}");
        }
        std::fs::write(&path, "sixteen-letters-\n").expect("written");
        let listen = config_of(&host, &line).plugin.listen.expect("a listener");
        assert!(!format!("{listen:?}").contains("sixteen"));
        assert_eq!(listen.token.expect("a token").reveal(), "sixteen-letters-");
    }

    #[test]
    fn a_misspelt_variable_is_remarked_on() {
        let (_directory, mut host) = machine();
        host.variables.insert("INFRAKIT_REMOTEBOOT_ADAPTOR".to_owned(), "eth0".to_owned());
        let remarks = format!("{:?}", checked(&host, &[]).remarks);
        assert!(remarks.contains("INFRAKIT_REMOTEBOOT_ADAPTOR"), "{remarks}");
    }

    #[test]
    fn what_check_shows_means_the_same_again() {
        let (directory, host) = machine();
        let listed = "[[machine]]\nmac = '525400aa0101'\n";
        std::fs::write(directory.path().join("listed.toml"), listed).expect("written");
        let more = [
            "--dns=192.168.0.8,192.168.0.9",
            "--lease-time=600",
            "--listen=127.0.0.1:9",
            "--inventory=listed.toml",
            "--tftp-fragments",
        ];
        let proxy = ["--dhcp=proxy", "--adapter=eth0"];
        let auto = ["--dhcp=auto", "--adapter=eth0"];
        let both = ["--dhcp=auto", "--adapter=eth0", "--startAddress=192.168.0.9"];
        for line in
            [&[][..], &proxy, &auto, &both, &ANCESTRAL, &[&ANCESTRAL[..], &more[..]].concat()]
        {
            let first = checked(&host, line);
            std::fs::write(directory.path().join("shown.toml"), show(&first)).expect("written");
            let second = config_of(&host, &["--config=shown.toml"]);
            assert_eq!(second, first.outcome.expect("it is right"));
        }
    }

    #[test]
    fn the_example_is_complete_and_means_the_line_of_the_ancestor() {
        let (directory, host) = machine();
        let example = include_str!("../../examples/remoteboot.toml");
        for setting in Setting::all() {
            let is_there = example.lines().any(|line| {
                let line = line.trim_start_matches(['#', ' ']);
                line.split_once(" = ").is_some_and(|(key, _)| key == setting.name())
            });
            assert!(is_there, "{}", setting.name());
        }
        std::fs::write(directory.path().join("example.toml"), example).expect("written");
        let from_file = config_of(&host, &["--config=example.toml"]);
        assert_eq!(from_file, config_of(&host, &ANCESTRAL));
        // What is commented out is right, too, but for files that are elsewhere.
        let all: String = example
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line))
            .fold(String::new(), |text, line| text + line + "\n");
        std::fs::write(directory.path().join("example.toml"), all).expect("written");
        let mut host = host;
        host.adapters[0].addresses6 = vec!["fd00::1/64".parse().expect("a network")];
        let problems = problems_of(&host, &["--config=example.toml"]);
        let unexpected = problems.lines().find(|line| {
            let elsewhere =
                ["listen-token-file", "`ipxe-", "`inventory", "[[loader]]", "`secure-boot-"];
            !elsewhere.iter().any(|one| line.contains(one))
        });
        assert_eq!(unexpected, None);
    }
}
