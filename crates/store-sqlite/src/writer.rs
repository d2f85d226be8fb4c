//! Writing: one desk, one at it.
//!
//! The desk is the connection that writes. A thread of its own works off the queue there, batch by
//! batch. A commit that is alone, as others before it were, takes the desk itself: handing it to another
//! thread and waiting for that thread's answer would take longer than anything else it does. Where others
//! have come along it does not: an async thread that writes is one that others wait for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use intended_model::{TenantId, Timestamp};
use intended_store::judge::{Accepted, Facts, Head, Sealed, Tenant};
use intended_store::{Commit, Committed, Fact, MAX_BATCH, MAX_BATCH_BYTES, Result, StoreError};
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use crate::reads::Kept;
use crate::{Job, Shared, failure, hard, lock, no_root, reads};

type Waiting = (Commit, oneshot::Sender<Result<Committed>>);

/// Above this a commit is not written by its own task, which would keep an async thread from its
/// work for as long: the disk is slow.
const SLOW_MICROS: u64 = 2_000;

/// So many commits in a row must have been alone before one is written by its own task.
const ALONE: u32 = 8;

/// Where writing is done.
pub struct Desk {
    connection: Connection,
    batch: Vec<Waiting>,
    heads: Heads,
}

/// A tenant as it is after its last commit.
pub struct Known {
    pub number: i64,
    pub head: Head,
    /// Its size when it was last folded.
    pub folded: u64,
}

/// What is known of tenants: true if nobody else writes, and otherwise as of some earlier commit.
type Heads = HashMap<TenantId, Known>;

impl Desk {
    pub fn new(connection: Connection, heads: Heads) -> Self {
        Self { connection, batch: Vec::with_capacity(MAX_BATCH), heads }
    }

    /// Whether the writer's thread is to finish a checkpoint.
    #[must_use]
    fn write_batch(&mut self, shared: &Shared) -> bool {
        write(&self.connection, &mut self.batch, &mut self.heads, shared);
        shared.checkpoint.after_batch()
    }

    /// Writes one commit on the caller's thread; its answer is there when this returns. Whether the
    /// writer's thread is to finish a checkpoint.
    #[must_use]
    pub fn alone(&mut self, waiting: Waiting, shared: &Shared) -> bool {
        if shared.closed.load(Ordering::Acquire) {
            let _ = waiting.1.send(Err(StoreError::Closed));
            return false;
        }
        self.batch.push(waiting);
        self.write_batch(shared)
    }
}

/// Whether [`Desk::alone`] is best: the disk is fast, and nobody is likely to come meanwhile.
pub fn by_itself(shared: &Shared) -> bool {
    shared.commit_micros.load(Ordering::Relaxed) < SLOW_MICROS && shared.alone.load(Ordering::Relaxed) >= ALONE
}

