//! What works and what does not. Each line measures something; nothing is `healthy` by default.

use std::time::Duration;

use intended_model::{Code, EnvironmentId, TenantId};

use crate::Runtime;
use crate::metrics::Stopwatch;

/// `healthy`, `degraded` or `unavailable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    Healthy,
    Degraded,
    Unavailable,
}

impl Status {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
        }
    }
}

/// One named check of one component.
#[derive(Debug, Clone)]
pub struct Check {
    /// Whose it is; its details are for that tenant only.
    pub tenant: Option<TenantId>,
    /// Which of the tenant's environments it is about; absent: all of them.
    pub environment: Option<EnvironmentId>,
    pub component: &'static str,
    pub check: &'static str,
    pub status: Status,
    pub detail: String,
}

/// A disk with less than this is degraded: some minutes of full load.
const LOW_DISK_BYTES: u64 = 512 * 1024 * 1024;

/// When a request that comes now waits so long before anybody looks at it, that is felt; and from the
/// second on, nobody waits any more.
const WORKERS_SLOW: Duration = Duration::from_millis(250);
const WORKERS_STUCK: Duration = Duration::from_secs(2);

/// From here on it matters to who compares times: offline verifiers, business hours.
const CLOCK_AHEAD_MS: i64 = 5_000;

/// How long work that comes now waits until one of the process's workers takes it up; `None` when
/// that is too long to wait for.
async fn workers() -> Option<Duration> {
    let watch = Stopwatch::start();
    let taken = tokio::spawn(async move { watch.elapsed() });
    tokio::time::timeout(WORKERS_STUCK, taken).await.ok()?.ok()
}

impl Runtime {
    /// Runs every check.
    pub async fn health(&self) -> Vec<Check> {
        let mut out = Vec::new();
        let mut whose: (Option<TenantId>, Option<EnvironmentId>) = (None, None);
        let mut add = |whose: &(Option<TenantId>, Option<EnvironmentId>), component, check, status, detail: String| {
            let (tenant, environment) = whose.clone();
            out.push(Check { tenant, environment, component, check, status, detail });
        };
        let waited = workers().await;
        let status = match waited {
            Some(waited) if waited < WORKERS_SLOW => Status::Healthy,
            Some(_) => Status::Degraded,
            None => Status::Unavailable,
        };
        let waited = waited.unwrap_or(WORKERS_STUCK);
        add(&whose, "gateway", "workers", status, format!("new work starts after {} ms", waited.as_millis()));
        let store = self.store().health().await;
        let writable = if store.writable { Status::Healthy } else { Status::Unavailable };
        add(&whose, "store", "writable", writable, store.detail.clone());
        if let Some(free) = store.free_bytes {
            let status = if free < LOW_DISK_BYTES { Status::Degraded } else { Status::Healthy };
            add(&whose, "store", "disk", status, format!("{} MiB free", free / (1024 * 1024)));
        }
        let ahead = self.clock().ahead_millis();
        let status = if ahead > CLOCK_AHEAD_MS { Status::Degraded } else { Status::Healthy };
        let detail = if ahead > CLOCK_AHEAD_MS {
            format!("{} s ahead of the system's clock, which was set back: times go on from the ledger's", ahead / 1000)
        } else {
            String::new()
        };
        add(&whose, "enforcement runtime", "clock", status, detail);
        let tenants = self.tenants();
        for tenant in &tenants {
            whose = (Some(tenant.id.clone()), None);
            let (status, detail) = match self.store().head(&tenant.id).await {
                Ok(head) => (Status::Healthy, format!("{}: {} entries", tenant.id, head.size)),
                Err(error) => (Status::Unavailable, format!("{}: {error}", tenant.id)),
            };
            add(&whose, "audit ledger", "checkpoint", status, detail);
            // Never more than degraded: nothing that is decided waits for a collector.
            for sink in self.siem(tenant).await.unwrap_or_default() {
                let status = if sink.state() == "ok" { Status::Healthy } else { Status::Degraded };
                let error = sink.progress.last_error.as_deref().filter(|_| sink.progress.failing);
                let detail = format!(
                    "{}/{}: {} entries behind for {} s{}",
                    tenant.id,
                    sink.sink.spec.name,
                    sink.lag_entries,
                    sink.lag_ms / 1000,
                    error.map_or(String::new(), |e| format!("; {e}")),
                );
                add(&whose, "audit ledger", "siem", status, detail);
            }
            for environment in tenant.state().environments.values() {
                whose.1 = Some(environment.id.clone());
                let (status, detail) = match tenant.signer(&environment.id) {
                    Ok(key) => (
                        Status::Healthy,
                        format!("{}/{}: {}", tenant.id, environment.id, intended_token::TokenSigner::kid(&*key)),
                    ),
                    Err(_) => {
                        (Status::Unavailable, format!("{}/{}: {}", tenant.id, environment.id, Code::KeyMissing.title()))
                    }
                };
                add(&whose, "token service", "signing key", status, detail);
                let (status, detail) = match &environment.deployed {
                    Some(v) => (
                        Status::Healthy,
                        format!("{}/{}: {} {} ({})", tenant.id, environment.id, v.pack, v.version, v.digest.short()),
                    ),
                    None => (
                        Status::Degraded,
                        format!("{}/{}: nothing deployed, everything is denied", tenant.id, environment.id),
                    ),
                };
                add(&whose, "policy engine", "policy version", status, detail);
            }
        }
        whose = (None, None);
        let status = if tenants.is_empty() { Status::Degraded } else { Status::Healthy };
        add(&whose, "enforcement runtime", "tenants", status, format!("{} loaded", tenants.len()));
        out
    }

    /// Whether requests can be served: the store takes writes.
    pub async fn ready(&self) -> bool {
        self.store().health().await.writable
    }
}
