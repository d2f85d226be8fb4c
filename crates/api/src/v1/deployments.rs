//! Deployments: what each environment decides by, what it decided by before, and the way back.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::entry::Scope;
use intended_model::{Code, Digest, EnvironmentId, Name, Timestamp};
use intended_runtime::policy::RolledBack;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::{self, List};
use crate::{Answer, App, Problem, auth, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(deploy, deployments)).routes(routes!(history)).routes(routes!(rollback))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeployBody {
    /// The approved draft to deploy …
    draft: Option<Name>,
    /// … or, where the environment asks for no approvals, the environment and the pack's files.
    environment: Option<EnvironmentId>,
    files: Option<BTreeMap<String, String>>,
}

/// Deploys an approved draft, or, where the environment asks for no approvals, a pack. It decides from
/// the answer's ledger index on; then its expected outcomes are decided, and another outcome takes it back.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/deployments", tag = "policy", params(("tenant" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "draft; or environment and files"), responses((status = 201, description = "deployed"), (status = 409, description = "another version was deployed meanwhile, a draft is asked for, or its expected outcomes were others"), (status = 422, description = "the pack is not valid, or a gate was not passed")))]
async fn deploy(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: DeployBody = input::typed(&headers, &body, input::MAX_POLICY_BODY)?;
    let deployed = match (body.draft, body.environment, body.files) {
        (Some(draft), None, None) => app.runtime.deploy_draft(&principal, draft).await?,
        (None, Some(environment), Some(files)) => app.runtime.deploy_pack(&principal, &environment, files).await?,
        _ => {
            let what = "send `draft`, or `environment` and `files`";
            return Err(Problem::new(Code::RequestInvalid, what));
        }
    };
    json(201, &deployed)
}

#[derive(Serialize)]
struct Row {
    environment: String,
    tier: &'static str,
    pack: Option<String>,
    version: Option<String>,
    digest: Option<Digest>,
    policies: usize,
    /// Ledger position of the deployment.
    index: Option<u64>,
    cause: Option<&'static str>,
    approvals_needed: u32,
    /// Who may approve another version.
    approvers: Vec<String>,
    /// What a rollback would go back to.
    previous: Option<Digest>,
    /// People that a rollback takes now.
    rollback_people: u32,
    rollback_waiting: Option<Waiting>,
}

/// What each environment of the credential decides by. Where there are more than `limit`, the `Link`
/// header says where to go on.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/deployments", tag = "policy", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "a row for each environment")))]
async fn deployments(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::PolicyRead)?;
    let state = principal.tenant.state();
    let now = app.runtime.now();
    let rows = state.environments.values().filter(|e| principal.sees(&e.id)).map(|e| {
        let last = e.history.last();
        let row = Row {
            environment: e.id.to_string(),
            tier: e.tier.as_str(),
            pack: last.map(|d| d.version.pack.to_string()),
            version: last.map(|d| d.version.version.to_string()),
            digest: last.map(|d| d.version.digest),
            policies: last.map_or(0, |d| d.version.compiled.len()),
            index: last.map(|d| d.index),
            cause: last.map(|d| d.cause.as_str()),
            approvals_needed: e.settings.policy.approvals,
            approvers: state.approvers(&e.id).map(ToString::to_string).collect(),
            previous: intended_runtime::policy::previous(e),
            rollback_people: state.rollback_people(e),
            rollback_waiting: e.rollback.as_ref().filter(|p| p.expires_at > now).map(|p| Waiting {
                to: p.to,
                by: Some(p.by.to_string()),
                expires_at: p.expires_at.to_string(),
            }),
        };
        (row.environment.clone(), row)
    });
    page::answer(List { tenant: &tenant, name: "deployments" }, &uri, rows)
}

#[derive(Serialize)]
struct HistoryRow {
    index: u64,
    environment: String,
    pack: String,
    version: String,
    digest: Digest,
    cause: &'static str,
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    draft: Option<String>,
    /// Whether it decides now.
    active: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    environment: String,
    limit: Option<usize>,
    cursor: Option<String>,
}
#[derive(Serialize)]
struct History {
    deployments: Vec<HistoryRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// Everything that an environment decided by, newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/deployment-history", tag = "policy", params(("tenant" = String, Path), ("environment" = String, Query), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the deployments")))]
async fn history(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::PolicyRead)?;
    let query: HistoryQuery = input::query(&uri)?;
    let state = principal.tenant.state();
    let environment = state.environments.values().find(|e| e.id.as_str() == query.environment);
    let environment = environment.filter(|e| principal.sees(&e.id)).ok_or(Code::EnvironmentUnknown)?;
    let last = environment.history.last().map(|d| d.index);
    let rows = environment.history.iter().rev().map(|d| HistoryRow {
        index: d.index,
        environment: environment.id.to_string(),
        pack: d.version.pack.to_string(),
        version: d.version.version.to_string(),
        digest: d.version.digest,
        cause: d.cause.as_str(),
        by: d.by.to_string(),
        draft: d.draft.as_ref().map(ToString::to_string),
        active: Some(d.index) == last,
    });
    // Newest first: keys ascend as indices fall.
    let rows = rows.map(|r| (format!("{:020}", u64::MAX - r.index), r));
    let list = List { tenant: &tenant, name: "deployment-history" };
    let (deployments, cursor) = page::page(list, rows, query.limit, query.cursor.as_deref())?;
    json(200, &History { deployments, cursor })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RollbackBody {
    environment: EnvironmentId,
    reason: String,
    /// Absent: the version that was deployed before.
    to: Option<String>,
}
#[derive(Serialize)]
struct Waiting {
    to: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    expires_at: String,
}
#[derive(Serialize)]
struct WaitingBody {
    state: &'static str,
    environment: EnvironmentId,
    #[serde(flatten)]
    waiting: Waiting,
    index: u64,
}

/// Goes back from a deployment (its ledger index) to the version before it, or to a named one. Where
/// that takes two people, the first is answered 202, and the second, asking for the same, does it.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/deployments/{deployment}/rollback", tag = "policy", params(("tenant" = String, Path), ("deployment" = u64, Path, description = "ledger index of the deployment to go back from"), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "environment, reason, to"), responses((status = 200, description = "the earlier version decides again"), (status = 202, description = "a second person must ask for the same"), (status = 409, description = "another version was deployed meanwhile")))]
async fn rollback(
    State(app): State<App>,
    Path((tenant, deployment)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let from: u64 = deployment.parse().map_err(|_| Problem::from(Code::NotFound))?;
    let body: RollbackBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let to = match &body.to {
        None => None,
        Some(digest) => Some(super::policy::named(&principal, &principal.tenant.state(), digest)?.digest),
    };
    match app.runtime.rollback(&principal, &body.environment, Some(from), to, &body.reason).await? {
        RolledBack::Done(deployed) => json(200, &deployed),
        RolledBack::Waiting { to, expires_at, index } => json(202, &waiting(body.environment, to, expires_at, index)),
    }
}

fn waiting(environment: EnvironmentId, to: Digest, expires_at: Timestamp, index: u64) -> WaitingBody {
    let waiting = Waiting { to, by: None, expires_at: expires_at.to_string() };
    WaitingBody { state: "waiting", environment, waiting, index }
}
