//! Tokens: verify and consume, revoke, public keys, the revocation list.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::IntoResponse as _;
use http::HeaderMap;
use intended_model::entry::Scope;
use intended_model::{Class, Code, Digest, EnvironmentId, Event, Value, synthetic};
use intended_runtime::audit::{MAX_PAGE, MAX_SCAN};
use intended_runtime::tokens::{Asked, Verification};
use intended_runtime::{Principal, Runtime, RuntimeError};
use intended_token::{Binding, Call};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{Answer, App, Problem, auth, input, json, schema};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(verify))
        .routes(routes!(revoke))
        .routes(routes!(jwks))
        .routes(routes!(revocations))
        .routes(routes!(rotate))
        .routes(routes!(retire))
}

/// The call that is about to be made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallBody {
    agent: String,
    tool: String,
    resource: ResourceBody,
    /// The arguments themselves, or their digest.
    arguments: Option<Value>,
    arguments_digest: Option<Digest>,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceBody {
    #[serde(rename = "type")]
    kind: String,
    id: String,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyBody {
    token: String,
    environment: Option<EnvironmentId>,
    audience: Option<String>,
    call: Option<CallBody>,
    intent_hash: Option<Digest>,
    #[serde(default)]
    class: Class,
    #[serde(default)]
    consume: bool,
}

#[derive(Serialize)]
struct Verdict<'a> {
    active: bool,
    /// `consumed`, `available` or, when refused, absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    single_use: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumed_index: Option<u64>,
}

/// Verifies a token for a call, and consumes it if asked to. A refused token is an answer too:
/// 200 with `active: false` and the refusal's code.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/tokens/verify", tag = "tokens", params(("tenant" = String, Path)),
    request_body(content = schema::VerifyRequest, description = "the token and what it is to be for"),
    responses((status = 200, description = "the verdict", body = schema::TokenVerdict)))]
async fn verify(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let body: VerifyBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let environment = body
        .environment
        .or_else(|| principal.only_environment().cloned())
        .ok_or_else(|| Problem::at(Code::RequestInvalid, "/environment", "name the environment"))?;
    let state = principal.tenant.state();
    let audience = match body.audience {
        Some(audience) => audience,
        None if body.class.is_synthetic() => synthetic::NAME.to_owned(),
        None => state
            .environments
            .get(&environment)
            .map(|e| e.settings.audience.to_string())
            .ok_or(Code::EnvironmentUnknown)?,
    };
    let binding = match (body.call, body.intent_hash) {
        (Some(call), None) => {
            let arguments_digest = match (call.arguments, call.arguments_digest) {
                (Some(arguments), None) => intended_model::intent::arguments_digest(&arguments),
                (None, Some(digest)) => digest,
                (None, None) => intended_model::intent::arguments_digest(&Value::object()),
                (Some(_), Some(_)) => {
                    return Err(Problem::at(
                        Code::RequestInvalid,
                        "/call/arguments",
                        "either `arguments` or `arguments_digest`",
                    ));
                }
            };
            Binding::Call(Call {
                agent: call.agent,
                tool: call.tool,
                resource_type: call.resource.kind,
                resource_id: call.resource.id,
                arguments_digest,
            })
        }
        (None, Some(hash)) => Binding::IntentHash(hash),
        _ => {
            return Err(Problem::at(
                Code::RequestInvalid,
                "/call",
                "say what the token is for: `call` or `intent_hash`",
            ));
        }
    };
    let asked = Asked {
        class: body.class,
        audience: &audience,
        environment: &environment,
        binding: &binding,
        consume: body.consume,
    };
    match app.runtime.verify_as(&principal, &body.token, &asked).await? {
        Verification::Accepted(v) => json(
            200,
            &Verdict {
                active: true,
                single_use: Some(if v.consumed_at.is_some() { "consumed" } else { "available" }),
                refusal: None,
                message: None,
                agent: Some(&v.claims.sub),
                tool: Some(&v.claims.action.tool),
                intent: Some(&v.claims.txn),
                expires_at: Some(v.claims.exp),
                consumed_index: v.consumed_at,
            },
        ),
        Verification::Refused(refusal) => json(
            200,
            &Verdict {
                active: false,
                single_use: None,
                refusal: Some(refusal.code()),
                message: Some(refusal.to_string()),
                agent: None,
                tool: None,
                intent: None,
                expires_at: None,
                consumed_index: None,
            },
        ),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeBody {
    intent: String,
    reason: String,
}
#[derive(Serialize)]
struct Index {
    index: u64,
}

/// Revokes one token.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/tokens/{jti}/revoke", tag = "tokens", params(("tenant" = String, Path), ("jti" = String, Path)),
    request_body(content = schema::RevokeRequest), responses((status = 200, description = "revoked", body = schema::Recorded)))]
