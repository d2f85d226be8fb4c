//! The names of facts. A fact is a working copy of what the ledger says; its name says what it is
//! of, with `/` between the parts. Names and ids cannot hold a `/`, free texts come last or hashed.

use intended_model::{CredentialId, Digest, EnvironmentId, IntentId, MemberId, Name, Timestamp};

/// The context of one session of one agent.
#[must_use]
pub fn session(environment: &EnvironmentId, agent: &str, session: &str) -> String {
    // Agent and session are free ASCII texts: hashed, so that no pair can pose as another.
    format!("s/{environment}/{}/{}", Digest::of(agent.as_bytes()).to_hex(), Digest::of(session.as_bytes()).to_hex())
}
/// One window of one budget.
#[must_use]
pub fn budget(environment: &EnvironmentId, budget: &str, agent: Option<&str>, window_start_secs: i64) -> String {
    let agent = agent.map_or_else(|| "*".to_owned(), |a| Digest::of(a.as_bytes()).to_hex());
    format!("b/{environment}/{budget}/{agent}/{window_start_secs}")
}
/// How many approvals a person gave in one hour of an environment, and until when that is needed.
#[must_use]
pub fn approvals(environment: &EnvironmentId, approver: &MemberId, at: Timestamp) -> (String, Timestamp) {
    let hour = at.as_secs().div_euclid(HOUR_SECS);
    // The last hour is part of two of these.
    let until = Timestamp::from_millis((hour + 3) * HOUR_SECS * 1000);
    (format!("a/{environment}/{approver}/{hour}"), until)
}
const HOUR_SECS: i64 = 3600;
/// All counts of approvals.
pub const APPROVALS_PREFIX: &str = "a/";
/// What is let through by a breaker that is half-open since this ledger position.
#[must_use]
pub fn probes(breaker: &Name, index: u64) -> String {
    format!("p/{breaker}/{index}")
}
/// That an intent is one of those, for who looks for them. Nothing is decided by it.
#[must_use]
pub fn probe(probes: &str, intent: &IntentId) -> String {
    format!("{}{intent}", probes_of(probes))
}
/// All of those that one [`probes`] counts.
#[must_use]
pub fn probes_of(probes: &str) -> String {
    format!("q/{}/", probes.strip_prefix(PROBE_PREFIX).unwrap_or(probes))
}
/// All probes.
pub const PROBE_PREFIX: &str = "p/";
/// What came of an action.
#[must_use]
pub fn outcome(intent: &IntentId) -> String {
    format!("e/{intent}")
}
/// All outcomes.
pub const OUTCOME_PREFIX: &str = "e/";
/// An escalation or deferral that is still open.
#[must_use]
pub fn open(intent: &IntentId) -> String {
    format!("o/{intent}")
}
/// All open escalations.
pub const OPEN_PREFIX: &str = "o/";
/// All consumed tokens, budget windows, sessions.
pub const CONSUMED_PREFIX: &str = "j/";
pub const BUDGET_PREFIX: &str = "b/";
pub const SESSION_PREFIX: &str = "s/";
/// A consumed token.
#[must_use]
pub fn consumed(jti: &str) -> String {
    format!("j/{jti}")
}
/// A revoked token.
#[must_use]
pub fn revoked(jti: &str) -> String {
    format!("r/{jti}")
}
/// All revoked tokens.
pub const REVOKED_PREFIX: &str = "r/";
/// When a credential was last used, and what for: see `intended-runtime`.
#[must_use]
pub fn usage(credential: &CredentialId) -> String {
    format!("{USAGE_PREFIX}{credential}")
}
/// All of them.
pub const USAGE_PREFIX: &str = "u/";
/// The answer to one idempotency key of one credential.
#[must_use]
pub fn idempotency(credential: &CredentialId, key: &str) -> String {
    format!("i/{credential}/{}", Digest::of(key.as_bytes()).to_hex())
}
/// A signed checkpoint by tree size.
#[must_use]
pub fn checkpoint(size: u64) -> String {
    format!("c/{size:020}")
}
/// All checkpoints, in order of size.
pub const CHECKPOINT_PREFIX: &str = "c/";
/// How many control entries there are, signed: see `intended-runtime`.
pub const CONTROL_COUNT: &str = "n";
/// A sealed private key.
#[must_use]
pub fn sealed_key(scope: &str, kid: &str) -> String {
    format!("k/{scope}/{kid}")
}
/// All sealed private keys.
pub const SEALED_KEY_PREFIX: &str = "k/";
/// What one breaker's window had seen: of the run of a server, by what it watches. See `intended-runtime`.
#[must_use]
pub fn window(run: &str, breaker: &Name, target: &str) -> String {
    format!("{}{}", windows_of(run, breaker), Digest::of(target.as_bytes()).to_hex())
}
/// A part of one that is written down in parts.
#[must_use]
pub fn window_part(window: &str, part: &str) -> String {
    format!("{window}/{part}")
}
/// All windows of one breaker.
#[must_use]
pub fn windows_of(run: &str, breaker: &Name) -> String {
    format!("{WINDOWS_PREFIX}{run}/{breaker}/")
}
/// Up to when all windows of a run are kept.
#[must_use]
pub fn windows_until(run: &str) -> String {
    format!("{WINDOWS_UNTIL_PREFIX}{run}")
}
pub const WINDOWS_PREFIX: &str = "bw/";
pub const WINDOWS_UNTIL_PREFIX: &str = "bu/";
/// Where an agent, or a caller, did something and when: see `intended-runtime`'s `activity`.
#[must_use]
pub fn agent_places(agent: &str) -> String {
    format!("{AGENT_PLACES_PREFIX}{}", Digest::of(agent.as_bytes()).to_hex())
}
#[must_use]
pub fn caller_places(credential: &CredentialId) -> String {
    format!("{CALLER_PLACES_PREFIX}{credential}")
}
pub const AGENT_PLACES_PREFIX: &str = "w/a/";
pub const CALLER_PLACES_PREFIX: &str = "w/c/";
/// Since when that is noted.
pub const PLACES_SINCE: &str = "w/since";
/// What a node of the server last said: see `intended-runtime`'s `nodes`.
#[must_use]
pub fn node(node: &Name) -> String {
    format!("{NODE_PREFIX}{node}")
}
/// All nodes.
pub const NODE_PREFIX: &str = "h/n/";
/// What a node writes to see whether it can.
#[must_use]
pub fn written_by(node: &Name) -> String {
    format!("h/w/{node}")
}
/// One part of the report of a review.
#[must_use]
pub fn review_part(report: Digest, part: usize) -> String {
    format!("v/{}/{part:06}", report.to_hex())
}
/// All parts of one report.
#[must_use]
pub fn review_parts(report: Digest) -> String {
    format!("v/{}/", report.to_hex())
}
/// A session of somebody who signed in, by the SHA-256 of its key: see [`crate::KeptSignIn`].
#[must_use]
pub fn sign_in(session: Digest) -> String {
    format!("{SIGN_IN_PREFIX}{}", session.to_hex())
}
/// All of them.
pub const SIGN_IN_PREFIX: &str = "ps/";
/// How many readiness checks were run: see `intended-runtime`'s `readiness`. An observation, like usage
/// and places: no entry says it, and nothing is decided by it.
pub const READINESS_COUNT: &str = "rd/n";
/// One place in the ring of the runs.
#[must_use]
pub fn readiness_run(place: u64) -> String {
    format!("rd/h/{place:03}")
}
/// What a check writes to see that it is taken.
#[must_use]
pub fn readiness_probe(nonce: &str) -> String {
    format!("rd/p/{nonce}")
}
/// The sessions of one member, and when each began.
#[must_use]
pub fn sign_ins_of(member: &MemberId) -> String {
    format!("pm/{member}/")
}
/// What a probe of a capability writes and removes again: see `intended-runtime`'s `capabilities`.
#[must_use]
pub fn capability_probe(what: &str, id: &str) -> String {
    format!("y/{what}/{id}")
}
