//! Outside a tenant: liveness, readiness, health, metrics, the document of the interface.

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use intended_model::Code;
use intended_runtime::health::Status;
use intended_runtime::{Principal, RuntimeError};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::keep::Kept;
use crate::{Answer, App, Problem, auth, input, json, metrics as page, schema};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(healthz))
        .routes(routes!(metrics))
        .routes(routes!(document))
}

/// The process runs. Nothing else is said.
#[utoipa::path(get, path = "/livez", tag = "operate", security(()), responses((status = 200, description = "alive", content_type = "text/plain")))]
async fn livez() -> &'static str {
    "ok\n"
}

#[derive(Deserialize)]
struct Ready {
    verbose: Option<String>,
}

/// Whether requests can be served; says no before the server shuts down.
#[utoipa::path(get, path = "/readyz", tag = "operate", security(()), params(("verbose" = Option<String>, Query, description = "say it per check")),
    responses((status = 200, description = "ready"), (status = 503, description = "not ready")))]
async fn readyz(State(app): State<App>, uri: http::Uri) -> Answer {
    let query: Ready = input::query(&uri)?;
    let draining = app.draining.load(Ordering::Acquire);
    let store = app.runtime.store().health().await;
    let ready = !draining && store.writable;
    if query.verbose.is_none() {
        return if ready { Ok("ok\n".into_response()) } else { Err(Problem::from(Code::NotReady)) };
    }
    #[derive(Serialize)]
    struct Body<'a> {
        ready: bool,
        draining: bool,
        store: &'a str,
    }
    let store = if store.writable { "ok" } else { &store.detail };
    json(if ready { 200 } else { 503 }, &Body { ready, draining, store })
}

#[derive(Serialize)]
struct CheckBody {
    check: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}
#[derive(Serialize)]
struct ComponentBody {
    component: &'static str,
    status: &'static str,
    /// All components are of one process: they start and are replaced together.
    version: &'static str,
    uptime_seconds: i64,
    checks: Vec<CheckBody>,
}
#[derive(Serialize)]
struct HealthBody {
    status: &'static str,
    version: &'static str,
    uptime_seconds: i64,
    components: Vec<ComponentBody>,
}

/// Who asks, where somebody says who they are.
fn caller(app: &App, headers: &HeaderMap) -> Result<Option<Principal>, Problem> {
    if !headers.contains_key(http::header::AUTHORIZATION) {
        return Ok(None);
    }
    Ok(Some(auth::principal(app, headers)?))
}

/// Every component with its checks. Who brings a credential with `status:read` gets the details of
/// its tenant; without one, nothing is said of tenants, environments, keys or policies, and the
/// answer may be a second old.
#[utoipa::path(get, path = "/healthz", tag = "operate", security((), ("bearer" = [])),
    responses((status = 200, description = "healthy or degraded", body = schema::Health), (status = 503, description = "unavailable", body = schema::Health)))]
async fn healthz(State(app): State<App>, headers: HeaderMap) -> Answer {
    let kept = match caller(&app, &headers)? {
        Some(caller) => health(&app, Some(&caller)).await?,
        None => app.kept.health.get(health(&app, None)).await?,
    };
    Ok(kept.into_response())
}

pub(crate) async fn health(app: &App, caller: Option<&Principal>) -> Result<Kept, Problem> {
    let uptime_seconds = app.runtime.clock().now().millis_since(app.runtime.started()) / 1000;
    let version = env!("CARGO_PKG_VERSION");
    let mut worst = Status::Healthy;
    let mut components: Vec<(Status, ComponentBody)> = Vec::new();
    for check in app.runtime.health().await {
        worst = worst.max(check.status);
        let own = caller.is_some_and(|c| {
            check.tenant.as_ref().is_none_or(|t| *t == c.tenant.id)
                && check.environment.as_ref().is_none_or(|e| c.sees(e))
        });
        // Of the others only what it means for the component.
        let told = own || check.tenant.is_none();
        let detail = if own { check.detail } else { String::new() };
        let body = told.then_some(CheckBody { check: check.check, status: check.status.as_str(), detail });
        let at = match components.iter().position(|(_, c)| c.component == check.component) {
            Some(at) => at,
            None => {
                let (component, checks) = (check.component, Vec::new());
                let new = ComponentBody { component, status: "healthy", version, uptime_seconds, checks };
                components.push((Status::Healthy, new));
                components.len() - 1
            }
        };
        if let Some((status, component)) = components.get_mut(at) {
            *status = (*status).max(check.status);
            component.status = status.as_str();
            component.checks.extend(body);
        }
    }
    let components = components.into_iter().map(|(_, c)| c).collect();
    let body = HealthBody { status: worst.as_str(), version, uptime_seconds, components };
    Ok(Kept {
        status: if worst == Status::Unavailable { 503 } else { 200 },
        kind: "application/json",
        body: serde_json::to_vec(&body).map_err(RuntimeError::internal)?.into(),
    })
}

/// OpenMetrics text. Without a credential: sums over all tenants, by tier, at most a second old. With
/// one that has `status:read`: its tenant's own, by environment.
#[utoipa::path(get, path = "/metrics", tag = "operate", security((), ("bearer" = [])), responses((status = 200, description = "metrics", content_type = "application/openmetrics-text")))]
async fn metrics(State(app): State<App>, headers: HeaderMap) -> Answer {
    let make = async |caller: Option<&Principal>| {
        let body = page::page(&app, caller).await?.into();
        Ok(Kept { status: 200, kind: page::CONTENT_TYPE, body })
    };
    let kept = match caller(&app, &headers)? {
        Some(caller) => make(Some(&caller)).await?,
        None => app.kept.metrics.get(make(None)).await?,
    };
    Ok(kept.into_response())
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operate", security(()), responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
async fn document(State(app): State<App>) -> Response {
    ([(http::header::CONTENT_TYPE, "application/json")], app.document.clone()).into_response()
}
