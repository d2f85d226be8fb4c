//! The one task of a node that writes: it takes what waits, judges it inside one transaction and
//! makes it durable with one commit.
//!
//! The transaction locks the head rows of its tenants, in the order of their names so that no two
//! nodes wait for each other, and reads everything after that: what it sees is what the last holder
//! of the lock left.
//!
//! Whatever goes wrong, the connection is not used again. Nothing waits for the server for ever: a
//! batch that has not come to its commit in time is given up, and of a commit that is not answered in
//! time the outcome is asked for. The server has no statement timeout here: one that strikes while a
//! commit waits for a standby makes the server answer as if the standby had it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use deadpool_postgres::{Client, Pool};
use intended_model::{TenantId, Timestamp};
use intended_store::judge::{Accepted, Facts, Sealed, Tenant, keys_read};
use intended_store::{Commit, Committed, Fact, MAX_BATCH, MAX_BATCH_BYTES, Result, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_postgres::error::{Severity, SqlState};

use crate::{DEADLINE, Shared, failure, reached, reads, unanswered};

pub enum Job {
    Commit(Commit, oneshot::Sender<Result<Committed>>),
    Close(oneshot::Sender<()>),
}

type Waiting = (Commit, oneshot::Sender<Result<Committed>>);

/// How long, and how often, the outcome of a commit is asked for that got no answer.
const ASK: (Duration, Duration) = (Duration::from_secs(8), Duration::from_millis(100));

/// `pool` is the writer's own, `readers` is only closed.
pub async fn run(pool: Pool, readers: Pool, mut queue: mpsc::Receiver<Job>, shared: Arc<Shared>) {
    let mut batch: Vec<Waiting> = Vec::with_capacity(MAX_BATCH);
    while let Some(first) = queue.recv().await {
        let mut weight = 0;
        let mut next = Some(first);
        while let Some(Job::Commit(commit, answer)) = next {
            let one = commit.weight();
            shared.backlog.leave(one);
            weight += one;
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
            readers.close();
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
            shared.trouble(Some(error.clone()));
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
    let client = pool.get().await.map_err(reached)?;
    let prepared = timeout(DEADLINE, prepare(&client, batch)).await.unwrap_or_else(|_| Err(unanswered()));
    let (written, ours) = match prepared {
        Ok((written, Some(ours))) => (written, ours),
        Ok((written, None)) => return Ok(written),
        Err(error) => {
            // Nothing was committed, and without the connection nothing will be.
            drop(Client::take(client));
            return Err(error);
        }
    };
    let why = match timeout(DEADLINE, client.batch_execute("COMMIT")).await {
        Ok(Ok(())) => return Ok(written),
        Ok(Err(error)) if refused(&error) => {
            drop(Client::take(client));
            return Err(failure(error));
        }
        Ok(Err(error)) => failure(error),
        Err(_) => unanswered(),
    };
    drop(Client::take(client));
    let known = timeout(ASK.0, outcome(pool, &ours)).await.unwrap_or_else(|_| {
        // The one that asked may still be waiting.
        drop(pool.retain(|_, _| false));
        None
    });
    match known {
        Some(true) => Ok(written),
        Some(false) => Err(why),
        None => Err(StoreError::Stopped(format!("the outcome of a commit is unknown: {why}"))),
    }
}

/// Whether the server says that the transaction is gone. An error that ends the session as well says
/// nothing about that: a pooler, say, has lost the server.
fn refused(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| error.parsed_severity() == Some(Severity::Error))
}

/// Everything but the commit. Without anything accepted there is none.
async fn prepare(client: &Client, batch: &[Waiting]) -> Result<(Written, Option<Ours>)> {
    // What the head's lock fences is read after it, in each statement's own snapshot: a stricter
    // default of the server or the role would see the time before the lock.
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await.map_err(failure)?;
    let names: Vec<&str> = batch.iter().map(|(commit, _)| commit.tenant.as_str()).collect();
    let text = "SELECT pg_current_xact_id()::text, name, number, frontier, control_version, last_at, next_version \
                FROM heads WHERE name = ANY($1) ORDER BY name FOR UPDATE";
    let rows = reads::query(client, text, &[&names]).await?;
    let (mut tenants, mut numbers, mut id) = (BTreeMap::new(), BTreeMap::new(), String::new());
    for row in &rows {
        id = row.try_get(0).map_err(failure)?;
        let name = TenantId::new(row.try_get(1).map_err(failure)?)
            .map_err(|_| StoreError::Corrupt("a tenant's name".to_owned()))?;
        numbers.insert(name.clone(), row.try_get::<_, i64>(2).map_err(failure)?);
        tenants.insert(name.clone(), Tenant::new(name, reads::to_head(row, 3)?));
    }

    let mut facts = fetch(client, batch, &numbers).await?;
    let judge = |(commit, _): &Waiting| match tenants.get_mut(&commit.tenant) {
        None => Err(StoreError::UnknownTenant),
        Some(tenant) => tenant.judge(commit, &mut facts),
    };
    let judged: Vec<Result<Accepted>> = batch.iter().map(judge).collect();
    let sealed: BTreeMap<TenantId, Sealed> = tenants.into_iter().map(|(id, tenant)| (id, tenant.seal())).collect();
    if judged.iter().all(Result::is_err) {
        client.batch_execute("ROLLBACK").await.map_err(failure)?;
        return Ok(((sealed, judged), None));
    }
    let parts: Vec<(i64, &Sealed)> = sealed
        .iter()
        .filter(|(_, part)| part.accepted)
        .filter_map(|(id, part)| numbers.get(id).map(|number| (*number, part)))
        .collect();
    store(client, &parts).await?;
    let ours = Ours::of(id, &parts);
    Ok(((sealed, judged), Some(ours)))
}

/// How a transaction is known again.
struct Ours {
    id: String,
    /// A tenant it wrote to.
    number: i64,
    mark: Option<Mark>,
}

/// A row that only it writes.
enum Mark {
    Entry(i64, i64, Vec<u8>),
    Fact(i64, String, i64, Vec<u8>),
}

impl Ours {
    fn of(id: String, parts: &[(i64, &Sealed)]) -> Self {
        let entry = parts.iter().find_map(|(number, part)| {
            part.entries.first().map(|e| Mark::Entry(*number, e.index.cast_signed(), e.leaf.clone()))
        });
        let fact = || {
            parts.iter().find_map(|(number, part)| {
                part.facts.iter().find_map(|(key, row)| {
                    let (value, version, _) = row.as_ref()?;
                    Some(Mark::Fact(*number, key.to_string(), version.cast_signed(), value.clone()))
                })
            })
        };
        Self { id, number: parts.first().map_or(0, |(number, _)| *number), mark: entry.or_else(fact) }
    }
}

/// Whether the transaction was committed, `None` if that cannot be told.
async fn outcome(pool: &Pool, ours: &Ours) -> Option<bool> {
    loop {
        tokio::time::sleep(ASK.1).await;
        match ask(pool, ours).await {
            Ok(Told::Outcome(known)) => return known,
            Ok(Told::InProgress) => {}
            Err(error) => tracing::warn!(%error, "the outcome of a commit is asked for"),
        }
    }
}

enum Told {
    InProgress,
    Outcome(Option<bool>),
}

/// The server keeps the outcome of recent transactions. One that crashed may have forgotten ours and
/// given its number to another: a row of ours has to be there too.
async fn ask(pool: &Pool, ours: &Ours) -> Result<Told> {
    let client = pool.get().await.map_err(reached)?;
    let status = client.query_one("SELECT pg_xact_status($1::text::xid8)", &[&ours.id]).await;
    let status: Option<String> = match status {
        Ok(row) => row.try_get(0).map_err(failure)?,
        // The number is in the future: the server has come back without it.
        Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => {
            return Ok(Told::Outcome(Some(false)));
        }
        Err(error) => return Err(failure(error)),
    };
    match status.as_deref() {
        Some("aborted") => return Ok(Told::Outcome(Some(false))),
        Some("committed") => {}
        Some(_) => return Ok(Told::InProgress),
        None => return Ok(Told::Outcome(None)),
    }
    // A later commit is durable, on standbys as well, only if all earlier ones are.
    reads::query(&client, "UPDATE heads SET last_at = last_at WHERE number = $1", &[&ours.number]).await?;
    let there = match &ours.mark {
        None => return Ok(Told::Outcome(None)),
        Some(Mark::Entry(number, index, leaf)) => {
            let text = "SELECT 1 FROM entries WHERE tenant = $1 AND idx = $2 AND leaf = $3";
            reads::query(&client, text, &[number, index, leaf]).await?
        }
        Some(Mark::Fact(number, key, version, value)) => {
            let text = "SELECT 1 FROM facts WHERE tenant = $1 AND key = $2 AND version = $3 AND value = $4";
            reads::query(&client, text, &[number, key, version, value]).await?
        }
    };
    Ok(Told::Outcome(match (&ours.mark, there.is_empty()) {
        (_, false) => Some(true),
        // Entries stay for ever.
        (Some(Mark::Entry(..)), true) => Some(false),
        // A fact may have been changed since.
        _ => None,
    }))
}

async fn fetch(t: &Client, batch: &[Waiting], numbers: &BTreeMap<TenantId, i64>) -> Result<Fetched> {
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
async fn store(t: &Client, parts: &[(i64, &Sealed)]) -> Result<()> {
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
