//! The scale-out engine: PostgreSQL 13 or later, any number of nodes.
//!
//! * Each node gathers what waits into one transaction, as the embedded engine does; the head row
//!   of each tenant is locked for it, so nodes that write to one tenant take turns and each sees
//!   what the other left.
//! * A commit that gets no answer (the connection broke, or the server was silent for too long) is
//!   looked up by its transaction id. Only if that fails too is its outcome unknown, and answered so
//!   (`Stopped`). Going on is safe: nothing is kept from one batch to the next, the heads are read
//!   again.
//! * The writer has a connection of its own: however many readers there are, none stands before it.
//! * The engine has its own small runtime, so that a fact can be read on the calling thread.
//!
//! Encrypted connections to the server, and telling other nodes of changes, are not here yet.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Client, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use intended_ledger::NodeHash;
use intended_model::{TenantId, Timestamp};
use intended_store::judge::Head;
use intended_store::{
    Backlog, BoxFuture, Commit, Committed, Fact, MAX_QUEUE, Result, Store, StoreError, StoreHealth, StoredEntry,
    TreeHead,
};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

mod batch;
mod reads;
mod schema;

use batch::Job;
use reads::{Ask, Page};

/// Connections of a node that read; one more writes.
const READERS: usize = 8;
/// How long a connection is waited for, new or from the pool.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the server may take for everything of a batch but its commit, for the commit, and for a
/// fact that a decision waits for.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long it may take for any other read: a large page.
const READING: Duration = Duration::from_secs(30);
/// Expired facts that one transaction removes.
const PURGE: u64 = 500;

/// The engine.
pub struct PostgresStore {
    runtime: Option<tokio::runtime::Runtime>,
    jobs: mpsc::Sender<Job>,
    pools: Pools,
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Pools {
    /// Of one connection.
    writer: Pool,
    readers: Pool,
}

/// What the store and its writing task share.
#[derive(Default)]
struct Shared {
    closed: AtomicBool,
    backlog: Backlog,
    /// Why the last commit failed, if it did.
    trouble: Mutex<Option<StoreError>>,
    /// How long the last batch took; 0 before the first.
    commit_micros: AtomicU64,
    /// A tenant's number never changes and a tenant never goes away.
    numbers: Mutex<HashMap<TenantId, i64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn trouble(&self, why: Option<StoreError>) {
        *lock(&self.trouble) = why;
    }

