use proptest::prelude::*;

use super::*;
use crate::{
    boot::{
        Rules,
        rules::{Rule, Scope, Then, Whose},
    },
    dhcp::testing::*,
    model::{Architecture, Change, Lease, Machine, Seconds, Stage, Treatment},
};

/// No address of the network that is ours is left.
const FULL: Why = Why::PoolIsFull(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 24));

fn after(lab: &mut Lab, seconds: u64) {
    lab.now = Timestamp(lab.now.0 + seconds * 1000);
}

fn silence(answer: &Answer) -> Why {
    match answer {
        Answer::Silence(why) => *why,
        other => panic!("not silent: {other:?}"),
    }
}

#[test]
fn a_machine_keeps_one_address_along_its_whole_boot() {
    let mut lab = Lab::new();
    let as_firmware = lab.lease(card(1), UEFI);
    assert_eq!(lab.lease(card(1), IPXE), as_firmware);
    assert_eq!(lab.lease(card(1), HOST), as_firmware);
    assert_eq!(lab.state.addresses.leases().count(), 1);
}

#[test]
fn two_machines_are_never_offered_one_address() {
    let mut lab = Lab::new();
    let first = reply(lab.discover(card(1), UEFI)).kind;
    let second = reply(lab.discover(card(2), UEFI)).kind;
    assert_eq!((first, second), (ReplyKind::Offer(FIRST), ReplyKind::Offer(SECOND)));
    assert_eq!(reply(lab.discover(card(1), UEFI)).kind, first, "and the offer stays the same");
    assert_eq!(silence(&lab.discover(card(3), UEFI)), FULL);
}

#[test]
fn an_expired_lease_is_given_to_the_next_machine_and_acknowledged() {
    let mut lab = Lab::new();
    lab.lease(card(1), HOST);
    lab.lease(card(2), HOST);
    after(&mut lab, 7201);
    assert_eq!(lab.lease(card(3), HOST), FIRST, "the one that expired first");
}

#[test]
fn a_machine_that_comes_back_finds_its_address_while_nobody_else_needs_it() {
    let mut lab = Lab::new();
    lab.lease(card(1), HOST);
    lab.lease(card(2), HOST);
    after(&mut lab, 100_000);
    assert_eq!(lab.lease(card(2), HOST), SECOND);
}

#[test]
fn a_lapsed_offer_is_still_acknowledged_but_never_twice() {
    let mut lab = Lab::new();
    let offered = reply(lab.discover(card(1), UEFI)).kind.yiaddr().expect("an offer");
    after(&mut lab, 61);
    lab.lease(card(2), HOST);
    lab.lease(card(3), HOST);
    assert_eq!(reply(lab.select(card(1), offered, UEFI)).kind, ReplyKind::Refuse);

    let mut lab = Lab::new();
    let offered = reply(lab.discover(card(1), UEFI)).kind.yiaddr().expect("an offer");
    after(&mut lab, 600);
    assert_eq!(reply(lab.select(card(1), offered, UEFI)).kind, ReplyKind::Acknowledge(offered));
}

#[test]
fn one_machine_never_holds_two_addresses() {
    let mut lab = Lab::new();
    lab.lease(card(1), HOST);
    assert_eq!(reply(lab.select(card(1), SECOND, HOST)).kind, ReplyKind::Acknowledge(SECOND));
    let bound =
        |lab: &Lab| lab.state.addresses.leases().filter(|lease| lease.is_bound(lab.now)).count();
    assert_eq!(bound(&lab), 1);
    assert_eq!(lab.lease(card(2), HOST), FIRST, "the one given up is free");
}

#[test]
fn a_machine_that_moves_to_the_address_of_its_instance_gives_up_the_one_it_had() {
    let mut lab = Lab::new();
    assert_eq!(lab.lease(card(1), IPXE), FIRST);
    let reserved = Ipv4Addr::new(10, 0, 0, 50);
    lab.state.apply(&Change::Instance(instance(card(1), Some(reserved))));
    // While it is offered the new one it still has the old one.
    lab.discover(card(1), HOST);
    assert_eq!(lab.state.address_of(card(1), lab.now), Some(FIRST));
    assert_eq!(lab.lease(card(1), HOST), reserved);
    assert_eq!(lab.state.address_of(card(1), lab.now), Some(reserved));
    assert!(lab.state.is_open_to(card(2), FIRST, lab.now));
}

#[test]
fn a_request_to_another_server_is_never_answered() {
    let mut lab = Lab::new();
    lab.lease(card(1), UEFI);
    let named = [(54, &OTHER_SERVER.octets()[..]), (50, &FIRST.octets()[..])];
    for message_type in [3, 4] {
        let answer = lab.hear(&request(card(1), message_type, &named));
        assert_eq!(silence(&answer), Why::AnotherServer(OTHER_SERVER));
    }
    assert!(lab.state.machine_at(FIRST, lab.now).is_some(), "and nothing changed");
}

