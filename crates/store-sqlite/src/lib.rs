//! The embedded engine: one SQLite file in WAL mode with `synchronous=FULL`, one writer thread.
//!
//! * Commits queue up; the writer takes what is there, judges each by itself inside one
//!   transaction, and one fsync makes all of them durable. Head rows are read again in each
//!   transaction, so a second writer on another connection is fenced like any other.
//! * A checkpoint of the write-ahead log never stalls a commit: see [`checkpoint`].
//! * After a commit whose outcome is unknown the writer stops for good: what is in the file decides,
//!   when it is opened again.
//! * On opening, each tenant's frontier is computed again from kept blocks and stored leaves and
//!   compared with the head: a damaged file is named, not served.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use intended_ledger::{Frontier, NodeHash};
use intended_model::{TenantId, Timestamp};
use intended_store::{
    BoxFuture, Commit, Committed, Fact, MAX_QUEUE, Result, Store, StoreError, StoreHealth, StoredEntry, TreeHead,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use tokio::sync::oneshot;

mod checkpoint;
mod reads;
mod schema;
mod writer;

/// How to open a store.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Refuse to grow the file beyond this: commits then answer `store.full`.
    pub max_bytes: Option<u64>,
    /// Do not take the directory's lock: for tests with two writers.
    pub shared: bool,
}

/// Name of the database file in the data directory.
pub const FILE: &str = "ledger.db";
/// Name of the lock file.
const LOCK: &str = "lock";
/// Read connections. Reads are short; two keep both cores busy.
const READERS: usize = 2;

enum Job {
    Commit(Commit, oneshot::Sender<Result<Committed>>),
    Run(Box<dyn FnOnce(&mut Connection) + Send>),
    Close(oneshot::Sender<()>),
}

/// The engine.
pub struct SqliteStore {
    path: PathBuf,
    jobs: mpsc::SyncSender<Job>,
    readers: Arc<Vec<Mutex<Connection>>>,
    shared: Arc<Shared>,
    _lock: Option<std::fs::File>,
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    closed: AtomicBool,
    /// Why the writer stopped, if it did.
    stopped: Mutex<Option<String>>,
    /// Why the last commit failed, if it did (a full disk, say); cleared by the next that works.
    trouble: Mutex<Option<String>>,
    checkpoint: checkpoint::Progress,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the data directory, creating it if it is not there.
    pub fn open(dir: &Path, options: &Options) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|e| StoreError::ReadOnly(format!("{}: {e}", dir.display())))?;
        let held = if options.shared { None } else { Some(take_lock(dir)?) };
        let path = dir.join(FILE);
        let mut writer = connect(&path, false)?;
        schema::migrate(&mut writer)?;
        verify_heads(&writer)?;
        if let Some(max) = options.max_bytes {
            let pages = i64::try_from(max).unwrap_or(i64::MAX) / schema::PAGE_SIZE;
            writer.pragma_update(None, "max_page_count", pages).map_err(|e| failure(&e))?;
        }
        let readers = (0..READERS).map(|_| connect(&path, true).map(Mutex::new)).collect::<Result<Vec<_>>>()?;
        let shared = Arc::new(Shared::default());
        let (jobs, queue) = mpsc::sync_channel(MAX_QUEUE);
        checkpoint::spawn(connect(&path, false)?, Arc::clone(&shared))?;
        writer::spawn(writer, queue, Arc::clone(&shared))?;
        Ok(Self { path, jobs, readers: Arc::new(readers), shared, _lock: held })
    }

    /// The path of the database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn enqueue(&self, job: Job) -> Result<()> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        self.jobs.try_send(job).map_err(|e| match e {
            mpsc::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    /// Runs a read on a connection of the pool, off the async threads.
    fn read<T: Send + 'static>(&self, read: impl FnOnce(&Connection) -> Result<T> + Send + 'static) -> BoxFuture<'_, Result<T>> {
        let readers = Arc::clone(&self.readers);
        Box::pin(async move {
            let task = tokio::task::spawn_blocking(move || {
                // The last connection is for these; the first is left to the decision path.
                let connection = readers.last().ok_or(StoreError::Closed)?;
                read(&lock(connection))
            });
            task.await.map_err(|e| StoreError::Unavailable(e.to_string()))?
        })
    }
}

fn take_lock(dir: &Path) -> Result<std::fs::File> {
    let path = dir.join(LOCK);
    let open = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(|e| StoreError::ReadOnly(format!("{}: {e}", path.display())))?;
    file.try_lock().map_err(|_| StoreError::Locked(dir.display().to_string()))?;
    Ok(file)
}

