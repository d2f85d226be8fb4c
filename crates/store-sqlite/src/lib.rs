//! The embedded engine: one SQLite file in WAL mode with `synchronous=FULL`, one writer thread.
//!
//! * Commits queue up; the writer takes what is there, judges each by itself inside one
//!   transaction, and one fsync makes all of them durable. A commit that is alone, as those before it
//!   were, is written by its own task, without the way to the writer's thread and back.
//! * A commit of one entry changes one row: the tenant's head stands in it, and what can be found
//!   again from the entries is folded in once in 256 (`docs/decisions/0009-one-row.md`). While the
//!   directory is locked, heads are kept in memory; otherwise they are read in each transaction, so
//!   that a second writer on another connection is fenced like any other.
//! * A checkpoint of the write-ahead log never stalls a commit: see [`checkpoint`].
//! * After a commit whose outcome is unknown the writer stops for good: what is in the file decides,
//!   when it is opened again.
//! * On opening, each tenant's frontier is computed again from kept blocks and stored leaves and
//!   compared with the head: a damaged file is named, not served.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread::JoinHandle;

use intended_ledger::{BLOCK, NodeHash};
use intended_model::{TenantId, Timestamp};
use intended_store::{
    Ahead, BoxFuture, Commit, Committed, Fact, MAX_QUEUE, Result, Store, StoreError, StoreHealth, StoredEntry, TreeHead,
};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use crate::blocks::Blocks;

mod blocks;
mod checkpoint;
mod copy;
mod read_only;
mod reads;
mod schema;
mod writer;

pub use copy::copy;
pub use read_only::ReadOnly;

/// How to open a store.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Refuse to grow the file beyond this: commits then answer `store.full`.
    pub max_bytes: Option<u64>,
    /// Do not take the directory's lock: for tests with two writers. Nothing is then known from
    /// memory that another writer can change.
    pub shared: bool,
}

/// Name of the database file in the data directory.
pub const FILE: &str = "ledger.db";
/// Name of the lock file.
const LOCK: &str = "lock";
/// Read connections: one that only the decision path uses, so that a long page never stands before
/// it, and three for everything else.
const READERS: usize = 1 + 3;
/// Expired facts that one transaction removes. Their names are spread over the whole table, so each
/// is a page or two to write: about a millisecond, which is what a commit may have to wait.
const PURGE: u64 = 50;
/// Between two such transactions commits have the disk to themselves: 10,000 facts a second.
const PURGE_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);
/// Most bytes that wait to be written, unless a single commit has more.
const MAX_QUEUE_BYTES: usize = 64 << 20;
/// Bytes of the log's index that are there from the start, enough for a log of 1 GiB. SQLite would
/// extend it after a commit is durable, when a full disk could not be told from a lost commit.
const INDEX_BYTES: u64 = 1 << 20;

/// Work on the writer's connection.
type Task = Box<dyn FnOnce(&mut Connection, &Shared) + Send>;

enum Job {
    Commit(Commit, oneshot::Sender<Result<Committed>>),
    /// Something rarer than a commit, in its turn.
    Run(Task),
    /// Copy what a checkpoint has left.
    Finish,
    Close(oneshot::Sender<()>),
}

/// The engine.
pub struct SqliteStore {
    path: PathBuf,
    /// `None` only while it is dropped.
    jobs: Option<mpsc::SyncSender<Job>>,
    desk: Arc<Mutex<writer::Desk>>,
    readers: Arc<Readers>,
    shared: Arc<Shared>,
    max_bytes: Option<u64>,
    threads: Vec<JoinHandle<()>>,
    /// After everything that has a connection.
    _files: Option<Arc<Files>>,
    /// Held until the threads have ended.
    _lock: Option<std::fs::File>,
}

/// `None` once the store is let go.
type Reader = Mutex<Option<Connection>>;

struct Readers {
    decision: Reader,
    pool: Vec<Reader>,
    turn: AtomicUsize,
}

fn reading<T>(connection: &Option<Connection>, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    read(connection.as_ref().ok_or(StoreError::Closed)?)
}

/// The engine's files, beside SQLite's own handles on them. Closing any handle on a file gives up
/// all locks that the process has on it, SQLite's too: so these are opened once, stay open until
/// every connection is closed, and there are none where several stores share a directory.
struct Files {
    database: std::fs::File,
    _index: std::fs::File,
}