async fn revoke(
    State(app): State<App>,
    Path((tenant, jti)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let body: RevokeBody = input::typed(&headers, &body, input::MAX_BODY)?;
    json(200, &Index { index: app.runtime.revoke_token(&principal, &body.intent, &jti, &body.reason).await? })
}

/// The public keys: active and previous.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/jwks.json", tag = "tokens", params(("tenant" = String, Path)),
    responses((status = 200, description = "a JWK set", body = schema::Jwks)))]
async fn jwks(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    json(200, &Runtime::key_set(&principal.tenant.state(), None)?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevocationsQuery {
    environment: Option<EnvironmentId>,
    after: Option<u64>,
    limit: Option<usize>,
}

/// The signed list of what is revoked and not expired, for offline verifiers. With `after`, what the
/// ledger says after that index instead, oldest first, as JSON: tokens revoked one by one, and cuts
/// (bulk revocations, halts) that kill every token they mean of those granted before them.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/revocations", tag = "tokens",
    params(("tenant" = String, Path), ("if-none-match" = Option<String>, Header), ("environment" = Option<String>, Query), ("after" = Option<u64>, Query, description = "a ledger index"), ("limit" = Option<u32>, Query, description = "with `after`; at most 500")),
    responses((status = 304, description = "the list is the one that is kept"), (status = 200, description = "a compact JWS, or with `after` a page", content((String = "application/jwt"), (schema::Revocations = "application/json")))))]