fn connect(path: &Path, read_only: bool) -> Result<Connection> {
    let flags = if read_only {
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX
    } else {
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX
    };
    let connection = Connection::open_with_flags(path, flags).map_err(|e| failure(&e))?;
    schema::configure(&connection, read_only).map_err(|e| failure(&e))?;
    Ok(connection)
}

/// SQLite's error as the store's.
fn failure(error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode as E;
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(E::DiskFull) => StoreError::Full(text),
        Some(E::ReadOnly | E::CannotOpen | E::PermissionDenied) => StoreError::ReadOnly(text),
        Some(E::DatabaseCorrupt | E::NotADatabase) => StoreError::Corrupt(text),
        Some(E::DatabaseBusy | E::DatabaseLocked) => StoreError::Unavailable(text),
        _ => StoreError::Unavailable(text),
    }
}

/// Recomputes each tenant's frontier from what is stored.
fn verify_heads(connection: &Connection) -> Result<()> {
    for (number, name) in reads::tenants(connection)? {
        let head = reads::head(connection, number)?.ok_or_else(|| StoreError::Corrupt(format!("`{name}` has no head")))?;
        let size = head.frontier.size();
        let computed = reads::frontier(connection, number, size)?;
        if computed != head.frontier {
            return Err(StoreError::Corrupt(format!("the stored entries of `{name}` do not have the root of its head")));
        }
        if reads::leaf(connection, number, size)?.is_some() {
            return Err(StoreError::Corrupt(format!("`{name}` has entries beyond its head")));
        }
    }
    Ok(())
}

impl Store for SqliteStore {
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed>> {
        let (answer, outcome) = oneshot::channel();
        let queued = self.enqueue(Job::Commit(commit, answer));
        Box::pin(async move {
            queued?;
            outcome.await.unwrap_or(Err(StoreError::Closed))
        })
    }

    fn create_tenant<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<()>> {
        let (answer, outcome) = oneshot::channel();
        let tenant = tenant.clone();
        let queued = self.enqueue(Job::Run(Box::new(move |connection| {
            let _ = answer.send(writer::create_tenant(connection, &tenant));
        })));
        Box::pin(async move {
            queued?;
            outcome.await.unwrap_or(Err(StoreError::Closed))
        })
    }

