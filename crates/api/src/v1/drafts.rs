//! Drafts of an environment's policy, from the first revision to deployment. A draft is changed by
//! whoever has read it: every change names its entity tag in `if-match`.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue};
use intended_engine::{Draft, State as Tenant};
use intended_model::entry::{GateMeasure, PolicySource, Scope, SimulationSummary};
use intended_model::{Code, Digest, EnvironmentId, Name};
use intended_runtime::Principal;
use intended_runtime::policy::DraftSpec;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::policy::name;
use crate::page::{self, List};
use crate::{Answer, App, Problem, auth, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(show, edit))
        .routes(routes!(test))
        .routes(routes!(validate))
        .routes(routes!(submit))
        .routes(routes!(approve))
        .routes(routes!(reject))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftBody {
    environment: EnvironmentId,
    /// Name → text: `pack.toml`, `*.cedar`, `tests/*.yaml`.
    files: BTreeMap<String, String>,
    title: String,
    #[serde(default)]
    source: Option<PolicySource>,
}

impl From<DraftBody> for DraftSpec {
    fn from(body: DraftBody) -> Self {
        Self { environment: body.environment, files: body.files, title: body.title.into(), source: body.source }
    }
}

#[derive(Serialize)]
struct Approval<'a> {
    member: String,
    reason: &'a str,
    /// Whether it counts now: the member is active and among the approvers.
    counts: bool,
}

#[derive(Serialize)]
struct View<'a> {
    draft: &'a Name,
    environment: &'a EnvironmentId,
    pack: &'a Name,
    title: &'a str,
    digest: Digest,
    revision: u32,
    status: &'static str,
    authors: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a PolicySource>,
    approvals_needed: u32,
    approvals_given: u32,
    approvals: Vec<Approval<'a>>,
    /// Who may approve it now.
    approvers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gates: Vec<GateMeasure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    simulation: Option<&'a SimulationSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<String>,
    /// What the environment decides by now.
    #[serde(skip_serializing_if = "Option::is_none")]
    deployed: Option<Digest>,
    /// Also in the `etag` header.
    etag: String,
}

fn view<'a>(state: &'a Tenant, draft: &'a Draft) -> View<'a> {
    let environment = state.environments.get(&draft.environment);
    let may = |m: &intended_model::MemberId| state.may_approve(&draft.environment, m);
    let people: std::collections::BTreeSet<_> = draft.authors.iter().map(|a| state.person(a)).collect();
    let author = |m: &intended_model::MemberId| people.contains(&intended_engine::Person::Member(m.clone()));
    View {
        draft: &draft.id,
        environment: &draft.environment,
        pack: &draft.pack,
        title: &draft.title,
        digest: draft.digest,
        revision: draft.revision,
        status: state.draft_status(draft).as_str(),
        authors: people.iter().map(ToString::to_string).collect(),
        source: draft.source.as_ref(),
        approvals_needed: state.approvals_needed(draft),
        approvals_given: state.approvals_given(draft),
        approvals: draft
            .approvals
            .iter()
            .map(|(m, given)| Approval { member: m.to_string(), reason: &given.reason, counts: may(m) })
            .collect(),
        approvers: state.approvers(&draft.environment).filter(|m| !author(m)).map(ToString::to_string).collect(),
        gates: draft.submission.as_ref().map(|s| s.gates.clone()).unwrap_or_default(),
        simulation: draft.submission.as_ref().map(|s| &s.simulation),
        rejected: draft.rejected.as_ref().map(|(by, reason)| format!("{by}: {reason}")),
        deployed: environment.and_then(|e| e.deployed.as_ref()).map(|v| v.digest),
        etag: tag(draft),
    }
}

fn tag(draft: &Draft) -> String {
    format!("\"{}\"", draft.changed_at)
}

/// The draft as it is now, with its entity tag.
fn answer(status: u16, principal: &Principal, id: &Name) -> Answer {
    let state = principal.tenant.state();
    let draft = visible(principal, &state, id)?;
    tagged(json(status, &view(&state, draft))?, draft)
}

fn tagged(mut response: Response, draft: &Draft) -> Answer {
    if let Ok(value) = HeaderValue::try_from(tag(draft)) {
        response.headers_mut().insert(http::header::ETAG, value);
    }
    Ok(response)
}

fn visible<'s>(principal: &Principal, state: &'s Tenant, id: &Name) -> Result<&'s Draft, Problem> {
    let draft = state.drafts.get(id).filter(|d| principal.sees(&d.environment));
    draft.ok_or_else(|| Code::NotFound.into())
}

/// The entity tag that a change is about (RFC 9110, section 13.1.1).
fn if_match(headers: &HeaderMap) -> Result<u64, Problem> {
    let value = headers.get(http::header::IF_MATCH).ok_or(Code::DraftUnconditional)?;
    let text = value.to_str().unwrap_or_default().trim();
    let tag = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).and_then(|t| t.parse().ok());
    tag.ok_or_else(|| Problem::new(Code::DraftStale, "`if-match` names no entity tag of a draft"))
}

