use proptest::prelude::*;

use super::*;
use crate::{
    dhcp6::{
        request::{Route, parse},
        testing::*,
    },
    model::{Architecture, BootMode, Instance, Mac, Stage, testing},
};

fn silence(answer: &Answer) -> Why {
    match answer {
        Answer::Silence(why) => *why,
        Answer::Reply(reply) => panic!("answered: {reply:?}"),
    }
}

/// The one association of a reply.
fn granted(reply: &Reply) -> &Granted {
    let [granted] = reply.associations.as_slice() else { panic!("{reply:?}") };
    granted
}

#[test]
fn a_machine_keeps_one_ipv6_address_along_its_whole_boot() {
    let mut lab = Lab::new();
    let as_firmware = lab.lease(card(1), pxe());
    // iPXE asks with another DUID and another IAID.
    let options = vec![(1, opaque(77)), ia_na(99, &[])];
    let solicit = packet_of(1, &[options, ipxe()].concat());
    let asked = parse(&solicit, (link_local(card(1)), To::Group)).expect("a Solicit");
    assert_eq!(address(&reply(lab.hear(&asked))), as_firmware);
    assert_eq!(lab.lease(card(1), vec![]), as_firmware);
    assert_eq!(lab.state.addresses6.leases().count(), 1);
    assert_eq!(lab.state.address6_of(card(1), lab.now), Some(as_firmware));
}

#[test]
fn two_clients_are_never_offered_one_address_and_a_full_range_says_so() {
    let mut lab = Lab::new();
    assert_eq!(address(&lab.solicit(card(1), &[], vec![])), FIRST);
    assert_eq!(address(&lab.solicit(card(2), &[FIRST], vec![])), SECOND);
    assert_eq!(address(&lab.solicit(card(1), &[], vec![])), FIRST, "and the offer stays the same");
    let full = lab.solicit(card(3), &[], pxe());
    assert_eq!(granted(&full).status, Some(Status::NoAddressAvailable));
    assert_eq!(lab.state.machines.all().count(), 0, "nor is it written down");
    lab.after(61);
    assert_eq!(address(&lab.solicit(card(3), &[], vec![])), FIRST);
}

#[test]
fn a_client_in_a_hurry_has_its_address_at_once() {
    let mut lab = Lab::new();
    let rapid = request(card(1), 1, vec![(14, vec![]), ia_na(1, &[])]);
    let answered = reply(lab.hear(&rapid));
    assert_eq!((answered.kind, address(&answered)), (ReplyKind::Rapid, FIRST));
    assert_eq!(lab.state.machine_at(FIRST, lab.now), Some(card(1)));
}

#[test]
fn only_one_association_of_a_client_has_an_address() {
    let mut lab = Lab::new();
    let options = vec![ia_na(1, &[]), ia_na(2, &[])];
    let answered = reply(lab.hear(&request(card(1), 1, options)));
    let given: Vec<_> = answered.associations.iter().map(|one| (one.address, one.status)).collect();
    assert_eq!(given, [(Some(FIRST), None), (None, Some(Status::NoAddressAvailable))]);
}

#[test]
fn an_address_of_another_link_is_refused_and_confirmed_only_here() {
    let mut lab = Lab::new();
    let refused = lab.tell(card(1), 3, there(0x100), vec![]);
    assert_eq!(granted(&refused).status, Some(Status::NotOnLink));
    let confirm = |lab: &mut Lab, addresses: &[Ipv6Addr]| {
        lab.hear(&request(card(1), 4, vec![ia_na(1, addresses)]))
    };
    assert_eq!(reply(confirm(&mut lab, &[here(7)])).status, Some(Status::Success));
    assert_eq!(reply(confirm(&mut lab, &[here(7), there(7)])).status, Some(Status::NotOnLink));
    assert_eq!(silence(&confirm(&mut lab, &[])), Why::NoAddress);
}

#[test]
fn a_renewal_lasts_as_long_as_a_new_lease_and_takes_what_is_not_its_own() {
    let mut lab = Lab::new();
    let own = lab.lease(card(1), vec![]);
    lab.after(3600);
    for kind in [5, 6] {
        let mut options = vec![ia_na(1, &[there(1), own])];
        options.extend((kind == 5).then(to_us));
        let renewed = reply(lab.hear(&request(card(1), kind, options)));
        assert_eq!(
            (granted(&renewed).address, granted(&renewed).gone.clone()),
            (Some(own), vec![there(1)])
        );
    }
    lab.after(7199);
    assert_eq!(lab.state.machine_at(own, lab.now), Some(card(1)));
}

#[test]
fn of_addresses_that_are_not_ours_a_renewal_hears_so_and_a_rebind_nothing() {
    let mut lab = Lab::new();
    lab.lease(card(2), vec![]);
    let foreign = here(0x999);
    let refused = lab.tell(card(1), 5, foreign, vec![]);
    assert_eq!(granted(&refused).status, Some(Status::NoBinding));
    let rebind = |lab: &mut Lab, named| lab.hear(&request(card(1), 6, vec![ia_na(1, &[named])]));
    assert_eq!(silence(&rebind(&mut lab, foreign)), Why::UnknownClient);
    // Another client has this one, and that one is of another link: no more of them.
    for bad in [FIRST, there(5)] {
        assert_eq!(granted(&reply(rebind(&mut lab, bad))).gone, [bad]);
    }
    // Forgotten by us, but free: it may stay.
    assert_eq!(address(&reply(rebind(&mut lab, SECOND))), SECOND);
}

