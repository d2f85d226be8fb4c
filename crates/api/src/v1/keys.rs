//! The keys that tokens are signed with: which there are, since when, and whether they still count.

use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::entry::Scope;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::{self, List};
use crate::{Answer, App, auth, schema};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// The signing keys of the environments that the caller sees, of each the newest first. The public halves
/// are in `jwks.json`.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/keys", tag = "tokens", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the keys", body = Vec<schema::SigningKey>)))]
async fn list(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::StatusRead)?;
    let rows = app.runtime.signing_keys(&principal).await?;
    page::answer(List { tenant: &tenant, name: "keys" }, &uri, rows.into_iter().map(|row| (row.place(), row)))
}
