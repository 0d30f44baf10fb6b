//! The daemon beside the servers that a user would take instead, turn by turn in
//! one run, in network namespaces: see docs/benchmarks.md.
//!
//! `QUICK=1` makes the turns short and few, to see that all of it works. `ONLY`
//! names the cases that are wanted by a part of their title.

mod application;
mod bare;
mod bare_http;
mod dhcp;
mod http;
mod http_load;
mod http_server;
mod lab;
mod load;
mod machine;
mod meter;
mod perfdhcp;
mod report;
mod reserve;
mod server;
mod storm;
mod tftp;
mod tftp_client;
mod tftp_load;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(place) = arguments.iter().position(|argument| argument == "--bare") {
        return bare::serve(arguments.get(place + 1).map(std::path::Path::new));
    }
    let behind = |flag: &str| {
        let place = arguments.iter().position(|argument| argument == flag)?;
        Some(arguments[place + 1..].to_vec())
    };
    if let Some([socket, template]) = behind("--application").as_deref() {
        return application::serve(socket.as_ref(), template.as_ref());
    }
    if let Some([files]) = behind("--bare-http").as_deref() {
        return bare_http::serve(files.as_ref());
    }
    if let Some([from, path, marks]) = behind("--in-turn").as_deref() {
        return http_load::ask_in_turn(from.parse().expect("an address"), (path, marks));
    }
    // `cargo test --benches` runs this, too, and wants no measurement.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    lab::enter();
    let lab = lab::Lab::new();
    let is_quick = std::env::var_os("QUICK").is_some_and(|value| !value.is_empty());
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut out = report::Out::default();
    out.say(&said_of_the_run(&lab, is_quick));
    dhcp::measure(&lab, is_quick, (&mut out, &only));
    perfdhcp::measure(&lab, is_quick, (&mut out, &only));
    tftp::measure(&lab, is_quick, (&mut out, &only));
    http::measure(&lab, is_quick, (&mut out, &only));
    let is_whole = storm::measure(&lab, is_quick, (&mut out, &only));
    // A part, or a hasty look, is nothing to keep.
    if !is_quick && only.is_empty() {
        out.keep();
    }
    if !is_whole {
        eprintln!("machines of the daemon's gave up: see the table");
        std::process::exit(1);
    }
}

fn said_of_the_run(lab: &lab::Lab, is_quick: bool) -> String {
    let servers = [
        "kea-dhcp4-server",
        "isc-dhcp-server",
        "dnsmasq-base",
        "tftpd-hpa",
        "atftpd",
        "nginx",
        "wrk",
    ];
    let versions = lab.versions();
    let of_servers = versions
        .lines()
        .filter(|line| line.split_once(' ').is_some_and(|(name, _)| servers.contains(&name)));
    let of_servers = of_servers.collect::<Vec<_>>().join(", ");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{}Linux {}, {cores} cores, load before {}. {of_servers}.",
        if is_quick { "Quick: to see that it works, not how fast it is. " } else { "" },
        kernel.trim(),
        load.split(' ').next().unwrap_or_default(),
    )
}
