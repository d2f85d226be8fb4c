//! Who calls, and whether they may call this at all. That is settled once, before anything of a body
//! is read: handlers take the caller from there, and ask for what only they know. The path's tenant and
//! the credential's must be the same; otherwise the answer is that there is no such thing, as for a
//! tenant that does not exist.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use intended_model::Code;
use intended_model::entry::Scope;
use intended_runtime::tenants::Operator;
use intended_runtime::{Principal, RuntimeError};

use crate::needs::{self, Need};
use crate::v1::sign_in;
use crate::{App, Problem, exchange, logged, origin};

/// Who calls, as they said before the body.
#[derive(Debug, Clone)]
pub enum Caller {
    Tenant(Principal),
    Operator(Arc<Operator>),
}

/// Authenticates the caller and holds what the route needs of them. Nobody holds memory here without a
/// credential, and no body is parsed for someone who could not use what it asks for.
pub(crate) async fn before_body(app: &App, request: Request, next: Next) -> Response {
    logged::route(&request);
    match admit(app, &request) {
        Ok(caller) => {
            if let Some(caller) = caller {
                exchange::note_caller(caller);
            }
            // Whoever signs in has said nothing yet that a body could be read for.
            if sign_in::is_open(&request) { sign_in::bounded(request, next).await } else { next.run(request).await }
        }
        Err(problem) => problem.into_response(),
    }
}

fn admit(app: &App, request: &Request) -> Result<Option<Caller>, Problem> {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    // Of a route without a line nobody is the caller, so nobody is let in.
    let Some(need) = needs::of(request.method().as_str(), path) else { return Ok(None) };
    let headers = request.headers();
    let from = origin::of(request, &app.trusted);
    exchange::note_origin(from);
    match need {
        Need::Public => return Ok(None),
        Need::Told(_) if !headers.contains_key(http::header::AUTHORIZATION) => return Ok(None),
        _ => {}
    }
    let caller = caller(app, headers, from)?;
    let tenant = tenant_in(path, request.uri().path());
    match (&caller, need) {
        (Caller::Operator(_), Need::Operator | Need::CredentialOrOperator) => {}
        // It is good for nothing of a tenant's.
        (Caller::Operator(_), _) if tenant.is_some() => return Err(Code::NotFound.into()),
        (Caller::Operator(_), _) => {
            return Err(Problem::new(Code::ScopeMissing, "the operator's key has no scope in any tenant"));
        }
        (Caller::Tenant(principal), need) => {
            count(app, principal)?;
            if tenant.is_some_and(|t| t != principal.tenant.id.as_str()) {
                return Err(Code::NotFound.into());
            }
            match need {
                Need::Operator => return Err(Code::OperatorOnly.into()),
                Need::Scopes(scopes) => scopes.iter().try_for_each(|s| principal.require(*s, None))?,
                Need::Any(scopes) if scopes.iter().any(|s| principal.access.may(*s, None)) => {}
                Need::Any(scopes) => scopes.iter().take(1).try_for_each(|s| principal.require(*s, None))?,
                Need::Told(scope) => principal.require(scope, None)?,
                Need::Public | Need::Credential | Need::Own(_) | Need::CredentialOrOperator => {}
            }
        }
    }
    Ok(Some(caller))
}

/// The tenant that a path is about, as it stands there: names need no encoding, so there is one way to
/// write it.
fn tenant_in<'p>(template: &str, path: &'p str) -> Option<&'p str> {
    if !template.starts_with("/v1/tenants/{tenant}") {
        return None;
    }
    path.strip_prefix("/v1/tenants/").and_then(|rest| rest.split('/').next())
}

/// Who calls, of a tenant. It was said before the body was read, and counted.
pub fn principal(_app: &App, _headers: &HeaderMap) -> Result<Principal, Problem> {
    match exchange::caller() {
        Some(Caller::Tenant(principal)) => Ok(principal),
        Some(Caller::Operator(_)) => Err(Code::NotFound.into()),
        None => Err(Code::CredentialMissing.into()),
    }
}

/// Who operates the server, where a route is theirs.
pub fn operator() -> Result<Arc<Operator>, Problem> {
    match exchange::caller() {
        Some(Caller::Operator(operator)) => Ok(operator),
        Some(Caller::Tenant(_)) => Err(Code::OperatorOnly.into()),
        None => Err(Code::CredentialMissing.into()),
    }
}

/// Counts one request, or one of the decisions that a request asks for.
pub(crate) fn count(app: &App, principal: &Principal) -> Result<(), RuntimeError> {
    if let Some(quota) = app.runtime.admit(principal) {
        exchange::note_quota(quota.unwrap_or_else(|q| q));
        quota.map_err(|_| Code::RateLimited)?;
    }
    Ok(())
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let value = headers.get(http::header::AUTHORIZATION).ok_or(Code::CredentialMissing)?;
    let text = value.to_str().map_err(|_| Code::CredentialMalformed)?;
    let (scheme, key) = text.split_once(' ').ok_or(Code::CredentialMalformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Code::CredentialMalformed.into());
    }
    Ok(key.trim())
}

fn caller(app: &App, headers: &HeaderMap, from: Option<IpAddr>) -> Result<Caller, Problem> {
    let key = bearer(headers)?;
    if key.starts_with(intended_runtime::tenants::OPERATOR_PREFIX) {
        return Ok(Caller::Operator(Arc::new(app.runtime.authenticate_operator(key, from)?)));
    }
    Ok(Caller::Tenant(app.runtime.authenticate_from(key, from)?))
}

/// Authenticates the bearer of a request again, without counting it, for what goes on longer than a
/// request: it ends with the credential.
pub(crate) fn again(app: &App, headers: &HeaderMap, from: Option<IpAddr>, scope: Scope) -> Result<Principal, Problem> {
    Ok(app.runtime.authenticate_from(bearer(headers)?, from)?.reading(scope)?)
}

/// The caller of a tenant's route.
pub fn tenant(app: &App, headers: &HeaderMap, tenant: &str) -> Result<Principal, Problem> {
    let principal = principal(app, headers)?;
    if principal.tenant.id.as_str() == tenant { Ok(principal) } else { Err(Code::NotFound.into()) }
}
