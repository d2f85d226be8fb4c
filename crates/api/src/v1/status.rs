//! How a tenant stands, on one page: what is halted, open, waiting, behind. Gathered here and as of one
//! state, so that whoever watches it asks once and sees no halt next to decisions from before it.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::{Path, State};
use http::HeaderMap;
use intended_engine::{Environment, KeyStatus, State as Folded};
use intended_model::entry::Scope;
use intended_model::{Code, Digest, EnvironmentId, IntentId, Name};
use intended_runtime::breakers::{BreakerRow, HoldRow, InstanceRow};
use intended_runtime::capabilities::{Found, Probed};
use intended_runtime::{Principal, RuntimeError};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::emergency::scope_text;
use crate::{Answer, App, auth, json, operate, schema};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(status))
}

/// Rows that are told of halts, breakers and incidents each; how many there are is told besides.
const ROWS: usize = 20;
/// Open approvals that are counted.
const COUNTED: usize = 200;
/// Revocations are told of the last day.
const LATELY_SECS: i64 = 24 * 3_600;
/// How long each part may take to be read. A store that hangs takes its parts away, and nothing else:
/// what is halted is in memory.
const PART: Duration = Duration::from_secs(2);
/// How often it is gathered again when the state changed meanwhile.
const ATTEMPTS: usize = 3;

#[derive(Serialize)]
struct Ledger {
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest_at: Option<String>,
    /// How long the oldest entry without a kept checkpoint has been waiting for one.
    checkpoint_waiting_seconds: i64,
}
#[derive(Serialize)]
struct Policy {
    pack: String,
    version: String,
    digest: Digest,
    policies: usize,
    index: Option<u64>,
}
#[derive(Serialize)]
struct Rollback {
    to: Digest,
    by: String,
    expires_at: String,
}
#[derive(Serialize)]
struct Key {
    kid: Box<str>,
    alg: Box<str>,
    /// Absent: when it was made cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_days: Option<i64>,
    /// When policy has it rotated; absent: no policy says when.
    #[serde(skip_serializing_if = "Option::is_none")]
    rotate_by: Option<String>,
    /// How far off that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation: Option<&'static str>,
}
#[derive(Serialize)]
struct EnvironmentRow {
    environment: EnvironmentId,
    tier: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended: Option<Box<str>>,
    /// What it decides by, for who may read policy; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Policy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollback_waiting: Option<Rollback>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Key>,
}
#[derive(Serialize)]
struct HaltRow {
    halt: Name,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<EnvironmentId>,
    reason: Box<str>,
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}
#[derive(Serialize)]
struct Halts {
    in_force: usize,
    newest: Vec<HaltRow>,
}
#[derive(Serialize)]
struct Breakers {
    total: usize,
    not_closed: usize,
    worst: Vec<OpenBreaker>,
}
/// Of a breaker that is not closed, what is not.
#[derive(Serialize)]
struct OpenBreaker {
    breaker: Name,
    environment: EnvironmentId,
    state: &'static str,
    instances: Vec<InstanceRow>,
    held: Vec<HoldRow>,
}
#[derive(Serialize)]
struct Oldest {
    intent: IntentId,
    environment: EnvironmentId,
    agent: String,
    action: String,
    asked_at: String,
    expires_at: String,
}
#[derive(Serialize)]
struct Approvals {
    open: usize,
    /// There are more than were counted.
    more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<Oldest>,
}
#[derive(Serialize)]
struct Revoked {
    within_seconds: i64,
    bulk: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_reason: Option<Box<str>>,
    tokens: u64,
}
#[derive(Serialize)]
struct IncidentRow {
    incident: Name,
    title: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<EnvironmentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}
#[derive(Serialize)]
struct Incidents {
    open: usize,
    newest: Vec<IncidentRow>,
}
#[derive(Serialize)]
struct Sink {
    sink: String,
    state: &'static str,
    lag_entries: u64,
    lag_seconds: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}