pub fn spawn(desk: Arc<Mutex<Desk>>, queue: mpsc::Receiver<Job>, shared: Arc<Shared>) -> Result<JoinHandle<()>> {
    let run = move || {
        while let Ok(first) = queue.recv() {
            let mut desk = lock(&desk);
            let mut weight = 0;
            let mut next = Some(first);
            // Take what is there, up to a batch; something other than a commit ends it.
            while let Some(Job::Commit(commit, answer)) = next {
                weight += commit.weight();
                shared.queued_bytes.fetch_sub(commit.weight(), Ordering::AcqRel);
                desk.batch.push((commit, answer));
                let more = desk.batch.len() < MAX_BATCH && weight < MAX_BATCH_BYTES;
                next = if more { queue.try_recv().ok() } else { None };
            }
            if !desk.batch.is_empty() && desk.write_batch(&shared) {
                shared.checkpoint.finish(&desk.connection, &shared);
            }
            match next {
                Some(Job::Run(job)) => job(&mut desk.connection, &shared),
                Some(Job::Finish) => shared.checkpoint.finish(&desk.connection, &shared),
                Some(Job::Close(done)) => {
                    // Nobody waits for a reader here: whatever it holds back is folded in later.
                    let _ = desk.connection.busy_timeout(std::time::Duration::from_millis(200));
                    if lock(&shared.stopped).is_none() {
                        // What is not folded is found again anyway: only nicer to have.
                        if let Err(error) = fold_all(&desk.connection) {
                            tracing::warn!(%error, "closed without folding");
                        }
                        let _ = desk.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
                    }
                    for job in queue.try_iter() {
                        if let Job::Commit(_, answer) = job {
                            let _ = answer.send(Err(StoreError::Closed));
                        }
                    }
                    let _ = done.send(());
                    return;
                }
                Some(Job::Commit(..)) | None => {}
            }
            if shared.dropped.load(Ordering::Acquire) {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("ledger-writer".to_owned())
        .spawn(run)
        .map_err(|e| StoreError::Unavailable(e.to_string()))
}

struct InTransaction<'t> {
    connection: &'t Connection,
    tenants: &'t BTreeMap<TenantId, Known>,
}

impl Facts for InTransaction<'_> {
    fn fact(&mut self, tenant: &TenantId, key: &str) -> Result<Option<Fact>> {
        let known = self.tenants.get(tenant).ok_or(StoreError::UnknownTenant)?;
        reads::fact(self.connection, known.number, key)
    }
}

/// Commits a batch and answers each of its commits.
fn write(connection: &Connection, batch: &mut Vec<Waiting>, heads: &mut Heads, shared: &Shared) {
    let alone =
        if shared.in_flight.load(Ordering::Acquire) <= 1 { shared.alone.load(Ordering::Relaxed) + 1 } else { 0 };
    shared.alone.store(alone.min(ALONE), Ordering::Relaxed);
    let stopped = lock(&shared.stopped).clone();
    if let Some(why) = stopped {
        for (_, answer) in batch.drain(..) {
            let _ = answer.send(Err(why.clone()));
        }
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "how long the disk takes, for health; decides nothing")]
    let started = std::time::Instant::now();
    match transaction(connection, batch, heads, shared) {
        Ok((mut sealed, judged)) => {
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            shared.commit_micros.store(micros.max(1), Ordering::Relaxed);
            // Facts may still fit where entries do not: only an entry shows that decisions can be
            // recorded again.
            let entries = sealed.values().any(|tenant| !tenant.entries.is_empty());
            let troubled = lock(&shared.trouble).is_some();
            if troubled && (entries || there_is_room(connection)) {
                lock(&shared.trouble).take();
            }
            for ((commit, answer), accepted) in batch.drain(..).zip(judged) {
                let outcome = accepted.and_then(|accepted| {
                    let tenant = sealed.get_mut(&commit.tenant).ok_or(StoreError::UnknownTenant)?;
                    Ok(tenant.answer(accepted))
                });
                let _ = answer.send(outcome);
            }
        }
        Err(Failure { error, stop }) => {
            tracing::error!(%error, stop, commits = batch.len(), "a batch was not written");
            // One that was waited for (a file that somebody else holds locked) is not waited for again
            // where it keeps an async thread from its work.
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            shared.commit_micros.fetch_max(micros, Ordering::Relaxed);
            *lock(&shared.trouble) = Some(error.clone());
            if stop {
                shared.stop(error.clone());
            }
            for (_, answer) in batch.drain(..) {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

/// Something that was not written.
pub struct Failure {
    pub error: StoreError,
    /// Whether nothing may be written any more.
    pub stop: bool,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let stop = hard(&error);
        let error = match failure(&error) {
            // Of what went before the commit nothing is there, but the disk is not to be trusted.
            StoreError::Unavailable(why) if stop => StoreError::Stopped(why),
            other => other,
        };
        Self { error, stop }
    }
}
impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let stop = matches!(error, StoreError::Corrupt(_));
        Self { error, stop }
    }
}

type Written = (BTreeMap<TenantId, Sealed>, Vec<Result<Accepted>>);

/// A transaction that is rolled back unless it is committed. Its statements are prepared once:
/// rusqlite's own are parsed each time.
struct Transaction<'c>(&'c Connection);

impl<'c> Transaction<'c> {
    fn begin(connection: &'c Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self(connection))
    }

    fn commit(&self) -> rusqlite::Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([]).map(drop)
    }

    /// Whether nothing is open any more.
    fn rollback(&self) -> bool {
        self.0.is_autocommit() || self.0.execute_batch("ROLLBACK").is_ok()
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        self.rollback();
    }
}

/// A tenant as it is in this transaction.
fn known(c: &Connection, tenant: &TenantId, heads: &Heads, shared: &Shared) -> Result<Known> {
    let before = heads.get(tenant);
    if shared.exclusive
        && let Some(Known { number, head, folded }) = before
    {
        return Ok(Known { number: *number, head: head.clone(), folded: *folded });
    }
    let number = shared.number(c, tenant)?;
    let folded = reads::folded(c, number)?;
    let kept = reads::newer(folded, reads::appended(c, number)?.map(|(appended, _)| appended))?;
    let tree = shared.tree(c, number, kept.size)?;
    // Entries never change: from where it was known, only newer ones are needed.
    let frontier = match before.map(|known| &known.head.frontier) {
        Some(frontier) if frontier.size() <= kept.size && frontier.size() >= folded.size => {
            tree.extended(frontier.clone(), kept.size)?
        }
        _ => tree.frontier(kept.size)?,
    };
    if frontier.root() != kept.root {
        return Err(no_root(tenant));
    }
    Ok(Known { number, head: kept.with(frontier), folded: folded.size })
}

