//! What tries each capability. There is no other way to a row than through [`probe`], which names every
//! capability: a claim without a probe does not compile.

use std::sync::Arc;

use intended_engine::{Environment, State, expect};
use intended_model::decision::{Decision, Gate, GateName, Input};
use intended_model::{CredentialId, EnvironmentId, Intent, Name, Timestamp};
use intended_store::Commit;

use super::{Ask, Capability, EdgeProbe, Probed};
use crate::{Runtime, RuntimeError, Tenant};

mod access;
mod approvals;
mod breakers;
mod copies;
mod decide;
mod emergency;
mod investigate;
mod keys;
mod ledger;
mod policy;
mod send;
mod store;
mod tokens;
mod watching;

/// Tries a capability.
pub(super) async fn probe(capability: Capability, ask: &Ask) -> Probed {
    match capability {
        Capability::Gates => decide::gates(ask).await,
        Capability::Catalogue => decide::catalogue(ask).await,
        Capability::Fence => store::fence(ask).await,
        Capability::Idempotency => store::idempotency(ask).await,
        Capability::Budgets => store::budgets(ask).await,
        Capability::RateLimit => decide::rate_limit(ask),
        Capability::AuthZen => ask.edge.probe(EdgeProbe::AuthZen, ask.by.clone()).await,
        Capability::Clock => decide::clock(ask).await,
        Capability::Signing => tokens::signing(ask).await,
        Capability::Verification => tokens::verification(ask).await,
        Capability::SingleUse => store::single_use(ask).await,
        Capability::RevocationList => tokens::revocation_list(ask).await,
        Capability::KeysAtRest => tokens::keys_at_rest(ask).await,
        Capability::KeyRotation => keys::rotation(ask).await,
        Capability::SelfTest => decide::self_test(ask).await,
        Capability::Inclusion => ledger::inclusion(ask).await,
        Capability::Consistency => ledger::consistency(ask).await,
        Capability::Receipts => ledger::receipts(ask).await,
        Capability::Replay => ledger::replay(ask).await,
        Capability::OfflineVerify => ledger::offline_verify(ask).await,
        Capability::Deployed => policy::deployed(ask).await,
        Capability::Index => policy::index(ask).await,
        Capability::PolicyTests => policy::tests(ask).await,
        Capability::Lifecycle => policy::lifecycle(ask).await,
        Capability::Rollback => policy::rollback(ask).await,
        Capability::Quorum => approvals::quorum(ask).await,
        Capability::Approvers => approvals::approvers(ask).await,
        Capability::Timeouts => approvals::timeouts(ask).await,
        Capability::Halts => emergency::halts(ask).await,
        Capability::HaltedTokens => emergency::halted_tokens(ask).await,
        Capability::HaltOffline => emergency::halt_offline(ask).await,
        Capability::HaltReach => emergency::halt_reach(ask).await,
        Capability::Resume => emergency::resume(ask).await,
        Capability::BulkRevocation => emergency::bulk_revocation(ask).await,
        Capability::BreakGlass => emergency::break_glass(ask),
        Capability::Drills => emergency::drills(ask),
        Capability::Breakers => breakers::automatic(ask).await,
        Capability::Holds => breakers::holds(ask).await,
        Capability::Outcomes => investigate::outcomes(ask).await,
        Capability::ApiKeys => access::api_keys(ask),
        Capability::BoundKeys => keys::bound(ask).await,
        Capability::Lockout => access::lockout(ask),
        Capability::Passwords => access::passwords(ask).await,
        Capability::Authenticators => access::authenticators(ask),
        Capability::IdentityProviders => access::identity_providers(ask).await,
        Capability::AccessReview => access::review(ask),
        Capability::Query => investigate::query(ask).await,
        Capability::Explain => investigate::explain(ask).await,
        Capability::Incidents => investigate::incidents(ask).await,
        Capability::Evidence => investigate::evidence(ask),
        Capability::Webhooks => send::webhooks(ask),
        Capability::Siem => send::siem(ask).await,
        Capability::SiemFormats => send::formats(ask).await,
        Capability::Health => watching::health(ask).await,
        Capability::Nodes => watching::nodes(ask).await,
        Capability::Readiness => watching::readiness(ask).await,
        Capability::Status => ask.edge.probe(EdgeProbe::Status, ask.by.clone()).await,
        Capability::Metrics => ask.edge.probe(EdgeProbe::Metrics, ask.by.clone()).await,
        Capability::Alerts => ask.edge.probe(EdgeProbe::Alerts, ask.by.clone()).await,
        Capability::Logs => ask.edge.probe(EdgeProbe::Logs, ask.by.clone()).await,
        Capability::Traces => ask.edge.probe(EdgeProbe::Traces, ask.by.clone()).await,
        Capability::OpenApi => ask.edge.probe(EdgeProbe::OpenApi, ask.by.clone()).await,
        Capability::DurableWrites => store::durable_writes(ask).await,
        Capability::Sqlite => store::engine(ask, "SQLite").await,
        Capability::Postgres => store::engine(ask, "PostgreSQL").await,
        Capability::Restore => copies::restore(ask).await,
        Capability::KeptCheckpoints => copies::kept(ask).await,
    }
}

