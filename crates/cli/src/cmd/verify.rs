//! `verify`: re-execution of an export or of a data directory, offline.

use std::io::{BufRead, BufReader, IsTerminal as _};
use std::path::Path;

use intended_engine::keys;
use intended_ledger::{ExportHeader, ExportTrailer};
use intended_model::{ExitCode, TenantId};
use intended_store_sqlite::ReadOnly;
use intended_verify::{Failure, Report, StoredHead, Verifier};

use super::{Outcome, trusted_key};
use crate::args::{Format, Verify};
use crate::config::Global;
use crate::error::{CliError, file};
use crate::output::{say, table};

/// Longest line of an export.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// What the caller knows of the ledger from elsewhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'k> {
    pub vkey: Option<&'k str>,
    /// A signed checkpoint.
    pub checkpoint: Option<&'k str>,
}

pub fn run(global: &Global, args: &Verify) -> Outcome {
    let text = |path: &Option<std::path::PathBuf>| match path {
        Some(path) => std::fs::read_to_string(path).map_err(file(path)).map(Some),
        None => Ok(None),
    };
    let (vkey, checkpoint) = (trusted_key(args.vkey.as_deref())?, text(&args.checkpoint)?);
    let known = Known { vkey: vkey.as_deref(), checkpoint: checkpoint.as_deref() };
    let bar = if global.quiet || !std::io::stderr().is_terminal() {
        indicatif::ProgressBar::hidden()
    } else {
        indicatif::ProgressBar::new(0)
    };
    let result = if args.path.is_dir() {
        directory(&args.path, known, &bar)
    } else {
        export(&args.path, known, &bar).map(|r| vec![r])
    };
    bar.finish_and_clear();
    let outcomes = result.inspect_err(|error| {
        if let CliError::Failed(what, ExitCode::VerificationFailed) = error {
            fails(
                global.output,
                &serde_json::json!({"holds": false, "path": args.path.display().to_string(), "what": what}),
            );
        }
    })?;
    for outcome in outcomes {
        match outcome {
            Ok(report) => print(global.output, &report, known.vkey.is_some()),
            Err(failure) => {
                let report = serde_json::json!({
                    "holds": false, "path": args.path.display().to_string(), "check": failure.check.as_str(),
                    "entry": failure.index, "what": failure.what, "key_trusted": known.vkey.is_some(),
                });
                fails(global.output, &report);
                return Err(broken(&failure));
            }
        }
    }
    Ok(ExitCode::Ok)
}

/// A failure is an answer too, for programs.
fn fails(format: Format, report: &serde_json::Value) {
    if format != Format::Table {
        crate::output::one(format, report);
    }
}

pub fn broken(failure: &Failure) -> CliError {
    CliError::Failed(format!("the ledger does not hold\n  {failure}"), ExitCode::VerificationFailed)
}

type Verified = Result<Report, Failure>;

/// Entries of a data directory that are read at once: so few that they are still in the cache when they
/// are verified.
const PAGE: usize = 64;

/// Verifies an export file.
pub fn export(path: &Path, known: Known<'_>, bar: &indicatif::ProgressBar) -> Result<Verified, CliError> {
    let mut reader = BufReader::with_capacity(1 << 20, std::fs::File::open(path).map_err(file(path))?);
    let mut line = Vec::new();
    let header = match next(&mut reader, &mut line, path)? {
        true => ExportHeader::parse(&line)
            .map_err(|e| CliError::Failed(format!("{}: {e}", path.display()), ExitCode::VerificationFailed))?,
        false => {
            return Err(CliError::Failed(
                format!("{}: the file is empty", path.display()),
                ExitCode::VerificationFailed,
            ));
        }
    };
    let size = header.size;
    bar.set_length(size);
    let mut verifier = match Verifier::new(header, known.vkey) {
        Ok(verifier) => verifier,
        Err(failure) => return Ok(Err(failure)),
    };
    if let Some(Err(failure)) = known.checkpoint.map(|note| verifier.kept(note)) {
        return Ok(Err(failure));
    }
    let (mut entries, mut ended) = (0, false);
    while next(&mut reader, &mut line, path)? {
        if entries == size || line.starts_with(b"{\"end\"") {
            let whole = ExportTrailer::parse(&line).is_ok_and(|t| t.size == size);
            let more = next(&mut reader, &mut line, path)?;
            if entries == size && (!whole || more) {
                return Err(CliError::Failed(
                    format!("{}: the trailer does not fit the entries", path.display()),
                    ExitCode::VerificationFailed,
                ));
            }
            ended = true;
            break;
        }
        if let Err(failure) = verifier.entry(&line) {
            return Ok(Err(failure));
        }
        entries += 1;
        if entries % 1024 == 0 {
            bar.set_position(entries);
        }
    }
    let outcome = verifier.finish();
    if outcome.is_ok() && !ended {
        let what = format!("{}: there is no trailer: the file was cut short", path.display());
        return Err(CliError::Failed(what, ExitCode::VerificationFailed));
    }
    Ok(outcome)
}