fn transaction(
    connection: &Connection,
    batch: &[Waiting],
    heads: &mut Heads,
    shared: &Shared,
) -> std::result::Result<Written, Failure> {
    let transaction = Transaction::begin(connection)?;
    let mut before: BTreeMap<TenantId, Known> = BTreeMap::new();
    let mut tenants: BTreeMap<TenantId, Tenant> = BTreeMap::new();
    for (commit, _) in batch {
        if tenants.contains_key(&commit.tenant) {
            continue;
        }
        let known = match known(connection, &commit.tenant, heads, shared) {
            Err(StoreError::UnknownTenant) => continue,
            other => other?,
        };
        tenants.insert(commit.tenant.clone(), Tenant::new(commit.tenant.clone(), known.head.clone()));
        before.insert(commit.tenant.clone(), known);
    }
    let mut judged = Vec::with_capacity(batch.len());
    let mut changed = BTreeSet::new();
    for (commit, _) in batch {
        let mut facts = InTransaction { connection, tenants: &before };
        let outcome = match tenants.get_mut(&commit.tenant) {
            None => Err(StoreError::UnknownTenant),
            Some(tenant) => tenant.judge(commit, &mut facts),
        };
        match outcome {
            // A conflict is the commit's own; a file that cannot be read is everyone's.
            Err(error @ (StoreError::Corrupt(_) | StoreError::Unavailable(_))) => return Err(error.into()),
            other => {
                if other.is_ok() {
                    changed.insert(commit.tenant.clone());
                }
                judged.push(other);
            }
        }
    }
    let sealed: BTreeMap<_, _> = tenants.into_iter().map(|(id, tenant)| (id, tenant.seal())).collect();
    if changed.is_empty() {
        return if transaction.rollback() { Ok((sealed, judged)) } else { Err(not_rolled_back()) };
    }
    // What nothing was accepted for stays as it is.
    let mut after = Vec::new();
    for (id, known) in before.into_iter().filter(|(id, _)| changed.contains(id)) {
        if let Some(tenant) = sealed.get(&id) {
            let folded = write_tenant(connection, &known, tenant)?;
            after.push((id, Known { number: known.number, head: tenant.head.clone(), folded }));
        }
    }
    // Before the commit: an entry that can be seen is found. Who reads earlier misses nothing.
    let tails = Tails::extend(&sealed, &after, shared);
    if let Some(ahead) = shared.ahead.get() {
        for (id, _) in &after {
            if let Some(tenant) = sealed.get(id).filter(|tenant| !tenant.entries.is_empty()) {
                ahead(id, &tenant.tree_head);
            }
        }
    }
    match transaction.commit() {
        Ok(()) => {
            tails.committed(&after);
            heads.extend(after);
            Ok((sealed, judged))
        }
        Err(error) => {
            // A full disk is noticed while frames are written, before the one that commits is
            // whole, and a file that may not be written is noticed before that: nothing is
            // durable. Anything else may have been.
            let failure = failure(&error);
            match failure {
                clean @ (StoreError::Full(_) | StoreError::ReadOnly(_)) if transaction.rollback() => {
                    tails.undone(&after, &sealed);
                    Err(Failure { error: clean, stop: false })
                }
                other => Err(Failure { error: StoreError::Stopped(other.to_string()), stop: true }),
            }
        }
    }
}

fn not_rolled_back() -> Failure {
    Failure { error: StoreError::Stopped("a transaction could not be rolled back".to_owned()), stop: true }
}

/// What of a batch is to be found from memory until it is folded.
struct Tails<'s>(Option<&'s Shared>);

impl<'s> Tails<'s> {
    fn extend(sealed: &BTreeMap<TenantId, Sealed>, after: &[(TenantId, Known)], shared: &'s Shared) -> Self {
        if !shared.exclusive {
            return Self(None);
        }
        let mut tails = lock(&shared.tails);
        for (id, known) in after {
            let entries = sealed.get(id).map(|tenant| &tenant.entries).into_iter().flatten();
            let about = entries.filter_map(|entry| entry.subject.map(|subject| (subject, entry.index)));
            tails.entry(known.number).or_default().entries.extend(about);
        }
        Self(Some(shared))
    }

