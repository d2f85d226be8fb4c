//! `policy deploy`.

use std::path::Path;

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::{environment, files, findings, local, rows, submit, text};
use crate::args::Format;
use crate::client::Client;
use crate::cmd::Outcome;
use crate::config::Global;
use crate::error::CliError;
use crate::output::{note, one, say, table};
use crate::when;

pub async fn run(global: &Global, what: &str) -> Outcome {
    let environment = environment(global)?;
    let directory = Path::new(what);
    let pack = if directory.is_dir() { Some(files::read(directory)?) } else { None };
    if let Some(files) = &pack {
        local::readable(directory, files)?;
    }
    if pack.is_none() && !super::version::is_draft(what) {
        return Err(CliError::usage(
            format!("`{what}` is no directory and no draft"),
            "name a pack's directory, or a draft: `intended policy list --status approved`",
        ));
    }
    let client = Client::new(global)?;
    let body = match &pack {
        Some(files) => {
            client.would("POST", "deployments", &json!({"environment": environment, "files": files::sizes(files)}))?;
            json!({"environment": environment, "files": files})
        }
        None => json!({"draft": what}),
    };
    client.would("POST", "deployments", &body)?;
    if pack.is_none() && !global.print_curl {
        placed(&client, what, environment).await?;
    }
    let began = when::started();
    let reply = match client.call("POST", "deployments", Some(&body), &[]).await {
        Ok(reply) => reply.body,
        Err(error) => {
            let error = submit::gates(error);
            return Err(match &pack {
                Some(files) => findings::refused(&client, directory, files, error).await,
                None => error,
            });
        }
    };
    effect(global, "deployed", reply, began.elapsed());
    Ok(ExitCode::Ok)
}

/// A draft is for one environment: the one that was said, where the credential may look.
async fn placed(client: &Client, draft: &str, environment: &str) -> Result<(), CliError> {
    match super::version::draft(client, draft).await {
        Ok(found) if text(&found, "/environment") != environment => Err(CliError::usage(
            format!("{draft} is for the environment `{}`, and -e says `{environment}`", text(&found, "/environment")),
            "name the draft's own environment",
        )),
        Err(error) if error.exit() != ExitCode::Auth => Err(error),
        _ => Ok(()),
    }
}

/// What decides now, since when, and what its expected outcomes came to.
pub fn effect(global: &Global, verb: &str, mut reply: Value, took: std::time::Duration) {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if global.output != Format::Table {
        if let Some(members) = reply.as_object_mut() {
            members.insert("elapsed_ms".to_owned(), millis.into());
        }
        return one(global.output, &reply);
    }
    let mut facts = vec![
        ("environment", text(&reply, "/environment")),
        ("digest", text(&reply, "/digest")),
        ("replaces", text(&reply, "/replaces")),
        ("index", text(&reply, "/index")),
    ];
    facts.retain(|(_, v)| !v.is_empty());
    say(&table(&[], facts.into_iter().map(|(n, v)| vec![n.to_owned(), v]).collect()));
    let line = |r: &Value| {
        let same = r.get("decision") == r.get("expected");
        let got = format!("{} ({})", text(r, "/decision"), text(r, "/reason"));
        vec![text(r, "/name"), text(r, "/expected"), got, if same { "pass" } else { "FAIL" }.to_owned()]
    };
    let verified: Vec<Vec<String>> = rows(&reply, "/verification").map(line).collect();
    if !verified.is_empty() {
        say(&format!("\n{}", table(&["expected outcome", "expected", "decided", "result"], verified)));
    }
    note(&format!(
        "\n{verb}: `{}` decides by it from ledger entry {} on; that took {millis} ms",
        text(&reply, "/environment"),
        text(&reply, "/index")
    ));
}
