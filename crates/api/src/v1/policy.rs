//! Policy, as far as it takes to set a tenant up: deploy a pack, set the catalogue, see the schema.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::IntoResponse as _;
use http::HeaderMap;
use intended_model::entry::Scope;
use intended_model::{Digest, EnvironmentId};
use intended_runtime::admin;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::{self, List};
use crate::{Answer, App, auth, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(deploy, deployments)).routes(routes!(catalogue)).routes(routes!(schema))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeployBody {
    environment: EnvironmentId,
    /// Name → text: `pack.toml` and `*.cedar`.
    files: BTreeMap<String, String>,
}
/// Validates a pack strictly, publishes it, and makes the environment decide by it.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/deployments", tag = "policy", params(("tenant" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "environment, files"), responses((status = 201, description = "deployed"), (status = 422, description = "the pack is not valid")))]
async fn deploy(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: DeployBody = input::typed(&headers, &body, input::MAX_POLICY_BODY)?;
    json(201, &app.runtime.deploy_pack(&principal, &body.environment, body.files).await?)
}

#[derive(Serialize)]
struct DeploymentRow {
    environment: String,
    tier: &'static str,
    pack: Option<String>,
    version: Option<String>,
    digest: Option<Digest>,
    policies: usize,
}

/// What each environment of the credential decides by. Where there are more than `limit`, the `Link`
/// header says where to go on.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/deployments", tag = "policy", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "a row for each environment")))]
async fn deployments(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    principal.require(Scope::PolicyRead, None)?;
    let state = principal.tenant.state();
    let rows = state.environments.values().filter(|e| principal.environments.contains(&e.id)).map(|e| {
        let row = DeploymentRow {
            environment: e.id.to_string(),
            tier: e.tier.as_str(),
            pack: e.deployed.as_ref().map(|v| v.pack.to_string()),
            version: e.deployed.as_ref().map(|v| v.version.to_string()),
            digest: e.deployed.as_ref().map(|v| v.digest),
            policies: e.deployed.as_ref().map_or(0, |v| v.compiled.len()),
        };
        (row.environment.clone(), row)
    });
    page::answer(List { tenant: &tenant, name: "deployments" }, &uri, rows)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueBody {
    /// TOML.
    text: String,
}
#[derive(Serialize)]
struct CatalogueSet {
    index: u64,
    tools: usize,
    digest: Digest,
}

/// Replaces the tenant's own part of the tool catalogue.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/catalogue", tag = "policy", params(("tenant" = String, Path)),
    request_body(content_type = "application/json", description = "text (TOML)"), responses((status = 200, description = "set")))]
async fn catalogue(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let body: CatalogueBody = input::typed(&headers, &body, input::MAX_POLICY_BODY)?;
    let index = app.runtime.set_catalogue(&principal, &body.text).await?;
    let state = principal.tenant.state();
    json(200, &CatalogueSet { index, tools: state.catalogue.len(), digest: state.catalogue.digest() })
}

/// The Cedar schema of the tenant, for editors.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/policy-schema", tag = "policy", params(("tenant" = String, Path)),
    responses((status = 200, description = "Cedar schema", content_type = "text/plain")))]
async fn schema(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    principal.require(Scope::PolicyRead, None)?;
    let schema = admin::schema_of(&principal.tenant.state())?;
    Ok(schema.text().to_owned().into_response())
}
