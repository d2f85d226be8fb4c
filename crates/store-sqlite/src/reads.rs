//! Reading: every query the engine has.

use std::sync::Arc;

use intended_ledger::{BLOCK, BLOCK_LEVEL, Frontier, Leaf, NodeHash, Nodes, leaf_hash};
use intended_model::{TenantId, Timestamp};
use intended_store::judge::{Head, prefix_end};
use intended_store::{Fact, Result, StoreError, StoredEntry, TreeHead};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::blocks::Blocks;
use crate::failure;

/// Entries of one tenant: 2^40.
const INDEX_BITS: u32 = 40;

/// The row id of an entry or block. An index beyond what a tenant can have is its last.
pub fn row_id(tenant: i64, index: u64) -> i64 {
    (tenant << INDEX_BITS) | index.min((1 << INDEX_BITS) - 1).cast_signed()
}

/// The index in a row id.
const fn index_of(id: i64) -> u64 {
    (id & ((1 << INDEX_BITS) - 1)).cast_unsigned()
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

/// Bytes that are stored: pages that are free are written to before the file grows.
pub fn used_bytes(c: &Connection) -> Result<u64> {
    let value = |name| c.pragma_query_value(None, name, |r| r.get::<_, i64>(0)).map_err(sql);
    let used = (value("page_count")? - value("freelist_count")?).saturating_mul(value("page_size")?);
    Ok(u64::try_from(used).unwrap_or(0))
}

pub fn number(c: &Connection, tenant: &TenantId) -> Result<i64> {
    let mut statement = c.prepare_cached("SELECT number FROM tenants WHERE name = ?1").map_err(sql)?;
    let found = statement.query_row([tenant.as_str()], |r| r.get(0)).optional().map_err(sql)?;
    found.ok_or(StoreError::UnknownTenant)
}

/// A head as it is kept: the frontier is computed from blocks and leaves and must have this root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub size: u64,
    pub root: NodeHash,
    pub control_version: u64,
    pub last_at: Timestamp,
    pub next_version: u64,
}

impl Kept {
    pub fn of(head: &Head) -> Self {
        Self {
            size: head.frontier.size(),
            root: head.frontier.root(),
            control_version: head.control_version,
            last_at: head.last_at,
            next_version: head.next_version,
        }
    }

    pub const fn tree_head(&self) -> TreeHead {
        TreeHead { size: self.size, root: self.root, at: self.last_at, control_version: self.control_version }
    }

    pub const fn with(&self, frontier: Frontier) -> Head {
        Head { frontier, control_version: self.control_version, last_at: self.last_at, next_version: self.next_version }
    }

    /// From root, control version, time and fact version in this order, from column 1 on.
    fn read(size: u64, row: &Row<'_>) -> Result<Self> {
        let root: Option<Vec<u8>> = row.get(1).map_err(sql)?;
        let number = |column, what| -> Result<u64> {
            let number: Option<i64> = row.get(column).map_err(sql)?;
            number.and_then(|n| u64::try_from(n).ok()).ok_or_else(|| corrupt(what))
        };
        let last_at: Option<i64> = row.get(3).map_err(sql)?;
        Ok(Self {
            size,
            root: root
                .and_then(|b| b.try_into().ok())
                .map(NodeHash::from_bytes)
                .ok_or_else(|| corrupt("a head's root"))?,
            control_version: number(2, "a head's control version")?,
            last_at: last_at.map(Timestamp::from_millis).ok_or_else(|| corrupt("a head's time"))?,
            next_version: number(4, "a head's fact version")?,
        })
    }
}

/// The head as of the last fold; what is before its size is in `subjects`.
pub fn folded(c: &Connection, tenant: i64) -> Result<Kept> {
    let mut statement = c
        .prepare_cached("SELECT size, root, control_version, last_at, next_version FROM tenants WHERE number = ?1")
        .map_err(sql)?;
    let mut rows = statement.query([tenant]).map_err(sql)?;
    let row = rows.next().map_err(sql)?.ok_or(StoreError::UnknownTenant)?;
    let size: i64 = row.get(0).map_err(sql)?;
    Kept::read(u64::try_from(size).map_err(|_| corrupt("a head's size"))?, row)
}

