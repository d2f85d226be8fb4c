//! `status`.

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::Outcome;
use crate::args::Format;
use crate::client::Client;
use crate::error::CliError;
use crate::output::{list, one, safe, say};
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
        let scope = text(halt, "/scope");
        let place = halt.get("environment").filter(|_| !scope.starts_with("environment:"));
        let place = place.and_then(Value::as_str).map_or(String::new(), |e| format!(" in {}", safe(e)));
        say(&format!("         {} {scope}{place}: {}", text(halt, "/halt"), text(halt, "/reason")));
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
