//! The TFTP room: boot programs out to machines that know nothing better yet.
//!
//! A read goes `request` (bytes to a value), `answer` (which content, or why
//! not), `transfer` (blocks, windows and acknowledgements, at the `pace` that
//! losses allow), `reply` (values to bytes). `desk` has all transfers of one port.
//! `serve` owns the sockets and the clock, and nothing else here knows that either
//! exists. Writes are refused.
//! `places` says who may begin a transfer, and `queue` has those for whom there is none yet.
//! `library` alone knows who may have which file; `machines` puts it all together.

pub mod answer;
pub mod desk;
pub mod library;
pub mod machines;
pub mod pace;
pub mod places;
pub mod queue;
pub mod reply;
pub mod report;
pub mod request;
pub mod serve;
pub mod transfer;
