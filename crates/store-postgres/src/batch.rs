//! The one task of a node that writes: it takes what waits, judges it inside one transaction and
//! makes it durable with one commit.
//!
//! The transaction locks the head rows of its tenants, in the order of their names so that no two
//! nodes wait for each other, and reads everything after that: what it sees is what the last holder
//! of the lock left.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use deadpool_postgres::{Pool, Transaction};
use intended_model::{TenantId, Timestamp};
use intended_store::judge::{Accepted, Facts, Sealed, Tenant, keys_read};
use intended_store::{Commit, Committed, Fact, MAX_BATCH, MAX_BATCH_BYTES, Result, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::{Shared, failure, reached, reads};

pub enum Job {
    Commit(Commit, oneshot::Sender<Result<Committed>>),
    Close(oneshot::Sender<()>),
}

type Waiting = (Commit, oneshot::Sender<Result<Committed>>);

/// How often, and how long apart, the outcome of a commit is asked for that got no answer: five
/// seconds in all.
const ASK: (u32, Duration) = (50, Duration::from_millis(100));

pub async fn run(pool: Pool, mut queue: mpsc::Receiver<Job>, shared: Arc<Shared>) {
    let mut batch: Vec<Waiting> = Vec::with_capacity(MAX_BATCH);
    while let Some(first) = queue.recv().await {
        let mut weight = 0;
        let mut next = Some(first);
        while let Some(Job::Commit(commit, answer)) = next {
            weight += commit.weight();
            batch.push((commit, answer));
            let more = batch.len() < MAX_BATCH && weight < MAX_BATCH_BYTES;
            next = if more { queue.try_recv().ok() } else { None };
        }
        if !batch.is_empty() {
            write(&pool, &mut batch, &shared).await;
        }
        if let Some(Job::Close(done)) = next {
            queue.close();
            while let Some(job) = queue.recv().await {
                if let Job::Commit(_, answer) = job {
                    let _ = answer.send(Err(StoreError::Closed));
                }
            }
            pool.close();
            let _ = done.send(());
            return;
        }
    }
}

async fn write(pool: &Pool, batch: &mut Vec<Waiting>, shared: &Shared) {
    #[expect(clippy::disallowed_methods, reason = "how long the database takes, for health; decides nothing")]
    let started = std::time::Instant::now();
    match transaction(pool, batch).await {
        Ok((mut sealed, judged)) => {
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            shared.commit_micros.store(micros.max(1), Ordering::Relaxed);
            shared.trouble(None);
            for ((commit, answer), accepted) in batch.drain(..).zip(judged) {
                let outcome = accepted.and_then(|accepted| {
                    let tenant = sealed.get_mut(&commit.tenant).ok_or(StoreError::UnknownTenant)?;
                    Ok(tenant.answer(accepted))
                });
                let _ = answer.send(outcome);
            }
        }
        Err(error) => {
            tracing::error!(%error, commits = batch.len(), "a batch was not written");
            shared.trouble(Some(error.to_string()));
            for (_, answer) in batch.drain(..) {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

/// The facts that the batch reads, fetched at once.
#[derive(Default)]
struct Fetched(HashMap<TenantId, HashMap<String, Fact>>);

impl Facts for Fetched {
    fn fact(&mut self, tenant: &TenantId, key: &str) -> Result<Option<Fact>> {
        Ok(self.0.get(tenant).and_then(|facts| facts.get(key)).cloned())
    }
}

type Written = (BTreeMap<TenantId, Sealed>, Vec<Result<Accepted>>);

async fn transaction(pool: &Pool, batch: &[Waiting]) -> Result<Written> {
    let mut client = pool.get().await.map_err(reached)?;
    let transaction = client.transaction().await.map_err(failure)?;

    let names: Vec<&str> = batch.iter().map(|(commit, _)| commit.tenant.as_str()).collect();
    let text = "SELECT pg_current_xact_id()::text, name, number, frontier, control_version, last_at, next_version \
                FROM heads WHERE name = ANY($1) ORDER BY name FOR UPDATE";
    let rows = reads::query(&transaction, text, &[&names]).await?;
    let (mut tenants, mut numbers, mut id) = (BTreeMap::new(), BTreeMap::new(), String::new());
    for row in &rows {
        id = row.try_get(0).map_err(failure)?;
        let name = TenantId::new(row.try_get(1).map_err(failure)?)
            .map_err(|_| StoreError::Corrupt("a tenant's name".to_owned()))?;
        numbers.insert(name.clone(), row.try_get::<_, i64>(2).map_err(failure)?);
        tenants.insert(name.clone(), Tenant::new(name, reads::to_head(row, 3)?));
    }

    let mut facts = fetch(&transaction, batch, &numbers).await?;
    let judge = |(commit, _): &Waiting| match tenants.get_mut(&commit.tenant) {
        None => Err(StoreError::UnknownTenant),
        Some(tenant) => tenant.judge(commit, &mut facts),
    };
    let judged: Vec<Result<Accepted>> = batch.iter().map(judge).collect();
    let sealed: BTreeMap<TenantId, Sealed> = tenants.into_iter().map(|(id, tenant)| (id, tenant.seal())).collect();
    if judged.iter().all(Result::is_err) {
        transaction.rollback().await.map_err(failure)?;
        return Ok((sealed, judged));
    }
    store(&transaction, &sealed, &numbers).await?;
    match transaction.commit().await {
        Ok(()) => Ok((sealed, judged)),
        // The server refused: nothing of it is there.
        Err(error) if error.as_db_error().is_some() => Err(failure(error)),
        Err(error) => {
            drop(client);
            match outcome(pool, &id).await {
                Some(true) => Ok((sealed, judged)),
                Some(false) => Err(failure(error)),
                None => Err(StoreError::Stopped(format!("the outcome of a commit is unknown: {error}"))),
            }
        }
    }
}

/// Whether the transaction was committed: the server keeps the outcome of recent ones.
async fn outcome(pool: &Pool, id: &str) -> Option<bool> {
    for _ in 0..ASK.0 {
        tokio::time::sleep(ASK.1).await;
        let Ok(client) = pool.get().await else { continue };
        let Ok(rows) = reads::query(&client, "SELECT pg_xact_status($1::text::xid8)", &[&id]).await else { continue };
        match rows.first().and_then(|row| row.try_get::<_, Option<String>>(0).ok()).flatten().as_deref() {
            Some("committed") => return Some(true),
            Some("aborted") => return Some(false),
            Some(_) => {}
            None => return None,
        }
    }
    None
}

async fn fetch(t: &Transaction<'_>, batch: &[Waiting], numbers: &BTreeMap<TenantId, i64>) -> Result<Fetched> {
    let (mut of, mut keys) = (Vec::new(), Vec::new());
    for (commit, _) in batch {
        // Names that no text column can hold are not there; judging refuses to write them.
        for key in keys_read(commit).filter(|key| !key.contains('\0')) {
            of.push(commit.tenant.as_str());
            keys.push(key);
        }
    }
    let mut fetched = Fetched::default();
    if keys.is_empty() {
        return Ok(fetched);
    }
    let of: Vec<i64> = of.into_iter().map(|name| numbers.get(name).copied().unwrap_or(0)).collect();
    let text = "SELECT tenant, key, value, version FROM facts \
                WHERE (tenant, key) IN (SELECT * FROM unnest($1::bigint[], $2::text[]))";
    let names: HashMap<i64, &TenantId> = numbers.iter().map(|(name, number)| (*number, name)).collect();
    for row in reads::query(t, text, &[&of, &keys]).await? {
        if let Some(name) = names.get(&row.try_get::<_, i64>(0).map_err(failure)?) {
            let key = row.try_get(1).map_err(failure)?;
            fetched.0.entry((*name).clone()).or_default().insert(key, reads::to_fact(&row, 2)?);
        }
    }
    Ok(fetched)
}

/// Writes the rows of all tenants, one statement for each table.
async fn store(
    t: &Transaction<'_>,
    sealed: &BTreeMap<TenantId, Sealed>,
    numbers: &BTreeMap<TenantId, i64>,
) -> Result<()> {
    let parts: Vec<(i64, &Sealed)> =
        sealed.iter().filter_map(|(id, part)| numbers.get(id).map(|number| (*number, part))).collect();

    let entries: Vec<_> = parts.iter().flat_map(|(n, part)| part.entries.iter().map(move |e| (*n, e))).collect();
    if !entries.is_empty() {
        let of: Vec<i64> = entries.iter().map(|(n, _)| *n).collect();
        let index: Vec<i64> = entries.iter().map(|(_, e)| e.index.cast_signed()).collect();
        let at: Vec<i64> = entries.iter().map(|(_, e)| e.at.as_millis()).collect();
        let control: Vec<bool> = entries.iter().map(|(_, e)| e.control).collect();
        let subject: Vec<Option<&[u8]>> =
            entries.iter().map(|(_, e)| e.subject.as_ref().map(|s| s.as_slice())).collect();
        let leaf: Vec<&[u8]> = entries.iter().map(|(_, e)| e.leaf.as_slice()).collect();
        let text = "INSERT INTO entries (tenant, idx, at, control, subject, leaf) \
                    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::boolean[], $5::bytea[], $6::bytea[])";
        reads::query(t, text, &[&of, &index, &at, &control, &subject, &leaf]).await?;
    }

    let blocks: Vec<_> = parts.iter().flat_map(|(n, part)| part.blocks.iter().map(move |b| (*n, b))).collect();
    if !blocks.is_empty() {
        let of: Vec<i64> = blocks.iter().map(|(n, _)| *n).collect();
        let index: Vec<i64> = blocks.iter().map(|(_, (index, _))| index.cast_signed()).collect();
        let root: Vec<&[u8]> = blocks.iter().map(|(_, (_, root))| root.as_bytes().as_slice()).collect();
        let text =
            "INSERT INTO blocks (tenant, idx, root) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])";
        reads::query(t, text, &[&of, &index, &root]).await?;
    }

    let (mut of, mut key, mut value, mut version, mut expires_at) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut gone_of, mut gone) = (vec![], vec![]);
    for (number, name, row) in parts.iter().flat_map(|(n, part)| part.facts.iter().map(move |(k, row)| (*n, &**k, row)))
    {
        match row {
            Some((bytes, v, expiry)) => {
                of.push(number);
                key.push(name);
                value.push(bytes.as_slice());
                version.push(v.cast_signed());
                expires_at.push(expiry.map(Timestamp::as_millis));
            }
            None => {
                gone_of.push(number);
                gone.push(name);
            }
        }
    }
    if !of.is_empty() {
        let text = "INSERT INTO facts (tenant, key, value, version, expires_at) \
                    SELECT * FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[]) \
                    ON CONFLICT (tenant, key) DO UPDATE \
                    SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at";
        reads::query(t, text, &[&of, &key, &value, &version, &expires_at]).await?;
    }
    if !gone.is_empty() {
        let text = "DELETE FROM facts WHERE (tenant, key) IN (SELECT * FROM unnest($1::bigint[], $2::text[]))";
        reads::query(t, text, &[&gone_of, &gone]).await?;
    }

    let of: Vec<i64> = parts.iter().map(|(n, _)| *n).collect();
    let frontier: Vec<Vec<u8>> = parts.iter().map(|(_, part)| part.head.frontier.to_bytes()).collect();
    let control: Vec<i64> = parts.iter().map(|(_, part)| part.head.control_version.cast_signed()).collect();
    let last_at: Vec<i64> = parts.iter().map(|(_, part)| part.head.last_at.as_millis()).collect();
    let next: Vec<i64> = parts.iter().map(|(_, part)| part.head.next_version.cast_signed()).collect();
    let text = "UPDATE heads SET frontier = new.frontier, control_version = new.control_version, \
                last_at = new.last_at, next_version = new.next_version \
                FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[]) \
                AS new (number, frontier, control_version, last_at, next_version) WHERE heads.number = new.number";
    reads::query(t, text, &[&of, &frontier, &control, &last_at, &next]).await?;
    Ok(())
}
