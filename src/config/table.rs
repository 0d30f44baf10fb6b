//! What each setting is called, and what `--help` says of it.

use super::setting::{Description, Form, Setting};

mod ipv6;
mod tftp;

use ipv6::IPV6;
use tftp::TFTP;

/// One row for each setting, in the order of the enum and of `--help`.
pub(super) const TABLE: [Description; ROWS] = joined();

const PARTS: [&[Description]; 4] = [BEFORE, IPV6, TFTP, AFTER];

const ROWS: usize = BEFORE.len() + IPV6.len() + TFTP.len() + AFTER.len();

const fn joined() -> [Description; ROWS] {
    let mut all = [BEFORE[0]; ROWS];
    let (mut part, mut row, mut place) = (0, 0, 0);
    while place < ROWS {
        if row == PARTS[part].len() {
            (part, row) = (part + 1, 0);
            continue;
        }
        all[place] = PARTS[part][row];
        (row, place) = (row + 1, place + 1);
    }
    all
}

/// The rows before those of IPv6.
const BEFORE: &[Description] = &[
    Description {
        setting: Setting::Kernel,
        name: "kernel",
        ancestral: None,
        form: Form::Argument("KERNEL"),
        heading: "Arguments",
        help: "The kernel that machines boot which no instance claims",
    },
    Description {
        setting: Setting::Initrd,
        name: "initrd",
        ancestral: None,
        form: Form::Argument("INITRD"),
        heading: "Arguments",
        help: "Its initrd",
    },
    Description {
        setting: Setting::Cmdline,
        name: "cmdline",
        ancestral: None,
        form: Form::Argument("CMDLINE"),
        heading: "Arguments",
        help: "Its command line, in one argument: \"console=tty0 ip=dhcp\". `{{ mac }}`, `{{ ip \
               }}` and `{{ server }}` are filled in for each machine",
    },
    Description {
        setting: Setting::Adapter,
        name: "adapter",
        ancestral: Some("adapter"),
        form: Form::Value("NAME"),
        heading: "Network",
        help: "The network adapter that the machines are on, such as eth0; its first address is \
               the default of all others",
    },
    Description {
        setting: Setting::EnableDhcp,
        name: "enable-dhcp",
        ancestral: Some("enableDHCP"),
        form: Form::Switch,
        heading: "DHCP",
        help: "Gives addresses to machines, and tells them what to boot; needs --adapter and \
               --start-address. The same as --dhcp=server",
    },
    Description {
        setting: Setting::Dhcp,
        name: "dhcp",
        ancestral: None,
        form: Form::Value("PART"),
        heading: "DHCP",
        help: "The part in DHCP: `server` gives addresses; `proxy` gives none, and tells machines \
               only what to boot, beside a server that you have; it needs --adapter or \
               --address-dhcp; `auto` asks at the start whether a server is there: then it is a \
               proxy, else a server; `off` [default: off]",
    },
    Description {
        setting: Setting::StartAddress,
        name: "start-address",
        ancestral: Some("startAddress"),
        form: Form::Value("IP"),
        heading: "DHCP",
        help: "The first address that is given to a machine",
    },
    Description {
        setting: Setting::LeaseCount,
        name: "lease-count",
        ancestral: Some("leaseCount"),
        form: Form::Value("COUNT"),
        heading: "DHCP",
        help: "How many addresses are given, from the first one up [default: 20]",
    },
    Description {
        setting: Setting::LeaseTime,
        name: "lease-time",
        ancestral: None,
        form: Form::Value("SECONDS"),
        heading: "DHCP",
        help: "How long a machine may keep its address without asking again, 60 to 31536000 \
               [default: 7200]",
    },
    Description {
        setting: Setting::AddressDhcp,
        name: "address-dhcp",
        ancestral: Some("addressDHCP"),
        form: Form::Value("IP"),
        heading: "DHCP",
        help: "Our own address, one of the adapter's [default: the first one in the network of \
               --start-address]",
    },
    Description {
        setting: Setting::Gateway,
        name: "gateway",
        ancestral: Some("gateway"),
        form: Form::Value("IP"),
        heading: "DHCP",
        help: "The router that machines are told [default: --address-dhcp]",
    },
    Description {
        setting: Setting::Dns,
        name: "dns",
        ancestral: Some("dns"),
        form: Form::Value("IP,..."),
        heading: "DHCP",
        help: "The name servers that machines are told, with commas between them [default: \
               --address-dhcp]",
    },
    Description {
        setting: Setting::DhcpPort,
        name: "dhcp-port",
        ancestral: None,
        form: Form::Value("PORT"),
        heading: "DHCP",
        help: "The port of the DHCP server; with another one than 67, machines are answered on \
               the port after it [default: 67]",
    },
    Description {
        setting: Setting::Probe,
        name: "probe",
        ancestral: None,
        form: Form::Switch,
        heading: "DHCP",
        help: "Asks on the network whether somebody uses an address, before a machine is offered \
               it for the first time: ahead of time on our own links, else that takes 0.4 \
               seconds [default: true]",
    },
    Description {
        setting: Setting::DeclineHold,
        name: "decline-hold",
        ancestral: None,
        form: Form::Value("SECONDS"),
        heading: "DHCP",
        help: "How long an address that somebody else was found to use is given to nobody, 0 to \
               31536000 [default: 86400]",
    },
    Description {
        setting: Setting::DhcpWatch,
        name: "dhcp-watch",
        ancestral: None,
        form: Form::Value("SECONDS"),
        heading: "DHCP",
        help: "How often a server asks on its adapters, from the start on, whether another one \
               gives addresses there, 10 to 86400; it warns of it, and serves on. 0: never \
               [default: 300]",
    },
    Description {
        setting: Setting::Spread,
        name: "spread",
        ancestral: None,
        form: Form::Value("BOOTS"),
        heading: "DHCP",
        help: "How many machines may begin to load in each second: when more ask, as after a power \
               cut, each is told so a little later, 2.5 seconds at most; 0 to 100000, 0 is all at \
               once [default: 200]",
    },
];

