//! What a node does by itself, each second: timeouts that deny, breakers that are tried again, facts
//! past their time, kept checkpoints, finding out that there is room again, and saying that it is there.
//! Each step is named, so that one that hangs is ([`crate::health::loops`]), and done for each tenant by
//! itself: one that panics or fails ends for that tenant, and the others go on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::{Runtime, Tenant, nodes};

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
            let tenants = self.tenants();
            for tenant in &tenants {
                let following = async {
                    // What other nodes have changed; where there are none, this says so.
                    if let Err(error) = self.follow(tenant).await {
                        tracing::warn!(tenant = %tenant.id, %error, "what is recorded is not yet known here");
                    }
                };
                pulse.step("following the ledger", Some(&tenant.id), following).await;
            }
            for tenant in &tenants {
                pulse.step("settling deployments", Some(&tenant.id), self.settle_deployments_of(tenant)).await;
            }
            for tenant in &tenants {
                pulse.step("trying breakers again", Some(&tenant.id), self.tend_breakers_of(tenant)).await;
            }
            for tenant in &tenants {
                let closing = async {
                    if let Err(error) = self.close_overdue_of(tenant).await {
                        tracing::warn!(tenant = %tenant.id, %error, "overdue escalations were not closed");
                    }
                };
                pulse.step("closing what is overdue", Some(&tenant.id), closing).await;
            }
            for tenant in &tenants {
                let keeping = async {
                    if let Err(error) = self.keep_windows(tenant).await {
                        tracing::warn!(tenant = %tenant.id, %error, "what breakers have seen was not written down");
                    }
                };
                pulse.step("writing down what breakers have seen", Some(&tenant.id), keeping).await;
            }
            for tenant in &tenants {
                let flushing = async {
                    if let Err(error) = self.flush_usage_if_due(tenant, false).await {
                        tracing::warn!(tenant = %tenant.id, %error, "when credentials were last used was not written down");
                    }
                };
                pulse.step("writing down when credentials were used", Some(&tenant.id), flushing).await;
            }
            if ticks.is_multiple_of(60) {
                for tenant in &tenants {
                    let saving = async {
                        if let Err(error) = self.save_activity_of(tenant).await {
                            tracing::warn!(tenant = %tenant.id, %error, "when agents and callers were last seen was not written down");
                        }
                    };
                    pulse.step("writing down who was seen where", Some(&tenant.id), saving).await;
                }
                let removing = async {
                    if let Err(error) = self.purge().await {
                        tracing::warn!(%error, "old facts were not removed");
                    }
                };
                pulse.step("removing old facts", None, removing).await;
            }
            // While a failed write has it not ready nobody may be sending anything, so it tries by itself.
            let writable = pulse.step("asking the store whether it takes writes", None, self.writable()).await;
            let writable = writable.unwrap_or(false);
            if ticks.is_multiple_of(10) || !writable {
                for tenant in &tenants {
                    let known = kept.get(&tenant.id).copied().filter(|_| writable);
                    let keeping = self.keep_checkpoint(tenant, known, writable);
                    if let Some(Some(size)) = pulse.step("keeping checkpoints", Some(&tenant.id), keeping).await {
                        kept.insert(tenant.id.clone(), size);
                    }
                }
            }
            if (ticks + nodes::BEAT_SECS - FIRST_BEAT).is_multiple_of(nodes::BEAT_SECS) {
                let saying = "saying that this node is there";
                if let Some((checks, first)) = pulse.step(saying, None, self.before_beat()).await {
                    for tenant in &tenants {
                        let telling = async {
                            if let Err(error) = self.beat_to(tenant, &checks, first).await {
                                tracing::warn!(tenant = %tenant.id, %error, "other nodes were not told that this one is there");
                            }
                        };
                        pulse.step(saying, Some(&tenant.id), telling).await;
                    }
                }
            }
        }
    }

    /// Keeps a checkpoint of a head that is not the one of the size that is known to be kept. Answers the
    /// size that is kept now, if it is another.
    async fn keep_checkpoint(&self, tenant: &Tenant, known: Option<u64>, writable: bool) -> Option<u64> {
        // Not what was signed last: a halt without a decision after it is kept too.
        let size = self.store().head(&tenant.id).await.ok()?.size;
        if known == Some(size) {
            return None;
        }
        match self.save_checkpoint(tenant).await {
            Ok(()) => return Some(size),
            Err(error) if writable => tracing::warn!(tenant = %tenant.id, %error, "no checkpoint was kept"),
            Err(error) => tracing::debug!(tenant = %tenant.id, %error, "still nothing can be written"),
        }
        None
    }

    /// Delivers webhooks for as long as it is polled. Beside the rest: a receiver may take its time, a
    /// timeout that denies may not.
    pub async fn keep_delivering(self: Arc<Self>) {
        let pulse = self.loops().begin("webhooks", DELIVERED_WITHIN);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            pulse.at("waiting for the next second");
            second.tick().await;
            let Some(_round) = self.round_of_deliveries().filter(|_| self.has_webhooks()) else { continue };
            for tenant in self.tenants() {
                pulse.step("waiting for receivers", Some(&tenant.id), self.deliver_webhooks_of(&tenant)).await;
            }
        }
    }
}
