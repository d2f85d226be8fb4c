//! Reading: every query the engine has.

use intended_ledger::{BLOCK, Frontier, Leaf, NodeHash, Nodes, leaf_hash};
use intended_model::{TenantId, Timestamp};
use intended_store::judge::{Head, prefix_end};
use intended_store::{Fact, Result, StoreError, StoredEntry};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::failure;

/// Entries of one tenant: 2^40.
const INDEX_BITS: u32 = 40;

/// The row id of an entry or block. An index beyond what a tenant can have is its last.
pub fn row_id(tenant: i64, index: u64) -> i64 {
    (tenant << INDEX_BITS) | index.min((1 << INDEX_BITS) - 1).cast_signed()
}

fn sql(error: rusqlite::Error) -> StoreError {
    failure(&error)
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

pub fn tenants(c: &Connection) -> Result<Vec<(i64, TenantId)>> {
    let mut statement = c.prepare_cached("SELECT number, name FROM tenants ORDER BY name").map_err(sql)?;
    let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get::<_, String>(1)?))).map_err(sql)?;
    rows.map(|row| {
        let (number, name) = row.map_err(sql)?;
        Ok((number, TenantId::new(&name).map_err(|_| corrupt("a tenant's name"))?))
    })
    .collect()
}

pub fn number(c: &Connection, tenant: &TenantId) -> Result<i64> {
    let mut statement = c.prepare_cached("SELECT number FROM tenants WHERE name = ?1").map_err(sql)?;
    let found = statement.query_row([tenant.as_str()], |r| r.get(0)).optional().map_err(sql)?;
    found.ok_or(StoreError::UnknownTenant)
}

pub fn head(c: &Connection, tenant: i64) -> Result<Option<Head>> {
    let mut statement = c
        .prepare_cached("SELECT frontier, control_version, last_at, next_version FROM tenants WHERE number = ?1")
        .map_err(sql)?;
    let row = statement
        .query_row([tenant], |r| {
            Ok((r.get::<_, Vec<u8>>(0)?, r.get::<_, i64>(1)?, r.get::<_, i64>(2)?, r.get::<_, i64>(3)?))
        })
        .optional()
        .map_err(sql)?;
    let Some((frontier, control, last_at, next)) = row else { return Ok(None) };
    Ok(Some(Head {
        frontier: Frontier::from_bytes(&frontier).map_err(|_| corrupt("a head's frontier"))?,
        control_version: u64::try_from(control).map_err(|_| corrupt("a head's control version"))?,
        last_at: Timestamp::from_millis(last_at),
        next_version: u64::try_from(next).map_err(|_| corrupt("a head's fact version"))?,
    }))
}

pub fn size(c: &Connection, tenant: i64) -> Result<u64> {
    Ok(head(c, tenant)?.ok_or(StoreError::UnknownTenant)?.frontier.size())
}

pub fn fact(c: &Connection, tenant: i64, key: &str) -> Result<Option<Fact>> {
    let mut statement =
        c.prepare_cached("SELECT value, version FROM facts WHERE tenant = ?1 AND key = ?2").map_err(sql)?;
    statement
        .query_row(params![tenant, key], |r| {
            Ok(Fact { value: r.get(0)?, version: r.get::<_, i64>(1)?.cast_unsigned() })
        })
        .optional()
        .map_err(sql)
}

pub fn facts(c: &Connection, tenant: i64, prefix: &str, after: &str, limit: usize) -> Result<Vec<(String, Fact)>> {
    // Text compares by its bytes, and a blob is greater than any text: a range without an end.
    let end = prefix_end(prefix).map_or(Value::Blob(Vec::new()), Value::Text);
    let mut statement = c
        .prepare_cached(
            "SELECT key, value, version FROM facts WHERE tenant = ?1 AND key >= ?2 AND key > ?3 AND key < ?4 ORDER BY key LIMIT ?5",
        )
        .map_err(sql)?;
    let rows = statement
        .query_map(params![tenant, prefix, after, end, limited(limit)], |r| {
            Ok((r.get(0)?, Fact { value: r.get(1)?, version: r.get::<_, i64>(2)?.cast_unsigned() }))
        })
        .map_err(sql)?;
    rows.map(|r| r.map_err(sql)).collect()
}