/// A part that could not be read.
#[derive(Serialize)]
struct FailedPart {
    what: &'static str,
    code: Code,
}
#[derive(Serialize)]
struct NotShown {
    what: &'static str,
    needs: Scope,
}
#[derive(Serialize)]
struct Body {
    tenant: String,
    /// The server's time.
    at: String,
    /// How many changes the state is of that this was gathered of.
    control: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended: Option<Box<str>>,
    /// As `/healthz` has it.
    health: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger: Option<Ledger>,
    environments: Vec<EnvironmentRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    halts: Option<Halts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    breakers: Option<Breakers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incidents: Option<Incidents>,
    #[serde(skip_serializing_if = "Option::is_none")]
    approvals: Option<Approvals>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocations: Option<Revoked>,
    siem: Vec<Sink>,
    /// What could not be read: it is missing here, and may be anything.
    failed: Vec<FailedPart>,
    /// What the credential may not see.
    not_shown: Vec<NotShown>,
}

/// How the tenant stands, as far as the credential may see it: halts, breakers, incidents, approvals,
/// revocations, collectors, what each environment decides and signs by, and the health of the node
/// that answers. What it may not see is named in `not_shown`.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/status", tag = "operate", params(("tenant" = String, Path)),
    responses((status = 200, description = "how it stands", body = schema::TenantStatus)))]
async fn status(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap) -> Answer {
    let caller = auth::tenant(&app, &headers, &tenant)?;
    let mut body = gather(&app, &caller).await?;
    for _ in 1..ATTEMPTS {
        if caller.tenant.state().control == body.control || !body.failed.is_empty() {
            break;
        }
        body = gather(&app, &caller).await?;
    }
    json(200, &body)
}

/// Gathered for a caller and held against the live state.
pub(super) async fn probe(app: &App, by: &Principal) -> Probed {
    let body = gather(app, by).await.map_err(RuntimeError::from)?;
    let state = by.tenant.state();
    let size = app.runtime.store().head(&by.tenant.id).await.map_err(RuntimeError::from)?.size;
    let wanted: Vec<&EnvironmentId> = state.environments.keys().filter(|e| by.sees(e)).collect();
    let told: Vec<&EnvironmentId> = body.environments.iter().map(|e| &e.environment).collect();
    // Something can be recorded between the two; then the next look says.
    let moved = body.control != state.control;
    let Some(ledger) = body.ledger else {
        return Ok(Found::unavailable("the ledger cannot be read", "`intended health check --verbose`"));
    };
    if ledger.size > size || (!moved && told != wanted) {
        return Ok(Found::unavailable(
            "it is not what the live state says",
            "ask for each by itself: `intended health check`, `intended emergency status`",
        ));
    }
    Ok(Found::working(format!("{} environments, {} entries, as of change {}", told.len(), ledger.size, body.control)))
}