#[test]
fn a_client_that_is_not_ours_is_never_refused() {
    let mut lab = Lab::new();
    lab.lease(card(2), HOST);
    for address in [FIRST, SECOND, [10, 0, 0, 7].into(), [192, 168, 1, 1].into()] {
        let reboot = request(card(1), 3, &[(50, &address.octets())]);
        assert_eq!(silence(&lab.hear(&reboot)), Why::UnknownClient, "{address}");
        let mut renewal = request(card(1), 3, &[(50, &address.octets())]);
        renewal.kind = Kind::Extend { address };
        assert_eq!(silence(&lab.hear(&renewal)), Why::UnknownClient, "{address}");
    }
}

#[test]
fn a_client_that_chose_another_server_is_never_refused_for_our_unused_offer() {
    let elsewhere = Ipv4Addr::new(10, 0, 0, 200);
    let asks = |lab: &mut Lab| {
        let mut asked = request(card(1), 3, &[(50, &elsewhere.octets())]);
        for kind in [Kind::Reboot { address: elsewhere }, Kind::Extend { address: elsewhere }] {
            asked.kind = kind;
            assert_eq!(silence(&lab.hear(&asked)), Why::UnknownClient, "{kind:?}");
        }
    };
    let mut lab = Lab::new();
    lab.discover(card(1), HOST);
    asks(&mut lab);
    after(&mut lab, 100_000);
    asks(&mut lab);

    // Nor for a lease of ours that ended long ago.
    let mut lab = Lab::new();
    lab.lease(card(1), HOST);
    after(&mut lab, 100_000);
    asks(&mut lab);

    // Nor for an address that it gave back to us before.
    let mut lab = Lab::new();
    let had = lab.lease(card(1), HOST);
    let mut release = request(card(1), 1, HOST);
    release.kind = Kind::Release { server: Some(SERVER), address: had };
    assert_eq!(silence(&lab.hear(&release)), Why::Released);
    asks(&mut lab);
}

#[test]
fn a_machine_of_ours_that_asks_for_what_it_has_not_is_refused() {
    let mut lab = Lab::new();
    lab.lease(card(1), HOST);
    let reboot = request(card(1), 3, &[(50, &SECOND.octets())]);
    assert_eq!(reply(lab.hear(&reboot)).kind, ReplyKind::Refuse);
    let own = request(card(1), 3, &[(50, &FIRST.octets())]);
    assert_eq!(reply(lab.hear(&own)).kind, ReplyKind::Acknowledge(FIRST));
}

#[test]
fn a_renewal_lasts_as_long_as_a_new_lease() {
    let mut lab = Lab::new();
    lab.lease(card(1), HOST);
    after(&mut lab, 3600);
    let mut renewal = request(card(1), 3, &[(50, &FIRST.octets())]);
    renewal.kind = Kind::Extend { address: FIRST };
    assert_eq!(reply(lab.hear(&renewal)).kind, ReplyKind::Acknowledge(FIRST));
    after(&mut lab, 7199);
    assert_eq!(lab.state.machine_at(FIRST, lab.now), Some(card(1)));
}

#[test]
fn a_young_lease_is_acknowledged_for_what_is_left_of_it_and_not_written_again() {
    let mut lab = Lab::new();
    lab.lease(card(1), HOST);
    let written = *lab.state.addresses.lease(FIRST).expect("leased");
    let selects = request(card(1), 3, &[(54, &SERVER.octets()), (50, &FIRST.octets())]);
    let mut renews = request(card(1), 3, &[(50, &FIRST.octets())]);
    renews.kind = Kind::Extend { address: FIRST };
    for asked in [&selects, &renews] {
        after(&mut lab, 899);
        let acknowledged = reply(lab.hear(asked));
        assert_eq!(acknowledged.kind, ReplyKind::Acknowledge(FIRST));
        let until = lab.now.after(acknowledged.times.lease.into());
        assert_eq!(until, written.expires, "no longer than what is on disk");
        assert_eq!(lab.state.addresses.lease(FIRST), Some(&written));
    }
    after(&mut lab, 10);
    assert_eq!(reply(lab.hear(&renews)).times.lease, Seconds(7200), "it is no longer young");
    let written = lab.state.addresses.lease(FIRST).expect("leased");
    assert_eq!(written.expires, lab.now.after(Seconds(7200).into()));
}