/// The head in the row of the last entry, and that row's own time.
pub fn appended(c: &Connection, tenant: i64) -> Result<Option<(Kept, Timestamp)>> {
    let mut statement = c
        .prepare_cached(
            "SELECT id, root, control_version, last_at, next_version, at FROM entries \
             WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT 1",
        )
        .map_err(sql)?;
    let mut rows = statement.query(params![row_id(tenant, 0), row_id(tenant + 1, 0)]).map_err(sql)?;
    let Some(row) = rows.next().map_err(sql)? else { return Ok(None) };
    let kept = Kept::read(index_of(row.get(0).map_err(sql)?) + 1, row)?;
    Ok(Some((kept, Timestamp::from_millis(row.get(5).map_err(sql)?))))
}

/// The newer of both heads. Sizes never shrink, and at the same size only a commit of facts alone
/// can have come after the entry, which folds. So `folded` is the newer one unless it is smaller.
pub fn newer(folded: Kept, appended: Option<Kept>) -> Result<Kept> {
    match appended {
        Some(appended) if appended.size > folded.size => Ok(appended),
        Some(appended) if appended.size == folded.size => Ok(folded),
        None if folded.size == 0 => Ok(folded),
        _ => Err(corrupt("a head is beyond its entries")),
    }
}

/// Whether both heads, of which `at` is the time of the last entry, can stand beside each other: whichever
/// came later says what the other does, or more.
pub fn agree(folded: &Kept, appended: &Kept, at: Timestamp) -> bool {
    let (older, newer) = if appended.size > folded.size { (folded, appended) } else { (appended, folded) };
    let same = older.size < newer.size || (older.root, older.control_version) == (newer.root, newer.control_version);
    same && appended.last_at >= at
        && older.last_at <= newer.last_at
        && older.next_version <= newer.next_version
        && older.control_version <= newer.control_version
}

/// The newer of both heads, which must not contradict each other. In one snapshot only: between two
/// reads a head moves on.
pub fn agreed(c: &Connection, tenant: i64) -> Result<(Kept, Kept)> {
    let (folded, last) = (folded(c, tenant)?, appended(c, tenant)?);
    let kept = newer(folded, last.map(|(appended, _)| appended))?;
    match last {
        Some((appended, at)) if !agree(&folded, &appended, at) => Err(corrupt("its heads contradict each other")),
        _ => Ok((folded, kept)),
    }
}

/// The tenant's head. The fold is read first: a head that moves on meanwhile is still found.
pub fn head(c: &Connection, tenant: i64) -> Result<Kept> {
    let folded = folded(c, tenant)?;
    newer(folded, appended(c, tenant)?.map(|(kept, _)| kept))
}

pub fn size(c: &Connection, tenant: i64) -> Result<u64> {
    Ok(head(c, tenant)?.size)
}

/// How many control entries there are before `size`.
pub fn controls(c: &Connection, tenant: i64, size: u64) -> Result<u64> {
    let mut statement =
        c.prepare_cached("SELECT count(*) FROM entries WHERE control = 1 AND id >= ?1 AND id < ?2").map_err(sql)?;
    let count: i64 =
        statement.query_row(params![row_id(tenant, 0), row_id(tenant, size)], |r| r.get(0)).map_err(sql)?;
    Ok(count.cast_unsigned())
}

