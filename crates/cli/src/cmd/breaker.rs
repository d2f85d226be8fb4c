//! `breaker`.

use intended_model::{ExitCode, Timestamp};
use serde_json::{Value, json};

use super::token::without_null;
use super::{Outcome, encode, read};
use crate::args::{Breaker, BreakerOn, BreakerRules, Format};
use crate::client::Client;
use crate::config::Global;
use crate::error::CliError;
use crate::output::{list, note, one, say, table};

pub async fn run(global: &Global, args: Breaker) -> Outcome {
    let client = Client::new(global)?;
    match args {
        Breaker::List => {
            let rows = rows(&client, global).await?;
            if global.output == Format::Table {
                say(&table(&HEADER, rows.iter().flat_map(|row| lines(row, CLOSEST)).collect()));
                let defaults = rows.iter().filter(|r| r.get("explicit") == Some(&Value::Bool(false))).count();
                if defaults > 0 {
                    note(&format!("\n{defaults} with default thresholds: set them with `intended breaker set`"));
                }
            } else {
                list(global.output, &rows, &[]);
            }
        }
        Breaker::Show { breaker } => {
            let rows = rows(&client, global).await?;
            let found = rows.into_iter().find(|r| r.get("breaker").and_then(Value::as_str) == Some(&breaker));
            let found = found.ok_or_else(|| {
                CliError::Failed(
                    format!("there is no breaker `{breaker}`; see `intended breaker list`"),
                    ExitCode::Usage,
                )
            })?;
            if global.output == Format::Table {
                say(&table(&HEADER, lines(&found, usize::MAX)));
                if let Some(rules) = found.get("rules") {
                    say("");
                    one(Format::Table, rules);
                }
            } else {
                one(global.output, &found);
            }
        }
        Breaker::Set(set) => {
            let body = without_null(json!({
                "active": !set.off,
                "environment": global.environment,
                "on": target(&set.on),
                "rules": if set.off { Value::Null } else { rules(&set)? },
            }));
            let path = format!("breakers/{}", encode(&set.breaker));
            client.would("PUT", &path, &body)?;
            one(global.output, &client.call("PUT", &path, Some(&body), &[]).await?.body);
        }
        Breaker::Hold { breaker, on, reason } => {
            let body = json!({"environment": global.environment, "on": target(&on), "reason": reason});
            let path = format!("breakers/{}/hold", encode(&breaker));
            let held = client.change(&path, &without_null(body)).await?.body;
            one(global.output, &held);
            let name = held.get("hold").and_then(Value::as_str).unwrap_or(&breaker);
            note(&format!("held until a person runs: intended breaker release {name} --reason …"));
        }
        Breaker::Release { breaker, reason } => {
            let path = format!("breakers/{}/release", encode(&breaker));
            one(global.output, &client.change(&path, &json!({"reason": reason})).await?.body);
        }
    }
    Ok(ExitCode::Ok)
}

async fn rows(client: &Client, global: &Global) -> Result<Vec<Value>, CliError> {
    let mut rows = client.rows("breakers?limit=500").await?;
    if let Some(wanted) = &global.environment {
        rows.retain(|r| r.get("environment").and_then(Value::as_str) == Some(wanted.as_str()));
    }
    Ok(rows)
}

const HEADER: [&str; 6] = ["breaker", "environment", "watches", "state", "measured", "why, and until when"];

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// How many that are closed a list shows of those that a breaker watches by themselves.
const CLOSEST: usize = 3;

/// How close one is to a threshold, in thousandths.
fn closeness(instance: &Value) -> i64 {
    let measured = instance.get("measured").and_then(Value::as_array).into_iter().flatten();
    let ratio = |m: &Value| {
        let n = |name: &str| m.get(name).and_then(Value::as_i64).unwrap_or(0);
        n("value").saturating_mul(1000) / n("threshold").max(1)
    };
    measured.map(ratio).max().unwrap_or(0)
}

