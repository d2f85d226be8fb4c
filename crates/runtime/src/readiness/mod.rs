//! Whether this server is ready to be relied on: five measurements against thresholds.
//!
//! Health says what is broken. Readiness says whether what works works well enough, in figures: is
//! everything reached in time, is there key material and does it unseal, does the audit pipeline keep
//! up, how long do decisions and signatures take. Each figure passes, warns or fails against a threshold
//! that stands beside it.
//!
//! **Read-only for live traffic.** What is decided here is decided by the pure core on the live state and
//! recorded nowhere; what is signed here no verifier takes ([`intended_token::probe`]). No ledger entry
//! is made, and nothing is counted as a decision, a token or a verification. What is written are facts
//! of the check's own: one to see that the store takes it, and the run itself ([`history`]).
//!
//! Whatever does not answer within [`PATIENCE`] has failed, and the run goes on without it: a check is
//! asked for when something hangs, and must not hang with it.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use intended_engine::State;
use intended_model::entry::Scope;
use intended_model::{Code, EnvironmentId, TenantId, Timestamp};
use tokio::sync::Semaphore;

use crate::metrics::Stopwatch;
use crate::{Follower, Principal, Runtime, RuntimeError, Tenant};

mod audit;
mod burst;
mod connectivity;
mod figure;
pub mod history;
mod material;
mod policy;
mod signing;
pub mod thresholds;

pub use figure::{Figure, MEASUREMENTS, Measurement, Run, Verdict};
pub use thresholds::{Bound, Limit, ThresholdError, Thresholds, Unit};

/// How long one part of a run is waited for.
pub const PATIENCE: Duration = Duration::from_secs(4);
/// How long all of them are, with which a run stays below the half minute that callers wait for an
/// answer, however many environments there are.
const WHOLE: Duration = Duration::from_secs(16);
/// What a part gets that comes after that: enough for what answers at once.
const GRACE: Duration = Duration::from_millis(10);
/// How long a run waits for those of the tenant that were asked for before.
const TURN: Duration = Duration::from_secs(5);
/// The form of what is kept.
const FORM: u32 = 1;

/// What a run is about.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// None: every environment that the caller sees and that takes part.
    pub environments: Vec<EnvironmentId>,
    /// Thresholds that are stricter this time.
    pub stricter: BTreeMap<String, Bound>,
    /// How long the way to here and back is, as the caller measured it.
    pub round_trip_micros: Option<u64>,
}

/// What the runtime keeps for it.
#[derive(Debug)]
pub(crate) struct Readiness {
    thresholds: ArcSwap<Thresholds>,
    /// One run of a tenant at a time.
    turns: Mutex<HashMap<TenantId, Arc<Semaphore>>>,
    /// One burst of the process at a time: two would measure each other.
    bursts: Arc<Semaphore>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { thresholds: ArcSwap::default(), turns: Mutex::default(), bursts: Arc::new(Semaphore::new(1)) }
    }
}

impl Readiness {
    fn turn(&self, tenant: &TenantId) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(tenant.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }
}

/// What every measurement of one run goes by.
struct Context<'a> {
    follower: &'a Follower,
    tenant: &'a Arc<Tenant>,
    state: Arc<State>,
    now: Timestamp,
    environments: &'a [EnvironmentId],
    thresholds: &'a Thresholds,
    bursts: &'a Arc<Semaphore>,
    watch: Stopwatch,
}

impl Context<'_> {
    /// What comes of it within [`PATIENCE`], and of all within [`WHOLE`].
    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let left = WHOLE.saturating_sub(self.watch.elapsed()).max(GRACE);
        tokio::time::timeout(left.min(PATIENCE), work).await.ok()
    }

    /// The same on a thread that may wait. One that hangs is left behind.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.in_time(tokio::task::spawn_blocking(work)).await?.ok()
    }
}

