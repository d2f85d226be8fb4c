//! The decision procedure, pure: no clock, no I/O, no randomness, no async.
//!
//! * [`state`]: a tenant's state, and the fold that makes it out of control entries
//! * [`needs`]: what the shell has to read before it can decide
//! * [`decide`](mod@decide): the nine gates as one call: `decide(&State, &Input) -> Decision`
//! * [`approvals`]: who may approve what, and how far the approvals of it reach
//! * [`breakers`]: what opens by itself, how it closes, what people hold
//! * [`access`]: what a credential or a member may do, where
//! * [`people`]: members, their keys and means of signing in, as the fold has them
//! * [`lifecycle`]: how an environment comes to another policy, and back
//! * [`emergency`]: halts, what they cover, and which tokens are dead
//! * [`restored`]: a ledger that goes on from a copy of itself
//! * [`explain`]: why, in sentences, and which single change would have allowed it
//! * [`expect`]: the outcomes that a version is expected to have
//! * [`risk`]: eight factors to a score
//! * [`effects`]: what a recorded decision does to sessions, budgets and open escalations
//!
//! **Architecture invariant:** whatever the verifier must recompute lives here or below, and takes
//! everything that varies as a recorded value. The same state and input give the same bytes.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod access;
pub mod agents;
pub mod approvals;
pub(crate) mod barriers;
pub mod breakers;
pub mod coverable;
pub mod covers;
pub mod decide;
pub mod effects;
pub mod emergency;
pub mod expect;
pub mod explain;
pub mod keys;
pub mod lifecycle;
pub mod needs;
pub mod people;
pub mod restored;
pub mod risk;
pub mod sign_in;
pub mod state;
pub mod synthetic;

pub use access::{Access, Held, NoAccess};
pub use breakers::{Breaker, BreakerError, Breakers};
pub use decide::{MAX_DELEGATION, PolicyTrace, compare_policy, decide, delegation, policy_trace};
pub use effects::{Effect, KeptSession, effective, effects};
pub use emergency::{About, AskedResume, Dead, Drill, Emergency, EmergencyError, Glass, Halt, Revocation};
pub use expect::{expectations, verify_expectations};
pub use lifecycle::{
    Deployment, Draft, DraftStatus, Incident, LifecycleError, MAX_NOTE, MAX_OPEN_DRAFTS, PendingRollback, Person,
};
pub use needs::{Needs, needs};
pub use restored::Restored;
pub use sign_in::{KeptSignIn, SignInError, SignIns};
pub use state::{
    Agent, Capability, Credential, Environment, FoldError, Key, KeyStatus, Linked, Member, Review, State, Version,
};
