//! Checkpoints that are kept outside the data directory. A data directory that was put back as it once
//! was is consistent in itself; that there was more is known only to who has a checkpoint of it
//! elsewhere. One small file for each tenant, `<tenant>.checkpoint`, on another disk or machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use intended_ledger::Checkpoint;
use intended_model::{Code, ExitCode, TenantId};
use intended_runtime::elsewhere::Elsewhere;
use intended_runtime::health::Pulse;
use intended_runtime::restore::Kept;
use intended_runtime::{Runtime, RuntimeError, Tenant};

use crate::error::{CliError, file};
use crate::output::note;

/// What the files end with.
const SUFFIX: &str = "checkpoint";
/// Longest note that is read.
const MAX: u64 = 64 * 1024;
/// How often it is looked for new tenants.
const LOOK: Duration = Duration::from_secs(1);
/// After so many looks the newest of all are kept.
const EVERY: u32 = 10;
/// What health calls it, and how long nothing may be kept until it does.
const LOOP: &str = "checkpoints elsewhere";
const WITHIN: Duration = Duration::from_secs(60);

/// The notes of a file, or of all `*.checkpoint` files of a directory, with where each comes from.
pub fn notes(path: &Path) -> Result<Vec<(PathBuf, String)>, CliError> {
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(file(path))? {
            let path = entry.map_err(file(path))?.path();
            if path.extension().is_some_and(|e| e == SUFFIX) {
                files.push(path);
            }
        }
        files.sort();
    } else {
        files.push(path.to_path_buf());
    }
    files.into_iter().map(|path| Ok((path.clone(), read(&path)?))).collect()
}

fn read(path: &Path) -> Result<String, CliError> {
    let size = std::fs::metadata(path).map_err(file(path))?.len();
    if size > MAX {
        return Err(CliError::Usage(format!("{}: {size} bytes are no checkpoint", path.display()), None));
    }
    std::fs::read_to_string(path).map_err(file(path))
}

/// The tree that a note is about, without a look at who signed it.
pub fn parse(note: &str) -> Option<Checkpoint> {
    let text = note.split("\n\n").next()?;
    Checkpoint::parse(&format!("{text}\n")).ok()
}

/// Where the note of a tenant is kept in a directory.
pub fn place(dir: &Path, tenant: &TenantId) -> PathBuf {
    dir.join(format!("{tenant}.{SUFFIX}"))
}

/// Writes a note whole or not at all. One that signs for more is not written over.
pub fn write(path: &Path, text: &str) -> Result<(), CliError> {
    if path.exists() {
        let (old, new) = (parse(&read(path)?), parse(text));
        let older = old.zip(new).is_some_and(|(old, new)| old.origin == new.origin && old.size > new.size);
        if older {
            return Err(CliError::usage(
                format!("{}: the checkpoint in it signs for more than this one", path.display()),
                "a newer one is worth more: name another file",
            ));
        }
    }
    replace(path, text)
}

fn replace(path: &Path, text: &str) -> Result<(), CliError> {
    use std::io::Write as _;
    let dir = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut part = tempfile::NamedTempFile::new_in(dir).map_err(file(dir))?;
    part.write_all(text.as_bytes()).and_then(|()| part.as_file().sync_all()).map_err(file(path))?;
    part.persist(path).map_err(|e| file(path)(e.error))?;
    sync(dir)
}

/// Makes what was named in a directory durable.
pub fn sync(dir: &Path) -> Result<(), CliError> {
    std::fs::File::open(dir).and_then(|d| d.sync_all()).map_err(file(dir))
}

/// What is kept of which tenant in the directory: the size that was written, 0 for what gives way.
pub type Held = BTreeMap<TenantId, u64>;