fn late() -> String {
    format!("no answer within {} s, or when the check had to end", PATIENCE.as_secs())
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

impl Runtime {
    /// Sets what figures are held against.
    pub fn hold_readiness_to(&self, thresholds: Thresholds) {
        self.readiness.thresholds.store(Arc::new(thresholds));
    }

    /// Measures, and keeps what came of it.
    pub async fn check_readiness(&self, by: &Principal, ask: Ask) -> Result<Run, RuntimeError> {
        let by = by.clone().reading(Scope::StatusRead)?;
        let server = self.readiness.thresholds.load_full();
        let thresholds = server.stricter(&ask.stricter).map_err(|error| {
            let at = format!("/thresholds{}", crate::pointer_step(error.name()));
            RuntimeError::at(Code::RequestInvalid, at, error.to_string())
        })?;
        let turn = self.readiness.turn(&by.tenant.id);
        let turn = tokio::time::timeout(TURN, turn.acquire_owned()).await.map_err(|_| RuntimeError {
            retry_after: Some(1),
            ..RuntimeError::new(Code::RateLimited, "other checks of this tenant are running")
        })?;
        let _turn = turn.map_err(RuntimeError::internal)?;
        let watch = Stopwatch::start();
        let state = by.tenant.state();
        let by = self.current(&by, &state, self.now())?.reading(Scope::StatusRead)?;
        let (environments, whole) = places(&by, &state, &ask.environments)?;
        let context = Context {
            follower: &self.follower,
            tenant: &by.tenant,
            state,
            now: self.now(),
            environments: &environments,
            thresholds: &thresholds,
            bursts: &self.readiness.bursts,
            watch,
        };
        let figures = [
            self.connectivity(&context, ask.round_trip_micros).await,
            material::figures(&context).await.into_iter().chain(material::root(&context, self).await).collect(),
            self.audit_pipeline(&context).await,
            policy::figures(&context).await,
            self.signing(&context).await,
        ];
        let measurements: Vec<Measurement> =
            MEASUREMENTS.iter().zip(figures).map(|(name, figures)| Measurement::new(name, figures)).collect();
        let mut run = Run {
            v: FORM,
            run: None,
            at: context.now,
            by: by.credential.clone(),
            node: self.node()?.as_str().into(),
            version: env!("CARGO_PKG_VERSION").into(),
            whole,
            stricter: thresholds != *server,
            verdict: measurements.iter().map(|m| m.verdict).max().unwrap_or(Verdict::Fail),
            took_micros: micros(watch.elapsed()),
            measurements,
            environments: environments.clone(),
        };
        // Also in an emergency, where nothing can be kept, the answer is worth having.
        match tokio::time::timeout(PATIENCE, self.keep_run(&by.tenant, run.clone())).await {
            Ok(Ok(number)) => run.run = Some(number),
            Ok(Err(error)) => tracing::warn!(tenant = %by.tenant.id, %error, "a readiness run was not kept"),
            Err(_) => tracing::warn!(tenant = %by.tenant.id, "a readiness run was not kept in time"),
        }
        Ok(run)
    }
}

/// The environments that a run is about, and whether those are all.
fn places(by: &Principal, state: &State, asked: &[EnvironmentId]) -> Result<(Vec<EnvironmentId>, bool), RuntimeError> {
    if asked.is_empty() {
        let taking_part = || state.environments.values().filter(|e| e.suspended.is_none());
        let seen: Vec<EnvironmentId> = taking_part().map(|e| &e.id).filter(|e| by.sees(e)).cloned().collect();
        // A test key for the whole tenant does not see production.
        let whole = by.sees_all() && seen.len() == taking_part().count();
        return Ok((seen, whole));
    }
    let mut out = Vec::new();
    for environment in asked {
        // Whoever does not see all of them is not told which there are.
        if by.sees_all() && !state.environments.contains_key(environment) {
            return Err(RuntimeError::new(Code::EnvironmentUnknown, format!("`{environment}`")));
        }
        by.require(Scope::StatusRead, Some(environment))?;
        if !out.contains(environment) {
            out.push(environment.clone());
        }
    }
    Ok((out, false))
}
