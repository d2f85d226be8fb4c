//! Roles, and a credential's next key.

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::entry::{Role, Scope};
use intended_model::{Code, CredentialId};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{Answer, App, Problem, auth, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(roles)).routes(routes!(rotate))
}

#[derive(Serialize)]
struct RoleRow {
    role: Role,
    scopes: Vec<Scope>,
}

/// The roles, and what each may do. It is the same table for everybody.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/roles", tag = "access", params(("tenant" = String, Path)), responses((status = 200, description = "the roles")))]
async fn roles(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap) -> Answer {
    auth::tenant(&app, &headers, &tenant)?;
    let row = |role: &Role| RoleRow { role: *role, scopes: role.scopes().iter().collect() };
    json(200, &Role::ALL.iter().map(row).collect::<Vec<_>>())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateBody {
    /// How long the key before stays good; 0: not at all.
    overlap_seconds: u32,
}
#[derive(Serialize)]
struct Rotated {
    credential: CredentialId,
    /// Shown once.
    key: String,
    index: u64,
}

/// Gives a credential a new key. The one before stays good for the overlap, at most 7 days; one that is
/// older is good no more.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/credentials/{credential}/rotate", tag = "access", params(("tenant" = String, Path), ("credential" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "overlap_seconds"), responses((status = 200, description = "rotated")))]
async fn rotate(
    State(app): State<App>,
    Path((tenant, credential)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: RotateBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let credential = CredentialId::new(&credential).map_err(|_| Problem::from(Code::NotFound))?;
    let new = app.runtime.rotate_credential(&principal, credential, body.overlap_seconds).await?;
    json(200, &Rotated { credential: new.credential, key: new.key, index: new.index })
}
