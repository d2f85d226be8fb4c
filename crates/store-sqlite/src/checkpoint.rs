//! Folding the write-ahead log into the database file without stalling a commit.
//!
//! Three facts shape it. A checkpoint does not need the write lock, so a thread of its own can copy
//! pages while commits go on. The log is used again from its start only once *all* of it has been
//! copied, which under constant load never happens from outside: there is always a newer commit.
//! And a log that is overwritten in place makes each commit's sync cheap, because the file's size
//! does not change.
//!
//! So the thread copies most of the log, twice if the first round took long, and when only a little
//! is left it asks the writer, which copies that little between two batches. The log is never
//! truncated while the store is open.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use intended_store::{Result, StoreError};
use rusqlite::Connection;

use crate::{Shared, lock};

/// The thread starts when this many commits' batches have gone into the log since the last round.
const BATCHES: u64 = 512;
/// What the writer may copy between two batches: 64 pages, half a megabyte.
const SMALL: i64 = 64;
/// Rounds of the thread before the writer finishes.
const ROUNDS: usize = 4;

/// Where checkpointing stands.
#[derive(Default)]
pub struct Progress {
    batches: AtomicU64,
    finish: AtomicBool,
    due: Mutex<bool>,
    signal: Condvar,
}

impl Progress {
    /// Called by the writer after each batch.
    pub fn after_batch(&self, connection: &Connection) {
        if self.finish.swap(false, Ordering::AcqRel) {
            let _ = passive(connection);
            self.batches.store(0, Ordering::Release);
        } else if self.batches.fetch_add(1, Ordering::AcqRel) == BATCHES {
            self.wake();
        }
    }
    pub fn wake(&self) {
        *lock(&self.due) = true;
        self.signal.notify_one();
    }
}

/// Copies what can be copied. Frames in the log, and of those, copied.
fn passive(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| Ok((r.get(1)?, r.get(2)?)))
}

pub fn spawn(connection: Connection, shared: Arc<Shared>) -> Result<()> {
    let run = move || {
        loop {
            let mut due = lock(&shared.checkpoint.due);
            while !*due {
                due = shared.checkpoint.signal.wait(due).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            *due = false;
            drop(due);
            if shared.closed.load(Ordering::Acquire) {
                return;
            }
            for _ in 0..ROUNDS {
                match passive(&connection) {
                    Ok((log, copied)) if log - copied <= SMALL => break,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%error, "the write-ahead log was not folded in");
                        break;
                    }
                }
            }
            shared.checkpoint.finish.store(true, Ordering::Release);
        }
    };
    let spawned = std::thread::Builder::new().name("ledger-checkpoint".to_owned()).spawn(run);
    spawned.map(drop).map_err(|e| StoreError::Unavailable(e.to_string()))
}
