//! Approvals: what waits for people, and what they say of it. Whoever says yes or no has read exactly what
//! it is about: every such request names its entity tag in `if-match`.

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::{HeaderMap, HeaderValue};
use intended_engine::approvals::{QuorumProgress, RequirementProgress, StepProgress};
use intended_model::decision::{DecisionRecord, Gate, Requirement, Risk, SessionContext};
use intended_model::entry::Scope;
use intended_model::{Code, Digest, EnvironmentId, Intent, IntentId};
use intended_runtime::approvals::people::Bulk;
use intended_runtime::approvals::requests::{Filter, Row, Shown};
use intended_runtime::approvals::{Ended, MayApprove};
use intended_runtime::submit::bound_arguments;
use intended_runtime::{Principal, RuntimeError};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::{List, MAX_ROWS};
use crate::{Answer, App, Problem, auth, input, json, schema};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(approve))
        .routes(routes!(deny))
        .routes(routes!(withdraw))
        .routes(routes!(ask))
        .routes(routes!(answer))
        .routes(routes!(bulk))
}

#[derive(Serialize)]
struct Quorum<'a> {
    count: u32,
    group: &'a str,
    given: u32,
}

#[derive(Serialize)]
struct Step<'a> {
    /// Met when one of these is.
    quorums: Vec<Quorum<'a>>,
    by: Vec<String>,
    met: bool,
}

#[derive(Serialize)]
struct Progress<'a> {
    /// As policy writes it.
    requirement: String,
    except_owner: bool,
    steps: Vec<Step<'a>>,
    /// Which step is asked now, from 0; as many as there are when all are met.
    current: usize,
    met: bool,
}

fn progress(of: &[RequirementProgress]) -> Vec<Progress<'_>> {
    let quorum = |q: &'_ QuorumProgress| -> (u32, u32) { (q.count, q.given) };
    let step = |s: &'_ StepProgress| -> Vec<String> { s.by.iter().map(ToString::to_string).collect() };
    of.iter()
        .map(|p| Progress {
            requirement: p.requirement.to_string(),
            except_owner: p.requirement.except_owner,
            steps: p
                .steps
                .iter()
                .map(|s| Step {
                    quorums: s
                        .quorums
                        .iter()
                        .map(|q| {
                            let (count, given) = quorum(q);
                            Quorum { count, group: &q.group, given }
                        })
                        .collect(),
                    by: step(s),
                    met: s.met,
                })
                .collect(),
            current: p.current,
            met: p.is_met(),
        })
        .collect()
}

/// Whether the caller may approve it now.
#[derive(Serialize)]
struct May {
    approve: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
}

impl From<&MayApprove> for May {
    fn from(may: &MayApprove) -> Self {
        let why = may.as_ref().err();
        Self { approve: why.is_none(), code: why.map(|w| w.code()), why: why.map(|w| w.why()) }
    }
}

#[derive(Serialize)]
struct Summary<'a> {
    id: IntentId,
    environment: &'a str,
    agent: &'a str,
    action: &'a str,
    resource: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    risk: Option<u8>,
    reason: Code,
    requested_at: String,
    expires_at: String,
    requirements: Vec<Progress<'a>>,
    you: May,
    etag: String,
}

fn summary(row: &Row) -> Summary<'_> {
    let record = &row.open.record;
    let intent = &record.input.intent;
    Summary {
        id: record.input.id,
        environment: intent.environment.as_str(),
        agent: &intent.subject.id,
        action: &intent.action.name,
        resource: format!("{}/{}", intent.resource.kind, intent.resource.id),
        goal: intent.goal.as_deref(),
        risk: record.decision.risk.as_ref().map(|r| r.score),
        reason: record.decision.reason,
        requested_at: row.open.recorded_at.to_string(),
        expires_at: row.open.expires_at.to_string(),
        requirements: progress(&row.progress),
        you: May::from(&row.may),
        etag: quoted(&row.tag),
    }
}

#[derive(Serialize)]
struct Page<'a> {
    approvals: Vec<Summary<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

#[derive(Serialize)]
struct Given<'a> {
    entry: u64,
    member: String,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    /// Whether it counts now.
    counts: bool,
}

#[derive(Serialize)]
struct Note<'a> {
    index: u64,
    at: String,
    by: String,
    answer: bool,
    text: &'a str,
}

