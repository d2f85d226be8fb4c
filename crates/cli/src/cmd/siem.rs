//! `siem`.

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::{Outcome, encode};
use crate::args::{Format, Siem};
use crate::client::Client;
use crate::config::Global;
use crate::output::{list, note, one, safe};

pub async fn run(global: &Global, args: Siem) -> Outcome {
    let client = Client::new(global)?;
    match args {
        Siem::Status => {
            let rows = client.rows("siem?limit=500").await?;
            let columns = [
                ("sink", "sink"),
                ("transport", "to"),
                ("format", "format"),
                ("state", "state"),
                ("next", "next"),
                ("lag_entries", "behind"),
                ("lag_seconds", "seconds"),
                ("exported", "sent"),
                ("failures", "failed"),
            ];
            list(global.output, &rows, &columns);
            if rows.is_empty() {
                note("no sink: they are [[siem]] tables of the server's config file");
            }
            let bad = |row: &&Value| row.get("state").and_then(Value::as_str) != Some("ok");
            if global.output == Format::Table {
                for row in rows.iter().filter(bad) {
                    let text = |n: &str| row.get(n).and_then(Value::as_str).map(safe).unwrap_or_default();
                    note(&format!(
                        "{} is {}: {} ({})",
                        text("sink"),
                        text("state"),
                        text("last_error"),
                        text("last_error_at")
                    ));
                }
            }
            Ok(if rows.iter().any(|row| bad(&row)) { ExitCode::Unavailable } else { ExitCode::Ok })
        }
        Siem::Test { sink } => {
            let answer = client.change(&format!("siem/{}/test", encode(&sink)), &json!({})).await?.body;
            one(global.output, &answer);
            let sent = answer.get("sent").and_then(Value::as_bool) == Some(true);
            Ok(if sent { ExitCode::Ok } else { ExitCode::Unavailable })
        }
    }
}
