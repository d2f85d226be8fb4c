//! Halts, in their simplest form: the tenant or one environment, thrown and lifted.

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::entry::Scope;
use intended_model::{Code, EnvironmentId, Name};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{Answer, App, Problem, auth, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(state)).routes(routes!(halt)).routes(routes!(resume))
}

#[derive(Serialize)]
struct HaltRow {
    halt: String,
    scope: String,
    reason: String,
    by: String,
}
#[derive(Serialize)]
struct StateBody {
    halted: bool,
    halts: Vec<HaltRow>,
}

/// What is halted: the tenant, and the environments of the credential.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/emergency", tag = "emergency", params(("tenant" = String, Path)),
    responses((status = 200, description = "the halts in force")))]
async fn state(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::EmergencyRead)?;
    let state = principal.tenant.state();
    let halts: Vec<HaltRow> = state
        .halts
        .iter()
        .filter(|(_, h)| h.environment.as_ref().is_none_or(|e| principal.sees(e)))
        .map(|(name, h)| HaltRow {
            halt: name.to_string(),
            scope: h.environment.as_ref().map_or_else(|| "tenant".to_owned(), |e| format!("environment:{e}")),
            reason: h.reason.to_string(),
            by: h.by.to_string(),
        })
        .collect();
    json(200, &StateBody { halted: !halts.is_empty(), halts })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HaltBody {
    /// Absent: the whole tenant.
    environment: Option<EnvironmentId>,
    reason: String,
}
#[derive(Serialize)]
struct Halted {
    halt: Name,
    index: u64,
}

fn reason(text: &str) -> Result<&str, Problem> {
    let text = text.trim();
    if text.is_empty() || text.len() > 500 {
        return Err(Problem::at(Code::RequestInvalid, "/reason", "say why, in 1 to 500 characters"));
    }
    Ok(text)
}

/// Throws a halt. When the answer is here, no covered allow can follow in the ledger.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/emergency/halts", tag = "emergency", params(("tenant" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "environment (absent: tenant), reason"), responses((status = 201, description = "thrown")))]
async fn halt(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: HaltBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let (halt, index) = app.runtime.halt(&principal, body.environment, reason(&body.reason)?).await?;
    json(201, &Halted { halt, index })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResumeBody {
    reason: String,
}

/// Lifts a halt.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/emergency/halts/{halt}/resume", tag = "emergency", params(("tenant" = String, Path), ("halt" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "reason"), responses((status = 200, description = "lifted")))]
async fn resume(
    State(app): State<App>,
    Path((tenant, halt)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: ResumeBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let halt = Name::new(&halt).map_err(|_| Problem::from(Code::HaltUnknown))?;
    let index = app.runtime.resume(&principal, halt.clone(), reason(&body.reason)?).await?;
    json(200, &Halted { halt, index })
}
