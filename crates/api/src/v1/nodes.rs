//! The nodes that serve a tenant, and what each last said of itself.

use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::entry::Scope;
use intended_runtime::Tenant;
use intended_runtime::health::Check;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::{self, List};
use crate::{Answer, App, Problem, auth, schema};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Serialize)]
pub struct NodeRow {
    pub node: String,
    here: bool,
    status: String,
    version: String,
    started_at: String,
    beat_at: String,
    late: bool,
    control_version: u64,
    behind: u64,
    trouble: Vec<TroubleRow>,
}
#[derive(Serialize)]
struct TroubleRow {
    component: String,
    check: String,
    status: String,
}

/// All nodes of a tenant, by name.
pub async fn rows(app: &App, tenant: &Tenant, checks: &[Check]) -> Result<Vec<NodeRow>, Problem> {
    let nodes = app.runtime.nodes(tenant, checks).await?;
    // What this node knows is what it can say of the others.
    let newest = nodes.iter().map(|n| n.control).max().unwrap_or_default();
    let row = |n: intended_runtime::nodes::Node| NodeRow {
        node: n.node.to_string(),
        here: n.here,
        status: n.status.into(),
        version: n.version.into(),
        started_at: n.started_at.to_string(),
        beat_at: n.beat_at.to_string(),
        late: n.late,
        control_version: n.control,
        behind: newest.saturating_sub(n.control),
        trouble: n
            .trouble
            .into_iter()
            .map(|t| TroubleRow { component: t.component.into(), check: t.check.into(), status: t.status.into() })
            .collect(),
    };
    Ok(nodes.into_iter().map(row).collect())
}

/// The nodes that serve the tenant. Each says a few times a minute how it is; one that has not for 45
/// seconds is `unavailable`, since `beat_at`.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/nodes", tag = "operate", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the nodes", body = Vec<schema::NodeRow>)))]
async fn list(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::StatusRead)?;
    let checks = app.runtime.health().await;
    let rows = rows(&app, &principal.tenant, &checks).await?;
    page::answer(List { tenant: &tenant, name: "nodes" }, &uri, rows.into_iter().map(|row| (row.node.clone(), row)))
}
