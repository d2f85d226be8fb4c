//! Outside a tenant: liveness, readiness, health, metrics, the document of the interface.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use intended_model::Code;
use intended_runtime::health::{Check, STORE, Status, TENANTS};
use intended_runtime::{Principal, RuntimeError};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::exchange::AsItIs;
use crate::keep::Kept;
use crate::v1::nodes::{self, NodeRow};
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

/// One line of `/readyz?verbose`.
#[derive(Serialize)]
struct PartBody {
    component: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<&'static str>,
    #[serde(rename = "do", skip_serializing_if = "str::is_empty")]
    todo: &'static str,
}
#[derive(Serialize)]
struct ReadyBody {
    ready: bool,
    draining: bool,
    /// `ok`, or why not as a code of the catalogue.
    store: &'static str,
    checks: Vec<PartBody>,
}

impl ReadyBody {
    /// As Kubernetes' components say it.
    fn text(&self) -> String {
        let mut text = String::new();
        for part in &self.checks {
            match part.check {
                None => text.push_str(&format!("[+]{} ok\n", part.component)),
                Some(check) => {
                    text.push_str(&format!("[-]{} failed: {check}\n", part.component));
                    text.push_str(&format!("   {}\n", part.todo));
                }
            }
        }
        text.push_str(if self.ready { "ready\n" } else { "not ready\n" });
        text
    }
}

/// Whether requests can be served; says no before the server shuts down, and while nothing could be
/// decided. With `verbose` it says so per component, as text or, where that is accepted, as JSON.
#[utoipa::path(get, path = "/readyz", tag = "operate", security(()), params(("verbose" = Option<String>, Query, description = "say it per component")),
    responses((status = 200, description = "ready", content((schema::Ready = "application/json"), (String = "text/plain"))), (status = 503, description = "not ready", content((schema::Ready = "application/json"), (String = "text/plain")))))]
async fn readyz(State(app): State<App>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let query: Ready = input::query(&uri)?;
    let draining = app.draining.load(Ordering::Acquire);
    let said = app.runtime.readiness().await;
    let ready = said.ready && !draining;
    if query.verbose.is_none() {
        return if ready { Ok("ok\n".into_response()) } else { Err(Problem::from(Code::NotReady)) };
    }
    let store = if said.parts.iter().any(|p| p.component == STORE && p.failed.is_some()) {
        app.runtime.store().health().await.code.unwrap_or(Code::StoreUnavailable.as_str())
    } else {
        "ok"
    };
    let checks = said.parts.into_iter().map(|part| PartBody {
        component: part.component,
        ok: part.failed.is_none(),
        check: part.failed,
        todo: part.todo,
    });
    let body = ReadyBody { ready, draining, store, checks: checks.collect() };
    let status = if ready { 200 } else { 503 };
    if wants_json(&headers) {
        return json(status, &body);
    }
    let status = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::SERVICE_UNAVAILABLE);
    let kind = [(http::header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((status, Extension(AsItIs), kind, body.text()).into_response())
}

/// Whether somebody asks for JSON by its name.
fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(http::header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let mut kinds = accepted.flat_map(|v| v.split(',')).map(|kind| kind.split(';').next().unwrap_or_default().trim());
    kinds.any(|kind| kind.eq_ignore_ascii_case("application/json"))
}

#[derive(Serialize)]
struct CheckBody {
    check: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// What to do, where it is not healthy.
    #[serde(rename = "do", skip_serializing_if = "str::is_empty")]
    todo: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    see: Option<String>,
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
    /// For strangers, whose `status` is not about tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenants_with_trouble: Option<usize>,
    components: Vec<ComponentBody>,
    /// For whoever may see them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<NodeRow>,
}

/// Who asks, where somebody says who they are.
fn caller(app: &App, headers: &HeaderMap) -> Result<Option<Principal>, Problem> {
    if !headers.contains_key(http::header::AUTHORIZATION) {
        return Ok(None);
    }
    Ok(Some(auth::principal(app, headers)?))
}

/// Whether a check is about what a caller sees: the server, their tenant, their environments.
pub(crate) fn concerns(check: &Check, caller: &Principal) -> bool {
    check.tenant.as_ref().is_none_or(|t| *t == caller.tenant.id)
        && check.environment.as_ref().is_none_or(|e| caller.sees(e))
}

/// Every component of the node that answers, with its checks. Who brings a credential with `status:read`
/// gets what is the server's and its tenant's own, with details, and the nodes that serve it. Without one
/// `status` is about the server alone, a component's is its worst, `tenants_with_trouble` says how many
/// tenants something is not well for; nothing is said of which they are, of environments, keys, policies
/// or nodes, and the answer may be a second old.
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
    let checks = app.runtime.health().await;
    let nodes = match caller {
        Some(caller) => nodes::rows(app, &caller.tenant, &checks).await?,
        None => Vec::new(),
    };
    let mut troubled = BTreeSet::new();
    for check in checks {
        if caller.is_some_and(|by| !concerns(&check, by)) {
            // The trouble of others is not theirs.
            continue;
        }
        match &check.tenant {
            Some(tenant) if caller.is_none() => {
                if check.status > Status::Healthy {
                    troubled.insert(tenant.clone());
                }
            }
            _ => worst = worst.max(check.status),
        }
        let told = caller.is_some() || check.tenant.is_none();
        // How many tenants there are is the operator's to know, who has the log and `intended tenant list`.
        let own = caller.is_some() && check.check != TENANTS;
        let see = (check.status != Status::Healthy).then(|| check.see());
        let detail = if own { check.detail } else { String::new() };
        let body = told.then_some(CheckBody {
            check: check.check,
            status: check.status.as_str(),
            detail,
            todo: check.todo,
            see,
        });
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
    let tenants_with_trouble = caller.is_none().then_some(troubled.len());
    let body = HealthBody { status: worst.as_str(), version, uptime_seconds, tenants_with_trouble, components, nodes };
    Ok(Kept {
        status: if worst == Status::Unavailable { 503 } else { 200 },
        kind: "application/json",
        body: serde_json::to_vec(&body).map_err(RuntimeError::internal)?.into(),
    })
}

/// OpenMetrics text for who accepts it, else Prometheus' own. Without a credential: sums over all
/// tenants, by tier, at most a second old. With one that has `status:read`: its tenant's own, by environment.
#[utoipa::path(get, path = "/metrics", tag = "operate", security((), ("bearer" = [])), responses((status = 200, description = "metrics", content((String = "text/plain"), (String = "application/openmetrics-text")))))]
async fn metrics(State(app): State<App>, headers: HeaderMap) -> Answer {
    let make = async |caller: Option<&Principal>| {
        let body = page::page(&app, caller).await?.into();
        Ok(Kept { status: 200, kind: page::CONTENT_TYPE, body })
    };
    let caller = caller(&app, &headers)?;
    let mut kept = match &caller {
        Some(caller) => make(Some(caller)).await?,
        None => app.kept.metrics.get(make(None)).await?,
    };
    app.scraped.read(caller.as_ref().map(|c| &c.tenant.id), app.runtime.now());
    if !page::wants_open_metrics(headers.get(http::header::ACCEPT).and_then(|v| v.to_str().ok())) {
        let text = page::plain(&String::from_utf8_lossy(&kept.body));
        kept = Kept { kind: page::PLAIN, body: text.into(), ..kept };
    }
    Ok(kept.into_response())
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operate", security(()), responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
async fn document(State(app): State<App>) -> Response {
    ([(http::header::CONTENT_TYPE, "application/json")], app.document.clone()).into_response()
}
