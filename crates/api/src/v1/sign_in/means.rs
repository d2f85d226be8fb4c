//! Passwords, authenticators, links.

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::{Code, Name};
use intended_runtime::sign_in::Secret;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Index, member};
use crate::{Answer, App, Problem, auth, exchange, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(set_password))
        .routes(routes!(enrol, confirm, remove))
        .routes(routes!(issue_link))
        .routes(routes!(link_provider))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PasswordBody {
    password: Secret,
    /// The one before; not needed once in a session that began by a link.
    old: Option<Secret>,
}

/// Sets one's own password. The member's other sessions end.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/members/{member}/password", tag = "sign-in", params(("tenant" = String, Path), ("member" = String, Path)),
    request_body(content_type = "application/json", description = "password, old"), responses((status = 200, description = "set", content_type = "application/json", body = crate::schema::Recorded)))]
async fn set_password(
    State(app): State<App>,
    Path((tenant, of)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let b: PasswordBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let of = member(&of)?;
    let set = app.runtime.set_password(&principal, exchange::origin(), &of, b.old, b.password);
    json(200, &Index { index: set.await? })
}

#[derive(Serialize)]
struct Enrolled<'a> {
    /// Shown once.
    secret: &'a str,
    uri: &'a str,
}

/// Makes a secret for one's own authenticator. It counts when a code of it was given back.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/members/{member}/totp", tag = "sign-in", params(("tenant" = String, Path), ("member" = String, Path)),
    responses((status = 201, description = "the secret, this once", content_type = "application/json", body = crate::schema::Enrolled)))]
async fn enrol(State(app): State<App>, Path((tenant, of)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let new = app.runtime.enrol_totp(&principal, &member(&of)?).await?;
    json(201, &Enrolled { secret: new.secret.expose(), uri: new.uri.expose() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CodeBody {
    code: Secret,
}

/// Gives a code of the authenticator back: from here on signing in takes one.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/members/{member}/totp", tag = "sign-in", params(("tenant" = String, Path), ("member" = String, Path)),
    request_body(content_type = "application/json", description = "code"), responses((status = 200, description = "it counts", content_type = "application/json", body = crate::schema::Recorded)))]
async fn confirm(
    State(app): State<App>,
    Path((tenant, of)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let b: CodeBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let index = app.runtime.confirm_totp(&principal, exchange::origin(), &member(&of)?, &b.code).await?;
    json(200, &Index { index })
}

/// Removes an authenticator: one's own with a code of it, a lost one by who gives access.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/members/{member}/totp", tag = "sign-in", params(("tenant" = String, Path), ("member" = String, Path)),
    request_body(content_type = "application/json", description = "code, for one's own"), responses((status = 200, description = "removed", content_type = "application/json", body = crate::schema::Recorded)))]
async fn remove(
    State(app): State<App>,
    Path((tenant, of)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let code = if body.is_empty() {
        None
    } else {
        let b: CodeBody = input::typed(&headers, &body, input::MAX_BODY)?;
        Some(b.code)
    };
    let index = app.runtime.remove_totp(&principal, exchange::origin(), &member(&of)?, code.as_ref()).await?;
    json(200, &Index { index })
}

#[derive(Serialize)]
struct Link<'a> {
    /// Shown once.
    code: &'a str,
    member: String,
    expires_at: String,
    index: u64,
}

/// Gives a member a link: a code that lets them sign in once, within 15 minutes. The one before is good
/// no more.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/members/{member}/links", tag = "sign-in", params(("tenant" = String, Path), ("member" = String, Path), ("idempotency-key" = Option<String>, Header)),
    responses((status = 201, description = "the code, this once", content_type = "application/json", body = crate::schema::Link)))]
async fn issue_link(State(app): State<App>, Path((tenant, of)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let new = app.runtime.issue_link(&principal, &member(&of)?).await?;
    json(
        201,
        &Link {
            code: new.code.expose(),
            member: new.member.to_string(),
            expires_at: new.expires_at.to_string(),
            index: new.index,
        },
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OidcBody {
    active: bool,
    #[serde(default)]
    provider: Option<Name>,
}

/// Lets a member that somebody made sign in with an identity provider that knows them by name and
/// address, or with none any more.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/members/{member}/oidc", tag = "sign-in", params(("tenant" = String, Path), ("member" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "active; provider"), responses((status = 200, description = "set", content_type = "application/json", body = crate::schema::Recorded)))]
async fn link_provider(
    State(app): State<App>,
    Path((tenant, of)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let b: OidcBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let provider = match (b.active, b.provider) {
        (true, Some(provider)) => Some(provider),
        (false, None) => None,
        _ => {
            let detail = "a member is linked to a `provider`, with `active` true, or to none";
            return Err(Problem::at(Code::RequestInvalid, "/provider", detail));
        }
    };
    json(200, &Index { index: app.runtime.link_provider(&principal, &member(&of)?, provider.as_ref()).await? })
}
