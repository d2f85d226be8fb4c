//! Who calls. The path's tenant and the credential's must be the same; otherwise the answer is that
//! there is no such thing, as for a tenant that does not exist.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Method};
use intended_model::Code;
use intended_runtime::{Principal, RuntimeError};

use crate::v1::sign_in;
use crate::{App, Problem, exchange};

/// Reads no body of a caller who is unknown: nobody holds memory here without a credential.
pub async fn before_body(State(app): State<App>, request: Request, next: Next) -> Response {
    exchange::note_origin(crate::origin::of(&request, &[]));
    if sign_in::is_open(&request) {
        return sign_in::bounded(request, next).await;
    }
    let known = match request.method() {
        &Method::POST | &Method::PUT | &Method::PATCH | &Method::DELETE => bearer(&app, request.headers()).map(drop),
        _ => Ok(()),
    };
    match known {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Authenticates the bearer of a request, and counts the request.
pub fn principal(app: &App, headers: &HeaderMap) -> Result<Principal, Problem> {
    let principal = bearer(app, headers)?;
    count(app, &principal)?;
    Ok(principal)
}

/// Counts one request, or one of the decisions that a request asks for.
pub(crate) fn count(app: &App, principal: &Principal) -> Result<(), RuntimeError> {
    if let Some(quota) = app.runtime.admit(principal) {
        exchange::note_quota(quota.unwrap_or_else(|q| q));
        quota.map_err(|_| Code::RateLimited)?;
    }
    Ok(())
}

/// Authenticates the bearer of a request, without counting it.
pub(crate) fn bearer(app: &App, headers: &HeaderMap) -> Result<Principal, Problem> {
    let value = headers.get(http::header::AUTHORIZATION).ok_or(Code::CredentialMissing)?;
    let text = value.to_str().map_err(|_| Code::CredentialMalformed)?;
    let (scheme, key) = text.split_once(' ').ok_or(Code::CredentialMalformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Code::CredentialMalformed.into());
    }
    Ok(app.runtime.authenticate(key.trim())?)
}

/// Authenticates the bearer for a tenant's route.
pub fn tenant(app: &App, headers: &HeaderMap, tenant: &str) -> Result<Principal, Problem> {
    let principal = principal(app, headers)?;
    if principal.tenant.id.as_str() == tenant { Ok(principal) } else { Err(Code::NotFound.into()) }
}
