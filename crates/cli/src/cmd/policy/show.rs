//! `policy show`.

use intended_model::ExitCode;
use serde_json::{Value, json};

use super::{number, permille, rows, safe_lines, short, text, version, words};
use crate::args::Format;
use crate::client::Client;
use crate::cmd::Outcome;
use crate::config::Global;
use crate::output::{one, say, table};
use crate::when;

pub async fn run(global: &Global, what: &str) -> Outcome {
    let client = Client::new(global)?;
    if version::is_draft(what) {
        let draft = version::draft(&client, what).await?;
        if global.output == Format::Table {
            show_draft(&draft);
        } else {
            one(global.output, &draft);
        }
        return Ok(ExitCode::Ok);
    }
    let found = version::named(&client, what).await?;
    if global.output != Format::Table {
        one(global.output, &found.body);
        return Ok(ExitCode::Ok);
    }
    let decides = words(&found.body, "/environments");
    let facts = [
        ("pack", format!("{} {}", found.pack, found.version)),
        ("digest", found.digest.clone()),
        ("policies", text(&found.body, "/policies")),
        ("decides in", if decides.is_empty() { "no environment".to_owned() } else { decides }),
    ];
    say(&table(&[], facts.into_iter().map(|(n, v)| vec![n.to_owned(), v]).collect()));
    for (name, text) in &found.files {
        say(&format!("\n==> {} <==\n{}", crate::output::safe(name), safe_lines(text)));
    }
    Ok(ExitCode::Ok)
}

/// All that is known of a draft.
pub fn show_draft(draft: &Value) {
    let mut facts = vec![
        ("draft", format!("{}, revision {}", text(draft, "/draft"), text(draft, "/revision"))),
        ("title", text(draft, "/title")),
        ("status", text(draft, "/status")),
        ("environment", text(draft, "/environment")),
        ("version", format!("{}@{}", text(draft, "/pack"), short(&text(draft, "/digest")))),
        ("digest", text(draft, "/digest")),
        ("authors", words(draft, "/authors")),
    ];
    let source = text(draft, "/source/location");
    if !source.is_empty() {
        facts.push(("source", format!("{source} {}", text(draft, "/source/revision")).trim_end().to_owned()));
    }
    let rejected = text(draft, "/rejected");
    if !rejected.is_empty() {
        facts.push(("rejected", rejected));
    }
    facts.push((
        "approvals",
        format!("{} of {}", number(draft, "/approvals_given"), number(draft, "/approvals_needed")),
    ));
    for approval in rows(draft, "/approvals") {
        let counts = if approval.get("counts") == Some(&json!(false)) { " (no longer counts)" } else { "" };
        facts.push(("", format!("{}: {}{counts}", text(approval, "/member"), text(approval, "/reason"))));
    }
    let may = words(draft, "/approvers");
    facts.push(("may approve", if may.is_empty() { "nobody".to_owned() } else { may }));
    say(&table(&[], facts.into_iter().map(|(n, v)| vec![n.to_owned(), v]).collect()));
    let gates: Vec<Vec<String>> = rows(draft, "/gates")
        .map(|g| {
            let passed = g.get("passed") == Some(&json!(true));
            vec![text(g, "/gate"), if passed { "pass" } else { "FAIL" }.to_owned(), text(g, "/detail")]
        })
        .collect();
    if !gates.is_empty() {
        say(&format!("\n{}", table(&["gate", "result", "what was measured"], gates)));
    }
    if let Some(found) = draft.get("simulation").filter(|s| !s.is_null()) {
        say(&format!(
            "\nblast radius {}, measured on the {} before it was submitted",
            permille(number(found, "/blast_permille")),
            when::span(i64::try_from(number(found, "/window_secs")).unwrap_or(i64::MAX))
        ));
    }
}
