//! What can be wrong with a configuration, and what is worth a remark.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::model::InvalidRate;

/// Something that must be put right first.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct Problem {
    /// The setting as it was written, where it was written.
    pub place: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// Everything that must be put right first; one line each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.0.iter().enumerate() {
            let line_break = if place == 0 { "" } else { "\n" };
            write!(formatter, "{line_break}error: {problem}")?;
        }
        Ok(())
    }
}

/// What can be wrong with a setting.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each is documented by its message")]
pub enum Fault {
    #[error("is needed {because}")]
    Missing { because: &'static str },
    #[error("is empty")]
    Empty,
    #[error("is neither true nor false")]
    NotASwitch,
    #[error("is not a whole number from {least} to {most}")]
    NotANumber { least: u32, most: u32 },
    #[error("{0}")]
    Rate(InvalidRate),
    #[error("`{text}` is not an IPv4 address, such as 192.168.0.1")]
    NotAnAddress { text: String },
    #[error("{address} is no machine's address; name the one that machines reach")]
    NoMachine { address: Ipv4Addr },
    #[error("is not one of {known}")]
    NotOneOf { known: &'static str },
    #[error("there is no such adapter; there are {}", list(known))]
    UnknownAdapter { known: Vec<String> },
    #[error(
        "the adapter has no IPv4 address; give it one first: ip address add ADDRESS/BITS dev {adapter}"
    )]
    AdapterWithoutAddress { adapter: String },
    #[error("is not an address of {of}, which has {}", list(known))]
    NotOurs { of: String, known: Vec<Ipv4Addr> },
    #[error("{address} is not in {network}, the network of the adapter")]
    OutsideNetwork { address: Ipv4Addr, network: Ipv4Net },
    #[error("{count} addresses from {first} on end at {last}, outside of {network}")]
    RangeLeavesNetwork { first: Ipv4Addr, last: Ipv4Addr, count: u32, network: Ipv4Net },
    #[error("{count} addresses from {first} on go beyond 255.255.255.255")]
    RangeRollsOver { first: Ipv4Addr, count: u32 },
    #[error("{address}, the network's own or broadcast address, would be given to a machine")]
    NoHost { address: Ipv4Addr },
    #[error("{address} is our own address; start behind it")]
    StartsAtServer { address: Ipv4Addr },
    #[error("every address of the range belongs to the server, the router or a name server")]
    NothingLeft,
    #[error("`{text}` is not an IPv6 address of a machine, such as fd00::1")]
    NotAnAddress6 { text: String },
    #[error("`{text}` is not an IPv6 network, such as fd00::/64")]
    NotANetwork6 { text: String },
    #[error("`{text}` is not a first and a last IPv6 address, such as fd00::100-fd00::1ff")]
    NotARange6 { text: String },
    #[error("it has more than {most} addresses, which are not kept in memory")]
    Range6TooLarge { most: u32 },
    #[error("{first}-{last} is in none of the networks of --subnet6")]
    Range6Outside { first: Ipv6Addr, last: Ipv6Addr },
    #[error("{network} has a range already")]
    SecondRange6 { network: Ipv6Net },
    #[error("{network} overlaps with another one")]
    Overlap6 { network: Ipv6Net },
    #[error("`{text}` is no domain, such as example.org")]
    NotADomain { text: String },
    #[error(
        "the adapter {adapter} has no IPv6 address but that of the link; give it one first: ip address add fd00::1/64 dev {adapter}"
    )]
    AdapterWithoutAddress6 { adapter: String },
    #[error("is not an address of {of}, which has {}", list(known))]
    NotOurs6 { of: String, known: Vec<Ipv6Addr> },
    #[error("overlaps {other}")]
    Overlaps { other: String },
    #[error("{other} has this adapter, too; machines on it could be of either")]
    SameAdapter { other: String },
    #[error("is no network; {network} is the one of this address")]
    NotANetwork { network: Ipv4Net },
    #[error("the adapter has no address in {network}, only {}", list(known))]
    AdapterElsewhere { network: Ipv4Net, known: Vec<Ipv4Addr> },
    #[error("is not all in {network}")]
    OutsideOf { network: Ipv4Net },
    #[error("the range contains {address}, {whose}")]
    RangeHas { address: Ipv4Addr, whose: &'static str },
    #[error("{address} may be given to a machine: it is in a range")]
    GivenAway { address: Ipv4Addr },
    #[error("has {count} addresses to give in all; {most} are possible")]
    TooManyAddresses { count: u64, most: u64 },
    #[error("{renew}, {rebind} and lease-time {lease}: each must be shorter than the next")]
    Times { renew: String, rebind: String, lease: u32 },
    #[error("cannot be set by its number: {instead}")]
    OptionElsewhere { instead: &'static str },
    #[error("has no bytes, more than 1024, or an option inside with more than 255")]
    OptionLength,
    #[error(
        "there are {given} of 3 arguments; KERNEL, INITRD and CMDLINE belong together, and CMDLINE is one argument in quotes"
    )]
    Arguments { given: usize },
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("{reason}")]
    Cmdline { reason: String },
    #[error("names a socket, so it must not {reason}")]
    Name { reason: String },
    #[error("is not an address and a port, such as 127.0.0.1:24864")]
    NotASocketAddress,
    #[error("can be reached by other machines, so --listen-token-file is needed")]
    OpenListen,
    #[error("{path} holds no token: it must be one line of at least 16 characters, of letters, digits and such signs as stand for themselves in a URL, so no `/`, `%`, `?`, `#` and no blank", path = path.display())]
    Token { path: PathBuf },
    #[error("is the port of {other}, too")]
    SamePort { other: String },
    #[error("contradicts {other}, which means --dhcp=server")]
    Contradicts { other: String },
    #[error("is no network; {network} is the one of this address")]
    NotTheNetwork { network: IpNet },
    #[error("no network that is served is in it; there are {}", list(known))]
    NotServed { known: Vec<IpNet> },
    #[error("is only a part of {network}; a rule is about whole networks")]
    PartOfANetwork { network: IpNet },
    #[error("is never reached: {other} is about all of its machines")]
    Unreachable { other: String },
    #[error("belongs to then = \"image\", not to \"{then}\"")]
    NoImage { then: &'static str },
    #[error("machines of the pool cannot be ignored; set them aside, or leave this line out")]
    IgnoresThePool,
    #[error("there is no home directory to default to")]
    NoHome,
    #[error("{reason}")]
    Toml { reason: String },
    #[error("{reason}")]
    Inventory { reason: String },
    #[error("{reason}")]
    Loader { reason: String },
}

/// Something that works, but that a person may not have meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// It may well not work.
    Warning(String),
    /// It works, but otherwise than one might think.
    Note(String),
}

impl fmt::Display for Remark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warning(text) => write!(formatter, "warning: {text}"),
            Self::Note(text) => write!(formatter, "note: {text}"),
        }
    }
}

fn list<T: fmt::Display>(things: &[T]) -> String {
    if things.is_empty() {
        return "none".to_owned();
    }
    things.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
