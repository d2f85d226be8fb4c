//! What the document of the interface says of requests and answers. The types are described here and
//! made elsewhere, from the words of the model; that both are the same is held by a test, which reads
//! live answers against these schemas.
#![expect(dead_code, reason = "described, not made")]

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};

/// Any JSON object.
type Object = BTreeMap<String, Value>;

/// What every refusal looks like (RFC 9457).
#[derive(ToSchema)]
pub struct Problem {
    r#type: String,
    title: String,
    status: u16,
    /// A code of the catalogue: stable, and what to go by.
    code: String,
    detail: Option<String>,
    hint: Option<String>,
    request_id: Option<String>,
    /// Whether the same request may succeed later.
    retryable: bool,
    errors: Option<Vec<ProblemMember>>,
}
#[derive(ToSchema)]
pub struct ProblemMember {
    /// JSON Pointer (RFC 6901) into the body, or the name of a parameter after a `/`.
    pointer: String,
    message: String,
    /// Where in a member that is a text with lines, from 1.
    line: Option<u64>,
    column: Option<u64>,
}

/// Adds to every operation that it can be refused.
pub fn problems(document: &mut OpenApi) {
    let refused = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let refused = ResponseBuilder::new().description("refused").content("application/problem+json", refused).build();
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), RefOr::T(refused.clone()));
        }
    }
}

#[derive(ToSchema)]
pub struct IntentRequest {
    subject: Party,
    action: Action,
    resource: Party,
    /// What the agent is after, in words.
    goal: Option<String>,
    /// Intents of one session are counted together.
    session: Option<String>,
    context: Option<Object>,
    /// Needed when the credential is good for several.
    environment: Option<String>,
}
/// An agent, or a resource.
#[derive(ToSchema)]
pub struct Party {
    r#type: String,
    id: String,
    properties: Option<Object>,
}
#[derive(ToSchema)]
pub struct Action {
    /// The tool.
    name: String,
    /// Its arguments, exactly as it would get them.
    properties: Option<Object>,
}