    async fn number(&self, client: &Client, tenant: &TenantId) -> Result<i64> {
        let known = lock(&self.numbers).get(tenant).copied();
        if let Some(number) = known {
            return Ok(number);
        }
        let number = reads::number(client, tenant).await?;
        lock(&self.numbers).insert(tenant.clone(), number);
        Ok(number)
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

/// PostgreSQL's error as the store's.
fn failure(error: tokio_postgres::Error) -> StoreError {
    let text = error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
    match error.code() {
        Some(code) if *code == SqlState::DISK_FULL => StoreError::Full(text),
        Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => StoreError::ReadOnly(text),
        Some(code) if *code == SqlState::DATA_CORRUPTED || *code == SqlState::INDEX_CORRUPTED => {
            StoreError::Corrupt(text)
        }
        _ => StoreError::Unavailable(text),
    }
}

/// Why there is no connection.
fn reached(error: PoolError) -> StoreError {
    match error {
        PoolError::Backend(error) => failure(error),
        PoolError::Closed => StoreError::Closed,
        other => StoreError::Unavailable(other.to_string()),
    }
}

/// The server was silent for too long.
fn unanswered() -> StoreError {
    StoreError::Unavailable("the server does not answer".to_owned())
}

/// Gives `act` a connection and no more than `deadline`. The pool does not notice a connection that
/// is silent, so after that none of the idle ones is used again.
async fn within<T, F>(pool: Pool, deadline: Duration, act: impl FnOnce(Client) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let client = pool.get().await.map_err(reached)?;
    if let Ok(done) = tokio::time::timeout(deadline, act(client)).await {
        return done;
    }
    drop(pool.retain(|_, _| false));
    Err(unanswered())
}

impl PostgresStore {
    /// Connects and brings the schema up to date. `url` is a connection string of `libpq`'s forms.
    /// The tables are in the connection's search path.
    pub async fn open(url: &str) -> Result<Self> {
        let mut config: tokio_postgres::Config =
            url.parse().map_err(|e: tokio_postgres::Error| StoreError::Unavailable(e.to_string()))?;
        config.connect_timeout(PATIENCE);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("ledger-postgres")
            .enable_all()
            .build()
            .map_err(|e| StoreError::Unavailable(e.to_string()))?;
        let shared = Arc::new(Shared::default());
        let (jobs, queue) = mpsc::channel(MAX_QUEUE);
        let starting = runtime.spawn(start(config, queue, Arc::clone(&shared)));
        let pools = match starting.await.map_err(|e| StoreError::Unavailable(e.to_string())) {
            Ok(Ok(pools)) => pools,
            Ok(Err(error)) | Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        Ok(Self { runtime: Some(runtime), jobs, pools, shared })
    }

    /// Reads with a connection of the pool, on the engine's runtime.
    fn with<T, F>(&self, act: impl FnOnce(Client, Arc<Shared>) -> F + Send + 'static) -> BoxFuture<'_, Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.on(self.pools.readers.clone(), READING, act)
    }

    fn on<T, F>(
        &self,
        pool: Pool,
        deadline: Duration,
        act: impl FnOnce(Client, Arc<Shared>) -> F + Send + 'static,
    ) -> BoxFuture<'_, Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let task = self.runtime.as_ref().map(|runtime| runtime.spawn(within(pool, deadline, move |c| act(c, shared))));
        Box::pin(async move {
            let task = task.ok_or(StoreError::Closed)?;
            task.await.map_err(|e| StoreError::Unavailable(e.to_string()))?
        })
    }

    fn page(&self, tenant: &TenantId, page: Page, limit: usize) -> BoxFuture<'_, Result<Vec<StoredEntry>>> {
        let tenant = tenant.clone();
        self.with(move |c, shared| async move {
            let number = shared.number(&c, &tenant).await?;
            reads::entries(&c, number, page, limit).await
        })
    }

    fn proof(&self, tenant: &TenantId, ask: Ask, size: u64) -> BoxFuture<'_, Result<Vec<NodeHash>>> {
        let tenant = tenant.clone();
        self.with(move |c, shared| async move {
            let number = shared.number(&c, &tenant).await?;
            reads::proof(&c, number, ask, size).await
        })
    }

    fn enqueue(&self, job: Job) -> Result<()> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        let weight = if let Job::Commit(commit, _) = &job { commit.weight() } else { 0 };
        self.shared.backlog.enter(weight)?;
        self.jobs.try_send(job).map_err(|e| {
            self.shared.backlog.leave(weight);
            match e {
                mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
            }
        })
    }
}

async fn start(mut config: tokio_postgres::Config, queue: mpsc::Receiver<Job>, shared: Arc<Shared>) -> Result<Pools> {
    // A connection whose other end is gone is noticed also while nothing is sent.
    config.tcp_user_timeout(DEADLINE).keepalives_idle(DEADLINE).keepalives_interval(PATIENCE).keepalives_retries(3);
    let default = shown(&connect(config.clone(), 1)?, "synchronous_commit").await?;
    // An acknowledged commit is durable, whatever the server's default; a stronger one is kept.
    let durable = if default == "remote_apply" { &*default } else { "on" };
    let options = |own: &str| {
        let given = config.get_options().unwrap_or_default();
        format!("{own} -c idle_in_transaction_session_timeout=30s {given} -c synchronous_commit={durable}")
    };
    let (mut writing, mut reading) = (config.clone(), config.clone());
    writing.options(options("-c lock_timeout=8s"));
    reading.options(options(&format!("-c statement_timeout={}s", READING.as_secs())));
    let pools = Pools { writer: connect(writing, 1)?, readers: connect(reading, READERS)? };

    let level = shown(&pools.writer, "synchronous_commit").await?;
    if level != durable {
        // A pooler between here and the server can drop options.
        let why = format!("the connection has synchronous_commit={level}, not {durable}");
        return Err(StoreError::Unavailable(why));
    }
    if shown(&pools.writer, "fsync").await? == "off" {
        tracing::warn!("the server runs with fsync=off: a crash of its machine loses what was acknowledged");
    }
    let mut client = pools.writer.get().await.map_err(reached)?;
    schema::migrate(&mut client).await?;
    tokio::spawn(batch::run(pools.writer.clone(), pools.readers.clone(), queue, shared));
    Ok(pools)
}