impl Files {
    fn open(path: &Path) -> Result<Self> {
        let open = |path: &Path| {
            let file = std::fs::OpenOptions::new().read(true).write(true).open(path);
            file.map_err(|e| StoreError::ReadOnly(format!("{}: {e}", path.display())))
        };
        let (database, index) = (open(path)?, open(&path.with_extension("db-shm"))?);
        let there = rustix::fs::fallocate(&index, rustix::fs::FallocateFlags::empty(), 0, INDEX_BYTES);
        if let Err(error) = there {
            tracing::warn!(%error, "no room was set aside for the index of the write-ahead log");
        }
        Ok(Self { database, _index: index })
    }
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    /// No more commits are taken.
    closed: AtomicBool,
    /// The store was let go without closing: what is queued is abandoned.
    dropped: AtomicBool,
    /// Why the writer stopped for good, if it did.
    stopped: Mutex<Option<StoreError>>,
    /// Why the last commit failed, if it did (a full disk, say); cleared by the next that works.
    trouble: Mutex<Option<StoreError>>,
    /// Commits between start and answer.
    in_flight: AtomicUsize,
    /// How long the last batch took; 0 before the first.
    commit_micros: AtomicU64,
    /// How many batches in a row had nobody beside the one commit, as far as it matters.
    alone: AtomicU32,
    /// Whether nobody else writes: the directory's lock is held.
    exclusive: bool,
    /// A tenant's number never changes and a tenant never goes away.
    numbers: Mutex<HashMap<TenantId, i64>>,
    /// The roots of blocks, by tenant number; they never change either.
    blocks: Mutex<HashMap<i64, Arc<Blocks>>>,
    /// What `subjects` does not know yet, by tenant number; only if `exclusive`.
    tails: Mutex<HashMap<i64, Tail>>,
    /// Of commits that wait for the writer's thread.
    queued_bytes: AtomicUsize,
    checkpoint: checkpoint::Progress,
    /// Told of each head before it is durable.
    ahead: OnceLock<Ahead>,
}

/// The entries since a tenant was last folded.
#[derive(Default)]
struct Tail {
    from: u64,
    /// Subject and index.
    entries: Vec<([u8; 16], u64)>,
}

impl Shared {
    /// Where the tail begins, and which of it is about the subject.
    fn tail(&self, tenant: i64, subject: [u8; 16]) -> Option<(u64, Vec<u64>)> {
        let about = |tail: &Tail| {
            let mine = tail.entries.iter().filter(|(of, _)| *of == subject);
            (tail.from, mine.map(|(_, index)| *index).collect())
        };
        self.exclusive.then(|| lock(&self.tails).get(&tenant).map(about).unwrap_or_default())
    }

