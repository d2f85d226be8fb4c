//! A tenant's ledger decided again, in the background: what `intended verify` does with an export,
//! on the ledger as it stands. The server goes on meanwhile, so it runs on a thread of its own, reads
//! in pages, and one ledger at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use intended_ledger::ExportHeader;
use intended_model::{TenantId, Timestamp};
use intended_verify::{Failure, Report, Verifier};

use crate::{Runtime, RuntimeError, Tenant};

/// Entries that are read at once.
const PAGE: usize = 256;

/// What became of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Holds(Box<Report>),
    /// The first thing that does not hold.
    Fails(Failure),
    /// It did not get to an end: the store did not answer, or the server stops.
    Incomplete(String),
}

/// A verification that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many entries were to be verified: those that the checkpoint of then covers.
    pub size: u64,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub outcome: Outcome,
}

/// Where a tenant's verification stands.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Since when one waits or runs.
    pub running: Option<Timestamp>,
    pub last: Option<Arc<Verified>>,
}

/// All tenants' verifications.
#[derive(Debug)]
pub struct Verifications {
    tenants: Mutex<HashMap<TenantId, Standing>>,
    /// Taken by the one that runs.
    turn: Arc<tokio::sync::Semaphore>,
    stopping: AtomicBool,
}

impl Default for Verifications {
    fn default() -> Self {
        Self {
            tenants: Mutex::default(),
            turn: Arc::new(tokio::sync::Semaphore::new(1)),
            stopping: AtomicBool::new(false),
        }
    }
}

impl Verifications {
    /// Ends what runs, at its next page.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.turn.close();
    }
    fn with<T>(&self, tenant: &TenantId, of: impl FnOnce(&mut Standing) -> T) -> T {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        of(tenants.entry(tenant.clone()).or_default())
    }
}

impl Runtime {
    /// Where the verification of a tenant's ledger stands.
    #[must_use]
    pub fn verification(&self, tenant: &Tenant) -> Standing {
        self.verifications.with(&tenant.id, |standing| standing.clone())
    }

    /// Starts verifying a tenant's ledger as it is now, unless that is being done. Returns since when.
    pub async fn start_verification(self: &Arc<Self>, tenant: &Arc<Tenant>) -> Result<Timestamp, RuntimeError> {
        let now = self.now();
        let (since, ours) = self.verifications.with(&tenant.id, |standing| match standing.running {
            Some(since) => (since, false),
            None => (*standing.running.insert(now), true),
        });
        if !ours {
            return Ok(since);
        }
        // Whatever happens from here on, the mark is taken away again.
        let marked = Marked { runtime: Arc::clone(self), tenant: Arc::clone(tenant), done: None };
        let (head, note) = self.head(tenant).await?;
        let header = ExportHeader {
            checkpoint: note.to_string(),
            checkpoints: self.checkpoints(tenant).await?,
            size: head.size,
            tenant: tenant.id.clone(),
            vkey: tenant.state().vkey.to_string(),
        };
        tokio::spawn(async move {
            let mut marked = marked;
            let turn = Arc::clone(&marked.runtime.verifications.turn);
            // Closed when the server stops.
            let Ok(_turn) = turn.acquire().await else { return };
            let size = header.size;
            let started_at = marked.runtime.now();
            let (runtime, tenant) = (Arc::clone(&marked.runtime), Arc::clone(&marked.tenant));
            let ran = tokio::task::spawn_blocking(move || verify(&runtime, &tenant, header)).await;
            let outcome = ran.unwrap_or_else(|error| Outcome::Incomplete(error.to_string()));
            match &outcome {
                Outcome::Holds(_) => tracing::info!(tenant = %marked.tenant.id, size, "the ledger holds"),
                Outcome::Fails(failure) => {
                    tracing::error!(tenant = %marked.tenant.id, %failure, "the ledger does not hold")
                }
                Outcome::Incomplete(why) => {
                    tracing::warn!(tenant = %marked.tenant.id, why, "the ledger was not verified")
                }
            }
            let finished_at = marked.runtime.now();
            marked.done = Some(Verified { size, started_at, finished_at, outcome });
        });
        Ok(since)
    }
}

/// That a verification runs; when it goes, that it does no more.
struct Marked {
    runtime: Arc<Runtime>,
    tenant: Arc<Tenant>,
    done: Option<Verified>,
}

impl Drop for Marked {
    fn drop(&mut self) {
        let done = self.done.take();
        self.runtime.verifications.with(&self.tenant.id, |standing| {
            standing.running = None;
            if let Some(done) = done {
                standing.last = Some(Arc::new(done));
            }
        });
    }
}

fn verify(runtime: &Runtime, tenant: &Tenant, header: ExportHeader) -> Outcome {
    let size = header.size;
    // The key that this server signs with, which is sealed, and not just the one that stands there.
    let mut verifier = match Verifier::new(header, Some(&tenant.state().vkey)) {
        Ok(verifier) => verifier,
        Err(failure) => return Outcome::Fails(failure),
    };
    let handle = tokio::runtime::Handle::current();
    let mut next = 0;
    while next < size {
        if runtime.verifications.stopping.load(Ordering::Acquire) {
            return Outcome::Incomplete("the server stops".to_owned());
        }
        let limit = usize::try_from(size - next).unwrap_or(PAGE).min(PAGE);
        let page = match handle.block_on(runtime.store().entries(&tenant.id, next, limit)) {
            Ok(page) => page,
            Err(error) => return Outcome::Incomplete(error.to_string()),
        };
        // Entries that are missing at the end are what `finish` says.
        let Some(last) = page.last() else { break };
        next = last.index + 1;
        for entry in &page {
            if let Err(failure) = verifier.entry(&entry.leaf) {
                return Outcome::Fails(failure);
            }
        }
    }
    match verifier.finish() {
        Ok(report) => Outcome::Holds(Box::new(report)),
        Err(failure) => Outcome::Fails(failure),
    }
}
