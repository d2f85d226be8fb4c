//! A store that can be made to take its time: before it commits, after it has, before it reads a page,
//! or by the clock; and to give nothing.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use intended_engine::keys;
use intended_ledger::NodeHash;
use intended_model::{TenantId, Timestamp};
use intended_runtime::{ManualClock, Runtime};
use intended_store::{
    BoxFuture, Commit, Committed, Fact, Result, Store, StoreError, StoreHealth, StoredEntry, TreeHead, Write,
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
    /// Stops nobody any more. Whether nobody has come by since it was closed.
    pub fn leave(&self) -> bool {
        self.closed.swap(false, Ordering::SeqCst)
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
    pub head: Gate,
    /// What every commit is answered with.
    pub refuses: Mutex<Option<StoreError>>,
    /// What every commit of this tenant is answered with.
    pub refuses_for: Mutex<Option<(TenantId, StoreError)>>,
    /// How long the next commit takes, in milliseconds.
    pub takes: AtomicI64,
    /// Neither a head nor control entries can be read.
    pub unreadable: AtomicBool,
    /// Commits that write a fact whose name begins so never end.
    pub hangs: Mutex<Option<&'static str>>,
    /// Looking for what is open of this tenant panics.
    pub panics: Mutex<Option<TenantId>>,
    /// How many were asked for.
    pub commits: AtomicUsize,
    /// Whether it refuses to be written.
    pub read_only: AtomicBool,
}

/// A world over such a store.
pub async fn world() -> (World, Arc<Slow>) {
    let world = World::new().await.unwrap();
    world.runtime.close().await.unwrap();
    let dir = world.dir.path();
    let slow = Arc::new(Slow {
        inner: SqliteStore::open(dir, &Options { shared: true, ..Options::default() }).unwrap(),
        clock: Arc::clone(&world.clock),
        before: Gate::default(),
        after: Gate::default(),
        page: Gate::default(),
        head: Gate::default(),
        takes: AtomicI64::new(0),
        unreadable: AtomicBool::new(false),
        refuses: Mutex::default(),
        refuses_for: Mutex::default(),
        hangs: Mutex::default(),
        panics: Mutex::default(),
        commits: AtomicUsize::new(0),
        read_only: AtomicBool::new(false),
    });
    (again(world, &slow, 99).await, slow)
}

/// Another runtime over the same store, which knows nothing but what is in it.
pub async fn again(mut world: World, slow: &Arc<Slow>, seed: u64) -> World {
    let (store, clock, rng) = (Arc::clone(slow), Arc::clone(&world.clock), Arc::new(SeededRng::new(seed)));
    let runtime = Runtime::open(store, clock, rng, root_key().unwrap(), "http://intended.test").await.unwrap();
    world.runtime = Arc::new(runtime);
    world.owner = world.runtime.authenticate(&world.owner_key).unwrap();
    world
}

fn gone<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T>> {
    Box::pin(std::future::ready(Err(StoreError::Unavailable("it is gone".to_owned()))))
}

impl Slow {
    fn panic_of(&self, tenant: &TenantId) {
        let panics = self.panics.lock().unwrap().as_ref() == Some(tenant);
        assert!(!panics, "a fault in what is read of {tenant}");
    }
}

impl Store for Slow {
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed>> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        let of_tenant = self.refuses_for.lock().unwrap().clone().filter(|(tenant, _)| *tenant == commit.tenant);
        let refused = self.refuses.lock().unwrap().clone().or(of_tenant.map(|(_, error)| error));
        let begins = |key: &str| self.hangs.lock().unwrap().is_some_and(|prefix| key.starts_with(prefix));
        let hangs = commit.writes.iter().any(|write| match write {
            Write::Put { key, .. } | Write::Delete { key } | Write::Add { key, .. } => begins(key),
        });
        Box::pin(async move {
            if let Some(refused) = refused {
                return Err(refused);
            }
            if hangs {
                std::future::pending::<()>().await;
            }
            self.before.pass().await;
            let refused = self.refuses.lock().unwrap().clone();
            if let Some(error) = refused {
                return Err(error);
            }
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
        if self.unreadable.load(Ordering::SeqCst) {
            return gone();
        }
        Box::pin(async move {
            self.head.pass().await;
            self.inner.head(tenant).await
        })
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
        if prefix == keys::OPEN_PREFIX {
            self.panic_of(tenant);
        }
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
        if self.unreadable.load(Ordering::SeqCst) {
            return gone();
        }
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