#[test]
fn a_declined_address_is_given_to_nobody_for_a_day() {
    let mut lab = Lab::new();
    lab.lease(card(1), HOST);
    let named = [(54, &SERVER.octets()[..]), (50, &FIRST.octets()[..])];
    assert_eq!(silence(&lab.hear(&request(card(1), 4, &named))), Why::Declined);
    assert_eq!(lab.lease(card(1), HOST), SECOND, "also not to who declined it");
    assert_eq!(silence(&lab.discover(card(2), HOST)), FULL);
    after(&mut lab, 24 * 3600 + 1);
    assert_eq!(lab.lease(card(2), HOST), SECOND, "it expired long before");
    assert_eq!(lab.lease(card(3), HOST), FIRST);
}

#[test]
fn nobody_declines_or_releases_the_address_of_another() {
    let mut lab = Lab::new();
    lab.lease(card(1), HOST);
    let named = [(54, &SERVER.octets()[..]), (50, &FIRST.octets()[..])];
    assert_eq!(silence(&lab.hear(&request(card(2), 4, &named))), Why::NotItsOwn);
    let mut release = request(card(2), 4, &named);
    release.kind = Kind::Release { server: Some(SERVER), address: FIRST };
    assert_eq!(silence(&lab.hear(&release)), Why::NotItsOwn);
    assert_eq!(lab.state.machine_at(FIRST, lab.now), Some(card(1)));
}

#[test]
fn a_released_address_is_free_at_once_for_others() {
    let mut lab = Lab::new();
    lab.lease(card(1), HOST);
    lab.lease(card(2), HOST);
    let mut release = request(card(1), 1, HOST);
    release.kind = Kind::Release { server: Some(SERVER), address: FIRST };
    assert_eq!(silence(&lab.hear(&release)), Why::Released);
    assert_eq!(lab.lease(card(3), HOST), FIRST);
}

#[test]
fn an_inform_is_answered_without_an_address_and_changes_nothing() {
    let mut lab = Lab::new();
    let mut inform = request(card(1), 1, HOST);
    inform.kind = Kind::Inform { address: SECOND };
    assert_eq!(reply(lab.hear(&inform)).kind, ReplyKind::Inform);
    assert_eq!(lab.state.addresses.leases().count(), 0);
}

#[test]
fn a_relay_of_another_network_gets_no_address_of_ours() {
    let mut lab = Lab::new();
    let mut discover = request(card(1), 1, UEFI);
    discover.route.giaddr = [10, 9, 0, 1].into();
    assert_eq!(silence(&lab.hear(&discover)), Why::AnotherNetwork([10, 9, 0, 1].into()));
    discover.route.giaddr = [10, 0, 0, 5].into();
    assert_eq!(reply(lab.hear(&discover)).kind, ReplyKind::Offer(FIRST));
}

/// A lab that asks on the network before it offers.
fn probing() -> Lab {
    let mut lab = Lab::new();
    lab.settings.probe = true;
    lab
}

fn probe_of(address: Ipv4Addr, adapter: Option<&str>) -> Answer {
    Answer::Probe { address, adapter: adapter.map(str::to_owned) }
}

#[test]
fn an_address_is_offered_to_a_machine_for_the_first_time_only_when_nobody_answered_for_it() {
    let mut lab = probing();
    let discover = request(card(1), 1, HOST);
    assert_eq!(lab.hear(&discover), probe_of(FIRST, Some("eth0")));
    // Meanwhile it is nobody else's, and the machine itself asks in vain.
    assert_eq!(lab.hear(&request(card(2), 1, HOST)), probe_of(SECOND, Some("eth0")));
    assert_eq!(lab.hear(&discover), probe_of(FIRST, Some("eth0")));
    assert_eq!(silence(&lab.hear(&request(card(3), 1, HOST))), FULL);
    let offer = reply(lab.hear_knowing(&discover, Probed::Quiet(FIRST)));
    assert_eq!(offer.kind, ReplyKind::Offer(FIRST));
    // From now on it is known to be the machine's.
    assert_eq!(reply(lab.hear(&discover)).kind, ReplyKind::Offer(FIRST));
    assert_eq!(reply(lab.select(card(1), FIRST, HOST)).kind, ReplyKind::Acknowledge(FIRST));
    assert_eq!(reply(lab.hear(&discover)).kind, ReplyKind::Offer(FIRST));
}

#[test]
fn an_address_that_somebody_answers_for_is_set_aside_and_the_next_one_is_tried() {
    let mut lab = probing();
    lab.settings.decline_hold = std::time::Duration::from_secs(600);
    let discover = request(card(1), 1, HOST);
    let answered = Probed::Answered { address: FIRST, card: Some(card(9)) };
    lab.hear(&discover);
    assert_eq!(lab.hear_knowing(&discover, answered), Answer::InUse(FIRST));
    assert_eq!(lab.hear(&discover), probe_of(SECOND, Some("eth0")));
    // Who asked twice hears it twice, and nothing else is set aside.
    assert_eq!(lab.hear_knowing(&discover, answered), probe_of(SECOND, Some("eth0")));
    let offer = reply(lab.hear_knowing(&discover, Probed::Quiet(SECOND)));
    assert_eq!(offer.kind, ReplyKind::Offer(SECOND));
    assert_eq!(silence(&lab.hear(&request(card(2), 1, HOST))), FULL);
    after(&mut lab, 601);
    assert_eq!(lab.hear(&request(card(2), 1, HOST)), probe_of(SECOND, Some("eth0")));
    assert_eq!(lab.hear(&request(card(3), 1, HOST)), probe_of(FIRST, Some("eth0")), "again");
}