    /// The tree of a tenant's first `size` entries. The caller has seen that they are there.
    fn tree<'c>(&self, connection: &'c Connection, tenant: i64, size: u64) -> Result<reads::Tree<'c>> {
        let wanted = size / BLOCK;
        let known = lock(&self.blocks).get(&tenant).cloned().unwrap_or_default();
        if known.len() >= wanted {
            return Ok(reads::Tree { connection, tenant, blocks: known });
        }
        let roots = reads::blocks(connection, tenant, known.len(), wanted)?;
        let mut all = lock(&self.blocks);
        let blocks = all.entry(tenant).or_default();
        // Somebody may have read some of them meanwhile.
        for (index, root) in (known.len()..).zip(roots) {
            if blocks.len() == index {
                Arc::make_mut(blocks).push(root);
            }
        }
        Ok(reads::Tree { connection, tenant, blocks: Arc::clone(blocks) })
    }

    fn number(&self, connection: &Connection, tenant: &TenantId) -> Result<i64> {
        if let Some(number) = lock(&self.numbers).get(tenant) {
            return Ok(*number);
        }
        let number = reads::number(connection, tenant)?;
        lock(&self.numbers).insert(tenant.clone(), number);
        Ok(number)
    }

    /// Nothing is written any more until the store is opened again.
    fn stop(&self, error: StoreError) {
        tracing::error!(%error, "the store has stopped");
        lock(&self.stopped).get_or_insert(error);
    }
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
        let shared = Arc::new(Shared { exclusive: held.is_some(), ..Shared::default() });
        let heads = verify_heads(&writer, &shared)?;
        if let Some(max) = options.max_bytes {
            let pages = i64::try_from(max).unwrap_or(i64::MAX) / schema::PAGE_SIZE;
            writer.pragma_update(None, "max_page_count", pages).map_err(|e| failure(&e))?;
        }
        let mut readers =
            (0..READERS).map(|_| connect(&path, true).map(Some).map(Mutex::new)).collect::<Result<Vec<_>>>()?;
        let decision = readers.pop().ok_or(StoreError::Closed)?;
        let readers = Arc::new(Readers { decision, pool: readers, turn: AtomicUsize::new(0) });
        shared.checkpoint.watch(&mut writer).map_err(|e| failure(&e))?;
        let (jobs, queue) = mpsc::sync_channel(MAX_QUEUE);
        let desk = Arc::new(Mutex::new(writer::Desk::new(writer, heads)));
        let files = if options.shared { None } else { Some(Arc::new(Files::open(&path)?)) };
        let threads = vec![
            checkpoint::spawn(connect(&path, false)?, files.clone(), Arc::clone(&shared))?,
            writer::spawn(Arc::clone(&desk), queue, Arc::clone(&shared))?,
        ];
        let max_bytes = options.max_bytes;
        Ok(Self { path, jobs: Some(jobs), desk, readers, shared, max_bytes, threads, _files: files, _lock: held })
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
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.try_send(job).map_err(|e| match e {
            mpsc::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    /// Writes a commit that is alone, or queues it.
    fn take(&self, commit: Commit, answer: oneshot::Sender<Result<Committed>>, alone: bool) -> Result<()> {
        if alone
            && writer::by_itself(&self.shared)
            && let Ok(mut desk) = self.desk.try_lock()
        {
            let finish = desk.alone((commit, answer), &self.shared);
            drop(desk);
            if finish && self.enqueue(Job::Finish).is_err() {
                self.shared.checkpoint.not_asked();
            }
            return Ok(());
        }
        let weight = commit.weight();
        let before = self.shared.queued_bytes.fetch_add(weight, Ordering::AcqRel);
        let room = before == 0 || before.saturating_add(weight) <= MAX_QUEUE_BYTES;
        let queued = if room { self.enqueue(Job::Commit(commit, answer)) } else { Err(StoreError::Overloaded) };
        if queued.is_err() {
            self.shared.queued_bytes.fetch_sub(weight, Ordering::AcqRel);
        }
        queued
    }

    /// Has the writer do something between two batches.
    fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T>> {
        let (answer, outcome) = oneshot::channel();
        let queued = self.enqueue(Job::Run(Box::new(move |connection, shared| {
            let stopped = lock(&shared.stopped).clone();
            let _ = answer.send(match stopped {
                Some(why) => Err(why),
                None => write(connection).map_err(|e| {
                    let failure = writer::Failure::from(e);
                    if failure.stop {
                        shared.stop(failure.error.clone());
                    }
                    failure.error
                }),
            });
        })));
        Box::pin(async move {
            queued?;
            outcome.await.unwrap_or_else(|_| Err(unanswered()))
        })
    }

    /// Runs a read on a connection of the pool, off the async threads.
    fn read<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        read: impl FnOnce(&Connection, i64) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T>> {
        let (tenant, shared) = (tenant.clone(), Arc::clone(&self.shared));
        self.read_all(move |c| read(c, shared.number(c, &tenant)?))
    }

    fn read_all<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T>> {
        let readers = Arc::clone(&self.readers);
        Box::pin(async move {
            let task = tokio::task::spawn_blocking(move || {
                let turn = readers.turn.fetch_add(1, Ordering::Relaxed) % readers.pool.len().max(1);
                let free = readers.pool.iter().find_map(|c| c.try_lock().ok());
                match (free, readers.pool.get(turn)) {
                    (Some(connection), _) => reading(&connection, read),
                    (None, Some(connection)) => reading(&lock(connection), read),
                    (None, None) => Err(StoreError::Closed),
                }
            });
            task.await.map_err(|e| StoreError::Unavailable(e.to_string()))?
        })
    }
}

/// Whether everything async runs on one thread.
fn one_thread() -> bool {
    tokio::runtime::Handle::try_current().is_ok_and(|runtime| runtime.metrics().num_workers() == 1)
}

/// Counts a commit from its start to its answer.
struct InFlight<'s>(&'s Shared);

