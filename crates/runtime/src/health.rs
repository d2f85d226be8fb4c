//! What works and what does not. Each line measures something; nothing is `healthy` by default.

use intended_model::{Code, TenantId};

use crate::Runtime;

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
    pub component: &'static str,
    pub check: &'static str,
    pub status: Status,
    pub detail: String,
}

/// A disk with less than this is degraded: some minutes of full load.
const LOW_DISK_BYTES: u64 = 512 * 1024 * 1024;

/// From here on it matters to who compares times: offline verifiers, business hours.
const CLOCK_AHEAD_MS: i64 = 5_000;

impl Runtime {
    /// Runs every check.
    pub async fn health(&self) -> Vec<Check> {
        let mut out = Vec::new();
        let mut whose: Option<TenantId> = None;
        let mut add = |tenant: &Option<TenantId>, component, check, status, detail: String| {
            out.push(Check { tenant: tenant.clone(), component, check, status, detail });
        };
        add(&whose, "gateway", "answers", Status::Healthy, String::new());
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
            whose = Some(tenant.id.clone());
            let (status, detail) = match self.store().head(&tenant.id).await {
                Ok(head) => (Status::Healthy, format!("{}: {} entries", tenant.id, head.size)),
                Err(error) => (Status::Unavailable, format!("{}: {error}", tenant.id)),
            };
            add(&whose, "audit ledger", "checkpoint", status, detail);
            for environment in tenant.state().environments.values() {
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
        whose = None;
        let status = if tenants.is_empty() { Status::Degraded } else { Status::Healthy };
        add(&whose, "enforcement runtime", "tenants", status, format!("{} loaded", tenants.len()));
        out
    }

    /// Whether requests can be served: the store takes writes.
    pub async fn ready(&self) -> bool {
        self.store().health().await.writable
    }
}
