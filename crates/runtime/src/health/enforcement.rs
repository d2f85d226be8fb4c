//! The enforcement runtime: the time it goes by, whether it knows what the ledger says, and who else
//! serves the same tenants.

use std::sync::Arc;

use intended_model::Timestamp;
use intended_store::TreeHead;

use super::ledger::CLOCK_AHEAD_MS;
use super::probes::Measured;
use super::{ENFORCEMENT, Finding, Sheet, TENANTS, degraded, healthy, unavailable};
use crate::ports::{JUMP_KEPT_MS, Jump};
use crate::{Runtime, RuntimeError, Tenant};

/// How far the clock is ahead of the system's, and whether that jumped.
fn clock(ahead: i64, jumped: Option<Jump>, now: Timestamp) -> Finding {
    if ahead > CLOCK_AHEAD_MS {
        return degraded(
            format!(
                "{} s ahead of the system's clock, which was set back: times go on from the ledger's",
                ahead / 1000
            ),
            "Set the system's clock right (chronyc tracking, timedatectl). What had expired stays expired meanwhile.",
        );
    }
    match jumped.filter(|jump| now.millis_since(jump.at) < JUMP_KEPT_MS) {
        Some(jump) => degraded(
            format!("jumped {} s ahead at {}", jump.millis / 1000, jump.at),
            "See whether the system's clock is right (chronyc tracking, timedatectl), or whether the machine was \
             suspended. What expired by the jump stays expired, and times in the ledger do not go back.",
        ),
        None => healthy("goes with the system's"),
    }
}

/// A node that has not seen a change of state for this long is not one that may be asked.
const STALE_MS: i64 = 10_000;

impl Runtime {
    pub(super) fn check_clock(&self, sheet: &mut Sheet) {
        // A clock that goes by the ledger says by how much; one that does not is behind what was recorded.
        let behind = self.recorded_time().millis_since(self.clock().now());
        let ahead = self.clock().ahead_millis().max(behind);
        sheet.add(ENFORCEMENT, "clock", clock(ahead, self.clock().jumped(), self.clock().now()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    #[test]
    fn a_jump_ahead_is_told_for_an_hour_with_how_far_and_when() {
        let at = Timestamp::from_millis(1_795_521_600_000);
        let jump = Some(Jump { millis: 600_001, at });
        let found = clock(0, jump, at.plus_millis(3_599_999));
        assert_eq!(
            (found.status, &*found.detail),
            (Status::Degraded, "jumped 600 s ahead at 2026-11-24T12:00:00.000Z")
        );
        assert_eq!(clock(0, jump, at.plus_millis(3_600_000)).status, Status::Healthy);
        assert_eq!(clock(5_000, None, at).status, Status::Healthy);
        assert!(clock(5_001, jump, at).detail.contains("set back"), "what is so now comes first");
    }
}
