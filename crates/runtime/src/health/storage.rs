//! The store: whether a write becomes durable, how long that takes, and for how long there is room.

use std::time::Duration;

use intended_store::{Commit, StoreError, Write};

use super::probes::Measured;
use super::{Finding, STORE, Sheet, degraded, healthy, unavailable};
use crate::Runtime;
use crate::metrics::Stopwatch;

/// A disk with less than this is degraded: some minutes of full load.
const LOW_DISK_BYTES: u64 = 512 * 1024 * 1024;
/// From this share of `max_bytes` on.
const NEARLY_FULL_PERCENT: u64 = 90;
/// A log that grows beyond this is not folded in: a reader holds it back, or the disk does not keep up.
const LONG_LOG_BYTES: u64 = 512 * 1024 * 1024;
/// A write that takes this long is felt by every decision.
const SLOW_WRITE: Duration = Duration::from_millis(250);
/// And one that takes this long counts as none.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
/// What was written to see whether it can be is forgotten after a day.
const KEPT_MS: i64 = 24 * 3_600_000;

/// What became of a write.
#[derive(Debug, Clone)]
pub(super) enum Wrote {
    /// There is no tenant yet to write for.
    Nowhere,
    In(Duration),
    Failed(StoreError),
    /// There is no answer.
    Hangs,
}

const ROOM: &str = "Make room where the data directory is, or raise `max_bytes`; it goes on by itself. Nothing is \
    allowed until then, and what was decided is kept.";
const RESTART: &str = "Look at the disk and the system's log, then restart this node: it recovers from what is in the \
    file. Nothing is allowed until then.";
const DAMAGED: &str = "Stop this node and keep the file as it is: it is evidence. Then restore a backup and hold it \
    against a checkpoint that is kept elsewhere.";
const READ_ONLY: &str = "See that the file system is not mounted read-only and that the server's user may write to \
    the data directory, then restart this node.";
const UNREACHABLE: &str = "See whether something else holds the data file locked, whether the disk answers, or \
    whether the database server can be reached.";

/// What to do about a store that takes no writes.
const fn todo(code: &str) -> &'static str {
    match code.as_bytes() {
        b"store.full" => ROOM,
        b"store.read_only" => READ_ONLY,
        b"store.corrupt" => DAMAGED,
        b"store.stopped" => RESTART,
        _ => UNREACHABLE,
    }
}

impl Runtime {
    /// Writes something, for nobody: a fact of this node's own.
    pub(super) async fn try_writing(&self) -> Wrote {
        let Some(tenant) = self.tenants().into_iter().next() else { return Wrote::Nowhere };
        let node = match self.node() {
            Ok(node) => node,
            // Nothing was written, so nothing says that it can be.
            Err(error) => {
                let why = format!("this node has no name to write under: {error}");
                return Wrote::Failed(StoreError::Unavailable(why));
            }
        };
        let writing = async {
            // As of the ledger's own time: what is only tried does not move it on.
            let now = self.store().head(&tenant.id).await?.at;
            let watch = Stopwatch::start();
            let at = self.now();
            let write = Write::Put {
                key: intended_engine::keys::written_by(node).into(),
                value: at.as_millis().to_string().into_bytes(),
                expires_at: Some(at.plus_millis(KEPT_MS)),
            };
            let (reads, writes, entries) = (Vec::new(), vec![write], Vec::new());
            let commit = Commit { tenant: tenant.id.clone(), now, control_version: None, reads, writes, entries };
            self.follower.commit(commit).await?;
            Ok::<_, StoreError>(watch.elapsed())
        };
        match tokio::time::timeout(PATIENCE, writing).await {
            Ok(Ok(took)) => Wrote::In(took),
            Ok(Err(error)) => Wrote::Failed(error),
            Err(_) => Wrote::Hangs,
        }
    }

    pub(super) async fn check_store(&self, sheet: &mut Sheet, measured: &Measured) {
        sheet.about(None, None);
        let store = self.store().health().await;
        let found: Finding = match (&store.code, &measured.wrote) {
            (Some(code), _) => unavailable(store.detail.clone(), todo(code)),
            (None, Wrote::Failed(error @ StoreError::Overloaded)) => {
                degraded(error.to_string(), "Fewer requests, or a faster disk: what comes now is refused at once.")
            }
            (None, Wrote::Failed(error)) => unavailable(error.to_string(), todo(error.code())),
            (None, Wrote::Hangs) => {
                unavailable(format!("a write has no answer after {} s", PATIENCE.as_secs()), UNREACHABLE)
            }
            (None, Wrote::In(_)) => healthy("a write is durable"),
            (None, Wrote::Nowhere) => healthy("no tenant to write for yet"),
        };
        sheet.add(STORE, "writable", found);
        let micros = match &measured.wrote {
            Wrote::In(took) => Some(*took),
            _ => store.commit_micros.map(Duration::from_micros),
        };
        if let Some(took) = micros {
            let detail = format!("a write takes {:.1} ms", took.as_secs_f64() * 1000.0);
            let found = if took < SLOW_WRITE {
                healthy(detail)
            } else {
                degraded(detail, "See what else uses the disk or the database server; every decision waits for it.")
            };
            sheet.add(STORE, "latency", found);
        }
        if let Some(free) = store.free_bytes {
            let detail = format!("{} MiB free", free / (1024 * 1024));
            let found = if free < LOW_DISK_BYTES {
                degraded(detail, "Make room where the data directory is: when it is full, nothing is allowed.")
            } else {
                healthy(detail)
            };
            sheet.add(STORE, "disk", found);
        }
        if let Some((used, max)) = store.used_bytes {
            let detail = format!("{} of {} MiB", used / (1024 * 1024), max / (1024 * 1024));
            let found = if used.saturating_mul(100) >= max.saturating_mul(NEARLY_FULL_PERCENT) {
                degraded(detail, "Raise `max_bytes`: when it is reached, nothing is allowed.")
            } else {
                healthy(detail)
            };
            sheet.add(STORE, "size", found);
        }
        if let Some(log) = store.wal_bytes {
            let detail = format!("{} MiB not folded in", log / (1024 * 1024));
            let found = if log > LONG_LOG_BYTES {
                degraded(
                    detail,
                    "End what reads the data file from outside (a backup, `sqlite3`): it keeps the log from being folded in.",
                )
            } else {
                healthy(detail)
            };
            sheet.add(STORE, "log", found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_fail_says_what_to_do_about_it() {
        let why = || "x".to_owned();
        for (error, word) in [
            (StoreError::Full(why()), "Make room"),
            (StoreError::ReadOnly(why()), "mounted read-only"),
            (StoreError::Corrupt(why()), "evidence"),
            (StoreError::Stopped(why()), "restart this node"),
            (StoreError::Unavailable(why()), "locked"),
        ] {
            assert!(todo(error.code()).contains(word), "{error:?}");
        }
    }
}
