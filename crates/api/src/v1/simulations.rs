//! Simulations: started, looked at while they run, and kept for a while. Read-only, and in memory: a
//! restart forgets them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::IntoResponse as _;
use http::HeaderMap;
use intended_engine::Version;
use intended_model::entry::Scope;
use intended_model::{Code, EnvironmentId, IntentId, TenantId, Timestamp};
use intended_rehearse::Simulation;
use intended_runtime::simulation::{Plan, Progress};
use intended_runtime::{Principal, RuntimeError, admin};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::policy::named;
use crate::{Answer, App, Problem, auth, input, json};

/// Most simulations that are kept when they are done, of all tenants.
const MAX_KEPT: usize = 32;
/// Most simulations of a tenant that run or wait: nobody fills the queue for everybody else.
const MAX_RUNNING: usize = 4;
/// Most simulations that are kept, run or wait, of all tenants.
const MAX_JOBS: usize = 256;
/// Longest window: 31 days.
const MAX_WINDOW_SECS: i64 = 31 * 86_400;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(show, cancel)).routes(routes!(drift))
}

/// One simulation.
struct Job {
    id: String,
    tenant: TenantId,
    environment: EnvironmentId,
    progress: Arc<Progress>,
    outcome: Mutex<Option<Result<Simulation, RuntimeError>>>,
}

impl Job {
    fn is_done(&self) -> bool {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// The simulations of a process, oldest first.
#[derive(Default)]
pub struct Jobs(Mutex<VecDeque<Arc<Job>>>);

impl Jobs {
    fn add(&self, job: Arc<Job>) -> Result<(), Problem> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = jobs.iter().filter(|j| j.tenant == job.tenant && !j.is_done()).count();
        if running >= MAX_RUNNING {
            let detail = format!("{MAX_RUNNING} simulations run or wait already: let one end, or cancel one");
            return Err(Problem::new(Code::Overloaded, detail));
        }
        while jobs.iter().filter(|j| j.is_done()).count() >= MAX_KEPT {
            // Whoever starts many loses their own first.
            let own = jobs.iter().position(|j| j.tenant == job.tenant && j.is_done());
            let Some(oldest) = own.or_else(|| jobs.iter().position(|j| j.is_done())) else { break };
            jobs.remove(oldest);
        }
        if jobs.len() >= MAX_JOBS {
            return Err(Code::Overloaded.into());
        }
        jobs.push_back(job);
        Ok(())
    }

    /// Stops one that runs or waits, and forgets it.
    fn remove(&self, job: &Arc<Job>) {
        job.progress.cancel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|j| !Arc::ptr_eq(j, job));
    }

    fn find(&self, tenant: &TenantId, id: &str) -> Option<Arc<Job>> {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.iter().find(|j| j.id == id && j.tenant == *tenant).cloned()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartBody {
    environment: EnvironmentId,
    /// The version to try: its files …
    files: Option<BTreeMap<String, String>>,
    /// … or the digest of a published one, or the beginning of it.
    digest: Option<String>,
    /// Compare with what this version would decide, rather than with what was recorded.
    base: Option<String>,
    /// Look at the decisions on this intent alone.
    intent: Option<IntentId>,
    /// How far back; absent: as far as the environment's rules say.
    window_secs: Option<i64>,
    /// Milliseconds since the epoch; absent: now.
    until: Option<i64>,
}

#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    environment: &'a EnvironmentId,
    /// `running`, `done` or `failed`.
    state: &'static str,
    /// Ledger entries looked at, of so many.
    done: u64,
    total: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Simulation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn answer(status: u16, job: &Job) -> Answer {
    let outcome = job.outcome.lock().unwrap_or_else(PoisonError::into_inner);
    let (state, result, error) = match &*outcome {
        None => ("running", None, None),
        Some(Ok(simulation)) => ("done", Some(simulation), None),
        Some(Err(error)) => ("failed", None, Some(error.to_string())),
    };
    let (done, total) = (job.progress.done.load(Ordering::Relaxed), job.progress.total.load(Ordering::Relaxed));
    json(status, &Body { id: &job.id, environment: &job.environment, state, done, total, result, error })
}

/// Starts a simulation: the environment's recorded decisions of a window, made again by another version.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/simulations", tag = "policy", params(("tenant" = String, Path)),
    request_body(content_type = "application/json", description = "environment; files or digest; base, intent, window_secs, until"), responses((status = 202, description = "started; look at it until it is done"), (status = 422, description = "the pack is not valid")))]
