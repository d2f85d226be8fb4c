//! The root key, read again from where it came from. The process has it in memory and would not notice
//! that it is gone or another one until it is started again, which is too late.
//!
//! Reading it may start a program and ask somebody else's service, so it is done every five minutes at
//! most however many ask, one at a time, on a thread of its own that nobody waits for.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use intended_model::Timestamp;

use super::{Finding, Sheet, TOKENS, degraded, healthy};
use crate::Runtime;
use crate::ports::RootSource;

const EVERY_MS: i64 = 5 * 60_000;
/// A program has half a minute of its own.
const DEADLINE: Duration = Duration::from_secs(35);
/// How often whoever waits for the first of it looks.
const LOOK: Duration = Duration::from_millis(20);

const TODO: &str = "Do not restart this node: it would not come up. Put the root key that it was started with back \
    where the config file says that it is; this node's log says why it cannot be read.";

/// What came of reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Same,
    Other,
    Unread,
    Late,
}

impl Found {
    pub(crate) const fn says(self) -> &'static str {
        match self {
            Self::Same => "read again where it came from: it is the one in memory",
            Self::Other => "another one than in memory is where it came from: a restart would not come up",
            Self::Unread => "it cannot be read any more where it came from: a restart would not come up",
            Self::Late => "there is no answer from where it came from: a restart would not come up",
        }
    }
}

#[derive(Debug, Default)]
struct Looked {
    began: Option<Timestamp>,
    /// Also one that nobody waits for any more.
    running: bool,
    found: Option<Found>,
}

#[derive(Default)]
pub(crate) struct Root {
    source: OnceLock<Arc<dyn RootSource>>,
    looked: Arc<Mutex<Looked>>,
}

/// One reading: when this is let go, the next may begin.
struct Running(Arc<Mutex<Looked>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).running = false;
    }
}

impl Runtime {
    /// Says where the root key came from, once.
    pub fn root_key_from(&self, source: Arc<dyn RootSource>) {
        let _ = self.root.source.set(source);
    }

    /// What the last reading came to; begins another where it is time for it. `None` before the first
    /// has ended, and where it is not known where the key came from.
    fn root_found(&self) -> Option<Found> {
        let source = self.root.source.get()?;
        let now = self.clock().now();
        let mut looked = self.root.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = !looked.running && looked.began.is_none_or(|began| now.millis_since(began) >= EVERY_MS);
        if due {
            looked.began = Some(now);
            looked.running = true;
        }
        let found = looked.found;
        drop(looked);
        if due {
            self.read_root(Arc::clone(source));
        }
        found
    }

    /// The same, waiting for the first. `None` where it is not known where the key came from.
    pub(crate) async fn root_read(&self) -> Option<Found> {
        self.root.source.get()?;
        loop {
            if let Some(found) = self.root_found() {
                return Some(found);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn read_root(&self, source: Arc<dyn RootSource>) {
        let (looked, root) = (Arc::clone(&self.root.looked), Arc::clone(&self.follower.root));
        let (told, said) = tokio::sync::oneshot::channel();
        let running = Running(Arc::clone(&looked));
        // No task of the pool: one that hangs would keep the process from ending.
        let reading = std::thread::Builder::new().name("root-key".to_owned()).spawn(move || {
            let _running = running;
            let found = match source.read() {
                Ok(key) if key.is(&root) => Found::Same,
                Ok(_) => Found::Other,
                Err(error) => {
                    tracing::warn!(%error, "the root key cannot be read where it came from");
                    Found::Unread
                }
            };
            let _ = told.send(found);
        });
        if let Err(error) = reading {
            tracing::warn!(%error, "the root key cannot be read again: there is no thread for it");
        }
        tokio::spawn(async move {
            let found = match tokio::time::timeout(DEADLINE, said).await {
                Ok(Ok(found)) => found,
                Ok(Err(_)) => Found::Unread,
                Err(_) => Found::Late,
            };
            looked.lock().unwrap_or_else(PoisonError::into_inner).found = Some(found);
        });
    }

    pub(super) fn check_root(&self, sheet: &mut Sheet) {
        let Some(found) = self.root_found() else { return };
        let finding: Finding = match found {
            Found::Same => healthy(found.says()),
            Found::Other | Found::Unread | Found::Late => degraded(found.says(), TODO),
        };
        sheet.add(TOKENS, "root key", finding);
    }
}
