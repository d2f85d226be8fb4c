//! Reading: every query the engine has, but those of a batch.

use std::collections::HashMap;

use deadpool_postgres::GenericClient;
use intended_ledger::{BLOCK, Frontier, Leaf, NodeHash, Nodes, leaf_hash};
use intended_model::{TenantId, Timestamp};
use intended_store::judge::{Head, prefix_end};
use intended_store::{Fact, Result, StoreError, StoredEntry};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::failure;

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

/// An index or a size as a column; what no ledger reaches is the greatest.
fn column(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn natural(row: &Row, at: usize) -> Result<u64> {
    u64::try_from(row.try_get::<_, i64>(at).map_err(failure)?).map_err(|_| corrupt("a negative number"))
}

pub async fn query<C: GenericClient>(c: &C, text: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
    let statement = c.prepare_cached(text).await.map_err(failure)?;
    c.query(&statement, params).await.map_err(failure)
}

pub async fn tenants<C: GenericClient>(c: &C) -> Result<Vec<TenantId>> {
    let rows = query(c, "SELECT name FROM heads ORDER BY name", &[]).await?;
    rows.iter()
        .map(|row| TenantId::new(row.try_get(0).map_err(failure)?).map_err(|_| corrupt("a tenant's name")))
        .collect()
}

pub async fn number<C: GenericClient>(c: &C, tenant: &TenantId) -> Result<i64> {
    let rows = query(c, "SELECT number FROM heads WHERE name = $1", &[&tenant.as_str()]).await?;
    rows.first().ok_or(StoreError::UnknownTenant)?.try_get(0).map_err(failure)
}

/// A head from the columns `frontier, control_version, last_at, next_version` that start at `at`.
pub fn to_head(row: &Row, at: usize) -> Result<Head> {
    let frontier: &[u8] = row.try_get(at).map_err(failure)?;
    Ok(Head {
        frontier: Frontier::from_bytes(frontier).map_err(|_| corrupt("a head's frontier"))?,
        control_version: natural(row, at + 1)?,
        last_at: Timestamp::from_millis(row.try_get(at + 2).map_err(failure)?),
        next_version: natural(row, at + 3)?,
    })
}

pub async fn head<C: GenericClient>(c: &C, tenant: i64) -> Result<Head> {
    let text = "SELECT frontier, control_version, last_at, next_version FROM heads WHERE number = $1";
    to_head(query(c, text, &[&tenant]).await?.first().ok_or(StoreError::UnknownTenant)?, 0)
}

/// A fact from the columns `value, version` that start at `at`.
pub fn to_fact(row: &Row, at: usize) -> Result<Fact> {
    Ok(Fact { value: row.try_get(at).map_err(failure)?, version: natural(row, at + 1)? })
}

pub async fn fact<C: GenericClient>(c: &C, tenant: i64, key: &str) -> Result<Option<Fact>> {
    let rows = query(c, "SELECT value, version FROM facts WHERE tenant = $1 AND key = $2", &[&tenant, &key]).await?;
    rows.first().map(|row| to_fact(row, 0)).transpose()
}

pub async fn facts<C: GenericClient>(
    c: &C,
    tenant: i64,
    prefix: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<(String, Fact)>> {
    let text = "SELECT key, value, version FROM facts WHERE tenant = $1 AND key >= $2 AND key > $3 \
                AND ($4::text IS NULL OR key < $4) ORDER BY key LIMIT $5";
    let (end, limit) = (prefix_end(prefix), column(limit as u64));
    let rows = query(c, text, &[&tenant, &prefix, &after, &end, &limit]).await?;
    rows.iter().map(|row| Ok((row.try_get(0).map_err(failure)?, to_fact(row, 1)?))).collect()
}

/// The row's columns must say what the leaf says: the leaf is what was hashed.
fn checked(row: &Row) -> Result<StoredEntry> {
    let (index, at) = (natural(row, 0)?, Timestamp::from_millis(row.try_get(1).map_err(failure)?));
    let leaf: Vec<u8> = row.try_get(2).map_err(failure)?;
    let parsed = Leaf::parse(&leaf).map_err(|e| StoreError::Corrupt(format!("entry {index}: {e}")))?;
    if parsed.index != index || parsed.at != at {
        return Err(StoreError::Corrupt(format!("entry {index} stands where another belongs")));
    }
    Ok(StoredEntry { index, at, leaf })
}

/// Which entries, and in what order.
#[derive(Debug, Clone, Copy)]
pub enum Page {
    From(u64),
    Before(u64),
    ControlFrom(u64),
    Of([u8; 16]),
}

pub async fn entries<C: GenericClient>(c: &C, tenant: i64, page: Page, limit: usize) -> Result<Vec<StoredEntry>> {
    let limit = column(limit as u64);
    let select = |which: &str| format!("SELECT idx, at, leaf FROM entries WHERE tenant = $1 AND {which} LIMIT $3");
    let rows = match page {
        Page::From(n) => query(c, &select("idx >= $2 ORDER BY idx"), &[&tenant, &column(n), &limit]).await?,
        Page::Before(n) => query(c, &select("idx < $2 ORDER BY idx DESC"), &[&tenant, &column(n), &limit]).await?,
        Page::ControlFrom(n) => {
            query(c, &select("control AND idx >= $2 ORDER BY idx"), &[&tenant, &column(n), &limit]).await?
        }
        Page::Of(id) => query(c, &select("subject = $2 ORDER BY idx"), &[&tenant, &id.as_slice(), &limit]).await?,
    };
    rows.iter().map(checked).collect()
}

/// The parts of a tenant's tree that have been fetched.
struct Fetched {
    blocks: Vec<NodeHash>,
    /// Leaf hashes of some blocks.
    leaves: HashMap<u64, Vec<NodeHash>>,
}

/// Number of the block whose leaves are missing; `None`: a block's root is.
struct Missing(Option<u64>);

impl Nodes for Fetched {
    type Error = Missing;
    fn block(&self, index: u64) -> std::result::Result<NodeHash, Missing> {
        usize::try_from(index).ok().and_then(|i| self.blocks.get(i).copied()).ok_or(Missing(None))
    }
    fn leaf(&self, index: u64) -> std::result::Result<NodeHash, Missing> {
        let leaves = self.leaves.get(&(index / BLOCK)).ok_or(Missing(Some(index / BLOCK)))?;
        usize::try_from(index % BLOCK).ok().and_then(|i| leaves.get(i).copied()).ok_or(Missing(None))
    }
}

/// What is asked about a tree.
pub enum Ask {
    Inclusion(u64),
    Consistency(u64),
    Root,
}

/// Makes a proof in the tree of `size` leaves. What it needs is only known while it is made: it is
/// made again after each piece, which is one or two blocks of leaves.
pub async fn proof<C: GenericClient>(c: &C, tenant: i64, ask: Ask, size: u64) -> Result<Vec<NodeHash>> {
    let within = match ask {
        Ask::Inclusion(index) => index < size,
        Ask::Consistency(from) => from <= size,
        Ask::Root => true,
    };
    if !within || size > head(c, tenant).await?.frontier.size() {
        return Err(StoreError::Invalid("the ledger has no such index or size"));
    }
    let text = "SELECT root FROM blocks WHERE tenant = $1 AND idx < $2 ORDER BY idx";
    let rows = query(c, text, &[&tenant, &column(size / BLOCK)]).await?;
    let root = |row: &Row| {
        let bytes: &[u8] = row.try_get(0).map_err(failure)?;
        bytes.try_into().map(NodeHash::from_bytes).map_err(|_| corrupt("a block's root"))
    };
    let mut nodes = Fetched { blocks: rows.iter().map(root).collect::<Result<_>>()?, leaves: HashMap::new() };
    loop {
        let made = match ask {
            Ask::Inclusion(index) => intended_ledger::inclusion_proof(&nodes, index, size),
            Ask::Consistency(from) => intended_ledger::consistency_proof(&nodes, from, size),
            Ask::Root => intended_ledger::root_of(&nodes, size).map(|root| vec![root]),
        };
        match made {
            Ok(proof) => return Ok(proof),
            Err(Missing(Some(block))) if !nodes.leaves.contains_key(&block) => {
                let leaves = entries(c, tenant, Page::From(block * BLOCK), BLOCK as usize).await?;
                nodes.leaves.insert(block, leaves.iter().map(|e| leaf_hash(&e.leaf)).collect());
            }
            Err(Missing(_)) => return Err(corrupt("a part of the tree is missing")),
        }
    }
}
