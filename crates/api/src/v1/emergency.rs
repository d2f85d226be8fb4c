//! Halts, what one would stop, what lifts them; revocation in bulk; break-glass credentials.

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::emergency::{HaltScope, HaltTarget, TokenSelector};
use intended_model::entry::Scope;
use intended_model::{Code, EnvironmentId, Name, Timestamp};
use intended_runtime::emergency::{Concerned, Resumed, name_of};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{Answer, App, Problem, auth, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(state))
        .routes(routes!(radius))
        .routes(routes!(halt))
        .routes(routes!(resume))
        .routes(routes!(revoke))
        .routes(routes!(prepare))
}

#[derive(Serialize)]
struct Asked {
    by: String,
    reason: String,
    expires_at: String,
}
#[derive(Serialize)]
struct HaltRow {
    halt: String,
    /// `tenant`, `environment:…`, `agent:…`, `connector:…`, `tool:…` or `category:…`.
    scope: String,
    /// Absent: every environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<EnvironmentId>,
    reason: String,
    /// The credential.
    by: String,
    /// Whose it is.
    person: String,
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    resume_people: u32,
    /// Who has asked for it to be lifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<Asked>,
    /// What lifting it still takes, for people.
    resume: String,
}
#[derive(Serialize)]
struct StateBody {
    halted: bool,
    halts: Vec<HaltRow>,
}

pub(super) fn scope_text(scope: &HaltScope) -> String {
    match (&scope.on, &scope.environment) {
        (Some(on), _) => format!("{}:{}", on.kind(), on.text()),
        (None, Some(environment)) => format!("environment:{environment}"),
        (None, None) => "tenant".to_owned(),
    }
}

/// What is halted: the tenant, and what lies in the environments of the credential.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/emergency", tag = "emergency", params(("tenant" = String, Path)),
    responses((status = 200, description = "the halts in force: who, why, since when, what they cover, who must lift them")))]
async fn state(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::EmergencyRead)?;
    let state = principal.tenant.state();
    let now = app.runtime.now();
    let mut halts = Vec::new();
    for (name, h) in state.halts.iter().filter(|(_, h)| h.environment.as_ref().is_none_or(|e| principal.sees(e))) {
        let since = app
            .runtime
            .store()
            .entry(&principal.tenant.id, h.index)
            .await
            .map_err(intended_runtime::RuntimeError::from)?;
        let asked = h.asked.as_ref().filter(|asked| asked.expires_at > now);
        let resume = match asked {
            _ if h.people < 2 => "one person with emergency:write".to_owned(),
            None => "two people, one after the other, each with means of their own".to_owned(),
            Some(asked) => format!("another person than {}", state.person(&asked.by)),
        };
        halts.push(HaltRow {
            halt: name.to_string(),
            scope: scope_text(&h.scope()),
            environment: h.environment.clone(),
            reason: h.reason.to_string(),
            by: h.by.to_string(),
            person: state.person(&h.by).to_string(),
            index: h.index,
            since: since.map(|entry| entry.at.to_string()),
            resume_people: h.people,
            asked: asked.map(|asked| Asked {
                by: state.person(&asked.by).to_string(),
                reason: asked.reason.to_string(),
                expires_at: asked.expires_at.to_string(),
            }),
            resume,
        });
    }
    json(200, &StateBody { halted: !halts.is_empty(), halts })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RadiusQuery {
    environment: Option<EnvironmentId>,
    agent: Option<Box<str>>,
    connector: Option<Box<str>>,
    tool: Option<Box<str>>,
    category: Option<Box<str>>,
}

/// What a halt would stop: agents, decisions in a minute (over the last ten), live tokens, open
/// approvals; and the name to be typed before it is thrown.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/emergency/blast-radius", tag = "emergency",
    params(("tenant" = String, Path), ("environment" = Option<String>, Query, description = "absent: all"), ("agent" = Option<String>, Query), ("connector" = Option<String>, Query), ("tool" = Option<String>, Query, description = "a name, or a pattern that ends in `*`"), ("category" = Option<String>, Query)),
    responses((status = 200, description = "what would stop")))]
