//! What works and what does not. Each line measures something; nothing is `healthy` by default.
//!
//! * [`gateway`](mod@gateway): who is let in · `policy`: what decides · `tokens`: what signs
//! * `ledger`: what is recorded · `storage`: where · `enforcement`: time, state, and what runs by itself
//! * [`loops`]: loops say that they go on; `changes`: what is said in the log
//! * `probes`: what costs something is measured once for all who ask
//!
//! A check that is not healthy says what to do. That text is fixed: it names nothing of any tenant, and
//! leads to the check's section in `docs/health.md`.

use intended_model::{EnvironmentId, TenantId};

use crate::Runtime;

mod changes;
mod enforcement;
pub mod gateway;
mod ledger;
pub mod loops;
mod policy;
mod probes;
mod root;
mod storage;
mod tokens;

pub(crate) use changes::Known;
pub use gateway::Door;
pub use loops::{Loops, Pulse};
pub(crate) use probes::Probes;
pub(crate) use root::{Found, Root};

/// `healthy`, `degraded` or `unavailable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    Healthy,
    Degraded,
    Unavailable,
}

impl Status {
    /// As a figure: the higher, the worse.
    #[must_use]
    pub const fn level(self) -> u64 {
        match self {
            Self::Healthy => 0,
            Self::Degraded => 1,
            Self::Unavailable => 2,
        }
    }
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
        }
    }
}

pub const GATEWAY: &str = "gateway";
pub const POLICY: &str = "policy engine";
pub const TOKENS: &str = "token service";
pub const LEDGER: &str = "audit ledger";
pub const STORE: &str = "store";
/// The check that counts them.
pub const TENANTS: &str = "tenants";
pub const ENFORCEMENT: &str = "enforcement runtime";

/// Every check by component, in the order in which they are shown. Each has a section in
/// `docs/health.md`.
pub const CHECKS: &[(&str, &[&str])] = &[
    (GATEWAY, &["workers", "connections", "draining"]),
    (POLICY, &["policy version", "names", "evaluation"]),
    (TOKENS, &["signing key", "signature", "sealed keys", "root key", "key age"]),
    (LEDGER, &["checkpoint", "entries", "verification", "time", "siem"]),
    (STORE, &["writable", "latency", "disk", "size", "log"]),
    (ENFORCEMENT, &["clock", TENANTS, "state", "housekeeping", "nodes"]),
];

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
    /// What to do; empty while it is healthy. The same for everyone, so it names nothing of a tenant.
    pub todo: &'static str,
}

impl Check {
    /// Where the documentation tells of it.
    #[must_use]
    pub fn see(&self) -> String {
        format!("docs/health.md#{}", self.check.replace(' ', "-"))
    }
    fn place(&self) -> Option<(usize, usize)> {
        let component = CHECKS.iter().position(|(c, _)| *c == self.component)?;
        let (_, checks) = CHECKS.get(component)?;
        Some((component, checks.iter().position(|c| *c == self.check)?))
    }
}

/// What a check found.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    status: Status,
    detail: String,
    todo: &'static str,
}

pub(crate) fn healthy(detail: impl Into<String>) -> Finding {
    Finding { status: Status::Healthy, detail: detail.into(), todo: "" }
}
pub(crate) fn degraded(detail: impl Into<String>, todo: &'static str) -> Finding {
    Finding { status: Status::Degraded, detail: detail.into(), todo }
}
pub(crate) fn unavailable(detail: impl Into<String>, todo: &'static str) -> Finding {
    Finding { status: Status::Unavailable, detail: detail.into(), todo }
}

impl Finding {
    /// The same, about a thing by its name.
    fn of(self, what: impl std::fmt::Display) -> Self {
        let detail = if self.detail.is_empty() { what.to_string() } else { format!("{what}: {}", self.detail) };
        Self { detail, ..self }
    }
}

/// Checks as they are made: whose, then one by one.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    checks: Vec<Check>,
    tenant: Option<TenantId>,
    environment: Option<EnvironmentId>,
}

impl Sheet {
    /// From here on, whose they are.
    fn about(&mut self, tenant: Option<&TenantId>, environment: Option<&EnvironmentId>) {
        self.tenant = tenant.cloned();
        self.environment = environment.cloned();
    }
    fn add(&mut self, component: &'static str, check: &'static str, found: Finding) {
        let Finding { status, detail, todo } = found;
        let (tenant, environment) = (self.tenant.clone(), self.environment.clone());
        self.checks.push(Check { tenant, environment, component, check, status, detail, todo });
    }
}

/// What `/readyz` says.
#[derive(Debug, Clone)]
pub struct Readiness {
    pub ready: bool,
    /// By component: whether it can do its part of a decision, and what to do when it cannot.
    pub parts: Vec<Part>,
}

/// One component's part. It names nothing of any tenant.
#[derive(Debug, Clone)]
pub struct Part {
    pub component: &'static str,
    /// Which check says no.
    pub failed: Option<&'static str>,
    pub todo: &'static str,
}