#[derive(Serialize)]
struct Similar {
    id: IntentId,
    at: String,
    state: &'static str,
    approvers: Vec<String>,
}

#[derive(Serialize)]
struct Closed<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

/// How much the caller has approved.
#[derive(Serialize)]
struct Rate {
    given_this_hour: u32,
    /// 0: no limit.
    most_per_hour: u32,
}

#[derive(Serialize)]
struct View<'a> {
    id: IntentId,
    /// `open`, `allowed`, `denied` or `timed_out`.
    state: &'static str,
    environment: &'a str,
    agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_owner: Option<String>,
    /// Whom the agent acts for, and whom that one acts for.
    on_behalf_of: Vec<String>,
    requested_by: &'a str,
    action: &'a str,
    resource: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<&'a str>,
    /// Exactly what would run, as text in canonical form: what is hashed is what is here.
    arguments: String,
    arguments_bytes: usize,
    intent: &'a Intent,
    intent_hash: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a intended_model::decision::PolicyRef>,
    policy_changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    risk: Option<&'a Risk>,
    classification: &'a intended_model::decision::Classification,
    gates: &'a [Gate],
    /// What the session had done before.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a SessionContext>,
    requested_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    asks: &'a [Requirement],
    requirements: Vec<Progress<'a>>,
    approvals: Vec<Given<'a>>,
    /// Who may approve it now.
    eligible: Vec<String>,
    notes: Vec<Note<'a>>,
    /// The last times when the same agent asked for the same tool.
    similar: Vec<Similar>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed: Option<Closed<'a>>,
    you: May,
    rate: Rate,
    /// Also in the `etag` header.
    etag: String,
}

fn quoted(tag: &str) -> String {
    format!("\"{tag}\"")
}

fn view<'a>(principal: &Principal, shown: &'a Shown) -> View<'a> {
    let record: &DecisionRecord = &shown.record;
    let intent = &record.input.intent;
    let arguments = bound_arguments(&record.decision, intent).to_canonical();
    let named = |v: &&intended_model::Value| {
        let text = |name| v.get(name).and_then(intended_model::Value::as_str).unwrap_or("?");
        format!("{} {}", text("type"), text("id"))
    };
    let who = |by: &intended_model::CredentialId, member: &Option<intended_model::MemberId>| {
        member.as_ref().map_or_else(|| by.to_string(), ToString::to_string)
    };
    View {
        id: record.input.id,
        state: shown.ended.as_str(),
        environment: intent.environment.as_str(),
        agent: &intent.subject.id,
        agent_owner: principal.tenant.state().agents.get(&intent.subject.id).map(|a| a.owner.to_string()),
        on_behalf_of: intended_engine::delegation(intent).iter().map(named).collect(),
        requested_by: record.input.credential.as_str(),
        action: &intent.action.name,
        resource: format!("{}/{}", intent.resource.kind, intent.resource.id),
        goal: intent.goal.as_deref(),
        arguments_bytes: arguments.len(),
        arguments,
        intent,
        intent_hash: record.input.intent_hash,
        policy: record.decision.policy.as_ref(),
        policy_changed: shown.policy_changed,
        risk: record.decision.risk.as_ref(),
        classification: &record.input.classification,
        gates: &record.decision.gates,
        session: record.input.session.as_ref(),
        requested_at: shown.recorded_at.to_string(),
        expires_at: shown.expires_at.map(|t| t.to_string()),
        asks: &record.decision.obligations.approvals,
        requirements: progress(&shown.progress),
        approvals: shown
            .given
            .iter()
            .map(|g| Given {
                entry: g.entry,
                member: g.approver.to_string(),
                reason: &g.reason,
                at: g.at.map(|t| t.to_string()),
                counts: g.counts,
            })
            .collect(),
        eligible: shown.eligible.iter().map(ToString::to_string).collect(),
        notes: shown
            .notes
            .iter()
            .map(|n| Note {
                index: n.index,
                at: n.at.to_string(),
                by: who(&n.by, &n.member),
                answer: n.answer,
                text: &n.text,
            })
            .collect(),
        similar: shown
            .similar
            .iter()
            .map(|s| Similar {
                id: s.intent,
                at: s.at.to_string(),
                state: s.outcome,
                approvers: s.approvers.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        closed: match &shown.ended {
            Ended::Denied { by, member, note } => Some(Closed { by: Some(who(by, member)), reason: note }),
            Ended::TimedOut => Some(Closed { by: None, reason: "" }),
            Ended::Open | Ended::Decided(_) => None,
        },
        you: May::from(&shown.may),
        rate: Rate { given_this_hour: shown.rate.0, most_per_hour: shown.rate.1 },
        etag: quoted(&shown.tag),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<usize>,
    cursor: Option<String>,
    environment: Option<EnvironmentId>,
    agent: Option<String>,
    #[serde(default)]
    mine: bool,
}

/// What waits for people, oldest first. With `mine`, only what the caller can approve now.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/approvals", tag = "approvals",
    params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query), ("environment" = Option<String>, Query), ("agent" = Option<String>, Query), ("mine" = Option<bool>, Query)),
    responses((status = 200, description = "a page of requests", body = schema::ApprovalList)))]
