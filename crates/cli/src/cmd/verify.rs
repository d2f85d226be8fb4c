//! `verify`: re-execution of an export or of a data directory, offline.

use std::io::{BufRead, BufReader, IsTerminal as _};
use std::path::Path;

use intended_engine::keys;
use intended_ledger::{ExportHeader, ExportTrailer};
use intended_model::ExitCode;
use intended_store_sqlite::ReadOnly;
use intended_verify::{Failure, Report, Verifier};

use super::{Outcome, trusted_key};
use crate::args::{Format, Verify};
use crate::config::Global;
use crate::error::{CliError, file};
use crate::output::{say, table};

/// Longest line of an export.
const MAX_LINE: usize = 16 * 1024 * 1024;

pub fn run(global: &Global, args: &Verify) -> Outcome {
    let trusted = trusted_key(args.vkey.as_deref())?;
    let bar = if global.quiet || !std::io::stderr().is_terminal() {
        indicatif::ProgressBar::hidden()
    } else {
        indicatif::ProgressBar::new(0)
    };
    let result = if args.path.is_dir() {
        directory(&args.path, trusted.as_deref(), &bar)
    } else {
        export(&args.path, trusted.as_deref(), &bar).map(|r| vec![r])
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
            Ok(report) => print(global.output, &report, trusted.is_some()),
            Err(failure) => {
                let report = serde_json::json!({
                    "holds": false, "path": args.path.display().to_string(), "check": failure.check.as_str(),
                    "entry": failure.index, "what": failure.what, "key_trusted": trusted.is_some(),
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

/// Verifies an export file.
pub fn export(path: &Path, trusted: Option<&str>, bar: &indicatif::ProgressBar) -> Result<Verified, CliError> {
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
    let mut verifier = match Verifier::new(header, trusted) {
        Ok(verifier) => verifier,
        Err(failure) => return Ok(Err(failure)),
    };
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
fn directory(path: &Path, trusted: Option<&str>, bar: &indicatif::ProgressBar) -> Result<Vec<Verified>, CliError> {
    let failed = |e: intended_store::StoreError| {
        CliError::Failed(format!("{}: {e}", path.display()), ExitCode::VerificationFailed)
    };
    let store = ReadOnly::open(path).map_err(failed)?;
    let mut out = Vec::new();
    let tenants = store.tenants().map_err(failed)?;
    if tenants.is_empty() {
        return Err(CliError::Failed(
            format!("{}: there is no ledger in it", path.display()),
            ExitCode::VerificationFailed,
        ));
    }
    for tenant in tenants {
        let mut checkpoints = Vec::new();
        let mut after = String::new();
        loop {
            let page = store.facts(&tenant, keys::CHECKPOINT_PREFIX, &after, 1000).map_err(failed)?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            checkpoints.extend(page.iter().map(|(_, f)| String::from_utf8_lossy(&f.value).into_owned()));
        }
        let Some(latest) = checkpoints.pop() else {
            return Err(CliError::Failed(
                format!(
                    "{}: `{tenant}` has no signed checkpoint yet; let the server run for ten seconds, or stop it",
                    path.display()
                ),
                ExitCode::VerificationFailed,
            ));
        };
        let size = intended_ledger::Checkpoint::parse(
            latest.split("\n\n").next().map(|t| format!("{t}\n")).unwrap_or_default().as_str(),
        )
        .map_or(0, |c| c.size);
        let first = store.entries(&tenant, 0, 1).map_err(failed)?;
        let vkey = first.first().and_then(|e| serde_json::from_slice::<serde_json::Value>(&e.leaf).ok());
        let vkey =
            vkey.and_then(|v| v.pointer("/body/vkey").and_then(|k| k.as_str().map(str::to_owned))).unwrap_or_default();
        let total = store.frontier(&tenant).map_err(failed)?.size();
        bar.set_length(total);
        let header = ExportHeader { checkpoint: latest, checkpoints, size, tenant: tenant.clone(), vkey };
        let mut verifier = match Verifier::new(header, trusted) {
            Ok(verifier) => verifier,
            Err(failure) => {
                out.push(Err(failure));
                continue;
            }
        };
        let outcome: Result<Verified, CliError> = (|| {
            let mut at = 0;
            while at < total {
                let page = store
                    .entries(&tenant, at, 1024.min(usize::try_from(total - at).unwrap_or(1024)))
                    .map_err(failed)?;
                if page.is_empty() {
                    break;
                }
                for entry in &page {
                    if entry.index == size {
                        verifier.beyond(total);
                    }
                    if let Err(failure) = verifier.entry(&entry.leaf) {
                        return Ok(Err(failure));
                    }
                }
                at += page.len() as u64;
                bar.set_position(at);
            }
            let mut facts = Vec::new();
            for prefix in intended_verify::FACTS {
                let mut after = String::new();
                loop {
                    let page = store.facts(&tenant, prefix, &after, 1000).map_err(failed)?;
                    let Some((last, _)) = page.last() else { break };
                    after.clone_from(last);
                    facts.extend(page.into_iter().map(|(key, fact)| (key, fact.value)));
                }
            }
            if let Err(failure) = verifier.facts(facts, crate::when::now()) {
                return Ok(Err(failure));
            }
            Ok(verifier.finish())
        })();
        out.push(outcome?);
    }
    Ok(out)
}

fn time(t: Option<intended_model::Timestamp>) -> String {
    t.map_or_else(|| "-".to_owned(), |t| t.to_string())
}

/// A report as data.
pub fn value(r: &Report, trusted: bool) -> serde_json::Value {
    serde_json::json!({
        "holds": true, "tenant": r.tenant, "entries": r.entries, "decisions": r.decisions, "allowed": r.allowed,
        "control": r.control, "consumptions": r.consumptions, "checkpoints": r.checkpoints, "unsigned": r.unsigned, "facts": r.facts, "root": r.root,
        "first_at": time(r.first_at), "last_at": time(r.last_at),
        "key_trusted": trusted,
    })
}

pub fn print(format: Format, r: &Report, trusted: bool) {
    if format != Format::Table {
        return crate::output::one(format, &value(r, trusted));
    }
    let row = |a: &str, b: String| vec![a.to_owned(), b];
    let rows = vec![
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
    say(&format!("the ledger holds\n{}", table(&[], rows)));
}
