//! What a node does by itself, each second: timeouts that deny, breakers that are tried again, facts
//! past their time, kept checkpoints, finding out that there is room again, and saying that it is there.
//! Each step is named, so that one that hangs is ([`crate::health::loops`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::{Runtime, nodes};

/// A step that takes longer than this is not what housekeeping is for: removing old facts takes the
/// longest, at some ten thousand a second.
const WITHIN: Duration = Duration::from_secs(30);
/// A receiver of a webhook may take its time, and several follow each other.
const DELIVERED_WITHIN: Duration = Duration::from_secs(120);
/// The first beat comes after this many seconds; then the server is listening.
const FIRST_BEAT: u64 = 2;

impl Runtime {
    /// Keeps house for as long as it is polled.
    pub async fn keep_house(self: Arc<Self>) {
        let pulse = self.loops().begin("housekeeping", WITHIN);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut ticks = 0_u64;
        let mut kept = HashMap::new();
        loop {
            pulse.at("waiting for the next second");
            second.tick().await;
            ticks += 1;
            pulse.at("following the ledger");
            for tenant in self.tenants() {
                // What other nodes have changed; where there are none, this says so.
                if let Err(error) = self.follow(&tenant).await {
                    tracing::warn!(tenant = %tenant.id, %error, "what is recorded is not yet known here");
                }
            }
            pulse.at("settling deployments");
            self.settle_deployments().await;
            pulse.at("trying breakers again");
            self.tend_breakers().await;
            pulse.at("closing what is overdue");
            if let Err(error) = self.close_overdue().await {
                tracing::warn!(%error, "overdue escalations were not closed");
            }
            pulse.at("writing down when credentials were used");
            if let Err(error) = self.flush_usage(false).await {
                tracing::warn!(%error, "when credentials were last used was not written down");
            }
            pulse.at("writing down who was seen where");
            if ticks.is_multiple_of(60)
                && let Err(error) = self.save_activity().await
            {
                tracing::warn!(%error, "when agents and callers were last seen was not written down");
            }
            pulse.at("removing old facts");
            if ticks.is_multiple_of(60)
                && let Err(error) = self.purge().await
            {
                tracing::warn!(%error, "old facts were not removed");
            }
            pulse.at("keeping checkpoints");
            // While a failed write has it not ready nobody may be sending anything, so it tries by itself.
            let writable = self.writable().await;
            if ticks.is_multiple_of(10) || !writable {
                for tenant in self.tenants() {
                    // Not what was signed last: a halt without a decision after it is kept too.
                    let Ok(head) = self.store().head(&tenant.id).await else { continue };
                    let size = head.size;
                    if writable && kept.get(&tenant.id) == Some(&size) {
                        continue;
                    }
                    match self.save_checkpoint(&tenant).await {
                        Ok(()) => drop(kept.insert(tenant.id.clone(), size)),
                        Err(error) if writable => tracing::warn!(%error, "no checkpoint was kept"),
                        Err(error) => tracing::debug!(%error, "still nothing can be written"),
                    }
                }
            }
            pulse.at("saying that this node is there");
            if (ticks + nodes::BEAT_SECS - FIRST_BEAT).is_multiple_of(nodes::BEAT_SECS)
                && let Err(error) = self.beat().await
            {
                tracing::warn!(%error, "other nodes were not told that this one is there");
            }
        }
    }

    /// Delivers webhooks for as long as it is polled. Beside the rest: a receiver may take its time, a
    /// timeout that denies may not.
    pub async fn keep_delivering(self: Arc<Self>) {
        let pulse = self.loops().begin("webhooks", DELIVERED_WITHIN);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            pulse.at("waiting for the next second");
            second.tick().await;
            pulse.at("waiting for receivers");
            if self.has_webhooks() {
                self.deliver_webhooks().await;
            }
        }
    }
}
