//! Decide: submit an intent, look decisions up, explain them, prove them, make them again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_ledger::Receipt;
use intended_model::decision::{Decision, Gate, Obligations, Outcome, PolicyRef, Risk};
use intended_model::entry::Scope;
use intended_model::json::compact;
use intended_model::{Class, Code, Digest, Event, Intent, IntentId, Kind, Timestamp, Value};
use intended_runtime::escalations::Standing;
use intended_runtime::{Decided, Principal, RuntimeError, Submission, admin, audit};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::List;
use crate::{Answer, App, Problem, auth, input, json, logged, schema, written};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(submit, list))
        .routes(routes!(show))
        .routes(routes!(context))
        .routes(routes!(explain))
        .routes(routes!(receipt))
        .routes(routes!(evidence))
        .routes(routes!(replay))
}

/// What an answer has besides two times its entry: token, checkpoint, proof.
const ROOM: usize = 4 << 10;

/// The full decision, as every route of this area answers it.
#[derive(Serialize)]
pub struct DecisionBody<'a> {
    pub id: IntentId,
    pub tenant: &'a str,
    pub environment: &'a str,
    pub agent: &'a str,
    pub action: &'a str,
    /// `traffic`, or `synthetic` of a self-test.
    pub class: Class,
    pub decision: Outcome,
    pub reason: Code,
    pub message: &'static str,
    /// `final`, `open`, `timed_out` or `denied`.
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<&'a Risk>,
    pub classification: &'a intended_model::decision::Classification,
    pub gates: &'a [Gate],
    #[serde(skip_serializing_if = "Obligations::is_empty")]
    pub obligations: &'a Obligations,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<&'a PolicyRef>,
    pub intent_hash: Digest,
    /// Of a `modify`: the hash of the intent with the changed arguments, which the token is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_intent_hash: Option<Digest>,
    pub recorded_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_expires_at: Option<String>,
    // And the receipt: see `answer`.
}

impl<'a> DecisionBody<'a> {
    pub(super) fn new(tenant: &'a str, d: &'a Decided, standing: Standing) -> Self {
        let intent = &d.record.input.intent;
        let decision: &Decision = &d.record.decision;
        logged::decided(d);
        let (outcome, reason, state) = match standing {
            Standing::Final => (decision.decision, decision.reason, "final"),
            Standing::Open { .. } => (decision.decision, decision.reason, "open"),
            Standing::TimedOut => (Outcome::Deny, Code::EscalationTimedOut, "timed_out"),
            Standing::Denied => (Outcome::Deny, Code::EscalationDenied, "denied"),
        };
        Self {
            id: d.record.input.id,
            tenant,
            environment: intent.environment.as_str(),
            agent: &intent.subject.id,
            action: &intent.action.name,
            class: d.record.input.class,
            decision: outcome,
            reason,
            message: reason.title(),
            state,
            risk: decision.risk.as_ref(),
            classification: &d.record.input.classification,
            gates: &decision.gates,
            obligations: &decision.obligations,
            policy: decision.policy.as_ref(),
            intent_hash: d.record.input.intent_hash,
            effective_intent_hash: (decision.decision == Outcome::Modify)
                .then(|| intended_runtime::submit::effective_hash(&d.record)),
            recorded_at: d.recorded_at.to_string(),
            token: d.token.as_ref().map(intended_runtime::Authority::as_str),
            token_expires_at: d.token.as_ref().map(|t| t.expires_at.to_string()),
        }
    }

    /// The answer: this, and the decision's receipt as the last member.
    pub(super) fn answer(&self, status: u16, d: &Decided) -> Answer {
        let body = compact::to_string(self, 2 * d.leaf.len() + ROOM).map_err(RuntimeError::internal)?;
        let mut body = body.into_bytes();
        // The object's end.
        body.pop();
        body.extend_from_slice(b",\"receipt\":");
        Receipt::write(&mut body, &d.leaf, d.index, &d.proof, &d.checkpoint).map_err(RuntimeError::internal)?;
        body.push(b'}');
        Ok(written(status, body))
    }
}