impl<'s> InFlight<'s> {
    fn enter(shared: &'s Shared) -> Self {
        shared.in_flight.fetch_add(1, Ordering::AcqRel);
        Self(shared)
    }

    /// Whether there is no other.
    fn alone(&self) -> bool {
        self.0.in_flight.load(Ordering::Acquire) == 1
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The writer ended without an answer: what became of the commit is found out by opening again.
fn unanswered() -> StoreError {
    StoreError::Stopped("the writer ended without an answer".to_owned())
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
    // Letting a store go writes nothing: only closing it folds the log in.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(|e| failure(&e))?;
    Ok(connection)
}

/// SQLite's error as the store's.
fn failure(error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode as E;
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(E::DiskFull) => StoreError::Full(text),
        _ if over_quota(error, rustix::io::Errno::from_io_error(&std::io::Error::last_os_error())) => {
            StoreError::Full(format!("{text}: the quota is used up"))
        }
        Some(E::ReadOnly | E::CannotOpen | E::PermissionDenied) => StoreError::ReadOnly(text),
        Some(E::DatabaseCorrupt | E::NotADatabase) => StoreError::Corrupt(text),
        _ => StoreError::Unavailable(text),
    }
}

/// Whether a write was refused for want of quota, which SQLite does not tell from a failed one. As on
/// a full disk, frames before the one that commits may be there and that one is not whole.
/// `system` is the thread's last system error: that of the write.
fn over_quota(error: &rusqlite::Error, system: Option<rustix::io::Errno>) -> bool {
    let rusqlite::Error::SqliteFailure(error, _) = error else { return false };
    error.extended_code == rusqlite::ffi::SQLITE_IOERR_WRITE && system == Some(rustix::io::Errno::DQUOT)
}

/// After which nothing must be written: a failed read, write or sync of the file leaves unknown what
/// is durable, and a damaged file only gets worse.
fn hard(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode as E;
    let system = rustix::io::Errno::from_io_error(&std::io::Error::last_os_error());
    !over_quota(error, system)
        && matches!(error.sqlite_error_code(), Some(E::SystemIoFailure | E::DatabaseCorrupt | E::NotADatabase))
}

fn within(holds: bool) -> Result<()> {
    if holds { Ok(()) } else { Err(StoreError::Invalid("the ledger has no such index or size")) }
}

fn no_root(tenant: &TenantId) -> StoreError {
    StoreError::Corrupt(format!("the stored entries of `{tenant}` do not have the root of its head"))
}

/// Recomputes each tenant's frontier from what is stored and holds its heads against the rows.
fn verify_heads(connection: &Connection, shared: &Shared) -> Result<HashMap<TenantId, writer::Known>> {
    // One snapshot, should somebody else be writing.
    let snapshot = connection.unchecked_transaction().map_err(|e| failure(&e))?;
    let mut heads = HashMap::new();
    for (number, tenant) in reads::tenants(&snapshot)? {
        let corrupt = |what: &str| StoreError::Corrupt(format!("`{tenant}`: {what}"));
        let (folded, kept) = reads::agreed(&snapshot, number)?;
        if folded.size / BLOCK != kept.size / BLOCK || reads::has_blocks_from(&snapshot, number, kept.size / BLOCK)? {
            return Err(corrupt("its blocks are not those of its entries"));
        }
        let tree = shared.tree(&snapshot, number, kept.size)?;
        let before = tree.frontier(folded.size)?;
        let held = before.root() == folded.root;
        let frontier = tree.extended(before, kept.size)?;
        if !held || frontier.root() != kept.root {
            return Err(no_root(&tenant));
        }
        for head in [folded, kept] {
            if reads::controls(&snapshot, number, head.size)? != head.control_version {
                return Err(corrupt("its head counts other control entries than there are"));
            }
        }
        if reads::highest_version(&snapshot, number)? >= kept.next_version {
            return Err(corrupt("a fact has a version that its head has not given yet"));
        }
        if shared.exclusive {
            let entries = reads::subjects(&snapshot, number, folded.size)?;
            lock(&shared.tails).insert(number, Tail { from: folded.size, entries });
        }
        heads.insert(tenant, writer::Known { number, head: kept.with(frontier), folded: folded.size });
    }
    Ok(heads)
}

impl Store for SqliteStore {
    fn engine(&self) -> &'static str {
        "SQLite"
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed>> {
        Box::pin(async move {
            let (answer, outcome) = oneshot::channel();
            let waiting = InFlight::enter(&self.shared);
            if waiting.alone() && one_thread() {
                // Requests that have already arrived get the chance to come along: a runtime of one
                // thread would otherwise never see two at once.
                tokio::task::yield_now().await;
            }
            self.take(commit, answer, waiting.alone())?;
            outcome.await.unwrap_or_else(|_| Err(unanswered()))
        })
    }