/// The highest version of a fact that is there; 0 without facts.
pub fn highest_version(c: &Connection, tenant: i64) -> Result<u64> {
    let highest: Option<i64> =
        c.query_row("SELECT max(version) FROM facts WHERE tenant = ?1", [tenant], |r| r.get(0)).map_err(sql)?;
    u64::try_from(highest.unwrap_or(0)).map_err(|_| corrupt("a fact's version"))
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
    let index = index_of(id);
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

/// Entries about one intent. Up to the last fold `subjects` knows them; after it, either they are
/// known from memory (`tail`: where they begin, and which may be about it) or the rows are looked
/// through, at most a block of them. Both parts only ever grow at their ends, so it does not matter
/// whether a commit comes between the two reads.
pub fn entries_of(
    c: &Connection,
    tenant: i64,
    subject: [u8; 16],
    tail: Option<(u64, Vec<u64>)>,
) -> Result<Vec<StoredEntry>> {
    let from = match &tail {
        Some((from, _)) => *from,
        None => folded(c, tenant)?.size,
    };
    let mut found = collect(
        c,
        "SELECT e.id, e.at, e.leaf FROM subjects s CROSS JOIN entries e ON e.id = s.id \
         WHERE s.subject = ?1 AND s.id >= ?2 AND s.id < ?3 ORDER BY s.id",
        params![subject.as_slice(), row_id(tenant, 0), row_id(tenant, from)],
    )?;
    match tail {
        // One that is not durable yet is not there, or not about this.
        Some((_, indexes)) => {
            for index in indexes {
                let one = "SELECT id, at, leaf FROM entries WHERE id = ?1 AND subject = ?2";
                found.extend(collect(c, one, params![row_id(tenant, index), subject.as_slice()])?);
            }
        }
        None => found.extend(collect(
            c,
            "SELECT id, at, leaf FROM entries WHERE id >= ?1 AND id < ?2 AND subject = ?3 ORDER BY id",
            params![row_id(tenant, from), row_id(tenant + 1, 0), subject.as_slice()],
        )?),
    }
    Ok(found)
}

/// The subjects of the entries from `from` on.
pub fn subjects(c: &Connection, tenant: i64, from: u64) -> Result<Vec<([u8; 16], u64)>> {
    let mut statement = c
        .prepare_cached(
            "SELECT subject, id FROM entries WHERE id >= ?1 AND id < ?2 AND subject IS NOT NULL ORDER BY id",
        )
        .map_err(sql)?;
    let rows = statement
        .query_map(params![row_id(tenant, from), row_id(tenant + 1, 0)], |r| Ok((r.get(0)?, index_of(r.get(1)?))))
        .map_err(sql)?;
    rows.map(|r| r.map_err(sql)).collect()
}

/// The roots of the blocks `from..to`.
pub fn blocks(c: &Connection, tenant: i64, from: u64, to: u64) -> Result<Vec<NodeHash>> {
    let mut statement =
        c.prepare_cached("SELECT id, root FROM blocks WHERE id >= ?1 AND id < ?2 ORDER BY id").map_err(sql)?;
    let rows = statement
        .query_map(params![row_id(tenant, from), row_id(tenant, to)], |r| {
            Ok((index_of(r.get(0)?), r.get::<_, Vec<u8>>(1)?))
        })
        .map_err(sql)?;
    let mut roots = Vec::new();
    for (expected, row) in (from..).zip(rows) {
        let (index, root) = row.map_err(sql)?;
        match <[u8; 32]>::try_from(root) {
            Ok(root) if index == expected => roots.push(NodeHash::from_bytes(root)),
            _ => return Err(corrupt("a block is missing")),
        }
    }
    if roots.len() as u64 == to.saturating_sub(from) { Ok(roots) } else { Err(corrupt("a block is missing")) }
}

/// Whether there is a block with this number or a higher one.
pub fn has_blocks_from(c: &Connection, tenant: i64, index: u64) -> Result<bool> {
    c.query_row(
        "SELECT EXISTS (SELECT 1 FROM blocks WHERE id >= ?1 AND id < ?2)",
        params![row_id(tenant, index), row_id(tenant + 1, 0)],
        |r| r.get(0),
    )
    .map_err(sql)
}

/// A tenant's tree: blocks at hand, leaves from the file.
pub struct Tree<'c> {
    pub connection: &'c Connection,
    pub tenant: i64,
    pub blocks: Arc<Blocks>,
}

impl Nodes for Tree<'_> {
    type Error = StoreError;
    fn block(&self, index: u64) -> Result<NodeHash> {
        self.blocks.root(0, index).ok_or_else(|| corrupt("a block is missing"))
    }
    fn leaf(&self, index: u64) -> Result<NodeHash> {
        let entry = leaf(self.connection, self.tenant, index)?.ok_or_else(|| corrupt("an entry is missing"))?;
        Ok(leaf_hash(&entry.leaf))
    }
    fn above(&self, level: u8, index: u64) -> Result<Option<NodeHash>> {
        Ok(level.checked_sub(BLOCK_LEVEL).and_then(|above| self.blocks.root(above, index)))
    }
}

impl Tree<'_> {
    /// The frontier of the first `size` entries: whole blocks at hand, the rest from leaves.
    pub fn frontier(&self, size: u64) -> Result<Frontier> {
        let whole = size / BLOCK;
        let frontier = self.blocks.frontier(whole).ok_or_else(|| corrupt("a block is missing"))?;
        self.extended(frontier, size)
    }

    /// The frontier with the stored entries up to `size`.
    pub fn extended(&self, mut frontier: Frontier, size: u64) -> Result<Frontier> {
        for index in frontier.size()..size {
            frontier.push(self.leaf(index)?);
        }
        Ok(frontier)
    }
}
