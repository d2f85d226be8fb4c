//! `intent submit|list|show|explain|replay`.

use intended_model::ExitCode;
use serde_json::Value;

use super::{Outcome, audit, encode, exit_of, read};
use crate::args::{Format, Intent};
use crate::client::Client;
use crate::config::Global;
use crate::confirm;
use crate::error::CliError;
use crate::output::{list, one, safe, say, table};
use crate::when;

const COLUMNS: &[(&str, &str)] = &[
    ("recorded_at", "time"),
    ("agent", "agent"),
    ("action", "action"),
    ("resource", "resource"),
    ("environment", "environment"),
    ("decision", "decision"),
    ("reason", "reason"),
    ("risk", "risk"),
    ("id", "id"),
];

pub async fn run(global: &Global, args: Intent) -> Outcome {
    let client = Client::new(global)?;
    match args {
        Intent::Submit { file, idempotency_key, token_file } => {
            let body = body(global, &file)?;
            if client.says_only() {
                client.would("POST", "intents", &serde_json::from_slice(&body).unwrap_or_default())?;
            } else if let Some(path) = token_file.as_ref().filter(|p| p.exists()) {
                // Before it is sent: a token that cannot be kept is lost.
                confirm::yes(global, &format!("{} is there already: replace it?", path.display()))?;
            }
            let headers: Vec<(&str, &str)> = idempotency_key.iter().map(|k| ("idempotency-key", k.as_str())).collect();
            let mut reply = client.call_raw("POST", "intents", Some(&body), &headers).await?.body;
            if let (Some(path), Some(token)) = (&token_file, reply.get("token").and_then(Value::as_str)) {
                if path.exists() {
                    std::fs::remove_file(path).map_err(crate::error::file(path))?;
                }
                crate::server::write_secret(path, token)?;
                if let Some(object) = reply.as_object_mut() {
                    object.remove("token");
                }
            }
            show(global.output, &reply);
            Ok(exit_of(&reply))
        }
        Intent::List { agent, action, decision, class, window } => {
            let filters = [
                ("agent", agent),
                ("action", action),
                ("decision", decision),
                ("class", class),
                ("environment", global.environment.clone()),
            ];
            let found = audit::window_of(&client, "intents", &filters, "intents", window).await?;
            // Where all is traffic the word would only take room.
            let mut columns = COLUMNS.to_vec();
            if found.rows.iter().any(|row| row.get("class").is_some_and(|c| c != "traffic")) {
                columns.push(("class", "class"));
            }
            list(global.output, &found.rows, &columns);
            audit::truncated(&found);
            Ok(ExitCode::Ok)
        }
        Intent::Show { id } => {
            let body = client.get(&format!("intents/{}", encode(&id))).await?;
            show(global.output, &body);
            Ok(ExitCode::Ok)
        }
        Intent::Explain { id } => {
            let body = client.get(&format!("intents/{}/explain", encode(&id))).await?;
            if global.output == Format::Table {
                explain(&body);
            } else {
                one(global.output, &body);
            }
            Ok(ExitCode::Ok)
        }
        Intent::Replay { id, at, policy } => {
            let what_if = at.is_some() || policy.is_some();
            let request = replay_request(at, policy)?;
            let path = format!("intents/{}/replay", encode(&id));
            let body = client.call("POST", &path, Some(&request), &[]).await?.body;
            let same = body.get("same") == Some(&Value::Bool(true));
            if global.output == Format::Table {
                replayed(&body, same, what_if);
            } else {
                one(global.output, &body);
            }
            Ok(if same || what_if { ExitCode::Ok } else { ExitCode::VerificationFailed })
        }
    }
}

fn replay_request(at: Option<String>, policy: Option<String>) -> Result<Value, CliError> {
    let mut request = serde_json::Map::new();
    if let Some(at) = at {
        // Digits alone are a place in the ledger.
        let (name, value) = match at.parse::<u64>() {
            Ok(index) => ("at", Value::from(index)),
            Err(_) => ("at_time", when::parse("--at", &at, when::now())?.as_millis().into()),
        };
        request.insert(name.to_owned(), value);
    }
    if let Some(policy) = policy {
        let directory = std::path::Path::new(&policy);
        let (name, value) = if directory.is_dir() {
            ("files", serde_json::json!(super::policy::files::read(directory)?))
        } else {
            ("policy", policy.into())
        };
        request.insert(name.to_owned(), value);
    }
    Ok(Value::Object(request))
}

