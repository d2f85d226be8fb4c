//! The enforcement runtime: the time it goes by, whether it knows what the ledger says, and who else
//! serves the same tenants.

use std::sync::Arc;

use intended_store::TreeHead;

use super::ledger::CLOCK_AHEAD_MS;
use super::probes::Measured;
use super::{ENFORCEMENT, Sheet, TENANTS, degraded, healthy, unavailable};
use crate::{Runtime, RuntimeError, Tenant};

/// A node that has not seen a change of state for this long is not one that may be asked.
const STALE_MS: i64 = 10_000;

impl Runtime {
    pub(super) fn check_clock(&self, sheet: &mut Sheet) {
        // A clock that goes by the ledger says by how much; one that does not is behind what was recorded.
        let behind = self.recorded_time().millis_since(self.clock().now());
        let ahead = self.clock().ahead_millis().max(behind);
        let found = if ahead > CLOCK_AHEAD_MS {
            degraded(
                format!(
                    "{} s ahead of the system's clock, which was set back: times go on from the ledger's",
                    ahead / 1000
                ),
                "Set the system's clock right (chronyc tracking, timedatectl). What had expired stays expired meanwhile.",
            )
        } else {
            healthy("goes with the system's")
        };
        sheet.add(ENFORCEMENT, "clock", found);
    }

    pub(super) fn check_tenants(&self, sheet: &mut Sheet, measured: &Measured) {
        let loaded = self.tenants().len();
        let found = match &measured.not_served {
            Err(error) => unavailable(error.to_string(), "See the store's checks."),
            Ok(n) if *n > 0 => degraded(
                format!("{loaded} loaded, {n} more in the store"),
                "Restart this node: another one has made a tenant that this one does not serve yet, or a set-up did \
                 not finish.",
            ),
            Ok(_) if loaded == 0 => degraded("none", "Make one: `intended tenant create`."),
            Ok(_) => healthy(format!("{loaded} loaded")),
        };
        sheet.add(ENFORCEMENT, TENANTS, found);
    }

    /// How many tenants of the store this node does not serve.
    pub(super) async fn not_served(&self) -> Result<usize, RuntimeError> {
        Ok(self.store().tenants().await?.iter().filter(|id| self.tenant(id).is_none()).count())
    }

    /// Whether memory is what the ledger says. `head` was read before this is called, so a node that
    /// follows has seen all that it counts, or sees it now.
    pub(super) async fn check_state(&self, sheet: &mut Sheet, tenant: &Arc<Tenant>, head: &TreeHead) {
        const TODO: &str = "Look in this node's log for why it cannot follow the ledger, and at the token service's \
            sealed keys; then restart it. Whatever it decides on an old state is refused when it is recorded.";
        let behind = head.control_version.saturating_sub(tenant.state().control);
        if behind == 0 {
            let found = healthy(format!("control version {}", head.control_version));
            return sheet.add(ENFORCEMENT, "state", found.of(&tenant.id));
        }
        let since = match self.store().control_entries(&tenant.id, tenant.folded().next, 1).await {
            Ok(first) => first.first().map_or(0, |e| self.now().millis_since(e.at).max(0)),
            Err(_) => 0,
        };
        let found = match self.follow(tenant).await {
            Ok(()) => healthy(format!("control version {}, caught up with just now", head.control_version)),
            Err(error) => {
                let detail = format!("{behind} changes behind for {since} ms: {error}");
                if since > STALE_MS { unavailable(detail, TODO) } else { degraded(detail, TODO) }
            }
        };
        sheet.add(ENFORCEMENT, "state", found.of(&tenant.id));
    }

    /// Whether the other nodes that serve this tenant are there.
    pub(super) async fn check_nodes(&self, sheet: &mut Sheet, tenant: &Tenant) {
        let found = match self.other_nodes(tenant).await {
            Err(error) => degraded(error.to_string(), "See the store's checks."),
            Ok(others) => {
                let gone: Vec<String> =
                    others.iter().filter(|n| n.late).map(|n| format!("`{}` since {}", n.node, n.beat_at)).collect();
                if self.has_twin() {
                    degraded(
                        "another process has the name of this one",
                        "Give each node a name of its own: `node` in `intended.toml`.",
                    )
                } else if gone.is_empty() {
                    healthy(match others.len() {
                        0 => "the only one".to_owned(),
                        n => format!("{n} besides this one"),
                    })
                } else {
                    degraded(
                        format!("silent: {}", gone.join(", ")),
                        "See whether the node runs and reaches the store; nothing that it did not record was allowed. \
                         One that was taken away is forgotten after a day.",
                    )
                }
            }
        };
        sheet.add(ENFORCEMENT, "nodes", found.of(&tenant.id));
    }
}
