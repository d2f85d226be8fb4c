//! Policy: packs and their versions, validation, the catalogue, the schema, and where each version stands.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::IntoResponse as _;
use http::HeaderMap;
use intended_model::entry::{PolicySource, Scope};
use intended_model::{Code, Digest, EnvironmentId, IntentId, Name};
use intended_policy::{Obligation, Said};
use intended_runtime::admin;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::{self, List};
use crate::{Answer, App, Problem, auth, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(policies))
        .routes(routes!(packs))
        .routes(routes!(versions))
        .routes(routes!(version))
        .routes(routes!(validate))
        .routes(routes!(report_source))
        .routes(routes!(explain))
        .routes(routes!(catalogue))
        .routes(routes!(schema))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoliciesQuery {
    environment: Option<String>,
    status: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// What may be asked for as `status`.
const STATUSES: [&str; 8] = ["active", "draft", "submitted", "approved", "rejected", "superseded", "stale", "orphaned"];

#[derive(Serialize)]
struct Policies {
    policies: Vec<intended_runtime::standing::PolicyRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// Where each version stands, and why.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/policies", tag = "policy",
    params(("tenant" = String, Path), ("environment" = Option<String>, Query), ("status" = Option<String>, Query, description = "active, draft, submitted, approved, rejected, superseded, stale or orphaned"), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the versions")))]
async fn policies(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::PolicyRead)?;
    let query: PoliciesQuery = input::query(&uri)?;
    if query.status.as_deref().is_some_and(|s| !STATUSES.contains(&s)) {
        return Err(Problem::at(Code::RequestInvalid, "/status", format!("one of {}", STATUSES.join(", "))));
    }
    let wanted = |row: &intended_runtime::standing::PolicyRow| {
        query.environment.as_ref().is_none_or(|e| row.environment.as_str() == e)
            && query.status.as_ref().is_none_or(|s| row.status.iter().any(|has| has == s))
    };
    let rows = app.runtime.policies(&principal).into_iter().filter(wanted).map(|row| (row.place(), row));
    let list = List { tenant: &tenant, name: "policies" };
    let (policies, cursor) = page::page(list, rows, query.limit, query.cursor.as_deref())?;
    json(200, &Policies { policies, cursor })
}

#[derive(Serialize)]
struct PackRow {
    pack: String,
    versions: usize,
    /// Where one of its versions decides.
    environments: Vec<String>,
}

/// The packs that have a version. Of a credential that is not good for the whole tenant, those that
/// were drafted or deployed in its environments.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/packs", tag = "policy", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the packs")))]
async fn packs(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::PolicyRead)?;
    let state = principal.tenant.state();
    let mut packs: BTreeMap<String, PackRow> = BTreeMap::new();
    for version in state.versions.values().filter(|v| visible(&principal, &state, v.digest)) {
        let pack = version.pack.to_string();
        let row = packs.entry(pack.clone()).or_insert(PackRow { pack, versions: 0, environments: Vec::new() });
        row.versions += 1;
        let decides = |e: &&intended_engine::Environment| {
            principal.sees(&e.id) && e.deployed.as_ref().is_some_and(|d| d.digest == version.digest)
        };
        row.environments.extend(state.environments.values().filter(decides).map(|e| e.id.to_string()));
    }
    page::answer(List { tenant: &tenant, name: "packs" }, &uri, packs)
}

/// Whether a version was drafted or deployed in an environment of the caller's.
fn visible(principal: &intended_runtime::Principal, state: &intended_engine::State, digest: Digest) -> bool {
    principal.sees_all()
        || state.drafts.values().any(|d| d.digest == digest && principal.sees(&d.environment))
        || principal
            .access
            .environments()
            .iter()
            .filter_map(|e| state.environments.get(e))
            .any(|e| e.history.iter().any(|d| d.version.digest == digest))
}

#[derive(Serialize)]
struct VersionRow {
    pack: String,
    version: String,
    digest: Digest,
    policies: usize,
    environments: Vec<String>,
}

fn row(
    state: &intended_engine::State,
    version: &intended_engine::Version,
    principal: &intended_runtime::Principal,
) -> VersionRow {
    let decides = |e: &&intended_engine::Environment| {
        principal.sees(&e.id) && e.deployed.as_ref().is_some_and(|d| d.digest == version.digest)
    };
    VersionRow {
        pack: version.pack.to_string(),
        version: version.version.to_string(),
        digest: version.digest,
        policies: version.compiled.len(),
        environments: state.environments.values().filter(decides).map(|e| e.id.to_string()).collect(),
    }
}

/// The versions of a pack.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/packs/{pack}/versions", tag = "policy", params(("tenant" = String, Path), ("pack" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the versions")))]
async fn versions(
    State(app): State<App>,
    Path((tenant, pack)): Path<(String, String)>,
    uri: http::Uri,
    headers: HeaderMap,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::PolicyRead)?;
    let state = principal.tenant.state();
    let of_pack = state.versions.values().filter(|v| v.pack.as_str() == pack && visible(&principal, &state, v.digest));
    let rows = of_pack.map(|v| (v.digest.to_string(), row(&state, v, &principal)));
    page::answer(List { tenant: &tenant, name: "versions" }, &uri, rows)
}

#[derive(Serialize)]
struct VersionBody<'a> {
    #[serde(flatten)]
    row: VersionRow,
    files: &'a BTreeMap<Box<str>, Box<str>>,
}

