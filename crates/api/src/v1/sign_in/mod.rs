//! People sign in, and out; who they are.
//!
//! * [`means`]: passwords, authenticators, links
//! * [`providers`]: identity providers

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use intended_model::entry::{RoleGrant, Scope, SignInMethod};
use intended_model::{Code, Digest, MemberId, Name};
use intended_runtime::RuntimeError;
use intended_runtime::sign_in::session::Proof;
use intended_runtime::sign_in::{NewSession, Secret};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::{self, List};
use crate::{Answer, App, Problem, auth, exchange, input, json};

pub mod means;
pub mod providers;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(sign_in))
        .routes(routes!(sign_out))
        .routes(routes!(session))
        .routes(routes!(sessions))
        .routes(routes!(end_session))
        .merge(means::router())
        .merge(providers::router())
}

/// What somebody asks who has no credential yet: to get one.
pub const OPEN: &[&str] = &[
    "/v1/tenants/{tenant}/sessions",
    "/v1/tenants/{tenant}/identity-providers/{provider}/begin",
    "/v1/tenants/{tenant}/identity-providers/{provider}/finish",
];
/// Bytes of a body of somebody who is nobody yet, and how long it may take.
const MAX_OPEN_BODY: usize = 4096;
const OPEN_BODY_TIME: Duration = Duration::from_secs(10);

/// Whether a request is by somebody who signs in.
pub fn is_open(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    request.method() == http::Method::POST && OPEN.contains(&path)
}

/// Reads little of a body, and not for long.
pub async fn bounded(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match tokio::time::timeout(OPEN_BODY_TIME, axum::body::to_bytes(body, MAX_OPEN_BODY)).await {
        Ok(Ok(body)) => next.run(Request::from_parts(head, Body::from(body))).await,
        Ok(Err(_)) => Problem::new(Code::RequestTooLarge, format!("at most {MAX_OPEN_BODY} bytes")).into_response(),
        Err(_) => Problem::new(Code::RequestInvalid, "the body did not come").into_response(),
    }
}

/// The member that a path names.
fn member(text: &str) -> Result<MemberId, Problem> {
    MemberId::new(text).map_err(|e| Problem::at(Code::TextUnsafe, "/member", e.to_string()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignInBody {
    member: Option<String>,
    password: Option<Secret>,
    link: Option<Secret>,
    /// Six digits, where the member has an authenticator.
    code: Option<Secret>,
}

#[derive(Serialize)]
struct Begun<'a> {
    /// Shown once.
    key: &'a str,
    member: &'a MemberId,
    session: Digest,
    expires_at: String,
    index: u64,
}

fn begun(new: &NewSession) -> Answer {
    json(
        201,
        &Begun {
            key: new.key.expose(),
            member: &new.member,
            session: new.key.hash(),
            expires_at: new.expires_at.to_string(),
            index: new.index,
        },
    )
}

/// Signs in with a password or a link, and a code where the member has an authenticator. The answer to
/// whatever fails is the same.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/sessions", tag = "sign-in", params(("tenant" = String, Path)), security(()),
    request_body(content_type = "application/json", content = crate::schema::SignInRequest), responses((status = 201, description = "signed in; the key is in this answer only", content_type = "application/json", body = crate::schema::SignedIn)))]
async fn sign_in(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let b: SignInBody = input::typed(&headers, &body, MAX_OPEN_BODY)?;
    let proof = match b {
        SignInBody { member: Some(member), password: Some(password), link: None, code } => {
            Proof::Password { member, password, code }
        }
        SignInBody { member: None, password: None, link: Some(link), code } => Proof::Link { link, code },
        _ => return Err(Problem::new(Code::RequestInvalid, "send member and password, or link")),
    };
    begun(&app.runtime.sign_in(&tenant, exchange::origin(), proof).await?)
}

#[derive(Serialize)]
struct Index {
    index: u64,
}

