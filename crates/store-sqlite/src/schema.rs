//! Tables, settings, migrations. Migrations are numbered; each one's text has a checksum in the
//! file, so that an edited migration is noticed.

use intended_model::Digest;
use intended_store::{Result, StoreError};
use rusqlite::{Connection, params};

use crate::failure;

/// Bytes in a page. A decision's leaf has 2 to 3 KiB: several to a page, and a commit of one
/// decision still writes few pages.
pub const PAGE_SIZE: i64 = 8192;
/// `int1` in ASCII: tells a data file of this product from others.
const APPLICATION_ID: i64 = 0x696e_7431;

const MIGRATIONS: &[&str] = &[include_str!("migrations/0001.sql")];

/// Settings of every connection.
pub fn configure(connection: &Connection, read_only: bool) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(64);
    if !read_only {
        connection.pragma_update(None, "page_size", PAGE_SIZE)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // SQLite does not say when it could not: without both, what is acknowledged is not durable.
        let journal: String = connection.pragma_query_value(None, "journal_mode", |r| r.get(0))?;
        let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |r| r.get(0))?;
        if journal != "wal" || synchronous != 2 {
            let why = format!("it is kept with journal_mode={journal}, synchronous={synchronous}, not with wal and 2");
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
            return Err(rusqlite::Error::SqliteFailure(code, Some(why)));
        }
        // Checkpoints are taken elsewhere, never by a commit.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    }
    // 4 MiB a connection: the working set of appending is a few pages.
    connection.pragma_update(None, "cache_size", -4096)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(())
}

/// Brings the file to the current schema.
pub fn migrate(connection: &mut Connection) -> Result<()> {
    let sql = |e: rusqlite::Error| failure(&e);
    let application: i64 = connection.pragma_query_value(None, "application_id", |r| r.get(0)).map_err(sql)?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).map_err(sql)?;
    if tables > 0 && application != APPLICATION_ID {
        return Err(StoreError::Corrupt("the file is a database of something else".to_owned()));
    }
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(sql)?;
    transaction
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, checksum TEXT NOT NULL) STRICT",
        )
        .map_err(sql)?;
    for (number, text) in (1_i64..).zip(MIGRATIONS) {
        let checksum = Digest::of(text.as_bytes()).to_string();
        let done: Option<String> = transaction
            .query_row("SELECT checksum FROM migrations WHERE number = ?1", [number], |r| r.get(0))
            .map(Some)
            .or_else(|e| if e == rusqlite::Error::QueryReturnedNoRows { Ok(None) } else { Err(e) })
            .map_err(sql)?;
        match done {
            Some(known) if known == checksum => {}
            Some(_) => return Err(StoreError::Corrupt(format!("migration {number} is not the one that was applied"))),
            None => {
                transaction.execute_batch(text).map_err(sql)?;
                transaction
                    .execute("INSERT INTO migrations VALUES (?1, ?2)", params![number, checksum])
                    .map_err(sql)?;
            }
        }
    }
    let newest: i64 = transaction.query_row("SELECT max(number) FROM migrations", [], |r| r.get(0)).map_err(sql)?;
    if usize::try_from(newest).is_ok_and(|n| n > MIGRATIONS.len()) {
        return Err(StoreError::Corrupt("the file was written by a newer release".to_owned()));
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(sql)?;
    transaction.commit().map_err(sql)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_have_a_log_is_refused() {
        // As on a file system without shared memory, SQLite stays with another journal and says nothing.
        let error = configure(&Connection::open_in_memory().unwrap(), false).unwrap_err();
        assert!(matches!(failure(&error), StoreError::ReadOnly(why) if why.contains("journal_mode=memory")));
    }
}
