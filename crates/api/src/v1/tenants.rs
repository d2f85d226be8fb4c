//! Tenants, for who operates the server, and the environments of one.

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::entry::{Scope, Settings, Tier};
use intended_model::{Code, EnvironmentId, TenantId};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::page::{self, List};
use crate::{Answer, App, Problem, auth, exchange, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, tenants))
        .routes(routes!(suspend))
        .routes(routes!(reinstate))
        .routes(routes!(environments))
        .routes(routes!(suspend_environment))
        .routes(routes!(reinstate_environment))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantBody {
    tenant: TenantId,
    /// Absent: production, staging and development.
    environments: Option<Vec<EnvironmentBody>>,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvironmentBody {
    environment: EnvironmentId,
    tier: Tier,
    #[serde(default)]
    settings: Settings,
}
#[derive(Serialize)]
struct Created {
    tenant: TenantId,
    credential: String,
    /// The owner's, shown once.
    key: String,
    index: u64,
}

/// Most environments that a tenant begins with.
const MAX_ENVIRONMENTS: usize = 32;

/// Makes a tenant. Its owner's key is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/tenants", tag = "tenants",
    request_body(content_type = "application/json", description = "tenant, environments"), responses((status = 201, description = "created"), (status = 409, description = "there is one of this name")))]
async fn create(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Answer {
    let operator = auth::operator()?;
    let body: TenantBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let environments = match body.environments {
        Some(given) if given.is_empty() || given.len() > MAX_ENVIRONMENTS => {
            return Err(Problem::at(Code::RequestInvalid, "/environments", format!("1 to {MAX_ENVIRONMENTS}")));
        }
        Some(given) => given.into_iter().map(|e| (e.environment, e.tier, e.settings)).collect(),
        None => [("production", Tier::Production), ("staging", Tier::Staging), ("development", Tier::Development)]
            .into_iter()
            .filter_map(|(name, tier)| Some((EnvironmentId::new(name).ok()?, tier, Settings::default())))
            .collect::<Vec<_>>(),
    };
    let names: std::collections::BTreeSet<_> = environments.iter().map(|(e, ..)| e).collect();
    if names.len() != environments.len() {
        return Err(Problem::at(Code::RequestInvalid, "/environments", "each environment stands once"));
    }
    let made = app.runtime.found_tenant(&operator, &body.tenant, &environments).await?;
    let (credential, key, index) = (made.owner.credential.to_string(), made.owner.key, made.owner.index);
    json(201, &Created { tenant: made.tenant, credential, key, index })
}

#[derive(Serialize)]
struct TenantRow {
    tenant: String,
    environments: usize,
    /// Why it takes part in nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended: Option<Box<str>>,
}

/// Tenants: all of them for who operates the server, one's own for everybody else.
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", params(("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the tenants")))]
async fn tenants(State(app): State<App>, uri: http::Uri) -> Answer {
    let (of, tenants) = match exchange::caller() {
        Some(Caller::Operator(_)) => (intended_engine::access::OPERATOR.to_owned(), app.runtime.tenants()),
        Some(Caller::Tenant(principal)) => (principal.tenant.id.to_string(), vec![principal.tenant]),
        None => return Err(Code::CredentialMissing.into()),
    };
    let rows = tenants.iter().map(|t| {
        let state = t.state();
        let row = TenantRow {
            tenant: t.id.to_string(),
            environments: state.environments.len(),
            suspended: state.suspended.clone(),
        };
        (row.tenant.clone(), row)
    });
    page::answer(List { tenant: &of, name: "tenants" }, &uri, rows)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReasonBody {
    reason: Box<str>,
}
#[derive(Serialize)]
struct Index {
    index: u64,
}

/// Longest reason.
const MAX_REASON: usize = 1_024;

fn reason(headers: &HeaderMap, body: &Bytes) -> Result<Box<str>, Problem> {
    let ReasonBody { reason } = input::typed(headers, body, input::MAX_BODY)?;
    if reason.trim().is_empty() || reason.len() > MAX_REASON {
        return Err(Problem::at(Code::RequestInvalid, "/reason", format!("1 to {MAX_REASON} bytes")));
    }
    Ok(reason)
}

/// Takes a tenant out of everything: every decision denies, its tokens are refused online, and its
/// credentials get one answer, also to what only reads.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/suspend", tag = "tenants", params(("tenant" = String, Path)),
    request_body(content_type = "application/json", description = "reason"), responses((status = 200, description = "suspended")))]
async fn suspend(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let operator = auth::operator()?;
    let reason = reason(&headers, &body)?;
    let tenant = TenantId::new(&tenant).map_err(|_| Problem::from(Code::NotFound))?;
    json(200, &Index { index: app.runtime.suspend_tenant(&operator, &tenant, &reason).await? })
}

/// Lets a tenant take part again.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/reinstate", tag = "tenants", params(("tenant" = String, Path)),
    request_body(content_type = "application/json", description = "reason"), responses((status = 200, description = "reinstated")))]
async fn reinstate(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let operator = auth::operator()?;
    let reason = reason(&headers, &body)?;
    let tenant = TenantId::new(&tenant).map_err(|_| Problem::from(Code::NotFound))?;
    json(200, &Index { index: app.runtime.reinstate_tenant(&operator, &tenant, &reason).await? })
}

#[derive(Serialize)]
struct EnvironmentRow {
    environment: String,
    tier: Tier,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended: Option<Box<str>>,
}

/// The environments that the caller sees.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/environments", tag = "access", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the environments")))]
async fn environments(
    State(app): State<App>,
    Path(tenant): Path<String>,
    uri: http::Uri,
    headers: HeaderMap,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::StatusRead)?;
    let state = principal.tenant.state();
    let rows = state.environments.values().filter(|e| principal.sees(&e.id)).map(|e| {
        let row = EnvironmentRow { environment: e.id.to_string(), tier: e.tier, suspended: e.suspended.clone() };
        (row.environment.clone(), row)
    });
    page::answer(List { tenant: &tenant, name: "environments" }, &uri, rows)
}

/// Takes an environment out of everything: its decisions deny, and its tokens are refused online.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/environments/{environment}/suspend", tag = "access", params(("tenant" = String, Path), ("environment" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "reason"), responses((status = 200, description = "suspended")))]
async fn suspend_environment(
    State(app): State<App>,
    Path((tenant, environment)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let reason = reason(&headers, &body)?;
    let environment = EnvironmentId::new(&environment).map_err(|_| Problem::from(Code::EnvironmentUnknown))?;
    json(200, &Index { index: app.runtime.suspend_environment(&principal, &environment, &reason).await? })
}

/// Lets an environment take part again.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/environments/{environment}/reinstate", tag = "access", params(("tenant" = String, Path), ("environment" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "reason"), responses((status = 200, description = "reinstated")))]
async fn reinstate_environment(
    State(app): State<App>,
    Path((tenant, environment)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let reason = reason(&headers, &body)?;
    let environment = EnvironmentId::new(&environment).map_err(|_| Problem::from(Code::EnvironmentUnknown))?;
    json(200, &Index { index: app.runtime.reinstate_environment(&principal, &environment, &reason).await? })
}
