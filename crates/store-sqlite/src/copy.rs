//! A copy of the ledgers, also while a server writes to them.

use std::path::Path;

use intended_store::{Result, StoreError};

use crate::{FILE, connect, failure};

/// Writes all that was durable when it began to a new file, and says how large that is. The writer is
/// not held up by it; until it is done, the write-ahead log cannot be used again from its start and
/// grows by what is written meanwhile. The copy is durable when this returns.
pub fn copy(dir: &Path, to: &Path) -> Result<u64> {
    let path = dir.join(FILE);
    if !path.is_file() {
        return Err(StoreError::Unavailable(format!("{}: there is no `{FILE}`", dir.display())));
    }
    let named = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            StoreError::Full(format!("{}: {e}", to.display()))
        }
        _ => StoreError::Unavailable(format!("{}: {e}", to.display())),
    };
    let name =
        to.to_str().ok_or_else(|| StoreError::Unavailable(format!("{}: its name is not UTF-8", to.display())))?;
    let connection = connect(&path, true)?;
    // Page by page the steps of SQLite's backup would begin again with each commit: under load they
    // never end. This is one read of one snapshot.
    connection.execute("VACUUM INTO ?1", [name]).map_err(|e| failure(&e))?;
    drop(connection);
    let file = std::fs::File::open(to).map_err(named)?;
    file.sync_all().map_err(named)?;
    Ok(file.metadata().map_err(named)?.len())
}
