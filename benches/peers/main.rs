//! The daemon beside the servers that a user would take instead, turn by turn in
//! one run, in network namespaces: see docs/benchmarks.md.
//!
//! `QUICK=1` makes the turns short and few, to see that all of it works. `ONLY`
//! names the cases that are wanted by a part of their title.

mod bare;
mod dhcp;
mod lab;
mod load;
mod machine;
mod report;
mod reserve;
mod server;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(place) = arguments.iter().position(|argument| argument == "--bare") {
        return bare::serve(arguments.get(place + 1).map(std::path::Path::new));
    }
    // `cargo test --benches` runs this, too, and wants no measurement.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    lab::enter();
    let lab = lab::Lab::new();
    let is_quick = std::env::var_os("QUICK").is_some_and(|value| !value.is_empty());
    let only = std::env::var("ONLY").unwrap_or_default();
    println!("{}", lab.versions());
    dhcp::measure(&lab, is_quick, &only);
}
