//! `incident`.

use std::io::Write as _;
use std::path::Path;

use intended_model::ExitCode;
use intended_verify::incident::{Evidence, verify};
use serde_json::{Value, json};

use super::token::without_null;
use super::{Outcome, encode, read, trusted_key};
use crate::args::{Format, Incident};
use crate::client::Client;
use crate::config::Global;
use crate::confirm;
use crate::error::{CliError, file};
use crate::output::{fit, list, note, one, safe, say, table};
use crate::when;

pub async fn run(global: &Global, args: Incident) -> Outcome {
    if let Incident::Verify { file, vkey } = &args {
        return check(global, file, vkey.as_deref());
    }
    let client = Client::new(global)?;
    match args {
        Incident::Open { title } => {
            let body = without_null(json!({"environment": global.environment, "title": title}));
            one(global.output, &client.change("incidents", &body).await?.body);
        }
        Incident::List => {
            let rows = client.rows("incidents?limit=500").await?;
            let columns = ["incident", "environment", "by", "title"].map(|c| (c, c));
            list(global.output, &rows, &columns);
        }
        Incident::Show { incident } => {
            one(global.output, &client.get(&format!("incidents/{}", encode(&incident))).await?);
        }
        Incident::Note { incident, text } => {
            let text = if text == "-" {
                String::from_utf8(read(Path::new("-"))?).map_err(|e| CliError::Usage(format!("stdin: {e}"), None))?
            } else {
                text
            };
            let path = format!("incidents/{}/notes", encode(&incident));
            one(global.output, &client.change(&path, &json!({"text": text.trim_end()})).await?.body);
        }
        Incident::Timeline { incident, before } => {
            let body = client.get(&within(&incident, "timeline", &before)?).await?;
            if global.output == Format::Table {
                timeline(&body);
            } else {
                one(global.output, &body);
            }
        }
        Incident::Close { incident, summary } => {
            let summary = match summary {
                Some(summary) => summary,
                None => confirm::ask(global, "What happened, and what was done? ", "--summary")?,
            };
            let path = format!("incidents/{}/close", encode(&incident));
            one(global.output, &client.change(&path, &json!({"summary": summary})).await?.body);
        }
        Incident::Export { incident, file: path, before } => {
            if global.dry_run && !global.print_curl {
                let what = if path.exists() { "replace" } else { "write" };
                one(global.output, &json!({"dry_run": true, what: path.display().to_string()}));
                return Ok(ExitCode::Ok);
            }
            let text = client.text(&within(&incident, "evidence", &before)?).await?;
            // Before it is kept: what does not hold is no evidence.
            let evidence = verify(&text, None).map_err(|e| broken(&e.to_string()))?;
            write(&path, &text)?;
            note(&format!(
                "{} lines, {} entries proved, in {}\nnext: intended incident verify {}",
                evidence.items.len(),
                evidence.proven,
                path.display(),
                path.display()
            ));
        }
        Incident::Verify { .. } => {}
    }
    Ok(ExitCode::Ok)
}

fn within(incident: &str, what: &str, before: &str) -> Result<String, CliError> {
    let secs = if before == "0" { 0 } else { when::seconds("--before", before)? };
    Ok(format!("incidents/{}/{what}?before_secs={secs}", encode(incident)))
}

/// Writes a file under its name when it is whole, for its owner alone.
fn write(path: &Path, text: &str) -> Result<(), CliError> {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(dir).map_err(file(dir))?;
    temporary.write_all(text.as_bytes()).map_err(file(path))?;
    temporary.as_file().sync_all().map_err(file(path))?;
    temporary.persist(path).map_err(|e| file(path)(e.error))?;
    std::fs::File::open(dir).and_then(|d| d.sync_all()).map_err(file(dir))
}

fn broken(what: &str) -> CliError {
    CliError::Failed(format!("the evidence does not hold\n  {what}"), ExitCode::VerificationFailed)
}

fn timeline(body: &Value) {
    let text = |v: &Value, n: &str| v.get(n).and_then(Value::as_str).map(safe).unwrap_or_default();
    say(&fit(&format!("{}  {} to {}", text(body, "incident"), text(body, "from"), text(body, "to"))));
    let items = body.get("items").and_then(Value::as_array).into_iter().flatten();
    let rows = items.map(|item| {
        let index = item.get("index").map_or("-".to_owned(), Value::to_string);
        vec![text(item, "at").chars().take(19).collect(), index, text(item, "what")]
    });
    say(&table(&["time", "entry", "what"], rows.collect()));
    if let Some(unseen) = body.get("unseen").and_then(Value::as_u64).filter(|n| *n > 0) {
        note(&format!("{unseen} entries of that time were not looked at: there are too many"));
    }
}

/// Checks a file of evidence.
fn check(global: &Global, path: &Path, vkey: Option<&Path>) -> Outcome {
    let trusted = trusted_key(vkey)?;
    let bytes = read(path)?;
    let text = String::from_utf8(bytes).map_err(|e| broken(&format!("{}: {e}", path.display())))?;
    let evidence = verify(&text, trusted.as_deref()).inspect_err(|error| {
        if global.output != Format::Table {
            one(global.output, &json!({"holds": false, "path": path.display().to_string(), "what": error.to_string()}));
        }
    });
    let evidence = evidence.map_err(|e| broken(&e.to_string()))?;
    print(global.output, &evidence, trusted.is_some());
    Ok(ExitCode::Ok)
}

fn print(format: Format, e: &Evidence, trusted: bool) {
    let h = &e.header;
    if format != Format::Table {
        let report = json!({
            "holds": true, "tenant": h.tenant, "incident": h.incident, "title": e.title, "from": h.from.to_string(),
            "to": h.to.to_string(), "closed_at": e.closed_at.map(|t| t.to_string()), "items": e.items.len(),
            "proven": e.proven, "counted": e.spikes.len(), "unseen": h.unseen, "size": h.size, "root": e.root,
            "key_trusted": trusted,
        });
        return one(format, &report);
    }
    let row = |a: &str, b: String| vec![a.to_owned(), b];
    let mut rows = vec![
        row("tenant", h.tenant.to_string()),
        row("incident", format!("{}: {}", h.incident, e.title)),
        row("closed", e.closed_at.map_or("it was open".to_owned(), |t| t.to_string())),
        row("from, to", format!("{}  {}", h.from, h.to)),
        row("entries", format!("{} proved to be in the tree of {} with the root {}", e.proven, h.size, e.root)),
        row(
            "key",
            if trusted { "the trusted one" } else { "the file's own; name the one you know with --vkey" }.to_owned(),
        ),
    ];
    if !e.spikes.is_empty() {
        let what = "counted by the server: the file holds some of the denials, not all";
        rows.push(row("spikes", format!("{} {what}", e.spikes.len())));
    }
    if h.unseen > 0 {
        rows.push(row("note", format!("{} entries of that time were not looked at", h.unseen)));
    }
    say(&format!("the evidence holds: nothing on it was altered\n{}\n", table(&[], rows)));
    let rows = e.items.iter().map(|i| {
        let index = i.index.map_or("-".to_owned(), |n| n.to_string());
        vec![i.at.to_string().chars().take(19).collect(), index, i.what.to_string()]
    });
    say(&table(&["time", "entry", "what"], rows.collect()));
    note("that nothing else happened is not shown by this file: `intended verify` of an export of the ledger shows it");
}