/// Holds the ledgers against every checkpoint that is named: files, and the directory where the server
/// keeps them. A ledger that does not hold is not served; nor is one of which nothing is in the directory,
/// which may be a mount point without its disk, unless `first` says that nothing was ever kept there.
pub async fn hold(runtime: &Runtime, dir: Option<&Path>, files: &[PathBuf], first: bool) -> Result<Held, CliError> {
    if let Some(dir) = dir.filter(|dir| !dir.is_dir()) {
        return Err(CliError::usage(
            format!("{}: there is no such directory", dir.display()),
            "`checkpoint_dir` in the config file says that checkpoints are kept there, outside the data directory",
        ));
    }
    let (mut there, mut held) = (Held::new(), Held::new());
    for place_of in dir.into_iter().chain(files.iter().map(PathBuf::as_path)) {
        for (path, text) in notes(place_of)? {
            let (tenant, size) = match runtime.hold_against(&text).await {
                Ok(Kept::Holds { tenant, size }) => {
                    let most = held.entry(tenant.clone()).or_default();
                    *most = size.max(*most);
                    (tenant, size)
                }
                Ok(Kept::KnownLost { tenant, size }) => {
                    note(&format!(
                        "`{tenant}`: {} signs for {size} entries of what was lost when the ledger was restored",
                        path.display()
                    ));
                    (tenant, 0)
                }
                Err(error) => return Err(refused(error, &path)),
            };
            if dir.is_some_and(|dir| path == place(dir, &tenant)) {
                there.insert(tenant, size);
            }
        }
    }
    for (tenant, size) in held {
        note(&format!("`{tenant}`: the first {size} entries are those of the checkpoint that was kept elsewhere"));
    }
    match dir {
        Some(dir) => first_of(runtime, dir, &mut there, first).await?,
        None if first => {
            return Err(CliError::usage(
                "--first-checkpoint: no `checkpoint_dir` is in the config file",
                "write into it where checkpoints are kept: a directory on another disk",
            ));
        }
        None => {}
    }
    Ok(there)
}

/// Keeps the first checkpoint of each tenant that has none, if that was said; else that is no start.
async fn first_of(runtime: &Runtime, dir: &Path, there: &mut Held, first: bool) -> Result<(), CliError> {
    let missing: Vec<_> = runtime.tenants().into_iter().filter(|t| !there.contains_key(&t.id)).collect();
    if missing.is_empty() && first {
        // Said at every start it would be no look any more.
        return Err(CliError::usage(
            format!("--first-checkpoint: {} has one of every tenant", dir.display()),
            "leave it out: it is for the first start with `checkpoint_dir`, and said always it would hide a loss",
        ));
    }
    if !first && !missing.is_empty() {
        let part = |t: &Arc<Tenant>| (t.id.to_string(), format!("there is no {}", place(dir, &t.id).display()));
        return Err(CliError::Refused {
            code: Code::LedgerUnkept.to_string(),
            title: Code::LedgerUnkept.title().to_owned(),
            detail: String::new(),
            parts: missing.iter().map(part).collect(),
            hint: Code::LedgerUnkept.hint().to_owned(),
            exit: ExitCode::Usage,
        });
    }
    for tenant in missing {
        let (head, text) = runtime.head(&tenant).await?;
        let path = place(dir, &tenant.id);
        replace(&path, &text)?;
        note(&format!("`{}`: the first checkpoint, of {} entries, is in {}", tenant.id, head.size, path.display()));
        there.insert(tenant.id.clone(), head.size);
    }
    Ok(())
}

/// What does not hold is a verification that failed.
fn refused(error: RuntimeError, path: &Path) -> CliError {
    if error.code == Code::NotFound {
        return CliError::usage(
            format!("{}: {}", path.display(), error.detail),
            "a tenant is missing here that was there when this was kept; to go on without it, put its checkpoint away",
        );
    }
    let proof = matches!(error.code, Code::LedgerTakenBack | Code::LedgerForked);
    match CliError::from(error).about(path) {
        CliError::Refused { code, title, detail, parts, hint, .. } => {
            let exit = if proof { ExitCode::VerificationFailed } else { ExitCode::Usage };
            CliError::Refused { code, title, detail, parts, hint, exit }
        }
        other => other,
    }
}

/// The directory, for who wants to see what is kept in it.
pub struct Dir(pub PathBuf);

impl Elsewhere for Dir {
    fn newest(&self, tenant: &TenantId) -> Result<Option<String>, String> {
        let path = place(&self.0, tenant);
        if !self.0.is_dir() {
            return Err("the directory is not there".to_owned());
        }
        if !path.exists() {
            return Ok(None);
        }
        // Where it is on this machine is not for every caller.
        read(&path).map(Some).map_err(|_| "it cannot be read".to_owned())
    }
}

