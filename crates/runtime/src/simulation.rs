//! Simulations on a tenant's own ledger: read-only, on a thread of their own that gives way to
//! everything else. A decision never waits for one. Those that somebody asks for run one at a time, and
//! so do those that are a gate of a submission or deployment, which do not wait for the former.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use intended_engine::Version;
use intended_model::decision::DecisionRecord;
use intended_model::{Code, EnvironmentId, IntentId, Kind, TenantId, Timestamp};
use intended_rehearse::{Shares, Simulation, Simulator};
use intended_store::Store;
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::tenant::event_of;
use crate::{Principal, Runtime, RuntimeError};

/// Entries of one read of a window. Reads run beside decisions at their priority: a few hundred
/// microseconds at a time, so that no decision waits long behind one.
const PAGE: usize = 64;
/// Control entries of one read: before the window, where each is folded besides.
const CONTROL_PAGE: usize = 500;
/// How much less than others a simulation's thread is worth to the scheduler: as little as there is.
const NICE: i32 = 19;

/// What to simulate.
#[derive(Debug, Clone)]
pub struct Plan {
    pub environment: EnvironmentId,
    pub version: Arc<Version>,
    /// Compare with what this version would decide, rather than with what was recorded.
    pub base: Option<Arc<Version>>,
    /// Look at the decisions on this intent alone.
    pub only: Option<IntentId>,
    pub from: Timestamp,
    pub to: Timestamp,
}

/// How far a simulation is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Entries looked at.
    pub done: AtomicU64,
    /// Entries to look at; 0 before it is known.
    pub total: AtomicU64,
    cancelled: AtomicBool,
    wake: Notify,
}

impl Progress {
    /// Nobody wants the result any more: it ends before its next page, or leaves the queue.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    fn check(&self) -> Result<(), RuntimeError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(cancelled()) } else { Ok(()) }
    }
}

/// Whoever waited is gone: nobody reads what comes of it.
struct Waiting(Arc<Progress>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }
}

fn cancelled() -> RuntimeError {
    RuntimeError::new(Code::NotFound, "the simulation was cancelled")
}

impl Runtime {
    /// Runs a simulation over the caller's tenant, as a gate: it waits for no simulation that somebody,
    /// maybe of another tenant, asked for.
    pub async fn simulate(
        &self,
        by: &Principal,
        plan: Plan,
        progress: Arc<Progress>,
    ) -> Result<Simulation, RuntimeError> {
        self.simulate_among(&self.gates, by, plan, progress).await
    }

    /// Runs a simulation over the caller's tenant when those that were asked for before are done.
    pub async fn simulate_in_turn(
        &self,
        by: &Principal,
        plan: Plan,
        progress: Arc<Progress>,
    ) -> Result<Simulation, RuntimeError> {
        self.simulate_among(&self.simulations, by, plan, progress).await
    }

    async fn simulate_among(
        &self,
        queue: &Arc<Semaphore>,
        by: &Principal,
        plan: Plan,
        progress: Arc<Progress>,
    ) -> Result<Simulation, RuntimeError> {
        let (store, tenant) = (Arc::clone(&self.follower.store), by.tenant.id.clone());
        let known = Arc::clone(&by.tenant.state().versions);
        let handle = tokio::runtime::Handle::current();
        let of = Arc::clone(&progress);
        let _waiting = Waiting(Arc::clone(&progress));
        tokio::select! {
            () = progress.wake.notified() => Err(cancelled()),
            done = low(queue, move || handle.block_on(replay(&*store, &tenant, plan, &known, &of))) => done,
        }
    }

    /// How the decisions of two windows differ.
    pub async fn decision_drift(
        &self,
        by: &Principal,
        environment: &EnvironmentId,
        before: (Timestamp, Timestamp),
        after: (Timestamp, Timestamp),
    ) -> Result<intended_rehearse::Drift, RuntimeError> {
        let (store, tenant, environment) =
            (Arc::clone(&self.follower.store), by.tenant.id.clone(), environment.clone());
        let handle = tokio::runtime::Handle::current();
        low(&self.simulations, move || {
            handle.block_on(async {
                let first = shares(&*store, &tenant, &environment, before).await?;
                let second = shares(&*store, &tenant, &environment, after).await?;
                Ok(intended_rehearse::drift(&first, &second))
            })
        })
        .await
    }
}