async fn list(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    principal.require(Scope::ApprovalRead, None)?;
    let query: ListQuery = input::query(&uri)?;
    let list = List { tenant: &tenant, name: "approvals" };
    let after = query.cursor.as_deref().map(|c| list.place(c)).transpose()?;
    let after: Option<IntentId> = match after.map(|a| a.parse()).transpose() {
        Ok(after) => after,
        Err(_) => return Err(Problem::at(Code::RequestInvalid, "/cursor", "this is not a cursor of this list")),
    };
    let filter = Filter { environment: query.environment, agent: query.agent, mine: query.mine };
    let limit = query.limit.unwrap_or(100).clamp(1, MAX_ROWS);
    let (rows, next) = app.runtime.approvals(&principal, &filter, after.as_ref(), limit).await?;
    let cursor = next.map(|id| list.cursor(&id.to_string()));
    json(200, &Page { approvals: rows.iter().map(summary).collect(), cursor })
}

async fn shown(app: &App, principal: &Principal, id: &IntentId) -> Answer {
    let shown = app.runtime.approval(principal, id).await?;
    let mut response = json(200, &view(principal, &shown))?;
    if let Ok(value) = HeaderValue::try_from(quoted(&shown.tag)) {
        response.headers_mut().insert(http::header::ETAG, value);
    }
    Ok(response)
}

fn parsed(id: &str) -> Result<IntentId, Problem> {
    id.parse().map_err(|_| Problem::from(Code::NotFound))
}

/// Everything about one request: what would run, who may say so, how far it is.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/approvals/{id}", tag = "approvals", params(("tenant" = String, Path), ("id" = String, Path)),
    responses((status = 200, description = "the request; its entity tag is in the etag header", body = schema::Approval), (status = 404, description = "no such request")))]
async fn show(State(app): State<App>, Path((tenant, id)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    principal.require(Scope::ApprovalRead, None)?;
    shown(&app, &principal, &parsed(&id)?).await
}

/// The entity tag that something is said of (RFC 9110, section 13.1.1).
fn if_match(headers: &HeaderMap) -> Result<String, Problem> {
    let value = headers.get(http::header::IF_MATCH).ok_or(Code::ApprovalUnconditional)?;
    let text = value.to_str().unwrap_or_default().trim();
    let tag = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).map(str::to_owned);
    tag.ok_or_else(|| Problem::new(Code::ApprovalStale, "`if-match` names no entity tag of a request"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    reason: String,
}

/// One person's yes to exactly this. Where it is the last one that was asked for, the intent is decided
/// again at once.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/approvals/{id}/approve", tag = "approvals", params(("tenant" = String, Path), ("id" = String, Path), ("if-match" = String, Header), ("idempotency-key" = Option<String>, Header)),
    request_body(content = schema::ApprovalReason, description = "why"), responses((status = 200, description = "the request", body = schema::Approval), (status = 403, description = "this person cannot approve this"), (status = 409, description = "it is closed, or this person has approved it"), (status = 412, description = "it has changed since"), (status = 428, description = "no entity tag")))]
async fn approve(
    State(app): State<App>,
    Path((tenant, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    principal.require(Scope::ApprovalDecide, None)?;
    let (id, tag) = (parsed(&id)?, if_match(&headers)?);
    let body: Reason = input::typed(&headers, &body, input::MAX_BODY)?;
    app.runtime.approve(&principal, &id, &tag, &body.reason).await?;
    shown(&app, &principal, &id).await
}

/// One person's no, which ends it.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/approvals/{id}/deny", tag = "approvals", params(("tenant" = String, Path), ("id" = String, Path), ("if-match" = String, Header), ("idempotency-key" = Option<String>, Header)),
    request_body(content = schema::ApprovalReason, description = "why"), responses((status = 200, description = "the request", body = schema::Approval), (status = 403, description = "this person has no say in this"), (status = 412, description = "it has changed since"), (status = 428, description = "no entity tag")))]
