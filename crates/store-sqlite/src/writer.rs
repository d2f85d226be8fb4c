//! Writing: one desk, one at it.
//!
//! The desk is the connection that writes. A thread of its own works off the queue there, batch by
//! batch. A commit that is alone takes the desk itself: handing it to another thread and waiting
//! for that thread's answer would take longer than anything else it does.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use intended_model::{TenantId, Timestamp};
use intended_store::judge::{Accepted, Facts, Head, Sealed, Tenant};
use intended_store::{Commit, Committed, Fact, MAX_BATCH, MAX_BATCH_BYTES, Result, StoreError};
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::oneshot;

use crate::{Job, Shared, failure, hard, lock, reads};

type Waiting = (Commit, oneshot::Sender<Result<Committed>>);

/// Above this a commit is not written by its own task, which would keep an async thread from its
/// work for as long: the disk is slow.
const SLOW_MICROS: u64 = 2_000;

/// Where writing is done.
pub struct Desk {
    connection: Connection,
    batch: Vec<Waiting>,
}

impl Desk {
    pub fn new(connection: Connection) -> Self {
        Self { connection, batch: Vec::with_capacity(MAX_BATCH) }
    }

    fn write_batch(&mut self, shared: &Shared) {
        write(&mut self.connection, &mut self.batch, shared);
        shared.checkpoint.after_batch(&self.connection, shared);
    }

    /// Writes one commit on the caller's thread; its answer is there when this returns.
    pub fn alone(&mut self, waiting: Waiting, shared: &Shared) {
        if shared.closed.load(Ordering::Acquire) {
            let _ = waiting.1.send(Err(StoreError::Closed));
            return;
        }
        self.batch.push(waiting);
        self.write_batch(shared);
    }
}

