//! `incident`.

use intended_model::ExitCode;
use serde_json::json;

use super::token::without_null;
use super::{Outcome, encode};
use crate::args::Incident;
use crate::client::Client;
use crate::config::Global;
use crate::output::{list, one};

pub async fn run(global: &Global, args: Incident) -> Outcome {
    let client = Client::new(global)?;
    match args {
        Incident::Open { title } => {
            let body = without_null(json!({"environment": global.environment, "title": title}));
            one(global.output, &client.change("incidents", &body).await?.body);
        }
        Incident::List => {
            let rows = client.rows("incidents?limit=500").await?;
            let columns = ["incident", "environment", "by", "title"].map(|c| (c, c));
            list(global.output, &rows, &columns);
        }
        Incident::Close { incident, reason } => {
            let path = format!("incidents/{}/close", encode(&incident));
            one(global.output, &client.change(&path, &json!({"reason": reason})).await?.body);
        }
    }
    Ok(ExitCode::Ok)
}