    fn before_commit(&self, ahead: Ahead) {
        let _ = self.shared.ahead.set(ahead);
    }

    fn create_tenant<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<()>> {
        let tenant = tenant.clone();
        let created = self.write(move |c| writer::create_tenant(c, &tenant));
        Box::pin(async move { if created.await? { Ok(()) } else { Err(StoreError::TenantExists) } })
    }

    fn tenants(&self) -> BoxFuture<'_, Result<Vec<TenantId>>> {
        self.read_all(|c| Ok(reads::tenants(c)?.into_iter().map(|(_, id)| id).collect()))
    }

    fn head<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<TreeHead>> {
        self.read(tenant, |c, t| Ok(reads::head(c, t)?.tree_head()))
    }

    fn fact_now(&self, tenant: &TenantId, key: &str) -> Result<Option<Fact>> {
        let connection = lock(&self.readers.decision);
        reading(&connection, |c| reads::fact(c, self.shared.number(c, tenant)?, key))
    }

    fn facts<'a>(
        &'a self,
        tenant: &'a TenantId,
        prefix: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(String, Fact)>>> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        self.read(tenant, move |c, t| reads::facts(c, t, &prefix, &after, limit))
    }

    fn entry<'a>(&'a self, tenant: &'a TenantId, index: u64) -> BoxFuture<'a, Result<Option<StoredEntry>>> {
        self.read(tenant, move |c, t| reads::leaf(c, t, index))
    }

    fn entries<'a>(&'a self, tenant: &'a TenantId, from: u64, limit: usize) -> BoxFuture<'a, Result<Vec<StoredEntry>>> {
        self.read(tenant, move |c, t| reads::entries(c, t, from, limit))
    }

    fn entries_before<'a>(
        &'a self,
        tenant: &'a TenantId,
        before: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntry>>> {
        self.read(tenant, move |c, t| reads::entries_before(c, t, before, limit))
    }

    fn control_entries<'a>(
        &'a self,
        tenant: &'a TenantId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntry>>> {
        self.read(tenant, move |c, t| reads::control_entries(c, t, from, limit))
    }

    fn entries_of<'a>(&'a self, tenant: &'a TenantId, subject: [u8; 16]) -> BoxFuture<'a, Result<Vec<StoredEntry>>> {
        let shared = Arc::clone(&self.shared);
        self.read(tenant, move |c, t| reads::entries_of(c, t, subject, shared.tail(t, subject)))
    }

    fn inclusion_proof<'a>(
        &'a self,
        tenant: &'a TenantId,
        index: u64,
        size: u64,
    ) -> BoxFuture<'a, Result<Vec<NodeHash>>> {
        let shared = Arc::clone(&self.shared);
        self.read(tenant, move |c, t| {
            within(index < size && size <= reads::size(c, t)?)?;
            intended_ledger::inclusion_proof(&shared.tree(c, t, size)?, index, size)
        })
    }

    fn consistency_proof<'a>(
        &'a self,
        tenant: &'a TenantId,
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<Vec<NodeHash>>> {
        let shared = Arc::clone(&self.shared);
        self.read(tenant, move |c, t| {
            within(from <= to && to <= reads::size(c, t)?)?;
            intended_ledger::consistency_proof(&shared.tree(c, t, to)?, from, to)
        })
    }

    fn root_at<'a>(&'a self, tenant: &'a TenantId, size: u64) -> BoxFuture<'a, Result<NodeHash>> {
        let shared = Arc::clone(&self.shared);
        self.read(tenant, move |c, t| {
            within(size <= reads::size(c, t)?)?;
            intended_ledger::root_of(&shared.tree(c, t, size)?, size)
        })
    }

    fn purge_expired(&self, now: Timestamp) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let mut purged = 0;
            loop {
                let some = self.write(move |c| writer::purge(c, now, PURGE)).await?;
                purged += some;
                if some < PURGE {
                    return Ok(purged);
                }
                tokio::time::sleep(PURGE_PAUSE).await;
            }
        })
    }

    fn health(&self) -> BoxFuture<'_, StoreHealth> {
        let stopped = lock(&self.shared.stopped).clone();
        let trouble = lock(&self.shared.trouble).clone();
        let closed = self.shared.closed.load(Ordering::Acquire).then_some(StoreError::Closed);
        let why = closed.or(stopped).or(trouble);
        let micros = self.shared.commit_micros.load(Ordering::Relaxed);
        let health = StoreHealth {
            writable: why.is_none(),
            code: why.as_ref().map(StoreError::code),
            detail: why.map(|w| w.to_string()).unwrap_or_default(),
            free_bytes: self.path.parent().and_then(|d| rustix::fs::statvfs(d).ok()).map(|s| s.f_bavail * s.f_frsize),
            used_bytes: None,
            wal_bytes: std::fs::metadata(self.path.with_extension("db-wal")).map(|m| m.len()).ok(),
            commit_micros: (micros > 0).then_some(micros),
        };
        Box::pin(async move {
            let Some(max) = self.max_bytes else { return health };
            let used = self.read_all(reads::used_bytes).await.ok();
            StoreHealth { used_bytes: used.map(|used| (used, max)), ..health }
        })
    }

    fn alone(&self) -> bool {
        self.shared.exclusive
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let Some(jobs) = self.jobs.clone() else { return Ok(()) };
            if self.shared.closed.swap(true, Ordering::AcqRel) {
                return Ok(());
            }
            // The queue may be full: wait for a place in it, elsewhere.
            let (answer, done) = oneshot::channel();
            let sent = tokio::task::spawn_blocking(move || jobs.send(Job::Close(answer)).is_ok());
            if sent.await.is_ok_and(|sent| sent) {
                let _ = done.await;
            }
            Ok(())
        })
    }
}

