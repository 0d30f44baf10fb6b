//! What parsing, deciding and encoding take alone, without a socket or a disk, and how
//! many allocations each makes. Decisions are made in a state of 100 machines and in
//! one of 100,000, which should be the same but for the processor's caches.

mod dhcp;
mod files;
mod hall;
mod management;
mod world;

#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    // `cargo test --benches` runs this, too, and wants no measurement.
    if std::env::args().any(|argument| argument == "--bench") {
        divan::main();
    }
}