pub(super) const fn status_of(outcome: Outcome) -> u16 {
    match outcome {
        Outcome::Allow | Outcome::Modify => 200,
        Outcome::Escalate | Outcome::Defer => 202,
        Outcome::Deny => 403,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubmitQuery {
    audience: Option<Box<str>>,
}

/// Submits an intent. 200 allow or modify, 202 escalate or defer, 403 deny; always the full decision.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/intents", tag = "decide",
    params(("tenant" = String, Path), ("audience" = Option<String>, Query, description = "who will verify the token"), ("idempotency-key" = Option<String>, Header)),
    request_body(content = schema::IntentRequest, description = "the intent"),
    responses((status = 200, description = "allow or modify, with the token", body = schema::DecisionAnswer), (status = 202, description = "escalate or defer", body = schema::DecisionAnswer),
        (status = 403, description = "deny, as the full decision; or a problem", content((schema::DecisionAnswer = "application/json"), (schema::Problem = "application/problem+json")))))]
async fn submit(
    State(app): State<App>,
    Path(tenant): Path<String>,
    uri: http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let query: SubmitQuery = input::query(&uri)?;
    let idempotency_key = input::idempotency_key(&headers)?;
    let value = input::value(&headers, &body, input::MAX_BODY)?;
    let intent = Intent::from_value(&value, principal.only_environment(), false).map_err(RuntimeError::from)?;
    let audience = match query.audience {
        Some(a) if a.is_empty() || a.len() > 256 || !a.bytes().all(|b| b.is_ascii_graphic()) => {
            return Err(Problem::at(Code::RequestInvalid, "/audience", "1 to 256 printable ASCII characters"));
        }
        other => other,
    };
    let decided = app.runtime.submit(&principal, Submission { intent, idempotency_key, audience }).await?;
    let standing =
        if decided.replayed { app.runtime.standing(&principal, &decided.record).await? } else { opened(&decided) };
    let body = DecisionBody::new(&tenant, &decided, standing);
    body.answer(status_of(body.decision), &decided)
}

/// Where a decision stands that was made just now.
pub(crate) fn opened(decided: &Decided) -> Standing {
    match decided.record.decision.obligations.expires_at {
        Some(expires_at) => Standing::Open { expires_at },
        None => Standing::Final,
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    limit: Option<usize>,
    cursor: Option<String>,
    agent: Option<String>,
    action: Option<String>,
    decision: Option<Outcome>,
    class: Option<Class>,
    reason: Option<String>,
    environment: Option<String>,
    kind: Option<String>,
    session: Option<String>,
    intent: Option<String>,
    credential: Option<String>,
    since: Option<i64>,
    until: Option<i64>,
}

impl ListQuery {
    pub fn into_query(self, list: List<'_>, kind: Option<Kind>) -> Result<audit::Query, Problem> {
        let reason = self.reason.map(|r| r.parse()).transpose();
        let reason = reason.map_err(|_| Problem::at(Code::RequestInvalid, "/reason", "unknown code"))?;
        let named = self
            .kind
            .map(|k| Kind::parse(&k).ok_or_else(|| Problem::at(Code::RequestInvalid, "/kind", "unknown entry kind")))
            .transpose()?;
        Ok(audit::Query {
            kind: kind.or(named),
            agent: self.agent,
            tool: self.action,
            decision: self.decision,
            class: self.class,
            reason,
            environment: self.environment,
            session: self.session,
            intent: intent_of(self.intent.as_deref())?,
            credential: self.credential,
            since: self.since,
            until: self.until,
            before: self.cursor.map(|cursor| list.index(&cursor)).transpose()?,
            limit: self.limit.unwrap_or(50),
        })
    }
}

/// The intent that a filter names.
pub fn intent_of(text: Option<&str>) -> Result<Option<IntentId>, Problem> {
    let parsed = text.map(str::parse).transpose();
    parsed.map_err(|_| Problem::at(Code::RequestInvalid, "/intent", "an intent's id was expected"))
}

#[derive(Serialize)]
struct Row {
    id: IntentId,
    index: u64,
    recorded_at: String,
    environment: String,
    agent: String,
    action: String,
    resource: String,
    class: Class,
    decision: Outcome,
    reason: Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    risk: Option<u8>,
}

#[derive(Serialize)]
struct ListBody {
    intents: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// Decisions, newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/intents", tag = "decide",
    params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query), ("agent" = Option<String>, Query), ("action" = Option<String>, Query), ("decision" = Option<String>, Query), ("class" = Option<String>, Query, description = "`traffic` or `synthetic`"), ("reason" = Option<String>, Query), ("environment" = Option<String>, Query), ("session" = Option<String>, Query), ("intent" = Option<String>, Query), ("credential" = Option<String>, Query), ("since" = Option<i64>, Query), ("until" = Option<i64>, Query)),
    responses((status = 200, description = "a page of decisions", body = schema::IntentList)))]
