//! `restore`: a data directory from a backup. It is made beside its place and named when it is whole; it
//! is no older than a checkpoint that was kept, or that is said and accepted; and it starts halted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use intended_engine::restored::MAX_ALSO_LOST;
use intended_keyring::RootKey;
use intended_model::emergency::TreeAt;
use intended_model::{Code, ExitCode, TenantId};
use intended_runtime::RuntimeError;
use intended_runtime::restore::GoneOn;
use intended_store_sqlite::{FILE, ReadOnly};
use serde_json::json;

use super::backup::{bar, beside, parent};
use super::{Outcome, verify};
use crate::archive::{self, Content};
use crate::args::{Format, Restore};
use crate::brought::Brought;
use crate::config::Global;
use crate::copied::{self, Copied};
use crate::error::{CliError, file};
use crate::kept;
use crate::output::{note, one, say, table};
use crate::server::{CONFIG, Config, open, write_secret};

pub async fn run(global: &Global, args: &Restore) -> Outcome {
    let dir = &args.data_dir;
    empty(dir)?;
    if args.reason.trim().is_empty() || args.reason.len() > 500 {
        return Err(CliError::usage("--reason: say why, in 1 to 500 characters", "it stands in the ledger"));
    }
    let mut notes = Vec::new();
    for path in &args.checkpoint {
        let found = kept::notes(path)?;
        if found.is_empty() {
            return Err(CliError::usage(
                format!("{}: there is no checkpoint in it", path.display()),
                "they are files that end in .checkpoint",
            ));
        }
        notes.extend(found);
    }
    let stage = beside(dir, "restoring")?;
    let content = archive::read(&args.backup, Some(&stage.path().join(FILE)))?;
    let brought = Brought::of(args, &content)?;
    brought.show();
    let config = &brought.config;
    // Where the server kept its checkpoints it is not asked whether somebody thought of them.
    if let Some(place) = config.checkpoint_dir.as_ref().map(|place| dir.join(place)) {
        if place.is_dir() {
            notes.extend(kept::notes(&place)?);
        } else {
            note(&format!("{}: `checkpoint_dir` names it, and it is not there: is it mounted?", place.display()));
        }
    }
    let (ledgers, lost) = checked(global, args, stage.path(), &content, &notes)?;
    let root = brought.root_key(args, &content, global.dry_run)?;
    let Some(root) = root.filter(|_| !global.dry_run) else {
        let what = json!({
            "dry_run": true, "backup": args.backup.display().to_string(), "data_dir": dir.display().to_string(),
            "tenants": ledgers.iter().map(|l| l.tenant.as_str()).collect::<Vec<_>>(), "holds": true,
            "lost": total(&ledgers, &lost), "config": brought.lines(),
        });
        one(global.output, &what);
        return Ok(ExitCode::Ok);
    };
    let gone_on = halt(args, stage.path(), &root, config, &ledgers, &lost).await?;
    place(stage, dir, &brought, &root)?;
    report(global, args, &gone_on, &lost, !notes.is_empty());
    Ok(ExitCode::Ok)
}

/// Refuses a place where something is.
fn empty(dir: &Path) -> Result<(), CliError> {
    let taken = match std::fs::read_dir(dir) {
        Ok(mut found) => found.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(file(dir)(error)),
    };
    if taken {
        return Err(CliError::usage(
            format!("{}: there is something in it", dir.display()),
            "restore into a new directory, and keep the old one as it is until you know what happened",
        ));
    }
    Ok(())
}

/// What of which tenant is known to be lost: every tree that was kept of it, the smaller first.
type Lost = BTreeMap<TenantId, Vec<TreeAt>>;

/// The newest one.
fn newest<'l>(lost: &'l Lost, tenant: &TenantId) -> Option<&'l TreeAt> {
    lost.get(tenant).and_then(|trees| trees.last())
}

fn total(ledgers: &[Copied], lost: &Lost) -> u64 {
    ledgers.iter().filter_map(|l| newest(lost, &l.tenant).map(|to| to.size.saturating_sub(l.size))).sum()
}

/// One more tree of what is lost. Each is recorded: one that is kept where the server looks when it
/// starts would else be another history.
fn one_more(lost: &mut Lost, tenant: &TenantId, tree: TreeAt) -> Result<(), CliError> {
    let known = lost.entry(tenant.clone()).or_default();
    match known.binary_search_by_key(&tree.size, |k| k.size) {
        Ok(at) if known.get(at) != Some(&tree) => {
            let what = format!("`{tenant}`: two kept checkpoints of {} entries have two roots", tree.size);
            Err(RuntimeError::new(Code::LedgerForked, what).into())
        }
        Ok(_) => Ok(()),
        Err(_) if known.len() > MAX_ALSO_LOST => Err(CliError::usage(
            format!("`{tenant}`: more than {known} kept checkpoints are of what is lost", known = known.len()),
            "the newest one and those in `checkpoint_dir` are enough: name fewer",
        )),
        Err(at) => {
            known.insert(at, tree);
            Ok(())
        }
    }
}

