//! Incidents: that something is wrong and people are at work. While one is open, a rollback of the
//! environments that it covers takes one person.

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::EnvironmentId;
use intended_model::entry::Scope;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::policy::name;
use crate::page::{self, List};
use crate::{Answer, App, auth, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(open, list)).routes(routes!(close))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenBody {
    title: String,
    /// Absent: the whole tenant.
    environment: Option<EnvironmentId>,
}
#[derive(Serialize)]
struct Opened {
    incident: String,
    index: u64,
}

/// Opens an incident.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/incidents", tag = "operate", params(("tenant" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "title, environment"), responses((status = 201, description = "open")))]
async fn open(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: OpenBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let opened = app.runtime.open_incident(&principal, body.environment, &body.title).await?;
    json(201, &Opened { incident: opened.answer.to_string(), index: opened.index })
}

#[derive(Serialize)]
struct Row {
    incident: String,
    title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<EnvironmentId>,
    by: String,
    index: u64,
}

/// The incidents that are open.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/incidents", tag = "operate", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the open incidents")))]
async fn list(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::EmergencyRead)?;
    let state = principal.tenant.state();
    let visible = |e: &Option<EnvironmentId>| e.as_ref().is_none_or(|e| principal.sees(e));
    let rows = state.incidents.iter().filter(|(_, i)| visible(&i.environment)).map(|(incident, i)| {
        let row = Row {
            incident: incident.to_string(),
            title: i.title.to_string(),
            environment: i.environment.clone(),
            by: i.by.to_string(),
            index: i.index,
        };
        (row.incident.clone(), row)
    });
    page::answer(List { tenant: &tenant, name: "incidents" }, &uri, rows)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    reason: String,
}
#[derive(Serialize)]
struct Index {
    index: u64,
}

/// Closes an incident.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/incidents/{incident}/close", tag = "operate", params(("tenant" = String, Path), ("incident" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "reason"), responses((status = 200, description = "closed"), (status = 404, description = "no such incident is open")))]
async fn close(
    State(app): State<App>,
    Path((tenant, incident)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: Reason = input::typed(&headers, &body, input::MAX_BODY)?;
    json(200, &Index { index: app.runtime.close_incident(&principal, name(&incident)?, &body.reason).await? })
}