/// Works on a thread of its own, at the lowest priority, when it is its turn in the queue.
pub(crate) async fn low<T: Send + 'static>(
    queue: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    let permit = Arc::clone(queue).acquire_owned().await.map_err(RuntimeError::internal)?;
    let (answer, outcome) = oneshot::channel();
    let run = move || {
        // Where the system refuses, it runs as everything else does.
        let _ = rustix::process::nice(NICE);
        let _ = answer.send(work());
        drop(permit);
    };
    let spawned = std::thread::Builder::new().name("low".to_owned()).spawn(run);
    spawned.map_err(RuntimeError::internal)?;
    outcome.await.map_err(|_| RuntimeError::internal("a simulation ended without an answer"))?
}

/// The index of the first entry that is not before `at`, by bisection: time never goes backwards.
pub(crate) async fn first_at(
    store: &dyn Store,
    tenant: &TenantId,
    at: Timestamp,
    size: u64,
) -> Result<u64, RuntimeError> {
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        let entry = store.entry(tenant, middle).await?.ok_or(Code::StoreCorrupt)?;
        if entry.at < at { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

async fn replay(
    store: &dyn Store,
    tenant: &TenantId,
    plan: Plan,
    known: &std::collections::BTreeMap<intended_model::Digest, Arc<Version>>,
    progress: &Progress,
) -> Result<Simulation, RuntimeError> {
    let size = store.head(tenant).await?.size;
    let start = first_at(store, tenant, plan.from, size).await?;
    let end = first_at(store, tenant, plan.to, size).await?;
    progress.total.store(end.saturating_sub(start), Ordering::Relaxed);
    let damaged = |e: &dyn std::fmt::Display| RuntimeError::new(Code::StoreCorrupt, e.to_string());
    let mut simulator = Simulator::new(plan.environment, plan.version, plan.from, plan.to);
    if let Some(base) = plan.base {
        simulator = simulator.against(base);
    }
    if let Some(intent) = plan.only {
        simulator = simulator.only(intent);
    }
    // The state before the window: its control entries alone.
    let mut next = 0;
    while next < start {
        progress.check()?;
        let page = store.control_entries(tenant, next, CONTROL_PAGE).await?;
        let Some(last) = page.last() else { break };
        next = last.index + 1;
        for entry in page.iter().filter(|e| e.index < start) {
            simulator.control_reusing(entry.index, &event_of(&entry.leaf)?, known).map_err(|e| damaged(&e))?;
        }
    }
    let mut next = start;
    while next < end {
        progress.check()?;
        let page = store.entries(tenant, next, PAGE).await?;
        let Some(last) = page.last() else { break };
        next = last.index + 1;
        for entry in page.iter().filter(|e| e.index < end) {
            simulator.entry_reusing(&entry.leaf, known).map_err(|e| damaged(&e))?;
        }
        progress.done.store(next.min(end).saturating_sub(start), Ordering::Relaxed);
    }
    Ok(simulator.finish())
}

async fn shares(
    store: &dyn Store,
    tenant: &TenantId,
    environment: &EnvironmentId,
    (from, to): (Timestamp, Timestamp),
) -> Result<Shares, RuntimeError> {
    let size = store.head(tenant).await?.size;
    let mut next = first_at(store, tenant, from, size).await?;
    let end = first_at(store, tenant, to, size).await?;
    let mut shares = Shares::default();
    while next < end {
        let page = store.entries(tenant, next, PAGE).await?;
        let Some(last) = page.last() else { break };
        next = last.index + 1;
        for entry in page.iter().filter(|e| e.index < end) {
            let leaf = intended_ledger::Leaf::parse(&entry.leaf).map_err(RuntimeError::internal)?;
            if Kind::parse(leaf.kind) != Some(Kind::Decision) {
                continue;
            }
            let record: Result<DecisionRecord, _> = serde_json::from_str(leaf.body);
            if let Ok(record) = record
                && record.input.class.is_traffic()
                && record.input.intent.environment == *environment
            {
                shares.add(&record);
            }
        }
    }
    Ok(shares)
}
