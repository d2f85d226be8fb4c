//! Outside a tenant: liveness, readiness, health, metrics.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use intended_model::Code;
use intended_model::entry::Scope;
use intended_runtime::health::Status;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{Answer, App, Problem, auth, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(healthz))
        .routes(routes!(metrics))
}

/// The process runs. Nothing else is said.
#[utoipa::path(get, path = "/livez", tag = "operate", responses((status = 200, description = "alive")))]
async fn livez() -> &'static str {
    "ok\n"
}

#[derive(Deserialize)]
struct Ready {
    verbose: Option<String>,
}

/// Whether requests can be served; says no before the server shuts down.
#[utoipa::path(get, path = "/readyz", tag = "operate", params(("verbose" = Option<String>, Query, description = "say it per check")),
    responses((status = 200, description = "ready"), (status = 503, description = "not ready")))]
async fn readyz(State(app): State<App>, Query(query): Query<Ready>) -> Answer {
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
    checks: Vec<CheckBody>,
}
#[derive(Serialize)]
struct HealthBody {
    status: &'static str,
    version: &'static str,
    uptime_seconds: i64,
    components: Vec<ComponentBody>,
}

/// Every component with its checks. Who brings a credential with `status:read` gets the details of
/// its tenant; without one, nothing is said of tenants, environments, keys or policies.
#[utoipa::path(get, path = "/healthz", tag = "operate", responses((status = 200, description = "healthy or degraded"), (status = 503, description = "unavailable")))]
async fn healthz(State(app): State<App>, headers: HeaderMap) -> Answer {
    let caller = match headers.get(http::header::AUTHORIZATION) {
        Some(_) => Some(auth::principal(&app, &headers)?),
        None => None,
    };
    if let Some(caller) = &caller {
        caller.require(Scope::StatusRead, None)?;
    }
    let checks = app.runtime.health().await;
    let mut worst = Status::Healthy;
    let mut components: Vec<(Status, ComponentBody)> = Vec::new();
    for check in checks {
        worst = worst.max(check.status);
        let own = caller.as_ref().is_some_and(|c| check.tenant.as_ref().is_none_or(|t| *t == c.tenant.id));
        let detail = if own { check.detail } else { String::new() };
        let body = CheckBody { check: check.check, status: check.status.as_str(), detail };
        // Of the others only what it means for the component.
        let told = own || check.tenant.is_none();
        match components.iter_mut().find(|(_, c)| c.component == check.component) {
            Some((status, component)) => {
                *status = (*status).max(check.status);
                component.status = status.as_str();
                component.checks.extend(told.then_some(body));
            }
            None => components.push((
                check.status,
                ComponentBody {
                    component: check.component,
                    status: check.status.as_str(),
                    checks: told.then_some(body).into_iter().collect(),
                },
            )),
        }
    }
    let uptime = app.runtime.clock().now().millis_since(app.runtime.started()) / 1000;
    let body = HealthBody {
        status: worst.as_str(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: uptime,
        components: components.into_iter().map(|(_, c)| c).collect(),
    };
    json(if worst == Status::Unavailable { 503 } else { 200 }, &body)
}

/// Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operate", responses((status = 200, description = "metrics")))]
async fn metrics(State(app): State<App>) -> Response {
    let m = app.runtime.metrics();
    let mut out = String::new();
    let mut family = |name: &str, help: &str, kind: &str, samples: &[(String, u64)]| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let decisions: Vec<_> =
        m.decisions().into_iter().map(|(o, n)| (format!("{{decision=\"{}\"}}", o.as_str()), n)).collect();
    family("intended_decisions_total", "Decisions recorded since start.", "counter", &decisions);
    family(
        "intended_tokens_issued_total",
        "Tokens issued since start.",
        "counter",
        &[(String::new(), m.tokens_issued())],
    );
    let (accepted, refused) = m.verifications();
    let verifications = [("{result=\"accepted\"}".to_owned(), accepted), ("{result=\"refused\"}".to_owned(), refused)];
    family("intended_token_verifications_total", "Online token verifications since start.", "counter", &verifications);
    family(
        "intended_commit_conflicts_total",
        "Commits that were decided again.",
        "counter",
        &[(String::new(), m.conflicts())],
    );
    let halts: u64 = app.runtime.tenants().iter().map(|t| t.state().halts.len() as u64).sum();
    family("intended_halt_active", "Halts in force.", "gauge", &[(String::new(), halts)]);
    ([(http::header::CONTENT_TYPE, "text/plain; version=0.0.4")], out).into_response()
}
