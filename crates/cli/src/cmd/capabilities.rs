//! `capabilities`: what the product claims, and whether it holds on the server that is asked.

use intended_model::ExitCode;
use serde_json::Value;

use super::Outcome;
use crate::args::{Capabilities, Format};
use crate::client::Client;
use crate::config::Global;
use crate::output::{note, one, safe, say, table};

fn text<'v>(row: &'v Value, member: &str) -> &'v str {
    row.get(member).and_then(Value::as_str).unwrap_or_default()
}

pub async fn run(global: &Global, args: Capabilities) -> Outcome {
    let client = Client::new(global)?;
    let path = args.area.map_or_else(|| "capabilities".to_owned(), |area| format!("capabilities?area={area}"));
    let mut body = client.get(&path).await?;
    let wanted = |row: &Value| args.status.is_empty() || args.status.iter().any(|s| s.as_str() == text(row, "status"));
    if let Some(rows) = body.get_mut("capabilities").and_then(Value::as_array_mut) {
        rows.retain(wanted);
    }
    let rows: Vec<Value> = body.get("capabilities").and_then(Value::as_array).cloned().unwrap_or_default();
    match global.output {
        Format::Table if global.verbose => rows.iter().for_each(|row| say(&whole(row))),
        Format::Table => say(&table(&["capability", "status", "result", "time"], rows.iter().map(line).collect())),
        Format::Jsonl => rows.iter().for_each(|row| say(&row.to_string())),
        Format::Json | Format::Yaml => one(global.output, &body),
    }
    if global.output == Format::Table {
        summarise(&body, &rows);
    }
    let gone = rows.iter().any(|row| text(row, "status") == "unavailable");
    Ok(if gone { ExitCode::Unavailable } else { ExitCode::Ok })
}

fn took(row: &Value) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let millis = row.get("took_micros").and_then(Value::as_u64).unwrap_or_default() as f64 / 1000.0;
    format!("{millis:.1} ms")
}

fn line(row: &Value) -> Vec<String> {
    vec![text(row, "capability").to_owned(), text(row, "status").to_owned(), text(row, "result").to_owned(), took(row)]
}

/// Everything that there is to say of one.
fn whole(row: &Value) -> String {
    let mut out = format!(
        "{}: {}, in {} at {}\n  result  {}\n",
        safe(text(row, "capability")),
        safe(text(row, "status")),
        took(row),
        safe(text(row, "probed_at")),
        safe(text(row, "result"))
    );
    for (label, member) in [("to do ", "action"), ("claim ", "claim"), ("probe ", "probe"), ("docs  ", "docs")] {
        let said = text(row, member);
        if !said.is_empty() {
            out.push_str(&format!("  {label}  {}\n", safe(said)));
        }
    }
    let tests = row.get("tests").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for (nth, test) in tests.enumerate() {
        out.push_str(&format!("  {}  {}\n", if nth == 0 { "tests " } else { "      " }, safe(test)));
    }
    out
}

/// How many are what, and what to do about those that do not hold.
fn summarise(body: &Value, rows: &[Value]) {
    let count = |name: &str| body.pointer(&format!("/summary/{name}")).and_then(Value::as_u64).unwrap_or_default();
    note(&format!(
        "{} working, {} not configured, {} degraded, {} unavailable",
        count("working"),
        count("not_configured"),
        count("degraded"),
        count("unavailable")
    ));
    for row in rows.iter().filter(|row| matches!(text(row, "status"), "degraded" | "unavailable")) {
        let action = text(row, "action");
        if !action.is_empty() {
            note(&format!("{}: {}", safe(text(row, "capability")), safe(action)));
        }
    }
}
