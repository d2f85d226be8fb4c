//! `audit query|tail|proof|checkpoint|verify|export`.

use std::io::Write;
use std::path::Path;

use intended_ledger::ExportTrailer;
use intended_model::ExitCode;
use serde_json::{Value, json};

use super::{Outcome, tail, trusted_key, verify};
use crate::args::{Audit, EntryFilter, Format, Window};
use crate::client::{Client, List};
use crate::config::Global;
use crate::error::{CliError, file};
use crate::output::{list, note, one, say, table};
use crate::when;

pub async fn run(global: &Global, args: Audit) -> Outcome {
    let client = Client::new(global)?;
    match args {
        Audit::Query { filter, window } => {
            let found = window_of(&client, "audit", &filters(global, filter), "entries", window).await?;
            if global.output == Format::Table {
                let rows = found.rows.iter().map(|row| tail::cells(row.get("entry").unwrap_or(row)).to_vec());
                say(&table(&["index", "time", "kind", "what"], rows.collect()));
            } else {
                list(global.output, &found.rows, &[]);
            }
            truncated(&found);
            Ok(ExitCode::Ok)
        }
        Audit::Tail { filter, after, count } => {
            tail::run(global, &client, &filters(global, filter), after, count).await
        }
        Audit::Proof { index, vkey } => {
            let trusted = trusted_key(vkey.as_deref())?;
            let body = client.get(&format!("audit/proof?index={index}")).await?;
            let key = match &trusted {
                Some(key) => key.clone(),
                None => {
                    let checkpoint = client.get("audit/checkpoint").await?;
                    checkpoint.get("vkey").and_then(Value::as_str).unwrap_or_default().to_owned()
                }
            };
            let receipt: intended_ledger::Receipt = serde_json::from_str(&body.to_string())
                .map_err(|e| CliError::Failed(e.to_string(), ExitCode::VerificationFailed))?;
            one(global.output, &body);
            let proved = receipt.verify(&key).map_err(|error| {
                CliError::Failed(format!("the proof does not hold: {error}"), ExitCode::VerificationFailed)
            })?;
            note(&format!(
                "holds: entry {} is in the tree of {} with the root {}",
                proved.index, proved.size, proved.root
            ));
            servers_own(trusted.is_some());
            Ok(ExitCode::Ok)
        }
        Audit::Export { file: path } => {
            if global.dry_run && !global.print_curl {
                let what = if path.exists() { "replace" } else { "write" };
                one(global.output, &json!({"dry_run": true, what: path.display().to_string()}));
                return Ok(ExitCode::Ok);
            }
            let bytes = export_to(&client, &path).await?;
            note(&format!("{bytes} bytes in {}\nnext: intended verify {}", path.display(), path.display()));
            Ok(ExitCode::Ok)
        }
        Audit::Checkpoint { out } => {
            let body = client.get("audit/checkpoint").await?;
            let text = body.get("checkpoint").and_then(Value::as_str).unwrap_or_default();
            match &out {
                Some(path) if global.dry_run => {
                    one(global.output, &json!({"dry_run": true, "write": path.display().to_string()}));
                }
                Some(path) => {
                    crate::kept::write(path, text)?;
                    note(&format!(
                        "{} entries are signed for in {}",
                        body.get("size").unwrap_or(&Value::Null),
                        path.display()
                    ));
                }
                None if global.output == Format::Table => say(text.trim_end_matches('\n')),
                None => one(global.output, &body),
            }
            Ok(ExitCode::Ok)
        }
        Audit::Verify { vkey } => {
            let dir = tempfile::tempdir().map_err(file(Path::new("temporary directory")))?;
            let path = dir.path().join("ledger.jsonl");
            export_to(&client, &path).await?;
            let known = crate::args::Verify { path, vkey: vkey.clone(), checkpoint: None };
            let outcome = verify::run(global, &known)?;
            servers_own(vkey.is_some());
            Ok(outcome)
        }
    }
}

fn filters(global: &Global, filter: EntryFilter) -> Vec<(&'static str, Option<String>)> {
    vec![
        ("kind", filter.kind),
        ("agent", filter.agent),
        ("action", filter.action),
        ("decision", filter.decision),
        ("class", filter.class),
        ("reason", filter.reason),
        ("session", filter.session),
        ("intent", filter.intent),
        ("credential", filter.credential),
        ("environment", global.environment.clone()),
    ]
}

fn servers_own(trusted: bool) {
    if !trusted {
        note("the key is the server's own word: that this is your ledger is shown with --vkey and the key you know");
    }
}

/// The part of a list that was asked for.
pub async fn window_of(
    client: &Client,
    path: &str,
    filters: &[(&str, Option<String>)],
    member: &str,
    window: Window,
) -> Result<List, CliError> {
    let now = when::now();
    let time = |flag: &str, text: Option<String>| {
        text.map(|t| when::parse(flag, &t, now).map(|t| t.as_millis().to_string())).transpose()
    };
    let times = [("since", time("--since", window.since)?), ("until", time("--until", window.until)?)];
    let filters: Vec<_> = filters.iter().cloned().chain(times).collect();
    client.list(path, &filters, member, window.limit, window.cursor).await
}

/// Says so when a list stops before the ledger does.
pub fn truncated(found: &List) {
    if let Some(cursor) = &found.cursor {
        note(&format!("the newest {}; there may be more: --cursor {cursor}, or a higher --limit", found.rows.len()));
    }
}

/// Exports to a file. What stood there before stays until the export is whole.
async fn export_to(client: &Client, path: &Path) -> Result<u64, CliError> {
    let response = client.stream("audit/exports").await?;
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Of mode 0600, and gone again unless it is kept.
    let mut temporary = tempfile::NamedTempFile::new_in(dir).map_err(file(dir))?;
    let mut out = std::io::BufWriter::new(temporary.as_file_mut());
    let bytes = receive(response, &mut out, path).await?;
    out.flush().map_err(file(path))?;
    drop(out);
    temporary.as_file().sync_all().map_err(file(path))?;
    temporary.persist(path).map_err(|e| file(path)(e.error))?;
    std::fs::File::open(dir).and_then(|d| d.sync_all()).map_err(file(dir))?;
    Ok(bytes)
}

/// Longest trailer.
const TRAILER: usize = 256;

/// Writes a stream; returns its bytes. It is whole when its last line is the trailer.
async fn receive(mut response: reqwest::Response, out: &mut impl Write, path: &Path) -> Result<u64, CliError> {
    let broken = |what: String| CliError::Failed(format!("the export broke off: {what}"), ExitCode::Unavailable);
    let (mut bytes, mut tail) = (0, Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(|e| broken(crate::client::deepest(&e)))? {
        bytes += chunk.len() as u64;
        out.write_all(&chunk).map_err(file(path))?;
        tail.extend_from_slice(&chunk);
        tail.drain(..tail.len().saturating_sub(TRAILER));
    }
    let last = tail.trim_ascii_end().rsplit(|b| *b == b'\n').next().unwrap_or_default();
    ExportTrailer::parse(last).map_err(|_| broken("there is no trailer".to_owned()))?;
    Ok(bytes)
}

/// Exports into memory.
pub async fn export(client: &Client) -> Result<Vec<u8>, CliError> {
    let mut out = Vec::new();
    receive(client.stream("audit/exports").await?, &mut out, Path::new("memory")).await?;
    Ok(out)
}
