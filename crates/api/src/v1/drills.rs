//! Drills: procedures of the emergency, tried before they are needed.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::emergency::{DrillKind, DrillStep};
use intended_model::entry::Scope;
use intended_model::{EnvironmentId, Intent, Value};
use intended_runtime::RuntimeError;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{Answer, App, auth, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(hold, list))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DrillBody {
    drill: DrillKind,
    environment: EnvironmentId,
    /// An action that the environment allows; absent: the one that it allowed last.
    intent: Option<Value>,
}

/// Holds a drill: `halt`, `revoke` or `rollback`, for real, on traffic of its own, and puts everything
/// back. Refused in production. The answer says what could not be put back.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/drills", tag = "emergency", params(("tenant" = String, Path)),
    request_body(content_type = "application/json", description = "drill, environment, intent (an action that is allowed; absent: the last one that was)"),
    responses((status = 201, description = "held: `passed`, `restored`, and each step with its time")))]
async fn hold(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let body: DrillBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let intent = match &body.intent {
        None => None,
        Some(value) => Some(Intent::from_value(value, Some(&body.environment), false).map_err(RuntimeError::from)?),
    };
    // It goes on to its end, whether or not anyone waits for it.
    let runtime = Arc::clone(&app.runtime);
    let held = tokio::spawn(async move { runtime.drill(&principal, &body.environment, body.drill, intent).await });
    json(201, &held.await.map_err(RuntimeError::internal)??)
}

#[derive(Serialize)]
struct Row {
    index: u64,
    drill: DrillKind,
    environment: EnvironmentId,
    by: String,
    started_at: String,
    passed: bool,
    restored: bool,
    steps: Vec<DrillStep>,
}
#[derive(Serialize)]
struct List {
    drills: Vec<Row>,
}

/// The drills that were held, newest first: the last 200 of the tenant.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/drills", tag = "emergency", params(("tenant" = String, Path)),
    responses((status = 200, description = "the drills")))]
async fn list(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::EmergencyRead)?;
    let state = principal.tenant.state();
    let seen = state.emergency.drills().iter().rev().filter(|d| principal.sees(&d.environment));
    let drills = seen
        .map(|d| Row {
            index: d.index,
            drill: d.drill,
            environment: d.environment.clone(),
            by: state.person(&d.by).to_string(),
            started_at: d.started_at.to_string(),
            passed: d.passed,
            restored: d.restored,
            steps: d.steps.clone(),
        })
        .collect();
    json(200, &List { drills })
}