#[test]
fn a_machine_that_answers_for_its_own_address_gets_it() {
    let mut lab = probing();
    let discover = request(card(1), 1, HOST);
    lab.hear(&discover);
    let itself = Probed::Answered { address: FIRST, card: Some(card(1)) };
    assert_eq!(reply(lab.hear_knowing(&discover, itself)).kind, ReplyKind::Offer(FIRST));
}

#[test]
fn an_address_that_a_machine_lost_is_looked_at_again_where_its_card_can_be_seen() {
    let mut lab = probing();
    let here = Kind::Select { server: SERVER, address: FIRST };
    let mut select = request(card(1), 1, HOST);
    select.kind = here;
    lab.hear(&select);
    lab.hear(&remote(1, Kind::Select { server: REMOTE_SERVER, address: REMOTE_FIRST }));
    after(&mut lab, 7201);
    assert_eq!(lab.hear(&request(card(1), 1, HOST)), probe_of(FIRST, Some("eth0")));
    let far = reply(lab.hear(&remote(1, Kind::Discover { wanted: None })));
    assert_eq!(far.kind, ReplyKind::Offer(REMOTE_FIRST), "an echo says not whose it is");
    let stranger = lab.hear(&remote(2, Kind::Discover { wanted: None }));
    assert!(matches!(stranger, Answer::Probe { adapter: None, .. }), "{stranger:?}");
}

#[test]
fn what_was_found_out_of_an_address_says_nothing_of_another() {
    let mut lab = probing();
    let discover = request(card(1), 1, HOST);
    lab.hear(&discover);
    let reserved = Ipv4Addr::new(10, 0, 0, 50);
    lab.state.apply(&Change::Instance(instance(card(1), Some(reserved))));
    let next = lab.hear_knowing(&discover, Probed::Quiet(FIRST));
    assert_eq!(next, probe_of(reserved, Some("eth0")));
}

/// A request by the relay of the other network.
fn remote(number: u8, kind: Kind) -> Request {
    let mut asked = request(card(number), 1, HOST);
    asked.route.giaddr = REMOTE_RELAY;
    asked.kind = kind;
    asked
}

#[test]
fn each_network_has_its_own_addresses_and_its_own_end() {
    let mut lab = Lab::new();
    let offer = |lab: &mut Lab, number| {
        reply(lab.hear(&remote(number, Kind::Discover { wanted: Some(FIRST) })))
    };
    let first = offer(&mut lab, 1);
    assert_eq!(first.kind, ReplyKind::Offer(REMOTE_FIRST), "what it wished is of another network");
    assert_eq!((first.server, first.subnet.gateway), (REMOTE_SERVER, REMOTE_RELAY));
    offer(&mut lab, 2);
    let third = lab.hear(&remote(3, Kind::Discover { wanted: None }));
    assert!(matches!(silence(&third), Why::PoolIsFull(network) if network.contains(&REMOTE_FIRST)));
    assert_eq!(lab.lease(card(3), HOST), FIRST, "here is room");
}

#[test]
fn one_card_has_an_address_in_each_of_its_networks() {
    let mut lab = Lab::new();
    let here = lab.lease(card(1), HOST);
    let select = Kind::Select { server: REMOTE_SERVER, address: REMOTE_FIRST };
    let discover = Kind::Discover { wanted: None };
    assert_eq!(reply(lab.hear(&remote(1, discover))).kind, ReplyKind::Offer(REMOTE_FIRST));
    assert_eq!(reply(lab.hear(&remote(1, select))).kind, ReplyKind::Acknowledge(REMOTE_FIRST));
    for address in [here, REMOTE_FIRST] {
        assert_eq!(lab.state.machine_at(address, lab.now), Some(card(1)), "{address}");
    }
    assert_eq!(lab.state.address_of(card(1), lab.now), Some(REMOTE_FIRST), "the newest");
    assert_eq!(lab.lease(card(1), HOST), here, "and keeps each");
}

#[test]
fn a_renewal_that_comes_without_its_relay_is_granted() {
    let mut lab = Lab::new();
    let select = Kind::Select { server: REMOTE_SERVER, address: REMOTE_FIRST };
    lab.hear(&remote(1, select));
    let mut renewal = request(card(1), 1, HOST);
    renewal.kind = Kind::Extend { address: REMOTE_FIRST };
    renewal.route.ciaddr = REMOTE_FIRST;
    let renewed = reply(lab.hear(&renewal));
    assert_eq!(renewed.kind, ReplyKind::Acknowledge(REMOTE_FIRST));
    assert_eq!((renewed.server, renewed.subnet.server), (REMOTE_SERVER, REMOTE_SERVER));
}

