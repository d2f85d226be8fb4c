//! `policy review`.

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::changes::{self, Changed};
use super::{number, short, show, text, version, words};
use crate::args::Format;
use crate::client::Client;
use crate::cmd::Outcome;
use crate::config::Global;
use crate::error::CliError;
use crate::output::{list, note, one, say, table};

pub async fn run(global: &Global, draft: Option<&str>) -> Outcome {
    let client = Client::new(global)?;
    match draft {
        None => waiting(global, &client).await,
        Some(id) => {
            let draft = version::draft(&client, id).await?;
            let changes = against_deployed(&client, &draft).await?;
            if global.output != Format::Table {
                let mut value = draft;
                if let Some(members) = value.as_object_mut() {
                    members.insert("diff".to_owned(), changes::value(&changes));
                }
                one(global.output, &value);
                return Ok(ExitCode::Ok);
            }
            show::show_draft(&draft);
            say("");
            if changes.is_empty() {
                say("it holds the same as what is deployed");
            }
            for change in &changes {
                say(change.diff.trim_end());
            }
            if text(&draft, "/status") == "submitted" {
                let digest = short(&text(&draft, "/digest"));
                note(&format!("\nnext: intended policy approve {id} --digest {digest} --reason '…'"));
            }
            Ok(ExitCode::Ok)
        }
    }
}

/// The text that a draft changes in its environment.
pub async fn against_deployed(client: &Client, draft: &Value) -> Result<Vec<Changed>, CliError> {
    let published = version::fetch(client, &text(draft, "/pack"), &text(draft, "/digest")).await?;
    let deployed = version::deployed(client, &text(draft, "/environment")).await?;
    Ok(changes::between(&deployed.map(|d| d.files).unwrap_or_default(), &published.files))
}

async fn waiting(global: &Global, client: &Client) -> Outcome {
    let wanted = |d: &Value| {
        let here = global.environment.as_deref().is_none_or(|e| text(d, "/environment") == e);
        here && d.get("status") == Some(&json!("submitted"))
    };
    let rows: Vec<Value> = client.rows("drafts?limit=500").await?.into_iter().filter(wanted).collect();
    if global.output != Format::Table {
        list(global.output, &rows, &[]);
        return Ok(ExitCode::Ok);
    }
    let line = |d: &Value| {
        vec![
            text(d, "/draft"),
            text(d, "/environment"),
            format!("{}@{}", text(d, "/pack"), short(&text(d, "/digest"))),
            format!("{} of {}", number(d, "/approvals_given"), number(d, "/approvals_needed")),
            words(d, "/authors"),
            text(d, "/title"),
        ]
    };
    let header = ["draft", "environment", "version", "approvals", "authors", "title"];
    say(&table(&header, rows.iter().map(line).collect()));
    if rows.is_empty() {
        note("nothing waits for approval");
    }
    Ok(ExitCode::Ok)
}
