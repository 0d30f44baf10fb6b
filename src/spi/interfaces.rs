//! Which interfaces of InfraKit this plugin speaks, in which versions and with
//! which methods. The handshake, `/info/api.json` and the dispatcher's names all
//! follow from this table. Pure.

/// An interface of InfraKit, as `pkg/spi/*/spi.go` there has it.
pub(super) struct Interface {
    pub(super) name: &'static str,
    /// The newest first; the same methods in all of them.
    pub(super) versions: &'static [&'static str],
    /// With the interface's name, in alphabetical order.
    pub(super) methods: &'static [&'static str],
}

/// All that are spoken: Instance in the version of InfraKit's last state, of June
/// 2017, and of release 0.5; Flavor in those of the first and the last.
pub(super) const INTERFACES: &[Interface] = &[
    Interface {
        name: "Instance",
        versions: &["0.6.1", "0.6.0", "0.5.0"],
        methods: &[
            "Instance.DescribeInstances",
            "Instance.Destroy",
            "Instance.Label",
            "Instance.Provision",
            "Instance.Validate",
        ],
    },
    Interface {
        name: "Flavor",
        versions: &["0.1.1", "0.1.0"],
        methods: &["Flavor.Drain", "Flavor.Healthy", "Flavor.Prepare", "Flavor.Validate"],
    },
    Interface { name: "Event", versions: &["0.1.1"], methods: &["Event.List"] },
    Interface {
        name: "Metadata",
        versions: &["0.1.1"],
        methods: &["Metadata.Get", "Metadata.Keys"],
    },
];

/// The methods that are of no interface: the handshake, and what is our own.
const OTHERS: [&str; 11] = [
    "Handshake.Hello",
    "Handshake.Implements",
    "Handshake.Types",
    "Machine.Conflicts",
    "Machine.Forget",
    "Machine.Free",
    "Machine.Join",
    "Machine.Label",
    "Machine.List",
    "Machine.SetAside",
    "Machine.Split",
];

/// The name of every method that there is.
pub(super) fn methods() -> Vec<&'static str> {
    let of_interfaces = INTERFACES.iter().flat_map(|interface| interface.methods);
    OTHERS.iter().chain(of_interfaces).copied().collect()
}

/// Every interface in every version.
pub(super) fn versions() -> impl Iterator<Item = (&'static Interface, &'static str)> {
    INTERFACES
        .iter()
        .flat_map(|interface| interface.versions.iter().map(move |version| (interface, *version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_named_after_their_interface_and_in_order() {
        for Interface { name, versions, methods } in INTERFACES {
            assert!(!versions.is_empty() && methods.is_sorted(), "{name}");
            let start = format!("{name}.");
            assert!(methods.iter().all(|method| method.starts_with(&start)), "{methods:?}");
        }
    }
}