/// The rows behind those of TFTP.
const AFTER: &[Description] = &[
    Description {
        setting: Setting::EnableHttp,
        name: "enable-http",
        ancestral: Some("enableHTTP"),
        form: Form::Switch,
        heading: "HTTP",
        help: "Serves iPXE scripts, kernels and initrds",
    },
    Description {
        setting: Setting::AddressHttp,
        name: "address-http",
        ancestral: Some("addressHTTP"),
        form: Form::Value("IP"),
        heading: "HTTP",
        help: "The address of the HTTP server, told to machines and listened on [default: \
               --address-dhcp]",
    },
    Description {
        setting: Setting::HttpPort,
        name: "http-port",
        ancestral: None,
        form: Form::Value("PORT"),
        heading: "HTTP",
        help: "The port of the HTTP server [default: 80]",
    },
    Description {
        setting: Setting::Pace,
        name: "pace",
        ancestral: None,
        form: Form::Value("RATE"),
        heading: "HTTP",
        help: "How fast each machine is sent its kernel and initrd at most, in octets per second \
               (10M) or bits (80Mbit): some network cards hang at full speed; a [[subnet]] table \
               and the inventory may say it of their machines [default: as fast as it goes]",
    },
    Description {
        setting: Setting::Name,
        name: "name",
        ancestral: None,
        form: Form::Value("NAME"),
        heading: "InfraKit plugin",
        help: "The name under which InfraKit finds this plugin, and of its socket [default: \
               remoteboot]",
    },
    Description {
        setting: Setting::Plugins,
        name: "plugins",
        ancestral: None,
        form: Form::Value("DIR"),
        heading: "InfraKit plugin",
        help: "The directory of InfraKit's plugin sockets [default: $INFRAKIT_PLUGINS_DIR, else \
               $INFRAKIT_HOME/plugins, else ~/.infrakit/plugins]",
    },
    Description {
        setting: Setting::Listen,
        name: "listen",
        ancestral: None,
        form: Form::Value("ADDR:PORT"),
        heading: "InfraKit plugin",
        help: "Answers InfraKit by TCP too, at this address; if other machines can reach it, \
               only with --listen-token-file",
    },
    Description {
        setting: Setting::ListenTokenFile,
        name: "listen-token-file",
        ancestral: None,
        form: Form::Value("FILE"),
        heading: "InfraKit plugin",
        help: "The file with the secret that callers by TCP have to know: one line of at least 16 \
               characters, letters, digits and punctuation without `/`, `%`, `?` and `#`",
    },
    Description {
        setting: Setting::StateDir,
        name: "state-dir",
        ancestral: None,
        form: Form::Value("DIR"),
        heading: "State and images",
        help: "Where leases and instances are kept [default: /var/lib/remoteboot for root, else \
               $XDG_STATE_HOME/remoteboot, else ~/.local/state/remoteboot]",
    },
    Description {
        setting: Setting::Images,
        name: "images",
        ancestral: None,
        form: Form::Value("DIR"),
        heading: "State and images",
        help: "The directory whose files instances may name as kernel and initrd [default: \
               images in the state directory]",
    },
    Description {
        setting: Setting::Inventory,
        name: "inventory",
        ancestral: None,
        form: Form::Value("FILE"),
        heading: "State and images",
        help: "A file of machines (TOML) that may be given out before they were seen, with their \
               labels; read at the start, and again on SIGHUP",
    },
    Description {
        setting: Setting::Unclaimed,
        name: "unclaimed",
        ancestral: None,
        form: Form::Value("THEN"),
        heading: "State and images",
        help: "What becomes of strangers, machines that no instance claims and nobody has listed: \
               `hold` has them wait for a Provision; `local` sends them to their own disks; \
               `ignore` tells them nothing. In a file, [[unclaimed]] tables say it by network \
               and architecture [default: hold]",
    },
    Description {
        setting: Setting::Log,
        name: "log",
        ancestral: None,
        form: Form::Value("0..5"),
        heading: "Log",
        help: "How much is logged: 0 and 1 errors, 2 warnings, 3 what is done, 4 and 5 details \
               [default: 3]",
    },
    Description {
        setting: Setting::LogFormat,
        name: "log-format",
        ancestral: None,
        form: Form::Value("FORMAT"),
        heading: "Log",
        help: "term for people, logfmt or json for programs [default: term]",
    },
    Description {
        setting: Setting::LogCaller,
        name: "log-caller",
        ancestral: None,
        form: Form::Switch,
        heading: "Log",
        help: "Logs the place in the source, too",
    },
    Description {
        setting: Setting::LogStack,
        name: "log-stack",
        ancestral: None,
        form: Form::Switch,
        heading: "Log",
        help: "Logs with each line what it is part of",
    },
    Description {
        setting: Setting::LogStdout,
        name: "log-stdout",
        ancestral: None,
        form: Form::Switch,
        heading: "Log",
        help: "Logs to standard output instead of standard error",
    },
];
