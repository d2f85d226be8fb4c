//! The storage contract, small so that engines stay simple: one log of entries and one table of
//! facts per tenant, and one way to change them: [`Store::commit`].
//!
//! A commit names what it relied on: the tenant's control version, the versions of the facts it
//! read, the bounds of the counters it adds to. It succeeds only if all of that still holds, and
//! then everything in it becomes durable at once; otherwise nothing of it does. That is how halts
//! have no window, tokens are consumed once and approvals count once, without locks above.
//!
//! [`judge`] holds what both engines must do alike; `conformance` (a feature) is the suite that
//! both pass.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)
)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use intended_ledger::NodeHash;
use intended_model::{TenantId, Timestamp};

#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
pub mod judge;

pub use error::{Conflict, StoreError};

/// A boxed future, so that the trait can stand behind `Arc<dyn Store>`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
pub type Result<T> = std::result::Result<T, StoreError>;

/// Most commits that go down in one transaction.
pub const MAX_BATCH: usize = 256;
/// Most bytes of entries in one transaction, unless a single commit has more: what the disk takes
/// in some ten milliseconds.
pub const MAX_BATCH_BYTES: usize = 4 << 20;
/// Most commits that wait: at 15,000 a second, about a quarter of a second of work.
pub const MAX_QUEUE: usize = 4096;
/// Most bytes of commits that wait: sixteen batches, at some ten milliseconds each less than the
/// quarter of a second that `MAX_QUEUE` small ones take.
pub const MAX_QUEUE_BYTES: usize = 16 * MAX_BATCH_BYTES;
/// Longest fact name.
pub const MAX_KEY: usize = 512;

/// An entry to append. The store adds index, time and tenant.
#[derive(Debug, Clone)]
pub struct NewEntry {
    pub kind: Box<str>,
    /// Whether it changes the tenant's state.
    pub control: bool,
    /// The intent it is about, for look-up.
    pub subject: Option<[u8; 16]>,
    /// Canonical JSON.
    pub body: Box<str>,
}

impl Commit {
    /// Bytes of its entries and facts: what batches and queues are bounded by.
    #[must_use]
    pub fn weight(&self) -> usize {
        let facts = self.writes.iter().map(|write| match write {
            Write::Put { key, value, .. } => key.len() + value.len(),
            Write::Delete { key } | Write::Add { key, .. } => key.len(),
        });
        let reads = self.reads.iter().map(|(key, _)| key.len());
        self.entries.iter().map(|e| e.body.len()).chain(facts).chain(reads).sum()
    }
}

/// What waits in a queue, by weight.
#[derive(Debug, Default)]
pub struct Backlog(AtomicUsize);

impl Backlog {
    /// Counts a commit in, unless the queue would then be heavier than [`MAX_QUEUE_BYTES`]. An empty
    /// queue takes any commit: one that is too heavy for every queue would otherwise be retried for ever.
    pub fn enter(&self, weight: usize) -> Result<()> {
        let with = |waiting: usize| {
            let sum = waiting.saturating_add(weight);
            (waiting == 0 || sum <= MAX_QUEUE_BYTES).then_some(sum)
        };
        let entered = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, with);
        entered.map(|_| ()).map_err(|_| StoreError::Overloaded)
    }

    /// Counts it out: it is being written, or nobody will write it.
    pub fn leave(&self, weight: usize) {
        let without = |waiting: usize| Some(waiting.saturating_sub(weight));
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, without);
    }
}

/// A change to a fact.
#[derive(Debug, Clone)]
pub enum Write {
    Put {
        key: Box<str>,
        value: Vec<u8>,
        expires_at: Option<Timestamp>,
    },
    Delete {
        key: Box<str>,
    },
    /// Adds to a counter (absent counts as 0); refused if the sum is above `max`.
    Add {
        key: Box<str>,
        n: i64,
        max: i64,
        expires_at: Option<Timestamp>,
    },
}

/// What to commit, and what must still hold for it.
#[derive(Debug, Clone)]
pub struct Commit {
    pub tenant: TenantId,
    /// The committer's time; the ledger's is never before its last.
    pub now: Timestamp,
    /// The control version that was relied on; `None` relies on none.
    pub control_version: Option<u64>,
    /// Facts that were read and their versions; 0 is absent.
    pub reads: Vec<(Box<str>, u64)>,
    pub writes: Vec<Write>,
    pub entries: Vec<NewEntry>,
}

/// The tree after a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeHead {
    pub size: u64,
    pub root: NodeHash,
    /// Time of the last commit.
    pub at: Timestamp,
    /// How many control entries there are.
    pub control_version: u64,
}

/// A commit that is durable.
#[derive(Debug)]
pub struct Committed {
    /// Index of the first entry; the tree's size when there was none.
    pub first_index: u64,
    pub recorded_at: Timestamp,
    /// After the whole batch that this commit went down with.
    pub head: Arc<TreeHead>,
    pub leaves: Vec<Vec<u8>>,
    /// Inclusion of each leaf in `head`.
    pub proofs: Vec<Vec<NodeHash>>,
}

/// A fact as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub value: Vec<u8>,
    /// Never used twice for a name, also not after a deletion.
    pub version: u64,
}

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    pub index: u64,
    pub at: Timestamp,
    pub leaf: Vec<u8>,
}

/// How the store is.
#[derive(Debug, Clone)]
pub struct StoreHealth {
    pub writable: bool,
    /// Why it takes no writes: for whoever operates it, as it can name tenants and places.
    pub detail: String,
    /// The same as a code of the catalogue, which names nothing.
    pub code: Option<&'static str>,
    pub free_bytes: Option<u64>,
    /// What is stored, where that has a bound; and the bound.
    pub used_bytes: Option<(u64, u64)>,
    /// Bytes in the write-ahead log, where there is one.
    pub wal_bytes: Option<u64>,
    /// How long the last batch took to become durable, microseconds; `None` before the first.
    pub commit_micros: Option<u64>,
}