/// What a component cannot be without, to decide anything at all.
const NEEDED: &[(&str, &[&str])] = &[
    (GATEWAY, &["draining"]),
    (POLICY, &["evaluation"]),
    (TOKENS, &["signing key", "signature"]),
    (LEDGER, &["checkpoint"]),
    (STORE, &["writable"]),
    (ENFORCEMENT, &["state"]),
];

impl Runtime {
    /// Runs every check. What costs something was measured at most a second ago, or as long ago as ten
    /// times what measuring it took.
    pub async fn health(&self) -> Vec<Check> {
        self.checks(probes::FRESH, true).await
    }

    /// [`Self::health`] for whoever asks all the time: as was measured within the last half minute.
    pub async fn health_kept(&self) -> Vec<Check> {
        self.checks(probes::ROUND, true).await
    }

    async fn checks(&self, fresh: std::time::Duration, workers: bool) -> Vec<Check> {
        let mut sheet = Sheet::default();
        self.check_gateway(&mut sheet, workers).await;
        let measured = self.measured(fresh).await;
        self.check_store(&mut sheet, &measured).await;
        self.check_clock(&mut sheet);
        self.check_tenants(&mut sheet, &measured);
        self.check_loops(&mut sheet);
        self.check_root(&mut sheet);
        for tenant in self.tenants() {
            sheet.about(Some(&tenant.id), None);
            self.check_verification(&mut sheet, &tenant);
            self.check_siem(&mut sheet, &tenant).await;
            for environment in tenant.state().environments.values() {
                sheet.about(Some(&tenant.id), Some(&environment.id));
                Self::check_key(&mut sheet, &tenant, environment);
                Self::check_version(&mut sheet, &tenant, environment);
            }
        }
        let mut checks = sheet.checks;
        checks.extend(measured.checks.iter().cloned());
        checks.sort_by_key(Check::place);
        changes::say(&self.known.note(measured.number, &checks));
        checks
    }

    /// Whether anything can be decided. Not for one tenant: one whose key is gone does not take the
    /// node away from the others. What costs something may have been measured half a minute ago, so
    /// that whoever asks often is answered at once; but a no is looked at again.
    pub async fn readiness(&self) -> Readiness {
        let said = readiness_of(&self.checks(probes::ROUND, false).await);
        if said.ready { said } else { readiness_of(&self.checks(probes::FRESH, false).await) }
    }

    /// [`Self::readiness`] in one word.
    pub async fn ready(&self) -> bool {
        self.readiness().await.ready
    }

    /// Whether the store says that it takes writes. Nothing is tried.
    pub async fn writable(&self) -> bool {
        self.store().health().await.writable
    }
}

fn readiness_of(checks: &[Check]) -> Readiness {
    let mut parts = Vec::new();
    for (component, needed) in NEEDED {
        let mut of: Vec<&Check> =
            checks.iter().filter(|c| c.component == *component && needed.contains(&c.check)).collect();
        // Of a tenant's environments it takes one that has everything.
        of.sort_by_key(|c| (c.tenant.clone(), c.environment.clone()));
        let groups = of.chunk_by(|a, b| (&a.tenant, &a.environment) == (&b.tenant, &b.environment));
        let fails = |group: &[&Check]| group.iter().find(|c| c.status == Status::Unavailable).copied().cloned();
        let failed: Vec<Option<Check>> = groups.map(fails).collect();
        let failed = if failed.iter().any(Option::is_none) { None } else { failed.into_iter().flatten().next() };
        let todo = failed.as_ref().map_or("", |c| c.todo);
        parts.push(Part { component, failed: failed.map(|c| c.check), todo });
    }
    Readiness { ready: parts.iter().all(|p| p.failed.is_none()), parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tenant: &str, environment: &str, component: &'static str, check: &'static str, status: Status) -> Check {
        let tenant = Some(TenantId::new(tenant).unwrap());
        let environment = Some(EnvironmentId::new(environment).unwrap());
        Check { tenant, environment, component, check, status, detail: String::new(), todo: "do" }
    }

    #[test]
    fn a_node_is_ready_while_one_environment_of_one_tenant_has_all_that_it_takes() {
        use Status::{Healthy, Unavailable};
        let signs = |tenant, environment, status| check(tenant, environment, TOKENS, "signature", status);
        let some = [signs("acme", "production", Unavailable), signs("globex", "production", Healthy)];
        assert!(readiness_of(&some).ready);
        let none = [signs("acme", "production", Unavailable), signs("globex", "production", Unavailable)];
        let said = readiness_of(&none);
        let part = said.parts.iter().find(|p| p.component == TOKENS).unwrap();
        assert!(!said.ready && part.failed == Some("signature") && part.todo == "do");
        // A key here and a signature there is not one that signs.
        let half = [
            signs("acme", "production", Unavailable),
            check("acme", "production", TOKENS, "signing key", Healthy),
            signs("acme", "staging", Healthy),
            check("acme", "staging", TOKENS, "signing key", Unavailable),
        ];
        assert!(!readiness_of(&half).ready);
        assert!(readiness_of(&[]).ready, "a server without tenants takes the first one");
    }
}
