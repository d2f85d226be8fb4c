//! `backup`: a copy of a data directory in one file, checked before it is named.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use intended_model::{ExitCode, TenantId};
use intended_runtime::RuntimeError;
use intended_store_sqlite::{FILE, ReadOnly};
use serde_json::json;
use zeroize::Zeroizing;

use super::Outcome;
use crate::archive::{self, Content, Manifest};
use crate::args::{Backup, Format};
use crate::config::Global;
use crate::copied::{self, Copied};
use crate::error::{CliError, file};
use crate::kept;
use crate::output::{note, one, say, table};
use crate::server::{CONFIG, Config};
use crate::when;

/// A bar for what takes long, where somebody looks.
pub fn bar(global: &Global) -> indicatif::ProgressBar {
    if global.quiet || !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    indicatif::ProgressBar::new(0)
}

/// The directory that a path lies in.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A directory beside a path for what is not finished. Nothing there passes for the whole: an archive
/// without its sums is refused, and a data directory without its config file.
pub fn beside(path: &Path, what: &str) -> Result<tempfile::TempDir, CliError> {
    use std::os::unix::fs::PermissionsExt as _;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let place = parent(path);
    tempfile::Builder::new()
        .prefix(&format!(".{name}.{what}-"))
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(place)
        .map_err(file(place))
}

pub fn run(global: &Global, args: &Backup) -> Outcome {
    let (dir, out) = (&args.data_dir, &args.out);
    let config = Config::read(dir)?;
    let text = std::fs::read_to_string(dir.join(CONFIG)).map_err(file(&dir.join(CONFIG)))?;
    let root_key = if args.with_root_key { Some(root_key(dir, &config)?) } else { None };
    if out.exists() {
        return Err(CliError::usage(
            format!("{}: it is there already", out.display()),
            "backups are not written over: name another file, with the day in it say",
        ));
    }
    let named = |e: intended_store::StoreError| CliError::from(RuntimeError::from(e)).about(&dir.join(FILE));
    if global.dry_run {
        let tenants = ReadOnly::open(dir).and_then(|s| s.tenants()).map_err(named)?;
        let what = json!({
            "dry_run": true, "data_dir": dir.display().to_string(), "out": out.display().to_string(),
            "tenants": tenants, "with_root_key": args.with_root_key,
        });
        one(global.output, &what);
        return Ok(ExitCode::Ok);
    }
    let part = beside(out, "part")?;
    let database = part.path().join(FILE);
    let bar = bar(global);
    intended_store_sqlite::copy(dir, &database).map_err(named)?;
    let ledgers = {
        let store = ReadOnly::open(part.path()).map_err(named)?;
        copied::all(&store, &BTreeSet::new(), &bar)?
    };
    bar.finish_and_clear();
    let checkpoints = places(args.checkpoint_out.as_deref(), &ledgers)?;
    let content = Content {
        manifest: Manifest::new(when::now(), root_key.is_some(), ledgers.iter().map(row).collect()),
        config: text,
        checkpoints: ledgers.iter().map(|l| (l.tenant.clone(), l.note.clone())).collect(),
        root_key,
    };
    // Its mode is 0600 from the start.
    let mut archive = tempfile::NamedTempFile::new_in(part.path()).map_err(file(part.path()))?;
    archive::write(archive.as_file_mut(), &content, &database).map_err(file(out))?;
    // What will be read back one day is read back now.
    archive::read(archive.path(), None)?;
    let bytes = archive.as_file().metadata().map_err(file(out))?.len();
    archive.persist_noclobber(out).map_err(|e| file(out)(e.error))?;
    kept::sync(parent(out))?;
    for (tenant, path) in &checkpoints {
        if let Some(note) = content.checkpoints.get(tenant) {
            kept::write(path, note)?;
        }
    }
    report(global, args, &content, bytes, &checkpoints);
    Ok(ExitCode::Ok)
}

fn row(ledger: &Copied) -> archive::Tenant {
    archive::Tenant {
        tenant: ledger.tenant.clone(),
        entries: ledger.size,
        root: ledger.root.to_string(),
        signed: ledger.signed,
    }
}

/// The root key, where it is a file of the directory. Where it is kept elsewhere, it stays there.
fn root_key(dir: &Path, config: &Config) -> Result<Zeroizing<String>, CliError> {
    match &config.root_key_file {
        Some(path) if path.is_relative() => Ok(config.root_key(dir)?.expose()),
        _ => Err(CliError::usage(
            format!("--with-root-key: the root key is no file of {}", dir.display()),
            "it is kept elsewhere already, which is better: leave --with-root-key out",
        )),
    }
}

/// Where the checkpoint of each tenant goes.
fn places(out: Option<&Path>, ledgers: &[Copied]) -> Result<BTreeMap<TenantId, PathBuf>, CliError> {
    let Some(out) = out else { return Ok(BTreeMap::new()) };
    let tenants = ledgers.iter().map(|l| &l.tenant);
    match ledgers {
        _ if out.is_dir() => Ok(tenants.map(|t| (t.clone(), kept::place(out, t))).collect()),
        [only] => Ok(BTreeMap::from([(only.tenant.clone(), out.to_path_buf())])),
        _ => Err(CliError::usage(
            format!("--checkpoint-out {}: there are {} tenants", out.display(), ledgers.len()),
            "name a directory that is there: each gets a file of its own in it",
        )),
    }
}

fn report(global: &Global, args: &Backup, content: &Content, bytes: u64, checkpoints: &BTreeMap<TenantId, PathBuf>) {
    let manifest = &content.manifest;
    let out = args.out.display();
    if global.output == Format::Table {
        let cells = |t: &archive::Tenant| {
            let unsigned = t.entries.saturating_sub(t.signed);
            vec![
                t.tenant.to_string(),
                t.entries.to_string(),
                format!("{} ({unsigned} newer)", t.signed),
                t.root.clone(),
            ]
        };
        say(&table(&["tenant", "entries", "signed for", "root"], manifest.tenants.iter().map(cells).collect()));
    } else {
        let report = json!({
            "backup": out.to_string(), "bytes": bytes, "made_at": manifest.made_at.to_string(),
            "root_key": manifest.root_key, "tenants": manifest.tenants, "checkpoints": content.checkpoints,
            "checkpoint_files": checkpoints.values().map(|p| p.display().to_string()).collect::<Vec<_>>(),
        });
        one(global.output, &report);
    }
    note(&format!("{bytes} bytes in {out}, whole and checked: every tree has the root that was signed for"));
    if manifest.root_key {
        note(&format!(
            "\nTHE ROOT KEY IS IN IT. Whoever has {out} can sign tokens and checkpoints as this server does:\n\
             keep it as you keep the key itself."
        ));
    } else {
        note("the root key is not in it: it is restored with the copy of the key that you keep elsewhere");
    }
    if checkpoints.is_empty() {
        note("keep the checkpoint apart from the backup, to see later whether a newer one was there:");
        if global.output == Format::Table {
            content.checkpoints.values().for_each(|text| note(&format!("\n{}", text.trim_end())));
        }
    } else {
        for path in checkpoints.values() {
            note(&format!("checkpoint in {}: keep it apart from the backup", path.display()));
        }
    }
}