async fn gather(app: &App, caller: &Principal) -> Result<Body, crate::Problem> {
    let runtime = &app.runtime;
    let reader = caller.clone().reading(Scope::StatusRead)?;
    let tenant = &reader.tenant;
    let state = tenant.state();
    let mut not_shown = Vec::new();
    let mut may = |what, needs| match caller.clone().reading(needs) {
        Ok(reader) => Some(reader),
        Err(_) => {
            not_shown.push(NotShown { what, needs });
            None
        }
    };
    let policy = may("policy", Scope::PolicyRead);
    let emergency = may("halts, breakers, incidents", Scope::EmergencyRead);
    let approver = may("approvals", Scope::ApprovalRead);
    let verifier = may("revocations", Scope::TokenVerify);
    let health = operate::health(app, Some(&reader)).await?.body;
    let health = String::from_utf8(health.to_vec()).map_err(RuntimeError::internal)?;
    let mut failed = Vec::new();
    let ledger = async {
        let size = runtime.store().head(&tenant.id).await.map_err(RuntimeError::from)?.size;
        let newest = runtime.store().entry(&tenant.id, size.saturating_sub(1)).await.map_err(RuntimeError::from)?;
        let checkpoint_waiting_seconds = runtime.checkpoint_age(tenant).await? / 1000;
        Ok(Ledger { size, newest_at: newest.map(|entry| entry.at.to_string()), checkpoint_waiting_seconds })
    };
    let ledger = part(&mut failed, "ledger", ledger).await;
    let siem = part(&mut failed, "collectors", runtime.siem(tenant)).await.unwrap_or_default();
    let siem = siem.into_iter().map(|standing| Sink {
        sink: standing.sink.spec.name.to_string(),
        state: standing.state(),
        lag_entries: standing.lag_entries,
        lag_seconds: standing.lag_ms / 1000,
        error: standing.progress.last_error.clone().filter(|_| standing.progress.failing),
    });
    let (mut halts, mut breakers, mut incidents) = (None, None, None);
    if let Some(reader) = &emergency {
        halts = Some(in_force(app, reader, &state).await);
        breakers = Some(not_closed(runtime.breakers(reader)?));
        incidents = Some(open_incidents(app, reader, &state).await);
    }
    let approvals = match &approver {
        Some(reader) => part(&mut failed, "approvals", waiting(app, reader)).await,
        None => None,
    };
    let revocations = match &verifier {
        Some(reader) => {
            let lately = runtime.revoked_since(reader, runtime.now().plus_secs(-LATELY_SECS));
            part(&mut failed, "revocations", lately).await.map(|revoked| {
                let (last_at, last_reason) = revoked.last.unzip();
                let last_at = last_at.map(|at| at.to_string());
                let (bulk, tokens) = (revoked.bulk, revoked.tokens);
                Revoked { within_seconds: LATELY_SECS, bulk, last_at, last_reason, tokens }
            })
        }
        None => None,
    };
    Ok(Body {
        tenant: tenant.id.to_string(),
        at: runtime.now().to_string(),
        control: state.control,
        suspended: state.suspended.clone(),
        health: RawValue::from_string(health).map_err(RuntimeError::internal)?,
        ledger,
        environments: environments(app, &reader, policy.as_ref(), &state).await,
        halts,
        breakers,
        incidents,
        approvals,
        revocations,
        siem: siem.collect(),
        failed,
        not_shown,
    })
}

/// A part, or that it could not be read.
async fn part<T>(
    failed: &mut Vec<FailedPart>,
    what: &'static str,
    read: impl Future<Output = Result<T, RuntimeError>>,
) -> Option<T> {
    let read = tokio::time::timeout(PART, read).await;
    match read.map_err(|_| Code::StoreUnavailable).and_then(|read| read.map_err(|error| error.code)) {
        Ok(read) => Some(read),
        Err(code) => {
            failed.push(FailedPart { what, code });
            None
        }
    }
}

/// When entries were recorded, as far as that can be read in time.
async fn written_at(app: &App, by: &Principal, indexes: Vec<u64>) -> HashMap<u64, String> {
    let mut out = HashMap::new();
    let read = async {
        for index in indexes {
            let Ok(Some(entry)) = app.runtime.store().entry(&by.tenant.id, index).await else { return };
            out.insert(index, entry.at.to_string());
        }
    };
    let _ = tokio::time::timeout(PART, read).await;
    out
}

async fn environments(app: &App, by: &Principal, policy: Option<&Principal>, state: &Folded) -> Vec<EnvironmentRow> {
    let now = app.runtime.now();
    let mut rows = Vec::new();
    for e in state.environments.values().filter(|e| by.sees(&e.id)) {
        let readable = policy.is_some_and(|reader| reader.sees(&e.id));
        let waiting = e.rollback.as_ref().filter(|p| readable && p.expires_at > now);
        rows.push(EnvironmentRow {
            environment: e.id.clone(),
            tier: e.tier.as_str(),
            suspended: e.suspended.clone(),
            policy: e.history.last().filter(|_| readable).map(|d| Policy {
                pack: d.version.pack.to_string(),
                version: d.version.version.to_string(),
                digest: d.version.digest,
                policies: d.version.compiled.len(),
                index: Some(d.index),
            }),
            rollback_waiting: waiting.map(|p| Rollback {
                to: p.to,
                by: p.by.to_string(),
                expires_at: p.expires_at.to_string(),
            }),
            key: key(app, by, e).await,
        });
    }
    rows
}

