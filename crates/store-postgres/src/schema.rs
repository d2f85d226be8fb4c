//! Migrations: numbered; each one's text has a checksum in the database, so that an edited
//! migration is noticed. An advisory lock keeps nodes that start at once from doing them twice.

use deadpool_postgres::Client;
use intended_model::Digest;
use intended_store::{Result, StoreError};

use crate::failure;

const MIGRATIONS: &[&str] = &[include_str!("migrations/0001.sql")];
/// `int1` in ASCII: the advisory lock's number.
const LOCK: i64 = 0x696e_7431;

/// Brings the schema on the connection's search path to the current one.
pub async fn migrate(client: &mut Client) -> Result<()> {
    let transaction = client.transaction().await.map_err(failure)?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await.map_err(failure)?;
    transaction
        .batch_execute("CREATE TABLE IF NOT EXISTS migrations (number bigint PRIMARY KEY, checksum text NOT NULL)")
        .await
        .map_err(failure)?;
    for (number, text) in (1_i64..).zip(MIGRATIONS) {
        let checksum = Digest::of(text.as_bytes()).to_string();
        let done = transaction
            .query_opt("SELECT checksum FROM migrations WHERE number = $1", &[&number])
            .await
            .map_err(failure)?;
        match done.map(|row| row.try_get::<_, String>(0)).transpose().map_err(failure)? {
            Some(known) if known == checksum => {}
            Some(_) => return Err(StoreError::Corrupt(format!("migration {number} is not the one that was applied"))),
            None => {
                transaction.batch_execute(text).await.map_err(failure)?;
                transaction
                    .execute("INSERT INTO migrations VALUES ($1, $2)", &[&number, &checksum])
                    .await
                    .map_err(failure)?;
            }
        }
    }
    let newest = transaction.query_one("SELECT max(number) FROM migrations", &[]).await.map_err(failure)?;
    let newest: i64 = newest.try_get(0).map_err(failure)?;
    if usize::try_from(newest).is_ok_and(|n| n > MIGRATIONS.len()) {
        return Err(StoreError::Corrupt("the database was written by a newer release".to_owned()));
    }
    transaction.commit().await.map_err(failure)
}