    /// What was folded is found in the file from now on.
    fn committed(&self, after: &[(TenantId, Known)]) {
        let Some(shared) = self.0 else { return };
        let mut tails = lock(&shared.tails);
        for (_, known) in after {
            let tail = tails.entry(known.number).or_default();
            if tail.from < known.folded {
                tail.from = known.folded;
                tail.entries.retain(|(_, index)| *index >= known.folded);
            }
        }
    }

    /// Nothing of the batch is there.
    fn undone(&self, after: &[(TenantId, Known)], sealed: &BTreeMap<TenantId, Sealed>) {
        for (id, known) in after {
            let first = sealed.get(id).and_then(|tenant| tenant.entries.first()).map(|entry| entry.index);
            if let (Some(first), Some(shared)) = (first, self.0)
                && let Some(tail) = lock(&shared.tails).get_mut(&known.number)
            {
                tail.entries.retain(|(_, index)| *index < first);
            }
        }
    }
}

/// Writes a tenant's part of a batch; its size when it was last folded.
fn write_tenant(c: &Connection, known: &Known, tenant: &Sealed) -> rusqlite::Result<u64> {
    let number = known.number;
    let mut insert = c.prepare_cached(
        "INSERT INTO entries (id, at, control, subject, root, control_version, last_at, next_version, leaf) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let kept = Kept::of(&tenant.head);
    for entry in &tenant.entries {
        let subject = entry.subject.as_ref().map(|s| s.as_slice());
        // The head stands in the batch's last row.
        let head = (entry.index + 1 == kept.size).then_some(&kept);
        insert.execute(params![
            reads::row_id(number, entry.index),
            entry.at.as_millis(),
            i64::from(entry.control),
            subject,
            head.map(|h| h.root.as_bytes().as_slice()),
            head.map(|h| h.control_version.cast_signed()),
            head.map(|h| h.last_at.as_millis()),
            head.map(|h| h.next_version.cast_signed()),
            entry.leaf
        ])?;
    }
    if !tenant.blocks.is_empty() {
        let mut insert = c.prepare_cached("INSERT INTO blocks (id, root) VALUES (?1, ?2)")?;
        for (index, root) in &tenant.blocks {
            insert.execute(params![reads::row_id(number, *index), root.as_bytes().as_slice()])?;
        }
    }
    if !tenant.facts.is_empty() {
        let mut put = c.prepare_cached(
            "INSERT INTO facts (tenant, key, value, version, expires_at) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT DO UPDATE SET value = ?3, version = ?4, expires_at = ?5",
        )?;
        let mut delete = c.prepare_cached("DELETE FROM facts WHERE tenant = ?1 AND key = ?2")?;
        for (key, row) in &tenant.facts {
            match row {
                Some((value, version, expires_at)) => put.execute(params![
                    number,
                    &**key,
                    value,
                    version.cast_signed(),
                    expires_at.map(Timestamp::as_millis)
                ])?,
                None => delete.execute(params![number, &**key])?,
            };
        }
    }
    // Once a block, so that there is never more than a block to look through; and when no entry
    // is there to hold the head.
    if tenant.entries.is_empty() || !tenant.blocks.is_empty() {
        fold(c, number, known.folded, &kept)?;
        return Ok(kept.size);
    }
    Ok(known.folded)
}

/// Brings the tenant's row and the subjects of its entries up to its head.
fn fold(c: &Connection, number: i64, from: u64, head: &Kept) -> rusqlite::Result<()> {
    let mut update = c.prepare_cached(
        "UPDATE tenants SET size = ?2, root = ?3, control_version = ?4, last_at = ?5, next_version = ?6 \
         WHERE number = ?1",
    )?;
    update.execute(params![
        number,
        head.size.cast_signed(),
        head.root.as_bytes().as_slice(),
        head.control_version.cast_signed(),
        head.last_at.as_millis(),
        head.next_version.cast_signed()
    ])?;
    if from < head.size {
        let mut insert = c.prepare_cached(
            "INSERT INTO subjects (subject, id) \
             SELECT subject, id FROM entries WHERE id >= ?1 AND id < ?2 AND subject IS NOT NULL ORDER BY id",
        )?;
        insert.execute([reads::row_id(number, from), reads::row_id(number, head.size)])?;
    }
    Ok(())
}

/// Folds every tenant that is not.
fn fold_all(c: &Connection) -> Result<()> {
    let transaction = Transaction::begin(c).map_err(|e| failure(&e))?;
    let mut some = false;
    for (number, _) in reads::tenants(c)? {
        let folded = reads::folded(c, number)?;
        let head = reads::newer(folded, reads::appended(c, number)?.map(|(appended, _)| appended))?;
        if head != folded {
            fold(c, number, folded.size, &head).map_err(|e| failure(&e))?;
            some = true;
        }
    }
    if some { transaction.commit().map_err(|e| failure(&e)) } else { Ok(()) }
}

/// Whether it was not there.
pub fn create_tenant(connection: &Connection, tenant: &TenantId) -> rusqlite::Result<bool> {
    let inserted = connection.execute(
        "INSERT INTO tenants (name, size, root, control_version, last_at, next_version) \
         VALUES (?1, 0, ?2, 0, 0, 1) ON CONFLICT DO NOTHING",
        params![tenant.as_str(), Kept::of(&Head::default()).root.as_bytes().as_slice()],
    )?;
    Ok(inserted == 1)
}

/// Removes up to `most` facts that expired before `now`.
pub fn purge(connection: &Connection, now: Timestamp, most: u64) -> rusqlite::Result<u64> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM facts WHERE (tenant, key) IN (SELECT tenant, key FROM facts WHERE expires_at < ?1 LIMIT ?2)",
    )?;
    Ok(delete.execute(params![now.as_millis(), most.cast_signed()])? as u64)
}