/// The active key, as of the state that is gathered from.
async fn key(app: &App, by: &Principal, of: &Environment) -> Option<Key> {
    let active = of.keys.iter().find(|k| k.status == KeyStatus::Active)?;
    let age = tokio::time::timeout(PART, app.runtime.age_of(&by.tenant, active)).await.ok().and_then(Result::ok);
    let now = app.runtime.now();
    Some(Key {
        kid: active.kid.clone(),
        alg: active.alg.clone(),
        age_days: age.as_ref().map(|age| age.days(now)),
        rotate_by: age.as_ref().and_then(|age| age.due).map(|due| due.to_string()),
        rotation: age.as_ref().map(|age| age.rotation(now).as_str()),
    })
}

async fn in_force(app: &App, by: &Principal, state: &Folded) -> Halts {
    let mut seen: Vec<_> =
        state.halts.iter().filter(|(_, h)| h.environment.as_ref().is_none_or(|e| by.sees(e))).collect();
    seen.sort_by_key(|(_, h)| std::cmp::Reverse(h.index));
    let in_force = seen.len();
    seen.truncate(ROWS);
    let times = written_at(app, by, seen.iter().map(|(_, h)| h.index).collect()).await;
    let mut newest = Vec::new();
    for (halt, h) in seen {
        newest.push(HaltRow {
            halt: halt.clone(),
            scope: scope_text(&h.scope()),
            environment: h.environment.clone(),
            reason: h.reason.clone(),
            by: state.person(&h.by).to_string(),
            since: times.get(&h.index).cloned(),
        });
    }
    Halts { in_force, newest }
}

fn not_closed(rows: Vec<BreakerRow>) -> Breakers {
    let total = rows.len();
    let mut open: Vec<_> = rows.into_iter().filter(|r| matches!(r.state, "open" | "half_open" | "held")).collect();
    // The worst first; else by environment and name, as they came.
    open.sort_by_key(|r| ["open", "held", "half_open"].iter().position(|state| *state == r.state));
    let not_closed = open.len();
    let worst = open.into_iter().take(ROWS).map(|r| OpenBreaker {
        breaker: r.breaker,
        environment: r.environment,
        state: r.state,
        instances: r.instances.into_iter().filter(|i| i.state != "closed").take(ROWS).collect(),
        held: r.held,
    });
    Breakers { total, not_closed, worst: worst.collect() }
}

async fn open_incidents(app: &App, by: &Principal, state: &Folded) -> Incidents {
    let seen = state.incidents.iter().filter(|(_, i)| i.environment.as_ref().is_none_or(|e| by.sees(e)));
    let mut seen: Vec<_> = seen.collect();
    seen.sort_by_key(|(_, i)| std::cmp::Reverse(i.index));
    let open = seen.len();
    seen.truncate(ROWS);
    let times = written_at(app, by, seen.iter().map(|(_, i)| i.index).collect()).await;
    let mut newest = Vec::new();
    for (incident, i) in seen {
        newest.push(IncidentRow {
            incident: incident.clone(),
            title: i.title.clone(),
            environment: i.environment.clone(),
            since: times.get(&i.index).cloned(),
        });
    }
    Incidents { open, newest }
}

async fn waiting(app: &App, by: &Principal) -> Result<Approvals, RuntimeError> {
    let (rows, _) = app.runtime.approvals(by, &Default::default(), None, COUNTED + 1).await?;
    let oldest = rows.first().map(|row| {
        let input = &row.open.record.input;
        Oldest {
            intent: input.id,
            environment: input.intent.environment.clone(),
            agent: input.intent.subject.id.to_string(),
            action: input.intent.action.name.to_string(),
            asked_at: input.at.to_string(),
            expires_at: row.open.expires_at.to_string(),
        }
    });
    Ok(Approvals { open: rows.len().min(COUNTED), more: rows.len() > COUNTED, oldest })
}