impl Ask {
    fn tenant(&self) -> &Arc<Tenant> {
        &self.by.tenant
    }
    fn state(&self) -> Arc<State> {
        self.by.tenant.state()
    }
    fn now(&self) -> Timestamp {
        self.runtime.now()
    }
    fn runtime(&self) -> &Runtime {
        &self.runtime
    }
    /// The environments that the caller sees.
    fn environments<'s>(&'s self, state: &'s State) -> impl Iterator<Item = &'s Environment> {
        state.environments.values().filter(|e| self.by.sees(&e.id))
    }
    /// The first of them.
    fn environment(&self, state: &State) -> Option<EnvironmentId> {
        self.environments(state).next().map(|e| e.id.clone())
    }
    /// Works on a thread that may block, on the live state.
    async fn aside(&self, work: impl FnOnce(&Self, &State) -> Probed + Send + 'static) -> Probed {
        let (ask, state) = (self.clone(), self.state());
        tokio::task::spawn_blocking(move || work(&ask, &state)).await.map_err(RuntimeError::internal)?
    }
    /// A commit without entries: it changes no ledger and no state.
    fn facts(&self, reads: Vec<(Box<str>, u64)>, writes: Vec<intended_store::Write>) -> Commit {
        Commit {
            tenant: self.tenant().id.clone(),
            now: self.now(),
            control_version: None,
            reads,
            writes,
            entries: Vec::new(),
        }
    }
}

/// What is made up is called so. Nothing of a tenant's has it, and nothing of it is ever committed.
const MADE_UP: &str = "capability-probe";

fn credential() -> Result<CredentialId, RuntimeError> {
    CredentialId::new(MADE_UP).map_err(RuntimeError::internal)
}
fn name(text: &str) -> Result<Name, RuntimeError> {
    Name::new(text).map_err(RuntimeError::internal)
}

/// A decision that nobody asked for, as an input.
fn input(
    state: &State,
    environment: &EnvironmentId,
    agent: &str,
    tool: &str,
    at: Timestamp,
) -> Result<Input, RuntimeError> {
    let text = serde_json::json!({
        "subject": {"type": "agent", "id": agent}, "action": {"name": tool},
        "resource": {"type": MADE_UP, "id": MADE_UP}, "environment": environment.as_str(),
    });
    let value = intended_model::json::parse(text.to_string().as_bytes())?;
    let intent = Intent::from_value(&value, None, false)?;
    Ok(expect::input(state, intent, credential()?, at))
}

fn gate(decision: &Decision, name: GateName) -> Option<&Gate> {
    decision.gates.iter().find(|g| g.gate == name)
}

/// Two known tools of different target systems and domains.
fn two_tools(state: &State) -> Option<[(String, String); 2]> {
    let of = |tool: &str| intended_model::emergency::connector_of(tool).map(|c| c.into_owned());
    let (first, kind, _) = state.catalogue.tools().find(|(tool, ..)| of(tool).is_some())?;
    let domain = |category: &str| intended_intents::domain_of(category);
    let (second, other, _) =
        state.catalogue.tools().find(|(t, c, _)| of(t).is_some() && of(t) != of(first) && domain(c) != domain(kind))?;
    Some([(first.to_owned(), kind.to_owned()), (second.to_owned(), other.to_owned())])
}

/// `production` or `production, staging`; of many the first few.
fn listed(names: &[String]) -> String {
    const MOST: usize = 3;
    let shown = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// `1 environment`, `2 environments`.
fn count(n: usize, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}
