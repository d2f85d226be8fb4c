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
mod changes;
mod forged;
mod gates;
mod golden;
mod http_edge;
mod invariants;
mod investigate;
mod leaked;
mod lifecycle;
mod names;
mod nested;
mod once;
mod operate;
mod policy_http;
mod refusals;
mod rollback;
mod siem;
mod slow;
mod tampering;
mod time;
mod watching;
mod webhooks;
