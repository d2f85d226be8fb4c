//! The runtime as a whole: invariants, tampering, the HTTP edge.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods
)]

mod approvals;
mod authzen;
mod forged;
mod gates;
mod golden;
mod http_edge;
mod invariants;
mod leaked;
mod nested;
mod rollback;
mod tampering;
mod time;
