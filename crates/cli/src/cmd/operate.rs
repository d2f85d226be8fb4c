//! `status`, `health check`, `emergency`.

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::Outcome;
use super::token::without_null;
use crate::args::{Emergency, Format};
use crate::client::Client;
use crate::config::Global;
use crate::confirm;
use crate::error::CliError;
use crate::output::{list, note, one, safe, say, table};
use crate::when;

pub async fn status(client: &Client, format: Format) -> Outcome {
    let health = client.call("GET", "/healthz", None, &[]).await?.body;
    let checkpoint = client.get("audit/checkpoint").await?;
    let deployments = client.get("deployments").await?;
    let emergency = client.get("emergency").await?;
    let newest = client.list("audit", &[], "entries", 1, None).await?.rows;
    let newest = newest.first().and_then(|e| e.get("at")).cloned().unwrap_or_default();
    let keys = keys(client, &health).await?;
    let halted = emergency.get("halted") == Some(&Value::Bool(true));
    let exit = if halted { ExitCode::Halted } else { ExitCode::Ok };
    if format != Format::Table {
        let mut ledger = checkpoint;
        if let Some(members) = ledger.as_object_mut() {
            members.insert("newest_entry_at".to_owned(), newest);
        }
        one(
            format,
            &json!({"health": health, "ledger": ledger, "keys": keys, "deployments": deployments, "emergency": emergency}),
        );
        return Ok(exit);
    }
    let text =
        |v: &Value, p: &str| v.pointer(p).map(|v| v.as_str().map_or_else(|| v.to_string(), safe)).unwrap_or_default();
    say(&format!(
        "intended {}  {}  up {} s",
        text(&health, "/version"),
        text(&health, "/status"),
        text(&health, "/uptime_seconds")
    ));
    let age = |at: &Value| at.as_str().and_then(when::recorded).map_or("-".to_owned(), |t| when::ago(t, when::now()));
    // The checkpoint is signed when it is asked for: what ages is the newest thing it covers.
    say(&format!("ledger   {} entries, the newest {}", text(&checkpoint, "/size"), age(&newest)));
    say(&format!("         checkpoint signed now, root {}", text(&checkpoint, "/root")));
    say(&format!("halts    {}", if halted { "HALTED" } else { "none" }));
    for halt in emergency.get("halts").and_then(Value::as_array).into_iter().flatten() {
        say(&format!("         {} {}: {}", text(halt, "/halt"), text(halt, "/scope"), text(halt, "/reason")));
    }
    say("");
    let key = |environment: &Value, what: &str| {
        keys.iter().find(|k| k.get("environment") == Some(environment)).and_then(|k| k.get(what)).cloned()
    };
    let rows: Vec<Value> = deployments
        .as_array()
        .into_iter()
        .flatten()
        .cloned()
        .map(|mut row| {
            let environment = row.get("environment").cloned().unwrap_or_default();
            if let Some(members) = row.as_object_mut() {
                members.insert("key".to_owned(), key(&environment, "kid").map_or(Value::Null, |k| short(&k).into()));
                members
                    .insert("since".to_owned(), key(&environment, "added_at").map_or(Value::Null, |t| age(&t).into()));
                members.insert("digest".to_owned(), members.get("digest").map(short).unwrap_or_default().into());
            }
            row
        })
        .collect();
    let columns = ["environment", "tier", "pack", "version", "policies", "digest", "key"].map(|c| (c, c));
    list(Format::Table, &rows, &[&columns[..], &[("since", "key made")]].concat());
    Ok(exit)
}

/// Enough of a digest or a key id to tell it from others.
fn short(value: &Value) -> String {
    let text = value.as_str().unwrap_or("-");
    text.strip_prefix("sha256:").unwrap_or(text).chars().take(12).collect()
}

/// The active key of each environment, as far as the credential may see it, and since when it is.
async fn keys(client: &Client, health: &Value) -> Result<Vec<Value>, CliError> {
    let prefix = format!("{}/", client.tenant());
    let added = client.list("audit", &[("kind", Some("key.added".to_owned()))], "entries", 500, None).await?.rows;
    let checks = health.get("components").and_then(Value::as_array).into_iter().flatten();
    let checks = checks.filter_map(|c| c.get("checks").and_then(Value::as_array)).flatten();
    let details = checks.filter(|c| c.get("check").and_then(Value::as_str) == Some("signing key"));
    let details = details.filter_map(|c| c.get("detail").and_then(Value::as_str)?.strip_prefix(&prefix));
    Ok(details
        .filter_map(|detail| {
            let (environment, kid) = detail.split_once(": ")?;
            let entry = added.iter().find(|e| e.to_string().contains(kid));
            let at = entry.and_then(|e| e.get("at")).cloned().unwrap_or_default();
            Some(json!({"environment": environment, "kid": kid, "added_at": at}))
        })
        .collect())
}

