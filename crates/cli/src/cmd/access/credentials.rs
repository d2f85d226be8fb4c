//! `access credentials`.

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::{day, done, flag, key, key_file_is_new, places, scopes, text, until};
use crate::args::{Credentials, Format};
use crate::client::Client;
use crate::cmd::token::without_null;
use crate::cmd::{Outcome, encode};
use crate::config::Global;
use crate::confirm;
use crate::error::CliError;
use crate::output::{list, note, say, table};
use crate::when;

pub async fn run(global: &Global, args: Credentials) -> Outcome {
    let client = Client::new(global)?;
    match args {
        Credentials::List { all } => {
            let mut rows = client.rows("credentials?limit=500").await?;
            if global.output != Format::Table {
                list(global.output, &rows, &[]);
                return Ok(ExitCode::Ok);
            }
            let before = rows.len();
            rows.retain(|row| all || !flag(row, "revoked"));
            let header = ["credential", "of", "where", "scopes", "expires", "last used"];
            say(&table(&header, rows.iter().map(line).collect()));
            if rows.len() < before {
                note(&format!("{} revoked; --all shows them", before - rows.len()));
            }
        }
        Credentials::Create {
            credential,
            scope,
            environments,
            whole,
            action,
            agent,
            network,
            member,
            expires,
            test,
            key_to,
        } => {
            if environments.is_empty() && !whole {
                return Err(CliError::usage("where is it good?", "name environments: --in staging; or --whole"));
            }
            let expires_at = expires.map(|text| until("--expires", &text)).transpose()?;
            let body = without_null(json!({
                "credential": credential, "scopes": scope, "environments": environments, "whole": whole,
                "actions": action, "agents": agent, "networks": network, "member": member, "test": test,
                "expires_at": expires_at.map(intended_model::Timestamp::as_millis),
            }));
            client.would("POST", "credentials", &body)?;
            key_file_is_new(key_to.as_deref())?;
            if expires_at.is_none() {
                note("it never expires; --expires 90d makes one that does");
            }
            let reply = client.call("POST", "credentials", Some(&body), &[]).await?.body;
            key(global, &reply, key_to.as_deref())?;
        }
        Credentials::Rotate { credential, overlap, key_to, confirm } => {
            let seconds = if overlap == "0" { 0 } else { when::seconds("--overlap", &overlap)? };
            let path = format!("credentials/{}/rotate", encode(&credential));
            let body = json!({"overlap_seconds": seconds});
            client.would("POST", &path, &body)?;
            key_file_is_new(key_to.as_deref())?;
            if seconds == 0 && !client.says_only() {
                note(&format!("whoever uses the key of `{credential}` now is refused from this moment on"));
                confirm::name(global, confirm.confirm.as_deref(), &credential, "end the key of")?;
            }
            let reply = client.call("POST", &path, Some(&body), &[]).await?.body;
            key(global, &reply, key_to.as_deref())?;
            if seconds > 0 {
                note(&format!("the key before is good for another {}", when::span(seconds)));
            }
        }
        Credentials::Revoke { credential, reason, confirm } => {
            let path = format!("credentials/{}/revoke", encode(&credential));
            let body = json!({"reason": reason});
            client.would("POST", &path, &body)?;
            if !client.says_only() {
                let rows = client.rows("credentials?limit=500").await?;
                let known = rows.iter().find(|r| r.get("credential").and_then(Value::as_str) == Some(&credential));
                let known = known.ok_or_else(|| {
                    CliError::usage(
                        format!("there is no credential `{credential}`"),
                        "intended access credentials list",
                    )
                })?;
                note(&format!("{credential}: {} in {}; last used {}", scopes(known), places(known), used(known)));
                confirm::name(global, confirm.confirm.as_deref(), &credential, "revoke")?;
            }
            let reply = client.call("POST", &path, Some(&body), &[]).await?.body;
            done(global, &format!("revoked `{credential}`"), &reply);
        }
    }
    Ok(ExitCode::Ok)
}

fn used(row: &Value) -> String {
    let day = day(row.get("last_used"));
    if day.is_empty() { "never".to_owned() } else { day }
}

fn line(row: &Value) -> Vec<String> {
    let kind = if flag(row, "test") { " (test)" } else { "" };
    let of = text(row, "/member");
    let end = match (flag(row, "revoked"), day(row.get("expires_at"))) {
        (true, _) => "revoked".to_owned(),
        (false, end) if end.is_empty() => "never".to_owned(),
        (false, end) => end,
    };
    vec![
        format!("{}{kind}", text(row, "/credential")),
        if of.is_empty() { "-".to_owned() } else { of },
        places(row),
        scopes(row),
        end,
        used(row),
    ]
}
