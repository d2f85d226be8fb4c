//! A decision on its way into the ledger, and what is counted of it.
//!
//! From the commit on it exists, whether or not anybody still waits for the answer: a caller that hangs
//! up right then has its decision, and gets the token when it asks again. So everything that goes by
//! decisions (breakers, metrics, who was seen where) is told by the task that commits, which nobody who
//! asks can end.

use std::sync::Arc;

use intended_model::IntentId;
use intended_model::decision::DecisionRecord;
use intended_store::{Commit, Committed, StoreError, Write};
use tokio::task::JoinHandle;

use crate::submit::{DEADLINE_MS, IDEMPOTENCY_TTL_MS, answer_of};
use crate::{Runtime, Tenant};

/// What came of a commit, with the decision, which went along.
pub(crate) type Came = (DecisionRecord, Result<Committed, StoreError>);

impl Runtime {
    /// Commits a decision and takes it in. With `once`, the fact of an idempotency key, it can be asked for
    /// again: where it took too long, that is noted, and a decision whose first answer was no token has
    /// none later either.
    ///
    /// It is on its way when this returns; whoever lets go of it does not learn what came of it.
    #[must_use]
    pub(crate) fn commit_decision(
        &self,
        tenant: &Arc<Tenant>,
        record: DecisionRecord,
        commit: Commit,
        once: Option<&str>,
    ) -> JoinHandle<Came> {
        let (follower, clock) = (self.follower.clone(), Arc::clone(&self.clock));
        let (metrics, tenant, once) = (Arc::clone(&self.metrics), Arc::clone(tenant), once.map(Box::<str>::from));
        tokio::spawn(async move {
            let committed = follower.commit_here(commit).await;
            let Ok(Committed { recorded_at, .. }) = &committed else { return (record, committed) };
            // The self-test is nobody's doing: it is counted as what it is, and as nothing else.
            if record.input.class.is_synthetic() {
                metrics.tested(record.decision.decision);
            } else {
                tenant.activity.decided(&record);
                metrics.decided(&tenant.id, &record);
                tenant.decided(&record, *recorded_at);
            }
            let now = clock.now().max(*recorded_at);
            if let Some(key) = once.filter(|_| now.millis_since(record.input.at) > DEADLINE_MS) {
                let note = late(&tenant, record.input.id, key, &record, now);
                if let Err(error) = follower.commit_here(note).await {
                    tracing::warn!(intent = %record.input.id, %error, "it could not be noted that a decision was late");
                }
            }
            (record, committed)
        })
    }
}

fn late(
    tenant: &Tenant,
    id: IntentId,
    key: Box<str>,
    record: &DecisionRecord,
    now: intended_model::Timestamp,
) -> Commit {
    let expires_at = Some(record.input.at.plus_millis(IDEMPOTENCY_TTL_MS));
    let late = Write::Put { key, value: answer_of(id, true), expires_at };
    let (reads, writes, entries) = (Vec::new(), vec![late], Vec::new());
    Commit { tenant: tenant.id.clone(), now, control_version: None, reads, writes, entries }
}
