//! `keys`: what tokens are signed with.

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::{Outcome, encode};
use crate::args::Keys;
use crate::client::Client;
use crate::config::Global;
use crate::confirm;
use crate::error::CliError;
use crate::output::{list, note, one};

pub async fn run(global: &Global, args: Keys) -> Outcome {
    let client = Client::new(global)?;
    match args {
        Keys::List => {
            let rows = rows(&client, global.environment.as_deref()).await?;
            list(global.output, &rows, &["environment", "kid", "alg", "status", "added_at", "index"].map(|c| (c, c)));
        }
        Keys::Rotate { alg, retire_others, reason, confirm } => {
            let environment = environment(global)?;
            let before = rows(&client, Some(environment)).await?;
            let others: Vec<&str> = if retire_others {
                let good = before.iter().filter(|k| text(k, "status") != "retired");
                good.map(|k| text(k, "kid")).collect()
            } else {
                Vec::new()
            };
            let active = before.iter().find(|k| text(k, "status") == "active").map(|k| text(k, "alg"));
            let alg = alg.map(|a| a.as_str()).or(active).unwrap_or("EdDSA");
            if retire_others && !client.says_only() {
                note(&format!(
                    "every token of `{environment}` from before would be refused, and {} retired: {}",
                    if others.len() == 1 { "this key" } else { "these keys" },
                    others.join(", ")
                ));
                confirm::name(global, confirm.as_deref(), environment, "retire the keys of")?;
            }
            let made = client.change("keys/rotate", &json!({"environment": environment, "alg": alg})).await?.body;
            let kid = text(&made, "kid").to_owned();
            let mut retired = Vec::new();
            for other in others {
                let body = json!({"environment": environment, "reason": reason});
                let path = format!("keys/{}/retire", encode(other));
                match client.change(&path, &body).await {
                    Ok(_) => retired.push(other),
                    Err(error) => {
                        // The new key is there; what is left to do is said.
                        note(&format!("THE KEY {other} IS NOT RETIRED: the new one, {kid}, is active"));
                        note(&format!("next: intended keys retire {other} -e {environment} --reason '…'"));
                        return Err(error);
                    }
                }
            }
            one(
                global.output,
                &json!({
                    "environment": environment, "kid": kid, "alg": alg, "index": made.get("index"), "retired": retired,
                }),
            );
            if retire_others {
                note("verifiers without a connection go by it when they have fetched the keys again");
            } else {
                note(
                    "the key before it still verifies, so that tokens under way stay good; the next rotation retires it",
                );
            }
        }
        Keys::Retire { kid, reason, confirm } => {
            let environment = environment(global)?;
            if !client.says_only() {
                note(&format!("every token of `{environment}` that {kid} signed would be refused"));
                confirm::name(global, confirm.as_deref(), &kid, "retire")?;
            }
            let body = json!({"environment": environment, "reason": reason});
            one(global.output, &client.change(&format!("keys/{}/retire", encode(&kid)), &body).await?.body);
        }
    }
    Ok(ExitCode::Ok)
}

async fn rows(client: &Client, environment: Option<&str>) -> Result<Vec<Value>, CliError> {
    let mut rows = client.rows("keys?limit=500").await?;
    rows.retain(|row| environment.is_none_or(|only| text(row, "environment") == only));
    Ok(rows)
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn environment(global: &Global) -> Result<&str, CliError> {
    global.environment.as_deref().ok_or_else(|| CliError::usage("which environment?", "name it: -e production"))
}
