//! What the product claims, and whether it holds here and now: the capability truth matrix.
//!
//! * [`claims`]: every claim, with its page and its tests
//! * `probes`: what tries each of them on the server that runs
//!
//! A probe exercises the thing itself, on the live state or on a copy of it, and touches no live
//! traffic: what it writes are facts of its own that it removes again, and never an entry. Probes run a
//! few at a time, away from the threads that decide, each with a deadline; one that breaks off or does
//! not end is that row's trouble and no other's. What was found is kept for some seconds, so that many
//! who ask cost as much as one.
//!
//! What is said is for callers of a tenant, as far as they see it. Strangers are told nothing of it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use intended_model::entry::Scope;
use intended_model::{EnvironmentId, TenantId, Timestamp};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::metrics::Stopwatch;
use crate::{Principal, Runtime, RuntimeError};

pub mod claims;
mod probes;

pub use claims::{Area, Capability, Claim};

/// For how long what was found is shown again.
pub const KEPT_MS: i64 = 5_000;
/// Probes at a time, of the whole server.
const PARALLEL: usize = 4;
/// Callers whose findings are kept: by tenant, and by what they see of it.
const MAX_KEPT: usize = 128;
const DEADLINE: Duration = Duration::from_secs(5);
/// Of what folds a ledger up to a position, or asks whole sets of policies.
const LONG_DEADLINE: Duration = Duration::from_secs(20);

/// Whether a capability holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    Working,
    /// Nobody has set it up.
    NotConfigured,
    /// It works in part, or soon not.
    Degraded,
    Unavailable,
}

impl Status {
    pub const ALL: &'static [Self] = &[Self::Working, Self::NotConfigured, Self::Degraded, Self::Unavailable];
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::NotConfigured => "not configured",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub status: Status,
    /// What was seen, in one line.
    pub result: String,
    /// What to do about it, where there is something to do.
    pub action: Option<String>,
}

impl Found {
    pub fn working(result: impl Into<String>) -> Self {
        Self { status: Status::Working, result: result.into(), action: None }
    }
    pub fn not_configured(result: impl Into<String>, action: impl Into<String>) -> Self {
        Self { status: Status::NotConfigured, result: result.into(), action: Some(action.into()) }
    }
    pub fn degraded(result: impl Into<String>, action: impl Into<String>) -> Self {
        Self { status: Status::Degraded, result: result.into(), action: Some(action.into()) }
    }
    pub fn unavailable(result: impl Into<String>, action: impl Into<String>) -> Self {
        Self { status: Status::Unavailable, result: result.into(), action: Some(action.into()) }
    }
}

/// A probe that met an error found that the capability is not there. What is for the log stays there.
impl From<RuntimeError> for Found {
    fn from(error: RuntimeError) -> Self {
        if let Some(internal) = &error.internal {
            tracing::warn!(code = %error.code, internal, "a capability's probe failed");
        }
        let result = match error.detail.as_str() {
            "" => error.code.title().to_owned(),
            detail => format!("{}: {detail}", error.code.title()),
        };
        Self { status: Status::Unavailable, result, action: Some(error.code.hint().to_owned()) }
    }
}

/// What a probe comes to.
pub type Probed = Result<Found, RuntimeError>;

/// What only the HTTP edge can try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeProbe {
    Alerts,
    AuthZen,
    Logs,
    Metrics,
    OpenApi,
    Status,
    Traces,
}

/// The HTTP edge, as far as it is probed.
pub trait Edge: Send + Sync + 'static {
    fn probe(&self, which: EdgeProbe, by: Principal) -> Pin<Box<dyn Future<Output = Probed> + Send>>;
}

/// One capability and what its probe found.
#[derive(Debug, Clone)]
pub struct Row {
    pub capability: Capability,
    pub found: Found,
    pub took: Duration,
    /// When it was probed.
    pub at: Timestamp,
}

/// Who asks, and on what: what every probe is given.
#[derive(Clone)]
pub(crate) struct Ask {
    pub runtime: Arc<Runtime>,
    pub by: Principal,
    pub edge: Arc<dyn Edge>,
    /// Goes with the work, also where nobody waits for it any more: it still counts.
    _place: Arc<tokio::sync::OwnedSemaphorePermit>,
}

type Kept = Arc<tokio::sync::Mutex<HashMap<Capability, Row>>>;
/// Whose findings: a tenant's, as seen from these environments, and as a whole or not.
type Seen = (TenantId, Vec<EnvironmentId>, bool);

/// What was found lately, and the places for probes.
pub(crate) struct Probes {
    kept: Mutex<HashMap<Seen, Kept>>,
    places: Arc<Semaphore>,
}

impl Default for Probes {
    fn default() -> Self {
        Self { kept: Mutex::default(), places: Arc::new(Semaphore::new(PARALLEL)) }
    }
}

