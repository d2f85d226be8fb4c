//! `health check`.

use intended_model::ExitCode;
use serde_json::Value;

use super::Outcome;
use crate::args::Format;
use crate::client::Client;
use crate::config::Global;
use crate::output::{one, say, table};

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
