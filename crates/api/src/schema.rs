//! What the document of the interface says of requests and answers. The types are described here and
//! made elsewhere, from the words of the model; that both are the same is held by a test, which reads
//! live answers against these schemas.
#![expect(dead_code, reason = "described, not made")]

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::extensions::Extensions;
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

/// Adds to every operation what it needs of who calls.
pub fn needs(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let operations = [
            ("GET", &mut item.get),
            ("PUT", &mut item.put),
            ("POST", &mut item.post),
            ("DELETE", &mut item.delete),
            ("PATCH", &mut item.patch),
        ];
        for (method, operation) in operations {
            let need = crate::needs::of(method, path);
            if let (Some(operation), Some(need)) = (operation, need) {
                let told = Extensions::builder().add("x-required-scope", need.text()).build();
                operation.extensions.get_or_insert_default().merge(told);
            }
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
    class: IntentClass,
    #[schema(value_type = Outcome)]
    decision: Outcome,
    /// A code of the catalogue.
    reason: String,
    message: String,
    /// `final`, `open`, `timed_out` or `denied`.
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
/// What an agent wants, or a self-test.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum IntentClass {
    Traffic,
    Synthetic,
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
    /// The agent's owner does not count.
    except_owner: Option<bool>,
    group: String,
    /// What meets the first step as well.
    or: Option<Vec<Quorum>>,
    /// The steps after the first, in order: each is met by any of its quorums.
    then: Option<Vec<Vec<Quorum>>>,
}
/// So many people of one group.
#[derive(ToSchema)]
pub struct Quorum {
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
    /// Of a decision: the receipt of what came of it, once that was reported.
    outcome: Option<Object>,
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
    class: IntentClass,
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
    /// Absent: `traffic`. Who acts on the answer asks for nothing else.
    class: Option<IntentClass>,
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
pub struct TokenTestRequest {
    /// Needed when the credential is good for several.
    environment: Option<String>,
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
pub struct SigningKey {
    environment: String,
    kid: String,
    /// `EdDSA`, `ES256` or `RS256`.
    alg: String,
    /// `active` signs, `previous` still verifies, `retired` does neither.
    status: String,
    added_at: String,
    /// Ledger position of the entry that added it.
    index: u64,
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
    cuts: Vec<RevocationCut>,
    /// The index to ask after next.
    after: u64,
    /// Whether there are entries that were not looked at yet.
    more: bool,
}
/// What kills every token that it means of those granted before it.
#[derive(ToSchema)]
pub struct RevocationCut {
    index: u64,
    at: String,
    /// `revoked` or `halted`.
    by: String,
    /// Of a revocation: what must fit, all of it.
    selector: Option<serde_json::Value>,
    /// Of a halt: where; absent: everywhere.
    environment: Option<String>,
    /// Of a halt: on what; absent: everything there.
    on: Option<serde_json::Value>,
    reason: String,
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
pub struct Capabilities {
    /// Of the server.
    version: String,
    /// Of the rows that are answered.
    summary: CapabilitySummary,
    capabilities: Vec<CapabilityRow>,
}
#[derive(ToSchema)]
pub struct CapabilitySummary {
    working: u64,
    not_configured: u64,
    degraded: u64,
    unavailable: u64,
}
#[derive(ToSchema)]
pub struct CapabilityRow {
    /// Stable.
    capability: String,
    area: String,
    title: String,
    /// As the documents make it.
    claim: String,
    /// `working`, `not configured`, `degraded` or `unavailable`.
    status: String,
    /// What its probe saw.
    result: String,
    /// What to do about it.
    action: Option<String>,
    /// What its probe does.
    probe: String,
    probed_at: String,
    took_micros: u64,
    docs: String,
    /// Those that hold it: `file::function`.
    tests: Vec<String>,
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

/// How a tenant stands.
#[derive(ToSchema)]
pub struct TenantStatus {
    tenant: String,
    at: String,
    /// How many changes the state is of that this was gathered of.
    control: u64,
    suspended: Option<String>,
    health: Health,
    ledger: Option<LedgerStatus>,
    environments: Vec<EnvironmentStatus>,
    halts: Option<HaltsStatus>,
    breakers: Option<BreakersStatus>,
    incidents: Option<IncidentsStatus>,
    approvals: Option<ApprovalsStatus>,
    revocations: Option<RevocationsStatus>,
    siem: Vec<SinkStatus>,
    /// What could not be read: it is missing here, and may be anything.
    failed: Vec<FailedPart>,
    /// What the credential may not see.
    not_shown: Vec<NotShown>,
}
#[derive(ToSchema)]
pub struct FailedPart {
    what: String,
    code: String,
}
#[derive(ToSchema)]
pub struct LedgerStatus {
    size: u64,
    newest_at: Option<String>,
    /// How long the oldest entry without a kept checkpoint has been waiting for one.
    checkpoint_waiting_seconds: i64,
}
#[derive(ToSchema)]
pub struct EnvironmentStatus {
    environment: String,
    tier: String,
    suspended: Option<String>,
    /// What it decides by; absent: nothing, or it is not to be seen.
    policy: Option<PolicyStatus>,
    rollback_waiting: Option<RollbackStatus>,
    /// The active signing key.
    key: Option<KeyStatus>,
}
#[derive(ToSchema)]
pub struct PolicyStatus {
    pack: String,
    version: String,
    digest: String,
    policies: u64,
    index: Option<u64>,
}
#[derive(ToSchema)]
pub struct RollbackStatus {
    to: String,
    by: String,
    expires_at: String,
}
#[derive(ToSchema)]
pub struct KeyStatus {
    kid: String,
    alg: String,
    /// Absent: when it was made cannot be read.
    age_days: Option<i64>,
    /// When policy has it rotated; absent: no policy says when.
    rotate_by: Option<String>,
    /// `fine`, `near`, `overdue`.
    rotation: Option<String>,
}
#[derive(ToSchema)]
pub struct HaltsStatus {
    in_force: u64,
    newest: Vec<HaltStatus>,
}
#[derive(ToSchema)]
pub struct HaltStatus {
    halt: String,
    scope: String,
    environment: Option<String>,
    reason: String,
    by: String,
    since: Option<String>,
}
#[derive(ToSchema)]
pub struct BreakersStatus {
    total: u64,
    not_closed: u64,
    worst: Vec<BreakerStatus>,
}
#[derive(ToSchema)]
pub struct BreakerStatus {
    breaker: String,
    environment: String,
    /// `open`, `held` or `half_open`.
    state: String,
    instances: Vec<Object>,
    held: Vec<Object>,
}
#[derive(ToSchema)]
pub struct IncidentsStatus {
    open: u64,
    newest: Vec<IncidentStatus>,
}
#[derive(ToSchema)]
pub struct IncidentStatus {
    incident: String,
    title: String,
    environment: Option<String>,
    since: Option<String>,
}
#[derive(ToSchema)]
pub struct ApprovalsStatus {
    open: u64,
    /// There are more than were counted.
    more: bool,
    oldest: Option<OldestApproval>,
}
#[derive(ToSchema)]
pub struct OldestApproval {
    intent: String,
    environment: String,
    agent: String,
    action: String,
    asked_at: String,
    expires_at: String,
}
#[derive(ToSchema)]
pub struct RevocationsStatus {
    within_seconds: i64,
    /// Revocations in bulk within that time.
    bulk: u64,
    last_at: Option<String>,
    last_reason: Option<String>,
    /// Single tokens that are revoked and would still be good.
    tokens: u64,
}
#[derive(ToSchema)]
pub struct SinkStatus {
    sink: String,
    state: String,
    lag_entries: u64,
    lag_seconds: i64,
    error: Option<String>,
}
#[derive(ToSchema)]
pub struct NotShown {
    what: String,
    needs: String,
}

#[derive(ToSchema)]
pub struct Health {
    status: String,
    version: String,
    uptime_seconds: i64,
    /// For strangers, whose `status` is about the server alone: how many tenants something is not well for.
    tenants_with_trouble: Option<usize>,
    components: Vec<Component>,
    /// Those that serve the caller's tenant.
    nodes: Option<Vec<NodeRow>>,
}
#[derive(ToSchema)]
pub struct NodeRow {
    node: String,
    /// Whether it is the one that answers.
    here: bool,
    /// What it said; `unavailable` when it is late.
    status: String,
    version: String,
    started_at: String,
    /// When it last said something.
    beat_at: String,
    late: bool,
    /// Of the state that it knows.
    control_version: u64,
    /// Changes of state that another node knows and this one did not when it last said something.
    behind: u64,
    trouble: Vec<TroubleRow>,
}
/// A check that was not healthy.
#[derive(ToSchema)]
pub struct TroubleRow {
    component: String,
    check: String,
    status: String,
}
#[derive(ToSchema)]
pub struct Ready {
    ready: bool,
    /// Whether it was asked to stop.
    draining: bool,
    /// `ok`, or why not as a code of the catalogue.
    store: String,
    checks: Vec<ReadyPart>,
}
/// Whether a component can do its part of a decision.
#[derive(ToSchema)]
pub struct ReadyPart {
    component: String,
    ok: bool,
    /// Which check says no.
    check: Option<String>,
    #[schema(rename = "do")]
    todo: Option<String>,
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
    /// What to do, where it is not healthy.
    #[schema(rename = "do")]
    todo: Option<String>,
    /// Where the documentation tells of it.
    see: Option<String>,
}

/// What is left out stays as it is.
#[derive(ToSchema)]
pub struct AgentRequest {
    environments: Vec<String>,
    /// The AuthZEN subject type it is known under.
    kind: Option<String>,
    /// A member's id, or free text of at most 200 characters.
    owner: Option<String>,
    /// At most 500 characters.
    purpose: Option<String>,
    #[schema(value_type = Option<AgentState>)]
    state: Option<AgentState>,
    teams: Option<Vec<String>>,
    /// At most 64 patterns of tools; none: any.
    tools: Option<Vec<String>>,
    /// At most 64 patterns of Open Intent Layer categories; none: any.
    categories: Option<Vec<String>>,
    /// 0 (none) to 100.
    trust: u8,
    /// At most 64 steps; none: any order.
    workflow: Option<Vec<WorkflowStep>>,
}
/// Retired is for good.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum AgentState {
    Active,
    Paused,
    Retired,
}
#[derive(ToSchema)]
pub struct WorkflowStep {
    /// A pattern of the tools that this is about.
    action: String,
    /// One of these must have been allowed in the session before.
    after: Option<Vec<String>>,
    /// None of these may have been allowed in the session before.
    not_after: Option<Vec<String>>,
}
#[derive(ToSchema)]
pub struct Agent {
    agent: String,
    categories: Vec<String>,
    environments: Vec<String>,
    kind: String,
    /// Of a single agent: when it last asked for something, if it has since this is noted.
    last_used: Option<String>,
    owner: String,
    #[schema(value_type = OwnerKind)]
    owner_kind: OwnerKind,
    purpose: String,
    #[schema(value_type = AgentState)]
    state: AgentState,
    teams: Vec<String>,
    tools: Vec<String>,
    trust: u8,
    workflow: Vec<WorkflowStep>,
}
/// Whether the owner is a member of the tenant, or a text that names none.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum OwnerKind {
    Member,
    Text,
    None,
}

#[derive(ToSchema)]
pub struct ReviewMade {
    counts: ReviewCounts,
    /// SHA-256 of the report.
    digest: String,
    index: u64,
    review: String,
}
#[derive(ToSchema)]
pub struct ReviewCounts {
    agents: u32,
    credentials: u32,
    credentials_active: u32,
    grants: u32,
    /// Findings, by how much they matter.
    high: u32,
    low: u32,
    medium: u32,
    members: u32,
    members_active: u32,
}
#[derive(ToSchema)]
pub struct ReviewRow {
    by: String,
    /// Two people have signed it.
    complete: bool,
    digest: String,
    index: u64,
    /// The last one, which alone can be signed.
    last: bool,
    review: String,
    signed: Vec<ReviewSignature>,
}
#[derive(ToSchema)]
pub struct ReviewSignature {
    by: String,
    member: String,
}
/// The report. Lists stand in a fixed order, times are RFC 3339.
#[derive(ToSchema)]
pub struct ReviewReport {
    agents: Vec<Object>,
    approvals: Vec<Object>,
    at: String,
    by: String,
    /// How many control entries the state had seen.
    control: u64,
    counts: ReviewCounts,
    credentials: Vec<Object>,
    environments: Vec<Object>,
    findings: Vec<ReviewFinding>,
    groups: Vec<Object>,
    members: Vec<Object>,
    noted_since: Option<String>,
    previous: Option<String>,
    review: String,
    roles: Vec<Object>,
    soon_days: i64,
    tenant: String,
    unused_days: i64,
    v: u32,
}
#[derive(ToSchema)]
pub struct ReviewFinding {
    /// `policy`, `group`, `member`, `credential` or `agent`.
    about: String,
    code: String,
    detail: String,
    /// `high`, `medium` or `low`.
    severity: String,
    subject: String,
}
#[derive(ToSchema)]
pub struct ReviewChanges {
    changes: Vec<ReviewChange>,
    from: String,
    from_at: String,
    to: String,
    to_at: String,
}
#[derive(ToSchema)]
pub struct ReviewChange {
    about: String,
    /// `added`, `widened`, `removed`, `narrowed` or `used_again`.
    change: String,
    detail: String,
    subject: String,
}
#[derive(ToSchema)]
pub struct ReviewSignRequest {
    /// Of the report that was read.
    digest: String,
    reason: String,
}
#[derive(ToSchema)]
pub struct ReviewSigned {
    /// Two people have signed.
    complete: bool,
    index: u64,
}
#[derive(ToSchema)]
pub struct SignInRequest {
    member: Option<String>,
    password: Option<String>,
    /// Instead of both.
    link: Option<String>,
    /// Six digits, where the member has an authenticator.
    code: Option<String>,
}
#[derive(ToSchema)]
pub struct SignedIn {
    /// Shown once: the bearer of what follows.
    key: String,
    member: String,
    session: String,
    expires_at: String,
    index: u64,
}
#[derive(ToSchema)]
pub struct Whoami {
    tenant: String,
    acts_as: String,
    member: Option<String>,
    name: Option<String>,
    grants: Vec<Object>,
    groups: Vec<String>,
    environments: Vec<ScopesIn>,
    whole: Vec<String>,
    session: Option<String>,
    method: Option<String>,
    expires_at: Option<String>,
    sign_in: Vec<String>,
}
#[derive(ToSchema)]
pub struct ScopesIn {
    environment: String,
    scopes: Vec<String>,
}
#[derive(ToSchema)]
pub struct Enrolled {
    /// Base 32.
    secret: String,
    /// `otpauth://…`
    uri: String,
}
#[derive(ToSchema)]
pub struct Link {
    code: String,
    member: String,
    expires_at: String,
    index: u64,
}
#[derive(ToSchema)]
pub struct SignInBegun {
    authorization_url: String,
    state: String,
    expires_at: String,
}
/// Context that was missing.
#[derive(ToSchema)]
pub struct ContextRequest {
    /// Members to add.
    context: Object,
}
#[derive(ToSchema)]
pub struct ApprovalReason {
    /// 1–500 characters.
    reason: String,
}
#[derive(ToSchema)]
pub struct ApprovalText {
    /// 1–500 characters.
    text: String,
}
#[derive(ToSchema)]
pub struct ApprovalBulk {
    approvals: Vec<ApprovalNamed>,
    reason: String,
}
#[derive(ToSchema)]
pub struct ApprovalNamed {
    id: String,
    etag: String,
}
#[derive(ToSchema)]
pub struct ApprovalResults {
    results: Vec<ApprovalResult>,
}
#[derive(ToSchema)]
pub struct ApprovalResult {
    id: String,
    approved: bool,
    /// Why not.
    code: Option<String>,
    detail: Option<String>,
}
#[derive(ToSchema)]
pub struct ApprovalList {
    approvals: Vec<ApprovalSummary>,
    cursor: Option<String>,
}
/// What waits for people.
#[derive(ToSchema)]
pub struct ApprovalSummary {
    id: String,
    environment: String,
    agent: String,
    action: String,
    resource: String,
    goal: Option<String>,
    risk: Option<u8>,
    reason: String,
    requested_at: String,
    expires_at: String,
    requirements: Vec<ApprovalProgress>,
    you: ApprovalMay,
    etag: String,
}
#[derive(ToSchema)]
pub struct ApprovalProgress {
    /// As policy writes it.
    requirement: String,
    except_owner: bool,
    steps: Vec<ApprovalStep>,
    /// Which step is asked now, from 0.
    current: u64,
    met: bool,
}
#[derive(ToSchema)]
pub struct ApprovalStep {
    /// Met when one of these is.
    quorums: Vec<ApprovalQuorum>,
    by: Vec<String>,
    met: bool,
}
#[derive(ToSchema)]
pub struct ApprovalQuorum {
    count: u32,
    group: String,
    given: u32,
}
/// Whether the caller may approve it now.
#[derive(ToSchema)]
pub struct ApprovalMay {
    approve: bool,
    code: Option<String>,
    why: Option<String>,
}
/// Everything about one request.
#[derive(ToSchema)]
pub struct Approval {
    id: String,
    /// `open`, `allowed`, `denied` or `timed_out`.
    state: String,
    environment: String,
    agent: String,
    agent_owner: Option<String>,
    /// Whom the agent acts for, and whom that one acts for.
    on_behalf_of: Vec<String>,
    requested_by: String,
    action: String,
    resource: String,
    goal: Option<String>,
    /// Exactly what would run, in canonical form: what is hashed is what is here.
    arguments: String,
    arguments_bytes: u64,
    intent: Object,
    intent_hash: String,
    policy: Option<PolicyUsed>,
    /// Policy was changed since it was asked for: what was approved before does not count.
    policy_changed: bool,
    risk: Option<Risk>,
    classification: Classification,
    gates: Vec<Gate>,
    /// What the session had done before.
    session: Option<Object>,
    requested_at: String,
    expires_at: Option<String>,
    asks: Vec<Requirement>,
    requirements: Vec<ApprovalProgress>,
    approvals: Vec<ApprovalGiven>,
    /// Who may approve it now.
    eligible: Vec<String>,
    notes: Vec<ApprovalNote>,
    /// The last times when the same agent asked for the same tool.
    similar: Vec<ApprovalSimilar>,
    closed: Option<ApprovalClosed>,
    you: ApprovalMay,
    rate: ApprovalRate,
    etag: String,
}
#[derive(ToSchema)]
pub struct ApprovalGiven {
    entry: u64,
    member: String,
    reason: String,
    at: Option<String>,
    /// Whether it counts now.
    counts: bool,
}
#[derive(ToSchema)]
pub struct ApprovalNote {
    index: u64,
    at: String,
    by: String,
    answer: bool,
    text: String,
}
#[derive(ToSchema)]
pub struct ApprovalSimilar {
    id: String,
    at: String,
    state: String,
    approvers: Vec<String>,
}
#[derive(ToSchema)]
pub struct ApprovalClosed {
    by: Option<String>,
    reason: Option<String>,
}
#[derive(ToSchema)]
pub struct ApprovalRate {
    given_this_hour: u32,
    /// 0: no limit.
    most_per_hour: u32,
}