/// Told of a head that is about to be made durable, and may never be.
pub type Ahead = Box<dyn Fn(&TenantId, &Arc<TreeHead>) + Send + Sync>;

/// The storage engine. "Not found" is `Ok(None)`.
pub trait Store: Send + Sync + 'static {
    /// What it is, for people. One that wraps another need not say.
    fn engine(&self) -> &'static str {
        "another store"
    }
    /// Commits, or tells what did not hold. When it returns `Ok`, everything is durable.
    ///
    /// `Stopped` leaves open whether it is; the entries tell. An engine whose file only it writes
    /// stops for good then, and tells when it is opened again. One that asks a server each time goes
    /// on: reading through it tells once the server answers, and later commits are judged against
    /// what is there.
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed>>;
    /// Tells of each head before it is durable, from now on: so that what is made of it is made while
    /// the disk works. It must not keep the writer. An engine may leave it; only the first is told.
    fn before_commit(&self, _ahead: Ahead) {}
    /// Makes room for a tenant: an empty ledger.
    fn create_tenant<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<()>>;
    fn tenants(&self) -> BoxFuture<'_, Result<Vec<TenantId>>>;
    fn head<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<TreeHead>>;
    /// One fact, on the calling thread: for the decision path.
    fn fact_now(&self, tenant: &TenantId, key: &str) -> Result<Option<Fact>>;
    /// A counter's value; absent is 0.
    fn counter_now(&self, tenant: &TenantId, key: &str) -> Result<i64> {
        Ok(self.fact_now(tenant, key)?.map_or(0, |fact| judge::counter(&fact.value)))
    }
    /// Facts whose name starts with `prefix` and comes after `after`, by name.
    fn facts<'a>(
        &'a self,
        tenant: &'a TenantId,
        prefix: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(String, Fact)>>>;
    fn entry<'a>(&'a self, tenant: &'a TenantId, index: u64) -> BoxFuture<'a, Result<Option<StoredEntry>>>;
    /// Entries from `from` on, oldest first.
    fn entries<'a>(&'a self, tenant: &'a TenantId, from: u64, limit: usize) -> BoxFuture<'a, Result<Vec<StoredEntry>>>;
    /// Entries before `before`, newest first.
    fn entries_before<'a>(
        &'a self,
        tenant: &'a TenantId,
        before: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntry>>>;
    /// Control entries from `from` on, oldest first.
    fn control_entries<'a>(
        &'a self,
        tenant: &'a TenantId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntry>>>;
    /// Entries about one intent, oldest first.
    fn entries_of<'a>(&'a self, tenant: &'a TenantId, subject: [u8; 16]) -> BoxFuture<'a, Result<Vec<StoredEntry>>>;
    /// That entry `index` is in the tree of the first `size` entries (RFC 9162 section 2.1.3);
    /// `Invalid` unless `index < size` and the ledger has `size` entries.
    fn inclusion_proof<'a>(
        &'a self,
        tenant: &'a TenantId,
        index: u64,
        size: u64,
    ) -> BoxFuture<'a, Result<Vec<NodeHash>>>;
    /// That the tree of `from` entries is a prefix of that of `to` (RFC 9162 section 2.1.4).
    fn consistency_proof<'a>(
        &'a self,
        tenant: &'a TenantId,
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<Vec<NodeHash>>>;
    /// The root when the ledger had `size` entries.
    fn root_at<'a>(&'a self, tenant: &'a TenantId, size: u64) -> BoxFuture<'a, Result<NodeHash>>;
    /// Removes facts that expired before `now`. Until then an expired fact counts as present.
    fn purge_expired(&self, now: Timestamp) -> BoxFuture<'_, Result<u64>>;
    fn health(&self) -> BoxFuture<'_, StoreHealth>;
    /// Whether nobody else can write while this is open: then there is one node.
    fn alone(&self) -> bool {
        false
    }
    /// Finishes what is queued and closes. Later commits are refused.
    fn close(&self) -> BoxFuture<'_, Result<()>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_takes_what_it_can_bear_and_any_single_commit() {
        let backlog = Backlog::default();
        backlog.enter(MAX_QUEUE_BYTES + 1).unwrap();
        assert_eq!(backlog.enter(0), Err(StoreError::Overloaded));
        backlog.leave(MAX_QUEUE_BYTES + 1);
        backlog.enter(MAX_QUEUE_BYTES - 1).unwrap();
        backlog.enter(1).unwrap();
        assert_eq!(backlog.enter(1), Err(StoreError::Overloaded));
        assert_eq!(backlog.enter(usize::MAX), Err(StoreError::Overloaded), "no sum goes round");
        backlog.leave(1);
        backlog.enter(1).unwrap();
    }

    #[test]
    fn a_commit_weighs_its_names_too() {
        let key: Box<str> = "k".repeat(100).into();
        let writes = vec![
            Write::Put { key: key.clone(), value: vec![0; 10], expires_at: None },
            Write::Delete { key: key.clone() },
            Write::Add { key: key.clone(), n: 1, max: 1, expires_at: None },
        ];
        let entry = NewEntry { kind: "test".into(), control: false, subject: None, body: "{}".into() };
        let commit = Commit {
            tenant: TenantId::new("acme").unwrap(),
            now: Timestamp::from_millis(0),
            control_version: None,
            reads: vec![(key, 0)],
            writes,
            entries: vec![entry],
        };
        assert_eq!(commit.weight(), 412);
    }
}