/// The next line without its break; `false` at the end.
pub fn next(reader: &mut impl BufRead, line: &mut Vec<u8>, path: &Path) -> Result<bool, CliError> {
    use std::io::Read as _;
    line.clear();
    let n = reader.by_ref().take(MAX_LINE as u64).read_until(b'\n', line).map_err(file(path))?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if n == MAX_LINE {
        return Err(CliError::Failed(
            format!("{}: a line is longer than {MAX_LINE} bytes", path.display()),
            ExitCode::VerificationFailed,
        ));
    }
    Ok(n > 0)
}

/// Verifies every tenant of a data directory, from one read-only snapshot.
fn directory(path: &Path, known: Known<'_>, bar: &indicatif::ProgressBar) -> Result<Vec<Verified>, CliError> {
    let failed = |what: String| CliError::Failed(what, ExitCode::VerificationFailed);
    let broken = |e: intended_store::StoreError| failed(format!("{}: {e}", path.display()));
    let store = ReadOnly::open(path).map_err(broken)?;
    let tenants = store.tenants().map_err(broken)?;
    if tenants.is_empty() {
        return Err(failed(format!("{}: there is no ledger in it", path.display())));
    }
    // The first line of a checkpoint says which log it is of.
    let of = |tenant: &TenantId| {
        let origin = intended_ledger::origin(tenant);
        known.checkpoint.filter(|note| note.lines().next() == Some(&*origin))
    };
    if known.checkpoint.is_some() && !tenants.iter().any(|t| of(t).is_some()) {
        return Err(failed(format!("{}: the checkpoint is of no ledger that is in it", path.display())));
    }
    let mut out = Vec::new();
    for tenant in tenants {
        let checkpoint = of(&tenant);
        match ledger(&store, &tenant, Known { checkpoint, ..known }, bar) {
            Ok(report) => out.push(Ok(report)),
            Err(Broken::Failure(failure)) => out.push(Err(*failure)),
            Err(Broken::Store(error)) => return Err(broken(error)),
            Err(Broken::Unsigned) => {
                return Err(failed(format!(
                    "{}: `{tenant}` has no signed checkpoint yet; let the server run for ten seconds, or stop it",
                    path.display()
                )));
            }
        }
    }
    Ok(out)
}

/// Why a tenant's ledger is not reported on.
enum Broken {
    Failure(Box<Failure>),
    Store(intended_store::StoreError),
    Unsigned,
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failure(Box::new(failure))
    }
}
impl From<intended_store::StoreError> for Broken {
    fn from(error: intended_store::StoreError) -> Self {
        Self::Store(error)
    }
}

/// Verifies one tenant: entries against signatures, the store's own head and blocks, then the facts.
fn ledger(
    store: &ReadOnly,
    tenant: &TenantId,
    known: Known<'_>,
    bar: &indicatif::ProgressBar,
) -> Result<Report, Broken> {
    let kept = facts(store, tenant, keys::CHECKPOINT_PREFIX)?;
    let mut checkpoints: Vec<String> =
        kept.into_iter().map(|(_, value)| String::from_utf8_lossy(&value).into_owned()).collect();
    let checkpoint = checkpoints.pop().ok_or(Broken::Unsigned)?;
    let text = checkpoint.split("\n\n").next().map(|t| format!("{t}\n")).unwrap_or_default();
    let size = intended_ledger::Checkpoint::parse(&text).map_or(0, |c| c.size);
    let first = store.entries(tenant, 0, 1)?;
    let first = first.first().and_then(|e| serde_json::from_slice::<serde_json::Value>(&e.leaf).ok());
    let vkey = first.as_ref().and_then(|v| v.pointer("/body/vkey")).and_then(|k| k.as_str()).unwrap_or_default();
    let head = store.head(tenant)?;
    bar.set_length(head.size);
    let header = ExportHeader { checkpoint, checkpoints, size, tenant: tenant.clone(), vkey: vkey.to_owned() };
    let mut verifier = Verifier::new(header, known.vkey)?;
    verifier.stored(StoredHead {
        size: head.size,
        root: head.root,
        control: head.control_version,
        blocks: store.blocks(tenant)?,
    })?;
    if let Some(note) = known.checkpoint {
        verifier.kept(note)?;
    }
    let mut at = 0;
    loop {
        let page = store.entries(tenant, at, PAGE)?;
        if page.is_empty() {
            break;
        }
        for entry in &page {
            verifier.entry(&entry.leaf)?;
        }
        at += page.len() as u64;
        bar.set_position(at);
    }
    // An entry that is not there is named as that, before what would have followed from it.
    verifier.whole()?;
    let mut all = Vec::new();
    for prefix in intended_verify::FACTS {
        all.extend(facts(store, tenant, prefix)?);
    }
    verifier.facts(all, crate::when::now())?;
    Ok(verifier.finish()?)
}