impl Drop for SqliteStore {
    /// Abandons what is queued, as a kill would; waits for the batch under way.
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.dropped.store(true, Ordering::Release);
        self.jobs.take();
        self.shared.checkpoint.wake();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        // Before the files: a read that is under way is waited for.
        for reader in self.readers.pool.iter().chain([&self.readers.decision]) {
            lock(reader).take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;
    use rustix::io::Errno;

    fn error(code: std::ffi::c_int) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn only_a_write_without_quota_is_a_full_disk() {
        assert!(over_quota(&error(ffi::SQLITE_IOERR_WRITE), Some(Errno::DQUOT)));
        assert!(!over_quota(&error(ffi::SQLITE_IOERR_WRITE), Some(Errno::IO)));
        assert!(!over_quota(&error(ffi::SQLITE_IOERR_WRITE), None));
        assert!(!over_quota(&error(ffi::SQLITE_IOERR_FSYNC), Some(Errno::DQUOT)), "what is durable is unknown");
    }

    #[tokio::test]
    async fn a_failed_write_of_any_kind_stops_the_store_by_that_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path(), &Options::default()).unwrap();
        let busy = store.write(|_| Err::<(), _>(error(ffi::SQLITE_BUSY))).await.unwrap_err();
        assert_eq!((busy.code(), busy.retryable()), ("store.unavailable", true));
        store.write(|_| Ok(())).await.unwrap();
        let failed = store.write(|_| Err::<(), _>(error(ffi::SQLITE_IOERR_FSYNC))).await.unwrap_err();
        assert_eq!((failed.code(), failed.retryable()), ("store.stopped", false));
        assert_eq!(store.write(|_| Ok(())).await.unwrap_err(), failed);
        assert!(!store.health().await.writable);
    }

    #[tokio::test]
    async fn the_logs_index_has_its_room_from_the_start() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path(), &Options::default()).unwrap();
        let index = std::fs::metadata(store.path().with_extension("db-shm")).unwrap();
        assert!(index.len() >= INDEX_BYTES && index.blocks() * 512 >= INDEX_BYTES);
    }
}