#[test]
fn an_address_that_was_given_back_is_its_machine_s_while_it_loads_with_it() {
    let mut lab = Lab::new();
    let own = lab.lease(card(1), http());
    assert_eq!(lab.tell(card(1), 8, own, vec![]).status, Some(Status::Success));
    assert_eq!(lab.state.machine_at(own, lab.now), Some(card(1)), "iPXE goes on with it");
    assert_eq!(lab.state.address6_of(card(1), lab.now), None);
    lab.lease(card(2), vec![]);
    let full = lab.solicit(card(3), &[own], vec![]);
    assert_eq!(granted(&full).status, Some(Status::NoAddressAvailable));
    lab.after(15 * 60 + 1);
    assert_eq!(lab.state.machine_at(own, lab.now), None);
    assert_eq!(lab.lease(card(3), vec![]), own);
}

#[test]
fn the_older_association_of_firmware_does_not_give_back_the_address_of_the_newer() {
    let mut lab = Lab::new();
    let own = lab.lease(card(1), vec![]);
    let options = vec![to_us(), ia_na(2, &[own])];
    assert_eq!(address(&reply(lab.hear(&request(card(1), 3, options)))), own);
    let released = lab.tell(card(1), 8, own, vec![]);
    assert_eq!(granted(&released).status, Some(Status::NoBinding));
    assert_eq!(lab.state.address6_of(card(1), lab.now), Some(own));
}

#[test]
fn a_declined_ipv6_address_is_given_to_nobody_for_a_day() {
    let mut lab = Lab::new();
    let bad = lab.lease(card(1), vec![]);
    assert_eq!(lab.tell(card(1), 9, bad, vec![]).status, Some(Status::Success));
    assert_eq!(lab.state.machine_at(bad, lab.now), None);
    assert_eq!(lab.lease(card(1), vec![]), SECOND, "also not to who declined it");
    let full = lab.solicit(card(2), &[bad], vec![]);
    assert_eq!(granted(&full).status, Some(Status::NoAddressAvailable));
    lab.after(24 * 3600 + 1);
    assert_eq!(lab.lease(card(2), vec![]), SECOND, "it expired long before");
    assert_eq!(lab.lease(card(3), vec![]), FIRST);
}

#[test]
fn nobody_gives_back_or_declines_the_address_of_another() {
    let mut lab = Lab::new();
    let own = lab.lease(card(1), vec![]);
    for kind in [8, 9] {
        let answered = lab.tell(card(2), kind, own, vec![]);
        assert_eq!(granted(&answered).status, Some(Status::NoBinding));
        assert_eq!(lab.state.address6_of(card(1), lab.now), Some(own));
    }
}

#[test]
fn what_is_for_another_server_or_another_network_is_not_answered() {
    let mut lab = Lab::new();
    let options = vec![(2, opaque(8)), ia_na(1, &[FIRST])];
    for kind in [3, 5, 8, 9] {
        let answered = lab.hear(&request(card(1), kind, options.clone()));
        assert_eq!(silence(&answered), Why::AnotherServer);
    }
    let solicit = packet_of(1, &vec![(1, opaque(1)), ia_na(1, &[])]);
    let elsewhere: Ipv6Addr = "fd09::1".parse().expect("an address");
    let relayed = through_relay((0, elsewhere, OPAQUE), &solicit, vec![]);
    let asked = parse(&relayed, (here(2), To::Us)).expect("a Solicit");
    assert_eq!(silence(&lab.hear(&asked)), Why::AnotherNetwork(elsewhere));
    assert_eq!(lab.state.addresses6.leases().count(), 0);
}

#[test]
fn who_speaks_to_us_alone_is_told_to_ask_all_servers() {
    let mut lab = Lab::new();
    for kind in [3, 5, 8, 9] {
        let mut alone = request(card(1), kind, vec![to_us(), ia_na(1, &[FIRST])]);
        alone.route.to = To::Us;
        assert_eq!(reply(lab.hear(&alone)).status, Some(Status::UseMulticast), "{kind}");
    }
    for kind in [1, 4, 6] {
        let mut alone = request(card(1), kind, vec![ia_na(1, &[FIRST])]);
        alone.route = Route { to: To::Us, relays: vec![] };
        assert_eq!(silence(&lab.hear(&alone)), Why::Unicast, "{kind}");
    }
    assert_eq!(lab.state.addresses6.leases().count(), 0);
}

