//! What stands in examples/ works as it stands there.

mod controller;
mod daemon;
mod fleet;
mod machine;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use controller::{Controller, Group};
use daemon::{Home, NAME, connect, eventually};
use fleet::Fleet;
use machine::Ports;
use serde_json::{Value, json};

/// The groups that there are.
const GROUPS: [&str; 7] =
    ["cattle", "linuxkit", "nocloud", "pets-by-address", "pets-by-mac", "rolling-update", "select"];

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn text(name: &str) -> String {
    fs::read_to_string(examples().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Puts the files that a group names into the image directory.
fn put_files(home: &Home, group: &Group) {
    for field in ["Kernel", "Initrd"] {
        let Some(name) = group.instance[field].as_str() else { continue };
        let path = home.images().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, name).expect("written");
    }
}

#[test]
fn every_group_is_accepted_as_it_is() {
    let home = Home::new();
    let ports = Ports::free().arguments();
    let daemon = home.start(&ports.iter().map(String::as_str).collect::<Vec<_>>());
    for name in GROUPS {
        let group = Group::read(&text(&format!("{name}.json")));
        let instance = json!({"Type": "", "Properties": group.instance});
        let missing = daemon.call("Instance.Validate", instance.clone());
        let is_missing = group.instance["Kernel"] != "vmlinuz" || name == "rolling-update";
        assert_eq!(missing.is_err(), is_missing, "{name}: before its files are there: {missing:?}");
        put_files(&home, &group);
        daemon
            .call("Instance.Validate", instance)
            .unwrap_or_else(|error| panic!("{name}: Instance.Validate: {error}"));
        let flavor = json!({
            "Type": "", "Properties": group.flavor, "Allocation": group.allocation.to_json(),
        });
        daemon
            .call("Flavor.Validate", flavor)
            .unwrap_or_else(|error| panic!("{name}: Flavor.Validate: {error}"));
        // The commit of the controller, which asks for both.
        let socket = home.socket();
        let committed = Controller::commit(&socket, group, Duration::from_secs(60));
        assert!(committed.is_ok(), "{name}: {:?}", committed.err());
    }
}

#[test]
fn every_group_is_listed_and_tried_here() {
    let there: BTreeSet<String> = fs::read_dir(examples())
        .expect("examples")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
        .filter(|name| name != "launch")
        .collect();
    assert_eq!(there, GROUPS.map(str::to_owned).into());
    let playbook = include_str!("../docs/playbook.md");
    for name in GROUPS {
        assert!(playbook.contains(&format!("examples/{name}.json")), "{name} in docs/playbook.md");
    }
}

#[test]
fn cattle_become_what_the_rolling_update_says() {
    let (home, ports) = (Home::new(), Ports::free());
    let arguments = ports.arguments();
    let _daemon = home.start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let fleet = Fleet::power_on(4, ports);
    let cattle = Group::read(&text("cattle.json"));
    let mut next = Group::read(&text("rolling-update.json"));
    assert_eq!(next.updating.duration, Duration::from_secs(30));
    // The same, in less time.
    next.updating.duration = Duration::from_millis(500);
    put_files(&home, &cattle);
    put_files(&home, &next);
    let interval = Duration::from_millis(250);
    let mut controller = Controller::commit(&home.socket(), cattle, interval).expect("accepted");
    let running = |controller: &Controller, kernel: &str| {
        let members = controller.members();
        let is_running = |member: &controller::Member| {
            member.properties["state"] == "running" && member.properties["Kernel"] == kernel
        };
        (members.len() == 3 && members.iter().all(is_running)).then_some(())
    };
    eventually("three workers", || running(&controller, "vmlinuz"));
    controller.change(next).expect("accepted");
    let outcome = eventually("the update", || controller.updated());
    assert_eq!(outcome, Ok(()));
    eventually("three new workers", || running(&controller, "vmlinuz-2"));
    assert_eq!(fleet.count_running(), 3);
    controller.destroy();
    eventually("all wait", || (fleet.count_waiting() == 4).then_some(()));
}

#[test]
fn the_launch_rule_starts_the_plugin_and_its_pid_file_stops_it() {
    let rules = text("launch.json");
    let specified = include_str!("../plugin-spec/launch.json");
    assert_eq!(rules, specified, "one rule in both places");
    let rules: Value = serde_json::from_str(&rules).expect("JSON");
    assert_eq!(rules[0]["Key"], NAME);
    let launch = &rules[0]["Launch"]["os"];
    assert_eq!(launch["SamePgID"], false, "it outlives its launcher's group");
    let home = Home::new();
    let folder = home.state().with_file_name("etc");
    fs::create_dir(&folder).expect("made");
    // The paths of a system, in a place of our own.
    let command = launch["Cmd"].as_str().expect("a command");
    assert!(command.contains(" /etc/") && command.contains(">/var/log/"), "{command}");
    let command = command
        .replace("/etc/", &format!("{}/", folder.display()))
        .replace("/var/log/", &format!("{}/", folder.display()));
    let configuration = format!(
        "state-dir = {:?}\nimages = {:?}\n",
        home.state().display().to_string(),
        home.images().display().to_string()
    );
    fs::write(folder.join("remoteboot.toml"), configuration).expect("written");
    let program = Path::new(env!("CARGO_BIN_EXE_remoteboot"));
    let path = format!("{}:/usr/bin:/bin", program.parent().expect("a directory").display());
    // As the launcher does: a shell, and no word of its own about name or place.
    let mut shell = Command::new("/bin/sh")
        .args(["-c", &command])
        .env("PATH", path)
        .env("INFRAKIT_HOME", home.plugins().parent().expect("a directory"))
        .env_remove("INFRAKIT_PLUGINS_DIR")
        .spawn()
        .expect("a shell");
    let pid = eventually("its pid file", || {
        fs::read_to_string(home.plugins().join(format!("{NAME}.pid"))).ok()
    });
    drop(connect(&home.socket()));
    assert_eq!(pid, shell.id().to_string(), "`infrakit plugin stop` reaches the daemon itself");
    let stopped = Command::new("/bin/kill").args(["-TERM", &pid]).status().expect("kill runs");
    assert!(stopped.success());
    assert!(eventually("its end", || shell.try_wait().expect("a child")).success());
    assert!(!home.socket().exists());
}
