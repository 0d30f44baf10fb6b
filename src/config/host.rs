//! What there is on this machine that a configuration is checked against:
//! adapters, variables, the user. The one file of this room that asks the
//! system for them; files are looked at where they are checked.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use ipnet::{Ipv4Net, Ipv6Net};

/// This machine, at the moment of starting.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Its network adapters.
    pub adapters: Vec<Adapter>,
    /// The environment's variables.
    pub variables: HashMap<String, String>,
    /// Whether the user may write to the system's directories.
    pub is_root: bool,
    /// The user's home directory, from the list of users.
    pub home: Option<PathBuf>,
    /// What relative paths begin at.
    pub working_directory: PathBuf,
}

/// A network adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// Its name.
    pub name: String,
    /// Its IPv4 addresses with their masks, in the order of the system.
    pub addresses: Vec<Ipv4Net>,
    /// Its IPv6 addresses with their prefixes, those of the link alone among them.
    pub addresses6: Vec<Ipv6Net>,
    /// Whether packets would go out.
    pub is_up: bool,
}

impl Host {
    /// Asks the system.
    ///
    /// # Errors
    ///
    /// That the system does not say.
    pub fn read() -> io::Result<Self> {
        let user = rustix::process::geteuid();
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        // What is not UTF-8 is none of our settings.
        let variables: HashMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let home = home_of(user.as_raw(), &users)
            .or_else(|| variables.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from));
        Ok(Self {
            adapters: adapters()?,
            variables,
            is_root: user.is_root(),
            home,
            working_directory: std::env::current_dir()?,
        })
    }

    /// A variable that is not empty.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether a server can listen on this address here.
    #[must_use]
    pub fn has_address(&self, address: Ipv4Addr) -> bool {
        address.is_loopback() || self.addresses().any(|own| own.addr() == address)
    }

    /// All IPv4 addresses of all adapters.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Net> + '_ {
        self.adapters.iter().flat_map(|adapter| adapter.addresses.iter().copied())
    }

    /// The path from the root on.
    #[must_use]
    pub fn absolute(&self, path: &str) -> PathBuf {
        let plain = path.strip_prefix("./").unwrap_or(path);
        self.working_directory.join(plain)
    }
}

/// The adapters, those without any address too.
fn adapters() -> io::Result<Vec<Adapter>> {
    let mut adapters: Vec<Adapter> = Vec::new();
    for interface in if_addrs::get_if_addrs()? {
        let is_up = interface.is_oper_up();
        let known = adapters.iter().position(|adapter| adapter.name == interface.name);
        let place = known.unwrap_or_else(|| {
            let name = interface.name.clone();
            adapters.push(Adapter { name, addresses: Vec::new(), addresses6: Vec::new(), is_up });
            adapters.len() - 1
        });
        if let if_addrs::IfAddr::V4(address) = &interface.addr
            && let IpAddr::V4(own) = interface.ip()
            && let Ok(address) = Ipv4Net::with_netmask(own, address.netmask)
        {
            adapters[place].addresses.push(address);
        }
        if let if_addrs::IfAddr::V6(address) = &interface.addr
            && let Ok(address) = Ipv6Net::with_netmask(address.ip, address.netmask)
        {
            adapters[place].addresses6.push(address);
        }
    }
    for name in listed(Path::new("/sys/class/net")) {
        if adapters.iter().all(|adapter| adapter.name != name) {
            let addresses6 = Vec::new();
            adapters.push(Adapter { name, addresses: Vec::new(), addresses6, is_up: false });
        }
    }
    Ok(adapters)
}

/// The names in a directory; none if there is no such directory.
fn listed(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The home directory of a user in the list of users (passwd(5)).
fn home_of(user: u32, users: &str) -> Option<PathBuf> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let number: u32 = fields.nth(2)?.parse().ok()?;
        let home = fields.nth(2)?;
        (number == user && !home.is_empty()).then(|| PathBuf::from(home))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_of_a_user_is_the_sixth_field() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:33::/var/www:/bin/false\n";
        assert_eq!(home_of(33, users), Some("/var/www".into()));
        assert_eq!(home_of(0, users), Some("/root".into()));
        assert_eq!(home_of(7, users), None);
    }

    #[test]
    fn this_machine_has_the_loopback_adapter_with_its_mask() {
        let host = Host::read().expect("the system says");
        let loopback = host.adapters.iter().find(|adapter| adapter.name == "lo").expect("lo");
        assert_eq!(loopback.addresses[0], "127.0.0.1/8".parse().expect("a network"));
        assert!(loopback.is_up);
    }

    #[test]
    fn a_relative_path_begins_at_the_working_directory() {
        let host = Host { working_directory: "/srv/boot".into(), ..Host::default() };
        assert_eq!(host.absolute("./kernel"), PathBuf::from("/srv/boot/kernel"));
        assert_eq!(host.absolute("/boot/kernel"), PathBuf::from("/boot/kernel"));
    }
}
