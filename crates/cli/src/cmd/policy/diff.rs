//! `policy diff`.

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::version::{Side, side};
use super::{changes, environment, many, simulate};
use crate::args::Format;
use crate::client::Client;
use crate::cmd::Outcome;
use crate::config::Global;
use crate::error::CliError;
use crate::output::{note, one, say};
use crate::when;

/// `decisions`: also what is decided, in a window if it says one.
pub async fn run(global: &Global, a: &str, b: &str, decisions: Option<Option<&str>>) -> Outcome {
    let (left, right) = (side(global, a).await?, side(global, b).await?);
    let changes = changes::between(left.files(), right.files());
    let found = match decisions {
        None => None,
        Some(window) => Some(decided(global, &left, &right, window).await?),
    };
    if global.output != Format::Table {
        let mut value =
            json!({"a": left.name(), "b": right.name(), "same": changes.is_empty(), "files": changes::value(&changes)});
        if let (Some(found), Some(members)) = (found, value.as_object_mut()) {
            members.insert("decisions".to_owned(), found);
        }
        one(global.output, &value);
        return Ok(ExitCode::Ok);
    }
    for change in &changes {
        say(change.diff.trim_end());
    }
    if changes.is_empty() {
        note(&format!("{} and {} hold the same", left.name(), right.name()));
    } else {
        note(&format!(
            "\n{} → {}: {}\n{}",
            left.name(),
            right.name(),
            many(changes.len(), "file differs", "files differ"),
            changes::stat(&changes)
        ));
    }
    if let Some(found) = found {
        say("");
        simulate::show(&found, &format!("{} → {}", left.name(), right.name()), None);
    }
    Ok(ExitCode::Ok)
}

/// What the recorded decisions would have been by the one and by the other.
async fn decided(global: &Global, a: &Side, b: &Side, window: Option<&str>) -> Result<Value, CliError> {
    let environment = environment(global)?;
    let base = simulate::base(a)?;
    let window = window.map(|w| when::seconds("--window", w)).transpose()?;
    let mut body = json!({"environment": environment, "base": base});
    if let Some(members) = body.as_object_mut() {
        match b.digest() {
            Some(digest) => members.insert("digest".to_owned(), digest.into()),
            None => members.insert("files".to_owned(), json!(b.files())),
        };
        if let Some(window) = window {
            members.insert("window_secs".to_owned(), window.into());
        }
    }
    let client = Client::new(global)?;
    simulate::online(global, &client, &body).await
}
