//! A store that can be made to take its time: before it commits, after it has, before it reads a page,
//! or by the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use intended_ledger::NodeHash;
use intended_model::{TenantId, Timestamp};
use intended_runtime::{ManualClock, Runtime};
use intended_store::{
    BoxFuture, Commit, Committed, Fact, Result, Store, StoreError, StoreHealth, StoredEntry, TreeHead,
};
use intended_store_sqlite::{Options, SqliteStore};
use intended_testkit::{SeededRng, World, root_key};
use tokio::sync::Notify;

/// Stops the next call at one place until it is let go.
#[derive(Default)]
pub struct Gate {
    closed: AtomicBool,
    reached: Notify,
    go_on: Notify,
}

impl Gate {
    /// From here on, until one was stopped.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
    pub async fn reached(&self) {
        self.reached.notified().await;
    }
    pub fn open(&self) {
        self.go_on.notify_one();
    }
    async fn pass(&self) {
        if self.closed.swap(false, Ordering::SeqCst) {
            self.reached.notify_one();
            self.go_on.notified().await;
        }
    }
}

pub struct Slow {
    inner: SqliteStore,
    clock: Arc<ManualClock>,
    pub before: Gate,
    pub after: Gate,
    pub page: Gate,
    /// How long the next commit takes, in milliseconds.
    pub takes: AtomicI64,
    /// Whether it refuses to be written.
    pub read_only: AtomicBool,
}

/// A world over such a store.
pub async fn world() -> (World, Arc<Slow>) {
    let mut world = World::new().await.unwrap();
    world.runtime.close().await.unwrap();
    let dir = world.dir.path();
    let slow = Arc::new(Slow {
        inner: SqliteStore::open(dir, &Options { shared: true, ..Options::default() }).unwrap(),
        clock: Arc::clone(&world.clock),
        before: Gate::default(),
        after: Gate::default(),
        page: Gate::default(),
        takes: AtomicI64::new(0),
        read_only: AtomicBool::new(false),
    });
    let (store, clock, rng) = (Arc::clone(&slow), Arc::clone(&world.clock), Arc::new(SeededRng::new(99)));
    let runtime = Runtime::open(store, clock, rng, root_key().unwrap(), "http://intended.test").await.unwrap();
    world.runtime = Arc::new(runtime);
    world.owner = world.runtime.authenticate(&world.owner_key).unwrap();
    (world, slow)
}

impl Store for Slow {
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed>> {
        Box::pin(async move {
            self.before.pass().await;
            if self.read_only.load(Ordering::SeqCst) {
                return Err(StoreError::ReadOnly("the disk".to_owned()));
            }
            let committed = self.inner.commit(commit).await;
            self.clock.advance_millis(self.takes.swap(0, Ordering::SeqCst));
            self.after.pass().await;
            committed
        })
    }
    fn create_tenant<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<()>> {
        self.inner.create_tenant(tenant)
    }
    fn tenants(&self) -> BoxFuture<'_, Result<Vec<TenantId>>> {
        self.inner.tenants()
    }
    fn head<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<TreeHead>> {
        self.inner.head(tenant)
    }
    fn fact_now(&self, tenant: &TenantId, key: &str) -> Result<Option<Fact>> {
        self.inner.fact_now(tenant, key)
    }
    fn facts<'a>(
        &'a self,
        tenant: &'a TenantId,
        prefix: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(String, Fact)>>> {
        self.inner.facts(tenant, prefix, after, limit)
    }
    fn entry<'a>(&'a self, tenant: &'a TenantId, index: u64) -> BoxFuture<'a, Result<Option<StoredEntry>>> {
        self.inner.entry(tenant, index)
    }
    fn entries<'a>(&'a self, tenant: &'a TenantId, from: u64, limit: usize) -> BoxFuture<'a, Result<Vec<StoredEntry>>> {
        Box::pin(async move {
            self.page.pass().await;
            self.inner.entries(tenant, from, limit).await
        })
    }
    fn entries_before<'a>(
        &'a self,
        tenant: &'a TenantId,
        before: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntry>>> {
        self.inner.entries_before(tenant, before, limit)
    }
    fn control_entries<'a>(
        &'a self,
        tenant: &'a TenantId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntry>>> {
        self.inner.control_entries(tenant, from, limit)
    }
    fn entries_of<'a>(&'a self, tenant: &'a TenantId, subject: [u8; 16]) -> BoxFuture<'a, Result<Vec<StoredEntry>>> {
        self.inner.entries_of(tenant, subject)
    }
    fn inclusion_proof<'a>(
        &'a self,
        tenant: &'a TenantId,
        index: u64,
        size: u64,
    ) -> BoxFuture<'a, Result<Vec<NodeHash>>> {
        self.inner.inclusion_proof(tenant, index, size)
    }
    fn consistency_proof<'a>(
        &'a self,
        tenant: &'a TenantId,
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<Vec<NodeHash>>> {
        self.inner.consistency_proof(tenant, from, to)
    }
    fn root_at<'a>(&'a self, tenant: &'a TenantId, size: u64) -> BoxFuture<'a, Result<NodeHash>> {
        self.inner.root_at(tenant, size)
    }
    fn purge_expired(&self, now: Timestamp) -> BoxFuture<'_, Result<u64>> {
        self.inner.purge_expired(now)
    }
    fn health(&self) -> BoxFuture<'_, StoreHealth> {
        Box::pin(async move {
            let health = self.inner.health().await;
            if self.read_only.load(Ordering::SeqCst) {
                return StoreHealth { writable: false, detail: "the disk".to_owned(), ..health };
            }
            health
        })
    }
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.close()
    }
}
