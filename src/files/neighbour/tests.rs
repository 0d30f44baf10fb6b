//! The table as it is shown, and the kernel's word for one address beside it.

use std::{env, fs, net::UdpSocket, process::Command};

use super::*;

const SHOWN: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
10.0.0.9         0x1         0x2         52:54:00:aa:01:01     *        eth0
10.0.0.10        0x1         0x0         00:00:00:00:00:00     *        eth0
10.0.0.90        0x1         0x6         52:54:00:aa:01:02     *        eth0
";

#[test]
fn only_complete_rows_of_the_address_itself_count() {
    assert_eq!(find(SHOWN, [10, 0, 0, 9].into()), mac(1));
    assert_eq!(find(SHOWN, [10, 0, 0, 90].into()), mac(2));
    assert_eq!(find(SHOWN, [10, 0, 0, 10].into()), None);
    assert_eq!(find(SHOWN, [10, 0, 0, 1].into()), None);
    assert_eq!(find("", [10, 0, 0, 1].into()), None);
}

#[test]
#[ignore = "makes a network namespace: needs root, run `make test`"]
fn the_kernel_says_of_one_address_what_its_table_says() {
    if !is_in_a_network_of_its_own("the_kernel_says_of_one_address_what_its_table_says") {
        return;
    }
    // Nobody answers at the other ends.
    for (near, far, address) in [("a0", "a1", "10.0.0.1/24"), ("b0", "b1", "10.1.0.1/24")] {
        ip(&format!("link add {near} type veth peer name {far}"));
        ip(&format!("addr add {address} dev {near}"));
        ip(&format!("link set {near} up"));
        ip(&format!("link set {far} up"));
    }
    ip("route add 10.9.0.0/16 via 10.0.0.254");
    ip("route add 10.8.0.0/16 nexthop via 10.0.0.254 nexthop via 10.1.0.254");
    ip("route add prohibit 10.7.0.0/16");
    let enter = |address: &str, state: &str, last: u8, interface: &str| {
        let mac = Mac::new([0x52, 0x54, 0, 0xaa, 1, last]);
        ip(&format!("neigh replace {address} lladdr {mac} nud {state} dev {interface}"));
    };
    // However slow the test is, none of them is given up.
    fs::write("/proc/sys/net/ipv4/neigh/a0/ucast_solicit", "1000").expect("set");
    let complete = ["permanent", "reachable", "stale", "delay", "probe"];
    for (last, state) in (1..).zip(complete) {
        enter(&format!("10.0.0.{last}0"), state, last, "a0");
    }
    enter("10.0.0.99", "failed", 99, "a0");
    enter("10.0.0.98", "noarp", 98, "a0");
    enter("10.0.0.254", "permanent", 254, "a0");
    enter("10.1.0.9", "permanent", 9, "b0");
    ip("neigh add proxy 10.0.0.97 dev a0");
    let unanswered = UdpSocket::bind("0.0.0.0:0").expect("a port");
    unanswered.send_to(b"?", "10.0.0.96:9").expect("sent");

    // Who is on the way to it, by both.
    for last in 1..=5 {
        check([10, 0, 0, 10 * last], (mac(last), mac(last)));
    }
    check([10, 1, 0, 9], (mac(9), mac(9)));
    // Failed, without ARP, answered for, incomplete, never heard of.
    for last in [99, 98, 97, 96, 95] {
        check([10, 0, 0, last], (None, None));
    }
    // Beyond a router, which is a neighbour itself; beyond one of two; forbidden; nowhere.
    check([10, 0, 0, 254], (mac(254), mac(254)));
    for address in [[10, 9, 0, 9], [10, 8, 0, 9], [10, 7, 0, 9], [172, 16, 0, 1]] {
        check(address, (None, None));
    }
    // Ourselves, everybody, and a group.
    for address in [[10, 0, 0, 1], [127, 0, 0, 1], [10, 0, 0, 255], [224, 0, 0, 1]] {
        check(address, (None, None));
    }
    // Who is there, though no way that we know of says so.
    enter("172.16.0.1", "permanent", 5, "b0");
    check([172, 16, 0, 1], (None, mac(5)));
    enter("10.9.0.9", "permanent", 6, "a0");
    check([10, 9, 0, 9], (None, mac(6)));
    // Of two with one address, the one that hears our answers.
    enter("10.1.0.9", "permanent", 10, "a0");
    assert_eq!(neighbour([10, 1, 0, 9].into()), mac(9));
    ip("route add 10.1.0.9/32 dev a0");
    assert_eq!(neighbour([10, 1, 0, 9].into()), mac(10));
    ip("link del a0");
    check([10, 1, 0, 9], (mac(9), mac(9)));
}

/// What is said of an address by netlink and in the table; one of them is believed.
#[track_caller]
fn check(address: [u8; 4], (one, whole): (Option<Mac>, Option<Mac>)) {
    let address = address.into();
    assert_eq!(netlink::ask(address), Ok(one), "{address} by netlink");
    assert_eq!(in_the_table(address), whole, "{address} in the table");
    assert_eq!(neighbour(address), one.or(whole), "{address}");
}

fn mac(last: u8) -> Option<Mac> {
    Some(Mac::new([0x52, 0x54, 0, 0xaa, 1, last]))
}

/// Whether this process is; else the test runs in another one that is.
#[track_caller]
fn is_in_a_network_of_its_own(test: &str) -> bool {
    const INSIDE: &str = "REMOTEBOOT_TEST_INSIDE";
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let name = format!("{}::{test}", module_path!().split_once("::").expect("a crate").1);
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--net").arg(env::current_exe().expect("this program"));
    command.args(["--exact", &name, "--include-ignored", "--nocapture"]).env(INSIDE, "yes");
    let output = command.output().expect("unshare starts");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

#[track_caller]
fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "ip {arguments}: {said}");
}
