//! `access review`.

use std::path::Path;

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::{done, flag, items, text};
use crate::args::{Format, Review};
use crate::client::Client;
use crate::cmd::{Outcome, encode};
use crate::config::Global;
use crate::confirm;
use crate::error::{CliError, file};
use crate::output::{list, note, one, say, table};

/// Findings that are shown of one severity before the rest is only counted.
const MAX_SHOWN: usize = 40;

pub async fn run(global: &Global, args: Review) -> Outcome {
    let client = Client::new(global)?;
    match args {
        Review::Make => {
            let reply = client.change("access-reviews", &json!({})).await?.body;
            if global.output == Format::Table {
                let c = |name: &str| text(&reply, &format!("/counts/{name}"));
                say(&format!("review {} (ledger entry {})", text(&reply, "/review"), text(&reply, "/index")));
                say(&format!("{} high, {} medium, {} low findings", c("high"), c("medium"), c("low")));
                note(&format!(
                    "next: intended access review show {}\n      intended access review sign --reason '…' --confirm {}   by two people",
                    text(&reply, "/review"),
                    text(&reply, "/review")
                ));
            } else {
                one(global.output, &reply);
            }
        }
        Review::List => {
            let rows = client.rows("access-reviews?limit=500").await?;
            if global.output != Format::Table {
                list(global.output, &rows, &[]);
                return Ok(ExitCode::Ok);
            }
            let line = |row: &Value| {
                let signed: Vec<String> = items(row, "/signed").map(|s| text(s, "/member")).collect();
                let state = match (flag(row, "complete"), flag(row, "last")) {
                    (true, _) => "signed",
                    (false, true) => "open",
                    (false, false) => "superseded",
                };
                vec![text(row, "/review"), state.to_owned(), signed.join(" "), text(row, "/by"), text(row, "/index")]
            };
            let lines = rows.iter().rev().map(line).collect();
            say(&table(&["review", "state", "signed by", "made by", "entry"], lines));
        }
        Review::Show { review, export } => {
            if let Some(path) = export {
                return save(global, &client, review, &path).await;
            }
            let row = named(&client, review).await?;
            let report = client.get(&report_path(&row)).await?;
            if global.output == Format::Table { show(&report, &row) } else { one(global.output, &report) }
        }
        Review::Changes { review, from } => {
            let row = named(&client, review).await?;
            let from = from.map(|f| format!("?from={}", encode(&f))).unwrap_or_default();
            let changes = client.get(&format!("{}/changes{from}", report_path(&row))).await?;
            if global.output == Format::Table { show_changes(&changes) } else { one(global.output, &changes) }
        }
        Review::Sign { reason, digest, confirm } => {
            if global.print_curl {
                let body = json!({"digest": digest, "reason": reason});
                client.call("POST", "access-reviews/<review>/sign", Some(&body), &[]).await?;
            }
            let row = named(&client, None).await?;
            let review = text(&row, "/review");
            let digest = digest.unwrap_or_else(|| text(&row, "/digest"));
            let body = json!({"digest": digest, "reason": reason});
            let path = format!("{}/sign", report_path(&row));
            client.would("POST", &path, &body)?;
            let report = client.get(&report_path(&row)).await?;
            note(&format!("{}\n  report {digest}", heading(&report)));
            confirm::name(global, confirm.confirm.as_deref(), &review, "sign")?;
            let reply = client.call("POST", &path, Some(&body), &[]).await?.body;
            let state = if flag(&reply, "complete") { "two people have signed" } else { "one more person signs" };
            done(global, &format!("signed {review}: {state}"), &reply);
        }
    }
    Ok(ExitCode::Ok)
}

/// The row of a review: of the last one, where none is named.
async fn named(client: &Client, review: Option<String>) -> Result<Value, CliError> {
    let rows = client.rows("access-reviews?limit=500").await?;
    let found = match &review {
        Some(name) => rows.iter().find(|r| r.get("review").and_then(Value::as_str) == Some(name)),
        None => rows.last(),
    };
    found.cloned().ok_or_else(|| match review {
        Some(name) => CliError::usage(format!("there is no review `{name}`"), "intended access review list"),
        None => CliError::usage("there is no review yet", "make one: intended access review make"),
    })
}

fn report_path(row: &Value) -> String {
    format!("access-reviews/{}", encode(&text(row, "/review")))
}

