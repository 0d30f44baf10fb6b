//! The rows of IPv6.

use super::{Description, Form, Setting};

/// In the order of the enum.
pub(super) const IPV6: &[Description] = &[
    Description {
        setting: Setting::EnableDhcp6,
        name: "enable-dhcp6",
        ancestral: None,
        form: Form::Switch,
        heading: "IPv6",
        help: "Answers DHCPv6; needs --adapter. TFTP and HTTP are then served over IPv6, too",
    },
    Description {
        setting: Setting::Address6,
        name: "address6",
        ancestral: None,
        form: Form::Value("IP"),
        heading: "IPv6",
        help: "Our own IPv6 address [default: the adapter's first that is not of the link alone]",
    },
    Description {
        setting: Setting::Subnet6,
        name: "subnet6",
        ancestral: None,
        form: Form::Value("NET,..."),
        heading: "IPv6",
        help: "The IPv6 networks that are served, also behind relays [default: that of --address6]",
    },
    Description {
        setting: Setting::Range6,
        name: "range6",
        ancestral: None,
        form: Form::Value("IP-IP,..."),
        heading: "IPv6",
        help: "The first and last IPv6 address to give, a range for each network; else none is given",
    },
    Description {
        setting: Setting::Dns6,
        name: "dns6",
        ancestral: None,
        form: Form::Value("IP,..."),
        heading: "IPv6",
        help: "The IPv6 name servers that machines are told [default: none]",
    },
    Description {
        setting: Setting::Search6,
        name: "search6",
        ancestral: None,
        form: Form::Value("DOMAIN,..."),
        heading: "IPv6",
        help: "The domains that machines look names up in [default: none]",
    },
    Description {
        setting: Setting::Ntp6,
        name: "ntp6",
        ancestral: None,
        form: Form::Value("IP,..."),
        heading: "IPv6",
        help: "The IPv6 time servers that machines are told [default: none]",
    },
    Description {
        setting: Setting::Dhcp6Port,
        name: "dhcp6-port",
        ancestral: None,
        form: Form::Value("PORT"),
        heading: "IPv6",
        help: "The port of the DHCPv6 server; machines have the one before it [default: 547]",
    },
];