/// Keeps the newest checkpoint of every tenant, until it is aborted. What was held against them before
/// the server began to serve may be of what a restored ledger has lost: it gives way.
pub async fn keep(runtime: Arc<Runtime>, dir: PathBuf, held: Arc<tokio::sync::Mutex<Held>>) {
    let mut every = tokio::time::interval(LOOK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let pulse = runtime.loops().begin(LOOP, WITHIN);
    for n in 0_u32.. {
        every.tick().await;
        let mut held = held.lock().await;
        // A tenant that was just made would keep a server that is killed now from starting again.
        let made = runtime.tenants().iter().any(|t| !held.contains_key(&t.id));
        if made || n % EVERY == 0 {
            again(&runtime, &dir, &mut held, &pulse).await;
        }
    }
}

/// Says that it goes on only when all of them are there: health names it while one is not.
async fn again(runtime: &Runtime, dir: &Path, kept: &mut Held, pulse: &Pulse) {
    if once(runtime, dir, kept).await {
        pulse.at("keeping the newest of every tenant");
    }
}

/// Once more, of every tenant that has grown since. A disk that is gone is said, and stops nothing; but
/// what lies at its mount point then is not where checkpoints are kept, so nothing is written there: the
/// next start would find it, and no loss. Whether all of them are there.
pub async fn once(runtime: &Runtime, dir: &Path, kept: &mut Held) -> bool {
    let gone = |path: &Path| {
        tracing::warn!(path = %path.display(), "a kept checkpoint is gone: is the disk mounted? nothing is kept there");
        false
    };
    if let Some(path) = kept.keys().map(|tenant| place(dir, tenant)).find(|path| !path.is_file()) {
        return gone(&path);
    }
    let mut all = true;
    for tenant in runtime.tenants() {
        let (size, text) = match runtime.head(&tenant).await {
            Ok((head, text)) => (head.size, text),
            Err(error) => {
                tracing::warn!(tenant = %tenant.id, %error, "no checkpoint to keep elsewhere");
                all = false;
                continue;
            }
        };
        let place = place(dir, &tenant.id);
        match kept.get(&tenant.id) {
            // Looked at again: the disk can have gone while the head was read.
            Some(_) if !place.is_file() => return gone(&place),
            Some(kept) if *kept == size => continue,
            _ => {}
        }
        match replace(&place, &text) {
            Ok(()) => drop(kept.insert(tenant.id.clone(), size)),
            Err(error) => {
                all = false;
                tracing::warn!(tenant = %tenant.id, %error, "the checkpoint was not kept elsewhere");
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use intended_keyring::{RootKey, SystemRng};
    use intended_model::EnvironmentId;
    use intended_model::entry::{Settings, Tier};
    use intended_runtime::ManualClock;
    use intended_runtime::health::Status;
    use intended_store_sqlite::{Options, SqliteStore};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn health_names_a_keeper_that_keeps_nothing_until_it_does_again() {
        let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dir = other.path().join("kept");
        std::fs::create_dir(&dir).unwrap();
        let clock = Arc::new(ManualClock::at(1_795_521_600_000));
        let store = Arc::new(SqliteStore::open(data.path(), &Options::default()).unwrap());
        let root = RootKey::generate(&SystemRng::default()).unwrap();
        let rng = Arc::new(SystemRng::default());
        let runtime = Runtime::open(store, Arc::clone(&clock) as _, rng, root, "http://intended.test").await.unwrap();
        let acme = TenantId::new("acme").unwrap();
        let live = (EnvironmentId::new("live").unwrap(), Tier::Production, Settings::default());
        runtime.create_tenant(&acme, &[live]).await.unwrap();
        let (mut kept, pulse) = (BTreeMap::new(), runtime.loops().begin(LOOP, WITHIN));
        let within = i64::try_from(WITHIN.as_millis()).unwrap() + 1;
        let said = async || {
            let checks = runtime.health().await;
            let check = checks.into_iter().find(|c| c.check == "housekeeping").unwrap();
            (check.status, check.detail)
        };
        clock.advance_millis(within);
        again(&runtime, &dir, &mut kept, &pulse).await;
        assert!(place(&dir, &acme).is_file());
        assert_eq!(said().await, (Status::Healthy, LOOP.to_owned()));
        // The disk is gone. Nothing was recorded since, and still what was kept is not there.
        let away = other.path().join("away");
        std::fs::rename(&dir, &away).unwrap();
        clock.advance_millis(within);
        again(&runtime, &dir, &mut kept, &pulse).await;
        let (status, detail) = said().await;
        assert!(status == Status::Degraded && detail.contains("`checkpoints elsewhere` has been at"), "{detail}");
        std::fs::rename(&away, &dir).unwrap();
        again(&runtime, &dir, &mut kept, &pulse).await;
        assert_eq!(said().await.0, Status::Healthy);
        runtime.close().await.unwrap();
    }
}