/// Writes the whole report. What stood there before stays until it is whole.
async fn save(global: &Global, client: &Client, review: Option<String>, path: &Path) -> Outcome {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    if !["html", "csv", "json"].contains(&ending.as_str()) {
        let what = format!("{}: what is it to be?", path.display());
        return Err(CliError::usage(what, "name the file .html, .csv or .json"));
    }
    let row = named(client, review).await?;
    if global.dry_run {
        one(global.output, &json!({"dry_run": true, "write": path.display().to_string()}));
        return Ok(ExitCode::Ok);
    }
    let report = client.text(&format!("{}?format={ending}", report_path(&row))).await?;
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Of mode 0600, and gone again unless it is kept.
    let mut temporary = tempfile::NamedTempFile::new_in(dir).map_err(file(dir))?;
    std::io::Write::write_all(&mut temporary, report.as_bytes()).map_err(file(path))?;
    temporary.as_file().sync_all().map_err(file(path))?;
    temporary.persist(path).map_err(|e| file(path)(e.error))?;
    note(&format!("{} bytes in {}", report.len(), path.display()));
    Ok(ExitCode::Ok)
}

/// What was found, in a line or two.
fn heading(report: &Value) -> String {
    let c = |name: &str| text(report, &format!("/counts/{name}"));
    format!(
        "review {} of {}: {} high, {} medium, {} low findings\n  {} of {} members active, {} roles; {} of {} credentials active; {} agents",
        text(report, "/review"),
        text(report, "/tenant"),
        c("high"),
        c("medium"),
        c("low"),
        c("members_active"),
        c("members"),
        c("grants"),
        c("credentials_active"),
        c("credentials"),
        c("agents")
    )
}

fn show(report: &Value, row: &Value) {
    say(&heading(report));
    say(&format!("  made {} by {}", text(report, "/at"), text(report, "/by")));
    let signed: Vec<String> = items(row, "/signed").map(|s| text(s, "/member")).collect();
    let signed = if signed.is_empty() { "nobody yet".to_owned() } else { signed.join(", ") };
    say(&format!("  signed by {signed}\n  {}", text(row, "/digest")));
    for severity in ["high", "medium", "low"] {
        let of: Vec<&Value> = items(report, "/findings")
            .filter(|f| f.get("severity").and_then(Value::as_str) == Some(severity))
            .collect();
        if of.is_empty() {
            continue;
        }
        say("");
        let lines = of
            .iter()
            .take(MAX_SHOWN)
            .map(|f| vec![text(f, "/about"), text(f, "/subject"), text(f, "/detail")])
            .collect();
        say(&table(&[severity, "subject", "finding"], lines));
        if of.len() > MAX_SHOWN {
            say(&format!("and {} more; --export review.html has all", of.len() - MAX_SHOWN));
        }
    }
    let lines: Vec<Vec<String>> = items(report, "/approvals").map(approval).collect();
    if !lines.is_empty() {
        say("");
        say(&table(&["policy", "where", "asks for", "people", "alone"], lines));
    }
    note("\nnext: --export review.html for every member, credential and agent");
}

fn approval(row: &Value) -> Vec<String> {
    let quorum = |q: &Value| format!("{} of {}", text(q, "/count"), text(q, "/group"));
    let step = |s: &Value| s.as_array().into_iter().flatten().map(quorum).collect::<Vec<_>>().join(" or ");
    let steps: Vec<String> = items(row, "/steps").map(step).collect();
    let alone = text(row, "/alone_count");
    vec![
        text(row, "/policy"),
        text(row, "/environment"),
        steps.join(", "),
        text(row, "/people"),
        if alone == "0" { "nobody".to_owned() } else { alone },
    ]
}

fn show_changes(changes: &Value) {
    say(&format!(
        "from {} ({}) to {} ({})",
        text(changes, "/from"),
        text(changes, "/from_at"),
        text(changes, "/to"),
        text(changes, "/to_at")
    ));
    let line = |c: &Value| {
        vec![text(c, "/change").replace('_', " "), text(c, "/about"), text(c, "/subject"), text(c, "/detail")]
    };
    let lines: Vec<Vec<String>> = items(changes, "/changes").map(line).collect();
    if lines.is_empty() {
        return say("nothing changed");
    }
    say("");
    say(&table(&["change", "what", "subject", "detail"], lines));
}