fn limited(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn stored(row: &Row<'_>) -> rusqlite::Result<(i64, i64, Vec<u8>)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

/// The row's columns must say what the leaf says: the leaf is what was hashed.
fn checked((id, at, leaf): (i64, i64, Vec<u8>)) -> Result<StoredEntry> {
    let index = (id & ((1 << INDEX_BITS) - 1)).cast_unsigned();
    let parsed = Leaf::parse(&leaf).map_err(|e| StoreError::Corrupt(format!("entry {index}: {e}")))?;
    if parsed.index != index || parsed.at.as_millis() != at {
        return Err(StoreError::Corrupt(format!("entry {index} stands where another belongs")));
    }
    Ok(StoredEntry { index, at: Timestamp::from_millis(at), leaf })
}

fn collect(c: &Connection, text: &str, params: impl rusqlite::Params) -> Result<Vec<StoredEntry>> {
    let mut statement = c.prepare_cached(text).map_err(sql)?;
    let rows = statement.query_map(params, stored).map_err(sql)?;
    rows.map(|r| checked(r.map_err(sql)?)).collect()
}

pub fn leaf(c: &Connection, tenant: i64, index: u64) -> Result<Option<StoredEntry>> {
    Ok(collect(c, "SELECT id, at, leaf FROM entries WHERE id = ?1", [row_id(tenant, index)])?.pop())
}

pub fn entries(c: &Connection, tenant: i64, from: u64, limit: usize) -> Result<Vec<StoredEntry>> {
    collect(
        c,
        "SELECT id, at, leaf FROM entries WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3",
        params![row_id(tenant, from), row_id(tenant + 1, 0), limited(limit)],
    )
}

pub fn entries_before(c: &Connection, tenant: i64, before: u64, limit: usize) -> Result<Vec<StoredEntry>> {
    collect(
        c,
        "SELECT id, at, leaf FROM entries WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
        params![row_id(tenant, 0), row_id(tenant, before), limited(limit)],
    )
}

pub fn control_entries(c: &Connection, tenant: i64, from: u64, limit: usize) -> Result<Vec<StoredEntry>> {
    collect(
        c,
        "SELECT id, at, leaf FROM entries WHERE control = 1 AND id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3",
        params![row_id(tenant, from), row_id(tenant + 1, 0), limited(limit)],
    )
}

pub fn entries_of(c: &Connection, tenant: i64, subject: [u8; 16]) -> Result<Vec<StoredEntry>> {
    collect(
        c,
        "SELECT id, at, leaf FROM entries WHERE subject = ?1 AND id >= ?2 AND id < ?3 ORDER BY id",
        params![subject.as_slice(), row_id(tenant, 0), row_id(tenant + 1, 0)],
    )
}

/// A tenant's tree, from kept blocks and stored leaves.
pub struct Tree<'c> {
    connection: &'c Connection,
    tenant: i64,
}

impl<'c> Tree<'c> {
    pub const fn new(connection: &'c Connection, tenant: i64) -> Self {
        Self { connection, tenant }
    }
}

impl Nodes for Tree<'_> {
    type Error = StoreError;
    fn block(&self, index: u64) -> Result<NodeHash> {
        let mut statement = self.connection.prepare_cached("SELECT root FROM blocks WHERE id = ?1").map_err(sql)?;
        let root: Option<Vec<u8>> =
            statement.query_row([row_id(self.tenant, index)], |r| r.get(0)).optional().map_err(sql)?;
        let root = root.and_then(|b| b.try_into().ok()).ok_or_else(|| corrupt("a block is missing"))?;
        Ok(NodeHash::from_bytes(root))
    }
    fn leaf(&self, index: u64) -> Result<NodeHash> {
        let entry = leaf(self.connection, self.tenant, index)?.ok_or_else(|| corrupt("an entry is missing"))?;
        Ok(leaf_hash(&entry.leaf))
    }
}

/// The frontier of the first `size` entries: whole blocks from their roots, the rest from leaves.
pub fn frontier(c: &Connection, tenant: i64, size: u64) -> Result<Frontier> {
    let tree = Tree::new(c, tenant);
    let whole = size / BLOCK;
    let mut blocks = Frontier::empty();
    for index in 0..whole {
        blocks.push(tree.block(index)?);
    }
    let mut rest = Frontier::empty();
    for index in whole * BLOCK..size {
        rest.push(tree.leaf(index)?);
    }
    let roots = blocks.roots().iter().chain(rest.roots()).copied().collect();
    Frontier::new(size, roots).map_err(|_| corrupt("a frontier"))
}
