//! Agents: what they are registered as.

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::entry::{AgentState, Scope, WorkflowStep};
use intended_model::{Code, EnvironmentId, Name};
use intended_runtime::agents::AgentSpec;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::{self, List};
use crate::{Answer, App, Problem, auth, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(agents)).routes(routes!(agent, set_agent))
}

#[derive(Serialize)]
struct Index {
    index: u64,
}

/// What is left out stays as it is: a forgotten member lifts no pause and removes no team.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentBody {
    environments: Vec<EnvironmentId>,
    kind: Option<Box<str>>,
    /// A member's id, or free text.
    owner: Option<Box<str>>,
    /// What it is for, for people.
    purpose: Option<Box<str>>,
    state: Option<AgentState>,
    teams: Option<Vec<Name>>,
    /// Patterns of the tools, and of the categories, that it may use; none: any.
    tools: Option<Vec<Box<str>>>,
    categories: Option<Vec<Box<str>>>,
    trust: u8,
    /// The order of actions that it declares.
    workflow: Option<Vec<WorkflowStep>>,
}

/// Registers an agent or changes its registration. Retired is for good.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/agents/{agent}", tag = "access", params(("tenant" = String, Path), ("agent" = String, Path)),
    request_body(content_type = "application/json", content = crate::schema::AgentRequest, description = "what is left out stays as it is"),
    responses((status = 200, description = "set", body = crate::schema::Recorded)))]
async fn set_agent(
    State(app): State<App>,
    Path((tenant, agent)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let b: AgentBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let plain =
        |t: &str| !t.is_empty() && t.len() <= 512 && t.bytes().all(|b| (b' '..=b'~').contains(&b)) && t.trim() == t;
    if !plain(&agent) {
        return Err(Problem::at(Code::TextUnsafe, "/agent", "an agent's name is printable ASCII"));
    }
    if b.kind.as_deref().is_some_and(|kind| !plain(kind)) {
        return Err(Problem::at(Code::TextUnsafe, "/kind", "an agent's kind is printable ASCII"));
    }
    if b.trust > 100 {
        return Err(Problem::at(Code::RequestInvalid, "/trust", "trust lies within 0 to 100"));
    }
    let spec = AgentSpec {
        agent: agent.into(),
        categories: b.categories,
        purpose: b.purpose,
        tools: b.tools,
        workflow: b.workflow,
        environments: b.environments,
        kind: b.kind,
        owner: b.owner,
        state: b.state,
        teams: b.teams,
        trust: b.trust,
    };
    json(200, &Index { index: app.runtime.set_agent(&principal, spec).await? })
}

/// Whom to ask about an agent.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum OwnerKind {
    /// A member of the tenant, who may or may not be active.
    Member,
    /// A text that names no member.
    Text,
    None,
}

#[derive(Serialize)]
struct AgentRow<'s> {
    agent: &'s str,
    categories: &'s [Box<str>],
    environments: &'s [EnvironmentId],
    kind: &'s str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<String>,
    owner: &'s str,
    owner_kind: OwnerKind,
    purpose: &'s str,
    state: AgentState,
    teams: &'s [Name],
    tools: &'s [Box<str>],
    trust: u8,
    workflow: &'s [WorkflowStep],
}

fn row<'s>(
    state: &'s intended_engine::State,
    agent: &'s str,
    a: &'s intended_engine::Agent,
    last_used: Option<intended_model::Timestamp>,
) -> AgentRow<'s> {
    AgentRow {
        agent,
        categories: &a.categories,
        environments: &a.environments,
        kind: &a.kind,
        last_used: last_used.map(|t| t.to_string()),
        owner: &a.owner,
        owner_kind: match &*a.owner {
            "" => OwnerKind::None,
            owner if state.members.contains_key(owner) => OwnerKind::Member,
            _ => OwnerKind::Text,
        },
        purpose: &a.purpose,
        state: a.state,
        teams: &a.teams,
        tools: &a.tools,
        trust: a.trust,
        workflow: &a.workflow,
    }
}

/// Whether an agent acts where the caller reads.
fn sees(principal: &intended_runtime::Principal, agent: &intended_engine::Agent) -> bool {
    principal.sees_all() || agent.environments.iter().any(|e| principal.sees(e))
}

/// The registered agents, as far as they act where the caller reads.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/agents", tag = "access", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the agents", body = Vec<crate::schema::Agent>)))]
async fn agents(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::AccessRead)?;
    let state = principal.tenant.state();
    let mut names: Vec<_> = state.agents.iter().filter(|(_, a)| sees(&principal, a)).collect();
    names.sort_by(|a, b| a.0.cmp(b.0));
    let rows = names.into_iter().map(|(name, a)| (name.to_string(), row(&state, name, a, None)));
    page::answer(List { tenant: &tenant, name: "agents" }, &uri, rows)
}

/// One agent, with when it last asked for something.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/agents/{agent}", tag = "access", params(("tenant" = String, Path), ("agent" = String, Path)),
    responses((status = 200, description = "the agent", body = crate::schema::Agent), (status = 404, description = "there is no such agent")))]
async fn agent(State(app): State<App>, Path((tenant, agent)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::AccessRead)?;
    let state = principal.tenant.state();
    let found = state.agents.get_key_value(agent.as_str()).filter(|(_, a)| sees(&principal, a));
    let (name, known) = found.ok_or(Code::NotFound)?;
    let last_used = app.runtime.agent_last_used(&principal.tenant, name)?;
    json(200, &row(&state, name, known, last_used))
}