async fn list(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::IntentRead)?;
    let query: ListQuery = input::query(&uri)?;
    let list = List { tenant: &tenant, name: "intents" };
    let page = app.runtime.query(&principal, &query.into_query(list, Some(Kind::Decision))?).await?;
    let intents = page
        .entries
        .into_iter()
        .filter_map(|(entry, event)| match event {
            Event::Decision(r) => Some(Row {
                id: r.input.id,
                index: entry.index,
                recorded_at: entry.at.to_string(),
                environment: r.input.intent.environment.to_string(),
                agent: r.input.intent.subject.id.into(),
                action: r.input.intent.action.name.into(),
                resource: format!("{}/{}", r.input.intent.resource.kind, r.input.intent.resource.id),
                class: r.input.class,
                decision: r.decision.decision,
                reason: r.decision.reason,
                risk: r.decision.risk.map(|r| r.score),
            }),
            _ => None,
        })
        .collect();
    json(200, &ListBody { intents, cursor: page.before.map(|at| list.cursor(&at.to_string())) })
}

async fn find(app: &App, headers: &HeaderMap, tenant: &str, id: &str) -> Result<(Principal, Decided), Problem> {
    let principal = auth::tenant(app, headers, tenant)?.reading(Scope::IntentRead)?;
    let id: IntentId = id.parse().map_err(|_| Problem::from(Code::NotFound))?;
    logged::intent(id);
    let decided = app.runtime.decision(&principal, &id).await?.ok_or(Code::NotFound)?;
    Ok((principal, decided))
}

/// Longest time that a request waits for an answer to an escalation.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// How often it looks for what was settled on another node, or for a server that is about to stop.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShowQuery {
    wait: Option<String>,
}

/// `30s`, `500ms`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let number = number.parse().ok()?;
    match unit {
        "s" => Some(Duration::from_secs(number)),
        "ms" => Some(Duration::from_millis(number)),
        _ => None,
    }
}

/// One decision: the last one, where it was decided again. The token of what had to wait is given to the
/// credential that submitted the intent, as long as it stands; no other is shown again. With `wait`,
/// answers when it is no longer open, or when the time is over.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/intents/{id}", tag = "decide", params(("tenant" = String, Path), ("id" = String, Path), ("wait" = Option<String>, Query, description = "such as 30s; at most 60s")),
    responses((status = 200, description = "the decision", body = schema::DecisionAnswer), (status = 404, description = "no such intent")))]
