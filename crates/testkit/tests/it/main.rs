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
mod forged_sign_in;
mod gates;
mod golden;
mod http_edge;
mod invariants;
mod leaked;
mod lifecycle;
mod names;
mod nested;
mod oidc;
mod once;
mod operate;
mod policy_http;
mod refusals;
mod rollback;
mod sign_in;
mod sign_in_http;
mod slow;
mod tampering;
mod time;
mod watching;
mod webhooks;