/// All facts whose names begin so.
pub fn facts(store: &ReadOnly, tenant: &TenantId, prefix: &str) -> intended_store::Result<Vec<(String, Vec<u8>)>> {
    let (mut out, mut after) = (Vec::new(), String::new());
    loop {
        let page = store.facts(tenant, prefix, &after, 1000)?;
        let Some((last, _)) = page.last() else { return Ok(out) };
        after.clone_from(last);
        out.extend(page.into_iter().map(|(key, fact)| (key, fact.value)));
    }
}

fn time(t: Option<intended_model::Timestamp>) -> String {
    t.map_or_else(|| "-".to_owned(), |t| t.to_string())
}

/// A report as data.
pub fn value(r: &Report, trusted: bool) -> serde_json::Value {
    serde_json::json!({
        "holds": true, "tenant": r.tenant, "entries": r.entries, "decisions": r.decisions, "allowed": r.allowed,
        "control": r.control, "consumptions": r.consumptions, "checkpoints": r.checkpoints, "unsigned": r.unsigned, "overdue": r.overdue, "facts": r.facts, "root": r.root,
        "first_at": time(r.first_at), "last_at": time(r.last_at),
        "restored": r.restored.iter().map(|r| serde_json::json!({"entry": r.index, "lost": r.lost})).collect::<Vec<_>>(),
        "key_trusted": trusted,
    })
}

pub fn print(format: Format, r: &Report, trusted: bool) {
    if format != Format::Table {
        return crate::output::one(format, &value(r, trusted));
    }
    let row = |a: &str, b: String| vec![a.to_owned(), b];
    let mut rows = vec![
        row("tenant", r.tenant.clone()),
        row(
            "entries",
            format!(
                "{} ({} control, {} decisions, {} consumptions)",
                r.entries, r.control, r.decisions, r.consumptions
            ),
        ),
        row("re-executed", format!("{} decisions, every one the same; {} allowed", r.decisions, r.allowed)),
        row("invariants", format!("I1 I2 I3 I4 I5 I6{} hold", if r.facts.is_some() { " I7" } else { "" })),
        row(
            "checkpoints",
            match r.unsigned {
                0 => format!("{} signed, all consistent", r.checkpoints),
                n => format!("{} signed, all consistent; the newest {n} entries are not signed for yet", r.checkpoints),
            },
        ),
        row("root", r.root.clone()),
        row("from, to", format!("{}  {}", time(r.first_at), time(r.last_at))),
        row(
            "key",
            if trusted {
                "the trusted one".to_owned()
            } else {
                "the ledger's own; name the one you know with --vkey".to_owned()
            },
        ),
    ];
    for restored in &r.restored {
        let lost = match restored.lost {
            0 => "no entry after it is known to be lost".to_owned(),
            n => format!("{n} entries after it are known to be lost"),
        };
        let what = format!("at entry {0}, from a copy of the {0} before it; {lost}", restored.index);
        rows.push(row("restored", what));
    }
    if r.overdue > 0 {
        let what =
            "escalations whose time was over long before the last entry are not closed; nothing is allowed by them";
        rows.push(row("note", format!("{} {what}", r.overdue)));
    }
    say(&format!("the ledger holds\n{}", table(&[], rows)));
}

/// A tenant's ledger in a copy, decided again as a whole, and held against a checkpoint that came with it.
pub fn copied(
    store: &ReadOnly,
    tenant: &TenantId,
    checkpoint: &str,
    bar: &indicatif::ProgressBar,
) -> Result<Report, CliError> {
    let known = Known { vkey: None, checkpoint: Some(checkpoint) };
    ledger(store, tenant, known, bar).map_err(|why| {
        let what = match why {
            Broken::Failure(failure) => failure.to_string(),
            Broken::Store(error) => error.to_string(),
            Broken::Unsigned => "no signed checkpoint of it is kept".to_owned(),
        };
        CliError::Failed(format!("the copy does not hold\n  `{tenant}`: {what}"), ExitCode::VerificationFailed)
    })
}