async fn show(
    State(app): State<App>,
    Path((tenant, id)): Path<(String, String)>,
    uri: http::Uri,
    headers: HeaderMap,
) -> Answer {
    let caller = auth::tenant(&app, &headers, &tenant)?;
    let id: IntentId = id.parse().map_err(|_| Problem::from(Code::NotFound))?;
    logged::intent(id);
    let principal = reader(&app, &caller, &id).await?;
    let mut decided = app.runtime.decision(&principal, &id).await?.ok_or(Code::NotFound)?;
    let query: ShowQuery = input::query(&uri)?;
    let wait = match query.wait.as_deref().map(duration) {
        None => Duration::ZERO,
        Some(Some(wait)) => wait.min(MAX_WAIT),
        Some(None) => return Err(Problem::at(Code::RequestInvalid, "/wait", "a time such as `30s` or `500ms`")),
    };
    let mut standing = app.runtime.standing(&principal, &decided.record).await?;
    let mut left = wait;
    // A server that is about to stop answers what it knows.
    while matches!(standing, Standing::Open { .. }) && !left.is_zero() && !app.draining.load(Ordering::Acquire) {
        let settled = app.runtime.settled();
        // What was settled since it was looked at.
        decided = app.runtime.decision(&principal, &id).await?.ok_or(Code::NotFound)?;
        standing = app.runtime.standing(&principal, &decided.record).await?;
        if !matches!(standing, Standing::Open { .. }) {
            break;
        }
        let pause = left.min(LOOK);
        let began = tokio::time::Instant::now();
        let _ = tokio::time::timeout(pause, settled).await;
        left = left.saturating_sub(began.elapsed());
    }
    if matches!(standing, Standing::Open { .. }) && !wait.is_zero() {
        decided = app.runtime.decision(&principal, &id).await?.ok_or(Code::NotFound)?;
        standing = app.runtime.standing(&principal, &decided.record).await?;
    }
    let decided = app.runtime.with_token(&caller, decided)?;
    DecisionBody::new(&tenant, &decided, standing).answer(200, &decided)
}

/// Who may read decisions; and of their own, who submitted it.
async fn reader(app: &App, caller: &Principal, id: &IntentId) -> Result<Principal, Problem> {
    match caller.clone().reading(Scope::IntentRead) {
        Ok(reader) => Ok(reader),
        Err(error) => {
            let own = caller.clone().reading(Scope::IntentSubmit).map_err(|_| error)?;
            let decided = app.runtime.decision(&own, id).await?;
            decided
                .filter(|d| d.record.input.credential == own.credential)
                .map(|_| own)
                .ok_or_else(|| Code::NotFound.into())
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextBody {
    context: Value,
}

/// Adds the context that a deferred intent lacks, which is then decided again. By the credential that
/// submitted it; what is there already is not changed.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/intents/{id}/context", tag = "decide",
    params(("tenant" = String, Path), ("id" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content = schema::ContextRequest, description = "what was missing"),
    responses((status = 200, description = "allow or modify, with the token", body = schema::DecisionAnswer), (status = 202, description = "escalate or defer", body = schema::DecisionAnswer),
        (status = 403, description = "deny, as the full decision; or a problem", content((schema::DecisionAnswer = "application/json"), (schema::Problem = "application/problem+json"))),
        (status = 409, description = "it does not wait for context, or has it already")))]
async fn context(
    State(app): State<App>,
    Path((tenant, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let id: IntentId = id.parse().map_err(|_| Problem::from(Code::NotFound))?;
    logged::intent(id);
    let value = input::value(&headers, &body, input::MAX_BODY)?;
    let ContextBody { context } = intended_model::json::from_value(&value).map_err(RuntimeError::from)?;
    let decided = app.runtime.add_context(&principal, &id, &context).await?;
    let standing = app.runtime.standing(&principal, &decided.record).await?;
    let body = DecisionBody::new(&tenant, &decided, standing);
    body.answer(status_of(body.decision), &decided)
}

#[derive(Serialize)]
struct Explanation<'a> {
    id: IntentId,
    decision: Outcome,
    reason: Code,
    message: &'static str,
    hint: &'static str,
    /// Everything that stands in the way, not only the first.
    objections: Vec<&'a Gate>,
    /// Each of them in a sentence, with what would have to change.
    obstacles: Vec<Obstacle>,
    /// Single changes that would have allowed it, each decided again on the same state.
    would_allow: Vec<WouldAllow>,
    /// How many changes were tried.
    tried: usize,
    gates: &'a [Gate],
    #[serde(skip_serializing_if = "Option::is_none")]
    risk: Option<&'a Risk>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a PolicyRef>,
    intent: &'a Intent,
}

#[derive(Serialize)]
struct Obstacle {
    gate: &'static str,
    code: Code,
    what: String,
}
#[derive(Serialize)]
struct WouldAllow {
    change: String,
    decision: Outcome,
    reason: Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    assumes: Option<&'static str>,
}

/// Why it was decided so, and what would have to change. Nothing is recorded.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/intents/{id}/explain", tag = "decide", params(("tenant" = String, Path), ("id" = String, Path)),
    responses((status = 200, description = "the explanation", body = schema::Explanation)))]
async fn explain(State(app): State<App>, Path((tenant, id)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let (principal, decided) = find(&app, &headers, &tenant, &id).await?;
    let why = app.runtime.explain(&principal, &decided.record, decided.index).await?;
    let obstacles = why.obstacles.into_iter();
    let would_allow = why.would_allow.into_iter();
    let d = &decided.record.decision;
    let objections = d.gates.iter().filter(|g| g.outcome != intended_model::decision::GateOutcome::Pass).collect();
    json(
        200,
        &Explanation {
            id: decided.record.input.id,
            decision: d.decision,
            reason: d.reason,
            message: d.reason.title(),
            hint: d.reason.hint(),
            objections,
            obstacles: obstacles.map(|o| Obstacle { gate: o.gate.as_str(), code: o.code, what: o.what }).collect(),
            would_allow: would_allow
                .map(|c| WouldAllow { change: c.change, decision: c.decision, reason: c.reason, assumes: c.assumes })
                .collect(),
            tried: why.tried,
            gates: &d.gates,
            risk: d.risk.as_ref(),
            policy: d.policy.as_ref(),
            intent: &decided.record.input.intent,
        },
    )
}

/// A receipt, completed by what came of the action.
#[derive(Serialize)]
struct Completed {
    checkpoint: String,
    entry: Box<serde_json::value::RawValue>,
    index: u64,
    /// The receipt of the entry that says what came of it, once one does. Of the same tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Receipt>,
    proof: Vec<String>,
    v: u32,
}

/// The decision's receipt: entry, inclusion proof, signed checkpoint; and that of its outcome.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/intents/{id}/receipt", tag = "decide", params(("tenant" = String, Path), ("id" = String, Path)),
    responses((status = 200, description = "the receipt", body = schema::Receipt)))]
