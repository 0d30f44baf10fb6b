//! Boots one cell: its network, its neighbours, the daemon, and a machine of its
//! firmware, whose console and the daemon's log say what came of it.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, SystemTime},
};

use serde_json::json;

use super::{Cell, Plan, Release, Road, Row, Way, results::Attempt};
use crate::lab::{
    Daemon, GIVEN, Lab, Machine, Other, Relay, SERVER, SERVER6, cache, has_arm64, within,
};

const MAC: &str = "52:54:00:77:00:01";

/// What a machine that is given no hope any more shows on its console.
const ENDS: [&str; 6] = [
    "Kernel panic",
    "UEFI Interactive Shell",
    "No bootable device",
    "No bootable option or device was found",
    "No more network devices",
    "Press any key to enter the Boot Manager Menu",
];

const RACK: &str = r#"
    [[subnet]]
    network = "10.78.0.0/24"
    ranges = ["10.78.0.100-10.78.0.110"]
    router = "10.78.0.1"
"#;

/// Powers the cell's machine on, and says what came of it; never panics.
pub(crate) fn attempt(cell: Cell) -> Attempt {
    let booted = catch_unwind(AssertUnwindSafe(|| match cell.plan() {
        Plan::Boots(_) | Plan::Refused(_) => match lacks(cell) {
            Some(why) => panic!("{why}: run tests/lab/install"),
            None => Trial::new(cell).run(),
        },
        Plan::None(why) | Plan::Untried(why) => panic!("{cell} is not to be booted: {why}"),
    }));
    booted.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let said = said.unwrap_or_default();
        let mut lines = said.lines().map(short);
        let why = lines.next().unwrap_or_default();
        Attempt::Failed { why, seen: lines.collect() }
    })
}

/// What this system lacks for the cell, if it does: Debian 12 has it all.
pub(crate) fn lacks(cell: Cell) -> Option<String> {
    let (release, name) = cell.row.loader()?;
    let path = loader(release, name);
    if !fs::exists(&path).is_ok_and(|there| there) {
        return Some(format!("there is no {path}"));
    }
    let is_arm64 = matches!(cell.row, Row::Arm64Ipxe(_));
    (is_arm64 && !has_arm64()).then(|| "its mirrors have no arm64 packages".to_owned())
}

/// A cell, and the words by which its machine is known.
struct Trial {
    cell: Cell,
    /// A word that nobody can have booted before.
    word: String,
    /// The architecture of its kernel, and its RAM disk's marker.
    image: (&'static str, &'static str),
}

impl Trial {
    fn new(cell: Cell) -> Self {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the system has random numbers");
        let architecture = match cell.row {
            Row::Arm64Ipxe(_) => "arm64",
            Row::BiosRom
            | Row::BiosUndionly(_)
            | Row::X64Snponly(_)
            | Row::X64Ipxe(_)
            | Row::X64Rom
            | Row::Ia32
            | Row::Arm32
            | Row::Others => "amd64",
        };
        let word = format!("{:016x}", u64::from_be_bytes(bytes));
        let marker = if bytes[7] & 1 == 0 { "a" } else { "b" };
        Self { cell, word, image: (architecture, marker) }
    }

    fn run(&self) -> Attempt {
        let Cell { road, way, .. } = self.cell;
        let lab = match (road.is_ipv6(), way) {
            (true, Way::Relay) => Lab::ipv6_behind_a_relay(),
            (true, _) => Lab::ipv6(),
            (false, _) => Lab::new(),
        };
        let relay = (way == Way::Relay && !road.is_ipv6()).then(|| Relay::dnsmasq(&lab));
        let other = self.other(&lab);
        let daemon = self.daemon(&lab);
        self.provision(&lab, &daemon);
        let bridge = if relay.is_some() { "br1" } else { "br0" };
        let firmware = match self.cell.plan() {
            Plan::Boots(firmware) | Plan::Refused(firmware) => firmware,
            Plan::None(why) | Plan::Untried(why) => unreachable!("{why}"),
        };
        let mut machine = lab.machine_on(bridge, firmware, MAC);
        let outcome = self.watch(&mut machine, &daemon).and_then(|attempt| {
            // Who is refused may not take an address either.
            match (other.as_ref().map(Other::leases), &attempt) {
                (Some(leases), Attempt::Booted { .. }) if !road.is_ipv6() => {
                    let is_theirs = leases.contains(MAC) && leases.contains(GIVEN);
                    if is_theirs { Ok(attempt) } else { Err(format!("no lease of it: {leases}")) }
                }
                (Some(_) | None, _) => Ok(attempt),
            }
        });
        outcome.unwrap_or_else(|why| {
            let (console, log) = (machine.console(), daemon.log());
            let ours = log.lines().filter(|line| !line.contains("plugin name="));
            let mut seen = last(console.lines(), 5);
            seen.extend(last(ours, 4));
            if let Some(other) = &other {
                seen.extend(last(other.log().lines(), 3));
            }
            Attempt::Failed { why: short(&why), seen }
        })
    }