async fn deny(
    State(app): State<App>,
    Path((tenant, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    principal.require(Scope::ApprovalDecide, None)?;
    let (id, tag) = (parsed(&id)?, if_match(&headers)?);
    let body: Reason = input::typed(&headers, &body, input::MAX_BODY)?;
    app.runtime.deny(&principal, &id, &tag, &body.reason).await?;
    shown(&app, &principal, &id).await
}

/// Takes back one's approval, before it has come to anything.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/approvals/{id}/withdraw", tag = "approvals", params(("tenant" = String, Path), ("id" = String, Path), ("if-match" = String, Header), ("idempotency-key" = Option<String>, Header)),
    request_body(content = schema::ApprovalReason, description = "why"), responses((status = 200, description = "the request", body = schema::Approval), (status = 412, description = "it has changed since"), (status = 428, description = "no entity tag")))]
async fn withdraw(
    State(app): State<App>,
    Path((tenant, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    principal.require(Scope::ApprovalDecide, None)?;
    let (id, tag) = (parsed(&id)?, if_match(&headers)?);
    let body: Reason = input::typed(&headers, &body, input::MAX_BODY)?;
    app.runtime.withdraw(&principal, &id, &tag, &body.reason).await?;
    shown(&app, &principal, &id).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    text: String,
}

/// Asks whoever wants it done. It waits no longer for that.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/approvals/{id}/ask", tag = "approvals", params(("tenant" = String, Path), ("id" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content = schema::ApprovalText, description = "the question"), responses((status = 200, description = "the request", body = schema::Approval)))]
async fn ask(
    State(app): State<App>,
    Path((tenant, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    principal.require(Scope::ApprovalDecide, None)?;
    let id = parsed(&id)?;
    let body: Text = input::typed(&headers, &body, input::MAX_BODY)?;
    app.runtime.ask(&principal, &id, &body.text).await?;
    shown(&app, &principal, &id).await
}

/// Answers a question, with the credential that submitted the intent.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/approvals/{id}/answer", tag = "approvals", params(("tenant" = String, Path), ("id" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content = schema::ApprovalText, description = "the answer"), responses((status = 204, description = "noted")))]
async fn answer(
    State(app): State<App>,
    Path((tenant, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    principal.require(Scope::IntentSubmit, None)?;
    let id = parsed(&id)?;
    let body: Text = input::typed(&headers, &body, input::MAX_BODY)?;
    app.runtime.answer(&principal, &id, &body.text).await?;
    let mut response = axum::response::Response::new(axum::body::Body::empty());
    *response.status_mut() = http::StatusCode::NO_CONTENT;
    Ok(response)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BulkBody {
    approvals: Vec<Bulk>,
    reason: String,
}

#[derive(Serialize)]
struct Result_ {
    id: IntentId,
    approved: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

#[derive(Serialize)]
struct Results {
    results: Vec<Result_>,
}

/// Approves several, each named with its entity tag and each its own entry, none of them above the risk
/// that the environment allows for this.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/approvals/bulk", tag = "approvals", params(("tenant" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content = schema::ApprovalBulk, description = "which, and why"), responses((status = 200, description = "what came of each", body = schema::ApprovalResults), (status = 422, description = "one of them is too risky")))]
async fn bulk(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    principal.require(Scope::ApprovalDecide, None)?;
    let mut body: BulkBody = input::typed(&headers, &body, input::MAX_BODY)?;
    for item in &mut body.approvals {
        item.etag = item.etag.trim_matches('"').to_owned();
    }
    let results = app.runtime.approve_bulk(&principal, &body.approvals, &body.reason).await?;
    let result = |(item, result): (&Bulk, Result<(), RuntimeError>)| {
        let error = result.err();
        Result_ {
            id: item.id,
            approved: error.is_none(),
            code: error.as_ref().map(|e| e.code),
            detail: error.map(|e| e.detail).filter(|d| !d.is_empty()),
        }
    };
    json(200, &Results { results: body.approvals.iter().zip(results).map(result).collect() })
}