async fn shown(pool: &Pool, setting: &str) -> Result<String> {
    let client = pool.get().await.map_err(reached)?;
    let row = client.query_one("SELECT current_setting($1)", &[&setting]).await.map_err(failure)?;
    row.try_get(0).map_err(failure)
}

fn connect(config: tokio_postgres::Config, size: usize) -> Result<Pool> {
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    Pool::builder(Manager::from_config(config, NoTls, recycling))
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(PATIENCE))
        .create_timeout(Some(PATIENCE))
        .build()
        .map_err(|e| StoreError::Unavailable(e.to_string()))
}

impl Store for PostgresStore {
    fn engine(&self) -> &'static str {
        "PostgreSQL"
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed>> {
        let (answer, outcome) = oneshot::channel();
        let queued = self.enqueue(Job::Commit(commit, answer));
        Box::pin(async move {
            queued?;
            outcome.await.unwrap_or_else(|_| Err(StoreError::Stopped("the writer ended without an answer".to_owned())))
        })
    }

    fn create_tenant<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<()>> {
        let tenant = tenant.clone();
        if self.shared.closed.load(Ordering::Acquire) {
            return Box::pin(std::future::ready(Err(StoreError::Closed)));
        }
        self.on(self.pools.writer.clone(), DEADLINE, move |c, _| async move {
            let text = "INSERT INTO heads (name, frontier, control_version, last_at, next_version) \
                        VALUES ($1, $2, 0, 0, 1) ON CONFLICT DO NOTHING RETURNING number";
            let rows = reads::query(&c, text, &[&tenant.as_str(), &Head::default().frontier.to_bytes()]).await?;
            if rows.is_empty() { Err(StoreError::TenantExists) } else { Ok(()) }
        })
    }