/// One version with its files, by its digest or the beginning of it.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/packs/{pack}/versions/{digest}", tag = "policy", params(("tenant" = String, Path), ("pack" = String, Path), ("digest" = String, Path)),
    responses((status = 200, description = "the version"), (status = 404, description = "no such version, or several")))]
async fn version(
    State(app): State<App>,
    Path((tenant, pack, digest)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::PolicyRead)?;
    let state = principal.tenant.state();
    let found = named(&principal, &state, &digest)?;
    if found.pack.as_str() != pack {
        return Err(Code::NotFound.into());
    }
    json(200, &VersionBody { row: row(&state, found, &principal), files: &found.files })
}

/// A version by its digest, or by at least six characters of its beginning that only it has.
pub(super) fn named<'s>(
    principal: &intended_runtime::Principal,
    state: &'s intended_engine::State,
    digest: &str,
) -> Result<&'s std::sync::Arc<intended_engine::Version>, Problem> {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    let begins = |v: &&std::sync::Arc<intended_engine::Version>| {
        v.digest.to_hex().starts_with(hex) && visible(principal, state, v.digest)
    };
    let mut found = state.versions.values().filter(begins);
    match (found.next(), found.next()) {
        (Some(one), None) if hex.len() >= 6 => Ok(one),
        (Some(_), _) => Err(Problem::new(
            Code::NotFound,
            format!("`{digest}` is the beginning of several digests or shorter than six characters"),
        )),
        (None, _) => Err(Problem::new(Code::NotFound, format!("no version `{digest}`"))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidateBody {
    files: BTreeMap<String, String>,
}
#[derive(Serialize)]
struct Validation {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    diagnostics: Vec<intended_policy::Diagnostic>,
}

/// Validates a pack against the tenant's schema and what the tenant has. Stores nothing.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/validations", tag = "policy", params(("tenant" = String, Path)),
    request_body(content_type = "application/json", description = "files"), responses((status = 200, description = "what was found: errors and warnings with their places")))]
async fn validate(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::PolicyRead)?;
    let body: ValidateBody = input::typed(&headers, &body, input::MAX_POLICY_BODY)?;
    let checked = admin::check(&principal.tenant.state(), &body.files)?;
    json(
        200,
        &Validation {
            valid: checked.is_valid(),
            digest: checked.pack.as_ref().map(intended_policy::Pack::digest),
            diagnostics: checked.diagnostics,
        },
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceBody {
    environment: EnvironmentId,
    digest: Digest,
    source: PolicySource,
}
#[derive(Serialize)]
struct Index {
    index: u64,
}

/// Says what the source of an environment's policy holds now, so that drift from it shows.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/policy-sources", tag = "policy", params(("tenant" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "environment, digest, source (location, revision)"), responses((status = 200, description = "noted")))]
async fn report_source(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let b: SourceBody = input::typed(&headers, &body, input::MAX_BODY)?;
    json(200, &Index { index: app.runtime.report_source(&principal, b.environment, b.digest, b.source).await? })
}

#[derive(Serialize)]
struct TraceRow {
    policy: String,
    effect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    obligation: Option<&'static str>,
    /// `satisfied`, `not_satisfied`, `failed` or `stale`.
    said: &'static str,
    /// The first part of the condition that does not hold, or the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
    determining: bool,
}

/// What each policy that could match said of a recorded intent, on the state of its position.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/intents/{id}/policies", tag = "policy", params(("tenant" = String, Path), ("id" = String, Path)),
    responses((status = 200, description = "each policy, and what of its condition did not hold")))]
async fn explain(State(app): State<App>, Path((tenant, id)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::IntentRead)?;
    principal.require(Scope::PolicyRead, None)?;
    let id: IntentId = id.parse().map_err(|_| Problem::from(Code::NotFound))?;
    let decided = app.runtime.decision(&principal, &id).await?.ok_or(Code::NotFound)?;
    let trace = app.runtime.policy_trace(&principal, &decided.record, decided.index).await?;
    let determining = decided.record.decision.policy.as_ref().map(|p| p.determining.as_slice()).unwrap_or_default();
    let rows: Vec<TraceRow> = trace
        .into_iter()
        .map(|t| {
            let (said, because) = match t.said {
                Said::Satisfied => ("satisfied", None),
                Said::Not { part } => ("not_satisfied", part),
                Said::Failed { message } => ("failed", Some(message)),
                Said::Stale => ("stale", Some("it names what the tenant no longer has".to_owned())),
            };
            TraceRow {
                determining: determining.iter().any(|d| **d == *t.id),
                policy: t.id.to_string(),
                effect: t.effect.to_string(),
                obligation: t.obligation.map(|o| match o {
                    Obligation::Escalate(_) => "escalate",
                    Obligation::Defer(_) => "defer",
                    Obligation::Modify(_) => "modify",
                }),
                said,
                because,
            }
        })
        .collect();
    json(200, &rows)
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

/// The Cedar schema of the tenant, for editors, with the environments that the credential is good for.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/policy-schema", tag = "policy", params(("tenant" = String, Path)),
    responses((status = 200, description = "Cedar schema", content_type = "text/plain")))]
async fn schema(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::PolicyRead)?;
    let schema = admin::schema_for(&principal.tenant.state(), &principal)?;
    Ok(schema.text().to_owned().into_response())
}

/// A name in a path.
pub(super) fn name(text: &str) -> Result<Name, Problem> {
    Name::new(text).map_err(|_| Code::NotFound.into())
}
