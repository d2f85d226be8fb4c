//! The file of a backup: a tar archive, so that it can be opened and checked where there is no
//! `intended` (`tar xf`, `sha256sum -c SHA256SUMS`).
//!
//! ```text
//! manifest.json               format, release, time, what is in it
//! intended.toml               the config file
//! checkpoints/<tenant>        of each tenant the newest signed checkpoint
//! ledger.db                   the ledgers and their facts
//! root.key                    only where it was asked for
//! SHA256SUMS                  last: an archive that was cut short has none
//! ```

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use intended_model::digest::hex;
use intended_model::{ExitCode, TenantId, Timestamp};
use intended_store_sqlite::FILE;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::{CliError, file};
use crate::server::{CONFIG, ROOT_KEY};

/// The format that this release writes, and the only one that it reads.
const FORMAT: &str = "intended-backup/1";
const MANIFEST: &str = "manifest.json";
const SUMS: &str = "SHA256SUMS";
const CHECKPOINTS: &str = "checkpoints/";
/// Most bytes of whatever is not the data file: config files and notes have a few thousand.
const MAX_SMALL: u64 = 16 << 20;
const BUFFER: usize = 1 << 20;

/// What an archive says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: String,
    /// The release that wrote it.
    pub release: String,
    pub made_at: Timestamp,
    pub root_key: bool,
    pub tenants: Vec<Tenant>,
}

/// A ledger in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    pub tenant: TenantId,
    pub entries: u64,
    pub root: String,
    /// So many of them are signed for by the checkpoint beside it.
    pub signed: u64,
}

impl Manifest {
    pub fn new(made_at: Timestamp, root_key: bool, tenants: Vec<Tenant>) -> Self {
        Self { format: FORMAT.to_owned(), release: env!("CARGO_PKG_VERSION").to_owned(), made_at, root_key, tenants }
    }
}

/// What is in an archive besides the data file.
pub struct Content {
    pub manifest: Manifest,
    pub config: String,
    /// By tenant.
    pub checkpoints: BTreeMap<TenantId, String>,
    pub root_key: Option<Zeroizing<String>>,
}

/// Whatever is read or written, with the SHA-256 of it.
struct Hashed<T> {
    inner: T,
    hash: Sha256,
}

impl<T> Hashed<T> {
    fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new() }
    }
    fn hex(self) -> String {
        hex(&self.hash.finalize())
    }
}
impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..n).unwrap_or_default());
        Ok(n)
    }
}

