//! What machines are told by DHCP over what their network says: of one machine, or
//! of all that are of a kind.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Architecture, DhcpOptions, LeaseTimes, Machine, Tags, Usual};

/// What is told instead of what the network says, or besides it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overlay {
    /// Options by their codes.
    pub options: DhcpOptions,
    /// For how long an address is the machine's; as in its network if nothing is said.
    pub times: Option<LeaseTimes>,
}

impl Usual for Overlay {
    const USUAL: &'static Self = &Self { options: DhcpOptions::NONE, times: None };
}

impl Overlay {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What both say, and where they contradict, this one.
    #[must_use]
    pub fn over(&self, below: &Self) -> Self {
        let mut options = below.options.clone();
        self.options.iter().for_each(|(code, value)| options.set(code, value.to_vec()));
        Self { options, times: self.times.or(below.times) }
    }
}

/// Which machines something is said of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineKind {
    /// Machines of this architecture; of any, also an unknown one, without it.
    pub architecture: Option<Architecture>,
    /// Machines on this network or one inside of it; on any without it.
    pub network: Option<IpNet>,
    /// Machines with all of these labels.
    pub labels: Tags,
}

impl MachineKind {
    /// Whether it is said of this machine, on this network.
    #[must_use]
    pub fn is_for(
        &self,
        architecture: Option<Architecture>,
        (machine, network): (Option<&Machine>, Option<IpNet>),
    ) -> bool {
        let has = |(name, value): (&String, &String)| {
            machine.is_some_and(|machine| machine.labels.get(name) == Some(value))
        };
        self.architecture.is_none_or(|one| architecture == Some(one))
            && self.network.is_none_or(|mine| network.is_some_and(|one| mine.contains(&one)))
            && self.labels.iter().all(has)
    }
}

/// What all machines of a kind are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Which machines.
    pub kind: MachineKind,
    /// What they are told.
    pub overlay: Overlay,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mac, Seconds, Timestamp, testing};

    fn overlay(options: &[(u8, u8)], lease: Option<u32>) -> Overlay {
        let mut all = DhcpOptions::default();
        options.iter().for_each(|(code, value)| all.set(*code, vec![*value]));
        Overlay { options: all, times: lease.map(|lease| LeaseTimes::of(Seconds(lease))) }
    }

    #[test]
    fn what_is_said_above_holds_and_what_is_not_said_there_is_as_below() {
        let below = overlay(&[(1, 1), (2, 1)], Some(60));
        let above = overlay(&[(2, 2), (3, 2)], None);
        assert_eq!(above.over(&below), overlay(&[(1, 1), (2, 2), (3, 2)], Some(60)));
        assert_eq!(below.over(&above), overlay(&[(1, 1), (2, 1), (3, 2)], Some(60)));
        assert!(Overlay::default().is_empty() && !overlay(&[], Some(60)).is_empty());
    }

    #[test]
    fn each_condition_must_hold_and_what_is_unknown_fits_none() {
        let labels = testing::tags(&[("role", "db")]);
        let mac = Mac::new([2, 0, 0, 0, 0, 1]);
        let labelled = Machine { labels: labels.clone(), ..testing::held(mac, Timestamp(1)) };
        let network = |text: &str| Some(text.parse::<IpNet>().expect("a network"));
        let kind = MachineKind {
            architecture: Some(Architecture::Bios),
            network: network("10.1.0.0/16"),
            labels,
        };
        let (bios, here) = (Some(Architecture::Bios), network("10.1.2.0/24"));
        assert!(kind.is_for(bios, (Some(&labelled), here)));
        assert!(!kind.is_for(None, (Some(&labelled), here)));
        assert!(!kind.is_for(Some(Architecture::X64Uefi), (Some(&labelled), here)));
        assert!(!kind.is_for(bios, (None, here)));
        for elsewhere in [network("10.2.0.0/24"), network("10.0.0.0/8"), None] {
            assert!(!kind.is_for(bios, (Some(&labelled), elsewhere)));
        }
        assert!(MachineKind::default().is_for(None, (None, None)));
    }

    #[test]
    fn a_row_of_a_machine_keeps_it() {
        let overlay = overlay(&[(3, 7), (254, 9)], Some(60));
        let row = serde_json::to_string(&overlay).expect("JSON");
        assert_eq!(serde_json::from_str::<Overlay>(&row).expect(&row), overlay);
        assert_eq!(serde_json::from_str::<Overlay>("{}").expect("empty"), Overlay::default());
    }
}