/// Signs out: the session that asks ends.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/sessions/current", tag = "sign-in", params(("tenant" = String, Path)),
    responses((status = 200, description = "ended", content_type = "application/json", body = crate::schema::Recorded)))]
async fn sign_out(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    json(200, &Index { index: app.runtime.sign_out(&principal).await? })
}

#[derive(Serialize)]
struct Held {
    environment: String,
    scopes: Vec<Scope>,
}
#[derive(Serialize)]
struct Whoami {
    tenant: String,
    /// What the ledger calls the caller.
    acts_as: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<MemberId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Box<str>>,
    grants: Vec<RoleGrant>,
    groups: Vec<Name>,
    environments: Vec<Held>,
    /// For what is the whole tenant's.
    whole: Vec<Scope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<SignInMethod>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// How the member can sign in.
    sign_in: Vec<SignInMethod>,
}

/// Who is asking, and what they may do.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/session", tag = "sign-in", params(("tenant" = String, Path)),
    responses((status = 200, description = "who that is", content_type = "application/json", body = crate::schema::Whoami)))]
async fn session(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let state = principal.tenant.state();
    let access = &principal.access;
    let member = principal.member().and_then(|m| state.members.get(m));
    let environments = access.environments().iter().map(|environment| Held {
        environment: environment.to_string(),
        scopes: Scope::ALL.iter().copied().filter(|s| access.may(*s, Some(environment))).collect(),
    });
    let answer = Whoami {
        tenant: principal.tenant.id.to_string(),
        acts_as: principal.credential.to_string(),
        member: principal.member().cloned(),
        name: member.and_then(|m| m.name.clone()),
        grants: member.map(|m| m.grants.clone()).unwrap_or_default(),
        groups: member.map(|m| m.groups.clone()).unwrap_or_default(),
        environments: environments.collect(),
        whole: Scope::ALL.iter().copied().filter(|s| access.whole(*s)).collect(),
        session: principal.session().map(|s| s.id),
        method: principal.session().map(|s| s.method),
        expires_at: principal.session().map(|s| s.expires_at).or(access.valid_until).map(|t| t.to_string()),
        sign_in: member.map(|m| m.sign_in.iter().copied().collect()).unwrap_or_default(),
    };
    json(200, &answer)
}

#[derive(Serialize)]
struct SessionRow {
    session: Digest,
    method: SignInMethod,
    started_at: String,
    expires_at: String,
    current: bool,
}

/// The sessions of a member: one's own, or anybody's for who sees all access.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/members/{member}/sessions", tag = "sign-in", params(("tenant" = String, Path), ("member" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the sessions")))]
async fn sessions(
    State(app): State<App>,
    Path((tenant, of)): Path<(String, String)>,
    uri: http::Uri,
    headers: HeaderMap,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let own = principal.session().map(|s| s.id);
    let rows = app.runtime.sessions(&principal, &member(&of)?).await?;
    let rows = rows.into_iter().map(|row| {
        let key = format!("{:020}{}", row.started.as_millis(), row.session.to_hex());
        let row = SessionRow {
            session: row.session,
            method: row.method,
            started_at: row.started.to_string(),
            expires_at: row.expires_at.to_string(),
            current: own == Some(row.session),
        };
        (key, row)
    });
    page::answer(List { tenant: &tenant, name: "sessions" }, &uri, rows)
}

/// Ends a session of a member: one's own, or anybody's by who gives access.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/members/{member}/sessions/{session}", tag = "sign-in", params(("tenant" = String, Path), ("member" = String, Path), ("session" = String, Path)),
    responses((status = 200, description = "ended", content_type = "application/json", body = crate::schema::Recorded)))]
async fn end_session(
    State(app): State<App>,
    Path((tenant, of, session)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let of = member(&of)?;
    if principal.member() != Some(&of) {
        principal.require(Scope::AccessWrite, None)?;
    }
    let session: Digest = serde_json::from_value(session.into()).map_err(|_| RuntimeError::from(Code::NotFound))?;
    json(200, &Index { index: app.runtime.end_session(&principal, &of, session).await? })
}