/// Writes an archive to an empty file.
pub fn write(to: &mut std::fs::File, content: &Content, database: &Path) -> std::io::Result<()> {
    let mut tar = tar::Builder::new(std::io::BufWriter::with_capacity(BUFFER, &mut *to));
    let mut sums = String::new();
    let at = u64::try_from(content.manifest.made_at.as_secs()).unwrap_or(0);
    let mut add = |name: &str, size: u64, from: &mut dyn Read| -> std::io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(at);
        let mut from = Hashed::new(from);
        tar.append_data(&mut header, name, &mut from)?;
        sums.push_str(&format!("{}  {name}\n", from.hex()));
        Ok(())
    };
    let manifest = serde_json::to_string_pretty(&content.manifest)? + "\n";
    let mut small = |name: &str, text: &str| add(name, text.len() as u64, &mut text.as_bytes());
    small(MANIFEST, &manifest)?;
    small(CONFIG, &content.config)?;
    for (tenant, note) in &content.checkpoints {
        small(&format!("{CHECKPOINTS}{tenant}"), note)?;
    }
    let mut data = std::fs::File::open(database)?;
    add(FILE, data.metadata()?.len(), &mut data)?;
    if let Some(key) = &content.root_key {
        add(ROOT_KEY, key.len() as u64, &mut key.as_bytes())?;
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(sums.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(at);
    tar.append_data(&mut header, SUMS, sums.as_bytes())?;
    tar.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    to.sync_all()
}

/// Reads an archive, and checks every sum in it. The data file goes to `database` where one is named.
pub fn read(path: &Path, database: Option<&Path>) -> Result<Content, CliError> {
    let bad = |what: String| broken(path, &what);
    let archive = std::fs::File::open(path).map_err(file(path))?;
    let mut tar = tar::Archive::new(std::io::BufReader::with_capacity(BUFFER, archive));
    let (mut manifest, mut config, mut root_key, mut sums) = (None, None, None, None);
    let (mut checkpoints, mut seen, mut has_data) = (BTreeMap::new(), BTreeMap::new(), false);
    for entry in tar.entries().map_err(|e| bad(e.to_string()))? {
        let mut entry = entry.map_err(|e| bad(e.to_string()))?;
        let name = entry.path().map_err(|e| bad(e.to_string()))?.to_string_lossy().into_owned();
        if sums.is_some() || seen.contains_key(&name) || !entry.header().entry_type().is_file() {
            return Err(bad(format!("`{name}` is not expected there")));
        }
        if name == FILE {
            let mut from = Hashed::new(&mut entry);
            match database {
                Some(to) => {
                    let mut out = std::fs::OpenOptions::new();
                    let mut out = out.write(true).create_new(true).open(to).map_err(file(to))?;
                    std::io::copy(&mut from, &mut out).map_err(file(to))?;
                    out.sync_all().map_err(file(to))?;
                }
                None => drop(std::io::copy(&mut from, &mut std::io::sink()).map_err(|e| bad(e.to_string()))?),
            }
            has_data = true;
            seen.insert(name, from.hex());
            continue;
        }
        if entry.size() > MAX_SMALL {
            return Err(bad(format!("`{name}` has {} bytes", entry.size())));
        }
        let mut text = Zeroizing::new(String::new());
        let mut from = Hashed::new(&mut entry);
        from.read_to_string(&mut text).map_err(|e| bad(format!("`{name}`: {e}")))?;
        let sum = from.hex();
        match name.as_str() {
            MANIFEST => manifest = Some(text.to_string()),
            CONFIG => config = Some(text.to_string()),
            ROOT_KEY => root_key = Some(text),
            SUMS => {
                sums = Some(text.to_string());
                continue;
            }
            other => {
                let tenant = other.strip_prefix(CHECKPOINTS).and_then(|t| TenantId::new(t).ok());
                let tenant = tenant.ok_or_else(|| bad(format!("`{other}` is not expected there")))?;
                checkpoints.insert(tenant, text.to_string());
            }
        }
        seen.insert(name, sum);
    }
    let sums = sums.ok_or_else(|| bad(format!("there is no `{SUMS}` in it: it was cut short, or is no backup")))?;
    hold(&sums, &seen).map_err(bad)?;
    let manifest = manifest.ok_or_else(|| bad(format!("there is no `{MANIFEST}` in it")))?;
    let manifest: Manifest = serde_json::from_str(&manifest).map_err(|e| bad(format!("`{MANIFEST}`: {e}")))?;
    if manifest.format != FORMAT {
        return Err(bad(format!("its format is `{}`; this release reads `{FORMAT}`", manifest.format)));
    }
    if !has_data {
        return Err(bad(format!("there is no `{FILE}` in it")));
    }
    let config = config.ok_or_else(|| bad(format!("there is no `{CONFIG}` in it")))?;
    Ok(Content { manifest, config, checkpoints, root_key })
}

/// Every sum is of something that is there, and everything that is there has its sum.
fn hold(sums: &str, seen: &BTreeMap<String, String>) -> Result<(), String> {
    let mut left = seen.clone();
    for line in sums.lines() {
        let (sum, name) = line.split_once("  ").ok_or_else(|| format!("`{SUMS}` does not read"))?;
        match left.remove(name) {
            None => return Err(format!("`{name}` is missing")),
            Some(other) if other != sum => return Err(format!("`{name}` is damaged: it does not have its SHA-256")),
            Some(_) => {}
        }
    }
    match left.into_keys().next() {
        None => Ok(()),
        Some(name) => Err(format!("`{name}` has no sum")),
    }
}

fn broken(path: &Path, what: &str) -> CliError {
    CliError::Failed(format!("{}: the backup is not whole\n  {what}", path.display()), ExitCode::VerificationFailed)
}