#[test]
fn a_machine_that_moved_is_refused_its_old_address_and_a_stranger_is_not() {
    let mut lab = Lab::new();
    let here = lab.lease(card(1), HOST);
    let reboot = Kind::Reboot { address: here };
    assert_eq!(reply(lab.hear(&remote(1, reboot))).kind, ReplyKind::Refuse);
    assert_eq!(silence(&lab.hear(&remote(2, reboot))), Why::UnknownClient);
    assert_eq!(lab.state.machine_at(here, lab.now), Some(card(1)), "nothing was taken from it");
    // Nor does it get the address by choosing it there.
    let select = Kind::Select { server: REMOTE_SERVER, address: here };
    assert_eq!(reply(lab.hear(&remote(1, select))).kind, ReplyKind::Refuse);
}

#[test]
fn a_reservation_holds_in_its_own_network_only() {
    let mut lab = Lab::new();
    let reserved = Ipv4Addr::new(10, 0, 0, 50);
    lab.state.apply(&Change::Instance(instance(card(1), Some(reserved))));
    let select = Kind::Select { server: REMOTE_SERVER, address: REMOTE_FIRST };
    let discover = Kind::Discover { wanted: None };
    assert_eq!(reply(lab.hear(&remote(1, discover))).kind, ReplyKind::Offer(REMOTE_FIRST));
    assert_eq!(reply(lab.hear(&remote(1, select))).kind, ReplyKind::Acknowledge(REMOTE_FIRST));
    let extend = Kind::Extend { address: REMOTE_FIRST };
    assert_eq!(reply(lab.hear(&remote(1, extend))).kind, ReplyKind::Acknowledge(REMOTE_FIRST));
    assert_eq!(lab.lease(card(1), HOST), reserved);
}

#[test]
fn a_relay_that_stands_in_for_us_is_named_and_what_it_passes_on_is_ours() {
    let mut lab = Lab::new();
    let stand_in = Ipv4Addr::new(10, 7, 0, 3);
    let by_it = |kind| {
        let mut asked = remote(1, kind);
        asked.route.server_override = Some(stand_in);
        asked
    };
    let offer = reply(lab.hear(&by_it(Kind::Discover { wanted: None })));
    assert_eq!((offer.kind, offer.server), (ReplyKind::Offer(REMOTE_FIRST), stand_in));
    let select = Kind::Select { server: stand_in, address: REMOTE_FIRST };
    assert_eq!(silence(&lab.hear(&remote(1, select))), Why::AnotherServer(stand_in));
    let granted = reply(lab.hear(&by_it(select)));
    assert_eq!((granted.kind, granted.server), (ReplyKind::Acknowledge(REMOTE_FIRST), stand_in));
    let refused =
        reply(lab.hear(&by_it(Kind::Select { server: stand_in, address: [10, 7, 0, 9].into() })));
    assert_eq!((refused.kind, refused.server), (ReplyKind::Refuse, stand_in));
    let decline = Kind::Decline { server: Some(stand_in), address: REMOTE_FIRST };
    assert_eq!(silence(&lab.hear(&by_it(decline))), Why::Declined);
}

#[test]
fn an_instance_gives_its_machine_its_address_and_name() {
    let mut lab = Lab::new();
    let reserved = Ipv4Addr::new(10, 0, 0, 50);
    lab.state.apply(&Change::Instance(instance(card(1), Some(reserved))));
    assert_eq!(lab.lease(card(1), UEFI), reserved);
    let offer = reply(lab.discover(card(1), UEFI));
    assert_eq!(offer.hostname.as_ref().map(Hostname::as_str), Some("worker-1"));
}

#[test]
fn a_reserved_address_of_the_pool_is_for_its_machine_alone() {
    let mut lab = Lab::new();
    lab.state.apply(&Change::Instance(instance(card(9), Some(FIRST))));
    assert_eq!(lab.lease(card(1), HOST), SECOND);
    assert_eq!(silence(&lab.discover(card(2), HOST)), FULL);
    assert_eq!(lab.lease(card(9), HOST), FIRST);
}