async fn start(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let body: StartBody = input::typed(&headers, &body, input::MAX_POLICY_BODY)?;
    principal.require(Scope::PolicyRead, Some(&body.environment))?;
    // What it finds names the intents that would be decided otherwise.
    principal.require(Scope::IntentRead, Some(&body.environment))?;
    let state = principal.tenant.state();
    let environment = state.environments.get(&body.environment).ok_or(Code::EnvironmentUnknown)?;
    let version = match (&body.files, &body.digest) {
        (Some(files), None) => {
            let pack = admin::validated(&state, files)?;
            match state.versions.get(&pack.digest()) {
                Some(known) => Arc::clone(known),
                None => {
                    let files = files.iter().map(|(n, t)| (n.as_str().into(), t.as_str().into())).collect();
                    Arc::new(admin::aside(|| Version::compile(&files)).map_err(RuntimeError::from)?)
                }
            }
        }
        (None, Some(digest)) => Arc::clone(named(&principal, &state, digest)?),
        _ => return Err(Problem::new(Code::RequestInvalid, "send `files` or `digest`")),
    };
    let base = body.base.as_ref().map(|b| named(&principal, &state, b).cloned()).transpose()?;
    let window = body.window_secs.unwrap_or_else(|| i64::from(environment.settings.policy.simulation_window_secs));
    if !(1..=MAX_WINDOW_SECS).contains(&window) {
        return Err(Problem::at(Code::RequestInvalid, "/window_secs", format!("1 to {MAX_WINDOW_SECS} seconds")));
    }
    let to = body.until.map_or_else(|| app.runtime.now().plus_millis(1), Timestamp::from_millis);
    let plan = Plan {
        environment: body.environment.clone(),
        version,
        base,
        only: body.intent,
        from: to.plus_secs(-window),
        to,
    };
    let job = Arc::new(Job {
        id: app.runtime.random_id()?,
        tenant: principal.tenant.id.clone(),
        environment: body.environment,
        progress: Arc::default(),
        outcome: Mutex::default(),
    });
    app.simulations.add(Arc::clone(&job))?;
    let (running, runtime) = (Arc::clone(&job), Arc::clone(&app.runtime));
    tokio::spawn(async move {
        let outcome = runtime.simulate_in_turn(&principal, plan, Arc::clone(&running.progress)).await;
        *running.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    });
    answer(202, &job)
}

/// How far a simulation is, and what it found.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/simulations/{simulation}", tag = "policy", params(("tenant" = String, Path), ("simulation" = String, Path)),
    responses((status = 200, description = "its state, and its result when it is done"), (status = 404, description = "no such simulation, or it is kept no longer")))]
async fn show(State(app): State<App>, Path((tenant, id)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let job = mine(&app, &principal, &id)?;
    answer(200, &job)
}

/// Stops a simulation that runs or waits, and forgets what it found.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}/simulations/{simulation}", tag = "policy", params(("tenant" = String, Path), ("simulation" = String, Path)),
    responses((status = 204, description = "it is gone"), (status = 404, description = "no such simulation, or it is kept no longer")))]
async fn cancel(State(app): State<App>, Path((tenant, id)): Path<(String, String)>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    app.simulations.remove(&mine(&app, &principal, &id)?);
    Ok(http::StatusCode::NO_CONTENT.into_response())
}

/// A simulation whose decisions the caller may read.
fn mine(app: &App, principal: &Principal, id: &str) -> Result<Arc<Job>, Problem> {
    let job = app.simulations.find(&principal.tenant.id, id).ok_or(Code::NotFound)?;
    for scope in [Scope::PolicyRead, Scope::IntentRead] {
        principal.require(scope, None)?;
        // Elsewhere they may read it; of this one there is nothing for them.
        if !principal.access.may(scope, Some(&job.environment)) {
            return Err(Code::NotFound.into());
        }
    }
    Ok(job)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DriftQuery {
    environment: String,
    /// Seconds of the newer window, which ends now.
    window_secs: Option<i64>,
    /// Seconds of the window before it; absent: the same.
    before_secs: Option<i64>,
}

/// How the decisions of the last window differ from those of the one before.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/decision-drift", tag = "policy", params(("tenant" = String, Path), ("environment" = String, Query), ("window_secs" = Option<i64>, Query), ("before_secs" = Option<i64>, Query)),
    responses((status = 200, description = "the difference")))]
async fn drift(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let query: DriftQuery = input::query(&uri)?;
    let environment = EnvironmentId::new(&query.environment).map_err(|_| Problem::from(Code::EnvironmentUnknown))?;
    principal.require(Scope::PolicyRead, Some(&environment))?;
    principal.require(Scope::IntentRead, Some(&environment))?;
    let window = query.window_secs.unwrap_or(86_400);
    let before = query.before_secs.unwrap_or(window);
    if !(1..=MAX_WINDOW_SECS).contains(&window) || !(1..=MAX_WINDOW_SECS).contains(&before) {
        return Err(Problem::at(Code::RequestInvalid, "/window_secs", format!("1 to {MAX_WINDOW_SECS} seconds")));
    }
    let now = app.runtime.now().plus_millis(1);
    let middle = now.plus_secs(-window);
    let drift =
        app.runtime.decision_drift(&principal, &environment, (middle.plus_secs(-before), middle), (middle, now));
    json(200, &drift.await?)
}