impl Probes {
    /// What is kept for those who see the same. Whoever holds it probes, and others wait for that.
    fn of(&self, by: &Principal) -> Kept {
        let seen = (by.tenant.id.clone(), by.access.environments().to_vec(), by.sees_all());
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_KEPT && !all.contains_key(&seen) {
            all.clear();
        }
        Arc::clone(all.entry(seen).or_default())
    }
}

const fn deadline(capability: Capability) -> Duration {
    match capability {
        Capability::Replay
        | Capability::Explain
        | Capability::OfflineVerify
        | Capability::Index
        | Capability::PolicyTests => LONG_DEADLINE,
        _ => DEADLINE,
    }
}

impl Runtime {
    /// Every capability, or those of an area, as they are for this caller: probed now, or within the
    /// last [`KEPT_MS`].
    pub async fn capabilities(
        self: &Arc<Self>,
        by: &Principal,
        area: Option<Area>,
        edge: Arc<dyn Edge>,
    ) -> Result<Vec<Row>, RuntimeError> {
        let by = by.clone().reading(Scope::StatusRead)?;
        let kept = self.capabilities.of(&by);
        let mut kept = kept.lock().await;
        let now = self.now();
        let wanted = |c: &Capability| area.is_none_or(|a| c.claim().area == a);
        let fresh = |row: &Row| (0..KEPT_MS).contains(&now.millis_since(row.at));
        let mut running = JoinSet::new();
        for capability in Capability::ALL.iter().copied().filter(wanted) {
            if kept.get(&capability).is_some_and(fresh) {
                continue;
            }
            let (runtime, by, edge) = (Arc::clone(self), by.clone(), Arc::clone(&edge));
            running.spawn(async move {
                let place = Arc::clone(&runtime.capabilities.places).acquire_owned().await;
                let place = Arc::new(place.map_err(RuntimeError::internal)?);
                let (at, watch) = (runtime.now(), Stopwatch::start());
                let ask = Ask { runtime, by, edge, _place: place };
                let found = bounded(deadline(capability), async move { probes::probe(capability, &ask).await }).await;
                Ok::<_, RuntimeError>(Row { capability, found, took: watch.elapsed(), at })
            });
        }
        while let Some(row) = running.join_next().await {
            let row = row.map_err(RuntimeError::internal)??;
            kept.insert(row.capability, row);
        }
        Ok(Capability::ALL.iter().filter(|c| wanted(c)).filter_map(|c| kept.get(c).cloned()).collect())
    }
}

/// A probe's findings: within its time, and whatever becomes of it.
async fn bounded(deadline: Duration, probe: impl Future<Output = Probed> + Send + 'static) -> Found {
    // Ends with whoever waits for it.
    let mut task = JoinSet::new();
    task.spawn(probe);
    match tokio::time::timeout(deadline, task.join_next()).await {
        Ok(Some(Ok(probed))) => probed.unwrap_or_else(Found::from),
        Ok(broke) => {
            let error = broke.and_then(Result::err).map_or_else(String::new, |e| e.to_string());
            tracing::error!(error, "a capability's probe broke off");
            Found::unavailable("its probe broke off", "the server's log says where; it is a fault of this release")
        }
        Err(_) => Found::unavailable(
            format!("its probe did not end within {} s", deadline.as_secs_f64()),
            "see what the server waits for: `intended health check --verbose`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_probe_that_panics_fails_or_does_not_end_is_that_row_alone() {
        let second = Duration::from_secs(1);
        let found = bounded(second, async { Ok(Found::working("as it should")) }).await;
        assert_eq!((found.status, &*found.result), (Status::Working, "as it should"));
        let found = bounded(second, async { panic!("a fault") }).await;
        assert_eq!((found.status, &*found.result), (Status::Unavailable, "its probe broke off"));
        let failed = async { Err(RuntimeError::internal("the secret is s3cr3t")) };
        let found = bounded(second, failed).await;
        assert_eq!(found.status, Status::Unavailable);
        assert!(!format!("{found:?}").contains("s3cr3t"), "what is for the log is not shown: {found:?}");
        let found = bounded(Duration::from_millis(1), std::future::pending()).await;
        assert_eq!((found.status, &*found.result), (Status::Unavailable, "its probe did not end within 0.001 s"));
        assert!(found.action.is_some());
    }

    #[test]
    fn every_claim_has_an_id_of_its_own_and_says_what_is_claimed_probed_and_held() {
        let mut ids = std::collections::BTreeSet::new();
        for capability in Capability::ALL {
            let claim = capability.claim();
            assert!(ids.insert(claim.id), "{} stands twice", claim.id);
            assert!(
                claim.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{}",
                claim.id
            );
            assert!(claim.claim.ends_with('.') && !claim.probe.ends_with('.'), "{}", claim.id);
            assert!(!claim.tests.is_empty() && !claim.docs.is_empty() && !claim.title.is_empty(), "{}", claim.id);
        }
        assert!(Area::ALL.iter().all(|area| Capability::ALL.iter().any(|c| c.claim().area == *area)));
        // By area, in the order of the areas: as the page and the table show them.
        assert!(Capability::ALL.is_sorted_by_key(|c| c.claim().area));
    }
}