#[test]
fn a_request_after_our_own_offer_is_never_refused_even_if_provision_came_between() {
    let mut lab = Lab::new();
    let offered = reply(lab.discover(card(1), UEFI)).kind.yiaddr().expect("an offer");
    lab.state.apply(&Change::Instance(instance(card(1), Some([10, 0, 0, 50].into()))));
    assert_eq!(reply(lab.select(card(1), offered, UEFI)).kind, ReplyKind::Acknowledge(offered));
    // At its next turn it moves: the renewal is refused, and it discovers anew.
    let mut renewal = request(card(1), 3, &[(50, &offered.octets())]);
    renewal.kind = Kind::Extend { address: offered };
    assert_eq!(reply(lab.hear(&renewal)).kind, ReplyKind::Refuse);
    assert_eq!(lab.lease(card(1), UEFI), Ipv4Addr::new(10, 0, 0, 50));
}

#[test]
fn what_one_client_is_told_never_depends_on_who_asked_before() {
    let mut lab = Lab::new();
    let boot = |lab: &mut Lab, number, client| reply(lab.discover(card(number), client)).boot;
    let script = |number: u8| {
        Ok(BootFile::Script(format!("http://10.0.0.1/ipxe/52-54-00-aa-01-0{number}.ipxe")))
    };
    let program = |name: &str| Ok(BootFile::Program { name: name.to_owned(), server: SERVER });
    assert_eq!(boot(&mut lab, 1, IPXE), script(1));
    assert_eq!(boot(&mut lab, 2, UEFI), program("snponly.efi"));
    assert_eq!(boot(&mut lab, 2, BIOS), program("undionly.kpxe"));
    assert_eq!(boot(&mut lab, 2, HOST), Err(NoBootFile::Host));
    assert_eq!(boot(&mut lab, 2, IPXE), script(2));
    assert_eq!(
        boot(&mut lab, 1, HTTP),
        Ok(BootFile::ProgramUrl("http://10.0.0.1/loader/snponly.efi".to_owned()))
    );
    let address = reply(lab.discover(card(1), IPXE)).kind.yiaddr().expect("an offer");
    assert_eq!(reply(lab.select(card(1), address, IPXE)).boot, script(1), "in the ACK, too");
    assert_eq!(reply(lab.select(card(1), address, UEFI)).boot, program("snponly.efi"));
}

#[test]
fn no_machine_is_given_a_program_of_another_architecture() {
    let mut lab = Lab::new();
    let offer = reply(lab.discover(card(1), IA32));
    assert_eq!(offer.boot, Err(NoBootFile::NoProgram("ia32-uefi")));
    let itanium = &[(60, &b"PXEClient"[..]), (93, &[0, 2][..])];
    let offer = reply(lab.discover(card(1), itanium));
    assert_eq!(offer.boot, Err(NoBootFile::UnknownArchitecture(2)));
}

/// The machine with the first card has fetched its boot program.
fn fetch(lab: &mut Lab) {
    let changes = boot::loader::fetched(&lab.state, card(1), lab.now);
    changes.iter().for_each(|change| lab.state.apply(change));
}

#[test]
fn ipxe_without_http_is_given_a_boot_program_by_tftp_and_never_twice_in_a_boot() {
    const LACKING: Options = &[
        (60, b"PXEClient:Arch:00000:UNDI:002001"),
        (93, &[0, 0]),
        (77, b"iPXE"),
        (175, &[177, 5, 1, 0x1a, 0xf4, 0x10, 0, 21, 1, 1, 24, 1, 1]),
    ];
    let mut lab = Lab::new();
    let program = BootFile::Program { name: "undionly.kpxe".to_owned(), server: SERVER };
    let offer = reply(lab.discover(card(1), LACKING));
    assert_eq!(offer.boot, Ok(program.clone()));
    let said = offer.remark.expect("said").to_string();
    assert!(said.contains("no HTTP") && said.contains("depth 1"), "{said}");
    let address = offer.kind.yiaddr().expect("an offer");
    assert_eq!(reply(lab.select(card(1), address, LACKING)).boot, Ok(program));
    fetch(&mut lab);
    for _ in 0..2 {
        let told = reply(lab.discover(card(1), LACKING)).boot;
        assert_eq!(told, Err(NoBootFile::LacksAgain("HTTP")));
        let told = reply(lab.select(card(1), address, LACKING)).boot;
        assert_eq!(told, Err(NoBootFile::LacksAgain("HTTP")));
    }
    assert!(matches!(reply(lab.discover(card(1), IPXE)).boot, Ok(BootFile::Script(_))));
}

