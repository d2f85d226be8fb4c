//! A half-open breaker: what came of its probes, as the ledger says, and what follows from that. Read
//! from the ledger and not from memory, so that it is the same on every node and after a restart.
//!
//! Which intents were its probes a fact of each says, written with the decision. It is held against the
//! decision in the ledger, and all of them against the count that limits them; where they are not all
//! there, the ledger is read from where the breaker went half-open.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use intended_engine::breakers::{Breaker, Instance, Phase, Standing};
use intended_engine::keys;
use intended_ledger::Leaf;
use intended_model::entry::{
    ActionOutcome, BODY_VERSION, BreakerClosed, BreakerMeasure, BreakerMetric, BreakerOpened, BreakerProbing,
};
use intended_model::{Event, IntentId, Kind, Timestamp};
use intended_store::Write;

use crate::tenant::event_of;
use crate::{Runtime, RuntimeError, Tenant};

/// How many entries one read takes.
const PAGE: usize = 500;
/// More than there can be probes.
const MOST: usize = 2_000;

/// What was read so far.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Index of the next entry to read, where the ledger is read.
    next: u64,
    /// When the token of each probe ends, in seconds, and what came of it.
    probes: HashMap<IntentId, (i64, Option<ActionOutcome>)>,
}

/// What came of the probes.
struct Count {
    succeeded: u32,
    failed: u32,
    /// Of which nobody has said anything in time.
    over: u32,
}

