//! After a restart: windows as they were written down, and what the ledger says since.

use std::collections::HashMap;
use std::sync::Arc;

use intended_engine::breakers::{Instance, defaults};
use intended_model::decision::Classification;
use intended_model::entry::BreakerDefaults;
use intended_model::{Event, Intent, IntentId, Name, Timestamp, Value};

use super::Monitor;
use crate::tenant::event_of;
use crate::{Runtime, RuntimeError, Tenant};

/// Most entries that are read again when a tenant is loaded. What was seen earlier is written down.
pub const MAX_RECALLED: u64 = 100_000;
const PAGE: usize = 500;

type Permitted = HashMap<IntentId, (Intent, Classification)>;

impl Runtime {
    /// Fills the windows of a tenant that was just loaded.
    pub(crate) async fn recall_breakers(&self, tenant: &Arc<Tenant>) -> Result<(), RuntimeError> {
        let state = tenant.state();
        let reach = self.now().plus_millis(-Monitor::reach(&state));
        let kept = self.recall_windows(tenant, &state).await?.map_or(reach, Timestamp::from_millis);
        let mut from = self.recall_from(tenant, reach.max(kept)).await?;
        let mut permitted = Permitted::new();
        loop {
            let page = self.store().entries(&tenant.id, from, PAGE).await?;
            let Some(last) = page.last() else { break };
            from = last.index + 1;
            for entry in &page {
                self.recall_event(tenant, event_of(&entry.leaf)?, entry.at, &mut permitted).await?;
            }
        }
        for instance in state.breakers.standing.keys() {
            tenant.breakers.forget(&state, instance);
        }
        tenant.breakers.calm();
        tenant.breakers.look(&state, self.now());
        Ok(())
    }

    /// The first entry that is not before a time, of the last that are read.
    async fn recall_from(&self, tenant: &Tenant, since: Timestamp) -> Result<u64, RuntimeError> {
        let size = self.store().head(&tenant.id).await?.size;
        let first = size.saturating_sub(self.recalled);
        let (mut from, mut to) = (first, size);
        // Times never go backwards in a ledger.
        while from < to {
            let middle = from + (to - from) / 2;
            match self.store().entry(&tenant.id, middle).await? {
                Some(entry) if entry.at < since => from = middle + 1,
                _ => to = middle,
            }
        }
        if from == first && first > 0 && self.store().entry(&tenant.id, first - 1).await?.is_some_and(|e| e.at >= since)
        {
            tracing::warn!(
                tenant = %tenant.id, entries = size - first,
                "breakers go by the last entries only: what was seen before them was not written down"
            );
        }
        Ok(from)
    }

    async fn recall_event(
        &self,
        tenant: &Arc<Tenant>,
        event: Event,
        at: Timestamp,
        permitted: &mut Permitted,
    ) -> Result<(), RuntimeError> {
        let state = tenant.state();
        // From then on it began anew.
        let anew = |breaker: Name, target| tenant.breakers.forget(&state, &Instance { breaker, target });
        match event {
            // The self-test is nobody's doing.
            Event::Decision(record) if record.input.class.is_synthetic() => {}
            Event::Decision(record) => {
                tenant.decided(&record, at);
                if record.grant.is_some() {
                    let mut intent = record.input.intent;
                    intent.action.properties = Value::Null;
                    permitted.insert(record.input.id, (intent, record.input.classification));
                }
            }
            Event::IntentOutcome(said) => {
                let known = match permitted.remove(&said.intent) {
                    Some(known) => Some(known),
                    None => self
                        .granted_of(tenant, &said.intent)
                        .await?
                        .map(|(record, _)| (record.input.intent, record.input.classification)),
                };
                if let Some((intent, classification)) = &known {
                    tenant.reported((intent, classification), &said, at);
                }
            }
            Event::BreakerOpened(e) => anew(e.breaker, e.target),
            Event::BreakerClosed(e) => anew(e.breaker, e.target),
            Event::BreakerSet(e) => anew(e.breaker, None),
            Event::EnvironmentSet(e) if e.settings.breakers == BreakerDefaults::None => {
                let explicit = |name: &Name| state.breakers.defined.get(name).is_some_and(|b| b.explicit);
                let own = defaults(&e.environment).into_iter().map(|(name, _)| name);
                own.filter(|name| !explicit(name)).for_each(|name| anew(name, None));
            }
            _ => {}
        }
        Ok(())
    }
}