pub async fn health(client: &Client, global: &Global) -> Outcome {
    let body = client.call("GET", "/healthz", None, &[]).await?.body;
    if global.output == Format::Table {
        let mut rows = Vec::new();
        for component in body.get("components").and_then(Value::as_array).into_iter().flatten() {
            let of = |v: &Value, n: &str| v.get(n).and_then(Value::as_str).unwrap_or_default().to_owned();
            if !global.verbose {
                rows.push(vec![of(component, "component"), of(component, "status")]);
                continue;
            }
            for check in component.get("checks").and_then(Value::as_array).into_iter().flatten() {
                rows.push(vec![
                    of(component, "component"),
                    of(check, "status"),
                    of(check, "check"),
                    of(check, "detail"),
                ]);
            }
        }
        let header: &[&str] =
            if global.verbose { &["component", "status", "check", "detail"] } else { &["component", "status"] };
        say(&table(header, rows));
    } else {
        one(global.output, &body);
    }
    Ok(if body.get("status").and_then(Value::as_str) == Some("unavailable") {
        ExitCode::Unavailable
    } else {
        ExitCode::Ok
    })
}

pub async fn emergency(global: &Global, args: Emergency) -> Outcome {
    let client = Client::new(global)?;
    match args {
        Emergency::Status => {
            let body = client.get("emergency").await?;
            let halts = body.get("halts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            list(global.output, halts, &[("halt", "halt"), ("scope", "scope"), ("reason", "reason"), ("by", "by")]);
            Ok(if halts.is_empty() { ExitCode::Ok } else { ExitCode::Halted })
        }
        Emergency::Halt { reason, confirm } => {
            let scope = global.environment.as_deref().unwrap_or(client.tenant());
            let body = without_null(json!({"environment": global.environment, "reason": reason}));
            if !client.says_only() || global.dry_run {
                if confirm.is_none() || global.dry_run {
                    reach(&client, global.environment.as_deref(), "would stop").await;
                }
                if !global.dry_run {
                    confirm::name(global, confirm.as_deref(), scope, "halt")?;
                }
            }
            let reply = client.change("emergency/halts", &body).await?.body;
            one(global.output, &reply);
            note(&format!(
                "halted: no allow in `{scope}` can follow ledger entry {}",
                reply.get("index").unwrap_or(&Value::Null)
            ));
            Ok(ExitCode::Ok)
        }
        Emergency::Resume { halt, reason, confirm } => {
            if !client.says_only() || global.dry_run {
                if confirm.is_none() || global.dry_run {
                    lifting(&client, &halt).await;
                }
                if !global.dry_run {
                    confirm::name(global, confirm.as_deref(), &halt, "lift")?;
                }
            }
            let path = format!("emergency/halts/{}/resume", super::encode(&halt));
            let reply = client.change(&path, &json!({"reason": reason})).await?.body;
            one(global.output, &reply);
            Ok(ExitCode::Ok)
        }
    }
}

/// What a halt reaches: environments with what they decide by, and the agents that act there. A
/// credential that may halt and see nothing can halt all the same.
async fn reach(client: &Client, environment: Option<&str>, verb: &str) {
    let within = |name: &Value| environment.is_none_or(|e| name.as_str() == Some(e));
    let text = |v: &Value, n: &str| v.get(n).and_then(Value::as_str).map(safe).unwrap_or_default();
    let whole = environment.map_or_else(|| format!("the whole tenant `{}`", client.tenant()), |e| format!("`{e}`"));
    note(&format!("{verb}: {whole}"));
    match client.get("deployments").await {
        Ok(rows) => {
            for row in
                rows.as_array().into_iter().flatten().filter(|r| within(r.get("environment").unwrap_or(&Value::Null)))
            {
                let pack =
                    row.get("pack").and_then(Value::as_str).map_or("no policy (it denies everything)".to_owned(), safe);
                note(&format!(
                    "  environment {} ({}), deciding by {pack}",
                    text(row, "environment"),
                    text(row, "tier")
                ));
            }
        }
        Err(error) => note(&format!("  environments are not to be seen: {error}")),
    }
    match client.get("agents").await {
        Ok(rows) => {
            let acts = |row: &&Value| {
                let places = row.get("environments").and_then(Value::as_array).into_iter().flatten();
                text(row, "state") == "active" && places.into_iter().any(within)
            };
            let names: Vec<String> =
                rows.as_array().into_iter().flatten().filter(acts).map(|r| text(r, "agent")).collect();
            let shown = names.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
            let more =
                names.len().checked_sub(10).filter(|n| *n > 0).map_or(String::new(), |n| format!(", and {n} more"));
            note(
                format!("  {} active agent{}: {shown}{more}", names.len(), if names.len() == 1 { "" } else { "s" })
                    .trim_end_matches(": "),
            );
        }
        Err(error) => note(&format!("  agents are not to be seen: {error}")),
    }
}

/// What lifting a halt sets free.
async fn lifting(client: &Client, halt: &str) {
    let body = match client.get("emergency").await {
        Ok(body) => body,
        Err(error) => return note(&format!("halts are not to be seen: {error}")),
    };
    let found = body.get("halts").and_then(Value::as_array).into_iter().flatten();
    let Some(found) = found.into_iter().find(|h| h.get("halt").and_then(Value::as_str) == Some(halt)) else { return };
    let text = |n: &str| found.get(n).and_then(Value::as_str).map(safe).unwrap_or_default();
    note(&format!("{halt}: thrown by {} because: {}", text("by"), text("reason")));
    let scope = text("scope");
    reach(client, scope.strip_prefix("environment:"), "would run again").await;
}