    /// Who is there besides, if anybody is.
    fn other<'a>(&self, lab: &'a Lab) -> Option<Other<'a>> {
        match self.cell.way {
            Way::Server | Way::Relay => None,
            Way::Dnsmasq => Some(Other::dnsmasq(lab)),
            Way::Isc => Some(Other::isc(lab)),
            Way::Kea => Some(Other::kea(lab)),
            Way::Told => Some(self.told(lab)),
        }
    }

    /// A server that names what we serve.
    fn told<'a>(&self, lab: &'a Lab) -> Other<'a> {
        let (is_ipv6, is_http) = (self.cell.road.is_ipv6(), self.cell.road.is_http());
        let server = if is_ipv6 { format!("[{SERVER6}]") } else { SERVER.to_owned() };
        let script = format!("http://{server}/infrakit.ipxe");
        let loader = self.cell.row.loader().map_or("", |(_, name)| name);
        if is_ipv6 {
            let url = if is_http {
                format!("http://{server}/loader/{loader}")
            } else {
                format!("tftp://{server}/{loader}")
            };
            let class =
                if is_http { "option dhcp6.vendor-class 343 10 \"HTTPClient\";" } else { "" };
            return Other::isc6_that_says(
                lab,
                &format!(
                    "option dhcp6.user-class code 15 = string;\n\
                     option dhcp6.bootfile-url code 59 = string;\n\
                     option dhcp6.vendor-class code 16 = {{integer 32, integer 16, string}};\n\
                     if substring(option dhcp6.user-class, 2, 4) = \"iPXE\" {{\n\
                     option dhcp6.bootfile-url \"{script}\";\n\
                     }} else {{\noption dhcp6.bootfile-url \"{url}\";\n{class}\n}}"
                ),
            );
        }
        let mut arguments = vec![
            "--dhcp-userclass=set:ipxe,iPXE".to_owned(),
            format!("--dhcp-boot=tag:ipxe,{script}"),
        ];
        if is_http {
            arguments.push("--dhcp-option-force=tag:!ipxe,60,HTTPClient".to_owned());
            arguments.push(format!("--dhcp-boot=tag:!ipxe,http://{server}/loader/{loader}"));
        } else {
            arguments.push(format!("--dhcp-boot=tag:!ipxe,{loader},,{server}"));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Other::dnsmasq_that_says(lab, &arguments)
    }

    fn daemon(&self, lab: &Lab) -> Daemon {
        let Cell { row, road, way } = self.cell;
        let mut arguments = Vec::new();
        if let Some((release, name)) = row.loader() {
            arguments.push(format!("--ipxe-path={}", loader(release, name)));
        }
        match (road.is_ipv6(), way) {
            (false, Way::Relay) => {
                let racks = lab.folder().join("racks.toml");
                fs::write(&racks, RACK).expect("the lab's folder can be written");
                arguments.push(format!("--config={}", racks.display()));
            }
            (false, Way::Dnsmasq | Way::Isc | Way::Kea) => arguments.push("--dhcp=proxy".into()),
            (false, Way::Told) => arguments.push("--dhcp=off".into()),
            (true, Way::Told) => arguments.push(format!("--address6={SERVER6}")),
            (true, _) | (false, Way::Server) => {}
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match (road.is_ipv6(), way) {
            (true, Way::Relay) => lab.daemon6("srv0", &arguments),
            (true, Way::Told) => lab.daemon_beside(&arguments),
            (true, _) => lab.daemon6("br0", &arguments),
            (false, Way::Server | Way::Relay) => lab.daemon(&arguments),
            (false, _) => lab.daemon_beside(&arguments),
        }
    }

    /// An instance for the machine, with files under names of its own.
    fn provision(&self, lab: &Lab, daemon: &Daemon) {
        let (architecture, marker) = self.image;
        let (kernel, initrd) = (format!("kernel-{}", self.word), format!("initrd-{}", self.word));
        lab.add_image((architecture, "vmlinuz"), &kernel);
        lab.add_image((architecture, &format!("initrd-{marker}")), &initrd);
        // On a busy computer an emulated timer may be late enough for a panic.
        let console = if architecture == "arm64" { "ttyAMA0" } else { "ttyS0 no_timer_check" };
        let mut words = format!("console={console} lab={{{{ mac }}}} lab.word={}", self.word);
        if self.address().is_some() {
            words += " at={{ ip }}";
        }
        let properties = json!({"Kernel": kernel, "Initrd": initrd, "CmdLine": words, "MAC": MAC});
        daemon.provision(properties);
    }

    /// How the address begins that we give it; none where another does.
    fn address(&self) -> Option<&'static str> {
        match (self.cell.road.is_ipv6(), self.cell.way) {
            (true, Way::Server | Way::Relay) => Some("at=fd00:77::"),
            (false, Way::Server) => Some("at=10.77.0.1"),
            (false, Way::Relay) => Some("at=10.78.0.1"),
            (_, Way::Dnsmasq | Way::Isc | Way::Kea | Way::Told) => None,
        }
    }

    /// Waits for what is to be seen, or for the first sign that it will not be.
    fn watch(&self, machine: &mut Machine, daemon: &Daemon) -> Result<Attempt, String> {
        // Alone it takes 15 to 60 seconds; several on a busy computer take longer.
        let seconds = if self.image.0 == "arm64" { 400 } else { 300 };
        let seen = within(Duration::from_secs(seconds), || {
            if let Some(complaint) = machine.ended() {
                return Some(Err(complaint));
            }
            let (console, log) = (machine.console(), daemon.log());
            let done = match self.cell.plan() {
                Plan::Refused(_) => self.refused(&console, &log, machine.seconds()),
                Plan::Boots(_) | Plan::None(_) | Plan::Untried(_) => {
                    self.booted(&console, &log, machine.seconds())
                }
            };
            done.or_else(|| self.lost(&console).map(Err))
        });
        seen.unwrap_or_else(|| Err(format!("not booted after {seconds} s")))
    }

    fn refused(&self, console: &str, log: &str, seconds: f32) -> Option<Result<Attempt, String>> {
        if console.contains("REMOTEBOOT") {
            return Some(Err("it booted, and should be refused".to_owned()));
        }
        let is_refusal =
            |line: &&str| line.contains("nothing to boot") || line.contains("not answered");
        let line = log.lines().filter(|line| line.contains(" WARN ")).find(is_refusal)?;
        let (_, why) = line.split_once(" why=")?;
        console.contains(&self.begins()?).then(|| {
            Ok(Attempt::Refused { seconds: tenths(seconds), why: why.trim_matches('"').to_owned() })
        })
    }

    fn booted(&self, console: &str, log: &str, seconds: f32) -> Option<Result<Attempt, String>> {
        let end = console.split_inclusive('\n').any(|line| line.trim() == "REMOTEBOOT end");
        end.then(|| {
            self.check_system(console)?;
            let ipxe = self.check_way(console, log)?;
            let script = moment(log, |line| {
                let is_script = line.contains("autoexec.ipxe")
                    || line.contains("path=\"/ipxe/")
                    || line.contains("infrakit.ipxe");
                is_script && (line.contains("status=200") || line.contains("outcome=Finished"))
            });
            let script = script.ok_or("nothing in the log of its script")?;
            let first = moment(log, |line| {
                line.contains("remoteboot::dhcp")
                    && (line.contains(" answer=") || line.contains(" kind="))
            });
            let took = first.and_then(|first| script.duration_since(first).ok());
            let to_script = took.map(|took| tenths(took.as_secs_f32()));
            Ok(Attempt::Booted { seconds: tenths(seconds), to_script, ipxe })
        })
    }

    /// The system that runs is that of this instance, and what its console says is
    /// what this machine is.
    fn check_system(&self, console: &str) -> Result<(), String> {
        let (architecture, marker) = self.image;
        let kind = if architecture == "arm64" { "aarch64" } else { "x86_64" };
        let lines: Vec<&str> = console.lines().map(str::trim).collect();
        for expected in [format!("marker={marker}"), format!("arch={kind}"), format!("mac={MAC}")] {
            let expected = format!("REMOTEBOOT {expected}");
            if !lines.contains(&expected.as_str()) {
                return Err(format!("its console has no `{expected}`"));
            }
        }
        let cmdline = lines.iter().find_map(|line| line.strip_prefix("REMOTEBOOT cmdline="));
        let words: Vec<&str> = cmdline.unwrap_or_default().split(' ').collect();
        for expected in [format!("lab.word={}", self.word), format!("lab={MAC}")] {
            if !words.contains(&expected.as_str()) {
                return Err(format!("its command line has no `{expected}`: {}", words.join(" ")));
            }
        }
        match self.address() {
            Some(start) if !words.iter().any(|word| word.starts_with(start)) => {
                Err(format!("its command line has no `{start}…`: {}", words.join(" ")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// It came by the road that is meant, with the boot program that is meant;
    /// the version that its iPXE says.
    fn check_way(&self, console: &str, log: &str) -> Result<String, String> {
        if let Some(begins) = self.begins()
            && !console.contains(&begins)
        {
            return Err(format!("its console has no `{begins}`"));
        }
        let version = console
            .split("iPXE ")
            .skip(1)
            .filter(|text| text.starts_with(|first: char| first.is_ascii_digit()))
            .filter_map(|text| text.split_whitespace().next())
            .last()
            .ok_or("its console has no version of iPXE")?;
        let expected = self.cell.row.loader().map_or("1.0.0", |(release, _)| release.ipxe());
        if !version.starts_with(expected) {
            return Err(format!("it ran iPXE {version}, not {expected}"));
        }
        if let Some((_, name)) = self.cell.row.loader() {
            let fetched = log.lines().any(|line| {
                if self.cell.road.is_http() {
                    line.contains(&format!("path=\"/loader/{name}\""))
                        && line.contains("status=200")
                } else {
                    line.contains(&format!(" file={name} ")) && line.contains("outcome=Finished")
                }
            });
            if !fetched {
                return Err(format!("nothing in the log of `{name}` by this road"));
            }
        }
        Ok(version.to_owned())
    }

    /// What the firmware says when it takes this road; a BIOS and a ROM say nothing.
    fn begins(&self) -> Option<String> {
        match self.cell.row {
            Row::BiosRom | Row::BiosUndionly(_) | Row::X64Rom => None,
            Row::X64Snponly(_)
            | Row::X64Ipxe(_)
            | Row::Arm64Ipxe(_)
            | Row::Ia32
            | Row::Arm32
            | Row::Others => Some(format!(">>Start {}", self.cell.road.title())),
        }
    }

    /// Why it will not come to anything any more.
    fn lost(&self, console: &str) -> Option<String> {
        if self.begins().is_some() && !self.cell.road.is_http() {
            // The next entry of its boot order would boot it, too.
            let http = if self.cell.road == Road::Pxe4 { Road::Http4 } else { Road::Http6 };
            if console.contains(&format!(">>Start {}", http.title())) {
                return Some("its firmware gave up PXE and went on with HTTP Boot".to_owned());
            }
        }
        let is_end = |line: &&str| ENDS.into_iter().any(|sign| line.contains(sign));
        let line =
            console.split_inclusive('\n').filter(|line| line.ends_with('\n')).find(is_end)?;
        Some(format!("its console says `{}`", short(line)))
    }
}

/// The boot program of a release.
fn loader(release: Release, name: &str) -> String {
    cache().join("loaders").join(release.id()).join(name).display().to_string()
}

/// When the first such line was written.
fn moment(log: &str, is_it: impl Fn(&str) -> bool) -> Option<SystemTime> {
    let line = log.lines().find(|line| is_it(line))?;
    humantime::parse_rfc3339(line.split_whitespace().next()?).ok()
}

/// The last lines that say something, each of a length that a document can bear.
fn last<'a>(lines: impl Iterator<Item = &'a str>, count: usize) -> Vec<String> {
    let lines: Vec<String> = lines.filter(|line| !line.trim().is_empty()).map(short).collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

fn short(line: &str) -> String {
    let printable = line.trim().chars().filter(|letter| !letter.is_control());
    printable.take(200).collect()
}

/// Rounded: computers are shared.
fn tenths(seconds: f32) -> f32 {
    (seconds * 10.0).round() / 10.0
}
