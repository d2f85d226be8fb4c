//! `policy drift`: of the source from what is deployed, and of decisions over time.

use std::path::Path;

use intended_model::ExitCode;
use intended_policy::PackSource;
use serde_json::{Value, json};

use super::{changes, environment, files, git, grouped, number, permille, rows, short, text, version};
use crate::args::Format;
use crate::client::Client;
use crate::cmd::{Outcome, encode};
use crate::config::Global;
use crate::output::{note, one, say, table};
use crate::when;

/// Whether a directory, or what git has of it, is what decides.
pub async fn source(global: &Global, directory: &Path, revision: Option<&str>, report: bool) -> Outcome {
    let environment = environment(global)?;
    let commit = revision.map(|name| git::commit(directory, name)).transpose()?;
    let held = match &commit {
        Some(commit) => git::at(directory, commit)?,
        None => files::read(directory)?,
    };
    let place = match (revision, &commit) {
        (Some(name), Some(commit)) => {
            format!("{} at {name} ({})", directory.display(), commit.chars().take(12).collect::<String>())
        }
        _ => directory.display().to_string(),
    };
    let digest = PackSource { files: held.clone() }.digest().to_string();
    let client = Client::new(global)?;
    if report {
        let mut source = git::source(directory).unwrap_or_else(|| json!({"location": directory.display().to_string()}));
        if let (Some(members), Some(commit)) = (source.as_object_mut(), &commit) {
            members.insert("revision".to_owned(), commit.clone().into());
        }
        let body = json!({"environment": environment, "digest": digest, "source": source});
        let reply = client.change("policy-sources", &body).await?.body;
        note(&format!("reported: ledger entry {}", text(&reply, "/index")));
    }
    let deployed = version::deployed(&client, environment).await?;
    let decides = deployed.as_ref().map(|d| d.digest.clone());
    let changes = changes::between(&deployed.as_ref().map(|d| d.files.clone()).unwrap_or_default(), &held);
    let drift = deployed.is_none() || !changes.is_empty();
    if global.output == Format::Table {
        let line = |name: &str, value: String| vec![name.to_owned(), value];
        let nothing = || "nothing".to_owned();
        say(&table(
            &[],
            vec![
                line("deployed", deployed.as_ref().map_or_else(nothing, |d| format!("{} {}", d.name(), d.version))),
                line("source", format!("{place} {}", short(&digest))),
                line("drift", if drift { "YES" } else { "none" }.to_owned()),
            ],
        ));
        if deployed.is_some() && drift {
            say(&format!("\nfrom what is deployed to the source:\n{}", changes::stat(&changes)));
            note(&format!("\nnext: intended policy diff deployed {} -e {environment}", directory.display()));
        }
    } else {
        one(
            global.output,
            &json!({
                "environment": environment, "drift": drift, "deployed": decides, "source": digest,
                "revision": commit, "files": changes::value(&changes),
            }),
        );
    }
    Ok(if drift { ExitCode::Invalid } else { ExitCode::Ok })
}

/// How the decisions of the last window differ from those of the one before.
pub async fn decisions(global: &Global, window: &str) -> Outcome {
    let environment = environment(global)?;
    let secs = when::seconds("--window", window)?;
    let client = Client::new(global)?;
    let path = format!("decision-drift?environment={}&window_secs={secs}", encode(environment));
    let found = client.get(&path).await?;
    if global.output != Format::Table {
        one(global.output, &found);
        return Ok(ExitCode::Ok);
    }
    let span = when::span(secs);
    let facts = [
        ("before", format!("{} decisions in {span}", grouped(number(&found, "/before")))),
        ("after", format!("{} decisions in {span}", grouped(number(&found, "/after")))),
        (
            "distance",
            format!(
                "{} (0 % the same mixture, 100 % nothing in common)",
                permille(number(&found, "/distance_permille"))
            ),
        ),
        ("kinds", format!("{} appeared, {} disappeared", number(&found, "/appeared"), number(&found, "/disappeared"))),
    ];
    say(&table(&[], facts.into_iter().map(|(n, v)| vec![n.to_owned(), v]).collect()));
    let line = |r: &Value| {
        vec![
            text(r, "/agent"),
            text(r, "/action"),
            format!("{} ({})", text(r, "/decision"), text(r, "/reason")),
            permille(number(r, "/before_permille")),
            permille(number(r, "/after_permille")),
        ]
    };
    let lines: Vec<Vec<String>> = rows(&found, "/rows").map(line).collect();
    if !lines.is_empty() {
        say(&format!("\n{}", table(&["agent", "action", "decision", "before", "after"], lines)));
    }
    Ok(ExitCode::Ok)
}