#[test]
fn without_a_range_a_machine_is_told_what_to_boot_and_given_no_address() {
    let mut lab = Lab::new();
    let through = |inner: Vec<u8>| {
        let link = "fd00:2::1".parse().expect("an address");
        let packet = through_relay((0, link, link_local(card(1))), &inner, vec![]);
        parse(&packet, (here(2), To::Us)).expect("a request")
    };
    let solicit = through(packet_of(1, &vec![(1, opaque(1)), ia_na(1, &[])]));
    assert_eq!(silence(&lab.hear(&solicit)), Why::NoRange);
    let information = through(packet_of(11, &[vec![(1, opaque(1))], ipxe()].concat()));
    let script = "http://[fd00::1]/ipxe/52-54-00-aa-01-01.ipxe".to_owned();
    assert_eq!(reply(lab.hear(&information)).boot, Ok(BootFile::Script(script)));
    assert!(lab.state.machines.find(card(1)).is_some());
}

#[test]
fn who_is_not_told_by_a_card_has_an_address_and_boots_nothing() {
    let mut lab = Lab::new();
    let from_nowhere = |number: u8, id: u32| {
        let named = vec![(1, opaque(number)), ia_na(id, &[])];
        let packet = packet_of(1, &[named, pxe(), vec![(14, vec![])]].concat());
        parse(&packet, (OPAQUE, To::Group)).expect("a Solicit")
    };
    let answered = reply(lab.hear(&from_nowhere(1, 1)));
    assert_eq!((address(&answered), answered.boot), (FIRST, Err(NoBootFile::NoMac)));
    assert_eq!(lab.state.machines.all().count(), 0);
    let second_card = reply(lab.hear(&from_nowhere(1, 2)));
    assert_eq!(address(&second_card), SECOND, "each card of a client has its own");
}

#[test]
fn only_what_wants_to_boot_over_ipv6_is_a_machine() {
    let mut lab = Lab::new();
    lab.lease(card(1), vec![]);
    assert_eq!(lab.state.machines.all().count(), 0);
    lab.lease(card(2), http());
    let machine = lab.state.machines.find(card(2)).expect("seen");
    assert_eq!(machine.architecture, Some(Architecture::X64Uefi));
    assert_eq!(machine.stage, Some(Stage::Firmware));
    assert_eq!(machine.uuid.as_deref(), Some("02020202-0202-0202-0202-020202020202"));
}

#[test]
fn a_machine_that_boots_from_its_disk_and_one_without_a_program_are_told_nothing() {
    let mut lab = Lab::new();
    let never = Instance { boot: BootMode::Never, image: None, ..testing::instance(1, card(1)) };
    lab.state.apply(&Change::Instance(never));
    assert_eq!(lab.solicit(card(1), &[], pxe()).boot, Err(NoBootFile::OwnDisk));
    let ia32 = vec![(16, class("PXEClient")), (61, vec![0, 6])];
    let answered = lab.solicit(card(2), &[], ia32);
    assert_eq!(answered.boot, Err(NoBootFile::NoProgram("ia32-uefi")));
    lab.settings.tftp = None;
    assert_eq!(lab.solicit(card(2), &[], pxe()).boot, Err(NoBootFile::NoTftp));
    lab.settings.authority = None;
    assert_eq!(lab.solicit(card(2), &[], http()).boot, Err(NoBootFile::NoHttp));
}

/// A step of a random conversation: which client, what it says, of which address.
fn step() -> impl Strategy<Value = (u8, u8, u16, u64)> {
    let kind = prop_oneof![Just(1u8), Just(3), Just(5), Just(6), Just(8), Just(9), Just(14)];
    (1u8..5, kind, 0xfeu16..0x104, 0u64..4000)
}

proptest! {
    /// Whatever clients say, and whenever: no address has two owners, and none
    /// outside of the range is given.
    #[test]
    fn no_ipv6_address_has_two_owners(steps in proptest::collection::vec(step(), 1..80)) {
        let mut lab = Lab::new();
        let mut owners: std::collections::HashMap<Ipv6Addr, (Mac, Timestamp)> = Default::default();
        for (number, kind, last, pause) in steps {
            lab.after(pause);
            let (mac, named) = (card(number), here(last));
            let mut options = vec![ia_na(u32::from(last), &[named])];
            options.extend([3, 5, 8, 9].contains(&kind).then(to_us));
            // A Solicit with option 14.
            options.extend((kind == 14).then(|| (14, vec![])));
            let asked = request(mac, if kind == 14 { 1 } else { kind }, options);
            let Answer::Reply(answered) = lab.hear(&asked) else { continue };
            if matches!(kind, 8 | 9) && answered.associations.is_empty() {
                owners.remove(&named);
            }
            if answered.kind == ReplyKind::Advertise {
                continue;
            }
            for given in answered.associations.iter().filter_map(|one| one.address) {
                prop_assert!([FIRST, SECOND].contains(&given));
                let until = lab.now.after(lab.settings.lease_time.into());
                if let Some((owner, expires)) = owners.insert(given, (mac, until)) {
                    prop_assert!(owner == mac || expires <= lab.now, "{given} has two owners");
                }
                owners.retain(|other, (owner, _)| *other == given || *owner != mac);
            }
        }
    }
}