async fn revocations(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let query: RevocationsQuery = input::query(&uri)?;
    if let Some(after) = query.after {
        principal.require(Scope::TokenVerify, query.environment.as_ref())?;
        let limit = query.limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
        return json(200, &revoked_after(&app, &principal, query.environment.as_ref(), after, limit).await?);
    }
    if query.limit.is_some() {
        return Err(Problem::at(Code::RequestInvalid, "/limit", "the signed list is whole: pages come with `after`"));
    }
    let environment = query
        .environment
        .or_else(|| principal.only_environment().cloned())
        .ok_or_else(|| Problem::at(Code::RequestInvalid, "/environment", "name the environment"))?;
    principal.require(Scope::TokenVerify, Some(&environment))?;
    let list = app.runtime.revocation_list(&principal, &environment).await?;
    let tag = format!("\"{}\"", list.tag);
    let kept = headers.get(http::header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let same = kept.is_some_and(|kept| kept.split(',').any(|one| one.trim() == tag));
    let cache = [
        (http::header::ETAG, tag),
        (http::header::CACHE_CONTROL, format!("private, max-age={}", list.max_age.max(0))),
        (http::header::VARY, "authorization".to_owned()),
    ];
    if same {
        return Ok((http::StatusCode::NOT_MODIFIED, cache).into_response());
    }
    Ok((cache, [(http::header::CONTENT_TYPE, "application/jwt")], list.text).into_response())
}

#[derive(Serialize)]
struct Revocation {
    index: u64,
    at: String,
    jti: Box<str>,
    intent: String,
    environment: EnvironmentId,
    expires_at: i64,
    reason: Box<str>,
}
/// What kills many tokens at once: all that it means and that were granted before `index`.
#[derive(Serialize)]
struct Cut {
    index: u64,
    at: String,
    /// `revoked` or `halted`.
    by: &'static str,
    /// Of a revocation: what must fit, all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<intended_model::emergency::TokenSelector>,
    /// Of a halt: where; absent: everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<EnvironmentId>,
    /// Of a halt: on what; absent: everything there.
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<intended_model::emergency::HaltTarget>,
    reason: Box<str>,
}
#[derive(Serialize)]
struct Revocations {
    revocations: Vec<Revocation>,
    cuts: Vec<Cut>,
    after: u64,
    more: bool,
}

async fn revoked_after(
    app: &App,
    principal: &Principal,
    environment: Option<&EnvironmentId>,
    after: u64,
    limit: usize,
) -> Result<Revocations, RuntimeError> {
    let size = app.runtime.store().head(&principal.tenant.id).await?.size;
    let (mut found, mut cuts, mut at) = (Vec::new(), Vec::new(), after);
    let enough = after.saturating_add(MAX_SCAN as u64);
    let here = |of: Option<&EnvironmentId>| environment.is_none_or(|wanted| of.is_none_or(|of| of == wanted));
    'pages: while at.saturating_add(1) < size && at < enough {
        // Reading a page takes some milliseconds: others come in between.
        tokio::task::yield_now().await;
        let (seen, last) = app.runtime.entries_after(principal, at, MAX_PAGE, &Default::default()).await?;
        if last == at {
            break;
        }
        at = last;
        for (entry, event) in seen {
            let (index, moment) = (entry.index, entry.at.to_string());
            match event {
                Event::TokenRevoked(e) if here(Some(&e.environment)) => found.push(Revocation {
                    index,
                    at: moment,
                    jti: e.jti,
                    intent: e.intent.to_string(),
                    environment: e.environment,
                    expires_at: e.exp,
                    reason: e.reason,
                }),
                Event::TokensRevoked(e) if here(e.selector.environment.as_ref()) => cuts.push(Cut {
                    index,
                    at: moment,
                    by: "revoked",
                    selector: Some(e.selector),
                    environment: None,
                    on: None,
                    reason: e.reason,
                }),
                Event::HaltThrown(e) if here(e.environment.as_ref()) => cuts.push(Cut {
                    index,
                    at: moment,
                    by: "halted",
                    selector: None,
                    environment: e.environment,
                    on: e.on,
                    reason: e.reason,
                }),
                _ => continue,
            }
            if found.len() + cuts.len() == limit {
                at = index;
                break 'pages;
            }
        }
    }
    Ok(Revocations { revocations: found, cuts, after: at, more: at.saturating_add(1) < size })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateBody {
    environment: EnvironmentId,
    alg: Option<intended_token::Alg>,
}
#[derive(Serialize)]
struct Rotated {
    kid: Box<str>,
    index: u64,
}

/// Makes a new active signing key; the one before stays valid as the previous.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/keys/rotate", tag = "tokens", params(("tenant" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content = schema::RotateRequest), responses((status = 200, description = "the new key id", body = schema::Rotated)))]
async fn rotate(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: RotateBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let alg = body.alg.unwrap_or(intended_token::Alg::EdDSA);
    let (kid, index) = app.runtime.rotate_key(&principal, &body.environment, alg).await?;
    json(200, &Rotated { kid, index })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetireBody {
    environment: EnvironmentId,
    reason: String,
}

/// Retires a key at once: its tokens are refused from here on.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/keys/{kid}/retire", tag = "tokens", params(("tenant" = String, Path), ("kid" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content = schema::RetireRequest), responses((status = 200, description = "retired", body = schema::Recorded)))]
async fn retire(
    State(app): State<App>,
    Path((tenant, kid)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: RetireBody = input::typed(&headers, &body, input::MAX_BODY)?;
    json(200, &Index { index: app.runtime.retire_key(&principal, &body.environment, &kid, &body.reason).await? })
}
