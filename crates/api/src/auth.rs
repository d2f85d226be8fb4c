//! Who calls. The path's tenant and the credential's must be the same; otherwise the answer is that
//! there is no such thing, as for a tenant that does not exist.

use http::HeaderMap;
use intended_model::Code;
use intended_runtime::Principal;

use crate::{App, Problem, exchange};

/// Authenticates the bearer of a request.
pub fn principal(app: &App, headers: &HeaderMap) -> Result<Principal, Problem> {
    let value = headers.get(http::header::AUTHORIZATION).ok_or(Code::CredentialMissing)?;
    let text = value.to_str().map_err(|_| Code::CredentialMalformed)?;
    let (scheme, key) = text.split_once(' ').ok_or(Code::CredentialMalformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Code::CredentialMalformed.into());
    }
    let principal = app.runtime.authenticate(key.trim())?;
    if let Some(quota) = app.runtime.admit(&principal) {
        exchange::note_quota(quota.unwrap_or_else(|q| q));
        quota.map_err(|_| Code::RateLimited)?;
    }
    Ok(principal)
}

/// Authenticates the bearer for a tenant's route.
pub fn tenant(app: &App, headers: &HeaderMap, tenant: &str) -> Result<Principal, Problem> {
    let principal = principal(app, headers)?;
    if principal.tenant.id.as_str() == tenant { Ok(principal) } else { Err(Code::NotFound.into()) }
}
