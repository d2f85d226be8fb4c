//! Webhooks: where to send what happens to approvals.

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::entry::Scope;
use intended_model::{Code, EnvironmentId, Name};
use intended_runtime::webhooks::WebhookSpec;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::{self, List};
use crate::{Answer, App, Problem, auth, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(set, remove))
        .routes(routes!(rotate))
        .routes(routes!(test))
}

fn name(text: &str) -> Result<Name, Problem> {
    Name::new(text).map_err(|e| Problem::at(Code::TextUnsafe, "/webhook", e.to_string()))
}

#[derive(Serialize)]
struct Row {
    webhook: String,
    url: String,
    events: Vec<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<EnvironmentId>,
    /// `ok`, `failing` or `gone`.
    state: &'static str,
    delivered: u64,
    dropped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
}

/// The webhooks, with what came of their deliveries.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/webhooks", tag = "approvals", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the webhooks")))]
async fn list(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::AccessRead)?;
    let rows = app.runtime.webhooks(&principal)?.into_iter().map(|(webhook, cursor)| {
        let state = match () {
            () if cursor.gone => "gone",
            () if cursor.attempt > 0 => "failing",
            () => "ok",
        };
        let row = Row {
            webhook: webhook.webhook.to_string(),
            url: webhook.url.to_string(),
            events: webhook.events,
            environment: webhook.environment,
            state,
            delivered: cursor.delivered,
            dropped: cursor.dropped,
            last_at: cursor.last_at.map(|t| t.to_string()),
            failed: cursor.failed,
            next_attempt_at: cursor.due_at.map(|t| t.to_string()),
        };
        (row.webhook.clone(), row)
    });
    page::answer(List { tenant: &tenant, name: "webhooks" }, &uri, rows)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetBody {
    url: Box<str>,
    events: Vec<Box<str>>,
    /// Absent: of every environment.
    environment: Option<EnvironmentId>,
}
#[derive(Serialize)]
struct Set {
    webhook: Name,
    index: u64,
    /// Of a new webhook, or a new secret. Shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// Makes a webhook or changes it. The secret of a new one is in this answer and nowhere else.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/webhooks/{webhook}", tag = "approvals", params(("tenant" = String, Path), ("webhook" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "url, events, environment"), responses((status = 200, description = "set")))]
async fn set(
    State(app): State<App>,
    Path((tenant, webhook)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    principal.require(Scope::AccessWrite, None)?;
    let body: SetBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let webhook = name(&webhook)?;
    let spec =
        WebhookSpec { webhook: webhook.clone(), url: body.url, events: body.events, environment: body.environment };
    let (index, secret) = app.runtime.set_webhook(&principal, spec).await?;
    json(200, &Set { webhook, index, secret: secret.map(|s| s.to_string()) })
}

/// Removes a webhook.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/webhooks/{webhook}", tag = "approvals", params(("tenant" = String, Path), ("webhook" = String, Path)),
    responses((status = 200, description = "removed"), (status = 404, description = "no such webhook")))]
async fn remove(State(app): State<App>, Path((tenant, webhook)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    principal.require(Scope::AccessWrite, None)?;
    let webhook = name(&webhook)?;
    let index = app.runtime.remove_webhook(&principal, &webhook).await?;
    json(200, &Set { webhook, index, secret: None })
}

/// Gives it another secret. For a day, deliveries are signed with both.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/webhooks/{webhook}/rotate", tag = "approvals", params(("tenant" = String, Path), ("webhook" = String, Path), ("idempotency-key" = Option<String>, Header)),
    responses((status = 200, description = "rotated"), (status = 404, description = "no such webhook")))]
async fn rotate(State(app): State<App>, Path((tenant, webhook)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let webhook = name(&webhook)?;
    let (index, secret) = app.runtime.rotate_webhook(&principal, &webhook).await?;
    json(200, &Set { webhook, index, secret: Some(secret.to_string()) })
}

#[derive(Serialize)]
struct Tested {
    webhook: Name,
    delivered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

/// Sends a `webhook.test` event now, and says what came of it.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/webhooks/{webhook}/test", tag = "approvals", params(("tenant" = String, Path), ("webhook" = String, Path)),
    responses((status = 200, description = "sent, or not"), (status = 404, description = "no such webhook")))]
async fn test(State(app): State<App>, Path((tenant, webhook)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    principal.require(Scope::AccessWrite, None)?;
    let webhook = name(&webhook)?;
    let sent = app.runtime.test_webhook(&principal, &webhook).await?;
    let status = sent.as_ref().ok().copied();
    let delivered = status.is_some_and(|s| (200..300).contains(&s));
    json(200, &Tested { webhook, delivered, status, failed: sent.err() })
}