/// Bytes of a decision of the largest request, and some more.
const ROOM: i64 = 128 << 10;

/// Whether something as large as a decision with all that it may hold can be written: tried, and
/// taken back. Nobody sends decisions to a store that says it is full, so it must find out by itself.
fn there_is_room(connection: &Connection) -> bool {
    // No tenant has this number.
    let tried = connection.execute(
        "INSERT INTO facts (tenant, key, value, version) VALUES (0, 'room', zeroblob(?1), 0) \
         ON CONFLICT DO UPDATE SET value = excluded.value",
        [ROOM],
    );
    let taken_back = connection.execute("DELETE FROM facts WHERE tenant = 0", []);
    tried.is_ok() && taken_back.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, SqliteStore};
    use intended_store::{NewEntry, Store as _};

    fn commit(tenant: &TenantId) -> Commit {
        let entry = NewEntry { kind: "test".into(), control: false, subject: None, body: "{}".into() };
        let (reads, writes, entries) = (Vec::new(), Vec::new(), vec![entry]);
        Commit { tenant: tenant.clone(), now: Timestamp::from_millis(1), control_version: None, reads, writes, entries }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_task_writes_by_itself_only_while_nobody_else_comes() {
        const WRITER: &str = "ledger-writer";
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(dir.path(), &Options::default()).unwrap());
        let tenant = TenantId::new("acme").unwrap();
        store.create_tenant(&tenant).await.unwrap();
        let writers = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&writers);
        store.before_commit(Box::new(move |_, _| {
            lock(&told).push(std::thread::current().name().unwrap_or_default().to_owned());
        }));
        let written_by = || std::mem::take(&mut *lock(&writers));
        // A disk that is slow for a moment would hand a commit over too, and so would a desk that the
        // writer's thread has not left yet.
        let one_by_one = async |n: u32| {
            for _ in 0..n {
                drop(lock(&store.desk));
                store.shared.commit_micros.store(1, Ordering::Relaxed);
                store.commit(commit(&tenant)).await.unwrap();
            }
        };
        one_by_one(ALONE).await;
        assert_eq!(written_by(), vec![WRITER; ALONE as usize], "nobody knows yet who will come");
        one_by_one(3).await;
        assert!(written_by().iter().all(|name| name != WRITER));

        // Two at once: both are queued before the first is written.
        let desk = lock(&store.desk);
        let weight = 2 * commit(&tenant).weight();
        let both: Vec<_> = (0..2)
            .map(|_| {
                let (store, commit) = (Arc::clone(&store), commit(&tenant));
                tokio::spawn(async move { store.commit(commit).await })
            })
            .collect();
        // What the writer's thread has taken already is still counted, until it has the desk.
        while store.shared.queued_bytes.load(Ordering::Acquire) < weight {
            std::thread::yield_now();
        }
        drop(desk);
        for commit in both {
            commit.await.unwrap().unwrap();
        }
        assert!(written_by().iter().all(|name| name == WRITER));
        one_by_one(1).await;
        assert_eq!(written_by(), [WRITER], "others were there just now");
        one_by_one(ALONE).await;
        assert_ne!(written_by().last().map(String::as_str), Some(WRITER), "they are gone");
    }
}
