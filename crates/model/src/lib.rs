//! The words of the product as types. Nothing here reads a clock, draws a random number or touches
//! the outside: every value comes in from the caller and can be recorded.
//!
//! * [`id`]: names of tenants, environments, agents, credentials, intents
//! * [`time`]: a [`Timestamp`] in milliseconds, and the little calendar that risk needs
//! * [`digest`]: SHA-256 values, written `sha256:<hex>`
//! * [`json`]: the strict JSON reader and the canonical (RFC 8785) writer that all digests rest on
//! * [`intent`]: what an agent declares it wants to do
//! * [`decision`]: what the runtime answers, gate by gate
//! * [`access`]: scopes, roles and grants
//! * [`entry`]: everything that can stand in a ledger
//! * [`code`]: the stable reason and error codes
//! * [`synthetic`]: the self-test, and what tells it from traffic
//! * [`exit`]: the process exit codes of the `intended` binary
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod about;
pub mod access;
pub mod breaker;
pub mod code;
pub mod decision;
pub mod digest;
pub mod emergency;
pub mod entry;
pub mod exit;
pub mod id;
pub mod intent;
pub mod json;
pub mod synthetic;
pub mod time;

pub use code::Code;
pub use decision::{Decision, Outcome};
pub use digest::Digest;
pub use entry::{Event, Kind};
pub use exit::ExitCode;
pub use id::{AgentId, CredentialId, EnvironmentId, IntentId, MemberId, Name, NameError, TenantId};
pub use intent::Intent;
pub use json::Value;
pub use synthetic::Class;
pub use time::Timestamp;