/// Whether the disk is fast enough for [`Desk::alone`].
pub fn quick(shared: &Shared) -> bool {
    shared.commit_micros.load(Ordering::Relaxed) < SLOW_MICROS
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
                desk.batch.push((commit, answer));
                let more = desk.batch.len() < MAX_BATCH && weight < MAX_BATCH_BYTES;
                next = if more { queue.try_recv().ok() } else { None };
            }
            if !desk.batch.is_empty() {
                desk.write_batch(&shared);
            }
            match next {
                Some(Job::Run(job)) => job(&mut desk.connection, &shared),
                Some(Job::Close(done)) => {
                    // Nobody waits for a reader here: whatever it holds back is folded in later.
                    let _ = desk.connection.busy_timeout(std::time::Duration::from_millis(200));
                    if lock(&shared.stopped).is_none() {
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
    numbers: &'t BTreeMap<TenantId, i64>,
}

impl Facts for InTransaction<'_> {
    fn fact(&mut self, tenant: &TenantId, key: &str) -> Result<Option<Fact>> {
        let number = self.numbers.get(tenant).ok_or(StoreError::UnknownTenant)?;
        reads::fact(self.connection, *number, key)
    }
}

/// Commits a batch and answers each of its commits.
fn write(connection: &mut Connection, batch: &mut Vec<Waiting>, shared: &Shared) {
    let stopped = lock(&shared.stopped).clone();
    if let Some(why) = stopped {
        for (_, answer) in batch.drain(..) {
            let _ = answer.send(Err(why.clone()));
        }
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "how long the disk takes, for health; decides nothing")]
    let started = std::time::Instant::now();
    match transaction(connection, batch, shared) {
        Ok((mut sealed, judged)) => {
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            shared.commit_micros.store(micros.max(1), Ordering::Relaxed);
            lock(&shared.trouble).take();
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
            *lock(&shared.trouble) = Some(error.to_string());
            if stop {
                shared.stop(error.clone());
            }
            for (_, answer) in batch.drain(..) {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

/// A batch that was not written.
struct Failure {
    error: StoreError,
    /// Whether nothing may be written any more.
    stop: bool,
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

fn transaction(
    connection: &mut Connection,
    batch: &[Waiting],
    shared: &Shared,
) -> std::result::Result<Written, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut numbers = BTreeMap::new();
    let mut tenants: BTreeMap<TenantId, Tenant> = BTreeMap::new();
    for (commit, _) in batch {
        if tenants.contains_key(&commit.tenant) {
            continue;
        }
        let number = match shared.number(&transaction, &commit.tenant) {
            Err(StoreError::UnknownTenant) => continue,
            other => other?,
        };
        let head =
            reads::head(&transaction, number)?.ok_or_else(|| StoreError::Corrupt("a head is missing".to_owned()))?;
        numbers.insert(commit.tenant.clone(), number);
        tenants.insert(commit.tenant.clone(), Tenant::new(commit.tenant.clone(), head));
    }
    let mut judged = Vec::with_capacity(batch.len());
    for (commit, _) in batch {
        let mut facts = InTransaction { connection: &transaction, numbers: &numbers };
        let outcome = match tenants.get_mut(&commit.tenant) {
            None => Err(StoreError::UnknownTenant),
            Some(tenant) => tenant.judge(commit, &mut facts),
        };
        match outcome {
            // A conflict is the commit's own; a file that cannot be read is everyone's.
            Err(error @ (StoreError::Corrupt(_) | StoreError::Unavailable(_))) => return Err(error.into()),
            other => judged.push(other),
        }
    }
    let mut sealed = BTreeMap::new();
    for (id, tenant) in tenants {
        let tenant = tenant.seal();
        if let Some(number) = numbers.get(&id) {
            write_tenant(&transaction, *number, &tenant)?;
        }
        sealed.insert(id, tenant);
    }
    if judged.iter().all(Result::is_err) {
        transaction.rollback()?;
        return Ok((sealed, judged));
    }
    match transaction.commit() {
        Ok(()) => Ok((sealed, judged)),
        Err(error) => {
            // A full disk is noticed while frames are written, before the one that commits is
            // whole, and a file that may not be written is noticed before that: nothing is
            // durable. Anything else may have been.
            match failure(&error) {
                clean @ (StoreError::Full(_) | StoreError::ReadOnly(_))
                    if connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok() =>
                {
                    Err(Failure { error: clean, stop: false })
                }
                other => Err(Failure { error: StoreError::Stopped(other.to_string()), stop: true }),
            }
        }
    }
}

fn write_tenant(c: &Connection, number: i64, tenant: &Sealed) -> rusqlite::Result<()> {
    let mut insert =
        c.prepare_cached("INSERT INTO entries (id, at, control, subject, leaf) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for entry in &tenant.entries {
        let subject = entry.subject.as_ref().map(|s| s.as_slice());
        insert.execute(params![
            reads::row_id(number, entry.index),
            entry.at.as_millis(),
            i64::from(entry.control),
            subject,
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
    write_head(c, number, &tenant.head)
}

fn write_head(c: &Connection, number: i64, head: &Head) -> rusqlite::Result<()> {
    let mut update = c.prepare_cached(
        "UPDATE tenants SET frontier = ?2, control_version = ?3, last_at = ?4, next_version = ?5 WHERE number = ?1",
    )?;
    update.execute(params![
        number,
        head.frontier.to_bytes(),
        head.control_version.cast_signed(),
        head.last_at.as_millis(),
        head.next_version.cast_signed()
    ])?;
    Ok(())
}

/// Whether it was not there.
pub fn create_tenant(connection: &Connection, tenant: &TenantId) -> rusqlite::Result<bool> {
    let inserted = connection.execute(
        "INSERT INTO tenants (name, frontier, control_version, last_at, next_version) VALUES (?1, ?2, 0, 0, 1) \
         ON CONFLICT DO NOTHING",
        params![tenant.as_str(), Head::default().frontier.to_bytes()],
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
