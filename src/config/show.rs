//! A checked configuration in words: as a file that would mean the same.

use std::{fmt::Write as _, path::Path};

use super::{Checked, Config, DhcpPart, Form, LogOutput, Setting, SubnetTable};
use crate::model::Subnet;

/// What holds, each line with where it comes from; if something is wrong, what
/// was set. It can be read again as a file.
#[must_use]
pub fn show(checked: &Checked) -> String {
    let mut text = String::new();
    for setting in Setting::all() {
        let value = match &checked.outcome {
            Ok(config) => effective(setting, config).or_else(|| written(setting, checked)),
            Err(_) => written(setting, checked),
        };
        let Some(value) = value else { continue };
        // The key can be a word or tables; with tables the flag is one more.
        if setting == Setting::Unclaimed && !checked.given.unclaimed().is_empty() {
            continue;
        }
        let origin = checked.given.origin(setting);
        // Writing into a `String` cannot fail.
        let _ = writeln!(text, "{} = {value}  # {origin}", setting.name());
    }
    for (place, table) in checked.given.subnets().iter().enumerate() {
        let subnet = match &checked.outcome {
            Ok(config) => config.dhcp.as_ref().and_then(|dhcp| dhcp.tables.get(place)),
            Err(_) => None,
        };
        text += &subnet_table(table, subnet);
    }
    for table in checked.given.unclaimed() {
        text += &tables("unclaimed", table);
    }
    if let (false, Some(then)) =
        (checked.given.unclaimed().is_empty(), checked.given.text(Setting::Unclaimed))
    {
        let origin = checked.given.origin(Setting::Unclaimed);
        text += &format!("\n[[unclaimed]]\nthen = {}  # {origin}\n", quoted(then));
    }
    for table in checked.given.local_boot() {
        text += &tables("local-boot", table);
    }
    for table in checked.given.loaders() {
        text += &tables("loader", table);
    }
    for table in checked.given.profiles() {
        text += &tables("profile", table);
    }
    text
}

/// One table of a list of this name.
fn tables(name: &str, table: &impl serde::Serialize) -> String {
    let tables = std::collections::BTreeMap::from([(name, [table])]);
    let text = toml::to_string(&tables).unwrap_or_else(|error| format!("# {error}\n"));
    format!("\n{text}")
}

/// A network of the file, with what it does not say but means.
fn subnet_table(table: &SubnetTable, subnet: Option<&Subnet>) -> String {
    let mut shown = table.clone();
    if let Some(subnet) = subnet {
        shown.server = Some(subnet.server);
        shown.router = Some(subnet.gateway);
        shown.lease_time = Some(subnet.times.lease.0);
        shown.renew_time = Some(subnet.times.renew.0);
        shown.rebind_time = Some(subnet.times.rebind.0);
    }
    tables("subnet", &shown)
}

/// The setting as it was set.
fn written(setting: Setting, checked: &Checked) -> Option<String> {
    let text = checked.given.text(setting)?;
    let is_switch = setting.description().form == Form::Switch;
    let is_plain = is_switch && matches!(text, "true" | "false");
    let is_number = text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    Some(if is_plain || is_number { text.to_owned() } else { quoted(text) })
}