async fn radius(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let query: RadiusQuery = input::query(&uri)?;
    let mut on = [
        query.agent.map(HaltTarget::Agent),
        query.connector.map(HaltTarget::Connector),
        query.tool.map(HaltTarget::Tool),
        query.category.map(HaltTarget::Category),
    ]
    .into_iter()
    .flatten();
    let scope = HaltScope { environment: query.environment, on: on.next() };
    if on.next().is_some() {
        return Err(Problem::at(Code::RequestInvalid, "/agent", "a halt is on one thing"));
    }
    let principal = principal.reading(Scope::EmergencyRead)?;
    json(200, &app.runtime.blast_radius(&principal, &scope).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HaltBody {
    /// Absent: every environment.
    environment: Option<EnvironmentId>,
    /// Absent: everything there.
    on: Option<HaltTarget>,
    reason: String,
}
#[derive(Serialize)]
struct Halted {
    halt: Name,
    index: u64,
    scope: String,
    /// What had to be confirmed.
    name: String,
}

fn reason(text: &str) -> Result<&str, Problem> {
    let text = text.trim();
    if text.is_empty() || text.len() > 500 {
        return Err(Problem::at(Code::RequestInvalid, "/reason", "say why, in 1 to 500 characters"));
    }
    Ok(text)
}

/// Throws a halt. When the answer is here, no covered allow can follow in the ledger, and no covered
/// token from before it is good for anything. `server-timing` says after how many milliseconds it was
/// durable (`commit`), and after how many this server refused something that it covers (`refused`).
#[utoipa::path(post, path = "/v1/tenants/{tenant}/emergency/halts", tag = "emergency", params(("tenant" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "environment (absent: all), on (`{\"agent\": …}`, connector, tool or category; absent: everything), reason"), responses((status = 201, description = "thrown")))]
async fn halt(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: HaltBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let scope = HaltScope { environment: body.environment, on: body.on };
    let thrown = app.runtime.throw(&principal, scope.clone(), reason(&body.reason)?).await?;
    let body = Halted {
        halt: thrown.halt,
        index: thrown.index,
        scope: scope_text(&scope),
        name: name_of(&principal.tenant.id, &scope),
    };
    let mut answer = json(201, &body)?;
    // Beside the answer, which is the same when it is asked for again.
    let ms = |t: std::time::Duration| t.as_secs_f64() * 1000.0;
    let refused = thrown.refused.map(|t| format!(", refused;dur={:.3}", ms(t))).unwrap_or_default();
    let timing = format!("commit;dur={:.3}{refused}", ms(thrown.committed));
    if let (false, Ok(timing)) = (thrown.repeated, http::HeaderValue::try_from(timing)) {
        answer.headers_mut().insert(http::HeaderName::from_static("server-timing"), timing);
    }
    Ok(answer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResumeBody {
    reason: String,
}
#[derive(Serialize)]
struct ResumedBody {
    halt: Name,
    /// `lifted` or `waiting`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    index: u64,
}

/// Lifts a halt. Where that takes two people, the first is answered 202, and the second, asking for the
/// same within an hour, does it.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/emergency/halts/{halt}/resume", tag = "emergency", params(("tenant" = String, Path), ("halt" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "reason"), responses((status = 200, description = "lifted"), (status = 202, description = "a second person must ask for the same")))]
async fn resume(
    State(app): State<App>,
    Path((tenant, halt)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: ResumeBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let halt = Name::new(&halt).map_err(|_| Problem::from(Code::HaltUnknown))?;
    match app.runtime.resume(&principal, halt.clone(), reason(&body.reason)?).await? {
        Resumed::Lifted { index } => json(200, &ResumedBody { halt, state: "lifted", expires_at: None, index }),
        Resumed::Waiting { expires_at, index } => {
            let expires_at = Some(expires_at.to_string());
            json(202, &ResumedBody { halt, state: "waiting", expires_at, index })
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeBody {
    selector: TokenSelector,
    reason: String,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
}
#[derive(Serialize)]
struct Revoked {
    dry_run: bool,
    /// Absent where they are revoked and could not be counted.
    #[serde(flatten)]
    concerned: Option<Concerned>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
}

/// Revokes every token that a selector means (agent, credential, member, intent, policy, environment,
/// from, to: all that is given must fit), of those granted so far. With `dry_run` it only counts.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/revocations", tag = "emergency", params(("tenant" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "selector, reason, dry_run"), responses((status = 200, description = "counted: how many live tokens are meant"), (status = 201, description = "revoked")))]
async fn revoke(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: RevokeBody = input::typed(&headers, &body, input::MAX_BODY)?;
    if body.dry_run {
        let concerned = app.runtime.tokens_meant(&principal, &body.selector).await?;
        return json(200, &Revoked { dry_run: true, concerned: Some(concerned), index: None });
    }
    let (concerned, index) = app.runtime.revoke_tokens(&principal, body.selector, reason(&body.reason)?).await?;
    json(201, &Revoked { dry_run: false, concerned, index: Some(index) })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrepareBody {
    environment: Option<EnvironmentId>,
    on: Option<HaltTarget>,
    expires_at: Timestamp,
}
#[derive(Serialize)]
struct Prepared {
    /// The break-glass file, to be kept where the server's trouble does not reach.
    file: intended_runtime::emergency::GlassFile,
    credential: String,
    scope: String,
    expires_at: String,
    index: u64,
}

/// Makes a credential that can throw one halt, once, and do nothing else, in a signed file.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/emergency/break-glass", tag = "emergency", params(("tenant" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "environment, on, expires_at"), responses((status = 201, description = "the file; its key is shown once")))]
async fn prepare(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: PrepareBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let scope = HaltScope { environment: body.environment, on: body.on };
    let (file, terms, index) = app.runtime.prepare_glass(&principal, scope, body.expires_at).await?;
    json(
        201,
        &Prepared {
            file,
            credential: terms.credential.to_string(),
            scope: scope_text(&terms.scope),
            expires_at: terms.expires_at.to_string(),
            index,
        },
    )
}