fn replayed(body: &Value, same: bool, what_if: bool) {
    let word = |side: &str| {
        format!("{} ({})", text(body, &format!("/{side}/decision")), text(body, &format!("/{side}/reason")))
    };
    let verdict = match (same, what_if) {
        (true, false) => "the same, from the ledger".to_owned(),
        (false, false) => "NOT the same".to_owned(),
        (same, true) => {
            let place = text(body, "/at");
            format!("{} on the state before entry {place}", if same { "the same" } else { "another decision" })
        }
    };
    say(&format!("recorded  {}\nagain     {}\n{verdict}", word("recorded"), word("again")));
    let gate = |side: &Value| match side {
        Value::Null => "-".to_owned(),
        side => {
            let detail = text(side, "/detail");
            let detail = if detail == "-" { String::new() } else { format!(": {detail}") };
            format!("{} {}{detail}", text(side, "/outcome"), text(side, "/code"))
        }
    };
    let different = body.get("differences").and_then(Value::as_array).into_iter().flatten();
    let rows: Vec<Vec<String>> = different
        .map(|d| {
            let side = |name: &str| gate(d.get(name).unwrap_or(&Value::Null));
            vec![text(d, "/gate"), side("recorded"), side("again")]
        })
        .collect();
    if !rows.is_empty() {
        say(&format!("\n{}", table(&["gate", "recorded", "again"], rows)));
    }
}

/// An intent as it is sent: the file's bytes, unless they leave the environment to be said here. What
/// does the rest of it then goes through the strict reader, which keeps everything or refuses it by
/// name: one that merges members or rounds numbers would have something else decided.
pub fn body(global: &Global, file: &std::path::Path) -> Result<Vec<u8>, CliError> {
    let bytes = read(file)?;
    let Some(environment) = &global.environment else { return Ok(bytes) };
    let mut value = intended_model::json::parse(&bytes)
        .map_err(|e| CliError::Failed(format!("{}: {}: {e}", file.display(), e.kind.code()), ExitCode::Invalid))?;
    // No object is no intent, whatever environment it is for: the server says so.
    let intended_model::Value::Object(members) = &mut value else { return Ok(bytes) };
    let own = members.get("environment").and_then(intended_model::Value::as_str);
    match (own, &global.environment_flag) {
        (Some(own), Some(flag)) if own != flag => Err(CliError::usage(
            format!("{} is for the environment `{own}`, and -e says `{flag}`", file.display()),
            "leave out -e, or change the file",
        )),
        _ if members.get("environment").is_some() => Ok(bytes),
        _ => {
            members.insert("environment", intended_model::Value::String(environment.as_str().into()));
            Ok(value.to_canonical().into_bytes())
        }
    }
}

fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => safe(text),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

fn show(format: Format, body: &Value) {
    if format != Format::Table {
        return one(format, body);
    }
    say(&format!("{}  {}: {}", text(body, "/decision").to_uppercase(), text(body, "/reason"), text(body, "/message")));
    let mark = if text(body, "/class") == "synthetic" { "  (a self-test: not counted as traffic)" } else { "" };
    say(&format!("{} by {} in {}{mark}", text(body, "/action"), text(body, "/agent"), text(body, "/environment")));
    say(&format!(
        "intent {}  recorded {}  ledger entry {}  risk {}",
        text(body, "/id"),
        text(body, "/recorded_at"),
        text(body, "/receipt/index"),
        text(body, "/risk/score")
    ));
    gates(body);
    if body.get("token").is_some() {
        say(&format!("\ntoken (until {}):\n{}", text(body, "/token_expires_at"), text(body, "/token")));
    }
}

fn gates(body: &Value) {
    let rows = body.get("gates").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let rows = rows.iter().map(|g| {
        vec![
            text(g, "/gate"),
            text(g, "/outcome"),
            text(g, "/code"),
            g.get("detail").and_then(Value::as_str).unwrap_or_default().to_owned(),
        ]
    });
    say(&format!("\n{}", table(&["gate", "outcome", "code", "detail"], rows.collect())));
}

fn explain(body: &Value) {
    say(&format!("{}  {}: {}", text(body, "/decision").to_uppercase(), text(body, "/reason"), text(body, "/message")));
    gates(body);
    if let Some(factors) = body.pointer("/risk/factors").and_then(Value::as_array) {
        let rows = factors.iter().map(|f| vec![text(f, "/name"), text(f, "/value"), text(f, "/weight")]).collect();
        say(&format!("\nrisk {} from\n{}", text(body, "/risk/score"), table(&["factor", "value", "weight"], rows)));
    }
    let each = |name: &str| body.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let obstacles = each("obstacles");
    if !obstacles.is_empty() {
        let rows = obstacles.iter().map(|o| vec![text(o, "/gate"), text(o, "/what")]).collect();
        say(&format!("\nwhat stands in the way\n{}", table(&[], rows)));
    }
    let allowed = each("would_allow");
    if !allowed.is_empty() {
        let rows = allowed.iter().map(|c| {
            let assumes = text(c, "/assumes");
            let assumes = if assumes == "-" { String::new() } else { format!("taking {assumes}") };
            vec![text(c, "/change"), format!("{} ({})", text(c, "/decision"), text(c, "/reason")), assumes]
        });
        say(&format!("\nwhat would have been allowed instead, each alone\n{}", table(&[], rows.collect())));
    } else if !obstacles.is_empty() {
        say(&format!("\nnone of the {} single changes that were tried would have been allowed", text(body, "/tried")));
    }
}
