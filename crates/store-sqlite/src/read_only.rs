//! Reading a data directory without writing anything.

use std::path::Path;

use intended_ledger::NodeHash;
use intended_model::TenantId;
use intended_store::{Fact, Result, StoreError, StoredEntry, TreeHead};
use rusqlite::{Connection, OptionalExtension as _};

use crate::{FILE, connect, failure, reads};

/// One snapshot of the ledgers, also while a server runs on them: for `intended verify`. While it is
/// held, the write-ahead log cannot be used again from its start and grows.
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
    pub fn head(&self, tenant: &TenantId) -> Result<TreeHead> {
        let number = reads::number(&self.connection, tenant)?;
        let (_, kept) = reads::agreed(&self.connection, number)?;
        Ok(kept.tree_head())
    }
    /// The roots of whole blocks that are kept, in order: also those that should not be there.
    pub fn blocks(&self, tenant: &TenantId) -> Result<Vec<NodeHash>> {
        let number = reads::number(&self.connection, tenant)?;
        let range = [reads::row_id(number, 0), reads::row_id(number + 1, 0)];
        let kept = self
            .connection
            .query_row("SELECT count(*) FROM blocks WHERE id >= ?1 AND id < ?2", range, |r| r.get::<_, i64>(0))
            .map_err(|e| failure(&e))?;
        reads::blocks(&self.connection, number, 0, kept.cast_unsigned())
    }
    /// Entries about one intent, oldest first.
    pub fn entries_of(&self, tenant: &TenantId, subject: [u8; 16]) -> Result<Vec<StoredEntry>> {
        reads::entries_of(&self.connection, reads::number(&self.connection, tenant)?, subject, None)
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
