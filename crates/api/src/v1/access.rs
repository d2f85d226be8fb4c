//! Access, as far as it takes to set a tenant up: credentials, capabilities, environments.

use std::ops::Bound;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::decision::DataClass;
use intended_model::entry::{Criticality, RoleGrant, Scope, Settings, Tier};
use intended_model::{Code, CredentialId, EnvironmentId, MemberId, Name, Timestamp};
use intended_runtime::RuntimeError;
use intended_runtime::access::{CredentialSpec, MemberSpec};
use intended_runtime::admin::CapabilitySpec;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::{self, List};
use crate::{Answer, App, Problem, auth, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create_credential, credentials))
        .routes(routes!(revoke_credential))
        .routes(routes!(members))
        .routes(routes!(set_member, member))
        .routes(routes!(capabilities))
        .routes(routes!(set_capability))
        .routes(routes!(set_environment))
}

#[derive(Serialize)]
struct Index {
    index: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialBody {
    credential: CredentialId,
    /// Patterns of the tools that it may submit intents for; none: any.
    #[serde(default)]
    actions: Vec<Box<str>>,
    /// Patterns of the agents that it may submit intents for; none: any.
    #[serde(default)]
    agents: Vec<Box<str>>,
    #[serde(default)]
    environments: Vec<EnvironmentId>,
    /// Networks that it may be used from; none: any.
    #[serde(default)]
    networks: Vec<Box<str>>,
    scopes: Vec<Scope>,
    /// Good for every environment, also for those that are made later.
    #[serde(default)]
    whole: bool,
    /// Milliseconds since the epoch.
    expires_at: Option<Timestamp>,
    /// The person it belongs to, if it is one's.
    member: Option<MemberId>,
    #[serde(default)]
    test: bool,
}
#[derive(Serialize)]
struct Created {
    credential: CredentialId,
    /// Shown once.
    key: String,
    index: u64,
}

/// Creates a service credential. The key is in this answer and nowhere else: repeated under the same
/// idempotency key, the request is a conflict.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/credentials", tag = "access", params(("tenant" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "credential, environments or whole, scopes, actions, agents, networks, expires_at, member, test"), responses((status = 201, description = "created")))]
async fn create_credential(
    State(app): State<App>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let b: CredentialBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let spec = CredentialSpec {
        actions: b.actions,
        agents: b.agents,
        credential: b.credential,
        networks: b.networks,
        environments: b.environments,
        scopes: b.scopes,
        expires_at: b.expires_at,
        live: !b.test,
        member: b.member,
        whole: b.whole,
    };
    let new = app.runtime.create_credential(&principal, spec).await?;
    json(201, &Created { credential: new.credential, key: new.key, index: new.index })
}

#[derive(Serialize)]
struct CredentialRow {
    credential: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    actions: Vec<Box<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    agents: Vec<Box<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    networks: Vec<String>,
    test: bool,
    environments: Vec<EnvironmentId>,
    scopes: Vec<Scope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<MemberId>,
    revoked: bool,
    whole: bool,
    /// By this server, up to half a minute before it was last started.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<String>,
    /// Those of its scopes that something was done with.
    scopes_used: Vec<Scope>,
}

/// Credentials, without their keys.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/credentials", tag = "access", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the credentials")))]
async fn credentials(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::AccessRead)?;
    let state = principal.tenant.state();
    let (principal, all) = (&principal, principal.sees_all());
    let row = |c: &Arc<intended_engine::Credential>| {
        let usage = app.runtime.usage(&principal.tenant, &c.id);
        CredentialRow {
            last_used: usage.last_used.map(|t| t.to_string()),
            scopes_used: usage.scopes.iter().collect(),
            credential: c.id.to_string(),
            actions: c.actions.clone(),
            agents: c.agents.clone(),
            networks: c.networks.iter().map(ToString::to_string).collect(),
            test: c.test,
            // Of those that the caller has nothing to do with not even the names.
            environments: c.environments.iter().filter(|e| all || principal.sees(e)).cloned().collect(),
            scopes: c.scopes.clone(),
            expires_at: c.expires_at.map(|t| t.to_string()),
            member: c.member.clone(),
            revoked: c.revoked,
            whole: c.whole,
        }
    };
    page::answer_from(List { tenant: &tenant, name: "credentials" }, &uri, |after| {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let seen =
            move |c: &intended_engine::Credential| all || c.whole || c.environments.iter().any(|e| principal.sees(e));
        let rows = state.credentials.range::<str, _>((start, Bound::Unbounded));
        rows.filter(move |(_, c)| seen(c)).map(|(id, c)| (id.to_string(), row(c)))
    })
}