/// A breaker's lines: one for itself, one for each of those it watches by themselves: all that are not
/// closed, and of the others the closest to a threshold.
fn lines(row: &Value, closest: usize) -> Vec<Vec<String>> {
    let each = |name: &str| row.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let instances = each("instances");
    let watches = match (text(row, "/on/scope"), text(row, "/on/target")) {
        ("tenant", _) => "everything".to_owned(),
        (scope, "") => format!("each {scope}"),
        (scope, target) => format!("{scope} {target}"),
    };
    let state = match (text(row, "/state"), row.get("explicit") == Some(&Value::Bool(false))) {
        (state, true) => format!("{state} (defaults)"),
        (state, false) => state.to_owned(),
    };
    let alone = instances.first().filter(|i| i.get("target").is_none());
    let held = each("held").iter().map(|h| {
        let (hold, target) = (text(h, "/hold"), text(h, "/target"));
        let which = if hold == text(row, "/breaker") { String::new() } else { format!(" on {target} as `{hold}`") };
        format!("held by {}{which}: {}", text(h, "/by"), text(h, "/reason"))
    });
    let why: Vec<String> = held.chain(alone.map(because).filter(|w| !w.is_empty())).collect();
    let measured = match alone {
        Some(instance) => figures(instance.get("measured")),
        None => thresholds(row.get("rules")),
    };
    let first = vec![
        text(row, "/breaker").to_owned(),
        text(row, "/environment").to_owned(),
        watches,
        state,
        measured,
        why.join("\n"),
    ];
    let each = instances.iter().filter(|i| i.get("target").is_some());
    let (mut closed, mut others): (Vec<_>, Vec<_>) = each.partition(|i| text(i, "/state") == "closed");
    closed.sort_by_key(|i| std::cmp::Reverse(closeness(i)));
    others.extend(closed.into_iter().take(closest));
    let others = others.into_iter().map(|i| {
        let target = format!("  {}", text(i, "/target"));
        let state = format!("  {}", text(i, "/state"));
        vec![String::new(), String::new(), target, state, figures(i.get("measured")), because(i)]
    });
    std::iter::once(first).chain(others).collect()
}

/// `error_rate 120/500 permille of 40`.
fn figures(measured: Option<&Value>) -> String {
    let figure = |m: &Value| {
        let n = |name: &str| m.get(name).and_then(Value::as_i64).unwrap_or(0);
        format!("{} {}/{} of {}", text(m, "/metric"), n("value"), n("threshold"), n("calls"))
    };
    measured.and_then(Value::as_array).into_iter().flatten().map(figure).collect::<Vec<_>>().join("\n")
}

/// What opens it, where nothing was measured yet.
fn thresholds(rules: Option<&Value>) -> String {
    let all = ["error_rate_permille", "denial_rate_permille", "latency_ms", "velocity"];
    let plain = all.iter().filter_map(|name| Some(format!("{name} {}", rules?.get(*name)?.as_i64()?)));
    let spend = rules.and_then(|r| r.get("spend"));
    let spend = spend.map(|s| format!("{} {}", text(s, "/argument"), s.get("limit").unwrap_or(&Value::Null)));
    plain.chain(spend).collect::<Vec<_>>().join("\n")
}

/// What opened it, and when it is tried again or how far it was.
fn because(instance: &Value) -> String {
    let Some(opened) = instance.get("opened_by") else { return String::new() };
    let why = figures(Some(&Value::Array(vec![opened.clone()])));
    let retry = instance.get("retry_at").and_then(Value::as_i64).map(|at| Timestamp::from_millis(at).to_string());
    match instance.get("probes").and_then(Value::as_i64) {
        Some(probes) => format!("{why}; {probes} probes let through"),
        None => format!("{why}; tried again at {}", retry.unwrap_or_default()),
    }
}

fn target(on: &BreakerOn) -> Value {
    let named = [("agent", &on.agent), ("tool", &on.tool), ("connector", &on.connector), ("category", &on.category)];
    match named.into_iter().find_map(|(scope, target)| target.as_ref().map(|t| (scope, t))) {
        Some((scope, target)) => without_null(json!({"scope": scope, "target": target})),
        None if on.everything => json!({"scope": "tenant"}),
        None => Value::Null,
    }
}

fn rules(set: &BreakerRules) -> Result<Value, CliError> {
    if let Some(file) = &set.file {
        let wrong = |e: serde_json::Error| CliError::Usage(format!("{}: {e}", file.display()), None);
        return serde_json::from_slice(&read(file)?).map_err(wrong);
    }
    let spend = set.spend.as_ref().map(|spend| {
        let parts = spend.split_once('=').and_then(|(a, n)| Some((a, n.parse::<i64>().ok()?)));
        let (argument, limit) = parts.ok_or_else(|| {
            CliError::usage(format!("--spend: `{spend}`"), "write it like amount=500000, in hundredths of the unit")
        })?;
        Ok::<_, CliError>(json!({"argument": argument, "limit": limit}))
    });
    let window = match (set.window_calls, set.window_secs) {
        (Some(n), _) => Some(json!({"calls": n})),
        (None, Some(n)) => Some(json!({"secs": n})),
        (None, None) => None,
    };
    Ok(without_null(json!({
        "error_rate_permille": set.error_rate,
        "denial_rate_permille": set.denial_rate,
        "latency_ms": set.latency_ms,
        "velocity": set.velocity,
        "spend": spend.transpose()?,
        "window": window,
        "minimum_calls": set.minimum_calls,
        "open_secs": set.open_secs,
        "probes": set.probes,
        "successes": set.probes,
    })))
}
