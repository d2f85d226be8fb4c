//! The runtime as a whole: invariants, tampering, the HTTP edge.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods
)]

mod access_request;
mod access_scale;
mod access_walk;
mod agents;
mod approvals;
mod approving;
mod approving_http;
mod authzen;
mod bounds;
mod breakers;
mod capabilities;
mod changes;
mod credentials;
mod deferring;
mod emergency;
mod forged;
mod forged_access;
mod forged_sign_in;
mod gates;
mod golden;
mod http_edge;
mod invariants;
mod investigate;
mod isolation;
mod leaked;
mod lifecycle;
mod names;
mod nested;
mod oidc;
mod once;
mod one_person;
mod operate;
mod policy_http;
mod refusals;
mod reviews;
mod rollback;
mod siem;
mod sign_in;
mod sign_in_http;
mod slow;
mod stopping;
mod tampering;
mod tenants;
mod time;
mod watching;
mod webhooks;
