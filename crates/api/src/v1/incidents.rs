//! Incidents: that something is wrong and people are at work. While one is open, a rollback of the
//! environments that it covers takes one person.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::IntoResponse as _;
use http::HeaderMap;
use intended_model::entry::Scope;
use intended_model::{Code, EnvironmentId, Name};
use intended_runtime::Principal;
use intended_runtime::incidents::{BEFORE_SECS, Case, MAX_BEFORE_SECS};
use intended_verify::timeline::{BASELINE_MINUTES, SPIKE_AT_LEAST, SPIKE_TIMES};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::policy::name;
use crate::page::{self, List};
use crate::{Answer, App, Problem, auth, input, json, schema};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(open, list))
        .routes(routes!(show))
        .routes(routes!(timeline))
        .routes(routes!(evidence))
        .routes(routes!(note))
        .routes(routes!(close))
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

async fn find(app: &App, by: &Principal, incident: &str) -> Result<Case, Problem> {
    let incident = Name::new(incident).map_err(|_| Problem::from(Code::NotFound))?;
    Ok(app.runtime.incident(by, &incident).await?)
}

#[derive(Serialize)]
struct Body<'a> {
    incident: &'a str,
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<&'a EnvironmentId>,
    by: &'a str,
    index: u64,
    opened_at: String,
    notes: u32,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'a str>,
}

/// One incident, open or closed.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/incidents/{incident}", tag = "operate", params(("tenant" = String, Path), ("incident" = String, Path)),
    responses((status = 200, description = "the incident", body = schema::IncidentAnswer), (status = 404, description = "no such incident")))]
async fn show(State(app): State<App>, Path((tenant, incident)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::EmergencyRead)?;
    let case = find(&app, &principal, &incident).await?;
    let closed = case.closed.as_ref();
    json(
        200,
        &Body {
            incident: case.incident.as_str(),
            title: &case.title,
            environment: case.environment.as_ref(),
            by: case.by.as_str(),
            index: case.index,
            opened_at: case.opened_at.to_string(),
            notes: case.notes,
            state: if closed.is_some() { "closed" } else { "open" },
            closed_at: closed.map(|c| c.at.to_string()),
            closed_by: closed.map(|c| c.by.as_str()),
            summary: closed.map(|c| &*c.summary),
        },
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Before {
    before_secs: Option<i64>,
}

impl Before {
    fn of(uri: &http::Uri) -> Result<i64, Problem> {
        let query: Self = input::query(uri)?;
        let secs = query.before_secs.unwrap_or(BEFORE_SECS);
        if !(0..=MAX_BEFORE_SECS).contains(&secs) {
            let what = format!("0 to {MAX_BEFORE_SECS} seconds");
            return Err(Problem::at(Code::RequestInvalid, "/before_secs", what));
        }
        Ok(secs)
    }
}

#[derive(Serialize)]
struct TimelineBody<'a> {
    incident: &'a str,
    from: String,
    to: String,
    items: Vec<ItemBody<'a>>,
    unseen: u64,
    spike: SpikeRule,
}
#[derive(Serialize)]
struct ItemBody<'a> {
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    kind: &'a str,
    what: &'a str,
}
#[derive(Serialize)]
struct SpikeRule {
    at_least: u32,
    times_median: u32,
    baseline_minutes: i64,
}

/// What happened from some time before it was opened until it was closed, or until now: halts, breakers,
/// deployments, revocations, keys, notes, spikes of denials.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/incidents/{incident}/timeline", tag = "operate", params(("tenant" = String, Path), ("incident" = String, Path), ("before_secs" = Option<i64>, Query, description = "3600 where it is not said")),
    responses((status = 200, description = "the timeline", body = schema::TimelineAnswer), (status = 404, description = "no such incident")))]
async fn timeline(
    State(app): State<App>,
    Path((tenant, incident)): Path<(String, String)>,
    uri: http::Uri,
    headers: HeaderMap,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::EmergencyRead)?;
    let before = Before::of(&uri)?;
    let case = find(&app, &principal, &incident).await?;
    let timeline = app.runtime.timeline(&principal, &case, before).await?;
    let items = timeline.items.iter();
    let items = items.map(|i| ItemBody { at: i.at.to_string(), index: i.index, kind: &i.kind, what: &i.what });
    json(
        200,
        &TimelineBody {
            incident: case.incident.as_str(),
            from: timeline.from.to_string(),
            to: timeline.to.to_string(),
            items: items.collect(),
            unseen: timeline.unseen,
            spike: SpikeRule {
                at_least: SPIKE_AT_LEAST,
                times_median: SPIKE_TIMES,
                baseline_minutes: BASELINE_MINUTES,
            },
        },
    )
}

/// The incident as evidence, for `intended incident verify`: its timeline, and the entries on it with
/// their proofs against a signed checkpoint.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/incidents/{incident}/evidence", tag = "operate", params(("tenant" = String, Path), ("incident" = String, Path), ("before_secs" = Option<i64>, Query)),
    responses((status = 200, description = "the evidence", content_type = "application/x-ndjson"), (status = 404, description = "no such incident")))]
async fn evidence(
    State(app): State<App>,
    Path((tenant, incident)): Path<(String, String)>,
    uri: http::Uri,
    headers: HeaderMap,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    principal.require(Scope::EmergencyRead, None)?;
    let principal = principal.reading(Scope::AuditRead)?;
    let before = Before::of(&uri)?;
    let case = find(&app, &principal, &incident).await?;
    let text = app.runtime.incident_evidence(&principal, &case, before).await?;
    Ok(([(http::header::CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    text: String,
}

/// Notes what was found or done.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/incidents/{incident}/notes", tag = "operate", params(("tenant" = String, Path), ("incident" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "text"), responses((status = 201, description = "noted", body = schema::Recorded), (status = 404, description = "no such incident is open")))]
async fn note(
    State(app): State<App>,
    Path((tenant, incident)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: Note = input::typed(&headers, &body, input::MAX_BODY)?;
    json(201, &Index { index: app.runtime.note_incident(&principal, name(&incident)?, &body.text).await? })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseBody {
    /// What happened, and what was done. `reason` is what it was called before.
    #[serde(alias = "reason")]
    summary: String,
}
#[derive(Serialize)]
struct Index {
    index: u64,
}

/// Closes an incident, with a summary of it.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/incidents/{incident}/close", tag = "operate", params(("tenant" = String, Path), ("incident" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "summary"), responses((status = 200, description = "closed"), (status = 404, description = "no such incident is open")))]
async fn close(
    State(app): State<App>,
    Path((tenant, incident)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: CloseBody = input::typed(&headers, &body, input::MAX_BODY)?;
    json(200, &Index { index: app.runtime.close_incident(&principal, name(&incident)?, &body.summary).await? })
}