    fn tenants(&self) -> BoxFuture<'_, Result<Vec<TenantId>>> {
        self.read(|c| Ok(reads::tenants(c)?.into_iter().map(|(_, id)| id).collect()))
    }

    fn head<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<TreeHead>> {
        let tenant = tenant.clone();
        self.read(move |c| {
            let number = reads::number(c, &tenant)?;
            reads::head(c, number)?.map(|h| h.tree_head()).ok_or(StoreError::UnknownTenant)
        })
    }

    fn fact_now(&self, tenant: &TenantId, key: &str) -> Result<Option<Fact>> {
        let connection = self.readers.first().ok_or(StoreError::Closed)?;
        let connection = lock(connection);
        let number = reads::number(&connection, tenant)?;
        reads::fact(&connection, number, key)
    }

    fn facts<'a>(&'a self, tenant: &'a TenantId, prefix: &'a str, after: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<(String, Fact)>>> {
        let (tenant, prefix, after) = (tenant.clone(), prefix.to_owned(), after.to_owned());
        self.read(move |c| reads::facts(c, reads::number(c, &tenant)?, &prefix, &after, limit))
    }

    fn entry<'a>(&'a self, tenant: &'a TenantId, index: u64) -> BoxFuture<'a, Result<Option<StoredEntry>>> {
        let tenant = tenant.clone();
        self.read(move |c| reads::leaf(c, reads::number(c, &tenant)?, index))
    }

    fn entries<'a>(&'a self, tenant: &'a TenantId, from: u64, limit: usize) -> BoxFuture<'a, Result<Vec<StoredEntry>>> {
        let tenant = tenant.clone();
        self.read(move |c| reads::entries(c, reads::number(c, &tenant)?, from, limit))
    }

    fn entries_before<'a>(&'a self, tenant: &'a TenantId, before: u64, limit: usize) -> BoxFuture<'a, Result<Vec<StoredEntry>>> {
        let tenant = tenant.clone();
        self.read(move |c| reads::entries_before(c, reads::number(c, &tenant)?, before, limit))
    }

    fn control_entries<'a>(&'a self, tenant: &'a TenantId, from: u64, limit: usize) -> BoxFuture<'a, Result<Vec<StoredEntry>>> {
        let tenant = tenant.clone();
        self.read(move |c| reads::control_entries(c, reads::number(c, &tenant)?, from, limit))
    }

    fn entries_of<'a>(&'a self, tenant: &'a TenantId, subject: [u8; 16]) -> BoxFuture<'a, Result<Vec<StoredEntry>>> {
        let tenant = tenant.clone();
        self.read(move |c| reads::entries_of(c, reads::number(c, &tenant)?, subject))
    }

    fn inclusion_proof<'a>(&'a self, tenant: &'a TenantId, index: u64, size: u64) -> BoxFuture<'a, Result<Vec<NodeHash>>> {
        let tenant = tenant.clone();
        self.read(move |c| intended_ledger::inclusion_proof(&reads::Tree::new(c, reads::number(c, &tenant)?), index, size))
    }

    fn consistency_proof<'a>(&'a self, tenant: &'a TenantId, from: u64, to: u64) -> BoxFuture<'a, Result<Vec<NodeHash>>> {
        let tenant = tenant.clone();
        self.read(move |c| intended_ledger::consistency_proof(&reads::Tree::new(c, reads::number(c, &tenant)?), from, to))
    }

    fn root_at<'a>(&'a self, tenant: &'a TenantId, size: u64) -> BoxFuture<'a, Result<NodeHash>> {
        let tenant = tenant.clone();
        self.read(move |c| intended_ledger::root_of(&reads::Tree::new(c, reads::number(c, &tenant)?), size))
    }

    fn purge_expired(&self, now: Timestamp) -> BoxFuture<'_, Result<u64>> {
        let (answer, outcome) = oneshot::channel();
        let queued = self.enqueue(Job::Run(Box::new(move |connection| {
            let purged = connection
                .execute("DELETE FROM facts WHERE expires_at < ?1", params![now.as_millis()])
                .map(|n| n as u64)
                .map_err(|e| failure(&e));
            let _ = answer.send(purged);
        })));
        Box::pin(async move {
            queued?;
            outcome.await.unwrap_or(Err(StoreError::Closed))
        })
    }

    fn health(&self) -> BoxFuture<'_, StoreHealth> {
        let stopped = lock(&self.shared.stopped).clone();
        let trouble = lock(&self.shared.trouble).clone();
        let closed = self.shared.closed.load(Ordering::Acquire);
        let wal = std::fs::metadata(self.path.with_extension("db-wal")).map(|m| m.len()).ok();
        let free = self.path.parent().and_then(|d| rustix::fs::statvfs(d).ok()).map(|s| s.f_bavail * s.f_frsize);
        let detail = match (closed, stopped, trouble) {
            (true, _, _) => Some("closed".to_owned()),
            (_, Some(why), _) => Some(format!("stopped: {why}")),
            (_, _, Some(why)) => Some(why),
            _ => None,
        };
        let health = StoreHealth {
            writable: detail.is_none(),
            detail: detail.unwrap_or_default(),
            free_bytes: free,
            wal_bytes: wal,
        };
        Box::pin(std::future::ready(health))
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        let (answer, done) = oneshot::channel();
        let queued = self.enqueue(Job::Close(answer));
        Box::pin(async move {
            match queued {
                Err(StoreError::Closed) => return Ok(()),
                other => other?,
            }
            let _ = done.await;
            Ok(())
        })
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.checkpoint.wake();
    }
}

/// Reads a ledger without writing anything, also while a server runs on it: for `intended verify`.
#[derive(Debug)]
pub struct ReadOnly {
    connection: Connection,
}

impl ReadOnly {
    /// Opens the file of a data directory.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        if !path.is_file() {
            return Err(StoreError::Unavailable(format!("{}: there is no `{FILE}`", dir.display())));
        }
        let connection = connect(&path, true)?;
        // One snapshot for everything that is read.
        connection.execute_batch("BEGIN").map_err(|e| failure(&e))?;
        Ok(Self { connection })
    }
    pub fn tenants(&self) -> Result<Vec<TenantId>> {
        Ok(reads::tenants(&self.connection)?.into_iter().map(|(_, id)| id).collect())
    }
    pub fn frontier(&self, tenant: &TenantId) -> Result<Frontier> {
        let number = reads::number(&self.connection, tenant)?;
        Ok(reads::head(&self.connection, number)?.ok_or(StoreError::UnknownTenant)?.frontier)
    }
    pub fn entries(&self, tenant: &TenantId, from: u64, limit: usize) -> Result<Vec<StoredEntry>> {
        reads::entries(&self.connection, reads::number(&self.connection, tenant)?, from, limit)
    }
    pub fn facts(&self, tenant: &TenantId, prefix: &str, after: &str, limit: usize) -> Result<Vec<(String, Fact)>> {
        reads::facts(&self.connection, reads::number(&self.connection, tenant)?, prefix, after, limit)
    }
    /// The value of one setting of the connection, for diagnosis.
    pub fn pragma(&self, name: &str) -> Result<Option<String>> {
        self.connection
            .query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0))
            .optional()
            .map(|v| v.map(|v| format!("{v:?}")))
            .map_err(|e| failure(&e))
    }
}
