//! What stays open: an escalated or deferred intent, until it is answered or its time is over.
//! A timeout denies, and the denial is a ledger entry.

use intended_engine::keys;
use intended_model::entry::{BODY_VERSION, EscalationClosed};
use intended_model::{Code, Event, IntentId, Timestamp};
use intended_store::{Commit, StoreError, Write};

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
}

impl Runtime {
    /// Where an intent that was escalated or deferred stands now.
    pub fn standing(
        &self,
        principal: &Principal,
        record: &intended_model::decision::DecisionRecord,
    ) -> Result<Standing, RuntimeError> {
        let Some(expires_at) = record.decision.obligations.expires_at else { return Ok(Standing::Final) };
        let open = self.store().fact_now(&principal.tenant.id, &keys::open(&record.input.id))?.is_some();
        // Past its time it is denied, whether or not the sweep has written the entry yet.
        if open && self.now() < expires_at { Ok(Standing::Open { expires_at }) } else { Ok(Standing::TimedOut) }
    }

    /// Closes everything whose time is over, and takes in what others changed. Called by the shell
    /// every second; safe to call at any time and from several nodes: each closing is fenced by the
    /// fact that it removes.
    pub async fn close_overdue(&self) -> Result<usize, RuntimeError> {
        let mut closed = 0;
        for tenant in self.tenants() {
            if let Err(error) = self.follow(&tenant).await {
                tracing::warn!(tenant = %tenant.id, %error, "the state may not be current");
            }
            let mut after = String::new();
            loop {
                let page = self.store().facts(&tenant.id, keys::OPEN_PREFIX, &after, 1000).await?;
                let Some((last, _)) = page.last() else { break };
                after = last.to_string();
                for (key, fact) in page {
                    if self.close_one(&tenant, &key, &fact).await? {
                        closed += 1;
                    }
                }
            }
        }
        Ok(closed)
    }

    async fn close_one(&self, tenant: &Tenant, key: &str, fact: &intended_store::Fact) -> Result<bool, RuntimeError> {
        let now = self.now();
        let text = String::from_utf8_lossy(&fact.value);
        let expires_at = Timestamp::from_millis(text.parse().unwrap_or(0));
        if now < expires_at {
            return Ok(false);
        }
        let intent: IntentId = key
            .trim_start_matches(keys::OPEN_PREFIX)
            .parse()
            .map_err(|_| RuntimeError::internal("an open fact names no intent"))?;
        let entries = self.store().entries_of(&tenant.id, *intent.as_bytes()).await?;
        let record = entries.iter().find_map(|e| match crate::tenant::event_of(&e.leaf) {
            Ok(Event::Decision(record)) => Some(record),
            _ => None,
        });
        let record = record.ok_or_else(|| RuntimeError::internal("an open fact names an unknown intent"))?;
        let event = Event::EscalationClosed(EscalationClosed {
            environment: record.input.intent.environment,
            expires_at,
            intent,
            reason: Code::EscalationTimedOut,
            by: None,
            note: None,
            v: BODY_VERSION,
        });
        let commit = Commit {
            tenant: tenant.id.clone(),
            now,
            control_version: None,
            reads: vec![(key.into(), fact.version)],
            writes: vec![Write::Delete { key: key.into() }],
            entries: vec![entry_of(&event)?],
        };
        match self.append(commit).await {
            Ok(_) => Ok(true),
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