/// The setting as it is meant, if it means anything.
fn effective(setting: Setting, config: &Config) -> Option<String> {
    let Config { plugin, log, .. } = config;
    let dhcp = config.dhcp.as_ref();
    let subnet = dhcp.and_then(|dhcp| dhcp.by_flags.as_ref());
    // What is told nobody without addresses to give is not shown.
    let told = subnet.filter(|subnet| !subnet.pool.ranges.is_empty());
    let range = subnet.and_then(|subnet| subnet.pool.ranges.first());
    let tftp6 = config.ipv6.as_ref().and_then(|ipv6| ipv6.tftp.as_ref());
    let tftp = config.tftp.as_ref().or(tftp6);
    let image = config.unclaimed.as_ref();
    let path = |path: &Path| quoted(&path.display().to_string());
    let text = |shown: &dyn std::fmt::Display| quoted(&shown.to_string());
    match setting {
        Setting::Kernel => image.map(|image| path(&image.kernel)),
        Setting::Initrd => image.and_then(|image| image.initrds.first()).map(|initrd| path(initrd)),
        Setting::Cmdline => image.map(|image| quoted(&image.cmdline)),
        Setting::Adapter => subnet.and_then(|subnet| subnet.adapter.as_deref()).map(quoted),
        Setting::EnableDhcp => {
            let is_server = dhcp.is_some_and(|dhcp| dhcp.part == DhcpPart::Server);
            Some(is_server.to_string())
        }
        Setting::Dhcp => Some(quoted(dhcp.map_or("off", |dhcp| dhcp.part.name()))),
        Setting::StartAddress => range.map(|range| text(&range.first())),
        Setting::LeaseCount => range.map(|range| range.count().to_string()),
        Setting::LeaseTime => told.map(|subnet| subnet.times.lease.0.to_string()),
        Setting::AddressDhcp => subnet.map(|subnet| text(&subnet.server)),
        Setting::Gateway => told.map(|subnet| text(&subnet.gateway)),
        Setting::Dns => told.map(|subnet| {
            let servers: Vec<String> = subnet.dns.iter().map(|dns| text(dns)).collect();
            format!("[{}]", servers.join(", "))
        }),
        Setting::DhcpPort => dhcp.map(|dhcp| dhcp.port.to_string()),
        Setting::Probe => dhcp.map(|dhcp| dhcp.probe.to_string()),
        Setting::DeclineHold => dhcp.map(|dhcp| dhcp.decline_hold.0.to_string()),
        Setting::DhcpWatch => dhcp.map(|dhcp| dhcp.watch.map_or(0, |every| every.0).to_string()),
        Setting::Spread => dhcp.map(|dhcp| dhcp.spread.to_string()),
        Setting::EnableDhcp6
        | Setting::Address6
        | Setting::Subnet6
        | Setting::Range6
        | Setting::Dns6
        | Setting::Search6
        | Setting::Ntp6
        | Setting::Dhcp6Port => effective6(setting, config),
        Setting::EnableTftp => Some(config.ports.tftp.is_some().to_string()),
        Setting::AddressTftp => config.next_server.map(|address| text(&address)),
        Setting::TftpPort => tftp.map(|tftp| tftp.address.port().to_string()),
        Setting::TftpSinglePort => tftp.map(|tftp| tftp.single_port.to_string()),
        Setting::TftpBlockSize => {
            tftp.and_then(|tftp| tftp.block_size).map(|size| size.to_string())
        }
        Setting::TftpFragments => tftp.map(|tftp| tftp.fragments.to_string()),
        Setting::TftpTransfers => tftp.map(|tftp| tftp.transfers.to_string()),
        Setting::TftpTransfersPerClient => tftp.map(|tftp| tftp.transfers_per_client.to_string()),
        Setting::IpxePath => config.ipxe_path.as_deref().map(path),
        Setting::IpxeDir => config.ipxe_dir.as_deref().map(path),
        Setting::SecureBootDir => config.secure_boot_dir.as_deref().map(path),
        Setting::EnableHttp => Some(config.ports.http.is_some().to_string()),
        Setting::AddressHttp => config.http_authority.map(|authority| text(authority.ip())),
        Setting::HttpPort => config.http_authority.map(|authority| authority.port().to_string()),
        Setting::Pace => config.pace.map(|pace| text(&pace)),
        Setting::Name => Some(quoted(&plugin.name)),
        Setting::Plugins => Some(path(&plugin.directory)),
        Setting::Listen => plugin.listen.as_ref().map(|listen| text(&listen.address)),
        // The token itself is never shown, its file is in what was set.
        Setting::ListenTokenFile => None,
        Setting::StateDir => Some(path(&config.state_dir)),
        Setting::Images => Some(path(&config.images)),
        Setting::Inventory => config.inventory.as_ref().map(|listed| path(&listed.path)),
        Setting::Unclaimed => None,
        Setting::Log => Some(log.level.to_string()),
        Setting::LogFormat => Some(quoted(log.format.name())),
        Setting::LogCaller => Some(log.caller.to_string()),
        Setting::LogStack => Some(log.stack.to_string()),
        Setting::LogStdout => Some((log.output == LogOutput::Standard).to_string()),
    }
}

/// The same of what is served over IPv6.
fn effective6(setting: Setting, config: &Config) -> Option<String> {
    let ipv6 = config.ipv6.as_ref();
    let dhcp = ipv6.and_then(|ipv6| ipv6.dhcp.as_ref());
    match setting {
        Setting::EnableDhcp6 => Some(dhcp.is_some().to_string()),
        Setting::Address6 => ipv6.map(|ipv6| quoted(&ipv6.server.to_string())),
        Setting::Subnet6 => list(&dhcp?.subnets, |subnet| Some(subnet.network.to_string())),
        Setting::Range6 => list(&dhcp?.subnets, |subnet| {
            subnet.pool.as_ref().map(|pool| format!("{}-{}", pool.first, pool.last))
        }),
        Setting::Dns6 => list(&dhcp?.dns, |address| Some(address.to_string())),
        Setting::Search6 => list(&dhcp?.search, |name| Some(name.clone())),
        Setting::Ntp6 => list(&dhcp?.ntp, |address| Some(address.to_string())),
        Setting::Dhcp6Port => dhcp.map(|dhcp| dhcp.port.to_string()),
        _ => None,
    }
}

/// A list as TOML has it; nothing if it is empty.
fn list<T>(things: &[T], text: impl Fn(&T) -> Option<String>) -> Option<String> {
    let texts: Vec<String> = things.iter().filter_map(text).map(|text| quoted(&text)).collect();
    (!texts.is_empty()).then(|| format!("[{}]", texts.join(", ")))
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
