//! `webhook`.

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::token::without_null;
use super::{Outcome, encode};
use crate::args::Webhook;
use crate::client::Client;
use crate::config::Global;
use crate::output::{list, note, one};

pub async fn run(global: &Global, args: Webhook) -> Outcome {
    let client = Client::new(global)?;
    let path = |webhook: &str| format!("webhooks/{}", encode(webhook));
    match args {
        Webhook::List => {
            let rows = client.rows("webhooks?limit=500").await?;
            let columns = ["webhook", "environment", "state", "delivered", "dropped", "failed", "url"].map(|c| (c, c));
            list(global.output, &rows, &columns);
        }
        Webhook::Set { webhook, url, events } => {
            let body = without_null(json!({"url": url, "events": events, "environment": global.environment}));
            let answer = client.change_by("PUT", &path(&webhook), Some(&body)).await?;
            told(global, &answer);
        }
        Webhook::Remove { webhook } => {
            one(global.output, &client.change_by("DELETE", &path(&webhook), None).await?);
        }
        Webhook::Rotate { webhook } => {
            let answer = client.change(&format!("{}/rotate", path(&webhook)), &json!({})).await?.body;
            told(global, &answer);
        }
        Webhook::Test { webhook } => {
            let answer = client.change(&format!("{}/test", path(&webhook)), &json!({})).await?.body;
            one(global.output, &answer);
            if answer.get("delivered").and_then(Value::as_bool) != Some(true) {
                return Ok(ExitCode::Unavailable);
            }
        }
    }
    Ok(ExitCode::Ok)
}

fn told(global: &Global, answer: &Value) {
    one(global.output, answer);
    if answer.get("secret").is_some() {
        note("the secret is shown once: the receiver checks the signatures with it");
    }
}
