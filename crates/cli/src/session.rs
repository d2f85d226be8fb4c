//! The session of a profile: kept in a file that only its owner reads, and sent to the server and tenant
//! that it was begun with, and to no other.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{CliError, file};
use crate::server::write_secret;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    pub server: String,
    pub tenant: String,
    pub member: String,
    pub expires_at: String,
    pub key: String,
}

/// Where a profile's session is kept. A profile's name is no path.
pub fn path(config: &Path, profile: &str) -> Option<PathBuf> {
    let plain = profile.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    (plain && !profile.is_empty()).then(|| config.with_file_name(format!("session-{profile}.json")))
}

/// The session that is kept; `None` where there is none, or nothing that reads.
pub fn read(path: &Path) -> Option<Kept> {
    let text = Zeroizing::new(std::fs::read(path).ok()?);
    serde_json::from_slice(&text).ok()
}

/// Keeps a session instead of the one before.
pub fn keep(path: &Path, kept: &Kept) -> Result<(), CliError> {
    use std::os::unix::fs::DirBuilderExt as _;
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file(dir))?;
    }
    let text = Zeroizing::new(serde_json::to_string(kept).unwrap_or_default());
    // Beside it first: half a file is none.
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let _ = std::fs::remove_file(&new);
    write_secret(&new, &text)?;
    std::fs::rename(&new, path).map_err(file(path))
}

/// Forgets it.
pub fn forget(path: &Path) -> Result<(), CliError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file(path)(error)),
        _ => Ok(()),
    }
}
