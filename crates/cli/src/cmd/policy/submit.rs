//! `policy submit`.

use std::path::Path;

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::{environment, files, findings, git, local, show, text, version};
use crate::args::Format;
use crate::client::Client;
use crate::cmd::{Outcome, encode};
use crate::config::Global;
use crate::error::CliError;
use crate::output::{note, one, table};

/// The gates before deployment, in their order.
const GATES: [&str; 5] = ["validation", "tests", "simulation", "approvals", "verification"];

pub async fn run(global: &Global, directory: &Path, title: Option<String>, draft: Option<String>) -> Outcome {
    let environment = environment(global)?;
    let files = files::read(directory)?;
    local::readable(directory, &files)?;
    let client = Client::new(global)?;
    let method = if draft.is_some() { "PUT" } else { "POST" };
    let path = draft.as_ref().map_or("drafts".to_owned(), |d| format!("drafts/{}", encode(d)));
    client.would(method, &path, &json!({"environment": environment, "title": title, "files": files::sizes(&files)}))?;
    let mut body = json!({"environment": environment, "files": files});
    if let (Some(members), Some(source)) = (body.as_object_mut(), git::source(directory)) {
        members.insert("source".to_owned(), source);
    }
    let mut titled = |title: &str| {
        if let Some(members) = body.as_object_mut() {
            members.insert("title".to_owned(), title.into());
        }
        body.clone()
    };
    let written = match &draft {
        None => {
            client.call("POST", &path, Some(&titled(title.as_deref().unwrap_or_default())), &[]).await.map(|r| r.body)
        }
        Some(id) => {
            let before = version::draft(&client, id).await?;
            let title = title.unwrap_or_else(|| text(&before, "/title"));
            client.change_at("PUT", &path, &text(&before, "/etag"), Some(&titled(&title))).await
        }
    };
    let written = match written {
        Ok(written) => written,
        Err(error) => return Err(findings::refused(&client, directory, &files, error).await),
    };
    let id = text(&written, "/draft");
    let submit = format!("drafts/{}/submit", encode(&id));
    let submitted = match client.change_at("POST", &submit, &text(&written, "/etag"), None).await {
        Ok(submitted) => submitted,
        Err(error) => {
            let error = gates(error);
            if error.exit() == ExitCode::Invalid {
                let again = format!("intended policy submit {} -e {environment} --draft {id}", directory.display());
                note(&format!("the draft is kept as {id}: change the pack, then\n  {again}\n"));
            }
            return Err(error);
        }
    };
    report(global, &submitted);
    Ok(ExitCode::Ok)
}

fn report(global: &Global, draft: &Value) {
    if global.output != Format::Table {
        return one(global.output, draft);
    }
    show::show_draft(draft);
    let (id, environment) = (text(draft, "/draft"), text(draft, "/environment"));
    if text(draft, "/status") == "approved" {
        note(&format!("\nnext: intended policy deploy {id} -e {environment}"));
    } else {
        note(&format!(
            "\nnext: somebody who may approve runs\n      intended policy review {id}\n      intended policy approve {id} --reason '…'"
        ));
    }
}

/// A gate that was not passed: all gates as a table on stderr.
pub fn gates(error: CliError) -> CliError {
    let CliError::Refused { code, title, parts, exit, .. } = &error else { return error };
    let failed = |gate: &str| parts.iter().find(|(place, _)| place.strip_prefix("/gates/") == Some(gate));
    if code != "gate.failed" || parts.is_empty() || !GATES.into_iter().any(|g| failed(g).is_some()) {
        return error;
    }
    // A pack that is not valid is not measured further; what waits for people comes after what is measured.
    let stopped = if failed("validation").is_some() { 1 } else { 3 };
    let line = |(n, gate): (usize, &str)| {
        let (result, what) = match failed(gate) {
            Some((_, what)) => ("FAIL", what.as_str()),
            None if n < stopped => ("pass", ""),
            None => ("-", "not reached"),
        };
        vec![gate.to_owned(), result.to_owned(), what.to_owned()]
    };
    let lines = GATES.into_iter().enumerate().map(line).collect();
    eprintln!("{}\n", table(&["gate", "result", "what was measured"], lines));
    CliError::Failed(format!("{code}: {title}"), *exit)
}
