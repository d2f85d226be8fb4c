//! `policy list`.

use intended_model::ExitCode;
use serde_json::Value;

use super::{detailed, short, text, words};
use crate::args::Format;
use crate::client::Client;
use crate::cmd::Outcome;
use crate::config::Global;
use crate::output::{list, note, say};

pub async fn run(global: &Global, status: Option<String>) -> Outcome {
    let client = Client::new(global)?;
    let filters = [("environment", global.environment.clone()), ("status", status)];
    let rows = client.list("policies", &filters, "policies", u64::MAX, None).await?.rows;
    if global.output != Format::Table {
        list(global.output, &rows, &[]);
        return Ok(ExitCode::Ok);
    }
    let line = |row: &Value| {
        vec![
            text(row, "/environment"),
            words(row, "/status"),
            format!("{}@{}", text(row, "/pack"), short(&text(row, "/digest"))),
            text(row, "/version"),
            text(row, "/draft"),
        ]
    };
    let why = |row: &Value| super::rows(row, "/why").map(|why| text(why, "")).collect();
    let why: Vec<Vec<String>> = rows.iter().map(why).collect();
    let header = ["environment", "status", "pack", "version", "draft"];
    say(&detailed(&header, rows.iter().map(line).collect(), 2, &why));
    if rows.is_empty() {
        note("nothing stands here; `intended policy deploy <directory> -e <environment>` deploys a pack");
    }
    Ok(ExitCode::Ok)
}
