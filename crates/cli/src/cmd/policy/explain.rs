//! `policy explain`.

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::{detailed, text};
use crate::args::Format;
use crate::client::Client;
use crate::cmd::{Outcome, encode};
use crate::config::Global;
use crate::output::{list, note, say};

pub async fn run(global: &Global, intent: &str) -> Outcome {
    let client = Client::new(global)?;
    let body = client.get(&format!("intents/{}/policies", encode(intent))).await?;
    let rows = body.as_array().map_or(&[][..], Vec::as_slice);
    if global.output != Format::Table {
        list(global.output, rows, &[]);
        return Ok(ExitCode::Ok);
    }
    if rows.is_empty() {
        note("no policy could match: none names this agent, action and resource");
        return Ok(ExitCode::Ok);
    }
    // What determined the decision first.
    let mut sorted: Vec<&Value> = rows.iter().collect();
    let rank = |r: &Value| (r.get("determining") != Some(&json!(true)), r.get("said") != Some(&json!("satisfied")));
    sorted.sort_by_key(|r| rank(r));
    let line = |row: &&Value| {
        let mut effect = text(row, "/effect");
        let obligation = text(row, "/obligation");
        if !obligation.is_empty() {
            effect = format!("{effect}, {obligation}");
        }
        let said = match text(row, "/said").as_str() {
            "satisfied" => "holds".to_owned(),
            "not_satisfied" => "does not hold".to_owned(),
            other => other.to_owned(),
        };
        let mark = if row.get("determining") == Some(&json!(true)) { "=>" } else { "" };
        vec![mark.to_owned(), text(row, "/policy"), effect, said]
    };
    let because = |row: &&Value| Some(text(row, "/because")).filter(|b| !b.is_empty()).into_iter().collect();
    let because: Vec<Vec<String>> = sorted.iter().map(because).collect();
    say(&detailed(&["", "policy", "effect", "said"], sorted.iter().map(line).collect(), 1, &because));
    if rows.iter().any(|r| r.get("determining") == Some(&json!(true))) {
        note("\n=> determined the decision");
    }
    Ok(ExitCode::Ok)
}