#[test]
fn what_was_fetched_in_vain_gives_way_to_the_next_in_offer_and_ack_alike() {
    let mut lab = Lab::new();
    let program = |name: &str| {
        (Architecture::X64Uefi, name.to_owned(), bytes::Bytes::copy_from_slice(name.as_bytes()))
    };
    lab.catalogue = Catalogue::new(["snponly.efi", "ipxe.efi"].map(program));
    let told = |reply: Reply| match reply.boot {
        Ok(BootFile::Program { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    let mut names = Vec::new();
    for _ in 0..3 {
        let offer = reply(lab.discover(card(1), UEFI));
        let address = offer.kind.yiaddr().expect("an offer");
        let acknowledged = told(reply(lab.select(card(1), address, UEFI)));
        names.push(told(offer));
        assert_eq!(names.last(), Some(&acknowledged));
        fetch(&mut lab);
    }
    assert_eq!(names, ["snponly.efi", "snponly.efi", "ipxe.efi"]);
    // Beside another server the same machine is told the same.
    lab.settings.role = Role::Proxy;
    assert_eq!(told(reply(lab.discover(card(1), UEFI))), "ipxe.efi");
}

#[test]
fn only_a_bios_is_told_of_no_boot_file_when_it_is_sent_to_its_disk() {
    let mut lab = Lab::new();
    let boot = crate::model::BootMode::Never;
    let held = crate::model::Instance { boot, ..instance(card(1), None) };
    lab.state.apply(&Change::Instance(held));
    assert_eq!(reply(lab.discover(card(1), BIOS)).boot, Err(NoBootFile::OwnDisk));
    // What UEFI and iPXE are given is what takes them there.
    for client in [UEFI, HTTP, IPXE] {
        assert!(reply(lab.discover(card(1), client)).boot.is_ok(), "{client:?}");
    }
    lab.state.apply(&Change::Instance(instance(card(2), None)));
    assert!(reply(lab.discover(card(2), BIOS)).boot.is_ok());
}

/// A rule for machines of this network, and of this architecture.
fn rule(subnet: &str, architecture: Option<Architecture>, then: Then) -> Rules {
    let scope = Scope { subnet: Some(subnet.parse().expect("a network")), architecture };
    Rules::new(vec![Rule { scope, machines: Whose::Strangers, then }], Vec::new())
}

#[test]
fn an_ignored_machine_has_an_address_and_is_told_and_known_nothing() {
    let mut lab = Lab::new();
    lab.settings.rules = rule("10.0.0.0/24", None, Then::Ignore);
    for client in [UEFI, HTTP, IPXE, BIOS] {
        let told = reply(lab.discover(card(1), client));
        assert_eq!((told.boot, told.kind.yiaddr()), (Err(NoBootFile::Ignored), Some(FIRST)));
        lab.lease(card(1), client);
        assert_eq!(lab.state.machines.all().count(), 0, "{client:?}");
    }
    // Of another network nothing is said.
    let mut asked = request(card(2), 1, UEFI);
    asked.route.giaddr = REMOTE_RELAY;
    assert!(reply(lab.hear(&asked)).boot.is_ok());
    assert_eq!(lab.state.machines.find(card(2)).expect("seen").treatment, Some(Treatment::Hold));
}

#[test]
fn who_is_of_the_pool_or_was_provisioned_is_not_ignored() {
    let mut lab = Lab::new();
    lab.settings.rules = rule("10.0.0.0/24", None, Then::Ignore);
    lab.state.apply(&Change::Instance(instance(card(1), None)));
    assert!(reply(lab.discover(card(1), UEFI)).boot.is_ok());
    let listed = Machine::first(card(2), crate::model::MachineEvent::Listed, lab.now);
    lab.state.apply(&Change::Machine(listed.expect("known")));
    assert!(reply(lab.discover(card(2), UEFI)).boot.is_ok());
}

#[test]
fn a_stranger_that_was_known_before_it_was_ignored_is_given_out_no_more() {
    let mut lab = Lab::new();
    lab.discover(card(1), UEFI);
    assert!(lab.state.machines.choose(lab.now, |_| true).is_some());
    lab.settings.rules = rule("10.0.0.0/24", None, Then::Ignore);
    lab.discover(card(1), UEFI);
    assert_eq!(lab.state.machines.choose(lab.now, |_| true), None);
}

#[test]
fn a_rule_for_an_architecture_is_about_what_firmware_says_now() {
    let mut lab = Lab::new();
    lab.settings.rules = rule("10.0.0.0/8", Some(Architecture::Bios), Then::Local);
    assert_eq!(reply(lab.discover(card(1), BIOS)).boot, Err(NoBootFile::OwnDisk));
    assert!(reply(lab.discover(card(2), UEFI)).boot.is_ok());
    let told = |number| lab.state.machines.find(card(number)).expect("seen").treatment;
    assert_eq!((told(1), told(2)), (Some(Treatment::Local), Some(Treatment::Hold)));
}

#[test]
fn only_what_wants_to_boot_is_a_machine() {
    let mut lab = Lab::new();
    lab.lease(card(1), HOST);
    assert_eq!(lab.state.machines.all().count(), 0);
    lab.lease(card(2), UEFI);
    let machine: Machine = lab.state.machines.find(card(2)).expect("seen").clone();
    assert_eq!(machine.architecture, Some(crate::model::Architecture::X64Uefi));
    assert_eq!(machine.stage, Some(Stage::Firmware));
    lab.lease(card(2), IPXE);
    assert_eq!(lab.state.machines.find(card(2)).expect("seen").stage, Some(Stage::Ipxe));
}

#[test]
fn a_foreign_packet_never_changes_a_lease() {
    let mut lab = Lab::new();
    lab.lease(card(1), HOST);
    let before: Vec<Lease> = lab.state.addresses.leases().copied().collect();
    let named = [(54, &OTHER_SERVER.octets()[..]), (50, &FIRST.octets()[..])];
    lab.hear(&request(card(1), 3, &named));
    lab.hear(&request(card(5), 3, &[(50, &FIRST.octets())]));
    assert_eq!(lab.state.addresses.leases().copied().collect::<Vec<_>>(), before);
}

/// Answers as the daemon does, where all addresses are in use or none.
fn hear_to_the_end(lab: &mut Lab, asked: &Request, in_use: bool) -> Answer {
    let mut probed = Probed::Nothing;
    loop {
        match lab.hear_knowing(asked, probed) {
            Answer::Probe { address, .. } => {
                probed = match in_use {
                    true => Probed::Answered { address, card: None },
                    false => Probed::Quiet(address),
                }
            }
            Answer::InUse(_) => probed = Probed::Nothing,
            answer @ (Answer::Reply(_) | Answer::Silence(_)) => return answer,
        }
    }
}

/// A step of a random conversation: which machine, on the link or behind the relay,
/// what it asks, about which address of which network.
fn step() -> impl Strategy<Value = (u8, bool, u8, (bool, u8), u64)> {
    (1u8..6, any::<bool>(), 0u8..8, (any::<bool>(), 98u8..104), 0u64..4000)
}

proptest! {
    /// Whatever machines say, wherever and whenever: no address has two owners,
    /// none outside of its network's pool and the reservations is given, and no
    /// answer of ours goes to a request for another server.
    #[test]
    fn no_address_has_two_owners(steps in proptest::collection::vec(step(), 1..80), probe: bool) {
        let mut lab = Lab::new();
        lab.settings.probe = probe;
        lab.state.apply(&Change::Instance(instance(card(5), Some([10, 0, 0, 103].into()))));
        let mut owners: std::collections::HashMap<Ipv4Addr, (Mac, Timestamp)> = Default::default();
        let network = |is_far| if is_far { 7 } else { 0 };
        for (number, is_far, kind, (is_of_far, last), pause) in steps {
            after(&mut lab, pause);
            let address = Ipv4Addr::new(10, network(is_of_far), 0, last);
            let server = if is_far { REMOTE_SERVER } else { SERVER };
            let mut asked = request(card(number), 1, UEFI);
            if is_far {
                asked.route.giaddr = REMOTE_RELAY;
            }
            asked.kind = match kind {
                0 => Kind::Discover { wanted: Some(address) },
                1 => Kind::Discover { wanted: None },
                2 => Kind::Select { server, address },
                3 => Kind::Select { server: OTHER_SERVER, address },
                4 => Kind::Reboot { address },
                5 => Kind::Extend { address },
                6 => Kind::Decline { server: Some(server), address },
                _ => Kind::Release { server: Some(server), address },
            };
            let answer = hear_to_the_end(&mut lab, &asked, last % 2 == 0);
            prop_assert!(kind != 3 || matches!(answer, Answer::Silence(_)));
            let Answer::Reply(Reply { kind: said, subnet, .. }) = &answer else {
                if let Answer::Silence(Why::Released | Why::Declined) = answer {
                    owners.remove(&address);
                }
                continue;
            };
            // A renewal may come without its relay; all else is of where it came by.
            let is_here = if !is_far && kind == 5 { is_of_far } else { is_far };
            prop_assert_eq!(subnet.network.addr().octets()[1], network(is_here));
            if let ReplyKind::Offer(given) | ReplyKind::Acknowledge(given) = said {
                let is_reserved = number == 5 && given.octets() == [10, 0, 0, 103];
                prop_assert!(subnet.pool.contains(*given) || is_reserved);
            }
            if let ReplyKind::Acknowledge(given) = said {
                let until = lab.now.after(std::time::Duration::from_secs(7200));
                if let Some((owner, expires)) = owners.insert(*given, (card(number), until)) {
                    prop_assert!(owner == card(number) || expires <= lab.now, "{given} has two owners");
                }
                owners.retain(|other, (owner, _)| {
                    other == given || *owner != card(number) || !subnet.network.contains(other)
                });
                for owner in 0..10 {
                    let leases = lab.state.addresses.leases();
                    let bound = leases.filter(|one| {
                        let is_here = subnet.network.contains(&one.address);
                        one.mac == card(owner) && is_here && one.is_bound(lab.now)
                    });
                    prop_assert!(bound.count() < 2, "{owner} has two addresses");
                }
            }
        }
    }
}
