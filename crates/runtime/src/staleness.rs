//! Since when nobody has confirmed that memory is what the ledger says.
//!
//! Decisions are fenced by the state that they were made on, so a stale state allows nothing that a
//! newer one would not: a commit on it is refused and decided again. But what a node *says*, and whom it
//! lets in, goes by what it has folded in. Housekeeping reads each second whether there is more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::{Runtime, RuntimeError, Tenant};

impl Runtime {
    /// Makes memory what the ledger says.
    pub(crate) async fn follow(&self, tenant: &Arc<Tenant>) -> Result<(), RuntimeError> {
        // What is recorded while it is read may not have been seen: it is as of before.
        let before = self.clock.now();
        self.follower.follow(tenant).await?;
        tenant.confirmed.fetch_max(before.as_millis(), Ordering::AcqRel);
        Ok(())
    }

    /// How long ago the tenant's state was last seen to be all that its ledger says.
    #[must_use]
    pub fn staleness(&self, tenant: &Tenant) -> Duration {
        let since = self.clock.now().as_millis().saturating_sub(tenant.confirmed.load(Ordering::Acquire));
        Duration::from_millis(u64::try_from(since).unwrap_or(0))
    }
}
