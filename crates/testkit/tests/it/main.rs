//! The runtime as a whole: invariants, tampering, the HTTP edge.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods
)]

mod authzen;
mod changes;
mod golden;
mod http_edge;
mod invariants;
mod lifecycle;
mod once;
mod operate;
mod refusals;
mod slow;
mod tampering;
mod time;
mod watching;