/// Holds the copy against what is signed in it, beside it and elsewhere, and decides everything again.
fn checked(
    global: &Global,
    args: &Restore,
    stage: &Path,
    content: &Content,
    notes: &[(PathBuf, String)],
) -> Result<(Vec<Copied>, Lost), CliError> {
    let bar = bar(global);
    let named = |e: intended_store::StoreError| CliError::from(RuntimeError::from(e)).about(&args.backup);
    let store = ReadOnly::open(stage).map_err(named)?;
    let sizes = copied::sizes(notes.iter().map(|(_, note)| note));
    let ledgers = copied::all(&store, &sizes, &bar)?;
    let said: BTreeMap<_, _> = content.manifest.tenants.iter().map(|t| (&t.tenant, t.entries)).collect();
    let there: BTreeMap<_, _> = ledgers.iter().map(|l| (&l.tenant, l.size)).collect();
    if said != there {
        let what = format!("{}: the ledgers in it are not those that it says", args.backup.display());
        return Err(CliError::Failed(what, ExitCode::VerificationFailed));
    }
    let mut lost = Lost::new();
    for (path, text) in notes {
        let of = text.lines().next().unwrap_or_default();
        let ledger = ledgers.iter().find(|l| intended_ledger::origin(&l.tenant) == of);
        // A tenant that was made after the backup is lost as a whole.
        let ledger = ledger.ok_or_else(|| {
            CliError::usage(
                format!("{}: it is of `{of}`, which is not in this backup", path.display()),
                "a tenant that was made after the backup is lost as a whole; to go on without it, put its checkpoint away",
            )
        })?;
        if let Some(tree) = ledger.against(text).map_err(|e| e.about(path))? {
            one_more(&mut lost, &ledger.tenant, tree).map_err(|e| e.about(path))?;
        }
    }
    accepted(args, &ledgers, &lost)?;
    for ledger in &ledgers {
        let beside = content.checkpoints.get(&ledger.tenant).ok_or_else(|| {
            let what = format!("{}: the checkpoint of `{}` is missing", args.backup.display(), ledger.tenant);
            CliError::Failed(what, ExitCode::VerificationFailed)
        })?;
        verify::copied(&store, &ledger.tenant, beside, &bar)?;
    }
    bar.finish_and_clear();
    Ok((ledgers, lost))
}

/// An older copy than the newest that is known is restored only by somebody who says how much is lost.
fn accepted(args: &Restore, ledgers: &[Copied], lost: &Lost) -> Result<(), CliError> {
    let total = total(ledgers, lost);
    match args.accept_loss {
        None if total == 0 => Ok(()),
        Some(accepted) if accepted == total && total > 0 => Ok(()),
        Some(accepted) if total == 0 => Err(CliError::usage(
            format!("--accept-loss {accepted}: no kept checkpoint says that something is lost"),
            "leave it out; or name the newest checkpoint that you kept with --checkpoint",
        )),
        given => {
            let short = |l: &Copied| {
                let to = newest(lost, &l.tenant)?;
                let what = format!(
                    "the kept checkpoint signs for {} entries, the backup has {}: {} are lost",
                    to.size,
                    l.size,
                    to.size.saturating_sub(l.size)
                );
                Some((l.tenant.to_string(), what))
            };
            let said = given.map_or(String::new(), |given| format!("; --accept-loss says {given}"));
            Err(CliError::Refused {
                code: Code::LedgerTakenBack.to_string(),
                title: "this backup is older than the newest checkpoint that was kept".to_owned(),
                detail: format!("{said}. Nothing was restored"),
                parts: ledgers.iter().filter_map(short).collect(),
                hint: format!(
                    "restore a newer backup. If there is none: which tokens were used in those entries, what was \
                     halted, revoked, denied or approved is unknown, and stays so. --accept-loss {total} goes on \
                     without them, and the ledger says it"
                ),
                exit: ExitCode::VerificationFailed,
            })
        }
    }
}