    fn tenants(&self) -> BoxFuture<'_, Result<Vec<TenantId>>> {
        self.with(|c, _| async move { reads::tenants(&c).await })
    }

    fn head<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<TreeHead>> {
        let tenant = tenant.clone();
        self.with(move |c, shared| async move {
            let number = shared.number(&c, &tenant).await?;
            Ok(reads::head(&c, number).await?.tree_head())
        })
    }

    fn fact_now(&self, tenant: &TenantId, key: &str) -> Result<Option<Fact>> {
        let runtime = self.runtime.as_ref().ok_or(StoreError::Closed)?;
        let (pool, shared) = (self.pools.readers.clone(), Arc::clone(&self.shared));
        let (tenant, key) = (tenant.clone(), key.to_owned());
        // The engine's own threads do the work, so that waiting here cannot wait for itself.
        let (answer, outcome) = std::sync::mpsc::sync_channel(1);
        runtime.spawn(async move {
            let read =
                within(
                    pool,
                    DEADLINE,
                    |c| async move { reads::fact(&c, shared.number(&c, &tenant).await?, &key).await },
                );
            let _ = answer.send(read.await);
        });
        outcome.recv().map_err(|_| StoreError::Unavailable("the read ended without an answer".to_owned()))?
    }

    fn facts<'a>(
        &'a self,
        tenant: &'a TenantId,
        prefix: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(String, Fact)>>> {
        let (tenant, prefix, after) = (tenant.clone(), prefix.to_owned(), after.to_owned());
        self.with(move |c, shared| async move {
            let number = shared.number(&c, &tenant).await?;
            reads::facts(&c, number, &prefix, &after, limit).await
        })
    }

    fn entry<'a>(&'a self, tenant: &'a TenantId, index: u64) -> BoxFuture<'a, Result<Option<StoredEntry>>> {
        let page = self.page(tenant, Page::From(index), 1);
        Box::pin(async move { Ok(page.await?.pop().filter(|entry| entry.index == index)) })
    }

    fn entries<'a>(&'a self, tenant: &'a TenantId, from: u64, limit: usize) -> BoxFuture<'a, Result<Vec<StoredEntry>>> {
        self.page(tenant, Page::From(from), limit)
    }

    fn entries_before<'a>(
        &'a self,
        tenant: &'a TenantId,
        before: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntry>>> {
        self.page(tenant, Page::Before(before), limit)
    }

    fn control_entries<'a>(
        &'a self,
        tenant: &'a TenantId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntry>>> {
        self.page(tenant, Page::ControlFrom(from), limit)
    }

    fn entries_of<'a>(&'a self, tenant: &'a TenantId, subject: [u8; 16]) -> BoxFuture<'a, Result<Vec<StoredEntry>>> {
        self.page(tenant, Page::Of(subject), usize::MAX)
    }

    fn inclusion_proof<'a>(
        &'a self,
        tenant: &'a TenantId,
        index: u64,
        size: u64,
    ) -> BoxFuture<'a, Result<Vec<NodeHash>>> {
        self.proof(tenant, Ask::Inclusion(index), size)
    }

    fn consistency_proof<'a>(
        &'a self,
        tenant: &'a TenantId,
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<Vec<NodeHash>>> {
        self.proof(tenant, Ask::Consistency(from), to)
    }

    fn root_at<'a>(&'a self, tenant: &'a TenantId, size: u64) -> BoxFuture<'a, Result<NodeHash>> {
        let root = self.proof(tenant, Ask::Root, size);
        Box::pin(
            async move { root.await?.pop().ok_or_else(|| StoreError::Corrupt("a tree without a root".to_owned())) },
        )
    }

    fn purge_expired(&self, now: Timestamp) -> BoxFuture<'_, Result<u64>> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Box::pin(std::future::ready(Err(StoreError::Closed)));
        }
        // Some at a time, and none that a batch is about to change: neither waits for the other.
        let text = "WITH gone AS MATERIALIZED (SELECT tenant, key FROM facts WHERE expires_at < $1 \
                    LIMIT $2 FOR UPDATE SKIP LOCKED) \
                    DELETE FROM facts USING gone WHERE facts.tenant = gone.tenant AND facts.key = gone.key";
        Box::pin(async move {
            let mut removed = 0;
            loop {
                let some = self.with(move |c, _| async move {
                    let statement = c.prepare_cached(text).await.map_err(failure)?;
                    c.execute(&statement, &[&now.as_millis(), &PURGE.cast_signed()]).await.map_err(failure)
                });
                let some = some.await?;
                removed += some;
                if some < PURGE {
                    return Ok(removed);
                }
            }
        })
    }

    fn health(&self) -> BoxFuture<'_, StoreHealth> {
        let closed = self.shared.closed.load(Ordering::Acquire).then_some(StoreError::Closed);
        let why = closed.or_else(|| lock(&self.shared.trouble).clone());
        let micros = self.shared.commit_micros.load(Ordering::Relaxed);
        let health = StoreHealth {
            writable: why.is_none(),
            code: why.as_ref().map(StoreError::code),
            detail: why.map(|w| w.to_string()).unwrap_or_default(),
            free_bytes: None,
            used_bytes: None,
            wal_bytes: None,
            commit_micros: (micros > 0).then_some(micros),
        };
        Box::pin(std::future::ready(health))
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.shared.closed.swap(true, Ordering::AcqRel) {
                return Ok(());
            }
            let (answer, done) = oneshot::channel();
            if self.jobs.send(Job::Close(answer)).await.is_ok() {
                let _ = done.await;
            }
            Ok(())
        })
    }
}

impl Drop for PostgresStore {
    /// Abandons what is queued, as a kill would.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