/// Begins a draft. A pack that does not parse or validate is refused with its places, and not stored.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/drafts", tag = "policy", params(("tenant" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "environment, files, title, source"), responses((status = 201, description = "the draft"), (status = 422, description = "the pack is not valid")))]
async fn create(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: DraftBody = input::typed(&headers, &body, input::MAX_POLICY_BODY)?;
    let created = app.runtime.create_draft(&principal, body.into()).await?;
    answer(201, &principal, &created.answer)
}

/// Drafts of the caller's environments.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/drafts", tag = "policy", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the drafts")))]
async fn list(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::PolicyRead)?;
    let state = principal.tenant.state();
    let rows = state.drafts.values().filter(|d| principal.sees(&d.environment));
    page::answer(List { tenant: &tenant, name: "drafts" }, &uri, rows.map(|d| (d.id.to_string(), view(&state, d))))
}

/// One draft.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/drafts/{draft}", tag = "policy", params(("tenant" = String, Path), ("draft" = String, Path)),
    responses((status = 200, description = "the draft; its entity tag is in the etag header"), (status = 404, description = "no such draft")))]
async fn show(State(app): State<App>, Path((tenant, draft)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::PolicyRead)?;
    answer(200, &principal, &name(&draft)?)
}

/// Puts another content into a draft. Whatever was submitted or approved of it is void.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/drafts/{draft}", tag = "policy", params(("tenant" = String, Path), ("draft" = String, Path), ("if-match" = String, Header, description = "the draft's entity tag")),
    request_body(content_type = "application/json", description = "environment, files, title, source"), responses((status = 200, description = "the draft"), (status = 412, description = "it has changed since"), (status = 428, description = "no entity tag")))]
async fn edit(
    State(app): State<App>,
    Path((tenant, draft)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let id = name(&draft)?;
    let tag = if_match(&headers)?;
    let body: DraftBody = input::typed(&headers, &body, input::MAX_POLICY_BODY)?;
    app.runtime.edit_draft(&principal, id.clone(), tag, body.into()).await?;
    answer(200, &principal, &id)
}

/// Runs the draft's own tests.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/drafts/{draft}/test", tag = "policy", params(("tenant" = String, Path), ("draft" = String, Path)),
    responses((status = 200, description = "what the tests came to")))]
async fn test(State(app): State<App>, Path((tenant, draft)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    measured(&app, &tenant, &draft, &headers, intended_model::entry::PolicyGate::Tests).await
}

/// Validates the draft against what the tenant has now.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/drafts/{draft}/validate", tag = "policy", params(("tenant" = String, Path), ("draft" = String, Path)),
    responses((status = 200, description = "what was found")))]
async fn validate(State(app): State<App>, Path((tenant, draft)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    measured(&app, &tenant, &draft, &headers, intended_model::entry::PolicyGate::Validation).await
}

async fn measured(
    app: &App,
    tenant: &str,
    draft: &str,
    headers: &HeaderMap,
    gate: intended_model::entry::PolicyGate,
) -> Answer {
    let principal = auth::tenant(app, headers, tenant)?.reading(Scope::PolicyRead)?;
    let state = principal.tenant.state();
    let draft = visible(&principal, &state, &name(draft)?)?;
    let version = state.versions.get(&draft.digest).ok_or(Code::NotFound)?;
    json(200, &app.runtime.measure_one(&state, version, gate).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    reason: String,
}

/// Measures the draft (validation, tests, simulation) and hands it to the people who approve.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/drafts/{draft}/submit", tag = "policy", params(("tenant" = String, Path), ("draft" = String, Path), ("if-match" = String, Header), ("idempotency-key" = Option<String>, Header)),
    responses((status = 200, description = "the draft"), (status = 422, description = "a gate was not passed")))]
async fn submit(State(app): State<App>, Path((tenant, draft)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let id = name(&draft)?;
    app.runtime.submit_draft(&principal, id.clone(), if_match(&headers)?).await?;
    answer(200, &principal, &id)
}

/// One person's yes to exactly this content.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/drafts/{draft}/approve", tag = "policy", params(("tenant" = String, Path), ("draft" = String, Path), ("if-match" = String, Header), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "reason"), responses((status = 200, description = "the draft"), (status = 403, description = "this person cannot approve this")))]
async fn approve(
    State(app): State<App>,
    Path((tenant, draft)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let id = name(&draft)?;
    let tag = if_match(&headers)?;
    let body: Reason = input::typed(&headers, &body, input::MAX_BODY)?;
    app.runtime.approve_draft(&principal, id.clone(), tag, &body.reason).await?;
    answer(200, &principal, &id)
}

/// One person's no.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/drafts/{draft}/reject", tag = "policy", params(("tenant" = String, Path), ("draft" = String, Path), ("if-match" = String, Header), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "reason"), responses((status = 200, description = "the draft")))]
async fn reject(
    State(app): State<App>,
    Path((tenant, draft)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let id = name(&draft)?;
    let tag = if_match(&headers)?;
    let body: Reason = input::typed(&headers, &body, input::MAX_BODY)?;
    app.runtime.reject_draft(&principal, id.clone(), tag, &body.reason).await?;
    answer(200, &principal, &id)
}
