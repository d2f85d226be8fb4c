//! Where the ledger is streamed to: how each sink stands. What sinks there are is said by who operates
//! the server, and so is where they are.

use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::entry::Scope;
use intended_model::{Code, Name};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::{self, List};
use crate::{Answer, App, Problem, auth, json, schema};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(test))
}

#[derive(Serialize)]
struct Row {
    sink: String,
    format: &'static str,
    transport: &'static str,
    state: &'static str,
    next: u64,
    lag_entries: u64,
    lag_seconds: i64,
    exported: u64,
    failures: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error_at: Option<String>,
}

/// The sinks that the tenant's ledger is streamed to, and how far each has come.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/siem", tag = "operate", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the sinks", body = Vec<schema::SinkRow>)))]
async fn list(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::StatusRead)?;
    let rows = app.runtime.siem(&principal.tenant).await?.into_iter().map(|standing| {
        let spec = &standing.sink.spec;
        let row = Row {
            sink: spec.name.to_string(),
            format: spec.format.as_str(),
            transport: spec.transport,
            state: standing.state(),
            next: standing.progress.acknowledged,
            lag_entries: standing.lag_entries,
            lag_seconds: standing.lag_ms / 1000,
            exported: standing.progress.exported,
            failures: standing.progress.failures,
            last_at: standing.progress.last_at.map(|t| t.to_string()),
            last_error: standing.progress.last_error.clone(),
            last_error_at: standing.progress.last_error_at.map(|t| t.to_string()),
        };
        (row.sink.clone(), row)
    });
    page::answer(List { tenant: &tenant, name: "siem" }, &uri, rows)
}

#[derive(Serialize)]
struct Tested {
    sent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

/// Sends one event that is marked as a test, and says what came of it.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/siem/{sink}/test", tag = "operate", params(("tenant" = String, Path), ("sink" = String, Path)),
    responses((status = 200, description = "what came of it", body = schema::SinkTested), (status = 404, description = "no such sink")))]
async fn test(State(app): State<App>, Path((tenant, sink)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    principal.require_whole(Scope::AccessWrite)?;
    let sink = Name::new(&sink).map_err(|_| Problem::from(Code::NotFound))?;
    let failed = app.runtime.test_sink(&principal, &sink).await?.err();
    json(200, &Tested { sent: failed.is_none(), failed })
}
