//! `policy list`.

use intended_model::ExitCode;
use serde_json::Value;

use super::{short, text, words};
use crate::args::Format;
use crate::client::Client;
use crate::cmd::Outcome;
use crate::config::Global;
use crate::output::{list, note, say, table};

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
            text(row, "/policies"),
            text(row, "/draft"),
        ]
    };
    let header = ["environment", "status", "pack", "version", "policies", "draft"];
    let lines = table(&header, rows.iter().map(line).collect());
    let mut lines = lines.lines();
    if let Some(header) = lines.next() {
        say(header);
    }
    // Why stands below its version: beside it there would be no room on a terminal.
    let narrow = lines.clone().count() == rows.len();
    for (line, row) in lines.by_ref().zip(&rows) {
        say(line);
        if narrow {
            super::rows(row, "/why").for_each(|why| say(&format!("   {}", text(why, ""))));
        }
    }
    lines.for_each(say);
    if !narrow {
        for row in &rows {
            for why in super::rows(row, "/why") {
                say(&format!("   {}: {}", short(&text(row, "/digest")), text(why, "")));
            }
        }
    }
    if rows.is_empty() {
        note("nothing stands here; `intended policy deploy <directory> -e <environment>` deploys a pack");
    }
    Ok(ExitCode::Ok)
}