/// The full decision.
#[derive(ToSchema)]
pub struct DecisionAnswer {
    id: String,
    tenant: String,
    environment: String,
    agent: String,
    action: String,
    #[schema(value_type = Outcome)]
    decision: Outcome,
    /// A code of the catalogue.
    reason: String,
    message: String,
    /// `final`, `open` or `timed_out`.
    state: String,
    risk: Option<Risk>,
    classification: Classification,
    gates: Vec<Gate>,
    obligations: Option<Obligations>,
    policy: Option<PolicyUsed>,
    intent_hash: String,
    /// Of a `modify`: what the token is bound to.
    effective_intent_hash: Option<String>,
    recorded_at: String,
    token: Option<String>,
    token_expires_at: Option<String>,
    receipt: Receipt,
}
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Outcome {
    Allow,
    Deny,
    Escalate,
    Defer,
    Modify,
}
#[derive(ToSchema)]
pub struct Risk {
    /// 0–100.
    score: u8,
    factors: Vec<Factor>,
}
#[derive(ToSchema)]
pub struct Factor {
    name: String,
    value: u8,
    weight: u16,
}
#[derive(ToSchema)]
pub struct Classification {
    ambiguous: bool,
    blast: u8,
    /// Of the Open Intent Layer.
    category: Option<String>,
    confidence: u8,
    indicators: Vec<String>,
    operation: Option<String>,
    reversible: String,
    /// Whose tool it is.
    system: Option<String>,
}
#[derive(ToSchema)]
pub struct Gate {
    gate: String,
    outcome: String,
    code: String,
    detail: Option<String>,
}
#[derive(ToSchema)]
pub struct Obligations {
    /// Of a `modify`: the arguments that may be used.
    arguments: Option<Object>,
    approvals: Option<Vec<Requirement>>,
    /// Milliseconds since the epoch.
    expires_at: Option<i64>,
    needs: Option<Vec<String>>,
}
#[derive(ToSchema)]
pub struct Requirement {
    count: u32,
    group: String,
}
#[derive(ToSchema)]
pub struct PolicyUsed {
    pack: String,
    version: String,
    digest: String,
    /// The policies that settled it.
    determining: Vec<String>,
    errors: Option<Vec<String>>,
}
/// Entry, inclusion proof and signed checkpoint.
#[derive(ToSchema)]
pub struct Receipt {
    v: u32,
    index: u64,
    entry: Object,
    proof: Vec<String>,
    checkpoint: String,
}
#[derive(ToSchema)]
pub struct IntentList {
    intents: Vec<IntentRow>,
    /// Where to go on, if there may be more.
    cursor: Option<String>,
}
#[derive(ToSchema)]
pub struct IntentRow {
    id: String,
    index: u64,
    recorded_at: String,
    environment: String,
    agent: String,
    action: String,
    resource: String,
    #[schema(value_type = Outcome)]
    decision: Outcome,
    reason: String,
    risk: Option<u8>,
}
#[derive(ToSchema)]
pub struct Explanation {
    id: String,
    #[schema(value_type = Outcome)]
    decision: Outcome,
    reason: String,
    message: String,
    hint: String,
    /// Everything that stands in the way.
    objections: Vec<Gate>,
    /// Each of them in a sentence, with what would have to change.
    obstacles: Vec<Obstacle>,
    /// Single changes that would have allowed it.
    would_allow: Vec<WouldAllow>,
    /// How many changes were tried.
    tried: u64,
    gates: Vec<Gate>,
    risk: Option<Risk>,
    policy: Option<PolicyUsed>,
    intent: Object,
}
#[derive(ToSchema)]
pub struct EntryRow {
    index: u64,
    at: String,
    kind: String,
    entry: Object,
}
#[derive(ToSchema)]
pub struct Obstacle {
    gate: String,
    code: String,
    what: String,
}
#[derive(ToSchema)]
pub struct WouldAllow {
    change: String,
    #[schema(value_type = Outcome)]
    decision: Outcome,
    reason: String,
    /// What was taken to be so.
    assumes: Option<String>,
}
#[derive(ToSchema)]
pub struct ReplayRequest {
    /// A ledger position.
    at: Option<u64>,
    /// Or a time, in milliseconds since the epoch.
    at_time: Option<i64>,
    /// A digest, or the beginning of it.
    policy: Option<String>,
    /// Or the files of a version.
    files: Option<BTreeMap<String, String>>,
}
#[derive(ToSchema)]
pub struct ReplayAnswer {
    id: String,
    index: u64,
    /// The position whose state it was made on.
    at: u64,
    same: bool,
    recorded: Object,
    again: Object,
    /// The gates that say something else.
    differences: Vec<GateDifference>,
}
#[derive(ToSchema)]
pub struct GateDifference {
    gate: String,
    recorded: Option<Gate>,
    again: Option<Gate>,
}
#[derive(ToSchema)]
pub struct IncidentAnswer {
    incident: String,
    title: String,
    environment: Option<String>,
    by: String,
    index: u64,
    opened_at: String,
    notes: u32,
    /// `open` or `closed`.
    state: String,
    closed_at: Option<String>,
    closed_by: Option<String>,
    summary: Option<String>,
}
#[derive(ToSchema)]
pub struct TimelineAnswer {
    incident: String,
    from: String,
    to: String,
    items: Vec<TimelineItem>,
    /// Entries of that time that were not looked at, because there were too many.
    unseen: u64,
    spike: SpikeRule,
}
#[derive(ToSchema)]
pub struct TimelineItem {
    at: String,
    /// Absent where it was counted.
    index: Option<u64>,
    kind: String,
    what: String,
}
/// What counts as a spike of denials.
#[derive(ToSchema)]
pub struct SpikeRule {
    at_least: u32,
    times_median: u32,
    baseline_minutes: i64,
}

