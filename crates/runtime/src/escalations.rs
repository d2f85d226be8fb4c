//! What stays open: an escalated or deferred intent, until it is answered or its time is over.
//! A timeout denies, and the denial is a ledger entry.

use std::sync::Arc;

use intended_engine::keys;
use intended_model::entry::{BODY_VERSION, EscalationClosed};
use intended_model::{Code, Event, IntentId, Timestamp};
use intended_store::{Commit, Fact, StoreError, Write};

use crate::admin::entry_of;
use crate::{Principal, Runtime, RuntimeError, Tenant};

/// How long a fact outlives its expiry.
const PURGE_MARGIN_MS: i64 = 3_600_000;

/// Where an intent stands after its decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Decided for good.
    Final,
    /// Waiting until then.
    Open { expires_at: Timestamp },
    /// Nobody answered in time: denied.
    TimedOut,
    /// Somebody denied it.
    Denied,
}

impl Runtime {
    /// Where an intent that was escalated or deferred stands now.
    pub async fn standing(
        &self,
        principal: &Principal,
        record: &intended_model::decision::DecisionRecord,
    ) -> Result<Standing, RuntimeError> {
        let Some(expires_at) = record.decision.obligations.expires_at else { return Ok(Standing::Final) };
        let open = self.store().fact_now(&principal.tenant.id, &keys::open(&record.input.id))?.is_some();
        // Past its time it is denied, whether or not the sweep has written the entry yet.
        if open && self.now() < expires_at {
            return Ok(Standing::Open { expires_at });
        }
        let entries = self.store().entries_of(&principal.tenant.id, *record.input.id.as_bytes()).await?;
        let denied = entries
            .iter()
            .rev()
            .any(|e| matches!(crate::tenant::event_of(&e.leaf), Ok(Event::EscalationClosed(c)) if c.by.is_some()));
        Ok(if denied { Standing::Denied } else { Standing::TimedOut })
    }

    /// Closes everything whose time is over, and takes in what others changed. Called by the shell
    /// every second; safe to call at any time and from several nodes: each closing is fenced by the
    /// fact that it removes.
    pub async fn close_overdue(&self) -> Result<usize, RuntimeError> {
        let mut closed = 0;
        for tenant in self.tenants() {
            closed += self.close_overdue_of(&tenant).await?;
        }
        Ok(closed)
    }

    pub(crate) async fn close_overdue_of(&self, tenant: &Arc<Tenant>) -> Result<usize, RuntimeError> {
        if let Err(error) = self.follow(tenant).await {
            tracing::warn!(tenant = %tenant.id, %error, "the state may not be current");
        }
        let (mut closed, mut after) = (0, String::new());
        loop {
            let page = self.store().facts(&tenant.id, keys::OPEN_PREFIX, &after, 1000).await?;
            let Some((last, _)) = page.last() else { return Ok(closed) };
            after = last.to_string();
            for (key, fact) in page {
                match self.see_to(tenant, &key, &fact).await {
                    Ok(true) => closed += 1,
                    Ok(false) => {}
                    // One that cannot be dealt with keeps none of the others waiting.
                    Err(error) => tracing::warn!(tenant = %tenant.id, %key, %error, "it stays open"),
                }
            }
        }
    }

    /// Closes what is overdue, and decides again what is due; whether it was closed.
    async fn see_to(&self, tenant: &Arc<Tenant>, key: &str, fact: &Fact) -> Result<bool, RuntimeError> {
        let text = String::from_utf8_lossy(&fact.value);
        let expires_at = Timestamp::from_millis(text.parse().unwrap_or(0));
        let intent: IntentId = key
            .trim_start_matches(keys::OPEN_PREFIX)
            .parse()
            .map_err(|_| RuntimeError::internal("an open fact names no intent"))?;
        if self.now() < expires_at {
            self.decide_due(tenant, &intent).await?;
            return Ok(false);
        }
        let Some(open) = self.open_intent(tenant, &intent).await? else { return Ok(false) };
        let environment = open.record.input.intent.environment.clone();
        let event = Event::EscalationClosed(EscalationClosed {
            environment,
            expires_at,
            intent,
            reason: Code::EscalationTimedOut,
            by: None,
            note: None,
            v: BODY_VERSION,
        });
        let mut reads = vec![(key.into(), fact.version)];
        let mut writes = vec![Write::Delete { key: key.into() }];
        if let Some((read, write)) = self.leaves_session(tenant, &open)? {
            reads.push(read);
            writes.push(write);
        }
        let commit = Commit {
            tenant: tenant.id.clone(),
            now: self.now(),
            control_version: None,
            reads,
            writes,
            entries: vec![entry_of(&event)?],
        };
        match self.append(commit).await {
            Ok(_) => {
                self.wake();
                self.settle_session(tenant, &open.record.input.intent).await?;
                Ok(true)
            }
            Err(StoreError::Conflict(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes facts past their time. The ledger keeps what they said. Not at once: a decision that
    /// is under way may still need what has just expired. And not beyond what a ledger says: after a
    /// crash with a clock that was set back, time goes on from there, and a token whose use was
    /// forgotten must not be valid again.
    pub async fn purge(&self) -> Result<(), RuntimeError> {
        let recorded = self.recorded_time().min(self.now());
        self.store().purge_expired(recorded.plus_millis(-PURGE_MARGIN_MS)).await?;
        Ok(())
    }
}
