//! The one thread that writes.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use intended_model::TenantId;
use intended_store::judge::{Accepted, Facts, Head, Sealed, Tenant};
use intended_store::{Commit, Committed, Fact, MAX_BATCH, Result, StoreError};
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::oneshot;

use crate::{Job, Shared, failure, lock, reads};

type Waiting = (Commit, oneshot::Sender<Result<Committed>>);

pub fn spawn(mut connection: Connection, queue: mpsc::Receiver<Job>, shared: Arc<Shared>) -> Result<()> {
    let run = move || {
        let mut batch: Vec<Waiting> = Vec::with_capacity(MAX_BATCH);
        while let Ok(first) = queue.recv() {
            let mut next = Some(first);
            // Take what is there, up to a batch; something other than a commit ends it.
            while let Some(Job::Commit(commit, answer)) = next {
                batch.push((commit, answer));
                next = if batch.len() < MAX_BATCH { queue.try_recv().ok() } else { None };
            }
            if !batch.is_empty() {
                write(&mut connection, &mut batch, &shared);
                shared.checkpoint.after_batch(&connection);
            }
            match next {
                Some(Job::Run(job)) => job(&mut connection),
                Some(Job::Close(done)) => {
                    shared.closed.store(true, Ordering::Release);
                    // Last: fold the log into the file, so that a closed store is one file.
                    let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
                    let _ = done.send(());
                    return;
                }
                Some(Job::Commit(..)) | None => {}
            }
            if shared.closed.load(Ordering::Acquire) {
                return;
            }
        }
    };
    let spawned = std::thread::Builder::new().name("ledger-writer".to_owned()).spawn(run);
    spawned.map(drop).map_err(|e| StoreError::Unavailable(e.to_string()))
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
    if let Some(why) = lock(&shared.stopped).clone() {
        for (_, answer) in batch.drain(..) {
            let _ = answer.send(Err(StoreError::Stopped(why.clone())));
        }
        return;
    }
    match transaction(connection, batch) {
        Ok((mut sealed, judged)) => {
            lock(&shared.trouble).take();
            for ((commit, answer), accepted) in batch.drain(..).zip(judged) {
                let outcome = accepted.and_then(|accepted| {
                    let tenant = sealed.get_mut(&commit.tenant).ok_or(StoreError::UnknownTenant)?;
                    Ok(tenant.answer(accepted))
                });
                let _ = answer.send(outcome);
            }
        }
        Err(Failure { error, unknown }) => {
            tracing::error!(%error, unknown, "a batch was not written");
            let error = if unknown { StoreError::Stopped(error.to_string()) } else { error };
            *lock(&shared.trouble) = Some(error.to_string());
            if unknown {
                *lock(&shared.stopped) = Some(error.to_string());
            }
            for (_, answer) in batch.drain(..) {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

struct Failure {
    error: StoreError,
    /// Whether the batch may have become durable all the same.
    unknown: bool,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self { error: failure(&error), unknown: false }
    }
}
impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self { error, unknown: false }
    }
}

type Written = (BTreeMap<TenantId, Sealed>, Vec<Result<Accepted>>);

fn transaction(connection: &mut Connection, batch: &[Waiting]) -> std::result::Result<Written, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut numbers = BTreeMap::new();
    let mut tenants: BTreeMap<TenantId, Tenant> = BTreeMap::new();
    for (commit, _) in batch {
        if !tenants.contains_key(&commit.tenant)
            && let Ok(number) = reads::number(&transaction, &commit.tenant)
            && let Some(head) = reads::head(&transaction, number)?
        {
            numbers.insert(commit.tenant.clone(), number);
            tenants.insert(commit.tenant.clone(), Tenant::new(commit.tenant.clone(), head));
        }
    }
    let mut judged = Vec::with_capacity(batch.len());
    for (commit, _) in batch {
        let mut facts = InTransaction { connection: &transaction, numbers: &numbers };
        judged.push(match tenants.get_mut(&commit.tenant) {
            None => Err(StoreError::UnknownTenant),
            Some(tenant) => tenant.judge(commit, &mut facts),
        });
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
            let mapped = failure(&error);
            // A full disk is found before the commit record is written, and a busy lock before
            // anything is: nothing is durable. Anything else may have been: stop.
            let clean = matches!(mapped, StoreError::Full(_) | StoreError::ReadOnly(_));
            let clean = clean && (connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok());
            Err(Failure { error: mapped, unknown: !clean })
        }
    }
}

fn write_tenant(c: &Connection, number: i64, tenant: &Sealed) -> rusqlite::Result<()> {
    let mut insert = c.prepare_cached("INSERT INTO entries (id, at, control, subject, leaf) VALUES (?1, ?2, ?3, ?4, ?5)")?;
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
                    expires_at.map(intended_model::Timestamp::as_millis)
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

pub fn create_tenant(connection: &mut Connection, tenant: &TenantId) -> Result<()> {
    let head = Head { next_version: 1, ..Head::default() };
    let inserted = connection
        .execute(
            "INSERT INTO tenants (name, frontier, control_version, last_at, next_version) VALUES (?1, ?2, 0, 0, 1) \
             ON CONFLICT DO NOTHING",
            params![tenant.as_str(), head.frontier.to_bytes()],
        )
        .map_err(|e| failure(&e))?;
    if inserted == 1 { Ok(()) } else { Err(StoreError::TenantExists) }
}
