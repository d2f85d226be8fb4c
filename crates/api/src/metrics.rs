//! `/metrics`, in the OpenMetrics text format for who asks for it, else in Prometheus' own.
//!
//! Without a credential nothing is said of any tenant: figures are sums over all of them, and what is
//! counted by environment is counted by `tier`, whose three words are the same for everyone. Who
//! brings a credential with `status:read` gets their tenant's own, by `environment`, which policy
//! version each of them decides by, and their breakers by name. What is the server's (the log, its
//! answers, the process) is the same for all.
//!
//! A store that does not answer takes away the figures that it would have given and no others: the page
//! is needed most when something is broken.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use intended_model::entry::Tier;
use intended_runtime::health::{CHECKS, Check};
use intended_runtime::metrics::{PHASES, Times};
use intended_runtime::{Principal, RuntimeError, Tenant};
use prometheus_client::registry::Registry;

use crate::{App, operate};

mod breakers;
mod collect;
mod encode;
mod plain;
mod process;

pub use plain::{CONTENT_TYPE as PLAIN, plain, wants_open_metrics};

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What halts are on.
const HALTS: [&str; 6] = ["tenant", "environment", "agent", "connector", "tool", "category"];

/// Everything on one page, read before it is written.
#[derive(Debug, Default)]
struct Snapshot {
    /// `environment` or `tier`.
    by: &'static str,
    decisions: BTreeMap<(String, &'static str, &'static str), u64>,
    phases: BTreeMap<String, [Times; PHASES.len()]>,
    decision_errors: Vec<(&'static str, u64)>,
    answers: [u64; crate::answers::CLASSES.len()],
    tokens_issued: u64,
    synthetic: Vec<(&'static str, u64)>,
    conflicts: u64,
    verifications: Vec<(&'static str, u64)>,
    append: Times,
    audit_lag: f64,
    ready: bool,
    /// By component: 0 healthy, 1 degraded, 2 unavailable.
    health: BTreeMap<&'static str, u64>,
    /// Tenants whose figures could not be read.
    unread: u64,
    staleness: f64,
    ledger_size: u64,
    checkpoint_age: f64,
    /// Of the tenant, of an environment, …
    halts: [u64; HALTS.len()],
    breakers: breakers::Counted,
    open: u64,
    escalation_age: f64,
    /// By environment or tier: the one that is due first.
    key_expiry: BTreeMap<String, f64>,
    policies: Vec<(String, String)>,
    /// By sink. Strangers get them as one.
    sinks: BTreeMap<String, Sink>,
    /// Spans exported and dropped, attempts that failed; where they are exported.
    traces: Option<[u64; 3]>,
    lines_dropped: u64,
    process: process::Process,
    started: f64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sink {
    lag_entries: u64,
    lag: f64,
    exported: u64,
    failures: u64,
}

/// What the store says of one tenant.
#[derive(Debug, Default)]
struct Read {
    ledger_size: u64,
    checkpoint_age: f64,
    open: u64,
    escalation_age: f64,
    sinks: Vec<(String, Sink)>,
    /// By environment or tier.
    key_expiry: Vec<(String, f64)>,
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds fit for many thousand years")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

/// For so long the page waits for how the server is; then it says how it was.
const HOW: std::time::Duration = std::time::Duration::from_millis(500);

/// How the server is: ready or not, and what health says of it.
#[derive(Debug, Clone, Default)]
pub struct How {
    ready: bool,
    checks: std::sync::Arc<[Check]>,
}

/// How it is, or was when that was last found out. A store that hangs holds up the looking, and goes on
/// being looked at; the page that tells of it does not wait.
async fn how(app: &App) -> How {
    let (runtime, kept) = (std::sync::Arc::clone(&app.runtime), std::sync::Arc::clone(&app.kept.how));
    let looking = tokio::spawn(async move {
        let ready = runtime.ready().await;
        // After that, so that a no was looked at again for both.
        let how = How { ready, checks: runtime.health_kept().await.into() };
        if let Ok(mut kept) = kept.lock() {
            *kept = how.clone();
        }
        how
    });
    match tokio::time::timeout(HOW, looking).await {
        Ok(Ok(how)) => how,
        _ => app.kept.how.lock().map(|kept| kept.clone()).unwrap_or_default(),
    }
}

/// The page for a caller, or for nobody in particular.
pub async fn page(app: &App, caller: Option<&Principal>) -> Result<String, RuntimeError> {
    let runtime = &app.runtime;
    let metrics = runtime.metrics();
    let own = |tenant: &Tenant| caller.is_none_or(|c| c.tenant.id == tenant.id);
    let tenants: Vec<_> = runtime.tenants().into_iter().filter(|t| own(t)).collect();
    let how = how(app).await;
    let mut page = Snapshot {
        by: if caller.is_some() { "environment" } else { "tier" },
        decision_errors: metrics.decision_errors().collect(),
        answers: app.answers.read(),
        tokens_issued: metrics.tokens_issued(),
        synthetic: metrics.synthetic().map(|(outcome, n)| (outcome.as_str(), n)).collect(),
        conflicts: metrics.conflicts(),
        verifications: metrics.verifications().collect(),
        append: metrics.append(),
        audit_lag: metrics.audit_lag().as_secs_f64(),
        ready: !app.draining.load(Ordering::Acquire) && how.ready,
        started: seconds(runtime.started().as_millis()),
        traces: app.traces.as_ref().map(|counts| counts.read()),
        lines_dropped: app.lines.read(),
        process: process::Process::read(),
        ..Snapshot::default()
    };
    page.add_health(&how.checks, caller);
    for tenant in &tenants {
        page.add_state(tenant, caller);
        page.staleness = page.staleness.max(runtime.staleness(tenant).as_secs_f64());
        match read(app, tenant, caller).await {
            Ok(read) => page.add(read),
            Err(error) => {
                tracing::warn!(tenant = %tenant.id, %error, "figures of a tenant are missing");
                page.unread += 1;
            }
        }
    }
    metrics.each(|tenant, environment, counted| {
        let Some(known) = tenants.iter().find(|t| t.id == *tenant) else { return };
        let label = match caller {
            Some(caller) if !caller.sees(environment) => return,
            Some(_) => environment.to_string(),
            None => {
                let tier = known.state().environments.get(environment).map(|e| e.tier);
                tier.map_or("unknown", Tier::as_str).to_owned()
            }
        };
        for (outcome, reason, n) in counted.decisions() {
            *page.decisions.entry((label.clone(), outcome.as_str(), reason.as_str())).or_default() += n;
        }
        let sums = page.phases.entry(label).or_default();
        for (sum, times) in sums.iter_mut().zip(&counted.phases()) {
            sum.add(times);
        }
    });
    let mut registry = Registry::default();
    registry.register_collector(Box::new(page));
    let mut out = String::new();
    prometheus_client::encoding::text::encode(&mut out, &registry).map_err(RuntimeError::internal)?;
    Ok(out)
}

/// What the store says of a tenant.
async fn read(app: &App, tenant: &Tenant, caller: Option<&Principal>) -> Result<Read, RuntimeError> {
    let runtime = &app.runtime;
    let mut out = Read {
        ledger_size: runtime.store().head(&tenant.id).await.map_err(RuntimeError::from)?.size,
        checkpoint_age: seconds(runtime.checkpoint_age(tenant).await?),
        open: runtime.open_escalations(tenant).await?,
        escalation_age: seconds(runtime.escalation_age(tenant).await?),
        ..Read::default()
    };
    for standing in runtime.siem(tenant).await? {
        let label = if caller.is_some() { standing.sink.spec.name.to_string() } else { "all".to_owned() };
        let sink = Sink {
            lag_entries: standing.lag_entries,
            lag: seconds(standing.lag_ms),
            exported: standing.progress.exported,
            failures: standing.progress.failures,
        };
        out.sinks.push((label, sink));
    }
    for environment in tenant.state().environments.values() {
        if caller.is_some_and(|c| !c.sees(&environment.id)) {
            continue;
        }
        let Some(due) = runtime.key_age(tenant, &environment.id).await?.and_then(|key| key.due) else { continue };
        let label = caller.map_or_else(|| environment.tier.as_str().to_owned(), |_| environment.id.to_string());
        out.key_expiry.push((label, seconds(due.millis_since(runtime.now()))));
    }
    Ok(out)
}

impl Snapshot {
    fn add(&mut self, read: Read) {
        self.ledger_size += read.ledger_size;
        self.checkpoint_age = self.checkpoint_age.max(read.checkpoint_age);
        self.open += read.open;
        self.escalation_age = self.escalation_age.max(read.escalation_age);
        for (label, of) in read.sinks {
            let sink = self.sinks.entry(label).or_default();
            sink.lag_entries += of.lag_entries;
            sink.lag = sink.lag.max(of.lag);
            sink.exported += of.exported;
            sink.failures += of.failures;
        }
        for (label, left) in read.key_expiry {
            let first = self.key_expiry.entry(label).or_insert(left);
            *first = first.min(left);
        }
    }

    /// How each component is: the worst of its checks that are the server's or the caller's own. For
    /// strangers the worst of any tenant, without saying whose: a ledger that was tampered with is
    /// known to who watches the server.
    fn add_health(&mut self, checks: &[Check], caller: Option<&Principal>) {
        self.health.extend(CHECKS.iter().map(|(component, _)| (*component, 0)));
        for check in checks.iter().filter(|c| caller.is_none_or(|by| operate::concerns(c, by))) {
            let level = self.health.entry(check.component).or_default();
            *level = check.status.level().max(*level);
        }
    }

    /// What is in memory of a tenant.
    fn add_state(&mut self, tenant: &Tenant, caller: Option<&Principal>) {
        let state = tenant.state();
        for halt in state.halts.values() {
            let kind = halt.on.as_ref().map(intended_model::emergency::HaltTarget::kind);
            let kind = kind.unwrap_or(if halt.environment.is_none() { "tenant" } else { "environment" });
            if let Some((_, n)) = HALTS.iter().zip(&mut self.halts).find(|(scope, _)| **scope == kind) {
                *n += 1;
            }
        }
        self.breakers.add(&state.breakers, caller);
        for environment in state.environments.values() {
            let named = caller.is_some_and(|c| c.sees(&environment.id));
            if let (true, Some(version)) = (named, &environment.deployed) {
                self.policies.push((environment.id.to_string(), format!("{} {}", version.pack, version.version)));
            }
        }
    }
}