#[derive(ToSchema)]
pub struct VerifyRequest {
    token: String,
    environment: Option<String>,
    audience: Option<String>,
    /// The call that is about to be made; or `intent_hash`.
    call: Option<Call>,
    intent_hash: Option<String>,
    consume: Option<bool>,
}
#[derive(ToSchema)]
pub struct Call {
    agent: String,
    tool: String,
    resource: Party,
    /// The arguments themselves, or their digest.
    arguments: Option<Object>,
    arguments_digest: Option<String>,
}
#[derive(ToSchema)]
pub struct TokenVerdict {
    active: bool,
    /// `consumed` or `available`.
    single_use: Option<String>,
    /// Why not: a code of the catalogue.
    refusal: Option<String>,
    message: Option<String>,
    agent: Option<String>,
    tool: Option<String>,
    intent: Option<String>,
    /// Seconds since the epoch.
    expires_at: Option<i64>,
    consumed_index: Option<u64>,
}
#[derive(ToSchema)]
pub struct RevokeRequest {
    /// The intent that the token was issued for.
    intent: String,
    reason: String,
}
#[derive(ToSchema)]
pub struct Recorded {
    /// Of the ledger entry.
    index: u64,
}
#[derive(ToSchema)]
pub struct Jwks {
    keys: Vec<Object>,
}
#[derive(ToSchema)]
pub struct RotateRequest {
    environment: String,
    /// `EdDSA`, `ES256` or `RS256`.
    alg: Option<String>,
}
#[derive(ToSchema)]
pub struct Rotated {
    kid: String,
    index: u64,
}
#[derive(ToSchema)]
pub struct RetireRequest {
    environment: String,
    reason: String,
}
#[derive(ToSchema)]
pub struct Revocations {
    revocations: Vec<Revocation>,
    /// The index to ask after next.
    after: u64,
    /// Whether there are entries that were not looked at yet.
    more: bool,
}
#[derive(ToSchema)]
pub struct Revocation {
    index: u64,
    at: String,
    jti: String,
    intent: String,
    environment: String,
    /// Seconds since the epoch.
    expires_at: i64,
    reason: String,
}

#[derive(ToSchema)]
pub struct Verification {
    /// `idle` or `running`.
    state: String,
    running_since: Option<String>,
    last: Option<VerificationResult>,
}
#[derive(ToSchema)]
pub struct VerificationResult {
    /// `holds`, `fails` or `incomplete`.
    outcome: String,
    /// How many entries it was to cover.
    size: u64,
    started_at: String,
    finished_at: String,
    /// Of one that holds: decisions that were made again.
    decisions: Option<u64>,
    root: Option<String>,
    failure: Option<VerificationFailure>,
    /// Of one that did not get to an end.
    why: Option<String>,
}
#[derive(ToSchema)]
pub struct VerificationFailure {
    check: String,
    /// The first entry that fails; absent when it is not about one.
    index: Option<u64>,
    /// For a credential of the whole tenant.
    message: Option<String>,
}

#[derive(ToSchema)]
pub struct SinkRow {
    sink: String,
    /// `ocsf` or `cef`.
    format: String,
    /// `file`, `syslog` or `https`.
    transport: String,
    /// `ok`, `behind` or `failing`.
    state: String,
    /// The ledger index that it goes on from after a restart.
    next: u64,
    lag_entries: u64,
    lag_seconds: i64,
    /// Events, since the beginning.
    exported: u64,
    /// Since the process started.
    failures: u64,
    last_at: Option<String>,
    last_error: Option<String>,
    last_error_at: Option<String>,
}
#[derive(ToSchema)]
pub struct SinkTested {
    sent: bool,
    failed: Option<String>,
}

#[derive(ToSchema)]
pub struct Health {
    status: String,
    version: String,
    uptime_seconds: i64,
    components: Vec<Component>,
}
#[derive(ToSchema)]
pub struct Component {
    component: String,
    /// `healthy`, `degraded` or `unavailable`.
    status: String,
    version: String,
    uptime_seconds: i64,
    checks: Vec<Check>,
}
#[derive(ToSchema)]
pub struct Check {
    check: String,
    status: String,
    detail: Option<String>,
}
