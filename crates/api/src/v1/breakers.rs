//! Circuit breakers: how each stands, what opens it, holds by hand; and what came of an action, which
//! is what they go by.

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::entry::{ActionOutcome, BreakerRules, BreakerTarget, Scope};
use intended_model::{Code, EnvironmentId, IntentId, Name};
use intended_runtime::breakers::{BreakerSpec, HoldSpec};
use intended_runtime::outcomes::Report;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::{self, List};
use crate::{Answer, App, Problem, auth, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(set))
        .routes(routes!(hold))
        .routes(routes!(release))
        .routes(routes!(outcome))
}

#[derive(Serialize)]
struct Index {
    index: u64,
}

fn named(text: &str) -> Result<Name, Problem> {
    Name::new(text).map_err(|_| Problem::from(Code::BreakerUnknown))
}

/// Why, for people.
fn reason(text: &str) -> Result<Box<str>, Problem> {
    let text = text.trim();
    if text.is_empty() || text.len() > 500 {
        return Err(Problem::at(Code::RequestInvalid, "/reason", "say why, in 1 to 500 characters"));
    }
    Ok(text.into())
}

/// The breakers and holds of the caller's environments: what each watches, what it measures against
/// which thresholds, whether these were set by somebody (`explicit`), when it is tried again, who holds
/// it and why. Several nodes measure each what they decide: this is what this one has measured.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/breakers", tag = "emergency", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the breakers, by environment and name")))]
async fn list(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::EmergencyRead)?;
    let rows = app.runtime.breakers(&principal)?;
    page::answer(List { tenant: &tenant, name: "breakers" }, &uri, rows.into_iter().map(|row| (row.place(), row)))
}

const fn active() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetBody {
    #[serde(default = "active")]
    active: bool,
    environment: Option<EnvironmentId>,
    on: Option<BreakerTarget>,
    #[serde(default)]
    rules: Option<BreakerRules>,
}

/// Sets what opens a breaker and how it closes. It starts closed: that is also how one that has opened
/// is closed by hand.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/breakers/{breaker}", tag = "emergency", params(("tenant" = String, Path), ("breaker" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "on {scope, target}, rules {window, minimum_calls, error_rate_permille, denial_rate_permille, latency_ms, velocity, spend, open_secs, probes, successes, probe_timeout_secs}, environment, active"),
    responses((status = 200, description = "set"), (status = 422, description = "the name, target or rules are not valid")))]
async fn set(
    State(app): State<App>,
    Path((tenant, breaker)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: SetBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let breaker = named(&breaker)?;
    let known = || {
        let state = principal.tenant.state();
        state.breakers.defined.get(&breaker).filter(|b| principal.sees(&b.environment)).map(|b| b.rules.clone())
    };
    let rules = match (body.rules, body.active) {
        (Some(rules), _) => rules,
        // Thresholds that nobody has said are not made up; to turn one off none are needed.
        (None, false) => known().ok_or(Code::BreakerUnknown)?,
        (None, true) => return Err(Problem::at(Code::RequestInvalid, "/rules", "say what opens it")),
    };
    let spec = BreakerSpec { active: body.active, environment: body.environment, on: body.on, rules };
    json(200, &Index { index: app.runtime.set_breaker(&principal, breaker, spec).await? })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldBody {
    reason: String,
    environment: Option<EnvironmentId>,
    /// What is to be held; absent: what the breaker watches.
    on: Option<BreakerTarget>,
}
#[derive(Serialize)]
struct Held {
    hold: Name,
    index: u64,
}

/// Holds what a breaker watches, or what `on` names, until somebody releases it.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/breakers/{breaker}/hold", tag = "emergency", params(("tenant" = String, Path), ("breaker" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "reason, on {scope, target}, environment"), responses((status = 201, description = "held, under the name that it is released by"), (status = 422, description = "it would cover nothing")))]
async fn hold(
    State(app): State<App>,
    Path((tenant, breaker)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: HoldBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let spec = HoldSpec { environment: body.environment, on: body.on, reason: reason(&body.reason)? };
    let held = app.runtime.hold_breaker(&principal, named(&breaker)?, spec).await?;
    json(201, &Held { hold: held.answer, index: held.index })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseBody {
    reason: String,
}

/// Releases what somebody holds: a person does, whatever else a key may do. A breaker that has opened by
/// itself stays open.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/breakers/{breaker}/release", tag = "emergency", params(("tenant" = String, Path), ("breaker" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "reason"), responses((status = 200, description = "released"), (status = 403, description = "only a person releases a hold"), (status = 404, description = "nobody holds it")))]
async fn release(
    State(app): State<App>,
    Path((tenant, breaker)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: ReleaseBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let index = app.runtime.release_breaker(&principal, named(&breaker)?, &reason(&body.reason)?).await?;
    json(200, &Index { index })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutcomeBody {
    outcome: ActionOutcome,
    duration_ms: Option<u32>,
    detail: Option<Box<str>>,
}

/// Says what came of an action whose token was used: once, by the credential that used it.
/// It completes the receipt.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/intents/{id}/outcome", tag = "tokens", params(("tenant" = String, Path), ("id" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "outcome (succeeded, failed, unknown), duration_ms, detail"), responses((status = 201, description = "recorded"), (status = 403, description = "another credential used its token"), (status = 404, description = "no such intent"), (status = 409, description = "it was not permitted, its token was not used, or it was reported before")))]
async fn outcome(
    State(app): State<App>,
    Path((tenant, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    principal.require(Scope::TokenVerify, None)?;
    let id: IntentId = id.parse().map_err(|_| Problem::from(Code::NotFound))?;
    let body: OutcomeBody = input::typed(&headers, &body, input::MAX_BODY)?;
    if body.detail.as_ref().is_some_and(|d| d.is_empty() || d.len() > 500) {
        return Err(Problem::at(Code::RequestInvalid, "/detail", "1 to 500 characters"));
    }
    let report = Report { outcome: body.outcome, duration_ms: body.duration_ms, detail: body.detail };
    json(201, &Index { index: app.runtime.report_outcome(&principal, &id, report).await? })
}
