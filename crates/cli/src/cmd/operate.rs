//! `status`, `health check`, `emergency`.

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::Outcome;
use super::token::without_null;
use crate::args::{Emergency, Format, Global};
use crate::client::Client;
use crate::error::CliError;
use crate::output::{list, one, safe, say, table};

pub async fn status(client: &Client, format: Format) -> Outcome {
    let health = client.call("GET", "/healthz", None, &[]).await?.body;
    let checkpoint = client.get("audit/checkpoint").await?;
    let deployments = client.get("deployments").await?;
    let emergency = client.get("emergency").await?;
    if format != Format::Table {
        one(
            format,
            &json!({"health": health, "ledger": checkpoint, "deployments": deployments, "emergency": emergency}),
        );
        return Ok(ExitCode::Ok);
    }
    let text =
        |v: &Value, p: &str| v.pointer(p).map(|v| v.as_str().map_or_else(|| v.to_string(), safe)).unwrap_or_default();
    let halted = emergency.get("halted") == Some(&Value::Bool(true));
    say(&format!(
        "intended {}  {}  up {} s",
        text(&health, "/version"),
        text(&health, "/status"),
        text(&health, "/uptime_seconds")
    ));
    say(&format!("ledger   {} entries, root {}", text(&checkpoint, "/size"), text(&checkpoint, "/root")));
    say(&format!("halts    {}", if halted { "HALTED" } else { "none" }));
    for halt in emergency.get("halts").and_then(Value::as_array).into_iter().flatten() {
        say(&format!("         {} {}: {}", text(halt, "/halt"), text(halt, "/scope"), text(halt, "/reason")));
    }
    say("");
    list(
        Format::Table,
        deployments.as_array().map_or(&[][..], Vec::as_slice),
        &[
            ("environment", "environment"),
            ("tier", "tier"),
            ("pack", "pack"),
            ("version", "version"),
            ("policies", "policies"),
            ("digest", "digest"),
        ],
    );
    Ok(if halted { ExitCode::Halted } else { ExitCode::Ok })
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
    let wrong_name = |wanted: &str| {
        CliError::usage(
            format!("--confirm does not name what this is about: `{wanted}`"),
            format!("--confirm {wanted}"),
        )
    };
    match args {
        Emergency::Status => {
            let body = client.get("emergency").await?;
            let halts = body.get("halts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            list(global.output, halts, &[("halt", "halt"), ("scope", "scope"), ("reason", "reason"), ("by", "by")]);
            Ok(if halts.is_empty() { ExitCode::Ok } else { ExitCode::Halted })
        }
        Emergency::Halt { reason, confirm } => {
            let scope = global.environment.as_deref().unwrap_or(client.tenant());
            if confirm != scope {
                return Err(wrong_name(scope));
            }
            let body = without_null(json!({"environment": global.environment, "reason": reason}));
            let reply = client.call("POST", "emergency/halts", Some(&body), &[]).await?.body;
            one(global.output, &reply);
            eprintln!(
                "halted: no allow in `{scope}` can follow ledger entry {}",
                reply.get("index").unwrap_or(&Value::Null)
            );
            Ok(ExitCode::Ok)
        }
        Emergency::Resume { halt, reason, confirm } => {
            if confirm != halt {
                return Err(wrong_name(&halt));
            }
            let path = format!("emergency/halts/{}/resume", super::intent::encode(&halt));
            let reply = client.call("POST", &path, Some(&json!({"reason": reason})), &[]).await?.body;
            one(global.output, &reply);
            Ok(ExitCode::Ok)
        }
    }
}