async fn receipt(State(app): State<App>, Path((tenant, id)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let (principal, d) = find(&app, &headers, &tenant, &id).await?;
    let receipt = |leaf: &[u8], index, proof: &[intended_ledger::NodeHash]| {
        Receipt::new(leaf, index, proof, &d.checkpoint).map_err(RuntimeError::internal)
    };
    let entries = app.runtime.evidence(&principal, &d.record.input.id).await?;
    let said = |(e, event): &(_, Event)| matches!(event, Event::IntentOutcome(_)) && before(e, d.head.size);
    let outcome = match entries.iter().find(|both| said(both)) {
        None => None,
        Some((entry, _)) => {
            let store = app.runtime.store();
            let proof = store.inclusion_proof(&principal.tenant.id, entry.index, d.head.size).await;
            Some(receipt(&entry.leaf, entry.index, &proof.map_err(RuntimeError::from)?)?)
        }
    };
    let Receipt { checkpoint, entry, index, proof, v } = receipt(&d.leaf, d.index, &d.proof)?;
    json(200, &Completed { checkpoint, entry, index, outcome, proof, v })
}

fn before(entry: &intended_store::StoredEntry, size: u64) -> bool {
    entry.index < size
}

#[derive(Serialize)]
struct EvidenceRow {
    index: u64,
    at: String,
    kind: &'static str,
    entry: Value,
}

/// Every ledger entry about the intent.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/intents/{id}/evidence", tag = "decide", params(("tenant" = String, Path), ("id" = String, Path)),
    responses((status = 200, description = "the entries", body = Vec<schema::EntryRow>)))]
