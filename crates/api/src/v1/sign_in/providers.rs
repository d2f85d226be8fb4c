//! Identity providers, and signing in with one.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::entry::{ProviderGroup, Scope};
use intended_model::{Code, Name};
use intended_runtime::sign_in::{ProviderSpec, Secret};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Index, MAX_OPEN_BODY};
use crate::page::{self, List};
use crate::{Answer, App, Problem, auth, exchange, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(providers))
        .routes(routes!(set_provider))
        .routes(routes!(begin))
        .routes(routes!(finish))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderBody {
    issuer: Box<str>,
    client_id: Box<str>,
    /// Left out, it stays, unless issuer or client are others.
    client_secret: Option<Secret>,
    #[serde(default = "groups")]
    groups_claim: Box<str>,
    /// `preferred_username` or `email`.
    member_claim: Option<Box<str>>,
    #[serde(default)]
    mappings: BTreeMap<Box<str>, ProviderGroup>,
    #[serde(default = "yes")]
    active: bool,
}
fn groups() -> Box<str> {
    "groups".into()
}
const fn yes() -> bool {
    true
}

/// Sets an identity provider up, changes it, or removes it with `active: false`.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/identity-providers/{provider}", tag = "sign-in", params(("tenant" = String, Path), ("provider" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "issuer, client_id, client_secret, groups_claim, member_claim, mappings, active"), responses((status = 200, description = "set", content_type = "application/json", body = crate::schema::Recorded)))]
async fn set_provider(
    State(app): State<App>,
    Path((tenant, provider)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let b: ProviderBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let spec = ProviderSpec {
        active: b.active,
        client_id: b.client_id,
        client_secret: b.client_secret,
        groups_claim: b.groups_claim,
        issuer: b.issuer,
        mappings: b.mappings,
        member_claim: b.member_claim,
        provider: Name::new(&provider).map_err(|e| Problem::at(Code::TextUnsafe, "/provider", e.to_string()))?,
    };
    json(200, &Index { index: app.runtime.set_provider(&principal, spec).await? })
}

#[derive(Serialize)]
struct ProviderRow {
    provider: Name,
    issuer: Box<str>,
    client_id: Box<str>,
    groups_claim: Box<str>,
    member_claim: Box<str>,
    mappings: BTreeMap<Box<str>, ProviderGroup>,
}

/// The identity providers, without their clients' secrets.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/identity-providers", tag = "sign-in", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the providers")))]
async fn providers(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::AccessRead)?;
    let state = principal.tenant.state();
    let rows = state.providers.values().map(|p| {
        let row = ProviderRow {
            provider: p.provider.clone(),
            issuer: p.issuer.clone(),
            client_id: p.client_id.clone(),
            groups_claim: p.groups_claim.clone(),
            member_claim: p.member_claim.clone().unwrap_or_else(|| "preferred_username".into()),
            mappings: p.mappings.clone(),
        };
        (p.provider.to_string(), row)
    });
    page::answer(List { tenant: &tenant, name: "identity-providers" }, &uri, rows)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BeginBody {
    /// `http://127.0.0.1:<port>/…` of a program that listens there; absent: this server.
    redirect_uri: Option<String>,
}
#[derive(Serialize)]
struct Begun<'a> {
    authorization_url: &'a str,
    state: &'a str,
    expires_at: String,
}

/// Begins a sign-in with an identity provider: where the person goes.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/identity-providers/{provider}/begin", tag = "sign-in", params(("tenant" = String, Path), ("provider" = String, Path)), security(()),
    request_body(content_type = "application/json", description = "redirect_uri"), responses((status = 201, description = "begun; good for 10 minutes", content_type = "application/json", body = crate::schema::SignInBegun)))]
async fn begin(
    State(app): State<App>,
    Path((tenant, provider)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let b: BeginBody = input::typed(&headers, &body, MAX_OPEN_BODY)?;
    let new = app.runtime.begin_provider(&tenant, &provider, exchange::origin(), b.redirect_uri).await?;
    json(
        201,
        &Begun {
            authorization_url: &new.authorization_url,
            state: new.state.expose(),
            expires_at: new.expires_at.to_string(),
        },
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FinishBody {
    state: Secret,
    code: Secret,
}

/// Ends it with what the provider gave back: a session.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/identity-providers/{provider}/finish", tag = "sign-in", params(("tenant" = String, Path), ("provider" = String, Path)), security(()),
    request_body(content_type = "application/json", description = "state, code"), responses((status = 201, description = "signed in; the key is in this answer only", content_type = "application/json", body = crate::schema::SignedIn)))]
async fn finish(
    State(app): State<App>,
    Path((tenant, provider)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let b: FinishBody = input::typed(&headers, &body, MAX_OPEN_BODY)?;
    let new = app.runtime.finish_provider(&tenant, &provider, &b.state, &b.code).await?;
    super::begun(&new)
}