impl Progress {
    fn take(&mut self, leaf: &[u8], key: &str) -> Result<(), RuntimeError> {
        let Ok(found) = Leaf::parse(leaf) else { return event_of(leaf).map(drop) };
        match Kind::parse(found.kind) {
            // Most decisions are nobody's probe: those are not read further.
            Some(Kind::Decision) if found.body.contains(key) => {
                if let Event::Decision(record) = event_of(leaf)?
                    && let Some(grant) = &record.grant
                    && record.input.counters.contains_key(key)
                {
                    self.probes.insert(record.input.id, (grant.exp, None));
                }
            }
            Some(Kind::IntentOutcome) => {
                if let Event::IntentOutcome(said) = event_of(leaf)?
                    && let Some((_, outcome)) = self.probes.get_mut(&said.intent)
                {
                    *outcome = Some(said.outcome);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn count(&self, now: Timestamp, timeout_secs: u32) -> Count {
        let mut count = Count { succeeded: 0, failed: 0, over: 0 };
        for (exp, outcome) in self.probes.values() {
            match outcome {
                Some(ActionOutcome::Succeeded) => count.succeeded += 1,
                Some(ActionOutcome::Failed | ActionOutcome::Unknown) => count.failed += 1,
                None if now.as_secs() > exp + i64::from(timeout_secs) => count.over += 1,
                None => {}
            }
        }
        count
    }
}

impl Runtime {
    /// Goes on with what is not closed: tries again what was open long enough, and closes or opens
    /// again by what came of the probes. Called by the shell every second, and safe at any time and
    /// from several nodes: each step is fenced by the state that it is made on.
    pub async fn tend_breakers(&self) {
        for tenant in self.tenants() {
            self.tend_breakers_of(&tenant).await;
            if let Err(error) = self.keep_windows(&tenant).await {
                tracing::warn!(tenant = %tenant.id, %error, "what breakers have seen was not written down");
            }
        }
    }

    pub(crate) async fn tend_breakers_of(&self, tenant: &Arc<Tenant>) {
        let mut tended = self.record_crossings(tenant).await;
        let state = tenant.state();
        for instance in state.breakers.standing.keys() {
            // What it sees while it is not closed counts for nothing when it is again.
            tenant.breakers.forget(&state, instance);
        }
        for instance in state.breakers.standing.keys() {
            tended = tended.and(self.tend_breaker(tenant, instance).await);
        }
        if let Err(error) = tended {
            tracing::warn!(tenant = %tenant.id, %error, "a breaker stays as it is for now");
        }
    }

    /// [`Self::tend_breakers`] for one. Decisions do not wait for it: what it reads can be much.
    pub(super) async fn tend_breaker(&self, tenant: &Arc<Tenant>, instance: &Instance) -> Result<(), RuntimeError> {
        let _one_at_a_time = tenant.breakers.tending.lock().await;
        for _ in 0..super::MAX_ATTEMPTS {
            let (state, now) = (tenant.state(), self.now());
            let breakers = &state.breakers;
            let Some((standing, breaker)) =
                breakers.standing.get(instance).zip(breakers.defined.get(&instance.breaker))
            else {
                return Ok(());
            };
            let (event, fence) = match standing.phase {
                Phase::Open if now < standing.retry_at => return Ok(()),
                Phase::Open => {
                    let event = Event::BreakerProbing(BreakerProbing {
                        at: now,
                        breaker: instance.breaker.clone(),
                        environment: breaker.environment.clone(),
                        target: instance.target.clone(),
                        v: BODY_VERSION,
                    });
                    (event, Default::default())
                }
                Phase::Probing { index } => {
                    let Some(key) = breakers.probes_of(instance) else { return Ok(()) };
                    // Before anything is read: what comes after this is not in what is read, perhaps.
                    let Some(fact) = self.store().fact_now(&tenant.id, &key)? else { return Ok(()) };
                    let through = self.store().counter_now(&tenant.id, &key)?;
                    let progress = self.progress(tenant, &key, index, through).await?;
                    let named = progress.probes.keys();
                    let gone = named.map(|id| Write::Delete { key: keys::probe(&key, id).into() }).collect();
                    match settled(&progress, standing, breaker, instance, now) {
                        Some(event) => (event, (vec![(key.into(), fact.version)], gone)),
                        None => return Ok(()),
                    }
                }
            };
            if self.record_transition(tenant, &state, now, &event, fence).await? {
                self.settled_probes(tenant, &event);
                return Ok(());
            }
        }
        Err(intended_model::Code::ConflictExhausted.into())
    }

    /// What the ledger says of a half-open breaker's probes, of which so many were let `through`.
    async fn progress(
        &self,
        tenant: &Arc<Tenant>,
        key: &str,
        index: u64,
        through: i64,
    ) -> Result<Progress, RuntimeError> {
        let kept = || tenant.breakers.probing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut progress = kept().get(key).cloned().unwrap_or_default();
        let prefix = keys::probes_of(key);
        for (name, _) in self.store().facts(&tenant.id, &prefix, "", MOST).await? {
            let Some(Ok(id)) = name.strip_prefix(&prefix).map(str::parse::<IntentId>) else { continue };
            let known = progress.probes.get(&id);
            let news = match known {
                Some((_, Some(_))) => false,
                Some((_, None)) => self.store().fact_now(&tenant.id, &keys::outcome(&id))?.is_some(),
                None => true,
            };
            if news {
                for entry in self.store().entries_of(&tenant.id, *id.as_bytes()).await? {
                    progress.take(&entry.leaf, key)?;
                }
            }
        }
        if i64::try_from(progress.probes.len()).unwrap_or(i64::MAX) < through {
            self.read_probes(tenant, &mut progress, key, index).await?;
        }
        kept().insert(key.to_owned(), progress.clone());
        Ok(progress)
    }

    /// Reads the ledger on, from where the breaker went half-open.
    async fn read_probes(
        &self,
        tenant: &Arc<Tenant>,
        progress: &mut Progress,
        key: &str,
        index: u64,
    ) -> Result<(), RuntimeError> {
        progress.next = progress.next.max(index + 1);
        loop {
            let page = self.store().entries(&tenant.id, progress.next, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            progress.next = last.index + 1;
            for entry in &page {
                progress.take(&entry.leaf, key)?;
            }
            // Reading a page takes a while: others come in between.
            tokio::task::yield_now().await;
        }
    }

    fn settled_probes(&self, tenant: &Arc<Tenant>, event: &Event) {
        let state = tenant.state();
        if let Event::BreakerClosed(e) = event {
            let instance = Instance { breaker: e.breaker.clone(), target: e.target.clone() };
            tenant.breakers.forget(&state, &instance);
        }
        let open: Vec<String> = state.breakers.standing.keys().filter_map(|i| state.breakers.probes_of(i)).collect();
        tenant.breakers.probing.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| open.contains(key));
    }
}

fn settled(
    progress: &Progress,
    standing: &Standing,
    breaker: &Breaker,
    instance: &Instance,
    now: Timestamp,
) -> Option<Event> {
    let rules = &breaker.rules;
    let Count { succeeded, failed, over } = progress.count(now, rules.probe_timeout_secs);
    // Nobody having said anything is a failure where what they say is what it goes by.
    let (failed, unreported) = if standing.cause.is_about_outcomes() { (failed + over, 0) } else { (failed, over) };
    let (name, environment, target) = (instance.breaker.clone(), breaker.environment.clone(), instance.target.clone());
    if failed > 0 {
        return Some(Event::BreakerOpened(BreakerOpened {
            at: now,
            breaker: name,
            environment,
            measured: BreakerMeasure {
                calls: progress.probes.len() as u64,
                metric: BreakerMetric::Probes,
                threshold: 1,
                value: failed.into(),
                window: rules.window,
            },
            retry_at: now.plus_secs(rules.open_secs.into()),
            target,
            v: BODY_VERSION,
        }));
    }
    let closed = BreakerClosed { at: now, breaker: name, environment, succeeded, target, unreported, v: BODY_VERSION };
    (succeeded + unreported >= rules.successes).then_some(Event::BreakerClosed(closed))
}