async fn evidence(State(app): State<App>, Path((tenant, id)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let (principal, decided) = find(&app, &headers, &tenant, &id).await?;
    let entries = app.runtime.evidence(&principal, &decided.record.input.id).await?;
    let rows = entries
        .into_iter()
        .map(|(e, event)| {
            let entry = intended_model::json::parse_recorded(&e.leaf).map_err(RuntimeError::from)?;
            Ok(EvidenceRow { index: e.index, at: e.at.to_string(), kind: event.kind().as_str(), entry })
        })
        .collect::<Result<Vec<_>, RuntimeError>>()?;
    json(200, &rows)
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ReplayRequest {
    /// A ledger position: the state is that before this entry.
    at: Option<u64>,
    /// Or a time, in milliseconds.
    at_time: Option<i64>,
    /// A published version, by its digest or the beginning of it.
    policy: Option<String>,
    /// Or the files of one.
    files: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Serialize)]
struct ReplayBody {
    id: IntentId,
    index: u64,
    /// The position whose state it was made on.
    at: u64,
    same: bool,
    recorded: Decision,
    again: Decision,
    /// The gates that say something else.
    differences: Vec<Difference>,
}
#[derive(Serialize)]
struct Difference {
    gate: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<Gate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    again: Option<Gate>,
}

fn differences(recorded: &Decision, again: &Decision) -> Vec<Difference> {
    let mut names: Vec<_> = recorded.gates.iter().chain(&again.gates).map(|g| g.gate).collect();
    names.sort_unstable();
    names.dedup();
    let of = |decision: &Decision, name| decision.gates.iter().find(|g| g.gate == name).cloned();
    let both = names.into_iter().map(|name| (name, of(recorded, name), of(again, name)));
    let different = both.filter(|(_, before, now)| before != now);
    different.map(|(name, recorded, again)| Difference { gate: name.as_str(), recorded, again }).collect()
}

/// Decides it again from the ledger: on the state of its position, or of another one, or with another
/// policy version. Nothing is recorded.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/intents/{id}/replay", tag = "decide", params(("tenant" = String, Path), ("id" = String, Path)),
    request_body(content = schema::ReplayRequest, description = "what is to be different; nothing of it is needed"),
    responses((status = 200, description = "both decisions and where they differ", body = schema::ReplayAnswer)))]
async fn replay(
    State(app): State<App>,
    Path((tenant, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    // Whose it is comes before what is asked of it: a stranger learns nothing of either.
    let (principal, decided) = find(&app, &headers, &tenant, &id).await?;
    let request: ReplayRequest =
        if body.is_empty() { ReplayRequest::default() } else { input::typed(&headers, &body, input::MAX_POLICY_BODY)? };
    let environment = &decided.record.input.intent.environment;
    if request.policy.is_some() || request.files.is_some() {
        // What a version would decide says what is in it. `find` left what intents need alone.
        auth::tenant(&app, &headers, &tenant)?.require(Scope::PolicyRead, Some(environment))?;
    }
    let state = principal.tenant.state();
    let policy = match (&request.policy, &request.files) {
        (None, None) => None,
        (Some(digest), None) => Some(std::sync::Arc::clone(super::policy::named(&principal, &state, digest)?)),
        (None, Some(files)) => {
            admin::validated(&state, files)?;
            let files = files.iter().map(|(n, t)| (n.as_str().into(), t.as_str().into())).collect();
            let version = admin::aside(|| intended_engine::Version::compile(&files)).map_err(RuntimeError::from)?;
            Some(std::sync::Arc::new(version))
        }
        _ => return Err(Problem::new(Code::RequestInvalid, "send `files` or `policy`")),
    };
    let at = match (request.at, request.at_time) {
        (at, None) => at,
        (None, Some(millis)) => Some(app.runtime.position_at(&principal.tenant, Timestamp::from_millis(millis)).await?),
        _ => return Err(Problem::new(Code::RequestInvalid, "send `at` or `at_time`")),
    };
    let what_if = audit::WhatIf { at, policy };
    let replay = app.runtime.replay(&principal, &decided.record, decided.index, what_if).await?;
    json(
        200,
        &ReplayBody {
            id: decided.record.input.id,
            index: decided.index,
            at: replay.at,
            same: replay.same,
            differences: differences(&replay.recorded, &replay.again),
            recorded: replay.recorded,
            again: replay.again,
        },
    )
}
