//! Folding the write-ahead log into the database file without stalling a commit.
//!
//! Three facts shape it. A checkpoint does not need the write lock, so a thread of its own can copy
//! pages while commits go on. The log is used again from its start only once *all* of it has been
//! copied, which under constant load never happens from outside: there is always a newer commit.
//! And a log that is overwritten in place makes each commit's sync cheap, because the file's size
//! does not change.
//!
//! So the thread copies most of the log, round by round, and syncs the database file itself: SQLite
//! syncs it only with the last frame, and whoever copies that one would wait for everything that the
//! thread has copied. When only a little is left it asks the writer's thread, which copies that
//! little between two batches; never a request's own task. The next batch then starts the log over,
//! unless a reader still needs it; in that case the writer tries again after the next ones. The log
//! is never truncated while the store is open.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use intended_store::{Result, StoreError};
use rusqlite::Connection;

use crate::writer::Failure;
use crate::{Files, Shared, lock};

/// Frames that the log has when the thread starts: of 8 KiB, 16 MiB. Opening after a kill reads
/// about this much.
const HIGH: u64 = 2048;
/// What the writer may copy between two batches: 64 pages, half a megabyte.
const SMALL: u64 = 64;
/// Rounds of the thread before the writer finishes whatever is left.
const ROUNDS: usize = 4;
/// Batches after which the writer tries to finish while readers are in the way.
const ATTEMPTS: u32 = 32;

/// Where checkpointing stands.
#[derive(Default)]
pub struct Progress {
    /// Frames in the log after the last commit.
    frames: Arc<AtomicU64>,
    /// Frames at which the next checkpoint starts, above [`HIGH`].
    above: AtomicU64,
    /// Whether the thread is at work.
    working: AtomicBool,
    /// How often the writer may still try to finish.
    finish: AtomicU32,
    /// Whether the writer's thread has been asked to finish and has not yet.
    asked: AtomicBool,
    due: Mutex<bool>,
    signal: Condvar,
    /// The threads that have copied.
    #[cfg(test)]
    pub copied_by: Mutex<std::collections::BTreeSet<String>>,
}

impl Progress {
    /// Counts the frames that this connection's commits leave in the log.
    pub fn watch(&self, writer: &mut Connection) -> rusqlite::Result<()> {
        let frames = Arc::clone(&self.frames);
        writer.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            frames.store(u64::try_from(pages).unwrap_or(0), Ordering::Release);
            Ok(())
        }))
    }

    /// Called after each batch. Whether the writer's thread is to be asked to [`finish`](Self::finish).
    pub fn after_batch(&self) -> bool {
        let frames = self.frames.load(Ordering::Acquire);
        let left = self.finish.load(Ordering::Acquire);
        if frames < self.above.load(Ordering::Acquire) || (left > 0 && frames < HIGH) {
            // The log has started over.
            self.above.store(0, Ordering::Release);
            self.finish.store(0, Ordering::Release);
        } else if left > 0 {
            return !self.asked.swap(true, Ordering::AcqRel);
        } else if frames >= self.above.load(Ordering::Acquire) + HIGH && !self.working.swap(true, Ordering::AcqRel) {
            self.wake();
        }
        false
    }

    /// It could not be asked.
    pub fn not_asked(&self) {
        self.asked.store(false, Ordering::Release);
    }

    /// Copies what is left, on the writer's thread.
    pub fn finish(&self, connection: &Connection, shared: &Shared) {
        self.asked.store(false, Ordering::Release);
        let left = self.finish.load(Ordering::Acquire);
        if left > 0 {
            if passive(connection, shared).is_none() || left == 1 {
                // A reader is in the way: leave it for some time.
                self.above.store(self.frames.load(Ordering::Acquire), Ordering::Release);
            }
            self.finish.store(left - 1, Ordering::Release);
        }
    }

    pub fn wake(&self) {
        *lock(&self.due) = true;
        self.signal.notify_one();
    }

    fn wait(&self) {
        let mut due = lock(&self.due);
        while !*due {
            due = self.signal.wait(due).unwrap_or_else(PoisonError::into_inner);
        }
        *due = false;
    }
}

/// Copies what can be copied; the frames copied so far.
fn passive(connection: &Connection, shared: &Shared) -> Option<u64> {
    #[cfg(test)]
    lock(&shared.checkpoint.copied_by).insert(std::thread::current().name().unwrap_or_default().to_owned());
    match connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| r.get::<_, i64>(2)) {
        Ok(copied) => u64::try_from(copied).ok(),
        Err(error) => {
            tracing::warn!(%error, "the write-ahead log was not folded in");
            // Nothing is lost: the log has it all. But a disk that fails to sync is not written to.
            let failure = Failure::from(error);
            if failure.stop {
                shared.stop(failure.error);
            }
            None
        }
    }
}

pub fn spawn(connection: Connection, files: Option<Arc<Files>>, shared: Arc<Shared>) -> Result<JoinHandle<()>> {
    let run = move || {
        let progress = &shared.checkpoint;
        loop {
            progress.wait();
            if shared.dropped.load(Ordering::Acquire) {
                return;
            }
            for _ in 0..ROUNDS {
                let Some(copied) = passive(&connection, &shared) else { break };
                if let Some(Err(error)) = files.as_ref().map(|files| files.database.sync_data()) {
                    shared.stop(StoreError::Stopped(format!("the database file was not synced: {error}")));
                    break;
                }
                if progress.frames.load(Ordering::Acquire).saturating_sub(copied) <= SMALL {
                    break;
                }
            }
            progress.finish.store(ATTEMPTS, Ordering::Release);
            progress.working.store(false, Ordering::Release);
        }
    };
    std::thread::Builder::new()
        .name("ledger-checkpoint".to_owned())
        .spawn(run)
        .map_err(|e| StoreError::Unavailable(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, SqliteStore};
    use intended_model::{TenantId, Timestamp};
    use intended_store::{Commit, NewEntry, Store as _};

    /// One commit at a time, so that all but the first are written by their own task, until the log has started over.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_request_copies_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path(), &Options::default()).unwrap();
        let tenant = TenantId::new("acme").unwrap();
        store.create_tenant(&tenant).await.unwrap();
        let body: Box<str> = format!("\"{}\"", "x".repeat(200_000)).into();
        let (mut highest, mut started_over) = (0, 0);
        for _ in 0..2_000 {
            let entry = NewEntry { kind: "test".into(), control: false, subject: None, body: body.clone() };
            let commit = Commit {
                tenant: tenant.clone(),
                now: Timestamp::from_millis(1),
                control_version: None,
                reads: Vec::new(),
                writes: Vec::new(),
                entries: vec![entry],
            };
            store.commit(commit).await.unwrap();
            let frames = store.shared.checkpoint.frames.load(Ordering::Acquire);
            if frames < highest {
                (highest, started_over) = (0, started_over + 1);
                if started_over == 3 {
                    break;
                }
            }
            highest = highest.max(frames);
        }
        assert_eq!(started_over, 3, "the log grew to {highest} frames");
        let copied_by = lock(&store.shared.checkpoint.copied_by).clone();
        assert!(copied_by.into_iter().eq(["ledger-checkpoint", "ledger-writer"]));
    }
}