/// Has each ledger say that it goes on from a copy, which halts its tenant, before there is a directory
/// that a server would start on.
async fn halt(
    args: &Restore,
    stage: &Path,
    (place, root): &(String, RootKey),
    config: &Config,
    ledgers: &[Copied],
    lost: &Lost,
) -> Result<Vec<(TenantId, GoneOn)>, CliError> {
    let again = RootKey::parse(&root.expose()).map_err(|e| CliError::Usage(e.to_string(), None))?;
    let runtime = open(stage, again, &config.issuer, None).await.map_err(|error| {
        if !error.is(Code::KeySealed.as_str()) {
            return error;
        }
        CliError::Refused {
            code: Code::KeySealed.to_string(),
            title: "this is not the root key that the backup's signing keys are sealed with".to_owned(),
            detail: format!(": {place}. Nothing was restored"),
            parts: Vec::new(),
            hint: "give the root key of the server that was backed up: --root-key-file FILE. Without it the history \
                   can be read and verified, and nothing can be signed"
                .to_owned(),
            exit: ExitCode::Usage,
        }
    })?;
    let mut out = Vec::new();
    for ledger in ledgers {
        let lost = lost.get(&ledger.tenant).map_or(&[][..], Vec::as_slice);
        let gone_on = runtime.go_on_from_copy(&ledger.tenant, lost, &args.reason).await?;
        out.push((ledger.tenant.clone(), gone_on));
    }
    runtime.close().await?;
    Ok(out)
}

/// Puts the rest beside the data and names the directory: a config file is what makes it one, so it
/// comes last.
fn place(
    stage: tempfile::TempDir,
    dir: &Path,
    brought: &Brought,
    (_, root): &(String, RootKey),
) -> Result<(), CliError> {
    let at = stage.path();
    if let Some(name) = brought.config.root_key_file.as_ref().filter(|path| path.is_relative()) {
        let path = at.join(name);
        // A path that leads out of the directory is nothing that `init` wrote.
        if name.components().any(|c| !matches!(c, std::path::Component::Normal(_))) {
            return Err(CliError::Usage(format!("root_key_file: `{}` is not in the directory", name.display()), None));
        }
        std::fs::create_dir_all(parent(&path)).map_err(file(&path))?;
        write_secret(&path, &format!("{}\n", &*root.expose()))?;
    }
    let part = at.join(format!("{CONFIG}.part"));
    write_secret(&part, &brought.text)?;
    for entry in std::fs::read_dir(at).map_err(file(at))? {
        let path = entry.map_err(file(at))?.path();
        std::fs::File::open(&path).and_then(|f| f.sync_all()).map_err(file(&path))?;
    }
    kept::sync(at)?;
    // One that is there and empty gives way; one that was filled meanwhile does not.
    std::fs::rename(at, dir).map_err(file(dir))?;
    let _ = stage.keep();
    kept::sync(parent(dir))?;
    std::fs::rename(dir.join(format!("{CONFIG}.part")), dir.join(CONFIG)).map_err(file(dir))?;
    kept::sync(dir)
}

fn report(global: &Global, args: &Restore, gone_on: &[(TenantId, GoneOn)], lost: &Lost, held: bool) {
    let dir = args.data_dir.display();
    let gone = |tenant: &TenantId, on: &GoneOn| newest(lost, tenant).map_or(0, |to| to.size.saturating_sub(on.copied));
    if global.output == Format::Table {
        let cells = |(tenant, on): &(TenantId, GoneOn)| {
            let lost = match gone(tenant, on) {
                0 => "none known".to_owned(),
                n => n.to_string(),
            };
            vec![tenant.to_string(), on.copied.to_string(), lost, on.halt.to_string(), on.index.to_string()]
        };
        say(&table(&["tenant", "entries", "lost", "halted by", "at entry"], gone_on.iter().map(cells).collect()));
    } else {
        let row = |(tenant, on): &(TenantId, GoneOn)| {
            json!({
                "tenant": tenant, "entries": on.copied, "lost": gone(tenant, on), "halt": on.halt, "index": on.index,
            })
        };
        let rows: Vec<_> = gone_on.iter().map(row).collect();
        one(global.output, &json!({"data_dir": dir.to_string(), "tenants": rows}));
    }
    note(&format!("restored to {dir}; every tenant is HALTED, tokens from before are dead, people sign in again"));
    if !held {
        note("no kept checkpoint was named: whether there was a newer state is not known");
    }
    note("what was revoked, removed or halted after the backup is as it was before: look before you lift the halt");
    note("(docs/backup.md, \"After a restore\"), and make sure that the server it came from does not run any more");
    note(&format!("next: intended serve --data-dir {dir}"));
}
