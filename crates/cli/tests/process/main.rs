//! The `intended` binary as a process: what it prints, how it ends, what is left when it is killed.
//!
//! Environment: `INTENDED_KILLS` (how often the server is killed, 300), `INTENDED_SEED`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods
)]

mod access;
mod approval;
mod backup;
mod breaker;
mod capabilities;
mod cli;
mod disk;
mod docs;
mod emergency;
mod health;
mod kill;
mod options;
mod policy;
mod prometheus;
mod readiness;
mod self_test;
mod siem;
mod sign_in;
mod status;
mod stop;
mod support;
mod telemetry;
mod tenant;
mod verify;
mod webhooks;
