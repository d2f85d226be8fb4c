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
mod claimed;
mod counted;
mod covered;
mod credentials;
mod deferring;
mod emergency;
mod figures;
mod forged;
mod forged_access;
mod forged_sign_in;
mod gates;
mod golden;
mod health;
mod health_reach;
mod http_edge;
mod invariants;
mod investigate;
mod isolation;
mod leaked;
mod lifecycle;
mod logs;
mod names;
mod nested;
mod nodes;
mod oidc;
mod once;
mod one_person;
mod operate;
mod policy_http;
mod readiness;
mod readiness_faults;
mod refusals;
mod reported;
mod restored;
mod reviews;
mod rollback;
mod self_test;
mod self_test_uncounted;
mod siem;
mod sign_in;
mod sign_in_http;
mod slow;
mod status;
mod stopping;
mod tampering;
mod tenants;
mod time;
mod traces;
mod watching;
mod webhooks;
mod windows_kept;