#[derive(Serialize)]
struct MemberRow {
    member: String,
    groups: Vec<Name>,
    grants: Vec<RoleGrant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<Box<str>>,
    active: bool,
}

/// The people of the tenant.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/members", tag = "access", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the members")))]
async fn members(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::AccessRead)?;
    let state = principal.tenant.state();
    page::answer_from(List { tenant: &tenant, name: "members" }, &uri, |after| {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = state.members.range::<str, _>((start, Bound::Unbounded));
        rows.map(|(member, m)| (member.to_string(), MemberRow::new(member, m)))
    })
}

impl MemberRow {
    fn new(member: &MemberId, m: &intended_engine::Member) -> Self {
        Self {
            member: member.to_string(),
            groups: m.groups.clone(),
            grants: m.grants.clone(),
            name: m.name.clone(),
            email: m.email.clone(),
            active: m.active,
        }
    }
}

/// One of the people of the tenant.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/members/{member}", tag = "access", params(("tenant" = String, Path), ("member" = String, Path)),
    responses((status = 200, description = "the member")))]
async fn member(State(app): State<App>, Path((tenant, member)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::AccessRead)?;
    let state = principal.tenant.state();
    let (id, found) = state.members.get_key_value(member.as_str()).ok_or(Code::NotFound)?;
    json(200, &MemberRow::new(id, found))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberBody {
    #[serde(default)]
    groups: Vec<Name>,
    #[serde(default)]
    grants: Vec<RoleGrant>,
    name: Option<Box<str>>,
    email: Option<Box<str>>,
    active: bool,
}

/// Makes someone a member, or changes their groups. Who is not active approves nothing any more.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/members/{member}", tag = "access", params(("tenant" = String, Path), ("member" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "groups, grants, name, email, active"), responses((status = 200, description = "set")))]
async fn set_member(
    State(app): State<App>,
    Path((tenant, member)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: MemberBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let member = MemberId::new(&member).map_err(|e| Problem::at(Code::TextUnsafe, "/member", e.to_string()))?;
    let spec = MemberSpec {
        active: body.active,
        email: body.email,
        grants: body.grants,
        groups: body.groups,
        name: body.name,
    };
    json(200, &Index { index: app.runtime.set_member(&principal, member, spec).await? })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReasonBody {
    reason: String,
}

/// Revokes a credential; it takes effect at once.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/credentials/{credential}/revoke", tag = "access", params(("tenant" = String, Path), ("credential" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "reason"), responses((status = 200, description = "revoked")))]
async fn revoke_credential(
    State(app): State<App>,
    Path((tenant, credential)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: ReasonBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let credential = CredentialId::new(&credential).map_err(|_| Problem::from(Code::NotFound))?;
    json(200, &Index { index: app.runtime.revoke_credential(&principal, credential, &body.reason).await? })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CapabilityBody {
    resource_type: Box<str>,
    pattern: Box<str>,
    /// Left out, it stays as it is.
    owner: Option<Box<str>>,
    criticality: Criticality,
    data_class: DataClass,
    /// Left out, it stays as it is; `null` is any environment.
    #[serde(default, deserialize_with = "present")]
    environment: Option<Option<EnvironmentId>>,
    #[serde(default = "yes")]
    active: bool,
}
/// Tells a member that is `null` from one that is not there.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}
const fn yes() -> bool {
    true
}

/// Says what a target is; `active: false` removes it.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/capabilities-registry/{capability}", tag = "access", params(("tenant" = String, Path), ("capability" = String, Path)),
    request_body(content_type = "application/json", description = "resource_type, pattern, owner, criticality, data_class, environment, active"), responses((status = 200, description = "set")))]
async fn set_capability(
    State(app): State<App>,
    Path((tenant, capability)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let b: CapabilityBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let capability = Name::new(&capability).map_err(|e| Problem::at(Code::TextUnsafe, "/capability", e.to_string()))?;
    let spec = CapabilitySpec {
        active: b.active,
        capability,
        criticality: b.criticality,
        data_class: b.data_class,
        environment: b.environment,
        owner: b.owner,
        pattern: b.pattern,
        resource_type: b.resource_type,
    };
    json(200, &Index { index: app.runtime.set_capability(&principal, spec).await? })
}

#[derive(Serialize)]
struct CapabilityRow {
    capability: String,
    resource_type: String,
    pattern: String,
    owner: String,
    criticality: Criticality,
    data_class: DataClass,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<EnvironmentId>,
}

/// The registry of capabilities, most specific first.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/capabilities-registry", tag = "access", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)), responses((status = 200, description = "the registry")))]
async fn capabilities(
    State(app): State<App>,
    Path(tenant): Path<String>,
    uri: http::Uri,
    headers: HeaderMap,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::AccessRead)?;
    let state = principal.tenant.state();
    let row = |c: &intended_engine::Capability| CapabilityRow {
        capability: c.id.to_string(),
        resource_type: c.resource_type.to_string(),
        pattern: c.pattern.to_string(),
        owner: c.owner.to_string(),
        criticality: c.criticality,
        data_class: c.data_class,
        environment: c.environment.clone(),
    };
    // The most specific first, which is the order that the state has them in: exact before prefix, long
    // before short, then by name.
    let key = |c: &intended_engine::Capability| {
        let short = u32::MAX - u32::try_from(c.pattern.len()).unwrap_or(u32::MAX);
        format!("{}{short:010}{}", u8::from(c.pattern.ends_with('*')), c.id)
    };
    let seen = |c: &&intended_engine::Capability| {
        principal.sees_all() || c.environment.as_ref().is_none_or(|e| principal.sees(e))
    };
    let rows = state.capabilities.iter().filter(seen).map(|c| (key(c), row(c)));
    page::answer(List { tenant: &tenant, name: "capabilities-registry" }, &uri, rows)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvironmentBody {
    tier: Tier,
    /// Of an environment that exists: those that are to change.
    #[serde(default)]
    settings: serde_json::Map<String, serde_json::Value>,
}

/// Creates an environment or changes its settings.
#[utoipa::path(put, path = "/v1/tenants/{tenant}/environments/{environment}", tag = "access", params(("tenant" = String, Path), ("environment" = String, Path)),
    request_body(content_type = "application/json", description = "tier, settings"), responses((status = 200, description = "set")))]
async fn set_environment(
    State(app): State<App>,
    Path((tenant, environment)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let b: EnvironmentBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let id =
        EnvironmentId::new(&environment).map_err(|e| Problem::at(Code::TextUnsafe, "/environment", e.to_string()))?;
    // What is left out stays as it is: a forgotten member must not remove a limit.
    let merged = |now: &Settings| {
        let mut settings = serde_json::to_value(now).map_err(RuntimeError::internal)?;
        merge(&mut settings, &b.settings);
        serde_path_to_error::deserialize(settings).map_err(|e| {
            let pointer = format!("/settings{}", input::pointer(e.path()));
            RuntimeError::at(Code::SettingsInvalid, pointer, e.inner().to_string())
        })
    };
    json(200, &Index { index: app.runtime.set_environment(&principal, id, b.tier, merged).await? })
}

/// Objects member by member, anything else as a whole.
fn merge(into: &mut serde_json::Value, members: &serde_json::Map<String, serde_json::Value>) {
    let Some(object) = into.as_object_mut() else { return };
    for (name, value) in members {
        match (object.get_mut(name), value) {
            (Some(known), serde_json::Value::Object(members)) if known.is_object() => merge(known, members),
            _ => drop(object.insert(name.clone(), value.clone())),
        }
    }
}
